"""Messages between components: requests, replies and publications as frames. No I/O.

    request       {"args": {…}, "workflow_id": "…"}
    reply         {"return_args": {…}, "workflow_id": "…"}
    error reply   {"return_args": {}, "workflow_id": "…", "error": {"kind", "type", "message"}}
    publication   msgpack(topic) + msgpack(request)   in one frame; without a topic, the request

A subscription is the prefix msgpack(topic). It holds the topic's length, so topics match whole: a
subscriber of "tick" does not receive "ticks".

The field `error` is ours. A service_framework requester does not know it and sees a reply without
arguments.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from orchestrator.wire import values

# Without `values.encode` between: each call counts.
_pack, _decode = values.pack, values.decode

MAX_SIZE = 64 * 1024 * 1024
"""How large one frame may be, in bytes; larger ones are neither sent nor accepted."""


class Failure(enum.StrEnum):
    """Why a request was answered with an error."""

    MALFORMED = "malformed"
    ARGUMENTS = "arguments"
    HANDLER = "handler"
    RETURN = "return"


@dataclass(frozen=True, slots=True)
class Error:
    """The error of a reply: its kind, the type of the exception if any, and its message."""

    kind: str
    type: str
    message: str


def prefix(topic: str) -> bytes:
    """Return what publications of a topic begin with; it is what a subscriber subscribes to."""
    return values.encode(topic) if topic else b""


def check_size(frame: bytes, limit: int) -> None:
    """Refuse a frame of more than `limit` bytes.

    Raises:
        MalformedMessage: It has more.
    """
    if len(frame) > limit:
        raise values.MalformedMessage(
            f"cannot accept a message of {len(frame)} bytes; at most {limit} are allowed"
        )


def encode_request(arguments: object, workflow_id: str | None) -> bytes:
    """Return the frame of a request, or of a publication without a topic."""
    try:
        return _pack({"args": arguments, "workflow_id": workflow_id})
    except values.CannotEncode:
        raise
    except values.UNSENDABLE as error:
        raise values.unsendable(error) from error


def encode_reply(arguments: object, workflow_id: str | None) -> bytes:
    """Return the frame of a reply."""
    try:
        return _pack({"return_args": arguments, "workflow_id": workflow_id})
    except values.CannotEncode:
        raise
    except values.UNSENDABLE as error:
        raise values.unsendable(error) from error


def encode_error(error: Error, workflow_id: str | None) -> bytes:
    """Return the frame of a reply which says that the request failed."""
    said = {"kind": error.kind, "type": _sendable(error.type), "message": _sendable(error.message)}
    return values.encode({"return_args": {}, "workflow_id": workflow_id, "error": said})


def decode_request(frame: bytes) -> tuple[Any, str | None]:
    """Return arguments and workflow id of a request, or of a publication behind its topic.

    Raises:
        MalformedMessage: The frame is no request.
    """
    message = _decode(frame)
    try:
        arguments = message["args"]
        workflow_id = message["workflow_id"]
    except (TypeError, KeyError):
        if isinstance(message, dict) and "args" in message:
            return message["args"], None
        raise values.MalformedMessage(
            "cannot read a request: expected a map with 'args' and 'workflow_id', "
            f"got {message!r:.200}"
        ) from None
    if type(workflow_id) is str or workflow_id is None:
        return arguments, workflow_id
    return arguments, _readable(workflow_id)


def publications(topic: bytes) -> Callable[[bytes], tuple[Any, str | None]]:
    """Return `decode_publication` for one topic; without a topic it is `decode_request`."""
    if not topic:
        return decode_request
    return functools.partial(decode_publication, topic=topic)


def small_publications(
    topic: bytes, limit: int, accepts: Callable[[Any], bool]
) -> Callable[[bytes], tuple[Any, str] | None]:
    """Return what decodes and tests small publications of a topic at once, None for all others.

    What it leaves, be it only that a closer look is due, is for `decode_publication` to judge. It
    looks for no markers, so it is for arguments of which `accepts` allows no containers: whatever
    has a marker is none of them. What has more than `limit` bytes is left, too.
    """
    start, most, unpack = len(topic), min(limit, values.MAX_DEPTH), values.unpack_strictly

    def decode(frame: bytes) -> tuple[Any, str] | None:
        if len(frame) > most or (start and not frame.startswith(topic)):
            return None
        try:
            message = unpack(frame[start:] if start else frame)
            arguments = message["args"]
            workflow_id = message["workflow_id"]
        except (*values.WRONG, KeyError):
            return None
        if type(workflow_id) is str and accepts(arguments):
            return arguments, workflow_id
        return None

    return decode


def decode_publication(frame: bytes, topic: bytes) -> tuple[Any, str | None]:
    """Return arguments and workflow id of a publication whose topic has the prefix `topic`.

    Raises:
        MalformedMessage: The frame has another topic or holds no publication.
    """
    if not frame.startswith(topic):
        raise values.MalformedMessage(f"cannot read a publication: its topic is not {topic!r}")
    return decode_request(frame[len(topic) :] if topic else frame)


def decode_reply(frame: bytes) -> tuple[Any, str | None, Error | None]:
    """Return arguments, workflow id and error of a reply; the error is None when all went well.

    Raises:
        MalformedMessage: The frame is no reply.
    """
    message = _decode(frame)
    try:
        arguments, workflow_id = message["return_args"], message["workflow_id"]
        if type(workflow_id) is str and "error" not in message:
            # As good as all of them.
            return arguments, workflow_id, None
    except (TypeError, KeyError):
        pass
    if not isinstance(message, dict) or not ("return_args" in message or "error" in message):
        raise values.MalformedMessage(
            f"cannot read a reply: expected a map with 'return_args', got {message!r:.200}"
        )
    workflow_id = message.get("workflow_id")
    if workflow_id is not None and type(workflow_id) is not str:
        workflow_id = _readable(workflow_id)
    error = message.get("error")
    return message.get("return_args"), workflow_id, None if error is None else _error(error)


def _error(found: Any) -> Error:
    if not isinstance(found, dict):
        return Error(Failure.HANDLER, "", str(found))
    return Error(
        str(found.get("kind", Failure.HANDLER)),
        str(found.get("type", "")),
        str(found.get("message", "")),
    )


def _readable(workflow_id: object) -> str:
    # The first hop of service_framework sends a UUID; anything else is not worth losing a message
    # for.
    return f"{workflow_id!s:.200}"


def _sendable(text: str) -> str:
    """Return `text` without the lone surrogates that UTF-8 cannot carry."""
    return text.encode("utf-8", "backslashreplace").decode()
