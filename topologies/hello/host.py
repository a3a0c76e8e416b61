"""Answer whoever comes in."""


def on_greet(args, to_send, states, config):
    """Greet the guest by name."""
    print(f"{args['name']} is at the door")
    return {"text": f"Hello, {args['name']}!"}


connection_models = {
    "in": {
        "greet": {
            "connection_type": "replyer",
            "required_creation_arguments": {"on_new_request": on_greet},
            "required_arguments": {"name": str},
            "required_return_arguments": {"text": str},
        },
    },
}
