"""The daemon's end of the zygote: it is started when first needed, and asked for components.

Each start has a channel of its own (see `orchestrator.zygote`). Whatever dies, the channel of
what was not born ends, and only whoever was told to go runs: so a start is never lost, and never
done twice.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct, field, structs

from orchestrator import process as processes
from orchestrator.errors import SpawnError
from orchestrator.model.phase import Process
from orchestrator.model.units import Instant, Seconds
from orchestrator.process import MARKER, Order
from orchestrator.wire import forking

logger = logging.getLogger(__name__)

PATIENCE: Seconds = 10.0
"""How long a child may take to report; it takes milliseconds. Then the zygote is killed."""

AGAIN: Seconds = 0.02
"""When a start is asked for again whose zygote died."""

DEATHS = 3
"""After so many zygotes in a row that forked nobody, there is a pause."""

PAUSE: Seconds = 60.0
"""How long components then start without one."""

_SHAPING = ("HOME", "LANG", "LC_ALL", "LC_CTYPE", "LC_MESSAGES")


class Forked(Struct, frozen=True):
    """A component that runs; the pidfd is the receiver's."""

    process: Process
    pidfd: int


class NotForked(Struct, frozen=True):
    """The zygote cannot start it, for a reason in words: another way must be taken."""

    why: str


Born = Callable[[Forked | SpawnError | NotForked, Order], None]
"""Takes what became of a start, and its order, with descriptors that hold for the call."""


class _Start(Struct, eq=False):
    """A start under way."""

    order: Order
    born: Born
    payload: bytes
    fds: dict[int, int]
    ours: socket.socket | None = None
    tries: int = 0
    overdue: asyncio.TimerHandle | None = None


class _Living(Struct):
    """A zygote that was started, and the channels it could not be sent yet."""

    process: Process
    pidfd: int
    control: socket.socket
    shape: Mapping[str, str]
    has_forked: bool = False
    unsent: deque[socket.socket] = field(default_factory=deque)


