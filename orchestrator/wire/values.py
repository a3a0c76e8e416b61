"""Values as bytes: msgpack, with marked maps for what msgpack cannot carry.

The bytes are those of service_framework 0.0.3, so that its services and ours understand each
other:

    Decimal    {"__decimal__": true, "as_str": "1.10"}
    set        {"__set__": true, "value": [...]}
    UUID       {"__uuid__": true, "as_str": "…"}

and two markers of our own:

    datetime   {"__datetime__": true, "as_str": "2026-01-02T03:04:05+00:00"}
    dict       {"__map__": [[key, value], …]}    when a key is not text, or reads like a marker

Packing writes the first four by itself. A dict is msgpack's own business there, so a dict which
needs `__map__` must be turned into it first: `plain` does that for a value of unknown shape, and
compiled models do it only where they can contain such a dict (`orchestrator.component.models`).

Received bytes are not trusted: whatever is wrong with them is one error, `MalformedMessage`, and
what comes out is never nested deeper than `MAX_DEPTH`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgpack

from orchestrator.errors import OrchestratorError, ProtocolError

MAX_DEPTH = 200
"""How deep lists and maps may be nested in one message: well within Python's recursion limit."""

MAX_CONTAINERS = 1_000_000
"""How many lists, maps and sets one message may hold: an empty one is a byte there, 60 here."""

MARKERS = frozenset(("__decimal__", "__set__", "__uuid__", "__datetime__", "__map__"))

# What a value of unknown shape may use of it; the rest is for the message and the model around the
# value.
_OWN_DEPTH = MAX_DEPTH - 16

_CONTAINERS = frozenset((dict, list, set, tuple, frozenset))

# Bytes that open no array or map in msgpack; what is left of a frame without them bounds its depth
# from above.
_NOT_OPENING = bytes(b for b in range(256) if not (0x80 <= b <= 0x9F or 0xDC <= b <= 0xDF))


class MalformedMessage(ProtocolError):
    """Received bytes are not what the wire format allows."""


class CannotEncode(OrchestratorError, ValueError):
    """A value cannot be sent: the wire format has no form for it."""


def encode(value: object) -> bytes:
    """Return `value` as bytes. Dicts inside it must have text keys, see `plain`.

    Raises:
        CannotEncode: The value holds a type, a number or a text that the format cannot carry.
    """
    try:
        return pack(value)
    except CannotEncode:
        raise
    except UNSENDABLE as error:
        raise unsendable(error) from error


def unsendable(error: Exception) -> CannotEncode:
    """Return what is told of an error that `pack` raised."""
    return CannotEncode(f"cannot send the value: {error}")


def decode(data: bytes) -> Any:
    """Return the value that `data` holds.

    Raises:
        MalformedMessage: It holds none, more than one, a broken marker, or one nested too deep.
    """
    size = len(data)
    # `find` and not `in`, which takes the bytes for a number first.
    is_marked = data.find(b"__") >= 0
    if size <= MAX_DEPTH and not is_marked:
        # Most messages: too short to be nested too deep, and no marker in them.
        try:
            return unpack_strictly(data)
        except WRONG:
            # Nothing that can be read, or a map with keys that are not text: told apart below.
            pass
    try:
        if size > MAX_CONTAINERS and _openings(data) > MAX_CONTAINERS:
            _count_containers(data)
        if is_marked:
            value = _unpack(data, object_hook=_unmark, strict_map_key=False)
        else:
            # No marker, so no need to be asked about each map.
            value = _unpack(data, strict_map_key=False)
    except MalformedMessage:
        raise
    except WRONG as error:
        reason = str(error) or type(error).__name__
        raise MalformedMessage(f"cannot decode a message of {size} bytes: {reason}") from error
    # Few messages have this many bytes that could open a container, so few are walked.
    if size > MAX_DEPTH and _openings(data) > MAX_DEPTH and _deeper_than(value, MAX_DEPTH):
        raise MalformedMessage(f"cannot accept a message nested deeper than {MAX_DEPTH} levels")
    return value


def plain(value: Any, depth: int = _OWN_DEPTH) -> Any:
    """Return `value` with each dict that needs it turned into its `__map__` form.

    Raises:
        CannotEncode: The value is nested deeper than a receiver accepts.
    """
    if depth < 0:
        raise CannotEncode(f"cannot send a value nested deeper than {_OWN_DEPTH} levels")
    if isinstance(value, dict):
        return mapping({key: plain(item, depth - 1) for key, item in value.items()})
    if isinstance(value, (list, tuple)):
        return [plain(item, depth - 1) for item in value]
    return value


