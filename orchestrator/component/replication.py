"""Copies of states, kept up to date; `orchestrator.component.sources` has the other ends.

Nothing here waits: a copy that is behind asks for a snapshot and goes on. Until the answer is
there, handlers see what it had last.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import zmq

from orchestrator.component import sockets
from orchestrator.component.errors import ModelMismatch
from orchestrator.component.flow import Flow
from orchestrator.component.frozen import FrozenDict, freeze
from orchestrator.component.meter import Meter, Watch
from orchestrator.component.sockets import Context, Socket
from orchestrator.component.states import State
from orchestrator.wire import messages, states, values
from orchestrator.wire.states import Replica, Update

logger = logging.getLogger(__name__)

Endpoints = Mapping[str, tuple[str, ...]]
"""The endpoints of each socket of a state."""

NOTHING: Any = FrozenDict()
"""The value of a state before anything was sent."""

_NOBLOCK = zmq.NOBLOCK


class Served(Protocol):
    """A socket of a state: what to watch, and what to do when it has something."""

    socket: Socket

    def take(self) -> bool:
        """Take one message if there is one, and tell whether there was."""


class Replicated(Protocol):
    """An end of a state."""

    state: State
    meter: Meter

    def served(self) -> tuple[Served, ...]:
        """Return the sockets to be served."""

    def view(self) -> Any:
        """Return the value as it is now; it cannot be changed."""

    def observe(self, watch: Watch | None) -> None:
        """Tell `watch` of each update and snapshot from the next one on; None ends that."""


class States(Mapping[str, Any]):
    """What handlers see: the value of each state, read when it is asked for."""

    def __init__(self, ends: Mapping[str, Replicated]) -> None:
        self._views: dict[str, Callable[[], Any]] = {name: end.view for name, end in ends.items()}

    def __getitem__(self, name: str) -> Any:
        return self._views[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._views)

    def __len__(self) -> int:
        return len(self._views)

    def __repr__(self) -> str:
        return repr(dict(self))


class In:
    """What all copies have in common: a subscriber, and what is counted of it."""

    def __init__(self, state: State, context: Context, flow: Flow, endpoints: Endpoints) -> None:
        self.state = state
        self.socket = sockets.open_socket(context, zmq.SUB)
        self.socket.setsockopt(zmq.SUBSCRIBE, messages.prefix(state.topic))
        for endpoint in endpoints["subscriber"]:
            sockets.connect(self.socket, state.name, endpoint)
        self.meter = Meter()
        self._flow = flow
        self._topic = messages.prefix(state.topic)
        self._watch: Watch | None = None

    def observe(self, watch: Watch | None) -> None:
        """Tell `watch` of each update and snapshot from the next one on; None ends that."""
        self._watch = watch

    def _passed(self, what: str, workflow_id: str | None, frame: bytes, value: Any) -> None:
        """Count what was taken, and tell who watches, fitting or not."""
        self.meter.passed(workflow_id, len(frame))
        if self._watch is not None:
            self._watch(what, workflow_id, value)

    def _malformed(self, frame: bytes, said: str, error: Exception) -> None:
        self.meter.passed(None, len(frame))
        self.meter.errors += 1
        logger.warning("%s of the state %r: %s", said, self.state.name, error)

    def _unfit(self, workflow_id: str | None, mistakes: tuple[str, ...]) -> None:
        """Tell of an update that does not fit the model, in its workflow."""
        self.meter.errors += 1
        before, self._flow.current = self._flow.current, workflow_id
        dropped = f"dropped an update of the state {self.state.name!r}"
        logger.warning("%s", ModelMismatch(dropped, mistakes))
        self._flow.current = before


class FullIn(In):
    """A copy that each update replaces."""

    def __init__(self, state: State, context: Context, flow: Flow, endpoints: Endpoints) -> None:
        super().__init__(state, context, flow, endpoints)
        self._value = self._view = NOTHING

    def served(self) -> tuple[Served, ...]:
        """Return the sockets to be served."""
        return (self,)

    def view(self) -> Any:
        """Return the value as it is now, {} before the first update; it cannot be changed."""
        if self._view is None:
            # Now rather than at each update: most are never looked at.
            self._view = freeze(self._value)
        return self._view

    def take(self) -> bool:
        """Take one update if there is one."""
        try:
            frame = self.socket.recv(_NOBLOCK)
        except zmq.Again:
            return False
        content = self.state.content
        try:
            value, workflow_id = messages.decode_publication(frame, self._topic)
        except values.MalformedMessage as error:
            self._malformed(frame, "Dropped an update", error)
            return True
        if content.load is not None:
            value = content.load(value)
        self._passed("update", workflow_id, frame, value)
        if not content.accepts(value):
            self._unfit(workflow_id, tuple(content.explain(value)))
            return True
        self._value, self._view = value, None
        return True


class DeltaIn(In):
    """A copy that updates change; asks for a snapshot when it has missed some."""

    def __init__(self, state: State, context: Context, flow: Flow, endpoints: Endpoints) -> None:
        super().__init__(state, context, flow, endpoints)
        self._replica = Replica()
        self._view: FrozenDict | None = None
        self._asked = 0
        self._requester = sockets.open_socket(context, zmq.DEALER)
        for endpoint in endpoints["requester"]:
            sockets.connect(self._requester, state.name, endpoint)
        # Waits in the socket until the source is there.
        self._ask()

    def served(self) -> tuple[Served, ...]:
        """Return the sockets to be served."""
        return self, Part(self._requester, self._take_answer)

    def view(self) -> Any:
        """Return the value as it is now, {} before the first; it cannot be changed."""
        if self._view is None:
            self._view = FrozenDict(self._replica.value)
        return self._view

    def take(self) -> bool:
        """Take one update if there is one."""
        try:
            frame = self.socket.recv(_NOBLOCK)
        except zmq.Again:
            return False
        try:
            update, workflow_id = states.decode_update(frame, self._topic)
        except values.MalformedMessage as error:
            self._malformed(frame, "Dropped an update", error)
            return True
        self._passed("update", workflow_id, frame, update.changes)
        if self._replica.take(self._checked(update, workflow_id)):
            self._view = None
        self._ask()
        return True

    def _take_answer(self) -> bool:
        try:
            frames = self._requester.recv_multipart(_NOBLOCK)
        except zmq.Again:
            return False
        if len(frames) != 3 or frames[0] != self._asked.to_bytes(8):
            return True
        try:
            snapshot = states.decode_snapshot(frames[2])
        except values.MalformedMessage as error:
            self._malformed(frames[2], "Cannot have a snapshot", error)
            return True
        self._passed("snapshot", None, frames[2], snapshot.changes)
        if self._replica.answer(self._checked(snapshot, None)):
            self._view = None
        self._ask()
        return True

    def _ask(self) -> None:
        while self._replica.asks(time.monotonic()):
            self._asked += 1
            request = messages.encode_request({}, None)
            with contextlib.suppress(zmq.Again):
                self._requester.send_multipart(
                    [self._asked.to_bytes(8), b"", request], flags=_NOBLOCK
                )
            # Sending may have used up the sign that an answer is there.
            while self._take_answer():
                pass

    def _checked(self, update: Update, workflow_id: str | None) -> Update:
        """Return an update with frozen changes of the right types, without those that do not fit.

        One of a few is dropped whole: its parts may belong together. Its number counts all the
        same, so that the next one fits; a snapshot would bring nothing better.
        """
        content = self.state.content
        changes = content.load_changes(update.changes)
        mistakes = tuple(content.explain_changes(changes))
        if mistakes:
            self._unfit(workflow_id, mistakes)
            changes = (
                {k: v for k, v in changes.items() if not any(content.explain_changes({k: v}))}
                if update.whole
                else {}
            )
        frozen = {key: freeze(item) for key, item in changes.items()}
        return Update(update.number, frozen, update.whole, update.epoch)


class Part:
    """Another socket of an end."""

    def __init__(self, socket: Socket, take: Callable[[], bool]) -> None:
        self.socket = socket
        self.take = take
