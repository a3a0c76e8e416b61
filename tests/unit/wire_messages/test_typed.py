"""Texts and JSON read by types, and the mistakes in what was read."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from orchestrator.wire import exactjson, typed
from orchestrator.wire.typed import Unfit

IDENTITY = "6f1c2a34-5b6d-4e7f-8a9b-0c1d2e3f4a5b"


@pytest.mark.parametrize(
    ("plain", "text", "value"),
    [
        ("str", "1.10", "1.10"),
        ("any", "1", "1"),
        ("int", "5", 5),
        ("float", "5", 5.0),
        ("bool", "Yes", True),
        ("bytes", "ä", "ä".encode()),
        ("Decimal", "1.10", Decimal("1.10")),
        ("datetime", "2026-01-02T03:04:05Z", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("date", "2026-01-02", date(2026, 1, 2)),
        ("time", "03:04", time(3, 4)),
        ("timedelta", "1.5", timedelta(seconds=1.5)),
        ("UUID", IDENTITY, UUID(IDENTITY)),
        ("PosixPath", "/a", Path("/a")),
        ("list", "[1]", [1]),
        ({"list": "Decimal"}, '["1", 2]', [Decimal(1), Decimal(2)]),
        ({"set": "int"}, "[1, 1]", {1}),
        ({"tuple": ["int", "Decimal"]}, "[1, 1.1]", (1, Decimal("1.1"))),
        ({"dict": ["int", "float"]}, '{"1": 2}', {1: 2.0}),
        ({"map": {"a": "Decimal"}}, '{"a": 1, "b": 2}', {"a": Decimal(1), "b": 2}),
    ],
)
def test_texts_become_what_the_type_says(plain: Any, text: str, value: Any) -> None:
    found = typed.from_text(plain, text)
    assert found == value
    assert type(found) is type(value)
    assert list(typed.mistakes(plain, found)) == []
    assert exactjson.load(json.loads(json.dumps(exactjson.dump(found)))) == value


@pytest.mark.parametrize(
    "plain", ["int", "float", "bool", "Decimal", "datetime", "date", "time", "timedelta", "UUID"]
)
def test_texts_that_mean_nothing_are_unfit_and_not_repeated(plain: str) -> None:
    with pytest.raises(Unfit) as caught:
        typed.from_text(plain, "t0psecret")
    assert "t0psecret" not in str(caught.value)
    with pytest.raises(Unfit, match="expected JSON"):
        typed.from_text({"list": plain}, "[")


@pytest.mark.parametrize(
    ("plain", "value", "said"),
    [
        ("int", "x", "'k': expected int, got a str"),
        ("str", None, "'k': expected str, got None"),
        ({"list": "int"}, [1, "x"], "'k'[1]: expected int, got a str"),
        ({"dict": ["str", "int"]}, {"a": "x"}, "'k'['a']: expected int, got a str"),
        ({"map": {"a": "int"}}, {}, "'k'['a'] is missing: expected int"),
        ({"tuple": ["int", "int"]}, (1,), "'k': expected (int, int), got a tuple"),
        ({"set": "int"}, [1], "'k': expected {int}, got a list"),
    ],
)
def test_mistakes_name_their_path(plain: Any, value: Any, said: str) -> None:
    assert list(typed.mistakes(plain, value, "'k'")) == [said]


def test_variables_reach_into_maps_without_case() -> None:
    known = ["db", "a__b", "Log"]
    assert typed.path_of("DB__HOST", known) == ("db", "host")
    assert typed.path_of("A__B", known) == ("a__b",)
    assert typed.path_of("A__B__C", known) == ("a__b", "c")
    assert typed.path_of("LOG", known) == ("Log",)
    assert typed.path_of("OTHER__X", known) == ("other__x",)


def test_values_below_keep_what_is_beside_them() -> None:
    plain = {"map": {"Host": "str", "ports": {"dict": ["int", "Decimal"]}}}
    whole = {"Host": "a", "ports": {1: Decimal(1)}}
    found = typed.with_below(whole, ["host"], "b", plain)
    assert found == {"Host": "b", "ports": {1: Decimal(1)}}
    found = typed.with_below(whole, ["ports", "2"], "2.5", plain)
    assert found["ports"] == {1: Decimal(1), 2: Decimal("2.5")}
    assert whole["ports"] == {1: Decimal(1)}, "what was given is as it was"
    assert typed.with_below(None, ["x", "y"], "1", "any") == {"x": {"y": "1"}}
    with pytest.raises(Unfit, match="it is no map"):
        typed.with_below(5, ["x"], "1", "any")


def test_simple_values_are_json_without_types() -> None:
    value = {"a": Decimal("1.10"), "b": {1}, "c": ({"d": UUID(IDENTITY)},), "e": {1: 2}}
    assert exactjson.simple(value) == {
        "a": "1.10",
        "b": [1],
        "c": [{"d": IDENTITY}],
        "e": {"1": 2},
    }
