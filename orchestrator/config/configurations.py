"""What components are configured with: layer over layer, and where each value is from.

Later layers win, maps are merged at every depth:

    default      of the code, and the standard paths of files and directories
    package      `config` of a package
    system, service, component   their `config`
    file         their files of configuration, `config_file`, in the same order
    settings     what the hook `propagate_settings` of a package sets
    environment  ORCH_CONFIG__KEY of the caller, for whoever has the key
    --set        of the command line

What a component declares (a handler's `config_model`, a package's configuration objects) says
which keys there are and of what type; then a value that does not fit is a mistake of its file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct, field, structs

from orchestrator.config import compose, report
from orchestrator.config.components import Lowered
from orchestrator.config.document import Document, Layer
from orchestrator.config.interpolate import Template
from orchestrator.config.report import Place, Report
from orchestrator.errors import Position, UsageError
from orchestrator.wire import exactjson, shapes, typed

PREFIX = "ORCH_CONFIG__"
"""Prefix of the environment variables that give values of configurations."""

Keys = tuple[str, ...]
"""Where a value is: its key, and the keys of maps below."""

Answer = Mapping[str, Any]
"""What the inspection says of a component."""

ANY = "*"
"""Stands for any instance, where what a component declares does not depend on it."""

UNKNOWN, WRONG, MISSING = "ORC434", "ORC435", "ORC436"


class Origin(Struct, frozen=True):
    """What gave a value: a layer, and where that is, in a file of ours or in code.

    `note` is the variable or option that gave it.
    """

    layer: str
    place: Place | None = None
    code: Position | None = None
    note: str = ""

    @property
    def position(self) -> Position | None:
        """Where it is in a file; None for what is in none."""
        if self.place is None:
            return self.code
        return self.place.source.position(self.place.span().start)


class Layered(Struct):
    """Values put over each other; of each one the origins, the one that counts last."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[Keys, list[tuple[Origin, Any]]] = field(default_factory=dict)

    def over(self, fields: Mapping[str, Any], origin: Callable[[Keys], Origin]) -> None:
        """Put a layer over what there is."""
        self._over(self.values, fields, origin, ())

    def origin(self, key: str) -> Origin | None:
        """Return what gave a key its value, or the last part of it."""
        return next(
            (found[-1][0] for keys, found in reversed(self.origins.items()) if keys[0] == key),
            None,
        )

    def is_of_code(self, key: str) -> bool:
        """Tell whether a value is the code's own default, all of it."""
        every = [found[-1][0] for keys, found in self.origins.items() if keys[0] == key]
        return all(origin.layer == "default" and not origin.note for origin in every)

    def _over(
        self,
        below: dict[str, Any],
        fields: Mapping[str, Any],
        origin: Callable[[Keys], Origin],
        keys: Keys,
    ) -> None:
        for key, value in fields.items():
            here = (*keys, key)
            if isinstance(value, dict) and value:
                if not isinstance(below.get(key), dict) or not below[key]:
                    self._forget(here)
                    below[key] = {}
                else:
                    below[key] = dict(below[key])
                self._over(below[key], value, origin, here)
                continue
            if isinstance(below.get(key), dict):
                self._forget(here)
            below[key] = value
            self.origins.setdefault(here, []).append((origin(here), value))

    def _forget(self, keys: Keys) -> None:
        """Drop what was known of a value that is replaced by one of another shape."""
        for other in [one for one in self.origins if one[: len(keys)] == keys]:
            del self.origins[other]


class Outside(Struct, frozen=True):
    """What the caller gives: the environment, and texts by `service.component.key`.

    Without `whole` some of what is declared was at fault: of nothing can be said that it is
    missing. `targets` are the overrides by component: keys, text, and how it was said.
    """

    environment: Mapping[str, str] = field(default_factory=dict)
    overrides: Mapping[str, str] = field(default_factory=dict)
    whole: bool = True
    targets: Mapping[str, list[tuple[Keys, str, str]]] = field(default_factory=dict)


class Given(Struct, frozen=True):
    """Fields that one layer gives, and where they are."""

    name: str
    fields: Mapping[str, Any]
    origin: Callable[[Keys], Origin]
    is_own: bool = True
    """Whether they are meant for one component only."""


