"""The outbound ends at work, for plain functions: request, publish, call out.

Sending is synchronous. A request waits on its own socket, with a deadline, and nothing else of the
component runs meanwhile: that is what functions which never run in parallel mean.
`orchestrator.component.awaiting` does the same for async functions, over the same sockets.

Idempotent requests are sent again, on the same socket, when no reply comes: REQ_RELAXED gives up
the connection to the replyer that was silent, and the next attempt goes to another one.

REQ_CORRELATE numbers requests in an envelope frame, which REP and ROUTER peers send back
untouched: a reply that comes after its deadline is recognised and dropped instead of answering the
next request. REQ_RELAXED allows that next request.

A publisher drops nothing, unless its address says so: when a subscriber has as many messages
waiting as the address allows, publishing waits for it, and raises after its timeout. A subscriber
that is gone holds nobody up.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import zmq

from orchestrator.component import calls, connections, errors, sockets
from orchestrator.component.bursts import Burst
from orchestrator.component.connections import End
from orchestrator.component.errors import (
    ModelMismatch,
    RequestError,
    RequestTimeout,
    SendError,
    SendTimeout,
)
from orchestrator.component.flow import Flow
from orchestrator.component.meter import Meter, Watch, clock
from orchestrator.component.models import Arguments
from orchestrator.component.sockets import Context, Socket
from orchestrator.wire import messages, values

logger = logging.getLogger(__name__)

CONNECT_AGAIN = 5.0
"""After how many seconds at the least a requester that finds nobody connects anew."""

_NOBLOCK = int(zmq.NOBLOCK)


class Outbound(Protocol):
    """An outbound end."""

    end: End
    meter: Meter

    def observe(self, watch: Watch | None) -> None:
        """Tell `watch` of what is sent from the next message on; None ends that."""

    def send(self, arguments: Any, timeout: float | None = None) -> dict[str, Any]:
        """Send arguments that the model allows; return those of the reply.

        Args:
            arguments: By name.
            timeout: How long it may take, in seconds, instead of the connection's own.
        """

    def exchange(self, end: End) -> None:
        """Go on by another declaration of the same end."""


class Requester:
    """Asks the replyers at its endpoints in turn, each request to one that is connected."""

    def __init__(self, end: End, context: Context, flow: Flow, endpoints: tuple[str, ...]) -> None:
        self.end = end
        self.timeout = float(end.options.get("timeout", connections.REQUEST_TIMEOUT))
        self.attempts = 1
        if end.options.get("idempotent"):
            self.attempts = end.options.get("attempts", connections.ATTEMPTS)
        self._backoff = float(end.options.get("backoff", connections.BACKOFF))
        self._limit = sockets.terms_of(context, endpoints).max_message
        self._watch: Watch | None = None
        self.meter = Meter()
        self.frame = _frames(end, flow, "request", self._limit, self.meter)
        """Checks arguments and makes their frame."""
        assert end.returns is not None
        self._returns = end.returns
        self._flow = flow
        self._context = context
        self._endpoints = endpoints
        self._connect()

    def _connect(self) -> None:
        self._socket = self.open_socket(zmq.REQ)
        self._socket.set(zmq.REQ_CORRELATE, 1)
        self._socket.set(zmq.REQ_RELAXED, 1)
        self._socket.set(zmq.RCVTIMEO, max(1, round(self.timeout / self.attempts * 1000)))
        sockets.attach(self._socket, self.end, self._endpoints)
        self._transmit = sockets.sender(self._socket)
        self._receive = self._socket.recv
        self._connected = time.monotonic()

    def exchange(self, end: End) -> None:
        """Go on by another declaration of the same end."""
        assert end.returns is not None
        self.end, self._returns = end, end.returns
        self.observe(self._watch)

    def observe(self, watch: Watch | None) -> None:
        """Tell `watch` of each request from the next one on."""
        self._watch = watch
        self.frame = _frames(self.end, self._flow, "request", self._limit, self.meter, watch=watch)

    def open_socket(self, kind: int) -> Socket:
        """Return a socket for requests, not yet connected."""
        socket = sockets.open_socket(self._context, kind)
        # Without this a request would be queued for a replyer that is not there.
        socket.set(zmq.IMMEDIATE, 1)
        return socket

    def dealer(self) -> Socket:
        """Return a connected socket on which many requests may be under way."""
        socket = self.open_socket(zmq.DEALER)
        sockets.attach(socket, self.end, self._endpoints)
        return socket

    def send(self, arguments: Any, timeout: float | None = None) -> dict[str, Any]:
        """Send a request and wait for its reply.

        Raises:
            ModelMismatch: Arguments or reply break the model.
            RequestTimeout: No reply came in time. The request may have been carried out.
            RemoteError: The peer answered with an error.
        """
        frame = self.frame(arguments)
        began = clock()
        try:
            return self._completed(frame, timeout)
        except Exception:
            self.meter.errors += 1
            raise
        finally:
            self.meter.timed(began, clock())

    def _completed(self, frame: bytes, timeout: float | None) -> dict[str, Any]:
        if timeout is not None:
            return self._send_patiently(frame, time.monotonic(), timeout)
        try:
            self._transmit(frame, _NOBLOCK)
        except zmq.Again:
            return self._send_patiently(frame, time.monotonic(), self.timeout)
        try:
            payload = self._receive()
        except zmq.Again:
            if self.attempts == 1:
                raise self.expired(sent=True) from None
            began = time.monotonic() - self.timeout / self.attempts
            return self._send_patiently(frame, began, self.timeout, attempt=1)
        return self.opened(payload)

    def tries(
        self, began: float, timeout: float, attempt: int = 0
    ) -> Iterator[tuple[float, float]]:
        """Yield for each attempt when to send, and until when to wait, on the monotonic clock.

        Args:
            began: When the first attempt was.
            timeout: How long all attempts may take together, in seconds.
            attempt: How many there were already.
        """
        for number in range(attempt, self.attempts):
            pause = self._backoff * 2 ** (number - 1) if number else 0.0
            share = timeout / self.attempts
            begin = began + number * share + min(pause, share / 2)
            yield begin, began + (number + 1) * share

    def opened(self, payload: bytes) -> dict[str, Any]:
        """Return the arguments of a reply."""
        name = self.end.name
        try:
            if len(payload) > self._limit:
                messages.check_size(payload, self._limit)
            result, _, error = messages.decode_reply(payload)
        except values.MalformedMessage as broken:
            raise RequestError(f"cannot complete the request {name!r}: {broken}") from broken
        if error is not None:
            raise errors.remote(name, error.kind, error.type, error.message)
        return _returned(result, self._returns, name)

    def expired(self, *, sent: bool, timeout: float | None = None) -> RequestTimeout:
        """Return the error for a request that has waited long enough."""
        start = f"cannot complete the request {self.end.name!r}"
        where = " or ".join(self._endpoints)
        waited = f"{self.timeout if timeout is None else timeout:g} s"
        if sent:
            often = f" to any of {self.attempts} attempts" if self.attempts > 1 else ""
            return RequestTimeout(
                f"{start}: no reply from {where} within {waited}{often}; "
                "it may have been carried out"
            )
        return RequestTimeout(
            f"{start}: nobody was connected at {where} for {waited}; "
            "is the component that replies running?"
        )

    def _send_patiently(
        self, frame: bytes, began: float, timeout: float, attempt: int = 0
    ) -> dict[str, Any]:
        """Send a request when a replyer is connected, again if need be, all within the timeout."""
        sent = attempt > 0
        for begin, until in self.tries(began, timeout, attempt):
            # A late reply to an attempt before this one will do.
            if sent and (payload := self._received(begin)) is not None:
                return self.opened(payload)
            if not self._transmitted(frame, until if sent else began + timeout):
                self._connect_again()
                if not sent:
                    break
                # Whoever had the request is gone; the next attempt may find another.
                continue
            sent = True
            if (payload := self._received(until)) is not None:
                return self.opened(payload)
        raise self.expired(sent=sent, timeout=timeout)

    def _received(self, until: float) -> bytes | None:
        """Return the reply to the request in hand, None when there is none in time."""
        while self._poll(zmq.POLLIN, until):
            # There may be nothing but a late reply to another one, which the socket drops.
            with contextlib.suppress(zmq.Again):
                return self._receive(_NOBLOCK)
        return None

    def _connect_again(self) -> None:
        """Begin anew when nobody has been connected for long.

        ZeroMQ gives a connection up for good when the peer has broken the protocol once, as one
        that answers without the envelope of the request.
        """
        if time.monotonic() - self._connected >= CONNECT_AGAIN:
            self._socket.close(linger=0)
            self._connect()

    def _transmitted(self, frame: bytes, until: float) -> bool:
        """Send a request as soon as a replyer is connected; False when none is in time."""
        while True:
            try:
                self._transmit(frame, _NOBLOCK)
            except zmq.Again:
                if not self._poll(zmq.POLLOUT, until):
                    return False
            else:
                return True

    def _poll(self, event: int, until: float) -> bool:
        left = round((until - time.monotonic()) * 1000)
        return left > 0 and bool(self._socket.poll(left, event))


class Publisher:
    """Sends to all subscribers of its topic."""

    def __init__(
        self,
        end: End,
        socket: Socket,
        flow: Flow,
        *,
        expected: int = 0,
        terms: sockets.Terms | None = None,
    ) -> None:
        self.end = end
        self.socket = socket
        self.expected = expected
        self.timeout = float(end.options.get("timeout", connections.SEND_TIMEOUT))
        self.subscribers = 0
        terms = terms or sockets.USUAL
        self._drops = terms.drops
        self._dropped = Burst(logger)
        self._flow = flow
        self._topic = messages.prefix(end.topic)
        self._limit = terms.max_message
        self.meter = Meter()
        self._watch: Watch | None = None
        self.frame = _frames(end, flow, "message", self._limit, self.meter, topic=self._topic)
        """Checks arguments and makes their frame."""
        self._transmit = sockets.sender(socket)
        socket.set(zmq.XPUB_NODROP, 1)
        if expected:
            # Each subscription and each end of one, not only the first and the last of a topic.
            socket.set(zmq.XPUB_VERBOSER, 1)

    def exchange(self, end: End) -> None:
        """Go on by another declaration of the same end, with the same topic."""
        self.end = end
        self.observe(self._watch)

    def observe(self, watch: Watch | None) -> None:
        """Tell `watch` of each message from the next one on."""
        self._watch = watch
        self.frame = _frames(
            self.end,
            self._flow,
            "message",
            self._limit,
            self.meter,
            topic=self._topic,
            watch=watch,
        )

    @staticmethod
    def kind(*, expected: int) -> int:
        """Return the socket type: an XPUB hears of subscriptions, for whoever waits for them."""
        return int(zmq.XPUB if expected else zmq.PUB)

    @property
    def dropped(self) -> int:
        """How many publications not all subscribers got, because one of them was full."""
        return self._dropped.total

    def send(self, arguments: Any, timeout: float | None = None) -> dict[str, Any]:
        """Publish arguments, waiting for slow subscribers unless their address has them dropped.

        Raises:
            ModelMismatch: The arguments break the model.
            SendTimeout: A subscriber was too slow; nobody has got the message.
        """
        frame = self.frame(arguments)
        try:
            self._transmit(frame, _NOBLOCK)
        except zmq.Again:
            self._send_patiently(frame, self.timeout if timeout is None else timeout)
        return {}

    def transmit(self, frame: bytes) -> bool:
        """Publish if all subscribers have room, or need not have; tell whether it was done."""
        try:
            self._transmit(frame, _NOBLOCK)
        except zmq.Again:
            if not self._drops:
                return False
            self._transmit_to_some(frame)
        return True

    def expired(self, timeout: float | None = None) -> SendTimeout:
        """Return the error for a publication that has waited long enough, and count it."""
        self.meter.errors += 1
        waited = self.timeout if timeout is None else timeout
        return SendTimeout(
            f"cannot publish {self.end.name!r}: a subscriber has not read for {waited:g} s"
        )

    def close(self) -> None:
        """Tell of the publications dropped since the last line about them."""
        self._dropped.close()

    def _transmit_to_some(self, frame: bytes) -> None:
        """Publish to the subscribers that have room: only when one has none is this known."""
        self.socket.set(zmq.XPUB_NODROP, 0)
        self._transmit(frame, _NOBLOCK)
        self.socket.set(zmq.XPUB_NODROP, 1)
        self._dropped.add("Dropped a message of %r: a subscriber is full", self.end.name)

    def wait_for_subscribers(self, timeout: float) -> bool:
        """Wait until the expected number of subscribers is connected; False when out of time."""
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

    def _send_patiently(self, frame: bytes, timeout: float) -> None:
        if self._drops:
            self._transmit_to_some(frame)
        elif not sockets.send_within(self.socket, frame, timeout):
            raise self.expired(timeout)


class ExternalRequest:
    """Calls a function of this process, under the same model as a request."""

    def __init__(self, end: End, flow: Flow) -> None:
        self.meter = Meter()
        self._flow = flow
        self._watch: Watch | None = None
        self.exchange(end)

    def exchange(self, end: End) -> None:
        """Go on by another declaration of the same end."""
        self.end = end
        assert end.function is not None
        self.function = end.function
        self._async = calls.is_async(end.function)

    def send(self, arguments: Any, timeout: float | None = None) -> dict[str, Any]:
        """Call the function with the arguments; its own errors come through, at its own time.

        Raises:
            ModelMismatch: Arguments or return value break the model.
            SendError: The function is async, and the caller is not.
        """
        del timeout  # a plain call cannot be cut short
        if self._async:
            raise SendError(
                f"cannot call {self.end.name!r} from a plain function: {self.function!r} is async"
            )
        self.check(arguments)
        with self.timed():
            return self.returned(self.function(**arguments))

    def check(self, arguments: Any) -> None:
        """Raise `ModelMismatch` unless the arguments fit; they count as sent then."""
        self.end.arguments.check(arguments, f"cannot call {self.end.name!r}")
        # No number of the chain: it leaves the process by no message of ours.
        workflow_id = self._flow.current
        self.meter.passed(workflow_id, 0)
        if self._watch is not None:
            self._watch("request", workflow_id, arguments)

    def observe(self, watch: Watch | None) -> None:
        """Tell `watch` of each call from the next one on."""
        self._watch = watch

    @contextlib.contextmanager
    def timed(self) -> Iterator[None]:
        """Time what is done, and count what it raises."""
        began = clock()
        try:
            yield
        except Exception:
            self.meter.errors += 1
            raise
        finally:
            self.meter.timed(began, clock())

    def returned(self, result: Any) -> dict[str, Any]:
        """Return what the function returned, checked if there is a model for it."""
        if self.end.returns is None:
            return {} if result is None else result
        return _returned(result, self.end.returns, self.end.name)


def _frames(
    end: End,
    flow: Flow,
    noun: str,
    limit: int,
    meter: Meter,
    *,
    topic: bytes = b"",
    watch: Watch | None = None,
) -> Callable[[Any], bytes]:
    """Return the function that checks arguments and makes their frame of at most `limit` bytes."""
    note = meter.note
    accepts, dump, check = end.arguments.accepts, end.arguments.dump, end.arguments.check
    subject = f"cannot send the {noun} {end.name!r}"
    encode, following, now = messages.encode_request, flow.next, clock

    def frame(arguments: Any) -> bytes:
        if not accepts(arguments):
            check(arguments, subject)
        workflow_id = following()
        try:
            made = encode(arguments if dump is None else dump(arguments), workflow_id)
        except values.CannotEncode as error:
            raise SendError(f"{subject}: {error}") from error
        size = len(made)
        if size > limit:
            raise SendError(f"{subject}: it has {size} bytes; at most {limit} can be sent")
        # As `meter.passed`, without the call.
        meter.messages += 1
        meter.bytes += size
        note((workflow_id, now()))
        if watch is not None:
            watch(noun, workflow_id, arguments)
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
