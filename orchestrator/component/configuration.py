"""The configuration of a component: layers, conversion to the model's types, all mistakes at once.

Later layers win:

    file         config.json, flat or in the groups {"required": {…}, "optional": {…}}
    environment  ORCH_CONFIG__SYMBOL=… for `symbol`; names are compared without case
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
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any
from uuid import UUID

from orchestrator.component import handlers
from orchestrator.component.errors import SetupError
from orchestrator.component.handlers import Handler

PREFIX = "ORCH_CONFIG__"
SETTING_PREFIX = "ORCH_SETTING_"

_SECRET = re.compile(r"\$\{settings\.([A-Za-z_][A-Za-z0-9_]*)\}")
_TRUTH = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}


def read(path: Path) -> dict[str, Any]:
    """Return the JSON object in `path`, its groups `required` and `optional` flattened.

    Raises:
        SetupError: The file cannot be read or holds no object; names line and column.
    """
    return _flattened(read_json(path, "configuration"))


def read_json(path: Path, what: str) -> dict[str, Any]:
    """Return the JSON object in `path`; `what` names it in errors.

    Raises:
        SetupError: The file cannot be read or holds no object; names line and column.
    """
    try:
        found = json.loads(path.read_bytes())
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
    mistakes: list[str] = []
    unfit: set[str] = set()
    types = handler.config_types
    config: dict[str, Any] = {}
    layers = (
        ("file", replaced(file, environment, mistakes), _from_json),
        ("environment", _environment(environment, {*types, *file}), _from_text),
        ("arguments", arguments, _from_text),
    )
    for layer, found, convert in layers:
        for key, value in found.items():
            try:
                config[key] = convert(types[key], value) if key in types else value
            except _Unfit as error:
                mistakes.append(f"{key!r} from the {layer}: {error}")
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
    for name, text in _environment(environment, set(file)).items():
        config[name] = text
        if not isinstance(file.get(name), str):
            with contextlib.suppress(ValueError):
                config[name] = json.loads(text)
    return config


def _flattened(found: dict[str, Any]) -> dict[str, Any]:
    if (
        found
        and found.keys() <= {"required", "optional"}
        and all(isinstance(v, dict) for v in found.values())
    ):
        return {**found.get("required", {}), **found.get("optional", {})}
    return found


def _environment(environment: Mapping[str, str], known: set[str]) -> dict[str, str]:
    by_case = {name.lower(): name for name in known}
    return {
        by_case.get(key.removeprefix(PREFIX).lower(), key.removeprefix(PREFIX).lower()): value
        for key, value in environment.items()
        if key.startswith(PREFIX)
    }


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
            return _SECRET.sub(put, value) if "${" in value else value
        if isinstance(value, dict):
            return {key: walk(item) for key, item in value.items()}
        if isinstance(value, list):
            return [walk(item) for item in value]
        return value

    return {key: walk(value) for key, value in found.items()}


# --- Conversion


class _Unfit(ValueError):
    """A value cannot become what the model says. It may be a secret: messages do not repeat it."""


def _from_text(model: Any, text: str) -> Any:
    if model is str or model is bytes:
        return _from_json(model, text)
    if isinstance(model, type) and model not in (dict, list, tuple, set, frozenset, object):
        return _from_json(model, text)
    if model is object:
        return text
    try:
        return _from_json(model, json.loads(text))
    except json.JSONDecodeError as error:
        raise _Unfit(f"expected JSON: {error}") from error


def _from_json(model: Any, value: Any) -> Any:
    if isinstance(model, type):
        convert = _CONVERT.get(model)
        return value if convert is None else convert(value)
    if isinstance(model, list) and isinstance(value, list):
        return [_from_json(model[0], item) for item in value]
    if isinstance(model, tuple) and isinstance(value, list) and len(value) == len(model):
        return tuple(_from_json(kind, item) for kind, item in zip(model, value, strict=True))
    if isinstance(model, (set, frozenset)) and isinstance(value, list):
        kind = next(iter(model)) if len(model) == 1 else None
        converted = (
            value if kind is None or not isinstance(kind, (type, tuple)) else _items(kind, value)
        )
        try:
            return set(converted)
        except TypeError as error:
            raise _Unfit(str(error)) from error
    if isinstance(model, dict) and isinstance(value, dict):
        return dict(_pairs(model, value))
    return value


def _items(kind: Any, value: list[Any]) -> Iterator[Any]:
    return (_from_json(kind, item) for item in value)


def _pairs(model: dict[Any, Any], value: dict[Any, Any]) -> Iterator[tuple[Any, Any]]:
    first = next(iter(model), None)
    if isinstance(first, type):
        kind = model[first]
        return ((_from_text(first, key), _from_json(kind, item)) for key, item in value.items())
    return (
        (key, _from_json(model[key], item) if key in model else item)
        for key, item in value.items()
    )


def _decimal(value: Any) -> Any:
    if isinstance(value, (str, int, float)) and not isinstance(value, bool):
        try:
            # A float's shortest text is what stood in the file.
            return Decimal(repr(value) if isinstance(value, float) else value)
        except InvalidOperation:
            raise _Unfit('expected a decimal number, such as "1.10"') from None
    return value


def _datetime(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        raise _Unfit('expected a time, such as "2026-01-02T03:04:05+00:00"') from None


def _uuid(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return UUID(value)
    except ValueError:
        raise _Unfit("expected a UUID") from None


def _int(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return int(value)
    except ValueError:
        raise _Unfit("expected a whole number") from None


def _float(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        return value
    try:
        return float(value)
    except ValueError:
        raise _Unfit("expected a number") from None


def _bool(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if value.lower() in _TRUTH:
        return _TRUTH[value.lower()]
    raise _Unfit("expected true or false")


_CONVERT: Mapping[type, Callable[[Any], Any]] = {
    Decimal: _decimal,
    datetime: _datetime,
    UUID: _uuid,
    int: _int,
    float: _float,
    bool: _bool,
    bytes: lambda value: value.encode() if isinstance(value, str) else value,
    tuple: lambda value: tuple(value) if isinstance(value, list) else value,
    set: lambda value: set(value) if isinstance(value, list) else value,
    frozenset: lambda value: frozenset(value) if isinstance(value, list) else value,
}
