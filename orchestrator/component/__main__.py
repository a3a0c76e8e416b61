"""`python -m orchestrator.component DIR`: run the built instance in DIR."""

from __future__ import annotations

import sys
from pathlib import Path

from orchestrator.component import runtime
from orchestrator.errors import ExitCode


def main(arguments: list[str]) -> int:
    """Run the instance of the given directory; return the exit code."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m orchestrator.component DIR\n")
        return ExitCode.USAGE
    return runtime.run_directory(Path(arguments[0]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
