"""How what lives but does not work is found out, and what follows."""

import os
import signal
import sys
import time
from typing import Any

import pytest

from tests.e2e import processes
from tests.e2e.scenario import Scenario, bad, exits, orch

WATCHED = """
import faulthandler, os, pathlib, socket, time
faulthandler.enable()
assert os.environ["WATCHDOG_PID"] == str(os.getpid())
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notify.connect(os.environ["NOTIFY_SOCKET"])
notify.send(b"READY=1\\nSTATUS=all is well")
def hang():
    while True: pass
while True:
    if pathlib.Path("hang").exists():
        pathlib.Path("hang").unlink()
        hang()
    if pathlib.Path("trigger").exists():
        pathlib.Path("trigger").unlink()
        notify.send(b"STATUS=the index is broken\\nWATCHDOG=trigger")
    notify.send(b"WATCHDOG=1")
    time.sleep(min(0.1, int(os.environ["WATCHDOG_USEC"]) / 4e6))
"""

REPLYER = """
def on_go(args, to_send, states, config):
    return {}

connection_models = {"in": {"go": {
    "connection_type": "replyer",
    "required_creation_arguments": {"on_go": on_go},
}}}
"""

SOON = {"initial": "50ms", "max": "50ms"}


def watched(scenario: Scenario, period: str) -> None:
    command = [sys.executable, "-I", "-u", "-c", WATCHED]
    web = {
        "command": command, "watchdog": period, "ready": {"notify": True}, "backoff": SOON,
        "rlimits": {"core": 0},
    }  # fmt: skip
    scenario.services({"web": web})
    scenario.step("it comes up", orch("up", "-d", "--wait"), exits(0))


def exists(scenario: Scenario, name: str) -> list[str]:
    return ["/usr/bin/test", "-e", str(scenario.root / name)]


def touching(scenario: Scenario, name: str) -> list[str]:
    return ["/usr/bin/touch", str(scenario.root / name)]


def pass_time(scenario: Scenario, seconds: float) -> None:
    """Let time pass in which nothing may happen."""
    end = time.monotonic() + seconds
    scenario.until(lambda: time.monotonic() > end)


def test_what_fails_its_liveness_probe_is_restarted_once(scenario: Scenario) -> None:
    argv = bad("--name", "web", "--record", scenario.record_file, "--slow-stop", 0.4)
    scenario.services(
        {
            "web": {
                "command": ["/bin/sh", "-c", 'touch well; exec "$@"', "sh", *argv],
                "live": {"exec": exists(scenario, "well"), "every": "50ms"},
                "backoff": {"initial": "300ms", "jitter": 0},
            }
        }
    )
    scenario.step("it comes up", orch("up", "-d", "--wait"), exits(0))
    before = scenario.until_row("web.web", healthy=True)
    (scenario.root / "well").unlink()
    after = scenario.until_row("web.web", generation=2, phase="running", healthy=True)
    assert (after["result"], after["restarts"]) == ("liveness", 1)
    assert after["pid"] != before["pid"]
    pass_time(scenario, 0.5)
    assert scenario.recorded("start", "exit") == ["web start", "web exit", "web start"]


def test_the_exit_code_of_the_daemon_tells_a_liveness_failure(scenario: Scenario) -> None:
    scenario.services(
        {
            "web": {
                "command": bad(),
                "live": {"tcp": "127.0.0.1:9", "every": "50ms"},
                "restart": "never",
                "on_failure": "shutdown",
            }
        }
    )
    outcome = scenario.step("up ends by itself", orch("up").within(10), exits(11))
    assert "its liveness probe (tcp) failed 3 times: Connection refused" in outcome.text


def test_a_readiness_that_is_lost_restarts_nothing(scenario: Scenario) -> None:
    """Those who came stay, those who come late wait."""
    ready = {"exec": exists(scenario, "well"), "every": "50ms", "failures": 2}
    needs = {"depends_on": ["web"]}
    scenario.services(
        {
            "web": {"command": bad(), "ready": ready},
            "early": {"command": bad(), **needs},
            "late": {"command": bad(), **needs},
        }
    )
    (scenario.root / "well").touch()
    scenario.step("they come up", orch("up", "-d", "--wait"), exits(0))
    scenario.step("one is stopped", orch("stop", "late"), exits(0))
    before = scenario.ps()
    (scenario.root / "well").unlink()
    lost = scenario.until_row("web.web", ready=False)
    assert (lost["phase"], lost["healthy"]) == ("running", None)
    assert lost["why"] == "not ready: exit 1"
    late = scenario.start("start", "late")
    scenario.until_row("late.late", phase="waiting")
    (scenario.root / "well").touch()
    scenario.until_row("late.late", phase="running")
    assert late.wait(5).code == 0
    for name in ("web.web", "early.early"):
        assert scenario.row(name)["pid"] == before[name]["pid"]
        assert scenario.row(name)["restarts"] == 0


