"""Text of one YAML file into plain values and their positions, in one pass.

YAML 1.2 over the events of libyaml: the parser knows no types, so the core schema is applied
here. Departures from the core schema, all documented: keys are always text; a plain number
with a leading zero (`0644`) stays text, since half of the world's tools read it as octal;
`.inf` and `.nan` are refused, JSON has no such numbers.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from orchestrator.config import jsontext, syntax
from orchestrator.config.source import Source, Span, Trap, Value
from orchestrator.errors import Related

MOST_VALUES = 1_000_000
"""More values than this, aliases expanded, is an attack or a mistake."""

DEEPEST = 100
"""Deeper nesting than this is a mistake too."""

_BOOLEANS = {
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip
_NULLS = {"", "~", "null", "Null", "NULL"}
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_NUMBER_STARTS = frozenset("+-.0123456789")
_OLD_BOOLEANS = frozenset({"on", "off", "yes", "no"})

_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null")}
_PLAIN_TAGS = {None, "!", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"}


def read(path: Path, file: str) -> Source:
    """Read and parse a file; what is wrong with it is in the source's `diagnostics`."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        source = Source(file, path, "")
        message = f"cannot read {file}: {error.strerror}"
        source.diagnostics.append(source.diagnostic("ORC001", message, Span(0, 0)))
        return source
    return parse(raw, path, file)


def parse(raw: bytes, path: Path, file: str) -> Source:
    """Parse the bytes of a file; what is wrong with it is in the source's `diagnostics`."""
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return _undecodable(raw, error, path, file)
    source = Source(file, path, text)
    if not jsontext.fill(source, most_values=MOST_VALUES, deepest=DEEPEST):
        _as_yaml(source)
    return source


def _as_yaml(source: Source) -> None:
    for problem in syntax.errors(source.text, lambda: _compose(source)):
        source.value = None
        source.dollars.clear()
        source.traps.clear()
        span = Span(problem.start, problem.end)
        source.diagnostics.append(
            source.diagnostic("ORC003", problem.message, span, hint=problem.hint)
        )


def scalar(text: str) -> Value:
    """Return the value of a plain scalar by the core schema.

    Raises:
        ValueError: The text is a number that JSON cannot hold.
    """
    if text in _NULLS:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if text[0] not in _NUMBER_STARTS:
        return text
    if _INTEGER.fullmatch(text):
        if _LEADING_ZERO.fullmatch(text):
            return text
        return int(text, 0) if text[:2] in {"0o", "0x"} else int(text)
    if _FLOAT.fullmatch(text):
        number = float(text)
        if number in {float("inf"), float("-inf")}:
            raise ValueError(f"{text} is too large for a number")
        return number
    if _NOT_FINITE.fullmatch(text):
        raise ValueError(f"{text} is no number that JSON can hold; write it as text, in quotes")
    return text


