"""Types of message models as plain data: can a receiver take all that a sender may send?

The types are those that `orchestrator.component.inspect` answers with: "str", {"list": "int"},
{"map": {"a": "int"}}, … A sender's type fits when whatever it allows is accepted by the receiver
after the way over the wire. A type that says nothing of what is in it (`any`, `dict`, `list`,
`tuple`, `set`) fits wherever it could.

Knows nothing of topologies.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

Plain = Any
"""A type as plain data."""

_OPEN = {"map": "dict", "dict": "dict", "list": "list", "tuple": "list", "set": "set",
         "members": "set"}  # fmt: skip
"""Which class, received, each kind of container is."""

_CLASSES = {
    "dict": frozenset({"dict"}),
    "list": frozenset({"list"}),
    "tuple": frozenset({"list"}),
    "set": frozenset({"set"}),
    "frozenset": frozenset({"set"}),
}
"""Which containers a class says nothing more of; a tuple is a list on the wire."""


class Disagreement(NamedTuple):
    """What does not fit, and where: the argument's name, the path from it, what each end says.

    `sent` is empty for what the sender lacks, `received` for what the receiver does not know.
    """

    argument: str
    path: str
    sent: str
    received: str
    optional: bool = False

    def __str__(self) -> str:
        if not self.received:
            return f"{self.path} is sent, and not known to the receiver"
        if not self.sent:
            word = "sent only at times" if self.optional else "never sent"
            return f"{self.path} is {word}, and required by the receiver"
        return f"{self.path} is sent as {self.sent}, and expected as {self.received}"


def disagreements(
    sent: Mapping[str, Any], received: Mapping[str, Any], root: str
) -> Iterator[Disagreement]:
    """Yield where two models of a message disagree.

    Args:
        sent: The sender's arguments, `{"required": {name: type}, "optional": {…}}`.
        received: The receiver's.
        root: What paths begin with: `args` or `return_args`.
    """
    must, may = sent.get("required") or {}, sent.get("optional") or {}
    wanted, known = received.get("required") or {}, received.get("optional") or {}
    for name, kind in wanted.items():
        if name not in must:
            yield Disagreement(name, f"{root}.{name}", "", shown(kind), optional=name in may)
    for optional, group in ((False, must), (True, may)):
        for name, kind in group.items():
            path = f"{root}.{name}"
            if name in wanted:
                found = _compare(kind, wanted[name], path, sent_any=optional, any_of=False)
            elif name in known:
                found = _compare(kind, known[name], path, sent_any=optional, any_of=True)
            else:
                yield Disagreement(name, path, shown(kind), "")
                continue
            for where, one, other in found:
                yield Disagreement(name, where, one, other)


def shown(kind: Plain) -> str:
    """Return a type as a handler file writes it."""
    if not isinstance(kind, dict):
        return {"any": "object", "NoneType": "None"}.get(str(kind), str(kind))
    (form, inner), *_ = kind.items()
    match form:
        case "map":
            return "{" + ", ".join(f"{key!r}: {shown(item)}" for key, item in inner.items()) + "}"
        case "dict":
            return f"{{{shown(inner[0])}: {shown(inner[1])}}}"
        case "list":
            return f"[{shown(inner)}]"
        case "tuple":
            return f"({', '.join(map(shown, inner))}{',' if len(inner) == 1 else ''})"
        case "set":
            return f"{{{shown(inner)}}}"
        case "members":
            return f"{{{', '.join(map(repr, inner))}}}"
        case _:
            return str(kind)


Found = Iterator[tuple[str, str, str]]
"""A path, what is sent there and what is expected; either is empty where there is nothing."""


def _compare(sent: Plain, wanted: Plain, path: str, *, sent_any: bool, any_of: bool) -> Found:
    """Yield where a type does not fit another.

    `sent_any` and `any_of` tell of either end whether its dicts with fixed keys, and its sets of
    fixed members, have any of these instead of all: so it is within optional arguments.
    """
    if sent == wanted and sent_any == any_of:
        return
    if "any" in (sent, wanted):
        return
    if not isinstance(sent, dict) or not isinstance(wanted, dict):
        if not _classes_fit(sent, wanted):
            yield path, shown(sent), shown(wanted)
        return
    (form, inner), (other, needed) = next(iter(sent.items())), next(iter(wanted.items()))
    if form == other == "map":
        yield from _fields(inner, needed, path, sent_any=sent_any, any_of=any_of)
        return
    if form == "members":
        if not _members_fit(inner, other, needed, sent_any=sent_any, any_of=any_of):
            yield path, shown(sent), shown(wanted)
        return
    pairs = _pairs(form, inner, other, needed, path)
    if pairs is None:
        yield path, shown(sent), shown(wanted)
        return
    for one, needs, where in pairs:
        yield from _compare(one, needs, where, sent_any=sent_any, any_of=any_of)


def _pairs(
    form: str, inner: Any, other: str, needed: Any, path: str
) -> list[tuple[Plain, Plain, str]] | None:
    """Return what has to fit for a container to fit another; None when it cannot."""
    match form, other:
        case "map", "dict":
            keys = [("str", needed[0], f"{path} (key)")]
            return keys + [(kind, needed[1], f"{path}.{key}") for key, kind in inner.items()]
        case "dict", "dict":
            return [(inner[0], needed[0], f"{path} (key)"), (inner[1], needed[1], f"{path}{{}}")]
        case "list", "list":
            return [(inner, needed, f"{path}[]")]
        case "set", "set":
            return [(inner, needed, f"{path}{{}}")]
        case "tuple", "list":
            return [(kind, needed, f"{path}[{index}]") for index, kind in enumerate(inner)]
        case "tuple", "tuple" if len(inner) == len(needed):
            both = enumerate(zip(inner, needed, strict=True))
            return [(kind, item, f"{path}[{index}]") for index, (kind, item) in both]
        case _:
            return None


def _members_fit(
    members: list[Any], other: str, needed: Any, *, sent_any: bool, any_of: bool
) -> bool:
    """Tell whether a set of fixed members fits another set."""
    if other == "set":
        return all(needed == "any" or _classes_fit(type(one).__name__, needed) for one in members)
    if other != "members":
        return False
    if any_of:
        return set(members) <= set(needed)
    return not sent_any and set(needed) <= set(members)


def _fields(
    sent: Mapping[str, Plain], wanted: Mapping[str, Plain], path: str, *,
    sent_any: bool, any_of: bool,
) -> Found:  # fmt: skip
    for key, kind in sent.items():
        if key in wanted:
            yield from _compare(
                kind, wanted[key], f"{path}.{key}", sent_any=sent_any, any_of=any_of
            )
        elif any_of:
            # Within optional arguments no other keys are accepted; elsewhere they are.
            yield f"{path}.{key}", shown(kind), ""
    for key, kind in () if any_of else wanted.items():
        if key not in sent:
            yield f"{path}.{key}", "", shown(kind)


def _classes_fit(sent: Plain, wanted: Plain) -> bool:
    """Tell whether a type fits another, one of which at least is a class."""
    if sent == wanted or (sent, wanted) == ("bool", "int"):
        return True
    forms = [next(iter(one)) if isinstance(one, dict) else str(one) for one in (sent, wanted)]
    families = [
        frozenset({_OPEN[form]}) if isinstance(one, dict) and form in _OPEN
        else _CLASSES.get(form, frozenset())
        for one, form in zip((sent, wanted), forms, strict=True)
    ]  # fmt: skip
    if wanted == "list" and sent == "tuple":
        return True
    return bool(families[0] & families[1])
