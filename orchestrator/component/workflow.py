"""A component as a package has it, and the steps of its life.

    settings      what differs per installation is read, and propagated
    configure     every configuration variable has its value
    build         configuration files and directories are written
    setup         logging, then Django where it is configured
    initialize    files: Django's migrations and static files; only when asked for
    start         run()

Each step is done once; one that failed is not done, and can be tried again. Nothing here handles
signals: a component that runs in its caller's process leaves them to the caller.
"""

from __future__ import annotations

import copy
import inspect
import logging.config
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.component import exits, notify
from orchestrator.component.confobjects import Configuration
from orchestrator.component.errors import ComponentError, SetupError

if TYPE_CHECKING:
    from orchestrator.component.starting import Started

MARKERS = ("__component__", "component")
"""What the module is called that makes a package a component."""


class Component:
    """An element of a service: one long-running process.

    A package makes one in its `__component__` module and calls it `COMPONENT`:

        class _Api(Component):
            def run(self):
                ...

        COMPONENT = _Api("shop", "api", [CONF])

    Args:
        service_name: The service that it belongs to.
        name: Its own name. A topology that names it otherwise wins, see `change_name`.
        default_confs: Its configuration objects, or managers of such.
        load_name: The variable of its module that holds it.
    """

    django_d: Mapping[str, Any] | str | None = None
    """Django's settings, or the name of their module; None: a CONF's `DJANGO`, if it has one."""

    tells_ready = False
    """Whether `run` itself says when it is ready, by `self.ready()`; else it is when called."""

    def __init__(
        self,
        service_name: str,
        name: str,
        default_confs: Iterable[Any] = (),
        load_name: str = "COMPONENT",
    ) -> None:
        self.service_name = service_name
        self._name = name
        self.load_name = load_name
        self.confs: list[Configuration] = []
        for conf in default_confs:
            self.add_conf(conf)
        self.conf_dir_path: Path | None = None
        """Where its configuration files are, once it is built or was loaded from there."""
        self._base_dir: Path | None = None
        self._done: set[str] = set()
        self._lock = threading.RLock()
        self._runs = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.full_name}>"

    @property
    def name(self) -> str:
        """The name within its service."""
        return self._name

    @property
    def full_name(self) -> str:
        """`service.component`."""
        return f"{self.service_name}.{self._name}"

    @property
    def conf(self) -> Configuration:
        """Its configuration object; the first, if there are several.

        Raises:
            ComponentError: It has none.
        """
        if not self.confs:
            raise ComponentError(f"cannot give the configuration of {self.full_name}: it has none")
        return self.confs[0]

    def add_conf(self, conf: Any) -> None:
        """Add a configuration object, or a manager's; one that is there is not added again.

        Raises:
            SetupError: It is neither.
        """
        found = configuration_of(conf, self.full_name)
        if not any(found is one for one in self.confs):
            self.confs.append(found)

    def change_name(self, name: str, service_name: str | None = None) -> None:
        """Give it another name, so that several of one kind can live; directories follow it.

        Raises:
            ComponentError: It is configured already, under its old name.
        """
        if (self._name, self.service_name) == (name, service_name or self.service_name):
            return
        if "configure" in self._done:
            raise ComponentError(
                f"cannot rename {self.full_name}: it is configured; rename it before"
            )
        self._name = name
        self.service_name = service_name or self.service_name

    # ------------------------------------------------------------- for its author

    def run(self) -> object:
        """Do the work of the component; may be `async`. Returning ends it well.

        Raises:
            NotImplementedError: The component has no `run` of its own.
        """
        raise NotImplementedError(f"{type(self).__name__} has no run()")

    def configure_logging(self) -> Mapping[str, Any] | None:
        """Return what `logging.config.dictConfig` is to be given; None leaves logging as it is.

        By default that is `LOGGING` of the first configuration that has it.
        """
        found: Mapping[str, Any] | None = self._of_confs("LOGGING")
        return found

    def initialize(self) -> None:
        """Make the files that it needs once per installation: by default those of Django."""
        if self._django() is not None:
            self.initialize_django_files()

    def ready(self) -> None:
        """Say that it is ready; for a `run` with `tells_ready`."""
        notify.ready()

    def register_child_for_cleanup(self, child: Any) -> None:
        """Have a child process ended when the component's process ends.

        Args:
            child: A `subprocess.Popen`, a `multiprocessing.Process` or a process pool.

        Raises:
            TypeError: It is none of them.
        """
        exits.register_child(child)

    # ------------------------------------------------------------- the steps

    def step(self, name: str, work: Callable[[], object]) -> bool:
        """Do a step unless it is done; tell whether it was done now. A failed one is not done."""
        with self._lock:
            if name in self._done:
                return False
            work()
            self._done.add(name)
            return True

    def is_done(self, name: str) -> bool:
        """Tell whether a step is done: settings, configure, build, setup or initialize."""
        return name in self._done

    def standard_configure(self, base_dir: str | Path, build: bool = True) -> None:
        """Give every configuration variable its standard value, and build.

        Args:
            base_dir: The directory with data, logging, static and conf.
            build: Whether to write the files too.
        """
        base = Path(base_dir).absolute()

        def configure() -> None:
            for conf in self.confs:
                conf.standard_configure(base, self.service_name, self.name)
            self._base_dir = base

        self.step("configure", configure)
        if build:
            self.build(base)

    def build(self, base_dir: str | Path | None = None) -> Path:
        """Write the configuration files, and what `orch run DIR` needs; return their directory.

        Raises:
            ComponentError: It is not configured, or in no module that can be imported.
        """
        from orchestrator.component import starting  # noqa: PLC0415 - who is built elsewhere needs none of it

        if self.is_done("build") and self.conf_dir_path is not None:
            return self.conf_dir_path
        if base_dir is None and self._base_dir is None:
            raise ComponentError(f"cannot build {self.full_name}: give a base directory")
        base = Path(base_dir).absolute() if base_dir is not None else self._base_dir
        assert base is not None
        self.standard_configure(base, build=False)

        def build() -> None:
            self.conf_dir_path = starting.write(self, base)

        self.step("build", build)
        assert self.conf_dir_path is not None
        return self.conf_dir_path

    def setup(self) -> None:
        """Set up logging, then Django where it is configured.

        Raises:
            SetupError: One of them cannot be set up as it is configured; names it.
        """
        self.step("setup", self._setup)

    def initialize_once(self) -> bool:
        """Set up, and initialize unless that is done; tell whether it was done now."""
        self.setup()
        return self.step("initialize", self.initialize)

    def initialize_django_files(self, with_db: bool = True, with_static: bool = True) -> None:
        """Migrate Django's databases and collect its static files, where it has them.

        Raises:
            SetupError: It has no Django, or that failed.
        """
        from orchestrator.component import djangos  # noqa: PLC0415 - few have Django

        self.setup()
        if self._django() is None:
            raise SetupError(
                f"cannot make Django's files: {self.full_name} configures no Django; give it "
                "django_d, or a CONF with the field DJANGO"
            )
        if with_db:
            djangos.migrate()
        if with_static:
            djangos.collect_static()

    def start(self) -> object:
        """Set up and run, in this process; return what `run` returns. Signals are the caller's.

        Raises:
            ComponentError: It runs already.
        """
        self.setup()
        with self._lock:
            if self._runs:
                raise ComponentError(f"cannot start {self.full_name}: it runs already")
            self._runs = True
        try:
            result = self.run()
            if inspect.iscoroutine(result):
                import asyncio  # noqa: PLC0415 - only those that await pay for it

                return asyncio.run(result)
            return result
        finally:
            self._runs = False

    def start_in_process(self, base_dir: str | Path | None = None) -> Started:
        """Build, and start in a process of its own, which handles exit signals.

        Returns:
            The process, to wait for or to end.

        Raises:
            ComponentError: It cannot be built or started.
        """
        from orchestrator.component import starting  # noqa: PLC0415 - see build

        return starting.start(self.build(base_dir), self.full_name)

    def start_in_subprocess(self, base_dir: str | Path | None = None) -> int:
        """Start in a process of its own, and wait for its end; return the exit code.

        Raises:
            ComponentError: It cannot be built or started, or it failed. An exception of the
                component is raised again as its own class, if that can be made from a text.
        """
        return self.start_in_process(base_dir).wait()

    # ------------------------------------------------------------- small parts

    def _setup(self) -> None:
        given = self.configure_logging()
        if given is not None:
            try:
                logging.config.dictConfig({"disable_existing_loggers": False, **given})
            except (ValueError, TypeError, AttributeError, ImportError, OSError) as error:
                cause = error.__cause__ or error
                raise SetupError(
                    f"cannot set up logging of {self.full_name}: {error}"
                    + (f": {cause}" if cause is not error else "")
                ) from error
        django = self._django()
        if django is not None:
            from orchestrator.component import djangos  # noqa: PLC0415 - few have Django

            djangos.setup(django if isinstance(django, str) else copy.deepcopy(dict(django)))

    def _django(self) -> Mapping[str, Any] | str | None:
        return self.django_d if self.django_d is not None else self._of_confs("DJANGO")

    def _of_confs(self, field: str) -> Any:
        for conf in self.confs:
            if (value := getattr(conf, field, None)) is not None:
                return value
        return None


