"""Message values as JSON and back: what a model allows survives the way."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.component import jsonable, kinds

WHEN = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
ONE = UUID("12345678-1234-5678-1234-567812345678")

CASES: dict[str, tuple[Any, Any, Any]] = {
    "text": (str, "a", "a"),
    "whole": (int, 3, 3),
    "decimal": (Decimal, Decimal("1.10"), "1.10"),
    "time": (datetime, WHEN, "2026-01-02T03:04:05.000678+00:00"),
    "uuid": (UUID, ONE, str(ONE)),
    "bytes": (bytes, b"\0\xff", "AP8="),
    "float": (float, 1.5, 1.5),
    "list": ([Decimal], [Decimal(1), Decimal(2)], ["1", "2"]),
    "tuple": ((str, Decimal), ("a", Decimal(1)), ["a", "1"]),
    "set": ({str}, {"b", "a"}, ["a", "b"]),
    "members": ({"a", "b"}, {"a", "b"}, ["a", "b"]),
    "map": ({"price": Decimal}, {"price": Decimal(1)}, {"price": "1"}),
    "dict": ({Decimal: [int]}, {Decimal("1.5"): [1]}, {"1.5": [1]}),
    "dict of numbers": ({int: str}, {3: "a"}, {"3": "a"}),
    "deep": ({str: {"a": {UUID}}}, {"x": {"a": {ONE}}}, {"x": {"a": [str(ONE)]}}),
    "anything": (object, {"a": [1, None]}, {"a": [1, None]}),
}


@pytest.mark.parametrize("case", CASES)
def test_values_go_to_json_and_come_back(case: str) -> None:
    model, value, written = CASES[case]
    kind = kinds.compile_type(model)
    dumped = jsonable.dump(value)
    assert json.loads(json.dumps(dumped)) == written
    back = jsonable.load(dumped, kind.plain)
    assert back == value
    assert kind.accepts(back)


def test_a_whole_number_will_do_for_a_float() -> None:
    assert jsonable.load(3, "float") == 3.0
    assert isinstance(jsonable.load(3, "float"), float)


@pytest.mark.parametrize(
    ("plain", "value"),
    [
        ("Decimal", "much"),
        ("UUID", 3),
        ("datetime", "soon"),
        ("bytes", "no base64!"),
        ("float", True),
        ({"list": "Decimal"}, "1"),
        ({"tuple": ["str"]}, ["a", "b"]),
        ({"set": {"list": "str"}}, [["a"]]),
        ({"dict": ["int", "str"]}, {"a": "b"}),
    ],
)
def test_what_does_not_fit_is_left_to_the_model(plain: Any, value: Any) -> None:
    assert jsonable.load(value, plain) == value


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)
PLAIN = st.recursive(
    st.sampled_from(["str", "int", "Decimal", "datetime", "UUID", "bytes", "set", "object"]),
    lambda inner: (
        st.builds(lambda one: {"list": one}, inner)
        | st.builds(lambda one: {"set": one}, inner)
        | st.builds(lambda one, two: {"dict": [one, two]}, inner, inner)
        | st.builds(lambda one: {"tuple": one}, st.lists(inner, min_size=1, max_size=3))
        | st.builds(
            lambda one: {"map": one}, st.dictionaries(st.text(), inner, min_size=1, max_size=3)
        )
    ),
    max_leaves=6,
)


@given(JSON, PLAIN)
def test_no_value_and_no_type_is_too_strange(value: Any, plain: Any) -> None:
    json.dumps(jsonable.dump(jsonable.load(value, plain)))
