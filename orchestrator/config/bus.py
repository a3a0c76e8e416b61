"""Buses: for each address `{bus: true}` that is wired, a component which forwards.

Publishers connect to the part `publish` of such an address, subscribers to `subscribe`; the
component `bus.NAME` binds both. It is supervised like any other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from orchestrator.config import wiring
from orchestrator.config.addresses import BUS_PARTS, Address, Table
from orchestrator.config.components import Lowered, Lowering
from orchestrator.config.document import Declared, Layer
from orchestrator.config.report import Report
from orchestrator.model import plain
from orchestrator.model.topology import Endpoint

SERVICE = "bus"
"""The service that buses belong to."""

_HANDLER = "orchestrator.component.bus"


def components(
    ends: Iterable[wiring.End], taken: Mapping[str, Lowered], table: Table, lowering: Lowering,
    found: Report,
) -> Iterator[Lowered]:  # fmt: skip
    """Yield the bus of every wired bus address; report a component that has its name."""
    wired = {name for end in ends for name, _ in end.sockets.values()}
    seen: dict[str, Address] = {}
    for name, address in table.declared.items():
        if not address.bus or name not in wired:
            continue
        own = {"handler": _HANDLER, "mode": "main", "restart": "always"}
        word = name.lower().replace("_", "-").strip("-")
        layer = Layer(address.entry.source, own)
        made = lowering.lower(
            Declared(SERVICE, word, address.entry, (layer,), (), ()), replicas=None
        )
        if made.base in taken or word in seen:
            other = (
                taken[made.base].declared.place if made.base in taken else seen[word].entry.place
            )
            message = f"the bus of address {name!r} needs the name {made.base!r}, which is taken"
            related = (other.related(f"{made.base!r} is here"),)
            found.error("ORC313", message, address.entry.place, related=related)
            continue
        seen[word] = address
        made.bus = name
        made.config = {part: table.endpoint(name, part) for part in BUS_PARTS}
        if address.terms != Endpoint(bus=True):
            made.config["terms"] = plain.encode(address.terms)
        yield made


def ends(bus: Lowered, table: Table) -> Iterator[wiring.End]:
    """Yield the two ends of a bus."""
    place = table.declared[bus.bus].entry.place
    for direction, (part, _) in zip(("in", "out"), BUS_PARTS.items(), strict=True):
        yield wiring.End(bus, "connections", direction, part, place, {"": (bus.bus, part)})


def models(lowered: Mapping[str, Lowered]) -> dict[str, Any]:
    """Return the models of all buses, as an inspection would answer for them."""
    both = {
        direction: {part: {"type": "bus", "sockets": [socket], "binds": [socket]}}
        for direction, (part, socket) in zip(("in", "out"), BUS_PARTS.items(), strict=True)
    }
    return {base: {"connections": both} for base, one in lowered.items() if one.bus}
