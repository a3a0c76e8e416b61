"""The outbound ends at work, for plain functions: request, publish, call out.

Sending is synchronous. A request waits on its own socket, with a deadline, and nothing else of the component runs
meanwhile: that is what functions which never run in parallel mean. `orchestrator.component.awaiting` does the same
for async functions, over the same sockets.

Requests are numbered in an envelope frame before the empty delimiter. REP and ROUTER peers send that frame back
untouched, so a reply that comes after its deadline is recognised and dropped instead of answering the next request.

A publisher never drops: when a subscriber has `sockets.HIGH_WATER_MARK` messages waiting, publishing waits for it,
and raises after its timeout. A subscriber that is gone holds nobody up.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any, Protocol

import zmq

from orchestrator.component import calls, connections
from orchestrator.component.connections import End
from orchestrator.component.errors import (
    ModelMismatch,
    RemoteError,
    RequestError,
    RequestTimeout,
    SendError,
    SendTimeout,
)
from orchestrator.component.flow import Flow
from orchestrator.component.models import Arguments
from orchestrator.component.sockets import Socket
from orchestrator.wire import messages, values

_NOBLOCK = zmq.NOBLOCK
_NOBLOCK_MORE = zmq.NOBLOCK | zmq.SNDMORE


class Outbound(Protocol):
    """An outbound end."""

    end: End

    def send(self, arguments: Any) -> dict[str, Any]:
        """Send arguments that the model allows; return those of the reply."""


class Requester:
    """Asks the replyers at its endpoints in turn, each request to one that is connected."""

    def __init__(self, end: End, socket: Socket, flow: Flow, endpoints: tuple[str, ...]) -> None:
        self.end = end
        self.socket = socket
        self.timeout = float(end.options.get("timeout", connections.REQUEST_TIMEOUT))
        self.stray: Callable[[bytes, bytes], None] | None = None
        """Takes replies to other requests than the one waited for."""
        assert end.returns is not None
        self._returns = end.returns
        self._endpoints = " or ".join(endpoints)
        self._frame = _frames(end, flow, "request")
        self._numbers = itertools.count(1)
        self._milliseconds = max(1, round(self.timeout * 1000))
        # Without this a request would be queued for a replyer that is not there.
        socket.set(zmq.IMMEDIATE, 1)
        socket.set(zmq.RCVTIMEO, self._milliseconds)

    def send(self, arguments: Any) -> dict[str, Any]:
        """Send a request and wait for its reply.

        Raises:
            ModelMismatch: Arguments or reply break the model.
            RequestTimeout: No reply came in time. The request may have been carried out.
            RemoteError: The peer answered with an error.
        """
        number, frame = self.prepare(arguments)
        deadline = time.monotonic() + self.timeout
        while not self.transmit(number, frame):
            left = round((deadline - time.monotonic()) * 1000)
            if left <= 0 or not self.socket.poll(left, zmq.POLLOUT):
                raise self.expired(sent=False)
        return self.opened(self._reply(number, deadline))

    def prepare(self, arguments: Any) -> tuple[bytes, bytes]:
        """Return the number and the frame of a new request."""
        return next(self._numbers).to_bytes(8), self._frame(arguments)

    def transmit(self, number: bytes, frame: bytes) -> bool:
        """Send a request if a replyer is connected, and tell whether one is."""
        send = self.socket.send
        try:
            send(number, _NOBLOCK_MORE)
        except zmq.Again:
            return False
        send(b"", _NOBLOCK_MORE)
        send(frame, _NOBLOCK)
        return True

    def opened(self, payload: bytes) -> dict[str, Any]:
        """Return the arguments of a reply."""
        name = self.end.name
        try:
            result, _, error = messages.decode_reply(payload)
        except values.MalformedMessage as broken:
            raise RequestError(f"cannot complete the request {name!r}: {broken}") from broken
        if error is not None:
            raise RemoteError(name, error.kind, error.type, error.message)
        return _returned(result, self._returns, name)

    def expired(self, *, sent: bool) -> RequestTimeout:
        """Return the error for a request that has waited long enough."""
        start = f"cannot complete the request {self.end.name!r}"
        if sent:
            return RequestTimeout(
                f"{start}: no reply from {self._endpoints} within {self.timeout:g} s; "
                "it may have been carried out"
            )
        return RequestTimeout(
            f"{start}: nobody was connected at {self._endpoints} for {self.timeout:g} s; "
            "is the component that replies running?"
        )

    def _reply(self, number: bytes, deadline: float) -> bytes:
        receive = self.socket.recv_multipart
        shortened = False
        try:
            while True:
                frames = receive()
                if len(frames) == 3 and frames[0] == number:
                    return frames[2]
                if self.stray is not None and len(frames) == 3:
                    self.stray(frames[0], frames[2])
                left = round((deadline - time.monotonic()) * 1000)
                if left <= 0:
                    raise self.expired(sent=True)
                self.socket.set(zmq.RCVTIMEO, left)
                shortened = True
        except zmq.Again:
            raise self.expired(sent=True) from None
        finally:
            if shortened:
                self.socket.set(zmq.RCVTIMEO, self._milliseconds)


class Publisher:
    """Sends to all subscribers of its topic."""

    def __init__(self, end: End, socket: Socket, flow: Flow, *, expected: int = 0) -> None:
        self.end = end
        self.socket = socket
        self.expected = expected
        self.timeout = float(end.options.get("timeout", connections.SEND_TIMEOUT))
        self.subscribers = 0
        self._topic = messages.prefix(end.topic)
        self._frame = _frames(end, flow, "message", self._topic)
        self._transmit = socket.send
        socket.set(zmq.XPUB_NODROP, 1)
        if expected:
            # Each subscription and each end of one, not only the first and the last of a topic.
            socket.set(zmq.XPUB_VERBOSER, 1)

    @staticmethod
    def kind(*, expected: int) -> int:
        """Return the type of socket: an XPUB hears of subscriptions, which only one who waits for them reads."""
        return int(zmq.XPUB if expected else zmq.PUB)

    def send(self, arguments: Any) -> dict[str, Any]:
        """Publish arguments, waiting for slow subscribers.

        Raises:
            ModelMismatch: The arguments break the model.
            SendTimeout: A subscriber was too slow; nobody has got the message.
        """
        frame = self._frame(arguments)
        try:
            self._transmit(frame, _NOBLOCK)
        except zmq.Again:
            self._send_patiently(frame)
        return {}

    def prepare(self, arguments: Any) -> bytes:
        """Return the frame of a publication."""
        return self._frame(arguments)

    def transmit(self, frame: bytes) -> bool:
        """Publish if all subscribers have room, and tell whether they had."""
        try:
            self._transmit(frame, _NOBLOCK)
        except zmq.Again:
            return False
        return True

    def expired(self) -> SendTimeout:
        """Return the error for a publication that has waited long enough."""
        return SendTimeout(
            f"cannot publish {self.end.name!r}: a subscriber has not read for {self.timeout:g} s"
        )

    def wait_for_subscribers(self, timeout: float) -> bool:
        """Wait until the expected number of subscribers is connected; False when it is not in time."""
        deadline = time.monotonic() + timeout
        while self.subscribers < self.expected:
            left = round((deadline - time.monotonic()) * 1000)
            if left <= 0 or not self.socket.poll(left, zmq.POLLIN):
                return False
            self._count(self.socket.recv(_NOBLOCK))
        return True

    def _count(self, event: bytes) -> None:
        # A byte 1 for a subscription or 0 for its end, then its prefix.
        if event[:1] in (b"\0", b"\1") and self._topic.startswith(event[1:]):
            self.subscribers += 1 if event[0] else -1

    def _send_patiently(self, frame: bytes) -> None:
        deadline = time.monotonic() + self.timeout
        while not self.transmit(frame):
            left = round((deadline - time.monotonic()) * 1000)
            if left <= 0 or not self.socket.poll(left, zmq.POLLOUT):
                raise self.expired()


class ExternalRequest:
    """Calls a function of this process, under the same model as a request."""

    def __init__(self, end: End) -> None:
        self.end = end
        assert end.function is not None
        self.function = end.function
        self._async = calls.is_async(end.function)

    def send(self, arguments: Any) -> dict[str, Any]:
        """Call the function with the arguments; its own errors come through.

        Raises:
            ModelMismatch: Arguments or return value break the model.
            SendError: The function is async, and the caller is not.
        """
        if self._async:
            raise SendError(
                f"cannot call {self.end.name!r} from a plain function: {self.function!r} is async"
            )
        self.check(arguments)
        return self.returned(self.function(**arguments))

    def check(self, arguments: Any) -> None:
        """Raise `ModelMismatch` unless the arguments fit."""
        self.end.arguments.check(arguments, f"cannot call {self.end.name!r}")

    def returned(self, result: Any) -> dict[str, Any]:
        """Return what the function returned, checked if there is a model for it."""
        if self.end.returns is None:
            return {} if result is None else result
        return _returned(result, self.end.returns, self.end.name)


def _frames(end: End, flow: Flow, noun: str, topic: bytes = b"") -> Callable[[Any], bytes]:
    """Return the function that checks arguments and makes their frame."""
    accepts, dump, check = end.arguments.accepts, end.arguments.dump, end.arguments.check
    subject = f"cannot send the {noun} {end.name!r}"
    encode, following, limit = messages.encode_request, flow.next, messages.MAX_SIZE

    def frame(arguments: Any) -> bytes:
        if not accepts(arguments):
            check(arguments, subject)
        try:
            made = encode(arguments if dump is None else dump(arguments), following())
        except values.CannotEncode as error:
            raise SendError(f"{subject}: {error}") from error
        if len(made) > limit:
            raise SendError(f"{subject}: it has {len(made)} bytes; at most {limit} can be sent")
        return topic + made if topic else made

    return frame


def _returned(result: Any, model: Arguments, name: str) -> dict[str, Any]:
    if result is None:
        result = {}
    if model.load is not None:
        result = model.load(result)
    if not model.accepts(result):
        raise ModelMismatch(f"cannot use the reply to {name!r}", tuple(model.explain(result)))
    return result  # type: ignore[no-any-return]
