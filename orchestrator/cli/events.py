"""`orch events`: what happens in the system, as it happens.

A snapshot, then every change after it, without gap or repetition: a program that keeps its
own picture of the system reads this. When the daemon was replaced, by its keeper or by an
upgrade, a new snapshot comes and the numbers begin anew.
"""

from __future__ import annotations

import contextlib

from orchestrator import client
from orchestrator.cli import progress, screen
from orchestrator.cli.session import Session
from orchestrator.client import Client, Event, Row, Watch
from orchestrator.errors import DaemonUnreachable, ExitCode


def events(session: Session, *, names: tuple[str, ...]) -> int:
    """Print the changes of the named instances, all when none is named, until the system ends."""
    daemon = session.connect()
    printer = _Json(session) if session.options.json else _Text(session)
    while True:
        watch = daemon.watch(names)
        printer.snapshot(watch)
        is_over = False
        for event in watch:
            printer.event(event)
            session.screen.flush()
            is_over |= event["kind"] == "system" and event["state"] == "stopped"
        if is_over or not _is_back(daemon):
            return ExitCode.DONE


def _is_back(daemon: Client) -> bool:
    """Wait for the next daemon; tell whether one came."""
    with contextlib.suppress(DaemonUnreachable):
        daemon.reopen()
        return True
    return False


class _Json:
    """Every item as the daemon sends it, one JSON object a line."""

    def __init__(self, session: Session) -> None:
        self._screen = session.screen

    def snapshot(self, watch: Watch) -> None:
        """Print the state that the next events change."""
        self._screen.line({"kind": "snapshot", "seq": watch.seq, "instances": watch.rows})

    def event(self, event: Event) -> None:
        """Print a change."""
        self._screen.line(event)


class _Text:
    """A line for each change that a person would call one."""

    def __init__(self, session: Session) -> None:
        self._screen = session.screen
        self._told: dict[str, tuple[object, ...]] = {}
        self._width = 0

    def snapshot(self, watch: Watch) -> None:
        """Remember what is; the changes are what was asked for."""
        self._width = max((len(row["name"]) for row in watch.rows), default=0)
        self._told = {row["name"]: _state(row) for row in watch.rows}

    def event(self, event: Event) -> None:
        """Print a change of phase, readiness, health or reload, and the ends of things."""
        kind = event["kind"]
        if kind == "instance":
            row = event["row"]
            state = _state(row)
            if self._told.get(row["name"]) != state:
                self._told[row["name"]] = state
                self._tell(event, row["name"], self._text(row))
        elif kind == "removed":
            self._told.pop(event["name"], None)
            self._tell(event, event["name"], "removed")
        elif kind == "system":
            why = event.get("why")
            self._tell(event, "orch", event["state"] + (f"  {why}" if why else ""))

    def _tell(self, event: Event, name: str, text: str) -> None:
        self._screen.data(f"{event['time']}  {name:<{self._width}}  {text}")

    def _text(self, row: Row) -> str:
        colour = screen.colour_of_phase(row["phase"])
        word = screen.paint(progress.word(row), colour, on=self._screen.out_coloured)
        facts = [word]
        if row["pid"] is not None:
            facts.append(f"pid {row['pid']}")
        if row["healthy"] is False:
            facts.append("not healthy")
        why = client.reason(row) if row["phase"] != "running" or not row["ready"] else ""
        return "  ".join(filter(None, (*facts, why)))


def _state(row: Row) -> tuple[object, ...]:
    return (row["phase"], row["ready"], row["healthy"], row["generation"], row["reload"])
