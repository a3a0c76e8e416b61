"""Laws of the life cycle, for every component, every event and every order of them.

Two worlds are searched. In the first anything may be told at any time: `step` is total, and
what it returns is never absurd. In the second the world is adversarial but fair: it answers
each effect, late and in the worst way, but it does answer, and a killed process dies.
"""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from orchestrator.model.phase import Exit, Phase, Process, Result
from orchestrator.model.topology import Component, Restart
from orchestrator.supervision import lifecycle, policy
from orchestrator.supervision.lifecycle import Effect, Event, Instance
from tests.property import strategies

timed_events = st.lists(st.tuples(strategies.seconds, strategies.events), max_size=40)

PIDS = {
    Phase.DISABLED: {False},
    Phase.WAITING: {False},
    Phase.RUNNING: {True},
    Phase.BACKOFF: {False},
    Phase.EXITED: {False},
    Phase.STOPPED: {False},
    Phase.FAILED: {False},
    Phase.STARTING: {False, True},
    Phase.STOPPING: {False, True},
}


def lives(
    component: Component, told: list[tuple[float, Event]]
) -> list[tuple[Instance, Event, Instance, tuple[Effect, ...], float]]:
    """Return every step of a life: before, event, after, effects, time."""
    now, instance, steps = 0.0, Instance(component), []
    for pause, event in told:
        now += pause
        after, effects = lifecycle.step(instance, event, now)
        steps.append((instance, event, after, effects, now))
        instance = after
    return steps


@given(strategies.components, timed_events)
def test_step_is_total_and_its_answers_make_sense(
    component: Component, told: list[tuple[float, Event]]
) -> None:
    for before, _, after, effects, _ in lives(component, told):
        assert after.component is component
        assert (after.process is not None) in PIDS[after.phase]
        assert not after.ready or after.phase is Phase.RUNNING
        assert after.generation >= before.generation
        assert after.restarts >= before.restarts
        assert after.timers >= before.timers
        assert after.phase is not Phase.FAILED or after.end is not None
        for effect in effects:
            if isinstance(effect, lifecycle.Arm):
                assert before.timers < effect.timer <= after.timers
                assert effect.after >= 0


@given(strategies.components, timed_events)
def test_timers_are_given_out_once(component: Component, told: list[tuple[float, Event]]) -> None:
    armed = [
        effect.timer
        for _, _, _, effects, _ in lives(component, told)
        for effect in effects
        if isinstance(effect, lifecycle.Arm)
    ]
    assert armed == sorted(set(armed))


@given(strategies.components, timed_events)
def test_a_timer_that_was_not_given_out_changes_nothing(
    component: Component, told: list[tuple[float, Event]]
) -> None:
    for _, _, after, _, now in lives(component, told):
        same, effects = lifecycle.step(after, lifecycle.Fired(after.timers + 1), now)
        assert same is after
        assert effects == ()


@given(strategies.components, timed_events)
def test_a_timer_fires_once(component: Component, told: list[tuple[float, Event]]) -> None:
    for before, event, after, _, now in lives(component, told):
        if isinstance(event, lifecycle.Fired) and after is not before:
            again, effects = lifecycle.step(after, event, now)
            assert again is after
            assert effects == ()


@given(strategies.components, timed_events)
def test_only_go_asks_for_a_process_and_only_while_waiting(
    component: Component, told: list[tuple[float, Event]]
) -> None:
    for before, event, after, effects, _ in lives(component, told):
        spawns = [e for e in effects if isinstance(e, lifecycle.Spawn)]
        if spawns:
            assert isinstance(event, lifecycle.Go)
            assert before.phase is Phase.WAITING
            assert [s.generation for s in spawns] == [before.generation + 1]
            assert isinstance(after.state, lifecycle.Spawning)


@given(strategies.components, timed_events)
def test_a_stop_leaves_nothing_that_starts_by_itself(
    component: Component, told: list[tuple[float, Event]]
) -> None:
    """After a stop, whatever comes except `Start` or an adoption, nothing is ever spawned."""
    steps = lives(component, told)
    instance = steps[-1][2] if steps else Instance(component)
    now = steps[-1][4] if steps else 0.0
    instance, effects = lifecycle.step(instance, lifecycle.Stop(), now)
    for pause, event in told:
        now += pause
        if isinstance(event, lifecycle.Start | lifecycle.Adopted):
            continue
        instance, more = lifecycle.step(instance, event, now)
        effects += more
    assert not any(isinstance(effect, lifecycle.Spawn) for effect in effects)
    assert instance.phase not in (Phase.WAITING, Phase.BACKOFF, Phase.RUNNING)


