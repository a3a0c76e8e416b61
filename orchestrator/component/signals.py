"""What handler code wants to hear of a signal, beside the hooks of its file."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable
from typing import Any

logger = logging.getLogger(__name__)

handle: Callable[[int, Any], Any] = importlib.import_module("_signal").signal
"""`signal.signal` itself; what that name stands for makes enumerations of its results first."""

_added: list[Callable[[int, object], object]] = []


def add_sigint_handler(function: Callable[[int, object], object]) -> None:
    """Call `function(signal, frame)` when the component is to stop, by SIGINT or SIGTERM.

    Those added last are called first, and all of them before the file's own hook. What one raises
    is logged.
    """
    _added.insert(0, function)


def tell(signum: int, frame: object) -> None:
    """Call all that were added."""
    for function in tuple(_added):
        try:
            function(signum, frame)
        except Exception:
            logger.exception("A signal handler failed")
