"""A wall clock that a test sets: Debian's libfaketime in front of the C library.

Only the time of day is made up. What counts seconds, and the times of files, stay true.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from tests.e2e.scenario import Scenario

LIBRARY = "faketime/libfaketimeMT.so.1"


class WallClock:
    """The time of day as all programs of a scenario see it; make it before any is started."""

    def __init__(self, scenario: Scenario) -> None:
        found = next(Path("/usr/lib").glob(f"*/{LIBRARY}"), None)
        if found is None:
            pytest.skip("libfaketime is not installed: apt-get install libfaketime")
        self._file = scenario.root / "clock"
        self.step(0)
        scenario.environment |= {
            "LD_PRELOAD": str(found),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DISABLE_SHM": "1",
            "NO_FAKE_STAT": "1",
        }

    def step(self, seconds: float) -> None:
        """Let the clock be so far from the true one, at once."""
        other = self._file.with_suffix(".new")
        other.write_text(f"{seconds:+f}\n")
        other.rename(self._file)

    def set_second(self, second: float) -> None:
        """Let it be so many seconds after some full minute."""
        now = dt.datetime.now(dt.UTC)
        self.step(second - now.second - now.microsecond / 1e6)
