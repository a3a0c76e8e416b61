"""Modules that libraries import when they can and do well without, and that take long to load."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def without(*names: str) -> Iterator[None]:
    """Let the imports of the block find no modules of these names; what is loaded already stays.

    A name that is None in `sys.modules` is one that cannot be imported, says the language's
    reference of the import system; afterwards each can be again.
    """
    spared = [name for name in names if name not in sys.modules]
    modules: dict[str, object] = sys.modules  # type: ignore[assignment]
    modules.update(dict.fromkeys(spared))
    try:
        yield
    finally:
        for name in spared:
            del modules[name]
