"""Who of those that may start is started now: a bounded crowd, in turns, the unlucky at a pace."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from orchestrator.daemon.host import Host
from orchestrator.daemon.turnstile import Turnstile

STARTS_A_TURN = 250
"""After so many starts clients get their turn: about a tenth of a second of them."""


class Admission:
    """Lets slots start while there is room.

    `concurrency` is how many may load at once. What crashes again and again waits at the
    `turnstile` before it is one of those that may start.

    Args:
        host: Its clock and its timers.
        due: Called when somebody's turn has come.
    """

    def __init__(self, host: Host, due: Callable[[], None]) -> None:
        self.concurrency = 64
        self.turnstile = Turnstile(host, due)
        self._runnable: dict[str, None] = {}
        self._loading: set[str] = set()
        self._admitted = 0

    @property
    def has_room(self) -> bool:
        """Whether somebody waits to start, and may."""
        return bool(self._runnable) and len(self._loading) < self.concurrency

    @property
    def is_due(self) -> bool:
        """Whether somebody may start, and nobody has in this turn."""
        return self.has_room and not self._admitted

    def begin_turn(self) -> None:
        """Count the starts of a turn from here."""
        self._admitted = 0

    def allow(self, slot: str, *, paced: bool) -> None:
        """Take note that a slot may start; `paced`, when its turn has come."""
        if paced and slot not in self._runnable:
            self.turnstile.enter(slot)
        else:
            self.turnstile.leave(slot)
            self._runnable[slot] = None

    def hold(self, slot: str) -> None:
        """Take note that a slot is not to start now."""
        self._runnable.pop(slot, None)
        self.turnstile.leave(slot)

    def let_through(self) -> None:
        """Take note of those whose turn has come."""
        self._runnable.update(dict.fromkeys(self.turnstile.passing()))

    def admitted(self) -> Iterator[str]:
        """Take out and yield those that start now; each that `load`s takes room."""
        self.let_through()
        while self.has_room and self._admitted < STARTS_A_TURN:
            self._admitted += 1
            slot = next(iter(self._runnable))
            del self._runnable[slot]
            yield slot

    def load(self, slot: str, *, loading: bool) -> None:
        """Take note whether a slot's start is work that should not all be done at once."""
        (self._loading.add if loading else self._loading.discard)(slot)
