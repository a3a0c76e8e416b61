"""Deaths at the worst moment, one promise each."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from tests.e2e import processes
from tests.e2e.scenario import Scenario, bad, exits, orch, says
from tests.e2e.test_daemon_death import back_again, kill_daemon

pytestmark = pytest.mark.timeout(180)

SOON = {"initial": "20ms", "max": "50ms"}


def kill_both(scenario: Scenario) -> None:
    """Kill daemon and keeper, so that nobody repairs anything."""
    facts = scenario.daemon()
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for role in ("keeper_pid", "pid"):
            os.kill(facts[role], number)
    scenario.until(
        lambda: not any(processes.is_alive(facts[role]) for role in ("keeper_pid", "pid"))
    )


def locked(scenario: Scenario, name: str) -> list[object]:
    """Return switches with which a program tells of a life before it that is not gone."""
    lock = scenario.root / f"{name}.lock"
    return ["--name", name, "--record", scenario.record_file, "--lock", lock]


def starts(scenario: Scenario) -> list[tuple[str, str]]:
    """Return who was started, with generation; nobody twice, nobody beside an earlier life."""
    events = scenario.events()
    assert not [each for each in events if each["event"] == "overlap"], events
    found = [(each["name"], each["life"]) for each in events if each["event"] == "start"]
    assert len(found) == len(set(found)), found
    return found


def test_what_a_leader_left_is_found_though_keeper_and_daemon_had_died(scenario: Scenario) -> None:
    """Its children went to init, not to us: they are killed before the next life all the same."""
    trigger = scenario.root / "end"
    argv = bad(*locked(scenario, "web"), "--child", "setsid", "--until", trigger)
    scenario.services({"web": {"command": argv, "restart": "always", "backoff": SOON}})
    scenario.step("it comes up", orch("up", "-d", "--wait"), exits(0))
    pid = scenario.row("web.web")["pid"]
    [child] = [e["pid"] for e in scenario.until(scenario.events) if "child" in e["event"]]
    kill_both(scenario)
    trigger.touch()
    scenario.until(lambda: not processes.is_alive(pid))
    trigger.unlink()
    assert processes.is_alive(child)
    scenario.step("up takes over", orch("up", "-d"), exits(0))
    scenario.until_row("web.web", phase="running", generation=2)
    assert not processes.is_alive(child)
    # It is running before it has come to write down that it is.
    scenario.until(lambda: len(starts(scenario)) >= 2)
    assert len(starts(scenario)) == 2


@pytest.mark.slow
def test_a_death_at_any_moment_of_a_start_starts_nothing_twice(scenario: Scenario) -> None:
    """Also between a fork and its entry in the journal: the marker tells whose it is."""
    names = [f"web{number}" for number in range(12)]
    dice = random.Random(7)

    def declare(stamp: int) -> None:
        scenario.services(
            {
                name: {
                    "command": bad(*locked(scenario, name)),
                    "environment": {"STAMP": str(stamp)},
                    "restart": "never",
                }
                for name in names
            }
        )

    declare(0)
    scenario.step("they come up", orch("up", "-d", "--wait"), exits(0))
    for stamp in range(1, 6):
        declare(stamp)
        pid = scenario.daemon()["pid"]
        starting = scenario.start("up", "-d", "--wait")
        time.sleep(dice.random() * 0.5)  # any moment of it
        os.kill(pid, signal.SIGKILL)
        starting.wait()
        scenario.step("again, to be sure", orch("up", "-d", "--wait"), exits(0))
        rows = scenario.ps()
        assert {row["phase"] for row in rows.values()} == {"running"}
        alive = [p for p in scenario.processes() if "badproc.py" in p.command]
        assert sorted(p.pid for p in alive) == sorted(row["pid"] for row in rows.values())
        starts(scenario)


def test_a_death_in_a_backoff_keeps_the_count_and_the_time(scenario: Scenario) -> None:
    """Two of five, and the third is tried when it was due."""
    pause = {"initial": "1s", "factor": 8, "jitter": 0}
    argv = bad(*locked(scenario, "web"), "--exit-after", 0.01, "--exit-code", 9)
    scenario.services({"web": {"command": argv, "backoff": pause, "limit": {"failures": 5}}})
    scenario.step("it comes up", orch("up", "-d"), exits(0))
    before = scenario.until_row("web.web", phase="backoff", failures=2)
    after = back_again(scenario, kill_daemon(scenario))["web.web"]
    assert [after[key] for key in ("phase", "failures", "restarts", "generation")] == [
        before[key] for key in ("phase", "failures", "restarts", "generation")
    ]
    assert after["next_start_in"] <= before["next_start_in"]
    scenario.until_row("web.web", phase="backoff", failures=3)
    assert len(starts(scenario)) == 3


def test_a_death_while_one_is_stopped_by_hand_is_followed_by_one_that_goes_on(
    scenario: Scenario,
) -> None:
    """It stays stopped through the next death, until somebody starts it."""
    argv = bad(*locked(scenario, "web"), "--ignore", "TERM")
    web = {"command": argv, "stop": {"timeout": "1s"}, "restart": "always"}
    scenario.services({"web": web, "calm": {"command": bad()}})
    scenario.step("they come up", orch("up", "-d", "--wait"), exits(0))
    scenario.step("it is told to end", orch("stop", "web", "--no-wait"), exits(0))
    kill_daemon(scenario)
    scenario.until_row("web.web", phase="stopped")
    assert back_again(scenario, kill_daemon(scenario))["web.web"]["phase"] == "stopped"
    kill_both(scenario)
    scenario.step("somebody asks", orch("up", "-d", "--wait", "calm"), exits(0))
    assert scenario.row("web.web")["phase"] == "stopped"
    scenario.step("up starts it", orch("up", "-d", "--wait"), exits(0))
    scenario.until(lambda: len(starts(scenario)) == 2, saying="it has begun, for the second time")


def test_a_process_that_has_the_pid_of_a_record_is_never_signalled(scenario: Scenario) -> None:
    """The journal names a pid that belongs to somebody else by now."""
    scenario.services({"web": {"command": bad(), "restart": "always", "backoff": SOON}})
    scenario.step("it comes up", orch("up", "-d", "--wait"), exits(0))
    pid = scenario.row("web.web")["pid"]
    kill_both(scenario)
    os.kill(pid, signal.SIGKILL)
    scenario.until(lambda: not processes.is_alive(pid))
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        with contextlib.closing(sqlite3.connect(scenario.base / "journal.db")) as journal, journal:
            journal.execute("UPDATE slot SET pid=?", (stranger.pid,))
        scenario.step("up finds it gone", orch("up", "-d"), exits(0))
        scenario.until_row("web.web", phase="running", generation=2)
        scenario.step("it goes down", orch("down"), exits(0))
        assert stranger.poll() is None
        assert stranger.stdin is not None
        stranger.stdin.close()


@pytest.mark.parametrize(
    "damage", ["garbage", "cut", "older", "foreign", "gone", "a directory is there"]
)
def test_no_damage_of_the_journal_stops_a_start(scenario: Scenario, damage: str) -> None:
    """What can be saved is saved, the rest is said, and nothing runs twice."""
    path = scenario.base / "journal.db"
    scenario.services({"web": {"command": bad(*locked(scenario, "web"))}})
    scenario.step("it comes up", orch("up", "-d", "--wait"), exits(0))
    kill_both(scenario)
    with contextlib.closing(sqlite3.connect(path)) as journal:
        journal.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    match damage:
        case "garbage":
            path.write_bytes(b"\0nothing of ours" * 1000)
        case "cut":
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        case "older":
            with contextlib.closing(sqlite3.connect(path)) as journal, journal:
                journal.execute("UPDATE meta SET value='0' WHERE key='format'")
        case "foreign":
            path.unlink()
            with contextlib.closing(sqlite3.connect(path)) as journal, journal:
                journal.execute("CREATE TABLE slot (what TEXT)")
        case _:
            path.unlink()
            if damage != "gone":
                path.mkdir()
    scenario.step("it comes up again", orch("up", "-d", "--wait"), exits(0))
    starts(scenario)
    alive = [p.pid for p in scenario.processes() if "badproc.py" in p.command]
    assert alive == [scenario.row("web.web")["pid"]]
    if damage != "gone":
        assert "journal" in (scenario.base / "logging" / "orch.log").read_text()


def test_without_descriptors_a_restart_waits_and_comes(scenario: Scenario) -> None:
    scenario.services(
        {"web": {"command": bad(), "restart": "always", "backoff": SOON, "limit": {"failures": 0}}}
    )
    scenario.step("it comes up", orch("up", "-d", "--wait"), exits(0))
    daemon, pid = scenario.daemon()["pid"], scenario.row("web.web")["pid"]
    before = resource.prlimit(daemon, resource.RLIMIT_NOFILE)
    resource.prlimit(daemon, resource.RLIMIT_NOFILE, (8, before[1]))
    os.kill(pid, signal.SIGKILL)
    log = scenario.base / "logging" / "orch.log"
    scenario.until(lambda: "Too many open files" in log.read_text(), saying="it ran out of them")
    resource.prlimit(daemon, resource.RLIMIT_NOFILE, before)
    scenario.until_row("web.web", phase="running")
    assert scenario.daemon()["pid"] == daemon


def test_a_journal_that_cannot_be_written_stops_no_supervision(scenario: Scenario) -> None:
    """A full disk: an apply is refused whole, what runs goes on and is restarted."""
    sleep = {"command": ["sleep", "1000"], "restart": "always", "backoff": SOON}
    scenario.services({"web": sleep})
    scenario.step("it comes up", orch("up", "-d", "--wait"), exits(0))
    daemon, pid = scenario.daemon()["pid"], scenario.row("web.web")["pid"]
    resource.prlimit(daemon, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    scenario.services({"web": sleep, "more": sleep})
    scenario.step("more is refused", orch("up", "-d"), exits(1), says("journal"))
    scenario.step("an upgrade too", orch("upgrade"), exits(1))
    os.kill(pid, signal.SIGKILL)
    again = scenario.until_row("web.web", phase="running", generation=2)
    resource.prlimit(daemon, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    scenario.step("now it is taken", orch("up", "-d", "--wait"), exits(0))
    after = back_again(scenario, kill_daemon(scenario))
    assert after["web.web"]["pid"] == again["pid"]
    assert set(after) == {"web.web", "more.more"}


def test_a_daemon_that_does_not_listen_for_long_hears_of_all_that_became_ready(
    scenario: Scenario,
) -> None:
    """More of them than fit into the queue of its socket, and for longer than they wait."""
    trigger = scenario.root / "go"
    (scenario.root / "late.py").write_text(
        "import pathlib, time\n"
        "def init_function(to_send, states, config):\n"
        f"    while not pathlib.Path({str(trigger)!r}).exists():\n"
        "        time.sleep(0.01)\n",
        encoding="utf-8",
    )
    names = [f"late{number:02}" for number in range(20)]
    scenario.services({name: {"handler": "late.py", "watch": False} for name in names})
    scenario.step("they begin", orch("up", "-d"), exits(0))
    scenario.until(lambda: {row["phase"] for row in scenario.ps().values()} == {"starting"})
    pid = scenario.daemon()["pid"]
    os.kill(pid, signal.SIGSTOP)
    trigger.touch()
    logs = scenario.root / ".orch" / "logging"
    scenario.until(
        lambda: any("has not heard yet" in path.read_text() for path in logs.glob("late*.err"))
    )
    os.kill(pid, signal.SIGCONT)
    for name in names:
        scenario.until_row(f"{name}.{name}", ready=True, generation=1, restarts=0)
