"""Output: every byte is in the log, however the program ends, and nobody stands in the way."""

import functools
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
