"""A component with async functions at work: the same turns as in `serving`, on asyncio.

A plain function runs where its message was read. An async one is handed to one task; until it
ends, sockets that have something are held, for functions never run in parallel.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Coroutine
from typing import Any

from orchestrator.component import (
    awaiting,
    notify,
    observing,
    reloading,
    sending,
    serving,
    sockets,
)
from orchestrator.component.assembly import Assembly
from orchestrator.component.control import Call
from orchestrator.component.errors import ComponentError
from orchestrator.component.inbound import Inbound, go_on_after
from orchestrator.component.meter import clock
from orchestrator.component.replication import Served
from orchestrator.component.sending import ToSend

logger = logging.getLogger(__name__)


def serve(assembly: Assembly) -> None:
    """Handle messages until SIGTERM or SIGINT; finish the message in hand, call the hook."""
    asyncio.run(_Service(assembly).run())


def run_main(assembly: Assembly) -> None:
    """Run an async main function; a signal cancels it, and then the hook is called."""
    left = asyncio.run(_run_main(assembly))
    if left is not None:
        raise left


class _Service:
    def __init__(self, assembly: Assembly) -> None:
        self._assembly = assembly
        self._held: dict[Inbound, None] = {}
        self._busy = False
        self._stopped = False
        self._reloads: deque[Call] = deque()

    async def run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._idle = asyncio.Event()
        self._handed: asyncio.Future[Coroutine[Any, Any, None]] = self._loop.create_future()
        stop = _signalled(self._loop)
        inbound = self._assembly.inbound(_awaitable(self._assembly, self._loop))
        _give_signs(self._loop)
        self._reloader = reloading.Reloader(
            self._assembly, self._loop.call_soon, is_concurrent=True
        )
        if self._assembly.link is not None:
            self._assembly.link.methods |= {
                "reload": self._reload,
                "code": self._reloader.state,
                "models": self._reloader.models,
            }
        observing.offer(
            self._assembly, inbound, lambda end: self._loop.call_soon(self._drain, end)
        )
        _serve_link(self._assembly, self._loop)
        _serve_states(self._assembly, self._loop)
        async with asyncio.TaskGroup() as tasks:
            worker = tasks.create_task(self._work(), name="async functions")
            for end in inbound:
                self._loop.add_reader(sockets.descriptor(end.socket), self._drain, end)
                # What came before the watch began gives no sign.
                self._drain(end)
            signum = await stop
            self._stopped = True
            if self._busy:
                await self._idle.wait()
            worker.cancel()
        for end in inbound:
            self._loop.remove_reader(sockets.descriptor(end.socket))
        serving.stopping(self._assembly, signum)

    def _drain(self, end: Inbound) -> None:
        if self._stopped:
            return
        if self._busy:
            self._held[end] = None
            return
        take = end.take
        for _ in range(serving.BUDGET):
            began = clock()
            step = take()
            if step is True:
                done = clock()
                end.meter.turned(began, done)
                if done - began < serving.SLOW:
                    continue
                break
            if step is not False:
                self._busy = True
                self._held[end] = None
                self._handed.set_result(_timed(step, end, began))
            return
        self._loop.call_soon(self._drain, end)

    async def _work(self) -> None:
        while True:
            await (await self._handed)
            self._handed = self._loop.create_future()
            self._busy = False
            self._idle.set()
            self._idle.clear()
            if self._reloads:
                self._begin_reload(self._reloads.popleft())
                continue
            held, self._held = self._held, {}
            for end in held:
                self._loop.call_soon(self._drain, end)

    def _reload(self, call: Call) -> None:
        """Exchange the code when no message is in hand; until then the new ones are held."""
        if self._busy:
            self._reloads.append(call)
        else:
            self._begin_reload(call)

    def _begin_reload(self, call: Call) -> None:
        async def exchange() -> None:
            call.answer(await self._reloader.exchanged(call.params))

        self._busy = True
        self._handed.set_result(exchange())


async def _timed(step: Coroutine[Any, Any, None], end: Inbound, began: float) -> None:
    await step
    end.meter.turned(began, clock())


async def _run_main(assembly: Assembly) -> SystemExit | None:
    """Return the exit that the function has asked for, which no loop is to be torn up by."""
    loop = asyncio.get_running_loop()
    stop = _signalled(loop)
    assert assembly.handler.main is not None
    call = assembly.handler.main.call
    to_send = _awaitable(assembly, loop)
    _give_signs(loop)
    reloading.offer(assembly)
    observing.offer(assembly, (), lambda _: None)
    _serve_link(assembly, loop)
    _serve_states(assembly, loop)

    async def function() -> SystemExit | None:
        try:
            await call(to_send, assembly.states, assembly.config)
        except SystemExit as left:
            return left
        except asyncio.CancelledError as error:
            go_on_after(error)
            # A task group would take it for what was meant.
            raise ComponentError("what the main function awaited was cancelled") from error
        return None

    async with asyncio.TaskGroup() as tasks:
        main = tasks.create_task(function(), name="main")
        main.add_done_callback(lambda _: stop.cancel())
        try:
            signum = await stop
        except asyncio.CancelledError:
            return None if main.exception() else main.result()
        main.cancel()
    serving.stopping(assembly, signum)
    return None


def _serve_link(assembly: Assembly, loop: asyncio.AbstractEventLoop) -> None:
    """Answer what is asked on the control link."""
    if assembly.link is not None:
        loop.add_reader(assembly.link.fileno(), assembly.link.turn)


def _serve_states(assembly: Assembly, loop: asyncio.AbstractEventLoop) -> None:
    """Serve the sockets of states, while a function is awaited too: that is nobody's code."""

    def drain(part: Served) -> None:
        for _ in range(serving.BUDGET):
            if not part.take():
                return
        loop.call_soon(drain, part)

    for part in assembly.parts:
        loop.add_reader(sockets.descriptor(part.socket), drain, part)
        # What came before the watch began gives no sign.
        drain(part)


def _give_signs(loop: asyncio.AbstractEventLoop) -> None:
    """Give the watchdog its signs of life for as long as the loop turns."""
    every = notify.sign_every()

    def tick() -> None:
        notify.sign()
        loop.call_later(every, tick)

    if every:
        loop.call_later(every, tick)


def _signalled(loop: asyncio.AbstractEventLoop) -> asyncio.Future[int]:
    """Return a future for the first signal; a second one has its default effect."""
    stop: asyncio.Future[int] = loop.create_future()

    def take(signum: int) -> None:
        for known in serving.SIGNALS:
            loop.remove_signal_handler(known)
        if not stop.done():
            stop.set_result(signum)

    for known in serving.SIGNALS:
        loop.add_signal_handler(known, take, known)
    return stop


def _awaitable(assembly: Assembly, loop: asyncio.AbstractEventLoop) -> ToSend:
    return sending.make(
        awaiting.sends(assembly.outputs, loop), awaiting.changes(assembly.states_out)
    )
