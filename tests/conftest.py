"""What every test may rely on: nothing that one test leaves behind disturbs the next."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

# A script that starts the tests in the background has them ignore Ctrl-C, and all their children.
signal.signal(signal.SIGINT, signal.default_int_handler)

PRIVILEGED = (
    "contract",
    "integration/processes",
    "e2e/test_child.py",
    "e2e/test_doctor.py",
    "e2e/test_guests.py",
    "e2e/test_limits.py",
    "e2e/test_sockets.py",
    "e2e/test_surroundings.py",
    "e2e/test_zygote.py",
)
"""Tests that depend on who runs them: users, control groups, limits, namespaces, descriptors."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what depends on who runs it; leave out what only root can do, for all others."""
    here = Path(__file__).parent
    places = {here / name for name in PRIVILEGED}
    only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can do this")
    for item in items:
        if not places.isdisjoint((item.path, *item.path.parents)):
            item.add_marker(pytest.mark.privileged)
        if item.get_closest_marker("root") is not None:
            item.add_marker(only_root)


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Fail a test that leaves a child process or a thread that would keep Python alive."""
    children, threads = children_of_ours(), set(threading.enumerate())
    yield
    left = [f"child process {pid}" for pid in children_of_ours() - children]
    left += [
        f"thread {thread.name}"
        for thread in set(threading.enumerate()) - threads
        if thread.is_alive() and not thread.daemon
    ]
    assert not left, f"left behind: {', '.join(left)}"


def children_of_ours() -> set[int]:
    """Return the pids of this process's children, the unreaped among them."""
    found: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        try:
            found.update(map(int, (task / "children").read_text().split()))
        except FileNotFoundError:  # the thread has just ended
            continue
    return found - {os.getpid()}


@pytest.fixture(autouse=True)
def _here() -> Iterator[None]:
    """Come back to where the tests began: what starts processes goes elsewhere for a moment."""
    before = Path.cwd()
    yield
    os.chdir(before)
