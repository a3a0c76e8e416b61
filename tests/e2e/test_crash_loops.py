"""One that fails again and again: waited for longer each time, in sight of all, and given up."""

import itertools
import os
import signal
import time

from tests.e2e.scenario import Scenario, bad, exits, orch, row, says


def pauses(scenario: Scenario) -> list[float]:
    """Return how long each restart came after the end before it."""
    told = [each for each in scenario.events() if each["event"] in ("start", "exit")]
    return [
        after["time"] - before["time"]
        for before, after in itertools.pairwise(told)
        if (before["event"], after["event"]) == ("exit", "start")
    ]


def test_the_pauses_grow_are_shown_and_end_until_somebody_asks(scenario: Scenario) -> None:
    mended = scenario.root / "mended"
    argv = bad("--silent", "--name", "web", "--record", scenario.record_file)
    script = f'test -e {mended} && exec sleep 1000; exec "$@" --exit-after 0 --exit-code 7'
    backoff = {"initial": "300ms", "factor": 2, "max": "1s", "jitter": 0.1}
    web = {"command": ["sh", "-c", script, "sh", *argv], "backoff": backoff}
    scenario.services({"web": web | {"limit": {"failures": 5}}})
    scenario.step("it is started", orch("up", "-d"))
    waiting = scenario.until_row("web.web", phase="backoff", failures=3)
    assert "exit 7; restart 3/5, next in " in waiting["why"]
    assert 0 <= waiting["next_start_in"] <= 1.1
    found = scenario.until_row("web.web", phase="failed", result="start-limit", pid=None)
    assert (found["exit_code"], found["restarts"], found["generation"]) == (7, 4, 5)
    assert found["next_start_in"] is None
    told = pauses(scenario)
    # A pause ends when it is over, and no earlier; later by what a busy machine takes.
    for pause, due in zip(told, (0.3, 0.6, 1, 1), strict=True):
        assert 0.9 * due <= pause < 5, told
    mended.touch()
    scenario.step("explain tells", orch("explain", "web"), says("5 failures in a row"))
    scenario.step("a reset forgets", orch("reset", "web"), exits(0), row("web.web", failures=0))
    assert scenario.row("web.web")["phase"] == "stopped"
    scenario.step("a start tries again", orch("start", "web"), exits(0))
    scenario.until_row("web.web", phase="running", generation=6, why=None)


def test_a_healthy_life_begins_the_count_anew(scenario: Scenario) -> None:
    """And the restart after it is immediate, while an early end has to wait."""
    argv = bad("--name", "web", "--record", scenario.record_file)
    backoff = {"initial": "2s", "factor": 1, "jitter": 0, "reset_after": "3s"}
    scenario.services({"web": {"command": argv, "backoff": backoff, "limit": {"failures": 2}}})
    scenario.step("it comes up", orch("up", "-d", "--wait"), exits(0))

    def dies() -> None:
        os.kill(scenario.row("web.web")["pid"], signal.SIGKILL)

    def has_lived() -> bool:
        return time.monotonic() > float(scenario.events()[-1]["time"]) + 3.1

    scenario.until_logged("web.web")
    dies()
    scenario.until_row("web.web", phase="backoff", failures=1)
    for life in (2, 3):
        scenario.until_logged("web.web", times=life)
        scenario.until(has_lived)
        dies()
        # Each lived long enough: such ends are no failures in a row, nor do they wait.
        found = scenario.until_row("web.web", phase="running", generation=life + 1)
        assert (found["failures"], found["restarts"]) == (1, life)
    starts = [each["time"] for each in scenario.events() if each["event"] == "start"]
    assert starts[1] - starts[0] >= 2
    dies()
    scenario.until_row("web.web", phase="failed", failures=2, result="start-limit")
