"""What cannot be verified is never signalled, and counts as alive until it can."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import subprocess
from collections.abc import AsyncIterator

import pytest

from orchestrator import process as processes
from orchestrator.daemon.host import PosixHost
from orchestrator.model.phase import Exit, Process


@pytest.fixture
async def host() -> AsyncIterator[PosixHost]:
    loop = asyncio.get_running_loop()
    made = PosixHost(loop, os.getpid(), lambda _number: None)
    loop.add_signal_handler(signal.SIGCHLD, made.child_ended)
    yield made
    loop.remove_signal_handler(signal.SIGCHLD)
    ctypes.CDLL(None).prctl(36, 0, 0, 0, 0)  # no subreaper any more


def sleeper() -> tuple[subprocess.Popen[bytes], Process]:
    child = subprocess.Popen(["sleep", "1000"])
    return child, Process(child.pid, processes.start_time(child.pid) or 0)


def grandchild() -> tuple[subprocess.Popen[str], Process]:
    line = "sleep 1000 & echo $!; exec sleep 1000"
    child = subprocess.Popen(["sh", "-c", line], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    pid = int(child.stdout.readline())
    return child, Process(pid, processes.start_time(pid) or 0)


async def test_an_unreadable_proc_fails_closed(
    host: PosixHost, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    child, process = sleeper()
    ends: asyncio.Queue[Exit] = asyncio.Queue()
    with child:
        with monkeypatch.context() as unreadable:
            for module in (processes.identity, processes.trees):
                unreadable.setattr(module, "stat", lambda _pid: None)
            host.watch(process, ends.put_nowait)
            assert not host.signal(process, signal.SIGTERM, group=False)
            assert not host.signal(process, signal.SIGTERM, group=True)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(ends.get(), 0.3)
        assert f"pid {process.pid}" in caplog.text
        assert child.poll() is None
        assert host.signal(process, signal.SIGTERM, group=False)
        async with asyncio.timeout(10):
            assert await ends.get() == Exit(signal=signal.SIGTERM)
        host.release(process)
        child.returncode = -signal.SIGTERM  # The host has reaped it.


async def test_so_does_a_want_of_descriptors(
    host: PosixHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No child of ours: of those we can be sure without a descriptor.
    child, process = grandchild()
    ends: asyncio.Queue[Exit] = asyncio.Queue()

    def exhausted(_pid: int, _flags: int = 0) -> int:
        raise OSError(24, "Too many open files")

    with child:
        with monkeypatch.context() as poor:
            poor.setattr(os, "pidfd_open", exhausted)
            host.watch(process, ends.put_nowait)
            assert not host.signal(process, signal.SIGKILL, group=False)
        os.kill(process.pid, signal.SIGKILL)
        async with asyncio.timeout(10):
            assert await ends.get() == Exit(signal=signal.SIGKILL)
        host.release(process)
        child.kill()
    os.waitpid(process.pid, 0)  # noqa: ASYNC222 - it has ended, and its parent is gone
