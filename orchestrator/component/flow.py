"""The workflow id: one chain of messages across components, as service_framework counts it.

A message without an id begins a chain. What a handler sends carries the id of the message in hand:
the first one unchanged, the next ones with `_1`, `_2`, … appended. Outside of any message each one
sent begins its own chain.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator

_ENDS = tuple(f"{number:02x}" for number in range(256))


class Flow:
    """The workflow in hand; whoever has handled a message sets `current` to None."""

    __slots__ = ("_new", "_sent", "current")

    def __init__(self) -> None:
        self.current: str | None = None
        self._sent = 0
        self._new = _ids().__next__

    def begin(self, workflow_id: str | None) -> str:
        """Take a message in hand and return its id; without one it begins a chain."""
        self.current = current = workflow_id or self._new()
        self._sent = 0
        return current

    def next(self) -> str:
        """Return the id of the next message to send."""
        current = self.current
        if current is None:
            return self._new()
        sent = self._sent
        self._sent = sent + 1
        return f"{current}_{sent}" if sent else current


def _ids() -> Iterator[str]:
    """Yield UUID texts of version 4 that differ in their end; a system call each is dearer.

    All but the last two digits are made once for 256 of them.
    """
    whole = uuid.uuid4()
    prefix = str(whole)[:24]
    # Half of what ten digits can count is left to count on.
    for number in itertools.count(whole.node % 2**39):
        most = f"{prefix}{number:010x}"
        for end in _ENDS:
            yield most + end
