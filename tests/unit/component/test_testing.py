"""The testing kit: our own example's handlers, and one of every kind of connection."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from orchestrator.component.errors import ModelMismatch, SendError, UnknownOutput
from orchestrator.component.testing import Component

ENGINE = str(Path(__file__).parents[3] / "topologies" / "exchange" / "engine.py")


@pytest.fixture(autouse=True)
def imports_forgotten() -> Iterator[None]:
    path, finders, modules = list(sys.path), list(sys.meta_path), set(sys.modules)
    yield
    sys.path[:], sys.meta_path[:] = path, finders
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def order(side: str, price: str, quantity: str) -> dict[str, object]:
    return {
        "trader": "ann",
        "symbol": "ACME",
        "side": side,
        "price": Decimal(price),
        "quantity": Decimal(quantity),
    }


def test_the_exchange_matches_by_price_then_time() -> None:
    engine = Component(ENGINE)
    sides = ("buy", "sell")
    assert engine.send("place", order(sides[1], "10", "2"))["fills"] == []
    assert engine.send("place", order(sides[1], "9", "1"))["resting"] == 1
    reply = engine.send("place", order(sides[0], "10", "2"))
    assert reply["fills"] == [(Decimal(9), Decimal(1)), (Decimal(10), Decimal(1))]
    depth = engine.send("depth", {"symbol": "ACME", "levels": 5})
    assert depth == {"bids": {}, "asks": {Decimal(10): Decimal(1)}}


RELAY = """
seen = []

{prefix}def on_ask(args, to_send, states, config):
    reply = {wait}to_send("next", {{"n": args["n"] + config["plus"]}})
    {wait}to_send("connection", "news", {{"pair": (1, "a")}})
    return {{"n": reply["n"] + states["base"]["n"]}}

config_model = {{"required": {{"plus": int}}}}
connection_models = {{
    "in": {{"ask": {{
        "connection_type": "replyer",
        "required_creation_arguments": {{"on_new_request": on_ask}},
        "required_arguments": {{"n": int}},
        "required_return_arguments": {{"n": int}},
    }}}},
    "out": {{
        "next": {{
            "connection_type": "requester",
            "required_arguments": {{"n": int}},
            "required_return_arguments": {{"n": int}},
        }},
        "news": {{"connection_type": "publisher", "required_arguments": {{"pair": (int, str)}}}},
    }},
}}
"""


@pytest.mark.parametrize(("prefix", "wait"), [("", ""), ("async ", "await ")])
def test_messages_go_in_and_out_as_peers_would_see_them(
    tmp_path: Path, prefix: str, wait: str
) -> None:
    path = tmp_path / "relay_of_test.py"
    path.write_text(RELAY.format(prefix=prefix, wait=wait))
    relay = Component(
        str(path),
        config={"plus": 1},
        answers={"next": lambda args: {"n": args["n"] * 10}},
        states={"base": {"n": 5}},
    )
    assert relay.send("ask", {"n": 2}) == {"n": 35}
    assert relay.sent_to("next") == [{"n": 3}]
    assert relay.sent_to("news") == [{"pair": (1, "a")}]
    with pytest.raises(ModelMismatch, match="'n' is missing"):
        relay.send("ask", {})
    with pytest.raises(UnknownOutput, match="inward connections are 'ask'"):
        relay.send("asks", {})
    del relay.answers["next"]
    with pytest.raises(SendError, match="cannot answer 'next'"):
        relay.send("ask", {"n": 2})


HOUSE = Path(__file__).parents[3] / "topologies" / "house"


def test_states_are_seen_as_they_are_at_work() -> None:
    panel = Component(str(HOUSE / "panel.py"))
    assert panel.send("show")["rooms"] == {}, "nothing has come yet"
    panel.states["temperatures"] = {"attic": Decimal(24)}
    assert panel.send("show")["rooms"] == {"attic": Decimal(24)}
    panel.states["temperatures"] = {"attic": "hot"}
    with pytest.raises(ModelMismatch, match="'attic': expected Decimal"):
        panel.send("show")


def test_an_owner_and_its_copy_run_in_memory(capsys: pytest.CaptureFixture[str]) -> None:
    panel = Component(str(HOUSE / "panel.py"))

    def show(request: dict[str, object]) -> object:
        panel.states["temperatures"] = house.state("temperatures")
        return panel.send("show", request)

    house = Component(str(HOUSE / "thermometers.py"), answers={"show": show})
    house.main()
    assert "the panel is up to date" in capsys.readouterr().out
    assert len(house.sent_to("temperatures")) == 3


STATES = """
def on_put(args, to_send, states, config):
    to_send("state", args["state"], args["value"])

