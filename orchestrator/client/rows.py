"""Instances as the daemon reports them: what is asked of them, and the words for how they are.

Rows stay the plain objects of the protocol (`Row` gives them types): a thousand instances
send thousands of them while they start, and a copy of each would buy nothing.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

LAST_LINES = 20
"""How many log lines explain a failure."""

_NAMED = 10
"""How many instances a message names before it counts the rest."""

_ENDED = frozenset({"exited", "stopped", "failed", "disabled"})


class Row(TypedDict):
    """One instance as the daemon reports it."""

    name: str
    service: str
    component: str
    instance: int
    phase: str
    ready: bool
    healthy: bool | None
    pid: int | None
    start: str | None
    """How a handler's process came to be: `zygote`, or `exec` and why; None when not known."""
    generation: int
    restarts: int
    reload: str | None
    code: int | None
    """Which code a handler's process runs: 1 at its start, one more with each exchange."""
    result: str | None
    exit_code: int | None
    signal: int | None
    started_at: str | None
    wanted: str
    why: str | None
    failures: int
    next_start_in: float | None
    stop_in: float | None
    stdout: str | None
    stderr: str | None
    warning: str | None
    """What went wrong and stopped nothing: an optional dependency, a stop command."""


class RunRow(TypedDict):
    """One run of a job as the daemon reports it; times are ISO 8601 in UTC."""

    id: str
    name: str
    """`service.job/id`."""
    job: str
    """`service.job`."""
    service: str
    state: str
    """One of `model.jobs.RunState`."""
    result: str | None
    """Why it ended, one of `model.jobs.RunResult`."""
    exit_code: int | None
    """Of the program."""
    message: str | None
    """What there is to say about its end."""
    why: str | None
    """For a queued run, what it waits for."""
    progress: float | None
    """From 0 to 1, as a hook of the job has set it."""
    text: str | None
    """What a hook says it is doing."""
    custom: dict[str, Any]
    """The state that hooks of the job keep for everybody to read."""
    attempt: int
    attempts: int
    priority: int
    after: list[dict[str, Any]]
    """The runs that come first: `id`, `condition` and their `state`."""
    submitted_at: str
    started_at: str | None
    ended_at: str | None
    run_dir: str | None
    output: str | None
    """The file with what the program has written; its last line is the exit code."""
    pid: int | None
    args: dict[str, str]
    template: dict[str, Any]
    position: int | None
    """How many runs are started before it, for a queued one."""


class Event(TypedDict, total=False):
    """One item of the watch stream: `instance`, `removed`, `run`, `run-removed` or `system`.

    `seq` counts from the snapshot's on, one by one over all instances of the system.
    """

    seq: int
    time: str
    kind: str
    row: Row
    run: RunRow
    id: str
    name: str
    state: str
    exit_code: int
    why: str


class Step(TypedDict):
    """One line of a plan: what happens to an instance, and because of what.

    `changed` is where it differs from what runs: the keys to each value, outermost first.
    """

    name: str
    action: str
    cause: str
    changed: list[list[str]]


class Verdict(enum.Enum):
    """What a condition says of a row."""

    PENDING = enum.auto()
    DONE = enum.auto()
    FAILED = enum.auto()


Condition = Callable[[Row], Verdict]
"""A pure function over one row; a wait ends when no row is pending."""


class Outcome:
    """How a wait ended: the last row of every awaited instance, and those that failed."""

    __slots__ = ("failed", "rows")

    def __init__(self, rows: dict[str, Row], failed: tuple[Row, ...]) -> None:
        self.rows = rows
        self.failed = failed


def is_terminal(row: Row) -> bool:
    """Tell whether nothing more happens to the instance by itself."""
    return row["phase"] in _ENDED


def is_scheduled(row: Row) -> bool:
    """Tell whether the instance only waits for the time of its schedule."""
    return row["phase"] == "waiting" and row["next_start_in"] is not None


def settled(row: Row) -> Verdict:
    """Ask that the instance no longer waits: its process was started, or it has ended."""
    phase = row["phase"]
    if phase == "failed":
        return Verdict.FAILED
    if is_scheduled(row) or (phase == "waiting" and row["failures"]):
        return Verdict.DONE  # It waits for its time, or has run and waits to be tried again.
    if phase in ("waiting", "stopping") or (phase == "backoff" and row["generation"] == 0):
        return Verdict.PENDING
    if phase == "starting" and row["pid"] is None:
        return Verdict.PENDING  # Its set-up may yet fail: nothing was executed.
    return Verdict.DONE


def ready(row: Row) -> Verdict:
    """Ask that the instance is ready, or has ended well."""
    phase = row["phase"]
    if phase in ("failed", "stopped"):
        return Verdict.FAILED
    if phase in ("exited", "disabled") or (row["ready"] and phase == "running"):
        return Verdict.DONE
    if is_scheduled(row):
        return Verdict.DONE
    return Verdict.PENDING


