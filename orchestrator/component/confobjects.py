"""Configuration objects: declared once, filled in by layers, kept in files.

    class _Manager(ConfigurationManager):
        symbol = ConfField("BTC-USD")
        log = FileConfField("main.log", "logging")

    CONFIGURATION = _Manager("component")
    CONF = CONFIGURATION.to_conf()

A configuration belongs to a package, a service or a component, which decides how its standard
paths are named. Its file is `{"fullname": "shop.conf.CONF", "conf": {…}}`, with exact types; the
fullname says where the object is found that the file fills in.
"""

from __future__ import annotations

import difflib
import importlib
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

from orchestrator.component import configuration, loader
from orchestrator.component.errors import ConfigurationError, SetupError, UnknownField
from orchestrator.component.fields import CATEGORIES, ConfField, DirConfField, FileConfField
from orchestrator.wire import exactjson, typed

TYPES = ("package", "service", "component")
"""What a configuration can belong to."""

_FULLNAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
"""What files of configurations are called: the name of a module and of its variable."""

_OTHERS = (".json", ".py")
"""The endings of what else may be beside them."""

DIRECTORY_MODE, FILE_MODE = 0o750, 0o640

INFO = "__info__.json"
"""The file beside the configurations of a built component that describes it."""


class Configuration:
    """The variables of a configuration, as attributes; other names are refused.

    Made by `ConfigurationManager.to_conf`. What is set stays: standard values do not replace it.
    `CONF_PATH` is the file it was loaded from, None when it was not.
    """

    CONF_PATH: str | None
    _given: set[str]
    _is_standard: bool
    _manager: ConfigurationManager
    _values: dict[str, Any]

    __slots__ = ("CONF_PATH", "_given", "_is_standard", "_manager", "_values")

    def __init__(self, manager: ConfigurationManager) -> None:
        put = super().__setattr__
        put("_manager", manager)
        put("_values", {name: field.default() for name, field in manager.fields.items()})
        put("_given", set())
        put("_is_standard", False)
        put("CONF_PATH", None)

    @property
    def fullname(self) -> str:
        """Where the object is found: the module and the name of its variable."""
        return self._manager.conf_fullname

    @property
    def manager(self) -> ConfigurationManager:
        """What declares its fields."""
        return self._manager

    def to_dict(self) -> dict[str, Any]:
        """Return the values by name, in the order of their declaration."""
        return dict(self._values)

    def from_dict(self, values: Mapping[str, Any]) -> None:
        """Set the values by name; all of them or, after a mistake, none.

        Raises:
            UnknownField: A name is none of the fields (also a KeyError).
            ConfigurationError: A value is not of its field's type.
        """
        fields = self._manager.fields
        unknown = [self._unknown(name) for name in values if name not in fields]
        wrong = [
            mistake
            for name, value in values.items()
            if name in fields
            for mistake in fields[name].explain(value, repr(name))
        ]
        if unknown:
            raise UnknownField([*unknown, *wrong])
        if wrong:
            raise ConfigurationError([f"configuration {self.fullname}: {one}" for one in wrong])
        self._values.update(values)
        if not self._is_standard:
            self._given.update(values)

    def is_given(self, name: str) -> bool:
        """Tell whether a field was set by somebody, and not by default or standard."""
        return name in self._given

    @contextmanager
    def sync_file(self, path: str | os.PathLike[str]) -> Iterator[Configuration]:
        """Load the file, let it be edited, and write it back when nothing was raised.

        Raises:
            ConfigurationError: The file cannot be read or written, or is another's.
        """
        found = _read(path)
        if found["fullname"] != self.fullname:
            raise ConfigurationError(
                f"cannot use {os.fspath(path)}: it is of {found['fullname']}, "
                f"not of {self.fullname}"
            )
        _fill(self, found["conf"], path)
        yield self
        self._manager.to_file(path)

    def standard_configure(
        self, base_dir_path: str | os.PathLike[str], service_name: str, component_name: str
    ) -> None:
        """Set the standard paths, see `ConfigurationManager.standard_configure`."""
        self._manager.standard_configure(base_dir_path, service_name, component_name)

    def build(
        self, base_dir_path: str | os.PathLike[str], service_name: str, component_name: str
    ) -> str:
        """Write its file, see `ConfigurationManager.build`."""
        return self._manager.build(base_dir_path, service_name, component_name)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self._values[name]
        except KeyError:
            raise UnknownField(self._unknown(name)) from None

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "CONF_PATH":
            super().__setattr__(name, value)
        else:
            self.from_dict({name: value})

    def __delattr__(self, name: str) -> None:
        raise ConfigurationError(f"cannot delete {name!r}: {self.fullname} keeps its fields")

    def __dir__(self) -> Iterable[str]:
        return [*super().__dir__(), *self._values]

    def __str__(self) -> str:
        lines = (f"\n\t{name}: {value}" for name, value in sorted(self._values.items()))
        return "CONF:" + "".join(lines)

    def __repr__(self) -> str:
        return f"<Configuration {self.fullname}>"

    def _unknown(self, name: str) -> str:
        fields = self._manager.fields
        near = difflib.get_close_matches(str(name), fields, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(fields) or 'none'}"
        return f"configuration {self.fullname} has no field {name!r}; {hint}"

    @contextmanager
    def _standard(self) -> Iterator[None]:
        """Let what is set meanwhile count as standard, not as somebody's wish."""
        super().__setattr__("_is_standard", True)
        try:
            yield
        finally:
            super().__setattr__("_is_standard", False)


