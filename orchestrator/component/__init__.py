"""The runtime of components, and what their code may import.

Names resolve when they are used: importing this package loads neither ZeroMQ nor an event loop.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.component.admin import Administrator, Command, CommandArg
    from orchestrator.component.clients import client
    from orchestrator.component.confobjects import Configuration, ConfigurationManager
    from orchestrator.component.errors import (
        ComponentError,
        ConfigurationError,
        ModelMismatch,
        RemoteError,
        RemoteFailure,
        RemoteRefusal,
        RequestError,
        RequestTimeout,
        SendError,
        SendTimeout,
        SetupError,
        UnknownField,
        UnknownOutput,
    )
    from orchestrator.component.fields import ConfField, DirConfField, FileConfField
    from orchestrator.component.hooks import Hook, MemoryHook, RedisHook
    from orchestrator.component.logs import get_logger
    from orchestrator.component.registry import MetaService
    from orchestrator.component.runs.inputs import fetch
    from orchestrator.component.runs.instance import RunInstance
    from orchestrator.component.runs.templates import (
        ServiceParamTemplate,
        ServiceProgramTemplate,
        WatcherHandler,
    )
    from orchestrator.component.service import CommonService, ServiceState
    from orchestrator.component.settings import SettingsField, SettingsManager
    from orchestrator.component.signals import add_sigint_handler
    from orchestrator.component.starting import ComponentFailed, Started
    from orchestrator.component.workflow import Component

__all__ = [
    "Administrator",
    "Command",
    "CommandArg",
    "CommonService",
    "Component",
    "ComponentError",
    "ComponentFailed",
    "ConfField",
    "Configuration",
    "ConfigurationError",
    "ConfigurationManager",
    "DirConfField",
    "FileConfField",
    "Hook",
    "MemoryHook",
    "MetaService",
    "ModelMismatch",
    "RedisHook",
    "RemoteError",
    "RemoteFailure",
    "RemoteRefusal",
    "RequestError",
    "RequestTimeout",
    "RunInstance",
    "SendError",
    "SendTimeout",
    "ServiceParamTemplate",
    "ServiceProgramTemplate",
    "ServiceState",
    "SettingsField",
    "SettingsManager",
    "SetupError",
    "Started",
    "UnknownField",
    "UnknownOutput",
    "WatcherHandler",
    "add_sigint_handler",
    "client",
    "fetch",
    "get_logger",
]

_HOMES = {
    "Administrator": "admin",
    "Command": "admin",
    "CommandArg": "admin",
    "Component": "workflow",
    "ComponentFailed": "starting",
    "ConfField": "fields",
    "Configuration": "confobjects",
    "ConfigurationManager": "confobjects",
    "DirConfField": "fields",
    "FileConfField": "fields",
    "CommonService": "service",
    "Hook": "hooks",
    "MemoryHook": "hooks",
    "MetaService": "registry",
    "RedisHook": "hooks",
    "ServiceState": "service",
    "SettingsField": "settings",
    "SettingsManager": "settings",
    "Started": "starting",
    "RunInstance": "runs.instance",
    "ServiceParamTemplate": "runs.templates",
    "ServiceProgramTemplate": "runs.templates",
    "WatcherHandler": "runs.templates",
    "add_sigint_handler": "signals",
    "client": "clients",
    "fetch": "runs.inputs",
    "get_logger": "logs",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = _HOMES.get(name, "errors")
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)
