"""Replay a recorded market, and make sure that everybody has heard it.

A publisher does not know its subscribers: whoever connects late has missed the beginning, and
whoever is slow would miss the middle. So the feed says `hello` until each consumer has heard it,
never runs more than a window ahead of the slowest, and ends only when all of them have seen the
last tick.
"""

import csv
import time
from datetime import datetime
from decimal import Decimal
from pathlib import Path

CONSUMERS = ("engine_progress", "statistics_progress")
UNHEARD = -1


def main(to_send, config):
    """Publish each row of the file, in order."""
    with Path(config["file"]).open(encoding="ascii", newline="") as file:
        rows = list(csv.DictReader(file))
    patience = config.get("patience", 30)
    deadline = time.monotonic() + patience
    for consumer in CONSUMERS:
        while to_send("connection", consumer, {})["sequence"] == UNHEARD:
            if time.monotonic() > deadline:
                raise TimeoutError(f"cannot replay: {consumer} heard no hello in {patience} s")
            to_send("connection", "ticks", {"sequence": 0, "kind": "hello"})
            pause()
    sent = 0
    for row in rows:
        sent += 1
        to_send("connection", "ticks", tick(row))
        if sent % config["window"] == 0:
            wait_until_seen(to_send, sent, patience)
    wait_until_seen(to_send, sent, patience)
    print(f"Replayed {sent} ticks, all consumers have seen them")


def tick(row):
    """Turn a row of text into the typed message."""
    return {
        "sequence": int(row["sequence"]),
        "kind": row["kind"],
        "time": datetime.fromisoformat(row["time"]),
        "symbol": row["symbol"],
        "side": row["side"],
        "price": Decimal(row["price"]),
        "quantity": Decimal(row["quantity"]),
    }


def wait_until_seen(to_send, sequence, patience):
    """Wait until each consumer has seen the tick of this number, and every one before it."""
    deadline = time.monotonic() + patience
    for consumer in CONSUMERS:
        while (seen := to_send("connection", consumer, {}))["sequence"] < sequence:
            if time.monotonic() > deadline:
                raise TimeoutError(f"cannot go on: {consumer} stays at {seen} of {sequence}")
            pause()
        if seen["lost"]:
            raise RuntimeError(f"cannot go on: {consumer} has lost {seen['lost']} ticks")


def pause():
    """Give the others a moment."""
    time.sleep(0.005)


config_model = {
    "required": {"file": str, "window": int},
    "optional": {"patience": int},
}

progress = {
    "connection_type": "requester",
    "required_return_arguments": {"sequence": int, "lost": int},
}

connection_models = {
    "out": {
        "ticks": {
            "connection_type": "publisher",
            "required_arguments": {"sequence": int, "kind": str},
            "optional_arguments": {
                "time": datetime,
                "symbol": str,
                "side": str,
                "price": Decimal,
                "quantity": Decimal,
            },
        },
        "engine_progress": progress,
        "statistics_progress": progress,
    },
}
