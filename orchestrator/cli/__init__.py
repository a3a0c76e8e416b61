"""The command line: parse, ask the daemon, print. It knows the daemon by its protocol only."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run `orch` with `argv` (the process's own arguments by default); return the exit code."""
    if argv is None:
        # What a command loads it keeps. To look through all of it again and again, and once more
        # at the end, takes a fifth of a short command's time.
        gc.set_threshold(100_000)
        _open_what_is_closed()
    from orchestrator.cli import entry  # noqa: PLC0415 - importing the package costs nothing

    code = entry.run(argv)
    if argv is None:
        gc.freeze()
    return code


def _open_what_is_closed() -> None:
    """Open the standard streams that our caller has closed, upon nothing.

    Else the first socket would be one of them, and get what is printed.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # The lowest descriptor that is free is the one that is missing.
            fd = os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, open(fd, mode, encoding="utf-8"))  # noqa: PTH123, SIM115
