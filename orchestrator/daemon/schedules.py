"""The schedules of a running system: the only part of the daemon that goes by the wall clock.

A clock that jumps forward makes a schedule due at most once, one that is set back never twice.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
from collections.abc import Callable, Mapping

from orchestrator.daemon.host import Host
from orchestrator.model import cron
from orchestrator.model.units import Seconds
from orchestrator.supervision.reconcile import Slot

logger = logging.getLogger(__name__)

LOOK: Seconds = 20.0
"""The longest time between two looks at the clock: so late may a jump of it be noticed."""


class Schedules:
    """When the scheduled slots run.

    Args:
        host: Its clocks and its timers.
        slots: The supervisor's slots, as they are at each moment.
        due: Called with a slot whose time has come.
    """

    def __init__(self, host: Host, slots: Mapping[str, Slot], due: Callable[[str], None]) -> None:
        self.unwritten = False
        self._host = host
        self._slots = slots
        self._due = due
        self._served: dict[str, dt.datetime] = {}
        self._released: set[str] = set()
        self._looking = False

    def index(self) -> None:
        """Find the scheduled slots anew; what is new runs at its next time."""
        scheduled = [
            slot for slot, there in self._slots.items() if there.instance.component.schedule
        ]
        now = self._host.wall() if scheduled else None
        known, self._served = self._served, {}
        for slot in scheduled:
            assert now is not None
            self._served[slot] = known.get(slot, now)
        self.unwritten |= self._served != known
        self._released &= self._served.keys()
        if self._served and not self._looking:
            # At once: a time may have come while no daemon lived.
            self._looking = True
            self._host.call_later(0.0, self._look)

    def begin(self, slot: str) -> None:
        """Count from now on: what came while nobody wanted the slot is not made up for."""
        if slot in self._served:
            self._served[slot] = self._host.wall()
            self.unwritten = True

    def release(self, slot: str) -> None:
        """Let a slot run now, whatever its schedule says."""
        if slot in self._served:
            self._released.add(slot)

    def started(self, slot: str) -> None:
        """The run of a slot has begun: the next one is at its next time."""
        self._released.discard(slot)

    def holds(self, slot: str) -> bool:
        """Tell whether the slot must wait for its time, or for a retry of its last run."""
        if slot not in self._served or slot in self._released:
            return False
        return self._slots[slot].instance.failures == 0

    def next(self, slot: str) -> dt.datetime | None:
        """Return when the slot runs next by its schedule, None when it has none."""
        text = self._slots[slot].instance.component.schedule
        return cron.following(cron.parse(text), self._host.wall()) if text else None

    def next_in(self, slot: str) -> Seconds:
        """Return in how many seconds the slot runs next."""
        due = self.next(slot)
        return (due - self._host.wall()).total_seconds() if due else 0.0

    def says(self, slot: str) -> str:
        """Return in words when the slot runs next."""
        due, now = self.next(slot), self._host.wall()
        if due is None:
            return ""
        day = "" if due.date() == now.date() else f"{due:%Y-%m-%d} "
        return f"scheduled, next at {day}{due:%H:%M}"

    # ------------------------------------------------------------- what outlives the daemon

    def text(self) -> str:
        """Return what was served, as the journal keeps it."""
        self.unwritten = False
        return json.dumps({slot: served.isoformat() for slot, served in self._served.items()})

    def restore(self, text: str) -> None:
        """Take over what an earlier daemon has served; nonsense is none."""
        try:
            kept = json.loads(text)
            self._served = {slot: dt.datetime.fromisoformat(kept[slot]) for slot in kept}
        except (ValueError, TypeError) as error:
            logger.warning("The journal's schedules cannot be used: %s", error)

    # ------------------------------------------------------------- the clock

    def _look_later(self) -> None:
        soonest = min(self.next_in(slot) for slot in self._served)
        # A moment late rather than a moment early, which would cost a second look.
        self._host.call_later(min(LOOK, max(0.0, soonest) + 0.01), self._look)

    def _look(self) -> None:
        now = self._host.wall()
        for slot, at in list(self._served.items()):
            served = cron.served_by(at, now)
            text = self._slots[slot].instance.component.schedule
            if text and cron.is_due(cron.parse(text), served, now):
                served = now
                self.unwritten = True
                self._due(slot)
            self._served[slot] = served
        self._looking = bool(self._served)
        if self._looking:
            self._look_later()
