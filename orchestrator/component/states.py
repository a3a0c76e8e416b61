"""States as a handler file declares them: types, models, creation arguments. No sockets here.

    type              side   sockets               does
    full_update_in    in     subscriber            replaced by each update
    delta_update_in   in     subscriber requester  changed by each update; asks for what it missed
    full_update_out   out    publisher             sends all of it at each update
    delta_update_out  out    publisher replyer     sends what changes, answers who asks for all

`local_variable_delta_update` and `local_variable_full_update` stand for either side's. Creation
arguments: topic; and of outward states is_x_pub and wait_after_creation_s, as publishers have.

The model says what the state holds: required and optional arguments by name, or in the place of
`required_arguments` one type for all of it: `{Decimal: Decimal}`, `str`, `[str]`. What is sent to
a delta state are the keys that change, None for one that goes:

    to_send("state", "market_price", {"min_ask": Decimal(3)})

In the form of service_framework's code `state` is the only argument, and what is sent is
`{"state": {…}, "is_snapshot": False, "current_num": 7}`, where the last two may be left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.component import connections, kinds, models
from orchestrator.component.connections import Origin, Type
from orchestrator.component.errors import ModelMismatch, SetupError
from orchestrator.component.kinds import Kind, NotAModel
from orchestrator.wire import values

_OUT: Mapping[str, tuple[type, ...]] = {
    "topic": (str,),
    "is_x_pub": (bool,),
    "wait_after_creation_s": (int, float),
}

TYPES: Mapping[str, Type] = {
    known.name: known
    for known in (
        Type(
            "full_update_in",
            "in",
            ("subscriber",),
            False,
            ("full_update_out",),
            {"topic": (str,)},
        ),
        Type(
            "delta_update_in",
            "in",
            ("subscriber", "requester"),
            False,
            ("delta_update_out",),
            {"topic": (str,)},
        ),
        Type("full_update_out", "out", ("publisher",), True, ("full_update_in",), _OUT),
        Type(
            "delta_update_out", "out", ("publisher", "replyer"), True, ("delta_update_in",), _OUT
        ),
    )
}
ALIASES = {
    "local_variable_delta_update": "delta_update",
    "local_variable_full_update": "full_update",
}

_OF_DELTAS = {"current_num": int, "is_snapshot": bool}

# service_framework's document misspells one.
_RESERVED = ("is_snapshot", "is_snapshat", "current_num")

_KEYS = (
    "state_type",
    "required_creation_arguments",
    "optional_creation_arguments",
    "required_state_arguments",
    "optional_state_arguments",
    "required_arguments",
    "optional_arguments",
    "required_return_arguments",
    "optional_return_arguments",
)


@dataclass(frozen=True, slots=True)
class Content:
    """What a state holds, compiled. `find` gives the type of a key, None if it has no such."""

    plain: Mapping[str, Any]
    accepts: Callable[[Any], bool]
    explain: Callable[[Any], Iterator[str]]
    dump: Callable[[Any], Any] | None
    load: Callable[[Any], Any] | None
    find: Callable[[Any], Kind | None]

    def check(self, value: object, subject: str) -> None:
        """Raise `ModelMismatch` unless the value fits as a whole."""
        if not self.accepts(value):
            raise ModelMismatch(subject, tuple(self.explain(value)))

    def check_changes(self, changes: object, subject: str) -> None:
        """Raise `ModelMismatch` unless each change fits its key; None fits every key."""
        mistakes = tuple(self.explain_changes(changes))
        if mistakes:
            raise ModelMismatch(subject, mistakes)

    def explain_changes(self, changes: object) -> Iterator[str]:
        """Yield what is wrong with each change."""
        if not isinstance(changes, Mapping):
            yield f"expected a dict of changes, got {kinds.shown(changes)}"
            return
        for key, item in changes.items():
            kind = self.find(key)
            if kind is None:
                yield f"{key!r} is no key of this state"
            elif item is not None and not kind.accepts(item):
                yield from kind.explain(item, repr(key))

    def dump_changes(self, changes: Mapping[Any, Any]) -> dict[Any, Any]:
        """Return fitting changes as they can be sent."""
        dumped: dict[Any, Any] = {}
        for key, item in changes.items():
            kind = self.find(key)
            convert = kind.dump if kind is not None and item is not None else None
            dumped[key] = item if convert is None else convert(item)
        return dumped

    def load_changes(self, changes: Mapping[Any, Any]) -> dict[Any, Any]:
        """Return decoded changes as the model promises them; what does not fit stays as it is."""
        loaded: dict[Any, Any] = {}
        for key, item in changes.items():
            kind = self.find(key)
            convert = kind.load if kind is not None and item is not None else None
            loaded[key] = item if convert is None else convert(item)
        return loaded


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """One declared end of a state. `nested` when what is sent has the content below `state`."""

    name: str
    type: Type
    content: Content
    nested: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    line: int | None = None

    @property
    def is_delta(self) -> bool:
        """Whether changes are sent rather than all of it."""
        return self.type.name.startswith("delta")

    @property
    def binds(self) -> bool:
        """Whether this end binds its addresses; the publisher to a bus connects."""
        return self.type.binds and not self.options.get("is_x_pub", False)

    @property
    def topic(self) -> str:
        """The topic, empty for none."""
        return str(self.options.get("topic", ""))

    def parts(self, arguments: Any, subject: str) -> tuple[Any, bool, int | None]:
        """Return what is to change in a delta state.

        Args:
            arguments: What `to_send` was given.
            subject: What errors begin with.

        Returns:
            The changes, whether they are all there is, and the number that the caller gives.

        Raises:
            ModelMismatch: The arguments do not have the form; of the changes nothing is checked.
        """
        if not isinstance(arguments, dict):
            raise ModelMismatch(subject, [f"expected a dict, got {kinds.shown(arguments)}"])
        rest = dict(arguments)
        reserved = {
            name: rest.pop(name)
            for name in _RESERVED
            if name in rest and (self.nested or self.content.find(name) is None)
        }
        number = reserved.pop("current_num", None)
        mistakes = [
            f"{name!r}: expected bool"
            for name, item in reserved.items()
            if item not in (True, False)
        ]
        if number is not None and (not isinstance(number, int) or isinstance(number, bool)):
            mistakes.append("'current_num': expected int")
        if self.nested:
            mistakes += [f"{name!r} is not declared" for name in rest.keys() - {"state"}]
            if "state" not in rest:
                mistakes.append("'state' is missing: expected the keys that change")
            rest = rest.get("state", {})
        if mistakes:
            raise ModelMismatch(subject, mistakes)
        return rest, any(reserved.values()), number

    def plain(self) -> dict[str, Any]:
        """Return the end as plain data, for those who must not import handlers."""
        wire = list(self.type.sockets)
        binds = [socket for socket in wire if self.binds or socket == "replyer"]
        return {
            "type": self.type.name,
            "sockets": wire,
            "binds": binds,
            "connects": [socket for socket in wire if socket not in binds],
            "topic": self.topic or None,
            **self.content.plain,
            "returns": {"required": {}, "optional": {}},
            "function": None,
            "line": self.line,
        }


def declared(
    state_models: object,
    origin: Origin,
    creation: Mapping[str, Mapping[str, object]] | None = None,
) -> tuple[State, ...]:
    """Return every state that `state_models` declares, in order.

    Args:
        state_models: `{"in": {name: model}, "out": {name: model}}` of the handler file.
        origin: The handler, for the places of mistakes.
        creation: More creation arguments by state, as the hook `setup_states` gives.

    Raises:
        SetupError: Names every mistake with its place.
    """
    return connections.collected("state", state_models, origin, creation, _state)


def _state(
    side: str, name: str, model: Mapping[str, Any], origin: Origin, more: Mapping[str, object]
) -> State:
    key = ("state_models", side, name)
    mistakes: list[str] = []

    def wrong(message: str, *inner: object) -> None:
        mistakes.append(f"{origin.place(*key, *inner)}: {message}")

    for unknown in model.keys() - set(_KEYS):
        wrong(f"unknown key; a model has {', '.join(_KEYS)}", unknown)
    written = str(model.get("state_type"))
    kind = TYPES.get(f"{ALIASES[written]}_{side}" if written in ALIASES else written)
    if kind is None or kind.side != side:
        fitting = ", ".join(known.name for known in TYPES.values() if known.side == side)
        wrong(
            f"{model.get('state_type')!r} is no state type on side {side!r}; there are {fitting}",
            "state_type",
        )
        raise SetupError(mistakes)
    is_delta = kind.name.startswith("delta")
    for group, known_arguments in (
        ("required_state_arguments", _OF_DELTAS if is_delta else {}),
        ("optional_state_arguments", {}),
    ):
        if model.get(group) and model[group] != known_arguments:
            said = "{'current_num': int, 'is_snapshot': bool}" if known_arguments else "none"
            wrong(f"a {kind.name} has {said} here; leave it out", group)
    required, optional = model.get("required_arguments"), model.get("optional_arguments")
    nested = (
        is_delta
        and isinstance(required, Mapping)
        and set(required) == {"state"}
        and not optional
        and (required["state"] is dict or isinstance(required["state"], dict))
    )
    content = None
    try:
        content = _content(required["state"] if nested else required, optional)  # type: ignore[index]
    except NotAModel as error:
        groups = ("required_arguments", "optional_arguments")
        by_name = required is None or (
            isinstance(required, Mapping) and all(map(_is_name, required))
        )
        if not (by_name and connections.explain_arguments(model, groups, wrong)):
            wrong(str(error), groups[0] if required else groups[1])
    if content is not None and is_delta and content.find is _no_key:
        wrong("a delta state is a dict: name its keys, or write {T: T}", "required_arguments")
    options = connections.options(
        kind,
        {**connections.creation_arguments(model, wrong), **more},
        wrong,
    )
    if mistakes:
        raise SetupError(mistakes)
    assert content is not None
    return State(name, kind, content, nested, options, origin.line(*key))


def _content(required: Any, optional: Any) -> Content:
    """Compile required and optional arguments by name, or one type for everything."""
    if required is None or (isinstance(required, Mapping) and all(map(_is_name, required))):
        return _named(models.arguments(required, optional))
    if optional:
        raise NotAModel("one type for all of the state leaves no room for optional arguments")
    kind = kinds.compile_type(required)

    def explain(value: Any) -> Iterator[str]:
        return kind.explain(value, "the value")

    return Content(
        {"required": {"*": kind.plain}, "optional": {}},
        kind.accepts,
        explain,
        kind.dump,
        kind.load,
        _keys_of(required),
    )


def _named(arguments: models.Arguments) -> Content:
    fields = {**arguments.required, **arguments.optional}
    return Content(
        arguments.plain(),
        arguments.accepts,
        arguments.explain,
        arguments.dump,
        arguments.load,
        fields.get,
    )


def _keys_of(model: Any) -> Callable[[Any], Kind | None]:
    if model is dict:
        anything = kinds.compile_type(object)
        return lambda _: anything
    if isinstance(model, dict) and len(model) == 1:
        key_kind, item = (kinds.compile_type(part) for part in next(iter(model.items())))
        return lambda key: item if key_kind.accepts(key) else None
    return _no_key


def _no_key(key: Any) -> Kind | None:
    """Find nothing: the content is no dict of changing keys."""
    del key
    return None


def _is_name(key: object) -> bool:
    return isinstance(key, str) and key not in values.MARKERS
