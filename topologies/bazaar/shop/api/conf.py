"""The configuration of the api."""

from orchestrator.component import ConfField, ConfigurationManager, FileConfField


class _Manager(ConfigurationManager):
    port = ConfField(8080)
    wares = ConfField({"tea": "3.20", "figs": "2.10"}, type={str: str})
    prices = FileConfField("prices.json", "data")


CONFIGURATION = _Manager("component")
CONF = CONFIGURATION.to_conf()
