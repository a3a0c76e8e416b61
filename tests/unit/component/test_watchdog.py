"""A component's signs of life: as often as the supervisor wants, from the loop that works."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.component import notify
from orchestrator.component.loop import Loop


@pytest.fixture
def listener(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[socket.socket]:
    path = tmp_path_factory.mktemp("n") / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(str(path))
        made.settimeout(5.0)
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        yield made


@pytest.mark.parametrize(
    ("environment", "every"),
    [
        ({"WATCHDOG_USEC": "3000000"}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, 0.0),
        ({"WATCHDOG_USEC": "soon"}, 0.0),
        ({"WATCHDOG_USEC": ""}, 0.0),
        ({}, 0.0),
    ],
)
def test_signs_are_given_twice_a_period_by_whom_they_are_wanted_of(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], every: float
) -> None:
    for name in ("WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert notify.sign_every() == every


def test_a_sign_waits_for_nobody(listener: socket.socket) -> None:
    begin = time.monotonic()
    while notify.sign():
        assert time.monotonic() - begin < 5.0, "the queue of a socket is short"
    assert time.monotonic() - begin < 0.5
    assert listener.recv(100) == b"WATCHDOG=1"


def test_no_sign_is_given_when_the_supervisor_is_gone(listener: socket.socket) -> None:
    Path(listener.getsockname()).unlink()
    assert not notify.sign()


class Busy:
    """A loop that ends after so many ticks; its descriptor always has something, or never."""

    def __init__(self, ticks: int, *, readable: bool) -> None:
        self.loop = Loop()
        self.ticks: list[float] = []
        self.read = 0
        self._wanted = ticks
        self._ends = os.pipe()
        self.loop.add_reader(self._ends[0], self._count)
        if readable:
            os.write(self._ends[1], b"x")

    def _count(self) -> None:
        self.read += 1

    def _tick(self) -> None:
        self.ticks.append(time.monotonic())
        if len(self.ticks) == self._wanted:
            os.kill(os.getpid(), signal.SIGUSR1)

    def run(self, every: float) -> None:
        self.loop.repeat(every, self._tick)
        before = signal.getsignal(signal.SIGUSR1)
        try:
            assert self.loop.run((signal.SIGUSR1,)) == signal.SIGUSR1
        finally:
            signal.signal(signal.SIGUSR1, before)
            for end in self._ends:
                os.close(end)


def test_an_idle_loop_ticks_and_does_nothing_else() -> None:
    busy = Busy(5, readable=False)
    begin, cpu = time.monotonic(), time.process_time()
    busy.run(0.05)
    assert 0.2 <= busy.ticks[-1] - begin < 2.0
    assert busy.read == 0
    assert time.process_time() - cpu < 0.1


def test_a_busy_loop_ticks_as_often() -> None:
    busy = Busy(5, readable=True)
    begin = time.monotonic()
    busy.run(0.05)
    assert 0.2 <= busy.ticks[-1] - begin < 2.0
    assert busy.read > 100
