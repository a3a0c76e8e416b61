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
from orchestrator.component.outbound import ExternalRequest, Outbound, Publisher, Requester
from orchestrator.component.sockets import Socket

Send = Callable[[Any], Awaitable[dict[str, Any]]]


def sends(outputs: Mapping[str, Outbound], loop: asyncio.AbstractEventLoop) -> dict[str, Send]:
    """Return the awaitable send function of each output."""
    return {name: _send(output, loop) for name, output in outputs.items()}


def _send(output: Outbound, loop: asyncio.AbstractEventLoop) -> Send:
    if isinstance(output, Requester):
        return _Requests(output, loop).send
    if isinstance(output, Publisher):
        return _Publications(output, loop).send
    assert isinstance(output, ExternalRequest)
    return functools.partial(_call, output)


async def _call(output: ExternalRequest, arguments: Any) -> dict[str, Any]:
    output.check(arguments)
    result = output.function(**arguments)
    return output.returned(await result if calls.is_async(output.function) else result)


class _Signs:
    """Wakes all who wait for a socket at each sign of change."""

    def __init__(self, socket: Socket, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._sleepers: list[asyncio.Future[None]] = []
        loop.add_reader(sockets.descriptor(socket), self.wake)

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


class _Requests:
    """Any number of requests under way on one socket."""

    def __init__(self, requester: Requester, loop: asyncio.AbstractEventLoop) -> None:
        self._requester = requester
        self._socket = requester.dealer()
        self._numbers = itertools.count(1)
        self._replies: dict[bytes, bytes | None] = {}
        self._signs = _Signs(self._socket, loop)

    async def send(self, arguments: Any) -> dict[str, Any]:
        """Send a request and await its reply; cancelling forgets it, and the peer is not told."""
        requester = self._requester
        frame = requester.frame(arguments)
        # In the envelope, as REQ_CORRELATE has it: peers send it back untouched.
        number = next(self._numbers).to_bytes(8)
        sent = False
        self._replies[number] = None
        try:
            async with asyncio.timeout(requester.timeout):
                while not (sent := self._transmit(number, frame)):
                    await self._signs.next()
                while (payload := self._reply(number)) is None:
                    await self._signs.next()
        except TimeoutError:
            raise requester.expired(sent=sent) from None
        finally:
            del self._replies[number]
        return requester.opened(payload)

    def _transmit(self, number: bytes, frame: bytes) -> bool:
        """Send a request if a replyer is connected, and tell whether one is."""
        send = self._socket.send
        try:
            send(number, zmq.NOBLOCK | zmq.SNDMORE)
        except zmq.Again:
            return False
        send(b"", zmq.NOBLOCK | zmq.SNDMORE)
        send(frame, zmq.NOBLOCK)
        return True

    def _reply(self, number: bytes) -> bytes | None:
        """Return the reply to a request if it is there, having read all that is."""
        others = False
        with contextlib.suppress(zmq.Again):
            while True:
                frames = self._socket.recv_multipart(zmq.NOBLOCK)
                if len(frames) == 3 and frames[0] in self._replies:
                    self._replies[frames[0]] = frames[2]
                    others = others or frames[0] != number
        if others:
            # Their owners may wait for a sign that has just been used up.
            self._signs.wake()
        return self._replies[number]


class _Publications:
    def __init__(self, publisher: Publisher, loop: asyncio.AbstractEventLoop) -> None:
        self._publisher = publisher
        self._signs = _Signs(publisher.socket, loop)

    async def send(self, arguments: Any) -> dict[str, Any]:
        """Publish, awaiting slow subscribers."""
        publisher = self._publisher
        frame = publisher.frame(arguments)
        if not publisher.transmit(frame):
            try:
                async with asyncio.timeout(publisher.timeout):
                    while not publisher.transmit(frame):
                        await self._signs.next()
            except TimeoutError:
                raise publisher.expired() from None
        return {}
