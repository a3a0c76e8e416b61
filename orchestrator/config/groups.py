"""Groups of components that are restarted together: names to members, and what cannot be."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from orchestrator.config import report
from orchestrator.config.components import Lowered
from orchestrator.config.document import Document
from orchestrator.config.report import Place, Report
from orchestrator.model import graph, units
from orchestrator.model.topology import Group, Strategy, Then


def lower(loaded: Document, lowered: Mapping[str, Lowered], found: Report) -> dict[str, Group]:
    """Return the groups by name; report members that are unknown, taken or out of order.

    Dependencies must have been resolved before.
    """
    made: dict[str, Group] = {}
    taken: dict[str, Place] = {}
    for name, entry in loaded.groups.items():
        raw = entry.value
        if not isinstance(raw, dict) or not isinstance(raw.get("components"), list):
            continue  # at fault, which is said
        members: dict[str, Place] = {}
        for number in range(len(raw["components"])):
            place = Place(entry.source, raw["components"], number)
            for base in _targets(name, place, loaded, lowered, found):
                if base in taken:
                    message = f"{base!r} is in a group already"
                    found.error("ORC261", message, place, related=(taken[base].related("here"),))
                    continue
                members[base] = taken[base] = place
        options = {word: convert(raw[word]) for word, convert in _OPTIONS.items() if word in raw}
        made[name] = Group(tuple(members), **options)
        if made[name].strategy is not Strategy.ONE_FOR_ONE:
            _check_order(name, members, lowered, found)
    return made


_OPTIONS: dict[str, Callable[[Any], Any]] = {
    "strategy": Strategy,
    "intensity": int,
    "period": units.parse_duration,
    "then": Then,
}


def _targets(
    name: str,
    place: Place,
    loaded: Document,
    lowered: Mapping[str, Lowered],
    found: Report,
) -> Iterator[str]:
    """Yield the components that a member means: one, or all of a service."""
    word = place.value
    if word in loaded.components:
        if word in lowered:
            yield word
        return
    if word in loaded.services:
        yield from (base for base in lowered if base.partition(".")[0] == word)
        return
    hint = report.did_you_mean(word, [*loaded.services, *lowered])
    message = f"group {name!r} has the member {word!r}, which does not exist"
    found.error("ORC260", message, place, hint=hint)


def _check_order(
    name: str, members: Mapping[str, Place], lowered: Mapping[str, Lowered], found: Report
) -> None:
    """Report two members of which the earlier needs the later, directly or not."""
    needs = {base: tuple(component.depends_on) for base, component in lowered.items()}
    later = [*members]
    for base, place in members.items():
        later.remove(base)
        needed = graph.closure(needs, (base,))
        wrong = next((other for other in later if other in needed), None)
        if wrong is not None:
            message = f"group {name!r} starts {base!r} before {wrong!r}, on which it depends"
            related = (members[wrong].related(f"{wrong!r} is named here"),)
            found.error("ORC262", message, place, related=related)
