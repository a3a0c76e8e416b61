"""Words of runs: their states and results, and the attributes of their templates."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any

from orchestrator.model import names
from orchestrator.model.units import Seconds


class RunState(enum.StrEnum):
    """Where a run is."""

    QUEUED = "queued"
    BUILDING = "building"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_over(self) -> bool:
        """Whether nothing more happens to it."""
        return self in _OVER


_OVER = frozenset({RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED})


class RunCondition(enum.StrEnum):
    """How a run that another waits for must have ended; `completed`: in whatever way."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    COMPLETED = "completed"


class RunResult(enum.StrEnum):
    """Why the last try of a run ended: a closed set that users script against.

    `hook`: a hook failed before the program was started. `requested`: somebody cancelled it, or
    stopped the system. `lost`: nobody can tell, the machine or the worker died.
    """

    SUCCESS = "success"
    EXIT_CODE = "exit-code"
    SIGNAL = "signal"
    CORE_DUMP = "core-dump"
    OOM_KILL = "oom-kill"
    TIMEOUT = "timeout"
    SPAWN_ERROR = "spawn-error"
    DEPENDENCY = "dependency"
    REQUESTED = "requested"
    HOOK = "hook"
    LOST = "lost"


SERVICE_PLACE, HANDLER_PLACE = "services/{}.py", "handlers/{}_handler.py"
"""Where the hooks of a job are that names none, by its name or that of its program."""

ALIASES: Mapping[str, str] = {
    "work_path": "g_work_path",
    "input_file": "g_input_file",
    "output_file": "g_output_file",
    "service_path": "g_service_path",
    "service_id": "g_service_id",
    "service_name": "s_service_name",
    "user_id": "s_user_id",
    "args": "s_service_args",
    "watcher_enabled": "o_watcher_enabled",
    "watcher_interval": "o_watcher_interval",
    "o_watcher_interal": "o_watcher_interval",
}
"""Short names of attributes, and a spelling that old files have."""

_PATHS = ("g_work_path", "g_input_file", "g_output_file", "g_service_path")


def attribute(word: str) -> str:
    """Return the name of an attribute as hooks know it."""
    return ALIASES.get(word, word)


def checked(name: str, value: Any) -> Any:
    """Return the value of an attribute, arguments as texts.

    Raises:
        ValueError: It is not of the type that the attribute takes.
    """
    if name in _PATHS and not isinstance(value, str):
        raise ValueError(f"{name} must be text, not {_kind(value)}")
    if name == "s_service_args":
        return arguments(value)
    if name == "g_service_id" and value is not None:
        if not isinstance(value, str) or not names.RUN_ID.fullmatch(value):
            raise ValueError(
                f"{value!r} cannot be the id of a run: use at most 64 lower-case letters, "
                "digits and inner hyphens"
            )
    elif name == "o_watcher_enabled" and not isinstance(value, bool):
        raise ValueError(f"{name} must be true or false, not {_kind(value)}")
    elif name == "o_watcher_interval":
        return _interval(value)
    return value


def arguments(value: Any) -> dict[str, str]:
    """Return the words of a program by their names.

    Raises:
        ValueError: Not a map of texts, numbers and booleans.
    """
    if not isinstance(value, Mapping):
        raise ValueError(f"s_service_args must map names to values, not {_kind(value)}")  # noqa: TRY004
    made: dict[str, str] = {}
    for name, item in value.items():
        if not isinstance(name, str) or not name or "=" in name or "\0" in name:
            raise ValueError(f"{name!r} cannot name an argument")
        if isinstance(item, bool):
            made[name] = "true" if item else "false"
        elif isinstance(item, str | int | float):
            made[name] = str(item)
        else:
            raise ValueError(  # noqa: TRY004 - a value, to whoever gave it
                f"the argument {name!r} must be text or a number, not {_kind(item)}"
            )
        if "\0" in made[name]:
            raise ValueError(f"the argument {name!r} cannot hold a NUL")
    return made


def _interval(value: Any) -> Seconds:
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        raise ValueError(f"o_watcher_interval must be a number of seconds, not {_kind(value)}")
    return float(value)


def _kind(value: Any) -> str:
    match value:
        case None:
            return "nothing"
        case Mapping():
            return "a map"
        case list() | tuple():
            return "a list"
        case _:
            return repr(value)
