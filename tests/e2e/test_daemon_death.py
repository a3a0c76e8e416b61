"""The death of the daemon: no component stops, nothing is lost, everything is taken over."""

import os
import re
import signal

from tests.e2e import processes
from tests.e2e.scenario import Row, Scenario, bad, exits, no_traceback, orch, says

KEPT = ("name", "pid", "generation", "restarts", "phase", "ready")


def kill_daemon(scenario: Scenario) -> int:
    """Kill the daemon without warning; return the pid it had."""
    pid: int = scenario.daemon()["pid"]
    os.kill(pid, signal.SIGKILL)
    scenario.until(lambda: not processes.is_alive(pid), saying="the daemon is dead")
    return pid


def back_again(scenario: Scenario, old: int) -> dict[str, Row]:
    """Wait for the next daemon; return its rows."""

    def look() -> dict[str, Row]:
        outcome = scenario.run("status", "--json")
        alive = outcome.code == 0 and outcome.json()["daemon"]["pid"] != old
        return scenario.ps() if alive else {}

    rows: dict[str, Row] = scenario.until(look, saying="another daemon answers")
    return rows


def test_the_next_daemon_takes_over_every_process(scenario: Scenario) -> None:
    """One has given up, one was stopped by hand, one has children."""
    services: dict[str, object] = {f"web{number}": {"command": bad()} for number in range(7)}
    services["moody"] = {
        "command": bad("--exit-after", 0.3, "--exit-code", 1),
        "limit": {"failures": 1},
    }
    family = bad("--child", "setsid", "--child", "double-fork")
    services["family"] = {"command": family, "stop": {"timeout": "1s"}}
    services["halted"] = {"command": bad()}
    scenario.services(services)
    scenario.step("ten come up", orch("up", "-d", "--wait"), exits(0))
    scenario.until_row("moody.moody", phase="failed")
    scenario.step("one is stopped by hand", orch("stop", "halted"), exits(0))
    before = scenario.ps()
    everybody = {each.pid for each in scenario.processes() if "badproc.py" in each.command}

    after = back_again(scenario, kill_daemon(scenario))
    assert {name: [row[key] for key in KEPT] for name, row in after.items()} == {
        name: [row[key] for key in KEPT] for name, row in before.items()
    }
    assert {each.pid for each in scenario.processes() if "badproc.py" in each.command} == everybody
    assert after["halted.halted"]["phase"] == "stopped"
    assert after["moody.moody"]["result"] == before["moody.moody"]["result"]
    scenario.step("the next daemon can stop what it took over", orch("down"), exits(0))
    assert not [pid for pid in everybody if processes.is_alive(pid)]


def test_an_end_without_a_daemon_is_known_to_the_next(scenario: Scenario) -> None:
    """Exit code 7 while the daemon is dead; the policy is applied, once."""
    trigger = scenario.root / "end"
    argv = bad(
        "--name", "web", "--record", scenario.record_file, "--until", trigger, "--exit-code", 7
    )
    scenario.services(
        {
            "web": {"command": argv, "restart": "never"},
            "again": {"command": [*argv, "--name", "again"], "backoff": {"initial": "60s"}},
        }
    )
    scenario.step("they come up", orch("up", "-d", "--wait"), exits(0))
    facts = scenario.daemon()
    os.kill(facts["keeper_pid"], signal.SIGSTOP)  # so that nobody restarts the daemon meanwhile
    try:
        os.kill(facts["pid"], signal.SIGKILL)
        trigger.touch()
        scenario.until(lambda: sorted(scenario.recorded("exit")) == ["again exit", "web exit"])
    finally:
        os.kill(facts["keeper_pid"], signal.SIGCONT)
    rows = back_again(scenario, facts["pid"])
    assert rows["web.web"]["exit_code"] == 7
    assert rows["web.web"]["result"] == "exit-code"
    assert rows["web.web"]["phase"] == "failed"
    assert rows["again.again"]["exit_code"] == 7
    assert rows["again.again"]["phase"] == "backoff"
    assert sorted(scenario.recorded("start")) == ["again start", "web start"]


def test_no_line_is_lost_while_the_daemon_is_dead(scenario: Scenario) -> None:
    """Numbered lines through two deaths, each once, never a broken pipe."""
    trigger = scenario.root / "enough"
    scenario.services(
        {"web": {"command": bad("--rate", 20_000, "--until", trigger), "restart": "never"}}
    )
    scenario.step("it comes up", orch("up", "-d", "--wait"), exits(0))
    pid = scenario.row("web.web")["pid"]
    for times in (1, 2):
        scenario.until_logged("web.web", f"line {times * 10_000 - 1:08d}\n")
        rows = back_again(scenario, kill_daemon(scenario))
        assert rows["web.web"]["pid"] == pid
    seen = scenario.log("web.web").count(b"\n")
    scenario.until(
        lambda: scenario.log("web.web").count(b"\n") > seen + 1000, saying="it writes on"
    )
    trigger.touch()
    log = scenario.until_logged("web.web", "last ").decode()
    scenario.until_row("web.web", phase="exited", result="success")
    numbers = [int(number) for number in re.findall(r"^line (\d{8})$", log, re.MULTILINE)]
    [last] = re.findall(r"^last (\d{8})$", log, re.MULTILINE)
    assert numbers == list(range(int(last) + 1))


