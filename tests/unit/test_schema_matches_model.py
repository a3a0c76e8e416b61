"""The schema is what users write, the model what the daemon is given: field by field the same."""

from __future__ import annotations

import enum
import json
from collections.abc import Iterator, Mapping
from typing import Any, get_type_hints

import pytest
from msgspec import NODEFAULT, Struct, structs

from orchestrator.config import environment, schema
from orchestrator.model import plain as plainly
from orchestrator.model import topology, units
from orchestrator.model.topology import (
    AtEnd,
    Backoff,
    Component,
    Condition,
    Dependency,
    Group,
    KeepAlive,
    Kill,
    Limit,
    Listen,
    Lock,
    Logs,
    Mode,
    OnSignal,
    Probe,
    Ready,
    Restart,
    Stop,
    Strategy,
    Then,
    Wiring,
    applies,
)

SOURCE_ONLY = {
    "shell": "becomes the words of the command",
    "config_file": "becomes config",
    "env_file": "becomes environment",
    "inherit_env": "becomes inherited",
}
"""Fields of a component in files that the model does not have."""

NAMED = {"class": "service_class"}
"""Fields whose names are words of Python."""

MODEL_ONLY = {
    *("service", "component", "instance"),
    *("inherited", "endpoints", "expect_subscribers", "secrets", "python_path"),
    "surroundings",
    *("configurations", "settings", "takes_settings"),
}
"""Fields of a component that are found out, not written."""

COMPONENT: dict[str, Any] = schema.definition("component")["properties"]


def fields(cls: type) -> dict[str, structs.FieldInfo]:
    return {field.name: field for field in structs.fields(cls)}


def default(field: structs.FieldInfo) -> Any:
    if field.default_factory is not NODEFAULT:
        return field.default_factory()
    return field.default


def written(words: Mapping[str, Any], value: Any) -> Any:
    """Return a default as the schema writes it, read as the model has it."""
    match words.get("x-unit"):
        case "duration":
            return units.parse_duration(value)
        case "size":
            return units.parse_size(str(value))
        case _:
            return value


def plain(value: Any) -> Any:
    """Return a value of the model as the schema would write it."""
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, Mapping):
        return dict(value)
    return value


def test_every_field_of_a_component_is_on_both_sides() -> None:
    named = {NAMED.get(name, name) for name in COMPONENT}
    assert named - set(SOURCE_ONLY) == set(fields(Component)) - MODEL_ONLY


@pytest.mark.parametrize("name", sorted(set(COMPONENT) - set(SOURCE_ONLY)))
def test_a_field_of_a_component_has_the_same_default_and_apply(name: str) -> None:
    words, field = schema.resolved(COMPONENT[name]), fields(Component)[NAMED.get(name, name)]
    assert words["x-apply"] == applies()[field.name].value
    value = default(field)
    if "x-default" in words or value is None:
        assert "default" not in words
    elif isinstance(value, Struct):
        assert words["default"] == {}
        assert plainly.encode(value) == {}
    else:
        assert written(words, words["default"]) == plain(value)


@pytest.mark.parametrize("name", sorted(SOURCE_ONLY))
def test_a_source_only_field_is_complete_too(name: str) -> None:
    assert {"description", "default", "x-apply"} <= set(schema.resolved(COMPONENT[name]))


@pytest.mark.parametrize(
    ("definition", "cls", "different"),
    [
        ("dependency", Dependency, set()),
        ("backoff", Backoff, set()),
        ("limit", Limit, set()),
        ("keep_alive", KeepAlive, set()),
        ("logs", Logs, set()),
        ("listen", Listen, {"insecure", "mode"}),
        ("group", Group, {"components"}),
        ("ready", Ready, {"status"}),
        ("live", Probe, {"status"}),
        ("startup", Probe, {"status"}),
        ("stop", Stop, {"signal", "timeout", "ladder"}),
        ("wiring", Wiring, {"in", "out", "inward", "outward"}),
    ],
)
def test_nested_values_have_the_same_fields_and_defaults(
    definition: str, cls: type, different: set[str]
) -> None:
    words = schema.definition(definition)["properties"]
    assert set(words) - different == set(fields(cls)) - different
    for name in set(words) - different:
        said, value = schema.resolved(words[name]), default(fields(cls)[name])
        if value is None:
            assert "default" not in said
        else:
            assert written(said, said["default"]) == plain(value)


