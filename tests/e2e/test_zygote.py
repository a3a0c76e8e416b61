"""Handlers that are forked, and what the death of who forked them does not do."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.e2e import processes
from tests.e2e.scenario import Scenario, exits, orch

HANDLER = """
import os, signal, time

def main(to_send, config):
    signal.signal(signal.SIGUSR1, lambda *_: os._exit(43))
    print("up", os.getpid(), flush=True)
    if os.environ.get("ESCAPE"):
        if os.fork() == 0:
            os.setsid()
            if os.fork():
                os._exit(0)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            print("escaped", os.getpid(), flush=True)
            while True:
                signal.pause()
    while True:
        signal.pause()
"""


def zygotes(scenario: Scenario) -> list[int]:
    return [each.pid for each in scenario.processes() if each.command.startswith("orch zygote")]


def handlers(scenario: Scenario, count: int, **fields: object) -> list[str]:
    """Write a topology of so many handlers; return their names."""
    scenario.write(HANDLER, "web.py")
    component = {"handler": "web.py", "mode": "main", **fields}
    scenario.services({"s": {"components": {f"c{number}": component for number in range(count)}}})
    return [f"s.c{number}" for number in range(count)]


def descriptors(scenario: Scenario) -> int:
    """Return how many descriptors the daemon holds."""
    return len(list(Path(f"/proc/{scenario.daemon()['pid']}/fd").iterdir()))


def test_a_system_of_handlers_has_one_zygote_and_down_leaves_none(scenario: Scenario) -> None:
    names = handlers(scenario, 5)
    scenario.step("they come up", orch("up", "-d", "--wait"), exits(0))
    rows = scenario.ps()
    assert [rows[name]["start"] for name in names] == ["zygote"] * 5
    daemon = scenario.daemon()["pid"]
    parents = {each.pid: each.parent for each in scenario.processes()}
    assert {parents[rows[name]["pid"]] for name in names} == {daemon}
    (zygote,) = zygotes(scenario)
    scenario.step("they go down", orch("down"), exits(0))
    assert not processes.is_alive(zygote)
    for name in names:
        assert scenario.log(name).count(b"up ") == 1


def test_who_asks_for_a_fresh_interpreter_gets_one(scenario: Scenario) -> None:
    handlers(scenario, 1, zygote=False)
    scenario.step("it comes up", orch("up", "-d", "--wait"), exits(0))
    assert scenario.row("s.c0")["start"] == "exec (zygote: false)"
    assert zygotes(scenario) == []


def test_the_zygotes_death_harms_nobody_and_the_next_start_makes_another(
    scenario: Scenario,
) -> None:
    names = handlers(scenario, 3)
    scenario.step("they come up", orch("up", "-d", "--wait"), exits(0))
    before = {name: scenario.row(name)["pid"] for name in names}
    (zygote,) = zygotes(scenario)
    os.kill(zygote, signal.SIGKILL)
    scenario.until(lambda: not zygotes(scenario), saying="the zygote is gone")
    scenario.step("one starts anew", orch("restart", "s.c0"), exits(0))
    scenario.until_row("s.c0", phase="running", ready=True)
    rows = scenario.ps()
    assert rows["s.c0"]["start"] == "zygote"
    assert [rows[name]["pid"] for name in names[1:]] == [before[name] for name in names[1:]]


def test_an_upgrade_ends_the_zygote_and_the_next_start_makes_another(scenario: Scenario) -> None:
    names = handlers(scenario, 2)
    scenario.step("they come up", orch("up", "-d", "--wait"), exits(0))
    # The end of one has the daemon open what it keeps open.
    scenario.step("one starts anew", orch("restart", "s.c0"), exits(0))
    before = {name: scenario.row(name)["pid"] for name in names}
    (old,) = zygotes(scenario)
    held = descriptors(scenario)
    scenario.step("new code", orch("upgrade"), exits(0))
    scenario.until(lambda: processes.read(old) is None, saying="it is gone, and was reaped")
    scenario.step("one starts anew", orch("restart", "s.c0"), exits(0))
    scenario.until_row("s.c0", phase="running", ready=True)
    (new,) = zygotes(scenario)
    assert new != old
    rows = scenario.ps()
    assert rows["s.c0"]["start"] == "zygote"
    assert rows["s.c1"]["pid"] == before["s.c1"]
    scenario.until(lambda: descriptors(scenario) <= held, saying="none has leaked")


def test_forked_components_are_adopted_and_their_exit_codes_known(scenario: Scenario) -> None:
    names = handlers(scenario, 2, restart="never")
    scenario.step("they come up", orch("up", "-d", "--wait"), exits(0))
    before = {name: scenario.row(name)["pid"] for name in names}
    for number in range(2):
        old = scenario.daemon()["pid"]
        os.kill(old, signal.SIGKILL)
        if number:  # while nobody looks
            os.kill(before["s.c1"], signal.SIGUSR1)
        scenario.until(lambda: not processes.is_alive(old))  # noqa: B023 - asked at once
        scenario.until(scenario.ps)
    scenario.until_row("s.c1", phase="failed", exit_code=43)
    assert scenario.row("s.c0")["pid"] == before["s.c0"]
    os.kill(before["s.c0"], signal.SIGUSR1)
    scenario.until_row("s.c0", phase="failed", exit_code=43)


def test_a_stop_ends_what_a_forked_component_has_let_escape(scenario: Scenario) -> None:
    handlers(scenario, 1, environment={"ESCAPE": "1"}, stop={"timeout": "1s"})
    scenario.step("it comes up", orch("up", "-d", "--wait"), exits(0))
    escaped = int(scenario.until_logged("s.c0", "escaped").split(b"escaped ")[1].split()[0])
    assert processes.is_alive(escaped)
    scenario.step("it stops", orch("stop", "s.c0"), exits(0))
    assert not processes.is_alive(escaped)


@pytest.mark.parametrize("seed", range(3))
def test_deaths_at_random_moments_leave_each_instance_once(scenario: Scenario, seed: int) -> None:
    """The daemon and the zygote are killed while the system comes up."""
    names = handlers(scenario, 12)
    starting = scenario.start("up", "-d", "--wait")
    scenario.until(scenario.ps)
    for turn in range(3):
        victims = zygotes(scenario) if (seed + turn) % 2 else [scenario.daemon()["pid"]]
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        scenario.until(scenario.ps)
    starting.wait()
    for name in names:
        scenario.until_row(name, phase="running", ready=True)
    rows = scenario.ps()
    living = [
        each.pid for each in scenario.processes() if "orchestrator.component" in each.command
    ]
    assert sorted(living) == sorted(rows[name]["pid"] for name in names)
    for name in names:
        assert scenario.log(name).count(b"up ") == 1 + rows[name]["restarts"]
