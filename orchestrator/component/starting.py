"""Starting a component in a process of its own, without a daemon.

The component is built into a directory, as `orch build` does it, and an interpreter runs that.
What ends it comes back: an error is raised again here, as its own class where that can be.
"""

from __future__ import annotations

import builtins
import json
import os
import sys
from pathlib import Path
from typing import Any

from orchestrator import process
from orchestrator.component import confobjects, packages, workflow
from orchestrator.component.errors import ComponentError
from orchestrator.component.workflow import Component

DIRECTORIES = ("data", "logging", "static", "conf")
_MODE = 0o750
_FORMAT = 1
_INFO = "__info__.json"
_EMPTY = ("config.json", "addresses.json")
"""What `orch run` reads and a component that was configured here needs nothing of."""


class ComponentFailed(ComponentError):
    """A component in a process of its own failed; the message has its traceback."""


class Started:
    """A component in a process of its own.

    Args:
        child: The process.
        name: The component's name.
        errors: The descriptor on which it tells what ended it.
    """

    def __init__(self, child: process.Begun, name: str, errors: int) -> None:
        self._child = child
        self._name = name
        self._errors: int | None = errors

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._child.pid

    def is_alive(self) -> bool:
        """Tell whether the process lives."""
        return self._child.poll() is None

    def terminate(self) -> None:
        """Ask the component to end, as SIGTERM does."""
        self._child.terminate()

    def kill(self) -> None:
        """End the process at once."""
        self._child.kill()

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end, and return the exit code; negative for a signal.

        Args:
            timeout: How long, in seconds; None: as long as it takes.

        Raises:
            TimeoutError: It did not end within the time.
            ComponentFailed: It failed. An exception of a class that is known here, and can be
                made from a text, is raised as that instead.
        """
        code = process.ended(self._child, timeout)
        if code is None:
            raise TimeoutError(f"{self._name} did not end within {timeout:g} s")
        told = self._told()
        if told:
            raise _again(self._name, told)
        return code

    join = wait

    def _told(self) -> dict[str, Any]:
        if self._errors is None:
            return {}
        # What it forked may hold the other end for longer than it lived.
        os.set_blocking(self._errors, False)
        with os.fdopen(self._errors, "rb") as errors:
            self._errors = None
            try:
                told = json.loads(errors.read() or b"{}")
            except ValueError:  # It was killed while it told.
                return {}
        return told if isinstance(told, dict) else {}


def start(directory: Path, name: str) -> Started:
    """Start the built component in `directory`; it shares our output.

    Raises:
        SpawnError: It cannot be started.
    """
    reading, writing = os.pipe()
    try:
        child = process.beside(
            (sys.executable, "-m", "orchestrator.component", str(directory)),
            environment={**os.environ, packages.ERRORS: str(writing)},
            passed=(writing,),
        )
    except BaseException:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    return Started(child, name, reading)


def write(component: Component, base_dir: Path) -> Path:
    """Write the directories and files of a component; return its configuration directory.

    Files of an earlier build that are not written again are removed.

    Raises:
        ComponentError: Something cannot be written, or no module has the component.
    """
    home = workflow.home_of(component)
    service, name = component.service_name, component.name
    place = base_dir / "conf" / f"{service}-{name}"
    info = {
        "format": _FORMAT,
        "name": component.full_name,
        "service": service,
        "component": name,
        "package": home if component.load_name == "COMPONENT" else f"{home}:{component.load_name}",
        "python_path": _python_path(),
    }
    try:
        for directory in (*(base_dir / one for one in DIRECTORIES), place):
            directory.mkdir(mode=_MODE, parents=True, exist_ok=True)
        kept = {Path(conf.build(base_dir, service, name)).name for conf in component.confs}
        for path, value in ((place / _INFO, info), *((place / one, {}) for one in _EMPTY)):
            text = json.dumps(value, indent=2, sort_keys=True) + "\n"
            confobjects.write_text(path, text)
            kept.add(path.name)
        for path in place.iterdir():
            if path.is_file() and path.name not in kept:
                path.unlink()
    except OSError as error:
        raise ComponentError(
            f"cannot build {component.full_name} in {base_dir}: {error.filename}: {error.strerror}"
        ) from error
    return place


def _python_path() -> list[str]:
    """Return where modules are found here that another interpreter does not know of."""
    prefixes = (sys.prefix, sys.base_prefix, str(Path(__file__).parents[2]))
    entries = (str(Path(entry).absolute()) for entry in sys.path if Path(entry or ".").is_dir())
    return [one for one in dict.fromkeys(entries) if not one.startswith(prefixes)]


def _again(name: str, told: dict[str, Any]) -> BaseException:
    """Return the error of a component as one of here."""
    text = f"Error caught in component '{name}':\n{told.get('text', '')}"
    module, _, qualified = str(told.get("type", "")).partition(":")
    # Only a class that is loaded here: nothing is imported because a child says so.
    kind: Any = builtins if module == "builtins" else sys.modules.get(module)
    for part in qualified.split("."):
        kind = getattr(kind, part, None)
    if isinstance(kind, type) and issubclass(kind, Exception):
        try:
            made = kind(text)
        except Exception:  # noqa: BLE001 - a class with arguments of its own
            return ComponentFailed(text)
        if str(made) == text or made.args == (text,):
            return made
    return ComponentFailed(text)
