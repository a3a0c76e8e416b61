"""`orch doctor`: what the machine grants, and who asks for more."""

from __future__ import annotations

import pytest

from tests.e2e.scenario import Scenario, bad, exits, orch, says


def test_without_a_topology_the_machine_alone_is_looked_at(scenario: Scenario) -> None:
    scenario.step("it is told", orch("doctor"), exits(0), says("kernel +granted", "open files"))


def test_the_running_daemon_says_how_it_bounds(scenario: Scenario) -> None:
    scenario.services({"web": {"command": bad()}})
    assert scenario.run("doctor", "--json").json()["daemon"] == {}
    scenario.step("it comes up", orch("up", "-d", "--wait"), exits(0))
    told = scenario.step("it is asked too", orch("doctor", "--json"), exits(0)).json()
    assert set(told["daemon"]) == {"memory", "cpu", "pids"}
    assert told["components"] == []
    scenario.step("people see it", orch("doctor"), exits(0), says("the running daemon bounds"))


def test_who_asks_for_what_nobody_has_is_named(scenario: Scenario) -> None:
    scenario.services(
        {"web": {"command": bad()}, "big": {"command": bad(), "rlimits": {"nofile": "1TB"}}}
    )
    outcome = scenario.run("doctor", "--json")
    (complaint,) = outcome.json()["components"]
    assert (outcome.code, complaint["component"]) == (1, "big.big")
    scenario.step("people read it", orch("doctor"), exits(1), says("big.big cannot have rlimits"))


@pytest.mark.root
def test_a_machine_without_control_groups_degrades(scenario: Scenario) -> None:
    scenario.services(
        {
            "memory": {"command": bad(), "memory": "1GiB"},
            "cpu": {"command": bad(), "cpu": 1.5},
        }
    )
    hide = "umount -a -t cgroup,cgroup2 && exec orch doctor"
    outcome = scenario.command(["unshare", "-m", "sh", "-c", hide])
    assert outcome.code == 1
    assert "cpu.cpu cannot have cpu: no cgroup hierarchy is mounted" in outcome.out
    assert "memory.memory has less of memory: no cgroup hierarchy is mounted" in outcome.out
    assert "would help: root, or a delegated cgroup" in outcome.out
