"""Models accept what they promise, name what they do not, and carry values over the wire."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.component import models
from orchestrator.component.errors import ModelMismatch
from orchestrator.component.kinds import NotAModel
from orchestrator.wire import values

MOMENT = datetime(2026, 1, 2, 3, 4, 5)  # noqa: DTZ001 - naive times are allowed
FITTING: list[tuple[Any, Any]] = [
    (str, "a"),
    (int, 1),
    (int, True),
    (bool, False),
    (float, 1.5),
    (bytes, b"x"),
    (Decimal, Decimal("1.10")),
    (datetime, MOMENT),
    (UUID, UUID(int=7)),
    (object, {1: {"__set__": [2]}}),
    (dict, {1: 2}),
    (list, [{2: 3}]),
    (tuple, (1, "a")),
    (set, {1, "a"}),
    (frozenset, frozenset("ab")),
    ({Decimal: Decimal}, {Decimal(1): Decimal(2)}),
    ({str: int}, {"__decimal__": 1}),
    ({(str, int): [str]}, {("a", 1): ["b"]}),
    ({"a": str, "b": {"c": (int, str)}}, {"a": "x", "b": {"c": (1, "y")}}),
    ([(Decimal, Decimal)], [(Decimal(1), Decimal(2))]),
    ([{int: {str}}], [{1: {"a"}}, {}]),
    ((str, int), ("a", 1)),
    ({str}, {"a", "b"}),
    ({(str, int)}, {("a", 1)}),
    ({"a", "b"}, {"a", "b", "c"}),
]
BREAKING: list[tuple[Any, Any]] = [
    (str, 1),
    (int, "1"),
    (float, 1),
    (bool, 1),
    (Decimal, 1.5),
    (datetime, "2026-01-01"),
    ({Decimal: Decimal}, {1: Decimal(1)}),
    ({Decimal: Decimal}, {Decimal(1): 1}),
    ({Decimal: Decimal}, "text"),
    ({"a": str}, {}),
    ({"a": str}, {"a": 1}),
    ({"a": str}, "a"),
    ([str], ["a", 1]),
    ([str], {"a"}),
    ((str, int), ("a",)),
    ((str, int), ("a", "b")),
    ({str}, {1}),
    ({str}, ["a"]),
    ({"a", "b"}, {"a"}),
    (tuple, [1]),
]


@pytest.mark.parametrize(("model", "value"), FITTING, ids=range(len(FITTING)))
def test_a_fitting_value_arrives_as_it_was_sent(model: object, value: object) -> None:
    compiled = models.arguments({"x": model}, None)
    arguments = {"x": value}
    compiled.check(arguments, "sent")
    sent = arguments if compiled.dump is None else compiled.dump(arguments)
    received = values.decode(values.encode(sent))
    if compiled.load is not None:
        received = compiled.load(received)
    compiled.check(received, "received")
    assert received == arguments
    assert type(received["x"]) is type(value)
    assert arguments == {"x": value}


@pytest.mark.parametrize(("model", "value"), BREAKING, ids=range(len(BREAKING)))
@pytest.mark.parametrize("side", ["required", "optional"])
def test_a_breaking_value_is_named(model: object, value: object, side: str) -> None:
    if side == "optional" and (value in ({}, {"a"})):
        pytest.skip("optional dicts and members need nothing")
    given: dict[str, dict[str, Any]] = {side: {"x": model}}
    compiled = models.arguments(given.get("required"), given.get("optional"))
    with pytest.raises(ModelMismatch, match=r"sent: 'x'.*expected|'x'\['a'\] is missing"):
        compiled.check({"x": value}, "sent")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.decimals(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "b", "x"]), inner, max_size=3)
        | st.sets(st.text(max_size=2), max_size=3)
    ),
    max_leaves=6,
)


@given(st.sampled_from([model for model, _ in FITTING]), JSON, st.booleans())
def test_what_is_refused_is_explained_and_what_is_accepted_is_not(
    model: object, value: object, required: bool
) -> None:
    compiled = models.arguments({"x": model} if required else {}, {} if required else {"x": model})
    for arguments in ({"x": value}, value):
        assert compiled.accepts(arguments) == (not list(compiled.explain(arguments)))
        # Loading is done before checking, so it must stand any shape.
        if compiled.load is not None:
            compiled.load(arguments)


def test_every_mistake_is_named_at_once() -> None:
    compiled = models.arguments({"a": str, "b": {"c": [int]}}, {"d": Decimal})
    with pytest.raises(ModelMismatch) as caught:
        compiled.check({"b": {"c": [1, "2"]}, "d": 5, "e": 1}, "cannot send 'orders'")
    assert caught.value.mistakes == (
        "'a' is missing: expected str",
        "'b'['c'][1]: expected int, got str '2'",
        "'d': expected Decimal, got int 5",
        "'e' is not declared; declared are 'a', 'b', 'd'",
    )
    assert str(caught.value).startswith("cannot send 'orders': 'a' is missing")


def test_a_mismatch_is_a_value_error() -> None:
    assert issubclass(ModelMismatch, ValueError)


def test_none_stands_for_no_arguments() -> None:
    compiled = models.arguments(None, None)
    assert compiled.accepts({})
    assert not compiled.accepts({"a": 1})
    assert not compiled.accepts(None)


def test_optional_arguments_may_be_left_out_but_not_be_wrong() -> None:
    compiled = models.arguments({"a": int}, {"b": int})
    assert compiled.accepts({"a": 1})
    assert compiled.accepts({"a": 1, "b": 2})
    assert not compiled.accepts({"a": 1, "b": None})
    assert not compiled.accepts({"b": 2})


def test_required_dicts_may_have_more_keys_and_optional_ones_less() -> None:
    model = {"x": {"a": int, "b": int}}
    assert models.arguments(model, None).accepts({"x": {"a": 1, "b": 2, "c": 3}})
    assert not models.arguments(model, None).accepts({"x": {"a": 1}})
    assert models.arguments(None, model).accepts({"x": {"a": 1}})
    assert not models.arguments(None, model).accepts({"x": {"a": 1, "b": 2, "c": 3}})


def test_undeclared_keys_of_a_dict_survive_whatever_they_hold() -> None:
    compiled = models.arguments({"x": {"a": int}}, None)
    arguments = {"x": {"a": 1, "more": {2: 3}, "__set__": 4}}
    assert compiled.dump is not None
    assert values.decode(values.encode(compiled.dump(arguments))) == arguments


def test_optional_members_are_the_most_there_may_be() -> None:
    compiled = models.arguments(None, {"x": {"a", "b"}})
    assert compiled.accepts({"x": {"a"}})
    assert not compiled.accepts({"x": {"a", "c"}})


def test_a_function_fits_by_how_many_arguments_it_takes() -> None:
    compiled = models.arguments({"f": lambda _a, _b: None}, None, wire=False)
    assert compiled.accepts({"f": divmod})
    assert compiled.accepts({"f": lambda x, _: x})
    assert not compiled.accepts({"f": lambda x: x})
    assert not compiled.accepts({"f": 5})


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ({"x": "str"}, "describes no type"),
        ({"x": []}, "describes no type"),
        ({"x": [int, str]}, "describes no type"),
        ({"x": ()}, "describes no type"),
        ({"x": {int, str}}, "several types"),
        ({"x": {dict: int}}, "cannot be a key"),
        ({"x": {list}}, "cannot be an item"),
        ({"x": {1: int, 2: int}}, "must be text"),
        ({"x": {"a": {"b": [complex]}}}, r"'x'\['a'\]\['b'\]\[\]: a complex cannot be sent"),
        ({"x": lambda _: None}, "function cannot be sent"),
        ({5: int}, "needs a name that is text"),
        ({"__map__": int}, "no marker"),
        ([int], "expected a dict of types"),
    ],
)
def test_what_is_no_model_is_refused_when_compiled(model: Any, said: str) -> None:
    with pytest.raises(NotAModel, match=said):
        models.arguments(model, None)


def test_an_argument_is_required_or_optional() -> None:
    with pytest.raises(NotAModel, match="both required and optional"):
        models.arguments({"a": int}, {"a": int})


def test_types_are_told_as_plain_data() -> None:
    compiled = models.arguments(
        {"levels": {Decimal: [str]}, "tags": {str}, "pair": (str, int), "any": object},
        {"m": {"b", "a"}, "n": {"k": datetime, "l": int}},
    )
    assert compiled.plain() == {
        "required": {
            "levels": {"dict": ["Decimal", {"list": "str"}]},
            "tags": {"set": "str"},
            "pair": {"tuple": ["str", "int"]},
            "any": "any",
        },
        "optional": {"m": {"members": ["a", "b"]}, "n": {"map": {"k": "datetime", "l": "int"}}},
    }
    function = models.arguments({"f": lambda _a, _b: None}, None, wire=False)
    assert function.plain()["required"] == {"f": {"function": 2}}
