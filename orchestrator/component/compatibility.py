"""What files for service_framework import from it, where it is not installed: ours, by its names.

    from service_framework.utils.logging_utils import get_logger
    from service_framework.utils.utils import add_sigint_handler

Where that package is installed, its own modules are found first.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

_NAMES: Mapping[str, tuple[str, ...]] = {
    "service_framework": (),
    "service_framework.utils": (),
    "service_framework.utils.logging_utils": ("get_logger",),
    "service_framework.utils.utils": ("add_sigint_handler",),
}


class AliasFinder:
    """Finds the modules when nothing else does, and fills them."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of one of the modules, None for all others."""
        del path, target
        if fullname not in _NAMES:
            return None
        return ModuleSpec(fullname, self, is_package=not _NAMES[fullname])  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> None:
        """Leave it to Python."""

    def exec_module(self, module: ModuleType) -> None:
        """Put our functions into the module."""
        ours = importlib.import_module(__package__)
        for name in _NAMES[module.__name__]:
            setattr(module, name, getattr(ours, name))


def install() -> None:
    """Let the modules be found, behind all others."""
    if not any(isinstance(finder, AliasFinder) for finder in sys.meta_path):
        sys.meta_path.append(AliasFinder())
