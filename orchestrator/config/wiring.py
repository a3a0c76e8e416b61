"""Both ends of every edge: who binds, who connects, and whether they understand each other.

Without handler code only the shape can be judged: an address needs somebody inward and
somebody outward, and several on both sides cannot all be served by one binder. With the
handlers' models it is known which socket binds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct, field

from orchestrator.config import addresses, environment, report, valuesfile
from orchestrator.config.addresses import Address, Table
from orchestrator.config.components import Lowered
from orchestrator.config.document import Declared
from orchestrator.config.interpolate import Template
from orchestrator.config.report import Place, Report
from orchestrator.config.source import Span
from orchestrator.model.topology import Mode

Model = Mapping[str, Any]
"""What the inspection of a handler answered."""

Spot = tuple[str, str]
"""An address and a part of it ('' for the only one)."""

_LOADING = re.compile(r"^cannot load the \w+[^:]*: ")

_FAULTS = {
    "configuration": "ORC437",
    "import": "ORC450",
    "COMPONENT": "ORC451",
    "wrong": "ORC452",
    "Mock": "ORC454",
    "admin": "ORC455",
}
"""What is wrong with a package: its import, what is missing in it, or what that is."""

_PAIRS = {
    "replyer": ("requester",),
    "requester": ("replyer",),
    "publisher": ("subscriber", "x_subscriber"),
    "subscriber": ("publisher", "x_publisher"),
    "x_subscriber": ("publisher",),
    "x_publisher": ("subscriber",),
}
"""Which sockets speak with each other; those of a bus begin with x_."""

_STATE_PARTS = {
    "in": {"subscriber": "data", "requester": "snapshot"},
    "out": {"publisher": "data", "replyer": "snapshot"},
}
"""Which part of an address `{data, snapshot}` each socket of a state uses."""
_BESIDE_SOCKETS = ("address", "persist")

_ELSEWHERE = "say that it lives elsewhere: `{address: ENDPOINT, external: true}`"


class End(Struct, frozen=True):
    """A wired end of a component. `sockets` maps socket names, '' while unknown, to spots.

    `persist` says where an outward state outlives its component.
    """

    component: Lowered
    group: str
    direction: str
    name: str
    place: Place
    sockets: Mapping[str, Spot]
    persist: str | None = None

    @property
    def label(self) -> str:
        """The end as messages name it."""
        return f"{self.component.base} {self.group}.{self.direction}.{self.name}"


class Plug(Struct, frozen=True):
    """One socket of an end whose model is known."""

    end: End
    socket: str
    spot: Spot
    binds: bool
    topic: str | None = None


class Wired(Struct):
    """What is known of the edges: the ends, and with models the plugs at each spot."""

    ends: list[End] = field(default_factory=list)
    plugs: dict[Spot, list[Plug]] = field(default_factory=dict)
    by_end: dict[tuple[str, str, str, str], list[Plug]] = field(default_factory=dict)

    def binders(self, spot: Spot) -> int:
        """Return how many instances bind at a spot; 1 where it is not known."""
        for plug in self.plugs.get(spot, ()):
            if plug.binds:
                return plug.end.component.replicas
        return 1

    def subscribers(self, spot: Spot, *topic: str | None) -> int:
        """Return how many instances subscribe at a spot, to a topic when one is given."""
        return sum(
            plug.end.component.replicas
            for plug in self.plugs.get(spot, ())
            if plug.socket == "subscriber"
            and plug.end.component.enabled
            and (not topic or plug.topic == topic[0])
        )


def ends(lowered: Mapping[str, Lowered], table: Table, found: Report) -> list[End]:
    """Return the wired ends of all components; report references to what is no address."""
    made: list[End] = []
    for component in lowered.values():
        declared = component.declared
        for group in ("connections", "states"):
            for direction, name, raw, holder in _declared_ends(declared, group):
                place = Place(declared.owner.source, holder, name)
                if component.mode is Mode.MAIN and direction == "in":
                    message = f"{component.base!r} is in main mode, which takes nothing in"
                    found.error(
                        "ORC221",
                        message,
                        place.of_key(),
                        hint="leave `mode: main` out, or this end",
                    )
                sockets = _sockets(raw, group, direction, table, place=place, found=found)
                persist = _persist(raw, group, direction, place, found)
                if sockets is not None:
                    made.append(End(component, group, direction, name, place, sockets, persist))
    return made


def _persist(raw: Any, group: str, direction: str, place: Place, found: Report) -> str | None:
    if not isinstance(raw, dict) or "persist" not in raw:
        return None
    at = Place(place.source, raw, "persist")
    if (group, direction) != ("states", "out"):
        message = f"{group}.{direction}.{place.key} keeps nothing that could be persisted"
        hint = "`persist` belongs to the outward end of a state: its source"
        found.error("ORC300", message, at.of_key(), hint=hint)
    # As it is: a text may have references, which are known later.
    persist: str = raw["persist"]
    return persist


def _declared_ends(
    declared: Declared, group: str
) -> Iterator[tuple[str, str, Any, dict[str, Any]]]:
    raw = declared.own.get(group)
    for direction in ("in", "out"):
        holder: dict[str, Any] = (raw.get(direction) if isinstance(raw, dict) else None) or {}
        for name, value in holder.items():
            yield direction, name, value, holder


def _sockets(
    raw: Any, group: str, direction: str, table: Table, *, place: Place, found: Report
) -> dict[str, Spot] | None:
    if isinstance(raw, dict):
        given = {socket: word for socket, word in raw.items() if socket not in _BESIDE_SOCKETS}
        if "address" not in raw:
            return _named_sockets(raw, given, table, place, found)
        if given:
            socket = next(iter(given))
            at = Place(place.source, raw, socket).of_key()
            found.error("ORC104", f"`address` wires all sockets, {socket!r} too", at)
            return None
        place, raw = Place(place.source, raw, "address"), raw["address"]
    meant = addresses.refer(raw, table, place, found)
    if meant is None:
        return None
    address, part = meant
    if address.bus and not part and group == "connections":
        return {"": (address.name, "publish" if direction == "out" else "subscribe")}
    if part in address.parts:
        return {"": (address.name, part)}
    if group == "connections" or "data" not in address.parts:
        _report_parts(address, f"the end {place.key!r}", place, found)
        return None
    return {
        socket: (address.name, known)
        for socket, known in _STATE_PARTS[direction].items()
        if known in address.parts
    }


def _named_sockets(
    raw: dict[str, Any], given: Mapping[str, Any], table: Table, place: Place, found: Report
) -> dict[str, Spot] | None:
    sockets: dict[str, Spot] = {}
    for socket, word in given.items():
        at = Place(place.source, raw, socket)
        meant = addresses.refer(word, table, at, found)
        if meant is None:
            return None
        if meant[1] not in meant[0].parts:
            _report_parts(meant[0], f"the {socket} socket", at, found)
            return None
        sockets[socket] = (meant[0].name, meant[1])
    if not sockets:
        hint = "add `address: NAME`"
        found.error("ORC103", f"no address wires the end {place.key!r}", place, hint=hint)
        return None
    return sockets


def _report_parts(address: Address, who: str, place: Place, found: Report) -> None:
    named = report.listed(f"{address.name}.{part}" for part in address.parts)
    message = f"address {address.name!r} has several parts, and {who} needs one endpoint"
    found.error("ORC219", message, place, hint=f"name one of {named}" if named else "")


def check_shape(
    every: Iterable[End], table: Table, mentioned: frozenset[str], *, complete: bool, found: Report
) -> None:
    """Judge what can be judged without models: someone at both ends, no two binders.

    `mentioned` addresses are used by texts too, so that their other end may be any program.
    With `complete` false some components are at fault, and no end can be called missing.
    """
    sides: dict[Spot, dict[str, list[End]]] = {}
    for end in every:
        for spot in end.sockets.values():
            sides.setdefault(spot, {"in": [], "out": []})[end.direction].append(end)
        for name in {name for name, _ in end.sockets.values()}:
            _check_clear(end, table.declared[name], found)
            _check_reach(end, table.declared[name], found)
    for name, address in table.declared.items():
        used = [spot for spot in sides if spot[0] == name]
        if not used and name not in mentioned and not address.external and complete:
            found.warn("ORC220", f"nothing uses the address {name!r}", address.entry.place)
        for spot in used:
            inward, outward = sides[spot]["in"], sides[spot]["out"]
            free = address.external or name in mentioned or not complete
            if not (inward and outward) and not free:
                _report_alone(inward or outward, addresses.label_of(*spot), found)
            elif len(inward) > 1 and len(outward) > 1:
                _report_crowd(inward, outward, addresses.label_of(*spot), found)


def _check_clear(end: End, address: Address, found: Report) -> None:
    if (
        address.insecure
        or address.terms.curve
        or all(meant.is_local for meant in address.parts.values())
    ):
        return
    message = (
        f"{end.label} would speak in clear text beyond this machine, at address {address.name!r}"
    )
    hint = (
        "encrypt it: {address: …, curve: true}, with keys of `orch init --keys`; "
        "or use a loopback host; or write {address: …, insecure: true}"
    )
    where = address.place(next(iter(address.parts))).related("the address")
    found.error("ORC224", message, end.place, hint=hint, related=(where,))


def _check_reach(end: End, address: Address, found: Report) -> None:
    """Report a component of another user at an address in the runtime directory, which is ours."""
    user = end.component.options.get("user")
    if user is None or isinstance(user, Template) or environment.is_own_user(user):
        return
    if any(meant.scheme == "auto" for meant in address.parts.values()):
        message = (
            f"{end.label} runs as {user!r}, who cannot reach the address {address.name!r}: "
            "its socket lies in the private runtime directory"
        )
        where = address.place(next(iter(address.parts))).related("the address")
        hint = "write the address as auto:tcp, a loopback port"
        found.error("ORC225", message, end.place, hint=hint, related=(where,))


def _report_alone(present: list[End], label: str, found: Report) -> None:
    side, other = ("inward", "outward") if present[0].direction == "in" else ("outward", "inward")
    who = report.listed(end.label for end in present)
    message = f"nobody is at the other end of {label!r}: {who} is {side}, nothing is {other}"
    hint = f"wire a component to it, or {_ELSEWHERE}"
    found.error("ORC214", message, present[0].place, hint=hint)


def _report_crowd(inward: list[End], outward: list[End], label: str, found: Report) -> None:
    related = [end.place.related(f"{end.label}") for end in (*inward[1:], *outward)]
    message = (
        f"{label!r} has {len(inward)} inward and {len(outward)} outward ends: "
        "on one side they bind, and only one can"
    )
    found.error(
        "ORC215", message, inward[0].place, hint="use an address for each", related=related
    )


def connect(
    every: Iterable[End], models: Mapping[str, Model], table: Table, mentioned: frozenset[str],
    found: Report,
) -> Wired:  # fmt: skip
    """Judge the ends by the handlers' models, and return the sockets that meet at each spot."""
    wired = Wired(list(every))
    unknown: set[Spot] = set()
    for end in wired.ends:
        model = models.get(end.component.base)
        if model is None or model.get("error"):
            unknown.update(end.sockets.values())
            continue
        plugs = _plugs(end, model, table, found)
        if plugs is None:
            unknown.update(end.sockets.values())
            continue
        wired.by_end[end.component.base, end.group, end.direction, end.name] = plugs
        for plug in plugs:
            wired.plugs.setdefault(plug.spot, []).append(plug)
    for spot, plugs in wired.plugs.items():
        if spot not in unknown:
            _check_spot(spot, plugs, table, free=spot[0] in mentioned, found=found)
    return wired


