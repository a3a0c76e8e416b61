"""Signals as events of the loop.

asyncio's own handlers complain on stderr when a burst of SIGCHLD fills their pipe; a full
pipe is harmless here, because one byte of a signal says as much as a thousand.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Collection, Mapping


class Signals:
    """Calls a handler on the loop for each burst of a signal; the process's only user of it.

    Made by the main thread, which gets none of them from then on; the loop's thread takes them
    after `accept`, and what came before `listen` is handled then.

    Args:
        numbers: The signals.
    """

    def __init__(self, numbers: Collection[int]) -> None:
        self._numbers = numbers
        self._handlers: Mapping[int, Callable[[], None]] = {}
        self._reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        for number in numbers:
            signal.signal(number, _nothing)
            signal.siginterrupt(number, False)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        signal.pthread_sigmask(signal.SIG_BLOCK, numbers)

    def accept(self) -> None:
        """Let the calling thread be interrupted by the signals."""
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self._numbers)

    def listen(
        self, loop: asyncio.AbstractEventLoop, handlers: Mapping[int, Callable[[], None]]
    ) -> None:
        """Call the handlers on the loop."""
        self._handlers = handlers
        loop.add_reader(self._reading, self._on_readable)

    def _on_readable(self) -> None:
        for number in frozenset(os.read(self._reading, 65536)):
            handler = self._handlers.get(number)
            if handler is not None:
                handler()


def _nothing(_number: int, _frame: object) -> None:
    """Python needs a handler for the wake-up byte to be written."""
