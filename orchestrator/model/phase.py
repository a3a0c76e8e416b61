"""Where an instance is in its life, what a process is, and why one ended."""

from __future__ import annotations

import enum

from msgspec import Struct


class Phase(enum.StrEnum):
    """Where an instance is in its life (semantics: phases and results)."""

    DISABLED = "disabled"
    WAITING = "waiting"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    BACKOFF = "backoff"
    EXITED = "exited"
    STOPPED = "stopped"
    FAILED = "failed"

    @property
    def is_terminal(self) -> bool:
        """Whether nothing more happens by itself."""
        return self in _TERMINAL


_TERMINAL = frozenset({Phase.DISABLED, Phase.EXITED, Phase.STOPPED, Phase.FAILED})


class Result(enum.StrEnum):
    """Why it ended: a closed set that users script against."""

    SUCCESS = "success"
    EXIT_CODE = "exit-code"
    SIGNAL = "signal"
    CORE_DUMP = "core-dump"
    TIMEOUT_START = "timeout-start"
    TIMEOUT_STOP = "timeout-stop"
    WATCHDOG = "watchdog"
    LIVENESS = "liveness"
    OOM_KILL = "oom-kill"
    SPAWN_ERROR = "spawn-error"
    START_LIMIT = "start-limit"
    DEPENDENCY = "dependency"
    REQUESTED = "requested"


class Exit(Struct, frozen=True):
    """How a process ended: by `code`, or by `signal` (then `code` is None).

    Both are None when nobody could tell: the process was adopted and its parent died too.
    `oom`: the kernel ended it, or what it waited for, because its memory was used up.
    """

    code: int | None = None
    signal: int | None = None
    core_dumped: bool = False
    oom: bool = False

    def __str__(self) -> str:
        if self.code is not None:
            return f"exit {self.code}" + (" (out of memory)" if self.oom else "")
        if self.signal is not None:
            core = " (core dumped)" if self.core_dumped else ""
            return f"signal {self.signal}{core}" + (" (out of memory)" if self.oom else "")
        return "exit unknown"


class Process(Struct, frozen=True):
    """A living process: the pid alone is no identity, it is reused; pid and start time are.

    `started` is field 22 of /proc/PID/stat, in clock ticks since boot (proc(5)).
    """

    pid: int
    started: int
