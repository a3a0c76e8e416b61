"""What a connection or state has done: counted at almost no cost, told when somebody asks.

A message costs two entries in lists. Of the messages that are read in one turn the first alone is
timed, and a busy socket is emptied up to 64 at a turn: where time is dear few are timed, and where
few come all are.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

TIMED = 1024
"""How many durations are kept: the quantiles are those of the last so many timed messages."""

REMEMBERED = 4096
"""How many workflow ids of each connection are kept."""

clock = time.perf_counter

Watch = Callable[[str, str | None, Any], object]
"""Told of what comes and goes: what it is, its workflow id, and the arguments.

What it is: `request`, `reply` or `message` of connections, `update` or `snapshot` of states.
"""


@dataclass(frozen=True, slots=True)
class Hop:
    """A message that came or went: its workflow id, and when, in seconds since 1970."""

    workflow_id: str
    time: float


class Meter:
    """The counters of one end of a connection or state.

    Of messages that come, `weigh` takes the size of each in bytes and `note` its workflow id; both
    are bound beforehand. Those that go, and those of states, are told by `passed`.
    """

    __slots__ = (
        "_marks", "_recent", "_sizes", "bytes", "errors", "messages", "note", "under_way", "weigh"
    )  # fmt: skip

    def __init__(self) -> None:
        self.errors = 0
        self.under_way = 0
        """How many async functions are under way."""
        self.messages = 0
        self.bytes = 0
        self._sizes: list[int] = []
        self._recent: deque[str | tuple[str | None, float] | None] = deque(maxlen=REMEMBERED)
        # A turn: which message was its first, when it began, when the first was done.
        self._marks: deque[tuple[int, float, float]] = deque(maxlen=TIMED)
        self.weigh = self._sizes.append
        self.note = self._recent.append

    def passed(self, workflow_id: str | None, size: int) -> None:
        """Count a message of so many bytes that goes now, or is taken now."""
        self.messages += 1
        self.bytes += size
        self.note((workflow_id, clock()))

    def timed(self, began: float, done: float) -> None:
        """Take how long it took to send a message and have its reply."""
        self._marks.append((self.messages, began, done))

    def turned(self, began: float, done: float) -> None:
        """Count the messages of a turn; the first took until `done`, the others are as old."""
        self._marks.append((self.messages, began, done))
        self.count()

    def begun(self, began: float) -> None:
        """Count the message read last, whose async function begins; `ended` is to follow."""
        self.count()
        self.under_way += 1
        # Others may begin before it ends: it needs a time of its own.
        noted = self._recent[-1]
        if not isinstance(noted, tuple):
            self._recent[-1] = (noted, began)

    def ended(self, began: float, done: float) -> None:
        """Take when an async function began and ended."""
        self.under_way -= 1
        self.timed(began, done)

    def count(self) -> None:
        """Count what was weighed."""
        sizes = self._sizes
        self.messages += len(sizes)
        self.bytes += sum(sizes)
        sizes.clear()

    def plain(self) -> dict[str, Any]:
        """Return the counters; the quantiles are in milliseconds, null while nothing was timed."""
        self.count()
        timed = sorted(done - began for _, began, done in tuple(self._marks))
        return {
            "messages": self.messages,
            "errors": self.errors,
            "bytes": self.bytes,
            "p50_ms": _quantile(timed, 0.50),
            "p99_ms": _quantile(timed, 0.99),
        }

    def hops(self, workflow_id: str) -> Iterator[Hop]:
        """Yield the remembered messages of a workflow, and of the chains that branch off it."""
        self.count()
        branch = workflow_id + "_"
        marks = tuple(self._marks)
        firsts = [first for first, _, _ in marks]
        since = time.time() - clock()  # noqa: TID251 - shown to people
        for back, entry in enumerate(reversed(tuple(self._recent)), start=1):
            found, when = entry if isinstance(entry, tuple) else (entry, None)
            if found is None or not (found == workflow_id or found.startswith(branch)):
                continue
            if when is None:
                turn = bisect_right(firsts, self.messages - back) - 1
                when = marks[max(turn, 0)][1] if marks else clock()
            yield Hop(found, since + when)

    @property
    def forgets(self) -> bool:
        """Whether there were more messages than are remembered."""
        return len(self._recent) == REMEMBERED


def _quantile(ordered: list[float], share: float) -> float | None:
    if not ordered:
        return None
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000, 4)
