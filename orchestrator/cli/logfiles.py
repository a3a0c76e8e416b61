"""Reading the files that components write to: from the end, and on from an offset.

Rotation punches a hole into the head of a file, so offsets stay what they were for ever and
are all that a reader has to remember. The hole reads as zero bytes and is never shown: the
first data is found by SEEK_DATA.
"""

from __future__ import annotations

import collections
import os
import re
from pathlib import Path

CHUNK = 1 << 18
_BLOCK = 1 << 16


class LogFile:
    """One file, read on from `offset`. It may not exist yet, and may be replaced.

    It is open during a read only: two thousand logs may be followed, descriptors are few.
    """

    __slots__ = ("_identity", "offset", "path")

    def __init__(self, path: Path, offset: int = 0) -> None:
        self.path = path
        self.offset = offset
        self._identity: tuple[int, int] | None = None

    def read(self, limit: int = CHUNK) -> bytes:
        """Return up to `limit` bytes from the offset on, and move it; empty at the end."""
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return b""
        try:
            return self._read(fd, limit)
        finally:
            os.close(fd)

    def _read(self, fd: int, limit: int) -> bytes:
        status = os.fstat(fd)
        identity = (status.st_dev, status.st_ino)
        was_replaced = self._identity is not None and identity != self._identity
        self._identity = identity
        if was_replaced or status.st_size < self.offset:
            # Another file, or one that somebody cut off: what it holds is new.
            self.offset = 0
        self.offset = _first_data(fd, self.offset, status.st_size)
        data = os.pread(fd, min(limit, status.st_size - self.offset), self.offset)
        self.offset += len(data)
        return data


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


def beginning(path: Path) -> int:
    """Return the offset of the first byte that is still there."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        return _first_data(fd, 0, os.fstat(fd).st_size)
    finally:
        os.close(fd)


def last_matches(path: Path, count: int, pattern: re.Pattern[bytes]) -> int:
    """Return the offset of the `count`-th last line that matches; the end when none does."""
    position = beginning(path)
    found: collections.deque[int] = collections.deque(maxlen=count)
    try:
        with path.open("rb") as file:
            file.seek(position)
            for line in file:
                if pattern.search(line.rstrip(b"\n")):
                    found.append(position)
                position += len(line)
    except OSError:
        return 0
    return found[0] if found else position


def last_lines(path: Path, count: int | None) -> int:
    """Return the offset where the last `count` lines begin; None means all of them.

    An unfinished last line counts as one.
    """
    start = beginning(path)
    if count is None:
        return start
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        end = os.fstat(fd).st_size
        return end if count == 0 else _seek_back(fd, start, end, count)
    finally:
        os.close(fd)


def _seek_back(fd: int, start: int, end: int, count: int) -> int:
    missing = count
    position = end
    while position > start:
        begin = max(start, position - _BLOCK)
        block = os.pread(fd, position - begin, begin)
        search = len(block)
        if position == end and block.endswith(b"\n"):
            search -= 1
        while (found := block.rfind(b"\n", 0, search)) >= 0:
            missing -= 1
            if missing == 0:
                return begin + found + 1
            search = found
        position = begin
    return start
