"""What runs are doing while one waits for them: bars on a terminal, else a line for each change.

rich draws the bars. It takes a tenth of a second to load, so it is loaded when there is a
terminal to draw on.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from orchestrator.cli import screen
from orchestrator.cli.screen import Screen
from orchestrator.cli.session import Session
from orchestrator.client import RunRow, runs

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_COLOURS = {
    "succeeded": screen.GREEN,
    "failed": screen.RED,
    "cancelled": screen.YELLOW,
    "running": screen.CYAN,
    "building": screen.CYAN,
}
_MOST = 20
"""How many bars are drawn at once; of the other runs only the number is told."""


def colour_of(state: str) -> str:
    """Return the colour of a run's state, empty for none."""
    return _COLOURS.get(state, "")


class Display(Protocol):
    """Shows rows of runs as they come; a context manager."""

    def __enter__(self) -> Self:
        """Begin."""
        ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End, whatever happened."""
        ...

    def see(self, row: RunRow) -> None:
        """Show a row that is new or has changed."""
        ...


def display(session: Session) -> Display:
    """Return what suits standard error."""
    out = session.screen
    if sys.stderr.isatty() and not out.quiet:
        return Bars(out)
    return Lines(out, with_words=session.options.verbose)


class Lines:
    """A line for each change of a run's state; `with_words` also when its hooks say something."""

    def __init__(self, out: Screen, *, with_words: bool = False) -> None:
        self._out = out
        self._with_words = with_words
        self._told: dict[str, tuple[str, int, str]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def see(self, row: RunRow) -> None:
        """Tell what is new in the row."""
        words = runs.reason(row) if self._with_words else ""
        state = row["state"], row["attempt"], words
        if self._told.get(row["id"]) != state:
            self._told[row["id"]] = state
            self._out.note(line(row, coloured=self._out.err_coloured))
        if runs.is_finished(row):
            del self._told[row["id"]]


def line(row: RunRow, *, coloured: bool) -> str:
    """Return a run's name and state, and why."""
    word = screen.paint(row["state"], colour_of(row["state"]), on=coloured)
    why = runs.reason(row)
    return f"{row['name']}  {word}" + (f"  {why}" if why else "")


class Bars:
    """A bar for each run that is at work; one that has ended becomes a line above them."""

    def __init__(self, out: Screen) -> None:
        self._out = out
        self._bars: dict[str, TaskID] = {}
        self._waiting: dict[str, RunRow] = {}
        self._progress = _progress(out)
        self._others = self._progress.add_task("", total=None, visible=False, name="", text="")

    def __enter__(self) -> Self:
        self._progress.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # What was at work when nobody looks any more is no news.
        for bar in (*self._bars.values(), self._others):
            self._progress.remove_task(bar)
        self._progress.__exit__(kind, error, trace)

    def see(self, row: RunRow) -> None:
        """Show what is new in the row."""
        number = row["id"]
        if runs.is_finished(row):
            self._waiting.pop(number, None)
            bar = self._bars.pop(number, None)
            if bar is not None:
                self._progress.remove_task(bar)
                self._progress.refresh()
            self._progress.console.print(line(row, coloured=self._out.err_coloured), markup=False)
        elif number in self._bars or (row["state"] != "queued" and len(self._bars) < _MOST):
            self._waiting.pop(number, None)
            self._draw(row)
        else:
            self._waiting[number] = row
        self._count()

    def _draw(self, row: RunRow) -> None:
        bar = self._bars.get(row["id"])
        if bar is None:
            bar = self._progress.add_task("", name=row["name"], text="", total=None)
            self._bars[row["id"]] = bar
            # It has begun before we looked.
            age = max(0.0, (datetime.now(UTC) - _began(row)).total_seconds())
            self._progress.tasks[-1].start_time = self._progress.get_time() - age
        progress = row["progress"]
        self._progress.update(
            bar,
            total=None if progress is None else 1.0,
            completed=progress or 0.0,
            text=row["text"] or (row["state"] if row["state"] != "running" else ""),
        )

    def _count(self) -> None:
        waiting = len(self._waiting)
        only = next(iter(self._waiting.values())) if waiting == 1 else None
        text = (only["why"] or only["state"]) if only else f"{waiting} more"
        self._progress.update(
            self._others,
            visible=waiting > 0,
            name=only["name"] if only else "",
            text=text,
        )


def _began(row: RunRow) -> datetime:
    return datetime.fromisoformat(row["started_at"] or row["submitted_at"])


def _progress(out: Screen) -> Progress:
    from rich.console import Console  # noqa: PLC0415 - see above
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
    )

    console = Console(
        stderr=True, no_color=not out.err_coloured, highlight=False, emoji=False, soft_wrap=True
    )
    return Progress(
        TextColumn("{task.fields[name]}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[text]}", markup=False),
        console=console,
        transient=True,
    )
