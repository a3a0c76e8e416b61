"""Files that give values by name, to settings or to a configuration: YAML, JSON or Python.

What a Python module gives is asked of somebody who may import it, in a process of its own. The
values come as from YAML, with positions; what JSON has no type for is as `wire.exactjson` has it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from orchestrator.config import compose, report, validate
from orchestrator.config.report import Place, Report
from orchestrator.config.source import Source, Span
from orchestrator.wire import exactjson

Modules = Callable[[Path], Mapping[str, Any]]
"""Tells what a module gives: `values` and `lines` by name, or `error` with file and line."""

_LOADING = re.compile(r"^cannot load the \w+[^:]*: ")

YAML, PYTHON = (".yaml", ".yml", ".json"), ".py"


def read(
    path: Path, word: str, place: Place | None, modules: Modules | None, found: Report
) -> Source | None:
    """Return a file's values, as a source whose value is a map; None, reported, without.

    Args:
        path: The file.
        word: How it was named.
        place: Where it was named; None for a file that nobody named.
        modules: Tells what Python modules give.
        found: Takes what is wrong.
    """
    if not path.is_file():
        hint = "" if path.exists() else f"looked for {path}"
        said = "is no file" if path.exists() else "does not exist"
        found.error("ORC430", f"the file {word!r} {said}", _place(path, place), hint=hint)
        return None
    if path.suffix == PYTHON:
        return _module(path, place, modules, found)
    if path.suffix not in YAML:
        message = f"cannot read values from {word!r}"
        hint = "files of values end in .yaml, .yml, .json or .py"
        found.error("ORC430", message, _place(path, place), hint=hint)
        return None
    one = compose.read(path, report.shown_path(str(path)))
    found.found.extend(one.diagnostics)
    if one.value is None and not one.diagnostics:
        one.value = {}
    if one.value is None:
        return None
    if not isinstance(one.value, dict):
        kind = validate.kind_of(one.value)
        found.found.append(
            one.diagnostic("ORC430", f"a file of values must be a map, not {kind}", Span(0, 1))
        )
        return None
    return one


def module_source(path: Path, answer: Mapping[str, Any]) -> Source:
    """Return the source of a module whose values and lines are known."""
    made = code(path) or Source(report.shown_path(str(path)), path, "")
    made.value = dict(answer["values"])
    lines: Mapping[str, int] = answer.get("lines") or {}
    made.marks[id(made.value)] = {
        name: (_Event(span),) * 2
        for name in made.value
        if (span := line_span(made, lines.get(name, 1))) is not None
    }
    return made


def exact(one: Source) -> dict[str, Any]:
    """Return the values of a file as Python has them; they keep their positions."""
    if one.path.suffix != PYTHON:
        found: dict[str, Any] = one.value
        return found
    made = {name: exactjson.load(value) for name, value in one.value.items()}
    one.marks[id(made)] = one.marks[id(one.value)]
    one.value = made
    return made


def code(path: Path) -> Source | None:
    """Return a file of code as a source, for positions; None when it cannot be read."""
    try:
        return Source(report.shown_path(str(path)), path, path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return None


def line_span(one: Source, line: int) -> Span | None:
    """Return where the text on a line is; None when there is no such line."""
    if not 0 < line <= len(one.starts()):
        return None
    text = one.excerpt(line)
    start = one.starts()[line - 1] + len(text) - len(text.lstrip())
    return Span(start, start + len(text.strip()))


def _module(
    path: Path, place: Place | None, modules: Modules | None, found: Report
) -> Source | None:
    if modules is None:
        message = f"cannot read {path.name}: nothing is imported here"
        found.error("ORC431", message, _place(path, place))
        return None
    answer = modules(path)
    error = answer.get("error")
    if not error:
        return module_source(path, answer)
    said = _LOADING.sub("", str(error.get("message") or "it failed"))
    message = f"cannot load {path.name}: {said}"
    one = code(Path(error["file"])) if error.get("file") else None
    span = line_span(one, int(error.get("line") or 0)) if one is not None else None
    if one is None or span is None:
        found.error("ORC431", message, _place(path, place))
    else:
        related = () if place is None else (place.related(f"{path.name} is named here"),)
        found.found.append(one.diagnostic("ORC431", message, span, related=related))
    return None


def _place(path: Path, place: Place | None) -> Place:
    """Return where to tell of a file: where it is named, else the file itself."""
    return place or Place(Source(report.shown_path(str(path)), path, ""), {}, "")


class _Mark(Struct, frozen=True):
    index: int


class _Event:
    """Where a name of a module is, in the form that sources have positions in."""

    __slots__ = ("end_mark", "start_mark", "value")

    def __init__(self, span: Span) -> None:
        self.start_mark = _Mark(span.start)
        self.end_mark = _Mark(span.end)
        self.value = None
