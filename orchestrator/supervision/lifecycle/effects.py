"""What somebody must do for an instance."""

from __future__ import annotations

from msgspec import Struct

from orchestrator.model.units import Seconds


class Spawn(Struct, frozen=True):
    """Start the process of this generation; answer with `Spawned` or `SpawnFailed`."""

    generation: int


class Watch(Struct, frozen=True):
    """Look for the end of the start, then for readiness, and answer with `BecameReady`."""


class Guard(Struct, frozen=True):
    """Look after what has become ready: liveness and watchdog, answered with `Unhealthy`."""


class Signal(Struct, frozen=True):
    """Send the signal to whom the component's `stop.kill` says, then CONT."""

    signal: str


class Kill(Struct, frozen=True):
    """Kill the whole tree; answer with `Emptied` when nothing of it is left."""


class RunStopCommand(Struct, frozen=True):
    """Run the component's stop command; answer with `StopCommandDone`."""


class Arm(Struct, frozen=True):
    """Answer with `Fired(timer)` after so many seconds."""

    timer: int
    after: Seconds


Effect = Spawn | Watch | Guard | Signal | Kill | RunStopCommand | Arm
