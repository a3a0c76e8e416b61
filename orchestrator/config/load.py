"""Files to a document: reading, includes, settings, interpolation, the schema's verdict.

References are replaced before the schema judges, so that `replicas: ${N}` is a number; what
is known only later (addresses, `self`, secrets) stays a `Template`, which every check sees as
the text it is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct, field

from orchestrator.config import compose, document, interpolate, report, schema, settings, validate
from orchestrator.config.document import Declared, Document, Entry, Layer, Templated
from orchestrator.config.interpolate import BadReference, Reference, Template
from orchestrator.config.report import Place, Report
from orchestrator.config.settings import Given
from orchestrator.config.source import Container, Source

_ROOT_ONLY = (
    "name", "base_dir", "curve", "start_concurrency", "restart_rate", "job_concurrency",
    "job_mirror",
    "settings_file",
    "config_store", "contexts", "default_services",
)  # fmt: skip


def load(path: Path, *, given: Given, environment: Mapping[str, str], found: Report) -> Document:
    """Read a topology and all it includes; report every mistake of form.

    Raises:
        UsageError: `given` names a setting that the topology does not have.
    """
    loader = _Loader(environment, found)
    loader.read(path.absolute(), str(path), ())
    loaded = Document(loader.sources[0], loader.sources)
    loader.settings_of(loaded, given)
    broken = [loader.replace_all(one, loaded) for one in loaded.sources]
    for one, places in zip(loaded.sources, broken, strict=True):
        if isinstance(one.value, dict):
            loader.judge(one, places)
    for one in loaded.sources:
        loader.collect(one, loaded)
    loader.components(loaded)
    loader.templates(loaded)
    return loaded


class _Loader(Struct):
    environment: Mapping[str, str]
    found: Report
    sources: list[Source] = field(default_factory=list)
    seen: dict[str, Source] = field(default_factory=dict)
    deferred: list[tuple[Source, Container, str | int]] = field(default_factory=list)
    unreadable: bool = False

    def read(self, path: Path, file: str, chain: tuple[Path, ...]) -> None:
        """Read a file and, after it, its includes; a file that two others include is read once."""
        real = Path(os.path.realpath(path))
        one = compose.read(path, file)
        self.sources.append(one)
        self.seen[str(real)] = one
        self.found.found.extend(one.diagnostics)
        if one.value is None and one.diagnostics:
            self.unreadable = True
            return
        whole = Place(one, {}, "")
        if one.value is None:
            self.found.error("ORC008", f"{file} is empty", whole, hint="a topology has `services`")
            return
        if not isinstance(one.value, dict):
            kind = validate.kind_of(one.value)
            self.found.error("ORC101", f"a topology must be a map, not {kind}", whole)
            return
        for place in self.includes(one):
            self.include(place, (*chain, real))

    def includes(self, one: Source) -> Iterator[Place]:
        """Yield the places of the files that a file includes, variables replaced."""
        value = one.value.get("include")
        places = [Place(one, one.value, "include")]
        if isinstance(value, list):
            places = [Place(one, value, number) for number in range(len(value))]
        for place in places if value else ():
            self.replace(one, place.container, place.key, self.early)
            if isinstance(place.value, str):
                yield place

    def include(self, place: Place, chain: tuple[Path, ...]) -> None:
        name = place.value
        path = place.source.directory / name
        real = Path(os.path.realpath(path))
        file = os.path.normpath(Path(place.source.file).parent / name)
        if real in chain:
            circle = [step.name for step in (*chain[chain.index(real) :], real)]
            self.found.error("ORC010", f"includes go in a circle: {' → '.join(circle)}", place)
        elif str(real) in self.seen:
            return
        elif not real.is_file():
            hint = (
                "it is a directory"
                if real.is_dir()
                else "includes count from the file that names them"
            )
            self.found.error(
                "ORC001", f"cannot include {name!r}: there is no such file", place, hint=hint
            )
            self.unreadable = True
        else:
            self.read(path, file, chain)

    def early(self, reference: Reference) -> Any:
        """Give the value of a reference where only the environment can be used."""
        if reference.namespace == "env":
            return self.environment.get(reference.rest)
        message = f"${{{reference.name}}} cannot be used here"
        raise BadReference(
            "ORC028", message, reference.text, "only variables of the environment can"
        )

    def settings_of(self, loaded: Document, given: Given) -> None:
        """Find the settings of all files and their values."""
        for one in loaded.sources:
            section = one.value.get("settings") if isinstance(one.value, dict) else None
            if not isinstance(section, dict):
                continue
            inside = {
                id(section),
                *(id(item) for item in section.values() if isinstance(item, dict)),
            }
            for container, key in one.dollars:
                if id(container) in inside:
                    self.replace(one, container, key, self.early)
            one.dollars[:] = [place for place in one.dollars if id(place[0]) not in inside]
            for name in section:
                entry = Entry(one, section, name)
                if name in loaded.settings:
                    self.duplicate("setting", name, entry, loaded.settings[name].entry)
                else:
                    loaded.settings[name] = settings.declared(entry)
        self.files_of_settings(loaded)
        settings.resolve(
            loaded, given, self.environment, whole=not self.unreadable, found=self.found
        )

    def files_of_settings(self, loaded: Document) -> None:
        """Replace the variables in the names of the files of settings."""
        named = loaded.top.get("settings_file")
        inside = {id(named)} if isinstance(named, list) else set()
        for container, key in list(loaded.root.dollars):
            if id(container) in inside or (container is loaded.top and key == "settings_file"):
                self.replace(loaded.root, container, key, self.early)

    def replace_all(self, one: Source, loaded: Document) -> set[tuple[int, str | int]]:
        """Replace the references of a file; return the places that could not be replaced."""
        declared = self.declared_addresses(loaded)

        def lookup(reference: Reference) -> Any:
            return settings.lookup(reference, self.environment, loaded.settings, declared)

        return {
            (id(container), key)
            for container, key in one.dollars
            if not self.replace(one, container, key, lookup)
        }

    @staticmethod
    def declared_addresses(loaded: Document) -> dict[str, None]:
        every: dict[str, None] = {}
        for one in loaded.sources:
            section = one.value.get("addresses") if isinstance(one.value, dict) else None
            every.update(dict.fromkeys(section if isinstance(section, dict) else ()))
        return every

    def replace(self, one: Source, container: Any, key: Any, lookup: interpolate.Lookup) -> bool:
        """Replace the references in one text; report those that cannot be."""
        try:
            text = container[key]
        except (KeyError, IndexError):
            return True  # the place of a duplicate key, which has been reported
        if not isinstance(text, str) or "$" not in text:
            return True
        place = Place(one, container, key)
        good = True
        try:
            parts = interpolate.parse(text)
        except BadReference as error:
            self.found.error(error.code, error.message, place.of(error.fragment), hint=error.hint)
            return False
        seen: dict[str, int] = {}
        for part in parts:
            if isinstance(part, str):
                continue
            nth = seen[part.text] = seen.get(part.text, -1) + 1
            try:
                interpolate.expand(part.text, lookup)
            except BadReference as error:
                at = place.of(error.fragment, nth if error.fragment == part.text else 0)
                self.found.error(error.code, error.message, at, hint=error.hint)
                good = False
        if not good:
            return False
        value = interpolate.expand(text, lookup)
        if isinstance(value, Template):
            self.deferred.append((one, container, key))
            value = str(value)
        container[key] = value
        return True

    def judge(self, one: Source, broken: set[tuple[int, str | int]]) -> None:
        """Let the schema judge a file, and take out what does not fit."""
        if one.dollars:
            self.coerce(one)
        paths = validate.check(one, self.found, ignore=broken)
        if broken:
            places = _paths(one.value)
            paths += [(*places[number], key) for number, key in broken if number in places]
        validate.prune(one.value, paths)

    @staticmethod
    def coerce(one: Source) -> None:
        """Give replaced texts the type that the schema wants: `replicas: ${N}` is a number."""
        places = _paths(one.value)
        for container, key in one.dollars:
            if id(container) not in places or not _has(container, key):
                continue
            place = Place(one, container, key)
            value = place.value
            if not isinstance(value, str) or "${" in value:
                continue
            wanted = schema.at((*places[id(container)], key), one.value).get("type", ())
            if wanted and "string" not in wanted:
                try:
                    place.put(compose.scalar(value))
                except ValueError:
                    continue

    def collect(self, one: Source, loaded: Document) -> None:
        """Add what a file declares to the document."""
        if not isinstance(one.value, dict):
            return
        if one is not loaded.root:
            for key in _ROOT_ONLY:
                if key in one.value:
                    place = Place(one, one.value, key, at_key=True)
                    self.found.warn("ORC012", f"`{key}` has no effect in an included file", place)
        tables: tuple[tuple[str, str, dict[str, Entry]], ...] = (
            ("address", "addresses", loaded.addresses),
            ("service", "services", loaded.services),
            ("package", "packages", loaded.packages),
            ("group", "groups", loaded.groups),
        )
        for what, section, table in tables:
            for name in one.value.get(section, {}):
                entry = Entry(one, one.value[section], name)
                if name in table:
                    self.duplicate(what, name, entry, table[name])
                else:
                    table[name] = entry

    def duplicate(self, what: str, name: str, second: Entry, first: Entry) -> None:
        related = (first.place.related(f"{name!r} is first declared here"),)
        self.found.error(
            "ORC011",
            f"the {what} {name!r} is declared in two files",
            second.place,
            related=related,
        )

    @staticmethod
    def components(loaded: Document) -> None:
        shared = {id(one): _shared(one, loaded.root) for one in loaded.sources}
        for service, entry in loaded.services.items():
            tops, defaults, configs = shared[id(entry.source)]
            for name, owner in document.components_of(entry):
                own = Layer(owner.source, owner.value if isinstance(owner.value, dict) else {})
                group = () if owner is entry else (Layer(entry.source, entry.value),)
                loaded.components[f"{service}.{name}"] = Declared(
                    service,
                    name,
                    owner,
                    (own, *defaults),
                    (*_inner((own, *group), "config"), *configs),
                    _inner((own, *group, *defaults), "environment"),
                    tuple(
                        layer for layer in (own, *group, *tops) if "config_file" in layer.fields
                    ),
                )
            for name, owner in document.jobs_of(entry):
                own = Layer(owner.source, owner.value if isinstance(owner.value, dict) else {})
                below = (own, Layer(entry.source, entry.value), *defaults)
                loaded.jobs[f"{service}.{name}"] = Declared(
                    service, name, owner, (own, *defaults), (), _inner(below, "environment")
                )

    def templates(self, loaded: Document) -> None:
        """Mark the texts with references that are resolved later, where there can be such."""
        if not self.deferred:
            return
        allowed: dict[int, str] = {}
        for component in (*loaded.components.values(), *loaded.jobs.values()):
            for layer in component.layers:
                allowed.setdefault(id(layer.fields), "fields")
                for name in _TEMPLATED:
                    _mark(layer.fields.get(name), name, allowed)
            for layer in component.configs:
                _mark(layer.fields, "config", allowed)
            for layer in component.environments:
                _mark(layer.fields, "environment", allowed)
        allowed.setdefault(id(loaded.top), "fields")
        for name in ("contexts", "default_services"):
            _mark(loaded.top.get(name), "config", allowed)
        for one, container, key in self.deferred:
            if not _has(container, key):
                continue
            place = Place(one, container, key)
            text = place.value
            if not isinstance(text, str):
                continue  # taken out since
            kind = allowed.get(id(container), "")
            name = str(key) if kind == "fields" else kind
            if name in _TEMPLATED:
                place.put(Template(text))
                loaded.templates.append(Templated(place, name))
                self.secrets(loaded, place, text, name)
            else:
                self.misplaced(place, text)

    def misplaced(self, place: Place, text: str) -> None:
        """Refuse references where nothing will resolve them."""
        for reference in interpolate.references(text):
            if reference.namespace != "env":
                message = f"${{{reference.name}}} cannot be used here"
                hint = f"it can in {report.listed(sorted(_TEMPLATED))}"
                found = place.of(reference.text)
                self.found.error("ORC028", message, found, hint=hint)

    def secrets(self, loaded: Document, place: Place, text: str, name: str) -> None:
        """Refuse secrets where others can read them: in command lines, paths and probes."""
        if name in {"config", "config_store", "environment", "job_mirror", "states"}:
            return
        for reference in interpolate.references(text):
            setting = loaded.settings.get(reference.rest)
            if reference.namespace == "settings" and setting is not None and setting.secret:
                message = f"the secret {setting.name!r} would be visible in `{name}`"
                hint = "`ps` shows every command line; pass it in `environment`"
                self.found.error("ORC027", message, place.of(reference.text), hint=hint)


_TEMPLATED = (
    "command",
    "config",
    "environment",
    "ready",
    "live",
    "startup",
    "stop",
    "working_dir",
    "states",
    "config_store",
    "job_mirror",
)
"""The fields in which addresses, `self` and secrets may be named."""


def _mark(value: Any, name: str, allowed: dict[int, str]) -> None:
    """Note every container in a field's value as one where references may stay."""
    todo = [value]
    while todo:
        container = todo.pop()
        if isinstance(container, (dict, list)) and id(container) not in allowed:
            allowed[id(container)] = name
            todo.extend(container.values() if isinstance(container, dict) else container)


