"""The counters of a connection: what was counted, timed and remembered."""

from __future__ import annotations

import time

import pytest

from orchestrator.component import meter
from orchestrator.component.meter import Meter


def test_a_new_one_has_counted_nothing() -> None:
    assert Meter().plain() == {
        "messages": 0,
        "errors": 0,
        "bytes": 0,
        "p50_ms": None,
        "p99_ms": None,
    }


def test_what_came_is_counted_by_turns() -> None:
    one = Meter()
    for size in (10, 20, 30):
        one.weigh(size)
        one.note("w")
    one.turned(5.0, 5.002)
    one.weigh(40)
    one.note("w")
    one.turned(6.0, 6.004)
    assert one.plain() == {
        "messages": 4,
        "errors": 0,
        "bytes": 100,
        "p50_ms": pytest.approx(4.0),
        "p99_ms": pytest.approx(4.0),
    }


def test_a_turn_that_is_not_over_counts_too() -> None:
    one = Meter()
    one.weigh(10)
    assert one.plain()["messages"] == 1


def test_what_went_is_counted_at_once() -> None:
    one = Meter()
    one.passed("w", 10)
    one.timed(1.0, 1.001)
    one.errors += 1
    assert one.plain() == {
        "messages": 1,
        "errors": 1,
        "bytes": 10,
        "p50_ms": pytest.approx(1.0),
        "p99_ms": pytest.approx(1.0),
    }


def test_quantiles_are_of_the_last_ones() -> None:
    one = Meter()
    for number in range(meter.TIMED * 2):
        one.timed(0.0, 9.0 if number < meter.TIMED else number / 1e6)
    plain = one.plain()
    assert plain["p50_ms"] == pytest.approx(meter.TIMED * 1.5 / 1000, rel=0.01)
    assert plain["p99_ms"] == pytest.approx(meter.TIMED * 1.99 / 1000, rel=0.01)


def test_a_workflow_is_found_with_its_branches_and_no_other() -> None:
    one = Meter()
    for found in ("a", "a_1", "a_1_2", "ab", None, "b"):
        one.weigh(1)
        one.note(found)
    one.turned(meter.clock(), meter.clock())
    assert {hop.workflow_id for hop in one.hops("a")} == {"a", "a_1", "a_1_2"}
    assert [hop.workflow_id for hop in one.hops("b")] == ["b"]
    assert list(one.hops("c")) == []


def test_hops_are_dated_by_their_turn() -> None:
    one = Meter()
    now = meter.clock()
    for turn in range(3):
        for number in range(2):
            one.weigh(1)
            one.note(f"{turn}.{number}")
        one.turned(now - 100 + turn, now - 100 + turn)
    for turn in range(3):
        (hop,) = one.hops(f"{turn}.1")
        assert hop.time == pytest.approx(time.time() - 100 + turn, abs=1.0)


def test_what_was_sent_has_its_own_time() -> None:
    one = Meter()
    one.passed("w", 1)
    (hop,) = one.hops("w")
    assert hop.time == pytest.approx(time.time(), abs=1.0)


def test_old_messages_are_forgotten_and_this_is_said() -> None:
    one = Meter()
    for number in range(meter.REMEMBERED):
        assert one.forgets is False
        one.passed(str(number), 1)
    one.passed("last", 1)
    assert one.forgets is True
    assert list(one.hops("0")) == []
    assert one.plain()["messages"] == meter.REMEMBERED + 1
