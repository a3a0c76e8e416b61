"""Keep an order book per symbol and match by price, then time.

Orders of the recorded market arrive as ticks, those of our own traders as requests; to the book
they are alike.
"""

from bisect import insort
from collections import defaultdict, deque
from datetime import datetime
from decimal import Decimal

ZERO = Decimal(0)


class Side:
    """The resting orders of one side: price levels, best first, each a queue."""

    def __init__(self, best_is_low):
        """Begin empty."""
        self.sign = 1 if best_is_low else -1
        self.keys = []
        self.levels = {}

    def add(self, price, quantity, owner):
        """Queue an order behind all others of its price."""
        if price not in self.levels:
            self.levels[price] = deque()
            insort(self.keys, self.sign * price)
        self.levels[price].append([quantity, owner])

    def take(self, limit, quantity):
        """Match up to `quantity` at `limit` or better; return the fills and what is left."""
        fills = []
        while quantity and self.keys and self.keys[0] <= self.sign * limit:
            price = self.sign * self.keys[0]
            queue = self.levels[price]
            while quantity and queue:
                traded = min(quantity, queue[0][0])
                fills.append((price, traded))
                quantity -= traded
                queue[0][0] -= traded
                if not queue[0][0]:
                    queue.popleft()
            if not queue:
                del self.levels[price]
                del self.keys[0]
        return fills, quantity

    def depth(self, count):
        """Return the best `count` levels, price to quantity."""
        prices = [self.sign * key for key in self.keys[:count]]
        return {price: sum((order[0] for order in self.levels[price]), ZERO) for price in prices}


class Book:
    """Both sides of one symbol."""

    def __init__(self):
        """Begin empty."""
        self.bids = Side(best_is_low=False)
        self.asks = Side(best_is_low=True)

    def place(self, side, price, quantity, owner):
        """Match an order, rest what is left; return the fills and the rest."""
        own, other = (self.bids, self.asks) if side == "buy" else (self.asks, self.bids)
        fills, rest = other.take(price, quantity)
        if rest:
            own.add(price, rest, owner)
        return fills, rest


books = defaultdict(Book)
seen = {"sequence": -1, "lost": 0}


def on_tick(args, to_send, states, config):
    """Let an order of the recorded market into the book."""
    if args["sequence"]:
        seen["lost"] += args["sequence"] - max(seen["sequence"], 0) - 1
    seen["sequence"] = max(seen["sequence"], args["sequence"])
    if args["kind"] == "order":
        books[args["symbol"]].place(args["side"], args["price"], args["quantity"], owner="market")


def on_place(args, to_send, states, config):
    """Take an order of a trader."""
    if args["side"] not in ("buy", "sell"):
        raise ValueError(
            f"cannot place an order: side {args['side']!r} is neither 'buy' nor 'sell'"
        )
    if args["price"] <= 0 or args["quantity"] <= 0:
        raise ValueError("cannot place an order: price and quantity must be above zero")
    fills, rest = books[args["symbol"]].place(
        args["side"], args["price"], args["quantity"], args["trader"]
    )
    print(
        f"{args['trader']} {args['side']} {args['quantity']} {args['symbol']}"
        f" at {args['price']}: filled {args['quantity'] - rest}"
    )
    return {"fills": fills, "resting": rest}


def on_depth(args, to_send, states, config):
    """Show the best levels of both sides."""
    book = books[args["symbol"]]
    return {"bids": book.bids.depth(args["levels"]), "asks": book.asks.depth(args["levels"])}


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
        "place": {
            "connection_type": "replyer",
            "required_creation_arguments": {"on_new_request": on_place},
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
            "connection_type": "replyer",
            "required_creation_arguments": {"on_new_request": on_depth},
            "required_arguments": {"symbol": str, "levels": int},
            "required_return_arguments": {"bids": {Decimal: Decimal}, "asks": {Decimal: Decimal}},
        },
        "progress": {
            "connection_type": "replyer",
            "required_creation_arguments": {"on_new_request": on_progress},
            "required_return_arguments": {"sequence": int, "lost": int},
        },
    },
}
