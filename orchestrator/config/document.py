"""The files of one topology together: what they declare, by name, with its places.

A document holds raw values that fit the schema; what did not fit was reported and taken out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct, field, structs

from orchestrator.config.report import Place
from orchestrator.config.source import Source
from orchestrator.model import names

Fields = dict[str, Any]
"""The raw fields of a component, of a service or of the defaults."""


class Entry(Struct, frozen=True):
    """A named thing in one of the files."""

    source: Source
    container: Fields
    key: str

    @property
    def value(self) -> Any:
        """The raw value; None when it was at fault."""
        return self.container.get(self.key)

    @property
    def place(self) -> Place:
        """Where the thing is named."""
        return Place(self.source, self.container, self.key, at_key=True)


class Setting(Struct, frozen=True):
    """A setting and its value; None when it has none.

    `entry` is where it is declared: in the topology or, one that is not, in a file of settings.
    `layer` says what gave the value: `default`, `file`, `environment` or `--set`; `place` where
    that is, None for what is in no file.
    """

    name: str
    value: Any
    secret: bool
    entry: Entry
    layer: str = "default"
    place: Place | None = None


class Layer(Struct, frozen=True):
    """Fields and the file they are from."""

    source: Source
    fields: Fields


class Declared(Struct, frozen=True):
    """A component as declared: its own fields, and the layers below them, nearest first.

    `owner` is what names it: the component's entry, or the service's when it is inline.
    """

    service: str
    component: str
    owner: Entry
    layers: tuple[Layer, ...]
    configs: tuple[Layer, ...]
    environments: tuple[Layer, ...]
    config_files: tuple[Layer, ...] = ()
    base: str = ""
    """The name of the component, `service.component`."""

    def __post_init__(self) -> None:
        structs.force_setattr(self, "base", f"{self.service}.{self.component}")

    @property
    def own(self) -> Fields:
        """The component's own fields."""
        return self.layers[0].fields

    @property
    def place(self) -> Place:
        """Where the component is named."""
        return self.owner.place

    @property
    def directory(self) -> Path:
        """The directory of the declaring file, from which its relative paths count."""
        return self.owner.source.directory

    def layer(self, name: str) -> Layer | None:
        """Return the nearest layer that has a field."""
        for layer in self.layers:
            if name in layer.fields:
                return layer
        return None

    def get(self, name: str, default: Any = None) -> Any:
        """Return the nearest value of a field; maps of all layers are merged, the nearest wins."""
        layer = self.layer(name)
        if layer is None:
            return default
        value = layer.fields[name]
        if not isinstance(value, dict) or name in _WHOLE:
            return value
        merged = value
        for below in self.layers[self.layers.index(layer) + 1 :]:
            lower = below.fields.get(name)
            if isinstance(lower, dict):
                merged = merge(lower, merged)
        return merged

    def at(self, name: str, *path: str | int) -> Place:
        """Return the place of a field's value, or of something in it; else of the component."""
        for layer in self.layers:
            if name not in layer.fields:
                continue
            container: Any = layer.fields
            key: str | int = name
            for step in path:
                below = container[key]
                if isinstance(below, dict):
                    if step not in below:
                        break
                elif not isinstance(below, list) or not (
                    isinstance(step, int) and step < len(below)
                ):
                    break
                container, key = below, step
            return Place(layer.source, container, key)
        return self.place

    def origin(self, path: Sequence[str]) -> Place:
        """Return where a value of the resolved component is from, as near as the files tell.

        `path` begins with a field of the component as resolved, which need not be one that
        files have. What a layer below gives is there; what nobody gives is the component's.
        """
        name, *steps = path
        if name in _MERGED:
            for layer in getattr(self, _MERGED[name]):
                if steps and steps[0] in layer.fields:
                    return _within(Place(layer.source, layer.fields, steps[0], at_key=True), steps)
        if name == "environment":
            return self.at("env_file")
        return self.at(_WRITTEN_AS.get(name, name), *steps).of_key()


def _within(place: Place, steps: Sequence[str]) -> Place:
    """Return the place of the deepest of the steps that is there."""
    container, key = place.container, place.key
    for step in steps[1:]:
        below = container[key]  # type: ignore[index]
        if not isinstance(below, dict) or step not in below:
            break
        container, key = below, step
    return Place(place.source, container, key, at_key=True)


_MERGED = {"config": "configs", "environment": "environments"}
"""Fields whose maps are put together from the layers, and where those are."""

_WRITTEN_AS = {
    "python_path": "handler",
    "service_class": "class",
    "expect_subscribers": "connections",
    "inherited": "inherit_env",
    "secrets": "config",
    "configurations": "config",
    "settings": "config",
}
"""What stands in files for fields that only the resolved component has."""

_WHOLE = {"ready", "live", "startup", "depends_on", "connections", "states"}
"""Fields whose maps exclude each other or are the component's alone: never merged."""


class Templated(Struct, frozen=True):
    """A text whose references are resolved later, and the component field it stands in."""

    place: Place
    field: str

    @property
    def text(self) -> str:
        """The text."""
        return str(self.place.value)


class Document(Struct):
    """Everything declared, by name, in the order of the files."""

    root: Source
    sources: list[Source] = field(default_factory=list)
    settings: dict[str, Setting] = field(default_factory=dict)
    addresses: dict[str, Entry] = field(default_factory=dict)
    services: dict[str, Entry] = field(default_factory=dict)
    packages: dict[str, Entry] = field(default_factory=dict)
    groups: dict[str, Entry] = field(default_factory=dict)
    components: dict[str, Declared] = field(default_factory=dict)
    jobs: dict[str, Declared] = field(default_factory=dict)
    templates: list[Templated] = field(default_factory=list)

    @property
    def top(self) -> Fields:
        """The fields of the root file."""
        return self.root.value if isinstance(self.root.value, dict) else {}

    @property
    def files(self) -> tuple[str, ...]:
        """The files as they are shown, the root first."""
        return tuple(source.file for source in self.sources)

    @property
    def name(self) -> str:
        """The system's name: declared, or made of the folder's name."""
        declared = self.top.get("name")
        if isinstance(declared, str):
            return declared
        return _as_name(self.root.directory.name)

    def secrets(self) -> dict[str, str]:
        """Return the values of the secret settings."""
        return {
            name: str(setting.value)
            for name, setting in self.settings.items()
            if setting.secret and setting.value is not None
        }


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> Fields:
    """Return `below` with `above` over it, maps merged at every depth, all else replaced."""
    merged = dict(below)
    for key, value in above.items():
        lower = merged.get(key)
        if isinstance(value, dict) and isinstance(lower, dict):
            merged[key] = merge(lower, value)
        else:
            merged[key] = value
    return merged


def components_of(service: Entry) -> Iterator[tuple[str, Entry]]:
    """Yield the components of a service: each one's name and where it is declared."""
    fields = service.value
    if not isinstance(fields, dict):
        return
    if "components" not in fields and "jobs" not in fields:
        yield service.key, service
        return
    for name in fields.get("components", ()):
        yield name, Entry(service.source, fields["components"], name)


def jobs_of(service: Entry) -> Iterator[tuple[str, Entry]]:
    """Yield the jobs of a service: each one's name and where it is declared."""
    fields = service.value
    if isinstance(fields, dict):
        for name in fields.get("jobs", ()):
            yield name, Entry(service.source, fields["jobs"], name)


def _as_name(folder: str) -> str:
    kept = "".join(c if c.isascii() and c.isalnum() else "-" for c in folder.lower())
    name = kept.strip("-")[: names.LONGEST].strip("-")
    return name or "system"