def configuration_of(conf: Any, owner: str) -> Configuration:
    """Return a configuration object, also of its manager; `owner` has it.

    Raises:
        SetupError: It is neither.
    """
    found = conf.to_conf() if hasattr(conf, "to_conf") else conf
    if not isinstance(found, Configuration):
        raise SetupError(
            f"the configuration of {owner} is a {type(found).__name__}; "
            "it must be a ConfigurationManager, or what its to_conf() returns"
        )
    return found


def home_of(component: Component) -> str:
    """Return the package, or the module, that a component can be loaded from.

    Raises:
        ComponentError: No module that can be imported has it.
    """
    found = [
        name
        for name, module in sys.modules.copy().items()
        if name not in ("__main__", "__mp_main__")
        and getattr(module, "__dict__", {}).get(component.load_name) is component
    ]
    # The package may expose it too: what its marker has is meant.
    found.sort(key=lambda name: name.rpartition(".")[2] not in MARKERS)
    if not found:
        raise ComponentError(
            f"cannot start {component.full_name} in a process of its own: no module that can be "
            f"imported has it as {component.load_name}"
        )
    package, _, last = found[0].rpartition(".")
    return package if package and last in MARKERS else found[0]


def as_component(value: Any, service: str, name: str, what: str = "COMPONENT") -> Component:
    """Return the component that a package gives.

    It may be a `Component`; a class of such; any object or class with a method `run`; or a
    function, which is then called as `run`, with the configuration if it takes an argument.

    Args:
        value: What stands under COMPONENT, or Mock.
        service: The service's name in the topology.
        name: The component's name there.
        what: How errors name it.

    Raises:
        SetupError: It is none of these.
    """
    if mistake := mistake_in(value, what):
        raise SetupError(mistake)
    if isinstance(value, type):
        given = (service, name) if issubclass(value, Component) else ()
        try:
            value = value(*given)
        except TypeError as error:
            raise SetupError(f"{what}: cannot make a {value.__name__}: {error}") from error
    if isinstance(value, Component):
        value.change_name(name, service)
        return value
    run = getattr(value, "run", None)
    return _Called(service, name, run if callable(run) else value)