def _shared(
    one: Source, root: Source
) -> tuple[tuple[Layer, ...], tuple[Layer, ...], tuple[Layer, ...]]:
    """Return what all components of a file have below their own fields.

    These are the fields of the file itself and of the root, and their `defaults` and `config`.
    """
    files = [one] if one is root else [one, root]
    tops = tuple(Layer(file, file.value) for file in files if isinstance(file.value, dict))
    return tops, _inner(tops, "defaults"), _inner(tops, "config")


def _inner(layers: tuple[Layer, ...], name: str) -> tuple[Layer, ...]:
    return tuple(Layer(one.source, one.fields[name]) for one in layers if name in one.fields)


def _paths(value: Any) -> dict[int, validate.Path]:
    """Return the path of every container; where aliases share one, the first path."""
    paths: dict[int, validate.Path] = {id(value): ()}
    todo = [value]
    while todo:
        container = todo.pop()
        items = container.items() if isinstance(container, dict) else enumerate(container)
        for key, item in items:
            if isinstance(item, (dict, list)) and id(item) not in paths:
                paths[id(item)] = (*paths[id(container)], key)
                todo.append(item)
    return paths


def _has(container: Container, key: str | int) -> bool:
    if isinstance(container, dict):
        return key in container
    return isinstance(key, int) and key < len(container)
