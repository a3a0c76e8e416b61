"""Restarts, as promised: who is restarted, when, and when no more."""

from __future__ import annotations

import itertools
import signal

import pytest

from orchestrator.model.phase import Exit, Phase, Result
from orchestrator.model.topology import Backoff, Limit, Restart
from orchestrator.supervision import lifecycle, policy
from orchestrator.supervision.lifecycle import Exited, Fired, Go, Reset, Spawn, Start
from tests import fakes
from tests.unit.supervision.life import Life

CLEAN = [
    Exit(code=0),
    Exit(code=42),
    *(Exit(signal=number) for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)),
    Exit(signal=signal.SIGPIPE),
]
UNCLEAN = [
    Exit(code=1),
    Exit(code=255),
    Exit(signal=signal.SIGKILL),
    Exit(signal=signal.SIGSEGV, core_dumped=True),
    Exit(signal=signal.SIGUSR1),
    Exit(signal=signal.SIGQUIT),
    Exit(),
]


@pytest.mark.parametrize(
    ("how", "clean"),
    [*((how, True) for how in CLEAN), *((how, False) for how in UNCLEAN)],
    ids=str,
)
@pytest.mark.parametrize("restart", Restart)
def test_the_truth_table_of_systemd(how: Exit, clean: bool, restart: Restart) -> None:
    component = fakes.component(restart=restart, success_codes=(0, 42))
    assert policy.is_clean(how, component) is clean
    restarts = restart is Restart.ALWAYS or (restart is Restart.ON_FAILURE and not clean)
    assert policy.wants_restart(component, clean=clean) is restarts
    life = Life(restart=restart, success_codes=(0, 42)).running().post(Exited(how))
    if restarts:
        assert life.phase == Phase.BACKOFF
    else:
        assert life.phase == (Phase.EXITED if clean else Phase.FAILED)
    assert life.instance.end is not None
    assert life.instance.end.exit == how


def test_exit_0_is_clean_although_other_codes_are_declared() -> None:
    assert policy.is_clean(Exit(code=0), fakes.component(success_codes=(3,)))


@pytest.mark.parametrize(
    ("how", "result"),
    [
        (Exit(code=0), Result.SUCCESS),
        (Exit(code=3), Result.EXIT_CODE),
        (Exit(signal=signal.SIGTERM), Result.SUCCESS),
        (Exit(signal=signal.SIGKILL), Result.SIGNAL),
        (Exit(signal=signal.SIGKILL, oom=True), Result.OOM_KILL),
        (Exit(code=137, oom=True), Result.OOM_KILL),
        (Exit(code=0, oom=True), Result.SUCCESS),
        (Exit(signal=signal.SIGABRT, core_dumped=True), Result.CORE_DUMP),
    ],
)
def test_the_result_says_why_it_ended(how: Exit, result: Result) -> None:
    assert policy.result_of(how, fakes.component()) is result


# ------------------------------------------------------------------ backoff


def test_the_delays_double_up_to_the_most() -> None:
    life = Life(limit=Limit(0)).running()
    pauses = []
    for _ in range(10):
        life.exited(1)
        pauses.append(life.pause)
        life.advance(life.pause + 0.001).respawned()
    assert pauses == pytest.approx([0.5, 1, 2, 4, 8, 16, 30, 30, 30, 30])


@pytest.mark.parametrize(("chance", "factor"), [(0.0, 0.9), (0.5, 1.0), (0.999999, 1.1)])
def test_the_jitter_is_a_tenth_either_way(chance: float, factor: float) -> None:
    for attempt, plain in enumerate([0.5, 1, 2, 4, 8, 16, 30, 30]):
        pause = policy.delay(Backoff(), attempt, chance)
        assert pause == pytest.approx(plain * factor, rel=1e-4)


def test_a_crash_loop_of_years_does_not_overflow() -> None:
    assert policy.delay(Backoff(factor=10.0), 1_000_000, 0.5) == pytest.approx(30.0)


def test_initial_0_restarts_at_once() -> None:
    life = Life(backoff=Backoff(initial=0.0)).running().exited(1)
    assert life.phase == Phase.WAITING
    assert life.instance.restarts == 1


