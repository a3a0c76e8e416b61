"""The ends of our own children: each is told once, whoever ended before it and stays a zombie."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Callable

import pytest

from orchestrator import process as processes
from orchestrator.daemon.children import Children
from orchestrator.model.phase import Exit, Process

LIMIT = 20.0


class Family:
    """Children that sleep, and what was told of their ends."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.lost: list[Process] = []
        self.children = Children(loop, lambda process, _ended: self.lost.append(process))
        self.told: list[tuple[Process, Exit]] = []
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self) -> Process:
        child = subprocess.Popen(["sleep", "1000"])
        self.started.append(child)
        return Process(child.pid, processes.start_time(child.pid) or 0)

    def follow(self, then: Callable[[], None] = lambda: None) -> Process:
        """Start a child that is followed and watched."""
        process = self.start()
        self.children.add(process)
        self.watch(process, then)
        return process

    def watch(self, process: Process, then: Callable[[], None] = lambda: None) -> None:
        def ended(how: Exit) -> None:
            self.told.append((process, how))
            then()

        self.children.watch(process, ended)

    def kill(self, *found: Process) -> None:
        """Kill children and return when all have ended."""
        for process in found:
            os.kill(process.pid, signal.SIGKILL)
        for process in found:
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)

    async def until(self, *found: Process) -> None:
        """Wait until the ends of these have been told, each once."""
        async with asyncio.timeout(LIMIT):
            while {process for process, _ in self.told} != set(found):  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        assert len(self.told) == len(found)
        assert {how for _, how in self.told} == {Exit(signal=signal.SIGKILL)}

    def close(self) -> None:
        for child in self.started:
            child.kill()
            child.wait()


@pytest.fixture
async def family() -> AsyncIterator[Family]:
    loop = asyncio.get_running_loop()
    made = Family(loop)
    loop.add_signal_handler(signal.SIGCHLD, made.children.look)
    yield made
    loop.remove_signal_handler(signal.SIGCHLD)
    made.close()


async def test_who_ended_behind_one_that_is_not_reaped_is_told_too(family: Family) -> None:
    first, second, third = family.follow(), family.follow(), family.follow()
    family.kill(first)
    await family.until(first)
    family.kill(second)
    await family.until(first, second)
    family.kill(third)
    await family.until(first, second, third)


async def test_ends_of_which_one_signal_told_are_all_told(family: Family) -> None:
    found = [family.follow() for _ in range(20)]
    await asyncio.sleep(0)  # The looks that watching asks for are over.
    family.kill(*found)
    await family.until(*found)


async def test_it_stays_a_zombie_until_it_is_released(family: Family) -> None:
    process = family.follow()
    family.kill(process)
    await family.until(process)
    assert processes.peek_child(process.pid) == Exit(signal=signal.SIGKILL)
    family.children.release(process)
    assert processes.start_time(process.pid) is None
    assert process not in family.children


async def test_who_has_ended_before_it_is_watched_is_told_later(family: Family) -> None:
    process = family.start()
    family.kill(process)
    await asyncio.sleep(0)
    family.children.add(process)
    family.watch(process)
    assert family.told == []
    await family.until(process)


async def test_a_child_that_somebody_else_waits_for_hides_nobody(family: Family) -> None:
    foreign = family.start()
    process = family.follow()
    family.kill(foreign, process)
    await family.until(process)
    assert family.started[0].wait() == -signal.SIGKILL


async def test_a_failure_over_one_end_costs_the_others_nothing(family: Family) -> None:
    loop = asyncio.get_running_loop()
    failures: list[object] = []
    loop.set_exception_handler(lambda _loop, context: failures.append(context["exception"]))

    def fail() -> None:
        raise RuntimeError("of the test")

    found = [family.follow(fail) for _ in range(4)]
    await asyncio.sleep(0)
    family.kill(*found)
    await family.until(*found)
    assert [str(failure) for failure in failures] == ["of the test"] * 4


async def test_one_that_somebody_has_reaped_is_lost(family: Family) -> None:
    process = family.follow()
    await asyncio.sleep(0)
    other = family.follow()
    family.kill(process)
    os.waitpid(process.pid, 0)  # noqa: ASYNC222 - it has ended
    family.kill(other)
    await family.until(other)
    family.children.release(other)
    last = family.follow()
    behind = family.follow()
    family.kill(last, behind)
    async with asyncio.timeout(LIMIT):
        while not family.lost:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    assert family.lost == [process]


async def test_one_end_that_is_reaped_at_once_costs_no_look_at_the_others(
    family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    others = [family.follow() for _ in range(5)]
    peeked: list[int] = []
    peek = processes.peek_child

    def peek_child(pid: int) -> Exit | None:
        peeked.append(pid)
        return peek(pid)

    def release() -> None:
        loop.call_soon(family.children.release, process)  # As a turn does that was asked for.

    process = family.follow(release)
    await asyncio.sleep(0)
    monkeypatch.setattr(processes, "peek_child", peek_child)
    family.kill(process)
    await family.until(process)
    for _ in range(5):
        await asyncio.sleep(0)
    assert peeked == [process.pid]
    assert all(other in family.children for other in others)
