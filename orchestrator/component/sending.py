"""`to_send`, the function that handler code sends with."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

from orchestrator.component.errors import SendError, UnknownOutput

Result = TypeVar("Result")
ToSend = Callable[..., Any]

_ABSENT: Any = object()


def make(
    outputs: Mapping[str, Callable[..., Result]],
    states: Mapping[str, Callable[..., Result]] = MappingProxyType({}),
) -> Callable[..., Result]:
    """Return `to_send` for outputs: `to_send("connection", name, args)` or `to_send(name, args)`.

    `timeout=` is the time that this one message may take, in seconds, instead of its connection's.

    It returns what the output's function returns: the reply of a requester, {} of a publisher or
    of a state, or an awaitable of either for async functions. The short form does not do for a
    name that is both a connection's and a state's.
    """
    both = outputs.keys() & states.keys()
    find_any = {n: s for n, s in {**outputs, **states}.items() if n not in both}.get
    find, find_state = outputs.get, states.get
    identify = threading.get_ident
    owner = identify()

    def to_send(
        output_type: str, output_name: Any, args: Any = _ABSENT, *, timeout: float | None = None
    ) -> Result:
        if args is _ABSENT:
            send, args = find_any(output_type), output_name
        elif output_type == "connection":
            send = find(output_name)
        elif output_type == "state":
            send = find_state(output_name)
        else:
            send = None
        if send is None:
            raise _unknown(outputs, states, output_type, output_name, short=args is output_name)
        if identify() != owner:
            raise SendError(
                f"cannot send from the thread {threading.current_thread().name!r}: sockets belong "
                "to the thread that runs the handlers; hand the message over to it"
            )
        return send(args) if timeout is None else send(args, timeout)

    return to_send


def _unknown(
    outputs: Mapping[str, object],
    states: Mapping[str, object],
    output_type: str,
    output_name: object,
    *,
    short: bool,
) -> UnknownOutput:
    known = ", ".join(map(repr, [*outputs, *states])) or "none"
    if short and output_type in outputs and output_type in states:
        return UnknownOutput(
            f"cannot send to {output_type!r}: it is a connection and a state; "
            "write to_send('connection', name, args) or to_send('state', name, args)"
        )
    if short:
        return UnknownOutput(
            f"cannot send to {output_type!r}: no such output; declared are {known}"
        )
    if output_type == "state":
        known = ", ".join(map(repr, states)) or "none"
        return UnknownOutput(
            f"cannot send to the state {output_name!r}: no such state; declared are {known}"
        )
    if output_type != "connection":
        return UnknownOutput(f"cannot send to a {output_type!r}: expected 'connection' or 'state'")
    known = ", ".join(map(repr, outputs)) or "none"
    return UnknownOutput(f"cannot send to {output_name!r}: no such output; declared are {known}")
