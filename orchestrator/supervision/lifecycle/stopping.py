"""How a process is brought down, and what follows its end."""

from __future__ import annotations

from msgspec.structs import replace

from orchestrator.model.phase import Exit, Phase, Process, Result
from orchestrator.model.units import Instant, Seconds
from orchestrator.supervision import policy
from orchestrator.supervision.lifecycle.effects import Arm, Effect, Kill, RunStopCommand, Signal
from orchestrator.supervision.lifecycle.events import StopGoesOn
from orchestrator.supervision.lifecycle.states import (
    Backoff,
    Clearing,
    Down,
    End,
    Instance,
    Running,
    Starting,
    Stopping,
    Waiting,
)

Step = tuple[Instance, tuple[Effect, ...]]
"""The next instance, and what is to be done for it."""

KILL_AGAIN: Seconds = 1.0
"""How often KILL is repeated to a tree that is not empty: it may have been forking."""

COMMAND_TIMEOUT: Seconds = 10.0
"""How long a stop command may take before the ladder begins."""


def bring_down(instance: Instance, process: Process, result: Result, message: str) -> Step:
    """Begin the stop of a living process, for whatever reason."""
    if message:
        instance = replace(instance, end=End(result, None, message))
    if result is Result.WATCHDOG:
        # It hangs: no orderly stop is to be hoped for, but a trace of where it hangs.
        instance, timer = numbered(instance)
        ladder = instance.component.stop.ladder
        wait = Arm(timer, ladder[0].wait if ladder else KILL_AGAIN)
        return replace(instance, state=Stopping(process, -1, timer, result)), (
            Signal("ABRT"),
            wait,
        )
    if instance.component.stop.command:
        instance, timer = numbered(instance)
        state = Stopping(process, -1, timer, result)
        return replace(instance, state=state), (RunStopCommand(), Arm(timer, COMMAND_TIMEOUT))
    return next_rung(instance, Stopping(process, -1, 0, result))


def stop_goes_on(instance: Instance, event: StopGoesOn) -> Step:
    """Go on with a stop where an earlier daemon left it."""
    if not isinstance(instance.state, Starting | Running):
        return instance, ()
    leader = None if event.ended else instance.state.process
    instance = replace(instance, lived=event.lived)
    state = Stopping(leader, event.rung, 0, event.result, event.exit)
    if event.rung >= len(instance.component.stop.ladder):
        return killing(instance, state)
    instance, timer = numbered(instance)
    return replace(instance, state=replace(state, timer=timer)), (Arm(timer, event.left),)


def next_rung(instance: Instance, state: Stopping) -> Step:
    """Take the next rung of the ladder; after the last one comes KILL."""
    ladder = instance.component.stop.ladder
    number = state.rung + 1
    if number >= len(ladder):
        if ladder and state.result is Result.REQUESTED:
            state = replace(state, result=Result.TIMEOUT_STOP)
        return killing(instance, state)
    instance, timer = numbered(instance)
    rung = ladder[number]
    return (
        replace(instance, state=replace(state, rung=number, timer=timer)),
        (Signal(rung.signal), Arm(timer, rung.wait)),
    )


def killing(instance: Instance, state: Stopping) -> Step:
    """Leave the ladder and kill the tree."""
    rung = len(instance.component.stop.ladder)
    return kill_again(instance, replace(state, rung=rung, killed=True))


def kill_again(instance: Instance, state: Stopping | Clearing) -> Step:
    """Kill what is there of the tree, and look again a little later."""
    instance, timer = numbered(instance)
    return replace(instance, state=replace(state, timer=timer)), (Kill(), Arm(timer, KILL_AGAIN))


def rung_signal(instance: Instance, state: Stopping) -> str:
    """Return the signal of the rung that a stop is at."""
    return instance.component.stop.ladder[state.rung].signal


def stopped(instance: Instance, state: Stopping, chance: float, now: Instant) -> Step:
    """The tree of a stop is gone: report it, or let policy judge what was a failure."""
    if state.is_requested:
        return down(instance, Phase.STOPPED, End(state.result, state.exit)), ()
    message = instance.end.message if instance.end else ""
    instance = replace(instance, end=End(state.result, state.exit, message))
    if state.result is Result.START_LIMIT:
        return replace(instance, state=Down(Phase.FAILED)), ()
    return judge(instance, clean=False, chance=chance, now=now)


# ------------------------------------------------------------------ policy


def ended(instance: Instance, how: Exit, chance: float, now: Instant) -> Step:
    """The process ended by itself and its tree is gone."""
    result = policy.result_of(how, instance.component)
    instance = replace(instance, end=End(result, how))
    return judge(instance, clean=result is Result.SUCCESS, chance=chance, now=now)


def judge(instance: Instance, *, clean: bool, chance: float, now: Instant) -> Step:
    """Let the restart policy say what follows an end."""
    component = instance.component
    if not policy.wants_restart(component, clean=clean):
        return replace(instance, state=Down(Phase.EXITED if clean else Phase.FAILED)), ()
    if instance.lived >= component.backoff.reset_after:
        # A healthy life: the first restart after it is immediate and begins a new series.
        fresh = replace(instance, failures=1, attempt=0, restarts=instance.restarts + 1)
        return replace(fresh, state=Waiting()), ()
    return back_off(instance, chance, now)


def back_off(instance: Instance, chance: float, now: Instant) -> Step:
    """Start again after a pause, unless it has failed too often."""
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
    instance, timer = numbered(instance)
    return replace(instance, state=Backoff(timer, now + pause)), (Arm(timer, pause),)


# ------------------------------------------------------------------ small parts


def down(instance: Instance, phase: Phase, end: End | None) -> Instance:
    """Return the instance without a process."""
    return replace(instance, state=Down(phase), end=end)


def requested(instance: Instance) -> End:
    """Return the end of what was told to stop while it had no process."""
    return End(Result.REQUESTED, instance.end.exit if instance.end else None)


def end_of(instance: Instance, state: Stopping) -> End:
    """What is known so far of the end that a stop leads to."""
    message = "" if state.is_requested or instance.end is None else instance.end.message
    return End(state.result, state.exit, message)


def requested_of(instance: Instance, clearing: Clearing) -> Stopping:
    """Return the stop that the clearing of leftovers becomes when somebody wants it down."""
    rung = len(instance.component.stop.ladder)
    return Stopping(None, rung, clearing.timer, Result.REQUESTED, clearing.exit, killed=True)


def measured(instance: Instance, now: Instant) -> Instance:
    """The instance with the length of the life that ends now: only one that was well counts."""
    well = isinstance(instance.state, Running)
    return replace(instance, lived=now - instance.spawned_at if well else 0.0)


def numbered(instance: Instance) -> tuple[Instance, int]:
    """Return the instance with a new timer counted, and its number."""
    number = instance.timers + 1
    return replace(instance, timers=number), number