@given(strategies.components, timed_events)
def test_a_stop_twice_is_a_stop_once(
    component: Component, told: list[tuple[float, Event]]
) -> None:
    for _, _, after, _, now in lives(component, told):
        once, _ = lifecycle.step(after, lifecycle.Stop(), now)
        twice, effects = lifecycle.step(once, lifecycle.Stop(), now)
        assert twice is once
        assert effects == ()


@given(strategies.components, timed_events)
def test_an_end_by_itself_is_judged_by_the_policy(
    component: Component, told: list[tuple[float, Event]]
) -> None:
    for before, event, after, _, _ in lives(component, told):
        if not isinstance(event, lifecycle.Exited) or not event.alone:
            continue
        if not isinstance(before.state, lifecycle.Starting | lifecycle.Running):
            continue
        clean = policy.is_clean(event.exit, component)
        if component.restart is Restart.NEVER or (
            component.restart is Restart.ON_FAILURE and clean
        ):
            assert after.phase is (Phase.EXITED if clean else Phase.FAILED)
        else:
            assert after.phase in (Phase.BACKOFF, Phase.WAITING, Phase.FAILED)
            if after.phase is Phase.FAILED:
                assert after.end is not None
                assert after.end.result is Result.START_LIMIT
                assert after.failures >= component.limit.failures > 0


# ------------------------------------------------------------------ a fair world


@dataclass(slots=True)
class World:
    """Answers what an instance asks, when and how the search likes.

    It is fair: spawning is answered, timers fire, and KILL empties the tree within a second.
    """

    draw: st.DataObject
    instance: Instance
    now: float = 0.0
    live: set[Process] = field(default_factory=set)
    most: int = 0
    leader: Process | None = None
    children: bool = False
    deadly: float | None = None
    spawned: int = 0
    _queue: list[tuple[float, int, Event | str]] = field(default_factory=list)
    _count: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def post(self, event: Event) -> None:
        self.instance, effects = lifecycle.step(self.instance, event, self.now)
        for effect in effects:
            self._do(effect)
        has = self.instance.process is not None
        assert not has or self.instance.process == self.leader

    def later(self, after: float, what: Event | str) -> None:
        heapq.heappush(self._queue, (self.now + after, next(self._count), what))

    def next(self) -> bool:
        """Let the next thing happen; False when there is none."""
        if not self._queue:
            return False
        when, _, what = heapq.heappop(self._queue)
        self.now = max(self.now, when)
        if what == "dies":
            self.die(Exit(signal=9))
        elif what == "emptied":
            if self.children and self.leader is None:
                self.children = False
                self.live.clear()
                self.post(lifecycle.Emptied())
        elif isinstance(what, lifecycle.Spawned):
            self.leader = what.process
            self.live.add(what.process)
            self.most = max(self.most, len(self.live))
            self.children = self.draw.draw(st.booleans(), "forks")
            self.post(what)
        elif not isinstance(what, str):
            self.post(what)
        return True

    def die(self, how: Exit) -> None:
        """Let the first process end; what it forked may live on."""
        if self.leader is None:
            return
        self.live.discard(self.leader)
        self.leader = None
        self.post(lifecycle.Exited(how, alone=not self.children))

    def _do(self, effect: Effect) -> None:
        draw = self.draw.draw
        match effect:
            case lifecycle.Spawn():
                self.spawned += 1
                assert self.leader is None, "a second process beside a living one"
                assert not self.children, "a start before the leftovers were gone"
                after = draw(strategies.seconds, "spawn takes")
                if draw(st.integers(0, 9), "spawn fails") == 0:
                    transient = draw(st.booleans(), "transient")
                    self.later(after, lifecycle.SpawnFailed("cannot start", transient))
                else:
                    process = Process(self.spawned + 10, self.spawned)
                    self.later(after, lifecycle.Spawned(process))
            case lifecycle.Guard():
                pass  # what it would see comes as a move of the script
            case lifecycle.Watch():
                if draw(st.booleans(), "becomes ready"):
                    self.later(draw(strategies.seconds), lifecycle.BecameReady())
            case lifecycle.Signal():
                if draw(st.booleans(), "obeys"):
                    self.later(draw(st.sampled_from([0.0, 0.5])), "dies")
            case lifecycle.Kill():
                self.later(0.5, "dies")
                self.later(0.5, "emptied")
            case lifecycle.RunStopCommand():
                if draw(st.booleans(), "stop command ends"):
                    self.later(draw(strategies.seconds), lifecycle.StopCommandDone())
            case lifecycle.Arm(timer, after):
                self.later(after, lifecycle.Fired(timer))


