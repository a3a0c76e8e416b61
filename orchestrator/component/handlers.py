"""A handler file, read: models, functions and hooks, as the rest of the runtime wants them.

The names are those of service_framework; where its document and its code differ, both are
accepted. Nothing of a handler file leaves this module unchecked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from orchestrator.component import calls, connections, loader, models, positions, states
from orchestrator.component.connections import End, Origin
from orchestrator.component.errors import SetupError
from orchestrator.component.kinds import NotAModel
from orchestrator.component.loader import Code
from orchestrator.component.models import Arguments
from orchestrator.component.states import State

_MAY_BE_ASYNC = frozenset({"main", "on_load", "on_unload"})


@dataclass(frozen=True, slots=True)
class Main:
    """The function of `mode: main`; takes (to_send, states, config) whatever the user's takes."""

    call: Callable[..., Any]
    is_async: bool


@dataclass(frozen=True, slots=True)
class Handler:
    """A loaded handler file. A hook is None when the file has none, and takes all arguments."""

    module: ModuleType
    code: Code | None
    origin: Origin
    config: Arguments
    has_config_model: bool
    connection_models: Any
    state_models: Any
    main: Main | None
    setup_config: Callable[..., Any] | None
    setup_addresses: Callable[..., Any] | None
    setup_connections: Callable[..., Any] | None
    setup_connection_models: Callable[..., Any] | None
    setup_states: Callable[..., Any] | None
    setup_state_models: Callable[..., Any] | None
    init_function: Callable[..., Any] | None
    sigint_handler: Callable[..., Any] | None
    sigterm_handler: Callable[..., Any] | None
    on_load: Callable[..., Any] | None
    on_unload: Callable[..., Any] | None
    on_settings: Callable[..., Any] | None

    def ends_as_written(self) -> tuple[End, ...]:
        """Return the connections of the file alone, before any hook.

        Raises:
            SetupError: A model is wrong.
        """
        return connections.declared(self.connection_models, self.origin)

    def ends(self, config: dict[str, Any]) -> tuple[End, ...]:
        """Return the connections for a configuration; the hooks may change them.

        Raises:
            SetupError: A model or what a hook returned is wrong.
        """
        declared = self._hooked(
            "setup_connection_models", self.setup_connection_models, self.connection_models, config
        )
        creation = _creation("setup_connections", self.setup_connections, "connection", config)
        return connections.declared(declared, self.origin, creation)

    def states_as_written(self) -> tuple[State, ...]:
        """Return the states of the file alone, before any hook.

        Raises:
            SetupError: A model is wrong.
        """
        return states.declared(self.state_models, self.origin)

    def states(self, config: dict[str, Any]) -> tuple[State, ...]:
        """Return the states for a configuration; the hooks may change them.

        Raises:
            SetupError: A model or what a hook returned is wrong.
        """
        declared = self._hooked(
            "setup_state_models", self.setup_state_models, self.state_models, config
        )
        creation = _creation("setup_states", self.setup_states, "state", config)
        return states.declared(declared, self.origin, creation)

    def _hooked(
        self, name: str, function: Callable[..., Any] | None, written: Any, config: dict[str, Any]
    ) -> Any:
        return written if function is None else hook(name, function, written, config)


def load(handler: str, python_path: tuple[str, ...] = ()) -> Handler:
    """Load a handler file, package or module and read what it declares.

    Raises:
        SetupError: The code failed or a model is wrong; names file and line.
    """
    code = loader.Code(handler, python_path)
    return read(code.module, code)


