"""What diagnostics look like where the line is not one for people."""

from __future__ import annotations

import pytest

from orchestrator.cli import diagnostics
from orchestrator.errors import Diagnostic, Position, Severity

LONG = "".join(f'"s{number:04}": 1, ' for number in range(1000))


def shown(column: int, length: int = 7) -> list[str]:
    position = Position("t.json", 1, column)
    one = Diagnostic("ORC102", "wrong", position, Severity.ERROR, length, LONG, "", ())
    return diagnostics.text([one]).splitlines()


@pytest.mark.parametrize("number", [0, 1, 5, 500, 998, 999])
def test_of_a_long_line_the_part_around_the_mistake_is_shown(number: int) -> None:
    name = f'"s{number:04}"'
    _, line, marks = shown(LONG.index(name) + 1)
    assert len(line) < 140
    assert line[marks.index("^") :].startswith(name)
    assert marks.count("^") == len(name)


def test_a_mark_ends_with_what_is_shown() -> None:
    _, line, marks = shown(1, length=len(LONG))
    assert line.endswith("…")
    assert len(marks) == len(line) - 1
