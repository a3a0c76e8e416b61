"""Settings and their values; and what references mean before components are resolved.

A setting is what the last of these says: its default, the files of settings, the environment, the
command line. The files are `settings_file` of the topology, else `settings.yaml` or `settings.py`
beside a topology that declares settings, and then those of `--settings`.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct, field

from orchestrator.config import compose, interpolate, report, validate, valuesfile
from orchestrator.config.document import Document, Entry, Setting
from orchestrator.config.interpolate import BadReference, Reference
from orchestrator.config.report import Place, Report
from orchestrator.config.source import Source
from orchestrator.config.valuesfile import Modules
from orchestrator.errors import UsageError

VARIABLE = "ORCH_SETTING_"
"""Prefix of the environment variables that give settings."""

BESIDE = ("settings.yaml", "settings.yml", "settings.py")
"""What a file of settings beside the topology is called."""

_TYPES: Mapping[str, tuple[type | tuple[type, ...], str]] = {
    "string": (str, "text"),
    "integer": (int, "a whole number"),
    "number": ((int, float), "a number"),
    "boolean": (bool, "true or false"),
    "list": (list, "a list"),
    "map": (dict, "a map"),
}


class Given(Struct, frozen=True):
    """What gives settings values, apart from the topology itself.

    `texts` are from the command line, `files` its files of settings; `modules` tells what
    Python files give. `overrides` are for configurations, by `service.component.key`.
    """

    texts: Mapping[str, str] = field(default_factory=dict)
    files: tuple[Path, ...] = ()
    modules: Modules | None = None
    overrides: Mapping[str, str] = field(default_factory=dict)


def resolve(
    loaded: Document, given: Given, environment: Mapping[str, str], *, whole: bool, found: Report
) -> None:
    """Give every declared setting its value; report what is missing or of a wrong type.

    Args:
        loaded: Where settings are declared, with their defaults; takes the values.
        given: What gives values.
        environment: The caller's.
        whole: Whether every file could be read, so that no declaration is missing.
        found: Takes what is wrong.

    Raises:
        UsageError: `given` names a setting that is not declared.
    """
    sources = list(_files(loaded, given, found))
    takes_more = _has_packages(loaded)
    for one in sources:
        for name in one.value:
            entry = Entry(one, one.value, name)
            if name in loaded.settings:
                _take(loaded.settings, name, entry, found)
            elif (near := report.did_you_mean(name, loaded.settings)) or not takes_more:
                if one.path.suffix != valuesfile.PYTHON or (near and name.isupper()):
                    hint = near or "declare it under settings"
                    message = f"the topology declares no setting {name!r}"
                    found.error("ORC432", message, entry.place, hint=hint)
            else:
                # For a package that declares it itself.
                loaded.settings[name] = Setting(
                    name, entry.value, secret=False, entry=entry, layer="file", place=entry.place
                )
    for name in given.texts:
        if name not in loaded.settings and whole and not found.has_errors():
            hint = report.did_you_mean(name, loaded.settings) or "declare it under settings"
            raise UsageError(f"cannot set {name!r}: the topology has no such setting; {hint}")
    for name, setting in loaded.settings.items():
        loaded.settings[name] = _finished(setting, given.texts, environment, found)


def declared(entry: Entry) -> Setting:
    """Return a setting as its declaration says, with its default."""
    raw = entry.value
    described = raw if isinstance(raw, dict) else {"default": raw}
    secret = described.get("secret") is True
    return Setting(entry.key, described.get("default"), secret, entry, place=entry.place)


def _files(loaded: Document, given: Given, found: Report) -> Iterator[Source]:
    named = loaded.top.get("settings_file")
    root, fields = loaded.root, loaded.top
    places: list[tuple[str, Path, Place | None]] = []
    if isinstance(named, str):
        places = [(named, root.directory / named, Place(root, fields, "settings_file"))]
    elif isinstance(named, list):
        places = [
            (word, root.directory / word, Place(root, named, number))
            for number, word in enumerate(named)
            if isinstance(word, str)
        ]
    elif loaded.settings:
        beside = (root.directory / name for name in BESIDE)
        places += [(one.name, one, None) for one in beside if one.is_file()][:1]
    places += [(str(path), path, None) for path in given.files]
    for word, path, place in places:
        one = valuesfile.read(path, word, place, given.modules, found)
        if one is not None:
            yield one


def _has_packages(loaded: Document) -> bool:
    """Whether a component may declare settings in its own code."""
    for one in loaded.sources:
        services = one.value.get("services") if isinstance(one.value, dict) else None
        for service in services.values() if isinstance(services, dict) else ():
            inner = service.get("components") if isinstance(service, dict) else None
            every = inner.values() if isinstance(inner, dict) else (service,)
            if any(isinstance(component, dict) and "package" in component for component in every):
                return True
    return False


def _take(settings: dict[str, Setting], name: str, entry: Entry, found: Report) -> None:
    """Give a setting the value of a file, when it is of its type."""
    setting, value = settings[name], entry.value
    word = type_of(setting)
    if word and value is not None:
        classes, said = _TYPES[word]
        is_bool = isinstance(value, bool)
        if not isinstance(value, classes) or is_bool != (word == "boolean"):
            if setting.secret:
                # The line in its file shows it.
                message = (
                    f"the secret setting {name!r} must be {said}; a file gives something else"
                )
                found.error("ORC433", message, setting.entry.place)
            else:
                message = f"setting {name!r} must be {said}, not {validate.kind_of(value)}"
                related = (setting.entry.place.related(f"{name!r} is declared here"),)
                found.error(
                    "ORC433", message, Place(entry.source, entry.container, name), related=related
                )
            return
    settings[name] = Setting(
        name, value, setting.secret, setting.entry, layer="file", place=entry.place
    )


def shown(settings: Mapping[str, Setting]) -> dict[str, Any]:
    """Return the values of settings by name; for a secret what stands for it."""
    return {
        name: f"${{settings.{name}}}" if setting.secret else setting.value
        for name, setting in settings.items()
        if setting.value is not None and setting.value is not interpolate.LATER
    }


def type_of(setting: Setting) -> str:
    """Return the type of a setting: declared, or that of its default; empty for any."""
    raw = setting.entry.value
    described = raw if isinstance(raw, dict) else {"default": raw}
    if setting.layer == "file" and setting.place == setting.entry.place:
        return ""  # Declared by its file alone.
    word = described.get("type")
    if isinstance(word, str) and word in _TYPES:
        return word
    kinds = {bool: "boolean", int: "integer", float: "number", str: "string", list: "list"}
    return kinds.get(described.get("default").__class__, "")


def _finished(
    setting: Setting, texts: Mapping[str, str], environment: Mapping[str, str], found: Report
) -> Setting:
    """Return a setting with the value of the environment or the command line, if there is one."""
    name, entry, secret = setting.name, setting.entry, setting.secret
    variable = VARIABLE + name
    text = texts.get(name, environment.get(variable))
    if text is not None:
        layer = "--set" if name in texts else "environment"
        try:
            return Setting(name, as_type(type_of(setting), text), secret, entry, layer)
        except ValueError as error:
            origin = f"--set {name}" if name in texts else variable
            shown = "its value" if secret else repr(text)
            message = f"setting {name!r}: {shown} from {origin} is {error}"
            found.error("ORC026", message, entry.place)
            return setting
    required = isinstance(entry.value, dict) and entry.value.get("required") is True
    if setting.value is None and required:
        hint = f"give it: --set {name}=…, or the environment variable {variable}"
        message = f"setting {name!r} is required and has no value"
        found.error("ORC025", message, entry.place, hint=hint)
        return Setting(name, interpolate.LATER, secret, entry)
    return setting


def lookup(
    reference: Reference, environment: Mapping[str, str], settings: Mapping[str, Setting],
    addresses: Mapping[str, None],
) -> Any:  # fmt: skip
    """Return the value of a reference: LATER when the instance decides, None when not set.

    Raises:
        BadReference: It names what does not exist, or a setting without a value.
    """
    name, text = reference.rest, reference.text
    match reference.namespace:
        case "env":
            value = environment.get(name)
            if value is None and not reference.operator and "." not in reference.name:
                for space, known in (("settings", settings), ("addresses", addresses)):
                    if name in known:
                        hint = f"did you mean ${{{space}.{name}}}?"
                        raise BadReference("ORC021", f"the variable {name} is not set", text, hint)
            return value
        case "settings":
            return _setting(reference, settings)
        case "addresses":
            base = name.partition(".")[0]
            if base not in addresses:
                hint = report.known(base, addresses)
                raise BadReference("ORC023", f"there is no address {base!r}", text, hint)
            return interpolate.LATER
        case "self":
            if name in interpolate.SELF:
                return interpolate.LATER
            hint = f"self has {report.listed(interpolate.SELF)}"
            raise BadReference("ORC028", f"self has no {name!r}", text, hint)
        case _:
            pass
    spaces = interpolate.NAMESPACES
    hint = report.did_you_mean(reference.namespace, spaces) or f"there are {report.listed(spaces)}"
    raise BadReference("ORC028", f"there is no namespace {reference.namespace!r}", text, hint)


def _setting(reference: Reference, settings: Mapping[str, Setting]) -> Any:
    name, text = reference.rest, reference.text
    if name not in settings:
        hint = report.known(name, settings)
        raise BadReference("ORC022", f"there is no setting {name!r}", text, hint)
    setting = settings[name]
    if setting.value is None and not reference.operator:
        hint = f"give it a default, or --set {name}=…"
        raise BadReference("ORC022", f"the setting {name!r} has no value", text, hint)
    if setting.secret and setting.value is not None:
        return interpolate.LATER
    return copy.deepcopy(_simple(setting.value))


def _simple(value: Any) -> Any:
    """Return a value of a Python module as files have it: a Decimal is its text."""
    if isinstance(value, dict) and len(value) == 1:
        ((key, inner),) = value.items()
        if key.startswith("__") and key.endswith("__"):
            return inner
    return value


def as_type(word: str, text: str) -> Any:
    """Return a given text as a value of a setting's type; without one it is text.

    Raises:
        ValueError: It is no such value; the message goes on from "is".
    """
    read = _READ.get(word)
    if read is None:
        return text
    convert, said = read
    try:
        value = convert(text)
    except ValueError:
        value = None
    if not isinstance(value, _TYPES[word][0]):
        raise ValueError(said)  # noqa: TRY004  # a bad text
    return value


_READ: Mapping[str, tuple[Callable[[str], Any], str]] = {
    "boolean": (lambda text: compose.scalar(text) if text else text, "neither true nor false"),
    "integer": (int, "no whole number"),
    "number": (float, "no number"),
    "list": (json.loads, "no list of JSON"),
    "map": (json.loads, "no map of JSON"),
}
