"""`orch events`: what happens in the system, as it happens.

A snapshot, then every change after it, without gap or repetition: a program that keeps its
own picture of the system reads this. When the daemon was replaced, by its keeper or by an
upgrade, a new snapshot comes and the numbers begin anew.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from orchestrator import client
from orchestrator.cli import bars, progress, screen
from orchestrator.cli.reader import Reader
from orchestrator.cli.runs import among, selects
from orchestrator.cli.session import Session
from orchestrator.client import Client, Event, Row, RunRow, Watch, runs
from orchestrator.errors import DaemonUnreachable, ExitCode
from orchestrator.model import names as naming


def events(session: Session, *, names: tuple[str, ...]) -> int:
    """Print the changes of what is named, all when nothing is, until the system ends."""
    daemon = session.connect()
    printer = _Json(session) if session.options.json else _Text(session)
    chosen = _Chosen(daemon, names)
    with Reader() as reader:
        while True:
            watch = chosen.watch(daemon)
            printer.snapshot(watch, chosen.begin(daemon))
            is_over = False
            while not watch.at_end:
                if not watch.has_events:
                    reader.await_news(daemon)
                for event in watch.wait(0.0):
                    if event["kind"] == "run" and not chosen.concerns(event):
                        continue
                    printer.event(event)
                    is_over |= event["kind"] == "system" and event["state"] == "stopped"
                session.screen.flush()
            if is_over or not _is_back(daemon):
                return ExitCode.DONE


class _Chosen:
    """Which instances and runs the words of a user mean."""

    def __init__(self, daemon: Client, words: Sequence[str]) -> None:
        jobs = [row["name"] for row in daemon.request("jobs")["jobs"]] if words else []
        found = {word: naming.matching(word, jobs) for word in words}
        self._jobs = {job for some in found.values() for job in some}
        instances = [word for word in words if not found[word] or selects(daemon, (word,))]
        self._names, rows = among(daemon, instances)
        self._ids = {row["id"] for row in rows}
        self._all = not words
        self._seq = 0

    def watch(self, daemon: Client) -> Watch:
        """Follow them."""
        if self._names or self._all:
            return daemon.watch(self._names, runs=True)
        return daemon.watch_runs([] if self._jobs else list(self._ids))

    def begin(self, daemon: Client) -> list[RunRow]:
        """Return the runs of them that have not ended."""
        found = daemon.request("runs", **runs.selection(states=runs.UNFINISHED))
        self._seq = found["seq"]
        return [row for row in found["runs"] if self._means(row)]

    def concerns(self, event: Event) -> bool:
        """Tell whether the event of a run is news of one of them."""
        return event["seq"] > self._seq and self._means(event["run"])

    def _means(self, row: RunRow) -> bool:
        return self._all or row["id"] in self._ids or row["job"] in self._jobs


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

    def snapshot(self, watch: Watch, unfinished: list[RunRow]) -> None:
        """Print the state that the next events change."""
        value = {"kind": "snapshot", "seq": watch.seq, "instances": watch.rows, "runs": unfinished}
        self._screen.line(value)

    def event(self, event: Event) -> None:
        """Print a change."""
        self._screen.line(event)


class _Text:
    """A line for each change that a person would call one."""

    def __init__(self, session: Session) -> None:
        self._screen = session.screen
        self._told: dict[str, tuple[object, ...]] = {}
        self._runs: dict[str, tuple[str, int]] = {}
        self._width = 0

    def snapshot(self, watch: Watch, unfinished: list[RunRow]) -> None:
        """Remember what is; the changes are what was asked for."""
        self._runs = {row["id"]: (row["state"], row["attempt"]) for row in unfinished}
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
        elif kind == "run":
            self._tell_run(event, event["run"])
        elif kind == "run-removed":
            self._runs.pop(event["id"], None)
        elif kind == "system":
            why = event.get("why")
            self._tell(event, "orch", event["state"] + (f"  {why}" if why else ""))

    def _tell_run(self, event: Event, row: RunRow) -> None:
        state = row["state"], row["attempt"]
        if self._runs.get(row["id"]) == state:
            return
        self._runs[row["id"]] = state
        word = screen.paint(state[0], bars.colour_of(state[0]), on=self._screen.out_coloured)
        why = runs.reason(row)
        self._tell(event, row["name"], f"{word}  {why}" if why else word)

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
