"""A topology in JSON is read as the YAML that it is: same values, same places, same mistakes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.config import compose, jsontext
from orchestrator.config.source import Source

TEXTS = st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(-1e9, 1e9) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)


def as_json(text: str) -> Source:
    """Read a text as JSON; it must be taken."""
    source = Source("t.json", Path("t.json"), text)
    assert jsontext.fill(source, most_values=10**6, deepest=100)
    return source


def as_yaml(text: str) -> Source:
    source = Source("t.json", Path("t.json"), text)
    compose._as_yaml(source)
    return source


def places(source: Source) -> list[Any]:
    """Return what stands where, in the order of the text."""
    found: list[Any] = []
    todo = [source.value]
    while todo:
        container = todo.pop()
        items = container.items() if isinstance(container, dict) else enumerate(container)
        for key, item in items:
            spans = source.key_span(container, key), source.value_span(container, key)
            found.append((key, type(item), *spans, source.spelling(container, key)))
            if isinstance(item, dict | list):
                found.append(source.container_span(item))
                todo.append(item)
    return found


@given(value=st.dictionaries(TEXTS, VALUES, max_size=4), indent=st.sampled_from([None, 1]))
@settings(deadline=None)
def test_json_is_read_as_the_yaml_that_it_is(value: dict[str, Any], indent: int | None) -> None:
    text = json.dumps(value, indent=indent)
    quick, whole = as_json(text), as_yaml(text)
    assert not whole.diagnostics
    assert quick.value == whole.value == value
    assert [key for _, key in quick.dollars] == [key for _, key in whole.dollars]
    assert places(quick) == places(whole)


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1, "a": 2}',
        '{"a": 1e999}',
        '{"a": NaN}',
        '{"a": 1,}',
        "{a: 1}",
        '{"a": 1} # as YAML has it',
        '["a"]',
        '{"a": "\\ud83d\\ude00"}',
        '{"a": "x\u2028y"}',
        '{"a": ' * 101 + "1" + "}" * 101,
        '{"a": 0644}',
    ],
)
def test_what_is_not_the_same_in_both_is_left_to_yaml(text: str) -> None:
    source = Source("t.json", Path("t.json"), text)
    assert not jsontext.fill(source, most_values=10**6, deepest=100)
    assert source.value is None
    assert not source.dollars


def test_places_are_found_after_values_were_changed() -> None:
    source = as_json('{"a": {"b": [1, 2]}, "c": "x"}')
    inner = source.value["a"]
    inner["b"].clear()
    del source.value["c"]
    assert source.key_span(inner, "b").start == 7
    assert source.value_span(source.value, "c").start == 26


def test_a_mistake_in_json_has_its_place() -> None:
    found = compose.parse(b'{"version": 1,\n "name": 1, "name": 2}', Path("t.json"), "t.json")
    (one,) = found.diagnostics
    assert (one.code, one.position.line, one.position.column) == ("ORC004", 2, 13)
