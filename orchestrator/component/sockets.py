"""ZeroMQ sockets of a component: opened, bound and connected, with errors that help."""

from __future__ import annotations

import errno
import functools
import socket as posix
import time
import weakref
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import zmq

from orchestrator.component import addresses, curve
from orchestrator.component.connections import End
from orchestrator.component.curve import Curve
from orchestrator.component.errors import SetupError
from orchestrator.wire import messages

Socket = zmq.Socket[bytes]

HIGH_WATER_MARK = 10_000
"""How many messages wait per peer before a publisher waits for its slowest subscriber."""

BIND_PATIENCE = 2.0
"""For how many seconds an address in use is tried again: its owner may be on its way out."""

_RETRY = 0.05


@dataclass(frozen=True, slots=True)
class Terms:
    """What an address asks of the sockets at its endpoints.

    `high_water_mark` counts messages per peer, `max_message` bytes. A publisher whose subscriber
    is full waits for it, or `drops` what does not fit. At a `bus` publishers connect. With `curve`
    everything is encrypted.
    """

    high_water_mark: int = HIGH_WATER_MARK
    drops: bool = False
    max_message: int = messages.MAX_SIZE
    bus: bool = False
    curve: Curve | None = None


USUAL = Terms()

_limits: MutableMapping[Socket, int] = weakref.WeakKeyDictionary()
"""How large a message of a socket may be; of one that connects, ZeroMQ does not know it."""


class Context(zmq.Context[Socket]):
    """A ZeroMQ context that knows the terms of the endpoints which have their own."""

    terms: Mapping[str, Terms] = {}
    guards: curve.Guards | None = None


def terms(told: Mapping[str, Any]) -> dict[str, Terms]:
    """Return the terms of endpoints as a component is told them, by endpoint."""
    return {
        endpoint: Terms(
            high_water_mark=said.get("high_water_mark", HIGH_WATER_MARK),
            drops=said.get("when_full") == "drop",
            max_message=said.get("max_message", messages.MAX_SIZE),
            bus=said.get("bus", False),
            curve=_curve(said.get("curve")),
        )
        for endpoint, said in told.items()
    }


def _curve(said: Mapping[str, Any] | None) -> Curve | None:
    if said is None:
        return None
    return Curve(said["key"], said.get("server"), tuple(said.get("allow") or ()))


def terms_of(context: zmq.Context[Any], endpoints: Sequence[str]) -> Terms:
    """Return the terms of a socket; its endpoints are those of one address."""
    known: Mapping[str, Terms] = getattr(context, "terms", {})
    return known.get(endpoints[0], USUAL) if endpoints else USUAL


def open_socket(context: Context, kind: int) -> Socket:
    """Return a socket with the bounds that all sockets of a component have."""
    socket = context.socket(kind)
    socket.set(zmq.LINGER, 0)
    _bound(socket, USUAL)
    # Finds out that a peer is gone on networks that lose connections silently; idle, it costs
    # nothing.
    socket.set(zmq.TCP_KEEPALIVE, 1)
    socket.set(zmq.TCP_KEEPALIVE_IDLE, 60)
    return socket


def descriptor(socket: Socket) -> int:
    """Return the file descriptor that tells, once each time, that the socket may have changed.

    It is readable until the socket is asked for its `readiness`, or used.
    """
    found = socket.get(zmq.FD)
    assert isinstance(found, int)
    return found


def sender(socket: Socket) -> Callable[[bytes, int], object]:
    """Return the function that sends a frame, with flags, at a quarter of the cost of `send`.

    It is the one in C beneath that, which first looks for options that only draft kinds of socket
    have.
    """
    return super(zmq.Socket, socket).send


def send_within(socket: Socket, frame: bytes, seconds: float) -> bool:
    """Send a frame as soon as all peers have room; tell whether they had in time.

    ZeroMQ waits, for it alone knows: to `poll` a publisher is always ready for output.
    """
    socket.set(zmq.SNDTIMEO, max(0, round(seconds * 1000)))
    try:
        sender(socket)(frame, 0)
    except zmq.Again:
        return False
    return True


def readiness(socket: Socket) -> Callable[[], int]:
    """Return the function that tells what a socket is ready for: `zmq.POLLIN` and such, as bits.

    It is cheaper than to try: the exception for nothing costs as much as a message.
    """
    get = cast("Callable[[int], int]", super(zmq.Socket, socket).get)
    return functools.partial(get, int(zmq.EVENTS))


def limit(socket: Socket) -> int:
    """Return how many bytes a message of a bound or connected socket may have."""
    return _limits.get(socket, USUAL.max_message)


