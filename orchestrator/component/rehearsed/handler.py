"""A handler without connections, for the rehearsal."""

from __future__ import annotations


def init_function(to_send: object, states: object, config: object) -> None:
    """Do nothing."""
