"""Seeing inside a living component: the methods of its control link that show what it does.

    stats    counters and times of every connection and state
    tap      a copy of each message, update and snapshot, as it comes or goes
    call     a request of somebody at a command line, handled like any other
    trace    which messages of a workflow came and went

Nobody who looks slows the component down by more than the copies that are made for him.
"""

from __future__ import annotations

import functools
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import zmq

from orchestrator.component import jsonable, sockets
from orchestrator.component.assembly import Assembly
from orchestrator.component.connections import End
from orchestrator.component.control import Call, Link
from orchestrator.component.errors import ModelMismatch
from orchestrator.component.inbound import Inbound, Replyer
from orchestrator.component.models import Arguments
from orchestrator.component.outbound import Outbound, Publisher
from orchestrator.component.replication import Replicated
from orchestrator.component.states import State
from orchestrator.errors import RequestFailed
from orchestrator.wire import messages, values

Observable = Inbound | Outbound | Replicated
"""An end of a connection or of a state."""

COPIES = 1000
"""How many messages a second are copied for a tap; the others are only counted."""

Wake = Callable[[Inbound], object]
"""Lets the messages of an end be taken although its socket gives no sign."""


def offer(assembly: Assembly, inbound: Sequence[Inbound], wake: Wake) -> None:
    """Put the methods on the component's link; nothing happens when it has none."""
    if assembly.link is not None:
        seen = _Observed(assembly, assembly.link, inbound, wake)
        assembly.link.methods |= {
            "stats": seen.stats,
            "tap": seen.tap,
            "call": seen.call,
            "trace": seen.trace,
        }


class _Observed:
    def __init__(
        self, assembly: Assembly, link: Link, inbound: Sequence[Inbound], wake: Wake
    ) -> None:
        self._assembly = assembly
        self._link = link
        self._inbound = inbound
        self._wake = wake
        self._taps: list[_Tap] = []
        self._callable: set[str] = set()

    def stats(self, _call: Call) -> Mapping[str, Any]:
        """Return the counters of every connection, inward ones first, and of every state."""
        return {
            "connections": [*self._of_inbound(), *self._of_outbound()],
            "states": [{**_about(end), **end.meter.plain()} for end in self._assembly.replicas],
        }

    def _of_inbound(self) -> Iterator[dict[str, Any]]:
        for end in self._inbound:
            waiting = end.waiting()
            if waiting:
                self._wake(end)
            counted = {"waiting": waiting, "in_flight": end.meter.under_way, "dropped": 0}
            yield {**_about(end), **end.meter.plain(), **counted}

    def _of_outbound(self) -> Iterator[dict[str, Any]]:
        for end in self._assembly.outputs.values():
            dropped = end.dropped if isinstance(end, Publisher) else 0
            counted = {"waiting": None, "in_flight": None, "dropped": dropped}
            yield {**_about(end), **end.meter.plain(), **counted}

    # ------------------------------------------------------------- tap

    def tap(self, call: Call) -> None:
        """Send a copy of each message of what is named, of all when nothing is."""
        wanted = self._named(call.params.get("names") or ())
        limit = int(call.params.get("limit") or COPIES)
        tap = _Tap(call, frozenset(map(id, wanted)), limit)
        self._taps.append(tap)
        call.closed = functools.partial(self._untap, tap)
        call.answer({"ends": [_about(end) for end in wanted]})
        self._observe()

    def _untap(self, tap: _Tap) -> None:
        self._taps.remove(tap)
        self._observe()

    def _observe(self) -> None:
        for end in self._ends():
            taps = [tap for tap in self._taps if id(end) in tap.ends]
            end.observe(functools.partial(_tell, taps, end) if taps else None)

    # ------------------------------------------------------------- call

    def call(self, call: Call) -> None:
        """Let a request be handled in its turn; the answer is the reply's."""
        name = call.params.get("connection")
        end = next((one for one in self._inbound if one.end.name == name), None)
        if not isinstance(end, Replyer):
            known = [one.end.name for one in self._inbound if isinstance(one, Replyer)]
            there = f"it replies to {', '.join(known)}" if known else "it replies to no requests"
            raise RequestFailed("no-replyer", f"cannot call {name!r}: {there}")
        given = call.params.get("args") or {}
        if not isinstance(given, dict):
            raise RequestFailed("bad-arguments", f"cannot call {name!r}: write a JSON object")
        workflow_id = str(uuid.uuid4())
        frame = _framed(end.end.arguments, given, workflow_id, f"cannot call {name!r}")
        _Calling(call, self._link, self._context, self._reached(end), frame)

    @property
    def _context(self) -> sockets.Context:
        return self._assembly.context

    def _reached(self, end: Replyer) -> str:
        """Return where this process reaches one of its own sockets."""
        endpoint = f"inproc://call-{end.end.name}"
        if endpoint not in self._callable:
            end.socket.bind(endpoint)
            self._callable.add(endpoint)
        return endpoint

    # ------------------------------------------------------------- trace

    def trace(self, call: Call) -> Mapping[str, Any]:
        """Return the messages of a workflow that are remembered."""
        workflow_id = str(call.params.get("workflow_id") or "")
        hops = [
            {"time": hop.time, "workflow_id": hop.workflow_id, **_about(end)}
            for end in self._ends()
            for hop in end.meter.hops(workflow_id)
        ]
        forgets = any(end.meter.forgets for end in self._ends())
        return {"hops": sorted(hops, key=lambda hop: hop["time"]), "forgets": forgets}

    # ------------------------------------------------------------- small parts

    def _ends(self) -> Iterator[Observable]:
        yield from self._inbound
        yield from self._assembly.outputs.values()
        yield from self._assembly.replicas

    def _named(self, names: Sequence[str]) -> list[Observable]:
        by_name: dict[str, list[Observable]] = {}
        for end in self._ends():
            by_name.setdefault(_declared(end).name, []).append(end)
        unknown = set(names) - by_name.keys()
        if unknown:
            known = ", ".join(by_name) or "none"
            name = self._assembly.instance.name
            message = f"{name} has no connection or state {min(unknown)!r}; it has {known}"
            raise RequestFailed("unknown-connection", message)
        return [end for name in names or by_name for end in by_name[name]]


