"""MetaService: named factories (contexts) and services, one registry per process.

A context is a class with arguments, `build_context` makes an object of it. A service builder is a
service class; `build_service` makes an instance, for one use or kept under its name. Both come
from the topology (`contexts:`, `default_services:`) or are added by code.
"""

from __future__ import annotations

import difflib
import importlib
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from orchestrator.component import hooks
from orchestrator.component import service as services
from orchestrator.component.errors import ComponentError, SetupError
from orchestrator.component.service import CommonService, ServiceState

DEFAULTS = ("kube", "jsorc", "promon", "redis", "task", "mail")
"""Services that each hook has when there are builders for them, as it always was."""


class UnknownEntry(ComponentError, KeyError):
    """The registry has no context, or no service builder, of that name."""

    def __str__(self) -> str:
        # KeyError would show the message in quotes.
        return str(self.args[0])


class AlreadyThere(ComponentError):
    """A service builder of that name exists, for another class."""


@dataclass(frozen=True, slots=True)
class Declared:
    """What a topology declares for the registry, as plain data.

    `contexts` are `{"class": "module:Class", "args": […], "kwargs": {…}}` by name, and `services`
    `{"class": "module:Class", "config": {…}}`.
    """

    contexts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    services: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(slots=True)
class _Registry:
    contexts: dict[str, dict[str, Any]] = field(default_factory=dict)
    builders: dict[str, type[CommonService]] = field(default_factory=dict)
    given: dict[str, hooks.Given] = field(default_factory=dict)
    kept: dict[str, CommonService] = field(default_factory=dict)
    defaults: list[str] = field(default_factory=lambda: list(DEFAULTS))
    lock: Any = field(default_factory=threading.RLock)