class Configured(Struct):
    """A component, its layers from files, the ones above them, and what it declares.

    `known` are the types of its keys, `own` those that its plain map has; None when it takes any.
    """

    component: Lowered
    files: list[Given]
    above: list[Given]
    answer: Answer
    known: Mapping[str, Any] | None
    own: Mapping[str, Any] | None
    _plain: Layered | None = None

    def plain(self) -> Layered:
        """Return the values as they stand in files, without the defaults of the code."""
        if self._plain is not None:
            return self._plain
        made = self._plain = Layered()
        for given in (*self.files, *self.above):
            fields = given.fields
            if self.own is not None:
                fields = {key: value for key, value in fields.items() if key in self.own}
            made.over(fields, given.origin)
        return made

    def objects(self, instance: str) -> Iterator[tuple[Mapping[str, Any], Layered]]:
        """Yield each configuration object, and its values for an instance with their types."""
        for described in self.answer.get("configurations") or ():
            yield described, self._object(described, instance)

    def _object(self, described: Mapping[str, Any], instance: str) -> Layered:
        fields: Mapping[str, Any] = described["fields"]
        made = Layered()
        made.over(
            {name: exactjson.load(one["value"]) for name, one in fields.items()},
            lambda keys: Origin("default", code=_code(fields[keys[0]])),
        )
        standard = {}
        for name, one in fields.items():
            paths = one.get("standard", {})
            if path := paths.get(instance, paths.get(ANY)):
                standard[name] = exactjson.load(path)
        made.over(standard, lambda _: Origin("default", note="standard path"))
        self._over(made, described, self.files)
        hook = self.answer.get("hook") or {}
        made.over(
            {name: exactjson.load(one["set"]) for name, one in fields.items() if "set" in one},
            lambda _: Origin("settings", code=_code(hook), note="propagate_settings"),
        )
        self._over(made, described, self.above)
        return made

    def _over(self, made: Layered, described: Mapping[str, Any], layers: Iterable[Given]) -> None:
        """Put over a configuration what layers give it: by its keys, and under its full name."""
        name = described["fullname"]
        for given in layers:
            mine = {key: one for key, one in given.fields.items() if self._owner(key) == name}
            made.over(mine, given.origin)
            inner = given.fields.get(name)
            if isinstance(inner, dict):
                made.over(inner, _below(given.origin, name))

    def _owner(self, key: str) -> str | None:
        """Return the configuration that a key is meant for: the nearest one that has it."""
        objects = self.answer.get("configurations") or ()
        having = [one for one in objects if key in one["fields"]]
        having.sort(key=lambda one: _NEAREST.index(one["type"]))
        return having[0]["fullname"] if having else None


def _below(origin: Callable[[Keys], Origin], key: str) -> Callable[[Keys], Origin]:
    return lambda keys: origin((key, *keys))


_NEAREST = ("component", "service", "package")


def resolve(
    document: Document,
    lowered: Mapping[str, Lowered],
    models: Mapping[str, Answer],
    *,
    given: Outside,
    found: Report,
) -> dict[str, Configured]:
    """Return what every component is configured with; report what does not fit.

    Args:
        document: What the files declare.
        lowered: The components.
        models: What the inspection says of them; of those that it does not name, nothing is
            checked.
        given: What the caller gives.
        found: Takes what is wrong.

    Raises:
        UsageError: An override names no component.
    """
    made: dict[str, Configured] = {}
    ours = {key: text for key, text in given.environment.items() if key.startswith(PREFIX)}
    given = structs.replace(given, environment=ours)
    if given.whole:
        given = structs.replace(given, targets=_targets(document, given.overrides))
    shared: dict[tuple[int, str], _Shared] = {}
    for base, component in lowered.items():
        answer = models.get(base) or {}
        declared = component.declared
        is_given = declared.configs or component.config_files or ours or base in given.targets
        if not answer and not is_given:
            made[base] = Configured(component, [], [], answer, None, None)
            continue
        known = _known(component, answer)
        types = {**_of_objects(answer), **(_of_model(answer) or {})}
        files = list(_files(component, document, answer))
        above = list(_above(component, files, types, given, found))
        own = known if component.package is not None else _of_model(answer)
        one = made[base] = Configured(component, files, above, answer, known, own)
        if component.bus:
            continue
        for layer in (*files, *above):
            _note_keys(layer, one, shared, found)
        if not answer.get("error"):
            _check(one, found, whole=given.whole)
    _check_packages(document, models, found)
    for unknown in shared.values():
        if unknown.place is not None:
            message = f"no component here has the configuration {unknown.key!r}"
            hint = report.known(unknown.key, sorted(unknown.known))
            found.error(UNKNOWN, message, unknown.place, hint=hint)
    return made


def value_of(plain: Any, value: Any) -> Any:
    """Return a value as its type has it; itself when it is of another one."""
    try:
        return None if value is None else typed.from_json(plain, value)
    except typed.Unfit:
        return value


# ------------------------------------------------------------------ layers


