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

from typing import ClassVar, assert_never

from msgspec import Struct, structs

from orchestrator.model.phase import Exit, Phase, Process, Result
from orchestrator.model.topology import Component
from orchestrator.model.units import Instant, Seconds
from orchestrator.supervision import policy

KILL_AGAIN: Seconds = 1.0
"""How often KILL is repeated to a tree that is not empty: it may have been forking."""

COMMAND_TIMEOUT: Seconds = 10.0
"""How long a stop command may take before the ladder begins."""


# ------------------------------------------------------------------ states


class Down(Struct, frozen=True):
    """No process, and nothing happens by itself."""

    phase: Phase = Phase.STOPPED


class Waiting(Struct, frozen=True):
    """To be started as soon as its dependencies allow."""

    phase: ClassVar = Phase.WAITING


class Spawning(Struct, frozen=True):
    """A process has been asked for.

    `unwanted`: it is to be stopped as soon as it is there; `kill`: without a ladder.
    """

    phase: ClassVar = Phase.STARTING
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
    def is_requested(self) -> bool:
        """Whether somebody wants it down, whatever it was stopped for at first."""
        return self.result in (Result.REQUESTED, Result.TIMEOUT_STOP)


class Clearing(Struct, frozen=True):
    """The leader ended by itself; what it left behind is being killed."""

    phase: ClassVar = Phase.STOPPING
    exit: Exit
    timer: int
    chance: float


class Backoff(Struct, frozen=True):
    """The process died; the next start is due when `timer` fires at `due`."""

    phase: ClassVar = Phase.BACKOFF
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
        state = self.state
        if isinstance(state, (Running, Starting)):
            return state.process
        return state.leader if isinstance(state, Stopping) else None

    @property
    def ready(self) -> bool:
        """Whether it is ready now."""
        return isinstance(self.state, Running) and self.state.ready


# ------------------------------------------------------------------ events


class _Word:
    """An event or an effect that says all by its name: it equals any other of its name.

    A dataclass would be the same and takes a third of a millisecond to be made, of which the
    first process of a system waits.
    """

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self)

    def __hash__(self) -> int:
        return hash(type(self))

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class Start(_Word):
    """It shall run: from being down or in backoff, begin anew."""

    __slots__ = ()


class Go(_Word):
    """Its dependencies allow the start, and there is room for one."""

    __slots__ = ()


class DependencyFailed(Struct, frozen=True):
    """A dependency can no longer become what it is waited for."""

    message: str


class Stop(_Word):
    """It shall not run, or shall run anew."""

    __slots__ = ()


class GiveUp(Struct, frozen=True):
    """Its group has given up: it shall not run, and that is a failure."""

    message: str


class KillNow(_Word):
    """Whatever the ladder says: kill the whole tree now."""

    __slots__ = ()


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


class BecameReady(_Word):
    """Its readiness was seen."""

    __slots__ = ()


class LostReadiness(_Word):
    """Its readiness probe fails; that never restarts."""

    __slots__ = ()


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


class Emptied(_Word):
    """Nothing of the tree is left."""

    __slots__ = ()


class StopCommandDone(_Word):
    """The stop command ended, well or not."""

    __slots__ = ()


class Fired(Struct, frozen=True):
    """A timer has run out."""

    timer: int
    chance: float = 0.5


class Reset(_Word):
    """Forget the failures; what has given up may be started again."""

    __slots__ = ()


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


# ------------------------------------------------------------------ effects


class Spawn(Struct, frozen=True):
    """Start the process of this generation; answer with `Spawned` or `SpawnFailed`."""

    generation: int


class Watch(_Word):
    """Look for the end of the start, then for readiness, and answer with `BecameReady`."""

    __slots__ = ()


class Guard(_Word):
    """Look after what has become ready: liveness and watchdog, answered with `Unhealthy`."""

    __slots__ = ()


class Signal(Struct, frozen=True):
    """Send the signal to whom the component's `stop.kill` says, then CONT."""

    signal: str


class Kill(_Word):
    """Kill the whole tree; answer with `Emptied` when nothing of it is left."""

    __slots__ = ()


