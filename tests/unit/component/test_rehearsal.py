"""What the rehearsal of a start leaves of itself, and what it costs those that come after."""

from __future__ import annotations

import itertools
import logging
import os
import platform
import signal
import subprocess
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


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another order of memory")
def test_what_libraries_hold_lies_side_by_side_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "_filling", [])
    scattered = [bytes(size) for size in range(600, 30_000, 50)]
    del scattered[::2]
    rehearsal.fill_gaps()
    made = [bytes(2000) for _ in range(20)]
    steps = [id(b) - id(a) for a, b in itertools.pairwise(made)]
    assert steps.count(2048) >= 17, steps


IMMORTAL = """
import gc, sys
from orchestrator.component import rehearsal

class Thing:
    pass

def called(argument=("a default", 1.5)):
    return [argument]

kept = {"thing": Thing(), "text": "-".join(["not", "interned"]), "function": called}
seen = [kept, kept["thing"], kept["text"], called, called.__code__, called.__defaults__, Thing]
before = [sys.getrefcount(each) for each in seen]
count = rehearsal.immortalise()
after = [sys.getrefcount(each) for each in seen]
more = [[each] * 1000 for each in seen]
print(count > 0, [now != then for now, then in zip(after, before)],
      [sys.getrefcount(each) - then >= 1000 for each, then in zip(seen, after)])
fresh = Thing()
kept["more"] = fresh
number = sys.getrefcount(fresh)
assert [fresh] and sys.getrefcount(fresh) == number, "what comes later is counted"
assert called() == [("a default", 1.5)] and kept.pop("more") is fresh
del kept["thing"], kept["text"], more
gc.collect()
assert rehearsal.immortalise() < 5000, "what is so already is let be"
"""


def test_what_is_loaded_is_counted_no_more_where_the_interpreter_can() -> None:
    """In a process of its own: there is no way back."""
    told = subprocess.run([sys.executable, "-c", IMMORTAL], capture_output=True, check=True)
    known = sys.implementation.name == "cpython" and sys.version_info >= (3, 12)
    uncounted, counts = [known] * 7, [not known] * 7
    assert told.stdout.decode().strip() == f"{known} {uncounted} {counts}"
    assert not told.stderr
