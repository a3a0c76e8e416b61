"""What service_framework's document shows of a service, with its samples as they stand there."""

from datetime import datetime
from decimal import Decimal

from orchestrator.component import add_sigint_handler, get_logger

LOG = get_logger()


class CbproClient:
    """The sample names its target `CbproClient.cancel_order`."""

    @staticmethod
    def cancel_order(order_id):
        LOG.info("cancelled %s on coinbase", order_id)


def on_new_cancel_order(args, to_send, states, config):
    to_send("connection", "cancel_order_on_coinbase", {"order_id": args["order_id"]})
    prices = {key: str(value) for key, value in states["market_price"].items()}
    LOG.info("prices %s", prices)
    LOG.info("asks %s", states["order_book"].get("asks"))
    LOG.info("bids %s", states["order_book"].get("bids"))
    LOG.info("config %s", config)
    return {"order_id": args["order_id"]}


def setup_configs(config):
    return {
        "required": {
            "argument_1": "first_argument",
        },
        "optional": {
            "argument_2": "the_second_argument",
        },
    }


def setup_addresses(addresses, config):
    LOG.info("addresses for %s", config["symbol"])
    return addresses


def setup_connections(config):
    return {}


def setup_states(config):
    return {"market_price": {"topic": config["symbol"]}}


def sigint_handler(sigint, frame, to_send, states, config):
    LOG.info("interrupted by %d with %d states", sigint, len(states))


add_sigint_handler(lambda sigint, frame: LOG.info("and told at %d", sigint))

config_model = {
    "required": {  # Optional
        "symbol": str,
        "argument_1": str,
    },
    "optional": {"argument_2": str, "config_property_2": [str], "random_variable": str},
}

connection_models = {
    "in": {
        "cancel_order": {
            "connection_type": "replyer",  # Required
            "required_creation_arguments": {  # Optional
                "on_new_cancel_order": on_new_cancel_order,  # Optional
            },
            "optional_creation_arguments": {},  # Optional
            "required_connection_arguments": {},  # Depends on the Connection
            "optional_connection_arguments": {},  # Depends on the Connection
            "required_arguments": {  # Optional
                "order_id": str,
            },
            "optional_arguments": {},  # Optional
            "required_return_arguments": {  # Optional
                "order_id": str,
            },
            "optional_return_arguments": {},  # Optional
        }
    },
    "out": {
        "cancel_order_on_coinbase": {
            "connection_type": "external_target",  # Required
            "required_creation_arguments": {  # Optional
                "target": "CbproClient.cancel_order",
            },
            "optional_creation_arguments": {},  # Optional
            "required_connection_arguments": {},  # Depends on the Connection
            "optional_connection_arguments": {},  # Depends on the Connection
            "required_arguments": {  # Optional
                "order_id": str,
            },
            "optional_arguments": {},  # Optional
            "required_return_arguments": None,  # Optional
            "optional_return_arguments": None,  # Optional
        },
    },
}

state_models = {
    "in": {
        "market_price": {
            "state_type": "local_variable_delta_update",  # Required
            "required_creation_arguments": {},  # Optional
            "optional_creation_arguments": {},  # Optional
            "required_state_arguments": {},  # Depends on the State
            "optional_state_arguments": {},  # Depends on the State
            "required_arguments": {  # Optional
                "min_ask": Decimal,
                "max_bid": Decimal,
                "time_ask": datetime,
                "time_bid": datetime,
            },
            "optional_arguments": {},  # Optional
            "required_return_arguments": {},  # Optional
            "optional_return_arguments": {},  # Optional
        },
        "order_book": {
            "state_type": "local_variable_delta_update",  # Required
            "required_creation_arguments": {},  # Optional
            "optional_creation_arguments": {},  # Optional
            "required_state_arguments": {},  # Depends on the State
            "optional_state_arguments": {},  # Depends on the State
            "required_arguments": {  # Optional
                "asks": {Decimal: Decimal},
                "bids": {Decimal: Decimal},
                "updated_time": datetime,
            },
            "optional_arguments": {},  # Optional
            "required_return_arguments": {},  # Optional
            "optional_return_arguments": {},  # Optional
        },
    },
}
