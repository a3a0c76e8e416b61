"""States at their source: changes are sent, late subscribers told, snapshots given.

A source hears of each subscriber. Late ones get the last full state again; of a delta state, the
number at which it stands, so that they ask for a snapshot (see `orchestrator.wire.states`).
Nothing is dropped: sending waits for a subscriber that does not read, and raises after a time.

One thread may send and another one serve (`orchestrator.component.background`): they take turns.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import zmq

from orchestrator.component import connections, sockets
from orchestrator.component.errors import ModelMismatch, SendError, SendTimeout
from orchestrator.component.flow import Flow
from orchestrator.component.frozen import FrozenDict, freeze
from orchestrator.component.meter import Meter, Watch
from orchestrator.component.replication import (
    NOTHING,
    DeltaIn,
    Endpoints,
    FullIn,
    Part,
    Replicated,
    Served,
)
from orchestrator.component.sockets import Context
from orchestrator.component.states import State
from orchestrator.wire import messages, states, values
from orchestrator.wire.messages import Failure
from orchestrator.wire.states import Source, Update

if TYPE_CHECKING:
    from orchestrator.component.stores import Store

logger = logging.getLogger(__name__)

_NOBLOCK = zmq.NOBLOCK


class Out:
    """What all outward ends have in common: a publisher that hears of its subscribers."""

    timeout = connections.SEND_TIMEOUT

    def __init__(
        self,
        state: State,
        context: Context,
        flow: Flow,
        endpoints: Endpoints,
        store: Store | None = None,
    ) -> None:
        self.state = state
        self._store = store
        self.socket = sockets.open_socket(context, zmq.XPUB)
        told = sockets.terms_of(context, endpoints["publisher"])
        self.socket.set(zmq.XPUB_NODROP, not told.drops)
        self.socket.set(zmq.XPUB_VERBOSE, 1)
        for endpoint in endpoints["publisher"]:
            if state.binds:
                sockets.bind(self.socket, state.name, endpoint)
            else:
                sockets.connect(self.socket, state.name, endpoint)
        self._limit = sockets.limit(self.socket)
        self._flow = flow
        self._topic = messages.prefix(state.topic)
        self._turn = threading.RLock()
        self._subject = f"cannot send the state {state.name!r}"
        self._greets = False
        self.meter = Meter()
        self._watch: Watch | None = None

    def served(self) -> tuple[Served, ...]:
        """Return the sockets to be served."""
        return (self,)

    def send(self, arguments: Any, timeout: float | None = None) -> dict[str, Any]:
        """Change the state and tell all subscribers, waiting for slow ones.

        Args:
            arguments: All of a full state, what changes of a delta state.
            timeout: For how many seconds to wait, instead of `SEND_TIMEOUT`.

        Raises:
            ModelMismatch: The arguments break the model; nothing has changed.
            SendTimeout: A subscriber was too slow. The state has changed; whoever has missed it
                will ask.
        """
        with self._turn:
            frame = self.frame(arguments)
            if not self.transmit(frame):
                self._send_patiently(frame, self.timeout if timeout is None else timeout)
        return {}

    def observe(self, watch: Watch | None) -> None:
        """Tell `watch` of each update and snapshot from the next one on; None ends that."""
        self._watch = watch

    def close(self) -> None:
        """Let go of the store; the sockets close with their context."""
        if self._store is not None:
            self._store.close()

    def frame(self, arguments: Any) -> bytes:
        """Change the state, and what is kept of it, and return what tells it."""
        raise NotImplementedError

    def transmit(self, frame: bytes) -> bool:
        """Publish if all subscribers have room, and tell whether they had."""
        with self._turn:
            try:
                self.socket.send(frame, _NOBLOCK)
            except zmq.Again:
                return False
            self._take_all()
        return True

    def expired(self, timeout: float) -> SendTimeout:
        """Return the error for an update that has waited long enough, and count it."""
        self.meter.errors += 1
        return SendTimeout(f"{self._subject}: a subscriber has not read for {timeout:g} s")

    def take(self) -> bool:
        """Take one subscription if there is one; when all are taken, tell them what they need."""
        with self._turn:
            try:
                event = self.socket.recv(_NOBLOCK)
            except zmq.Again:
                if self._greets:
                    with contextlib.suppress(zmq.Again):
                        # Where there is no room, a sign comes as soon as there is.
                        self._greet()
                        self._greets = False
                return False
            # A byte 1 for a subscription, then its prefix.
            if event[:1] == b"\1" and self._topic.startswith(event[1:]):
                self._greets = True
            return True

    def _take_all(self) -> None:
        # Sending may have used up the sign that a subscriber has come.
        while self.take():
            pass

    def _greet(self) -> None:
        """Publish what new subscribers need, or raise zmq.Again."""
        raise NotImplementedError

    def _passed(self, what: str, workflow_id: str | None, frame: bytes, value: Any) -> None:
        """Count what is sent, and tell who watches."""
        self.meter.passed(workflow_id, len(frame))
        if self._watch is not None:
            self._watch(what, workflow_id, value)

    def _framed(self, encode: Callable[[], bytes]) -> bytes:
        try:
            made = encode()
        except values.CannotEncode as error:
            raise SendError(f"{self._subject}: {error}") from error
        if len(made) > self._limit:
            raise SendError(
                f"{self._subject}: it has {len(made)} bytes; at most {self._limit} can be sent"
            )
        return self._topic + made

    def _send_patiently(self, frame: bytes, timeout: float) -> None:
        if not sockets.send_within(self.socket, frame, timeout):
            raise self.expired(timeout)
        self._take_all()


class FullOut(Out):
    """Sends all of the state at each update, and again to who comes late."""

    def __init__(
        self,
        state: State,
        context: Context,
        flow: Flow,
        endpoints: Endpoints,
        store: Store | None = None,
    ) -> None:
        super().__init__(state, context, flow, endpoints, store)
        self._last: bytes | None = None
        self._view: Any = NOTHING
        found = store.load() if store else None
        if found is not None:
            self._restore(found[1].get(b"", b""))

    def view(self) -> Any:
        """Return what was sent last, {} before the first; it cannot be changed."""
        if self._view is None:
            assert self._last is not None
            value, _ = messages.decode_publication(self._last, self._topic)
            load = self.state.content.load
            self._view = freeze(value if load is None else load(value))
        return self._view

    def frame(self, arguments: Any) -> bytes:
        """Change the state and return what tells it."""
        content = self.state.content
        if not content.accepts(arguments):
            content.check(arguments, self._subject)
        following = self._flow.next()

        def encoded() -> bytes:
            dumped = arguments if content.dump is None else content.dump(arguments)
            return messages.encode_request(dumped, following)

        frame = self._framed(encoded)
        if self._store is not None:
            self._store.save(0, {b"": frame[len(self._topic) :]}, whole=True)
        self._last, self._view = frame, None
        self._passed("update", following, frame, arguments)
        return frame

    def _restore(self, kept: bytes) -> None:
        content = self.state.content
        try:
            value, _ = messages.decode_request(kept)
            value = value if content.load is None else content.load(value)
            content.check(value, "it does not fit its model")
        except (values.MalformedMessage, ModelMismatch) as error:
            logger.warning("Cannot use what was kept of the state %r: %s", self.state.name, error)
            return
        self._last, self._view = self._topic + kept, None

    def transmit(self, frame: bytes) -> bool:
        """Publish if all subscribers have room; what waited until it was outdated is not sent."""
        return frame is not self._last or super().transmit(frame)

    def _greet(self) -> None:
        if self._last is not None:
            self.socket.send(self._last, _NOBLOCK)
            self.meter.passed(None, len(self._last))


class DeltaOut(Out):
    """Sends what changes, and all of the state to who asks."""

    def __init__(
        self,
        state: State,
        context: Context,
        flow: Flow,
        endpoints: Endpoints,
        store: Store | None = None,
    ) -> None:
        super().__init__(state, context, flow, endpoints, store)
        found = store.load() if store else None
        number, kept = (-1, {}) if found is None else (found[0], self._restored(found[1]))
        self._source = Source(uuid4().hex, kept, number)
        self._view: FrozenDict | None = None
        self._answer: bytes | None = None
        self._replyer = sockets.open_socket(context, zmq.REP)
        for endpoint in endpoints["replyer"]:
            sockets.bind(self._replyer, state.name, endpoint)

    def served(self) -> tuple[Served, ...]:
        """Return the sockets to be served."""
        return self, Part(self._replyer, self._take_request)

    def view(self) -> Any:
        """Return the value as it is now; it cannot be changed."""
        if self._view is None:
            self._view = FrozenDict(self._source.value)
        return self._view

    def frame(self, arguments: Any) -> bytes:
        """Change the state and return what tells it."""
        changes, whole, number = self.state.parts(arguments, self._subject)
        self.state.content.check_changes(changes, self._subject)
        # What the caller does with his own afterwards is not sent, and must not be kept.
        frozen = {key: freeze(item) for key, item in changes.items()}
        with self._turn:
            update = self._source.plan(frozen, whole=whole, number=number)
            following = self._flow.next()
            frame = self._encoded(update, following)
            if self._store is not None:
                # Of a first update, which is whole, only what has changed.
                kept = update.changes if whole else frozen
                self._store.save(update.number, self._items(kept), whole=whole)
            self._commit(update)
            self._passed("update", following, frame, changes)
        return frame

    def _items(self, changes: Mapping[Any, Any]) -> dict[bytes, bytes | None]:
        dumped = self.state.content.dump_changes(changes)
        # A key alone would not come back as one: what is decoded in the place of a key does.
        return {
            values.encode(values.mapping({key: None})): None
            if item is None
            else values.encode(item)
            for key, item in dumped.items()
        }

    def _restored(self, items: Mapping[bytes, bytes]) -> dict[Any, Any]:
        content, found = self.state.content, {}
        try:
            for key, item in items.items():
                found[next(iter(values.decode(key)))] = values.decode(item)
        except values.MalformedMessage as error:
            logger.warning("Cannot use what was kept of the state %r: %s", self.state.name, error)
            return {}
        found = content.load_changes(found)
        mistakes = tuple(content.explain_changes(found))
        if mistakes:
            logger.warning(
                "%s",
                ModelMismatch(f"cannot use all that was kept of {self.state.name!r}", mistakes),
            )
        return {
            key: freeze(item)
            for key, item in found.items()
            if not any(content.explain_changes({key: item}))
        }

    def _encoded(self, update: Update, workflow_id: str | None) -> bytes:
        def encoded() -> bytes:
            dumped = self.state.content.dump_changes(update.changes)
            sent = Update(update.number, dumped, update.whole, update.epoch)
            return states.encode_update(sent, workflow_id)

        return self._framed(encoded)

    def _commit(self, update: Update) -> None:
        self._source.commit(update)
        self._view = self._answer = None

    def _greet(self) -> None:
        """Say where the state stands, by an update without changes."""
        update = self._source.plan({})
        frame = self._encoded(update, None)
        self.socket.send(frame, _NOBLOCK)
        self._commit(update)
        self.meter.passed(None, len(frame))

    def _take_request(self) -> bool:
        with self._turn:
            try:
                frame = self._replyer.recv(_NOBLOCK)
            except zmq.Again:
                return False
            try:
                _, workflow_id = messages.decode_request(frame)
                reply = self._snapshot(workflow_id)
                self._passed("snapshot", workflow_id, reply, self._source.value)
            except (values.MalformedMessage, SendError) as error:
                while self._replyer.get(zmq.RCVMORE):
                    self._replyer.recv(_NOBLOCK)
                logger.warning(
                    "Cannot give a snapshot of the state %r: %s", self.state.name, error
                )
                self.meter.errors += 1
                said = messages.Error(Failure.MALFORMED, "", str(error))
                reply = messages.encode_error(said, None)
            with contextlib.suppress(zmq.ZMQError):
                self._replyer.send(reply, _NOBLOCK)
            return True

    def _snapshot(self, workflow_id: str | None) -> bytes:
        if self._answer is None:
            snapshot = self._source.snapshot()
            dumped = self.state.content.dump_changes(snapshot.changes)
            sent = Update(snapshot.number, dumped, whole=True, epoch=snapshot.epoch)
            made = states.encode_snapshot(sent, workflow_id)
            limit = sockets.limit(self._replyer)
            if len(made) > limit:
                raise SendError(f"it has {len(made)} bytes, of at most {limit}")
            self._answer = made
        return self._answer


def opened(
    wired: Mapping[State, Endpoints], kept: Mapping[str, Store], context: Context, flow: Flow
) -> tuple[Replicated, ...]:
    """Open the ends of states, sources first: a component may copy its own.

    Args:
        wired: The endpoints of each end.
        kept: The store of each outward state that is kept, by name.
        context: Where the sockets are opened.
        flow: Where the workflow id of each moment stands.

    Raises:
        SetupError: An address cannot be had.
    """
    found: list[Replicated] = []
    for state, endpoints in sorted(wired.items(), key=lambda item: item[0].type.side == "in"):
        if state.type.side == "in":
            copy = DeltaIn if state.is_delta else FullIn
            found.append(copy(state, context, flow, endpoints))
        else:
            source = DeltaOut if state.is_delta else FullOut
            found.append(source(state, context, flow, endpoints, kept.get(state.name)))
    return tuple(found)
