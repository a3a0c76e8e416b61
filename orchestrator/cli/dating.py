"""When lines were written, as far as anybody knows.

The daemon's index says of each byte between which two moments it was written, and a line gets
the later one: its resolution is that of the daemon's looks, a second. The index of a piped log is
exact, and nothing else is asked. Otherwise lines that begin with a time of their own in UTC, as
those of our runtime do, get that when it lies between the two; so a program that replays old data
is not taken at its word.
"""

from __future__ import annotations

import math
import mmap
import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from orchestrator.cli.logfiles import LogFile
from orchestrator.cli.loglines import LONGEST
from orchestrator.wire import loglayout
from orchestrator.wire.loglayout import Times

_SMALL = 1 << 14
"""Up to so many bytes an index is read rather than mapped."""

SLACK = 2.0
"""How far, in seconds, the time in a line may be from when its bytes were seen."""

_OWN = re.compile(rb"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?)Z", re.MULTILINE)


class Piece(NamedTuple):
    """Whole lines that are taken to be of one time, and where they begin."""

    time: float
    offset: int
    data: bytes


def times_of(log: Path) -> Times:
    """Return the index of a log, mapped when it is large; an empty one when there is none."""
    directory, _, name = str(log).rpartition("/")
    try:
        fd = os.open(f"{directory or '.'}/{loglayout.TIMES}/{name}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return Times()
    try:
        data = os.read(fd, _SMALL)
        if len(data) < _SMALL:
            return Times(data)
        return Times(memoryview(mmap.mmap(fd, 0, prot=mmap.PROT_READ)))
    except (OSError, ValueError):
        return Times()
    finally:
        os.close(fd)


def pieces(file: LogFile, times: Times | None, end: int, limit: int) -> Iterator[Piece]:
    """Read a log on to `end` in whole lines, the unfinished one at the end included.

    Times never fall from one piece to the next. A line that is longer than `LONGEST` comes in
    several pieces.

    Args:
        file: Is moved along.
        times: Its index; None when nobody asks when lines were written.
        end: The offset to stop at.
        limit: How many bytes to read at once.
    """
    held, latest = b"", 0.0

    def dated(text: bytes, begin: int) -> Iterator[Piece]:
        nonlocal latest
        if times is None:
            yield Piece(0.0, begin, text)
            return
        for piece in dated_by(times, text, begin, file.modified):
            # As they are shown, so that what was shown can be asked for.
            latest = max(latest, math.floor(piece.time * 1000 + 0.001) / 1000)
            yield piece._replace(time=latest)

    while (before := file.offset) < end:
        data = file.read(min(limit, end - before))
        begin = file.offset - len(data)
        if file.offset > end:
            data = data[: max(0, end - begin)]
            file.offset = end
        if not data:
            break
        if held and begin != before:
            # What follows in the log is gone, so the line that was held has no end.
            yield from dated(held, before - len(held))
            held = b""
        text, begin = held + data, begin - len(held)
        cut = _cut(text, is_last=file.offset >= end)
        yield from dated(text[:cut], begin)
        held = text[cut:]
    if held:
        yield from dated(held, file.offset - len(held))


def _cut(text: bytes, *, is_last: bool) -> int:
    if is_last:
        return len(text)
    cut = text.rfind(b"\n") + 1
    return len(text) if cut == 0 and len(text) >= LONGEST else cut


def dated_by(times: Times, text: bytes, begin: int, modified: float) -> Iterator[Piece]:
    """Yield lines in pieces, each within one span of the index."""
    position = 0
    while position < len(text):
        newline = text.find(b"\n", position)
        last = newline if newline >= 0 else len(text) - 1
        span = times.span(begin + last)
        stop = len(text)
        if span.end is not None and newline >= 0:
            stop = text.rfind(b"\n", position, span.end - begin) + 1
        until = max(modified, span.after or 0.0) if span.until is None else span.until
        if times.exact:
            yield Piece(until, begin + position, text[position:stop])
        else:
            yield from stamped(text[position:stop], begin + position, span.after, until)
        position = stop


def stamped(text: bytes, begin: int, after: float | None, until: float) -> Iterator[Piece]:
    """Yield lines that were written between two moments, by the times that they begin with.

    A line without one belongs to the line before it, as those of a traceback do.
    """
    # Texts of this form are in the order of their times, and most are compared only.
    low, high = _text((until if after is None else after) - SLACK), _text(until + SLACK)
    found = [
        (match.start(), own)
        for match in _OWN.finditer(text)
        if low <= match[1] <= high and (own := _parse(match[1])) is not None
    ]
    if not found:
        yield Piece(until, begin, text)
        return
    starts = [0, *(start for start, _ in found[1:]), len(text)]
    for (_, own), start, stop in zip(found, starts, starts[1:], strict=False):
        yield Piece(own, begin + start, text[start:stop])


def _text(time: float) -> bytes:
    shown = datetime.fromtimestamp(max(0.0, time), UTC).isoformat(timespec="milliseconds")
    return shown.removesuffix("+00:00").encode()


def _parse(text: bytes) -> float | None:
    try:
        return datetime.fromisoformat(text.decode()).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None
