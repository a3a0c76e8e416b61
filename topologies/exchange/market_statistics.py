"""Keep the day's figures per symbol, from the trades that other venues reported."""

from collections import Counter, defaultdict
from datetime import datetime
from decimal import Decimal

seen = {"sequence": -1, "lost": 0}
ticks = Counter()
trades = defaultdict(list)


def on_tick(args, to_send, states, config):
    """Count the tick, and remember the trade."""
    if not args["sequence"]:
        seen["sequence"] = max(seen["sequence"], 0)
        return
    seen["lost"] += args["sequence"] - max(seen["sequence"], 0) - 1
    seen["sequence"] = args["sequence"]
    ticks[args["symbol"]] += 1
    if args["kind"] == "trade":
        trades[args["symbol"]].append((args["price"], args["quantity"], args["time"]))


def on_summary(args, to_send, states, config):
    """Sum up one symbol."""
    prints = trades[args["symbol"]]
    if not prints:
        raise LookupError(f"cannot sum up {args['symbol']!r}: no trade was reported")
    volume = sum((quantity for _, quantity, _ in prints), Decimal(0))
    turnover = sum((price * quantity for price, quantity, _ in prints), Decimal(0))
    return {
        "ticks": ticks[args["symbol"]],
        "trades": len(prints),
        "volume": volume,
        "vwap": (turnover / volume).quantize(Decimal("0.0001")),
        "high": max(price for price, _, _ in prints),
        "low": min(price for price, _, _ in prints),
        "last": prints[-1][2],
        "lost": seen["lost"],
    }


def on_progress(args, to_send, states, config):
    """Say which tick was the last, and how many were missed."""
    return dict(seen)


connection_models = {
    "in": {
        "ticks": {
            "connection_type": "subscriber",
            "required_creation_arguments": {"on_new_message": on_tick},
            "required_arguments": {"sequence": int, "kind": str},
            "optional_arguments": {
                "time": datetime,
                "symbol": str,
                "side": str,
                "price": Decimal,
                "quantity": Decimal,
            },
        },
        "summary": {
            "connection_type": "replyer",
            "required_creation_arguments": {"on_new_request": on_summary},
            "required_arguments": {"symbol": str},
            "required_return_arguments": {
                "ticks": int,
                "trades": int,
                "volume": Decimal,
                "vwap": Decimal,
                "high": Decimal,
                "low": Decimal,
                "last": datetime,
                "lost": int,
            },
        },
        "progress": {
            "connection_type": "replyer",
            "required_creation_arguments": {"on_new_request": on_progress},
            "required_return_arguments": {"sequence": int, "lost": int},
        },
    },
}
