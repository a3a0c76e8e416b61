"""Signals as events of the loop.

asyncio's own handlers complain on stderr when a burst of SIGCHLD fills their pipe; a full
pipe is harmless here, because one byte of a signal says as much as a thousand.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Mapping


class Signals:
    """Calls a handler on the loop for each burst of a signal; the process's only user of it."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, handlers: Mapping[int, Callable[[], None]]
    ) -> None:
        self._handlers = handlers
        self._reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        loop.add_reader(self._reading, self._on_readable)
        for number in handlers:
            signal.signal(number, _nothing)
            signal.siginterrupt(number, False)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        # An upgrade blocked them until somebody takes them.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, handlers)

    def _on_readable(self) -> None:
        for number in frozenset(os.read(self._reading, 65536)):
            handler = self._handlers.get(number)
            if handler is not None:
                handler()


def _nothing(_number: int, _frame: object) -> None:
    """Python needs a handler for the wake-up byte to be written."""