def _files(component: Lowered, document: Document, answer: Answer) -> Iterator[Given]:
    declared = component.declared
    own = declared.own.get("config")
    service = document.services.get(declared.service)
    shared = service.value.get("config") if service and isinstance(service.value, dict) else None
    for described in answer.get("configurations") or ():
        package = document.packages.get(str(described.get("package") or ""))
        fields = (package.value or {}).get("config") if package is not None else None
        if package is not None and isinstance(fields, dict):
            # Under its full name: other configurations may have the same keys.
            whole = {described["fullname"]: fields}
            yield Given("package", whole, _in(Layer(package.source, whole), "package", fields))
    for layer in reversed(declared.configs):
        name = "system"
        if layer.fields is own:
            name = "component"
        elif layer.fields is shared:
            name = "service"
        yield Given(name, layer.fields, _in(layer, name), is_own=name == "component")
    for layer in component.config_files:
        yield Given("file", layer.fields, _in(layer, "file"), is_own=False)


def _in(
    layer: Layer, name: str, inner: Mapping[str, Any] | None = None
) -> Callable[[Keys], Origin]:
    """Return what tells where a layer gives what it has at some keys.

    With `inner` the first key is none of its own.
    """

    def origin(keys: Keys) -> Origin:
        container: Any = layer.fields if inner is None else inner
        steps = keys if inner is None else keys[1:]
        for step in steps[:-1]:
            container = container[step]
        return Origin(name, Place(layer.source, container, steps[-1], at_key=True))

    return origin


def _above(
    component: Lowered,
    files: Sequence[Given],
    known: Mapping[str, Any],
    outside: Outside,
    found: Report,
) -> Iterator[Given]:
    """Yield what the environment and the command line give; texts become what they are for."""
    keys = [*known, *(key for given in files for key in given.fields)]
    texts: list[tuple[str, Keys, str, str]] = []
    for variable, text in outside.environment.items():
        path = typed.path_of(variable.removeprefix(PREFIX), keys)
        if path[0] in keys:
            texts.append(("environment", path, text, variable))
    texts += [("--set", *one) for one in outside.targets.get(component.base, ())]
    for layer, path, text, note in texts:
        try:
            value = _read(text, _type_at(known, path))
        except typed.Unfit as error:
            message = (
                f"configuration {'.'.join(path)!r} of {component.base!r} from {note}: {error}"
            )
            found.error(WRONG, message, component.declared.place)
            continue
        for key in reversed(path[1:]):
            value = {key: value}
        origin = Origin(layer, note=note)
        yield Given(layer, {path[0]: value}, lambda _, origin=origin: origin)  # type: ignore[misc]


def _read(text: str, plain: Any) -> Any:
    """Return what a text is as a value of JSON: by the type, or by its own looks."""
    if plain == "any":
        if text[:1] in ("[", "{"):
            try:
                return json.loads(text)
            except ValueError:
                return text
        return compose.scalar(text) if text else text
    value = typed.from_text(plain, text)
    if not isinstance(plain, str) or plain in ("dict", "list", "tuple", "set", "frozenset"):
        return json.loads(text)
    # Files are JSON: what that has no type for stays the text that it was.
    return value if value is None or isinstance(value, (bool, int, float, str)) else text


def _type_at(known: Mapping[str, Any], path: Keys) -> Any:
    plain = known.get(path[0], "any")
    for step in path[1:]:
        if not isinstance(plain, Mapping):
            return "any"
        (form, inner), *_ = plain.items()
        plain = inner.get(step, "any") if form == "map" else inner[1] if form == "dict" else "any"
    return plain


def _targets(
    document: Document, overrides: Mapping[str, str]
) -> dict[str, list[tuple[Keys, str, str]]]:
    """Return by component the keys and texts of overrides.

    Raises:
        UsageError: One names no component, or no key.
    """
    made: dict[str, list[tuple[Keys, str, str]]] = {}
    for word, text in overrides.items():
        service, *rest = word.split(".")
        inside = [base for base in document.components if base.partition(".")[0] == service]
        if not inside:
            near = report.did_you_mean(service, document.services)
            raise UsageError(f"cannot set {word!r}: there is no service {service!r}; {near}")
        if rest and f"{service}.{rest[0]}" in inside:
            inside = [f"{service}.{rest.pop(0)}"]
        elif len(rest) > 1:
            names = [base.partition(".")[2] for base in inside]
            if near := report.did_you_mean(rest[0], names):
                message = f"cannot set {word!r}: {service} has no component {rest[0]!r}; {near}"
                raise UsageError(message)
        if not rest or not all(rest):
            raise UsageError(f"cannot set {word!r}: it names no key of a configuration")
        for base in inside:
            made.setdefault(base, []).append((tuple(rest), text, f"--set {word}"))
    return made


# ------------------------------------------------------------------ checks


class _Shared(Struct):
    """A key of a layer that several components have, and where it is when none knows it."""

    key: str
    place: Place | None
    known: set[str] = field(default_factory=set)


