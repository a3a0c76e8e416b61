"""What may happen to an instance."""

from __future__ import annotations

from msgspec import Struct

from orchestrator.model.phase import Exit, Process, Result
from orchestrator.model.units import Instant, Seconds


class Start(Struct, frozen=True):
    """It shall run: from being down or in backoff, begin anew."""


class Go(Struct, frozen=True):
    """Its dependencies allow the start, and there is room for one."""


class DependencyFailed(Struct, frozen=True):
    """A dependency can no longer become what it is waited for."""

    message: str


class Stop(Struct, frozen=True):
    """It shall not run, or shall run anew."""


class GiveUp(Struct, frozen=True):
    """Its group has given up: it shall not run, and that is a failure."""

    message: str


class KillNow(Struct, frozen=True):
    """Whatever the ladder says: kill the whole tree now."""


class Spawned(Struct, frozen=True):
    """The process that was asked for lives."""

    process: Process


class SpawnFailed(Struct, frozen=True):
    """The process could not be started; `transient` errors are tried again."""

    message: str
    transient: bool = False
    chance: float = 0.5


class Adopted(Struct, frozen=True):
    """A process of an earlier daemon was found alive; `ready` as the journal knew it."""

    process: Process
    ready: bool
    spawned_at: Instant


class BecameReady(Struct, frozen=True):
    """Its readiness was seen."""


class LostReadiness(Struct, frozen=True):
    """Its readiness probe fails; that never restarts."""


class Unhealthy(Struct, frozen=True):
    """It must be restarted although it lives: liveness, watchdog."""

    result: Result
    message: str


class StopGoesOn(Struct, frozen=True):
    """The stop of what was adopted was begun by an earlier daemon; its rung lasts `left` more.

    `rung`, `result` and `exit` are those of `Stopping`; `ended`: its first process is gone.
    `lived`: how long it was well.
    """

    rung: int
    left: Seconds
    result: Result
    ended: bool = False
    exit: Exit | None = None
    lived: Seconds = 0.0


class Exited(Struct, frozen=True):
    """The first process ended. `alone`: nothing of its tree is left."""

    exit: Exit
    alone: bool = True
    chance: float = 0.5


class Emptied(Struct, frozen=True):
    """Nothing of the tree is left."""


class StopCommandDone(Struct, frozen=True):
    """The stop command ended, well or not."""


class Fired(Struct, frozen=True):
    """A timer has run out."""

    timer: int
    chance: float = 0.5


class Reset(Struct, frozen=True):
    """Forget the failures; what has given up may be started again."""


Event = (
    Start
    | Go
    | DependencyFailed
    | Stop
    | GiveUp
    | KillNow
    | Spawned
    | SpawnFailed
    | Adopted
    | BecameReady
    | LostReadiness
    | Unhealthy
    | StopGoesOn
    | Exited
    | Emptied
    | StopCommandDone
    | Fired
    | Reset
)
