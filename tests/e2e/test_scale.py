"""Many components: commands answer, an idle daemon does nothing, and nothing of them stays."""

import os
import time
from pathlib import Path

from tests.e2e.scenario import Scenario, exits, nothing_runs, orch

MANY = 150
TICKS = os.sysconf("SC_CLK_TCK")


def seconds_used(pid: int) -> float:
    """Return the processor time that a process has used, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def descriptors(pid: int) -> int:
    """Return how many descriptors a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def test_many_idle_components_cost_the_daemon_nothing_and_leave_nothing(
    scenario: Scenario,
) -> None:
    sleeps = {"command": ["sleep", "1000"], "logs": {"capture": False}}
    scenario.services({f"s{number}": sleeps for number in range(MANY)})
    scenario.step("they come up", orch("up", "-d", "--wait"), exits(0))
    facts = scenario.daemon()
    daemons = [facts["pid"], facts["keeper_pid"]]
    assert len({row["pid"] for row in scenario.ps().values()} - {None}) == MANY
    scenario.step("all are stopped", orch("stop", "--all"), exits(0))
    scenario.until(lambda: {row["phase"] for row in scenario.ps().values()} == {"stopped"})
    before = {pid: descriptors(pid) for pid in daemons}
    scenario.step("they start again", orch("start", "--all"), exits(0))

    # What a start has to do yet is over once the daemon does nothing for a while.
    def used() -> float:
        return sum(map(seconds_used, daemons))

    def is_idle() -> bool:
        at, end = used(), time.monotonic() + 1.0
        scenario.until(lambda: time.monotonic() > end)
        return used() - at <= 0.02

    scenario.until(is_idle)
    scenario.step("all are stopped again", orch("stop", "--all"), exits(0))
    scenario.until(
        lambda: all(descriptors(pid) <= before[pid] for pid in daemons),
        saying=f"descriptors as before, {before}",
    )
    scenario.step("it goes down", orch("down"), exits(0), nothing_runs)
