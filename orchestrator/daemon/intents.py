"""Starts that are about to be made: one line in a file beside the journal, written in one call.

An intent must be written down before its process exists, and whoever waits for a restart waits
for that. A commit takes the journal a dozen calls; this takes one, and the commit follows when
the process is there. The line lives between the two: a daemon that was killed there finds it.
"""

from __future__ import annotations

import binascii
import contextlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_BAD = b"-" * 8
"""What stands for the checksum of a line that no longer says anything."""


class Intents:
    """The file; where it cannot be used, nothing is written and nothing found.

    Args:
        path: Where it is; made private if it is missing.
    """

    def __init__(self, path: Path) -> None:
        self.is_pending = False
        """Whether there are intents that no commit has followed yet."""
        self._fd = -1
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        with contextlib.suppress(OSError):
            self._fd = os.open(path, flags, 0o600)

    def write(self, boot: str, rows: Sequence[tuple[Any, ...]]) -> bool:
        """Write the rows of what is to be started; tell whether it could be done.

        What was cut off by a kill fails its checksum, and then nothing has been started either.
        """
        text = json.dumps([boot, rows]).encode()
        line = b"%08x %b\n" % (binascii.crc32(text), text)
        try:
            is_whole = os.pwrite(self._fd, line, 0) == len(line)
        except OSError:
            is_whole = False
        self.is_pending = self.is_pending or is_whole
        return is_whole

    def read(self, boot: str) -> list[tuple[Any, ...]]:
        """Return the rows that a daemon of this boot wrote last and did not forget."""
        try:
            with open(self._fd, "rb", closefd=False) as file:
                checksum, _, text = file.read().partition(b"\n")[0].partition(b" ")
            if checksum != b"%08x" % binascii.crc32(text):
                return []
            written, rows = json.loads(text)
        except (OSError, ValueError):
            return []
        return [tuple(row) for row in rows] if written == boot else []

    def forget(self) -> None:
        """Take note that the journal has them now."""
        if self.is_pending:
            # Nor do they count when this fails: the journal's rows are of the same generation.
            with contextlib.suppress(OSError):
                os.pwrite(self._fd, _BAD, 0)
            self.is_pending = False

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