def test_the_keeper_may_die_too(scenario: Scenario) -> None:
    scenario.services({"web": {"command": bad()}})
    scenario.step("it comes up", orch("up", "-d", "--wait"), exits(0))
    pid = scenario.row("web.web")["pid"]
    facts = scenario.daemon()
    os.kill(facts["keeper_pid"], signal.SIGKILL)

    def renewed() -> bool:
        outcome = scenario.run("status", "--json")
        return outcome.code == 0 and outcome.json()["daemon"]["keeper_pid"] not in (
            None,
            facts["keeper_pid"],
        )

    scenario.until(renewed, saying="another keeper stands")
    assert scenario.row("web.web")["pid"] == pid
    rows = back_again(scenario, kill_daemon(scenario))
    assert rows["web.web"]["pid"] == pid


def test_both_may_die_at_once_and_the_next_up_takes_over(scenario: Scenario) -> None:
    scenario.services({"web": {"command": bad()}})
    scenario.step("it comes up", orch("up", "-d", "--wait"), exits(0))
    pid = scenario.row("web.web")["pid"]
    facts = scenario.daemon()
    os.kill(facts["keeper_pid"], signal.SIGSTOP)
    os.kill(facts["pid"], signal.SIGKILL)
    os.kill(facts["keeper_pid"], signal.SIGKILL)
    scenario.until(lambda: not processes.is_alive(facts["keeper_pid"]))
    assert processes.is_alive(pid)
    scenario.step("nobody answers", orch("ps"), exits(69), says("orch up"))
    scenario.step("up takes over", orch("up", "-d", "--wait"), exits(0))
    assert scenario.row("web.web")["pid"] == pid


def test_a_second_daemon_refuses_and_names_the_first(scenario: Scenario) -> None:
    scenario.services({"web": {"command": bad()}})
    scenario.step("it comes up", orch("up", "-d", "--wait"), exits(0))
    facts = scenario.daemon()
    rows = scenario.ps()
    second = scenario.root / "elsewhere"
    second.mkdir(mode=0o700)
    # Else the first is found by what its lock says, and there is no second.
    (scenario.base / "orch.lock").write_text(f"{facts['keeper_pid']}\n")
    scenario.environment["XDG_RUNTIME_DIR"] = str(second)
    who = rf"\b({facts['pid']}|{facts['keeper_pid']})\b"
    refused = scenario.step("from elsewhere", orch("up", "-d").within(10), exits(1), says(who))
    no_traceback(scenario, refused)
    scenario.environment["XDG_RUNTIME_DIR"] = str(scenario.runtime)
    assert scenario.daemon() == facts
    assert scenario.ps() == rows
    assert not [path for path in second.rglob("*") if path.is_socket()]


def test_six_ups_at_once_start_one_daemon_and_one_process(scenario: Scenario) -> None:
    argv = bad("--name", "web", "--record", scenario.record_file)
    scenario.services({"web": {"command": argv}})
    starting = [scenario.start("up", "-d", "--wait") for _ in range(6)]
    outcomes = [each.wait() for each in starting]
    assert [each.code for each in outcomes] == [0] * 6, "\n".join(map(str, outcomes))
    scenario.until_logged("web.web")
    assert scenario.recorded("start") == ["web start"]


def test_what_lost_daemon_and_keeper_can_be_brought_down(scenario: Scenario) -> None:
    scenario.services({"web": {"command": bad()}})
    scenario.step("it comes up", orch("up", "-d", "--wait"), exits(0))
    web, facts = scenario.row("web.web")["pid"], scenario.daemon()
    for role in ("keeper_pid", "pid"):
        os.kill(facts[role], signal.SIGKILL)
    scenario.until(lambda: not processes.is_alive(facts["pid"]))
    assert processes.is_alive(web)
    scenario.step("it goes down", orch("down"), exits(0), says("web.web", "stopped"))
    assert not processes.is_alive(web)


def test_a_daemon_killed_while_it_stops_the_system_is_followed_by_one_that_goes_on(
    scenario: Scenario,
) -> None:
    stubborn = {"command": bad("--ignore", "TERM"), "stop": {"timeout": "2s"}}
    scenario.services({"calm": {"command": bad()}, "stubborn": stubborn})
    scenario.step("they come up", orch("up", "-d", "--wait"), exits(0))
    keeper = scenario.daemon()["keeper_pid"]
    stopping = scenario.start("down")
    scenario.until_row("stubborn.stubborn", phase="stopping")
    kill_daemon(scenario)
    scenario.until(lambda: not processes.is_alive(keeper), saying="the keeper has ended")
    assert not [each for each in scenario.processes() if "badproc.py" in each.command]
    assert stopping.wait().code == 0
