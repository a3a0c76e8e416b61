"""Message values as JSON and back, for people at a command line.

    Decimal, UUID     text                  datetime    text, ISO 8601
    bytes             text, base64          tuple, set  list
    dict              object; a key that is no text becomes the text of its JSON

What comes back is read by the model, in its plain form (`Kind.plain`): JSON alone does not tell a
Decimal from a text.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID

from orchestrator.component.kinds import Plain

Json = Any


def dump(value: object) -> Json:
    """Return a message's value as a value of JSON; what is none of its types as its text."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {_key(key): dump(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [dump(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted((dump(item) for item in value), key=repr)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value)


def load(value: Json, plain: Plain) -> Any:
    """Return what a value of JSON means for a type of a model.

    Where the two do not fit the value stays as it is: checking is the model's business, and its
    errors name the place.
    """
    if isinstance(plain, str):
        read = _READ.get(plain)
        try:
            return value if read is None else read(value)
        except (ValueError, TypeError, InvalidOperation, binascii.Error):
            return value
    if not isinstance(plain, Mapping):
        return value
    (form, inner), *_ = plain.items()
    if form == "map" and isinstance(value, Mapping):
        return fields(value, inner)
    if form == "dict" and isinstance(value, Mapping):
        keys, items = inner
        return {_unkey(key, keys): load(item, items) for key, item in value.items()}
    if not isinstance(value, list):
        return value
    match form:
        case "list":
            return [load(item, inner) for item in value]
        case "tuple" if len(inner) == len(value):
            return tuple(load(item, one) for item, one in zip(value, inner, strict=True))
        case "set":
            return _set([load(item, inner) for item in value])
        case "members":
            return _set(value)
        case _:
            return value


def fields(value: Mapping[str, Json], plains: Mapping[str, Plain]) -> dict[str, Any]:
    """Return a dict with its fields read by their types; other fields stay as they are."""
    return {key: load(item, plains[key]) if key in plains else item for key, item in value.items()}


def _key(key: object) -> str:
    dumped = dump(key)
    return dumped if isinstance(dumped, str) else json.dumps(dumped)


def _unkey(key: str, plain: Plain) -> Any:
    """Return a key of an object as the model has it: what `_key` made of it."""
    found = load(key, plain)
    if found is not key or plain in ("str", "object"):
        return found
    try:
        read = load(json.loads(key), plain)
    except ValueError:
        return key
    return tuple(read) if isinstance(read, list) else read


def _set(items: list[Any]) -> Any:
    try:
        return set(items)
    except TypeError:
        return items


def _float(value: Json) -> float:
    if isinstance(value, bool):
        raise TypeError
    return float(value)


_READ: Mapping[str, Callable[[Json], Any]] = {
    "Decimal": lambda value: Decimal(str(value)),
    "UUID": lambda value: UUID(str(value)),
    "datetime": datetime.fromisoformat,
    "bytes": lambda value: base64.b64decode(value, validate=True),
    "float": _float,
    "tuple": lambda value: tuple(value) if isinstance(value, list) else value,
    "set": lambda value: set(value) if isinstance(value, list) else value,
}