class _Tap:
    """Somebody who gets copies: of which ends, and at most so many a second."""

    def __init__(self, call: Call, ends: frozenset[int], limit: int) -> None:
        self.ends = ends
        self._call = call
        self._limit = limit
        self._second = 0
        self._copies = 0
        self._left_out = 0

    def tell(self, event: Callable[[], dict[str, Any]]) -> None:
        """Send an event, unless there were too many this second."""
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._copies = second, 0
        self._copies += 1
        if self._copies > self._limit:
            self._left_out += 1
            return
        left_out, self._left_out = self._left_out, 0
        self._call.emit({**event(), "left_out": left_out})


def _tell(
    taps: Sequence[_Tap],
    end: Observable,
    what: str,
    workflow_id: str | None,
    arguments: Any,
) -> None:
    def event() -> dict[str, Any]:
        return {
            **_about(end),
            "time": time.time(),  # noqa: TID251 - shown to people
            "what": what,
            "workflow_id": workflow_id,
            "args": jsonable.dump(arguments),
        }

    for tap in taps:
        tap.tell(event)


class _Calling:
    """A request on its way to a socket of this process and back."""

    def __init__(
        self, call: Call, link: Link, context: sockets.Context, endpoint: str, frame: bytes
    ) -> None:
        self._call = call
        self._link = link
        self._socket = sockets.open_socket(context, zmq.DEALER)
        self._socket.connect(endpoint)
        self._socket.send_multipart((b"", frame), zmq.NOBLOCK)
        call.closed = self._close
        link.attend(sockets.descriptor(self._socket), self._look)
        # What changed before it was attended gave no sign.
        self._look()

    def _look(self) -> None:
        try:
            _, frame = self._socket.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return
        arguments, workflow_id, error = messages.decode_reply(frame)
        if error is not None:
            kind = error.type or error.kind
            self._call.refuse("remote", f"{kind}: {error.message}", workflow_id=workflow_id)
        else:
            self._call.answer({"reply": jsonable.dump(arguments), "workflow_id": workflow_id})
        self._close()

    def _close(self) -> None:
        if not self._socket.closed:
            self._link.leave(sockets.descriptor(self._socket))
            self._socket.close(linger=0)


def _framed(model: Arguments, given: Mapping[str, Any], workflow_id: str, subject: str) -> bytes:
    """Return the frame of a request with arguments from JSON.

    Raises:
        RequestFailed: They do not fit the model; every mistake is named.
    """
    plain = model.plain()
    arguments: Any = jsonable.fields(given, {**plain["required"], **plain["optional"]})
    try:
        model.check(arguments, subject)
        made = arguments if model.dump is None else model.dump(arguments)
        return messages.encode_request(made, workflow_id)
    except (ModelMismatch, values.CannotEncode) as error:
        raise RequestFailed("bad-arguments", str(error)) from error


def _declared(end: Observable) -> End | State:
    declared: End | State = getattr(end, "end", None) or getattr(end, "state")  # noqa: B009
    return declared


def _about(end: Observable) -> dict[str, Any]:
    declared = _declared(end)
    noun = "state" if isinstance(declared, State) else "connection"
    return {noun: declared.name, "side": declared.type.side, "type": declared.type.name}
