"""The edges of a lock: who sends to whom, and who waits for whom.

Wires are found by their endpoints alone: what one component's outward end and another's
inward end have in common.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from orchestrator.model.topology import Component, Json, Lock


class Wire(Struct, frozen=True):
    """An edge that data goes along, between components whatever their instances.

    `kind` is `connection` or `state`; `source_end` and `target_end` are what each calls it.
    """

    kind: str
    source: str
    source_end: str
    target: str
    target_end: str


class Need(Struct, frozen=True):
    """An edge of the start order: `name` waits until `on` meets the condition."""

    name: str
    on: str
    condition: str


class Node(Struct, frozen=True):
    """A component with how many instances it has and whether anything is sent to it.

    One that nothing is sent to, but which sends, begins what happens: a leading edge.
    """

    name: str
    replicas: int
    mode: str
    is_leading: bool


class Edges(Struct, frozen=True):
    """A whole system as a graph, in the order of the topology."""

    nodes: tuple[Node, ...]
    wires: tuple[Wire, ...]
    needs: tuple[Need, ...]


def edges(lock: Lock) -> Edges:
    """Return the graph of a lock; linear in the number of ends."""
    firsts: dict[str, Component] = {}
    inward: dict[tuple[str, str], dict[tuple[str, str], None]] = {}
    outward: dict[tuple[str, str, str, str], None] = {}
    for component in lock.components.values():
        firsts.setdefault(component.base, component)
        for kind, wiring in (
            ("connection", component.connections),
            ("state", component.states),
        ):
            for end, value in wiring.inward.items():
                for endpoint in _endpoints(value):
                    inward.setdefault((kind, endpoint), {})[component.base, end] = None
            for end, value in wiring.outward.items():
                for endpoint in _endpoints(value):
                    outward[kind, endpoint, component.base, end] = None
    wires = dict.fromkeys(
        Wire(kind, source, source_end, target, target_end)
        for kind, endpoint, source, source_end in outward
        for target, target_end in inward.get((kind, endpoint), ())
    )
    reached = {target for ends in inward.values() for target, _ in ends}
    senders = {source for _, _, source, _ in outward}
    return Edges(
        tuple(
            Node(
                base,
                one.replicas,
                "command" if not one.has_runtime else one.mode.value,
                base in senders and base not in reached,
            )
            for base, one in firsts.items()
        ),
        tuple(wires),
        tuple(_needs(firsts)),
    )


def _needs(firsts: dict[str, Component]) -> Iterator[Need]:
    members: dict[str, list[str]] = {}
    for base, component in firsts.items():
        members.setdefault(base, []).append(base)
        members.setdefault(component.service, []).append(base)
    for base, component in firsts.items():
        for word, dependency in component.depends_on.items():
            for other in dict.fromkeys(members.get(word, ())):
                if other != base:
                    yield Need(base, other, dependency.condition.value)


def _endpoints(value: Json) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for one in value:
            yield from _endpoints(one)
    elif isinstance(value, dict):
        for one in value.values():
            yield from _endpoints(one)