def on_short(args, to_send, states, config):
    to_send("whole", args["value"])
    return {"now": repr(states)}

def on_spoil(args, to_send, states, config):
    states["parts"]["a"] = 1

def on_wrong(args, to_send, states, config):
    return []

async def on_call(args, to_send, states, config):
    return await to_send("helper", args)

def on_call_plainly(args, to_send, states, config):
    return to_send("helper", args)

async def helper(n):
    return {"n": n + 1}

def replyer(function, **model):
    return {
        "connection_type": "replyer",
        "required_creation_arguments": {"on_new_request": function},
        **model,
    }

connection_models = {
    "in": {
        "put": replyer(on_put, required_arguments={"state": str, "value": object}),
        "short": replyer(
            on_short,
            required_arguments={"value": object},
            required_return_arguments={"now": str},
        ),
        "spoil": replyer(on_spoil),
        "wrong": replyer(on_wrong),
        "call": replyer(
            on_call,
            required_arguments={"n": object},
            required_return_arguments={"n": int},
        ),
        "call_plainly": replyer(on_call_plainly, required_arguments={"n": object}),
    },
    "out": {"helper": {
        "connection_type": "external_request",
        "required_creation_arguments": {"func_to_call": helper},
        "required_arguments": {"n": int},
        "required_return_arguments": {"n": int},
    }},
}
state_models = {"out": {
    "whole": {"state_type": "full_update_out", "required_arguments": [int]},
    "parts": {"state_type": "delta_update_out", "required_arguments": {"a": int, "b": (int, str)}},
    "nested": {"state_type": "delta_update_out", "required_arguments": {"state": {"a": int}}},
}}
"""


@pytest.fixture
def owner(tmp_path: Path) -> Component:
    path = tmp_path / "owner_of_test.py"
    path.write_text(STATES)
    return Component(str(path))


def test_outward_states_change_and_keep_to_their_models(owner: Component) -> None:
    owner.send("put", {"state": "parts", "value": {"b": (1, "x")}})
    owner.send("put", {"state": "parts", "value": {"a": 5, "b": None}})
    owner.send("put", {"state": "nested", "value": {"state": {"a": 1}, "is_snapshot": True}})
    assert owner.send("short", {"value": [1, 2]})["now"] == repr(
        {"whole": [1, 2], "parts": {"a": 5}, "nested": {"a": 1}}
    )
    assert owner.sent_to("parts") == [{"b": (1, "x")}, {"a": 5, "b": None}]
    assert repr(owner.sent_to("whole")) == "[[1, 2]]"
    for state, value, said in (
        ("parts", {"a": "x"}, "'a': expected int"),
        ("parts", {"zz": 1}, "'zz' is no key of this state"),
        ("parts", 5, "expected a dict"),
        ("nested", {"a": 1}, "'state' is missing"),
        ("whole", ["x"], "expected int"),
    ):
        with pytest.raises(ModelMismatch, match=said):
            owner.send("put", {"state": state, "value": value})
    assert len(owner.sent) == 4
    with pytest.raises(TypeError, match="read-only"):
        owner.send("spoil")


def test_what_would_fail_at_work_fails(owner: Component) -> None:
    with pytest.raises(ModelMismatch, match="expected a dict"):
        owner.send("wrong")
    assert owner.send("call", {"n": 1}) == {"n": 2}
    with pytest.raises(ModelMismatch, match="cannot call 'helper': 'n': expected int"):
        owner.send("call", {"n": "x"})
    with pytest.raises(SendError, match="it is async"):
        owner.send("call_plainly", {"n": 1})


def test_async_functions_are_under_way_together(tmp_path: Path) -> None:
    file = tmp_path / "gate.py"
    file.write_text("""
import asyncio

waiting = []
opened = asyncio.Event()

async def on_ask(args, to_send):
    waiting.append(args["n"])
    if len(waiting) == 3:
        opened.set()
    await opened.wait()
    if args["n"] < 0:
        raise ValueError("negative")
    return {"n": args["n"], "order": list(waiting)}

connection_models = {"in": {"ask": {
    "connection_type": "replyer",
    "required_creation_arguments": {"on_new_request": on_ask},
    "required_arguments": {"n": int},
    "required_return_arguments": {"n": int, "order": [int]},
}}}
""")
    asked = [("ask", {"n": n}) for n in (1, 2, 3)]
    replies = Component(str(file)).send_together(*asked)
    assert replies == [{"n": n, "order": [1, 2, 3]} for n in (1, 2, 3)]
    with pytest.raises(ValueError, match="negative"):
        Component(str(file)).send_together(*asked[:2], ("ask", {"n": -1}))
