"""What texts and JSON mean for a type of a model: "Decimal", {"list": "int"}, as in `shapes`.

Configurations come from files, where "1.10" or 1.1 is a Decimal, "2026-01-02T03:04:05Z" a
datetime, a list a set or a tuple; and from environments and command lines, where everything is
text and containers are written as JSON. Nothing is guessed beyond: what does not fit is told.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path, PurePath
from typing import Any
from uuid import UUID

from orchestrator.wire import shapes
from orchestrator.wire.shapes import Plain

_TRUTH = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}


class Unfit(ValueError):
    """A value cannot become what the type says. It may be a secret: messages do not repeat it."""


def from_text(plain: Plain, text: str) -> Any:
    """Return what a text means.

    Raises:
        Unfit: It means nothing of the type.
    """
    if plain == "any":
        return text
    if isinstance(plain, str) and plain not in _CONTAINERS:
        return from_json(plain, text)
    try:
        return from_json(plain, json.loads(text))
    except json.JSONDecodeError as error:
        raise Unfit(f"expected JSON: {error}") from error


def from_json(plain: Plain, value: Any) -> Any:
    """Return what a value of JSON means; what is of another type stays, for `mistakes` to tell.

    Raises:
        Unfit: A text, or a number, means nothing of the type.
    """
    if isinstance(plain, str):
        convert = _CONVERT.get(plain)
        return value if convert is None else convert(value)
    if not isinstance(plain, Mapping):
        return value
    (form, inner), *_ = plain.items()
    if form == "map" and isinstance(value, dict):
        return {
            key: from_json(inner[key], item) if key in inner else item
            for key, item in value.items()
        }
    if form == "dict" and isinstance(value, dict):
        keys, items = inner
        return {from_text(keys, key): from_json(items, item) for key, item in value.items()}
    if not isinstance(value, list):
        return value
    if form == "list":
        return [from_json(inner, item) for item in value]
    if form == "tuple" and len(value) == len(inner):
        return tuple(from_json(kind, item) for kind, item in zip(inner, value, strict=True))
    if form in ("set", "members"):
        items = value if form == "members" else [from_json(inner, item) for item in value]
        try:
            return set(items)
        except TypeError as error:
            raise Unfit(str(error)) from error
    return value


def path_of(name: str, known: Iterable[str]) -> tuple[str, ...]:
    """Return what the name of a variable means: `DB__HOST` is `host` in the map `db`.

    Names are compared without case. One that begins with no known name is taken whole.
    """
    by_case = {one.lower(): one for one in known}
    parts = name.lower().split("__")
    for count in range(len(parts), 0, -1):
        first = by_case.get("__".join(parts[:count]))
        if first is not None:
            return (first, *parts[count:])
    return (name.lower(),)


def with_below(
    whole: Any, steps: Sequence[str], value: Any, plain: Plain,
    convert: Callable[[Plain, Any], Any] = from_text,
) -> Any:  # fmt: skip
    """Return `whole`, a map or None, with a value below it at `steps`; converted by its type.

    Raises:
        Unfit: It means nothing of the type, or there is no map to put it into.
    """
    if not steps:
        return convert(plain, value)
    if whole is not None and not isinstance(whole, Mapping):
        raise Unfit(f"there is no {steps[0]!r} in it: it is no map")
    fields = plain["map"] if isinstance(plain, Mapping) and "map" in plain else {}
    keys, items = plain["dict"] if isinstance(plain, Mapping) and "dict" in plain else ("any",) * 2
    by_case = {str(one).lower(): one for one in (*fields, *(whole or ()))}
    key = steps[0] if steps[0] in fields else by_case.get(steps[0].lower())
    if key is None:
        key = from_text(keys, steps[0])
    below = (whole or {}).get(key)
    return {
        **(whole or {}),
        key: with_below(below, steps[1:], value, fields.get(key, items), convert),
    }


def mistakes(plain: Plain, value: Any, path: str = "") -> Iterator[str]:
    """Yield where a value, read by `from_json`, is not of the type."""
    if isinstance(plain, str):
        if not _is_a(plain, value):
            yield _expected(path, plain, value)
        return
    if not isinstance(plain, Mapping):
        return
    (form, inner), *_ = plain.items()
    classes = _FORMS.get(form)
    if classes is None:
        return
    if not isinstance(value, classes) or (
        isinstance(value, (tuple, list)) and form == "tuple" and len(value) != len(inner)
    ):
        yield _expected(path, plain, value)
        return
    for kind, item, where in _inside(form, inner, value, path):
        if item is _MISSING:
            yield f"{where} is missing: expected {shapes.shown(kind)}"
        else:
            yield from mistakes(kind, item, where)


def _inside(form: str, inner: Any, value: Any, path: str) -> Iterator[tuple[Plain, Any, str]]:
    """Yield type, value and path of everything in a container."""
    match form:
        case "map":
            for key, kind in inner.items():
                yield kind, value.get(key, _MISSING), _below(path, key)
        case "dict":
            for key, item in value.items():
                yield inner[0], key, f"{path}, key"
                yield inner[1], item, f"{path}[{key!r}]"
        case "list":
            yield from ((inner, item, f"{path}[{number}]") for number, item in enumerate(value))
        case "set":
            yield from ((inner, item, path) for item in value)
        case "tuple":
            for number, item in enumerate(value):
                yield inner[number], item, f"{path}[{number}]"
        case _:
            return


def _is_a(name: str, value: Any) -> bool:
    classes = _CLASSES.get(name)
    return classes is None or isinstance(value, classes)


def _expected(path: str, plain: Plain, value: Any) -> str:
    # Not the value: it may be a secret.
    said = "None" if value is None else f"a {type(value).__name__}"
    return f"{path}: expected {shapes.shown(plain)}, got {said}".removeprefix(": ")


def _below(path: str, key: str) -> str:
    return f"{path}[{key!r}]" if path else repr(key)


def _decimal(value: Any) -> Any:
    if isinstance(value, (str, int, float)) and not isinstance(value, bool):
        try:
            # A float's shortest text is what stood in the file.
            return Decimal(repr(value) if isinstance(value, float) else value)
        except InvalidOperation:
            raise Unfit('expected a decimal number, such as "1.10"') from None
    return value


def _datetime(value: Any) -> Any:
    return _read(datetime.fromisoformat, value, 'a time, such as "2026-01-02T03:04:05+00:00"')


def _int(value: Any) -> Any:
    return _read(int, value, "a whole number")


def _float(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        return value
    try:
        return float(value)
    except ValueError:
        raise Unfit("expected a number") from None


def _bool(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if value.lower() in _TRUTH:
        return _TRUTH[value.lower()]
    raise Unfit("expected true or false")


def _timedelta(value: Any) -> Any:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return timedelta(seconds=value)
    return _read(lambda text: timedelta(seconds=float(text)), value, "a number of seconds")


def _read(read: Callable[[str], Any], value: Any, what: str) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return read(value)
    except ValueError:
        raise Unfit(f"expected {what}") from None


_CONVERT: Mapping[str, Callable[[Any], Any]] = {
    "Decimal": _decimal,
    "datetime": _datetime,
    "date": lambda value: _read(date.fromisoformat, value, 'a date, such as "2026-01-02"'),
    "time": lambda value: _read(time.fromisoformat, value, 'a time of day, such as "03:04:05"'),
    "timedelta": _timedelta,
    "UUID": lambda value: _read(UUID, value, "a UUID"),
    "int": _int,
    "float": _float,
    "bool": _bool,
    "bytes": lambda value: value.encode() if isinstance(value, str) else value,
    "tuple": lambda value: tuple(value) if isinstance(value, list) else value,
    "set": lambda value: set(value) if isinstance(value, list) else value,
    "frozenset": lambda value: frozenset(value) if isinstance(value, list) else value,
    "PosixPath": lambda value: Path(value) if isinstance(value, str) else value,
}

_MISSING = object()

_CONTAINERS = frozenset({"dict", "list", "tuple", "set", "frozenset"})

_SINGLE: tuple[type, ...] = (Decimal, datetime, date, time, timedelta, UUID, str, int, float, bool,
                             bytes, dict, list, tuple)  # fmt: skip

_CLASSES: Mapping[str, type | tuple[type, ...]] = {
    **{one.__name__: one for one in _SINGLE},
    "set": (set, frozenset),
    "frozenset": frozenset,
    "NoneType": type(None),
    "PosixPath": PurePath,
}

_FORMS: Mapping[str, type | tuple[type, ...]] = {
    "map": dict,
    "dict": dict,
    "list": (list, tuple),
    "tuple": (tuple, list),
    "set": (set, frozenset),
    "members": (set, frozenset),
}