def test_one_that_comes_while_its_dependency_flaps_waits_for_it(scenario: Scenario) -> None:
    """An `up` that brings a new dependent: it is neither skipped nor started too early."""
    ready = {"exec": exists(scenario, "well"), "every": "50ms"}
    db = {"command": bad(), "ready": {**ready, "failures": 1}}
    argv = bad("--name", "late", "--record", scenario.record_file)
    late = {"command": argv, "depends_on": ["db"]}
    (scenario.root / "well").touch()
    scenario.services({"db": db})
    scenario.step("it comes up", orch("up", "-d", "--wait"), exits(0))
    pid = scenario.row("db.db")["pid"]
    (scenario.root / "well").unlink()
    scenario.until_row("db.db", ready=False)
    scenario.services(
        {"db": db, "late": late, "later": {"command": bad(), "depends_on": ["late"]}}
    )
    up = scenario.start("up", "-d", "--wait")
    waiting = scenario.until_row("late.late", phase="waiting")
    assert "db.db (ready)" in waiting["why"]
    pass_time(scenario, 1.0)
    assert scenario.row("late.late")["phase"] == "waiting"
    assert scenario.recorded("start") == []
    (scenario.root / "well").touch()
    assert up.wait().code == 0
    rows = scenario.ps()
    assert {name: one["phase"] for name, one in rows.items()} == dict.fromkeys(rows, "running")
    assert scenario.recorded("start") == ["late start"]
    assert (rows["db.db"]["pid"], rows["db.db"]["restarts"]) == (pid, 0)


def test_a_slow_start_is_held_back_until_it_is_over(scenario: Scenario) -> None:
    scenario.services(
        {
            "web": {
                "command": bad(),
                "startup": {"exec": exists(scenario, "started"), "every": "50ms"},
                "ready": {"exec": touching(scenario, "asked-ready")},
                "live": {"exec": touching(scenario, "asked-live")},
            }
        }
    )
    scenario.step("it is started", orch("up", "-d"))
    found = scenario.until_row("web.web", phase="starting", ready=False)
    pass_time(scenario, 0.4)
    found = scenario.row("web.web")
    assert found["why"].startswith("waiting for the end of its start (exec)")
    assert found["why"].endswith("; exit 1")
    assert not list(scenario.root.glob("asked-*"))
    (scenario.root / "started").touch()
    scenario.until_row("web.web", phase="running", ready=True, healthy=True)
    assert len(list(scenario.root.glob("asked-*"))) == 2


def test_the_last_words_of_a_failing_probe_are_shown(scenario: Scenario) -> None:
    """While it is waited for, when it is late, when readiness is lost, and no secret."""
    said = scenario.write("the index is not loaded yet\n", "said")
    script = f"test -e {said} || exit 0; cat {said} >&2; exit 2"
    scenario.write("KEY: s3cret-word\n", "settings.yaml")
    scenario.services(
        {
            "web": {
                "command": bad(),
                "environment": {"KEY": "${settings.KEY}"},
                "ready": {"exec": ["sh", "-c", script], "every": "50ms"},
                "start_timeout": "2s",
                "restart": "never",
            }
        },
        settings={"KEY": {"required": True, "secret": True}},
    )
    up = scenario.start("up", "-d", "--wait")
    scenario.until(
        lambda: (scenario.ps().get("web.web", {}).get("why") or "").endswith(
            "; exit 2: the index is not loaded yet"
        )
    )
    outcome = up.wait()
    exits(1)(scenario, outcome)
    assert "exit 2: the index is not loaded yet" in outcome.text
    told = scenario.step("so does explain", orch("explain", "web"), exits(0))
    assert "exit 2: the index is not loaded yet" in told.out
    said.unlink()
    scenario.step("now it comes up", orch("start", "web"), exits(0))
    said.write_text("the key is s3cret-word", encoding="utf-8")
    lost = scenario.until_row("web.web", ready=False, phase="running")
    assert lost["why"] == "not ready: exit 2: the key is ***"
    log = (scenario.base / "logging" / "orch.log").read_text(encoding="utf-8")
    assert "web.web is not ready any more: exit 2: the key is ***" in log


def test_a_start_that_never_ends_is_bounded(scenario: Scenario) -> None:
    scenario.services(
        {
            "web": {
                "command": bad(),
                "startup": {"tcp": "127.0.0.1:9"},
                "live": {"tcp": "127.0.0.1:9"},
                "start_timeout": "300ms",
                "restart": "never",
            }
        }
    )
    scenario.step("it fails", orch("up", "-d", "--wait").within(10), exits(1))
    assert scenario.row("web.web")["result"] == "timeout-start"


