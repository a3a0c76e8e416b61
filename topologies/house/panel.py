"""Show the temperatures of all rooms."""

from decimal import Decimal


def on_show(args, to_send, states, config):
    """Return what is known now; `states` is always the latest, and read-only."""
    rooms = states["temperatures"]
    print(", ".join(f"{room} {rooms[room]}" for room in sorted(rooms)) or "nothing yet")
    return {"rooms": rooms}


state_models = {
    "in": {
        "temperatures": {
            "state_type": "delta_update_in",
            "required_arguments": {str: Decimal},
        },
    },
}

connection_models = {
    "in": {
        "show": {
            "connection_type": "replyer",
            "required_creation_arguments": {"on_new_request": on_show},
            "required_return_arguments": {"rooms": {str: Decimal}},
        },
    },
}
