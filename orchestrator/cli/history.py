"""Choosing what to show of what logs hold already: by time, by pattern, by count."""

from __future__ import annotations

import collections
import re
from datetime import UTC, datetime
from typing import NamedTuple

from orchestrator.cli import dating, logfiles
from orchestrator.cli.dating import SLACK
from orchestrator.cli.logfiles import CHUNK, LogFile
from orchestrator.errors import UsageError
from orchestrator.model import units
from orchestrator.wire.loglayout import Times


class Choice(NamedTuple):
    """The last `lines` of those that match, from `since` to `until`; None: no such limit."""

    lines: int | None = None
    pattern: re.Pattern[bytes] | None = None
    since: float | None = None
    until: float | None = None

    @property
    def asks_for_times(self) -> bool:
        """Whether it takes the times of lines to choose them."""
        return self.since is not None or self.until is not None


def choose(file: LogFile, choice: Choice) -> tuple[int, int]:
    """Return the offsets between which the chosen lines of a log lie."""
    begin, end = file.extent()
    if choice.asks_for_times:
        times = dating.times_of(file.path)
        if choice.since is not None:
            begin = _first_after(file, times, choice.since, begin, end, or_at=True)
        if choice.until is not None:
            end = _first_after(file, times, choice.until, begin, end, or_at=False)
    if choice.lines is None:
        return begin, end
    if choice.pattern is not None and choice.lines:
        return _last_matches(file, choice.lines, choice.pattern, begin, end), end
    return logfiles.last_lines(file, choice.lines, begin, end), end


def _first_after(
    file: LogFile, times: Times, when: float, begin: int, end: int, *, or_at: bool
) -> int:
    """Return the offset of the first line that was written after `when`, `end` without one."""
    known = min(times.surely_before(when - SLACK), end)
    if known > begin:
        # A sample may lie within a line, which is dated by its end.
        begin = logfiles.last_lines(file, 1, begin, known)
    for piece in dating.pieces(file.at(begin), times, end, CHUNK):
        if piece.time > when or (or_at and piece.time == when):
            return piece.offset
    return end


def _last_matches(
    file: LogFile, count: int, pattern: re.Pattern[bytes], begin: int, end: int
) -> int:
    """Return the offset of the `count`-th last line that matches; the end when none does."""
    found: collections.deque[int] = collections.deque(maxlen=count)
    for piece in dating.pieces(file.at(begin), None, end, CHUNK):
        position = piece.offset
        for line in piece.data.split(b"\n"):
            if pattern.search(line) and position < piece.offset + len(piece.data):
                found.append(position)
            position += len(line) + 1
    return found[0] if found else end


def parse_time(text: str, flag: str, now: float) -> float:
    """Return the moment that a user means, in seconds since 1970.

    `10m` is so long ago. A time without a zone is local, one without a date is of today.

    Raises:
        UsageError: It is neither a duration nor a time.
    """
    try:
        return now - units.parse_duration(text)
    except ValueError:
        pass
    today = datetime.fromtimestamp(now, UTC).astimezone()
    try:
        if re.fullmatch(r"\d\d:\d\d(:\d\d(\.\d+)?)?", text):
            return datetime.fromisoformat(f"{today.date()}T{text}").timestamp()
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError) as problem:
        raise UsageError(
            f"cannot use {text!r} for {flag}: write how long ago, as 10m, or a time, as 14:30, "
            "2026-11-22T14:30 or 2026-11-22T14:30:00Z"
        ) from problem
