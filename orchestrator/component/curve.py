"""CURVE on the sockets of a component: who encrypts with which keys, and who may connect.

Whoever binds is the server, whatever the messages' direction. It accepts the clients whose public
keys are on the list of the address, and itself: the components of one system share one key pair.
ZeroMQ asks for each handshake, on a socket within the process (ZAP); a thread answers, because
handshakes must go on while a handler works. The thread sleeps until asked.
"""

from __future__ import annotations

import contextlib
import logging
import stat
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zmq
from zmq.utils import z85

from orchestrator.component.bursts import Burst
from orchestrator.component.errors import SetupError
from orchestrator.wire import keys
from orchestrator.wire.keys import Keys

logger = logging.getLogger(__name__)

_ENDPOINT = "inproc://zeromq.zap.01"


@dataclass(frozen=True, slots=True)
class Curve:
    """The key files of an address: the own pair, the binder's if it is not ours, the guests'."""

    key: str
    server: str | None = None
    allow: tuple[str, ...] = ()


def serve(socket: zmq.Socket[Any], curve: Curve, guards: Guards) -> None:
    """Let a socket that is about to bind accept only the clients of its list.

    Raises:
        SetupError: A key file cannot be used.
    """
    own = _secret(curve.key)
    guests = frozenset((own.public, *(_read(path).public for path in curve.allow)))
    socket.set(zmq.CURVE_SERVER, 1)
    socket.set(zmq.CURVE_PUBLICKEY, own.public.encode())
    socket.set(zmq.CURVE_SECRETKEY, own.secret.encode())
    socket.set(zmq.ZAP_DOMAIN, guards.admit(socket.context, guests))
    socket.set(zmq.ZAP_ENFORCE_DOMAIN, 1)


def join(socket: zmq.Socket[Any], curve: Curve) -> None:
    """Let a socket that is about to connect show its key, and speak to the right server only.

    Raises:
        SetupError: A key file cannot be used.
    """
    own = _secret(curve.key)
    server = own if curve.server is None else _read(curve.server)
    socket.set(zmq.CURVE_SERVERKEY, server.public.encode())
    socket.set(zmq.CURVE_PUBLICKEY, own.public.encode())
    socket.set(zmq.CURVE_SECRETKEY, own.secret.encode())


class Guards:
    """The lists of who may connect, and the thread that looks them up for ZeroMQ."""

    def __init__(self) -> None:
        self._lists: dict[bytes, frozenset[str]] = {}
        self._refused = Burst(logger)
        self._begun = False

    def admit(self, context: zmq.Context[Any], guests: frozenset[str]) -> bytes:
        """Note who may connect to a socket; return the name of the list."""
        domain = f"door-{len(self._lists)}".encode()
        self._lists[domain] = guests
        if not self._begun:
            self._begun = True
            # A shadow has sockets of its own: closing those of the component leaves this one.
            shadow: zmq.Context[Any] = zmq.Context.shadow(context)
            door = shadow.socket(zmq.REP)
            door.set(zmq.LINGER, 0)
            door.bind(_ENDPOINT)
            name = "who may connect"
            threading.Thread(target=self._watch, args=(door,), name=name, daemon=True).start()
        return domain

    def _watch(self, door: zmq.Socket[Any]) -> None:
        with contextlib.suppress(zmq.ContextTerminated), door:
            while True:
                frames = door.recv_multipart()
                door.send_multipart(self._answer(frames))

    def _answer(self, frames: list[bytes]) -> list[bytes]:
        version, request, domain, address, _, mechanism, *credentials = frames
        public = ""
        if mechanism == b"CURVE" and len(credentials) == 1 and len(credentials[0]) == 32:
            public = z85.encode(credentials[0]).decode()
        if public and public in self._lists.get(domain, ()):
            return [version, request, b"200", b"OK", public.encode(), b""]
        where, shown = address.decode(errors="replace"), public or "none"
        self._refused.add("Refused a connection from %s: its key %s is not allowed", where, shown)
        return [version, request, b"400", b"not allowed", b"", b""]


def _secret(path: str) -> Keys:
    found = _read(path)
    if not found.secret:
        raise SetupError(f"cannot use the key {path}: it holds no secret-key")
    mode = stat.S_IMODE(Path(path).stat().st_mode)
    if mode & 0o077:
        raise SetupError(f"cannot use the key {path}: others may read it; chmod 600 {path}")
    return found


def _read(path: str) -> Keys:
    try:
        return keys.read(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise SetupError(f"cannot use the key {path}: {reason}") from error
