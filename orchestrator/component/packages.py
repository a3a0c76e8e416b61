"""A component that is a Python package: found, loaded, and run in this process.

    shop/api/__init__.py         exposes CONF, CONFIGURATION, Client and Mock, and nothing else
    shop/api/__component__.py    holds COMPONENT (`component.py` does too)

Importing them has no effects. COMPONENT may be a `Component`, a class of such, any object or
class with a method `run`, or a function.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import logging
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from orchestrator.component import (
    compatibility,
    configuration,
    configuring,
    confobjects,
    control,
    exits,
    loader,
    notify,
    settings,
    telling,
    workflow,
)
from orchestrator.component.control import Call
from orchestrator.component.errors import SetupError
from orchestrator.component.fields import CATEGORIES
from orchestrator.component.instance import Instance
from orchestrator.component.workflow import MARKERS, Component
from orchestrator.errors import ExitCode

logger = logging.getLogger(__name__)

EXPOSED = ("CONF", "CONFIGURATION", "Client", "Mock")
"""All that a component package exposes."""

_LONGEST = 8000

ERRORS = "ORCH_ERRORS"
"""The environment variable with the descriptor that a starter reads the last error from."""


@dataclass(frozen=True, slots=True)
class Package:
    """A component's package, imported.

    `marker` is the module that holds COMPONENT; for a component of one file also `module`.
    `wanted` is what runs: COMPONENT, or Mock.
    """

    name: str
    module: ModuleType
    marker: ModuleType
    wanted: str

    def exposed(self, name: str) -> Any:
        """Return what it exposes under a name; None when it does not."""
        for module in (self.module, self.marker):
            if name in vars(module):
                return vars(module)[name]
        return None

    @property
    def value(self) -> Any:
        """What runs, as it was written; None when there is none."""
        if self.wanted == "COMPONENT":
            return vars(self.marker).get("COMPONENT")
        return self.exposed(self.wanted)

    @property
    def declared(self) -> str | None:
        """The name that COMPONENT has in its own code, `service.component`."""
        value = vars(self.marker).get("COMPONENT")
        return value.full_name if isinstance(value, Component) else None

    @property
    def confs(self) -> tuple[Any, ...]:
        """The configuration objects that it exposes."""
        conf = self.exposed("CONF")
        if conf is None:
            conf = self.exposed("CONFIGURATION")
        return () if conf is None else (conf,)

    def component(self, service: str, name: str) -> Component:
        """Return what runs, under the name of the topology, with its configuration.

        Raises:
            SetupError: There is none, or it cannot run.
        """
        if mistake := self.mistake():
            raise SetupError(mistake)
        made = workflow.as_component(self.value, service, name, self.wanted)
        for conf in self.confs:
            made.add_conf(conf)
        return made

    def mistake(self) -> str:
        """Return why it cannot run, with the file; empty when it can."""
        file = self.marker.__file__
        if self.value is None:
            return f"{file}:1: it has no {self.wanted}"
        mistake = workflow.mistake_in(self.value, self.wanted)
        return f"{file}:{self._line()}: {mistake}" if mistake else ""

    def _line(self) -> int:
        """Return the line on which what runs is named first."""
        file = self.marker.__file__
        source = loader.compiled_source(file) or b""
        named = re.search(
            rb"^(?:(?:async )?def |class )?%b\b" % self.wanted.encode(), source, re.MULTILINE
        )
        return source.count(b"\n", 0, named.start()) + 1 if named else 1


def load(word: str, python_path: Sequence[str] = ()) -> Package:
    """Import a component's package.

    Args:
        word: Its dotted name; with `:Mock` behind it, what is to run instead of COMPONENT.
        python_path: Where it lies, before all other places.

    Raises:
        SetupError: It is not there, or its import failed; names file and line where it can.
    """
    name, _, wanted = word.partition(":")
    roots = [Path(entry) for entry in python_path]
    compatibility.install()
    for entry in reversed(python_path):
        if entry not in sys.path:
            sys.path.insert(0, entry)
    for root in roots:
        loader.take_over(root)
    importlib.invalidate_caches()
    with loader.failures(roots[0] if roots else None, name, "package"):
        if not _is_there(name):
            raise SetupError(f"cannot load the package {name}: there is no such module")
        module = importlib.import_module(name)
        marker = _marker(name) if hasattr(module, "__path__") else name
        if marker is None:
            file = module.__file__ or next(iter(module.__path__))
            markers = " nor ".join(f"{one}.py" for one in MARKERS)
            raise SetupError(f"{file}:1: the package {name} has neither {markers}")
        return Package(name, module, importlib.import_module(marker), wanted or "COMPONENT")


def _marker(name: str) -> str | None:
    """Return the name of the module that holds COMPONENT."""
    found = (f"{name}.{one}" for one in MARKERS)
    return next((one for one in found if importlib.util.find_spec(one) is not None), None)


def _is_there(name: str) -> bool:
    """Tell whether there is a module of a name; the packages around it are imported."""
    parent = name.rpartition(".")[0]
    if parent and not (_is_there(parent) and hasattr(importlib.import_module(parent), "__path__")):
        return False
    return importlib.util.find_spec(name) is not None


# ------------------------------------------------------------------ running


def run(described: Instance) -> int:
    """Run the component of a package in this process, which was made for it.

    Returns:
        The exit code.

    Raises:
        SetupError: It cannot start.
    """
    described.enter()
    link = control.open_link()
    component = prepared(described)
    exits.manage()
    try:
        component.setup()
        if link is not None:
            _offer(link, described.python_path)
            if described.directory is not None:
                on_settings = getattr(component, "on_settings", _nothing)
                telling.offer(link, described.directory, on_settings)
            link.serve_in_thread()
        if not component.tells_ready:
            notify.ready()
        component.start()
    except SetupError:
        raise
    except Exception as error:  # noqa: BLE001 - run() is user code; it is told, logged and kept
        _tell(component, error)
        return ExitCode.FAILED
    finally:
        exits.end_children()
        if link is not None:
            link.close()
    return ExitCode.DONE


def prepared(described: Instance) -> Component:
    """Return the component of a built instance, configured.

    Raises:
        SetupError: It cannot be loaded, or its configuration does not fit.
    """
    assert described.directory is not None, "internal error: a package is run from what was built"
    service, _, name = described.name.partition("@")[0].partition(".")
    # As its directory is named: the first one has no suffix, so that scaling moves no file.
    name = f"{name or service}@{described.number}" if described.number > 1 else name or service
    settings.provide(settings.read(described.directory, os.environ))
    if described.surroundings.contexts or described.surroundings.services:
        # Few systems have them; its own code makes of them what it wants.
        importlib.import_module("orchestrator.component.surroundings").declare(described)
    package = load(described.handler, described.python_path)
    component = package.component(service, name)
    component.conf_dir_path = described.directory
    component.step("settings", lambda: None)
    component.step("configure", lambda: _configure(component, described))
    component.step("build", lambda: None)  # What we were told is a build.
    return component


def _configure(component: Component, described: Instance) -> None:
    assert described.directory is not None
    mistakes: list[str] = []
    values = configuration.replaced(described.config, os.environ, mistakes)
    if mistakes:
        raise SetupError([f"configuration: {mistake}" for mistake in mistakes])
    base = described.data.parent.parent
    for category in CATEGORIES:
        confobjects.make_dir(base / category)
    configuring.configure(
        component.confs,
        described.directory,
        base_dir=base,
        service=component.service_name,
        component=component.name,
        values=values,
    )


def _tell(component: Component, error: BaseException) -> None:
    """Say what ended the component: in the log, in its status, and to who started it."""
    error = loader.cause(error)
    text = loader.traceback_text(error)
    place = " ".join(loader.place(error).split())
    notify.send(f"X_ORCH_ERROR=Error caught in component {component.full_name}: {place}")
    descriptor = os.environ.get(ERRORS, "")
    if not descriptor.isdecimal():
        logger.critical("Error caught in component '%s':\n%s", component.full_name, text)
    else:
        kind = type(error)
        # A pipe holds 64 KiB: whoever reads it waits for our end first.
        told = {"type": f"{kind.__module__}:{kind.__qualname__}", "text": text[-_LONGEST:]}
        with os.fdopen(int(descriptor), "w", encoding="utf-8") as errors:
            json.dump(told, errors)


def _nothing(values: Mapping[str, Any]) -> None:
    """Have no hook for changed settings: the configuration objects have them."""
    del values


def _offer(link: control.Link, python_path: Iterable[str]) -> None:
    """Answer, on the control link, whether the code as it is now could be started."""
    roots = tuple(f"{Path(entry).resolve()}/" for entry in python_path)
    state: dict[str, Any] = {"generation": 1, "error": ""}

    def reload(call: Call) -> Mapping[str, Any]:
        changed = call.params.get("changed")
        if changed is not None and not any(map(_is_other, changed)):
            return {**state, "outcome": "unchanged", "message": ""}
        try:
            _check(roots)
        except SetupError as error:
            state["error"] = str(error)
            logger.error("The reload failed, the old code goes on: %s", error)  # noqa: TRY400
            return {**state, "outcome": "failed", "message": str(error)}
        state["error"] = ""
        return {**state, "outcome": "restart", "message": "a package needs a new process"}

    link.methods.update({"reload": reload, "code": lambda _: {**state, "outcome": ""}})


def _is_other(path: str) -> bool:
    """Tell whether a changed file holds something else than what was loaded from it."""
    known = loader.compiled_source(os.path.realpath(path)) or loader.compiled_source(path)
    try:
        return known is None or Path(path).read_bytes() != known
    except OSError:
        return True


def _check(roots: tuple[str, ...]) -> None:
    """Compile what was loaded from below `roots` as it is now.

    Raises:
        SetupError: A file cannot be compiled; names file and line.
    """
    files = {
        str(getattr(module, "__file__", None) or "") for module in sys.modules.copy().values()
    }
    for file in sorted(files):
        if file.endswith(".py") and file.startswith(roots) and "/site-packages/" not in file:
            with loader.failures(None, file, "package"):
                compile(Path(file).read_bytes(), file, "exec", dont_inherit=True)
