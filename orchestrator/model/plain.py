"""Our frozen structures to plain JSON values and back, by their type annotations.

Values that equal their default are left out, so that a new field changes no digest. The
encoders are composed once per type: a thousand components cost milliseconds. To JSON text and
back it is a quarter of that, for whoever needs no plain values and no digest.
"""

from __future__ import annotations

import enum
import functools
import json
import types
import typing
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar, cast

import msgspec
from msgspec import NODEFAULT, Struct, structs

T = TypeVar("T")
Convert = Callable[[Any], Any]


def encode(value: Any) -> Any:
    """Return the plain JSON value of a structure."""
    return _encoder(cast("Hashable", type(value)))(value)


def decode(cls: type[T], plain: Any) -> T:
    """Return the instance of `cls` that `plain` describes; unknown keys are ignored.

    Unknown keys come from a newer version that wrote the value, and leaving them out is
    what an older reader can do.

    Raises:
        ValueError: A value does not fit its field; the message names the field.
    """
    try:
        return msgspec.convert(plain, cls)
    except msgspec.ValidationError as error:
        raise ValueError(f"cannot read {cls.__name__}: {error}") from error


def dumps(value: Struct) -> bytes:
    """Return the JSON text of a structure, for `loads`: one line.

    What equals its default may be there or not.
    """
    try:
        text = msgspec.json.encode(value)
    except UnicodeEncodeError:
        pass  # Text from the environment may hold bytes that are no UTF-8 (PEP 383).
    else:
        # What is no number of JSON's becomes null there, and a null of ours is rare.
        if b"null" not in text:
            return text
    return json.dumps(encode(value), separators=(",", ":")).encode()


def loads(cls: type[T], text: bytes | str) -> T:
    """Return the instance of `cls` whose JSON text it is; unknown keys are ignored.

    Raises:
        ValueError: It is no JSON, or a value does not fit its field.
    """
    try:
        return msgspec.json.decode(text, type=cls)
    except ValueError:
        # It may be one that only the library reads; and there is one voice for mistakes.
        return decode(cls, json.loads(text))


@functools.cache
def _fields(cls: type[Struct]) -> tuple[tuple[str, Any, Any], ...]:
    return tuple((f.name, _plain_hint(f.type), _default(f)) for f in structs.fields(cls))


def _plain_hint(hint: Any) -> Any:
    return typing.get_args(hint)[0] if typing.get_origin(hint) is typing.Annotated else hint


def _default(field: structs.FieldInfo) -> Any:
    return field.default if field.default_factory is NODEFAULT else field.default_factory()


@functools.cache
def _encoder(hint: Any) -> Convert:
    if isinstance(hint, type) and issubclass(hint, Struct):
        return _struct_encoder(hint)
    origin = typing.get_origin(hint)
    arguments = typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        inner = _encoder(_optional(arguments))
        return lambda value: None if value is None else inner(value)
    if origin is tuple:
        inner = _encoder(arguments[0])
        return list if inner is _same else lambda value: [inner(item) for item in value]
    if isinstance(origin, type) and issubclass(origin, Mapping):
        inner = _encoder(arguments[1])
        if inner is _same:
            return dict
        return lambda value: {key: inner(item) for key, item in value.items()}
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return lambda value: value.value
    return _same


def _struct_encoder(cls: type[Struct]) -> Convert:
    parts = [(name, _encoder(hint), default) for name, hint, default in _fields(cls)]

    def convert(value: Any) -> dict[str, Any]:
        return {
            name: inner(item)
            for (name, inner, default), item in zip(parts, structs.astuple(value), strict=True)
            if item is not default and item != default
        }

    return convert


def _optional(arguments: tuple[Any, ...]) -> Any:
    (inner,) = [argument for argument in arguments if argument is not types.NoneType]
    return inner


def _same(value: Any) -> Any:
    return value
