"""The desk: takes orders, and has a letter sent for each."""

import json

import redis


def on_order(args, to_send, states, config):
    """Give the order a number and put its letter into the queue."""
    client = redis.Redis(port=config["port"], decode_responses=True)
    number = client.incr("bazaar:orders")
    letter = {
        "to": args["customer"],
        "subject": f"Order {number}",
        "text": f"Thank you for your order of {args['what']}.",
    }
    client.rpush("bazaar:letters", json.dumps(letter))
    return {"number": number}


config_model = {"required": {"port": int}}

connection_models = {
    "in": {
        "order": {
            "connection_type": "replyer",
            "required_arguments": {"customer": str, "what": str},
            "required_creation_arguments": {"on_new_request": on_order},
            "required_return_arguments": {"number": int},
        },
    },
}