def check_models(
    lowered: Mapping[str, Lowered], models: Mapping[str, Model], found: Report
) -> None:
    """Judge each handler by its own model: it imports, has its main, and its ends are wired."""
    _check_names(lowered, models, found)
    for component in lowered.values():
        model = models.get(component.base)
        if model is None or component.bus:
            continue
        if error := model.get("error"):
            for one in error.get("each") or (error,):
                _report_import(component, {**error, **one}, found)
            continue
        if component.handler is None:
            continue
        if component.mode is Mode.MAIN and not model.get("main"):
            message = f"{component.base!r} is in main mode, but its handler has no function `main`"
            found.error("ORC221", message, component.declared.at("mode"))
        if component.mode is Mode.SERVICE and model.get("main") and not _is_reached(model):
            message = (
                f"nothing reaches {component.base!r}, and its function `main` is only called in "
                "main mode"
            )
            found.warn(
                "ORC221", message, component.declared.at("handler"), hint="add `mode: main`"
            )
        _check_concurrency(component, model, found)
        for group in ("connections", "states"):
            for direction in ("in", "out"):
                _check_unwired(component, group, direction, model, found)


def _check_concurrency(component: Lowered, model: Model, found: Report) -> None:
    """Warn of a `concurrency` that none of the functions makes use of."""
    if component.options.get("concurrency", 1) == 1 or component.mode is Mode.MAIN:
        return
    inward = model.get("connections", {}).get("in", {})
    if any(end.get("is_async") for end in inward.values()):
        return
    message = f"`concurrency` has no effect: no function of {component.base!r} is `async`"
    names = [f"{end['function']!r}" for end in inward.values() if end.get("function")]
    one = f" of {' or '.join(names)}" if names else ""
    hint = f"write `async def` for those{one} that wait for something, or leave it out"
    found.warn("ORC439", message, component.declared.at("concurrency"), hint=hint)


