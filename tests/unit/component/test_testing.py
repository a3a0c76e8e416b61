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
