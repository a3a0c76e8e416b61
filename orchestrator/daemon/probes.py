"""Looking for readiness: one task per watched process, ended with the process.

The first looks come quickly and then at most once a second, so that what is ready after
50 ms is not waited for a second; once ready, a probe looks every `every`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import signal
import socket
import struct
from collections.abc import Awaitable, Callable
from urllib import parse

from orchestrator import process as processes
from orchestrator.daemon import programs
from orchestrator.daemon.supervisor import Supervisor
from orchestrator.errors import SpawnError
from orchestrator.model.phase import Exit, Process
from orchestrator.model.topology import Component, Ready
from orchestrator.model.units import Seconds
from orchestrator.supervision import lifecycle

logger = logging.getLogger(__name__)

FIRST_LOOKS: tuple[Seconds, ...] = (0.02, 0.05, 0.1, 0.2, 0.4)
"""Pauses before the first success; then once a second."""

LOG_LOOKS: Seconds = 0.05
"""Pause between looks into a log that is to become ready; it costs one fstat."""

ANSI = re.compile(rb"\x1b\[[0-?]*[ -/]*[@-~]")


class Probes:
    """All readiness probes of a system."""

    def __init__(self, loop: asyncio.AbstractEventLoop, supervisor: Supervisor) -> None:
        self._loop = loop
        self._supervisor = supervisor
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._pipes: dict[str, int] = {}
        self._offsets: dict[str, tuple[int, int]] = {}

    def prepare(self, slot: str, component: Component) -> dict[int, int]:
        """Make what must be there before the process is: a pipe, the logs' present ends."""
        ready = component.ready
        if ready is None:
            return {}
        if ready.kind == "log":
            stdout, stderr = programs.outputs(component, self._supervisor.place)
            self._offsets[slot] = (_size(stdout), _size(stderr))
        if ready.fd is None:
            return {}
        self._close_pipe(slot)
        reading, writing = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(reading, False)
        self._pipes[slot] = reading
        return {ready.fd: writing}

    def watch(self, slot: str, component: Component) -> None:
        """Begin to look for the readiness of a process."""
        ready = component.ready
        self._cancel(slot)
        if ready is None or ready.kind == "notify":
            return  # The process speaks for itself, see `Notifications`.
        task = self._loop.create_task(self._look(slot, component, ready), name=f"probe {slot}")
        self._tasks[slot] = task
        task.add_done_callback(_report_failure)

    def forget(self, slot: str) -> None:
        """Stop looking; the process is gone."""
        self._cancel(slot)
        self._close_pipe(slot)
        self._offsets.pop(slot, None)

    def close(self) -> None:
        """Stop all looking."""
        for slot in tuple(self._tasks):
            self.forget(slot)

    def _cancel(self, slot: str) -> None:
        task = self._tasks.pop(slot, None)
        if task is not None:
            task.cancel()

    def _close_pipe(self, slot: str) -> None:
        reading = self._pipes.pop(slot, None)
        if reading is not None:
            self._loop.remove_reader(reading)
            os.close(reading)

    async def _look(self, slot: str, component: Component, ready: Ready) -> None:
        match ready.kind:
            case "delay":
                await asyncio.sleep(ready.delay or 0.0)
                self._supervisor.post(slot, lifecycle.BecameReady())
            case "fd":
                await self._newline(slot)
                self._supervisor.post(slot, lifecycle.BecameReady())
            case "log":
                await self._line(slot, component, re.compile((ready.log or "").encode()))
                self._supervisor.post(slot, lifecycle.BecameReady())
            case "tcp":
                await self._repeat(slot, ready, lambda: tcp(ready.tcp or ""))
            case "http":
                await self._repeat(slot, ready, lambda: http(ready.http or "", ready.status))
            case "exec":
                await self._repeat(slot, ready, lambda: self._exec(component, ready))
            case _:
                raise ValueError(f"internal error: no probe for {ready.kind!r}")

    async def _repeat(self, slot: str, ready: Ready, probe: Callable[[], Awaitable[bool]]) -> None:
        await asyncio.sleep(ready.start_period)
        pauses = iter(FIRST_LOOKS)
        is_ready, successes, failures = False, 0, 0
        while True:
            try:
                async with asyncio.timeout(ready.timeout):
                    good = await probe()
            except (OSError, TimeoutError, asyncio.IncompleteReadError):
                good = False
            successes = successes + 1 if good else 0
            failures = 0 if good else failures + 1
            if good and not is_ready and successes >= ready.successes:
                is_ready = True
                self._supervisor.post(slot, lifecycle.BecameReady())
            elif is_ready and failures >= ready.failures:
                is_ready = False
                self._supervisor.post(slot, lifecycle.LostReadiness())
            pause = ready.every if is_ready else min(next(pauses, 1.0), ready.every)
            await asyncio.sleep(pause)

    async def _newline(self, slot: str) -> None:
        reading = self._pipes.get(slot)
        done = asyncio.Event()
        if reading is None:
            # Adopted: the pipe died with the daemon that made it; its start timeout decides.
            await done.wait()
            return

        def on_readable() -> None:
            try:
                data = os.read(reading, 4096)
            except BlockingIOError:
                return
            if b"\n" in data:
                done.set()
            if b"\n" in data or not data:
                self._loop.remove_reader(reading)

        self._loop.add_reader(reading, on_readable)
        await done.wait()

    async def _line(self, slot: str, component: Component, pattern: re.Pattern[bytes]) -> None:
        """Wait for a match in what the process has written since it was started.

        The match may span writes, be coloured, or lack its newline.
        """
        paths = programs.outputs(component, self._supervisor.place)
        offsets = list(self._offsets.get(slot, (0, 0)))
        tails = [b"", b""]
        while True:
            for number, path in enumerate(paths):
                if path is None or _size(path) <= offsets[number]:
                    continue
                with open(path, "rb") as file:  # noqa: ASYNC230, PTH123 - a local page cache
                    file.seek(offsets[number])
                    data = file.read(1 << 20)
                offsets[number] += len(data)
                tails[number] = (tails[number] + data)[-65536:]
                if pattern.search(ANSI.sub(b"", tails[number])):
                    return
            await asyncio.sleep(LOG_LOOKS)

    async def _exec(self, component: Component, ready: Ready) -> bool:
        supervisor = self._supervisor
        order = programs.probe_order(
            component, ready.exec, supervisor.place, supervisor.executor.secrets
        )
        over: asyncio.Future[bool] = self._loop.create_future()
        started: list[Process] = []

        def ended(exit: Exit) -> None:  # noqa: A002
            supervisor.host.release(started[0])
            if not over.done():
                over.set_result(exit.code == 0)

        def spawned(outcome: Process | SpawnError) -> None:
            if isinstance(outcome, SpawnError):
                logger.warning("%s: the probe failed: %s", component.name, outcome)
                if not over.done():
                    over.set_result(False)
                return
            started.append(outcome)
            supervisor.host.watch(outcome, ended)
            if over.done():
                supervisor.host.signal(outcome, signal.SIGKILL, group=True)

        supervisor.host.spawn(order, spawned)
        try:
            return await over
        finally:
            if over.cancelled():  # The probe timed out, or its component is gone.
                for process in started:
                    supervisor.host.signal(process, signal.SIGKILL, group=True)


