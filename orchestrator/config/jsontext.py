"""A topology that is JSON, which is YAML too, read in a tenth of the time.

Only what means the same in both is taken. Anything else, mistakes too, is left to the reader
of YAML, so that there is one voice for them. Where things stand takes longer than what they
are: it is found out when somebody asks, which nobody does of a topology without mistakes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from orchestrator.config.source import Container, Source, Token

_BEGINS = re.compile(r"[ \t\r\n]*\{")
_OTHERWISE = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]|\\\\u[dD][89a-fA-F]")
"""Characters that YAML folds or refuses, and halves of surrogate pairs."""


def _is_plain(text: str) -> bool:
    """Tell whether nothing in a text means something else in YAML; the quick answers first."""
    if text.isascii() and "\x7f" not in text and "\\u" not in text:
        return True
    return not _OTHERWISE.search(text)


def fill(source: Source, *, most_values: int, deepest: int) -> bool:
    """Fill a source from its text when that is plain JSON; tell whether it was.

    Args:
        source: What to fill.
        most_values: A text that may hold more is not taken.
        deepest: Nor is one that is nested deeper.
    """
    text = source.text
    # Each value takes two characters at least.
    if not _BEGINS.match(text) or len(text) > 2 * most_values or not _is_plain(text):
        return False
    order: list[Container] = []
    try:
        value = _decode(text)
        _walk(value, order, source, deepest, has_dollars="$" in text or "\\u0024" in text)
    except (ValueError, RecursionError):
        source.dollars.clear()
        return False
    source.value = value
    source.later = lambda: _locate(source, order)
    return True


def _map(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a key is given twice")
    return made


def _float(text: str) -> float:
    number = float(text)
    if number in {float("inf"), float("-inf")}:
        raise ValueError("too large")
    return number


def _refuse(text: str) -> None:
    raise ValueError(f"{text} is no JSON")


_decode = json.JSONDecoder(
    object_pairs_hook=_map, parse_float=_float, parse_constant=_refuse
).decode


def _walk(
    container: Container, order: list[Container], source: Source, room: int, *, has_dollars: bool
) -> None:
    """List the containers in the order of the text, and note the texts with a `$`."""
    if room <= 0:
        raise ValueError("nested too deep")
    order.append(container)
    if has_dollars:
        items = container.items() if isinstance(container, dict) else enumerate(container)
        source.dollars += [
            (container, key) for key, item in items if item.__class__ is str and "$" in item
        ]
    for item in container.values() if isinstance(container, dict) else container:
        if item.__class__ is dict or item.__class__ is list:
            _walk(item, order, source, room - 1, has_dollars=has_dollars)


_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\]]|[^][{}:,"\s]+')
"""What JSON is made of, but for what stands between: the text is known to be good."""


def _locate(source: Source, order: Sequence[Container]) -> None:
    """Note where everything stands.

    `order` has the containers as they were read: their contents may have been changed since.
    """
    containers = iter(order)
    outer: list[tuple[dict[str | int, tuple[Any, Any]], bool]] = []
    marks: dict[str | int, tuple[Any, Any]] = {}
    is_map, key = False, None
    for found in _TOKEN.finditer(source.text):
        text = found[0]
        first = text[0]
        if first in "}]":
            marks, is_map = outer.pop()
            continue
        token = Token(found.start(), found.end(), text)
        if is_map and key is None:
            key = token
            continue
        place: Any = token
        inner: dict[str | int, tuple[Any, Any]] | None = None
        if first in "{[":
            container = next(containers)
            place, inner = (container, token), source.marks.setdefault(id(container), {})
        if key is None:
            marks[len(marks)] = (place, place)
        else:
            marks[key.value] = (key, place)
            key = None
        if inner is not None:
            outer.append((marks, is_map))
            marks, is_map = inner, first == "{"
    source.root = marks[0][1]
