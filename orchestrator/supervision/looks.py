"""What a row of looks at a process means: when it is believed well, ill, or started.

A look is a probe's single answer. One bad answer says little, so opinions change only after
as many in a row as the probe declares.
"""

from __future__ import annotations

import codecs
import re

from msgspec import Struct

from orchestrator.model.topology import Probe
from orchestrator.model.units import Seconds

FIRST_PAUSES: tuple[Seconds, ...] = (0.02, 0.05, 0.1, 0.2, 0.4)
"""Pauses between the first looks: what is ready after 50 ms is not waited for a second."""

EAGER: Seconds = 1.0
"""The longest pause while somebody waits for a good answer."""

KEPT = 65536
"""How many characters of an unfinished line are kept to look for a match in."""

_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")


class Tally(Struct, frozen=True):
    """The answers so far. `good` is what is believed, None as long as nothing is."""

    good: bool | None = None
    successes: int = 0
    failures: int = 0


def count(tally: Tally, probe: Probe, *, good: bool, excused: bool = False) -> Tally:
    """Return the tally with one more answer; a failure that is `excused` does not count."""
    if good:
        successes = tally.successes + 1
        return Tally(successes >= probe.successes or tally.good, successes)
    if excused:
        return Tally(tally.good, 0, tally.failures)
    failures = tally.failures + 1
    return Tally(False if failures >= probe.failures else tally.good, 0, failures)


def adopted(probe: Probe) -> Tally:
    """Return the tally of a process that an earlier daemon knew as ready: one look decides."""
    return Tally(True, 0, probe.failures - 1)


def eager_pause(probe: Probe, looks: int) -> Seconds:
    """Return the pause after so many looks for something that is waited for."""
    pause = FIRST_PAUSES[looks - 1] if looks <= len(FIRST_PAUSES) else EAGER
    return min(pause, probe.every)


class Output:
    """Looks for a pattern in the lines of an output, as it comes in pieces.

    A match may be split over writes, be coloured, or lack its newline.
    """

    def __init__(self, pattern: str) -> None:
        self._pattern = re.compile(pattern, re.MULTILINE)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._line = ""

    def feed(self, data: bytes) -> bool:
        """Take the next piece; tell whether a line matches."""
        text = (self._line + self._decoder.decode(data)).replace("\r", "\n")
        self._line = text.rpartition("\n")[2][-KEPT:]
        return self._pattern.search(plain(text)) is not None


def plain(text: str) -> str:
    """Return a text without the sequences that colour it."""
    return _ANSI.sub("", text)
