"""Ctrl-C, SIGTERM and a closed terminal, as things to select on instead of exceptions.

The first asks for an orderly end, the second for a hard one. The third raises
KeyboardInterrupt wherever the command is: it must end even when its output is stuck.
"""

from __future__ import annotations

import contextlib
import signal
import socket
from types import FrameType
from typing import Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PATIENCE = 2


class Interrupts:
    """Collects signals while it is entered; restores the former handlers at its end."""

    def __init__(self) -> None:
        self._inside, self._outside = socket.socketpair()
        self._inside.setblocking(False)
        self._outside.setblocking(False)
        self._arrived: list[int] = []
        self._count = 0
        self._former: list[tuple[signal.Signals, object]] = []
        self._wakeup = -1

    def __enter__(self) -> Self:
        self._wakeup = signal.set_wakeup_fd(self._outside.fileno(), warn_on_full_buffer=False)
        for number in _SIGNALS:
            # nohup says that a closed terminal means nothing; so it stays.
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._former.append((number, signal.signal(number, self._note)))
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._former:
            signal.signal(number, handler)  # type: ignore[arg-type]
        signal.set_wakeup_fd(self._wakeup)
        self._inside.close()
        self._outside.close()

    def fileno(self) -> int:
        """Return the descriptor that becomes readable when a signal has come."""
        return self._inside.fileno()

    def take(self) -> list[int]:
        """Return the signals that have come since the last call."""
        with contextlib.suppress(BlockingIOError):
            while self._inside.recv(64):
                pass
        arrived, self._arrived = self._arrived, []
        return arrived

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._arrived.append(number)
        self._count += 1
        if self._count > _PATIENCE:
            raise KeyboardInterrupt
