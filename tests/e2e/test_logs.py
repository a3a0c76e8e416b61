"""Output: every byte is in the log, however the program ends, and nobody stands in the way."""

import functools
import os
import signal

import pytest

from tests.e2e import badproc
from tests.e2e.scenario import Scenario, bad, exits, orch, row, says, silent_about

SIZE = 10_000_000


def test_a_last_line_without_its_end_is_kept(scenario: Scenario) -> None:
    """Acceptance 57."""
    scenario.services(
        {"work": {"command": bad("--silent", "--text", "first\\nunfinished", "--exit-after", 0)}}
    )
    scenario.step("it runs and ends", orch("up", "-d"), exits(0), row("work.work", phase="exited"))
    assert scenario.log("work.work") == b"first\nunfinished"
    scenario.step("logs shows it", orch("logs", "work"), exits(0), says("first", "unfinished"))


@pytest.mark.parametrize("end", ["exit", "KILL", "SEGV"])
def test_a_great_burst_before_the_end_is_kept_whole(scenario: Scenario, end: str) -> None:
    """Acceptance 58: ten megabytes, then an immediate exit or a deadly signal."""
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
    """Acceptance 61: by name, not by process, and nothing twice."""
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
    """Acceptance 62, and 48: numbered lines, followed while they are rotated."""
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
    scenario.services({"work": {"command": program, "logs": {"size": "16KB", "keep": 1}}})
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
    """Acceptance 63."""
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
