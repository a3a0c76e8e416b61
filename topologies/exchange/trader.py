"""Look at the market, trade each instrument in both directions, write down what came of it."""

import json
import urllib.request
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path

NAME = "desk-1"


def main(to_send, config):
    """Trade, then write the result file."""
    with urllib.request.urlopen(config["instruments"], timeout=10) as answer:  # noqa: S310 - our own web server
        instruments = json.load(answer)
    result = {}
    for instrument in instruments:
        symbol = instrument["symbol"]
        summary = to_send("connection", "summary", {"symbol": symbol})
        orders = [place(to_send, symbol, order) for order in plan(to_send, instrument, summary)]
        result[symbol] = {
            "name": instrument["name"],
            "summary": {key: text(value) for key, value in summary.items()},
            "orders": orders,
            "depth": depth(to_send, symbol),
        }
        print(
            f"{symbol}: {len(orders)} orders, {sum(len(order['fills']) for order in orders)} fills"
        )
    path = Path(config["result"])
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"Wrote {path}")


def plan(to_send, instrument, summary):
    """Decide: sweep a few levels on either side, then bid at the day's average price."""
    levels = to_send("connection", "depth", {"symbol": instrument["symbol"], "levels": 3})
    size = Decimal(instrument["order_size"])
    step = Decimal(instrument["tick_size"])
    yield "buy", max(levels["asks"]), size
    yield "sell", min(levels["bids"]), size
    yield "buy", (summary["vwap"] / step).quantize(Decimal(1), ROUND_HALF_EVEN) * step, size


def place(to_send, symbol, order):
    """Send one order; return what became of it as plain data."""
    side, price, quantity = order
    answer = to_send(
        "connection",
        "place",
        {"trader": NAME, "symbol": symbol, "side": side, "price": price, "quantity": quantity},
    )
    return {
        "side": side,
        "price": text(price),
        "quantity": text(quantity),
        "fills": [[text(price), text(quantity)] for price, quantity in answer["fills"]],
        "resting": text(answer["resting"]),
    }


def depth(to_send, symbol):
    """Return the three best levels of both sides as plain data."""
    levels = to_send("connection", "depth", {"symbol": symbol, "levels": 3})
    return {
        "bids": [
            [text(price), text(levels["bids"][price])]
            for price in sorted(levels["bids"], reverse=True)
        ],
        "asks": [[text(price), text(levels["asks"][price])] for price in sorted(levels["asks"])],
    }


def text(value):
    """Write decimals and times as text that loses nothing; leave numbers alone."""
    if isinstance(value, Decimal):
        return f"{value:f}"
    return value.isoformat() if isinstance(value, datetime) else value


config_model = {"required": {"instruments": str, "result": str}}

connection_models = {
    "out": {
        "place": {
            "connection_type": "requester",
            "required_arguments": {
                "trader": str,
                "symbol": str,
                "side": str,
                "price": Decimal,
                "quantity": Decimal,
            },
            "required_return_arguments": {"fills": [(Decimal, Decimal)], "resting": Decimal},
        },
        "depth": {
            "connection_type": "requester",
            "required_arguments": {"symbol": str, "levels": int},
            "required_return_arguments": {"bids": {Decimal: Decimal}, "asks": {Decimal: Decimal}},
        },
        "summary": {
            "connection_type": "requester",
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
    },
}
