"""Progress on standard error: a line per transition, and who a stop still waits for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator import client
from orchestrator.cli import screen
from orchestrator.cli.screen import Screen
from orchestrator.model import units
from orchestrator.model.units import Instant, Seconds

if TYPE_CHECKING:
    from orchestrator.client import Row

_EVERY: Seconds = 1.0
_NAMED = 10
_ALIVE = frozenset({"starting", "running", "stopping"})


def word(row: Row) -> str:
    """Return the one word for where an instance is: its phase, or that it is ready."""
    return "ready" if row["phase"] == "running" and row["ready"] else row["phase"]


class Transitions:
    """Tells each change of an instance's phase or readiness, and each warning, once."""

    def __init__(self, out: Screen) -> None:
        self._out = out
        self._told: dict[str, tuple[str, bool, int]] = {}
        self._warned: dict[str, str | None] = {}
        self._width = 0

    def begin(self, row: Row) -> None:
        """Take a row as known without telling it."""
        self._warned[row["name"]] = row["warning"]
        self._told[row["name"]] = (row["phase"], row["ready"], row["generation"])

    def see(self, row: Row) -> None:
        """Tell what is new in the row."""
        if self._out.quiet:
            return
        self._warn(row)
        name = row["name"]
        state = (row["phase"], row["ready"], row["generation"])
        if self._told.get(name) == state:
            return
        self._told[name] = state
        self._width = max(self._width, len(name))
        self._out.say(f"{name:<{self._width}}  {self._text(row)}")

    def _warn(self, row: Row) -> None:
        name, warning = row["name"], row["warning"]
        if warning and self._warned.get(name) != warning:
            self._out.say(f"orch: warning: {name}: {warning}")
        self._warned[name] = warning

    def _text(self, row: Row) -> str:
        phase = row["phase"]
        text = screen.paint(word(row), screen.colour_of_phase(phase), on=self._out.err_coloured)
        if phase in _ALIVE:
            return text if row["pid"] is None else f"{text}  pid {row['pid']}"
        why = client.reason(row)
        return f"{text}  {why}" if why else text


class Stopping:
    """Who a stop still waits for, told once a second."""

    def __init__(self, out: Screen) -> None:
        self._out = out
        self._alive: dict[str, tuple[Row, Instant]] = {}
        self._due: Instant | None = None

    def see(self, row: Row, now: Instant) -> None:
        """Take in a row as it is at `now`."""
        if self._due is None:
            self._due = now + _EVERY
        if row["phase"] in _ALIVE:
            self._alive[row["name"]] = (row, now)
        else:
            self._alive.pop(row["name"], None)

    def forget(self, name: str) -> None:
        """Await an instance no longer."""
        self._alive.pop(name, None)

    def due(self, now: Instant) -> Seconds:
        """Return the seconds until there is something to tell."""
        return _EVERY if self._due is None else max(0.0, self._due - now)

    def tell(self, now: Instant) -> None:
        """Tell the names still awaited, when it is time to."""
        if self._due is None:
            self._due = now + _EVERY
        if now < self._due:
            return
        self._due = now + _EVERY
        if self._alive:
            self._out.note(f"orch: stopping {self.describe(now)}")

    def describe(self, now: Instant) -> str:
        """Return the awaited names with pid and the time left until the next, harder step."""
        shown = list(self._alive.values())[:_NAMED]
        texts = [_describe(row, now - seen) for row, seen in shown]
        more = len(self._alive) - len(shown)
        return ", ".join(texts) + (f" and {more} more" if more else "")


def _describe(row: Row, age: Seconds) -> str:
    text = f"{row['name']} (pid {row['pid']}"
    if row["stop_in"] is None:
        return text + ")"
    return f"{text}, {units.format_duration(max(0.0, round(row['stop_in'] - age, 1)))} left)"
