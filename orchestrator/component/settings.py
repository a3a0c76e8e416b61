"""The settings of an installation, as a service's own code declares and spreads them.

    class Settings(SettingsManager):
        PORT = SettingsField()
        DEBUG = SettingsField(optional=True, default_value=False)

        def propagate_settings(self, component=None, component_arg=None):
            CONF.port = self.settings.PORT

In a process that orch started, or that checks a topology, the values are those that the topology
came to. Anywhere else they are the names of a Python module. Secrets are in the environment only,
as ORCH_SETTING_<NAME>.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from orchestrator.component import kinds, loader
from orchestrator.component.errors import ConfigurationError, UnknownField
from orchestrator.component.kinds import NotAModel
from orchestrator.wire import exactjson, typed

VARIABLE = "ORCH_SETTING_"
"""The prefix of the environment variables that give settings."""

FILE = "settings.json"
"""The file with a component's settings, in its configuration directory."""


class SettingsField:
    """A setting of a `SettingsManager`.

    Args:
        optional: Whether it may be left out; it is then the default value.
        default_value: What an optional setting is when nobody gives it.
        type: What it must be, as in models; without it the default's type is read from texts.

    Raises:
        ConfigurationError: `type` describes no type.
    """

    def __init__(
        self,
        optional: bool = False,
        default_value: Any = None,
        *,
        type: Any = None,  # noqa: A002 - the seat of the call
    ) -> None:
        self.optional = optional
        self.default_value = default_value
        try:
            wanted = type if type is not None else object
            if type is None and default_value is not None:
                wanted = default_value.__class__
            self.plain = kinds.compile_type(wanted, wire=False).plain
        except NotAModel as error:
            raise ConfigurationError(f"cannot declare a setting: {error}") from error


class Settings:
    """The values of settings, as attributes; they can be set, as a test may want to."""

    def __init__(self, values: Mapping[str, Any], source: str) -> None:
        vars(self).update(values)
        vars(self)["_source"] = source

    def __getattr__(self, name: str) -> Any:
        raise UnknownField(f"there is no setting {name!r} (settings from {self._source})")

    def __iter__(self) -> Iterator[str]:
        return (name for name in vars(self) if not name.startswith("_"))

    def __str__(self) -> str:
        return ", ".join(self)  # Not the values: some are secret.


class SettingsManager:
    """Declares settings as attributes, loads them, and spreads them over configurations.

    Args:
        settings_module_name: The module to load them from where orch gives none.

    Raises:
        ConfigurationError: Required settings are missing, values are of a wrong type, or the
            module raised; everything at once.
    """

    fields: ClassVar[Mapping[str, SettingsField]] = {}

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        own = {name: one for name, one in vars(cls).items() if isinstance(one, SettingsField)}
        mistakes = [
            f"cannot declare {cls.__module__}.{cls.__qualname__}: {name!r} cannot be a setting: "
            + ("it is private" if name.startswith("_") else "managers have an attribute so called")
            for name in own
            if name.startswith("_") or name in _RESERVED
        ]
        if mistakes:
            raise ConfigurationError(mistakes)
        cls.fields = {**cls.fields, **own}

    def __init__(self, settings_module_name: str = "settings") -> None:
        self._module_name = settings_module_name
        self._settings: Settings | None = None
        found = _values(settings_module_name)
        if found is not None:
            self._settings = self._taken(*found)

    @property
    def is_loaded(self) -> bool:
        """Whether there were settings to load."""
        return self._settings is not None

    @property
    def settings(self) -> Settings:
        """The settings.

        Raises:
            ConfigurationError: There are none.
        """
        if self._settings is None:
            raise ConfigurationError(
                f"there are no settings: no module {self._module_name!r} is to be found, "
                "and no topology gives them"
            )
        return self._settings

    def propagate_settings(self, component: Any = None, component_arg: Any = None) -> None:
        """Set the fields of configurations that depend on settings; for subclasses.

        Args:
            component: The component that is about to be configured, None for any.
            component_arg: What the caller of an administrator says of it.
        """
        raise NotImplementedError(f"{type(self).__name__} has no propagate_settings")

    def _taken(self, values: Mapping[str, Any], source: str) -> Settings:
        """Return the declared settings from what was found; without a declaration, all."""
        if not self.fields:
            return Settings(values, source)
        taken: dict[str, Any] = {}
        mistakes: list[str] = []
        for name, field in self.fields.items():
            if name not in values:
                if not field.optional:
                    mistakes.append(f"the setting {name!r} is required, and not in {source}")
                taken[name] = field.default_value
                continue
            value = values[name]
            # What stands for a secret is of any type.
            if value is not None and not (isinstance(value, str) and "${settings." in value):
                try:
                    value = typed.from_json(field.plain, value)
                except typed.Unfit as error:
                    mistakes.append(f"the setting {name!r} of {source}: {error}")
                    continue
                mistakes += [
                    f"the setting {name!r} of {source}: {mistake}"
                    for mistake in typed.mistakes(field.plain, value)
                ]
            taken[name] = value
        if mistakes:
            raise ConfigurationError(mistakes)
        return Settings(taken, source)


_RESERVED = frozenset(dir(SettingsManager))

_provided: tuple[Mapping[str, Any], str] | None = None


def provide(values: Mapping[str, Any] | None, source: str = "the topology") -> None:
    """Let managers that are made from now on have these values; None ends that."""
    global _provided  # noqa: PLW0603 - a process has one set of settings
    _provided = None if values is None else (values, source)


@contextlib.contextmanager
def provided(values: Mapping[str, Any]) -> Iterator[None]:
    """Let managers that are made meanwhile have these values."""
    before = _provided
    provide(values)
    try:
        yield
    finally:
        provide(*before or (None,))


def read(conf_dir: Path, environment: Mapping[str, str]) -> dict[str, Any] | None:
    """Return the settings of a built component, secrets from the environment; None without.

    Raises:
        ConfigurationError: The file cannot be read, or a secret is not in the environment.
    """
    path = conf_dir / FILE
    try:
        found = json.loads(path.read_bytes())
        values = {name: exactjson.load(value) for name, value in found["settings"].items()}
        secrets = list(found.get("secrets") or ())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigurationError(f"cannot read the settings {path}: {error}") from error
    missing = [name for name in secrets if VARIABLE + name not in environment]
    if missing:
        raise ConfigurationError(
            [
                f"the setting {one!r} is not in the environment, as {VARIABLE}{one}"
                for one in missing
            ]
        )
    return {**values, **{name: environment[VARIABLE + name] for name in secrets}}


def loaded(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings from their exact JSON."""
    return {name: exactjson.load(value) for name, value in given.items()}


def of_module(module: ModuleType) -> dict[str, Any]:
    """Return what a module of settings or of configuration gives: its public values by name."""
    return {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_") and not isinstance(value, ModuleType) and not callable(value)
    }


def _values(module_name: str) -> tuple[Mapping[str, Any], str] | None:
    if _provided is not None:
        return _provided
    try:
        if importlib.util.find_spec(module_name) is None:
            return None
    except (ImportError, ValueError):
        return None
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # user code may raise anything
        raise ConfigurationError(
            f"cannot load the settings {module_name}: {loader.place(error)}"
        ) from error
    given = {
        name.removeprefix(VARIABLE): text
        for name, text in os.environ.items()
        if name.startswith(VARIABLE)
    }
    return {**of_module(module), **given}, str(module.__file__ or module_name)