def mapping(items: dict[Any, Any]) -> dict[Any, Any]:
    """Return `items`, in its `__map__` form when a key is not text or reads like a marker."""
    if all(map(_is_text, items)) and MARKERS.isdisjoint(items):
        return items
    return {"__map__": [[key, item] for key, item in items.items()]}


def _is_text(key: object) -> bool:
    return isinstance(key, str)


def _mark(value: object) -> dict[str, object]:
    if isinstance(value, Decimal):
        return {"__decimal__": True, "as_str": str(value)}
    if isinstance(value, (set, frozenset)):
        return {"__set__": True, "value": list(value)}
    if isinstance(value, UUID):
        return {"__uuid__": True, "as_str": str(value)}
    if isinstance(value, datetime):
        return {"__datetime__": True, "as_str": value.isoformat()}
    if isinstance(value, int):
        raise CannotEncode("cannot send an integer of more than 64 bits; send it as a Decimal")
    raise CannotEncode(
        f"cannot send a value of type {type(value).__name__}; what can be sent: None, bool, int, "
        "float, str, bytes, Decimal, datetime, UUID, and dict, list, tuple and set of these"
    )


def _unmark(found: dict[Any, Any]) -> Any:
    # Marked maps have one or two keys; most maps of messages are told apart here, at C speed.
    if len(found) > 2 or MARKERS.isdisjoint(found):
        return found
    for marker, read in _READERS:
        if marker in found:
            try:
                return read(found)
            except (KeyError, ValueError, TypeError, ArithmeticError, AttributeError) as error:
                raise MalformedMessage(
                    f"cannot read a {marker} in a message: {found!r:.200}"
                ) from error
    return found


def _read_map(found: dict[Any, Any]) -> dict[Any, Any]:
    return {_frozen(key): value for key, value in found["__map__"]}


def _frozen(value: Any) -> Any:
    """Return a hashable twin of a decoded value: it stood in a set or was a key."""
    if isinstance(value, list):
        return tuple(map(_frozen, value))
    if isinstance(value, set):
        return frozenset(value)
    return value


def _text(found: dict[Any, Any]) -> str:
    text = found["as_str"]
    if isinstance(text, str):
        return text
    raise TypeError("as_str must be text")


_READERS: tuple[tuple[str, Callable[[dict[Any, Any]], Any]], ...] = (
    ("__decimal__", lambda found: Decimal(_text(found))),
    ("__set__", lambda found: set(map(_frozen, found["value"]))),
    ("__uuid__", lambda found: UUID(_text(found))),
    ("__datetime__", lambda found: datetime.fromisoformat(_text(found))),
    ("__map__", _read_map),
)


def _openings(data: bytes) -> int:
    """Return how many containers a frame can hold at most."""
    return len(data.translate(None, _NOT_OPENING))


def _count_containers(data: bytes) -> None:
    """Refuse a frame of too many containers; each is let go as soon as it is counted."""
    left = MAX_CONTAINERS

    def count(_: object) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise MalformedMessage(
                f"cannot accept a message of more than {MAX_CONTAINERS} lists and maps"
            )

    _unpack(data, object_pairs_hook=count, list_hook=count, strict_map_key=False)


def _deeper_than(value: Any, depth: int) -> bool:
    """Tell whether containers are nested deeper than `depth`, without recursion."""
    level = [value] if type(value) in _CONTAINERS else []
    for _ in range(depth):
        if not level:
            return False
        level = [
            item
            for container in level
            for item in (container.values() if type(container) is dict else container)
            if type(item) in _CONTAINERS
        ]
    return bool(level)


pack: Callable[[object], bytes] = msgpack.Packer(default=_mark).pack
"""As `encode`, for whoever counts calls: it raises `CannotEncode` or any of `UNSENDABLE`."""

UNSENDABLE = (TypeError, ValueError, OverflowError, RecursionError)
"""What `pack` raises, too, for a value that cannot be sent; `unsendable` tells it in words."""

_unpack = msgpack.unpackb

unpack_strictly: Callable[[bytes], Any] = _unpack
"""As `decode`, for whoever knows that a message has neither markers nor many levels.

Where it raises one of `WRONG`, `decode` may read it nevertheless: keys that are not text, too.
"""

WRONG = (ValueError, TypeError, ArithmeticError, RecursionError, MemoryError)
"""What msgpack raises: its own errors derive from ValueError, and of a key that is a list it is a
TypeError."""
