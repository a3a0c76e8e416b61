"""How things stop: in order, in time, and the whole tree of each."""

import os
import signal
from pathlib import Path

import pytest

from tests.e2e import processes
from tests.e2e.scenario import ORCH, Scenario, bad, exits, nothing_runs, orch, row, takes


def test_a_stop_reaches_dependents_first(scenario: Scenario) -> None:
    """alpha <- beta <- {gamma, delta}; each is dead before its dependency hears."""

    def service(name: str, *depends_on: str) -> dict[str, object]:
        argv = bad("--name", name, "--record", scenario.record_file, "--slow-stop", 0.15)
        return {"command": argv, "depends_on": list(depends_on), "ready": {"log": "^ready"}}

    scenario.services(
        {
            "gamma": service("gamma", "beta"),
            "delta": service("delta", "beta"),
            "beta": service("beta", "alpha"),
            "alpha": service("alpha"),
        }
    )
    scenario.step("the chain comes up", orch("up", "-d", "--wait"), exits(0))
    for name in ("alpha", "beta", "gamma", "delta"):
        scenario.until_logged(f"{name}.{name}")
    starts = scenario.recorded("start")
    assert starts[:2] == ["alpha start", "beta start"], starts

    scenario.step("it goes down", orch("down"), exits(0), nothing_runs)
    told = scenario.recorded("stopping", "exit")
    assert sorted(told[:4]) == ["delta exit", "delta stopping", "gamma exit", "gamma stopping"], (
        told
    )
    assert told[4:] == ["beta stopping", "beta exit", "alpha stopping", "alpha exit"], told


def test_a_program_that_stops_in_time_is_not_killed(scenario: Scenario) -> None:
    argv = bad("--name", "web", "--record", scenario.record_file, "--slow-stop", 0.4)
    scenario.services({"web": {"command": argv, "stop": {"timeout": "60s"}}})
    scenario.step("it comes up", orch("up", "-d", "--wait"), exits(0))
    scenario.until_logged("web.web")
    scenario.step(
        "a stop waits for its end and no longer",
        orch("stop", "web"),
        exits(0),
        takes(at_least=0.4, at_most=30),
        row("web.web", phase="stopped", exit_code=0, pid=None),
    )
    assert scenario.row("web.web")["result"] != "timeout-stop"
    assert scenario.recorded("stopping", "exit") == ["web stopping", "web exit"]


def test_a_program_that_ignores_term_is_killed_after_its_time(scenario: Scenario) -> None:
    scenario.services({"web": {"command": bad("--ignore", "TERM"), "stop": {"timeout": "1s"}}})
    scenario.step("it comes up", orch("up", "-d", "--wait"), exits(0))
    scenario.until_logged("web.web")
    scenario.step(
        "a stop gives it its second, then kills",
        orch("stop", "web"),
        takes(at_least=1.0, at_most=8.0),
        row("web.web", phase="stopped", result="timeout-stop", pid=None),
    )


def test_a_stop_takes_the_descendants_along(scenario: Scenario) -> None:
    """In our group, in another session, daemonised; all hold the output."""
    argv = bad(
        "--record",
        scenario.record_file,
        "--child",
        "fork",
        "--child",
        "setsid",
        "--child",
        "double-fork",
    )
    scenario.services({"web": {"command": argv, "stop": {"timeout": "1s"}}})
    scenario.step("it comes up", orch("up", "-d", "--wait"), exits(0))
    scenario.until_logged("web.web")
    pids = [event["pid"] for event in scenario.events() if event["event"].startswith("child")]
    assert len(pids) == 3
    assert all(map(processes.is_alive, pids))
    scenario.step(
        "one stop ends all", orch("stop", "web"), takes(at_most=8), row("web.web", pid=None)
    )
    assert [pid for pid in pids if processes.is_alive(pid)] == []
    facts = scenario.daemon()
    unreaped = [
        child
        for parent in (facts["pid"], facts["keeper_pid"])
        for child in processes.children(parent)
        if not child.alive
    ]
    assert unreaped == []


@pytest.mark.parametrize("dies", [False, True])
def test_what_hides_from_everybody_is_ended_with_the_system(
    scenario: Scenario, *, dies: bool
) -> None:
    """It has cleared its environment, left its session and lost its parent."""
    scenario.services({"web": {"command": bad("--child", "hidden", "--child", "hidden")}})
    scenario.step("it comes up", orch("up", "-d", "--wait"), exits(0))
    scenario.until_logged("web.web")
    hidden = [each for each in scenario.processes() if "--ignore TERM" in each.command]
    assert len(hidden) == 2
    if dies:
        os.kill(scenario.daemon()["pid"], signal.SIGKILL)
        scenario.until_row("web.web", phase="running")
    scenario.step("it goes down", orch("down"), exits(0), nothing_runs)
    assert not any(processes.is_alive(each.pid) for each in hidden)