def _check_names(
    lowered: Mapping[str, Lowered], models: Mapping[str, Model], found: Report
) -> None:
    """Judge the packages: two of one service must not hold components of one name."""
    first: dict[str, Lowered] = {}
    for component in lowered.values():
        declared = models.get(component.base, {}).get("declared")
        if not declared or component.package is None:
            continue
        other = first.setdefault(f"{component.declared.service}/{declared}", component)
        if other.package != component.package:
            place, there = component.declared.at("package"), other.declared.at("package")
            message = f"{component.package} and {other.package} both hold a component {declared!r}"
            related = (there.related(f"{other.package} is here"),)
            hint = "give one of them another name in its COMPONENT"
            found.error("ORC453", message, place, hint=hint, related=related)


def _is_reached(model: Model) -> bool:
    return any(model.get(group, {}).get("in") for group in ("connections", "states"))


def _check_unwired(
    component: Lowered, group: str, direction: str, model: Model, found: Report
) -> None:
    raw = component.declared.own.get(group)
    given = raw.get(direction) or {} if isinstance(raw, dict) else {}
    for name, end in model.get(group, {}).get(direction, {}).items():
        if component.mode is Mode.MAIN and direction == "in":
            message = (
                f"{component.base!r} is in main mode, but its handler declares {group}.in.{name}"
            )
            found.error("ORC221", message, component.declared.at("mode"))
        elif name not in given and end.get("sockets") and found.whole:
            line = f", line {end['line']} of its handler" if end.get("line") else ""
            what = f"{group}.{direction}.{name} ({end['type']}{line})"
            message = f"{component.base!r} declares {what}, which is not wired"
            hint = f"add {group}: {{{direction}: {{{name}: ADDRESS}}}}"
            found.error("ORC218", message, component.declared.at(group), hint=hint)


