"""The Client of a component, for whoever wants to speak to it: other components, and scripts.

    from orchestrator.component import client

    api = client("shop.api")

A component's package exposes a `Client`. Here it is imported, its configuration is filled in as
the component's own is, and the Client is made.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from orchestrator.component import configuration, configuring, instance, packages, workflow
from orchestrator.component.errors import ComponentError, SetupError

_LOCK = "topology.lock.json"

_known: dict[tuple[Path, str], packages.Package] = {}


def client(name: str, *arguments: Any, base_dir: str | Path | None = None, **named: Any) -> Any:
    """Return the Client of a component, configured.

    Args:
        name: The component, `service.component`.
        arguments: What a Client that is a class, or a function, is called with.
        base_dir: Where the system is built. By default the system of this process's own
            component, else `.orch` in the working directory or above it.
        named: As `arguments`.

    Returns:
        What calling the Client gives; the Client itself when it cannot be called.

    Raises:
        ComponentError: The system is not built, there is no such component, or it has no Client.
        SetupError: Its package or its configuration is wrong.
    """
    base = Path(base_dir).absolute() if base_dir is not None else _base_dir()
    if (base, name) not in _known:
        _known[base, name] = _configured(base, name)
    found = _known[base, name].exposed("Client")
    if found is None:
        raise ComponentError(f"cannot give the client of {name}: its package exposes no Client")
    return found(*arguments, **named) if callable(found) else found


def _configured(base: Path, name: str) -> packages.Package:
    service, _, component = name.partition(".")
    component = component or service
    directory = base / "conf" / f"{service}-{component}"
    if not directory.is_dir():
        conf = base / "conf"
        there = sorted(_names(conf)) if conf.is_dir() else []
        hint = f"there are {', '.join(there)}" if there else "build the system: orch build"
        raise ComponentError(f"cannot give the client of {name}: {directory} is not there; {hint}")
    told = instance.from_directory(directory)
    if told.kind != "package":
        raise ComponentError(f"cannot give the client of {name}: it is no package")
    package = packages.load(told.handler, told.python_path)
    if instance.running() == (base, directory.name):
        return package  # Its configuration is our own.
    mistakes: list[str] = []
    values = configuration.replaced(told.config, os.environ, mistakes)
    if mistakes:
        raise SetupError([f"configuration of {name}: {mistake}" for mistake in mistakes])
    configuring.configure(
        [workflow.configuration_of(conf, name) for conf in package.confs],
        directory,
        base_dir=base,
        service=service,
        component=component,
        values=values,
    )
    return package


def _names(conf: Path) -> list[str]:
    found = []
    for info in conf.glob("*/__info__.json"):
        try:
            told = json.loads(info.read_bytes())
        except (OSError, ValueError):
            continue
        if "package" in told:
            found.append(str(told.get("name")))
    return found


def _base_dir() -> Path:
    running = instance.running()
    if running is not None:
        return running[0]
    here = Path.cwd()
    for directory in (here, *here.parents):
        if (directory / ".orch" / _LOCK).is_file():
            return directory / ".orch"
    raise ComponentError(
        f"cannot find a built system in {here} or above it: orch build makes one, "
        "and base_dir names one that is elsewhere"
    )
