"""A declared component to what its instances share: its program, paths and environment.

Every mistake in it is reported. Texts that name addresses, `self` or secrets are left for
`resolve`, which knows the instance.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from orchestrator.config import (
    commands,
    configfiles,
    document,
    environment,
    interpolate,
    options,
    report,
)
from orchestrator.config.document import Declared, Entry, Layer
from orchestrator.config.interpolate import Template
from orchestrator.config.report import Place, Report
from orchestrator.config.source import Source
from orchestrator.config.valuesfile import Modules
from orchestrator.model.topology import Dependency, Mode, Reload


class Lowered(Struct):
    """A component with everything settled that its instances share.

    `command`, `working_dir`, `environment` and `config` may hold templates, as may the ones
    in `ready` and `stop`; `options` are further fields of the model's Component. `bus` is the
    address that a bus of orch's own serves.
    """

    declared: Declared
    replicas: int
    handler: str | None
    package: str | None
    service_class: str | None
    command: tuple[str, ...]
    mode: Mode
    working_dir: str
    python_path: tuple[str, ...]
    config: dict[str, Any]
    config_files: tuple[Layer, ...]
    environment: dict[str, str]
    inherited: dict[str, str]
    options: dict[str, Any]
    depends_on: dict[str, Dependency]
    enabled: bool = True
    bus: str = ""

    @property
    def base(self) -> str:
        """The name of the component, `service.component`."""
        return self.declared.base

    def own_name(self, instance: int) -> str:
        """Return an instance's name within its service, as its files have it: `api@2`."""
        name = self.declared.component
        return name if instance == 1 else f"{name}@{instance}"


