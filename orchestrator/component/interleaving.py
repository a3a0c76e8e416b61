"""What a component has in other forms when several of its async functions may be under way.

The workflow in hand belongs to each invocation, and a reply goes to whoever asked for it. Both
cost something, so components whose functions take turns do without: see `flow` and `inbound`.
"""

from __future__ import annotations

from collections.abc import Coroutine
from contextvars import ContextVar
from typing import Any

import zmq

from orchestrator.component import flow, inbound
from orchestrator.component.connections import End
from orchestrator.component.inbound import ENDS, Handle
from orchestrator.component.sockets import Socket


class Flow(flow.Flow):
    """The workflow of each context: a task sends on behalf of the message it was begun for."""

    __slots__ = ("_hand",)

    def __init__(self) -> None:
        self._hand: ContextVar[_Hand | None] = ContextVar("workflow", default=None)
        super().__init__()

    @property
    def current(self) -> str | None:
        """The id of the message in hand."""
        hand = self._hand.get()
        return None if hand is None else hand.workflow_id

    @current.setter
    def current(self, workflow_id: str | None) -> None:
        self._hand.set(None if workflow_id is None else _Hand(workflow_id))

    def begin(self, workflow_id: str | None) -> str:
        """Take a message in hand in this context; without an id it begins a chain."""
        current = workflow_id or self._new()
        self._hand.set(_Hand(current))
        return current

    def next(self) -> str:
        """Return the id of the next message that this context sends."""
        hand = self._hand.get()
        if hand is None:
            return self._new()
        sent = hand.sent
        hand.sent = sent + 1
        return f"{hand.workflow_id}_{sent}" if sent else hand.workflow_id


class _Hand:
    """A message in hand; the tasks that its function begins share it."""

    __slots__ = ("sent", "workflow_id")

    def __init__(self, workflow_id: str) -> None:
        self.workflow_id = workflow_id
        self.sent = 0


class Replyer(inbound.Replyer):
    """Answers each request when its function has ended, whatever came before or after it.

    A ROUTER socket. What stands before the empty frame of a request is the way back to who asked,
    through whatever is between; it is put before the reply untouched, as a REP socket does.
    """

    def __init__(self, end: End, socket: Socket, flow: flow.Flow, handle: Handle) -> None:
        super().__init__(end, socket, flow, handle)
        # To hear of replies that reach nobody; otherwise they are dropped without a word.
        socket.set(zmq.ROUTER_MANDATORY, 1)
        self._receive = self._unwrapped
        self._back: list[bytes] = []
        """The way back of the request in hand."""

    def _unwrapped(self, flags: int) -> bytes:
        """Receive a request without its envelope; empty when it has not one part."""
        while True:
            frames = self.socket.recv_multipart(flags)
            try:
                body = frames.index(b"", 1) + 1
            except ValueError:
                continue  # No REQ sends that: there is no way to answer, and REP takes no notice.
            if body == len(frames):
                continue
            self._back = frames[:body]
            return frames[body] if body + 1 == len(frames) else b""

    def _finish(self, workflow_id: str | None, arguments: object) -> Coroutine[Any, Any, None]:
        # All of it as it is now: code may be exchanged before the function has ended.
        return self._finished_for(self._back, self.end, self._handle, workflow_id, arguments)

    async def _finished_for(
        self,
        back: list[bytes],
        end: End,
        handle: Handle,
        workflow_id: str | None,
        arguments: object,
    ) -> None:
        try:
            result = await handle(arguments)
        except ENDS:
            raise
        except BaseException as error:  # noqa: BLE001 - user code may raise anything
            self._back = back
            self._failed(workflow_id, error)
            inbound.go_on_after(error)
        else:
            self._back = back
            assert end.returns is not None
            self._answer(workflow_id, result, end.returns)

    def _reply(self, frame: bytes) -> None:
        try:
            self.socket.send_multipart((*self._back, frame), zmq.NOBLOCK)
        except zmq.ZMQError as error:
            self._silent.add("Cannot answer a request on %r: %s", self.end.name, error)
