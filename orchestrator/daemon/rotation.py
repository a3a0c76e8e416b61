"""Rotation of captured output without touching the writer.

Children write to O_APPEND files that we can neither reopen nor truncate for them. So the head
of a file is copied to a segment and then given back to the file system as a hole: the file's
offsets stay what they were, which makes them permanent cursors, and nothing is lost however
fast the child writes meanwhile.

A segment is called after its file and the offset of its first byte: `web-web.out.52428800`.
Where the file system cannot make holes the file is left to grow, and that is said once.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from orchestrator import files
from orchestrator.model.topology import Logs
from orchestrator.model.units import Bytes, Seconds

logger = logging.getLogger(__name__)

LOOK: Seconds = 10.0
"""How often sizes are looked at; two stats for each instance."""

NEWLINE_WITHIN: Bytes = 1 << 20
"""A cut is made after a newline when there is one in so many bytes before the end."""


class Rotation:
    """Looks at the logs of all instances from time to time, as long as `call_later` does."""

    def __init__(
        self,
        call_later: Callable[[Seconds, Callable[[], None]], None],
        logs: Callable[[], Iterable[tuple[str, Logs]]],
    ) -> None:
        self._call_later = call_later
        self._logs = logs
        self._unable = False

    def start(self) -> None:
        """Begin to look."""
        self._call_later(LOOK, self._look)

    def _look(self) -> None:
        for path, logs in self._logs():
            if logs.size and not self._unable:
                self._rotate(path, logs)
        self._call_later(LOOK, self._look)

    def _rotate(self, path: str, logs: Logs) -> None:
        try:
            # Sizes in blocks do not count the hole: one stat tells what a file takes.
            status = os.stat(path)  # noqa: PTH116 - hot path
        except OSError:
            return
        if status.st_blocks * 512 <= logs.size:
            return
        try:
            rotate(Path(path), logs.keep)
        except files.HolesUnsupported as error:
            self._unable = True
            logger.warning("Logs are not rotated while their writers live: %s", error)
        except OSError as error:
            logger.warning("Cannot rotate %s: %s", path, error.strerror)


def rotate(path: Path, keep: int) -> Path:
    """Move what a log holds now into a segment, keep the newest `keep`; return the segment.

    Raises:
        HolesUnsupported: The file system cannot make holes.
        OSError: The segment cannot be written; the log is as it was.
    """
    with path.open("r+b") as log:
        end = _cut(log.fileno(), os.fstat(log.fileno()).st_size)
        begin = first_byte(path)
        segment = path.with_name(f"{path.name}.{begin}")
        files.copy_range(log.fileno(), begin, end, segment)
        try:
            files.punch_hole(log.fileno(), begin, end - begin)
        except OSError:
            segment.unlink()
            raise
    for old in segments(path)[: -max(keep, 1)]:
        with contextlib.suppress(FileNotFoundError):
            old.unlink()
    return segment


def segments(path: Path) -> tuple[Path, ...]:
    """Return the segments of a log, oldest first."""
    found = [p for p in path.parent.glob(f"{path.name}.*") if p.suffix[1:].isdecimal()]
    return tuple(sorted(found, key=lambda p: int(p.suffix[1:])))


def first_byte(path: Path) -> int:
    """Return the offset of the first byte of a log that is in no segment."""
    there = segments(path)
    if not there:
        return 0
    newest = there[-1]
    return int(newest.suffix[1:]) + newest.stat().st_size


def _cut(fd: int, size: int) -> int:
    """Return where to cut: after the last newline near the end, else at the end."""
    begin = max(0, size - NEWLINE_WITHIN)
    tail = os.pread(fd, size - begin, begin)
    newline = tail.rfind(b"\n")
    return begin + newline + 1 if newline >= 0 else size
