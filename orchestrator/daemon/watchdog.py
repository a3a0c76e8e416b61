"""Watchdogs: who must give a sign in time, and has not.

A sign of life moves a deadline and costs no timer. Each process has one timer; when it fires
before the deadline it is set for the rest, so a period costs one wake-up however many signs
come. Timers are numbered and outlived, never cancelled.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from orchestrator.daemon.host import Host
from orchestrator.model.units import Instant, Seconds


class _Watched(Struct):
    number: int
    period: Seconds
    due: Instant


class Watchdogs:
    """The deadlines of a system.

    Args:
        host: The clock and its timers.
        missed: Called with the slot and the period of who has missed its deadline.
    """

    def __init__(self, host: Host, missed: Callable[[str, Seconds], None]) -> None:
        self._host = host
        self._missed = missed
        self._watched: dict[str, _Watched] = {}
        self._numbers = 0

    def begin(self, slot: str, period: Seconds) -> None:
        """Expect the first sign within a period from now."""
        self._numbers += 1
        self._watched[slot] = _Watched(self._numbers, period, self._host.now() + period)
        self._arm(slot, self._numbers, period)

    def sign(self, slot: str) -> None:
        """Take a sign of life; the next is expected within a period from now."""
        watched = self._watched.get(slot)
        if watched is not None:
            watched.due = self._host.now() + watched.period

    def end(self, slot: str) -> None:
        """Expect nothing any more."""
        self._watched.pop(slot, None)

    def _arm(self, slot: str, number: int, after: Seconds) -> None:
        planned = self._host.now() + after
        self._host.call_later(after, lambda: self._fire(slot, number, planned))

    def _fire(self, slot: str, number: int, planned: Instant) -> None:
        watched = self._watched.get(slot)
        if watched is None or watched.number != number:
            return
        now = self._host.now()
        if now - planned > watched.period / 2:
            # We ourselves were held up (suspended, frozen), and perhaps it with us.
            watched.due = now + watched.period
        if now < watched.due:
            self._arm(slot, number, watched.due - now)
            return
        del self._watched[slot]
        self._missed(slot, watched.period)
