"""Five-field cron expressions: what they say, and which minute comes next.

Minute, hour, day of the month, month, day of the week; with lists, ranges, steps and English
names. As in every cron, a day fits when either day field does, unless one of them is `*`.
Times are local and carry their offset from UTC; nothing here reads a clock.
"""

from __future__ import annotations

import datetime as dt
import functools
import re

from msgspec import Struct

_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_WEEKDAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]

_FIELDS: tuple[tuple[str, int, int, list[str]], ...] = (
    ("minute", 0, 59, []),
    ("hour", 0, 23, []),
    ("day of the month", 1, 31, []),
    ("month", 1, 12, _MONTHS),
    ("day of the week", 0, 7, _WEEKDAYS),
)

SHORT = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
}
"""Words for common expressions."""

_YEARS = 9
"""A 29 February comes within eight years, 1900-like years included."""

_PART = re.compile(r"(?:(\*)|(\w+)(?:-(\w+))?)(?:/(\d+))?")

MINUTE = dt.timedelta(minutes=1)
WRONG_CLOCK = dt.timedelta(days=1)
"""A clock that is set back by more was wrong before; what it counted is forgotten."""


class Cron(Struct, frozen=True):
    """A parsed expression: the values that each field allows."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    any_day: bool
    any_weekday: bool

    @property
    def every_hour(self) -> bool:
        """Whether it has no hour of its own, so that a change to summer time means nothing."""
        return len(self.hours) == 24


@functools.lru_cache(maxsize=1024)
def parse(text: str) -> Cron:
    """Return what an expression says.

    Raises:
        ValueError: It is none, or no day will ever fit; the message says which field.
    """
    words = SHORT.get(text.strip(), text).split()
    if len(words) != len(_FIELDS):
        raise ValueError(f"{text!r} has {len(words)} fields; minute, hour, day, month and weekday")
    values = [_values(word, *field) for word, field in zip(words, _FIELDS, strict=True)]
    weekdays = frozenset(day % 7 for day in values[4])
    minutes, hours, days, months, _ = values
    cron = Cron(
        minutes, hours, days, months, weekdays, words[2].startswith("*"), words[4].startswith("*")
    )
    if following(cron, dt.datetime(2000, 1, 1)) is None:  # noqa: DTZ001 - any year will do
        raise ValueError(f"{text!r}: there is no such day")
    return cron


def following(cron: Cron, after: dt.datetime) -> dt.datetime | None:
    """Return the first minute after `after` that fits; None when there is none in years."""
    start = after.replace(second=0, microsecond=0) + MINUTE
    day = start.date()
    for _ in range(_YEARS * 366):
        if _fits(cron, day):
            for hour in sorted(cron.hours):
                for minute in sorted(cron.minutes):
                    found = dt.datetime.combine(day, dt.time(hour, minute), tzinfo=after.tzinfo)
                    if found >= start:
                        return found
        day += dt.timedelta(days=1)
    return None


def is_due(cron: Cron, served: dt.datetime, now: dt.datetime) -> bool:
    """Tell whether a minute that fits has come since `served`; several count as one.

    Both times carry their offset. After a clock was set back nothing is due until it is
    where it was; nor is an hour that comes twice, at the end of summer time, due twice.
    """
    if now <= served:
        return False
    if cron.every_hour:
        due = following(cron, served.astimezone(now.tzinfo))
        return due is not None and due <= now
    due = following(cron, served.replace(tzinfo=None))
    return due is not None and due <= now.replace(tzinfo=None)


def served_by(served: dt.datetime, now: dt.datetime) -> dt.datetime:
    """Return until when the expression was served, as a clock that may have been set says."""
    return now if served - now > WRONG_CLOCK else served


def _fits(cron: Cron, day: dt.date) -> bool:
    if day.month not in cron.months:
        return False
    by_day, by_weekday = day.day in cron.days, day.isoweekday() % 7 in cron.weekdays
    if cron.any_day or cron.any_weekday:
        return by_day and by_weekday
    return by_day or by_weekday


def _values(word: str, field: str, low: int, high: int, names: list[str]) -> frozenset[int]:
    found: set[int] = set()
    for part in word.lower().split(","):
        match = _PART.fullmatch(part)
        if match is None:
            raise ValueError(f"{word!r} is no {field}")
        star, first, last, step = match.groups()
        begin = low if star else _number(first, field, low, high, names)
        if last is not None:
            end = _number(last, field, low, high, names)
        else:
            end = high if star or step else begin
        if end < begin or (step is not None and int(step) == 0):
            raise ValueError(f"{part!r} is no {field}")
        found.update(range(begin, end + 1, int(step or 1)))
    return frozenset(found)


def _number(word: str, field: str, low: int, high: int, names: list[str]) -> int:
    if word in names:
        return names.index(word) + low
    if not word.isdigit() or not low <= int(word) <= high:
        raise ValueError(f"{word!r} is no {field}: {low} to {high}")
    return int(word)
