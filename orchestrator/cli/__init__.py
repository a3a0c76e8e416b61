"""The command line: parse, ask the daemon, print. It knows the daemon by its protocol only."""

from __future__ import annotations

import gc
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run `orch` with `argv` (the process's own arguments by default); return the exit code."""
    if argv is None:
        # What a command loads it keeps. To look through all of it again and again, and once more
        # at the end, takes a fifth of a short command's time.
        gc.set_threshold(100_000)
    from orchestrator.cli import entry  # noqa: PLC0415 - importing the package costs nothing

    code = entry.run(argv)
    if argv is None:
        gc.freeze()
    return code
