"""The command line: parse, ask the daemon, print. It knows the daemon by its protocol only."""

from __future__ import annotations

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run `orch` with `argv` (the process's own arguments by default); return the exit code."""
    from orchestrator.cli import entry  # noqa: PLC0415 - importing the package costs nothing

    return entry.run(argv)