def mistake_in(value: Any, what: str = "COMPONENT") -> str:
    """Return why something cannot be a component, without making one; empty when it can."""
    has_run = callable(getattr(value, "run", None))
    if isinstance(value, Component) or (isinstance(value, type) and issubclass(value, Component)):
        kind = value if isinstance(value, type) else type(value)
        return (
            f"{what} is a {kind.__name__}, which has no run()" if kind.run is Component.run else ""
        )
    if isinstance(value, type):
        return "" if has_run else f"{what} is the class {value.__name__}, which has no run()"
    if has_run or callable(value):
        return ""
    return (
        f"{what} is {_shown(value)}; it must be a Component, something with a method run(), or a "
        "function"
    )


class _Called(Component):
    """A component whose `run` is somebody's function."""

    def __init__(self, service: str, name: str, function: Callable[..., object]) -> None:
        super().__init__(service, name)
        self._function = function

    def run(self) -> object:
        """Call the function; with the configuration, when it takes something."""
        if _takes_one(self._function):
            return self._function(self.confs[0] if self.confs else {})
        return self._function()


def _takes_one(function: Callable[..., object]) -> bool:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return any(
        one.kind in positional and one.default is inspect.Parameter.empty for one in parameters
    )


def _shown(value: Any) -> str:
    text = "None" if value is None else f"{value!r} ({type(value).__name__})"
    return text if len(text) < 80 else f"a {type(value).__name__}"
