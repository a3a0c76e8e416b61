"""What all components of the shop share."""

from orchestrator.component import ConfField, ConfigurationManager


class _Manager(ConfigurationManager):
    currency = ConfField("EUR")
    contact = ConfField("nobody")


CONFIGURATION = _Manager("service", "SHOP")
SHOP = CONFIGURATION.to_conf()
