"""From one lock to another: what each instance needs, and the field that causes it."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from orchestrator.model.topology import Apply, Component


class Action(enum.StrEnum):
    """What applying a lock does to an instance."""

    CREATE = "create"
    START = "start"
    KEEP = "keep"
    UPDATE = "update"
    RESTART = "restart"
    REMOVE = "remove"
    ORPHAN = "orphan"


@dataclass(frozen=True, slots=True)
class Operation:
    """One line of a plan: what is done to which instance, and why."""

    slot: str
    name: str
    action: Action
    cause: str

    def __str__(self) -> str:
        return f"{self.action} {self.name}: {self.cause}"


@dataclass(frozen=True, slots=True)
class Present:
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


def difference(old: Component, new: Component) -> tuple[str, ...]:
    """Return the names of the fields in which two components differ."""
    return tuple(
        field.name
        for field in dataclasses.fields(Component)
        if getattr(old, field.name) != getattr(new, field.name)
    )


def needs(fields: Collection[str]) -> Apply:
    """Return what a change of these fields needs on a running instance."""
    metadata = {field.name: field.metadata.get("apply") for field in dataclasses.fields(Component)}
    words = {metadata[name] for name in fields}
    return next((word for word in (Apply.RESTART, Apply.RELOAD) if word in words), Apply.LIVE)


def _operation(slot: str, component: Component, there: Present | None, *, run: bool) -> Operation:
    name = component.name
    if there is None:
        return Operation(slot, name, Action.CREATE, "new" if run else "new, not started")
    if not run:
        return Operation(slot, name, Action.KEEP, "not among those named")
    different = difference(there.component, component)
    changed = tuple(field for field in different if field != "inherited")
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
    cause = ("fields " if len(changed) > 1 else "field ") + ", ".join(changed) + " changed"
    if not there.alive:
        if component.enabled:
            return Operation(slot, name, Action.START, cause)
        return Operation(slot, name, Action.UPDATE, cause)
    if needs(changed) is Apply.LIVE:
        return Operation(slot, name, Action.UPDATE, cause)
    return Operation(slot, name, Action.RESTART, cause)


def _is_scaled_away(component: Component, wanted: Mapping[str, Component]) -> bool:
    return any(other.base == component.base for other in wanted.values())
