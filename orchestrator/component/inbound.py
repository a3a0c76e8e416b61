"""The inbound ends at work: take a message, check it, call its function, answer.

An error of a message is that message's error: it is answered or logged, and the component goes on.
Whatever is called more than once per message is bound beforehand.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

import zmq

from orchestrator.component import calls, sockets
from orchestrator.component.bursts import Burst
from orchestrator.component.connections import End
from orchestrator.component.flow import Flow
from orchestrator.component.meter import Meter, Watch
from orchestrator.component.models import Arguments
from orchestrator.component.sockets import Socket
from orchestrator.wire import messages, values
from orchestrator.wire.messages import Failure

logger = logging.getLogger(__name__)

Step = bool | Coroutine[Any, Any, None]
"""Whether a message was taken; a coroutine is the rest of its handling, to be awaited."""

Handle = Callable[[Any], Any]
"""A handler's function, with all but the message's arguments put in."""

AHEAD = 10_000
"""How many messages are read ahead to be counted."""

ENDS = (SystemExit, KeyboardInterrupt, GeneratorExit)
"""What a function may raise that is no failure of its message."""

_NOBLOCK = int(zmq.NOBLOCK)
_POLLIN = int(zmq.POLLIN)
_NOTHING = zmq.Again


class Inbound(Protocol):
    """An inbound end: a socket to wait for, and what to do when it has something."""

    end: End
    socket: Socket
    meter: Meter

    def ready(self) -> bool:
        """Tell whether a message waits; cheaper than to take none."""

    def take(self) -> Step:
        """Take one message if there is one."""

    def exchange(self, end: End, handle: Handle) -> None:
        """Serve another declaration of the same end from the next message on."""

    def close(self) -> None:
        """Tell of the mishaps since the last line about them."""

    def observe(self, watch: Watch | None) -> None:
        """Tell `watch` of each message and what was returned for it; None ends that."""

    def waiting(self) -> int:
        """Return how many messages wait to be handled."""


class Replyer:
    """Answers requests, in the order of their arrival, errors included.

    A REP socket, because it handles the envelopes of REQ, DEALER and ROUTER peers in C, at half of
    ROUTER's cost; its strict turn of request and reply is what functions that never run in
    parallel do anyway. Whatever happens to a request, one reply is sent.

    `interleaving` has another for functions that do.
    """

    def __init__(self, end: End, socket: Socket, flow: Flow, handle: Handle) -> None:
        self.socket = socket
        self._flow = flow
        self._limit = sockets.limit(socket)
        self._receive: Callable[[int], bytes] = socket.recv
        self._send = sockets.sender(socket)
        self._readiness = sockets.readiness(socket)
        self._bad = {kind: Burst(logger) for kind in (Failure.MALFORMED, Failure.ARGUMENTS)}
        self._silent = Burst(logger)
        self.meter = Meter()
        self._weigh, self._note = self.meter.weigh, self.meter.note
        self._watch: Watch | None = None
        self.exchange(end, handle)

    def exchange(self, end: End, handle: Handle) -> None:
        """Serve another declaration of the same end from the next message on."""
        self.end = end
        self._unwatched = handle
        self._async = calls.is_async(end.function)
        self._accepts, self._load = end.arguments.accepts, end.arguments.load
        self.observe(self._watch)
        assert end.returns is not None
        self._returns = end.returns

    def observe(self, watch: Watch | None) -> None:
        """Tell `watch` of each request and what the function returns, from the next one on."""
        self._watch = watch
        self._handle = self._unwatched
        if watch is not None:
            self._handle = _watched(self._unwatched, self._flow, watch, "request", "reply")

    def take(self) -> Step:
        """Take one request and answer it; an async function answers in the coroutine."""
        try:
            frame = self._receive(_NOBLOCK)
        except _NOTHING:
            return False
        self._weigh(len(frame))
        try:
            arguments, workflow_id = messages.decode_request(frame)
        except values.MalformedMessage as error:
            # What follows of a request in several parts would be taken for the next request.
            while self.socket.get(zmq.RCVMORE):
                self._receive(_NOBLOCK)
            self._note(None)
            self._refuse(None, Failure.MALFORMED, error)
            return True
        flow = self._flow
        self._note(flow.begin(workflow_id))
        if self._load is not None:
            arguments = self._load(arguments)
        if not self._accepts(arguments):
            subject = f"cannot accept the request {self.end.name!r}"
            mismatch = _mismatch(self.end.arguments, arguments, subject)
            self._refuse(workflow_id, Failure.ARGUMENTS, mismatch)
            flow.current = None
            return True
        if self._async:
            return self._finish(workflow_id, arguments)
        try:
            result = self._handle(arguments)
        except ENDS:
            raise
        except BaseException as error:  # noqa: BLE001 - user code may raise anything
            self._failed(workflow_id, error)
        else:
            self._answer(workflow_id, result, self._returns)
        flow.current = None
        return True

    def ready(self) -> bool:
        """Tell whether a request waits."""
        return self._readiness() & _POLLIN != 0

    def waiting(self) -> int:
        """Return 1 when a request waits: how many wait behind it, no socket tells."""
        return int(self.ready())

    async def _finish(self, workflow_id: str | None, arguments: object) -> None:
        try:
            result = await self._handle(arguments)
        except ENDS:
            raise
        except BaseException as error:  # noqa: BLE001 - user code may raise anything
            self._failed(workflow_id, error)
            go_on_after(error)
        else:
            self._answer(workflow_id, result, self._returns)
        self._flow.current = None

    def _answer(self, workflow_id: str | None, result: object, returns: Arguments) -> None:
        if result is None:
            result = {}
        wrong: Exception | None = None
        frame = b""
        try:
            if returns.accepts(result):
                if returns.dump is not None:
                    result = returns.dump(result)
                frame = messages.encode_reply(result, workflow_id)
            else:
                subject = f"cannot return from the request {self.end.name!r}"
                wrong = _mismatch(returns, result, subject)
        except Exception as error:  # noqa: BLE001 - a thread of the user's may change it meanwhile
            wrong = error
        if len(frame) > self._limit:
            size = f"cannot return {len(frame)} bytes; at most {self._limit} can be sent"
            wrong = ValueError(size)
        if wrong is None:
            self._reply(frame)
        else:
            self._refuse(workflow_id, Failure.RETURN, wrong)

    def _failed(self, workflow_id: str | None, error: BaseException) -> None:
        logger.error("The request %r failed", self.end.name, exc_info=error)
        self._error(workflow_id, Failure.HANDLER, type(error).__name__, _said(error))

    def _refuse(self, workflow_id: str | None, kind: Failure, error: Exception) -> None:
        if kind in self._bad:
            # Whoever sends these may send many.
            self._bad[kind].add("Refused a request: %s", error)
        else:
            logger.warning("Refused a request: %s", error)
        self._error(workflow_id, kind, "", _said(error))

    def _error(self, workflow_id: str | None, kind: Failure, type_name: str, message: str) -> None:
        self.meter.errors += 1
        error = messages.Error(kind, type_name, message)
        self._reply(messages.encode_error(error, workflow_id))

    def _reply(self, frame: bytes) -> None:
        try:
            self._send(frame, _NOBLOCK)
        except zmq.ZMQError as error:
            # The peer is gone or reads no replies; the next request must not wait for it.
            self._silent.add("Cannot answer a request on %r: %s", self.end.name, error)

    def close(self) -> None:
        """Tell of the mishaps since the last line about them."""
        for burst in (*self._bad.values(), self._silent):
            burst.close()


class Subscriber:
    """Receives publications of one topic."""

    def __init__(self, end: End, socket: Socket, flow: Flow, handle: Handle) -> None:
        self.socket = socket
        self._flow = flow
        self._topic = topic = messages.prefix(end.topic)
        self._decode = messages.publications(topic)
        self._ahead: deque[bytes] = deque()
        self._receive: Callable[[int], bytes] = socket.recv
        self._readiness = sockets.readiness(socket)
        socket.setsockopt(zmq.SUBSCRIBE, topic)
        self._bad, self._unfit = Burst(logger), Burst(logger)
        self._limit = sockets.limit(socket)
        self.meter = Meter()
        self._weigh, self._note = self.meter.weigh, self.meter.note
        self._watch: Watch | None = None
        self.exchange(end, handle)

    def exchange(self, end: End, handle: Handle) -> None:
        """Serve another declaration of the same end, with the same topic, from now on."""
        self.end = end
        self._unwatched = handle
        self._async = calls.is_async(end.function)
        self._accepts, self._load = end.arguments.accepts, end.arguments.load
        self._small: Callable[[bytes], tuple[Any, str] | None] = _unknown
        if end.arguments.is_flat():
            self._small = messages.small_publications(self._topic, self._limit, self._accepts)
        self.observe(self._watch)

    def observe(self, watch: Watch | None) -> None:
        """Tell `watch` of each message from the next one on."""
        self._watch = watch
        self._handle = self._unwatched
        if watch is not None:
            self._handle = _watched(self._unwatched, self._flow, watch, "message")

    def take(self) -> Step:
        """Take one publication; an async function is called by the coroutine."""
        try:
            frame = self._receive(_NOBLOCK)
        except _NOTHING:
            return False
        self._weigh(len(frame))
        if small := self._small(frame):
            arguments, workflow_id = small
            self._note(self._flow.begin(workflow_id))
        elif any_ := self._any(frame):
            arguments = any_[0]
        else:
            return True
        if self._async:
            return self._finish(self._handle, arguments)
        try:
            self._handle(arguments)
        except ENDS:
            raise
        except BaseException:
            logger.exception("The message %r failed", self.end.name)
            self.meter.errors += 1
        self._flow.current = None
        return True

    def _any(self, frame: bytes) -> tuple[Any] | None:
        """Return the arguments of a publication, now in hand; None when it has been dropped."""
        try:
            if len(frame) > self._limit:
                messages.check_size(frame, self._limit)
            arguments, workflow_id = self._decode(frame)
        except values.MalformedMessage as error:
            self._note(None)
            self.meter.errors += 1
            while self.socket.get(zmq.RCVMORE):
                self._receive(_NOBLOCK)
            self._bad.add("Dropped a message on %r: %s", self.end.name, error)
            return None
        self._note(self._flow.begin(workflow_id))
        if self._load is not None:
            arguments = self._load(arguments)
        if not self._accepts(arguments):
            subject = f"cannot accept the message {self.end.name!r}"
            mismatch = _mismatch(self.end.arguments, arguments, subject)
            self._unfit.add("Dropped a message: %s", mismatch)
            self.meter.errors += 1
            self._flow.current = None
            return None
        return (arguments,)

    def ready(self) -> bool:
        """Tell whether a message waits, in the socket or read ahead."""
        return self._readiness() & _POLLIN != 0 or bool(self._ahead)

    def waiting(self) -> int:
        """Return how many messages wait, at most `AHEAD`.

        They are read ahead to be counted, so whoever asks must call `take` until nothing waits:
        the socket gives no sign of them any more.
        """
        while len(self._ahead) < AHEAD:
            try:
                frame = self.socket.recv(_NOBLOCK)
            except _NOTHING:
                break
            while self.socket.get(zmq.RCVMORE):
                # A message in several parts is none of ours, and so is an empty one.
                self.socket.recv(_NOBLOCK)
                frame = b""
            self._ahead.append(frame)
        if self._ahead:
            self._receive = self._read_ahead
        return len(self._ahead)

    def _read_ahead(self, _flags: int) -> bytes:
        frame = self._ahead.popleft()
        if not self._ahead:
            self._receive = self.socket.recv
        return frame

    async def _finish(self, handle: Handle, arguments: object) -> None:
        try:
            await handle(arguments)
        except ENDS:
            raise
        except BaseException as error:
            logger.exception("The message %r failed", self.end.name)
            self.meter.errors += 1
            go_on_after(error)
        self._flow.current = None

    def close(self) -> None:
        """Tell of the mishaps since the last line about them."""
        self._bad.close()
        self._unfit.close()


def _unknown(_frame: bytes) -> None:
    """Say that a frame must be looked at closely."""


def _watched(
    handle: Handle, flow: Flow, watch: Watch, comes: str, goes: str | None = None
) -> Handle:
    """Return the function with a watch told of its arguments, and of what it returns."""

    def watched(arguments: Any) -> Any:
        workflow_id = flow.current
        watch(comes, workflow_id, arguments)
        result = handle(arguments)
        if goes is None:
            return result
        if isinstance(result, Coroutine):
            return awaited(workflow_id, result)
        watch(goes, workflow_id, {} if result is None else result)
        return result

    async def awaited(workflow_id: str | None, result: Coroutine[Any, Any, Any]) -> Any:
        returned = await result
        assert goes is not None
        watch(goes, workflow_id, {} if returned is None else returned)
        return returned

    return watched


def go_on_after(error: BaseException) -> None:
    """Raise an error again by which the task itself is cancelled, not what a function awaited."""
    import asyncio  # noqa: PLC0415 - only for an error, and loaded already

    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise error


def _said(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - user code may raise anything
        return "it cannot say why"


def _mismatch(model: Arguments, arguments: object, subject: str) -> Exception:
    try:
        model.check(arguments, subject)
    except ValueError as error:
        return error
    raise AssertionError("internal error: a value was refused for no reason")
