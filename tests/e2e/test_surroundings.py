"""Where orch runs: as the first process of a container, and where processes run out."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from tests.e2e.scenario import ORCH, Scenario, bad, eventually, exits, orch


def in_a_container(scenario: Scenario) -> subprocess.Popen[bytes]:
    """Start a foreground `up` as the first process of a pid namespace of its own."""
    return subprocess.Popen(
        ["unshare", "-p", "-f", "--mount-proc", "--kill-child", str(ORCH), "up"],
        cwd=scenario.root,
        env=scenario.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def first_inside(outer: subprocess.Popen[bytes]) -> int:
    """Return the pid, as seen from here, of the first process inside."""
    children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children")
    return int(eventually(lambda: children.read_text().split())[0])


@pytest.mark.root
def test_as_the_first_process_it_reaps_forwards_term_and_tells_the_exit_code(
    scenario: Scenario,
) -> None:
    family = bad("--child", "double-fork", "--child", "setsid")
    scenario.services({"web": {"command": family, "stop": {"timeout": "1s"}}})
    outer = in_a_container(scenario)
    try:
        scenario.until_logged("web.web")
        inside = first_inside(outer)
        os.kill(inside, signal.SIGTERM)
        output, _ = outer.communicate(timeout=30)
        # The command was interrupted, in order; what it started is down.
        assert outer.returncode == 143, output.decode()
        assert not [each for each in scenario.processes() if "badproc" in each.command]
    finally:
        outer.kill()
        outer.wait()


@pytest.mark.root
def test_as_the_first_process_the_failure_of_a_component_is_its_exit_code(
    scenario: Scenario,
) -> None:
    lame = bad("--exit-after", 0.3, "--exit-code", 3)
    scenario.services({"web": {"command": lame, "restart": "never", "on_failure": "shutdown"}})
    outer = in_a_container(scenario)
    try:
        output, _ = outer.communicate(timeout=30)
        assert outer.returncode == 10, output.decode()
    finally:
        outer.kill()
        outer.wait()


def test_running_out_of_descriptors_is_a_backoff_and_passes(scenario: Scenario) -> None:
    scenario.services(
        {
            "web": {"command": bad()},
            "late": {
                "command": bad(),
                "backoff": {"initial": "200ms", "factor": 1},
                "limit": {"failures": 0},
            },
        }
    )
    scenario.step("it comes up", orch("up", "-d", "--wait"), exits(0))
    daemon = scenario.daemon()["pid"]
    before = subprocess.check_output(
        ["prlimit", "--pid", str(daemon), "--nofile", "--raw", "--noheadings", "-o", "SOFT,HARD"]
    )
    soft, hard = before.decode().split()
    used = len(list(Path(f"/proc/{daemon}/fd").iterdir()))
    limit = ["prlimit", "--pid", str(daemon)]
    try:
        # Nothing more can be opened: no log file, and no connection of a client either.
        pid = scenario.row("late.late")["pid"]
        subprocess.run([*limit, f"--nofile={used - 8}:{hard}"], check=True)
        os.kill(pid, signal.SIGKILL)
        log = scenario.base / "logging" / "orch.log"
        said = re.compile(r"late\.late#\d+ starting → backoff .*Too many open files")
        scenario.until(lambda: said.search(log.read_text()), saying=f"{said.pattern} in the log")
    finally:
        subprocess.run([*limit, f"--nofile={soft}:{hard}"], check=True)
    scenario.until_row("late.late", phase="running")
    assert scenario.row("web.web")["restarts"] == 0
    assert scenario.daemon()["pid"] == daemon
