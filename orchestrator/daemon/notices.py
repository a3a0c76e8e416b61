"""The kernel's word that a file has been written to, once, and then no more until asked again.

Also that a file was touched: what a log's reader does when a write finds no room. A one-shot watch
costs the writer of a busy file nothing after its first write, and costs us nothing for a file that
nobody writes to.
"""

from __future__ import annotations

import ctypes
import os
import struct

_IN_MODIFY = 0x2
_IN_ATTRIB = 0x4
_IN_MOVED_TO = 0x80
_IN_CREATE = 0x100
_IN_DELETE = 0x200
_IN_DELETE_SELF = 0x400
_IN_Q_OVERFLOW = 0x4000
_IN_ONESHOT = 0x80000000
_HEAD = struct.Struct("iIII")


class Notices:
    """One-shot watches on files, and lasting ones on directories, by number."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd: int = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            number = ctypes.get_errno()
            raise OSError(number, f"cannot watch log files: {os.strerror(number)}")

    def fileno(self) -> int:
        """Return the descriptor, readable when a watched file was written to."""
        return self._fd

    def arm(self, path: str) -> int:
        """Wait for the next write to a file; return the watch's number.

        Raises:
            OSError: There are too many watches, or no such file.
        """
        return self._add(path, _IN_MODIFY | _IN_ATTRIB | _IN_ONESHOT)

    def watch_directory(self, path: str) -> int:
        """Tell from now on when an entry comes into a directory or goes; return the number.

        Raises:
            OSError: There are too many watches, or no such directory.
        """
        return self._add(path, _IN_CREATE | _IN_MOVED_TO | _IN_DELETE | _IN_DELETE_SELF)

    def _add(self, path: str, mask: int) -> int:
        found: int = self._libc.inotify_add_watch(
            self._fd, os.fsencode(path), ctypes.c_uint32(mask)
        )
        if found < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), path)
        return found

    def disarm(self, number: int) -> None:
        """Wait no longer."""
        self._libc.inotify_rm_watch(self._fd, number)

    def take(self) -> frozenset[int] | None:
        """Return the watches that are over; None when the kernel lost count and any may have."""
        fired: set[int] = set()
        lost = False
        while True:
            try:
                data = os.read(self._fd, 1 << 16)
            except BlockingIOError:
                return None if lost else frozenset(fired)
            offset = 0
            while offset < len(data):
                number, mask, _cookie, length = _HEAD.unpack_from(data, offset)
                offset += _HEAD.size + length
                if mask & _IN_Q_OVERFLOW:
                    lost = True
                else:
                    # Written to, or gone for good: either way its watch is over.
                    fired.add(number)

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._fd)
