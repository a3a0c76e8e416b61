"""The directory of a run: made, given its program, and listed.

WORK_PATH/ID/            the program's working directory, and that of the hooks
WORK_PATH/ID/PROGRAM     a copy of the program
WORK_PATH/ID/output      what the program said, as it says it; at last a newline, its exit code
WORK_PATH/ID/output.1    … what it said in the first attempt, when there was a second
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from orchestrator import files
from orchestrator.component.errors import SetupError

OUTPUT = "output"


def make(run_dir: Path, attempt: int, *, again: bool) -> None:
    """Make the directory of a run.

    What an earlier attempt left is there for the next, which may go on from it; only its `output`
    is put aside.

    Args:
        run_dir: Which one.
        attempt: Which one this is, from 1.
        again: Whether the directory may be there with something in it: this run's own.

    Raises:
        OrchestratorError: It cannot be made, or holds what is not this run's.
    """
    files.make_dir(run_dir)
    try:
        there = os.listdir(run_dir)  # noqa: PTH208 - names
        if there and not again:
            raise SetupError(
                f"cannot use the run directory {run_dir}: it is there and not empty; "
                "remove it, or submit with another id"
            )
        if OUTPUT in there:
            # The number of an attempt that the daemon's death has cut short may be there already.
            number = max(1, attempt - 1)
            while f"{OUTPUT}.{number}" in there:
                number += 1
            (run_dir / OUTPUT).rename(run_dir / f"{OUTPUT}.{number}")
    except OSError as error:
        raise files.FileError("use the run directory", run_dir, error) from error


def bring(program: Path, run_dir: Path) -> tuple[str, ...]:
    """Copy a program into a run's directory; return the words that start it there.

    A Python file that the kernel could not start is started by our own interpreter.

    Raises:
        OrchestratorError: It cannot be copied.
    """
    target = run_dir / program.name
    if program.name == OUTPUT:
        raise SetupError(f"cannot run {program}: {OUTPUT!r} is the file for what it says")
    try:
        # A new file: a copy that still runs elsewhere is busy.
        target.unlink(missing_ok=True)
        files.copy(program, target)
        with target.open("rb") as file:
            has_interpreter = file.read(2) == b"#!"
    except OSError as error:
        raise files.FileError(f"copy the program to {run_dir}:", program, error) from error
    if program.suffix == ".py" and not (has_interpreter and os.access(target, os.X_OK)):
        return (sys.executable, str(target))
    return (str(target),)


def listing(run_dir: Path) -> list[str]:
    """Return the files of a run, those in directories too, as sorted paths within it."""
    found: list[str] = []
    start = len(str(run_dir)) + 1
    for directory, _, names in os.walk(run_dir):
        within = f"{directory}/"[start:]
        found += [f"{within}{name}" for name in names]
    return sorted(found)


def subdirectories(run_dir: Path, most: int) -> list[Path]:
    """Return the directory of a run and those in it, so many at most."""
    found: list[Path] = []
    for directory, _, _ in os.walk(run_dir):
        found.append(Path(directory))
        if len(found) >= most:
            break
    return found
