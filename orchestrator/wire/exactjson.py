"""Values as JSON and back with their exact types, for files of configurations.

    Decimal  {"__decimal__": "1.10"}      set, frozenset, tuple  {"__set__": […]}
    UUID     {"__uuid__": "…"}            bytes                  {"__bytes__": base64}
    datetime {"__datetime__": ISO 8601}   date, time, timedelta, Path likewise
    float    {"__float__": "nan"}         only when JSON has none
    dict     {"__map__": [[key, value]]}  only when its keys are not all text, or look like these

A text is always the text it was, also one that looks like a date.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path, PosixPath
from typing import Any
from uuid import UUID

Json = Any


def text(value: Mapping[str, Any]) -> str:
    """Return a dict as the text of a JSON file, with its exact types.

    Raises:
        TypeError: Something in it is of another type than those above; names where it stands.
    """
    return json.dumps(dump(dict(value)), indent=4, ensure_ascii=False) + "\n"


def dump(value: Any, path: str = "") -> Json:
    """Return a value as one of JSON; `load` makes it what it was.

    Raises:
        TypeError: Something in it is of another type than those above; names where it stands.
    """
    kind = value.__class__
    if value is None or kind in (bool, int, str):
        return value
    if kind is float:
        return value if math.isfinite(value) else {"__float__": repr(value)}
    if kind is list:
        return [dump(item, f"{path}[{number}]") for number, item in enumerate(value)]
    if kind is dict:
        return _mapping(value, path)
    if kind is tuple:
        return {"__tuple__": dump(list(value), path)}
    if kind in (set, frozenset):
        # Sorted: equal sets give equal files.
        items = sorted((dump(item, f"{path}{{}}") for item in value), key=json.dumps)
        return {f"__{kind.__name__}__": items}
    if kind in _DUMP:
        marker, convert = _DUMP[kind]
        return {marker: convert(value)}
    known = "None, bool, int, float, str, list, dict, tuple, set, frozenset, " + ", ".join(
        sorted(one.__name__ for one in _DUMP if one is not PosixPath)
    )
    raise TypeError(f"{path or 'the value'} is a {kind.__name__}; kept can be {known}")


def load(value: Json) -> Any:
    """Return what `dump` was given.

    Raises:
        ValueError: What a marker holds is not of its type.
    """
    if isinstance(value, list):
        return [load(item) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((key, inner),) = value.items()
        read = _LOAD.get(key)
        if read is not None:
            try:
                return read(inner)
            except (TypeError, ValueError, ArithmeticError) as error:
                raise ValueError(f"{inner!r} is no value of {key}") from error
    return {key: load(item) for key, item in value.items()}


def simple(value: Any) -> Json:
    """Return a value as JSON without its types: a Decimal is a text, a set a list."""
    return _bare(dump(value))


def _bare(value: Json) -> Json:
    if isinstance(value, list):
        return [_bare(item) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((key, inner),) = value.items()
        if key == "__map__":
            return {str(_bare(one)): _bare(item) for one, item in inner}
        if key in _LOAD:
            return _bare(inner)
    return {key: _bare(item) for key, item in value.items()}


def _mapping(value: dict[Any, Any], path: str) -> Json:
    is_plain = all(key.__class__ is str for key in value)
    if is_plain and not (len(value) == 1 and next(iter(value)) in _LOAD):
        return {key: dump(item, f"{path}.{key}" if path else key) for key, item in value.items()}
    return {
        "__map__": [
            [dump(key, f"{path} (key)"), dump(item, f"{path}[{key!r}]")]
            for key, item in value.items()
        ]
    }


def _timedelta(value: timedelta) -> list[int]:
    return [value.days, value.seconds, value.microseconds]


_DUMP: Mapping[type, tuple[str, Callable[[Any], Json]]] = {
    Decimal: ("__decimal__", str),
    UUID: ("__uuid__", str),
    datetime: ("__datetime__", datetime.isoformat),
    date: ("__date__", date.isoformat),
    time: ("__time__", time.isoformat),
    timedelta: ("__timedelta__", _timedelta),
    bytes: ("__bytes__", lambda value: base64.b64encode(value).decode()),
    PosixPath: ("__path__", str),
}

_LOAD: Mapping[str, Callable[[Json], Any]] = {
    "__decimal__": Decimal,
    "__uuid__": UUID,
    "__datetime__": datetime.fromisoformat,
    "__date__": date.fromisoformat,
    "__time__": time.fromisoformat,
    "__timedelta__": lambda value: timedelta(*value),
    "__bytes__": lambda value: base64.b64decode(value, validate=True),
    "__path__": Path,
    "__float__": float,
    "__tuple__": lambda value: tuple(load(value)),
    "__set__": lambda value: set(load(value)),
    "__frozenset__": lambda value: frozenset(load(value)),
    "__map__": lambda value: {load(key): load(item) for key, item in value},
}
