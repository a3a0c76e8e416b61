"""The pace of restarts: a burst, then a steady rate. Virtual time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.supervision import lifecycle, pace
from orchestrator.supervision.lifecycle import Instance
from orchestrator.supervision.pace import Bucket
from tests import fakes


def taken(bucket: Bucket, times: list[float]) -> list[float]:
    """Return when a token was to be had, of those who came then and went away without one."""
    had = []
    for now in times:
        following = pace.take(bucket, now)
        if following is not None:
            bucket = following
            had.append(now)
    return had


def test_a_full_bucket_is_five_seconds_worth() -> None:
    assert len(taken(Bucket(20.0), [0.0] * 1000)) == 100
    assert len(taken(Bucket(0.1), [0.0] * 1000)) == 1, "one at least"


def test_tokens_come_back_at_the_rate() -> None:
    times = [tick / 100 for tick in range(1001)]
    assert len(taken(Bucket(20.0), [0.0] * 1000 + times)) == pytest.approx(300, abs=1)


def test_no_rate_is_no_limit() -> None:
    assert len(taken(Bucket(0.0), [0.0] * 1000)) == 1000
    assert pace.wait(Bucket(0.0), 0.0) == 0.0


@given(
    rate=st.floats(0.01, 100),
    steps=st.lists(st.floats(0, 10), max_size=50),
)
def test_after_the_wait_there_is_a_token_and_not_before(rate: float, steps: list[float]) -> None:
    bucket, now = Bucket(rate), 100.0
    for step in steps:
        now += step
        while (following := pace.take(bucket, now)) is not None:
            bucket = following
        wait = pace.wait(bucket, now)
        assert 0 < wait <= 1 / rate + 1e-6
        assert pace.take(bucket, now + wait * 0.99 - 1e-5) is None
        later = pace.take(bucket, now + wait + 1e-6)
        assert later is not None


def test_a_change_of_the_rate_keeps_what_was_spent() -> None:
    spent = Bucket(20.0, spent=100.0, at=5.0)
    assert pace.take(pace.with_rate(spent, 10.0), 5.0) is None


@pytest.mark.parametrize(
    ("failures", "attempt", "lived", "needs"),
    [
        (0, 0, 0.0, False),  # a first start, or one that was asked for
        (1, 0, 31.0, False),  # the first restart after a healthy life
        (1, 0, 0.2, True),  # healthy only by its own word: reset_after: 0s
        (1, 1, 0.0, True),
        (4, 4, 12.0, True),
    ],
)
def test_what_lived_well_and_what_was_asked_for_needs_no_token(
    failures: int, attempt: int, lived: float, needs: bool
) -> None:
    waiting = lifecycle.Waiting()
    instance = Instance(
        fakes.component(), waiting, failures=failures, attempt=attempt, lived=lived
    )
    assert pace.needs_token(instance) is needs
