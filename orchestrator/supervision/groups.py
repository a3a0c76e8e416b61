"""Groups of instances that are restarted together: who goes down, who waits, when to give up.

The rules are those of OTP's supervisors. A member whose process ended and is to be started
again, by its own restart policy, is a restart of the group. More than `intensity` of them
within `period`, and the group gives up. Else the strategy says who is restarted with it: they
are stopped, the last of the list first, and then started in the order of the list, each when
those before it are ready.

What differs from OTP, and why: a member's backoff delays the start of all (a crash loop of one
must not be a crash loop of many); a member that somebody stopped stays down; what is restarted
on request, or because a dependency was, is no failure and concerns nobody else.

A `Standing` holds no process and no timer. It is moved on by looking at the instances again,
so an event that comes twice or not at all cannot leave a member waiting.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from msgspec import Struct, structs

from orchestrator.model import units
from orchestrator.model.phase import Phase
from orchestrator.model.topology import Group, Strategy
from orchestrator.model.units import Instant
from orchestrator.supervision import lifecycle
from orchestrator.supervision.lifecycle import Instance
from orchestrator.supervision.reconcile import Slot

Places = Mapping[str, int]
"""Each member instance's place in the group's list; replicas of one component share theirs."""


class Standing(Struct, frozen=True):
    """How a group is doing.

    `restarts` are the times of those that still count. `stopping` are the members that are
    to go down before any starts, `starting` those that are to be started in order. `gave_up`
    says why the group has given up, and `culprit` is the member that was the last straw.
    """

    restarts: tuple[Instant, ...] = ()
    stopping: tuple[str, ...] = ()
    starting: tuple[str, ...] = ()
    gave_up: str = ""
    culprit: str = ""


def failed(
    name: str,
    group: Group,
    standing: Standing,
    failure: str,
    *,
    slots: Mapping[str, Slot],
    places: Places,
    now: Instant,
    why: str,
) -> Standing:
    """Return the standing after the member `failure` ended and is to be started again.

    One that is being brought down with the others was no cause: it does not count.
    """
    if standing.gave_up or failure in standing.stopping:
        return standing
    restarts = (*(at for at in standing.restarts if now - at < group.period), now)
    if len(restarts) > group.intensity:
        last = slots[failure].instance.component.name
        message = (
            f"group intensity: {name!r} needed {_times(len(restarts))} within "
            f"{units.format_duration(group.period)}, more than {group.intensity}; "
            f"the last: {last} ({why})"
        )
        return _giving_up(message, failure, slots=slots, places=places)
    hit = frozenset(_hit(group.strategy, failure, places))
    if not hit:
        return structs.replace(standing, restarts=restarts)
    stopping = frozenset(
        slot
        for slot in hit
        if slot != failure and slot in slots and is_there(slots[slot].instance)
    )
    return Standing(
        restarts,
        _ordered(stopping.union(standing.stopping), places),
        _ordered(hit.union(standing.starting), places),
    )


def cannot_go_on(
    name: str,
    standing: Standing,
    member: str,
    *,
    slots: Mapping[str, Slot],
    places: Places,
    why: str,
) -> Standing:
    """Return the standing after a member gave up by itself: the group is not whole any more."""
    if standing.gave_up:
        return standing
    who = slots[member].instance.component.name
    return _giving_up(f"group {name!r}: {who} gave up ({why})", member, slots=slots, places=places)


def settled(standing: Standing, slots: Mapping[str, Slot]) -> Standing:
    """Return the standing without the members that are where they were to be brought."""
    stopping = tuple(
        slot for slot in standing.stopping if slot in slots and is_there(slots[slot].instance)
    )
    starting = standing.starting
    if not stopping:
        starting = tuple(
            slot for slot in starting if slot in slots and not _has_started(slots[slot])
        )
    if stopping == standing.stopping and starting == standing.starting:
        return standing
    return structs.replace(standing, stopping=stopping, starting=starting)


def due(standing: Standing, slots: Mapping[str, Slot], places: Places) -> Iterator[str]:
    """Yield the members to be brought down now: the last of the list, those before wait.

    One whose process is just being made is brought down when it is there, and one that nobody
    wants is brought down by whoever does not want it.
    """
    last = max((places.get(slot, 0) for slot in standing.stopping), default=0)
    for slot in standing.stopping:
        there = slots[slot]
        is_up = isinstance(there.instance.state, lifecycle.Starting | lifecycle.Running)
        if is_up and there.up and places.get(slot, 0) == last:
            yield slot


def holds_back(
    standing: Standing, member: str, slots: Mapping[str, Slot], places: Places
) -> str | None:
    """Return the member that must go down, or start, before `member` may start."""
    if member not in standing.starting:
        return None
    if standing.stopping:
        return standing.stopping[-1]
    for other in standing.starting:
        instance = slots[other].instance if other in slots else None
        if instance is None or other == member:
            continue
        if instance.phase is Phase.BACKOFF or places.get(other, 0) < places.get(member, 0):
            return other
    return None


def is_there(instance: Instance) -> bool:
    """Tell whether there is, or will be in a moment, something of it to bring down."""
    return not isinstance(instance.state, lifecycle.Down | lifecycle.Waiting | lifecycle.Backoff)


def _has_started(slot: Slot) -> bool:
    """Whether nobody waits for it: it is ready, or will not come without being asked."""
    phase = slot.instance.phase
    return slot.instance.ready or not slot.up or (phase.is_terminal and phase is not Phase.STOPPED)


def _hit(strategy: Strategy, failure: str, places: Places) -> Iterator[str]:
    """Yield who is restarted when a member fails, itself included; nobody when it is alone."""
    if strategy is Strategy.ONE_FOR_ONE:
        return
    own = places[failure]
    for slot, place in places.items():
        if slot == failure or strategy is Strategy.ONE_FOR_ALL or place > own:
            yield slot


def _giving_up(
    message: str, culprit: str, *, slots: Mapping[str, Slot], places: Places
) -> Standing:
    stopping = (slot for slot in places if slot in slots and is_there(slots[slot].instance))
    return Standing(stopping=_ordered(stopping, places), gave_up=message, culprit=culprit)


def _ordered(slots: Iterable[str], places: Places) -> tuple[str, ...]:
    members = frozenset(slots)
    return tuple(slot for slot in places if slot in members)


def _times(count: int) -> str:
    return "1 restart" if count == 1 else f"{count} restarts"