class Lowering:
    """Lowers components; holds what they share: the caller's environment, what was looked up."""

    def __init__(
        self,
        caller: Mapping[str, str],
        found: Report,
        modules: Modules | None = None,
        packages: Mapping[str, Entry] | None = None,
    ) -> None:
        self.caller = caller
        self.modules = modules
        self.packages = tuple(self.places(packages or {}, found))
        self.config_files: dict[Path, Layer | None] = {}
        self.inherited = environment.inherited(caller, environment.INHERITED)
        self.found = found
        self.env_files: dict[Path, dict[str, str] | None] = {}
        self.programs = commands.Programs(found)

    def lower(self, declared: Declared, replicas: int | None) -> Lowered:
        """Return the component's values; `replicas` overrides the file's."""
        handler = self.handler(declared)
        code = handler or self.module(declared, "package") or self.module(declared, "class")
        has_command = "command" in declared.own
        mode = Mode(declared.get("mode", "service"))
        variables = self.environment(declared)
        inherited = self.inherited_by(declared, variables)
        working_dir = self.working_dir(declared)
        return Lowered(
            declared=declared,
            replicas=replicas if replicas is not None else declared.get("replicas", 1),
            handler=handler,
            package=declared.own.get("package"),
            service_class=declared.own.get("class"),
            command=self.command(declared, {**inherited, **variables}) if has_command else (),
            mode=mode,
            working_dir=working_dir,
            python_path=self.python_path(code, declared.directory) if code else (),
            config=_config(declared),
            config_files=configfiles.read(declared, self.modules, self.found, self.config_files),
            environment=variables,
            inherited=inherited,
            options=self.options(declared, handler, mode, code),
            depends_on={},
            enabled=declared.get("enabled", True),
        )

    @staticmethod
    def places(packages: Mapping[str, Entry], found: Report) -> Iterator[str]:
        """Yield the directories in which packages of the topology are."""
        for entry in packages.values():
            word = entry.value.get("path") if isinstance(entry.value, dict) else None
            if not isinstance(word, str):
                continue
            path = Path(os.path.normpath(entry.source.directory / word))
            if path.is_dir():
                yield str(path)
            else:
                place = Place(entry.source, entry.value, "path")
                message = f"the directory {word!r} of the package {entry.key!r} does not exist"
                found.error("ORC230", message, place, hint=f"looked for {path}")

    def python_path(self, code: str, directory: Path) -> tuple[str, ...]:
        """Return where imports are looked up: beside the code, the topology, in packages."""
        return tuple(dict.fromkeys((*_python_path(code, directory), *self.packages)))

    def options(
        self, declared: Declared, handler: str | None, mode: Mode, code: str | None
    ) -> dict[str, Any]:
        """Return the fields of the model's Component that are given, or depend on what it is."""
        is_server = handler is not None and mode is Mode.SERVICE
        can_swap = is_server or "class" in declared.own
        serves = is_server or (code is not None and handler is None)
        made = options.options(declared, is_server=serves, found=self.found)
        watch = declared.get("watch")
        if made.get("reload") is Reload.HOT and not can_swap and "reload" not in declared.own:
            del made["reload"]  # A default for those that can.
        is_watched = code is not None or bool(watch)
        other = Reload.RESTART if is_watched else Reload.NONE
        made.setdefault("reload", Reload.HOT if can_swap else other)
        if watch is None:
            watch = made["reload"] is Reload.HOT and is_server
        if watch is True:
            made["watch"] = _own_files(code, declared.directory) if code else ()
        elif watch:
            made["watch"] = tuple(_pattern(word, declared.directory) for word in watch)
        return made

    def handler(self, declared: Declared) -> str | None:
        """Return the absolute path of the handler's file or package, or its dotted module."""
        word = declared.own.get("handler")
        if not isinstance(word, str):
            return None
        place = declared.at("handler")
        path = Path(os.path.normpath(declared.directory / word))
        if "/" not in word and not word.endswith(".py") and not path.is_dir():
            if not all(part.isidentifier() for part in word.split(".")):
                self.found.error("ORC230", f"{word!r} is neither a file nor a module", place)
            return word
        if path.is_dir():
            if not (path / "__init__.py").is_file() and not any(path.glob("*.py")):
                message = f"the handler {word!r} is a directory without Python files"
                self.found.error("ORC230", message, place, hint=f"looked at {path}")
        elif not path.is_file():
            siblings = (
                [other.name for other in path.parent.glob("*")] if path.parent.is_dir() else []
            )
            near = report.did_you_mean(path.name, siblings)
            self.found.error(
                "ORC230",
                f"there is no handler file {word!r}",
                place,
                hint=near or f"looked for {path}",
            )
        return str(path)

    def module(self, declared: Declared, field: str) -> str | None:
        """Return the dotted module that a field names, alone or as `module:Class`."""
        word = declared.own.get(field)
        if not isinstance(word, str):
            return None
        module, colon, name = word.partition(":")
        dotted = all(part.isidentifier() for part in module.split("."))
        if not dotted or bool(colon) != (field == "class") or (colon and not name.isidentifier()):
            shape = "module:Class" if field == "class" else "a dotted module"
            message = f"`{field}: {word}` is not {shape}"
            hint = f"such as {field}: shop.{'cache:CacheService' if field == 'class' else 'api'}"
            self.found.error("ORC230", message, declared.at(field), hint=hint)
        return module

    def command(self, declared: Declared, variables: Mapping[str, str]) -> tuple[str, ...]:
        """Return the words of the command; the program's path is absolute when it has a slash."""
        shell = declared.get("shell") is True
        place = declared.at("command")
        raw = declared.own["command"]
        if shell:
            if isinstance(raw, list):
                hint = "write the command as one text, or leave `shell` out"
                self.found.error(
                    "ORC234", "`shell: true` needs a text, not a list", place, hint=hint
                )
                return ()
            return ("/bin/sh", "-c", raw)
        words = commands.words(raw, place, self.found)
        if not words:
            return ()
        if not isinstance(raw, list):
            commands.warn_of_shell(words, place, self.found)
        words = commands.located(words, declared.directory)
        if not isinstance(words[0], Template):
            self.programs.look_for(words[0], variables.get("PATH", os.defpath), place)
        return words

    def working_dir(self, declared: Declared) -> str:
        """Return the absolute working directory; the declaring file's when none is given."""
        layer = declared.layer("working_dir")
        if layer is None:
            return str(declared.directory)
        word: str = layer.fields["working_dir"]
        if isinstance(word, Template):
            return word
        path = Path(os.path.normpath(layer.source.directory / word))
        if not path.is_dir():
            said = "is no directory" if path.exists() else "does not exist"
            message = f"the working directory {word!r} {said}"
            self.found.error(
                "ORC230", message, declared.at("working_dir"), hint=f"looked for {path}"
            )
        return str(path)

    def environment(self, declared: Declared) -> dict[str, str]:
        """Return the declared variables: from files, from the service, the component's own."""
        variables: dict[str, str] = {}
        layer = declared.layer("env_file")
        if layer is not None:
            named = layer.fields["env_file"]
            items = enumerate(named) if isinstance(named, list) else [("env_file", named)]
            for key, word in items:
                container = named if isinstance(named, list) else layer.fields
                place = Place(layer.source, container, key)
                variables.update(self.env_file(layer.source.directory / word, word, place))
        for below in reversed(declared.environments):
            for name, value in below.fields.items():
                if name in environment.RESERVED:
                    place = Place(below.source, below.fields, name, at_key=True)
                    self.found.error("ORC231", f"orch itself sets {name} for components", place)
                variables[name] = _variable(value, below.source, below.fields, name)
        return variables

    def inherited_by(self, declared: Declared, variables: Mapping[str, str]) -> dict[str, str]:
        """Return what it has from the caller, without what it declares itself."""
        which = declared.get("inherit_env")
        passed = self.inherited if which is None else environment.inherited(self.caller, which)
        return {name: value for name, value in passed.items() if name not in variables}

    def env_file(self, path: Path, word: str, place: Place) -> dict[str, str]:
        """Return the variables of an env file, which is read once."""
        if "${" in word:
            return {}  # a reference that cannot stand here, which has been said
        if path not in self.env_files:
            self.env_files[path] = None
            try:
                text = path.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
                message = f"cannot read the env file {word!r}: {reason}"
                self.found.error("ORC230", message, place, hint=f"looked for {path}")
                return {}
            file = os.path.normpath(Path(place.source.file).parent / word)
            source = Source(file, path, text)
            variables, bad = environment.parse_file(text)
            for line in bad:
                self.found.found.append(source.diagnostic("ORC232", line.message, line.span))
            self.env_files[path] = variables
        return self.env_files[path] or {}


