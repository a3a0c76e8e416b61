"""A topology that is JSON, which is YAML too, read in a tenth of the time.

Only what means the same in both is taken. Anything else, mistakes too, is left to the reader
of YAML, so that there is one voice for them. Where things stand costs as much as YAML does:
it is found out when somebody asks, which nobody does of a topology without mistakes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from orchestrator.config.source import Container, Source

_BEGINS = re.compile(r"[ \t\r\n]*\{")
_OTHERWISE = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]|\\\\u[dD][89a-fA-F]")
"""Characters that YAML folds or refuses, and halves of surrogate pairs."""


def fill(
    source: Source, compose: Callable[[Source], None], *, most_values: int, deepest: int
) -> bool:
    """Fill a source from its text when that is plain JSON; tell whether it was.

    Args:
        source: What to fill.
        compose: Reads the text of a source as YAML, which is how positions are found.
        most_values: A text that may hold more is not taken.
        deepest: Nor is one that is nested deeper.
    """
    text = source.text
    # Each value takes two characters at least.
    if not _BEGINS.match(text) or len(text) > 2 * most_values or _OTHERWISE.search(text):
        return False
    order: list[Container] = []
    try:
        value = _decode(text)
        _walk(value, order, source, deepest, has_dollars="$" in text or "\\u0024" in text)
    except (ValueError, RecursionError):
        source.dollars.clear()
        return False
    source.value = value
    source.later = lambda: _locate(source, order, compose, deepest)
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
    items = container.items() if isinstance(container, dict) else enumerate(container)
    for key, item in items:
        kind = item.__class__
        if kind is dict or kind is list:
            _walk(item, order, source, room - 1, has_dollars=has_dollars)
        elif has_dollars and kind is str and "$" in item:
            source.dollars.append((container, key))


def _locate(
    source: Source, order: list[Container], compose: Callable[[Source], None], deepest: int
) -> None:
    """Read the text again, as YAML, and take over where everything stands.

    `order` has the containers as they were read: their contents may have been changed since.
    A text that YAML does not take has no positions.
    """
    again = Source(source.file, source.path, source.text)
    compose(again)
    if again.diagnostics or not isinstance(again.value, dict):
        return
    twins: list[Container] = []
    _walk(again.value, twins, again, deepest, has_dollars=False)
    own = {id(twin): one for one, twin in zip(order, twins, strict=True)}

    def ours(event: Any) -> Any:
        return (own[id(event[0])], event[1]) if event.__class__ is tuple else event

    for one, twin in zip(order, twins, strict=True):
        source.marks[id(one)] = {
            key: (ours(first), ours(second))
            for key, (first, second) in again.marks[id(twin)].items()
        }
    source.root = ours(again.root)
