"""The runtime of handler components, and what their code may import.

Names resolve when they are used: importing this package loads neither ZeroMQ nor an event loop.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.component.errors import (
        ComponentError,
        ModelMismatch,
        RemoteError,
        RemoteFailure,
        RemoteRefusal,
        RequestError,
        RequestTimeout,
        SendError,
        SendTimeout,
        SetupError,
        UnknownOutput,
    )
    from orchestrator.component.logs import get_logger

__all__ = [
    "ComponentError",
    "ModelMismatch",
    "RemoteError",
    "RemoteFailure",
    "RemoteRefusal",
    "RequestError",
    "RequestTimeout",
    "SendError",
    "SendTimeout",
    "SetupError",
    "UnknownOutput",
    "get_logger",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "logs" if name == "get_logger" else "errors"
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)