class ConfigurationManager:
    """What declares a configuration: its fields are the class's attributes.

    Args:
        conf_type: What it belongs to: "package", "service" or "component".
        var_name: The variable of the calling module that holds the configuration.

    Raises:
        ConfigurationError: There is no such type.
    """

    fields: ClassVar[Mapping[str, ConfField]] = {}
    """The fields by name, in the order of their declaration, inherited ones first."""

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        mistakes: list[str] = []
        fields = dict(cls.fields)
        for name, value in vars(cls).items():
            if isinstance(value, ConfField):
                mistakes += _refused(name)
                fields[name] = value
            elif name in fields or (not name.startswith("_") and not _is_code(value)):
                mistakes.append(
                    f"{name!r} is no field but a {type(value).__name__}; write ConfField(…)"
                )
        if mistakes:
            place = f"{cls.__module__}.{cls.__qualname__}"
            raise ConfigurationError([f"cannot declare {place}: {one}" for one in mistakes])
        cls.fields = fields

    def __init__(self, conf_type: str, var_name: str = "CONF") -> None:
        if conf_type not in TYPES:
            raise ConfigurationError(
                f"a configuration belongs to a {', '.join(TYPES[:-1])} or {TYPES[-1]}, "
                f"not to {conf_type!r}"
            )
        if not var_name.isidentifier():
            raise ConfigurationError(f"{var_name!r} is no name of a variable")
        self._conf_type = conf_type
        self._conf_fullname = f"{_calling_module(self)}.{var_name}"
        self._conf: Configuration | None = None

    @property
    def conf_type(self) -> str:
        """What the configuration belongs to."""
        return self._conf_type

    @property
    def conf_fullname(self) -> str:
        """Where the configuration is found: the module and the name of its variable."""
        return self._conf_fullname

    @property
    def conf_keys(self) -> set[str]:
        """The names of the fields."""
        return set(self.fields)

    @property
    def conf(self) -> Configuration:
        """The configuration."""
        return self.to_conf()

    def to_conf(self) -> Configuration:
        """Return the configuration, always the same one."""
        if self._conf is None:
            self._conf = Configuration(self)
        return self._conf

    def to_dict(self) -> dict[str, Any]:
        """Return what its file holds, with the values as they are."""
        return {"fullname": self.conf_fullname, "conf": self.conf.to_dict()}

    def to_text(self) -> str:
        """Return the text of its file.

        Raises:
            ConfigurationError: A value is of a type that cannot be kept.
        """
        try:
            return exactjson.text(self.to_dict())
        except TypeError as error:
            raise ConfigurationError(f"cannot dump {self.conf_fullname}: {error}") from error

    def to_file(self, file_path: str | os.PathLike[str]) -> None:
        """Write its file; readers see the old one or the new one.

        Raises:
            ConfigurationError: It cannot be written, or a value cannot be kept.
        """
        write_text(file_path, self.to_text())

    @classmethod
    def set_conf_from_dict(cls, found: Mapping[str, Any]) -> Configuration:
        """Fill in the configuration of which `{"fullname", "conf"}` tells, and return it.

        Raises:
            ConfigurationError: There is no such configuration, or a value does not fit.
        """
        conf = load_object(found["fullname"])
        if not isinstance(conf, Configuration):
            raise ConfigurationError(
                f"{found['fullname']} is no configuration but a {type(conf).__name__}"
            )
        conf.from_dict(found["conf"])
        return conf

    @classmethod
    def set_conf_from_file(cls, file_path: str | os.PathLike[str]) -> Configuration:
        """Fill in the configuration whose file this is, and return it.

        Raises:
            ConfigurationError: The file cannot be read, or what it says does not fit.
        """
        found = _read(file_path)
        try:
            conf = cls.set_conf_from_dict(found)
        except ConfigurationError as error:
            place = os.fspath(file_path)
            raise type(error)([f"{place}: {one}" for one in error.mistakes]) from error
        conf.CONF_PATH = os.fspath(file_path)
        return conf

    def get_conf_path(
        self, base_dir_path: str | os.PathLike[str], service_name: str, component_name: str
    ) -> str:
        """Return where its file is built."""
        directory = f"{service_name}-{component_name}"
        return os.path.join(base_dir_path, "conf", directory, self.conf_fullname)  # noqa: PTH118

    def standard_configure(
        self, base_dir_path: str | os.PathLike[str], service_name: str, component_name: str
    ) -> None:
        """Give files and directories their standard paths below the base directory.

        Paths that somebody set stay. May be called again, with another base directory too.
        """
        conf = self.conf
        owners = {"package": (), "service": (service_name,)}
        names = owners.get(self._conf_type, (service_name, component_name))
        with conf._standard():  # noqa: SLF001 - the two are one
            for name, field in self.fields.items():
                if not isinstance(field, (FileConfField, DirConfField)) or conf.is_given(name):
                    continue
                path = Path(base_dir_path).absolute() / field.category
                standard = str(path / "-".join((*names, field.suffix)))
                put = field.setattr_fct if isinstance(field, FileConfField) else None
                (put or setattr)(conf, name, standard)

    def build(
        self, base_dir_path: str | os.PathLike[str], service_name: str, component_name: str
    ) -> str:
        """Write its file below the base directory, with the directories that are needed.

        Returns:
            The path of the file.

        Raises:
            ConfigurationError: Something cannot be written, or a value cannot be kept.
        """
        base = Path(base_dir_path)
        path = Path(self.get_conf_path(base, service_name, component_name))
        for directory in (*(base / one for one in CATEGORIES), path.parent):
            make_dir(directory)
        self.make_directories()
        write_text(path, self.to_text())
        return str(path)

    def make_directories(self) -> None:
        """Make the directories of its fields.

        Raises:
            ConfigurationError: One cannot be made.
        """
        for name, field in self.fields.items():
            value = getattr(self.conf, name)
            if isinstance(field, DirConfField) and value is not None:
                make_dir(Path(value))


