"""Calling what users wrote, whatever it does: raise, exit, hang, print, or not be there at all.

A hook that raises is a fact about the run, told with file and line; it never ends the worker.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import logging
import os
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from orchestrator.component import streams
from orchestrator.component.errors import SetupError

logger = logging.getLogger(__name__)

KEPT = 20
"""How many different failures of hooks are kept."""

_OURS = f"{Path(__file__).parent.parent.parent}{os.sep}"
_LIBRARY = f"{Path(os.__file__).parent}{os.sep}"


class Interrupted(BaseException):
    """The run is to stop: whatever hook is in hand ends here."""


class Calls:
    """Calls hooks, and remembers what each took and what failed."""

    def __init__(self, entered: Callable[[str | None], object]) -> None:
        self.errors: list[dict[str, Any]] = []
        """What failed: hook, type, message, where, traceback, and how often."""
        self.seconds: dict[str, float] = {}
        """By hook: for how many seconds it ran, all calls together."""
        self.in_hand: str | None = None
        """The hook that runs now."""
        self._entered = entered

    def call(self, name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a hook and return what it returns.

        Raises:
            HookFailed: It has raised; that is remembered.
            Interrupted: The run is to stop.
        """
        with self.guarded(name):
            returned = function(*fitting(function, arguments))
            if inspect.iscoroutine(returned):
                # Imported by those who await something.
                return importlib.import_module("asyncio").run(returned)
            return returned

    @contextlib.contextmanager
    def guarded(self, name: str) -> Iterator[None]:
        """Run a piece of user code under a hook's name; see `call`."""
        began = time.monotonic()
        self._entered(name)
        self.in_hand = name
        try:
            yield
        except (Interrupted, HookFailed):
            raise
        except BaseException as error:  # user code, `sys.exit` and all
            self.in_hand = None
            raise HookFailed(self.remember(name, error)) from error
        finally:
            self.in_hand = None
            took = time.monotonic() - began
            self.seconds[name] = round(self.seconds.get(name, 0.0) + took, 3)
            self._entered(None)

    def remember(self, name: str, error: BaseException) -> dict[str, Any]:
        """Note a failure; one that is known already is counted."""
        place, message = where(error), said(error)
        if not place and isinstance(error, SetupError):
            # Ours: it may be about a place in what a user wrote, and then says so itself.
            told = streams.error(error)
            place = f"{told['file']}:{told['line']}" if told["file"] else ""
            message = told["message"]
        found = {
            "hook": name,
            "type": type(error).__name__,
            "message": message,
            "where": place,
            "traceback": "".join(traceback.format_exception(error)),
            "count": 1,
        }
        for known in self.errors:
            if all(known[key] == found[key] for key in ("hook", "type", "where")):
                known["count"] += 1
                return known
        if isinstance(error, SetupError):  # Our own words are enough.
            logger.error("%s failed: %s", name, error)
        else:
            logger.error("%s failed\n%s", name, found["traceback"])
        if len(self.errors) < KEPT:
            self.errors.append(found)
        return found


def fitting(function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return as many of the arguments, from the first, as a function takes."""
    try:
        asked = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return arguments
    if any(one.kind is one.VAR_POSITIONAL for one in asked):
        return arguments
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return arguments[: sum(one.kind in kinds for one in asked)]


class HookFailed(Exception):
    """A hook has raised. `error` is what is remembered of it."""

    def __init__(self, error: dict[str, Any]) -> None:
        kind = "" if error["type"] == SetupError.__name__ else f"{error['type']}: "
        place = f" ({error['where']})" if error["where"] else ""
        super().__init__(f"{error['hook']}: {kind}{error['message']}{place}")
        self.error = error


def said(error: BaseException) -> str:
    """Return what an error says; `sys.exit` says little by itself."""
    if isinstance(error, SystemExit):
        return f"it called sys.exit({error.code!r})"
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - its __str__ is user code
        return "(its message cannot be shown)"


def where(error: BaseException) -> str:
    """Return `file:line` of the user's innermost frame, of a syntax error its own place.

    That of an installed library when no other code of a user's was run, empty when none was.
    """
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return f"{error.filename}:{error.lineno}"
    found = library = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        file = frame.f_code.co_filename
        if "/site-packages/" in file:
            library = f"{file}:{line}"
        elif not file.startswith((_OURS, _LIBRARY, "<")):
            found = f"{file}:{line}"
    return found or library