def attach(socket: Socket, end: End, endpoints: tuple[str, ...]) -> None:
    """Bind or connect a socket to its endpoints.

    Raises:
        SetupError: An address cannot be had; names it and what would help.
    """
    for endpoint in endpoints:
        if end.binds:
            bind(socket, end.name, endpoint)
        else:
            connect(socket, end.name, endpoint)


def _bound(socket: Socket, asked: Terms) -> None:
    socket.set(zmq.SNDHWM, asked.high_water_mark)
    socket.set(zmq.RCVHWM, asked.high_water_mark)
    socket.set(zmq.MAXMSGSIZE, asked.max_message)
    _limits[socket] = asked.max_message


def connect(socket: Socket, name: str, endpoint: str) -> None:
    """Connect a socket of the end `name` to an endpoint.

    Raises:
        SetupError: The endpoint is none, or a key file cannot be used.
    """
    asked = terms_of(socket.context, (endpoint,))
    _bound(socket, asked)
    # ZeroMQ would end the connection for ever at a message that is too large, and the socket be
    # deaf without a word. Whoever connects looks at the size itself.
    socket.set(zmq.MAXMSGSIZE, -1)
    if asked.curve:
        curve.join(socket, asked.curve)
    # Only for addresses that need it: names then resolve to IPv6 alone.
    socket.set(zmq.IPV6, "[" in endpoint)
    try:
        socket.connect(endpoint)
    except zmq.ZMQError as error:
        raise SetupError(f"cannot connect {name!r} to {endpoint}: {error.strerror}") from error


def bind(socket: Socket, name: str, endpoint: str) -> None:
    """Bind a socket of the end `name` to an endpoint.

    Raises:
        SetupError: The address cannot be had; names it and what would help.
    """
    asked = terms_of(socket.context, (endpoint,))
    _bound(socket, asked)
    if asked.curve:
        context = socket.context
        assert isinstance(context, Context)
        guards = context.guards or curve.Guards()
        context.guards = guards
        curve.serve(socket, asked.curve, guards)
    deadline = time.monotonic() + BIND_PATIENCE
    while True:
        try:
            _refuse_taken(endpoint)
            numeric = _numeric(endpoint)
            socket.set(zmq.IPV6, "[" in numeric)
            socket.bind(numeric)
        except (zmq.ZMQError, OSError) as error:
            if error.errno == errno.EADDRINUSE and time.monotonic() < deadline:
                time.sleep(_RETRY)  # noqa: TID251 - nothing else runs yet
                continue
            raise SetupError(
                f"cannot bind {name!r} to {endpoint}: {_reason(error, endpoint)}"
            ) from error
        return


def _numeric(endpoint: str) -> str:
    """Return a tcp endpoint with its host as a number: ZeroMQ takes names for interfaces."""
    if not endpoint.startswith("tcp://"):
        return endpoint
    host, port = addresses.split(endpoint)
    if host == "*":
        return endpoint
    found = posix.getaddrinfo(host, port, type=posix.SOCK_STREAM)
    # 127.0.0.1 rather than ::1 for localhost: that is where peers written for IPv4 look.
    found.sort(key=lambda entry: entry[0] is not posix.AF_INET)
    address = found[0][4][0]
    return f"tcp://[{address}]:{port}" if ":" in str(address) else f"tcp://{address}:{port}"


def _refuse_taken(endpoint: str) -> None:
    """Raise EADDRINUSE for an ipc path that somebody serves: ZeroMQ would take it from him."""
    if not endpoint.startswith("ipc://"):
        return
    path = endpoint.removeprefix("ipc://")
    abstract = path.startswith("@")
    if not abstract and not Path(path).is_socket():
        if Path(path).exists():
            raise OSError(errno.EEXIST, "a file that is no socket stands there")
        return
    with posix.socket(posix.AF_UNIX, posix.SOCK_STREAM) as probe:
        try:
            probe.connect("\0" + path[1:] if abstract else path)
        except OSError:
            return
    raise OSError(errno.EADDRINUSE, "another process serves it")


def _reason(error: OSError | zmq.ZMQError, endpoint: str) -> str:
    if error.errno == errno.EADDRINUSE:
        return "the address is in use; stop what uses it, or give this connection another address"
    if error.errno in (errno.EADDRNOTAVAIL, errno.ENODEV) or isinstance(error, posix.gaierror):
        host = addresses.split(endpoint)[0] if endpoint.startswith("tcp") else endpoint
        return f"this machine has no address {host!r}; bind 127.0.0.1 or one of its own addresses"
    if error.errno == errno.EACCES:
        return "permission denied; ports below 1024 and others' directories need rights"
    if error.errno == errno.ENOENT:
        return "the directory of the socket does not exist; create it first"
    return error.strerror or str(error)
