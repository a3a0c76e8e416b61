"""The workflow id: one chain of messages across components, as service_framework counts it.

A message without an id begins a chain. What a handler sends carries the id of the message in hand: the first one
unchanged, the next ones with `_1`, `_2`, … appended. Outside of any message each one sent begins its own chain.
"""

from __future__ import annotations

import itertools
import uuid


class Flow:
    """The workflow in hand; `current` is None between messages, and set so by who has handled one."""

    __slots__ = ("_new", "_sent", "current")

    def __init__(self) -> None:
        self.current: str | None = None
        self._sent = 0
        self._new = _ids()

    def begin(self, workflow_id: str | None) -> None:
        """Take a message in hand; without an id it begins a chain."""
        self.current = workflow_id or next(self._new)
        self._sent = 0

    def next(self) -> str:
        """Return the id of the next message to send."""
        current = self.current
        if current is None:
            return next(self._new)
        sent = self._sent
        self._sent = sent + 1
        return f"{current}_{sent}" if sent else current


class _ids:  # noqa: N801 - an iterator, used like a generator function
    """UUID texts of version 4 that differ in their last twelve digits: a system call for each would cost more."""

    __slots__ = ("_count", "_prefix")

    def __init__(self) -> None:
        whole = uuid.uuid4()
        self._prefix = str(whole)[:24]
        self._count = itertools.count(whole.node)

    def __next__(self) -> str:
        return f"{self._prefix}{next(self._count) & 0xFFFFFFFFFFFF:012x}"
