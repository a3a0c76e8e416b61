"""Generate `market.csv`, the recorded market that the example replays.

The rows are made, not measured: no exchange's data is free to ship, and a test wants to know
each byte. Only `random.random()` is drawn, the one method whose sequence for a given seed Python
promises to keep, and all arithmetic is on integers; so the same command writes the same bytes on
every machine:

    python topologies/exchange/market/generate.py topologies/exchange/market/market.csv
"""

import random
import sys
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

SEED = 20260302
ROWS = 4000
OPENING = datetime(2026, 3, 2, 9, 30, tzinfo=timezone.utc)  # noqa: UP017 - reads the same on every Python


@dataclass
class Instrument:
    """A symbol; its price has `digits` decimal places and moves by `tick` units of the last."""

    symbol: str
    digits: int
    tick: int
    middle: int
    lot: int


def rows(seed, count):
    """Yield the rows as texts.

    The middle price walks at random. Seven rows of ten are limit orders: most rest up to 25
    ticks away from the middle, one in eight crosses it and trades. The others are trades
    reported by other venues, near the middle.
    """
    draw = random.Random(seed).random  # noqa: S311 - a market, not a secret

    def below(limit):
        return int(draw() * limit)

    instruments = [
        Instrument("BTC-USD", digits=2, tick=50, middle=129_350, lot=5),
        Instrument("ETH-USD", digits=2, tick=5, middle=67_210, lot=80),
        Instrument("SOL-USD", digits=3, tick=10, middle=18_475, lot=900),
    ]
    now = OPENING
    for sequence in range(1, count + 1):
        now += timedelta(microseconds=1_000 + below(2_000_000))
        instrument = instruments[below(len(instruments))]
        instrument.middle += below(5) - 2
        side = ("buy", "sell")[below(2)]
        if draw() < 0.7:
            kind = "order"
            away = below(25) + 1
            if below(8) == 0:
                away = -below(6)
            ticks = instrument.middle - away if side == "buy" else instrument.middle + away
        else:
            kind = "trade"
            ticks = instrument.middle + below(5) - 2
        price = decimal(ticks * instrument.tick, instrument.digits)
        quantity = decimal((below(40) + 1) * instrument.lot, 3)
        time = now.isoformat(timespec="microseconds")
        yield f"{sequence},{time},{instrument.symbol},{kind},{side},{price},{quantity}"


def decimal(units, digits):
    """Write an integer number of smallest units with its decimal point."""
    whole, rest = divmod(units, 10**digits)
    return f"{whole}.{rest:0{digits}d}"


def main(path):
    """Write the file."""
    lines = ["sequence,time,symbol,kind,side,price,quantity", *rows(SEED, ROWS)]
    Path(path).write_text("\n".join(lines) + "\n", encoding="ascii")


if __name__ == "__main__":
    main(sys.argv[1])
