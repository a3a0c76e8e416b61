"""The page of the shop."""

from bazaar.shop.site.conf import CONF, CONFIGURATION

__all__ = ["CONF", "CONFIGURATION"]