class Zygotes:
    """Starts components by the zygote of one system, which has at most one at a time.

    Args:
        loop: The daemon's loop.
        adopted: Called with the pid of a zygote, and whether it is there or gone.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, adopted: Callable[[int, bool], None]
    ) -> None:
        self._loop = loop
        self._adopted = adopted
        self._living: _Living | None = None
        self._starts: set[_Start] = set()
        self._deaths = 0
        self._not_before: Instant = 0.0

    @property
    def pid(self) -> int | None:
        """The zygote's pid, None while there is none."""
        return self._living.process.pid if self._living else None

    @property
    def is_forking(self) -> bool:
        """Whether somebody still waits for the process that was asked for."""
        return bool(self._starts)

    def ask(self, order: Order, born: Born) -> None:
        """Start a component; `born` is called once, at once or later."""
        try:
            payload, fds = processes.fork_order(order)
        except SpawnError as error:
            born(error, order)
            return
        if len(payload) > forking.LONGEST or len(fds) > forking.MOST:
            _close(fds)
            born(NotForked("its environment or number of descriptors is too large"), order)
            return
        self._request(_Start(order, born, payload, fds))

    def close(self) -> None:
        """End the zygote, and wait until it is gone; starts under way end without having run."""
        for start in tuple(self._starts):
            self._settle(start, NotForked("the daemon ends"))
        living = self._living
        if living is not None:
            processes.signal_process(living.pidfd, signal.SIGKILL)
            os.waitid(os.P_PIDFD, living.pidfd, os.WEXITED | os.WNOWAIT)
            self._lost(living)

    # -------------------------------------------------------------- one start

    def _request(self, start: _Start) -> None:
        start.tries += 1
        try:
            living = self._ready(start.order)
            if isinstance(living, NotForked):
                self._settle(start, living)
                return
            ours, theirs = socket.socketpair()
            start.ours = ours
            self._starts.add(start)
            try:
                ours.setblocking(False)
                socket.send_fds(ours, [start.payload], list(start.fds.values()))
            except OSError:
                theirs.close()
                raise
            self._send(living, theirs)
        except OSError as error:
            self._settle(start, NotForked(f"it cannot be asked: {error.strerror or error}"))
            return
        except SpawnError as error:
            self._settle(start, NotForked(f"the zygote cannot be started: {error}"))
            return
        # By its number: of a socket that is not known yet the loop makes an error with its text.
        self._loop.add_reader(ours.fileno(), self._on_report, start)
        start.overdue = self._loop.call_later(PATIENCE, self._on_overdue, start)

    def _on_report(self, start: _Start) -> None:
        assert start.ours is not None
        try:
            data = start.ours.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._again(start)
            return
        report = json.loads(data)
        if self._living is not None:
            self._living.has_forked = True
            self._deaths = 0
        if "pid" not in report:
            self._settle(start, processes.failed_step(report))
            return
        self._settle(start, _told_to_go(report, start.ours))

    def _on_overdue(self, start: _Start) -> None:
        logger.warning("The zygote does not answer: killing it")
        if self._living is not None:
            processes.signal_process(self._living.pidfd, signal.SIGKILL)
        self._settle(start, NotForked(f"the zygote did not answer within {PATIENCE:g}s"))

    def _again(self, start: _Start) -> None:
        """The channel has ended before a report: nothing of it runs, nor ever will."""
        if start.tries > 1:
            self._settle(start, NotForked("the zygote died"))
            return
        self._forget(start)
        # A little later: then the death of the zygote, if it was that, has been seen too.
        self._loop.call_later(AGAIN, self._request, start)

    def _settle(self, start: _Start, outcome: Forked | SpawnError | NotForked) -> None:
        self._forget(start)
        order = start.order
        if order.setup.fds:
            passed = {number: start.fds[number] for number in order.setup.fds}
            setup = structs.replace(order.setup, fds=passed)
            order = structs.replace(order, setup=setup)
        try:
            start.born(outcome, order)
        finally:
            _close(start.fds)

    def _forget(self, start: _Start) -> None:
        self._starts.discard(start)
        if start.overdue is not None:
            start.overdue.cancel()
            start.overdue = None
        if start.ours is not None:
            self._loop.remove_reader(start.ours.fileno())
            start.ours.close()
            start.ours = None

    # -------------------------------------------------------------- the zygote

    def _ready(self, order: Order) -> _Living | NotForked:
        shape = {name: order.environment.get(name, "") for name in _SHAPING}
        if self._living is not None:
            for name in _SHAPING:
                if shape[name] != self._living.shape[name]:
                    return NotForked(f"its {name} is not that of the zygote")
            return self._living
        if self._loop.time() < self._not_before:
            return NotForked(f"the zygote died {DEATHS} times in a row")
        key = order.environment.get(MARKER, "").partition("/")[0]
        environment = {name: value for name, value in shape.items() if value}
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        try:
            with theirs:
                process = processes.start_zygote(
                    {**environment, MARKER: f"{key}/zygote"}, theirs.fileno()
                )
        except SpawnError:
            ours.close()
            raise
        living = _Living(process, os.pidfd_open(process.pid), ours, shape)
        self._living = living
        self._adopted(process.pid, True)
        self._loop.add_reader(living.pidfd, self._lost, living)
        return living

    def _send(self, living: _Living, channel: socket.socket) -> None:
        """Send the zygote a channel, now or when there is room; it is closed then."""
        living.unsent.append(channel)
        if len(living.unsent) == 1:
            self._flush(living)

    def _flush(self, living: _Living) -> None:
        while living.unsent:
            try:
                socket.send_fds(living.control, [b"f"], [living.unsent[0].fileno()])
            except BlockingIOError:
                self._loop.add_writer(living.control.fileno(), self._flush, living)
                return
            except OSError:
                # It is dying; what it was not sent ends with what it was.
                self._drop_unsent(living)
                break
            living.unsent.popleft().close()
        self._loop.remove_writer(living.control.fileno())

    @staticmethod
    def _drop_unsent(living: _Living) -> None:
        while living.unsent:
            living.unsent.popleft().close()

    def _lost(self, living: _Living) -> None:
        """The zygote has ended: reap it. Channels it held end by themselves."""
        self._loop.remove_reader(living.pidfd)
        self._loop.remove_writer(living.control.fileno())
        processes.reap(living.pidfd)
        os.close(living.pidfd)
        living.control.close()
        self._drop_unsent(living)
        self._adopted(living.process.pid, False)
        if self._living is living:
            self._living = None
        self._deaths = 0 if living.has_forked else self._deaths + 1
        if self._deaths >= DEATHS:
            self._not_before = self._loop.time() + PAUSE
            self._deaths = 0
            logger.warning("The zygote cannot be started: components start without it")


def _told_to_go(report: Mapping[str, Any], channel: socket.socket) -> Forked | SpawnError:
    """Let a child run that has reported, now that it can be followed."""
    process = Process(report["pid"], report["started"])
    try:
        pidfd = processes.open_pidfd(process)
        if pidfd is None:
            raise ChildProcessError(0, "the process ended during its set-up")
    except OSError as error:
        reason = error.strerror or str(error)
        return SpawnError("watch the process", error.errno or 0, reason, transient=True)
    try:
        channel.send(forking.GO)
    except OSError:
        os.close(pidfd)
        reason = "the process ended during its set-up"
        return SpawnError("start the process", 0, reason, transient=True)
    return Forked(process, pidfd)


def _close(fds: Mapping[int, int]) -> None:
    for fd in fds.values():
        os.close(fd)
