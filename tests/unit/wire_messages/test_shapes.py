"""Which types of a sender fit which of a receiver."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from orchestrator.component import models
from orchestrator.wire import shapes


def found(sent: Any, wanted: Any, *, optional: bool = False) -> list[str]:
    """Return what is wrong between two types of one argument `x`."""
    ends = [
        models.arguments(*((None, {"x": one}) if optional else ({"x": one}, None)))
        for one in (sent, wanted)
    ]
    return [str(one) for one in shapes.disagreements(ends[0].plain(), ends[1].plain(), "args")]


@pytest.mark.parametrize(
    ("sent", "wanted"),
    [
        (int, int),
        (bool, int),
        (str, object),
        (object, str),
        ((int, str), [object]),
        ((int, int), tuple),
        ([int], tuple),
        (tuple, (int, int)),
        (dict, {"a": int}),
        ({"a": int, "b": str}, {"a": int}),
        ({"a": int}, {str: int}),
        ({"a", "b"}, {"a"}),
        ({"a"}, {str}),
        ({str}, frozenset),
        (frozenset, set),
        ({Decimal: [(UUID, datetime)]}, {Decimal: [(UUID, datetime)]}),
    ],
)
def test_types_that_fit(sent: Any, wanted: Any) -> None:
    assert found(sent, wanted) == []


@pytest.mark.parametrize(
    ("sent", "wanted", "said"),
    [
        (int, bool, "args.x is sent as int, and expected as bool"),
        (int, float, "args.x is sent as int, and expected as float"),
        ({str: int}, {str: Decimal}, "args.x{} is sent as int, and expected as Decimal"),
        ({str: int}, {int: int}, "args.x (key) is sent as str, and expected as int"),
        ([[int]], [[str]], "args.x[][] is sent as int, and expected as str"),
        ((int, str), (int, int), "args.x[1] is sent as str, and expected as int"),
        ([int], (int, int), "args.x is sent as [int], and expected as (int, int)"),
        ({str}, {"a"}, "args.x is sent as {str}, and expected as {'a'}"),
        ({"a"}, {int}, "args.x is sent as {'a'}, and expected as {int}"),
        ({"a": {"b": int}}, {"a": {"b": str}}, "args.x.a.b is sent as int, and expected as str"),
        ({"a": int}, {"b": int}, "args.x.b is never sent, and required by the receiver"),
        (list, set, "args.x is sent as list, and expected as set"),
        ({str: int}, {"a": int}, "args.x is sent as {str: int}, and expected as {'a': int}"),
    ],
)
def test_types_that_do_not_fit_name_the_place(sent: Any, wanted: Any, said: str) -> None:
    assert found(sent, wanted) == [said]


def test_within_optional_arguments_no_other_keys_are_accepted() -> None:
    assert found({"a": int}, {"a": int, "b": str}, optional=True) == []
    said = "args.x.b is sent, and not known to the receiver"
    assert found({"a": int, "b": str}, {"a": int}, optional=True) == [said]


def test_arguments_are_covered_and_known() -> None:
    sender = models.arguments({"a": int, "b": int}, {"c": int}).plain()
    receiver = models.arguments({"a": int, "c": int, "d": int}, None).plain()
    assert [str(one) for one in shapes.disagreements(sender, receiver, "args")] == [
        "args.c is sent only at times, and required by the receiver",
        "args.d is never sent, and required by the receiver",
        "args.b is sent, and not known to the receiver",
    ]
