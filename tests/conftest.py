"""What every test may rely on: nothing that one test leaves behind disturbs the next."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest


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