class RunStopCommand(_Word):
    """Run the component's stop command; answer with `StopCommandDone`."""

    __slots__ = ()


class Arm(Struct, frozen=True):
    """Answer with `Fired(timer)` after so many seconds."""

    timer: int
    after: Seconds


Effect = Spawn | Watch | Guard | Signal | Kill | RunStopCommand | Arm

Step = tuple[Instance, tuple[Effect, ...]]


def step(instance: Instance, event: Event, now: Instant) -> Step:  # noqa: C901, PLR0912
    """Return what `event` at `now` makes of `instance`, and what is to be done for it.

    Total: an event that means nothing in the state returns the same instance, no effects.
    """
    match event:
        case Start():
            return _start(instance)
        case Go():
            return _go(instance, now)
        case DependencyFailed(message):
            if isinstance(instance.state, Waiting):
                return _down(instance, Phase.FAILED, End(Result.DEPENDENCY, None, message)), ()
            return instance, ()
        case Stop():
            return _stop(instance)
        case GiveUp(message):
            return _give_up(instance, message)
        case KillNow():
            return _kill_now(instance)
        case Spawned(process):
            return _spawned(instance, process)
        case SpawnFailed():
            return _spawn_failed(instance, event, now)
        case Adopted():
            return _adopted(instance, event, now)
        case BecameReady():
            return _became_ready(instance)
        case LostReadiness():
            if isinstance(instance.state, Running):
                return _state(instance, Running(instance.state.process, ready=False)), ()
            return instance, ()
        case Unhealthy(result, message):
            if isinstance(instance.state, Starting | Running):
                process = instance.state.process
                return _bring_down(_measured(instance, now), process, result, message)
            return instance, ()
        case StopGoesOn():
            return _stop_goes_on(instance, event)
        case Exited():
            return _exited(instance, event, now)
        case Emptied():
            return _emptied(instance, now)
        case StopCommandDone():
            if isinstance(instance.state, Stopping) and instance.state.rung < 0:
                return _next_rung(instance, instance.state)
            return instance, ()
        case Fired():
            return _fired(instance, event)
        case Reset():
            return _reset(instance)
        case _:
            assert_never(event)


def _start(instance: Instance) -> Step:
    match instance.state:
        case Down() | Backoff():
            return replace(instance, state=Waiting(), failures=0, attempt=0), ()
        case Waiting() if instance.failures:
            return replace(instance, failures=0, attempt=0), ()
        case Spawning(unwanted=True):
            return _state(instance, Spawning()), ()
        case _:
            return instance, ()


def _go(instance: Instance, now: Instant) -> Step:
    if not isinstance(instance.state, Waiting):
        return instance, ()
    generation = instance.generation + 1
    following = replace(instance, state=Spawning(), generation=generation, spawned_at=now)
    return following, (Spawn(generation),)


def _stop(instance: Instance) -> Step:
    match instance.state:
        case Waiting() | Backoff():
            return _down(instance, Phase.STOPPED, _requested(instance)), ()
        case Spawning(unwanted=False):
            return _state(instance, Spawning(unwanted=True)), ()
        case Starting(process=process) | Running(process=process):
            return _bring_down(instance, process, Result.REQUESTED, "")
        case Stopping() as state if not state.is_requested:
            state = replace(state, result=Result.REQUESTED)
            return replace(instance, state=state, end=_end_of(instance, state)), ()
        case Clearing() as clearing:
            # The killing goes on; only what follows it is another.
            return _state(instance, _requested_of(instance, clearing)), ()
        case Down() | Spawning() | Stopping():
            return instance, ()
        case _:
            assert_never(instance.state)


def _give_up(instance: Instance, message: str) -> Step:
    end = instance.end
    match instance.state:
        case Down(Phase.STOPPED) | Waiting() | Backoff():
            given_up = End(Result.START_LIMIT, end.exit if end else None, message)
            return _down(instance, Phase.FAILED, given_up), ()
        case Starting(process=process) | Running(process=process):
            return _bring_down(instance, process, Result.START_LIMIT, message)
        case Stopping() as state if not state.is_requested:
            state = replace(state, result=Result.START_LIMIT)
            return replace(instance, state=state, end=End(state.result, state.exit, message)), ()
        case _:
            return instance, ()


