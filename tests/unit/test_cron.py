"""Cron expressions, and when they are due on a clock that is set."""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.model import cron

BERLIN = ZoneInfo("Europe/Berlin")


def at(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text)


def local(text: str, *, fold: int = 0) -> dt.datetime:
    """A time in Berlin as a host gives it: with an offset, without a zone."""
    time = at(text).replace(tzinfo=BERLIN, fold=fold)
    return time.astimezone(dt.timezone(time.utcoffset() or dt.timedelta()))


@pytest.mark.parametrize(
    ("text", "after", "following"),
    [
        ("* * * * *", "2026-11-22T10:00:30", "2026-11-22T10:01"),
        ("*/15 * * * *", "2026-11-22T10:45", "2026-11-22T11:00"),
        ("5-10/5 8,20 * * *", "2026-11-22T08:10", "2026-11-22T20:05"),
        ("0 0 1 jan *", "2026-11-22T10:00", "2027-01-01T00:00"),
        ("0 0 29 2 *", "2026-11-22T10:00", "2028-02-29T00:00"),
        ("30 9 * * mon-fri", "2026-11-20T09:30", "2026-11-23T09:30"),  # from a Friday
        ("0 0 * * 7", "2026-11-22T00:00", "2026-11-29T00:00"),  # Sunday has two numbers
        ("0 0 13 * fri", "2026-11-22T00:00", "2026-11-27T00:00"),  # either day
        ("0 0 */2 * fri", "2026-11-22T00:00", "2026-11-27T00:00"),  # both: one is a star
        ("@hourly", "2026-11-22T10:00", "2026-11-22T11:00"),
        ("@weekly", "2026-11-22T10:00", "2026-11-29T00:00"),
    ],
)
def test_the_next_minute_that_fits(text: str, after: str, following: str) -> None:
    assert cron.following(cron.parse(text), at(after)) == at(following)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("* * * *", "4 fields"),
        ("60 * * * *", "'60' is no minute: 0 to 59"),
        ("* 24 * * *", "'24' is no hour"),
        ("* * 0 * *", "'0' is no day of the month"),
        ("* * * mon *", "'mon' is no month"),
        ("*/0 * * * *", "'*/0' is no minute"),
        ("5-1 * * * *", "'5-1' is no minute"),
        ("1,,2 * * * *", "no minute"),
        ("@daly", "1 fields"),
        ("0 0 30 feb *", "there is no such day"),
    ],
)
def test_what_is_wrong_is_named(text: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault.replace("*", r"\*")):
        cron.parse(text)


minutes = st.datetimes(dt.datetime(2024, 1, 1), dt.datetime(2030, 1, 1))  # noqa: DTZ001


@given(after=minutes, minute=st.integers(0, 59), hour=st.integers(0, 23), step=st.integers(1, 30))
def test_the_next_minute_is_later_and_nothing_between_fits(
    after: dt.datetime, minute: int, hour: int, step: int
) -> None:
    parsed = cron.parse(f"{minute}-59/{step} {hour} * * *")
    found = cron.following(parsed, after)
    assert found is not None
    assert found > after
    look = after.replace(second=0, microsecond=0) + cron.MINUTE
    while look < found:
        assert look.minute not in parsed.minutes or look.hour not in parsed.hours
        look += cron.MINUTE


def test_minutes_that_were_missed_count_as_one() -> None:
    every = cron.parse("* * * * *")
    assert cron.is_due(every, local("2026-11-22T10:00:30"), local("2026-11-22T15:00"))
    assert not cron.is_due(every, local("2026-11-22T15:00"), local("2026-11-22T15:00:59"))


def test_a_clock_that_is_set_back_makes_nothing_due_twice() -> None:
    every = cron.parse("* * * * *")
    served = local("2026-11-22T10:00")
    for now in ("2026-11-22T09:00", "2026-11-22T09:59", "2026-11-22T10:00:30"):
        assert not cron.is_due(every, served, local(now))
        assert cron.served_by(served, local(now)) == served
    assert cron.is_due(every, served, local("2026-11-22T10:01"))


def test_a_clock_that_was_days_ahead_is_forgotten() -> None:
    now = local("2026-11-22T10:00")
    assert cron.served_by(local("2030-01-01T00:00"), now) == now


def test_an_hour_that_is_left_out_is_made_up_for_and_one_that_comes_twice_counts_once() -> None:
    half_past_two = cron.parse("30 2 * * *")
    assert cron.is_due(half_past_two, local("2026-03-29T01:59"), local("2026-03-29T03:00"))
    first = local("2026-10-25T02:30")
    assert cron.is_due(half_past_two, local("2026-10-25T01:59"), first)
    assert not cron.is_due(half_past_two, first, local("2026-10-25T02:30", fold=1))
    assert not cron.is_due(half_past_two, first, local("2026-10-25T23:00"))


def test_what_has_no_hour_of_its_own_does_not_pause_when_an_hour_comes_twice() -> None:
    every = cron.parse("*/10 * * * *")
    assert cron.is_due(every, local("2026-10-25T02:50"), local("2026-10-25T02:00", fold=1))
