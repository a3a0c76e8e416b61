"""Who belongs to whom, and who needs whom: what follows from the declarations alone.

Made anew when the slots change, and read at every step.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Self

from msgspec import Struct, field

from orchestrator.supervision.reconcile import Slot


class Relations(Struct, frozen=True):
    """The relations of slots, which stand in their order; who has none is in no mapping.

    Attributes:
        members: The slots of each component (`service.component`) and of each service.
        needs: Those that a slot depends on.
        dependents: Those that depend on a slot.
    """

    members: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    needs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    dependents: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, slots: Mapping[str, Slot]) -> Self:
        """Return the relations of these slots."""
        members: dict[str, list[str]] = {}
        for slot, there in slots.items():
            component = there.instance.component
            members.setdefault(component.base, []).append(slot)
            members.setdefault(component.service, []).append(slot)
        needs: dict[str, tuple[str, ...]] = {}
        dependents: dict[str, list[str]] = {}
        for slot, there in slots.items():
            targets = there.instance.component.depends_on
            if not targets:
                continue
            needs[slot] = tuple(
                other for target in targets for other in members.get(target, ()) if other != slot
            )
            for other in needs[slot]:
                dependents.setdefault(other, []).append(slot)
        return cls(_tuples(members), needs, _tuples(dependents))

    def closure(self, names: Iterable[str]) -> frozenset[str]:
        """Return the named slots and all they depend on."""
        seen: set[str] = set()
        todo = list(names)
        while todo:
            slot = todo.pop()
            if slot not in seen:
                seen.add(slot)
                todo.extend(self.needs.get(slot, ()))
        return frozenset(seen)

    def users(
        self, names: Collection[str], slots: Mapping[str, Slot]
    ) -> dict[str, tuple[str, ...]]:
        """Return by slot, of those named that run, who else runs and depends on it."""
        chosen = frozenset(names)
        found = {}
        for slot in names:
            if slots[slot].instance.process is None:
                continue
            users = tuple(
                user
                for user in self.dependents.get(slot, ())
                if user not in chosen and slots[user].instance.process is not None
            )
            if users:
                found[slot] = users
        return found


def _tuples(lists: Mapping[str, list[str]]) -> dict[str, tuple[str, ...]]:
    return {name: tuple(each) for name, each in lists.items()}
