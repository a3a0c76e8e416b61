"""From one lock to another: what each instance needs, and the field that causes it."""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from msgspec import Struct

from orchestrator.model.topology import Apply, Component, Job, applies

_NAMED = 5
"""How many changed fields a cause names before it counts the rest."""


class Action(enum.StrEnum):
    """What applying a lock does to an instance."""

    CREATE = "create"
    START = "start"
    KEEP = "keep"
    UPDATE = "update"
    RESTART = "restart"
    REMOVE = "remove"
    ORPHAN = "orphan"


TOLD = frozenset({"config", "configurations", "settings"})
"""Fields whose changes can be told to a component that takes settings while it runs."""

Path = tuple[str, ...]
"""Where in a component something stands: a field's name, then keys into it."""


class Operation(Struct, frozen=True):
    """One line of a plan: what is done to which instance, and why.

    `changed` is where the component differs from the one that runs; empty when something
    else is the cause.
    """

    slot: str
    name: str
    action: Action
    cause: str
    changed: tuple[Path, ...] = ()

    def __str__(self) -> str:
        return f"{self.action} {self.name}: {self.cause}"


class Present(Struct, frozen=True):
    """What is there: a component as it was applied, and whether it is wanted up.

    One that has `ended` has no process and gets none by itself.
    """

    component: Component
    up: bool
    alive: bool
    failed: bool = False
    ended: bool = False


def plan(
    present: Mapping[str, Present],
    wanted: Mapping[str, Component],
    chosen: Collection[str],
    *,
    remove_orphans: bool = False,
) -> tuple[Operation, ...]:
    """Return the operations that lead from `present` to `wanted`, in the order of `wanted`.

    Both mappings are keyed by slot (`service.component@1`). Only the slots in `chosen` are
    to run; the others are created and left as they are.
    """
    operations = [
        _operation(slot, component, present.get(slot), run=slot in chosen)
        for slot, component in wanted.items()
    ]
    for slot, there in present.items():
        if slot in wanted:
            continue
        name = there.component.name
        if _is_scaled_away(there.component, wanted):
            operations.append(Operation(slot, name, Action.REMOVE, "fewer replicas"))
        elif remove_orphans or there.ended:
            operations.append(Operation(slot, name, Action.REMOVE, "no longer in the topology"))
        else:
            cause = "no longer in the topology; --remove-orphans stops it"
            operations.append(Operation(slot, name, Action.ORPHAN, cause))
    return tuple(operations)


def plan_jobs(present: Mapping[str, Job], wanted: Mapping[str, Job]) -> tuple[Operation, ...]:
    """Return what changes about jobs, for runs to come; a job that stays as it is has no line."""
    operations: list[Operation] = []
    for name, job in wanted.items():
        if name not in present:
            operations.append(Operation(name, name, Action.CREATE, "a new job"))
            continue
        different = difference(present[name], job)
        changed = tuple(path for path in different if path[0] != "inherited")
        if changed:
            cause = f"{_told(changed)}, for new runs"
            operations.append(Operation(name, name, Action.UPDATE, cause, changed))
    for name in present:
        if name not in wanted:
            cause = "no longer in the topology; runs that were submitted go on"
            operations.append(Operation(name, name, Action.REMOVE, cause))
    return tuple(operations)


def difference(old: Component | Job, new: Component | Job) -> tuple[Path, ...]:
    """Return where two components or jobs differ: in maps, and in what has fields, how deep."""
    return tuple(_differences(old, new, ()))


def needs(changed: Collection[Path]) -> Apply:
    """Return what such changes need on a running instance."""
    words = {applies().get(path[0]) for path in changed}
    return Apply.RESTART if Apply.RESTART in words else Apply.LIVE


def _differences(old: Any, new: Any, path: Path) -> Iterator[Path]:
    if old == new:
        return
    if isinstance(old, Struct) and type(old) is type(new):
        for name in old.__struct_fields__:
            below = (*path, _WRITTEN.get(name, name))
            yield from _differences(getattr(old, name), getattr(new, name), below)
    elif isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in (*old, *(key for key in new if key not in old)):
            yield from _differences(old.get(key, _ABSENT), new.get(key, _ABSENT), (*path, key))
    else:
        yield path


_WRITTEN = {"inward": "in", "outward": "out"}
"""What files call the fields that no field of Python could be called."""

_ABSENT = object()
"""Equals no value, not even null."""


def _operation(slot: str, component: Component, there: Present | None, *, run: bool) -> Operation:
    name = component.name
    if there is None:
        return Operation(slot, name, Action.CREATE, "new" if run else "new, not started")
    if not run:
        return Operation(slot, name, Action.KEEP, "not among those named")
    different = difference(there.component, component)
    changed = tuple(path for path in different if path[0] != "inherited")
    if not changed:
        if component.enabled and not there.up:
            return Operation(slot, name, Action.START, "was stopped")
        if component.enabled and there.failed:
            return Operation(slot, name, Action.START, "had failed")
        if different:
            # The shell that applies is another one; the topology is the same.
            cause = "inherited variables changed, for its next start"
            return Operation(slot, name, Action.UPDATE, cause)
        return Operation(slot, name, Action.KEEP, "unchanged")
    if not there.alive:
        action = Action.START if component.enabled else Action.UPDATE
    else:
        action = Action.UPDATE if needs(changed) is Apply.LIVE else Action.RESTART
        if action is Action.RESTART and is_told(there.component, component, changed):
            return Operation(
                slot, name, Action.UPDATE, f"{_told(changed)}, told to it while it runs", changed
            )
    return Operation(slot, name, action, _told(changed), changed)


def is_told(old: Component, new: Component, changed: Collection[Path]) -> bool:
    """Tell whether a running component can be told of changes, instead of being restarted."""
    if not (old.takes_settings and new.takes_settings):
        return False
    others = [path for path in changed if path[0] not in TOLD]
    return len(others) < len(changed) and needs(others) is Apply.LIVE


def _told(changed: tuple[Path, ...]) -> str:
    words = [".".join(path) for path in changed[:_NAMED]]
    if len(changed) > _NAMED:
        words.append(f"{len(changed) - _NAMED} more")
    return ("fields " if len(changed) > 1 else "field ") + ", ".join(words) + " changed"


def _is_scaled_away(component: Component, wanted: Mapping[str, Component]) -> bool:
    return any(other.base == component.base for other in wanted.values())
