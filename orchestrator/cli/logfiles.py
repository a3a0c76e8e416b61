"""Reading what components wrote: segments and the live file as one stream by offset.

Rotation copies the head of a file to a segment and punches a hole there, so offsets stay what
they were for ever and are all that a reader has to remember. A segment is there before the hole
is: what was read from the live file holds if no segment has it *afterwards*. So no byte is lost
or shown twice however the daemon rotates meanwhile, and no zero byte is taken for a hole.
"""

from __future__ import annotations

import bisect
import errno
import os
import stat
import time
from pathlib import Path
from typing import IO

from orchestrator.wire import loglayout

CHUNK = 1 << 18
_BLOCK = 1 << 16
_SETTLED_NS = 100_000_000
"""A directory that changed so lately may have changed again within one tick of its clock."""
_TRIES = 8


class Catalogue:
    """The segments in the directories of logs, listed again only when one has changed."""

    def __init__(self) -> None:
        self._listed: dict[str, tuple[int, dict[str, dict[int, str]]]] = {}
        self._opened: tuple[Path, IO[bytes]] | None = None

    def __del__(self) -> None:
        if self._opened is not None:
            self._opened[1].close()

    def begins(self, log: Path) -> tuple[int, ...]:
        """Return the first offsets of a log's segments, in order."""
        directory, _, name = str(log).rpartition("/")
        try:
            changed = os.stat(directory or ".").st_mtime_ns  # noqa: PTH116 - hot path
        except OSError:
            return ()
        listed = self._listed.get(directory)
        if listed is None or listed[0] != changed:
            now = time.time_ns()
            found = _list(directory or ".")
            self._listed[directory] = (changed if now - changed > _SETTLED_NS else 0, found)
        else:
            found = listed[1]
        return tuple(found.get(name, ()))

    def segment(self, log: Path, begin: int) -> Path:
        """Return the segment of a log that begins there, as it was listed."""
        directory, _, name = str(log).rpartition("/")
        listed = self._listed.get(directory)
        names = listed[1].get(name, {}) if listed is not None else {}
        return log.with_name(names.get(begin) or loglayout.segment_name(name, begin))

    def read(self, segment: Path, limit: int, position: int) -> bytes:
        """Return bytes of a segment; one that is compressed is unpacked once, into a file.

        Raises:
            FileNotFoundError: It is not there any more, or in its other form.
        """
        if not segment.name.endswith(".gz"):
            with segment.open("rb", buffering=0) as plain:
                return os.pread(plain.fileno(), limit, position)
        if self._opened is None or self._opened[0] != segment:
            import gzip  # noqa: PLC0415 - few logs are compressed
            import shutil  # noqa: PLC0415
            import tempfile  # noqa: PLC0415

            with gzip.open(segment) as packed:
                unpacked = tempfile.TemporaryFile()  # noqa: SIM115 - kept for the next read
                shutil.copyfileobj(packed, unpacked, 1 << 20)
                unpacked.flush()
            if self._opened is not None:
                self._opened[1].close()
            self._opened = segment, unpacked
        return os.pread(self._opened[1].fileno(), limit, position)

    def forget(self, log: Path) -> None:
        """List the log's directory again next time."""
        self._listed.pop(str(log).rpartition("/")[0], None)


def _list(directory: str) -> dict[str, dict[int, str]]:
    """Return the names of the segments in a directory, by log and first offset, in order."""
    found: dict[str, dict[int, str]] = {}
    try:
        names = os.listdir(directory)  # noqa: PTH208 - names are enough, and there may be many
    except OSError:
        return found
    for name in names:
        parts = loglayout.split_segment(name)
        if parts is not None:
            there = found.setdefault(parts.log, {})
            if parts.end is None or parts.begin not in there:
                there[parts.begin] = name
    return {log: dict(sorted(there.items())) for log, there in found.items()}


