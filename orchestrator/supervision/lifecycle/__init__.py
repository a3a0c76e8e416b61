"""The life of one instance: a total, pure function of state, event and time.

Theory. An instance is a process slot. Its state carries only what means something in it:
there is no pid where there is no process. `step` takes what happened and returns the next
instance and the effects that somebody else must carry out; it never waits, never looks at
the world, and accepts every event in every state (what means nothing changes nothing).

              Start             Go                Spawned          Ready
    Down ─────────────▶ Waiting ──▶ Spawning ──────────────▶ Starting ─────▶ Running
     ▲ ▲                  ▲ │           │ SpawnFailed            │ Exited      │ Exited
     │ └──────────────────┼─┘ Stop,     ▼                        ▼             ▼
     │                    │   DependencyFailed              Clearing (leftovers killed)
     │                    └───── Backoff ◀───── policy ──────────┤
     └──────────────────────────────────────────── policy ───────┘
    Starting, Running ── Stop, start timeout, Unhealthy ──▶ Stopping ── Emptied ──▶ policy

Whether the instance *should* be up is not kept here: reconciliation compares what is wanted
with the state and posts `Start`, `Go` and `Stop`. A restart is a stop of something wanted.

Timers are numbered. They are never cancelled: a `Fired` whose number is not the state's own
changes nothing, so a late timer cannot be mistaken for a new one.
"""

from __future__ import annotations

from orchestrator.supervision.lifecycle.effects import (
    Arm,
    Effect,
    Guard,
    Kill,
    RunStopCommand,
    Signal,
    Spawn,
    Watch,
)
from orchestrator.supervision.lifecycle.events import (
    Adopted,
    BecameReady,
    DependencyFailed,
    Emptied,
    Event,
    Exited,
    Fired,
    GiveUp,
    Go,
    KillNow,
    LostReadiness,
    Reset,
    Spawned,
    SpawnFailed,
    Start,
    Stop,
    StopCommandDone,
    StopGoesOn,
    Unhealthy,
)
from orchestrator.supervision.lifecycle.states import (
    Backoff,
    Clearing,
    Down,
    End,
    Instance,
    Running,
    Spawning,
    Starting,
    State,
    Stopping,
    Waiting,
)
from orchestrator.supervision.lifecycle.steps import (
    step,
)
from orchestrator.supervision.lifecycle.stopping import (
    COMMAND_TIMEOUT,
    KILL_AGAIN,
    Step,
)

__all__ = [
    "COMMAND_TIMEOUT",
    "KILL_AGAIN",
    "Adopted",
    "Arm",
    "Backoff",
    "BecameReady",
    "Clearing",
    "DependencyFailed",
    "Down",
    "Effect",
    "Emptied",
    "End",
    "Event",
    "Exited",
    "Fired",
    "GiveUp",
    "Go",
    "Guard",
    "Instance",
    "Kill",
    "KillNow",
    "LostReadiness",
    "Reset",
    "RunStopCommand",
    "Running",
    "Signal",
    "Spawn",
    "SpawnFailed",
    "Spawned",
    "Spawning",
    "Start",
    "Starting",
    "State",
    "Step",
    "Stop",
    "StopCommandDone",
    "StopGoesOn",
    "Stopping",
    "Unhealthy",
    "Waiting",
    "Watch",
    "step",
]
