"""Starts, stops, restarts and ends that come in each other's way."""

import shlex
import signal
import time

import pytest

from tests.e2e.scenario import Background, Scenario, bad, exits, orch, row, says, takes

HARMLESS = {"SIGCHLD", "SIGCONT", "SIGSTOP", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGURG", "SIGWINCH"}
FATAL = [
    one.name.removeprefix("SIG")
    for one in signal.Signals
    if one.name not in HARMLESS and one < signal.SIGRTMIN
]


def test_each_signal_can_be_the_one_that_asks_to_stop(scenario: Scenario) -> None:
    """Exactly that one arrives, once."""
    names = ("TERM", "INT", "HUP", "QUIT", "USR1", "USR2")
    record = ("--record", scenario.record_file)
    notes = [word for name in names for word in ("--note", name)]
    scenario.services(
        {
            name.lower(): {
                "command": bad("--name", name.lower(), *record, *notes),
                "stop": {"signal": name, "timeout": "300ms"},
            }
            for name in names
        }
    )
    scenario.step("they come up", orch("up", "-d", "--wait"), exits(0))
    for name in names:
        scenario.until_logged(f"{name.lower()}.{name.lower()}")
    scenario.step("all stop", orch("stop", "--all"), exits(0))
    got = scenario.recorded(*(f"SIG{name}" for name in names))
    assert sorted(got) == sorted(f"{name.lower()} SIG{name}" for name in names)


@pytest.mark.parametrize("kill", ["tree", "mixed"])
def test_the_stop_signal_reaches_whom_the_topology_says(scenario: Scenario, kill: str) -> None:
    """The whole group of the leader, or the leader alone; each once."""
    record = ["--record", scenario.record_file]
    child = shlex.join(bad("--name", "child", *record, "--note", "USR1"))
    leader = shlex.join(bad("--name", "leader", *record, "--note", "USR1"))
    scenario.services(
        {
            "web": {
                "command": ["sh", "-c", f"{child} & exec {leader}"],
                "stop": {"signal": "USR1", "timeout": "300ms", "kill": kill},
            }
        }
    )
    scenario.step("it comes up", orch("up", "-d", "--wait"), exits(0))
    scenario.until_logged("web.web", times=2)
    scenario.step("it stops", orch("stop", "web"), row("web.web", phase="stopped", pid=None))
    told = ["child SIGUSR1"] * (kill == "tree") + ["leader SIGUSR1"]
    assert sorted(scenario.recorded("SIGUSR1")) == told


def test_death_by_any_signal_is_told_and_followed_by_a_restart(scenario: Scenario) -> None:
    script = "test -e been-$0 && exec sleep 1000; touch been-$0; kill -$0 $$$$; exec sleep 1000"
    scenario.services(
        {
            name.lower(): {"command": ["sh", "-c", script, str(int(signal.Signals[f"SIG{name}"]))]}
            for name in FATAL
        },
        defaults={
            "settle": "0s",
            "restart": "always",
            "backoff": {"initial": "50ms"},
            "rlimits": {"core": 0},
        },
    )
    scenario.step("all go up", orch("up", "-d"), exits(0))
    for name in FATAL:
        number = int(signal.Signals[f"SIG{name}"])
        found = scenario.until_row(
            f"{name.lower()}.{name.lower()}", phase="running", generation=2, signal=number
        )
        assert found["restarts"] == 1
        clean = name in ("HUP", "INT", "TERM", "PIPE")
        assert found["result"] == ("success" if clean else "signal")


def test_a_suspended_program_can_be_stopped(scenario: Scenario) -> None:
    """The stop signal is followed by CONT."""
    scenario.services({"web": {"command": bad(), "stop": {"timeout": "60s"}}})
    scenario.step("it comes up", orch("up", "-d", "--wait"), exits(0))
    scenario.until_logged("web.web")
    scenario.step("it is suspended", orch("kill", "-s", "STOP", "web"), exits(0))
    scenario.step(
        "it stops in time",
        orch("stop", "web"),
        exits(0),
        takes(at_most=30),
        row("web.web", phase="stopped", result="requested", exit_code=0),
    )


def test_a_start_during_a_slow_stop_follows_it(scenario: Scenario) -> None:
    """Exactly two lives."""
    command = bad("--name", "web", "--record", scenario.record_file, "--slow-stop", 6)
    scenario.services({"web": {"command": command}})
    scenario.step("it comes up", orch("up", "-d", "--wait"), exits(0))
    scenario.until_logged("web.web")
    stop = scenario.start("stop", "web")
    scenario.until(lambda: scenario.recorded("stopping"))
    scenario.step("a start waits it out", orch("start", "web"), exits(0))
    stop.wait()
    scenario.until_logged("web.web", times=2)
    assert scenario.recorded("start", "exit") == ["web start", "web exit", "web start"]
    assert scenario.row("web.web")["generation"] == 2


def test_many_restarts_at_once_leave_one_process(scenario: Scenario) -> None:
    """They are done together, and none fails."""
    command = bad("--name", "web", "--record", scenario.record_file, "--slow-stop", 0.3)
    scenario.services({"web": {"command": command}})
    scenario.step("it comes up", orch("up", "-d", "--wait"), exits(0))
    scenario.until_logged("web.web")
    restarts = [scenario.start("restart", "web") for _ in range(20)]
    assert {restart.wait(90).code for restart in restarts} == {0}
    scenario.until_row("web.web", phase="running", ready=True)
    assert len(scenario.recorded("start")) <= scenario.row("web.web")["generation"]
    leaders = [each for each in scenario.processes() if "badproc" in str(each)]
    assert len(leaders) == 1


def test_a_stop_during_a_backoff_is_the_end_of_it(scenario: Scenario) -> None:
    """Also for what was to be retried before."""
    command = bad("--name", "web", "--record", scenario.record_file, "--exit-after", 0)
    scenario.services(
        {"web": {"command": [*command, "--exit-code", "1"]}},
        defaults={"settle": "0s", "backoff": {"initial": "700ms", "factor": 1, "jitter": 0}},
    )
    scenario.step("it goes up", orch("up", "-d"))
    scenario.until_row("web.web", phase="backoff")
    scenario.step("a start in between", orch("start", "--no-wait", "web"))
    scenario.until_row("web.web", phase="backoff")
    scenario.step("it is stopped", orch("stop", "web"), exits(0), row("web.web", phase="stopped"))
    lives = len(scenario.recorded("start"))
    deadline = time.monotonic() + 1.5
    scenario.until(lambda: time.monotonic() > deadline)
    assert len(scenario.recorded("start")) == lives
    assert scenario.row("web.web")["phase"] == "stopped"


def test_a_stop_during_a_restart_is_the_last_word(scenario: Scenario) -> None:
    command = bad("--name", "web", "--record", scenario.record_file, "--slow-stop", 6)
    scenario.services({"web": {"command": command}})
    scenario.step("it comes up", orch("up", "-d", "--wait"), exits(0))
    scenario.until_logged("web.web")
    restart = scenario.start("restart", "web")
    scenario.until(lambda: scenario.recorded("stopping"))
    scenario.step("a stop comes", orch("stop", "web"), exits(0), row("web.web", phase="stopped"))
    restart.wait()
    assert scenario.recorded("start") == ["web start"]


def test_a_slow_stop_holds_up_nothing_else(scenario: Scenario) -> None:
    slow = {"command": bad("--ignore", "TERM"), "stop": {"timeout": "60s"}}
    scenario.services({"slow": slow, "web": {"command": bad()}})
    scenario.step("they come up", orch("up", "-d", "--wait"), exits(0))
    for name in ("slow.slow", "web.web"):
        scenario.until_logged(name)
    stop = scenario.start("stop", "slow")
    scenario.until_row("slow.slow", phase="stopping")
    scenario.step("ps answers", orch("ps"), exits(0), takes(at_most=30))
    scenario.step("logs answers", orch("logs", "web"), exits(0), says("ready"), takes(at_most=30))
    scenario.step("another stops", orch("stop", "web"), exits(0), takes(at_most=30))
    assert scenario.row("slow.slow")["phase"] == "stopping"
    scenario.step("the slow one is killed", orch("kill", "slow"), exits(0))
    assert stop.wait().code == 0


def test_a_stop_command_that_fails_prevents_no_stop(scenario: Scenario) -> None:
    """The failure is reported, by the exit code too."""
    scenario.services({"web": {"command": bad(), "stop": {"command": ["false"]}}})
    scenario.step("it comes up", orch("up", "-d", "--wait"), exits(0))
    scenario.step(
        "it is stopped, and what failed is told",
        orch("stop", "web"),
        exits(1),
        says("stop command failed: exit 1"),
        row("web.web", phase="stopped", pid=None),
    )


def going_down(scenario: Scenario, *switches: object) -> Background:
    """Bring a system up, and begin to bring it down; it takes its time."""
    command = bad("--name", "web", "--record", scenario.record_file, *switches)
    scenario.services({"web": {"command": command, "stop": {"timeout": "60s"}}})
    scenario.step("it comes up", orch("up", "-d", "--wait"), exits(0))
    scenario.until_logged("web.web")
    down = scenario.start("down")
    scenario.until_row("web.web", phase="stopping")
    return down


@pytest.mark.parametrize("stays", [False, True], ids=["detached", "in the foreground"])
def test_an_up_during_a_down_waits_and_brings_up_anew(scenario: Scenario, stays: bool) -> None:
    down = going_down(scenario, "--slow-stop", 4)
    before = scenario.daemon()["pid"]
    up = scenario.start("up", *([] if stays else ["-d", "--wait"]))
    scenario.until(lambda: "waiting until it is down: web.web (pid" in up.err)
    exits(0)(scenario, down.wait())
    scenario.until_row("web.web", phase="running", ready=True, generation=2)
    if stays:
        scenario.until(lambda: "ready" in up.out, saying="its log is shown")
        up.interrupt()
    exits(130 if stays else 0)(scenario, up.wait())
    scenario.until_logged("web.web", times=2)
    assert scenario.recorded("start", "exit")[:3] == ["web start", "web exit", "web start"]
    if not stays:
        assert scenario.daemon()["pid"] != before
        assert len(scenario.recorded("start")) == 2


def test_an_up_waits_for_a_down_only_so_long(scenario: Scenario) -> None:
    down = going_down(scenario, "--ignore", "TERM")
    pid = scenario.row("web.web")["pid"]
    scenario.step(
        "it gives up",
        orch("up", "-d", "--wait", "--wait-timeout", "300ms"),
        exits(1),
        says(rf"not down after 300ms: web\.web \(pid {pid}, "),
        takes(at_least=0.3, at_most=30),
    )
    up = scenario.start("up")
    scenario.until(lambda: "waiting until it is down" in up.err)
    up.interrupt()
    exits(130)(scenario, up.wait())
    assert scenario.row("web.web")["phase"] == "stopping"
    scenario.step("the down goes on", orch("down", "--kill"), exits(0))
    exits(0)(scenario, down.wait())
    assert scenario.recorded("start") == ["web start"]


def test_many_ups_during_a_down_bring_up_one_system(scenario: Scenario) -> None:
    down = going_down(scenario, "--slow-stop", 3)
    ups = [scenario.start("up", "-d", "--wait") for _ in range(4)]
    scenario.until(lambda: all("waiting until it is down" in up.err for up in ups))
    outcomes = [each.wait() for each in (*ups, down)]
    assert [each.code for each in outcomes] == [0] * 5, "\n".join(map(str, outcomes))
    scenario.until_logged("web.web", times=2)
    assert scenario.recorded("start", "exit") == ["web start", "web exit", "web start"]
    assert scenario.row("web.web")["generation"] == 2
