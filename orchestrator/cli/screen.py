"""Where a command prints: data on standard output, progress on standard error, with colours.

Plain aligned tables by a small formatter of our own; a table library would cost more time
to import than the daemon takes to answer.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import TextIO

RESET = "\x1b[0m"
BOLD = "1"
DIM = "2"
RED = "31"
GREEN = "32"
YELLOW = "33"
CYAN = "36"
_CYCLE = ("36", "33", "32", "35", "34", "96", "93", "92", "95", "94")

_PHASES: Mapping[str, str] = {
    "running": GREEN,
    "starting": CYAN,
    "waiting": CYAN,
    "stopping": YELLOW,
    "backoff": YELLOW,
    "failed": RED,
    "stopped": DIM,
    "disabled": DIM,
}


def wants_colour(stream: TextIO, choice: str, environment: Mapping[str, str]) -> bool:
    """Tell whether to colour what goes to `stream`."""
    if choice != "auto":
        return choice == "always"
    if environment.get("NO_COLOR") or environment.get("TERM") == "dumb":
        return False
    return stream.isatty()


def paint(text: str, colour: str, *, on: bool) -> str:
    """Return `text` in `colour`, or as it is."""
    return f"\x1b[{colour}m{text}{RESET}" if on and colour else text


def colour_of(service: str) -> str:
    """Return the colour of a service's log lines: the same on every day and machine."""
    return _CYCLE[sum(service.encode()) % len(_CYCLE)]


def colour_of_phase(phase: str) -> str:
    """Return the colour of a phase, empty for none."""
    return _PHASES.get(phase, "")


def table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    colours: Mapping[int, Sequence[str]] | None = None,
) -> str:
    """Return an aligned table, two spaces between columns and none at the ends of lines.

    Args:
        header: The column titles.
        rows: The cells.
        colours: For a column, the colour of each row's cell; widths ignore them.
    """
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [_line(header, widths)]
    for number, row in enumerate(rows):
        cells = list(row)
        for column, chosen in (colours or {}).items():
            cells[column] = paint(cells[column], chosen[number], on=True)
        lines.append(_line(row, widths, cells))
    return "\n".join(lines)


def _line(row: Sequence[str], widths: Sequence[int], shown: Sequence[str] | None = None) -> str:
    cells = row if shown is None else shown
    padded = (
        cell + " " * (width - len(plain))
        for cell, plain, width in zip(cells, row, widths, strict=True)
    )
    return "  ".join(padded).rstrip()


class Screen:
    """The two streams of a command."""

    def __init__(self, choice: str, environment: Mapping[str, str], *, quiet: bool) -> None:
        self.quiet = quiet
        self.is_terminal = sys.stdout.isatty()
        self.out_coloured = wants_colour(sys.stdout, choice, environment)
        self.err_coloured = wants_colour(sys.stderr, choice, environment)

    def data(self, text: str) -> None:
        """Print what the command was asked for."""
        sys.stdout.write(text + "\n")

    def json(self, value: object) -> None:
        """Print one JSON value: indented for people on a terminal, else in one line."""
        indent = 2 if sys.stdout.isatty() else None
        sys.stdout.write(json.dumps(value, indent=indent, ensure_ascii=False) + "\n")

    def line(self, value: object) -> None:
        """Print one JSON value in one line, at once: an item of a stream."""
        sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
        sys.stdout.flush()

    def flush(self) -> None:
        """Let the reader see what was printed."""
        sys.stdout.flush()

    def note(self, text: str) -> None:
        """Print progress, unless the user wants quiet."""
        if not self.quiet:
            self.say(text)

    def say(self, text: str) -> None:
        """Print on standard error, after all data so far."""
        sys.stdout.flush()
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
