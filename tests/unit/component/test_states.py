"""States as handler files declare them, and the read-only values that handlers see."""

from __future__ import annotations

import copy
import json
import pickle
from decimal import Decimal
from typing import Any

import pytest

from orchestrator.component import sending, states
from orchestrator.component.connections import Origin
from orchestrator.component.errors import ModelMismatch, SetupError, UnknownOutput
from orchestrator.component.frozen import freeze
from orchestrator.component.states import State

SAMPLE = {
    "market_price": {
        "state_type": "local_variable_delta_update",
        "required_creation_arguments": {},
        "optional_creation_arguments": {},
        "required_state_arguments": {},
        "optional_state_arguments": {},
        "required_arguments": {"min_ask": Decimal, "asks": {Decimal: Decimal}},
        "optional_arguments": {"note": str},
        "required_return_arguments": {},
        "optional_return_arguments": None,
    }
}


def one(model: dict[str, Any], side: str = "out") -> State:
    (found,) = states.declared({side: {"s": model}}, Origin({}))
    return found


@pytest.mark.parametrize("side", ["in", "out"])
def test_the_sample_of_the_document(side: str) -> None:
    (found,) = states.declared({side: SAMPLE}, Origin({}))
    assert found.type.name == f"delta_update_{side}"
    found.content.check_changes({"min_ask": Decimal(1)}, "x")
    found.content.check_changes({"min_ask": None, "asks": {Decimal(1): Decimal(2)}}, "x")
    with pytest.raises(ModelMismatch, match="'min_ask': expected Decimal, got int 1"):
        found.content.check_changes({"min_ask": 1}, "x")
    with pytest.raises(ModelMismatch, match="'other' is no key of this state"):
        found.content.check_changes({"other": 1}, "x")


@pytest.mark.parametrize("model", [dict, {str: int}, {"a": int, "b": int}])
@pytest.mark.parametrize("explicit", [{}, {"current_num": int, "is_snapshot": bool}])
def test_the_form_of_the_code(model: Any, explicit: dict[str, type]) -> None:
    found = one(
        {
            "state_type": "delta_update_out",
            "required_state_arguments": explicit,
            "required_arguments": {"state": model},
        }
    )
    assert found.nested
    found.content.check_changes({"a": 1, "b": None}, "x")


def test_one_type_for_all_of_it() -> None:
    keyed = one({"state_type": "delta_update_out", "required_arguments": {Decimal: Decimal}})
    keyed.content.check_changes({Decimal(1): None, Decimal(2): Decimal(3)}, "x")
    with pytest.raises(ModelMismatch, match="'a' is no key"):
        keyed.content.check_changes({"a": Decimal(1)}, "x")
    for model, value in ((str, "value!"), ([str], ["a"]), ({str: int}, {"a": 1})):
        whole = one({"state_type": "full_update_out", "required_arguments": model})
        whole.content.check(value, "x")
        with pytest.raises(ModelMismatch, match="the value: expected"):
            whole.content.check(5, "x")


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ({"state_type": "delta_update_in"}, "is no state type on side 'out'; there are full_up"),
        ({"state_type": "full_update_out", "colour": 1}, "unknown key; a model has"),
        ({}, "None is no state type"),
        ({"state_type": "delta_update_out", "required_arguments": str}, "a delta state is a dict"),
        ({"state_type": "full_update_out", "required_arguments": {"a": 5}}, "describes no type"),
        (
            {"state_type": "full_update_out", "required_state_arguments": {"x": int}},
            "a full_update_out has none here; leave it out",
        ),
        (
            {"state_type": "delta_update_out", "optional_creation_arguments": {"topic": 5}},
            "'topic' must be str, got int 5",
        ),
        (
            {"state_type": "full_update_out", "required_creation_arguments": {"tpoic": "a"}},
            "has no creation argument 'tpoic'; it has topic, is_x_pub, wait_after_creation_s",
        ),
        (
            {
                "state_type": "full_update_out",
                "required_arguments": str,
                "optional_arguments": {"a": int},
            },
            "leaves no room for optional arguments",
        ),
    ],
)
def test_mistakes_are_named(model: dict[str, Any], said: str) -> None:
    with pytest.raises(SetupError, match=said) as caught:
        one(model)
    assert str(caught.value).startswith("state_models['out']['s']")


@pytest.mark.parametrize("models", [5, {"inn": {}}, {"in": 5}, {"in": {"a": 5}}, {"in": {5: {}}}])
def test_what_is_no_set_of_models_is_refused(models: object) -> None:
    with pytest.raises(SetupError, match="state_models"):
        states.declared(models, Origin({}))


def test_the_hook_gives_creation_arguments() -> None:
    written = {"out": {"s": {"state_type": "full_update_out"}}}
    (found,) = states.declared(written, Origin({}), {"s": {"topic": "eur"}})
    assert found.topic == "eur"
    with pytest.raises(SetupError, match="setup_states returned arguments for 'zzz'"):
        states.declared(written, Origin({}), {"zzz": {}})


def test_an_outward_state_binds_unless_it_publishes_to_a_bus() -> None:
    delta = one({"state_type": "delta_update_out"}).plain()
    assert (delta["binds"], delta["connects"]) == (["publisher", "replyer"], [])
    bus = {"state_type": "delta_update_out", "optional_creation_arguments": {"is_x_pub": True}}
    plain = one(bus).plain()
    assert (plain["binds"], plain["connects"]) == (["replyer"], ["publisher"])


def test_a_frozen_value_is_what_it_was() -> None:
    value = {"a": [1, {"b": 2}], "c": ({"d": 1},), "s": {1, 2}, Decimal(1): "x"}
    frozen = freeze(value)
    assert frozen == value
    assert isinstance(frozen, dict)
    assert isinstance(frozen["a"], list)
    assert freeze(frozen) is frozen
    assert json.dumps(frozen["a"]) == '[1, {"b": 2}]'
    for twin in (copy.deepcopy(frozen), pickle.loads(pickle.dumps(frozen))):
        assert twin == value
        assert type(twin) is dict
    copy.deepcopy(frozen)["a"].append(3)
    value["a"].append(3)  # type: ignore[attr-defined]
    assert frozen["a"] == [1, {"b": 2}], "a copy"


@pytest.mark.parametrize(
    "change",
    [
        "v['a'] = 1",
        "del v['a']",
        "v.update(a=1)",
        "v.pop('a')",
        "v.clear()",
        "v.setdefault('z', 1)",
        "v |= {'a': 1}",
        "v['a'].append(1)",
        "v['a'][0] = 1",
        "v['a'] += [1]",
        "v['a'].sort()",
        "v['a'][1]['b'] = 1",
        "v['s'].add(1)",
    ],
)
def test_a_frozen_value_cannot_be_changed(change: str) -> None:
    before = {"a": [1, {"b": 2}], "s": {1}}
    frozen = freeze(before)
    with pytest.raises((TypeError, AttributeError)):
        exec(change, {"v": frozen})
    assert frozen == before


def test_to_send_finds_states_and_asks_which_of_two_is_meant() -> None:
    to_send = sending.make(
        {"both": lambda _: "connection", "tick": lambda _: "tick"},
        {"both": lambda _: "state", "book": lambda _: "book"},
    )
    assert to_send("state", "book", {}) == to_send("book", {}) == "book"
    assert to_send("state", "both", {}) == "state"
    assert to_send("connection", "both", {}) == "connection"
    with pytest.raises(UnknownOutput, match="it is a connection and a state; write to_send"):
        to_send("both", {})
    with pytest.raises(UnknownOutput, match="no such state; declared are 'both', 'book'"):
        to_send("state", "tick", {})
