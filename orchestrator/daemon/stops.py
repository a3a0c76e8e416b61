"""How far stops have come, written down so that no program hears its stop signal twice.

The journal's row of a slot says that it is being stopped and is written before the signal is
sent. What is kept here is written after that, a moment later and only of stops that take
longer: thousands of quick ones cost nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from orchestrator.daemon.host import Host
from orchestrator.daemon.journal import Begun, Journal
from orchestrator.model.phase import Process
from orchestrator.model.units import Instant, Seconds
from orchestrator.supervision import lifecycle
from orchestrator.supervision.lifecycle import Instance
from orchestrator.supervision.reconcile import Slot

WRITE_WITHIN: Seconds = 0.1
"""A daemon that is killed sooner than this after a stop signal sends it again."""


class Stops:
    """The stops under way.

    Args:
        host: The operating system, or its fake.
        journal: Where they are written.
        slots: All instances, as they are now.
        command: Gives the stop command that runs for a slot, None when none does.
    """

    def __init__(
        self,
        host: Host,
        journal: Journal,
        slots: Mapping[str, Slot],
        command: Callable[[str], Process | None],
    ) -> None:
        self._host = host
        self._journal = journal
        self._slots = slots
        self._command = command
        self._due: dict[str, tuple[int, Instant]] = {}
        self._unwritten: dict[str, None] = {}
        self._is_due = False

    def armed(self, slot: str, instance: Instance, armed: lifecycle.Arm) -> None:
        """Take note that the last effect of a step was carried out, its timer."""
        state = instance.state
        if isinstance(state, lifecycle.Stopping) and state.timer == armed.timer:
            self._due[slot] = (armed.timer, self._host.now() + armed.after)
            self.changed(slot)

    def changed(self, slot: str) -> None:
        """Take note that a slot is no longer as it was."""
        if slot not in self._due:
            return
        self._unwritten[slot] = None
        if not self._is_due:
            self._is_due = True
            self._host.call_later(WRITE_WITHIN, self._write_later)

    def ends_in(self, slot: str) -> Seconds | None:
        """Return in how many seconds KILL is due; None when it was sent, or nothing is stopped."""
        there, (timer, due) = self._slots.get(slot), self._due.get(slot, (0, 0.0))
        state = there.instance.state if there else None
        if there is None or not isinstance(state, lifecycle.Stopping) or state.killed:
            return None
        rest = there.instance.component.stop.ladder[state.rung + 1 :]
        left = due - self._host.now() if state.timer == timer else 0.0
        return max(0.0, left) + sum(rung.wait for rung in rest)

    def write(self) -> None:
        """Write down what is not yet; what cannot be written is no worse than a late death."""
        begun = {}
        for slot in self._unwritten:
            there, (timer, due) = self._slots.get(slot), self._due[slot]
            state = there.instance.state if there else None
            if there is None or not isinstance(state, lifecycle.Stopping):
                del self._due[slot]
            elif state.timer == timer:
                begun[slot] = Begun(
                    generation=there.instance.generation,
                    rung=state.rung,
                    due=due,
                    result=state.result,
                    lived=there.instance.lived,
                    command=self._command(slot),
                )
        self._unwritten.clear()
        if begun:
            self._journal.stops(begun)

    def _write_later(self) -> None:
        self._is_due = False
        self.write()