class LogFile:
    """One log, read on from `offset`. It may not exist yet, and may be replaced.

    It is open during a read only: two thousand logs may be followed, descriptors are few.
    `modified` is when the live file was last written to, as of the last read, in seconds
    since 1970. `problem` is why it could not be read, None when it could or is not there.
    """

    __slots__ = ("_catalogue", "_identity", "_stale", "modified", "offset", "path", "problem")

    def __init__(self, path: Path, offset: int = 0, catalogue: Catalogue | None = None) -> None:
        self.path = path
        self.offset = offset
        self.modified = 0.0
        self.problem: OSError | None = None
        self._catalogue = catalogue or Catalogue()
        self._identity: tuple[int, int] | None = None
        self._stale: frozenset[int] = frozenset()

    def at(self, offset: int) -> LogFile:
        """Return another reader of the same log."""
        return LogFile(self.path, offset, self._catalogue)

    def read(self, limit: int = CHUNK) -> bytes:
        """Return up to `limit` bytes from the offset on, and move it; empty at the end.

        Bytes that are gone are passed over.
        """
        fd = self._open()
        if fd is None:
            return b""
        try:
            self._notice_replacement(fd)
            for _ in range(_TRIES):
                data = self._read(fd, limit)
                if data is not None:
                    self.offset += len(data)
                    return data
        except OSError as problem:
            self.problem = problem
        finally:
            os.close(fd)
        return b""

    def extent(self) -> tuple[int, int]:
        """Return the offset of the first byte that is still there, and that behind the last."""
        fd = self._open()
        if fd is None:
            return 0, 0
        try:
            self._notice_replacement(fd)
            if not os.fstat(fd).st_size:
                return 0, 0
            begins = self._segments(fd)
            size = os.fstat(fd).st_size
            return (begins[0] if begins else _first_data(fd, 0, size)), size
        except OSError as problem:
            self.problem = problem
            return 0, 0
        finally:
            os.close(fd)

    def _open(self) -> int | None:
        """Return the opened live file; None with the `problem` when it cannot be read."""
        self.problem = None
        try:
            # Not waiting for a writer, should somebody have put a pipe there.
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        except OSError as problem:
            self.problem = problem
            return None
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            self.problem = OSError(errno.EINVAL, "it is no regular file")
            os.close(fd)
            return None
        return fd

    def _notice_replacement(self, fd: int) -> None:
        status = os.fstat(fd)
        self.modified = status.st_mtime
        identity = (status.st_dev, status.st_ino)
        was_replaced = self._identity is not None and identity != self._identity
        self._identity = identity
        if was_replaced or status.st_size < self.offset:
            # Another file, or one that somebody cut off: what it holds is new, and the
            # segments that are there are those of the old one.
            self.offset = 0
            self._stale = frozenset(self._catalogue.begins(self.path))

    def _segments(self, fd: int) -> tuple[int, ...]:
        """Return the first offsets of the segments that belong to the live file."""
        begins = self._catalogue.begins(self.path)
        if self._stale:
            self._stale &= frozenset(begins)
            begins = tuple(begin for begin in begins if begin not in self._stale)
        end = self._end(begins[-1]) if begins else None
        if end is not None and end > os.fstat(fd).st_size:
            return ()  # The live file was replaced, and nobody has told the segments.
        return begins

    def _segment(self, begin: int) -> Path:
        return self._catalogue.segment(self.path, begin)

    def _end(self, begin: int) -> int | None:
        """Return the offset behind a segment's last byte; None when it has been removed."""
        segment = self._segment(begin)
        try:
            size = segment.stat().st_size
            parts = loglayout.split_segment(segment.name)
            return parts.end if parts is not None and parts.end is not None else begin + size
        except FileNotFoundError:
            self._catalogue.forget(self.path)
            return None

    def _read(self, fd: int, limit: int) -> bytes | None:
        """Return the bytes at the offset; None when it moved and one must try again."""
        data = os.pread(fd, limit, self.offset)
        begins = self._segments(fd)
        if not begins:
            return self._read_whole(fd, limit, data)
        boundary = self._end(begins[-1])
        if boundary is None:
            # So much was rotated since the list was made that nobody knows what is a hole.
            return None
        if self.offset >= boundary:
            return data
        number = bisect.bisect_right(begins, self.offset) - 1
        if number < 0:
            self.offset = begins[0]
            return None
        begin = begins[number]
        try:
            data = self._catalogue.read(self._segment(begin), limit, self.offset - begin)
        except FileNotFoundError:
            self._catalogue.forget(self.path)
            if begin in self._segments(fd):
                return None  # It has been compressed meanwhile, or the other way about.
            data = b""
        if data:
            return data
        self.offset = begins[number + 1] if number + 1 < len(begins) else boundary
        return None

    def _read_whole(self, fd: int, limit: int, data: bytes) -> bytes:
        """Return what a file without segments holds; they may have been removed by hand."""
        if not data.startswith(b"\0"):
            return data
        first = _first_data(fd, self.offset, os.fstat(fd).st_size)
        if first == self.offset:
            return data
        self.offset = first
        return os.pread(fd, limit, first)


def _first_data(fd: int, offset: int, size: int) -> int:
    """Return where data begins at or after `offset`, `size` when nothing but a hole follows."""
    if offset >= size:
        return size
    try:
        found = os.lseek(fd, offset, os.SEEK_DATA)
    except OSError:
        return size
    # A hole ends at a block's border, a punched head within one: the rest of it reads as zeros.
    if found == offset:
        return offset
    return _skip_zeros(fd, found, size)


def _skip_zeros(fd: int, offset: int, size: int) -> int:
    while offset < size:
        block = os.pread(fd, _BLOCK, offset)
        if not block:
            break
        kept = block.lstrip(b"\0")
        if kept:
            return offset + len(block) - len(kept)
        offset += len(block)
    return offset


def last_lines(file: LogFile, count: int, begin: int, end: int) -> int:
    """Return the offset where the last `count` lines between two offsets begin.

    An unfinished last line counts as one.
    """
    if count == 0:
        return end
    missing = count
    position = end
    while position > begin:
        first = max(begin, position - _BLOCK)
        block = _block(file, first, position)
        search = len(block)
        if position == end and block.endswith(b"\n"):
            search -= 1
        while (found := block.rfind(b"\n", 0, search)) >= 0:
            missing -= 1
            if missing == 0:
                return position - len(block) + found + 1
            search = found
        if len(block) < position - first:
            return position - len(block)  # What is before was removed meanwhile.
        position = first
    return begin


def _block(file: LogFile, begin: int, end: int) -> bytes:
    """Return the bytes between two offsets; the last of them when the first are gone."""
    reader = file.at(begin)
    data = b""
    while reader.offset < end:
        expected = reader.offset
        piece = reader.read(end - expected)
        if not piece:
            break
        data = piece if reader.offset - len(piece) != expected else data + piece
    return data[: max(0, len(data) - max(0, reader.offset - end))]
