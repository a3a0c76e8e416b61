"""`orch admin`: the commands that services have over their components.

A command runs in a process of its own, which has the environment, user and limits of the
component; that process imports the service's code, this one does not.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from orchestrator import config, process
from orchestrator.cli import execute, topology
from orchestrator.cli.session import Session
from orchestrator.cli.topology import Wanted
from orchestrator.errors import ExitCode, OrchestratorError, UsageError
from orchestrator.model import names
from orchestrator.model.topology import Component

_PROGRAM = (sys.executable, "-m", "orchestrator.component.administer")


def admin(
    session: Session, *, name: str | None, words: tuple[str, ...], settings: Mapping[str, str]
) -> int:
    """Run a command of a component's service; without one, list those that there are."""
    wanted = topology.read(session, settings=settings, imports=not words)
    if name is not None and words:
        _run(session, wanted, name, words)
    return _list(session, wanted, name)


def _run(session: Session, wanted: Wanted, name: str, words: tuple[str, ...]) -> NoReturn:
    component = execute.one(name, wanted.locked.lock.components)
    if component.package is None:
        raise UsageError(f"cannot administer {name}: it is no package, so it has no commands")
    if session.options.json:
        raise UsageError("--json is for the list of commands; what a command prints is its own")
    _refuse_second(session, component, words)
    directory = str(_built(session, wanted, component))
    execute.become((*_PROGRAM, directory, *words), component, wanted.locked.secrets)


def initialize(wanted: Wanted, words: tuple[str, ...]) -> None:
    """Let the package components that `words` mean make the files that they need once.

    Their configuration must have been built.

    Raises:
        OrchestratorError: One of them failed; those after it are not begun.
    """
    lock = wanted.locked.lock
    for name in names.select(words, lock.components):
        component = lock.components[name]
        if component.package is None or not component.enabled:
            continue
        directory = topology.base_dir_of(lock) / config.build.directory_of(component)
        command = (*_PROGRAM, str(directory), "initialize")
        order = execute.order_of(command, component, wanted.locked.secrets)
        code = process.perform(order, output=sys.stderr.fileno())
        if code:
            raise OrchestratorError(f"cannot initialize {name}: it ended with exit code {code}")


def _list(session: Session, wanted: Wanted, name: str | None) -> int:
    rows = list(_rows(wanted, name))
    if session.options.json:
        session.screen.json(rows)
        return ExitCode.DONE
    if not rows:
        session.screen.note("orch: no component is a package, so there is nothing to administer")
    wide = max((len(row["component"]) for row in rows), default=0)
    usage = max((len(row["usage"]) for row in rows), default=0)
    for row in rows:
        text = f"{row['component']:<{wide}}  {row['usage']:<{usage}}  {row['help']}"
        session.screen.data(text.rstrip())
    return ExitCode.DONE


def _rows(wanted: Wanted, name: str | None) -> list[dict[str, Any]]:
    every = wanted.locked.lock.components
    chosen = names.select((name,) if name else (), every)
    packages = dict.fromkeys(every[one].base for one in chosen if every[one].package is not None)
    if name and not packages:
        raise UsageError(f"cannot administer {name}: it is no package, so it has no commands")
    return [
        {"component": base, **command}
        for base in packages
        for command in wanted.models.get(base, {}).get("commands", ())
    ]


def _refuse_second(session: Session, component: Component, words: tuple[str, ...]) -> None:
    """Refuse to start what the daemon runs: a component is one process."""
    daemon = session.try_connect() if "start" in words[:3] else None
    for row in daemon.ps() if daemon is not None else ():
        if row["name"] == component.name and row["pid"] is not None:
            raise OrchestratorError(
                f"cannot start {component.name} here: it runs already (pid {row['pid']}); "
                f"orch restart {component.name} starts it anew"
            )


def _built(session: Session, wanted: Wanted, component: Component) -> Path:
    """Return the directory in which a component's configuration is built.

    What a living system was started with stays as it is; else it is built anew.
    """
    lock = wanted.locked.lock
    directory = topology.base_dir_of(lock) / config.build.directory_of(component)
    if session.try_connect() is None or not (directory / "__info__.json").is_file():
        topology.write_first(lock)
        topology.write(session, lock)
    return directory
