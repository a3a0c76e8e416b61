"""What the rehearsal of a start leaves of itself, and what it costs those that come after."""

from __future__ import annotations

import itertools
import logging
import os
import signal
import sys
from collections.abc import Iterator

import pytest

from orchestrator.component import logs, rehearsal


@pytest.fixture(autouse=True)
def _logging_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(logs, "_name", logs._name)
    handlers, level = list(logging.root.handlers), logging.root.level
    yield
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


def test_a_rehearsal_leaves_the_process_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/nobody/may/hear/of/it")
    monkeypatch.setenv("ORCH_CONTROL", "/nobody/may/listen/there")
    rehearsal.rehearse()  # modules that are loaded by the first one stay

    def seen() -> tuple[object, ...]:
        handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
        fds = sorted(os.listdir("/proc/self/fd"))  # noqa: PTH208
        environment = dict(os.environ)
        return fds, set(sys.modules), sys.path[:], sys.meta_path[:], handlers, environment

    before = seen()
    rehearsal.rehearse()
    assert seen() == before
    assert os.environ["NOTIFY_SOCKET"] == "/nobody/may/hear/of/it"


def test_objects_made_after_the_gaps_are_filled_lie_side_by_side(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rehearsal, "_filling", [])
    rehearsal.fill_gaps()
    places = [id(each) for each in [bytes(300) for _ in range(20)]]
    size = 336  # with its head, in steps of 16
    side_by_side = sum(abs(a - b) == size for a, b in itertools.pairwise(places))
    assert side_by_side >= 18
