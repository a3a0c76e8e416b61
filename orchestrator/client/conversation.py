"""A client's side of the control protocol without its socket: who asked what, and what came.

The synchronous and the asynchronous client both speak through it, so that an answer is
understood in one place.
"""

from __future__ import annotations

import collections
from collections.abc import Mapping
from typing import Any, cast

from orchestrator.client.rows import Event
from orchestrator.errors import ProtocolError, RequestFailed
from orchestrator.wire import control

Events = collections.deque[Event]
"""Items of one stream that nobody has taken yet."""


class Conversation:
    """Numbers requests, and keeps what comes until it is asked for."""

    __slots__ = ("_decoder", "_number", "_replies", "_streams")

    def __init__(self) -> None:
        self._number = 0
        self._begin()

    def _begin(self) -> None:
        self._decoder = control.Decoder()
        self._replies: dict[int, dict[str, Any]] = {}
        self._streams: dict[int, Events] = {}

    def restart(self) -> None:
        """Begin anew with another daemon: what the last one still owed never comes."""
        self._begin()

    def request(
        self,
        method: str,
        params: Mapping[str, Any],
        *,
        is_stream: bool = False,
        texts: Mapping[str, bytes] = control.NO_TEXTS,
    ) -> tuple[int, bytes]:
        """Return the number of a request, and the line to send; `texts` as in `control`."""
        self._number += 1
        if is_stream:
            self._streams[self._number] = collections.deque()
        return self._number, control.request(self._number, method, params, texts)

    def stream(self, number: int) -> Events:
        """Return the items of the stream that request `number` asked for."""
        return self._streams[number]

    def feed(self, data: bytes) -> None:
        """Take in what came.

        Raises:
            ProtocolError: It is not what the protocol allows.
            RequestFailed: The daemon could not read what we sent.
        """
        for message in self._decoder.feed(data):
            self._take(message)

    def finish(self) -> None:
        """Take in that nothing more comes.

        Raises:
            ProtocolError: It ended in the middle of a line.
        """
        self._decoder.finish()

    def _take(self, message: dict[str, Any]) -> None:
        number = message.get("id")
        event = message.get("event")
        if isinstance(event, dict) and number in self._streams:
            self._streams[number].append(cast("Event", event))
        elif "error" in message and not number:
            # Without the number of a request: the daemon could not read our line at all.
            _result(message)
        elif isinstance(number, int) and ("result" in message or "error" in message):
            self._replies[number] = message
        else:
            raise ProtocolError("cannot understand the daemon: neither reply nor event")

    def is_answered(self, number: int) -> bool:
        """Tell whether the answer to a request has come."""
        return number in self._replies

    def answered(self) -> list[int]:
        """Return the numbers of the requests whose answers nobody has taken yet."""
        return list(self._replies)

    def answer(self, number: int) -> dict[str, Any]:
        """Return the result of a request that is answered, once.

        Raises:
            RequestFailed: It was refused.
        """
        return _result(self._replies.pop(number))


def _result(message: Mapping[str, Any]) -> dict[str, Any]:
    error = message.get("error")
    if isinstance(error, dict):
        text = str(error.get("message", "no reason was given"))
        raise RequestFailed(str(error.get("code", "failed")), text)
    result = message.get("result")
    if not isinstance(result, dict):
        raise ProtocolError("cannot understand the daemon: a reply without a result")
    return result