def _kill_now(instance: Instance) -> Step:
    match instance.state:
        case Starting(process=process) | Running(process=process):
            return _killing(instance, Stopping(process, 0, 0, Result.REQUESTED))
        case Stopping() as state:
            result = state.result if state.is_requested else Result.REQUESTED
            return _killing(instance, replace(state, result=result))
        case Clearing() as clearing:
            return _state(instance, _requested_of(instance, clearing)), (Kill(),)
        case Spawning():
            return _state(instance, Spawning(unwanted=True, kill=True)), ()
        case _:
            return _stop(instance)


def _spawned(instance: Instance, process: Process, age: Seconds = 0.0) -> Step:
    """It lives, and has for `age`.

    The start timeout of what is adopted begins anew all the same: while no daemon lived nobody
    looked, and what became ready meanwhile must not be stopped for it.
    """
    if not isinstance(instance.state, Spawning):
        # A spawn is only ever asked for in Spawning, and only its answer leaves that state.
        return instance, (Kill(),)
    if instance.state.kill:
        return _killing(instance, Stopping(process, 0, 0, Result.REQUESTED))
    if instance.state.unwanted:
        return _bring_down(instance, process, Result.REQUESTED, "")
    component = instance.component
    if not component.is_awaited and component.settle == 0:
        return _running(instance, process)
    deadline = settle = 0
    effects: list[Effect] = []
    if component.start_timeout > 0:
        instance, deadline = _timer(instance)
        effects.append(Arm(deadline, component.start_timeout))
    if not component.is_awaited:
        instance, settle = _timer(instance)
        effects.append(Arm(settle, max(0.0, component.settle - age)))
    else:
        effects.append(Watch())
    return _state(instance, Starting(process, deadline, settle)), tuple(effects)


def _spawn_failed(instance: Instance, event: SpawnFailed, now: Instant) -> Step:
    if not isinstance(instance.state, Spawning):
        return instance, ()
    end = End(Result.SPAWN_ERROR, None, event.message)
    if instance.state.unwanted:
        return _down(instance, Phase.STOPPED, end), ()
    if not event.transient:
        return _down(instance, Phase.FAILED, end), ()
    return _back_off(replace(instance, end=end), event.chance, now)


def _became_ready(instance: Instance) -> Step:
    match instance.state:
        case Starting(process=process):
            return _running(instance, process)
        case Running(process=process, ready=False):
            return _state(instance, Running(process)), ()
        case _:
            return instance, ()


def _running(instance: Instance, process: Process) -> Step:
    """It is ready for the first time in this life, or was when it was adopted."""
    guarded = instance.component.live is not None or instance.component.watchdog > 0
    return _state(instance, Running(process)), (Guard(),) if guarded else ()


def _adopted(instance: Instance, event: Adopted, now: Instant) -> Step:
    if not isinstance(instance.state, Down):
        return instance, ()
    instance = replace(instance, spawned_at=event.spawned_at)
    if event.ready:
        following, guards = _running(instance, event.process)
        return following, (Watch(), *guards) if instance.component.ready else guards
    age = max(0.0, now - event.spawned_at)
    return _spawned(replace(instance, state=Spawning()), event.process, age)


def _exited(instance: Instance, event: Exited, now: Instant) -> Step:
    match instance.state:
        case Starting() | Running():
            instance = _measured(instance, now)
            if event.alone:
                return _ended(instance, event.exit, event.chance, now)
            result = policy.result_of(event.exit, instance.component)
            instance = replace(instance, end=End(result, event.exit))
            return _kill_again(instance, Clearing(event.exit, 0, event.chance))
        case Stopping() as state:
            is_news = state.leader is not None
            state = replace(state, leader=None, exit=event.exit)
            if event.alone:
                return _stopped(instance, state, event.chance, now)
            if not is_news:
                return instance, ()  # An earlier daemon has done what follows.
            instance = replace(instance, end=_end_of(instance, state))
            if state.rung < 0 and state.result is Result.WATCHDOG:
                return _next_rung(instance, state)
            if state.killed or state.rung < 0:
                return _state(instance, state), (Kill(),) if state.killed else ()
            # What the leader left behind gets the rest of the same rung, and its signal.
            return _state(instance, state), (Signal(_rung_signal(instance, state)),)
        case _:
            return instance, ()


