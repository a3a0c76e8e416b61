"""The control protocol between the daemon and its clients, without input or output.

One JSON object per line, UTF-8, over a unix stream:

    {"id": 1, "method": "ps", "params": {"names": ["market"]}}      request
    {"id": 1, "result": {"instances": […]}}                         reply
    {"id": 1, "error": {"code": "unknown-name", "message": "…"}}    refusal
    {"id": 1, "event": {"seq": 7, "kind": "instance", "row": {…}}}  stream item

A lock of five thousand components is a few megabytes, so lines may be long, but not
without bound: `LONGEST` protects both ends from a peer that never ends its line.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from orchestrator.errors import ProtocolError

LONGEST = 256 * 1024 * 1024
"""The longest line that is accepted, in bytes."""

# ASCII, because text from the environment may hold bytes that are no UTF-8 (PEP 383).
_encode = json.JSONEncoder(separators=(",", ":")).encode
_decode = json.JSONDecoder().decode

NO_TEXTS: Mapping[str, bytes] = {}


def encode(message: Mapping[str, Any]) -> bytes:
    """Return the line for a message, its newline included."""
    return _encode(message).encode() + b"\n"


def request(
    number: int,
    method: str,
    params: Mapping[str, Any],
    texts: Mapping[str, bytes] = NO_TEXTS,
) -> bytes:
    """Return the line of a request; `texts` are parameters too, as JSON texts of one line."""
    line = encode({"id": number, "method": method, "params": params})
    if not texts:
        return line
    more = b",".join(b'"%b":%b' % (name.encode(), text) for name, text in texts.items())
    return line.removesuffix(b"}}\n") + (b"," if params else b"") + more + b"}}\n"


def result(number: int, value: Mapping[str, Any]) -> bytes:
    """Return the line of a reply."""
    return encode({"id": number, "result": value})


def error(number: int, code: str, message: str, **data: Any) -> bytes:
    """Return the line of a refusal; `data` joins the error object."""
    return encode({"id": number, "error": {"code": code, "message": message, **data}})


def event(number: int, value: Mapping[str, Any]) -> bytes:
    """Return the line of a stream item."""
    return encode({"id": number, "event": value})


class Decoder:
    """Turns the bytes of one direction into messages.

    After an error the stream is useless: where the next message starts is unknown.

    Args:
        longest: The longest line that is accepted, in bytes.
        read: Makes a message of a line, as `message` does.
    """

    __slots__ = ("_longest", "_parts", "_read", "_size")

    def __init__(
        self, longest: int = LONGEST, read: Callable[[bytes], dict[str, Any]] | None = None
    ) -> None:
        self._read = read or message
        self._parts: list[bytes] = []
        self._size = 0
        self._longest = longest

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        """Return the messages that `data` completes.

        Raises:
            ProtocolError: A line is no JSON object, or longer than allowed.
        """
        *lines, rest = data.split(b"\n")
        messages = []
        for line in lines:
            if self._parts:
                line = b"".join((*self._parts, line))  # noqa: PLW2901
                self._parts.clear()
                self._size = 0
            if len(line) > self._longest:
                raise self._too_long()
            if line.strip():
                messages.append(self._read(line))
        if rest:
            self._parts.append(rest)
            self._size += len(rest)
            if self._size > self._longest:
                raise self._too_long()
        return messages

    def _too_long(self) -> ProtocolError:
        return ProtocolError(f"cannot read a line of more than {self._longest} bytes")

    @property
    def rest(self) -> bytes:
        """The beginning of a message that has not come whole."""
        return b"".join(self._parts)

    def finish(self) -> None:
        """Check that the stream did not end within a message.

        Raises:
            ProtocolError: It did.
        """
        if self._parts:
            raise ProtocolError(f"cannot read a message cut off after {self._size} bytes")


def message(line: bytes) -> dict[str, Any]:
    """Return the message that a line is.

    Raises:
        ProtocolError: It is no JSON object.
    """
    try:
        found = _decode(line.decode())
    except (ValueError, RecursionError) as problem:
        raise ProtocolError(f"cannot read a message: {problem}") from problem
    if not isinstance(found, dict):
        raise ProtocolError(f"cannot read a message: a {type(found).__name__}, not an object")
    return found
