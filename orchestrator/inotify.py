"""The kernel's notices of changes in directories, as a descriptor to select on: inotify(7).

A few lines over libc instead of a watching library: one thread then waits for files, processes
and signals together, nothing polls, and nothing heavy is imported.
"""

from __future__ import annotations

import ctypes
import os
import struct
from pathlib import Path
from typing import Self

from orchestrator.errors import OrchestratorError

_IN_MODIFY = 0x2
_IN_MOVED_FROM = 0x40
_IN_MOVED_TO = 0x80
_IN_CREATE = 0x100
_IN_DELETE = 0x200
_IN_Q_OVERFLOW = 0x4000
_IN_IGNORED = 0x8000
_IN_ONLYDIR = 0x01000000
_HEAD = struct.Struct("iIII")

GROWTH = _IN_MODIFY | _IN_CREATE | _IN_MOVED_TO
"""What is written, and what comes."""

EVERY = GROWTH | _IN_MOVED_FROM | _IN_DELETE
"""And what goes."""


class Notices:
    """Watches directories; a context manager that closes its descriptor.

    Args:
        mask: What is told of: `GROWTH` or `EVERY`.

    Raises:
        OrchestratorError: The kernel gives no more watches.
    """

    def __init__(self, mask: int = GROWTH) -> None:
        self._mask = mask | _IN_ONLYDIR
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OrchestratorError(
                f"cannot watch files: {os.strerror(ctypes.get_errno())}; see "
                "fs.inotify.max_user_instances, or go without following"
            )
        self._directories: dict[int, Path] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def fileno(self) -> int:
        """Return the descriptor, readable when something changed."""
        return int(self._fd)

    def watch(self, directory: Path) -> bool:
        """Watch a directory; watching it again is harmless. Tell whether it exists."""
        number = self._libc.inotify_add_watch(self._fd, os.fsencode(directory), self._mask)
        if number < 0:
            return False
        self._directories[number] = directory
        return True

    def take(self) -> frozenset[Path] | None:
        """Return the paths that changed; None when the kernel lost count and all may have."""
        changed: set[Path] = set()
        lost = False
        while True:
            try:
                data = os.read(self._fd, 1 << 16)
            except BlockingIOError:
                return None if lost else frozenset(changed)
            offset = 0
            while offset < len(data):
                number, mask, _cookie, length = _HEAD.unpack_from(data, offset)
                name = data[offset + _HEAD.size : offset + _HEAD.size + length].rstrip(b"\0")
                offset += _HEAD.size + length
                if mask & (_IN_Q_OVERFLOW | _IN_IGNORED):
                    lost = True
                elif number in self._directories:
                    changed.add(self._directories[number] / os.fsdecode(name))