_RESERVED = frozenset(
    name for owner in (Configuration, ConfigurationManager) for name in dir(owner)
)


def load_object(fullname: str) -> Any:
    """Import the module of `module.NAME` and return what it has under the name.

    Raises:
        ConfigurationError: It cannot be imported, or has no such name.
    """
    module_name, dot, name = str(fullname).rpartition(".")
    if not dot:
        raise ConfigurationError(f"{fullname!r} is not the full name of an object, module.NAME")
    try:
        return getattr(importlib.import_module(module_name), name)
    except AttributeError:
        raise ConfigurationError(f"the module {module_name} has no {name!r}") from None
    except ImportError as error:
        raise ConfigurationError(f"cannot import {module_name}: {error}") from error
    except SetupError:
        raise
    except Exception as error:  # user code may raise anything
        raise ConfigurationError(f"cannot import {module_name}: {loader.place(error)}") from error


def files_in(conf_dir: Path) -> list[Path]:
    """Return the files of configuration objects in the directory of a built component.

    Raises:
        ConfigurationError: The directory cannot be read.
    """
    try:
        # Most have none, and need no paths for that.
        names = [one for one in os.listdir(conf_dir) if not one.endswith(_OTHERS)]  # noqa: PTH208
        paths = [conf_dir / one for one in sorted(names) if _FULLNAME.fullmatch(one)]
        return [one for one in paths if one.is_file()]
    except OSError as error:
        raise ConfigurationError(f"cannot read {conf_dir}: {error.strerror}") from error


