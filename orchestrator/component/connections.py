"""Connections as a handler file declares them: types, creation arguments, models. No sockets here.

    type              side   socket       does       talks to
    replyer           in     replyer      binds      requester
    subscriber        in     subscriber   connects   publisher
    requester         out    requester    connects   replyer
    publisher         out    publisher    binds      subscriber
    external_request  out    -            calls a function (also spelt external_target)

Creation arguments, under the names of service_framework and in `required_creation_arguments` or
`optional_creation_arguments` alike:

    replyer           on_new_request: the function, or its name in the handler file
    subscriber        on_new_message: likewise; topic; is_x_sub (to a bus: connects, as always)
    requester         timeout: seconds until RequestTimeout, default 5, all attempts together;
                      idempotent: whether it does no harm to carry a request out twice. Then it is
                      sent again when no reply comes: attempts (default 3), backoff: seconds
                      before the second attempt, default 0.1, doubled for each further one
    publisher         topic; is_x_pub: connect to a bus instead of binding;
                      min_subscribers: how many to wait for before the first message,
                      subscribers_timeout: for how many seconds, default 10;
                      timeout: seconds to wait for a slow subscriber until SendTimeout, default 30;
                      wait_after_creation_s: seconds to wait after binding, default 0
    external_request  func_to_call or target: the function, or its name, here or `package.module.f`

The function of an inbound connection may also be called on_<connection> or on_new_<connection>.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from orchestrator.component import calls, kinds, models
from orchestrator.component.errors import SetupError
from orchestrator.component.kinds import NotAModel
from orchestrator.component.models import Arguments
from orchestrator.component.positions import Key

REQUEST_TIMEOUT = 5.0
ATTEMPTS = 3
BACKOFF = 0.1
SEND_TIMEOUT = 30.0
SUBSCRIBERS_TIMEOUT = 10.0

# A wait of no length could never succeed.
_LEAST = {"timeout": 0.001, "attempts": 1}

_NUMBER: tuple[type, ...] = (int, float)


Declared = TypeVar("Declared")
"""What is made of an end's model: a connection or a state."""


@dataclass(frozen=True, slots=True, eq=False)
class Type:
    """A type of connection. `function` names the creation argument with the function to call."""

    name: str
    side: str
    sockets: tuple[str, ...]
    binds: bool
    partners: tuple[str, ...]
    creation: Mapping[str, tuple[type, ...]]
    function: str | None = None


TYPES: Mapping[str, Type] = {
    known.name: known
    for known in (
        Type("replyer", "in", ("replyer",), True, ("requester",), {}, "on_new_request"),
        Type(
            "subscriber",
            "in",
            ("subscriber",),
            False,
            ("publisher",),
            {"topic": (str,), "is_x_sub": (bool,)},
            "on_new_message",
        ),
        Type(
            "requester",
            "out",
            ("requester",),
            False,
            ("replyer",),
            {
                "timeout": _NUMBER,
                "idempotent": (bool,),
                "attempts": (int,),
                "backoff": _NUMBER,
            },
        ),
        Type(
            "publisher",
            "out",
            ("publisher",),
            True,
            ("subscriber",),
            {
                "topic": (str,),
                "is_x_pub": (bool,),
                "wait_after_creation_s": _NUMBER,
                "min_subscribers": (int,),
                "subscribers_timeout": _NUMBER,
                "timeout": _NUMBER,
            },
        ),
        Type("external_request", "out", (), False, (), {}, "func_to_call"),
    )
}
ALIASES = {"external_target": "external_request"}
_FUNCTION_ALIASES = {"external_request": "target"}

_KEYS = (
    "connection_type",
    "required_creation_arguments",
    "optional_creation_arguments",
    "required_connection_arguments",
    "optional_connection_arguments",
    "required_arguments",
    "optional_arguments",
    "required_return_arguments",
    "optional_return_arguments",
)


