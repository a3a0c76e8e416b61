"""Random deaths in a real system of badly behaved programs: every promise holds.

`ORCH_SEED=1234 pytest tests/faults/test_chaos.py` plays a game again; `make faults` plays a
long one. The seed of a failure is in its first line.
"""

from __future__ import annotations

import os
import random

import pytest

from tests.e2e.scenario import Scenario
from tests.faults.chaos import Chaos

STEPS = 12
MANY = int(os.environ.get("ORCH_STEPS", "400"))


def play(scenario: Scenario, steps: int) -> None:
    seed = int(os.environ.get("ORCH_SEED") or random.randrange(1 << 32))
    scenario.transcript.append(f"# ORCH_SEED={seed} ORCH_STEPS={steps}")
    game = Chaos(scenario, seed)
    try:
        game.play(steps)
    except BaseException as problem:
        problem.add_note(f"play it again with ORCH_SEED={seed}:\n" + "\n".join(game.story))
        raise


@pytest.mark.slow
@pytest.mark.timeout(300)  # it takes 25 s where nothing else runs
def test_nothing_is_lost_or_doubled_whoever_dies(scenario: Scenario) -> None:
    play(scenario, STEPS)


@pytest.mark.nightly
@pytest.mark.timeout(7200)
def test_nor_in_a_long_game(scenario: Scenario) -> None:
    play(scenario, MANY)