def load_directory(conf_dir: Path) -> tuple[Configuration, ...]:
    """Fill in every configuration that the directory of a built component has a file of.

    Raises:
        ConfigurationError: Tells everything that is wrong with any of them.
    """
    loaded: list[Configuration] = []
    mistakes: list[str] = []
    for path in files_in(conf_dir):
        try:
            loaded.append(ConfigurationManager.set_conf_from_file(path))
        except ConfigurationError as error:
            mistakes += error.mistakes
    if mistakes:
        raise ConfigurationError(mistakes)
    return tuple(loaded)


def _refused(name: str) -> Iterator[str]:
    if name.startswith("_"):
        yield f"{name!r} cannot be a field: names that begin with _ are private"
    elif name in _RESERVED:
        yield f"{name!r} cannot be a field: configurations have a method or attribute of this name"


def _is_code(value: object) -> bool:
    """Whether an attribute is a method, a property or the like, and no value."""
    return callable(value) or hasattr(value, "__get__")


def _calling_module(manager: ConfigurationManager) -> str:
    """Return the module that makes a manager, whatever `__init__` of its own that has."""
    frame = sys._getframe(1)  # noqa: SLF001 - the only way to know the caller
    while frame.f_back is not None and frame.f_locals.get("self") is manager:
        frame = frame.f_back
    spec = frame.f_globals.get("__spec__")
    name = frame.f_globals.get("__name__", "__main__")
    return spec.name if name == "__main__" and spec is not None else str(name)


def _read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return `{"fullname", "conf"}` of a file, the values with their types.

    A built file says by `secrets` which settings it leaves to the environment; what names one
    is a text until then, which becomes what its field is. What it lists as `defaults` was the
    code's own, and is left to what the code says now.
    """
    place = os.fspath(path)
    try:
        found = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise ConfigurationError(f"cannot read {place}: {error.strerror}") from error
    except json.JSONDecodeError as error:
        raise ConfigurationError(f"{place}:{error.lineno}:{error.colno}: {error.msg}") from error
    except ValueError as error:
        raise ConfigurationError(f"cannot use {place}: {error}") from error
    if not isinstance(found, dict) or not isinstance(found.get("fullname"), str):
        raise ConfigurationError(f"cannot use {place}: it is no file of a configuration")
    if not isinstance(found.get("conf"), dict):
        raise ConfigurationError(f"cannot use {place}: its `conf` is no map")
    own = found.get("defaults") or ()
    raw = {name: value for name, value in found["conf"].items() if name not in own}
    mistakes: list[str] = []
    filled = configuration.replaced(raw, os.environ, mistakes) if found.get("secrets") else raw
    values: dict[str, Any] = {}
    for name, value in filled.items():
        try:
            values[name] = exactjson.load(value)
            if value != raw[name]:
                values[name] = _revealed(found["fullname"], name, values[name])
        except ValueError as error:
            mistakes.append(f"{name!r}: {error}")
    if mistakes:
        raise ConfigurationError([f"cannot use {place}: {mistake}" for mistake in mistakes])
    return {"fullname": found["fullname"], "conf": values}


def _revealed(fullname: str, name: str, value: Any) -> Any:
    """Return what a secret, a text, is for its field."""
    conf = load_object(fullname)
    field = conf.manager.fields.get(name) if isinstance(conf, Configuration) else None
    if field is None or not isinstance(value, str):
        return value
    return typed.from_text(field.plain, value)


def _fill(conf: Configuration, values: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    try:
        conf.from_dict(values)
    except ConfigurationError as error:
        place = os.fspath(path)
        raise type(error)([f"{place}: {one}" for one in error.mistakes]) from error
    conf.CONF_PATH = os.fspath(path)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a file so that readers see the old text or the new one.

    Raises:
        ConfigurationError: It cannot be written.
    """
    temporary = f"{os.fspath(path)}.{os.getpid()}.new"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, FILE_MODE)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(descriptor, FILE_MODE)
            file.write(text)
        Path(temporary).replace(path)
    except OSError as error:
        with suppress(OSError):
            Path(temporary).unlink()
        raise ConfigurationError(f"cannot write {os.fspath(path)}: {error.strerror}") from error


def make_dir(path: Path) -> None:
    """Make a directory and its missing parents, all with the mode of a build.

    Raises:
        ConfigurationError: It cannot be made.
    """
    try:
        # `parents` would make them with the default mode, whoever may read that.
        for one in reversed([one for one in (path, *path.parents) if not one.exists()]):
            one.mkdir(mode=DIRECTORY_MODE, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"cannot make the directory {path}: {error.strerror}") from error