def read(module: ModuleType, code: Code | None = None) -> Handler:
    """Read what a module declares; every mistake at once.

    Args:
        module: The module.
        code: The code that it belongs to, when it may be exchanged.

    Raises:
        SetupError: A model or a hook is wrong; names file and line.
    """
    namespace = vars(module)
    file = namespace.get("__file__")
    origin = Origin(namespace, file, positions.Lines(file, loader.compiled_source(file)))
    mistakes: list[str] = []
    config = _config(namespace, origin, mistakes)
    hooks = {
        "setup_config": _hook(
            namespace, ("setup_config", "setup_configs"), calls.CONFIG, origin, mistakes
        ),
        "setup_addresses": _hook(
            namespace, ("setup_addresses",), calls.WITH_CONFIG, origin, mistakes
        ),
        "setup_connections": _hook(
            namespace, ("setup_connections",), calls.CONFIG, origin, mistakes
        ),
        "setup_connection_models": _hook(
            namespace, ("setup_connection_models",), calls.WITH_CONFIG, origin, mistakes
        ),
        "setup_states": _hook(namespace, ("setup_states",), calls.CONFIG, origin, mistakes),
        "setup_state_models": _hook(
            namespace, ("setup_state_models",), calls.WITH_CONFIG, origin, mistakes
        ),
        "init_function": _hook(namespace, ("init_function",), calls.MAIN, origin, mistakes),
        "sigint_handler": _hook(namespace, ("sigint_handler",), calls.SIGNAL, origin, mistakes),
        "sigterm_handler": _hook(namespace, ("sigterm_handler",), calls.SIGNAL, origin, mistakes),
        "on_load": _hook(namespace, ("on_load",), calls.LOAD, origin, mistakes),
        "on_settings": _hook(namespace, ("on_settings",), calls.SETTINGS, origin, mistakes),
        "on_unload": _hook(namespace, ("on_unload",), calls.UNLOAD, origin, mistakes),
    }
    main = _hook(namespace, ("main",), calls.MAIN, origin, mistakes)
    if not isinstance(namespace.get("state_models") or {}, Mapping):
        mistakes.append(f"{origin.place('state_models')}: expected a dict with 'in' and 'out'")
    if mistakes:
        mistakes += _of_models(namespace, origin)
        raise SetupError(tuple(dict.fromkeys(mistakes)))
    return Handler(
        module=module,
        code=code,
        origin=origin,
        config=config,
        has_config_model=namespace.get("config_model") is not None,
        connection_models=namespace.get("connection_models") or {},
        state_models=namespace.get("state_models") or {},
        main=None if main is None else Main(main, calls.is_async(namespace["main"])),
        **hooks,
    )


def hook(name: str, function: Callable[..., Any], *arguments: object) -> dict[Any, Any]:
    """Call a hook that must return a dict; None stands for an empty one.

    Raises:
        SetupError: It failed or returned something else.
    """
    try:
        result = function(*arguments)
    except Exception as error:  # user code may raise anything
        raise SetupError(f"{name} failed: {loader.place(error)}") from error
    if result is None:
        return {}
    if not isinstance(result, dict):
        raise SetupError(f"{name} must return a dict, got {type(result).__name__}")
    return result


def _creation(
    name: str, function: Callable[..., Any] | None, noun: str, config: dict[str, Any]
) -> dict[Any, Any] | None:
    if function is None:
        return None
    creation = hook(name, function, config)
    if not all(isinstance(arguments, Mapping) for arguments in creation.values()):
        raise SetupError(f"{name} must return {{{noun}: {{argument: value}}}}")
    return creation


def _of_models(namespace: Mapping[str, Any], origin: Origin) -> list[str]:
    """Return what is wrong with models that no hook gives: nobody wants to be told in turns."""
    mistakes: list[str] = []
    for noun, read_models in (("connection", connections.declared), ("state", states.declared)):
        if f"setup_{noun}_models" in namespace or f"setup_{noun}s" in namespace:
            continue
        try:
            read_models(namespace.get(f"{noun}_models") or {}, origin)
        except SetupError as error:
            mistakes += error.mistakes
    return mistakes


def _config(namespace: Mapping[str, Any], origin: Origin, mistakes: list[str]) -> Arguments:
    model = namespace.get("config_model")
    nothing = models.nothing()
    if model is None:
        return nothing
    place = origin.place("config_model")
    if not isinstance(model, Mapping) or model.keys() - {"required", "optional"}:
        mistakes.append(f"{place}: expected a dict with 'required' and 'optional'")
        return nothing
    required, optional = model.get("required") or {}, model.get("optional") or {}
    try:
        return models.arguments(required, optional, wire=False)
    except NotAModel as error:

        def wrong(message: str, *inner: object) -> None:
            mistakes.append(f"{origin.place('config_model', *inner)}: {message}")

        groups = ("required", "optional")
        if not connections.explain_arguments(model, groups, wrong, wire=False):
            wrong(str(error))
        return nothing


def _hook(
    namespace: Mapping[str, Any],
    names: tuple[str, ...],
    forms: Mapping[int, tuple[int, ...]],
    origin: Origin,
    mistakes: list[str],
) -> Callable[..., Any] | None:
    for name in names:
        function = namespace.get(name)
        if function is None:
            continue
        if calls.is_async(function) and name not in _MAY_BE_ASYNC:
            mistakes.append(f"{origin.place(name)}: a hook must be a plain function, not async")
            continue
        try:
            return calls.adapt(function, forms)
        except TypeError as error:
            mistakes.append(f"{origin.place(name)}: {error}")
    return None
