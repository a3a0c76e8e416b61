"""The outbound ends at work, for async functions: what waits in `outbound` is awaited here.

ZeroMQ's file descriptor tells only that something may have changed, and only once. So whoever is
about to wait has just tried, and after each sign everything is tried again.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import zmq

from orchestrator.component import calls, sockets
from orchestrator.component.meter import clock
from orchestrator.component.outbound import ExternalRequest, Outbound, Publisher, Requester
from orchestrator.component.sockets import Socket
from orchestrator.component.sources import Out

Send = Callable[..., Awaitable[dict[str, Any]]]

_PAUSE = 0.01
_POLLIN, _POLLOUT = int(zmq.POLLIN), int(zmq.POLLOUT)


def sends(outputs: Mapping[str, Outbound], loop: asyncio.AbstractEventLoop) -> dict[str, Send]:
    """Return the awaitable send function of each output."""
    return {name: _send(output, loop) for name, output in outputs.items()}


def changes(states: Mapping[str, Out]) -> dict[str, Send]:
    """Return the awaitable send function of each outward state."""
    return {name: _Changes(state).send for name, state in states.items()}


class _Changes:
    """Changes of a state: they are told in the order in which it changed, whoever waits."""

    def __init__(self, state: Out) -> None:
        self._state = state
        self._turn = asyncio.Lock()
        self._waiting = 0

    async def send(self, arguments: Any, within: float | None = None) -> dict[str, Any]:
        """Change the state, awaiting slow subscribers and the changes that do so already."""
        state, frame = self._state, None
        if not self._waiting:
            frame = state.frame(arguments)
            if state.transmit(frame):
                return {}
        within = state.timeout if within is None else within
        self._waiting += 1
        try:
            async with asyncio.timeout(within), self._turn:
                frame = state.frame(arguments) if frame is None else frame
                # Its signs are taken by whoever serves the state; slow readers are rare.
                while not state.transmit(frame):  # noqa: ASYNC110
                    await asyncio.sleep(_PAUSE)
        except TimeoutError:
            raise state.expired(within) from None
        finally:
            self._waiting -= 1
        return {}


def _send(output: Outbound, loop: asyncio.AbstractEventLoop) -> Send:
    if isinstance(output, Requester):
        return _Requests(output, loop).send
    if isinstance(output, Publisher):
        return _Publications(output, loop).send
    assert isinstance(output, ExternalRequest)
    return functools.partial(_call, output)


async def _call(
    output: ExternalRequest, arguments: Any, within: float | None = None
) -> dict[str, Any]:
    output.check(arguments)
    with output.timed():
        result = output.function(**arguments)
        if calls.is_async(output.function):
            async with asyncio.timeout(within):
                result = await result
        return output.returned(result)


class _Signs:
    """Wakes all who wait for a socket at each sign of change.

    `turn` is called in place of that; it must ask the socket, or the sign stays, and call `wake`.
    """

    def __init__(
        self,
        socket: Socket,
        loop: asyncio.AbstractEventLoop,
        turn: Callable[[], object] | None = None,
    ) -> None:
        self._loop = loop
        self._readiness = sockets.readiness(socket)
        self._sleepers: list[asyncio.Future[None]] = []
        loop.add_reader(sockets.descriptor(socket), turn or self._sign)

    def _sign(self) -> None:
        self._readiness()
        self.wake()

    def wake(self) -> None:
        """Wake all who wait."""
        sleepers, self._sleepers = self._sleepers, []
        for sleeper in sleepers:
            if not sleeper.done():
                sleeper.set_result(None)

    async def next(self) -> None:
        """Wait for the next sign."""
        sleeper: asyncio.Future[None] = self._loop.create_future()
        self._sleepers.append(sleeper)
        await sleeper


class _Exchange:
    """A request and its reply, which may answer any attempt; whoever waits for it is woken."""

    __slots__ = ("numbers", "reply", "sleeper")

    def __init__(self) -> None:
        self.numbers: list[bytes] = []
        self.reply: bytes | None = None
        self.sleeper: asyncio.Future[None] | None = None

    def take(self, reply: bytes) -> None:
        """Take the reply; a later one to another attempt says nothing new."""
        self.reply = self.reply or reply
        if self.sleeper is not None and not self.sleeper.done():
            self.sleeper.set_result(None)


class _Requests:
    """Any number of requests under way on one socket."""

    def __init__(self, requester: Requester, loop: asyncio.AbstractEventLoop) -> None:
        self._requester = requester
        self._socket = requester.dealer()
        self._readiness = sockets.readiness(self._socket)
        self._numbers = itertools.count(1)
        self._under_way: dict[bytes, _Exchange] = {}
        self._loop = loop
        self._signs = _Signs(self._socket, loop, self._read)

    async def send(self, arguments: Any, within: float | None = None) -> dict[str, Any]:
        """Send a request and await its reply; cancelling forgets it, and the peer is not told."""
        requester = self._requester
        frame = requester.frame(arguments)
        began = clock()
        try:
            return await self._completed(frame, within)
        except Exception:
            requester.meter.errors += 1
            raise
        finally:
            requester.meter.timed(began, clock())

    async def _completed(self, frame: bytes, within: float | None) -> dict[str, Any]:
        requester = self._requester
        within = requester.timeout if within is None else within
        exchange = _Exchange()
        sent = False
        began = self._loop.time()
        try:
            for begin, until in requester.tries(began, within):
                payload = await self._replied(exchange, begin) if sent else None
                if payload is None:
                    # Waiting for a replyer to be connected is no attempt.
                    if not await self._sent(frame, exchange, until if sent else began + within):
                        if not sent:
                            break
                        # Whoever had the request is gone; the next attempt may find another.
                        continue
                    sent = True
                    payload = await self._replied(exchange, until)
                if payload is not None:
                    return requester.opened(payload)
            raise requester.expired(sent=sent, timeout=within)
        finally:
            for number in exchange.numbers:
                del self._under_way[number]

    async def _sent(self, frame: bytes, exchange: _Exchange, until: float) -> bool:
        """Send a request as soon as a replyer is connected; False when none is in time."""
        # In the envelope, as REQ_CORRELATE has it: peers send it back untouched.
        number = next(self._numbers).to_bytes(8)
        self._under_way[number] = exchange
        exchange.numbers.append(number)
        if self._tried(number, frame):
            return True
        try:
            async with asyncio.timeout_at(until):
                await self._signs.next()
                while not self._tried(number, frame):
                    await self._signs.next()
        except TimeoutError:
            return False
        return True

    async def _replied(self, exchange: _Exchange, until: float) -> bytes | None:
        """Await the reply to any attempt; None when there is none in time."""
        if exchange.reply is None:
            exchange.sleeper = self._loop.create_future()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(until):
                    await exchange.sleeper
        return exchange.reply

    def _tried(self, number: bytes, frame: bytes) -> bool:
        """Send a request if a replyer is connected, and tell whether one is.

        Trying may use up the sign that others wait for, so it is done until there is none.
        """
        while not self._transmit(number, frame):
            events = self._readiness()
            if events & _POLLIN:
                self._read()
            elif not events & _POLLOUT:
                return False
        self._read()
        return True

    def _transmit(self, number: bytes, frame: bytes) -> bool:
        send = self._socket.send
        try:
            send(number, zmq.NOBLOCK | zmq.SNDMORE)
        except zmq.Again:
            return False
        send(b"", zmq.NOBLOCK | zmq.SNDMORE)
        send(frame, zmq.NOBLOCK)
        return True

    def _read(self) -> None:
        """Give all replies that are there to whom they belong."""
        receive, under_way = self._socket.recv_multipart, self._under_way
        while self._readiness() & _POLLIN:
            frames = receive(zmq.NOBLOCK)
            exchange = under_way.get(frames[0]) if len(frames) == 3 else None
            if exchange is not None:
                exchange.take(frames[2])
        # What was read may have made room, and the sign of that has just been used up.
        self._signs.wake()


class _Publications:
    def __init__(self, publisher: Publisher, loop: asyncio.AbstractEventLoop) -> None:
        self._publisher = publisher
        self._signs = _Signs(publisher.socket, loop)

    async def send(self, arguments: Any, within: float | None = None) -> dict[str, Any]:
        """Publish, awaiting slow subscribers."""
        publisher = self._publisher
        within = publisher.timeout if within is None else within
        frame = publisher.frame(arguments)
        if not publisher.transmit(frame):
            try:
                async with asyncio.timeout(within):
                    while not publisher.transmit(frame):
                        await self._signs.next()
            except TimeoutError:
                raise publisher.expired(within) from None
        return {}