async def tcp(address: str) -> bool:
    """Tell whether something accepts connections at `host:port`."""
    host, _, port = address.rpartition(":")
    _, writer = await asyncio.open_connection(host.strip("[]") or "127.0.0.1", int(port))
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True


async def http(url: str, status: tuple[int, int]) -> bool:
    """Tell whether a GET of `url` (http only) answers with a status in the range."""
    parts = parse.urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port or 80)
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        head = f"GET {target} HTTP/1.0\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode())
        words = (await reader.readline()).split()
    finally:
        writer.close()
    return len(words) > 1 and words[1].isdigit() and status[0] <= int(words[1]) <= status[1]


class Notifications:
    """sd_notify messages, told apart by the credentials that the kernel adds.

    The whole queue is read at each wake-up: senders block when eleven datagrams wait.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, notify: socket.socket, supervisor: Supervisor
    ) -> None:
        self._socket = notify
        self._supervisor = supervisor
        notify.setblocking(False)
        loop.add_reader(notify.fileno(), self._on_readable)

    def _on_readable(self) -> None:
        while True:
            try:
                data, ancillary, _, _ = self._socket.recvmsg(4096, socket.CMSG_SPACE(12))
            except BlockingIOError:
                return
            for level, kind, value in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
                    pid, _, _ = struct.unpack("iII", value[:12])
                    self._take(pid, data)

    def _take(self, pid: int, data: bytes) -> None:
        if b"READY=1" not in data.split(b"\n"):
            return
        by_pid = self._supervisor.executor.by_pid
        slot = by_pid.get(pid)
        if slot is None:
            # A shell script's notification comes from a child in its session.
            slot = by_pid.get(processes.session(pid) or 0)
        if slot is None or slot not in self._supervisor.slots:
            logger.debug("A READY=1 from pid %d, which belongs to no component", pid)
            return
        component = self._supervisor.slots[slot].instance.component
        speaks = component.ready.notify if component.ready else component.handler is not None
        if speaks:
            self._supervisor.post(slot, lifecycle.BecameReady())


def _size(path: str | None) -> int:
    if path is None:
        return 0
    try:
        return os.stat(path).st_size  # noqa: PTH116
    except OSError:
        return 0


def _report_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        logger.error("%s failed", task.get_name(), exc_info=task.exception())
