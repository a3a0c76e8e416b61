"""`orch top`: who uses how much, and what goes through connections and states.

Processor time and memory are read from /proc, the counters of both from the components
themselves. A sample is the difference between two looks; the first is of the whole life so far.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from orchestrator import client
from orchestrator.cli import screen
from orchestrator.cli.inside import end_of
from orchestrator.cli.reader import Reader
from orchestrator.cli.session import Session
from orchestrator.client import Row
from orchestrator.errors import ExitCode, RequestFailed
from orchestrator.model import names as naming
from orchestrator.model.units import Seconds

PATIENCE: Seconds = 0.1
"""How long components may take to answer; who is busy with a message is shown without counters."""

_CLEAR = "\x1b[H\x1b[2J"
_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")

Counters = dict[str, Any]
Ends = Mapping[str, Sequence[Counters]]
"""The counters of a component: of its `connections`, and of its `states`."""


class Look(Struct, frozen=True):
    """What was there at a moment: per instance the processor seconds, bytes and counters."""

    at: float
    rows: Sequence[Row]
    usage: Mapping[str, tuple[float, int]]
    ends: Mapping[str, Ends]


def top(session: Session, *, names: tuple[str, ...], once: bool, interval: Seconds) -> int:
    """Show a table anew each interval; with --json a line each; with `once` one and no more."""
    daemon = session.connect()
    before: Look | None = None
    with Reader() as reader:
        while True:
            now = _look(session, daemon.ps(names))
            shown = _shown(before, now)
            if session.options.json:
                session.screen.line(shown)
            else:
                is_live = session.screen.is_terminal and not once
                session.screen.data((_CLEAR if is_live else "") + _text(shown))
                session.screen.flush()
            if once:
                return ExitCode.DONE
            before = now
            reader.await_news(timeout=interval)


def rates(session: Session, wanted: Sequence[tuple[str, str]]) -> int:
    """Print each second how many messages and bytes went through connections and states."""
    daemon = session.connect()
    before: Look | None = None
    with Reader() as reader:
        while True:
            now = _look(session, daemon.ps([name for name, _ in wanted]))
            _check(now, wanted)
            if before is not None:
                for line in _rates(_shown(before, now), wanted):
                    if session.options.json:
                        session.screen.line(line)
                    else:
                        session.screen.data(
                            f"{line['name']}.{end_of(line)}  "
                            f"{line['rate']:.1f}/s  {_size(line['byte_rate'])}/s"
                        )
                session.screen.flush()
            before = now
            reader.await_news(timeout=1.0)


def counters_of(session: Session, rows: Sequence[Row]) -> dict[str, Ends]:
    """Return the counters of the connections and states of those that answer soon, by instance."""
    answers = client.ask_components(session.runtime_dir, rows, "stats", {}, PATIENCE)
    return {
        # A component that has run since before an upgrade may not know of both.
        name: {group: answer.get(group, []) for group in ("connections", "states")}
        for name, answer in answers.items()
    }


def _look(session: Session, rows: Sequence[Row]) -> Look:
    ends = counters_of(session, rows)
    usage = {
        row["name"]: used for row in rows if row["pid"] and (used := _used(row["pid"])) is not None
    }
    return Look(time.monotonic(), rows, usage, ends)


def _used(pid: int) -> tuple[float, int] | None:
    """Return processor seconds and resident bytes of a process, proc(5); None when it is gone."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        # The name in parentheses may hold anything; what follows it is numbers.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICK, int(fields[21]) * _PAGE
    return None


def _shown(before: Look | None, now: Look) -> list[dict[str, Any]]:
    """Return a sample: an object per instance, with rates since the look before."""
    passed = now.at - before.at if before is not None else 0.0
    sample = []
    for row in now.rows:
        name = row["name"]
        seconds, resident = now.usage.get(name, (None, None))
        earlier = before.usage.get(name) if before is not None else None
        share = None
        if earlier is not None and seconds is not None and passed:
            share = round(max(0.0, seconds - earlier[0]) / passed * 100, 1)
        found = now.ends.get(name)
        old = {} if before is None else before.ends.get(name, {})
        sample.append(
            {
                "name": name,
                "phase": row["phase"],
                "pid": row["pid"],
                "restarts": row["restarts"],
                "cpu_percent": share,
                "cpu_seconds": seconds,
                "memory": resident,
                **{
                    group: None
                    if found is None
                    else _with_rates(found[group], old.get(group, ()), passed)
                    for group in ("connections", "states")
                },
            }
        )
    return sample