def test_a_down_that_is_over_leaves_nobody_in_the_way_of_an_up(scenario: Scenario) -> None:
    """The keeper, which holds the lock and the socket, has ended too."""
    scenario.services({"web": {"command": bad()}})
    for _ in range(3):
        scenario.step("it comes up", orch("up", "-d"), exits(0))
        keeper = scenario.daemon()["keeper_pid"]
        look = f"{ORCH} down && ! grep -qs '^State:.[^ZX]' /proc/{keeper}/status"
        exits(0)(scenario, scenario.command(["sh", "-c", look]))


def test_what_is_read_at_an_end_does_not_grow_with_the_components(scenario: Scenario) -> None:
    """The list in which orphans are looked for holds no component."""
    sleeps = {"command": ["sleep", "600"]}
    scenario.services({f"s{number}": sleeps for number in range(20)})
    scenario.step("they come up", orch("up", "-d", "--wait"), exits(0))
    daemon = int(scenario.daemon()["pid"])
    assert len(processes.children(daemon)) == 20
    assert Path(f"/proc/{daemon}/task/{daemon}/children").read_text(encoding="ascii") == ""


def test_a_crash_takes_the_leftovers_along_before_the_restart(scenario: Scenario) -> None:
    """The leader crashes while a grandchild elsewhere holds the output."""
    trigger = scenario.root / "crash"
    argv = bad(
        "--name", "web", "--record", scenario.record_file, "--child", "setsid",
        "--until", trigger, "--exit-code", 1,
    )  # fmt: skip
    scenario.services(
        {"web": {"command": argv, "backoff": {"initial": "0s"}, "limit": {"failures": 0}}}
    )
    scenario.step("it comes up", orch("up", "-d", "--wait"), exits(0))
    scenario.until_logged("web.web")
    first = scenario.row("web.web")
    [grandchild] = [
        event["pid"] for event in scenario.events() if event["event"] == "child setsid"
    ]
    trigger.touch()
    scenario.until(lambda: "web exit" in scenario.recorded("exit"))
    trigger.unlink()
    scenario.until_logged("web.web", times=2)

    second = scenario.until_row("web.web", phase="running")
    assert second["pid"] != first["pid"]
    assert second["restarts"] == second["generation"] - first["generation"] >= 1
    assert not processes.is_alive(grandchild)
    order = scenario.recorded("start", "exit", "child setsid")
    assert order[:3] == ["web start", "web child setsid", "web exit"]
    living = [each for each in scenario.processes() if "badproc.py" in each.command]
    assert len(living) == 2, living


def test_a_stop_of_what_is_stopped_and_a_start_of_what_runs_change_nothing(
    scenario: Scenario,
) -> None:
    scenario.services({"web": {"command": bad()}})
    scenario.step("it comes up", orch("up", "-d", "--wait"), exits(0))
    before = scenario.row("web.web")
    scenario.step("start again", orch("start", "web"), exits(0))
    assert scenario.row("web.web") == before
    scenario.step("stop", orch("stop", "web"), exits(0), row("web.web", phase="stopped"))
    stopped = scenario.row("web.web")
    scenario.step("stop again", orch("stop", "web"), exits(0))
    assert scenario.row("web.web") == stopped


def test_ctrl_c_stops_in_order_and_says_so_by_its_exit_code(scenario: Scenario) -> None:
    def service(name: str, *depends_on: str) -> dict[str, object]:
        argv = bad("--name", name, "--record", scenario.record_file, "--slow-stop", 0.1)
        return {"command": argv, "depends_on": list(depends_on)}

    scenario.services({"front": service("front", "back"), "back": service("back")})
    up = scenario.start("up")
    scenario.until_logged("front.front")
    scenario.until(
        lambda: up.out.count("ready") == 2, saying=f"both shown in the foreground: {up.out}"
    )
    up.interrupt()
    outcome = up.wait()
    exits(130)(scenario, outcome)
    assert scenario.recorded("stopping", "exit") == [
        "front stopping",
        "front exit",
        "back stopping",
        "back exit",
    ]
    nothing_runs(scenario, outcome)


def test_a_second_ctrl_c_kills(scenario: Scenario) -> None:
    scenario.services({"web": {"command": bad("--ignore", "TERM"), "stop": {"timeout": "50s"}}})
    up = scenario.start("up")
    scenario.until_logged("web.web")
    scenario.until_row("web.web", phase="running")
    up.interrupt()
    scenario.until_row("web.web", phase="stopping")
    scenario.until(lambda: "web" in up.err, saying="the name still awaited is shown")
    up.interrupt()
    outcome = up.wait()
    exits(130)(scenario, outcome)
    nothing_runs(scenario, outcome)
