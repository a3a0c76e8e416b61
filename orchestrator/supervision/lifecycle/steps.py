"""What each event makes of an instance in each state."""

from __future__ import annotations

from typing import assert_never

from msgspec.structs import replace

from orchestrator.model.phase import Phase, Process, Result
from orchestrator.model.units import Instant, Seconds
from orchestrator.supervision import policy
from orchestrator.supervision.lifecycle.effects import (
    Arm,
    Effect,
    Guard,
    Kill,
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
    Stopping,
    Waiting,
)
from orchestrator.supervision.lifecycle.stopping import (
    Step,
    back_off,
    bring_down,
    down,
    end_of,
    ended,
    kill_again,
    killing,
    measured,
    next_rung,
    numbered,
    requested,
    requested_of,
    rung_signal,
    stop_goes_on,
    stopped,
)


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
                return down(instance, Phase.FAILED, End(Result.DEPENDENCY, None, message)), ()
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
                return replace(instance, state=Running(instance.state.process, ready=False)), ()
            return instance, ()
        case Unhealthy(result, message):
            if isinstance(instance.state, Starting | Running):
                process = instance.state.process
                return bring_down(measured(instance, now), process, result, message)
            return instance, ()
        case StopGoesOn():
            return stop_goes_on(instance, event)
        case Exited():
            return _exited(instance, event, now)
        case Emptied():
            return _emptied(instance, now)
        case StopCommandDone():
            if isinstance(instance.state, Stopping) and instance.state.rung < 0:
                return next_rung(instance, instance.state)
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
            return replace(instance, state=Spawning()), ()
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
            return down(instance, Phase.STOPPED, requested(instance)), ()
        case Spawning(unwanted=False):
            return replace(instance, state=Spawning(unwanted=True)), ()
        case Starting(process=process) | Running(process=process):
            return bring_down(instance, process, Result.REQUESTED, "")
        case Stopping() as state if not state.is_requested:
            state = replace(state, result=Result.REQUESTED)
            return replace(instance, state=state, end=end_of(instance, state)), ()
        case Clearing() as clearing:
            # The killing goes on; only what follows it is another.
            return replace(instance, state=requested_of(instance, clearing)), ()
        case Down() | Spawning() | Stopping():
            return instance, ()
        case _:
            assert_never(instance.state)


def _give_up(instance: Instance, message: str) -> Step:
    end = instance.end
    match instance.state:
        case Down(Phase.STOPPED) | Waiting() | Backoff():
            given_up = End(Result.START_LIMIT, end.exit if end else None, message)
            return down(instance, Phase.FAILED, given_up), ()
        case Starting(process=process) | Running(process=process):
            return bring_down(instance, process, Result.START_LIMIT, message)
        case Stopping() as state if not state.is_requested:
            state = replace(state, result=Result.START_LIMIT)
            return replace(instance, state=state, end=End(state.result, state.exit, message)), ()
        case _:
            return instance, ()


def _kill_now(instance: Instance) -> Step:
    match instance.state:
        case Starting(process=process) | Running(process=process):
            return killing(instance, Stopping(process, 0, 0, Result.REQUESTED))
        case Stopping() as state:
            result = state.result if state.is_requested else Result.REQUESTED
            return killing(instance, replace(state, result=result))
        case Clearing() as clearing:
            return replace(instance, state=requested_of(instance, clearing)), (Kill(),)
        case Spawning():
            return replace(instance, state=Spawning(unwanted=True, kill=True)), ()
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
        return killing(instance, Stopping(process, 0, 0, Result.REQUESTED))
    if instance.state.unwanted:
        return bring_down(instance, process, Result.REQUESTED, "")
    component = instance.component
    if not component.is_awaited and component.settle == 0:
        return _running(instance, process)
    deadline = settle = 0
    effects: list[Effect] = []
    if component.start_timeout > 0:
        instance, deadline = numbered(instance)
        effects.append(Arm(deadline, component.start_timeout))
    if not component.is_awaited:
        instance, settle = numbered(instance)
        effects.append(Arm(settle, max(0.0, component.settle - age)))
    else:
        effects.append(Watch())
    return replace(instance, state=Starting(process, deadline, settle)), tuple(effects)


def _spawn_failed(instance: Instance, event: SpawnFailed, now: Instant) -> Step:
    if not isinstance(instance.state, Spawning):
        return instance, ()
    end = End(Result.SPAWN_ERROR, None, event.message)
    if instance.state.unwanted:
        return down(instance, Phase.STOPPED, end), ()
    if not event.transient:
        return down(instance, Phase.FAILED, end), ()
    return back_off(replace(instance, end=end), event.chance, now)


def _became_ready(instance: Instance) -> Step:
    match instance.state:
        case Starting(process=process):
            return _running(instance, process)
        case Running(process=process, ready=False):
            return replace(instance, state=Running(process)), ()
        case _:
            return instance, ()


def _running(instance: Instance, process: Process) -> Step:
    """It is ready for the first time in this life, or was when it was adopted."""
    guarded = instance.component.live is not None or instance.component.watchdog > 0
    return replace(instance, state=Running(process)), (Guard(),) if guarded else ()


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
            instance = measured(instance, now)
            if event.alone:
                return ended(instance, event.exit, event.chance, now)
            result = policy.result_of(event.exit, instance.component)
            instance = replace(instance, end=End(result, event.exit))
            return kill_again(instance, Clearing(event.exit, 0, event.chance))
        case Stopping() as state:
            is_news = state.leader is not None
            state = replace(state, leader=None, exit=event.exit)
            if event.alone:
                return stopped(instance, state, event.chance, now)
            if not is_news:
                return instance, ()  # An earlier daemon has done what follows.
            instance = replace(instance, end=end_of(instance, state))
            if state.rung < 0 and state.result is Result.WATCHDOG:
                return next_rung(instance, state)
            if state.killed or state.rung < 0:
                return replace(instance, state=state), (Kill(),) if state.killed else ()
            # What the leader left behind gets the rest of the same rung, and its signal.
            return replace(instance, state=state), (Signal(rung_signal(instance, state)),)
        case _:
            return instance, ()


def _emptied(instance: Instance, now: Instant) -> Step:
    match instance.state:
        case Clearing(exit=exit, chance=chance):
            return ended(instance, exit, chance, now)
        case Stopping(leader=None) as state:
            return stopped(instance, state, 0.5, now)
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
            return bring_down(never, process, Result.TIMEOUT_START, message)
        case Stopping(timer=timer) as state if timer == event.timer:
            return kill_again(instance, state) if state.killed else next_rung(instance, state)
        case Clearing(timer=timer) as clearing if timer == event.timer:
            return kill_again(instance, clearing)
        case _:
            return instance, ()


def _reset(instance: Instance) -> Step:
    instance = replace(instance, failures=0, attempt=0)
    if isinstance(instance.state, Down) and instance.state.phase is Phase.FAILED:
        return replace(instance, state=Down(Phase.STOPPED)), ()
    return instance, ()
