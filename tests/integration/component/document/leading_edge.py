"""A leading edge service as service_framework's document describes it: it has a main."""

import copy
import time
from datetime import UTC, datetime
from decimal import Decimal

import service

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

config_model = {"required": {"config_property_1": int}, "optional": {"config_property_4": str}}

connection_models = {
    "out": {
        "cancel_order": {
            "connection_type": "requester",
            "required_arguments": {"order_id": str},
            "required_return_arguments": {"order_id": str},
        }
    }
}

state_models = {"out": copy.copy(service.state_models["in"])}


def setup_state_models(models, config):
    out = {
        name: {**model, "optional_creation_arguments": {}} for name, model in models["out"].items()
    }
    out["market_price"]["optional_creation_arguments"] = {"topic": "BTC"}
    return {"out": out}


def init_function(to_send, states, config):
    to_send("state", "market_price", {"min_ask": Decimal("2.5"), "time_ask": NOW})


def main(to_send, states, config):
    to_send("state", "market_price", {"max_bid": Decimal("2.4"), "min_ask": Decimal("2.6")})
    to_send("order_book", {"is_snapshat": True, "asks": {Decimal("2.6"): Decimal(7)}, "bids": {}})
    to_send("order_book", {"bids": {Decimal("2.4"): Decimal(3)}, "updated_time": NOW})
    for number in range(1000):
        answer = to_send("connection", "cancel_order", {"order_id": f"order-{number}"})
        assert answer == {"order_id": f"order-{number}"}
        time.sleep(0.02)