def _with_rates(
    now: Sequence[Counters], before: Sequence[Counters], passed: float
) -> list[Counters]:
    old = {(one["side"], end_of(one)): one for one in before}
    return [_with_rate(one, old.get((one["side"], end_of(one))), passed) for one in now]


def _with_rate(now: Counters, before: Counters | None, passed: float) -> Counters:
    if before is None or not passed or before["messages"] > now["messages"]:
        return {**now, "rate": None, "byte_rate": None}
    return {
        **now,
        "rate": round((now["messages"] - before["messages"]) / passed, 1),
        "byte_rate": round((now["bytes"] - before["bytes"]) / passed, 1),
    }


def _rates(
    sample: Sequence[Mapping[str, Any]], wanted: Sequence[tuple[str, str]]
) -> Iterator[dict[str, Any]]:
    for one in sample:
        ends = _wanted_of(one["name"], [each["name"] for each in sample], wanted)
        for found in _ends(one):
            if end_of(found) in ends and found["rate"] is not None:
                yield {"name": one["name"], **found}


def _check(now: Look, wanted: Sequence[tuple[str, str]]) -> None:
    """Raise `RequestFailed` for what a component that answers does not have."""
    for name, found in now.ends.items():
        known = dict.fromkeys(map(end_of, _ends(found)))
        for end in _wanted_of(name, [row["name"] for row in now.rows], wanted) - known.keys():
            raise RequestFailed(
                "unknown-connection",
                f"{name} has no connection or state {end!r}; it has {', '.join(known) or 'none'}",
            )


def _wanted_of(name: str, names: Sequence[str], wanted: Sequence[tuple[str, str]]) -> set[str]:
    return {end for word, end in wanted if name in naming.select((word,), names)}


def _ends(one: Mapping[str, Any]) -> list[Counters]:
    return [*(one["connections"] or ()), *(one["states"] or ())]


def _text(sample: Sequence[Mapping[str, Any]]) -> str:
    header = ("NAME", "PHASE", "PID", "CPU", "MEMORY", "MESSAGES", "RATE", "ERRORS", "P50", "P99")
    rows: list[tuple[str, ...]] = []
    for one in sample:
        memory = _size(one["memory"])
        share = "-" if one["cpu_percent"] is None else f"{one['cpu_percent']:.1f}%"
        pid = "-" if one["pid"] is None else str(one["pid"])
        rows.append((one["name"], one["phase"], pid, share, memory, "", "", "", "", ""))
        for end in _ends(one):
            arrow = "←" if end["side"] == "in" else "→"
            waiting = f" +{end['waiting']}" if end.get("waiting") else ""
            under_way = f" *{end['in_flight']}" if end.get("in_flight") else ""
            dropped = f" -{end['dropped']}" if end.get("dropped") else ""
            rows.append(
                (
                    f"  {arrow} {end_of(end)}",
                    end["type"],
                    "",
                    "",
                    _size(end["bytes"]),
                    f"{end['messages']}{under_way}{waiting}{dropped}",
                    "-" if end["rate"] is None else f"{end['rate']:.1f}/s",
                    str(end["errors"]),
                    _milliseconds(end["p50_ms"]),
                    _milliseconds(end["p99_ms"]),
                )
            )
    return screen.table(header, rows)


def _milliseconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}ms"


def _size(value: float | None) -> str:
    """Return bytes in the unit that suits them."""
    if value is None:
        return "-"
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f}{unit}" if unit == "B" else f"{value:.1f}{unit}"
        value /= 1000
    return f"{value:.1f}GB"
