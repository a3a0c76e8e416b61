"""Output: every byte is in the log, however the program ends, and nobody stands in the way."""

import contextlib
import functools
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e import badproc
from tests.e2e.scenario import Scenario, bad, exits, orch, row, says, silent_about

SIZE = 10_000_000


def test_a_last_line_without_its_end_is_kept(scenario: Scenario) -> None:
    scenario.services(
        {"work": {"command": bad("--silent", "--text", "first\\nunfinished", "--exit-after", 0)}}
    )
    scenario.step("it runs and ends", orch("up", "-d"), exits(0), row("work.work", phase="exited"))
    assert scenario.log("work.work") == b"first\nunfinished"
    scenario.step("logs shows it", orch("logs", "work"), exits(0), says("first", "unfinished"))


@pytest.mark.parametrize("end", ["exit", "KILL", "SEGV"])
def test_a_great_burst_before_the_end_is_kept_whole(scenario: Scenario, end: str) -> None:
    """Ten megabytes, then an immediate exit or a deadly signal."""
    last = ["--exit-after", 0] if end == "exit" else ["--crash-signal", end]
    program = bad("--silent", "--burst", SIZE, *last)
    scenario.services({"work": {"command": program, "restart": "never"}})
    scenario.step("it runs", orch("up", "-d"))
    if end == "exit":
        scenario.until_row("work.work", phase="exited", result="success", exit_code=0)
    else:
        number = signal.Signals[f"SIG{end}"]
        found = scenario.until_row("work.work", phase="failed", signal=number)
        assert found["result"] in ("signal", "core-dump"), "as the machine handles core dumps"
    assert scenario.log("work.work") == badproc.burst_bytes(SIZE)


def test_strange_bytes_survive(scenario: Scenario) -> None:
    text = "nul \\x00 bad utf-8 \\xff\\xfe crlf\\r\\nlast"
    scenario.services({"work": {"command": bad("--silent", "--text", text, "--exit-after", 0)}})
    scenario.step("it runs and ends", orch("up", "-d"), row("work.work", phase="exited"))
    assert scenario.log("work.work") == b"nul \x00 bad utf-8 \xff\xfe crlf\r\nlast"
    scenario.step("logs copes", orch("logs", "work"), exits(0), says("nul", "last"))


def test_logs_shows_the_last_lines_of_whom_it_was_asked(scenario: Scenario) -> None:
    scenario.services(
        {
            "one": {"command": bad("--text", "one a\\none b\\none c\\n")},
            "two": {"command": bad("--text", "two a\\n")},
        }
    )
    scenario.step("they come up", orch("up", "-d", "--wait"), exits(0))
    for name in ("one.one", "two.two"):
        scenario.until_logged(name)
    scenario.step("both", orch("logs"), exits(0), says("one a", "one c", "two a"))
    scenario.step("one", orch("logs", "one"), exits(0), says("one a"), silent_about("two a"))
    scenario.step(
        "two lines",
        orch("logs", "-n", "2", "one"),
        exits(0),
        says("one c", "ready"),
        silent_about("one b"),
    )
    scenario.step("a wrong name", orch("logs", "on"), exits(1), says("did you mean", "one"))


def test_followed_logs_go_on_across_restarts(scenario: Scenario) -> None:
    """By name, not by process, and nothing twice."""
    scenario.services({"web": {"command": bad()}})
    scenario.step("it comes up", orch("up", "-d", "--wait"), exits(0))
    scenario.until_logged("web.web")
    following = scenario.start("logs", "-f", "web")
    scenario.until(lambda: following.out.count("ready") == 1, saying="what was there is shown")
    for times in (2, 3):
        scenario.step("restart", orch("restart", "web"), exits(0))
        scenario.until_logged("web.web", times=times)
        shown = functools.partial(following.out_has, "ready", times=times)
        scenario.until(shown, saying="followed")
        assert following.out.count("ready") == times
    following.interrupt()
    assert following.wait(5).code == 130


def numbers(text: str) -> list[int]:
    """Return the numbers of the numbered lines in a text, in its order."""
    return [int(line.split()[1]) for line in text.splitlines() if line.startswith("line ")]


def segments(scenario: Scenario, name: str) -> list[str]:
    """Return the names of an instance's segments."""
    log = scenario.log_path(name)
    return [path.name for path in log.parent.glob(f"{log.name}.*") if path.suffix[1:].isdigit()]


