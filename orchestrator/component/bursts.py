"""What goes wrong many times in a row: counted each time, logged once per burst."""

from __future__ import annotations

import logging
import time

QUIET = 10.0
"""For how many seconds after a line the next ones of its kind are only counted."""


class Burst:
    """Counts mishaps of one kind; the first is logged at once, the next ones as a number."""

    def __init__(self, logger: logging.Logger, quiet: float = QUIET) -> None:
        self.total = 0
        self._logger = logger
        self._quiet = quiet
        self._told = 0
        self._next = 0.0

    def add(self, message: str, *values: object) -> None:
        """Count a mishap, and log it unless one has just been logged."""
        self.total += 1
        now = time.monotonic()
        if now < self._next:
            return
        more = self.total - self._told - 1
        if more:
            message, values = f"{message} (and %d more like it before)", (*values, more)
        self._told, self._next = self.total, now + self._quiet
        self._logger.warning(message, *values)

    def close(self) -> None:
        """Log how many there were since the last line."""
        if self.total > self._told:
            self._logger.warning("… and %d more like the last one", self.total - self._told)
            self._told = self.total
