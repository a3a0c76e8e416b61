"""The states of an instance, and the instance itself."""

from __future__ import annotations

from typing import ClassVar

from msgspec import Struct

from orchestrator.model.phase import Exit, Phase, Process, Result
from orchestrator.model.topology import Component
from orchestrator.model.units import Instant, Seconds


class Down(Struct, frozen=True):
    """No process, and nothing happens by itself."""

    process: ClassVar = None
    phase: Phase = Phase.STOPPED


class Waiting(Struct, frozen=True):
    """To be started as soon as its dependencies allow."""

    phase: ClassVar = Phase.WAITING
    process: ClassVar = None


class Spawning(Struct, frozen=True):
    """A process has been asked for.

    `unwanted`: it is to be stopped as soon as it is there; `kill`: without a ladder.
    """

    phase: ClassVar = Phase.STARTING
    process: ClassVar = None
    unwanted: bool = False
    kill: bool = False


class Starting(Struct, frozen=True):
    """The process lives and is not ready yet."""

    phase: ClassVar = Phase.STARTING
    process: Process
    deadline: int
    settle: int


class Running(Struct, frozen=True):
    """The process lives and has been ready."""

    phase: ClassVar = Phase.RUNNING
    process: Process
    ready: bool = True


class Stopping(Struct, frozen=True):
    """The tree is being brought down.

    `leader` is None once the first process has ended; `rung` counts the ladder's steps taken,
    -1 while the stop command runs or what hangs has been told to abort. `result` says why it
    is being stopped; only `requested` (`timeout-stop` once the ladder has run out) ends in
    `stopped`, all else is a failure that the restart policy judges.
    """

    phase: ClassVar = Phase.STOPPING
    leader: Process | None
    rung: int
    timer: int
    result: Result
    exit: Exit | None = None
    killed: bool = False

    @property
    def process(self) -> Process | None:
        """The first process, while it lives."""
        return self.leader

    @property
    def is_requested(self) -> bool:
        """Whether somebody wants it down, whatever it was stopped for at first."""
        return self.result in (Result.REQUESTED, Result.TIMEOUT_STOP)


class Clearing(Struct, frozen=True):
    """The leader ended by itself; what it left behind is being killed."""

    phase: ClassVar = Phase.STOPPING
    process: ClassVar = None
    exit: Exit
    timer: int
    chance: float


class Backoff(Struct, frozen=True):
    """The process died; the next start is due when `timer` fires at `due`."""

    phase: ClassVar = Phase.BACKOFF
    process: ClassVar = None
    timer: int
    due: Instant


State = Down | Waiting | Spawning | Starting | Running | Stopping | Clearing | Backoff


class End(Struct, frozen=True):
    """How the last process ended, and the words for it."""

    result: Result
    exit: Exit | None = None
    message: str = ""


class Instance(Struct, frozen=True):
    """One process slot: its declaration, its state and what must outlive a state.

    `generation` counts processes, `restarts` those that policy started, `failures` the ends
    in a row that came before `reset_after`, `attempt` the delays served in this series.
    `spawned_at` is when the last process was started, `lived` how long it was well: 0 when it
    was never ready; `timers` the last number given out.
    """

    component: Component
    state: State = Down()
    generation: int = 0
    restarts: int = 0
    failures: int = 0
    attempt: int = 0
    timers: int = 0
    spawned_at: Instant = 0.0
    lived: Seconds = 0.0
    end: End | None = None

    @property
    def phase(self) -> Phase:
        """The phase that users see."""
        return self.state.phase

    @property
    def process(self) -> Process | None:
        """The living first process, if there is one."""
        return self.state.process

    def failures_at(self, now: Instant) -> int:
        """How many failures in a row count at `now`: none after a life of `reset_after`."""
        well = isinstance(self.state, Running)
        if well and now - self.spawned_at >= self.component.backoff.reset_after:
            return 0
        return self.failures

    @property
    def ready(self) -> bool:
        """Whether it is ready now."""
        return isinstance(self.state, Running) and self.state.ready
