"""A component at work in mode service: one event loop, messages in turn, until a signal.

ZeroMQ's file descriptors are watched raw: each tells, once, that its socket may have something, and the socket is
then emptied. After `BUDGET` messages the other sockets get their turn. Nothing is polled, so idle costs nothing.

Functions never run in parallel. A plain one runs where its message was read. An async one is handed to one task;
until it ends, sockets that have something are held.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Coroutine
from typing import Any

from orchestrator.component import awaiting, calls, notify, sending, sockets
from orchestrator.component.assembly import Assembly
from orchestrator.component.inbound import Inbound
from orchestrator.component.sending import ToSend

logger = logging.getLogger(__name__)

BUDGET = 64
"""How many messages of one socket are handled before the others get their turn."""

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def serve(assembly: Assembly) -> None:
    """Handle messages until SIGTERM or SIGINT; the message in hand is finished, the hook called."""
    asyncio.run(_Service(assembly).run())


def run_main(assembly: Assembly) -> None:
    """Run an async main function; a signal cancels it after the hook was called."""
    asyncio.run(_run_main(assembly))


class _Service:
    def __init__(self, assembly: Assembly) -> None:
        self._assembly = assembly
        self._held: dict[Inbound, None] = {}
        self._busy = False
        self._stopped = False

    async def run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._idle = asyncio.Event()
        self._handed: asyncio.Future[Coroutine[Any, Any, None]] = self._loop.create_future()
        stop = _signalled(self._loop)
        to_send = _awaitable(self._assembly, self._loop) if self._assembly.has_async() else None
        inbound = self._assembly.inbound(to_send)
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
        await _stopping(self._assembly, signum, to_send)

    def _drain(self, end: Inbound) -> None:
        if self._stopped:
            return
        if self._busy:
            self._held[end] = None
            return
        take = end.take
        for _ in range(BUDGET):
            step = take()
            if step is True:
                continue
            if step is not False:
                self._busy = True
                self._held[end] = None
                self._handed.set_result(step)
                return
            return
        self._loop.call_soon(self._drain, end)

    async def _work(self) -> None:
        while True:
            await (await self._handed)
            self._handed = self._loop.create_future()
            self._busy = False
            self._idle.set()
            held, self._held = self._held, {}
            for end in held:
                self._loop.call_soon(self._drain, end)


async def _run_main(assembly: Assembly) -> None:
    loop = asyncio.get_running_loop()
    stop = _signalled(loop)
    to_send = _awaitable(assembly, loop)
    assert assembly.handler.main is not None
    call = assembly.handler.main.call
    async with asyncio.TaskGroup() as tasks:
        main = tasks.create_task(call(to_send, assembly.states, assembly.config), name="main")
        main.add_done_callback(lambda _: stop.cancel())
        try:
            signum = await stop
        except asyncio.CancelledError:
            return
        main.cancel()
    await _stopping(assembly, signum, to_send)


def _signalled(loop: asyncio.AbstractEventLoop) -> asyncio.Future[int]:
    """Return a future for the first signal; a second one has its default effect."""
    stop: asyncio.Future[int] = loop.create_future()

    def take(signum: int) -> None:
        for known in _SIGNALS:
            loop.remove_signal_handler(known)
        if not stop.done():
            stop.set_result(signum)

    for known in _SIGNALS:
        loop.add_signal_handler(known, take, known)
    return stop


async def _stopping(assembly: Assembly, signum: int, to_send_async: ToSend | None) -> None:
    notify.send("STOPPING=1")
    logger.info("Stopping on %s", signal.Signals(signum).name)
    hook = assembly.signal_hook(signum)
    if hook is None:
        return
    to_send = to_send_async if calls.is_async(hook) else assembly.to_send
    try:
        result = hook(signum, None, to_send, assembly.states, assembly.config)
        if asyncio.iscoroutine(result):
            await result
    except Exception:
        logger.exception("The signal hook failed")


def _awaitable(assembly: Assembly, loop: asyncio.AbstractEventLoop) -> ToSend:
    return sending.make(awaiting.sends(assembly.outputs, loop))
