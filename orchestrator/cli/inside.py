"""Seeing inside living handlers: `orch tap`, `orch call`, `orch trace`.

These ask the components themselves, on their control links; the daemon only tells which there are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from orchestrator import client
from orchestrator.cli import screen
from orchestrator.cli.reader import Reader
from orchestrator.cli.session import Session
from orchestrator.client import Client, Row, Watch
from orchestrator.errors import ExitCode, RequestFailed, UsageError, WaitTimeout
from orchestrator.model import names, units
from orchestrator.model.units import Seconds

_PATIENCE: Seconds = 2.0
"""How long components may take to tell what they remember."""

_ARROWS = {"in": "←", "out": "→"}


def tap(session: Session, *, words: tuple[str, ...], rate: bool, count: int | None) -> int:
    """Print the messages of connections and states as they come and go, or how many these are."""
    wanted = [_split(word) for word in words]
    rows = session.connect().ps([name for name, _ in wanted])
    if rate:
        from orchestrator.cli import top  # noqa: PLC0415 - the one shows what the other shows

        return top.rates(session, wanted)
    taps = [
        _tapped(session, row, connection)
        for name, connection in wanted
        for row in _selected(name, rows)
    ]
    try:
        with Reader() as reader:
            _follow(session, reader, taps, count)
    finally:
        for _, one, _ in taps:
            one.close()
    return ExitCode.DONE


def _split(word: str) -> tuple[str, str]:
    name, _, connection = word.rpartition(".")
    if not name or not connection:
        raise UsageError(
            f"cannot tap {word!r}: write service.component.connection or service.component.state"
        )
    return name, connection


def _selected(name: str, rows: Sequence[Row]) -> list[Row]:
    by_name = {row["name"]: row for row in rows}
    return [by_name[one] for one in names.select((name,), by_name)]


def _tapped(session: Session, row: Row, end: str) -> tuple[str, Client, Watch]:
    one = client.connect_component(session.runtime_dir, row)
    watch = one.stream("tap", {"names": [end]})
    return row["name"], one, watch


def _follow(
    session: Session,
    reader: Reader,
    taps: Sequence[tuple[str, Client, Watch]],
    count: int | None,
) -> None:
    """Print what comes until all have ended, or so many messages were printed."""
    left = count
    open_taps = list(taps)
    while open_taps:
        if not any(watch.has_events for _, _, watch in open_taps):
            reader.await_news(*(one for _, one, _ in open_taps))
        for entry in tuple(open_taps):
            name, _, watch = entry
            for event in watch.wait(0.0):
                _print(session, name, dict(event))
                if left is not None:
                    left -= 1
                    if left <= 0:
                        session.screen.flush()
                        return
            if watch.at_end:
                session.screen.note(f"orch: {name} has ended")
                open_taps.remove(entry)
        session.screen.flush()


def _print(session: Session, name: str, event: dict[str, Any]) -> None:
    shown = {**event, "name": name, "time": _timestamp(event["time"])}
    if session.options.json:
        session.screen.line(shown)
        return
    if event["left_out"]:
        session.screen.note(f"orch: {event['left_out']} messages left out")
    colour = screen.colour_of(name.partition(".")[0])
    where = screen.paint(f"{name}.{end_of(event)}", colour, on=session.screen.out_coloured)
    arrow = _ARROWS["out" if event["what"] == "reply" else event["side"]]
    arguments = json.dumps(event["args"], ensure_ascii=False)
    words = (shown["time"], where, arrow, event["what"], event["workflow_id"] or "-", arguments)
    session.screen.data(" ".join(words))


def call(session: Session, *, name: str, connection: str, arguments: str, timeout: Seconds) -> int:
    """Send a request to a replyer of a component, and print the reply as JSON."""
    try:
        given = json.loads(arguments)
    except ValueError as problem:
        raise UsageError(f"cannot read the arguments as JSON: {problem}") from problem
    rows = session.connect().ps((name,))
    row = next((row for row in rows if row["pid"] is not None), rows[0])
    with client.connect_component(session.runtime_dir, row) as one:
        try:
            answer = one.request("call", timeout=timeout, connection=connection, args=given)
        except WaitTimeout as late:
            limit = units.format_duration(timeout)
            message = f"{row['name']} has not replied on {connection!r} within {limit}"
            raise WaitTimeout(f"{message}; it may yet carry the request out") from late
    session.screen.json(answer["reply"])
    session.screen.note(f"orch: workflow {answer['workflow_id']}")
    return ExitCode.DONE


def trace(session: Session, *, workflow: str) -> int:
    """Print through which connections the messages of a workflow went, in the order of time."""
    rows = session.connect().ps()
    answers = client.ask_components(
        session.runtime_dir, rows, "trace", {"workflow_id": workflow}, _PATIENCE
    )
    hops = sorted(
        ({**hop, "name": name} for name, answer in answers.items() for hop in answer["hops"]),
        key=lambda hop: hop["time"],
    )
    for hop in hops:
        hop["time"] = _timestamp(hop["time"])
    if session.options.json:
        session.screen.json(hops)
    for hop in () if session.options.json else hops:
        arrow = _ARROWS[hop["side"]]
        session.screen.data(
            f"{hop['time']} {arrow} {hop['name']}.{end_of(hop)} ({hop['type']}) "
            f"{hop['workflow_id']}"
        )
    forgetful = [name for name, answer in answers.items() if answer["forgets"]]
    if not hops:
        forgotten = f"; {', '.join(forgetful)} had more messages since" if forgetful else ""
        raise RequestFailed(
            "unknown-workflow", f"nobody remembers the workflow {workflow!r}{forgotten}"
        )
    return ExitCode.DONE


def end_of(one: Mapping[str, Any]) -> str:
    """Return the name of the connection or state that something is told of."""
    return str(one["connection"] if "connection" in one else one["state"])


def _timestamp(seconds: float) -> str:
    shown = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")
    return shown.replace("+00:00", "Z")
