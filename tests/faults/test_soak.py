"""Restarts without end: memory, descriptors and threads of daemon and keeper stay the same."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.scenario import Scenario, exits, orch

MEGABYTE = 1 << 20
COMPONENTS = 20


@dataclass(frozen=True)
class Sample:
    """What a process holds after so many restarts; `memory` in bytes."""

    restarts: int
    memory: int
    descriptors: int
    threads: int


def sample(pid: int, restarts: int) -> Sample:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    return Sample(
        restarts,
        int(fields["VmRSS"].split()[0]) * 1024,
        len(list(Path(f"/proc/{pid}/fd").iterdir())),
        int(fields["Threads"]),
    )


def soak(scenario: Scenario, marks: list[int], within: float) -> dict[str, list[Sample]]:
    """Let short programs end and begin until so many restarts; return samples at the marks."""
    again = {"initial": "0s", "jitter": 0}
    scenario.services(
        {
            f"s{number}": {
                "command": ["/bin/true"],
                "restart": "always",
                "backoff": again,
                "limit": {"failures": 0},
                "logs": {"capture": False},
            }
            for number in range(COMPONENTS)
        },
        restart_rate=0,
    )
    scenario.step("they begin", orch("up", "-d"), exits(0))
    facts = scenario.daemon()
    roles = {"daemon": facts["pid"], "keeper": facts["keeper_pid"]}
    found: dict[str, list[Sample]] = {role: [] for role in roles}
    deadline = time.monotonic() + within
    for mark in marks:
        done = 0
        while done < mark:
            assert time.monotonic() < deadline, f"only {done} of {mark} restarts"
            time.sleep(0.2)  # what is measured needs its time
            done = sum(row["restarts"] for row in scenario.ps().values())
        for role, pid in roles.items():
            found[role].append(sample(pid, done))
            scenario.transcript.append(f"# {role}: {found[role][-1]}")
    assert scenario.daemon()["pid"] == facts["pid"]
    return found


def is_flat(samples: list[Sample], memory: int) -> bool:
    """Tell whether the last sample is as the first, but for so much memory."""
    first, last = samples[0], samples[-1]
    # Beside a descriptor for each process that lives now there is one for each client.
    return (
        last.memory - first.memory <= memory
        and abs(last.descriptors - first.descriptors) <= COMPONENTS + 2
        and last.threads == first.threads
    )


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_two_thousand_restarts_leave_nothing(scenario: Scenario) -> None:
    found = soak(scenario, [500, 2000], within=120)
    assert all(is_flat(samples, 3 * MEGABYTE) for samples in found.values()), found


@pytest.mark.nightly
@pytest.mark.timeout(7200)
def test_a_hundred_thousand_restarts_leave_nothing(scenario: Scenario) -> None:
    found = soak(scenario, [1_000, 10_000, 50_000, 100_000], within=7000)
    assert all(is_flat(samples[1:], 3 * MEGABYTE) for samples in found.values()), found