@pytest.mark.parametrize("dies", [False, True], ids=["the daemon lives", "the daemon dies"])
def test_rotation_loses_no_line_and_shows_none_twice(scenario: Scenario, dies: bool) -> None:
    """Numbered lines, followed while they are rotated."""
    enough = scenario.root / "enough"
    program = bad("--silent", "--rate", 10_000, "--until", enough)
    services = {"work": {"command": program, "logs": {"size": "16KB", "keep": 1000}}}
    scenario.services(services)
    scenario.step("it comes up", orch("up", "-d"), exits(0))
    following = scenario.start("logs", "-f", "-n", "all", "--no-prefix", "work")
    scenario.until(lambda: segments(scenario, "work.work"), saying="a first rotation")
    if dies:
        os.kill(scenario.daemon()["pid"], signal.SIGKILL)
    before = len(segments(scenario, "work.work"))
    scenario.until(
        lambda: len(segments(scenario, "work.work")) >= before + 2, saying="further rotations"
    )
    enough.touch()
    scenario.until_row("work.work", phase="exited")
    scenario.until(lambda: following.out_has("last "), saying="followed to the end")
    shown = numbers(following.out)
    assert shown == list(range(int(following.out.split()[-1]) + 1))
    whole = scenario.run("logs", "-n", "all", "--no-prefix", "work").out
    assert whole == following.out
    following.interrupt()
    assert following.wait(5).code == 130
    scenario.step("down", orch("down"), exits(0))
    offline = scenario.step("logs without a daemon", orch("logs", "-n", "all", "--no-prefix"))
    assert offline.out == whole


def test_only_so_many_segments_are_kept(scenario: Scenario) -> None:
    program = bad("--silent", "--rate", 10_000)
    # So large that the follower has begun long before its first lines are removed.
    scenario.services({"work": {"command": program, "logs": {"size": "300KB", "keep": 1}}})
    scenario.step("it comes up", orch("up", "-d"), exits(0))
    following = scenario.start("logs", "-f", "-n", "all", "--no-prefix", "work")
    first = scenario.until(lambda: segments(scenario, "work.work"), saying="a first rotation")
    scenario.until(
        lambda: segments(scenario, "work.work") not in ([], first), saying="a second rotation"
    )
    scenario.step("stop", orch("stop", "work"), exits(0))
    assert len(segments(scenario, "work.work")) == 1
    log = scenario.log_path("work.work").stat()
    assert log.st_blocks * 512 < log.st_size, "what was rotated takes no room in the log"
    kept = numbers(scenario.run("logs", "-n", "all", "--no-prefix", "work").out)
    assert kept[0] > 0
    assert kept == list(range(kept[0], kept[-1] + 1))
    shown = functools.partial(following.out_has, f"line {kept[-1]:08d}")
    scenario.until(shown, saying="the follower saw everything")
    assert numbers(following.out) == list(range(kept[-1] + 1))


def test_compressed_segments_are_read_like_others(scenario: Scenario) -> None:
    program = bad("--silent", "--rate", 10_000)
    logs = {"size": "100KB", "keep": 100, "compress": True}
    scenario.services({"work": {"command": program, "logs": logs}})
    scenario.step("it comes up", orch("up", "-d"), exits(0))
    following = scenario.start("logs", "-f", "-n", "all", "--no-prefix", "work")
    directory = scenario.base / "logging"
    scenario.until(lambda: len(list(directory.glob("*.gz"))) >= 3, within=60)
    scenario.step("stop", orch("stop", "work"), exits(0))
    shown = numbers(scenario.run("logs", "-n", "all", "--no-prefix", "work").out)
    assert shown == list(range(len(shown)))
    scenario.until(lambda: following.out_has(f"line {shown[-1]:08d}"))
    assert numbers(following.out) == shown


