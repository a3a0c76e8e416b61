"""Single looks at a process from outside. Each leaves nothing behind, however it ends."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib import parse

from msgspec import structs

from orchestrator.daemon.host import Host
from orchestrator.daemon.printed import Printed
from orchestrator.errors import SpawnError
from orchestrator.model import units
from orchestrator.model.phase import Exit, Process
from orchestrator.model.topology import Probe
from orchestrator.process import MARKER, Order

if TYPE_CHECKING:
    from orchestrator.daemon.secured import Secured

GOOD = ""
"""The answer of a look that found nothing wrong; any other says what was."""

BODY = 65536
"""How much of an HTTP answer is read, so that its sender need not see a reset connection."""

PATIENCE = 0.2
"""How long the rest of an HTTP answer is awaited once its status is known."""


async def look(probe: Probe, host: Host, order: Order, secrets: Iterable[str] = ()) -> str:
    """Look once; return what is wrong, `GOOD` when nothing is.

    Args:
        probe: Where to look.
        host: Runs an exec probe.
        order: What an exec probe runs.
        secrets: What is masked in the words of its program.
    """
    if not probe.exec:
        return await _look(probe, host, order, None)
    with contextlib.closing(Printed()) as printed:
        trouble = await _look(probe, host, order, printed)
        words = printed.last_line(secrets) if trouble else ""
    return f"{trouble}: {words}" if words else trouble


async def _look(probe: Probe, host: Host, order: Order, printed: Printed | None) -> str:
    try:
        async with asyncio.timeout(probe.timeout):
            if probe.http is not None:
                return await http(probe.http, probe.status)
            if probe.tcp is not None:
                return await tcp(probe.tcp)
            return await execute(host, order, printed)
    except TimeoutError:
        return f"no answer within {units.format_duration(probe.timeout)}"
    except OSError as error:
        return os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
    except (EOFError, ValueError) as error:
        return str(error)


async def tcp(address: str) -> str:
    """Look whether something accepts connections at `host:port`."""
    host, _, port = address.rpartition(":")
    _, writer = await _connect(host.strip("[]") or "127.0.0.1", int(port))
    await _close(writer)
    return GOOD


async def http(url: str, status: tuple[int, int]) -> str:
    """Look whether a GET of `url` answers with a status in the range."""
    parts = parse.urlsplit(url)
    secure = parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    reader, writer = await _connect(parts.hostname or "", port)
    answer: asyncio.StreamReader | Secured = reader
    channel: asyncio.StreamWriter | Secured = writer
    try:
        if secure:
            from orchestrator.daemon.secured import Secured  # noqa: PLC0415 - few probes need it

            answer = channel = Secured(reader, writer)
            await channel.begin()
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        name = parts.netloc.rpartition("@")[2]
        head = (
            f"GET {target} HTTP/1.0\r\nHost: {name}\r\nUser-Agent: orch\r\n"
            "Accept: */*\r\nConnection: close\r\n\r\n"
        )
        channel.write(head.encode())
        words = (await answer.readline()).split()
        if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
            return "no HTTP answer"
        with contextlib.suppress(OSError, EOFError):
            async with asyncio.timeout(PATIENCE):
                await answer.readexactly(BODY)
    finally:
        await _close(writer)
    number = int(words[1])
    return GOOD if status[0] <= number <= status[1] else f"HTTP {number}"


async def execute(host: Host, order: Order, printed: Printed | None = None) -> str:
    """Look whether a program exits with 0; whatever it leaves running is killed."""
    run = _Run(host, order.environment[MARKER], asyncio.get_running_loop().create_future())
    if printed is not None:
        order = structs.replace(order, output=printed.writing)
    host.spawn(order, run.spawned)
    if printed is not None:
        printed.begun()
    try:
        return await run.over
    finally:
        if run.over.cancelled():  # It took too long, or nobody wants to know any more.
            run.give_up()


class _Run:
    """One run of an exec probe's program, followed to its end even when nobody waits."""

    def __init__(self, host: Host, marker: str, over: asyncio.Future[str]) -> None:
        self.over = over
        self._host = host
        self._marker = marker
        self._process: Process | None = None

    def spawned(self, outcome: Process | SpawnError) -> None:
        if isinstance(outcome, SpawnError):
            self._answer(str(outcome))
            return
        self._process = outcome
        self._host.watch(outcome, self._ended)
        if self.over.done():
            self.give_up()

    def give_up(self) -> None:
        """Kill it with all that it started; its end is still to come."""
        if self._process is not None:
            self._kill(self._process)
            self._host.signal(self._process, signal.SIGKILL, group=True)

    def _ended(self, how: Exit) -> None:
        assert self._process is not None
        for left in self._kill(self._process):
            self._host.watch(left, functools.partial(self._gone, left))
        self._host.release(self._process)
        self._process = None
        self._answer(GOOD if how.code == 0 else str(how))

    def _kill(self, process: Process) -> tuple[Process, ...]:
        left = self._host.survivors(process, self._marker)
        for each in left:
            self._host.signal(each, signal.SIGKILL, group=False)
        return left

    def _gone(self, process: Process, _how: Exit) -> None:
        self._host.release(process)

    def _answer(self, trouble: str) -> None:
        if not self.over.done():
            self.over.set_result(trouble)


async def _connect(host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if host != "localhost":
        return await asyncio.open_connection(host, port)
    # Asking the resolver would take a thread each time, for an answer that is known.
    try:
        return await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        return await asyncio.open_connection("::1", port)


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
