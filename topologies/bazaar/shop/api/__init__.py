"""The price list of the shop."""

from bazaar.shop.api.client import Client, Mock
from bazaar.shop.api.conf import CONF, CONFIGURATION

__all__ = ["CONF", "CONFIGURATION", "Client", "Mock"]
