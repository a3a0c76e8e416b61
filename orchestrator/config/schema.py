"""The topology schema: found, read once, and asked what stands at a path."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Schema = dict[str, Any]


def directory() -> Path:
    """Return the schemas' directory: inside the wheel, beside the package in a checkout."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "schemas"
    return inside if inside.is_dir() else package.parent / "schemas"


@functools.cache
def text(name: str) -> str:
    """Return the text of a schema, as `topology` or `lock`.

    Raises:
        OSError: The installation lacks its schemas.
    """
    return (directory() / f"{name}.schema.json").read_text(encoding="utf-8")


@functools.cache
def topology() -> Schema:
    """Return the topology schema."""
    schema: Schema = json.loads(text("topology"))
    return schema


def definition(name: str) -> Schema:
    """Return a definition of the topology schema, as `component`."""
    found: Schema = topology()["$defs"][name]
    return found


def resolved(schema: Any) -> Schema:
    """Return a schema with its `$ref` followed; words beside the `$ref` win."""
    while isinstance(schema, dict) and "$ref" in schema:
        target: Any = topology()
        for part in schema["$ref"].lstrip("#/").split("/"):
            target = target[part]
        schema = {**target, **{key: value for key, value in schema.items() if key != "$ref"}}
    return schema if isinstance(schema, dict) else {}


def at(path: Iterable[str | int], value: Any) -> Schema:
    """Return the schema of what stands at `path` in `value`; empty where anything may stand."""
    schema = resolved(topology())
    for step in path:
        schema = resolved(_below(_chosen(schema, value), step))
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            value = None
    return _chosen(schema, value)


def _chosen(schema: Schema, value: Any) -> Schema:
    """Return the schema with the branch of its `if` that applies to `value` merged in."""
    if "if" not in schema:
        return schema
    choices = schema["if"].get("anyOf", (schema["if"],))
    holds = isinstance(value, dict) and any(
        all(key in value for key in choice.get("required", ())) for choice in choices
    )
    branch = resolved(schema["then" if holds else "else"])
    return {
        **branch,
        **{key: word for key, word in schema.items() if key not in {"if", "then", "else"}},
    }


def _below(schema: Schema, step: str | int) -> Any:
    if isinstance(step, int):
        return schema.get("items", {})
    properties = schema.get("properties", {})
    if step in properties:
        return properties[step]
    return schema.get("additionalProperties", {})
