"""The control link: a component's own socket, on which the daemon and the command line ask it.

The component listens on the unix socket that `ORCH_CONTROL` names and speaks the protocol of
`orchestrator.wire.control`, one method per request. Both the daemon and `orch` connect when they
have something to ask, so the link knows nothing of the daemon's life. All descriptors of the link
stand behind one of epoll: whichever loop the component runs watches that one, and idle costs
nothing. A `main` that is a plain function has no loop; there a thread waits.

Whoever adds a method puts a function into `Link.methods`. It is called between two messages, in
the thread that runs the handlers (beside a plain `main`: in the link's), and

- returns a dict, which is the answer;
- or returns None and keeps the `Call`, to answer it later or to send events.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from typing import Any

from orchestrator.errors import OrchestratorError, ProtocolError, RequestFailed
from orchestrator.wire import control

logger = logging.getLogger(__name__)

VARIABLE = "ORCH_CONTROL"
"""The environment variable with the path to listen on."""

LONGEST = 64 << 20
"""The longest request that is read, in bytes."""

UNREAD = 16 << 20
"""How many bytes may wait for a client to read them before it is cut off."""

CLIENTS = 64
"""How many clients may be connected; the others wait in the kernel's queue."""

_CHUNK = 1 << 16
_PEER = struct.Struct("iII")

Method = Callable[["Call"], Mapping[str, Any] | None]
"""Answers a request, or keeps the call for later."""


class Call:
    """One request of a client: its parameters, and the ways to answer it."""

    __slots__ = ("_client", "_number", "closed", "params")

    def __init__(self, client: _Client, number: int, params: Mapping[str, Any]) -> None:
        self.params = params
        self.closed: Callable[[], object] | None = None
        """Called when the client goes away; for those who send events."""
        self._client = client
        self._number = number

    @property
    def is_alive(self) -> bool:
        """Whether the client is still there."""
        return self._client.is_open

    def answer(self, result: Mapping[str, Any]) -> None:
        """Send the answer; nothing happens when the client has gone."""
        self._client.write(control.result(self._number, result))

    def refuse(self, code: str, message: str, **data: Any) -> None:
        """Send a refusal; `code` is stable, the message is for people."""
        self._client.write(control.error(self._number, code, message, **data))

    def emit(self, event: Mapping[str, Any]) -> bool:
        """Send an item of a stream, from any thread; False when the client has gone."""
        with self._client.lock:
            self._client.write(control.event(self._number, event))
        return self._client.is_open


class Link:
    """A listening socket and its clients.

    Args:
        path: Where to listen; what a predecessor left there is replaced.

    Raises:
        OSError: The socket cannot be made there.
    """

    def __init__(self, path: str) -> None:
        self.methods: dict[str, Method] = {}
        self.offers: list[Callable[[], object]] = []
        """What adds methods, called when the first request comes: most components get none."""
        self.lock = threading.RLock()
        """Held while a client is dealt with: beside a plain `main` there are two threads."""
        self.path = path
        self._clients: dict[int, _Client] = {}
        self._attended: dict[int, Callable[[], object]] = {}
        self._poll = select.epoll()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            # Before the name exists: nobody else can connect in between.
            os.fchmod(self._listener.fileno(), 0o600)
            try:
                self._listener.bind(path)
            except OSError:
                _make_room(path)
                self._listener.bind(path)
            self._listener.listen()
        except BaseException:
            self.close()
            raise
        self._poll.register(self._listener, select.EPOLLIN)

    def fileno(self) -> int:
        """Return the descriptor that is readable when `turn` has something to do."""
        return self._poll.fileno()

    def turn(self, patience: float = 0.0) -> None:
        """Do what there is to do; wait so many seconds for it (-1: for ever)."""
        for descriptor, events in self._poll.poll(patience):
            with self.lock:
                self._turn(descriptor, events)

    def _turn(self, descriptor: int, events: int) -> None:
        client = self._clients.get(descriptor)
        if descriptor in self._attended:
            self._attended[descriptor]()
        elif client is None:
            self._accept()
        elif events & select.EPOLLOUT:
            client.flush()
        else:
            client.read()

    def serve_in_thread(self) -> None:
        """Serve from a thread of its own: the component's has no loop."""
        threading.Thread(target=self._serve, name="orch-control", daemon=True).start()

    def close(self) -> None:
        """Close everything; clients see the end of their streams."""
        for client in tuple(self._clients.values()):
            client.close()
        self._poll.close()
        self._listener.close()

    def _serve(self) -> None:
        # A descriptor closed at the component's end ends the thread, if the process lives so long.
        with contextlib.suppress(OSError, ValueError):
            while True:
                self.turn(-1)

    def _accept(self) -> None:
        if len(self._clients) >= CLIENTS:
            # Readable again when one has gone; until then it is not looked at.
            self._poll.modify(self._listener, 0)
            return
        try:
            stream, _ = self._listener.accept()
        except OSError:
            return  # It has gone meanwhile, or there are no descriptors left for it.
        credentials = stream.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
        uid = _PEER.unpack(credentials)[1]
        if uid not in (0, os.geteuid()):
            logger.warning("Refused a client of uid %d on the control link", uid)
            stream.close()
            return
        stream.setblocking(False)
        self._clients[stream.fileno()] = _Client(self, stream)
        self._poll.register(stream, select.EPOLLIN)

    def attend(self, descriptor: int, call: Callable[[], object]) -> None:
        """Call `call` whenever a descriptor of a method's own is readable."""
        self._attended[descriptor] = call
        self._poll.register(descriptor, select.EPOLLIN)

    def leave(self, descriptor: int) -> None:
        """Attend a descriptor no longer; before it is closed."""
        if self._attended.pop(descriptor, None) is not None:
            self._poll.unregister(descriptor)

    def watch(self, stream: socket.socket, *, writing: bool) -> None:
        """Wait for a client to send, or for its room to be sent to."""
        self._poll.modify(stream, select.EPOLLOUT if writing else select.EPOLLIN)

    def forget(self, stream: socket.socket) -> None:
        """Drop a client."""
        if self._clients.pop(stream.fileno(), None) is not None:
            self._poll.unregister(stream)
            self._poll.modify(self._listener, select.EPOLLIN)

    def call(self, method: str, call: Call) -> None:
        """Answer a request, or let its method keep it."""
        while self.offers:
            self.offers.pop(0)()
        known = self.methods.get(method)
        if known is None:
            there = ", ".join(self.methods) or "none"
            call.refuse("unknown-method", f"unknown method {method!r}; there are {there}")
            return
        try:
            result = known(call)
        except RequestFailed as error:
            call.refuse(error.code, str(error))
        except OrchestratorError as error:
            call.refuse("failed", str(error))
        except Exception as error:
            # A defect of ours must not take the component down.
            logger.exception("Internal error in %s", method)
            call.refuse("internal", f"internal error: {error!r}")
        else:
            if result is not None:
                call.answer(result)


