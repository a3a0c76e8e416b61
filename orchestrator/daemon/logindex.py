"""Writing the index of a log, which dates its bytes; see `wire/loglayout.py`.

A sample is appended by one small write. What changes samples that are there replaces the
whole file, so that a reader who has mapped it is never disturbed; only the offset of the last
sample of an exact index may grow within its millisecond.
"""

from __future__ import annotations

import os
from pathlib import Path

from orchestrator import files
from orchestrator.wire import loglayout
from orchestrator.wire.loglayout import EXACT, MAGIC, SIZE, Sample, Times


class Index:
    """The index of one log. It is open only while it is written.

    Args:
        log: The path of the log.
        exact: Whether its bytes are dated as they are read from a pipe.

    Raises:
        OSError: From the constructor: it is there and cannot be read.
    """

    __slots__ = ("_count", "_exact", "_most", "last", "path")

    def __init__(self, log: Path, *, exact: bool = False) -> None:
        self.path = log.parent / loglayout.TIMES / log.name
        self._exact = exact
        self._most = loglayout.MOST_EXACT if exact else loglayout.MOST_SAMPLES
        self.last: Sample | None = None
        times = self._read()
        self._take(times)
        if self._count and times.exact is not exact:
            self._replace(bytes(times.data))

    @property
    def is_full(self) -> bool:
        """Whether the next sample makes it thin out what it has."""
        return self._count >= self._most

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
        elif self.is_full:
            self._replace(loglayout.thinned(self._read()))
        self._append(sample)
        self.last = sample

    def cut(self, end: int) -> None:
        """Take back what was said of bytes from `end` on: the log is no longer."""
        if self.last is not None and self.last.offset > end:
            times = self._read()
            self._replace(loglayout.up_to(times, end))
            self._take(self._read())

    def prune(self, begin: int) -> None:
        """Drop the samples of bytes below `begin`, which are gone."""
        kept = loglayout.since(self._read(), begin)
        if len(kept) < self._count * SIZE:
            self._replace(kept)

    def reset(self) -> None:
        """Begin anew, as the log does."""
        self.path.unlink(missing_ok=True)
        self._count, self.last = 0, None

    def _append(self, sample: Sample) -> None:
        data = loglayout.pack((sample,))
        if self._count == 0:
            self.path.parent.mkdir(mode=0o750, exist_ok=True)
            self._replace(data)
            return
        is_same = self._exact and self.last and _milli(self.last) == _milli(sample)
        number = self._count if is_same else self._count + 1
        fd = os.open(self.path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            # At its place, not at the end: a disk that was full has left half a sample there.
            os.pwrite(fd, data, SIZE * number)
        finally:
            os.close(fd)
        self._count = number

    def _replace(self, samples: bytes) -> None:
        files.write_atomic(self.path, (EXACT if self._exact else MAGIC) + samples)
        self._count = len(samples) // SIZE

    def _take(self, times: Times) -> None:
        self._count = len(times)
        self.last = times[self._count - 1] if self._count else None

    def _read(self) -> Times:
        try:
            return Times(self.path.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return Times()


def _milli(sample: Sample) -> int:
    return int(sample.time * 1000)
