"""CommonService: a service with a life of its own inside a process.

    NOT_STARTED ── start ──▶ STARTED ── run() returned ──▶ RUNNING ── post_run()
         ▲                      │ run() raised                │ post_run() raised
         │                      ▼                             │
         └──── reset ──────── FAILED ◀────────────────────────┘     then failed()

A class overrides what it needs: `build_kube` and `build_config`, called in this order when it is
made; `run`, `post_run`, `failed`, `reset`, `stop`. Each may leave out the `hook`.
"""

from __future__ import annotations

import copy
import enum
import inspect
import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any, Self

from orchestrator.component import calls, hooks
from orchestrator.component.threads import PATIENCE, Threads

logger = logging.getLogger(__name__)

Hook = Any
"""What services ask for their settings: an object with `service_glob(name, default)`."""

WITH_HOOK: Mapping[int, tuple[int, ...]] = {1: (0,), 0: ()}
"""A method of a life cycle: (hook) or ()."""

_HOOKED: Mapping[int, tuple[int, ...]] = {2: (0, 1), 1: (0,)}
METHODS: Mapping[str, Mapping[int, tuple[int, ...]]] = {
    "build_kube": _HOOKED,
    "build_manifest": _HOOKED,
    "build_config": _HOOKED,
    "run": _HOOKED,
    "post_run": _HOOKED,
    "reset": _HOOKED,
    "failed": {1: (0,)},
    "stop": {1: (0,)},
}
"""What a class may override, with `self` counted."""


class ServiceState(enum.IntEnum):
    """Where a service is in its life."""

    FAILED = -1
    NOT_STARTED = 0
    STARTED = 1
    RUNNING = 2

    def is_ready(self) -> bool:
        """Whether it may be started."""
        return self is ServiceState.NOT_STARTED

    def is_running(self) -> bool:
        """Whether its `run` has returned."""
        return self is ServiceState.RUNNING

    def has_failed(self) -> bool:
        """Whether its start failed."""
        return self is ServiceState.FAILED