def _report_import(component: Lowered, error: Mapping[str, Any], found: Report) -> None:
    """Report at the line of the handler that failed, where that is known, else at its name."""
    kind = next(one for one in ("handler", "package", "class") if one in component.declared.own)
    place = component.declared.at(kind)
    # What comes from the loader begins with these words, and with the file where it knows it.
    said = _LOADING.sub("", str(error.get("message") or "it failed").strip())
    message = f"cannot load the {kind} of {component.base!r}: {said}"
    name = _FAULTS.get(str(error.get("fault")), "ORC222")
    file, line = error.get("file"), error.get("line")
    code = valuesfile.code(Path(str(file))) if file and line else None
    if code is None or not 0 < int(line or 0) <= len(code.starts()):
        # What is no text has no lines to show.
        where = f" ({report.shown_path(str(file))}:{line})" if file and line else ""
        found.error(name, message + where, place)
        return
    span = valuesfile.line_span(code, int(line or 0)) or Span(0, 0)
    related = (place.related(f"{component.base!r} names this {kind}"),)
    found.found.append(code.diagnostic(name, message, span, related=related))


def _plugs(end: End, model: Model, table: Table, found: Report) -> list[Plug] | None:
    """Return the sockets of a wired end by its model; None, reported, when they do not fit."""
    known = model.get(end.group, {}).get(end.direction, {})
    declared = known.get(end.name)
    if declared is None:
        hint = report.did_you_mean(end.name, known)
        if not hint and known:
            hint = f"it has {report.listed(known)}"
        message = (
            f"the handler of {end.component.base!r} has no {end.group}.{end.direction}.{end.name}"
        )
        found.error("ORC217", message, end.place.of_key(), hint=hint)
        return None
    sockets = tuple(declared.get("sockets", ()))
    given = dict(end.sockets)
    if "" in given:
        if len(sockets) != 1:
            said = (
                "takes no address" if not sockets else f"has the sockets {report.listed(sockets)}"
            )
            hint = (
                "give the address the parts {data: …, snapshot: …}" if sockets else "leave it out"
            )
            message = f"{end.label} ({declared['type']}) {said}, and is wired to one endpoint"
            found.error("ORC219", message, end.place, hint=hint)
            return None
        given = {sockets[0]: given[""]}
    missing = [socket for socket in sockets if socket not in given]
    surplus = [socket for socket in end.sockets if socket and socket not in sockets]
    is_written = isinstance(end.place.value, dict) and "address" not in end.place.value
    if missing or (surplus and is_written):
        said = (
            f"has no address for {report.listed(missing)}"
            if missing
            else f"has no socket {surplus[0]}"
        )
        found.error("ORC219", f"{end.label} ({declared['type']}) {said}", end.place)
        return None
    binds = declared.get("binds", ())
    return [
        # At a bus only the bus itself binds.
        Plug(
            end,
            socket,
            given[socket],
            socket in binds
            and (bool(end.component.bus) or not table.declared[given[socket][0]].bus),
            declared.get("topic"),
        )
        for socket in sockets
    ]


