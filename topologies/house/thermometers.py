"""Measure, and tell what has changed."""

import time
from decimal import Decimal

state_models = {
    "out": {
        "temperatures": {
            "state_type": "delta_update_out",
            "required_arguments": {str: Decimal},
        },
    },
}

connection_models = {
    "out": {
        "show": {
            "connection_type": "requester",
            "required_return_arguments": {"rooms": {str: Decimal}},
        },
    },
}


def main(to_send, states, config):
    """Send three changes; wait until the panel shows what we have."""
    if states["temperatures"]:
        print(f"remembered {len(states['temperatures'])} rooms")
    to_send("state", "temperatures", {"kitchen": Decimal("21.5"), "cellar": Decimal("11.0")})
    to_send("state", "temperatures", {"attic": Decimal("24.1"), "cellar": None})
    to_send("state", "temperatures", {"kitchen": Decimal("21.6")})
    while to_send("connection", "show", {})["rooms"] != states["temperatures"]:
        time.sleep(0.05)
    print("the panel is up to date")
