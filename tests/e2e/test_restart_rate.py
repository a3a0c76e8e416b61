"""Many crash loops at once: bounded, visible, and in nobody's way."""

import time

from tests.e2e.scenario import Scenario, bad, exits, orch, says

RATE = 10


def test_two_hundred_crash_loops_leave_the_machine_and_the_daemon_usable(
    scenario: Scenario,
) -> None:
    """Their restarts are bounded together, and commands are answered."""
    hopeless = {f"c{n}": {"command": ["false"]} for n in range(200)}
    scenario.services(
        {"hopeless": {"components": hopeless}, "well": {"command": bad()}},
        defaults={"settle": "0s", "backoff": {"initial": "0s"}, "limit": {"failures": 0}},
        restart_rate=RATE,
    )
    scenario.step("it comes up", orch("up", "-d"), exits(0))
    scenario.until_logged("well.well")

    def restarts() -> int:
        return sum(row["restarts"] for row in scenario.ps().values())

    # The burst is five seconds' worth; from then on only the rate counts.
    scenario.until(lambda: restarts() >= 5 * RATE)
    before, begin = restarts(), time.monotonic()
    scenario.until(lambda: restarts() >= before + 2 * RATE, within=30)
    after, seconds = restarts(), time.monotonic() - begin
    assert after - before <= (seconds + 5) * RATE
    waiting = [row for row in scenario.ps().values() if row["phase"] == "waiting"]
    assert len(waiting) > 100
    scenario.step(
        "one is told why it does not run",
        orch("explain", waiting[0]["name"]),
        says("is waiting for its turn .at most 10 such restarts a second.", "exit 1"),
    )
    scenario.step("others are not held up", orch("restart", "well").within(15), exits(0))
