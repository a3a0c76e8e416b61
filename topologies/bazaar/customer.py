"""A customer: orders three things, and goes."""

connection_models = {
    "out": {
        "order": {
            "connection_type": "requester",
            "required_arguments": {"customer": str, "what": str},
            "required_return_arguments": {"number": int},
        },
    },
}


def main(to_send, config):
    for what in ("tea", "cake", "a spoon"):
        reply = to_send("order", {"customer": "ada@example.org", "what": what})
        print(f"order {reply['number']}: {what}")