@dataclass(frozen=True, slots=True, eq=False)
class End:
    """One declared end of a connection. `returns` is None when any return value will do."""

    name: str
    type: Type
    arguments: Arguments
    returns: Arguments | None
    function: Callable[..., Any] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    line: int | None = None

    @property
    def binds(self) -> bool:
        """Whether this end binds its address; a publisher to a bus connects."""
        return self.type.binds and not self.options.get("is_x_pub", False)

    @property
    def topic(self) -> str:
        """The topic, empty for none."""
        return str(self.options.get("topic", ""))

    def plain(self) -> dict[str, Any]:
        """Return the end as plain data, for those who must not import handlers."""
        wire = list(self.type.sockets)
        return {
            "type": self.type.name,
            "sockets": wire,
            "binds": wire if self.binds else [],
            "connects": [] if self.binds else wire,
            "topic": self.topic or None,
            **self.arguments.plain(),
            "returns": self.returns.plain() if self.returns else {"required": {}, "optional": {}},
            "function": getattr(self.function, "__name__", None),
            "is_async": calls.is_async(self.function),
            "line": self.line,
        }


@dataclass(frozen=True, slots=True)
class Origin:
    """Where models come from: the handler's names, its file and the lines of its keys."""

    namespace: Mapping[str, Any]
    file: str | None = None
    lines: Mapping[Key, int] = field(default_factory=dict)

    def place(self, *key: object) -> str:
        """Return `file:line: connection_models['in']['orders']` for a key."""
        line = self.line(*key)
        where = (
            f"{self.file}:{line}: "
            if self.file and line
            else f"{self.file}: "
            if self.file
            else ""
        )
        return where + str(key[0]) + "".join(f"[{part!r}]" for part in key[1:])

    def line(self, *key: object) -> int | None:
        """Return the line of a key, or of the nearest one around it."""
        for length in range(len(key), 0, -1):
            if key[:length] in self.lines:
                return self.lines[key[:length]]
        return None

    def lines_below(self, *key: object) -> dict[str, int]:
        """Return the lines of the keys two levels below a key, as `arguments.order_id`."""
        depth = len(key)
        return {
            f"{str(path[depth]).partition('_')[2]}.{path[depth + 1]}": line
            for path, line in self.lines.items()
            if len(path) == depth + 2 and path[:depth] == key
        }


def declared(
    connection_models: object,
    origin: Origin,
    creation: Mapping[str, Mapping[str, object]] | None = None,
) -> tuple[End, ...]:
    """Return every end that `connection_models` declares, in order.

    Args:
        connection_models: `{"in": {name: model}, "out": {name: model}}` of the handler file.
        origin: The handler, for functions given by name and for the places of mistakes.
        creation: More creation arguments by connection, as the hook `setup_connections` gives.

    Raises:
        SetupError: Names every mistake with its place.
    """
    return collected("connection", connection_models, origin, creation, _end)


def collected(
    noun: str,
    written: object,
    origin: Origin,
    creation: Mapping[str, Mapping[str, object]] | None,
    make: Callable[[str, str, Mapping[str, Any], Origin, Mapping[str, object]], Declared],
) -> tuple[Declared, ...]:
    """Return what `make` makes of every end of a handler file, in order.

    Args:
        noun: `connection` or `state`.
        written: Its models, as they stand in the handler file.
        origin: The handler, for functions given by name and for the places of mistakes.
        creation: More creation arguments by name, as a hook gives.
        make: Takes side, name, model, origin and the creation arguments of one end.

    Raises:
        SetupError: Names every mistake with its place.
    """
    if written == {} and not creation:
        return ()
    mistakes: list[str] = []
    made: list[Declared] = []
    given = dict(creation or {})
    for side, name, model in each(written, origin, mistakes, noun):
        try:
            made.append(make(side, name, model, origin, given.pop(name, {})))
        except SetupError as error:
            mistakes.extend(error.mistakes)
    mistakes.extend(
        f"setup_{noun}s returned arguments for {name!r}, which is not in {noun}_models"
        for name in given
    )
    if mistakes:
        raise SetupError(mistakes)
    return tuple(made)