class MetaService(CommonService):
    """The handler of every service of the process: `MetaService()` is always the same object.

    A subclass is one object too, and shares contexts and services with all others; it may
    override `populate_context` and `populate_services`.
    """

    declared: ClassVar[Declared] = Declared()
    """What the topology declares; set before the first one is made."""

    _registry: ClassVar[_Registry] = _Registry()
    _made: ClassVar[dict[type, MetaService]] = {}

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Return the one object of the class."""
        with MetaService._registry.lock:
            if cls not in MetaService._made:
                MetaService._made[cls] = super().__new__(cls, *args, **kwargs)
            return MetaService._made[cls]  # type: ignore[return-value]  # it is of the class

    def __init__(self, run_svcs: bool = True) -> None:
        with self._registry.lock:
            if "state" in self.__dict__:
                return
            self.run_svcs = run_svcs
            super().__init__()
            self.start()
            if self.error is not None:
                del MetaService._made[type(self)]
                raise self.error

    def _own(self, hook: Any) -> Any:
        # It needs none: it is what makes them.
        return hook

    def build_config(self, hook: Any) -> dict[str, Any]:
        """Return that it is enabled."""
        del hook
        return {"enabled": True, "quiet": True}

    def run(self, hook: Any = None) -> None:
        """Fill the registry."""
        del hook
        self.app = self._registry
        hooks.make_hooks_by(lambda: self.build_context("hook"))
        self.populate_context()
        self.populate_services()

    def reset(self, hook: Any = None, start: bool = True) -> None:
        """End all services that are kept, and fill the registry anew."""
        del hook
        with self._registry.lock:
            self.stop()
            for known in (self._registry.contexts, self._registry.builders, self._registry.given):
                known.clear()
            self._registry.defaults[:] = DEFAULTS
            self.app, self.state, self.error = None, ServiceState.NOT_STARTED, None
            if start:
                self.start()
                if self.error is not None:
                    raise self.error

    def stop(self) -> None:
        """End all services that are kept, the last first."""
        with self._registry.lock:
            kept = list(self._registry.kept.values())
            self._registry.kept.clear()
        for one in reversed(kept):
            one.stop()

    # ------------------------------------------------------------- what classes override

    def populate_context(self) -> None:
        """Add the contexts of the topology, and a `hook` where it has none."""
        self.add_context("hook", hooks.Hook)
        for name, entry in self.declared.contexts.items():
            cls = loaded(str(entry["class"]), f"the context {name!r}")
            self.add_context(name, cls, *entry.get("args", ()), **entry.get("kwargs", {}))

    def populate_services(self) -> None:
        """Add the default services of the topology."""
        for name, entry in self.declared.services.items():
            cls = loaded(str(entry["class"]), f"the default service {name!r}")
            self.add_service_builder(name, cls)
            config = {"enabled": True, **entry.get("config", {})}
            self._registry.given[name] = hooks.Given(f"default_services.{name}", config)
            if name not in self._registry.defaults:
                self._registry.defaults.append(name)

    # ------------------------------------------------------------- contexts

    def add_context(
        self, name: str, cls: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> None:
        """Make a class known by a name, with arguments for it; what had the name is replaced."""
        if not callable(cls):
            raise TypeError(f"cannot add the context {name!r}: {cls!r:.80} is no class")
        with self._registry.lock:
            self._registry.contexts[name] = {"class": cls, "args": args, "kwargs": kwargs}

    def get_context(self, name: str) -> dict[str, Any]:
        """Return `{"class": …, "args": (…), "kwargs": {…}}` of a context; nothing is made.

        Raises:
            UnknownEntry: There is none.
        """
        with self._registry.lock:
            found = self._registry.contexts.get(name)
            if found is None:
                raise UnknownEntry(_unknown("context", name, self._registry.contexts))
            return {**found, "kwargs": dict(found["kwargs"])}

    def get_context_class(self, name: str) -> Any:
        """Return the class of a context.

        Raises:
            UnknownEntry: There is none.
        """
        return self.get_context(name)["class"]

    def build_context(self, name: str, /, *args: Any, **kwargs: Any) -> Any:
        """Return a new object of a context: these arguments, then its own; these keywords win.

        Raises:
            UnknownEntry: There is none.
        """
        context = self.get_context(name)
        return context["class"](*args, *context["args"], **{**context["kwargs"], **kwargs})

    # ------------------------------------------------------------- services

    def add_service_builder(self, name: str, cls: type[CommonService]) -> None:
        """Make a service class known by a name.

        Raises:
            AlreadyThere: The name is another class's.
            TypeError: It is no service class.
        """
        if not is_service(cls):
            raise TypeError(f"cannot add the service {name!r}: {cls!r:.80} is no CommonService")
        with self._registry.lock:
            if self._registry.builders.get(name, cls) is not cls:
                raise AlreadyThere(f"{name} already exists!")
            self._registry.builders[name] = cls

    add_service_build = add_service_builder

    def build_service(
        self,
        name: str,
        background: bool,
        /,
        *args: Any,
        replace: bool = False,
        start: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Return a service of the builder of that name.

        Args:
            name: Which.
            background: Whether it is kept: then it is made once, and the same from then on. One
                that is not kept is new each time.
            args: For the class.
            replace: End the one that is kept, and make a new one.
            start: Start it.
            kwargs: For the class.

        Raises:
            UnknownEntry: There is no such builder.
        """
        with self._registry.lock:
            cls = self._registry.builders.get(name)
            if cls is None:
                raise UnknownEntry(_unknown("service builder", name, self._registry.builders))
            service = self._registry.kept.get(name) if background else None
            if service is not None and replace:
                service.stop()
                service = None
            if service is None:
                with hooks.giving(self._registry.given.get(name)):
                    service = cls(*args, **kwargs)
                if background:
                    self._registry.kept[name] = service
        return service.start() if start else service

    def get_service(self, name: str, /, *args: Any, **kwargs: Any) -> Any:
        """Return the service that is kept under the name; it is made when there is none yet.

        Raises:
            UnknownEntry: There is no such builder.
        """
        return self.build_service(name, True, *args, **kwargs)

    # ------------------------------------------------------------- common builders

    def build_hook(self, *args: Any, **kwargs: Any) -> Any:
        """Return a new object of the context `hook`, with the default services as attributes.

        Each is started, and `meta` is this registry.
        """
        hook = self.build_context("hook", *args, **kwargs)
        hook.meta = self
        if self.run_svcs:
            for name in self._default_services():
                if hasattr(hook, name):
                    raise AlreadyThere(
                        f"a hook has a {name!r} already; name the service otherwise"
                    )
                service = self.get_service(name, hook)
                setattr(hook, name, service)
                service.start(hook)
        return hook

    def build_master(self, *args: Any, **kwargs: Any) -> Any:
        """Return a new object of the context `master`, with a hook as its `_h`."""
        return self._with_hook("master", *args, **kwargs)

    def build_super_master(self, *args: Any, **kwargs: Any) -> Any:
        """Return a new object of the context `super_master`, with a hook as its `_h`."""
        return self._with_hook("super_master", *args, **kwargs)

    def _with_hook(self, name: str, /, *args: Any, h: Any = None, **kwargs: Any) -> Any:
        made = self.build_context(name, *args, **kwargs)
        made._h = self.build_hook() if h is None else h  # noqa: SLF001 - its known name
        return made

    def _default_services(self) -> Iterator[str]:
        with self._registry.lock:
            known = [one for one in self._registry.defaults if one in self._registry.builders]
        return iter(known)


def is_service(found: object) -> bool:
    """Tell whether something is a service class."""
    return isinstance(found, type) and issubclass(found, CommonService)


def loaded(word: str, what: str) -> Any:
    """Return the class that `module:Class` names.

    Raises:
        SetupError: It cannot be loaded; begins with `what` it is.
    """
    module, _, name = word.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except AttributeError:
        raise SetupError(f"cannot load {what}: {module} has no class {name!r}") from None
    except Exception as error:  # user code may raise anything
        raise SetupError(f"cannot load {what}: {word}: {type(error).__name__}: {error}") from error


def _refreshed(name: str, hook: hooks.Hook) -> tuple[str, ...]:
    """Reset the services that are kept and whose configuration has that name."""
    registry = MetaService._registry  # noqa: SLF001 - of its own module
    with registry.lock:
        kept = dict(registry.kept)
    mine = [key for key, one in kept.items() if services.config_name(one) == name]
    for key in mine:
        services.restart(kept[key], hook)
    return tuple(mine)


hooks.when_refreshed(_refreshed)


def _unknown(what: str, name: str, known: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    there = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known) or 'none'}"
    return f"there is no {what} {name!r}; {there}"