def test_lines_are_dated_and_merged_in_the_order_of_time(scenario: Scenario) -> None:
    go = scenario.root / "go"
    scenario.services(
        {
            "one": {"command": bad("--text", "one begins\\n", "--rate", 1, "--until", go)},
            "two": {"command": bad("--text", "two begins\\n")},
        }
    )
    scenario.step("they come up", orch("up", "-d", "--wait"), exits(0))
    scenario.until_logged("two.two")
    index = scenario.log_path("two.two").parent / ".times" / "two-two.out"
    scenario.until(index.exists, saying="its lines are dated")
    begin = scenario.until_logged("one.one", "line").count(b"line")
    go.touch()
    scenario.until_row("one.one", phase="exited")
    assert begin
    out = scenario.step("both, with times", orch("logs", "-t"), exits(0)).out
    lines = [line.split(" | ")[1].split(" ", 1) for line in out.splitlines()]
    assert lines == sorted(lines, key=lambda line: line[0])
    assert lines[-1][1].startswith("last")
    scenario.step("what is so new", orch("logs", "--since", lines[-1][0]), says("last"))
    scenario.step(
        "what is older", orch("logs", "--until", lines[0][0]), says("begins"), silent_about("last")
    )


def test_the_foreground_keeps_the_two_outputs_apart(scenario: Scenario) -> None:
    command = ["/bin/sh", "-c", "echo to-the-out; echo to-the-err >&2; exec sleep 1000"]
    scenario.services({"web": {"command": command}})
    up = scenario.start("up")
    scenario.until(
        lambda: "to-the-out" in up.out and "to-the-err" in up.err, saying="both are shown"
    )
    assert "to-the-err" not in up.out
    assert "to-the-out" not in up.err
    up.interrupt()
    assert up.wait(10).code == 130


def test_a_line_of_five_megabytes_is_kept_and_shown_in_marked_pieces(scenario: Scenario) -> None:
    code = "import os; os.write(1, b'x' * 4_999_999 + '€'.encode() + b'\\n' + b'after\\n')"
    command = [sys.executable, "-I", "-S", "-c", code]
    scenario.services({"work": {"command": command, "settle": "0s"}})
    scenario.step("it runs and ends", orch("up", "-d"))
    scenario.until_row("work.work", phase="exited")
    assert scenario.log("work.work") == b"x" * 4_999_999 + "€".encode() + b"\nafter\n"
    shown = scenario.step("logs shows it", orch("logs", "work"), exits(0), says("after")).out
    assert shown.count("x") == 4_999_999
    assert shown.count("€") == 1


def test_a_quiet_component_is_heard_among_fifty_chatty_ones(scenario: Scenario) -> None:
    say = scenario.root / "say"
    chatty = {
        f"chatty{number}": {"command": bad("--silent", "--rate", 50)} for number in range(50)
    }
    wait = f"while [ ! -e {say} ]; do sleep 0.05; done; echo here I am; exec sleep 1000"
    quiet = {"command": ["/bin/sh", "-c", wait]}
    scenario.services({**chatty, "quiet": quiet})
    scenario.step("they come up", orch("up", "-d"), exits(0))
    following = scenario.start("logs", "-f", "-n", "1")
    scenario.until(lambda: following.out_has("chatty49", times=2), saying="all are followed")
    say.touch()
    scenario.until(lambda: following.out_has("here I am"), saying="the quiet one is heard")
    scenario.step("ps answers meanwhile", orch("ps"), exits(0), says("quiet"))
    following.interrupt()
    assert following.wait(10).code == 130


@pytest.mark.parametrize("how", ["deleted", "moved"])
def test_a_log_taken_away_is_made_again_at_the_next_start(scenario: Scenario, how: str) -> None:
    """A writer keeps the file it has; the next one gets a new one, and is read."""
    scenario.services({"web": {"command": bad("--text", "from the first\\n")}})
    scenario.step("it comes up", orch("up", "-d", "--wait"), exits(0))
    scenario.until_logged("web.web", "from the first")
    following = scenario.start("logs", "-f", "web")
    scenario.until(lambda: following.out_has("from the first"), saying="what was there is shown")
    log = scenario.log_path("web.web")
    if how == "moved":
        log.rename(log.with_name("taken.away"))
    else:
        log.unlink()
    scenario.step("restart", orch("restart", "web"), exits(0))
    scenario.until_logged("web.web", "ready")
    scenario.until(
        lambda: following.out_has("from the first", times=2), saying="the new file is followed"
    )
    following.interrupt()
    assert following.wait(10).code == 130


