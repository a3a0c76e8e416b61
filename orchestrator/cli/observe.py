"""`orch ps` and `orch status`: what the daemon sees, printed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from orchestrator import client
from orchestrator.cli import screen
from orchestrator.cli.session import Session
from orchestrator.client import Row
from orchestrator.errors import ExitCode, RequestFailed
from orchestrator.model import units

_HEADER = ("NAME", "PHASE", "READY", "PID", "RESTARTS", "UPTIME", "DETAIL")
_ALIVE = frozenset({"starting", "running", "stopping"})
_LOG_LINES = 10


def ps(session: Session, *, names: tuple[str, ...], everything: bool) -> int:
    """List the instances, and with `everything` the daemon too."""
    daemon = session.connect()
    if everything:
        about, rows = daemon.status(names)
        rows = [_daemon_row(about), *rows]
    else:
        rows = daemon.ps(names)
    if session.options.json:
        from orchestrator.cli import top  # noqa: PLC0415 - only programs want it all

        found = top.counters_of(session, rows)
        nothing = {"connections": None, "states": None}
        session.screen.json([{**row, **found.get(row["name"], nothing)} for row in rows])
    elif session.options.quiet:
        for row in rows:
            session.screen.data(row["name"])
    else:
        session.screen.data(_table(rows, datetime.now(UTC), coloured=session.screen.out_coloured))
    return ExitCode.DONE


def status(session: Session, *, names: tuple[str, ...]) -> int:
    """Tell all about the instances; with names, the exit code tells whether all of them run."""
    from orchestrator.cli import runs  # noqa: PLC0415 - no matter of `ps`

    daemon = session.connect()
    try:
        named, found = runs.among(daemon, names)
        only_runs = bool(found) and not named
        about, rows = daemon.status(named)
    except RequestFailed as refusal:
        if refusal.code not in ("unknown-name", "unknown-run"):
            raise
        session.screen.say(f"orch: {refusal}")
        return ExitCode.UNKNOWN
    if only_runs:
        rows = []
    details = [daemon.request("run", id=row["id"]) for row in found]
    if session.options.json:
        value: dict[str, Any] = {"daemon": about, "instances": rows}
        session.screen.json(value | {"runs": details} if found else value)
    else:
        blocks = [_report(session, about, rows, with_daemon=not names)]
        blocks.extend(runs.block(one, coloured=session.screen.out_coloured) for one in details)
        session.screen.data("\n\n".join(filter(None, blocks)))
    is_down = any(row["phase"] not in _ALIVE for row in rows)
    if names and (is_down or any(not row["pid"] for row in found)):
        return ExitCode.NOT_RUNNING
    return ExitCode.DONE


def _daemon_row(about: dict[str, Any]) -> Row:
    return {
        "name": "orch",
        "service": "",
        "component": "",
        "instance": 1,
        "phase": about["state"],
        "ready": about["state"] == "running",
        "healthy": None,
        "pid": about["pid"],
        "start": None,
        "generation": 1,
        "restarts": 0,
        "reload": None,
        "code": None,
        "result": None,
        "exit_code": None,
        "signal": None,
        "started_at": about["started_at"],
        "wanted": "up",
        "why": None,
        "failures": 0,
        "next_start_in": None,
        "stop_in": None,
        "stdout": None,
        "stderr": None,
        "warning": None,
    }


def _table(rows: Sequence[Row], now: datetime, *, coloured: bool) -> str:
    cells = [
        (
            row["name"],
            row["phase"],
            "yes" if row["ready"] else "no",
            "-" if row["pid"] is None else str(row["pid"]),
            str(row["restarts"]),
            _uptime(row, now),
            _detail(row),
        )
        for row in rows
    ]
    colours = {1: [screen.colour_of_phase(row["phase"]) for row in rows]} if coloured else None
    return screen.table(_HEADER, cells, colours)


def _detail(row: Row) -> str:
    """Return why, or how the last process ended, which is no matter of one that runs."""
    if row["phase"] == "running":
        return row["why"] or ""
    text = client.reason(row)
    if not row["why"] and row["result"] and row["result"] not in ("exit-code", "signal"):
        return f"{row['result']} ({text})" if text and text != row["result"] else row["result"]
    return text


def _uptime(row: Row, now: datetime) -> str:
    started = row["started_at"]
    if started is None or row["pid"] is None:
        return "-"
    age = (now - datetime.fromisoformat(started)).total_seconds()
    return units.format_duration(max(0.0, round(age) if age >= 1 else age))


def _report(
    session: Session, about: dict[str, Any], rows: Sequence[Row], *, with_daemon: bool
) -> str:
    now = datetime.now(UTC)
    blocks = [_daemon_block(about)] if with_daemon else []
    blocks.extend(_block(row, now, coloured=session.screen.out_coloured) for row in rows)
    return "\n\n".join(blocks)


def _daemon_block(about: dict[str, Any]) -> str:
    facts = [
        ("topology", about["topology"]),
        ("directory", about["base_dir"]),
        ("daemon", f"pid {about['pid']}, keeper pid {about['keeper_pid']}"),
        ("since", about["started_at"]),
        ("version", about["version"]),
    ]
    if about.get("logs_lost"):
        facts.append(("logs lost", f"the disk was full {about['logs_lost']} times"))
    return _facts(f"{about['name']} ({about['state']})", facts)


def _block(row: Row, now: datetime, *, coloured: bool) -> str:
    phase = screen.paint(row["phase"], screen.colour_of_phase(row["phase"]), on=coloured)
    state = f"{phase}, {'ready' if row['ready'] else 'not ready'}"
    if row["healthy"] is not None:
        state += ", healthy" if row["healthy"] else ", not healthy"
    process = "none" if row["pid"] is None else f"pid {row['pid']}, up {_uptime(row, now)}"
    facts = [
        ("phase", state),
        ("process", f"{process}, generation {row['generation']}"),
        ("restarts", f"{row['restarts']}, {row['failures']} failures in a row"),
        ("wanted", row["wanted"]),
    ]
    if row["why"]:
        facts.append(("why", row["why"]))
    if row["warning"]:
        facts.append(("warning", row["warning"]))
    if row["result"]:
        end = {**row, "why": None}
        facts.append(("last end", f"{row['result']} ({client.reason(end)})"))  # type: ignore[arg-type]
    if row["reload"]:
        code = f", generation {row['code']} of its code" if (row["code"] or 1) > 1 else ""
        facts.append(("reload", f"{row['reload']}{code}"))
    text = _facts(screen.paint(row["name"], screen.BOLD, on=coloured), facts)
    for label in ("stdout", "stderr"):
        path = row["stdout"] if label == "stdout" else row["stderr"]
        lines = client.last_lines(path, _LOG_LINES) if path else []
        if lines:
            text += f"\n  {label} {path}"
            text += "".join(f"\n    {line}" for line in lines)
    return text


def _facts(title: str, facts: Sequence[tuple[str, Any]]) -> str:
    return "\n".join((title, *(f"  {label:<10} {value}" for label, value in facts)))