moves = st.one_of(
    st.just("next"),
    st.just("dies"),
    st.sampled_from(
        [
            lifecycle.Start(),
            lifecycle.Go(),
            lifecycle.Stop(),
            lifecycle.KillNow(),
            lifecycle.Reset(),
            lifecycle.LostReadiness(),
            lifecycle.Unhealthy(Result.LIVENESS, "why"),
        ]
    ),
)


def play(world: World, script: list[str | Event]) -> None:
    for move in script:
        if move == "next":
            world.next()
        elif move == "dies":
            world.die(world.draw.draw(strategies.exits))
        elif not isinstance(move, str):
            world.post(move)


@given(st.data(), strategies.components, st.lists(moves, max_size=30))
def test_there_are_never_two_processes(
    data: st.DataObject, component: Component, script: list[str | Event]
) -> None:
    world = World(data, Instance(component))
    play(world, script)
    assert world.most <= 1
    assert world.spawned == world.instance.generation


@given(st.data(), strategies.components, st.lists(moves, max_size=30))
def test_a_stop_always_ends_and_ends_in_time(
    data: st.DataObject, component: Component, script: list[str | Event]
) -> None:
    world = World(data, Instance(component))
    play(world, script)
    before = world.now
    world.post(lifecycle.Stop())
    while not isinstance(world.instance.state, lifecycle.Down):
        assert world.next(), f"nothing more happens in {world.instance.state}"
    ladder = sum(rung.wait for rung in component.stop.ladder)
    slowest_spawn = 40.0
    most = slowest_spawn + lifecycle.COMMAND_TIMEOUT + ladder + 2 * lifecycle.KILL_AGAIN
    assert world.now - before <= most
    assert not world.live
    assert world.leader is None
    spawned = world.spawned
    while world.next():
        pass
    assert world.spawned == spawned


@given(st.data(), strategies.components, st.lists(moves, max_size=20))
def test_kill_now_ends_within_seconds(
    data: st.DataObject, component: Component, script: list[str | Event]
) -> None:
    world = World(data, Instance(component))
    play(world, script)
    while isinstance(world.instance.state, lifecycle.Spawning):
        world.next()
    before = world.now
    world.post(lifecycle.KillNow())
    while not isinstance(world.instance.state, lifecycle.Down):
        assert world.next()
    assert world.now - before <= 2 * lifecycle.KILL_AGAIN


@given(st.data(), strategies.components, st.lists(moves, max_size=20))
def test_one_that_is_wanted_never_hangs(
    data: st.DataObject, component: Component, script: list[str | Event]
) -> None:
    """Started and always allowed to go, it comes to run, to end, or to give up."""
    world = World(data, Instance(structs.replace(component, start_timeout=5.0)))
    play(world, script)
    for _ in range(2000):
        if isinstance(world.instance.state, lifecycle.Running):
            break
        if isinstance(world.instance.state, lifecycle.Down):
            if world.instance.phase is not Phase.STOPPED:
                break
            world.post(lifecycle.Start())
        if isinstance(world.instance.state, lifecycle.Waiting):
            world.post(lifecycle.Go())
            continue
        if isinstance(world.instance.state, lifecycle.Spawning) and world.instance.state.unwanted:
            world.post(lifecycle.Start())
        assert world.next(), f"nothing more happens in {world.instance.state}"
        if data.draw(st.integers(0, 20), "crash") == 0:
            world.die(Exit(code=1))
    else:
        # A crash loop without a limit goes on for ever: that is what was asked for.
        assert component.limit.failures == 0 or world.instance.restarts > 0
