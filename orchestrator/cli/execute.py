"""`orch exec`: a command in the surroundings of a component, and a built command by `orch run`.

Both become the program: its streams, its signals and its exit code are the caller's.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from orchestrator import process
from orchestrator.cli import topology
from orchestrator.cli.session import Session
from orchestrator.errors import OrchestratorError, SpawnError, UsageError
from orchestrator.model import names
from orchestrator.model.topology import Component
from orchestrator.process import Order, Setup

_SETTING = "ORCH_SETTING_"


def execute(session: Session, *, name: str, words: tuple[str, ...]) -> int:
    """Become a command with the environment, directory, user and limits of an instance."""
    if words[:1] == ("--",):
        words = words[1:]
    if not words:
        raise UsageError(f"say what to run as {name}: orch exec {name} COMMAND")
    wanted = topology.read(session, settings={}, imports=False)
    become(words, one(name, wanted.locked.lock.components), wanted.locked.secrets)


def become(words: tuple[str, ...], component: Component, secrets: Mapping[str, str]) -> NoReturn:
    """Become a command with the environment, directory, user and limits of an instance.

    Raises:
        OrchestratorError: It cannot be started, or a secret has no value.
    """
    _become(order_of(words, component, secrets))


def order_of(words: tuple[str, ...], component: Component, secrets: Mapping[str, str]) -> Order:
    """Return the order for a command in the surroundings of an instance.

    Raises:
        OrchestratorError: A secret has no value.
    """
    environment = _with_secrets(component.environment, secrets)
    named = {f"{_SETTING}{one}": secrets[one] for one in component.secrets if one in secrets}
    return Order(
        argv=words,
        environment={**_terminal(), **component.inherited, **environment, **named},
        working_dir=component.working_dir,
        umask=component.umask,
        setup=Setup(
            user=component.user,
            group=component.group,
            nice=component.nice,
            oom_score_adj=component.oom_score_adj,
            no_new_privileges=component.no_new_privileges,
            rlimits=component.rlimits,
        ),
    )


def built(directory: Path, info: Mapping[str, object]) -> int:
    """Become the program of a built instance; secrets are in our environment, if anywhere."""
    try:
        declared = json.loads((directory / "environment.json").read_bytes())
        command = [str(word) for word in info["command"]]  # type: ignore[attr-defined]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OrchestratorError(f"cannot use {directory}: {error}; build it again") from error
    given = {
        key.removeprefix(_SETTING): value
        for key, value in os.environ.items()
        if key.startswith(_SETTING)
    }
    environment = {**os.environ, **_with_secrets(declared, given)}
    _become(Order(tuple(command), environment, str(info.get("working_dir") or "")))


def one(word: str, components: Mapping[str, Component]) -> Component:
    """Return the one instance that a word means.

    Raises:
        UnknownName: It means none.
        UsageError: It means several.
    """
    chosen = names.select((word,), components)
    if len(chosen) > 1:
        raise UsageError(f"{word} is {len(chosen)} instances; name one of {', '.join(chosen[:8])}")
    return components[chosen[0]]


def _terminal() -> dict[str, str]:
    """Return what a program needs to speak to the terminal that it is started from."""
    return {name: os.environ[name] for name in ("TERM", "COLORTERM") if name in os.environ}


def _with_secrets(declared: Mapping[str, str], secrets: Mapping[str, str]) -> dict[str, str]:
    missing = sorted(
        name
        for value in declared.values()
        for name in names.SECRET.findall(value)
        if name not in secrets
    )
    if missing:
        raise OrchestratorError(
            f"the setting {missing[0]!r} has no value; give it as ORCH_SETTING_{missing[0]}"
        )
    return {
        name: names.SECRET.sub(lambda found: secrets[found[1]], value)
        for name, value in declared.items()
    }


def _become(order: Order) -> NoReturn:
    try:
        process.replace(order)
    except SpawnError as error:
        raise OrchestratorError(f"cannot run {order.argv[0]!r}: {error}") from error