class CommonService:
    """Base of services: attributes, life cycle and background threads.

    Attributes:
        app: The library's object that does the work; `run` sets it.
        enabled: Whether its configuration lets it start.
        state: Where it is in its life.
        quiet: Whether a failed start is kept out of the log.
        kube: The manifests, by kind; None when there are none.
        config: The configuration without `enabled` and `quiet`.
        error: Why its settings could not be built, or its start failed.

    Args:
        hook: Where settings come from; without one the hook of this process.
    """

    app: Any
    enabled: bool
    state: ServiceState
    quiet: bool
    kube: Any
    config: dict[str, Any]
    error: Exception | None

    # Own to the object, whatever `__init__` does, and the same after a reset.
    _arguments: tuple[tuple[Any, ...], dict[str, Any]]
    _threads: Threads
    _turn: threading.RLock
    _given: hooks.Given | None
    _config_name: str | None

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Keep what a reset needs, and what is the object's own whatever `__init__` does."""
        made = super().__new__(cls)
        made._arguments = (args, kwargs)
        made._threads = Threads(cls.__name__)
        made._turn = threading.RLock()
        made._given = hooks.given()
        made._config_name = None
        return made

    def __init__(self, hook: Hook = None) -> None:
        self.app = None
        self.enabled = False
        self.state = ServiceState.NOT_STARTED
        self.quiet = True
        self.kube = None
        self.config = {}
        self.error = None
        self._hook = hook
        self._build_settings(hook)

    # ------------------------------------------------------------- what anybody may call

    def start(self, hook: Hook = None) -> Self:
        """Run the service if it is enabled and has not been started; return it.

        Nothing is raised: what went wrong stands in `error`, and the state is FAILED.
        """
        with self._turn:
            if not (self.enabled and self.is_ready()):
                return self
            hook = self._own(hook)
            try:
                self.state = ServiceState.STARTED
                _called(self.run, hook)
                self.state = ServiceState.RUNNING
                _called(self.post_run, hook)
            except Exception as error:  # noqa: BLE001 - user code may raise anything
                self._fail(error)
        return self

    def is_ready(self) -> bool:
        """Whether it can be started: it was not, and has no app."""
        return self.state.is_ready() and self.app is None

    def is_running(self) -> bool:
        """Whether it runs and has an app."""
        return self.state.is_running() and self.app is not None

    def has_failed(self) -> bool:
        """Whether its start failed."""
        return self.state.has_failed()

    def spawn_daemon(self, **targets: Callable[..., object]) -> None:
        """Call each target in a background thread of its name; a name that lives is left alone.

        A target with a parameter `stop` is given a `threading.Event` that asks it to end.
        """
        for name, target in targets.items():
            self._threads.spawn(name, target)

    def terminate_daemon(self, *names: str, within: float = PATIENCE) -> tuple[str, ...]:
        """End background threads, all of them when none are named.

        Returns:
            The names of those that did not end `within` so many seconds.
        """
        return self._threads.terminate(*names, within=within)

    @property
    def daemons(self) -> tuple[str, ...]:
        """The names of the background threads that live."""
        return self._threads.living()

    # ------------------------------------------------------------- what classes override

    def build_kube(self, hook: Hook) -> Any:
        """Return the manifests by kind; called before `build_config`."""
        return self.build_manifest(hook)

    def build_manifest(self, hook: Hook) -> Any:
        """Return the manifests by kind: the later name of `build_kube`."""
        del hook
        return self._given.manifests if self._given else None

    def build_config(self, hook: Hook) -> dict[str, Any]:
        """Return the configuration, with `enabled` and `quiet`; without this it is not enabled."""
        del hook
        return {"enabled": False}

    def run(self, hook: Hook = None) -> None:
        """Do what starts the service, and set `app`."""
        del hook
        raise NotImplementedError("Not properly configured! Please override run method!")

    def post_run(self, hook: Hook = None) -> None:
        """Do what follows when it runs."""

    def failed(self) -> None:
        """Do what follows when its start has failed; the state says so already."""
        self.app = None
        self.state = ServiceState.FAILED

    def reset(self, hook: Hook = None, start: bool = True) -> None:
        """Make it anew: settings, fields, and unless told otherwise its start.

        Its background threads are ended first. `__init__` is called again, with this hook and the
        other arguments of the first time.
        """
        with self._turn:
            self._threads.terminate()
            self.app = None
            self.state = ServiceState.NOT_STARTED
            hook = self._own(hook)
            args, kwargs = _with_hook(self, hook)
            with hooks.giving(self._given):
                self.__init__(*args, **kwargs)  # type: ignore[misc]  # it is the point
            if start:
                self.start(hook)

    def stop(self) -> None:
        """Do what is to be done when the process ends: end the background threads."""
        self._threads.terminate()

    # ------------------------------------------------------------- inside

    def _own(self, hook: Hook) -> Hook:
        if hook is None:
            hook = self._hook
        return hooks.default_hook() if hook is None else hook

    def _build_settings(self, hook: Hook) -> None:
        try:
            hook = self._own(hook)
            with hooks.building(self._given, "kube"):
                self.kube = _called(self.build_kube, hook) or None
            with hooks.building(self._given, "config") as asked:
                built = _called(self.build_config, hook)
            self._config_name = asked.name
            config = asked.over(_copied(built))
            self.enabled = _switch(config, "enabled")
            self.quiet = _switch(config, "quiet")
            self.config = config
        except Exception as error:
            self.enabled = False
            self.error = error
            logger.exception("%s: cannot build the settings", type(self).__name__)

    def _fail(self, error: Exception) -> None:
        self.state = ServiceState.FAILED
        self.error = error
        if not self.quiet:
            logger.error("%s: the start failed", type(self).__name__, exc_info=error)
        try:
            self.failed()
        except Exception:
            logger.exception("%s: failed() failed", type(self).__name__)


def restart(service: CommonService, hook: Hook) -> None:
    """Reset a service, whatever form its `reset` has.

    Raises:
        Exception: Whatever it raised.
    """
    _called(service.reset, hook)


def config_name(service: CommonService) -> str | None:
    """Return the name of a service's configuration in the store."""
    return service._config_name  # noqa: SLF001 - of its own module


def watch(service: CommonService, changed: Callable[[], object]) -> None:
    """Call `changed`, in any thread, when a background thread of the service begins or ends."""
    service._threads.changed = changed  # noqa: SLF001 - of its own module


def _called(method: Callable[..., Any], hook: Hook) -> Any:
    """Call a method with the hook, or without one when it takes none."""
    if calls.is_async(method):
        raise TypeError(f"{method.__name__} must be a plain method, not async")
    return calls.adapt(method, WITH_HOOK)(hook)


def _copied(built: object) -> dict[str, Any]:
    if not isinstance(built, Mapping):
        raise TypeError(f"build_config must return a dict, got {type(built).__name__}")
    return copy.deepcopy(dict(built))


def _switch(config: dict[str, Any], name: str) -> bool:
    value = config.pop(name, False)
    if not isinstance(value, bool):
        raise TypeError(f"{name!r} must be true or false, got {value!r:.80}")
    return value


def _with_hook(service: CommonService, hook: Hook) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments a service was made with, the hook among them replaced."""
    args, kwargs = service._arguments  # noqa: SLF001 - of its own module
    try:
        bound = inspect.signature(type(service).__init__).bind_partial(service, *args, **kwargs)
    except TypeError:
        return args, kwargs
    if "hook" in bound.signature.parameters:
        bound.arguments["hook"] = hook
    return bound.args[1:], bound.kwargs