def test_the_short_stop_is_the_ladder_of_one_rung() -> None:
    words = schema.definition("stop")["properties"]
    (rung,) = Stop().ladder
    assert schema.resolved(words["signal"])["default"] == rung.signal
    assert units.parse_duration(words["timeout"]["default"]) == rung.wait
    assert schema.definition("ready")["properties"]["status"]["default"] == "{}-{}".format(
        *Ready().status
    )


def test_top_level_and_inherited_defaults() -> None:
    top = schema.topology()["properties"]
    assert top["start_concurrency"]["default"] == fields(Lock)["start_concurrency"].default
    assert top["restart_rate"]["default"] == fields(Lock)["restart_rate"].default
    assert top["version"]["default"] == fields(Lock)["format"].default == 1
    inherit = schema.resolved(COMPONENT["inherit_env"])
    assert tuple(inherit["default"]) == environment.INHERITED
    assert inherit["x-apply"] == applies()["inherited"].value


@pytest.mark.parametrize(
    ("words", "allowed"),
    [
        (COMPONENT["mode"], Mode),
        (COMPONENT["on_exit"], AtEnd),
        (COMPONENT["on_failure"], AtEnd),
        (schema.definition("on_signal"), OnSignal),
        (schema.definition("stop")["properties"]["kill"], Kill),
        (schema.definition("dependency")["properties"]["condition"], Condition),
        (schema.definition("group")["properties"]["strategy"], Strategy),
        (schema.definition("group")["properties"]["then"], Then),
    ],
)
def test_choices_are_the_same(words: Any, allowed: type[enum.Enum]) -> None:
    assert set(schema.resolved(words)["enum"]) == {one.value for one in allowed}


def test_restart_has_one_old_spelling_more() -> None:
    assert set(COMPONENT["restart"]["enum"]) == {one.value for one in Restart} | {"no"}


def walk(words: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every property in the schema, with its path."""
    if isinstance(words, dict):
        for name, value in words.items():
            if name == "properties":
                for key, inner in value.items():
                    yield f"{path}.{key}", schema.resolved(inner)
            yield from walk(value, f"{path}.{name}")
    elif isinstance(words, list):
        for number, value in enumerate(words):
            yield from walk(value, f"{path}[{number}]")


def test_every_property_is_described_and_every_duration_has_its_unit() -> None:
    for path, words in walk(schema.topology()):
        assert words.get("description"), path
        if "(ms|s|m|h|d)" in words.get("pattern", ""):
            assert words["x-unit"] == "duration", path
        if "default" in words and "x-unit" in words:
            written(words, words["default"])


def closed(words: Any, path: str = "") -> Iterator[str]:
    """Yield the path of every schema that has properties and lets unknown keys pass."""
    if isinstance(words, list):
        for value in words:
            yield from closed(value, path)
    if not isinstance(words, dict):
        return
    is_schema = "properties" in words and not path.endswith(".properties")
    if is_schema and words.get("additionalProperties") is not False:
        yield path
    for name, value in words.items():
        yield from closed(value, f"{path}.{name}")


def test_every_map_of_fields_is_closed() -> None:
    # A template's attributes are the users' own.
    assert list(closed(schema.topology())) == [".$defs.template"]


def test_defaults_are_fields_of_a_component() -> None:
    names = set(schema.definition("defaults")["properties"])
    assert names < set(COMPONENT)
    assert not names & {"handler", "command", "connections", "states", "config"}


def test_the_lock_schema_has_the_fields_of_the_model() -> None:
    definitions = json.loads(schema.text("lock"))["$defs"]
    seen: set[str] = set()

    def compare(cls: type) -> None:
        seen.add(cls.__name__)
        words = definitions[cls.__name__]["properties"]
        assert set(words) == set(fields(cls)), cls.__name__
        for name, apply in applies().items() if cls is Component else ():
            assert words[name]["x-apply"] == apply.value
        for name, hint in get_type_hints(cls).items():
            for inner in definitions:
                if inner in str(hint) and inner not in seen and inner in str(words[name]):
                    compare(getattr(topology, inner))

    compare(Lock)
    assert seen == set(definitions)
