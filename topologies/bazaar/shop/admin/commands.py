"""What can be done with the shop: `orch admin shop.api price tea 3.40`."""

from decimal import Decimal

from bazaar.shop.api import CONF
from bazaar.shop.api.__component__ import read, write

from orchestrator.component import Command, CommandArg

COMMANDS = [
    Command(
        "price",
        args=[CommandArg("ware"), CommandArg("price", type=Decimal)],
        concerned_components=["api"],
    ),
]


def cmd_price(component, parsed_args):
    """Set the price of a ware; the api serves it at once."""
    prices = {**read(), parsed_args.ware: str(parsed_args.price)}
    write(prices)
    print(f"{parsed_args.ware} costs {parsed_args.price}, in {CONF.prices}")
