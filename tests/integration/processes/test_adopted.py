"""The lists of orphans: what came to a process, told each time anew, from one open file."""

from __future__ import annotations

import os
import subprocess
import sys

from orchestrator import process as processes

WAITING = (sys.executable, "-I", "-S", "-c", "import os; os.read(0, 1)")


def begin() -> subprocess.Popen[bytes]:
    return subprocess.Popen(WAITING, stdin=subprocess.PIPE)


def test_who_came_and_went_is_told_each_time() -> None:
    adopted = processes.Adopted()
    own = os.getpid()
    before = adopted.of(own)
    with begin() as first:
        assert adopted.of(own) == {*before, first.pid}
        with begin() as second:
            assert adopted.of(own) == {*before, first.pid, second.pid}
            second.communicate()
        assert adopted.of(own) == {*before, first.pid}
        first.communicate()
    assert adopted.of(own) == before


def test_who_has_ended_has_none() -> None:
    adopted = processes.Adopted()
    with begin() as child:
        assert adopted.of(child.pid) == set()
        child.communicate()
    assert adopted.of(child.pid) == set()
