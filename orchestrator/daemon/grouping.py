"""The groups of a running system: from what happens to their members to what follows for others.

It decides nothing, `supervision.groups` does; here its standings are kept, and events are
queued for the members.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

from orchestrator.errors import ExitCode
from orchestrator.model import plain
from orchestrator.model.phase import Phase, Result
from orchestrator.model.topology import Group, Restart, Then
from orchestrator.model.units import Instant
from orchestrator.supervision import groups, lifecycle
from orchestrator.supervision.groups import Standing
from orchestrator.supervision.lifecycle import Instance
from orchestrator.supervision.reconcile import Slot

logger = logging.getLogger(__name__)


class Grouping:
    """All groups of one system.

    Args:
        slots: The supervisor's slots, as they are at each moment.
        post: Queues an event for a slot.
        touch: Has a slot looked at again.
        shutdown: Brings the system down, with an exit code and the reason.
    """

    def __init__(
        self,
        slots: Mapping[str, Slot],
        post: Callable[[str, lifecycle.Event], None],
        touch: Callable[[str], None],
        shutdown: Callable[[int, str], None],
    ) -> None:
        self.declared: Mapping[str, Group] = {}
        self.standings: dict[str, Standing] = {}
        self.unwritten = False
        self._slots = slots
        self._post = post
        self._touch = touch
        self._shutdown = shutdown
        self._of: dict[str, str] = {}
        self._places: dict[str, dict[str, int]] = {}

    def index(self, members: Mapping[str, tuple[str, ...]]) -> None:
        """Find the member instances anew; `members` are the slots of each component."""
        self._of = {}
        self._places = {}
        for name, group in self.declared.items():
            self._places[name] = {
                slot: place
                for place, base in enumerate(group.components)
                for slot in members.get(base, ())
            }
            self._of.update(dict.fromkeys(self._places[name], name))
        for name in [name for name in self.standings if name not in self.declared]:
            del self.standings[name]
            self.unwritten = True

    def has(self, slot: str) -> bool:
        """Tell whether the slot is a member of a group."""
        return slot in self._of

    # ------------------------------------------------------------- what happens

    def stepped(
        self, slot: str, before: Instance, after: Instance, now: Instant, why: str
    ) -> None:
        """Take the change of a slot's state; when it is a member's failure, its group acts."""
        name = self._of.get(slot)
        if name is None:
            return
        group, places, standing = self.declared[name], self._places[name], self._standing(name)
        if _is_restart(before, after):
            following = groups.failed(
                name, group, standing, slot, slots=self._slots, places=places, now=now, why=why
            )
        elif _is_surrender(before, after):
            following = groups.cannot_go_on(
                name, standing, slot, slots=self._slots, places=places, why=why
            )
        else:
            return
        if following is standing:
            return
        self._keep(name, following)
        if following.gave_up:
            logger.warning("%s", following.gave_up)
            if group.then is Then.SHUTDOWN:
                self._shutdown(ExitCode.COMPONENT_FAILURE, following.gave_up)
            return
        others = [other for other in following.starting if other != slot]
        if others and following.starting != standing.starting:
            names = ", ".join(self._slots[other].instance.component.name for other in others)
            failed = after.component.name
            logger.warning("Group %s: %s failed (%s): restarting %s", name, failed, why, names)
        for other in others:
            there = self._slots[other]
            if there.up and there.instance.phase is Phase.EXITED:
                self._post(other, lifecycle.Start())  # What had ended well is needed again.

    def advance(self, slot: str) -> tuple[str, ...]:
        """Look how far the restart of the slot's group is, and ask for what is next.

        Returns:
            The members that are still to be started: what they wait for may be there now.
        """
        name = self._of.get(slot)
        standing = self.standings.get(name) if name is not None else None
        if name is None or standing is None:
            return ()
        following = groups.settled(standing, self._slots)
        if following is not standing:
            self._keep(name, following)
        for member in groups.due(following, self._slots, self._places[name]):
            if following.gave_up:
                self._post(member, lifecycle.GiveUp(following.gave_up))
            else:
                self._post(member, lifecycle.Stop())
        return following.starting

    def forgive(self, slot: str) -> None:
        """Let the slot's group begin anew: somebody asked for one of its members."""
        name = self._of.get(slot)
        standing = self.standings.get(name) if name is not None else None
        if name is not None and standing is not None and standing.gave_up:
            self._keep(name, Standing())

    def forget(self, slot: str) -> None:
        """Forget the restarts of the slot's group, and that it gave up."""
        name = self._of.get(slot)
        standing = self.standings.get(name) if name is not None else None
        if name is not None and standing is not None:
            gave_up = bool(standing.gave_up)
            self._keep(
                name,
                Standing()
                if gave_up
                else Standing(stopping=standing.stopping, starting=standing.starting),
            )

    # ------------------------------------------------------------- what follows

    def gave_up(self, slot: str) -> str:
        """Return why the slot's group has given up, nothing when it has not."""
        name = self._of.get(slot)
        return self.standings[name].gave_up if name in self.standings else ""

    def culprit(self, slot: str) -> str | None:
        """Return the slot that made this one's group give up."""
        name = self._of.get(slot)
        return (self.standings[name].culprit or None) if name in self.standings else None

    def holder(self, slot: str) -> str | None:
        """Return the slot that must go down, or start, before this one may start."""
        name = self._of.get(slot)
        if name is None or name not in self.standings:
            return None
        return groups.holds_back(self.standings[name], slot, self._slots, self._places[name])

    def waits(self, slot: str) -> str:
        """Return in words what the slot waits for within its group."""
        holder = self.holder(slot)
        if holder is None:
            return ""
        other = self._slots[holder].instance
        end = "the end of " if holder in self.standings[self._of[slot]].stopping else ""
        return f"waiting for {end}{other.component.name}, restarted with group {self._of[slot]}"

    # ------------------------------------------------------------- what outlives the daemon

    def text(self) -> str:
        """Return the standings as the journal keeps them."""
        self.unwritten = False
        return json.dumps({name: plain.encode(one) for name, one in self.standings.items()})

    def restore(self, declared: str, standings: str) -> None:
        """Take over what an earlier daemon of this boot wrote; nonsense is none."""
        self.declared = _read(Group, declared)
        self.standings = _read(Standing, standings)

    # ------------------------------------------------------------- small parts

    def _standing(self, name: str) -> Standing:
        return self.standings.get(name) or Standing()

    def _keep(self, name: str, standing: Standing) -> None:
        self.standings[name] = standing
        self.unwritten = True
        for member in self._places[name]:
            self._touch(member)


def declared_text(declared: Mapping[str, Group]) -> str:
    """Return declared groups as the journal keeps them."""
    return json.dumps({name: plain.encode(group) for name, group in declared.items()})


def _read(cls: type[Any], text: str) -> dict[str, Any]:
    try:
        return {name: plain.decode(cls, one) for name, one in json.loads(text).items()}
    except (ValueError, AttributeError) as error:
        logger.warning("The journal's groups cannot be used: %s", error)
        return {}


def _is_restart(before: Instance, after: Instance) -> bool:
    """Whether its process has ended, or was not to be had, and policy starts it again."""
    lived = not isinstance(before.state, lifecycle.Down | lifecycle.Waiting | lifecycle.Backoff)
    return lived and isinstance(after.state, lifecycle.Waiting | lifecycle.Backoff)


def _is_surrender(before: Instance, after: Instance) -> bool:
    """Whether its policy, which restarts it, has given up."""
    return (
        before.phase is not Phase.FAILED
        and after.phase is Phase.FAILED
        and after.component.restart is not Restart.NEVER
        and after.end is not None
        and after.end.result in (Result.START_LIMIT, Result.SPAWN_ERROR)
    )