def _emptied(instance: Instance, now: Instant) -> Step:
    match instance.state:
        case Clearing(exit=exit, chance=chance):
            return _ended(instance, exit, chance, now)
        case Stopping(leader=None) as state:
            return _stopped(instance, state, 0.5, now)
        case _:
            return instance, ()


def _fired(instance: Instance, event: Fired) -> Step:
    match instance.state:
        case Backoff(timer=timer) if timer == event.timer:
            return replace(instance, state=Waiting(), restarts=instance.restarts + 1), ()
        case Starting(process=process, settle=settle) if settle == event.timer:
            return _running(instance, process)
        case Starting(process=process, deadline=deadline) if deadline == event.timer:
            message = f"not ready within {instance.component.start_timeout:g}s"
            never = replace(instance, lived=0.0)
            return _bring_down(never, process, Result.TIMEOUT_START, message)
        case Stopping(timer=timer) as state if timer == event.timer:
            return _kill_again(instance, state) if state.killed else _next_rung(instance, state)
        case Clearing(timer=timer) as clearing if timer == event.timer:
            return _kill_again(instance, clearing)
        case _:
            return instance, ()


def _reset(instance: Instance) -> Step:
    instance = replace(instance, failures=0, attempt=0)
    if isinstance(instance.state, Down) and instance.state.phase is Phase.FAILED:
        return _state(instance, Down(Phase.STOPPED)), ()
    return instance, ()


# ------------------------------------------------------------------ stopping


def _bring_down(instance: Instance, process: Process, result: Result, message: str) -> Step:
    """Begin the stop of a living process, for whatever reason."""
    if message:
        instance = replace(instance, end=End(result, None, message))
    if result is Result.WATCHDOG:
        # It hangs: no orderly stop is to be hoped for, but a trace of where it hangs.
        instance, timer = _timer(instance)
        ladder = instance.component.stop.ladder
        wait = Arm(timer, ladder[0].wait if ladder else KILL_AGAIN)
        return _state(instance, Stopping(process, -1, timer, result)), (Signal("ABRT"), wait)
    if instance.component.stop.command:
        instance, timer = _timer(instance)
        state = Stopping(process, -1, timer, result)
        return _state(instance, state), (RunStopCommand(), Arm(timer, COMMAND_TIMEOUT))
    return _next_rung(instance, Stopping(process, -1, 0, result))


def _stop_goes_on(instance: Instance, event: StopGoesOn) -> Step:
    if not isinstance(instance.state, Starting | Running):
        return instance, ()
    leader = None if event.ended else instance.state.process
    instance = replace(instance, lived=event.lived)
    state = Stopping(leader, event.rung, 0, event.result, event.exit)
    if event.rung >= len(instance.component.stop.ladder):
        return _killing(instance, state)
    instance, timer = _timer(instance)
    return _state(instance, replace(state, timer=timer)), (Arm(timer, event.left),)


def _next_rung(instance: Instance, state: Stopping) -> Step:
    ladder = instance.component.stop.ladder
    number = state.rung + 1
    if number >= len(ladder):
        if ladder and state.result is Result.REQUESTED:
            state = replace(state, result=Result.TIMEOUT_STOP)
        return _killing(instance, state)
    instance, timer = _timer(instance)
    rung = ladder[number]
    return (
        _state(instance, replace(state, rung=number, timer=timer)),
        (Signal(rung.signal), Arm(timer, rung.wait)),
    )


def _killing(instance: Instance, state: Stopping) -> Step:
    rung = len(instance.component.stop.ladder)
    return _kill_again(instance, replace(state, rung=rung, killed=True))


