"""The exchange's result computed a second time, by another way.

Here there are no books and no messages: integers of the smallest unit, one flat list of resting
orders that is searched whole for each match, and fractions for the average. What agrees with it
to the last byte was not lost on the way.
"""

from __future__ import annotations

import csv
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

Order = dict[str, Any]


def result(folder: Path) -> bytes:
    """Return the bytes of `result.json` for the data in `folder`."""
    with (folder / "market" / "market.csv").open(encoding="ascii", newline="") as file:
        rows = list(csv.DictReader(file))
    instruments = json.loads(
        (folder / "reference" / "instruments.json").read_text(encoding="utf-8")
    )
    found = {}
    for each in instruments:
        mine = [row for row in rows if row["symbol"] == each["symbol"]]
        found[each["symbol"]] = of_instrument(each, mine)
    return (json.dumps(found, indent=2) + "\n").encode()


def of_instrument(instrument: dict[str, str], rows: list[dict[str, str]]) -> dict[str, Any]:
    """Return the entry of one symbol."""
    digits = len(instrument["tick_size"].partition(".")[2])
    resting: list[Order] = []
    for row in rows:
        if row["kind"] == "order":
            match(resting, row["side"], whole(row["price"], digits), whole(row["quantity"], 3))
    trades = [
        (whole(row["price"], digits), whole(row["quantity"], 3), row["time"])
        for row in rows
        if row["kind"] == "trade"
    ]
    volume = sum(quantity for _, quantity, _ in trades)
    average = Fraction(sum(price * quantity for price, quantity, _ in trades), volume)
    summary = {
        "ticks": len(rows),
        "trades": len(trades),
        "volume": shown(volume, 3),
        "vwap": shown(round(average * 10 ** (4 - digits)), 4),
        "high": shown(max(price for price, _, _ in trades), digits),
        "low": shown(min(price for price, _, _ in trades), digits),
        "last": trades[-1][2],
        "lost": 0,
    }
    size = whole(instrument["order_size"], 3)
    tick = whole(instrument["tick_size"], digits)
    fair = round(Fraction(round(average * 10 ** (4 - digits)), 10 ** (4 - digits)) / tick) * tick
    plan = [
        ("buy", depth(resting, "sell")[-1][0]),
        ("sell", depth(resting, "buy")[-1][0]),
        ("buy", fair),
    ]
    orders = []
    for side, price in plan:
        fills, rest = match(resting, side, price, size)
        orders.append(
            {
                "side": side,
                "price": shown(price, digits),
                "quantity": shown(size, 3),
                "fills": [[shown(at, digits), shown(quantity, 3)] for at, quantity in fills],
                "resting": shown(rest, 3),
            }
        )
    return {
        "name": instrument["name"],
        "summary": summary,
        "orders": orders,
        "depth": {
            name: [
                [shown(price, digits), shown(quantity, 3)]
                for price, quantity in depth(resting, side)
            ]
            for name, side in (("bids", "buy"), ("asks", "sell"))
        },
    }


def match(
    resting: list[Order], side: str, limit: int, quantity: int
) -> tuple[list[tuple[int, int]], int]:
    """Match an order against the list, best price first, then oldest; rest what is left."""
    fills = []
    while quantity:
        others = [each for each in resting if each["side"] != side and each["quantity"]]
        others = [
            each
            for each in others
            if (each["price"] <= limit if side == "buy" else each["price"] >= limit)
        ]
        if not others:
            break
        best = min(
            others,
            key=lambda each: (each["price"] if side == "buy" else -each["price"], each["age"]),
        )
        traded = min(quantity, best["quantity"])
        best["quantity"] -= traded
        quantity -= traded
        fills.append((best["price"], traded))
    if quantity:
        resting.append({"side": side, "price": limit, "quantity": quantity, "age": len(resting)})
    return fills, quantity


def depth(resting: list[Order], side: str) -> list[tuple[int, int]]:
    """Return the three best prices of a side with all that rests there."""
    prices = sorted(
        {each["price"] for each in resting if each["side"] == side and each["quantity"]}
    )
    best = prices[:3] if side == "sell" else prices[::-1][:3]
    return [
        (
            price,
            sum(
                each["quantity"]
                for each in resting
                if each["side"] == side and each["price"] == price
            ),
        )
        for price in best
    ]


def whole(text: str, digits: int) -> int:
    """Return a decimal text as an integer number of its smallest units."""
    before, _, after = text.partition(".")
    return int(before + after.ljust(digits, "0"))


def shown(units: int, digits: int) -> str:
    """Return units as a decimal text."""
    return f"{units // 10**digits}.{units % 10**digits:0{digits}d}"