def serving(row: Row) -> Verdict:
    """Ask that the instance is ready now; one that has ended can no longer become so."""
    return Verdict.FAILED if is_terminal(row) else ready(row)


def ended(row: Row) -> Verdict:
    """Ask that the instance has no process and will get none by itself."""
    return Verdict.DONE if is_terminal(row) else Verdict.PENDING


def stopped(row: Row) -> Verdict:
    """Ask that the instance is down; one that somebody wants again meanwhile will not be."""
    if not is_terminal(row) and row["wanted"] == "up":
        return Verdict.FAILED
    return ended(row)


def regenerated(before: Mapping[str, int]) -> Condition:
    """Ask for a newer process than the one of generation `before`, and that it is ready."""

    def condition(row: Row) -> Verdict:
        if row["generation"] > before.get(row["name"], 0):
            return ready(row)
        # Somebody who stops it meanwhile has the last word.
        is_over = row["phase"] == "failed" or (is_terminal(row) and row["wanted"] == "down")
        return Verdict.FAILED if is_over else Verdict.PENDING

    return condition


def reason(row: Row) -> str:
    """Return in a few words why the instance is as it is; empty when there is nothing to say."""
    if row["why"]:
        return row["why"]
    if row["signal"] is not None:
        return f"signal {row['signal']}"
    if row["exit_code"] is not None:
        return f"exit {row['exit_code']}"
    return row["result"] or ""


def failure(row: Row, lines: int = LAST_LINES) -> str:
    """Return the text that explains a failed instance: its reason and its last log lines."""
    why = reason(row)
    head = f"{row['name']} {row['phase']}" + (f": {why}" if why else "")
    if row["result"] == "dependency":
        return head  # It was not started, so what its log ends with is of another day.
    for path in (row["stderr"], row["stdout"]):
        tail = last_lines(path, lines) if path else []
        if tail:
            return "\n".join((f"{head}; the end of {path}:", *(f"    {line}" for line in tail)))
    return head


def last_lines(path: str | Path, count: int) -> list[str]:
    """Return up to `count` last lines of a log; none when it cannot be read.

    At most a megabyte is read, and the zero bytes of a punched head are no line.
    """
    blocks: list[bytes] = []
    newlines = 0
    try:
        with Path(path).open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            lowest = max(0, end - (1 << 20))
            while end > lowest and newlines <= count:
                begin = max(lowest, end - (1 << 16))
                file.seek(begin)
                block = file.read(end - begin)
                blocks.append(block)
                newlines += block.count(b"\n")
                end = begin
    except OSError:
        return []
    text = b"".join(reversed(blocks)).lstrip(b"\0")
    lines = text.split(b"\n")
    if not lines[-1]:
        lines.pop()
    return [line.decode(errors="replace").rstrip("\r") for line in lines[-count:]]


def describe(rows: Collection[Row]) -> str:
    """Return the instances with what they are doing: `market.engine (starting, pid 12)`."""
    texts = [_describe(row) for row, _ in zip(rows, range(_NAMED), strict=False)]
    more = len(rows) - len(texts)
    return ", ".join(texts) + (f" and {more} more" if more else "")


def _describe(row: Row) -> str:
    if row["why"]:
        detail = row["why"]
    elif row["pid"] is not None:
        detail = f"{row['phase']}, pid {row['pid']}"
    else:
        detail = row["phase"]
    return f"{row['name']} ({detail})"


class Waiting:
    """Who is still awaited: each event costs one look at one row."""

    __slots__ = ("_condition", "_seen", "failed", "is_over", "pending", "rows")

    def __init__(self, condition: Condition, seen: Callable[[Row], None] | None) -> None:
        self._condition = condition
        self._seen = seen
        self.rows: dict[str, Row] = {}
        self.pending: dict[str, Row] = {}
        self.failed: dict[str, Row] = {}
        self.is_over = False

    def begin(self, rows: Sequence[Row]) -> None:
        """Take a snapshot in place of all that was seen before."""
        self.rows.clear()
        self.pending.clear()
        self.failed.clear()
        for row in rows:
            self._look(row)

    def take(self, event: Event) -> None:
        """Take a change that follows the snapshot."""
        kind = event["kind"]
        if kind == "instance":
            self._look(event["row"])
        elif kind == "removed":
            self.pending.pop(event["name"], None)
            self.failed.pop(event["name"], None)
            self.rows.pop(event["name"], None)
        elif kind == "system":
            self.is_over = event["state"] == "stopped"

    def _look(self, row: Row) -> None:
        name = row["name"]
        self.rows[name] = row
        verdict = self._condition(row)
        if verdict is Verdict.PENDING:
            self.pending[name] = row
        else:
            self.pending.pop(name, None)
        if verdict is Verdict.FAILED:
            self.failed[name] = row
        else:
            self.failed.pop(name, None)
        if self._seen is not None:
            self._seen(row)