def _check_spot(spot: Spot, plugs: list[Plug], table: Table, *, free: bool, found: Report) -> None:
    address, label = table.declared[spot[0]], addresses.label_of(*spot)
    binders = [plug for plug in plugs if plug.binds]
    connectors = [plug for plug in plugs if not plug.binds]
    for plug in binders[1:]:
        first = binders[0].end.label
        message = f"{plug.end.label} ({plug.socket}) binds {label!r}, which {first} binds already"
        related = (binders[0].end.place.related(f"{binders[0].end.label} ({binders[0].socket})"),)
        found.error(
            "ORC215", message, plug.end.place, hint="use an address for each", related=related
        )
    if found.whole and not (address.external or free):
        if not binders:
            who = report.listed(f"{plug.end.label} ({plug.socket})" for plug in connectors)
            hint = f"wire the component that serves it, or {_ELSEWHERE}"
            if any(plug.socket == "publisher" for plug in connectors):
                hint = "a publisher with is_x_pub needs a bus: write the address as {bus: true}"
            found.error(
                "ORC214",
                f"nobody binds {label!r}: {who} only connects",
                plugs[0].end.place,
                hint=hint,
            )
        elif not connectors and len(binders) == 1:
            who = f"{binders[0].end.label} ({binders[0].socket})"
            hint = f"wire a component to it, or {_ELSEWHERE}"
            found.error(
                "ORC214",
                f"nobody connects to {label!r}, which {who} binds",
                plugs[0].end.place,
                hint=hint,
            )
    for plug in connectors if binders else connectors[1:]:
        partner = (binders or connectors)[0]
        fits = partner.socket in _PAIRS[plug.socket] if binders else plug.socket == partner.socket
        if not fits:
            other = f"the {partner.socket} {partner.end.label}"
            message = f"{plug.end.label} is a {plug.socket}, which cannot speak with {other}"
            hint = f"a {plug.socket} needs a {_PAIRS[plug.socket][0]}"
            related = (partner.end.place.related(f"{partner.end.label} ({partner.socket})"),)
            found.error("ORC216", message, plug.end.place, hint=hint, related=related)
    for plug in binders[:1]:
        replicas = plug.end.component.replicas
        if replicas > 1 and not address.parts[spot[1]].is_auto:
            who = f"{replicas} instances of {plug.end.component.base!r}"
            message = f"{who} cannot all bind {address.parts[spot[1]]}"
            related = (address.place(spot[1]).related(f"address {label!r}"),)
            found.error(
                "ORC223",
                message,
                plug.end.place,
                hint="make the address `auto` or `auto:tcp`",
                related=related,
            )
