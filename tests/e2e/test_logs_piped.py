"""Piped logs: each line is dated as it is read, and whoever dies, none is lost."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import signal
import subprocess
import sys
from datetime import datetime

import pytest

from tests.e2e import badproc, processes
from tests.e2e.scenario import Scenario, bad, exits, orch, row, says
from tests.e2e.test_logs import fill, numbers, segments

PIPED = {"mode": "piped"}
TIME = re.compile(r"^(\S+Z) (.*)$", re.MULTILINE)
SIZE = 10_000_000


def reader(scenario: Scenario) -> int:
    """Return the pid of the reader, 0 while nobody has the pipes."""
    for lock in scenario.runtime.rglob("pipes.lock"):
        pid = int((lock.read_text().split() or ["0"])[0])
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, 0)
            return pid
    return 0


def written(scenario: Scenario, name: str) -> int:
    """Return how many lines the log of an instance has."""
    return scenario.log(name).count(b"\n")


def goes_on(scenario: Scenario, name: str) -> None:
    """Wait until more has been written."""
    before = written(scenario, name)
    scenario.until(lambda: written(scenario, name) > before + 100, saying="it goes on")


@pytest.mark.parametrize("victim", ["reader", "daemon", "keeper", "everybody"])
def test_numbered_lines_outlive_every_death(scenario: Scenario, victim: str) -> None:
    """Each number once, in order, and the writer never notices."""
    enough = scenario.root / "enough"
    program = bad("--silent", "--rate", 20_000, "--until", enough)
    scenario.services({"work": {"command": program, "logs": PIPED, "restart": "never"}})
    scenario.step("it comes up", orch("up", "-d"), exits(0))
    goes_on(scenario, "work.work")
    pid = scenario.row("work.work")["pid"]
    for _ in range(3):
        facts = scenario.daemon()
        pids = {"reader": reader(scenario), "daemon": facts["pid"], "keeper": facts["keeper_pid"]}
        for each in pids.values() if victim == "everybody" else [pids[victim]]:
            os.kill(each, signal.SIGKILL)
        if victim == "everybody":
            scenario.until(lambda: not processes.is_alive(facts["keeper_pid"]))  # noqa: B023
            scenario.step("up takes over", orch("up", "-d", "--wait"), exits(0))
        scenario.until(scenario.ps, saying="a daemon answers")
        assert scenario.row("work.work")["pid"] == pid
        scenario.until(lambda: reader(scenario) != 0, saying="somebody reads")
        goes_on(scenario, "work.work")
    enough.touch()
    scenario.until_row("work.work", phase="exited", result="success")
    log = scenario.log("work.work").decode()
    assert numbers(log) == list(range(int(log.split()[-1]) + 1))
    shown = scenario.step("logs", orch("logs", "-n", "all", "--no-prefix"), exits(0)).out
    assert shown == log


def test_what_a_writer_said_last_outlives_it_and_its_reader(scenario: Scenario) -> None:
    """It ends while the reader stands still, which is killed then."""
    say = scenario.root / "say"
    wait = f"while [ ! -e {say} ]; do sleep 0.05; done; echo the last; printf words"
    command = ["/bin/sh", "-c", wait]
    scenario.services({"work": {"command": command, "logs": PIPED, "restart": "never"}})
    scenario.step("it comes up", orch("up", "-d"), exits(0))
    pid = scenario.until(lambda: reader(scenario), saying="somebody reads")
    os.kill(pid, signal.SIGSTOP)
    say.touch()
    scenario.until_row("work.work", phase="exited")
    assert scenario.log("work.work") == b""
    os.kill(pid, signal.SIGKILL)
    scenario.until(lambda: scenario.log("work.work") == b"the last\nwords", saying="all is there")


@pytest.mark.parametrize("end", ["exit", "KILL"])
def test_a_great_burst_before_the_end_is_there_when_the_end_is_told(
    scenario: Scenario, end: str
) -> None:
    last = ["--exit-after", 0] if end == "exit" else ["--crash-signal", end]
    program = bad("--silent", "--burst", SIZE, *last)
    scenario.services({"work": {"command": program, "logs": PIPED, "restart": "never"}})
    scenario.step("it runs", orch("up", "-d"))
    scenario.until_row("work.work", phase="exited" if end == "exit" else "failed")
    assert scenario.log("work.work") == badproc.burst_bytes(SIZE)


def test_strange_bytes_and_endless_lines_survive(scenario: Scenario) -> None:
    code = (
        "import os; os.write(1, b'nul \\0 bad \\xff\\xfe crlf\\r\\n' + b'x' * 4_999_999 + "
        "'€'.encode() + b'\\nun'); os.write(1, b'finished')"
    )
    command = [sys.executable, "-I", "-S", "-c", code]
    scenario.services({"work": {"command": command, "logs": PIPED, "settle": "0s"}})
    scenario.step("it runs and ends", orch("up", "-d"))
    scenario.until_row("work.work", phase="exited")
    log = scenario.log("work.work")
    assert log == (
        b"nul \0 bad \xff\xfe crlf\r\n" + b"x" * 4_999_999 + "€".encode() + b"\nunfinished"
    )
    shown = scenario.step("logs shows it", orch("logs", "work"), exits(0), says("unfinished")).out
    assert shown.count("x") == 4_999_999


def test_lines_have_the_time_at_which_they_were_said(scenario: Scenario) -> None:
    """Each has its own; -t, --json, --since and the order of several go by it."""
    say = 'import time\nfor n in range(9):\n print(n, f"{time.time():.6f}", flush=True)\n'
    command = [sys.executable, "-I", "-S", "-c", say + " time.sleep(0.03)\ntime.sleep(1000)"]
    scenario.services(
        {
            "a": {"command": command, "logs": PIPED},
            "b": {"command": command, "logs": PIPED, "depends_on": ["a"]},
        }
    )
    scenario.step("they come up", orch("up", "-d", "--wait"), exits(0))
    following = scenario.start("logs", "-f", "-t", "-n", "all")
    for name in ("a.a", "b.b"):
        scenario.until_logged(name, "8 ")
    shown = scenario.step("logs", orch("logs", "-t", "--no-prefix"), exits(0)).out
    lines = [(stamp, *text.split()) for stamp, text in TIME.findall(shown)]
    assert len(lines) == 18
    for stamp, _, said in lines[9:]:  # those of `a` may have awaited the reader's own start
        late = datetime.fromisoformat(stamp).timestamp() - float(said)
        assert -0.002 < late < 1.0
    assert len({stamp for stamp, _, _ in lines[9:]}) >= 5
    assert [stamp for stamp, _, _ in lines] == sorted(stamp for stamp, _, _ in lines)
    raw = scenario.step("json", orch("logs", "--json"), exits(0)).out.splitlines()
    assert [json.loads(line)["time"] for line in raw] == [stamp for stamp, _, _ in lines]
    since = lines[12][0]
    some = scenario.step("since", orch("logs", "-t", "--no-prefix", "--since", since), exits(0))
    assert [text for _, text in TIME.findall(some.out)][-1] == " ".join(lines[-1][1:])
    assert [stamp for stamp, _ in TIME.findall(some.out)] == [
        stamp for stamp, _, _ in lines if stamp >= since
    ]
    scenario.until(lambda: following.out_has(" 8 ", times=2), saying="all is followed")
    assert sorted(re.findall(r"\S+Z \d .*", following.out)) == sorted(
        " ".join(line) for line in lines
    )
    following.interrupt()
    assert following.wait(10).code == 130


def test_restarts_and_a_follower_see_one_order(scenario: Scenario) -> None:
    scenario.services({"web": {"command": bad("--text", "begin\\n"), "logs": PIPED}})
    scenario.step("it comes up", orch("up", "-d", "--wait"), exits(0))
    following = scenario.start("logs", "-f", "--no-prefix", "web")
    for times in (2, 3):
        scenario.step("restart", orch("restart", "web"), exits(0))
        scenario.until_logged("web.web", times=times)
    assert scenario.log("web.web") == b"begin\nready\n" * 3
    scenario.until(lambda: following.out == "begin\nready\n" * 3, saying="followed")
    following.interrupt()
    assert following.wait(10).code == 130
    pid = reader(scenario)
    scenario.step("down", orch("down"), exits(0))
    assert pid
    assert not reader(scenario)


def test_rotation_and_upgrades_lose_no_line(scenario: Scenario) -> None:
    enough = scenario.root / "enough"
    program = bad("--silent", "--rate", 20_000, "--until", enough)
    rules = {**PIPED, "size": "64KB", "keep": 1000}
    scenario.services({"work": {"command": program, "logs": rules, "restart": "never"}})
    scenario.step("it comes up", orch("up", "-d"), exits(0))
    for _ in range(3):
        before, old = len(segments(scenario, "work.work")), reader(scenario)
        scenario.step("upgrade", orch("upgrade"), exits(0))
        renewed = functools.partial(lambda old: reader(scenario) not in (0, old), old)
        scenario.until(renewed, saying="new code reads the pipes")
        more = functools.partial(lambda n: len(segments(scenario, "work.work")) > n, before)
        scenario.until(more, saying="a rotation")
    enough.touch()
    scenario.until_row("work.work", phase="exited", result="success")
    shown = scenario.step("logs", orch("logs", "-n", "all", "--no-prefix"), exits(0)).out
    assert numbers(shown) == list(range(int(shown.split()[-1]) + 1))


@pytest.mark.parametrize("how", ["deleted", "moved", "emptied"])
def test_a_log_taken_away_is_made_again_at_once(scenario: Scenario, how: str) -> None:
    """Other than a program that has the file open itself."""
    say = scenario.root / "say"
    wait = f"echo before; while [ ! -e {say} ]; do sleep 0.05; done; echo after; exec sleep 1000"
    scenario.services({"web": {"command": ["/bin/sh", "-c", wait], "logs": PIPED}})
    scenario.step("it comes up", orch("up", "-d"), exits(0))
    scenario.until_logged("web.web", "before")
    log = scenario.log_path("web.web")
    if how == "moved":
        log.rename(log.with_name("taken.away"))
    elif how == "deleted":
        log.unlink()
    else:
        log.write_bytes(b"")
    say.touch()
    scenario.until(lambda: scenario.log("web.web") == b"after\n", saying="it is there again")
    scenario.step("logs", orch("logs", "-t"), exits(0), says("after"))


def test_handlers_of_the_zygote_are_piped_too(scenario: Scenario) -> None:
    code = "import time\ndef main(config):\n print('handled', flush=True)\n time.sleep(1000)\n"
    scenario.write(code, "web.py")
    scenario.services({"web": {"handler": "web.py", "mode": "main", "logs": PIPED}})
    scenario.step("it comes up", orch("up", "-d"), exits(0))
    scenario.until_logged("web.web", "handled")
    assert scenario.row("web.web")["start"] == "zygote"
    assert os.readlink(f"/proc/{scenario.row('web.web')['pid']}/fd/1").endswith("/web-web.out")  # noqa: PTH115


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_another_users_program_is_piped_too(scenario: Scenario) -> None:
    command = ["/bin/sh", "-c", "id -un; exec sleep 1000"]
    scenario.services({"web": {"command": command, "user": "nobody", "logs": PIPED}})
    scenario.step("it comes up", orch("up", "-d", "--wait"), exits(0))
    scenario.until_logged("web.web", "nobody\n")


def test_a_quiet_one_is_heard_among_fifty_chatty_ones(scenario: Scenario) -> None:
    say = scenario.root / "say"
    chatty = {
        f"chatty{number}": {"command": bad("--silent", "--rate", 50), "logs": PIPED}
        for number in range(50)
    }
    wait = f"while [ ! -e {say} ]; do sleep 0.05; done; echo here I am; exec sleep 1000"
    quiet = {"command": ["/bin/sh", "-c", wait], "logs": PIPED}
    scenario.services({**chatty, "quiet": quiet})
    scenario.step("they come up", orch("up", "-d"), exits(0))
    say.touch()
    scenario.until_logged("quiet.quiet", "here I am")
    for number in range(50):
        scenario.until_logged(f"chatty{number}.chatty{number}", "line 00000001")


def test_on_a_full_disk_the_writer_waits_and_loses_nothing(scenario: Scenario) -> None:
    """Also when others have filled it while the logs rested."""
    place, enough, say = scenario.base, scenario.root / "enough", scenario.root / "say"
    place.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", place], capture_output=True, check=False
    )
    if mount.returncode != 0:
        pytest.skip("this user may not mount a file system")
    try:
        ballast = place / "ballast"
        program = bad("--silent", "--rate", 2000, "--until", enough)
        wait = f'echo begin; while [ ! -e {say} ]; do sleep 0.05; done; exec "$0" "$@"'
        command = ["/bin/sh", "-c", wait, *program]
        scenario.services({"web": {"command": command, "logs": PIPED, "restart": "never"}})
        scenario.step("it comes up", orch("up", "-d", "--wait"), exits(0))
        scenario.until_logged("web.web", "begin")
        fill(ballast)
        say.touch()
        found = scenario.until(
            lambda: scenario.row("web.web")["warning"], saying="the row tells of it"
        )
        assert "it waits to write its log: the disk is full" in found
        ballast.unlink()
        scenario.until(lambda: not scenario.row("web.web")["warning"], saying="there is room")
        goes_on(scenario, "web.web")
        enough.touch()
        scenario.until_row("web.web", phase="exited", result="success")
        log = scenario.log("web.web").decode()
        assert numbers(log) == list(range(int(log.split()[-1]) + 1))
        scenario.step("down", orch("down"), exits(0))
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def test_who_is_piped_can_change(scenario: Scenario) -> None:
    """From a file to a pipe and back, in one order."""
    for number, rules in enumerate(({}, PIPED, {}, PIPED)):
        text = f"start {number}\\n"
        scenario.services({"web": {"command": bad("--silent", "--text", text), "logs": rules}})
        scenario.step("it comes up", orch("up", "-d", "--wait"), exits(0), row("web.web"))
        scenario.until_logged("web.web", f"start {number}")
    assert scenario.log("web.web") == b"".join(b"start %d\n" % each for each in range(4))
    scenario.step("logs", orch("logs", "-t"), exits(0), says("start 0", "start 3"))
