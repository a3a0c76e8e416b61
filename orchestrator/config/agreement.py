"""What the two ends of an edge say of its messages: the same arguments, topic and kind of state.

Both ends' handlers declare what they send and accept. Here the declarations are compared before
anything starts; a message that one of them would refuse is a mistake of the topology.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from orchestrator.config import report
from orchestrator.config.report import Report
from orchestrator.config.wiring import Model, Plug, Wired
from orchestrator.errors import Position, Related
from orchestrator.wire import shapes
from orchestrator.wire.shapes import Disagreement

Declared = Mapping[str, Any]
"""An end as the inspection of its handler describes it."""

_SENDERS = {"requester": "replyer", "publisher": "subscriber"}
"""Who sends first, and who receives that."""


def check(wired: Wired, models: Mapping[str, Model], found: Report) -> None:
    """Compare the two ends of every edge whose models are known."""
    compared: dict[tuple[int, int], list[tuple[str, Disagreement]]] = {}
    for plugs in _meetings(wired):
        for sender, receiver in _edges(plugs):
            one, other = _declared(sender, models), _declared(receiver, models)
            if one.get("topic") != other.get("topic") and _served(receiver, plugs, models):
                continue
            if not _check_kind(sender, receiver, one, other, found):
                continue
            if sender.end.group == "states" and sender.socket == "requester":
                continue  # the snapshot of a state, whose data is compared
            # Many components may have one handler: its models are compared once.
            key = (id(one), id(other))
            if key not in compared:
                compared[key] = list(_disagreements(one, other))
            for group, disagreement in compared[key]:
                _report(group, disagreement, sender, receiver, models=models, found=found)


def _meetings(wired: Wired) -> Iterator[list[Plug]]:
    """Yield the sockets that meet at each spot; at a bus those of both of its parts."""
    for (name, part), plugs in wired.plugs.items():
        if any(plug.socket == "x_subscriber" for plug in plugs):
            yield [*plugs, *wired.plugs.get((name, "subscribe"), ())]
        elif part != "subscribe" or not any(plug.socket == "x_publisher" for plug in plugs):
            yield plugs


def _served(receiver: Plug, plugs: list[Plug], models: Mapping[str, Model]) -> bool:
    """Tell whether one of several publishers at a bus publishes what a subscriber wants."""
    topic = _declared(receiver, models).get("topic")
    return any(
        plug.socket == "publisher" and _declared(plug, models).get("topic") == topic
        for plug in plugs
    )


def _edges(plugs: list[Plug]) -> Iterator[tuple[Plug, Plug]]:
    """Yield who sends and who receives, for each pair of ends at a spot that can speak."""
    for sender in plugs:
        partner = _SENDERS.get(sender.socket)
        if partner is None:
            continue
        for receiver in plugs:
            if receiver.socket == partner:
                yield sender, receiver


def _declared(plug: Plug, models: Mapping[str, Model]) -> Declared:
    end = plug.end
    declared: Declared = models[end.component.base][end.group][end.direction][end.name]
    return declared


def _check_kind(
    sender: Plug, receiver: Plug, one: Declared, other: Declared, found: Report
) -> bool:
    """Tell whether the ends are of one kind, a state's ends of one kind of state; or report."""
    kinds = [
        (plug.end.group, _state_kind(declared) if plug.end.group == "states" else "")
        for plug, declared in ((sender, one), (receiver, other))
    ]
    if kinds[0] == kinds[1]:
        return _check_topic(sender, receiver, one, other, found)
    message = (
        f"{sender.end.label} is a {one['type']}, which cannot speak with "
        f"the {other['type']} {receiver.end.label}"
    )
    hint = "both ends need the same kind of state, or none"
    _at(receiver, sender, "ORC312", message, hint=hint, found=found)
    return False


def _state_kind(declared: Declared) -> str:
    return str(declared["type"]).rpartition("_")[0]


def _check_topic(
    sender: Plug, receiver: Plug, one: Declared, other: Declared, found: Report
) -> bool:
    sent, wanted = one.get("topic"), other.get("topic")
    if sent == wanted:
        return True
    shown = [f"the topic {topic!r}" if topic else "no topic" for topic in (sent, wanted)]
    message = (
        f"{receiver.end.label} subscribes to {shown[1]}, and {sender.end.label} "
        f"publishes with {shown[0]}: nothing would arrive"
    )
    hint = "topics match whole; give both ends the same"
    _at(receiver, sender, "ORC311", message, hint=hint, found=found)
    return False


def _disagreements(one: Declared, other: Declared) -> Iterator[tuple[str, Disagreement]]:
    """Yield what does not fit in the message, and in its reply, whose sender is the other end."""
    for disagreement in shapes.disagreements(one, other, "args"):
        yield "arguments", disagreement
    for disagreement in shapes.disagreements(
        other.get("returns") or {}, one.get("returns") or {}, "return_args"
    ):
        yield "return_arguments", disagreement


def _report(
    group: str,
    what: Disagreement,
    sender: Plug,
    receiver: Plug,
    *,
    models: Mapping[str, Model],
    found: Report,
) -> None:
    """Report at the end that connects; the other positions are the other end, and the models."""
    first, second = (sender, receiver) if group == "arguments" else (receiver, sender)
    at, other = (sender, receiver) if receiver.binds else (receiver, sender)
    message = f"{first.end.label} and {second.end.label} disagree: {what}"
    related = [other.end.place.related(other.end.label)]
    for plug, said in ((first, what.sent), (second, what.received)):
        if where := _in_handler(plug, group, what.argument, models):
            name = plug.end.component.base
            related.append(Related(where, f"{name} declares {_declares(what, said)}"))
    found.error("ORC310", message, at.end.place, hint=_hint(what), related=related)


def _declares(what: Disagreement, said: str) -> str:
    if said:
        return f"{said} here"
    if what.path.count(".") > 1:
        return "it here"
    return "it as optional here" if what.optional else f"no {what.argument!r}"


def _hint(what: Disagreement) -> str:
    if not what.received:
        return "declare it at the receiver, as optional if need be, or do not send it"
    if not what.sent:
        return "let the sender require it too, or make it optional at the receiver"
    return ""


def _at(
    receiver: Plug, sender: Plug, code: str, message: str, *, hint: str, found: Report
) -> None:
    related = (sender.end.place.related(sender.end.label),)
    found.error(code, message, receiver.end.place, hint=hint, related=related)


def _in_handler(
    plug: Plug, group: str, argument: str, models: Mapping[str, Model]
) -> Position | None:
    """Return where an argument, or else its end, stands in the handler's file."""
    model = models[plug.end.component.base]
    declared = _declared(plug, models)
    line = (declared.get("lines") or {}).get(f"{group}.{argument}") or declared.get("line")
    file = model.get("file")
    return Position(report.shown_path(str(file)), int(line), 1) if file and line else None
