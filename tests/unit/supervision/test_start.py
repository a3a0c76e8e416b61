"""The start of an instance, as promised: spawn, readiness, timeouts, errors."""

from __future__ import annotations

import pytest

from orchestrator.model.phase import Exit, Phase, Result
from orchestrator.model.topology import Limit, Ready, Restart
from orchestrator.supervision import lifecycle
from orchestrator.supervision.lifecycle import (
    Adopted,
    BecameReady,
    DependencyFailed,
    Exited,
    Go,
    LostReadiness,
    Spawn,
    Spawned,
    SpawnFailed,
    Start,
    Stop,
    Unhealthy,
    Watch,
)
from tests.unit.supervision.life import FIRST, Life

TCP = Ready(tcp="127.0.0.1:1")


def test_a_start_waits_until_it_may_go() -> None:
    life = Life().post(Start())
    assert life.phase == Phase.WAITING
    assert life.effects == []
    life.post(Go())
    assert life.phase == Phase.STARTING
    assert life.effects == [Spawn(1)]


def test_a_second_start_changes_nothing() -> None:
    life = Life().post(Start(), Go())
    before = life.instance
    life.post(Start(), Go())
    assert life.instance is before
    assert life.asked(Spawn) == [Spawn(1)]


def test_a_command_is_ready_when_it_has_lived_for_settle() -> None:
    life = Life(settle=1.0).up()
    life.advance(0.99)
    assert life.phase == Phase.STARTING
    assert not life.instance.ready
    life.advance(0.02)
    assert life.phase == Phase.RUNNING
    assert life.instance.ready


def test_settle_0_is_ready_at_once() -> None:
    life = Life(settle=0.0).up()
    assert life.phase == Phase.RUNNING
    assert life.instance.ready
    assert not life.asked(lifecycle.Arm)


def test_a_command_that_ends_within_settle_was_never_ready() -> None:
    life = Life(settle=1.0, restart=Restart.NEVER).up().advance(0.5).exited(1)
    assert life.phase == Phase.FAILED
    life.advance(5)
    assert life.phase == Phase.FAILED


@pytest.mark.parametrize("fields", [{"ready": TCP}, {"handler": "/app/h.py", "command": ()}])
def test_a_probe_or_a_runtime_decides_readiness_not_settle(fields: dict[str, object]) -> None:
    life = Life(**fields).up().advance(30)
    assert life.phase == Phase.STARTING
    assert life.asked(Watch) == [Watch()]
    life.post(BecameReady())
    assert life.phase == Phase.RUNNING
    assert life.instance.ready


def test_a_lost_readiness_never_restarts() -> None:
    life = Life(ready=TCP).running()
    life.take()
    life.post(LostReadiness())
    assert (life.phase, life.instance.ready) == (Phase.RUNNING, False)
    life.advance(3600)
    assert life.take() == []
    life.post(BecameReady())
    assert life.instance.ready


def test_start_timeout_stops_and_the_policy_decides() -> None:
    life = Life(ready=TCP, start_timeout=5.0).up()
    life.advance(4.9)
    assert life.phase == Phase.STARTING
    life.advance(0.2)
    assert life.phase == Phase.STOPPING
    assert life.take()[-1] == lifecycle.Signal("TERM")
    life.post(Exited(Exit(signal=15)))
    assert life.phase == Phase.BACKOFF
    assert life.result == Result.TIMEOUT_START
    assert "5s" in life.message


def test_start_timeout_under_never_is_final() -> None:
    life = Life(ready=TCP, start_timeout=5.0, restart=Restart.NEVER).up().advance(5.1)
    life.post(Exited(Exit(code=0)))
    assert (life.phase, life.result) == (Phase.FAILED, Result.TIMEOUT_START)


def test_start_timeout_means_nothing_once_ready() -> None:
    life = Life(ready=TCP, start_timeout=5.0).running().advance(100)
    assert life.phase == Phase.RUNNING


def test_start_timeout_0_waits_for_ever() -> None:
    life = Life(ready=TCP, start_timeout=0.0).up().advance(1e6)
    assert life.phase == Phase.STARTING


def test_what_never_becomes_ready_has_no_healthy_life() -> None:
    """With the defaults: a start of 60 s is longer than `reset_after`, and yet no success."""
    life = Life(ready=TCP, start_timeout=60.0, limit=Limit(3)).up()
    for _ in range(3):
        life.advance(61).post(Exited(Exit(signal=15)))
        if life.phase == Phase.BACKOFF:
            life.advance(60)
        if life.phase == Phase.WAITING:
            life.post(Go(), Spawned(FIRST))
    assert (life.phase, life.result) == (Phase.FAILED, Result.START_LIMIT)


def test_the_time_that_a_stop_takes_is_no_healthy_life() -> None:
    life = Life(ready=TCP, start_timeout=25.0).up().advance(34)
    assert life.phase == Phase.STOPPING
    life.advance(0.9).post(Exited(Exit(signal=9)))
    assert life.phase == Phase.BACKOFF


