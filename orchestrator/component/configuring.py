"""Filling in the configuration objects of a component, and telling a topology's reader of them.

When a topology is read, a child process asks `described` what a component's configurations are:
fields with their types and defaults, the standard paths, and what the settings come to. The
reader puts its own layers over that, and a build writes one file per configuration. `configure`
reads these files in the component's process; without them, as in a first trial, it does itself
what it can.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.component import configuration, confobjects, loader, positions, settings
from orchestrator.component.confobjects import Configuration
from orchestrator.component.errors import ConfigurationError, SetupError
from orchestrator.component.fields import DirConfField
from orchestrator.component.settings import SettingsManager
from orchestrator.wire import exactjson, typed

Hook = Callable[[Any, Any], object]
"""`propagate_settings(component, component_arg)`."""

Request = Mapping[str, Any]


def configure(
    confs: Iterable[Configuration],
    conf_dir: Path,
    *,
    base_dir: Path,
    service: str,
    component: str,
    values: Mapping[str, Any],
    environment: Mapping[str, str] | None = None,
) -> tuple[Configuration, ...]:
    """Give every field its value in the process of a component; make the directories it names.

    Args:
        confs: The configurations of the component.
        conf_dir: Where its built files are.
        base_dir: What standard paths are below.
        service: Its service.
        component: Its name, with the number of an instance that is not the first: `api@2`.
        values: Its configuration as the topology has it; for those without a built file.
        environment: Where ORCH_CONFIG__ variables are; the process's own when None.

    Returns:
        The configurations, also those that have a file and are not in `confs`.

    Raises:
        ConfigurationError: Everything that is wrong.
    """
    given = os.environ if environment is None else environment
    mistakes: list[str] = []
    loaded: list[Configuration] = []
    if conf_dir.is_dir():
        try:
            loaded += confobjects.load_directory(conf_dir)
        except ConfigurationError as error:
            raise ConfigurationError(error.mistakes) from error
    every = loaded + [one for one in confs if all(one is not other for other in loaded)]
    for conf in every[len(loaded) :]:
        conf.standard_configure(base_dir, service, component)
    unbuilt = every[len(loaded) :]
    for name, value in values.items():
        for conf in unbuilt:
            if name in conf.manager.fields:
                mistakes += _put(conf, (name,), value, typed.from_json)
                break
    known = [name for conf in every for name in conf.manager.fields]
    for path, text in configuration.variables(given, known):
        owner = next((conf for conf in every if path[0] in conf.manager.fields), None)
        if owner is not None:
            mistakes += _put(owner, path, text, typed.from_text)
    if mistakes:
        raise ConfigurationError(mistakes)
    for conf in every:
        conf.manager.make_directories()
    return tuple(every)


def _put(
    conf: Configuration, path: Sequence[str], value: Any, convert: Callable[[Any, Any], Any]
) -> list[str]:
    """Set a field, or what is below a map in one; return the mistakes, and then set nothing."""
    name, *steps = path
    layer = "environment" if convert is typed.from_text else "configuration"
    shown = f"{'.'.join(path)!r} from the {layer}"
    field = conf.manager.fields[name]
    try:
        whole: Any = None
        if steps:
            whole = typed.with_below(getattr(conf, name), steps, value, field.plain, convert)
        elif value is not None:
            whole = convert(field.plain, value)
        mistakes = [] if whole is None else [*typed.mistakes(field.plain, whole)]
        if not mistakes:
            conf.from_dict({name: whole})
    except typed.Unfit as error:
        mistakes = [str(error)]
    except ConfigurationError as error:
        mistakes = list(error.mistakes)
    return [f"{shown}: {mistake}" for mistake in mistakes]


# ------------------------------------------------------------------ for the reader of a topology


def described(confs: Iterable[Configuration], component: Any, request: Request) -> dict[str, Any]:
    """Return what configurations are and come to, as plain data.

    Args:
        confs: The configurations of a component.
        component: What `propagate_settings` is told of; None for none.
        request: `service`, `component` (the names of its instances within the service),
            `base_dir`, `settings` (exact JSON by name), `package`, and `packages`: by the name
            of a further package its configuration, None to look for one.

    Returns:
        `configurations`: for each `fullname`, `type`, `package` and `fields`; a field has
        `plain`, `file`, `line`, `value`, by instance `standard` where it has a standard path,
        `is_directory`, and `set` when the settings were propagated into it. `settings`: the
        names of the settings that are declared, or None; `hook`: file and line of what
        propagates them. `packages`: what is wrong with the configuration of a further package.

    Raises:
        SetupError: A hook failed, a value cannot be kept, or settings are missing.
    """
    every = list(confs)
    owners: dict[int, str] = {}
    mistakes: dict[str, str] = {}
    for name, word in (request.get("packages") or {}).items():
        try:
            conf = _of_package(name, word)
        except SetupError as error:
            mistakes[name] = str(error)
            continue
        if conf is not None:
            owners[id(conf)] = name
            every += [conf] if all(conf is not other for other in every) else []
    answers = [{**_described(conf, request), "package": owners.get(id(conf))} for conf in every]
    given = settings.loaded(request.get("settings") or {})
    with settings.provided(given):
        manager, hook = settings_of(str(request.get("package") or ""))
        answer: dict[str, Any] = {
            "configurations": answers,
            "settings": None,
            "hook": None,
            "packages": mistakes,
        }
        if manager is not None:
            answer["settings"] = sorted(type(manager).fields) or sorted(given)
        if hook is None or not request.get("package"):
            return answer
        answer["hook"] = _place_of(hook)
        before = [conf.to_dict() for conf in every]
        try:
            hook(component, None)
        except SetupError:
            raise
        except Exception as error:  # user code may raise anything
            raise SetupError(f"propagate_settings failed: {loader.place(error)}") from error
    for conf, old, made in zip(every, before, answers, strict=True):
        for name, value in conf.to_dict().items():
            if value != old[name] or type(value) is not type(old[name]):
                made["fields"][name]["set"] = _dumped(conf, name, value)
    return answer


def _of_package(name: str, word: str | None) -> Configuration | None:
    """Return the configuration of a package: the one that is named, else CONF of its conf.py."""
    full = (word or f"{name}.conf:CONF").replace(":", ".")
    module = full.rpartition(".")[0]
    try:
        if word is None and importlib.util.find_spec(module) is None:
            return None
        found = confobjects.load_object(full)
    except (ImportError, ValueError) as error:
        raise SetupError(f"cannot import {module}: {error}") from error
    if not isinstance(found, Configuration):
        raise SetupError(f"{full} is no configuration but a {type(found).__name__}")
    return found


def _described(conf: Configuration, request: Request) -> dict[str, Any]:
    manager = conf.manager
    if confobjects.load_object(conf.fullname) is not conf:
        name = conf.fullname.rpartition(".")[2]
        raise ConfigurationError(
            f"{conf.fullname} is another object than the configuration of this name: "
            f"give its manager var_name={name!r} as its variable is called"
        )
    lines = _lines(type(manager))
    fields: dict[str, dict[str, Any]] = {}
    for name, field in manager.fields.items():
        file, line = lines.get(name, (None, None))
        fields[name] = {
            "plain": field.plain,
            "value": _dumped(conf, name, getattr(conf, name), file, line),
            "file": file,
            "line": line,
            **({"is_directory": True} if isinstance(field, DirConfField) else {}),
        }
    for instance in request.get("component") or ():
        conf.standard_configure(request["base_dir"], request["service"], instance)
        for name, field in manager.fields.items():
            standard = _dumped(conf, name, getattr(conf, name))
            is_own = field.is_standard() and not conf.is_given(name)
            # A `setattr_fct` may have put a path into another field.
            if is_own or standard != fields[name]["value"]:
                fields[name].setdefault("standard", {})[instance] = standard
    return {"fullname": conf.fullname, "type": manager.conf_type, "fields": fields}


def _dumped(
    conf: Configuration, name: str, value: Any, file: str | None = None, line: int | None = None
) -> Any:
    try:
        return exactjson.dump(value, name)
    except TypeError as error:
        place = f"{file}:{line}: " if file else ""
        raise ConfigurationError(f"{place}cannot keep {conf.fullname}: {error}") from error


def settings_of(package: str) -> tuple[SettingsManager | None, Hook | None]:
    """Return the manager of a service's settings and what propagates them, where there are any.

    They are in `admin/settings.py` beside the component's package, or in that package.
    """
    name = package.partition(":")[0]
    for parent in (name.rpartition(".")[0], name):
        found = f"{parent}.admin.settings" if parent else "admin.settings"
        try:
            if importlib.util.find_spec(found) is None:
                continue
        except (ImportError, ValueError):
            continue
        try:
            module = importlib.import_module(found)
        except SetupError:
            raise
        except Exception as error:  # user code may raise anything
            raise SetupError(f"cannot load {found}: {loader.place(error)}") from error
        return _in_module(vars(module), found)
    return None, None


def _in_module(
    names: Mapping[str, Any], module: str
) -> tuple[SettingsManager | None, Hook | None]:
    manager = next((one for one in names.values() if isinstance(one, SettingsManager)), None)
    if manager is None:
        classes = [
            one
            for one in names.values()
            if isinstance(one, type)
            and issubclass(one, SettingsManager)
            and one.__module__ == module
        ]
        manager = classes[-1]() if classes else None
    if manager is not None:
        spreads = type(manager).propagate_settings is not SettingsManager.propagate_settings
        return manager, manager.propagate_settings if spreads else None
    hook = names.get("propagate_settings")
    return None, hook if callable(hook) else None


def _place_of(hook: Hook) -> dict[str, Any] | None:
    code = getattr(inspect.unwrap(hook), "__code__", None)
    return {"file": code.co_filename, "line": code.co_firstlineno} if code else None


def _lines(manager: type) -> dict[str, tuple[str, int]]:
    """Return file and line of every field of a manager."""
    found: dict[str, tuple[str, int]] = {}
    for cls in reversed(manager.__mro__):
        if cls.__module__.startswith("orchestrator."):
            continue
        try:
            file = inspect.getfile(cls)
        except (TypeError, OSError):
            continue
        source = loader.compiled_source(file)
        for name, line in positions.of_class(file, cls.__qualname__, source):
            found[name] = (file, line)
    return found


def module_values(path: Path, python_path: Sequence[str] = ()) -> dict[str, Any]:
    """Return what a module of settings or of configuration gives, with the lines of its names.

    Raises:
        SetupError: It raises, or a value cannot be kept; names file and line.
    """
    code = loader.Code(str(path), (str(path.parent), *python_path))
    lines = positions.read(str(path), loader.compiled_source(str(path)))
    values: dict[str, Any] = {}
    mistakes: list[str] = []
    for name, value in settings.of_module(code.module).items():
        try:
            values[name] = exactjson.dump(value, name)
        except TypeError as error:
            if name.isupper() or (name,) in lines:
                mistakes.append(f"{path}:{lines.get((name,), 1)}: cannot keep {error}")
    if mistakes:
        raise SetupError(mistakes)
    return {"values": values, "lines": {name: lines.get((name,), 1) for name in values}}
