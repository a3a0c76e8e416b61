"""The configuration of a component: layers, conversion to the model's types, all mistakes at once.

Later layers win:

    file         config.json, flat or in the groups {"required": {…}, "optional": {…}}
    environment  ORCH_CONFIG__SYMBOL=… for `symbol`, ORCH_CONFIG__DB__HOST=… for `host` in the map
                 `db`; names are compared without case
    arguments    --symbol … on the command line
    setup_config what the hook returns is merged over the rest

Values from a file are JSON and become what the model says: "1.10" or 1.1 a Decimal,
"2026-01-02T03:04:05Z" a datetime, a list a set or a tuple. Values from environment and arguments
are text; containers are written as JSON. `${settings.NAME}` in a text stands for a secret, and
comes from the environment as ORCH_SETTING_NAME.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from orchestrator.component import handlers
from orchestrator.component.errors import SetupError
from orchestrator.component.handlers import Handler
from orchestrator.model import names
from orchestrator.wire import typed

PREFIX = "ORCH_CONFIG__"
SETTING_PREFIX = "ORCH_SETTING_"


def read(path: Path | str) -> dict[str, Any]:
    """Return the JSON object in `path`, its groups `required` and `optional` flattened.

    Raises:
        SetupError: The file cannot be read or holds no object; names line and column.
    """
    return _flattened(read_json(path, "configuration"))


def read_json(path: Path | str, what: str) -> dict[str, Any]:
    """Return the JSON object in `path`; `what` names it in errors.

    Raises:
        SetupError: The file cannot be read or holds no object; names line and column.
    """
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - in every start
            found = json.loads(file.read())
    except OSError as error:
        raise SetupError(f"cannot read the {what} {path}: {error.strerror}") from error
    except json.JSONDecodeError as error:
        raise SetupError(
            f"{path}:{error.lineno}:{error.colno}: cannot read the {what}: {error.msg}"
        ) from error
    except UnicodeDecodeError as error:
        raise SetupError(f"cannot read the {what} {path}: not UTF-8") from error
    if not isinstance(found, dict):
        raise SetupError(
            f"cannot read the {what} {path}: expected an object, got {type(found).__name__}"
        )
    return found


def resolve(
    handler: Handler,
    file: Mapping[str, Any],
    environment: Mapping[str, str],
    arguments: Mapping[str, str],
) -> dict[str, Any]:
    """Return the configuration of a handler from all its layers.

    Raises:
        SetupError: Names everything that is missing, unknown or of a wrong type.
    """
    if not (file or arguments or handler.has_config_model or handler.setup_config) and not any(
        variables(environment, ())
    ):
        return {}
    mistakes: list[str] = []
    unfit: set[str] = set()
    model = handler.config.plain()
    types = {**model["required"], **model["optional"]}
    config: dict[str, Any] = {}
    given = replaced(file, environment, mistakes)
    layers = (
        ("file", (((key,), value) for key, value in given.items()), typed.from_json),
        ("environment", variables(environment, {*types, *file}), typed.from_text),
        ("arguments", (((key,), value) for key, value in arguments.items()), typed.from_text),
    )
    for layer, found, convert in layers:
        for (key, *steps), value in found:
            try:
                model, whole = types.get(key, "any"), config.get(key)
                config[key] = typed.with_below(whole, steps, value, model, convert)
            except typed.Unfit as error:
                mistakes.append(f"{'.'.join((key, *steps))!r} from the {layer}: {error}")
                unfit.add(key)
    if handler.setup_config is not None and not mistakes:
        changed = handlers.hook("setup_config", handler.setup_config, dict(config))
        config.update(_flattened(changed))
    if handler.has_config_model:
        # What could not be converted is told already.
        mistakes += [
            line
            for line in handler.config.explain(config)
            if not line.startswith(tuple(map(repr, unfit)))
        ]
    if mistakes:
        raise SetupError([f"configuration: {mistake}" for mistake in mistakes])
    return config


def overlaid(
    file: Mapping[str, Any], environment: Mapping[str, str], mistakes: list[str]
) -> dict[str, Any]:
    """Return a configuration that has no model: secrets in place, the environment's over it.

    A text of the environment is JSON where it can be, unless it stands for a text.
    """
    config = replaced(file, environment, mistakes)
    for (name, *steps), text in variables(environment, file):
        value: Any = text
        if not isinstance(_at(file, name, *steps), str):
            with contextlib.suppress(ValueError):
                value = json.loads(text)
        try:
            config[name] = typed.with_below(config.get(name), steps, value, "any", _as_it_is)
        except typed.Unfit as error:
            mistakes.append(f"{'.'.join((name, *steps))!r} from the environment: {error}")
    return config


def _as_it_is(plain: Any, value: Any) -> Any:
    del plain
    return value


def _at(found: Any, *steps: str) -> Any:
    for step in steps:
        found = found.get(step) if isinstance(found, Mapping) else None
    return found


def _flattened(found: dict[str, Any]) -> dict[str, Any]:
    if (
        found
        and found.keys() <= {"required", "optional"}
        and all(isinstance(v, dict) for v in found.values())
    ):
        return {**found.get("required", {}), **found.get("optional", {})}
    return found


def variables(
    environment: Mapping[str, str], known: Iterable[str]
) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield where each ORCH_CONFIG__ variable belongs, and its text."""
    names = list(known)
    for key in environment:
        if key.startswith(PREFIX):
            yield typed.path_of(key.removeprefix(PREFIX), names), environment[key]


def replaced(
    found: Mapping[str, Any], environment: Mapping[str, str], mistakes: list[str]
) -> dict[str, Any]:
    """Return `found` with its secrets in their places; add unknown ones to `mistakes`."""

    def put(match: re.Match[str]) -> str:
        name = match[1]
        if SETTING_PREFIX + name not in environment:
            mistakes.append(
                f"the setting {name!r} is not in the environment, as {SETTING_PREFIX}{name}"
            )
            return ""
        return environment[SETTING_PREFIX + name]

    def walk(value: Any) -> Any:
        if isinstance(value, str):
            return names.SECRET.sub(put, value) if "${" in value else value
        if isinstance(value, dict):
            return {key: walk(item) for key, item in value.items()}
        if isinstance(value, list):
            return [walk(item) for item in value]
        return value

    return {key: walk(value) for key, value in found.items()}
