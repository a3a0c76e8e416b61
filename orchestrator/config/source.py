"""One YAML file: its text, its values, and where everything stands.

Values are dict, list, str, int, float, bool and None, exactly as the quick validator wants
them; where each stood is kept beside them, by the identity of its container.

Nothing here knows what a topology is.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from msgspec import Struct, field

from orchestrator.config import syntax
from orchestrator.errors import Diagnostic, Position, Related, Severity

Value = Any
"""A value of JSON."""

Container = dict[str, Any] | list[Any]
"""What has keys, and thereby positions."""


class Trap(Struct, frozen=True):
    """A plain word that other tools read as something else than text."""

    container: Container
    key: str | int
    text: str


class Span(Struct, frozen=True):
    """Where something stands in a source: offsets of characters, the end not included."""

    start: int
    end: int


class Token:
    """A word of JSON and where it stands; the brace or bracket that begins a container."""

    __slots__ = ("end", "start", "text")

    def __init__(self, start: int, end: int, text: str) -> None:
        self.start = start
        self.end = end
        self.text = text

    @property
    def value(self) -> str:
        """The text itself, or what it says between its quotes."""
        if self.text[0] != '"':
            return self.text
        if "\\" not in self.text:
            return self.text[1:-1]
        said: str = json.loads(self.text)
        return said


class Source(Struct):
    """One file: its text, its value, and where everything in it stands.

    `file` is the name to show, `path` where it is. `marks` maps the identity of a container
    to the events or tokens of its keys and values; the containers live as long as `value` does.
    `dollars` lists every text with a `$` in it, for interpolation. `later`, when given, fills
    `marks` and `root` as soon as a position is asked for.
    """

    file: str
    path: Path
    text: str
    value: Value = None
    marks: dict[int, dict[str | int, tuple[Any, Any]]] = field(default_factory=dict)
    dollars: list[tuple[Container, str | int]] = field(default_factory=list)
    traps: list[Trap] = field(default_factory=list)
    diagnostics: list[Diagnostic] = field(default_factory=list)
    root: Any = None
    later: Callable[[], None] | None = None
    lines: list[int] | None = None
    shown: dict[int, str] = field(default_factory=dict)
    directory: Path = Path()
    """The file's directory: each component has it, and a path is dear to take apart."""

    def __post_init__(self) -> None:
        self.directory = self.path.parent

    def key_span(self, container: Container, key: str | int) -> Span:
        """Return where a key of a map stands; for an item of a list, where the item does."""
        marks = self._mark(container, key)
        return self._span(marks[0]) if marks else self.container_span(container)

    def value_span(self, container: Container, key: str | int) -> Span:
        """Return where the value of a key, or an item of a list, stands."""
        marks = self._mark(container, key)
        return self._span(marks[1]) if marks else self.container_span(container)

    def container_span(self, container: Container) -> Span:
        """Return where a container begins: its first key or item."""
        self._locate()
        marks = self.marks.get(id(container))
        if marks:
            return self._span(next(iter(marks.values()))[0])
        for owner in self.marks.values():
            for _, value in owner.values():
                if value.__class__ is tuple and value[0] is container:
                    return self._span(value)
        return self._span(self.root) if self.root is not None else Span(0, 0)

    def spelling(self, container: Container, key: str | int) -> str | None:
        """Return a scalar as it was written, without its quotes; None when it is no scalar."""
        marks = self._mark(container, key)
        return getattr(marks[1], "value", None) if marks else None

    def position(self, offset: int) -> Position:
        """Return line and column of an offset."""
        line, column = syntax.line_and_column(self.starts(), offset)
        return Position(self.file, line, column)

    def starts(self) -> list[int]:
        """Return the offset at which each line begins."""
        if self.lines is None:
            self.lines = syntax.line_starts(self.text)
        return self.lines

    def excerpt(self, line: int) -> str:
        """Return a line of the text, counted from 1; always the same object for a line."""
        if line in self.shown:
            return self.shown[line]
        starts = self.starts()
        if not 0 < line <= len(starts):
            return ""
        end = starts[line] if line < len(starts) else len(self.text)
        self.shown[line] = self.text[starts[line - 1] : end].rstrip("\r\n")
        return self.shown[line]

    def diagnostic(
        self,
        code: str,
        message: str,
        span: Span,
        *,
        severity: Severity = Severity.ERROR,
        hint: str = "",
        related: tuple[Related, ...] = (),
    ) -> Diagnostic:
        """Return a diagnostic that underlines `span`, up to the end of its first line."""
        position = self.position(span.start)
        excerpt = self.excerpt(position.line)
        room = len(excerpt) - position.column + 1
        length = max(1, min(span.end - span.start, room))
        return Diagnostic(code, message, position, severity, length, excerpt, hint, related)

    def _mark(self, container: Container, key: str | int) -> tuple[Any, Any] | None:
        self._locate()
        return self.marks.get(id(container), {}).get(key)

    def _locate(self) -> None:
        if self.later is not None:
            later, self.later = self.later, None
            later()

    @staticmethod
    def _span(event: Any) -> Span:
        if event.__class__ is tuple:
            event = event[1]
        if event.__class__ is Token:
            return Span(event.start, event.end)
        return Span(event.start_mark.index, event.end_mark.index)


@contextmanager
def collector_off() -> Iterator[None]:
    """Keep the cycle collector from walking tens of thousands of fresh objects again and again.

    At the end they count as old: freezing and thawing moves them there without a walk, which
    would cost as much as the parsing.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            if gc.get_freeze_count() == 0:
                gc.freeze()
                gc.unfreeze()
            gc.enable()
