"""Taking on changed settings and configuration in the living process.

When a topology is applied and nothing else of a component has changed, one that has the hook
`on_settings` is asked to read its built files again, instead of being started anew.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from orchestrator.component import confobjects, loader, settings
from orchestrator.component.control import Call, Link
from orchestrator.component.errors import SetupError

logger = logging.getLogger(__name__)

METHOD = "settings"
"""The method of the control link: read what was built anew."""

Take = Callable[[Mapping[str, Any]], object]
"""Takes the settings; raises `SetupError` for a configuration that does not fit."""


def offer(link: Link, directory: Path, take: Take) -> None:
    """Serve the method on the control link of a component.

    Args:
        link: The link.
        directory: The component's built directory.
        take: Takes the settings, when its configuration objects have been filled in anew.
    """

    def told(call: Call) -> Mapping[str, Any]:
        del call
        try:
            values = settings.read(directory, os.environ) or {}
            settings.provide(values)
            confobjects.load_directory(directory)
            take(values)
        except Exception as error:  # noqa: BLE001 - the hook is user code, and its failure is told
            own = isinstance(error, SetupError)
            message = str(error) if own else f"on_settings failed: {loader.place(error)}"
            logger.error("Cannot take the settings, a restart will: %s", message)  # noqa: TRY400
            return {"outcome": "failed", "message": message}
        logger.info("Took changed settings")
        return {"outcome": "taken", "message": ""}

    link.methods[METHOD] = told
