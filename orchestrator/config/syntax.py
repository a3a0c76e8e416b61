"""The door to the YAML parser: its events, its errors in our words, lines and columns.

The C parser of ruamel.yaml is used where it exists, its pure twin elsewhere; both give the
same events. Neither goes on after an error, so that the lines at fault are blanked and the
text is tried again: enough to show most mistakes of a file at once.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Callable
from typing import Any

from msgspec import Struct

MOST_ERRORS = 10
"""More syntax errors than this in one file help nobody."""


class Problem(Struct, frozen=True):
    """A syntax error, by offsets into the text."""

    message: str
    start: int
    end: int
    hint: str = ""


class Events:
    """The parser over a text, and the classes of its events.

    The C parser refuses the inner colons of `{tcp: 127.0.0.1:80}`, which YAML 1.2 allows. They
    are hidden from it behind a character that the text does not use, `colon`; whoever reads
    the scalars puts them back.
    """

    __slots__ = (
        "alias", "colon", "document_start", "following", "mapping", "mapping_end", "scalar",
        "sequence", "sequence_end", "stream_end",
    )  # fmt: skip

    def __init__(self, text: str) -> None:
        from ruamel.yaml import events  # noqa: PLC0415  # 20 ms, only where YAML is read

        self.colon = ""
        if _INNER_COLON.search(text):
            self.colon = next(c for c in map(chr, range(0xE000, 0xF8FF)) if c not in text)
            text = _INNER_COLON.sub(self.colon, text)
        self.following: Callable[[], Any] = _parser(text)
        self.scalar = events.ScalarEvent
        self.mapping = events.MappingStartEvent
        self.sequence = events.SequenceStartEvent
        self.mapping_end = events.MappingEndEvent
        self.sequence_end = events.SequenceEndEvent
        self.alias = events.AliasEvent
        self.document_start = events.DocumentStartEvent
        self.stream_end = events.StreamEndEvent


def errors(text: str, compose: Callable[[], None]) -> tuple[Problem, ...]:
    """Run `compose`, which reads the text; return its syntax errors, several where possible."""
    from ruamel.yaml.error import YAMLError  # noqa: PLC0415  # as above

    try:
        compose()
    except YAMLError as error:
        first = error
    else:
        return ()
    found: list[Problem] = []
    starts = line_starts(text)
    rest = text
    failure: Any = first
    while failure is not None and len(found) < MOST_ERRORS:
        problem, line = _describe(failure, rest, starts)
        if found and problem.start <= found[-1].start:
            break
        found.append(problem)
        rest = _without(rest, starts, line)
        failure = _first_error(rest)
    return tuple(found)


def line_starts(text: str) -> list[int]:
    """Return the offset at which each line of the text begins, by YAML's line breaks."""
    return [0, *(match.end() for match in _BREAK.finditer(text))]


def line_and_column(starts: list[int], offset: int) -> tuple[int, int]:
    """Return line and column, from 1, of an offset."""
    line = bisect.bisect_right(starts, offset)
    return line, offset - starts[line - 1] + 1


_INNER_COLON = re.compile(r"""(?<=[^\s"'\]}{\[,]):(?=[^\s,\[\]{}])""")
"""A colon that cannot end a key, whatever stands around it."""

_BREAK = re.compile(r"\r\n|[\n\r\x85\u2028\u2029]")


def _parser(text: str) -> Callable[[], Any]:
    try:
        from _ruamel_yaml import CParser  # type: ignore[import-not-found,unused-ignore]  # noqa: PLC0415
    except ImportError:
        from ruamel.yaml import YAML  # noqa: PLC0415  # as above

        loader = YAML(typ="safe", pure=True)
        iterator = iter(loader.parse(text))
        return lambda: next(iterator)
    following: Callable[[], Any] = CParser(text).get_event
    return following


def _first_error(text: str) -> Any:
    from ruamel.yaml.error import YAMLError  # noqa: PLC0415  # as above

    try:
        events = Events(text)
        while events.following().__class__ is not events.stream_end:
            pass
    except YAMLError as error:
        return error
    return None


def _describe(error: Any, text: str, starts: list[int]) -> tuple[Problem, int]:
    """Return the problem in our words and the line, from 0, whose removal may mend it."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        offset = getattr(error, "position", 0)
        code = getattr(error, "character", 0)
        code = ord(code) if isinstance(code, str) else code
        message = f"the control character U+{code:04X} is not allowed"
        return Problem(message, offset, offset + 1), line_and_column(starts, offset)[0] - 1
    context = getattr(error, "context_mark", None)
    said = str(error.problem or "")
    where = str(error.context or "")
    start = _offset(mark, starts)
    if text[start : start + 1] == "\t":
        message = "a tab cannot indent; use spaces"
        return Problem(message, start, start + 1), line_and_column(starts, start)[0] - 1
    if context is not None and ("flow" in where or "quoted" in where):
        begin = _offset(context, starts)
        opener = text[begin : begin + 1] or "?"
        hint = ""
        if text[start - 1 : start + 1] == "${" or text[begin:start].rstrip().endswith("$"):
            hint = "put quotes around text with ${…} inside [ ] or { }"
        message = f"{opener!r} is not closed, or what stands inside it cannot stand there: {said}"
        if "quoted" in where:
            message = f"the text that begins with {opener} is not closed"
        line = line_and_column(starts, begin)[0]
        if line == line_and_column(starts, start)[0]:
            return Problem(message, start, start + 1, hint), line - 1
        return Problem(message, begin, begin + 1, hint), line - 1
    line = line_and_column(starts, start)[0] - 1
    hint = ""
    if said.startswith("mapping values are not allowed"):
        said = "a second `: ` in one line, or a line that is indented too far"
        hint = "put quotes around text that contains `: `"
    elif said.startswith("found character that cannot start any token"):
        said = f"no plain text can start with {text[start : start + 1]!r}"
        hint = "put quotes around it"
    elif said.startswith("did not find expected key"):
        said = "expected a key here"
        hint = "is the line indented as its neighbours are?"
    return Problem(said, start, start + 1, hint), line


def _offset(mark: Any, starts: list[int]) -> int:
    """Return the offset of a mark; at the end of the text, that of the last line's end."""
    return int(min(mark.index, starts[min(mark.line, len(starts) - 1)] + mark.column))


def _without(text: str, starts: list[int], line: int) -> str:
    """Return the text with one line and all that is indented below it blanked; offsets stay."""
    ends = [*starts[1:], len(text)]
    content = text[starts[line] : ends[line]]
    indent = len(content) - len(content.lstrip(" \t-"))
    last = line + 1
    while last < len(starts):
        content = text[starts[last] : ends[last]]
        if content.strip() and len(content) - len(content.lstrip(" \t")) <= indent:
            break
        last += 1
    blank = re.sub(r"[^\r\n\x85\u2028\u2029]", " ", text[starts[line] : ends[last - 1]])
    return text[: starts[line]] + blank + text[ends[last - 1] :]
