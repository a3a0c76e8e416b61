"""What runs by the clock."""

import pytest

from tests.e2e.clock import WallClock
from tests.e2e.scenario import Scenario, exits, orch, says

pytestmark = pytest.mark.e2e


def test_a_scheduled_command_waits_for_its_time_and_runs_when_asked(scenario: Scenario) -> None:
    scenario.services({"yearly": {"command": ["echo", "new"], "schedule": "0 0 1 jan *"}})
    scenario.step("up waits for no schedule", orch("up", "-d", "--wait").within(20), exits(0))
    found = scenario.row("yearly.yearly")
    assert found["phase"] == "waiting"
    assert found["next_start_in"] > 0
    scenario.step(
        "it is told when it runs",
        orch("explain", "yearly"),
        exits(0),
        says(r"scheduled, next at \d{4}-01-01 00:00"),
    )
    scenario.step("it runs when asked", orch("start", "yearly"), exits(0))
    scenario.until_row("yearly.yearly", phase="exited", result="success", generation=1)
    assert scenario.log("yearly.yearly") == b"new\n"


def test_a_scheduled_command_runs_when_its_minute_begins(scenario: Scenario) -> None:
    clock = WallClock(scenario)
    clock.set_second(51)
    scenario.services(
        {
            "often": {"command": ["echo", "a minute"], "schedule": "* * * * *"},
            "yearly": {"command": ["echo", "new"], "schedule": "0 0 1 jan *"},
        }
    )
    scenario.step("they wait", orch("up", "-d", "--wait").within(20), exits(0))
    # A machine so slow that the minute had begun by then has to wait for the next.
    scenario.until_logged("often.often", "a minute", within=75)
    scenario.until_row("often.often", phase="exited", restarts=0)
    assert scenario.row("yearly.yearly")["generation"] == 0
