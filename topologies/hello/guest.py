"""Come in, be greeted, go."""

connection_models = {
    "out": {
        "greet": {
            "connection_type": "requester",
            "required_arguments": {"name": str},
            "required_return_arguments": {"text": str},
        },
    },
}


def main(to_send, config):
    """Introduce everybody, then go home."""
    for name in ("Ada", "Grace", "Barbara"):
        answer = to_send("connection", "greet", {"name": name})
        print(answer["text"])
