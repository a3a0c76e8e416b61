"""A real host on the test's own loop, and servers that answer as a test says."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import ssl
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from orchestrator import process as processes
from orchestrator.daemon.host import PosixHost
from orchestrator.process import MARKER, Order

KEY = f"probes-{os.getpid()}"
PATIENCE = 30.0


async def eventually(check: Callable[[], object]) -> None:
    """Wait until `check` is true."""
    deadline = time.monotonic() + PATIENCE
    while not check():
        assert time.monotonic() < deadline, f"not within {PATIENCE:g} s"
        await asyncio.sleep(0.005)


def order(code: str, number: int = 1) -> Order:
    """Return an order for a Python program, marked as a probe of this test."""
    argv = (sys.executable, "-I", "-S", "-c", code)
    return Order(argv, {MARKER: f"{KEY}/probe/a@1/{number}"}, "")


def marked() -> list[int]:
    """Return the pids of all living processes that a probe of this test has started."""
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]
    return [pid for pid in pids if (processes.marker_of(pid) or "").startswith(KEY)]


@pytest.fixture
async def host() -> AsyncIterator[PosixHost]:
    loop = asyncio.get_running_loop()
    made = PosixHost(loop, os.getpid(), lambda _number: None)
    loop.add_signal_handler(signal.SIGCHLD, made.child_ended)
    before = set(processes.children(os.getpid()))
    yield made
    await eventually(lambda: not set(processes.children(os.getpid())) - before)
    loop.remove_signal_handler(signal.SIGCHLD)
    ctypes.CDLL(None).prctl(36, 0, 0, 0, 0)


class Server:
    """A server on a free port of the loopback that says what it is told to."""

    def __init__(self, answer: bytes, *, keeps_open: bool = False) -> None:
        self.answer = answer
        self.keeps_open = keeps_open
        self.asked: list[bytes] = []
        self.resets = 0
        self.port = 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self, secure: ssl.SSLContext | None = None) -> Server:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=secure)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        """Refuse connections."""
        if self._server is not None:
            self._server.close()
            for writer in self._writers:
                writer.transport.abort()
            await self._server.wait_closed()
            await eventually(lambda: not self._writers)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            self.asked.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(self.answer)
            await writer.drain()
            if self.keeps_open:
                await reader.read()
        except asyncio.IncompleteReadError:
            pass
        except ConnectionError:
            self.resets += 1
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            self._writers.discard(writer)