def _variable(value: Any, source: Source, container: dict[str, Any], name: str) -> str:
    """Return a variable as it was written: `1.10` stays `1.10`, `true` stays `true`."""
    if isinstance(value, str):
        return value
    written = source.spelling(container, name)
    if written is not None and "$" not in written:
        return written
    return interpolate.as_text(value)


def _config(declared: Declared) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for layer in reversed(declared.configs):
        merged = document.merge(merged, layer.fields)
    return merged


def _own_files(handler: str, directory: Path) -> tuple[str, ...]:
    """Return the pattern of a handler's own files: all of a package, or a file's neighbours."""
    path = Path(handler) if handler.startswith("/") else directory.joinpath(*handler.split("."))
    if path.is_dir():
        return (_pattern("", path),)
    if path.is_file() or path.with_suffix(".py").is_file():
        return (_pattern("*.py", path.parent),)
    return ()


def _pattern(word: str, directory: Path) -> str:
    """Return a pattern with an absolute path; an exclusion keeps its mark before it."""
    mark = "!" if word.startswith("!") else ""
    path = os.path.normpath(directory / word.removeprefix("!"))
    below = path.removeprefix(str(directory))
    if below != path:
        path = re.sub(r"([\\*?\[\]])", r"\\\1", str(directory)) + below
    return f"{mark}{path}/" if word in ("", ".") or word.endswith("/") else f"{mark}{path}"


def _python_path(handler: str, directory: Path) -> tuple[str, ...]:
    """Return where a handler's imports are looked up: beside it, then beside the topology."""
    here = str(directory)
    if not handler.startswith("/"):
        return (here,)
    return tuple(dict.fromkeys((str(Path(handler).parent), here)))