def _undecodable(raw: bytes, error: UnicodeDecodeError, path: Path, file: str) -> Source:
    source = Source(file, path, raw.decode("utf-8", "replace").replace("\x00", "\ufffd"))
    before = raw[: error.start].decode("utf-8")
    if raw[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        message = "the file is UTF-16, but topology files are UTF-8"
    else:
        message = f"byte 0x{raw[error.start]:02x} is not valid UTF-8"
    span = Span(len(before), len(before) + 1)
    hint = f"convert it: iconv -t UTF-8 {file}"
    source.diagnostics.append(source.diagnostic("ORC002", message, span, hint=hint))
    return source


class _Frame:
    """A container that is being filled."""

    __slots__ = ("anchor", "before", "container", "event", "is_map", "key", "marks", "merges")

    def __init__(self, container: Any, event: Any, marks: dict[Any, Any], before: int) -> None:
        self.container = container
        self.is_map = container.__class__ is dict
        self.marks = marks
        self.event = event
        self.anchor = event.anchor
        self.before = before
        self.key: Any = None
        self.merges: list[tuple[Any, Any]] | None = None


def _compose(source: Source) -> None:
    """Fill `source` from the events of its text.

    Raises:
        YAMLError: The text is no YAML; ruamel's own error.
    """
    _Composer(source).run()


class _Composer:
    """The state of one pass. A class for its many small variables, not for its identity."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.stack: list[_Frame] = []
        self.anchors: dict[str, tuple[Any, Any, int]] = {}
        self.cache: dict[str, Any] = {}
        self.values = 0
        self.documents = 0
        source.marks.clear()
        source.dollars.clear()
        source.traps.clear()

    def problem(self, code: str, message: str, event: Any, **more: Any) -> None:
        span = Span(event.start_mark.index, event.end_mark.index)
        self.source.diagnostics.append(self.source.diagnostic(code, message, span, **more))

    def run(self) -> None:  # noqa: C901, PLR0912  # one loop over 40,000 events: no calls to spare
        events = syntax.Events(self.source.text)
        following, stack, colon = events.following, self.stack, events.colon
        scalar_event, map_event, list_event = events.scalar, events.mapping, events.sequence
        map_end, list_end = events.mapping_end, events.sequence_end
        while True:
            event = following()
            kind = event.__class__
            if kind is scalar_event:
                if colon and colon in event.value:
                    event.value = event.value.replace(colon, ":")
                frame = stack[-1] if stack else None
                is_key = frame is not None and frame.is_map and frame.key is None
                value = event.value if is_key else self.scalar(event, frame)
                if event.anchor:
                    self.anchors[event.anchor] = (value, event, 1)
                if frame is not None and is_key:
                    frame.key = event
                else:
                    self.store(value, event)
            elif kind is map_event or kind is list_event:
                if not self.open({} if kind is map_event else [], event):
                    return
            elif kind is map_end or kind is list_end:
                self.close()
            elif kind is events.alias:
                if not self.alias(event):
                    return
            elif kind is events.document_start:
                self.document(event)
            elif kind is events.stream_end:
                return

    def document(self, event: Any) -> None:
        self.documents += 1
        if self.documents == 2:
            hint = "use one file for each, and `include`"
            self.problem("ORC008", "a second document in one file", event, hint=hint)

    def open(self, container: Any, event: Any) -> bool:
        """Begin a container; tell whether it is worth going on."""
        if event.tag not in _PLAIN_TAGS:
            self.problem("ORC007", f"the tag {_tag(event.tag)} means nothing here", event)
        marks: dict[Any, Any] = {}
        self.source.marks[id(container)] = marks
        above = self.stack[-1] if self.stack else None
        if above is not None and above.is_map and above.key is None:
            self.problem("ORC007", "a key must be text, not a list or a map", event)
            above.key = event
        if event.anchor:
            self.anchors.pop(event.anchor, None)
        self.stack.append(_Frame(container, event, marks, self.values))
        if len(self.stack) <= DEEPEST:
            return True
        self.problem("ORC005", f"nested more than {DEEPEST} levels deep", event)
        self.source.value = None
        return False

    def close(self) -> None:
        frame = self.stack.pop()
        if frame.merges:
            self.merge(frame)
        if frame.anchor:
            weight = self.values - frame.before + 1
            self.anchors[frame.anchor] = (frame.container, (frame.container, frame.event), weight)
        if self.stack and self.stack[-1].key is frame.event:
            # The container was a key, which is an error already; its value goes with it.
            self.stack[-1].key = _Ignored(frame.event)
            return
        self.store(frame.container, (frame.container, frame.event))

    def store(self, value: Any, event: Any) -> None:
        self.values += 1
        if not self.stack:
            if self.source.root is None:
                self.source.value, self.source.root = value, event
            return
        frame = self.stack[-1]
        if not frame.is_map:
            frame.marks[len(frame.container)] = (event, event)
            frame.container.append(value)
            return
        key_event, frame.key = frame.key, None
        if key_event.__class__ is _Ignored:
            return
        key = key_event.value
        if key == "<<" and key_event.implicit[0]:
            frame.merges = [*(frame.merges or ()), (value, event)]
        elif key in frame.container:
            first = frame.marks[key][0].start_mark
            position = self.source.position(first.index)
            related = (Related(position, f"{key!r} is first given here"),)
            self.problem("ORC004", f"the key {key!r} is given twice", key_event, related=related)
        else:
            frame.container[key] = value
            frame.marks[key] = (key_event, event)

    def alias(self, event: Any) -> bool:
        name = event.anchor
        if name not in self.anchors:
            open_ = any(frame.anchor == name for frame in self.stack)
            message = (
                f"*{name} contains itself" if open_ else f"no anchor &{name} stands before *{name}"
            )
            self.problem("ORC005", message, event)
            value, target, weight = None, event, 1
        else:
            value, target, weight = self.anchors[name]
        self.values += weight
        if self.values > MOST_VALUES:
            self.problem("ORC005", f"aliases expand to more than {MOST_VALUES:,} values", event)
            self.source.value = None
            return False
        frame = self.stack[-1] if self.stack else None
        if frame is not None and frame.is_map and frame.key is None:
            if isinstance(target, tuple) or not hasattr(target, "value"):
                self.problem("ORC007", "a key must be text", event)
                frame.key = _Ignored(event)
            else:
                frame.key = target
            return True
        if value.__class__ is str and "$" in value and frame is not None:
            key = (
                frame.key.value
                if frame.is_map and frame.key.__class__ is not _Ignored
                else len(frame.container)
            )
            self.source.dollars.append((frame.container, key))
        self.store(value, target)
        return True

    def scalar(self, event: Any, frame: _Frame | None) -> Any:
        text = event.value
        plain = event.implicit[0]
        if event.tag is not None and event.tag != "!":
            return self.tagged(event)
        value: Any = text
        if plain:
            cached = self.cache.get(text, self)
            if cached is not self:
                value = cached
            else:
                try:
                    value = scalar(text)
                except ValueError as error:
                    self.problem("ORC007", str(error), event)
                self.cache[text] = value
        if frame is not None and value.__class__ is str:
            if "$" in text:
                self.source.dollars.append((frame.container, self.place(frame)))
            elif plain and (text.lower() in _OLD_BOOLEANS or _LEADING_ZERO.fullmatch(text)):
                self.source.traps.append(Trap(frame.container, self.place(frame), text))
        return value

    @staticmethod
    def place(frame: _Frame) -> str | int:
        if not frame.is_map:
            return len(frame.container)
        key: str = "" if frame.key.__class__ is _Ignored else frame.key.value
        return key

    def tagged(self, event: Any) -> Any:
        text: str = event.value
        if event.tag not in _TAGS:
            self.problem("ORC007", f"the tag {_tag(event.tag)} means nothing here", event)
            return text
        wanted = event.tag.rpartition(":")[2]
        if wanted == "str":
            return text
        try:
            value = scalar(text)
        except ValueError as error:
            self.problem("ORC007", str(error), event)
            return None
        if wanted == "float" and value.__class__ is int:
            return float(value)
        kinds = {"int": int, "float": float, "bool": bool, "null": type(None)}
        if value.__class__ is not kinds[wanted]:
            self.problem("ORC007", f"{text!r} is no {wanted}", event)
        return value

    def merge(self, frame: _Frame) -> None:
        """Apply `<<`: keys that the map gives itself win, then the first source that has them."""
        for value, event in frame.merges or ():
            for one in value if value.__class__ is list else [value]:
                if one.__class__ is not dict:
                    mark = event[1] if event.__class__ is tuple else event
                    self.problem("ORC005", "`<<` merges maps, and this is none", mark)
                    continue
                origin = self.source.marks[id(one)]
                for key, item in one.items():
                    if key in frame.container:
                        continue
                    frame.container[key] = item
                    frame.marks[key] = origin[key]
                    if item.__class__ is str and "$" in item:
                        self.source.dollars.append((frame.container, key))


class _Ignored:
    """Stands for a key that is an error already."""

    __slots__ = ("end_mark", "implicit", "start_mark", "value")

    def __init__(self, event: Any) -> None:
        self.start_mark = event.start_mark
        self.end_mark = event.end_mark


def _tag(tag: str) -> str:
    return tag.replace("tag:yaml.org,2002:", "!!")
