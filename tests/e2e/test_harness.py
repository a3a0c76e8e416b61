"""The harness itself can fail: what survives a world is found, told and ended."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import processes
from tests.e2e.scenario import MARKER, Scenario, bad, exits, says


@pytest.fixture
def world() -> Iterator[Scenario]:
    """A world that is not checked at its end."""
    made = Scenario("to be left in disorder")
    yield made
    made.remove()


def survivor(world: Scenario, how: str) -> subprocess.Popen[bytes]:
    """Start a process of this world that hides all traces but one."""
    program = "import signal, sys; print('up', flush=True); signal.pause()"
    environment, cwd, argument = {"PATH": os.environ["PATH"]}, Path("/"), ""
    match how:
        case "environment":
            environment[MARKER] = world.marker
        case "directory":
            cwd = world.root
        case "open file":
            program = f"import sys; held = open('/proc/self/fd/2'); {program}"
        case "argument":
            argument = str(world.root / "file")
        case "instance":
            (world.runtime / "orch" / "some-key").mkdir(parents=True)
            environment["ORCH_INSTANCE"] = "some-key/web.web/1"
        case _:
            raise AssertionError(how)
    with (world.root / "file").open("wb") as file:
        started = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", program, argument],
            cwd=cwd,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=file if how == "open file" else subprocess.DEVNULL,
            start_new_session=True,
        )
    assert started.stdout is not None
    assert started.stdout.readline() == b"up\n"
    started.stdout.close()
    return started


@pytest.mark.parametrize("how", ["environment", "directory", "open file", "argument", "instance"])
def test_a_survivor_is_found_by_its_only_trace(world: Scenario, how: str) -> None:
    started = survivor(world, how)
    try:
        assert [each.pid for each in world.processes()] == [started.pid]
        [told] = world.leave(patience=0.1)
        assert told.startswith("process left")
        assert started.wait(5) == -signal.SIGKILL
    finally:
        started.kill()
        started.wait()


def test_a_process_of_nobody_is_left_alone(world: Scenario) -> None:
    with subprocess.Popen(bad("--silent"), stdout=subprocess.DEVNULL) as other:
        try:
            assert world.processes() == []
            assert world.leave(patience=0.1) == []
            assert processes.is_alive(other.pid)
        finally:
            other.kill()


def test_checks_can_fail(world: Scenario) -> None:
    outcome = world.command([sys.executable, "-c", "print('words'); raise SystemExit(3)"])
    exits(3)(world, outcome)
    says("words")(world, outcome)
    with pytest.raises(AssertionError, match="exit 3 instead of 0"):
        exits(0)(world, outcome)
    with pytest.raises(AssertionError, match="nothing like 'other'"):
        says("other")(world, outcome)
    with pytest.raises(AssertionError, match="did not end within"):
        world.command([sys.executable, "-c", "import signal; signal.pause()"], limit=0.2)
