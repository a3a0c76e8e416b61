"""Writing the index of a log, which dates its bytes; see `wire/loglayout.py`.

A sample is appended by one small write. What changes samples that are there replaces the
whole file, so that a reader who has mapped it is never disturbed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from orchestrator import files
from orchestrator.wire import loglayout
from orchestrator.wire.loglayout import MAGIC, MOST_SAMPLES, SIZE, Sample, Times


class Index:
    """The index of one log. It is open only while it is written.

    Raises:
        OSError: From the constructor: it is there and cannot be read.
    """

    __slots__ = ("_count", "last", "path")

    def __init__(self, log: Path) -> None:
        self.path = log.parent / loglayout.TIMES / log.name
        times = self._read()
        self._count = len(times)
        self.last = times[self._count - 1] if self._count else None

    def add(self, sample: Sample) -> None:
        """Append a sample, unless it tells nothing new.

        Raises:
            OSError: It cannot be written; the next one is tried anew.
            OrchestratorError: The same, of a file that had to be replaced.
        """
        if self.last is not None and sample.offset <= self.last.offset:
            return
        if self.last is not None and sample.time < self.last.time:
            self._replace(loglayout.clamped(self._read(), sample.time))
        elif self._count >= MOST_SAMPLES:
            self._replace(loglayout.thinned(self._read()))
        self._append(sample)
        self.last = sample

    def prune(self, begin: int) -> None:
        """Drop the samples of bytes below `begin`, which are gone."""
        kept = loglayout.since(self._read(), begin)
        if len(kept) < self._count:
            self._replace(kept)

    def reset(self) -> None:
        """Begin anew, as the log does."""
        self.path.unlink(missing_ok=True)
        self._count, self.last = 0, None

    def _append(self, sample: Sample) -> None:
        data = loglayout.pack((sample,))
        if self._count == 0:
            self.path.parent.mkdir(mode=0o750, exist_ok=True)
            self._replace((sample,))
            return
        fd = os.open(self.path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            # At its place, not at the end: a disk that was full has left half a sample there.
            os.pwrite(fd, data, SIZE * (self._count + 1))
        finally:
            os.close(fd)
        self._count += 1

    def _replace(self, samples: Sequence[Sample]) -> None:
        files.write_atomic(self.path, MAGIC + loglayout.pack(samples))
        self._count = len(samples)

    def _read(self) -> Times:
        try:
            return Times(self.path.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return Times()