def test_a_spawn_error_fails_at_once_and_says_why() -> None:
    life = Life(restart=Restart.ALWAYS).post(Start(), Go())
    life.post(SpawnFailed("cannot execute './x': No such file or directory"))
    assert (life.phase, life.result) == (Phase.FAILED, Result.SPAWN_ERROR)
    assert life.message == "cannot execute './x': No such file or directory"
    life.advance(3600)
    assert life.asked(Spawn) == [Spawn(1)]


def test_a_transient_spawn_error_backs_off_and_tries_again() -> None:
    life = Life(restart=Restart.NEVER).post(Start(), Go())
    life.post(SpawnFailed("cannot start './x': Resource temporarily unavailable", transient=True))
    assert (life.phase, life.result) == (Phase.BACKOFF, Result.SPAWN_ERROR)
    life.advance(0.6).post(Go())
    assert life.asked(Spawn) == [Spawn(1), Spawn(2)]


def test_transient_spawn_errors_reach_the_limit_too() -> None:
    life = Life(limit=Limit(3)).post(Start())
    for _ in range(3):
        life.post(Go(), SpawnFailed("cannot start './x': EAGAIN", transient=True)).advance(60)
    assert (life.phase, life.result) == (Phase.FAILED, Result.START_LIMIT)
    assert "EAGAIN" in life.message


def test_a_dependency_that_failed_fails_the_waiting() -> None:
    life = Life().post(Start(), DependencyFailed("cannot start 'web': 'db' failed (exit 1)"))
    assert (life.phase, life.result) == (Phase.FAILED, Result.DEPENDENCY)
    assert life.message == "cannot start 'web': 'db' failed (exit 1)"


@pytest.mark.parametrize("so_far", [(), (Start(), Go()), (Start(), Go(), Spawned(FIRST))])
def test_a_dependency_that_failed_matters_only_while_waiting(
    so_far: tuple[lifecycle.Event, ...],
) -> None:
    life = Life().post(*so_far)
    before = life.instance
    life.post(DependencyFailed("too late"))
    assert life.instance is before


def test_generations_count_processes() -> None:
    life = Life(settle=0.0).up().exited().advance(1).respawned()
    assert life.instance.generation == 2
    assert life.instance.restarts == 1
    life.post(Stop()).exited().post(Start())
    assert life.instance.generation == 2
    life.post(Go())
    assert life.instance.generation == 3
    assert life.instance.restarts == 1


# ------------------------------------------------------------------ adoption


def test_an_adopted_process_that_was_ready_is_ready() -> None:
    life = Life(settle=1.0).post(Adopted(FIRST, ready=True, spawned_at=40.0))
    assert (life.phase, life.instance.ready) == (Phase.RUNNING, True)
    assert life.instance.process == FIRST
    assert life.asked(Spawn) == []
    assert life.instance.generation == 0


def test_an_adopted_process_keeps_being_probed() -> None:
    life = Life(ready=TCP).post(Adopted(FIRST, ready=True, spawned_at=40.0))
    assert life.asked(Watch) == [Watch()]


def test_an_adopted_process_that_was_not_ready_goes_on_starting() -> None:
    life = Life(ready=TCP, start_timeout=5.0)
    life.post(Adopted(FIRST, ready=False, spawned_at=99.0))
    assert life.phase == Phase.STARTING
    assert life.asked(Watch) == [Watch()]
    assert life.asked(Spawn) == []
    life.post(BecameReady())
    assert life.phase == Phase.RUNNING


def test_an_adopted_life_counts_from_its_spawn() -> None:
    """A healthy life goes on although the daemon died within it."""
    life = Life().post(Adopted(FIRST, ready=True, spawned_at=60.0)).exited(1)
    assert life.phase == Phase.WAITING
    young = Life().post(Adopted(FIRST, ready=True, spawned_at=95.0)).exited(1)
    assert young.phase == Phase.BACKOFF


def test_an_adopted_process_can_be_stopped() -> None:
    life = Life().post(Adopted(FIRST, ready=True, spawned_at=60.0), Stop())
    assert life.take()[-1] == lifecycle.Signal("TERM")
    life.exited(0)
    assert life.phase == Phase.STOPPED


def test_what_has_a_process_adopts_no_other() -> None:
    life = Life().running()
    before = life.instance
    life.post(Adopted(FIRST, ready=True, spawned_at=0.0))
    assert life.instance is before


# ------------------------------------------------------------------ health


@pytest.mark.parametrize("result", [Result.WATCHDOG, Result.LIVENESS])
def test_unhealthy_is_stopped_and_started_again(result: Result) -> None:
    life = Life().running().post(Unhealthy(result, "no answer"))
    assert life.phase == Phase.STOPPING
    life.post(Exited(Exit(code=0)))
    assert (life.phase, life.result) == (Phase.BACKOFF, result)
    assert life.message == "no answer"


def test_unhealthy_under_never_fails() -> None:
    life = Life(restart=Restart.NEVER).running().post(Unhealthy(Result.LIVENESS, "no answer"))
    life.post(Exited(Exit(code=0)))
    assert (life.phase, life.result) == (Phase.FAILED, Result.LIVENESS)
