"""Where restarts of what crashes again and again wait for their turn, first come first served."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from orchestrator.daemon.host import Host
from orchestrator.supervision import pace
from orchestrator.supervision.pace import Bucket

RATE = 20.0
"""Restarts a second until a topology says otherwise."""


class Turnstile:
    """Lets slots through at the pace of a token bucket.

    Args:
        host: Its clock and its timers.
        due: Called when the first of those who wait may go.
    """

    def __init__(self, host: Host, due: Callable[[], None]) -> None:
        self.bucket = Bucket(RATE)
        self._host = host
        self._due = due
        self._waiting: dict[str, None] = {}
        self._armed = False

    def set_rate(self, rate: float) -> None:
        """Let so many through a second; 0: all."""
        self.bucket = pace.with_rate(self.bucket, rate)

    def enter(self, slot: str) -> None:
        """Wait at the end of the queue; who waits already keeps its place."""
        self._waiting[slot] = None

    def leave(self, slot: str) -> None:
        """Wait no more."""
        self._waiting.pop(slot, None)

    def passing(self) -> Iterator[str]:
        """Take out and yield those whose turn has come; have the others waited for."""
        now = self._host.now()
        while self._waiting and (bucket := pace.take(self.bucket, now)) is not None:
            self.bucket = bucket
            slot = next(iter(self._waiting))
            del self._waiting[slot]
            yield slot
        if self._waiting and not self._armed:
            self._armed = True
            self._host.call_later(pace.wait(self.bucket, now), self._fire)

    def says(self, slot: str) -> str:
        """Return in words what the slot waits for here, nothing when it does not."""
        if slot not in self._waiting:
            return ""
        return f"waiting for its turn (at most {self.bucket.rate:g} such restarts a second)"

    def _fire(self) -> None:
        self._armed = False
        self._due()
