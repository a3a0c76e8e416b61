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


class Timetable:
    """When named things are due, each by its cron expression.

    Args:
        host: Its clocks and its timers.
        due: Called with the name whose time has come.
    """

    def __init__(self, host: Host, due: Callable[[str], None]) -> None:
        self.unwritten = False
        self._host = host
        self._due = due
        self._texts: Mapping[str, str] = {}
        self._served: dict[str, dt.datetime] = {}
        self._looking = False

    def set(self, texts: Mapping[str, str]) -> None:
        """Take the expressions by name; what is new is due at its next time."""
        self._texts = texts
        now = self._host.wall() if texts else None
        known, self._served = self._served, {}
        for name in texts:
            assert now is not None
            self._served[name] = known.get(name, now)
        self.unwritten |= self._served != known
        if self._served and not self._looking:
            # At once: a time may have come while no daemon lived.
            self._looking = True
            self._host.call_later(0.0, self._look)

    def begin(self, name: str) -> None:
        """Count from now on: what came while nobody wanted it is not made up for."""
        if name in self._served:
            self._served[name] = self._host.wall()
            self.unwritten = True

    def next(self, name: str) -> dt.datetime | None:
        """Return when it is due next, None when it has no schedule."""
        text = self._texts.get(name)
        return cron.following(cron.parse(text), self._host.wall()) if text else None

    def next_in(self, name: str) -> Seconds:
        """Return in how many seconds it is due."""
        due = self.next(name)
        return (due - self._host.wall()).total_seconds() if due else 0.0

    def says(self, name: str) -> str:
        """Return in words when it is due."""
        due, now = self.next(name), self._host.wall()
        if due is None:
            return ""
        day = "" if due.date() == now.date() else f"{due:%Y-%m-%d} "
        return f"scheduled, next at {day}{due:%H:%M}"

    # ------------------------------------------------------------- what outlives the daemon

    def text(self) -> str:
        """Return what was served, as the journal keeps it."""
        self.unwritten = False
        return json.dumps({name: served.isoformat() for name, served in self._served.items()})

    def restore(self, text: str) -> None:
        """Take over what an earlier daemon has served; nonsense is none."""
        try:
            kept = json.loads(text)
            self._served = {name: dt.datetime.fromisoformat(kept[name]) for name in kept}
        except (ValueError, TypeError) as error:
            logger.warning("The journal's schedules cannot be used: %s", error)

    # ------------------------------------------------------------- the clock

    def _look_later(self) -> None:
        soonest = min(self.next_in(name) for name in self._served)
        # A moment late rather than a moment early, which would cost a second look.
        self._host.call_later(min(LOOK, max(0.0, soonest) + 0.01), self._look)

    def _look(self) -> None:
        now = self._host.wall()
        for name, at in list(self._served.items()):
            served = cron.served_by(at, now)
            if cron.is_due(cron.parse(self._texts[name]), served, now):
                served = now
                self.unwritten = True
                self._due(name)
            self._served[name] = served
        self._looking = bool(self._served)
        if self._looking:
            self._look_later()


class Schedules(Timetable):
    """When the scheduled slots run.

    Args:
        host: Its clocks and its timers.
        slots: The supervisor's slots, as they are at each moment.
        due: Called with a slot whose time has come.
    """

    def __init__(self, host: Host, slots: Mapping[str, Slot], due: Callable[[str], None]) -> None:
        super().__init__(host, due)
        self._slots = slots
        self._released: set[str] = set()

    def index(self) -> None:
        """Find the scheduled slots anew; what is new runs at its next time."""
        texts = {
            slot: there.instance.component.schedule
            for slot, there in self._slots.items()
            if there.instance.component.schedule
        }
        self.set(texts)
        self._released &= self._served.keys()

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
