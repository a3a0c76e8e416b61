"""The hook of the bazaar: what its services ask for their settings, and what they share."""

from orchestrator.component import Hook


class BazaarHook(Hook):
    """A hook that also knows where the letters wait."""

    queue = "bazaar:letters"
