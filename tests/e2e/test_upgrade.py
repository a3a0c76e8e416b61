"""`orch upgrade`: the daemon becomes other code, and nothing else changes."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from pathlib import Path

from tests.e2e import processes
from tests.e2e.scenario import Scenario, bad, exits, no_traceback, orch, says, silent_about

HERE = Path(__file__).parents[2]
TIMES = 4


def own_code(scenario: Scenario) -> Path:
    """Give the world a copy of the code, which may change; return the package."""
    package = scenario.root / "code" / "orchestrator"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(HERE / "orchestrator", package, ignore=ignored)
    shutil.copytree(HERE / "schemas", scenario.root / "code" / "schemas")
    scenario.environment["PYTHONPATH"] = str(package.parent)
    scenario.environment["PYTHONDONTWRITEBYTECODE"] = "1"
    return package


def replace(path: Path, old: str, new: str) -> None:
    """Change a file of the code."""
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_under_load_nothing_is_restarted_and_no_line_exit_or_client_is_lost(
    scenario: Scenario,
) -> None:
    """Writers, crashes and clients at work through one upgrade after another."""
    enough = scenario.root / "enough"
    record = ("--record", scenario.record_file)
    crash = {"restart": "always", "backoff": {"initial": "10ms", "max": "10ms"}}
    scenario.services(
        {
            "writer": {
                "command": bad("--rate", 20_000, "--until", enough),
                "replicas": 2,
                "restart": "never",
            },
            "moody": {
                "command": bad("--name", "moody", *record, "--exit-after", 0.05),
                "limit": {"failures": 0},
                **crash,
            },
            "steady": {"command": bad("--name", "steady", *record), "ready": {"log": "ready"}},
        }
    )
    scenario.step("all come up", orch("up", "-d"), exits(0))
    scenario.until_row("steady.steady", ready=True)
    before, facts = scenario.ps(), scenario.daemon()
    follower = scenario.start("logs", "-f", "--no-prefix", "-n", "all", "writer.writer@1")
    waiting = scenario.start("wait", "writer", "--for", "exit", "--timeout", "60s")
    attached = scenario.start("up", "steady")

    for _ in range(TIMES):
        upgrading = [scenario.start("upgrade"), *(scenario.start("ps") for _ in range(4))]
        restarting = scenario.start("restart", "steady")
        assert [each.wait().code for each in upgrading] == [0] * len(upgrading)
        assert restarting.wait().code == 0

    after = scenario.ps()
    assert scenario.daemon()["pid"] == facts["pid"]
    assert scenario.daemon()["keeper_pid"] == facts["keeper_pid"]
    for name in ("writer.writer@1", "writer.writer@2"):
        assert [after[name][key] for key in ("pid", "generation", "phase")] == [
            before[name][key] for key in ("pid", "generation", "phase")
        ]
    assert after["steady.steady"]["generation"] == before["steady.steady"]["generation"] + TIMES
    assert after["moody.moody"]["restarts"] > before["moody.moody"]["restarts"]

    assert attached.process.poll() is None
    attached.interrupt()
    assert attached.wait().code == 130
    enough.touch()
    assert waiting.wait().code == 0
    last = scenario.until_logged("writer.writer@1", "last ").decode().rpartition("last ")[2]
    scenario.until(lambda: follower.out_has(f"last {last}"), saying="the follower saw the end")
    for text in (follower.out, scenario.log("writer.writer@1").decode()):
        numbers = [int(found) for found in re.findall(r"^line (\d{8})$", text, re.MULTILINE)]
        assert numbers == list(range(int(last) + 1))

    scenario.step("the moody is stopped", orch("stop", "moody"), exits(0))
    row = scenario.row("moody.moody")
    assert row["generation"] - row["restarts"] in (0, 1)  # or it was stopped in a backoff
    starts = scenario.recorded("start")
    assert starts.count("steady start") == 1 + TIMES
    # The stop may have come before the last one could say anything.
    assert row["generation"] - starts.count("moody start") in (0, 1)


def test_the_new_code_is_the_one_on_disk(scenario: Scenario) -> None:
    package = own_code(scenario)
    scenario.services({"web": {"command": bad()}})
    scenario.step("it comes up", orch("up", "-d", "--wait"), exits(0))
    pid, facts = scenario.row("web.web")["pid"], scenario.daemon()
    replace(package / "__init__.py", f'"{facts["version"]}"', '"9.9.9"')
    scenario.step(
        "the code changes",
        orch("upgrade"),
        exits(0),
        says(f"from {facts['version']} to 9.9.9", f"pid {facts['pid']} as before"),
        silent_about("keeper"),
    )
    assert scenario.daemon()["version"] == "9.9.9"
    assert scenario.row("web.web")["pid"] == pid

    replace(package / "keeper.py", "STARTS_WITHOUT_READY = 3", "STARTS_WITHOUT_READY = 4")
    scenario.step("the keeper's too", orch("upgrade"), exits(0), says("keeper", "goes on"))
    told = scenario.step("as data", orch("upgrade", "--json"), exits(0)).json()
    assert told == {
        "before": "9.9.9",
        "now": "9.9.9",
        "pid": facts["pid"],
        "instances": 1,
        "keeper_pid": facts["keeper_pid"],
        "keeper_is_current": False,
    }
    os.kill(facts["pid"], signal.SIGKILL)
    scenario.until(lambda: not processes.is_alive(facts["pid"]))
    row = scenario.until_row("web.web", phase="running")
    assert row["pid"] == pid


def test_code_that_does_not_start_leaves_the_daemon_as_it_was(scenario: Scenario) -> None:
    package = own_code(scenario)
    scenario.services({"web": {"command": bad()}})
    scenario.step("it comes up", orch("up", "-d", "--wait"), exits(0))
    before, facts = scenario.ps(), scenario.daemon()
    health = package / "daemon" / "health.py"
    whole = health.read_text(encoding="utf-8")
    health.write_text("this is no Python\n", encoding="utf-8")
    scenario.step(
        "a slip",
        orch("upgrade"),
        exits(1),
        says("does not start", "SyntaxError", "goes on as it was"),
        no_traceback,
    )
    health.write_text(whole, encoding="utf-8")
    replace(package / "daemon" / "journal.py", 'FORMAT = "', 'FORMAT = "0.')
    scenario.step("another journal", orch("upgrade"), exits(1), says("the journal has format"))
    assert scenario.daemon() == facts
    assert scenario.ps() == before
    assert not list(scenario.runtime.rglob("upgrade.*"))


def test_a_death_of_the_new_code_is_like_any_other(scenario: Scenario) -> None:
    """It passes the trial and fails in earnest: the keeper starts the daemon as ever."""
    package = own_code(scenario)
    scenario.services({"web": {"command": bad()}})
    scenario.step("it comes up", orch("up", "-d", "--wait"), exits(0))
    before, facts = scenario.row("web.web"), scenario.daemon()
    resume = "def resume(number: int) -> int:\n"
    replace(package / "daemon" / "main.py", resume, f"{resume}    1 / 0\n")
    scenario.step("it breaks", orch("upgrade"), exits(69), no_traceback)
    row = scenario.until_row("web.web", phase="running")
    assert row["pid"] == before["pid"]
    assert scenario.daemon()["pid"] != facts["pid"]


def test_a_stop_goes_on_where_it_was(scenario: Scenario) -> None:
    """Also after a death that nobody announced; its signal and its command come once."""
    trigger, done = scenario.root / "now", scenario.root / "done"
    record = ("--record", scenario.record_file)
    patient = [{"signal": "INT", "wait": "60s"}, {"signal": "QUIT", "wait": "60s"}]
    notes = ("--note", "INT", "--note", "QUIT", "--until", trigger)
    bye = bad("--name", "bye", *record, "--silent", "--until", done, "--exit-after", 0)
    scenario.services(
        {
            "web": {"command": bad("--name", "web", *record, *notes), "stop": patient},
            "db": {
                "command": bad("--name", "db", *record, *notes),
                "stop": {"signal": "INT", "timeout": "60s", "command": bye},
            },
        }
    )
    scenario.step("they come up", orch("up", "-d", "--wait"), exits(0))
    for name in ("web.web", "db.db"):
        scenario.until_logged(name)
    stop = scenario.start("stop", "--all")
    scenario.until(
        lambda: scenario.recorded("SIGINT") and "bye start" in scenario.recorded("start")
    )
    scenario.step("meanwhile", orch("upgrade"), exits(0))
    pid = scenario.daemon()["pid"]
    os.kill(pid, signal.SIGKILL)
    scenario.until(lambda: not processes.is_alive(pid))
    scenario.until_row("web.web", phase="stopping")
    assert scenario.recorded("SIGINT", "SIGQUIT") == ["web SIGINT"]
    done.touch()
    scenario.until(lambda: "db SIGINT" in scenario.recorded("SIGINT"))
    trigger.touch()
    for name in ("web.web", "db.db"):
        scenario.until_row(name, phase="stopped", result="requested", exit_code=0)
    stop.wait()
    assert sorted(scenario.recorded("SIGINT", "SIGQUIT")) == ["db SIGINT", "web SIGINT"]
    assert scenario.recorded("start").count("bye start") == 1


def test_nobody_to_upgrade(scenario: Scenario) -> None:
    scenario.services({"web": {"command": bad()}})
    scenario.step("nobody runs", orch("upgrade"), exits(69), says("up -d"))


def test_readiness_by_descriptor_is_still_awaited_after_an_upgrade(scenario: Scenario) -> None:
    """The pipe goes to the new code: a newline that comes after it counts."""
    trigger = scenario.root / "now"
    code = f"""
import os, time
while not os.path.exists({str(trigger)!r}): time.sleep(0.01)
os.write(3, b"\\n")
time.sleep(1000)
"""
    argv = [bad()[0], "-I", "-S", "-c", code]
    scenario.services({"web": {"command": argv, "ready": {"fd": 3}, "start_timeout": "60s"}})
    scenario.step("it starts", orch("up", "-d"), exits(0))
    pid = scenario.until_row("web.web", phase="starting")["pid"]
    scenario.step("meanwhile", orch("upgrade"), exits(0))
    assert scenario.row("web.web")["phase"] == "starting"
    trigger.touch()
    assert scenario.until_row("web.web", phase="running", ready=True)["pid"] == pid
    assert json.loads(scenario.run("upgrade", "--json").out)["instances"] == 1
