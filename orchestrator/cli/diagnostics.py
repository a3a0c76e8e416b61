"""Diagnostics for people and for programs.

topology.yaml:7:5: error ORC102: unknown key 'restrat'
    7 |     restrat: always
      |     ^^^^^^^
      = did you mean 'restart'?
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orchestrator.cli import screen
from orchestrator.errors import Diagnostic, Severity

_WIDEST = 120
"""Of a longer line, as JSON of one line has them, only what is around the mistake is shown."""


def text(diagnostics: Sequence[Diagnostic], *, coloured: bool = False) -> str:
    """Return the diagnostics with excerpt, caret, hint and second positions."""
    return "\n".join(_text(one, coloured=coloured) for one in diagnostics)


def plain(diagnostic: Diagnostic) -> dict[str, Any]:
    """Return the diagnostic as a JSON object."""
    return {
        "code": diagnostic.code,
        "severity": str(diagnostic.severity),
        "message": diagnostic.message,
        "file": diagnostic.position.file,
        "line": diagnostic.position.line,
        "column": diagnostic.position.column,
        "length": diagnostic.length,
        "excerpt": _window(diagnostic)[0],
        "hint": diagnostic.hint,
        "related": [
            {
                "file": related.position.file,
                "line": related.position.line,
                "column": related.position.column,
                "message": related.message,
            }
            for related in diagnostic.related
        ],
    }


def _text(diagnostic: Diagnostic, *, coloured: bool) -> str:
    is_error = diagnostic.severity is Severity.ERROR
    colour = screen.RED if is_error else screen.YELLOW
    label = screen.paint(f"{diagnostic.severity} {diagnostic.code}", colour, on=coloured)
    where = screen.paint(str(diagnostic.position), screen.BOLD, on=coloured)
    lines = [f"{where}: {label}: {diagnostic.message}"]
    number = str(diagnostic.position.line)
    gutter = " " * len(number)
    if diagnostic.excerpt:
        shown, before, length = _window(diagnostic)
        marks = screen.paint("^" * max(1, length), colour, on=coloured)
        lines.append(f"    {number} | {shown}")
        lines.append(f"    {gutter} | {_indent(before)}{marks}")
    if diagnostic.hint:
        lines.append(f"    {gutter} = {diagnostic.hint}")
    lines.extend(
        f"    {gutter} = {related.position}: {related.message}" for related in diagnostic.related
    )
    return "\n".join(lines)


def _window(diagnostic: Diagnostic) -> tuple[str, str, int]:
    """Return what is shown of the line, what of that is before the mark, and the mark's length."""
    line, start = diagnostic.excerpt, diagnostic.position.column - 1
    if len(line) <= _WIDEST:
        return line, line[:start], diagnostic.length
    begin = max(0, min(start - _WIDEST // 3, len(line) - _WIDEST))
    end = begin + _WIDEST
    head, tail = "…" if begin else "", "…" if end < len(line) else ""
    shown = f"{head}{line[begin:end]}{tail}"
    return shown, head + line[begin:start], min(diagnostic.length, end - start)


def _indent(before: str) -> str:
    """Return what stands under the excerpt before the caret; tabs stay tabs and so align."""
    return "".join("\t" if letter == "\t" else " " for letter in before)
