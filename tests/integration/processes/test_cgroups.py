"""Control groups of this machine, where it grants any."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import structs

from orchestrator import cgroups
from orchestrator import process as processes
from orchestrator.cgroups import Groups, Ladder, Limits
from orchestrator.process import Child, Order, Setup
from tests.integration.processes.system import eventually

LADDER = cgroups.find()

pytestmark = pytest.mark.skipif(
    not (LADDER.way("pids") and LADDER.way("memory")),
    reason=f"this machine grants no control groups: {dict(LADDER.missing)}",
)

ESCAPE = """
import os, time
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execve("/bin/sleep", ["sleep", "600"], {})
        os._exit(0)
    os.wait()
print("escaped", flush=True)
time.sleep(600)
"""
SPREAD = """
import os, time
while True:
    try:
        pid = os.fork()
    except OSError:
        time.sleep(0.01)
        continue
    if pid == 0:
        os.setsid()
"""

LADDERS = {
    "kill file": LADDER,
    "freezer": Ladder(legacy=LADDER.legacy),
    "sweep": Ladder(legacy={k: v for k, v in LADDER.legacy.items() if k != "freezer"}),
}
if LADDER.delegated:  # nothing of version 1 to fall back to
    LADDERS = {"kill file": LADDER}


@pytest.fixture(params=LADDERS)
def groups(request: pytest.FixtureRequest) -> Iterator[Groups]:
    made = Groups(LADDERS[request.param], f"test-{uuid.uuid4().hex[:8]}")
    yield made
    made.keep_only([])
    eventually(lambda: not made.members(MARKER))
    made.close()
    assert not made._found()


MARKER = "key/web.web@1/3"


def start(groups: Groups, limits: Limits, code: str, log: Path) -> Child:
    placement = groups.make(MARKER, limits, None)
    setup = Setup(joins=placement.joins)
    argv = (sys.executable, "-I", "-S", "-c", code)
    child = processes.spawn(Order(argv, {}, "/", stdout=str(log), stderr=str(log), setup=setup))
    assert child.errors is not None
    assert processes.setup_failure(child.errors, Order(argv, {}, "/")) is None
    return child


def end(groups: Groups, child: Child) -> int:
    groups.kill(MARKER)
    _, status = os.waitpid(child.process.pid, 0)

    def empty() -> bool:
        groups.kill(MARKER)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        return not groups.members(MARKER)

    eventually(empty)
    return status


def test_what_escaped_by_every_way_there_is_dies(groups: Groups, tmp_path: Path) -> None:
    child = start(groups, Limits(pids=50), ESCAPE, tmp_path / "log")
    eventually(lambda: "escaped" in (tmp_path / "log").read_text())
    assert len(groups.members(MARKER)) == 4
    status = end(groups, child)
    assert os.WTERMSIG(status) == signal.SIGKILL
    groups.dismiss(MARKER)


def test_a_fork_bomb_stays_within_its_number_and_dies(groups: Groups, tmp_path: Path) -> None:
    child = start(groups, Limits(pids=12), SPREAD, tmp_path / "log")
    eventually(lambda: len(groups.members(MARKER)) == 12)
    end(groups, child)


def test_a_group_that_was_left_frozen_is_thawed(groups: Groups, tmp_path: Path) -> None:
    if "freezer" not in groups.ladder.legacy or groups.ladder.unified:
        pytest.skip("nothing is frozen on this rung of the ladder")
    groups.make(MARKER, Limits(pids=5), None)
    state = Path(groups._freezer("web.web@1.3"))
    state.write_text("FROZEN")
    again = Groups(groups.ladder, groups._home.removeprefix("orch-"))
    child = start(again, Limits(pids=5), "print('runs', flush=True)", tmp_path / "log")
    eventually(lambda: "runs" in (tmp_path / "log").read_text())
    end(groups, child)


def test_the_kernel_kills_what_uses_up_its_memory_and_we_know(
    groups: Groups, tmp_path: Path
) -> None:
    code = "x = b'x' * (300 << 20)"
    child = start(groups, Limits(memory=48 << 20), code, tmp_path / "log")
    _, status = os.waitpid(child.process.pid, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert groups.out_of_memory(MARKER)


def test_the_share_of_the_processor_is_written(groups: Groups, tmp_path: Path) -> None:
    if not groups.ladder.way("cpu"):
        pytest.skip(groups.ladder.missing["cpu"])
    child = start(groups, Limits(cpu=0.25), "import time; time.sleep(600)", tmp_path / "log")
    (directory,) = (Path(d) for d in groups._made["web.web@1.3"] if "/cpu" in d or "v2" in d)
    if (directory / "cpu.cfs_quota_us").exists():
        assert (directory / "cpu.cfs_quota_us").read_text() == "25000\n"
    else:
        assert (directory / "cpu.max").read_text() == "25000 100000\n"
    end(groups, child)


def test_a_group_that_vanished_before_the_start_is_a_failed_stage() -> None:
    setup = Setup(joins=("/sys/fs/cgroup/nowhere/cgroup.procs",))
    order = Order(("/bin/true",), {}, "/", setup=setup)
    child = processes.spawn(structs.replace(order))
    assert child.errors is not None
    failure = processes.setup_failure(child.errors, order)
    os.waitpid(child.process.pid, 0)
    assert failure is not None
    assert failure.stage == "join the control group '/sys/fs/cgroup/nowhere'"