@pytest.mark.parametrize("how", ["busy", "stopped"])
def test_a_missed_watchdog_aborts_and_restarts(scenario: Scenario, how: str) -> None:
    watched(scenario, "500ms")
    pass_time(scenario, 1.2)
    before = scenario.row("web.web")
    assert (before["generation"], before["why"]) == (1, "all is well")
    if how == "busy":
        (scenario.root / "hang").touch()
    else:
        os.kill(before["pid"], signal.SIGSTOP)
    after = scenario.until_row("web.web", generation=2, phase="running")
    assert (after["result"], after["signal"], after["restarts"]) == (
        "watchdog", signal.SIGABRT, 1,
    )  # fmt: skip
    trace = scenario.log("web.web", "err").decode()
    assert "Fatal Python error: Aborted" in trace
    assert ("in hang" in trace) == (how == "busy")


def test_a_process_may_ask_to_be_aborted_and_say_why(scenario: Scenario) -> None:
    watched(scenario, "60s")
    (scenario.root / "trigger").touch()
    after = scenario.until_row("web.web", generation=2, phase="running")
    assert after["result"] == "watchdog"
    said = (scenario.base / "logging" / "orch.log").read_text()
    assert "it sent WATCHDOG=trigger (the index is broken)" in said


def test_a_new_daemon_goes_on_with_the_watchdog(scenario: Scenario) -> None:
    watched(scenario, "500ms")
    before, daemon = scenario.row("web.web"), scenario.daemon()
    os.kill(daemon["pid"], signal.SIGKILL)
    scenario.until(lambda: scenario.ps() and scenario.daemon()["pid"] != daemon["pid"])
    pass_time(scenario, 0.8)
    assert scenario.row("web.web")["pid"] == before["pid"]
    (scenario.root / "hang").touch()
    after = scenario.until_row("web.web", generation=2, phase="running")
    assert after["result"] == "watchdog"


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_handler_that_serves_feeds_its_watchdog_itself(
    scenario: Scenario, *, asynchronous: bool
) -> None:
    code = REPLYER.replace("def on_go", "async def on_go") if asynchronous else REPLYER
    scenario.write(code, "web.py")
    web: dict[str, Any] = {
        "handler": "web.py", "watchdog": "500ms", "connections": {"in": {"go": "go"}},
        "backoff": SOON, "rlimits": {"core": 0},
    }  # fmt: skip
    addresses = {"go": {"address": f"ipc://{scenario.root}/go.sock", "external": True}}
    scenario.services({"web": web}, addresses=addresses, defaults={})
    scenario.step("it comes up", orch("up", "-d", "--wait"), exits(0))
    pass_time(scenario, 1.2)
    before = scenario.row("web.web")
    assert before["generation"] == 1
    os.kill(before["pid"], signal.SIGSTOP)
    after = scenario.until_row("web.web", generation=2, phase="running", ready=True)
    assert after["result"] == "watchdog"
    assert "Fatal Python error: Aborted" in scenario.log("web.web", "err").decode()


def test_a_late_probe_leaves_no_process(scenario: Scenario) -> None:
    script = f"echo $$$$ >> {scenario.root}/asked; sleep 1000 & sleep 1000"
    scenario.services(
        {
            "web": {
                "command": bad(),
                "live": {
                    "exec": ["/bin/sh", "-c", script],
                    "every": "100ms", "timeout": "100ms", "failures": 1000,
                },
            }
        }
    )  # fmt: skip
    scenario.step("it comes up", orch("up", "-d", "--wait"), exits(0))
    asked = scenario.root / "asked"
    scenario.until(lambda: asked.exists() and len(asked.read_text().split()) >= 4)
    sleeping = [each for each in scenario.processes() if "sleep" in str(each)]
    assert len(sleeping) <= 3, "only those of the probe in hand"
    assert scenario.row("web.web")["healthy"] is None
    scenario.step("it goes down", orch("down"), exits(0))
    scenario.until(lambda: not scenario.processes())


def test_a_new_daemon_ends_the_probes_of_the_old_and_looks_itself(scenario: Scenario) -> None:
    script = (
        f"echo $$$$ >> {scenario.root}/asked; test ! -e {scenario.root}/quick || exit 0; sleep 99"
    )
    live = {"exec": ["/bin/sh", "-c", script], "timeout": "60s", "every": "200ms"}
    scenario.services({"web": {"command": bad(), "live": live}})
    scenario.step("it comes up", orch("up", "-d", "--wait"), exits(0))
    asked = scenario.root / "asked"
    scenario.until(lambda: asked.exists() and asked.read_text().endswith("\n"))
    old = int(asked.read_text())
    before, daemon = scenario.row("web.web"), scenario.daemon()
    (scenario.root / "quick").touch()
    os.kill(daemon["pid"], signal.SIGKILL)
    after = scenario.until_row("web.web", healthy=True)
    assert after["pid"] == before["pid"]
    scenario.until(lambda: not processes.is_alive(old))
