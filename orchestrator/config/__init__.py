"""Text to Lock: read a topology, check it, resolve it, and say what its built files are.

    draft = config.read(path, environment=os.environ)
    locked = config.lock(draft, models)
    tree = config.build.files_of(locked.lock)

Names resolve at first use: `orch ps` imports this package for a path and nothing else.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import orchestrator.config.build as build  # noqa: PLR0402  # a module cannot import from itself
    import orchestrator.config.codes as codes  # noqa: PLR0402
    from orchestrator.config.draft import Draft, read
    from orchestrator.config.resolve import Locked, lock

__all__ = ["Draft", "Locked", "build", "codes", "lock", "read"]

_HOMES = {"Draft": "draft", "read": "draft", "Locked": "resolve", "lock": "resolve"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    if name in {"build", "codes"}:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
