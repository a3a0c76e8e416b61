"""A component with async functions at work: the same turns as in `serving`, on asyncio.

A plain function runs where its message was read. An async one gets a task and a context of its
own. While as many of them are under way as `concurrency` says, one unless it says more, sockets
that have something are held, and then take turns.
"""

from __future__ import annotations

import asyncio
import contextvars
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

_READING = 0.2
"""For how many seconds connections stay after the last replies of a component that stops.

A requester that connects to whoever is there at once (IMMEDIATE) drops what has arrived and is not
read yet when the connection ends.
"""


def serve(assembly: Assembly) -> None:
    """Handle messages until SIGTERM or SIGINT; finish the message in hand, call the hook."""
    asyncio.run(_Service(assembly).run())


def run_main(assembly: Assembly) -> None:
    """Run an async main function; a signal cancels it, and then the hook is called."""
    left = asyncio.run(_run_main(assembly))
    if left is not None:
        raise left


class _Code:
    """Code that serves or has served: how many of its functions are under way, and what then."""

    __slots__ = ("afterwards", "under_way")

    def __init__(self) -> None:
        self.under_way = 0
        self.afterwards: reloading.Hook | None = None


class _Service:
    def __init__(self, assembly: Assembly) -> None:
        self._assembly = assembly
        self._most = assembly.instance.concurrency
        self._under_way = 0
        self._code = _Code()
        self._held: dict[Inbound, None] = {}
        self._is_exchanging = False
        self._stopped = False
        self._reloads: deque[Call] = deque()
        # What functions set in their context is theirs, and not the next one's.
        self._context = contextvars.copy_context()
        self._tasks = asyncio.TaskGroup()

    async def run(self) -> None:
        self._loop = asyncio.get_running_loop()
        stop = _signalled(self._loop)
        inbound = self._assembly.inbound(_awaitable(self._assembly, self._loop))
        _give_signs(self._loop)
        self._reloader = reloading.Reloader(
            self._assembly, self._loop.call_soon, is_concurrent=True, postpone=self._postpone
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
        async with self._tasks:
            for end in inbound:
                self._loop.add_reader(sockets.descriptor(end.socket), self._drain, end)
                # What came before the watch began gives no sign.
                self._drain(end)
            signum = await stop
            self._stopped = True
            for end in inbound:
                self._loop.remove_reader(sockets.descriptor(end.socket))
            has_answers = self._under_way > 0
            # Leaving the block awaits the functions that are under way.
        if has_answers:
            await asyncio.sleep(_READING)
        serving.stopping(self._assembly, signum)

    @property
    def _is_full(self) -> bool:
        return self._under_way >= self._most or self._is_exchanging

    def _drain(self, end: Inbound) -> None:
        """Handle what has come for an end, while there is room for another function."""
        if self._stopped:
            return
        if self._is_full:
            # A sign stays until the socket is asked: the loop would turn without a pause.
            end.ready()
            self._held[end] = None
            return
        context, take = self._context.copy(), end.take
        for _ in range(serving.BUDGET):
            began = clock()
            step = context.run(take)
            if step is True:
                done = clock()
                end.meter.turned(began, done)
                if done - began < serving.SLOW:
                    continue
                break
            if step is False:
                return
            self._begin(step, end, began, context)
            if self._is_full:
                # Behind those that have waited while this one was served.
                self._held.pop(end, None)
                self._held[end] = None
                return
            context = self._context.copy()
        self._loop.call_soon(self._drain, end)

    def _begin(
        self,
        step: Coroutine[Any, Any, None],
        end: Inbound,
        began: float,
        context: contextvars.Context,
    ) -> None:
        self._under_way += 1
        self._code.under_way += 1
        end.meter.begun(began)
        function = self._function(step, end, began, self._code)
        self._tasks.create_task(function, name=end.end.name, context=context)

    async def _function(
        self, step: Coroutine[Any, Any, None], end: Inbound, began: float, code: _Code
    ) -> None:
        """Run a function to its end, and let others begin in its place."""
        try:
            await step
        except asyncio.CancelledError:
            # By itself: we cancel no function. What follows is not for a task that is to end.
            self._loop.call_soon(self._ended, code)
            raise
        finally:
            end.meter.ended(began, clock())
            if end.ready():
                # Sending a reply may have used up the sign of what has come meanwhile.
                self._held.setdefault(end)
        self._ended(code)

    def _ended(self, code: _Code) -> None:
        self._under_way -= 1
        code.under_way -= 1
        if code.afterwards is not None and not code.under_way:
            self._tasks.create_task(code.afterwards(), name="on_unload")
        if self._held or self._reloads:
            # Not at once: a reload that has just been asked for goes before the next message.
            self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        """Begin the reload that waits, and take what has been held."""
        if self._reloads and not self._must_wait:
            self._begin_reload(self._reloads.popleft())
        while self._held and not self._is_full:
            end = next(iter(self._held))
            del self._held[end]
            self._drain(end)

    # ------------------------------------------------------------- reload

    @property
    def _must_wait(self) -> bool:
        """Whether a reload has to wait.

        Where functions take turns, one waits for the message in hand. Where several are under way
        they may go on for long, or wait for a message that is still to come.
        """
        return self._is_exchanging or (self._most == 1 and self._under_way > 0)

    def _reload(self, call: Call) -> None:
        """Exchange the code as soon as that can be; until then, new messages are held."""
        if self._stopped:
            return
        if self._must_wait:
            self._reloads.append(call)
        else:
            self._begin_reload(call)

    def _begin_reload(self, call: Call) -> None:
        self._is_exchanging = True
        self._tasks.create_task(self._exchange(call), name="reload")

    async def _exchange(self, call: Call) -> None:
        call.answer(await self._reloader.exchanged(call.params))
        self._is_exchanging = False
        self._go_on()

    def _postpone(self, afterwards: reloading.Hook) -> bool:
        """Take what is to follow the functions of the old code, which none begins any more."""
        old, self._code = self._code, _Code()
        if not old.under_way:
            return False
        old.afterwards = afterwards
        return True


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
