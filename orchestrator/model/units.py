"""Durations and sizes as users write them: text in, seconds and bytes out.

Type aliases show the unit in every signature. A bare number is refused where a unit is
needed: `timeout: 5` has meant seconds to some and milliseconds to others.
"""

from __future__ import annotations

import functools
import re
from typing import NewType

Seconds = float
"""A length of time in seconds."""

Instant = float
"""A point on the monotonic clock, in seconds."""

Bytes = int
"""A size in bytes."""

Timer = NewType("Timer", int)
"""The number of a timer. Timers are never cancelled, only outlived: an old number is ignored."""

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]i?)?B?", re.IGNORECASE)
_SIZE_UNITS = {
    "": 1,
    "k": 1000,
    "m": 1000**2,
    "g": 1000**3,
    "t": 1000**4,
    "ki": 1024,
    "mi": 1024**2,
    "gi": 1024**3,
    "ti": 1024**4,
}


@functools.lru_cache(maxsize=1024)
def parse_duration(text: str) -> Seconds:
    """Return the seconds that `text` means: `1.5s`, `500ms`, `2m`, `1h30m`, `7d`.

    Raises:
        ValueError: The text is not a sequence of numbers with units.
    """
    total, end = 0.0, 0
    for match in _DURATION.finditer(text):
        if match.start() != end:
            break
        total += float(match[1]) * _DURATION_UNITS[match[2]]
        end = match.end()
    if end == 0 or end != len(text):
        raise ValueError(f"{text!r} is no duration; write one as 500ms, 1.5s, 2m, 1h30m or 7d")
    return round(total, 6)


def format_duration(seconds: Seconds) -> str:
    """Return the shortest text for `seconds` that people read well: `350ms`, `4.2s`, `3m 20s`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 60:
        return f"{seconds:.3g}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m {rest}s" if rest else f"{minutes}m"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours}h {minutes}m" if minutes else f"{hours}h"
    days, hours = divmod(hours, 24)
    return f"{days}d {hours}h" if hours else f"{days}d"


@functools.lru_cache(maxsize=1024)
def parse_size(text: str) -> Bytes:
    """Return the bytes that `text` means: `512`, `50MB` (decimal), `512MiB` (binary).

    Raises:
        ValueError: The text is not a number with a size unit.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no size; write one as 4096, 50MB or 512MiB")
    return round(float(match[1]) * _SIZE_UNITS[(match[2] or "").lower()])
