"""A small event loop for components whose functions are all plain: epoll, and nothing else.

It waits for file descriptors and signals and calls back. Where nothing is awaited, asyncio would
double the cost of each message and take longer to import than all the rest; where something is,
`serving` uses asyncio instead.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections import deque
from collections.abc import Callable

from orchestrator.component import signals as _signals

_READ = 4096


class Loop:
    """Calls back when descriptors are readable, until stopped by a signal or by `stop`."""

    def __init__(self) -> None:
        self._readers: dict[int, Callable[[], object]] = {}
        self._soon: deque[Callable[[], object]] = deque()
        self._stopped: int | None = None
        self._every = 0.0
        self._tick: Callable[[], object] | None = None

    def add_reader(self, descriptor: int, call: Callable[[], object]) -> None:
        """Call `call` whenever the descriptor is readable."""
        self._readers[descriptor] = call

    def call_soon(self, call: Callable[[], object]) -> None:
        """Call `call` after the descriptors that are readable now had their turn."""
        self._soon.append(call)

    def repeat(self, every: float, call: Callable[[], object]) -> None:
        """Call `call` every so many seconds, between messages; one such call is known."""
        self._every, self._tick = every, call

    def stop(self) -> None:
        """End `run` after the turn in hand; to be called from what it calls."""
        self._stopped = 0

    def run(self, signals: tuple[signal.Signals, ...]) -> int:
        """Run until one of the signals comes, and return it; a second has its default effect.

        When `stop` was called 0 is returned.
        """
        woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        previous = signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        poll = select.epoll()
        try:
            take = self._take(signals)
            for known in signals:
                _signals.handle(known, take)
            self._readers[woken] = lambda: _empty(woken)
            for descriptor in self._readers:
                poll.register(descriptor, select.EPOLLIN)
            self._turn(poll)
        finally:
            poll.close()
            signal.set_wakeup_fd(previous)
            os.close(woken)
            os.close(wake)
        return self._stopped or 0

    def _turn(self, poll: select.epoll) -> None:
        readers, soon, wait = self._readers, self._soon, poll.poll
        tick, now = self._tick, time.monotonic
        due = now() + self._every
        while self._stopped is None:
            patience = -1.0 if tick is None else max(0.0, due - now())
            for descriptor, _ in wait(0 if soon else patience):
                readers[descriptor]()
            if tick is not None and now() >= due:
                tick()
                due = now() + self._every
            for _ in range(len(soon)):
                soon.popleft()()

    def _take(self, signals: tuple[signal.Signals, ...]) -> Callable[..., None]:
        def take(signum: int, _: object) -> None:
            self._stopped = signum
            for known in signals:
                signal.signal(known, signal.SIG_DFL)

        return take


def _empty(descriptor: int) -> None:
    with contextlib.suppress(BlockingIOError):
        while os.read(descriptor, _READ):
            pass
