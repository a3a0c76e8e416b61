"""What a probe's program prints: read as it comes, so that it never waits, and mostly forgotten.

The last line is what people need to see: `no route to host`, the last of a traceback.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable

from orchestrator.daemon import health
from orchestrator.model.units import Seconds
from orchestrator.supervision import looks

KEPT = 1 << 16
"""How many bytes of the end are kept."""

FLOOD = 1 << 20
"""After so many bytes a program is read in turns: it must not take the daemon from its work."""

PAUSE: Seconds = 0.01
"""Between two of these turns."""

MASK = "***"
"""Stands for the value of a secret."""


class Printed:
    """A pipe into which a program prints; `close` it.

    Where there is no descriptor to spare nothing is heard, and `writing` is None.
    """

    def __init__(self) -> None:
        self.writing: int | None = None
        self._loop = asyncio.get_running_loop()
        self._reading: int | None = None
        self._later: asyncio.TimerHandle | None = None
        self._end = b""
        self._count = 0
        try:
            self._reading, self.writing = os.pipe2(os.O_CLOEXEC)
        except OSError:
            return
        os.set_blocking(self._reading, False)
        self._loop.add_reader(self._reading, self._read)

    def begun(self) -> None:
        """Take note that the program has its end of the pipe, or will never have it."""
        if self.writing is not None:
            os.close(self.writing)
            self.writing = None

    def last_line(self, secrets: Iterable[str] = ()) -> str:
        """Return the last line that is not empty, fit to be printed; empty when there is none.

        A secret in it is masked; a line whose begin has been forgotten is not shown.
        """
        self._read()
        text = looks.plain(self._end.decode(errors="replace"))
        for secret in sorted(filter(None, secrets), key=len, reverse=True):
            text = text.replace(secret, MASK)
        lines = text.splitlines()[self._count > KEPT :]
        return next(filter(None, map(health.shown, reversed(lines))), "")

    def close(self) -> None:
        """Close the pipe."""
        self.begun()
        self._rest()
        if self._later is not None:
            self._later.cancel()
            self._later = None

    def _read(self) -> None:
        """Take a piece of what is there."""
        if self._reading is None:
            return
        try:
            data = os.read(self._reading, KEPT)
        except BlockingIOError:
            return
        if not data:
            self._rest()
            return
        self._count += len(data)
        self._end = (self._end + data)[-KEPT:]
        if self._count > FLOOD and self._later is None:
            self._loop.remove_reader(self._reading)
            self._later = self._loop.call_later(PAUSE, self._go_on)

    def _go_on(self) -> None:
        self._later = None
        if self._reading is not None:
            self._loop.add_reader(self._reading, self._read)

    def _rest(self) -> None:
        if self._reading is not None:
            self._loop.remove_reader(self._reading)
            os.close(self._reading)
            self._reading = None