def _kill_again(instance: Instance, state: Stopping | Clearing) -> Step:
    instance, timer = _timer(instance)
    return _state(instance, replace(state, timer=timer)), (Kill(), Arm(timer, KILL_AGAIN))


def _rung_signal(instance: Instance, state: Stopping) -> str:
    return instance.component.stop.ladder[state.rung].signal


def _stopped(instance: Instance, state: Stopping, chance: float, now: Instant) -> Step:
    """The tree of a stop is gone: report it, or let policy judge what was a failure."""
    if state.is_requested:
        return _down(instance, Phase.STOPPED, End(state.result, state.exit)), ()
    message = instance.end.message if instance.end else ""
    instance = replace(instance, end=End(state.result, state.exit, message))
    if state.result is Result.START_LIMIT:
        return _state(instance, Down(Phase.FAILED)), ()
    return _judge(instance, clean=False, chance=chance, now=now)


# ------------------------------------------------------------------ policy


def _ended(instance: Instance, how: Exit, chance: float, now: Instant) -> Step:
    """The process ended by itself and its tree is gone."""
    result = policy.result_of(how, instance.component)
    instance = replace(instance, end=End(result, how))
    return _judge(instance, clean=result is Result.SUCCESS, chance=chance, now=now)


def _judge(instance: Instance, *, clean: bool, chance: float, now: Instant) -> Step:
    component = instance.component
    if not policy.wants_restart(component, clean=clean):
        return _state(instance, Down(Phase.EXITED if clean else Phase.FAILED)), ()
    if instance.lived >= component.backoff.reset_after:
        # A healthy life: the first restart after it is immediate and begins a new series.
        fresh = replace(instance, failures=1, attempt=0, restarts=instance.restarts + 1)
        return _state(fresh, Waiting()), ()
    return _back_off(instance, chance, now)


def _back_off(instance: Instance, chance: float, now: Instant) -> Step:
    component = instance.component
    failures = instance.failures + 1
    if component.limit.failures and failures >= component.limit.failures:
        last = instance.end
        message = f"{failures} failures in a row"
        if last is not None and (last.exit or last.message):
            message += f", the last: {last.message or last.exit}"
        end = End(Result.START_LIMIT, last.exit if last else None, message)
        return replace(instance, state=Down(Phase.FAILED), failures=failures, end=end), ()
    pause = policy.delay(component.backoff, instance.attempt, chance)
    instance = replace(instance, failures=failures, attempt=instance.attempt + 1)
    if pause == 0:
        return replace(instance, state=Waiting(), restarts=instance.restarts + 1), ()
    instance, timer = _timer(instance)
    return _state(instance, Backoff(timer, now + pause)), (Arm(timer, pause),)


# ------------------------------------------------------------------ small parts

replace = structs.replace


def _state(instance: Instance, state: State) -> Instance:
    # Most steps change no more than this, and by position it is quicker than `replace`.
    return Instance(
        instance.component,
        state,
        instance.generation,
        instance.restarts,
        instance.failures,
        instance.attempt,
        instance.timers,
        instance.spawned_at,
        instance.lived,
        instance.end,
    )


def _down(instance: Instance, phase: Phase, end: End | None) -> Instance:
    return replace(instance, state=Down(phase), end=end)


def _requested(instance: Instance) -> End:
    return End(Result.REQUESTED, instance.end.exit if instance.end else None)


def _end_of(instance: Instance, state: Stopping) -> End:
    """What is known so far of the end that a stop leads to."""
    message = "" if state.is_requested or instance.end is None else instance.end.message
    return End(state.result, state.exit, message)


def _requested_of(instance: Instance, clearing: Clearing) -> Stopping:
    rung = len(instance.component.stop.ladder)
    return Stopping(None, rung, clearing.timer, Result.REQUESTED, clearing.exit, killed=True)


def _measured(instance: Instance, now: Instant) -> Instance:
    """The instance with the length of the life that ends now: only one that was well counts."""
    well = isinstance(instance.state, Running)
    return replace(instance, lived=now - instance.spawned_at if well else 0.0)


def _timer(instance: Instance) -> tuple[Instance, int]:
    number = instance.timers + 1
    return replace(instance, timers=number), number