def each(
    written: object, origin: Origin, mistakes: list[str], noun: str
) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Yield side, name and model of each end in `connection_models` or `state_models`.

    Args:
        written: What stands in the handler file.
        origin: The handler, for the places of mistakes.
        mistakes: Where they are added.
        noun: `connection` or `state`.
    """
    models = f"{noun}_models"
    if not isinstance(written, Mapping):
        mistakes.append(f"{origin.place(models)}: expected a dict with 'in' and 'out'")
        return
    for side, ends in written.items():
        if side not in ("in", "out"):
            mistakes.append(f"{origin.place(models, side)}: unknown side; expected 'in' or 'out'")
        elif not isinstance(ends, Mapping):
            mistakes.append(f"{origin.place(models, side)}: expected a dict of {noun}s")
        else:
            for name, model in ends.items():
                if isinstance(name, str) and isinstance(model, Mapping):
                    yield side, name, model
                else:
                    place = origin.place(models, side, name)
                    mistakes.append(
                        f"{place}: expected a dict with '{noun}_type' under a text name"
                    )


def _end(
    side: str, name: str, model: Mapping[str, Any], origin: Origin, more: Mapping[str, object]
) -> End:
    key = ("connection_models", side, name)
    mistakes: list[str] = []

    def wrong(message: str, *inner: object) -> None:
        mistakes.append(f"{origin.place(*key, *inner)}: {message}")

    for unknown in model.keys() - set(_KEYS):
        wrong(f"unknown key; a model has {', '.join(_KEYS)}", unknown)
    written = model.get("connection_type")
    kind = TYPES.get(ALIASES.get(str(written), str(written)))
    if kind is None or kind.side != side:
        fitting = ", ".join(known.name for known in TYPES.values() if known.side == side)
        wrong(
            f"{written!r} is no connection type on side {side!r}; there are {fitting}",
            "connection_type",
        )
        raise SetupError(mistakes)
    for group in ("required_connection_arguments", "optional_connection_arguments"):
        if model.get(group):
            wrong(f"a {kind.name} has no connection arguments of its own", group)
    sent = kind.name != "external_request"
    arguments = _arguments(model, "arguments", wrong, wire=sent)
    returns = _arguments(model, "return_arguments", wrong, wire=sent)
    creation = {**creation_arguments(model, wrong), **more}
    function = _function(kind, name, creation, origin, wrong)
    made = options(kind, creation, wrong)
    if mistakes:
        raise SetupError(mistakes)
    assert arguments is not None
    free = kind.name == "external_request" and not (
        model.get("required_return_arguments") or model.get("optional_return_arguments")
    )
    return End(name, kind, arguments, None if free else returns, function, made, origin.line(*key))


def creation_arguments(model: Mapping[str, Any], wrong: Callable[..., None]) -> dict[str, object]:
    """Return the creation arguments that a model gives; call `wrong` for what are none."""
    found: dict[str, object] = {}
    for group in ("required_creation_arguments", "optional_creation_arguments"):
        given = model.get(group) or {}
        if isinstance(given, Mapping):
            found |= given
        else:
            wrong(f"expected a dict of values by name, got {kinds.shown(given)}", group)
    return found


def _arguments(
    model: Mapping[str, Any], which: str, wrong: Callable[..., None], *, wire: bool
) -> Arguments | None:
    required, optional = f"required_{which}", f"optional_{which}"
    try:
        return models.arguments(model.get(required), model.get(optional), wire=wire)
    except NotAModel as error:
        if not explain_arguments(model, (required, optional), wrong, wire=wire):
            wrong(str(error), required if model.get(required) else optional)
        return None


def explain_arguments(
    model: Mapping[str, Any],
    groups: tuple[str, str],
    wrong: Callable[..., None],
    *,
    wire: bool = True,
) -> bool:
    """Call `wrong` for each argument that has no type of its own; return whether there is one."""
    found = False
    for group in groups:
        given = model.get(group)
        parts: list[tuple[tuple[object, ...], Any]] = [((), given)]
        if isinstance(given, Mapping):
            parts = [((name,), {name: kind}) for name, kind in given.items()]
        for inner, part in parts:
            required, optional = (part, None) if group == groups[0] else (None, part)
            try:
                models.arguments(required, optional, wire=wire)
            except NotAModel as error:
                wrong(str(error), group, *inner)
                found = True
    return found


def _function(
    kind: Type, name: str, creation: dict[str, Any], origin: Origin, wrong: Callable[..., None]
) -> Callable[..., Any] | None:
    """Take the function out of the creation arguments, under any of its names."""
    if kind.function is None:
        return None
    names = (
        kind.function,
        f"on_{name}",
        f"on_new_{name}",
        _FUNCTION_ALIASES.get(kind.name, kind.function),
    )
    found = [creation.pop(known) for known in dict.fromkeys(names) if known in creation]
    if len(found) != 1:
        have = "is missing" if not found else "is given twice"
        wrong(f"the creation argument {kind.function!r} {have}", "required_creation_arguments")
        return None
    function = found[0]
    if isinstance(function, str):
        try:
            function = _resolved(function, origin)
        except (AttributeError, ImportError) as error:
            reason = (
                str(error) if "." in function or ":" in function else _unknown(function, origin)
            )
            wrong(f"cannot find {function!r}: {reason}", "required_creation_arguments")
            return None
    try:
        calls.adapt(function, calls.MESSAGE if kind.side == "in" else calls.ANY)
    except TypeError as error:
        wrong(f"{kind.function!r}: {error}", "required_creation_arguments")
        return None
    return function  # type: ignore[no-any-return]


def _unknown(name: str, origin: Origin) -> str:
    """Say that a handler has no function of a name, and which it has that is near."""
    import difflib  # noqa: PLC0415 - only for a mistake

    known = [
        word for word, value in origin.namespace.items() if callable(value) and word[:1] != "_"
    ]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"the handler has no such function{hint}"


def _resolved(dotted: str, origin: Origin) -> Any:
    """Find a function by name: in the handler file, else in the innermost module on its path."""
    first, *rest = dotted.replace(":", ".").split(".")
    if first in origin.namespace:
        found = origin.namespace[first]
    else:
        found = importlib.import_module(first)
        while rest:
            try:
                found = importlib.import_module(f"{found.__name__}.{rest[0]}")
            except ImportError:
                break
            rest.pop(0)
    for part in rest:
        found = getattr(found, part)
    return found


def options(
    kind: Type, creation: Mapping[str, Any], wrong: Callable[..., None]
) -> Mapping[str, Any]:
    """Return the creation arguments; call `wrong` for each that the type does not take."""
    for name, value in creation.items():
        group = "optional_creation_arguments"
        if name not in kind.creation:
            known = [*filter(None, [kind.function]), *kind.creation]
            wrong(
                f"a {kind.name} has no creation argument {name!r}; it has "
                + (", ".join(known) or "none"),
                group,
            )
        elif not isinstance(value, kind.creation[name]) or (
            isinstance(value, bool) and bool not in kind.creation[name]
        ):
            names = " or ".join(cls.__name__ for cls in kind.creation[name])
            wrong(f"{name!r} must be {names}, got {type(value).__name__} {value!r:.80}", group)
        elif isinstance(value, (int, float)) and not _LEAST.get(name, 0) <= value < 1e6:
            wrong(
                f"{name!r} must be at least {_LEAST.get(name, 0)} and below a million, "
                f"got {value!r}",
                group,
            )
    for name in ("attempts", "backoff"):
        if name in creation and not creation.get("idempotent"):
            wrong(
                f"{name!r} needs 'idempotent': True, for a request that is sent again may be "
                "carried out twice",
                "optional_creation_arguments",
            )
    return creation