def _of_objects(answer: Answer) -> dict[str, Any]:
    """Return the types of the fields of configuration objects, and of their full names."""
    objects = answer.get("configurations") or ()
    types: dict[str, Any] = {}
    for described in objects:
        for name, one in described["fields"].items():
            types.setdefault(name, one["plain"])
    return {**types, **{described["fullname"]: "dict" for described in objects}}


def _of_model(answer: Answer) -> dict[str, Any] | None:
    """Return the types that a handler's `config_model` has; None when there is no such model."""
    if not answer.get("config_model"):
        return None
    model = answer["config"]
    return {**model.get("required", {}), **model.get("optional", {})}


def _known(component: Lowered, answer: Answer) -> Mapping[str, Any] | None:
    """Return the types of the keys that a component declares; None when it takes any."""
    objects, model = _of_objects(answer), _of_model(answer)
    if answer.get("error"):
        return None
    if component.package is not None:
        return objects or None
    return None if model is None else {**objects, **model}


def _note_keys(
    given: Given, one: Configured, shared: dict[tuple[int, str], _Shared], found: Report
) -> None:
    """Report keys that a component does not know; for a layer of several, once all were asked."""
    known = one.known
    for key in given.fields:
        if given.is_own:
            if known is not None and key not in known:
                place = given.origin((key,)).place or one.component.declared.place
                message = f"{one.component.base!r} has no configuration {key!r}"
                hint = report.known(key, [name for name in known if "." not in name])
                found.error(UNKNOWN, message, place, hint=hint)
            continue
        noted = shared.setdefault(
            (id(given.fields), key), _Shared(key, given.origin((key,)).place)
        )
        if known is None or key in known:
            noted.place = None
        else:
            noted.known.update(known)


def _check_packages(document: Document, models: Mapping[str, Answer], found: Report) -> None:
    """Report packages of the topology whose configuration cannot be used, once each."""
    told: set[str] = set()
    for answer in models.values():
        for name, mistake in (answer.get("packages") or {}).items():
            entry = document.packages.get(name)
            if entry is not None and name not in told:
                told.add(name)
                message = f"cannot use the configuration of the package {name!r}: {mistake}"
                found.error("ORC437", message, entry.place)


def _check(one: Configured, found: Report, *, whole: bool) -> None:
    """Report values of a wrong type, and what a handler's model requires and nobody gives."""
    declared, answer = one.component.declared, one.answer
    for described, layered in one.objects(declared.component):
        types = {name: field["plain"] for name, field in described["fields"].items()}
        _check_types(layered, types, one.component.base, declared.place, found)
    model = _of_model(answer)
    if model is None:
        return
    layered = one.plain()
    _check_types(layered, model, one.component.base, declared.place, found)
    if answer.get("setup_config") or not whole:
        return
    variables = {key for layer in declared.environments for key in layer.fields}
    given = {typed.path_of(key.removeprefix(PREFIX), model)[0] for key in variables}
    missing = [
        name
        for name in answer["config"].get("required", {})
        if name not in layered.values and name not in given
    ]
    for name in missing:
        kind = shapes.shown(model[name])
        message = f"{one.component.base!r} needs the configuration {name!r}: {kind}"
        found.error(MISSING, message, declared.at("config"), hint=f"add config: {{{name}: …}}")


def _check_types(
    layered: Layered, types: Mapping[str, Any], base: str, otherwise: Place, found: Report
) -> None:
    for key, value in layered.values.items():
        origin = layered.origin(key)
        if value is None or origin is None or origin.code is not None or _is_open(value):
            continue
        plain = types.get(key, "any")
        try:
            mistakes = list(typed.mistakes(plain, typed.from_json(plain, value), repr(key)))
        except typed.Unfit as error:
            mistakes = [f"{key!r}: {error}"]
        place = origin.place or otherwise
        for mistake in mistakes:
            note = f" (from {origin.note})" if origin.note else ""
            message = f"configuration of {base!r}: {mistake}{note}"
            found.error(WRONG, message, place if origin.place is None else place.of(""))


def _is_open(value: Any) -> bool:
    """Whether something in a value is known only later."""
    if isinstance(value, Template):
        return True
    if isinstance(value, dict):
        return any(map(_is_open, value.values()))
    return isinstance(value, (list, tuple)) and any(map(_is_open, value))


def _code(place: Mapping[str, Any]) -> Position | None:
    if not place.get("file"):
        return None
    return Position(report.shown_path(place["file"]), place.get("line") or 1, 1)


def secrets_in(value: Any, names: Collection[str]) -> Iterator[str]:
    """Yield the secret settings that texts in a value stand for."""
    if isinstance(value, str):
        yield from (name for name in names if f"${{settings.{name}}}" in value)
    elif isinstance(value, dict):
        for item in value.values():
            yield from secrets_in(item, names)
    elif isinstance(value, Iterable):
        for item in value:
            yield from secrets_in(item, names)
