"""Wanted against observed: which instance may start now, and which may stop.

Level-triggered: the answers depend on how things stand, never on how they came about, so a
lost or repeated event cannot leave anything behind.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from msgspec import Struct

from orchestrator.model.phase import Phase
from orchestrator.model.topology import Condition, Dependency
from orchestrator.supervision.lifecycle import Instance


class Slot(Struct, frozen=True):
    """An instance and what is wanted of it.

    `alone`: its start does not wait for dependencies that are not wanted (`up --no-deps`).
    """

    instance: Instance
    up: bool = False
    alone: bool = False


class Clear(Struct, frozen=True):
    """It may start. `warnings` tell of optional dependencies that failed."""

    warnings: tuple[str, ...] = ()


class Wait(Struct, frozen=True):
    """It must wait: `message` says for what."""

    message: str


class Never(Struct, frozen=True):
    """It cannot start any more: `message` says why, `culprit` is the instance to look at."""

    message: str
    culprit: str


Verdict = Clear | Wait | Never


def may_start(
    name: str, slots: Mapping[str, Slot], members: Mapping[str, Iterable[str]]
) -> Verdict:
    """Tell whether the waiting instance `name` may start.

    Args:
        name: The instance that waits.
        slots: All slots by instance name.
        members: The instance names of each component and each service.
    """
    own = slots[name].instance.component.name
    warnings: list[str] = []
    waits: list[str] = []
    for other, dependency, verdict in unmet(name, slots, members):
        match verdict:
            case Wait(message):
                waits.append(message)
            case Never(message) if dependency.required:
                return Never(f"cannot start {own!r}: {message}", other)
            case Never(message):
                warnings.append(f"starts without its optional dependency: {message}")
    if waits:
        return Wait("waiting for " + ", ".join(waits))
    return Clear(tuple(warnings))


def unmet(
    name: str, slots: Mapping[str, Slot], members: Mapping[str, Iterable[str]]
) -> Iterator[tuple[str, Dependency, Wait | Never]]:
    """Yield each instance that `name` cannot start without yet, and the verdict on it."""
    slot = slots[name]
    for target, dependency in slot.instance.component.depends_on.items():
        for other in members.get(target, ()):
            if other == name:
                continue
            verdict = _judge(slots[other], dependency, alone=slot.alone)
            if not isinstance(verdict, Clear):
                yield other, dependency, verdict


def may_stop(
    name: str, slots: Mapping[str, Slot], dependents: Mapping[str, Iterable[str]]
) -> bool:
    """Tell whether nothing that also goes down still needs `name`."""
    return not any(
        not slots[other].up and not slots[other].instance.phase.is_terminal
        for other in dependents.get(name, ())
        if other in slots
    )


def _judge(slot: Slot, dependency: Dependency, *, alone: bool) -> Verdict:
    instance = slot.instance
    name = instance.component.name
    phase = instance.phase
    condition = dependency.condition
    if _holds(instance, condition):
        return Clear()
    if alone and not slot.up:
        return Clear()
    if phase is Phase.DISABLED:
        return Never(f"{name!r} is disabled", instance.component.slot)
    if phase is Phase.FAILED:
        return Never(f"{name!r} failed{_why(instance)}", instance.component.slot)
    if phase is Phase.EXITED and condition is Condition.READY:
        return Never(
            f"{name!r} has ended{_why(instance)} and cannot become ready", instance.component.slot
        )
    if phase is Phase.STOPPED and not slot.up:
        return Wait(f"{name} ({condition}), which is stopped: orch start {name}")
    return Wait(f"{name} ({condition})")


def _holds(instance: Instance, condition: Condition) -> bool:
    phase = instance.phase
    match condition:
        case Condition.STARTED:
            lives = instance.process is not None and phase is not Phase.STOPPING
            return lives or phase is Phase.EXITED
        case Condition.READY:
            return instance.ready
        case Condition.COMPLETED:
            return instance.generation > 0 and phase in (Phase.EXITED, Phase.FAILED)
        case Condition.COMPLETED_SUCCESSFULLY:
            return phase is Phase.EXITED


def _why(instance: Instance) -> str:
    end = instance.end
    if end is None:
        return ""
    if end.message:
        return f" ({end.message})"
    return f" ({end.exit})" if end.exit else f" ({end.result})"
