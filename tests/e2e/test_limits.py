"""What a component may use: memory, processor, processes; and what cannot be had is said."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from orchestrator import cgroups
from tests.e2e import processes
from tests.e2e.scenario import Scenario, bad, exits, orch, row, says
from tests.e2e.test_daemon_death import back_again, kill_daemon

LADDER = cgroups.find()

NO_PAUSE = {"initial": "0s"}

needs_groups = pytest.mark.skipif(
    not (LADDER.way("pids") and LADDER.way("memory")),
    reason=f"this machine grants no control groups: {dict(LADDER.missing)}",
)


def groups_of(pid: int) -> list[str]:
    """Return the control groups of ours that a process is in, as the kernel lists them."""
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    return [line for line in lines if "/orch-" in line]


def left_groups(scenario: Scenario) -> list[Path]:
    """Return the directories of this world's groups."""
    parents = {LADDER.unified, *LADDER.legacy.values()} - {""}
    names = [f"orch-{key}/*/" for key in Scenario.keys(scenario)]
    return [path for parent in parents for name in names for path in Path(parent).glob(name)]


def hidden(scenario: Scenario) -> list[processes.Process]:
    """Return the living programs that have cleared their environment."""
    return [
        each
        for each in scenario.processes()
        if "badproc.py --ignore TERM" in each.command and each.alive
    ]


@needs_groups
def test_what_hides_from_everybody_dies_with_its_group(scenario: Scenario) -> None:
    family = bad("--child", "hidden", "--child", "setsid")
    scenario.services({"web": {"command": family, "pids": 50, "stop": {"timeout": "1s"}}})
    scenario.step("it comes up", orch("up", "-d", "--wait"), exits(0))
    scenario.until_logged("web.web")
    assert len(hidden(scenario)) == 1
    assert groups_of(hidden(scenario)[0].pid) == groups_of(scenario.row("web.web")["pid"]) != []
    scenario.step("a stop ends all of it", orch("stop", "web"), exits(0))
    assert not hidden(scenario)
    scenario.until(lambda: not left_groups(scenario), saying="the groups are removed")


@needs_groups
def test_what_hides_from_everybody_dies_before_the_restart(scenario: Scenario) -> None:
    family = bad("--child", "hidden", "--exit-after", 0.5, "--exit-code", 3)
    scenario.services(
        {
            "web": {
                "command": family,
                "pids": 50,
                "backoff": {"initial": "0s"},
                "limit": {"failures": 3},
            }
        }
    )
    scenario.step("it comes up", orch("up", "-d"))
    scenario.until_row("web.web", phase="failed", result="start-limit")
    assert not hidden(scenario)
    scenario.until(lambda: not left_groups(scenario), saying="the groups are removed")


@needs_groups
def test_using_more_memory_than_allowed_is_said_to_be_so(scenario: Scenario) -> None:
    glutton = bad("--eat", 300 << 20)
    scenario.services({"web": {"command": glutton, "memory": "64MiB", "restart": "never"}})
    scenario.step("it is started", orch("up", "-d"))
    found = scenario.until_row("web.web", phase="failed", result="oom-kill")
    assert found["exit_code"] is None
    scenario.step("people are told", orch("ps"), exits(0), says("out of memory"))


@needs_groups
def test_a_group_outlives_the_daemon_and_is_ended_by_the_next(scenario: Scenario) -> None:
    family = bad("--child", "hidden")
    asked = {"pids": 50, "memory": "512MiB", "stop": {"timeout": "1s"}}
    scenario.services({"web": {"command": family, **asked}, "gone": {"command": family, **asked}})
    scenario.step("they come up", orch("up", "-d", "--wait"), exits(0))
    scenario.until(lambda: len(hidden(scenario)) == 2)
    before = groups_of(scenario.row("web.web")["pid"])
    rows = back_again(scenario, kill_daemon(scenario))
    assert groups_of(rows["web.web"]["pid"]) == before
    scenario.step("one is stopped", orch("stop", "gone"), exits(0))
    assert len(hidden(scenario)) == 1
    scenario.step("all are stopped", orch("down"), exits(0))
    assert not hidden(scenario)
    scenario.until(lambda: not left_groups(scenario), saying="the groups are removed")


@needs_groups
def test_the_memory_of_one_is_bounded_and_the_others_do_not_notice(scenario: Scenario) -> None:
    glutton = {"command": bad("--eat", 300 << 20), "memory": "64MiB", "restart": "never"}
    scenario.services({"web": {"command": bad()}, "eater": glutton})
    scenario.step("they are started", orch("up", "-d"))
    scenario.until_row("eater.eater", result="oom-kill")
    assert not groups_of(scenario.row("web.web")["pid"])
    scenario.step("the other runs", orch("ps"), row("web.web", phase="running", restarts=0))


@pytest.mark.root
def test_what_is_asked_and_cannot_be_had_is_an_error(scenario: Scenario) -> None:
    """On a machine without control groups, as seen by the daemon."""
    scenario.services(
        {
            "cpu": {"command": bad(), "cpu": 0.5},
            "pids": {"command": bad(), "pids": 9},
            "memory": {"command": bad(), "memory": "1GiB"},
        }
    )
    hide = "umount -a -t cgroup,cgroup2 && exec orch up -d"
    outcome = scenario.command(["unshare", "-m", "sh", "-c", hide])
    assert outcome.code == 1, outcome
    for name in ("cpu", "pids"):
        found = scenario.until_row(f"{name}.{name}", phase="failed", result="spawn-error")
        assert f"cannot limit {name} to" in str(found), found
        assert "no cgroup hierarchy is mounted" in str(found), found
    kept = scenario.until_row("memory.memory", phase="running")
    limits = Path(f"/proc/{kept['pid']}/limits").read_text()
    assert str(1 << 30) in next(x for x in limits.splitlines() if x.startswith("Max address"))
    os.kill(kept["pid"], signal.SIGTERM)
