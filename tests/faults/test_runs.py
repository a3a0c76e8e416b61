"""Runs under deaths at random moments: none is lost, none happens twice, no output is wrong."""

from __future__ import annotations

import collections
import os
import random
import signal
import threading
from pathlib import Path

import pytest

from orchestrator.client.jobs import Jobs
from tests.e2e.scenario import Scenario, exits, orch

pytestmark = pytest.mark.timeout(240)

RUNS = 40
LONG = 120.0

PROGRAM = """\
#!/bin/sh
n=${1#n=}
echo "$ORCH_RUN_ID $n" >> RECORD
for i in 1 2 3 4 5; do echo "$n line $i"; sleep 0.0$((n % 7 + 1)); done
exit $((n % 5))
"""


def kill(scenario: Scenario, role: str) -> None:
    """Kill the daemon or the keeper, if it is there."""
    outcome = scenario.run("status", "--json")
    if outcome.code == 0:
        os.kill(outcome.json()["daemon"][role], signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_deaths_of_the_daemon_at_any_moment_cost_no_run(scenario: Scenario, seed: int) -> None:
    """Submitted, queued, building, running, ending: whatever each is just then."""
    dice = random.Random(seed)
    record = scenario.root / "record"
    program = scenario.write(PROGRAM.replace("RECORD", str(record)), "program.sh")
    program.chmod(0o755)
    scenario.services(
        {"lab": {"jobs": {"sim": {"program": "program.sh"}, "halt": {"command": "sleep 1000"}}}},
        job_concurrency=8,
    )
    scenario.step("up", orch("up", "-d"), exits(0))
    is_over = threading.Event()

    def strike() -> None:
        while not is_over.wait(dice.uniform(0.3, 1.2)):
            kill(scenario, dice.choice(["pid", "pid", "pid", "keeper_pid"]))

    killer = threading.Thread(target=strike)
    with Jobs(scenario.topology, environment=scenario.environment, patience=LONG) as jobs:
        killer.start()
        try:
            runs = {n: jobs.submit("lab.sim", args={"n": n}).id for n in range(RUNS)}
            halted = [jobs.submit("lab.halt", priority=9).id for _ in range(2)]
            cancelled = jobs.cancel(*halted)
            jobs.wait(*runs.values(), *halted, timeout=LONG)
        finally:
            is_over.set()
            killer.join()
        rows = {row["id"]: row for row in jobs.rows()}
    began = collections.Counter(line.split()[0] for line in record.read_text().splitlines())
    assert began == dict.fromkeys(runs.values(), 1)
    for n, run_id in runs.items():
        row = rows[run_id]
        assert (row["attempt"], row["exit_code"]) == (1, n % 5), row
        assert row["state"] == ("failed" if n % 5 else "succeeded")
        lines = "".join(f"{n} line {i}\n" for i in range(1, 6))
        assert Path(str(row["output"])).read_text() == f"{lines}\n{n % 5}"
    assert set(cancelled) <= set(halted)
    assert {rows[run_id]["state"] for run_id in halted} == {"cancelled"}
    assert set(rows) == {*runs.values(), *halted}