class _Client:
    """One connection: lines in, lines out, and what the client has not read yet."""

    def __init__(self, link: Link, stream: socket.socket) -> None:
        self._link = link
        self.lock = link.lock
        self._stream = stream
        self._decoder = control.Decoder(LONGEST)
        self._unsent = b""
        self._calls: list[Call] = []
        self.is_open = True

    def read(self) -> None:
        """Take what has come and answer every request that it completes."""
        try:
            data = self._stream.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        try:
            for message in self._decoder.feed(data):
                if self.is_open:
                    self._take(message)
        except ProtocolError as error:
            self.write(control.error(0, "protocol", str(error)))
            self.close()

    def _take(self, message: Mapping[str, Any]) -> None:
        number, method = message.get("id"), message.get("method")
        params = message.get("params") or {}
        well = isinstance(number, int) and isinstance(method, str) and isinstance(params, dict)
        if not well:
            raise ProtocolError("a request needs id, method and params")
        call = Call(self, number, params)  # type: ignore[arg-type]  # checked above
        self._link.call(method, call)  # type: ignore[arg-type]
        if call.closed is not None and self.is_open:
            self._calls.append(call)

    def write(self, data: bytes) -> None:
        """Send, as far as the client reads."""
        if not self.is_open:
            return
        waiting = bool(self._unsent)
        self._unsent += data
        if not waiting:
            self.flush()
        if len(self._unsent) > UNREAD:
            logger.warning("Cut off a client that does not read what it asked for")
            self.close()

    def flush(self) -> None:
        """Send what is unsent."""
        try:
            sent = self._stream.send(self._unsent)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.close()
            return
        self._unsent = self._unsent[sent:]
        self._link.watch(self._stream, writing=bool(self._unsent))

    def close(self) -> None:
        """End the connection and tell those who still have something to say on it."""
        if not self.is_open:
            return
        self.is_open = False
        self._link.forget(self._stream)
        self._stream.close()
        for call in self._calls:
            if call.closed is not None:
                call.closed()


def _make_room(path: str) -> None:
    """Make the directory of a socket, and remove what a predecessor left there."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(path.rpartition("/")[0], 0o700)  # noqa: PTH102 - in every start
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)  # noqa: PTH108 - in every start


def open_link() -> Link | None:
    """Listen where the environment says; None when it says nothing, or it cannot be done.

    The variable is not for the programs that the component starts, so it is taken away.
    """
    path = os.environ.pop(VARIABLE, "")
    if not path:
        return None
    try:
        return Link(path)
    except OSError as error:
        logger.warning(
            "No control link, so no reload in place: cannot listen on %s: %s",
            path,
            error.strerror or error,
        )
        return None
