"""`orch doctor`: what this machine grants, and which component asks for more."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from orchestrator import machine as machines
from orchestrator.cli import topology
from orchestrator.cli.session import Session
from orchestrator.errors import ExitCode, UsageError
from orchestrator.machine import Complaint, Finding
from orchestrator.model.topology import Lock


def doctor(
    session: Session, *, settings: Mapping[str, str], settings_files: tuple[str, ...]
) -> int:
    """Look at the machine, then at the topology if there is one, then at the daemon's word.

    Fails when something is missing without which nothing can be supervised, or when a
    component asks for what cannot be had.
    """
    lock = _lock(session, settings, settings_files)
    machine = machines.survey(Path(lock.base_dir) if lock else Path.cwd())
    complaints = machines.complaints(machine, lock.components.values()) if lock else ()
    daemon = _daemon(session) if lock else {}
    if session.options.json:
        session.screen.json(
            {
                "machine": msgspec.to_builtins(machine.findings),
                "components": msgspec.to_builtins(complaints),
                "daemon": daemon,
            }
        )
    else:
        _show(session, machine.findings, complaints, daemon)
    lacks = any(one.needed and one.grant == machines.MISSING for one in machine.findings)
    refused = any(not one.is_degraded for one in complaints)
    return ExitCode.FAILED if lacks or refused else ExitCode.DONE


def _lock(
    session: Session, settings: Mapping[str, str], settings_files: tuple[str, ...]
) -> Lock | None:
    """The session's topology; None when there is none and none was named."""
    try:
        path = session.topology
    except UsageError:
        return None
    session.choose(str(path))
    return topology.read(
        session, settings=settings, settings_files=settings_files, imports=False
    ).locked.lock


def _daemon(session: Session) -> Mapping[str, str]:
    """How the running daemon bounds what, as it found out when it started."""
    client = session.try_connect()
    if client is None:
        return {}
    about, _ = client.status()
    found: Mapping[str, str] = about.get("bounds", {})
    return found


def _show(
    session: Session,
    findings: tuple[Finding, ...],
    complaints: tuple[Complaint, ...],
    daemon: Mapping[str, str],
) -> None:
    width = max(len(one.name) for one in findings)
    for one in findings:
        session.screen.data(f"{one.name:<{width}}  {one.grant:<8}  {one.detail}")
        if one.help and one.grant != machines.GRANTED:
            session.screen.data(f"{'':<{width}}  {'':<8}  would help: {one.help}")
    if daemon:
        ways = ", ".join(f"{word} by {way or 'nothing'}" for word, way in daemon.items())
        session.screen.data(f"\nthe running daemon bounds {ways}")
    if complaints:
        session.screen.data("")
    for complaint in complaints:
        word = "has less of" if complaint.is_degraded else "cannot have"
        who = complaint.component or "the system"
        session.screen.data(f"{who} {word} {complaint.asks}: {complaint.message}")
