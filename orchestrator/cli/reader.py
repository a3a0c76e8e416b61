"""Whoever reads what a command prints: when they have left, there is nothing left to do.

A pipe whose reader has gone is noticed at the next write, which may never come: `orch events |
head -1` of a quiet system. So whoever waits for news waits for that too.
"""

from __future__ import annotations

import contextlib
import select
import sys
from typing import Protocol, Self

from orchestrator.model.units import Seconds


class Pollable(Protocol):
    """What becomes readable."""

    def fileno(self) -> int:
        """Return its descriptor."""


class Reader:
    """The reader of our standard output; a context manager.

    Files and terminals have none that could leave.
    """

    def __init__(self) -> None:
        # An event poll of its own: errors alone are of interest, and select would also wake for
        # what is typed at a terminal.
        self._left = select.epoll()

    def __enter__(self) -> Self:
        with contextlib.suppress(OSError):  # A file cannot be polled: it has no reader.
            self._left.register(sys.stdout.fileno(), 0)
        return self

    def __exit__(self, *_: object) -> None:
        self._left.close()

    def await_news(self, *awaited: Pollable, timeout: Seconds | None = None) -> None:
        """Sleep until one of `awaited` is readable, at most `timeout` seconds.

        Raises:
            BrokenPipeError: The reader has gone.
        """
        readable, _, _ = select.select([self._left, *awaited], [], [], timeout)
        if self._left in readable:
            raise BrokenPipeError
