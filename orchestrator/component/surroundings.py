"""What services find in their process: its configuration store, its registry and its hook."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from orchestrator.component import configstore, configuration, hooks, loader
from orchestrator.component.configstore import Store, StoreError
from orchestrator.component.errors import SetupError
from orchestrator.component.instance import Instance
from orchestrator.component.registry import Declared, MetaService

logger = logging.getLogger(__name__)


def provide(instance: Instance, link: str = "") -> Any:
    """Fill the registry of this process from what its topology says; return its hook.

    Args:
        instance: Its process.
        link: The path of its control link.

    Raises:
        SetupError: A context or default service cannot be made, or the store not be used.
    """
    declare(instance, link)
    try:
        hook = MetaService().build_hook()
    except SetupError:
        raise
    except Exception as error:  # user code may raise anything
        raise SetupError(f"cannot make the hook: {loader.place(error)}") from error
    hooks.use_hook(hook)
    return hook


def declare(instance: Instance, link: str = "") -> None:
    """Let the registry of this process know what its topology says, and make nothing of it.

    Raises:
        SetupError: The store cannot be used, or a secret is not in the environment.
    """
    mistakes: list[str] = []
    told = instance.surroundings
    found = configuration.replaced(
        {"store": told.store, "contexts": told.contexts, "services": told.services},
        os.environ,
        mistakes,
    )
    if mistakes:
        raise SetupError(mistakes)
    hooks.use_store(_store(found["store"], instance.base_dir))
    hooks.use_link(link)
    MetaService.declared = Declared(found["contexts"], found["services"])


def _store(where: str, base_dir: Path) -> Store:
    """Return the configuration store; a file that belongs to others is as none."""
    try:
        store = configstore.opened(where, base_dir)
        store.write("component", {})
    except StoreError as error:
        if where != "sqlite":
            raise SetupError(str(error)) from error
        logger.warning("%s; what is set for it is not heeded", error)
        return configstore.MemoryStore()
    return store