def test_the_timer_ends_the_backoff_and_counts_a_restart() -> None:
    life = Life().running().exited(1)
    assert life.instance.restarts == 0
    life.advance(0.49)
    assert life.phase == Phase.BACKOFF
    life.advance(0.02)
    assert life.phase == Phase.WAITING
    assert life.instance.restarts == 1


def test_the_first_restart_after_a_healthy_life_is_immediate() -> None:
    life = Life().running().exited(1).advance(1).respawned().exited(1).advance(2).respawned()
    assert life.instance.failures == 2
    life.advance(30).exited(1)
    assert life.phase == Phase.WAITING
    life.respawned().advance(1).exited(1)
    assert life.pause == pytest.approx(0.5), "the series begins anew"


def test_a_life_shorter_than_reset_after_continues_the_series() -> None:
    life = Life().running().advance(29.9).exited(1)
    assert life.pause == pytest.approx(0.5)
    life.advance(1).respawned().advance(29).exited(1)
    assert life.pause == pytest.approx(1.0)


def test_a_clean_end_under_always_waits_too() -> None:
    """Otherwise `always` with a program that ends at once would melt the machine."""
    life = Life(restart=Restart.ALWAYS).running().exited(0)
    assert life.phase == Phase.BACKOFF


# ------------------------------------------------------------------ limit


def test_the_limit_of_consecutive_failures_ends_the_trying() -> None:
    life = Life(limit=Limit(3)).running()
    life.exited(7).advance(60).respawned().exited(7).advance(60).respawned()
    assert life.phase == Phase.RUNNING
    life.exited(7)
    assert (life.phase, life.result) == (Phase.FAILED, Result.START_LIMIT)
    assert life.instance.end is not None
    assert life.instance.end.exit == Exit(code=7)
    assert "exit 7" in life.message
    life.advance(3600).post(Go())
    assert len(life.asked(Spawn)) == 3


def test_a_healthy_life_begins_the_count_anew() -> None:
    life = Life(limit=Limit(3)).running()
    for _ in range(5):
        life.exited(7).advance(60).respawned()
        life.advance(31).exited(7)
        assert life.phase == Phase.WAITING
        life.respawned()
    assert life.phase == Phase.RUNNING


def test_a_crash_loop_after_a_long_healthy_life_is_limited_too() -> None:
    life = Life(limit=Limit(3)).running().advance(3600).exited(7).respawned()
    life.exited(7).advance(60).respawned().exited(7)
    assert (life.phase, life.result) == (Phase.FAILED, Result.START_LIMIT)


def test_limit_0_is_no_limit() -> None:
    life = Life(limit=Limit(0)).running()
    for _ in range(50):
        life.exited(7).advance(60).respawned()
    assert life.phase == Phase.RUNNING


def test_start_tries_again_after_the_limit() -> None:
    life = Life(limit=Limit(1)).running().exited(7)
    assert life.phase == Phase.FAILED
    life.post(Start())
    assert life.phase == Phase.WAITING
    assert life.instance.failures == 0


def test_reset_forgets_the_failures_and_what_gave_up_counts_as_stopped() -> None:
    life = Life(limit=Limit(1)).running().exited(7).post(Reset())
    assert life.phase == Phase.STOPPED
    assert life.instance.failures == 0
    life = Life().running().exited(7).post(Reset())
    assert life.phase == Phase.BACKOFF
    assert life.instance.failures == 0


def test_start_during_backoff_is_at_once_and_begins_anew() -> None:
    life = Life().running().exited(7).advance(0.1)
    state = life.instance.state
    assert isinstance(state, lifecycle.Backoff)
    life.post(Start())
    assert life.phase == Phase.WAITING
    assert life.instance.failures == 0
    before = life.instance
    life.post(Fired(state.timer))
    assert life.instance is before


def test_each_restart_is_one_process() -> None:
    life = Life(limit=Limit(0)).running()
    for _ in range(5):
        life.exited(1).advance(60).respawned()
    generations = [spawn.generation for spawn in life.asked(Spawn)]
    assert generations == list(range(1, 7))
    assert all(b > a for a, b in itertools.pairwise(generations))
