"""Connections as handler files declare them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from orchestrator.component import addresses, connections
from orchestrator.component.connections import End, Origin
from orchestrator.component.errors import SetupError

ORIGIN = Origin(
    {}, "engine.py", {("connection_models",): 3, ("connection_models", "in", "orders"): 7}
)


def on_request(args: Any, to_send: Any, states: Any, config: Any) -> None:
    """Stand for a handler."""


def end(side: str, **model: Any) -> End:
    return connections.declared({side: {"orders": model}}, ORIGIN)[0]


def mistakes(models: Any, **creation: Any) -> tuple[str, ...]:
    with pytest.raises(SetupError) as caught:
        connections.declared(models, ORIGIN, creation)
    return caught.value.mistakes


@pytest.mark.parametrize("key", ["on_new_request", "on_orders", "on_new_orders"])
@pytest.mark.parametrize("group", ["required_creation_arguments", "optional_creation_arguments"])
def test_a_replyer_takes_its_function_under_both_names(key: str, group: str) -> None:
    found = end("in", connection_type="replyer", **{group: {key: on_request}})
    assert found.function is on_request
    assert found.binds
    assert found.line == 7


def test_a_function_may_be_given_by_name() -> None:
    models = {
        "in": {
            "orders": {
                "connection_type": "replyer",
                "optional_creation_arguments": {"on_orders": "go"},
            }
        },
        "out": {
            "one": {
                "connection_type": "external_target",
                "required_creation_arguments": {"target": "Client.cancel"},
            },
            "two": {
                "connection_type": "external_request",
                "required_creation_arguments": {"func_to_call": "os.path:join"},
            },
        },
    }

    class Client:
        @staticmethod
        def cancel() -> None:
            """Stand for an outside library."""

    import os.path

    found = connections.declared(models, Origin({"go": on_request, "Client": Client}))
    assert [each.function for each in found] == [on_request, Client.cancel, os.path.join]


def test_the_sample_of_the_inherited_document_is_accepted() -> None:
    models = {
        "in": {
            "cancel_order": {
                "connection_type": "replyer",
                "required_creation_arguments": {"on_new_cancel_order": on_request},
                "optional_creation_arguments": {},
                "required_connection_arguments": {},
                "optional_connection_arguments": {},
                "required_arguments": {"order_id": str},
                "optional_arguments": {},
                "required_return_arguments": {"order_id": str},
                "optional_return_arguments": {},
            }
        },
        "out": {
            "cancel_order_on_coinbase": {
                "connection_type": "external_target",
                "required_creation_arguments": {"target": "str.upper"},
                "required_arguments": {"order_id": str},
                "required_return_arguments": None,
                "optional_return_arguments": None,
            }
        },
    }
    inbound, outbound = connections.declared(models, Origin({"str": str}))
    assert inbound.function is on_request
    assert outbound.type.name == "external_request"
    assert outbound.returns is None


def test_an_end_is_told_as_plain_data() -> None:
    found = end(
        "in",
        connection_type="subscriber",
        required_creation_arguments={"on_new_message": on_request},
        optional_creation_arguments={"topic": "ticks"},
        required_arguments={"price": Decimal},
    )
    assert found.plain() == {
        "type": "subscriber",
        "sockets": ["subscriber"],
        "binds": [],
        "connects": ["subscriber"],
        "topic": "ticks",
        "required": {"price": "Decimal"},
        "optional": {},
        "returns": {"required": {}, "optional": {}},
        "function": "on_request",
        "is_async": False,
        "line": 7,
    }


def test_a_publisher_to_a_bus_connects() -> None:
    assert end("out", connection_type="publisher").binds
    assert not end(
        "out", connection_type="publisher", optional_creation_arguments={"is_x_pub": True}
    ).binds


def test_arguments_of_the_hook_join_the_model() -> None:
    models = {"out": {"ticks": {"connection_type": "publisher"}}}
    assert connections.declared(models, ORIGIN, {"ticks": {"topic": "t"}})[0].topic == "t"
    assert mistakes(models, tocks={"topic": "t"}) == (
        "setup_connections returned arguments for 'tocks', which is not in connection_models",
    )


def test_every_mistake_is_named_with_its_place() -> None:
    found = mistakes(
        {
            "in": {
                "orders": {
                    "connection_type": "replyer",
                    "required_arguments": {"id": "str"},
                    "extra": 1,
                },
                "depth": {"connection_type": "requester"},
            },
            "out": {
                "ticks": {
                    "connection_type": "publisher",
                    "optional_creation_arguments": {"topic": 5, "x": 1},
                }
            },
            "side": {},
        }
    )
    text = "\n".join(found)
    assert len(found) == 7
    assert "engine.py:7: connection_models['in']['orders']['extra']: unknown key" in text
    assert "'id': str 'str' describes no type" in text
    assert "the creation argument 'on_new_request' is missing" in text
    assert (
        "engine.py:3: connection_models['in']['depth']['connection_type']: 'requester' is no"
        in text
    )
    assert "'topic' must be str, got int 5" in text
    assert "a publisher has no creation argument 'x'" in text
    assert "connection_models['side']: unknown side" in text


@pytest.mark.parametrize(
    ("creation", "said"),
    [
        ({"on_new_request": lambda: None}, "must take 1 or 2 or 3 or 4 arguments"),
        ({"on_new_request": 5}, "expected a function"),
        ({"on_new_request": "nowhere.to.be.found"}, "cannot find"),
        ({"on_new_request": "nothing"}, "the handler has no such function"),
        ({"on_new_request": on_request, "on_orders": on_request}, "given twice"),
    ],
)
def test_a_function_that_cannot_be_called_is_refused(creation: dict[str, Any], said: str) -> None:
    found = mistakes(
        {"in": {"orders": {"connection_type": "replyer", "required_creation_arguments": creation}}}
    )
    assert said in found[0]


@pytest.mark.parametrize("value", [0, -1, 1e9, True, "5"])
def test_a_timeout_is_a_sensible_number_of_seconds(value: object) -> None:
    model = {"connection_type": "requester", "optional_creation_arguments": {"timeout": value}}
    assert "'timeout' must be" in mistakes({"out": {"orders": model}})[0]


# --- Addresses


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:8001", "tcp://127.0.0.1:8001"),
        ("tcp://host.example:1", "tcp://host.example:1"),
        ("[::1]:80", "tcp://[::1]:80"),
        ("*:80", "tcp://*:80"),
        ("ipc:///run/a", "ipc:///run/a"),
    ],
)
def test_an_address_becomes_an_endpoint(text: str, expected: str) -> None:
    assert addresses.endpoint(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "host",
        "host:",
        "host:0",
        "host:65536",
        ":80",
        "udp://h:1",
        "a b:1",
        "ipc://" + "x" * 108,
        5,
        None,
    ],
)
def test_what_is_no_address_is_refused(text: object) -> None:
    with pytest.raises((ValueError, TypeError), match=r"address|path"):
        addresses.endpoint(text)


REQUESTER = connections.declared({"out": {"orders": {"connection_type": "requester"}}}, ORIGIN)
PUBLISHER = connections.declared({"out": {"ticks": {"connection_type": "publisher"}}}, ORIGIN)


def tree(name: str, value: object) -> dict[str, Any]:
    return {"connections": {"out": {name: value}}}


def test_a_connector_connects_to_all_replicas_and_a_binder_takes_its_own() -> None:
    found = addresses.select(tree("orders", {"requester": ["h:1", "h:2"]}), REQUESTER, 2)
    assert list(found.values()) == [("tcp://h:1", "tcp://h:2")]
    found = addresses.select(tree("ticks", ["h:1", "h:2"]), PUBLISHER, 2)
    assert list(found.values()) == [("tcp://h:2",)]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "declared but not wired"),
        ({"publisher": "h:1"}, "'publisher' is no socket of a requester"),
        ({"requester": "h"}, "'h' is no address"),
        ({"requester": None}, "is missing"),
        ({"requester": 5}, "5 is no address"),
    ],
)
def test_a_wrong_address_is_named_by_its_path(given: object, said: str) -> None:
    with pytest.raises(SetupError) as caught:
        addresses.select(tree("orders", given), REQUESTER)
    assert caught.value.mistakes[0].startswith("addresses: connections.out.orders.requester: ")
    assert said in caught.value.mistakes[0]


def test_a_replica_without_an_address_is_refused() -> None:
    with pytest.raises(SetupError, match="none for instance 3"):
        addresses.select(tree("ticks", ["h:1", "h:2"]), PUBLISHER, 3)


def test_unused_addresses_are_told() -> None:
    assert list(addresses.unused(tree("other", "h:1"), REQUESTER)) == ["out.other"]
    assert list(addresses.unused({"connections": 5}, REQUESTER)) == []