def test_logs_flow_while_the_foreground_stops_one_after_the_other(scenario: Scenario) -> None:
    """What a stop prints is shown, and the others go on meanwhile."""
    slow = "trap 'echo stopping now; sleep 1; echo stopped now; exit 0' TERM; echo ready; "
    slow += "while :; do sleep 0.05; done"
    scenario.services(
        {
            "slow": {"command": ["/bin/sh", "-c", slow], "depends_on": ["steady"]},
            "steady": {"command": bad("--silent", "--rate", 50)},
        }
    )
    up = scenario.start("up")
    scenario.until(lambda: "ready" in up.out and "line" in up.out, saying="both are shown")
    up.interrupt()
    outcome = up.wait(20)
    assert outcome.code == 130
    lines = outcome.out.splitlines()
    first = next(number for number, line in enumerate(lines) if "stopping now" in line)
    last = next(number for number, line in enumerate(lines) if "stopped now" in line)
    assert any("steady" in line for line in lines[first:last])


def test_what_a_stop_command_says_is_shown_while_the_foreground_stops(scenario: Scenario) -> None:
    bye = ["/bin/sh", "-c", "echo the command says bye; echo and complains >&2"]
    scenario.services(
        {"web": {"command": bad(), "stop": {"command": bye}}, "other": {"command": bad()}}
    )
    up = scenario.start("up")
    scenario.until(lambda: up.out.count("ready") == 2, saying="both are shown")
    up.interrupt()
    outcome = up.wait(20)
    exits(130)(scenario, outcome)
    assert re.search(r"web\.web .*the command says bye\n", outcome.out), outcome
    assert re.search(r"web\.web .*and complains\n", outcome.err), outcome


def test_a_stalled_reader_slows_nobody_and_misses_nothing(scenario: Scenario) -> None:
    """A reader reads the files itself, so nobody holds anything for it."""
    program = bad("--silent", "--until", scenario.root / "go", "--exit-after", 0)
    wait = f"while [ ! -e {scenario.root}/go ]; do sleep 0.05; done; "
    go = ["/bin/sh", "-c", wait + 'exec "$0" "$@"']
    burst = bad("--silent", "--burst", SIZE, "--exit-after", 0)
    scenario.services({"work": {"command": [*go, *burst]}, "other": {"command": program}})
    scenario.step("they come up", orch("up", "-d"), exits(0))
    following = scenario.start("logs", "-f", "-n", "all", "--no-prefix", "work")
    before = memory(scenario.daemon()["pid"])
    os.killpg(following.process.pid, signal.SIGSTOP)
    (scenario.root / "go").touch()
    scenario.until_row("work.work", phase="exited")
    scenario.until_row("other.other", phase="exited")
    assert scenario.log("work.work") == badproc.burst_bytes(SIZE)
    assert memory(scenario.daemon()["pid"]) < before + 10_000
    os.killpg(following.process.pid, signal.SIGCONT)
    scenario.until(lambda: len(following.out) >= SIZE, saying="the reader catches up")
    assert following.out.encode() == badproc.burst_bytes(SIZE)
    following.interrupt()
    assert following.wait(10).code == 130


def test_a_full_disk_stops_nobody_and_is_told_until_there_is_room(scenario: Scenario) -> None:
    place = scenario.base
    place.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", place], capture_output=True, check=False
    )
    if mount.returncode != 0:
        pytest.skip("this user may not mount a file system")
    try:
        ballast = place / "ballast"
        talk = "while :; do head -c 20000 /dev/zero | tr '\\0' x; echo; sleep 0.05; done"
        command = ["/bin/sh", "-c", talk]
        rules = {"size": "500KB", "keep": 1}
        scenario.services({"web": {"command": command, "logs": rules}})
        scenario.step("it comes up", orch("up", "-d"), exits(0))
        pid = scenario.row("web.web")["pid"]
        fill(ballast)
        found = scenario.until(
            lambda: scenario.row("web.web")["warning"], saying="the row tells of it"
        )
        assert "the disk is full" in found
        scenario.step("status tells it", orch("status"), exits(0), says("the disk was full 1"))
        ballast.unlink()
        scenario.until(lambda: not scenario.row("web.web")["warning"], saying="there is room")
        size = scenario.log_path("web.web").stat().st_size
        scenario.until(
            lambda: scenario.log_path("web.web").stat().st_size > size, saying="the log goes on"
        )
        found = scenario.row("web.web")
        assert (found["pid"], found["restarts"]) == (pid, 0)
        scenario.step("down", orch("down"), exits(0))
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def fill(path: Path) -> None:
    """Fill the rest of a file system."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def memory(pid: int) -> int:
    """Return the resident memory of a process in KiB."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(status.split("VmRSS:")[1].split()[0])
