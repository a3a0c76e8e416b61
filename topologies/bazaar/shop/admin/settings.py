"""What differs where the shop is installed."""

from bazaar.shop.admin.conf import SHOP

from orchestrator.component import SettingsField, SettingsManager


class Settings(SettingsManager):
    """Who answers for the shop."""

    SENDER = SettingsField(optional=True, default_value="nobody")

    def propagate_settings(self, component=None, component_arg=None):
        SHOP.contact = self.settings.SENDER
