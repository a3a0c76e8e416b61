"""The wall clock may be stepped: what counts seconds does not look at it."""

from __future__ import annotations

import datetime as dt

import pytest

from tests.e2e.clock import WallClock
from tests.e2e.scenario import Scenario, bad, exits, orch

HOUR = 3600.0

pytestmark = pytest.mark.e2e


def test_a_stepped_clock_restarts_nothing_and_hangs_nothing(scenario: Scenario) -> None:
    clock = WallClock(scenario)
    looping = ("--record", scenario.record_file, "--exit-after", "0", "--exit-code", "1")
    scenario.services(
        {
            "steady": {
                "command": bad(),
                "live": {"exec": ["true"], "every": "100ms", "failures": 1},
            },
            "loop": {
                "command": bad("--name", "loop", *looping),
                "backoff": {"initial": "400ms", "factor": 1, "jitter": 0},
                "limit": {"failures": 0},
            },
            "other": {"command": bad()},
        }
    )
    scenario.step("they come up", orch("up", "-d"), exits(0))
    steady = scenario.until_row("steady.steady", phase="running", healthy=True)

    def goes_on(since: int) -> None:
        scenario.until(lambda: scenario.row("loop.loop")["restarts"] >= since + 3)

    for step in (HOUR, -HOUR, 0.0):
        clock.step(step)
        goes_on(scenario.row("loop.loop")["restarts"])
        scenario.step("a restart is a restart", orch("restart", "other").within(10), exits(0))
        row = scenario.row("steady.steady")
        assert (row["pid"], row["restarts"], row["healthy"]) == (steady["pid"], 0, True)
        started = dt.datetime.fromisoformat(scenario.row("other.other")["started_at"])
        off = (started - dt.datetime.now(dt.UTC)).total_seconds()
        assert abs(off - step) < 60, "the clock was not stepped"

    times = [each["time"] for each in scenario.events()]
    kinds = [each["event"] for each in scenario.events()]
    pauses = [
        times[n + 1] - times[n]
        for n in range(len(times) - 1)
        if kinds[n : n + 2] == ["exit", "start"]
    ]
    assert len(pauses) >= 9
    assert min(pauses) >= 0.4, "a step forward shortens no wait"
    assert max(pauses) < 10, "and a step back draws none out"
