"""Mistakes of meaning that need no handler code: dependencies, references, idle options."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from orchestrator.config import addresses, interpolate, report, surroundings
from orchestrator.config.addresses import Table
from orchestrator.config.components import Lowered
from orchestrator.config.document import Document
from orchestrator.config.interpolate import BadReference
from orchestrator.config.report import Place, Report
from orchestrator.model import graph
from orchestrator.model.topology import Condition, Dependency, Mode, Reload, Restart


def dependencies(loaded: Document, lowered: Mapping[str, Lowered], found: Report) -> None:
    """Resolve every `depends_on` to components; report unknown names and cycles."""
    edges: dict[str, dict[str, Place]] = {base: {} for base in lowered}
    for base, component in lowered.items():
        raw = component.declared.own.get("depends_on")
        if not raw:
            continue
        keys: list[Any] = list(raw if isinstance(raw, dict) else range(len(raw)))
        for key in keys:
            word = key if isinstance(raw, dict) else raw[key]
            place = Place(component.declared.owner.source, raw, key, at_key=True)
            meant = _dependency(raw[key]) if isinstance(raw, dict) else Dependency()
            for target in _targets(word, component, loaded, lowered, place=place, found=found):
                component.depends_on[target] = meant
                edges[base][target] = place
                _check_reachable(component, lowered[target], meant, place, found)
    for cycle in graph.cycles(edges):
        _report_cycle(cycle, edges, found)


def _dependency(raw: Any) -> Dependency:
    return Dependency(
        Condition(raw.get("condition", "ready")),
        raw.get("required", True),
        raw.get("restart", False),
    )


def _targets(
    word: str,
    component: Lowered,
    loaded: Document,
    lowered: Mapping[str, Lowered],
    *,
    place: Place,
    found: Report,
) -> tuple[str, ...]:
    """Return the components that a dependency means: one, or all others of a service."""
    beside = f"{component.declared.service}.{word}"
    for base in (beside, word):
        if base in lowered:
            return (base,)
        if base in loaded.components:
            return ()  # declared, and at fault
    if word in loaded.services:
        all_of = [base for base in lowered if base.partition(".")[0] == word]
        return tuple(base for base in all_of if base != component.base)
    near = [
        base.partition(".")[2]
        for base in lowered
        if base.partition(".")[0] == component.declared.service
    ]
    hint = report.did_you_mean(word, [*near, *loaded.services, *lowered])
    message = f"{component.base!r} depends on {word!r}, which does not exist"
    found.error("ORC200", message, place, hint=hint)
    return ()


def _report_cycle(
    cycle: tuple[str, ...], edges: Mapping[str, Mapping[str, Place]], found: Report
) -> None:
    first = edges[cycle[0]][cycle[1 % len(cycle)]]
    if len(cycle) == 1:
        found.error("ORC201", f"{cycle[0]!r} depends on itself", first)
        return
    path = " → ".join((*cycle, cycle[0]))
    related = [
        edges[name][following].related(f"{name!r} needs {following!r} here")
        for name, following in zip(cycle[1:], (*cycle[2:], cycle[0]), strict=True)
    ]
    found.error("ORC201", f"dependencies go in a circle: {path}", first, related=related)


def _check_reachable(
    component: Lowered, target: Lowered, meant: Dependency, place: Place, found: Report
) -> None:
    if not target.enabled and component.enabled:
        message = f"{component.base!r} waits for {target.base!r}, which is not enabled"
        found.warn(
            "ORC202", message, place, related=(target.declared.place.related("declared here"),)
        )
    completes = meant.condition in {Condition.COMPLETED, Condition.COMPLETED_SUCCESSFULLY}
    if completes and target.options.get("restart") is Restart.ALWAYS:
        message = (
            f"{component.base!r} waits for the end of {target.base!r}, which is always restarted"
        )
        found.warn(
            "ORC202", message, place, related=(target.declared.place.related("declared here"),)
        )


def references(loaded: Document, table: Table, found: Report) -> frozenset[str]:
    """Check the addresses named in texts; return the names that any text mentions."""
    mentioned: set[str] = set()
    for templated in loaded.templates:
        seen: dict[str, int] = {}
        for reference in interpolate.references(templated.text):
            if reference.namespace != "addresses":
                continue
            nth = seen[reference.text] = seen.get(reference.text, -1) + 1
            mentioned.add(reference.rest.partition(".")[0])
            try:
                resolve_address(reference.rest, reference.text, table, 1)
            except BadReference as error:
                place = templated.place.of(reference.text, nth)
                found.error(error.code, error.message, place, hint=error.hint)
    return frozenset(mentioned)


def resolve_address(rest: str, text: str, table: Table, instances: int) -> str:
    """Return what `${addresses.REST}` means; several endpoints are joined by commas.

    Raises:
        BadReference: The address has no such part, or no host and port.
    """
    name, *steps = rest.split(".")
    if name in table.broken:
        return ""
    address = table.declared[name]
    part = steps.pop(0) if steps and steps[0] in address.parts else ""
    attribute = steps.pop(0) if steps and steps[0] in {"host", "port"} else ""
    parts = [known for known in address.parts if known]
    if steps:
        choices = [*parts, "host", "port"]
        hint = report.did_you_mean(steps[0], choices) or f"it has {report.listed(choices)}"
        raise BadReference("ORC023", f"address {name!r} has no {steps[0]!r}", text, hint)
    if part not in address.parts:
        hint = f"name one: {report.listed(f'{name}.{known}' for known in parts)}"
        raise BadReference("ORC023", f"address {name!r} has several parts", text, hint)
    endpoints = [table.endpoint(name, part, number + 1) for number in range(instances)]
    if not attribute:
        return ",".join(endpoints)
    if not endpoints[0].startswith("tcp://"):
        hint = "write auto:tcp for a loopback port" if address.parts[part].is_auto else ""
        raise BadReference(
            "ORC023", f"address {name!r} is {endpoints[0]}, without a {attribute}", text, hint
        )
    pairs = [addresses.parse_host_port(one.removeprefix("tcp://")) for one in endpoints]
    return ",".join(str(port) if attribute == "port" else host for host, port in pairs)


def _reloading(component: Lowered, found: Report) -> None:
    own, declared = component.declared.own, component.declared
    how = component.options["reload"]
    if how is Reload.HOT and component.handler is None and component.service_class is None:
        message = "`reload: hot` is for handlers and classes: a command's code is its own"
        hint = "write restart, or signal if it reads its files anew on one"
        found.error("ORC330", message, declared.at("reload"), hint=hint)
    elif how is Reload.HOT and component.mode is Mode.MAIN:
        message = "`reload: hot` has no effect with `mode: main`: what runs is not exchanged"
        found.warn("ORC331", message, declared.at("reload"), hint="write restart")
    if how is Reload.NONE and own.get("watch"):
        message = "`watch` has no effect with `reload: none`"
        found.warn("ORC109", message, declared.at("watch"))
    if how is not Reload.SIGNAL and "reload_signal" in own:
        message = "`reload_signal` has no effect without `reload: signal`"
        found.warn("ORC109", message, declared.at("reload_signal"))


def _by_kind(component: Lowered, found: Report) -> None:
    """Warn of options that have no effect on a component of its kind."""
    own, declared = component.declared.own, component.declared
    for name in ("keep_alive", "manifests"):
        if name in own and component.service_class is None:
            found.warn("ORC109", f"`{name}` has no effect without `class`", declared.at(name))
    if "concurrency" in own and component.handler is None:
        message = "`concurrency` has no effect without `handler`"
        found.warn("ORC109", message, declared.at("concurrency"))
    elif "concurrency" in own and component.mode is Mode.MAIN:
        message = "`concurrency` has no effect with `mode: main`: nothing comes in"
        found.warn("ORC109", message, declared.at("concurrency"))
    if component.service_class is not None:
        for layer in declared.configs:
            surroundings.switches(layer.source, layer.fields, found)
    if not component.command and "settle" in own:
        message = "`settle` has no effect: it tells when it is ready"
        found.warn("ORC109", message, declared.at("settle"))


def effects(loaded: Document, lowered: Mapping[str, Lowered], found: Report) -> None:
    """Warn of options that change nothing, and of words that other tools read otherwise."""
    for component in lowered.values():
        own, declared = component.declared.own, component.declared
        if component.options["restart"] is Restart.NEVER:
            for name in ("backoff", "limit"):
                if name in own:
                    message = f"`{name}` has no effect with `restart: never`"
                    found.warn("ORC109", message, declared.at(name))
        ready, kept = component.options.get("ready"), component.options.get("logs")
        if ready is not None and ready.log is not None and kept and not kept.capture:
            message = "`ready.log` can never match: `capture: false` keeps no output"
            found.error("ORC241", message, declared.at("ready", "log"))
        _reloading(component, found)
        _by_kind(component, found)
    for setting in loaded.settings.values():
        raw = setting.entry.value
        if isinstance(raw, dict) and "default" in raw:
            place = setting.entry.place
            if raw.get("required"):
                message = f"`required` has no effect: setting {setting.name!r} has a default"
                found.warn("ORC109", message, place)
            if setting.secret:
                message = f"the secret {setting.name!r} is written in this file"
                found.warn(
                    "ORC110", message, place, hint="make it required, and give it from outside"
                )
    _traps(loaded, found)


def _traps(loaded: Document, found: Report) -> None:
    if not any(one.traps for one in loaded.sources):
        return
    inside: set[int] = set()
    for component in loaded.components.values():
        for layer in component.configs:
            _containers(layer.fields, inside)
    for one in loaded.sources:
        for trap in one.traps:
            if id(trap.container) not in inside:
                continue
            place = Place(one, trap.container, trap.key)
            if trap.text[-1].isdigit():
                said, other = "a leading zero makes it text here", "an octal number"
            else:
                said, other = f"{trap.text} is text in YAML 1.2", "a boolean"
            hint = "put it in quotes if it is text, else write " + (
                str(int(trap.text)) if trap.text[-1].isdigit()
                else "true" if trap.text.lower() in {"on", "yes"} else "false"
            )  # fmt: skip
            found.warn("ORC006", f"{said}, and {other} to other tools", place, hint=hint)


def _containers(value: Any, found: set[int]) -> None:
    if isinstance(value, (dict, list)) and id(value) not in found:
        found.add(id(value))
        for item in value.values() if isinstance(value, dict) else value:
            _containers(item, found)


def presence(loaded: Document, unreadable: Collection[str], found: Report) -> None:
    """Report a topology that declares nothing to run."""
    if loaded.services or unreadable or not isinstance(loaded.root.value, dict):
        return
    place = Place(loaded.root, loaded.root.value, "services", at_key=True)
    found.error(
        "ORC103", "the topology declares no services", place, hint="a topology has `services`"
    )
