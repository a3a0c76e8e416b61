"""The stop of an instance, as promised: ladder, KILL, leftovers, and the later word wins."""

from __future__ import annotations

import pytest

from orchestrator.model import topology
from orchestrator.model.phase import Exit, Phase, Result
from orchestrator.model.topology import Ready, Restart, Rung
from orchestrator.supervision import lifecycle
from orchestrator.supervision.lifecycle import (
    Adopted,
    Clearing,
    Emptied,
    Exited,
    Go,
    Kill,
    KillNow,
    RunStopCommand,
    Signal,
    Spawn,
    Spawned,
    SpawnFailed,
    Start,
    Stop,
    StopCommandDone,
    StopGoesOn,
    Stopping,
    Unhealthy,
)
from tests.unit.supervision.life import FIRST, Life

LADDER = topology.Stop(ladder=(Rung("INT", 5.0), Rung("TERM", 3.0)))
COMMAND = topology.Stop(command=("bye",))


def test_a_stop_sends_term_and_is_over_when_the_tree_is_gone() -> None:
    life = Life().running()
    life.take()
    life.post(Stop())
    assert life.take() == [Signal("TERM")]
    assert life.phase == Phase.STOPPING
    life.exited(0)
    assert (life.phase, life.result) == (Phase.STOPPED, Result.REQUESTED)
    assert life.instance.end is not None
    assert life.instance.end.exit == Exit(code=0)
    assert life.take() == []


def test_a_second_stop_changes_nothing() -> None:
    life = Life().running().post(Stop())
    before = life.instance
    life.take()
    life.post(Stop())
    assert life.instance == before
    assert life.take() == []


def test_a_stop_by_request_is_never_restarted() -> None:
    for code in (0, 1, 143):
        life = Life(restart=Restart.ALWAYS).running().post(Stop()).exited(code).advance(3600)
        assert life.phase == Phase.STOPPED
        assert life.asked(Spawn) == [Spawn(1)]


def test_the_ladder_is_climbed_rung_by_rung_and_ends_in_kill() -> None:
    life = Life(stop=LADDER).running()
    life.take()
    life.post(Stop())
    assert life.take() == [Signal("INT")]
    life.advance(4.9)
    assert life.take() == []
    life.advance(0.2)
    assert life.take() == [Signal("TERM")]
    life.advance(3.0)
    assert life.take() == [Kill()]
    life.post(Exited(Exit(signal=9)))
    assert (life.phase, life.result) == (Phase.STOPPED, Result.TIMEOUT_STOP)


def test_a_rung_that_works_ends_the_ladder() -> None:
    life = Life(stop=LADDER).running().post(Stop()).advance(5.1)
    life.take()
    life.exited(0).advance(60)
    assert life.take() == []
    assert (life.phase, life.result) == (Phase.STOPPED, Result.REQUESTED)


def test_kill_is_repeated_until_nothing_is_left() -> None:
    life = Life().running().post(Stop()).advance(10.1)
    life.take()
    life.advance(3)
    assert life.take() == [Kill()] * 3
    life.post(Exited(Exit(signal=9), alone=False))
    assert life.take() == [Kill()]
    assert life.phase == Phase.STOPPING
    life.advance(1)
    assert life.take() == [Kill()]
    life.post(Emptied())
    assert life.phase == Phase.STOPPED
    life.advance(60)
    assert life.take() == []


def test_an_empty_ladder_kills_at_once() -> None:
    life = Life(stop=topology.Stop(ladder=())).running()
    life.take()
    life.post(Stop())
    assert life.take() == [Kill()]


def test_a_stop_waits_for_what_the_leader_left() -> None:
    """The leader obeyed, its children have the rest of the rung, and the signal too."""
    life = Life().running().post(Stop()).advance(2)
    life.take()
    life.post(Exited(Exit(code=0), alone=False))
    assert life.phase == Phase.STOPPING
    assert life.instance.process is None
    assert life.take() == [Signal("TERM")]
    life.advance(7.9)
    assert life.take() == []
    life.advance(0.2)
    assert life.take() == [Kill()]
    life.post(Emptied())
    assert life.phase == Phase.STOPPED


def test_the_ladder_of_a_stop_is_not_begun_anew_by_the_leaders_end() -> None:
    life = Life(stop=LADDER).running().post(Stop()).advance(5.1)
    life.take()
    life.post(Exited(Exit(code=0), alone=False))
    assert life.take() == [Signal("TERM")]
    life.advance(2.9)
    assert life.take() == [Kill()]


def test_emptied_means_nothing_while_the_leader_lives() -> None:
    life = Life().running().post(Stop())
    before = life.instance
    life.post(Emptied())
    assert life.instance is before


# ------------------------------------------------------------------ stop command


def test_the_stop_command_runs_first_and_then_the_ladder() -> None:
    life = Life(stop=COMMAND).running()
    life.take()
    life.post(Stop())
    assert life.take() == [RunStopCommand()]
    life.post(StopCommandDone())
    assert life.take() == [Signal("TERM")]


def test_a_stop_command_that_suffices_needs_no_ladder() -> None:
    life = Life(stop=COMMAND).running().post(Stop())
    life.take()
    life.exited(0)
    assert life.phase == Phase.STOPPED
    life.post(StopCommandDone()).advance(60)
    assert life.take() == []


def test_a_stop_command_that_hangs_does_not_prevent_the_stop() -> None:
    life = Life(stop=COMMAND).running().post(Stop())
    life.take()
    life.advance(lifecycle.COMMAND_TIMEOUT + 0.1)
    assert life.take() == [Signal("TERM")]
    life.post(StopCommandDone())
    assert life.take() == []
    life.advance(10.1)
    assert life.take() == [Kill()]


def test_leftovers_wait_for_the_stop_command() -> None:
    life = Life(stop=COMMAND).running().post(Stop())
    life.take()
    life.post(Exited(Exit(code=0), alone=False))
    assert life.phase == Phase.STOPPING
    life.post(StopCommandDone())
    assert life.take() == [Signal("TERM")]
    life.post(Emptied())
    assert life.phase == Phase.STOPPED


# ------------------------------------------------------------------ stop at odd moments


def test_a_stop_while_waiting_starts_nothing() -> None:
    life = Life().post(Start(), Stop(), Go())
    assert life.phase == Phase.STOPPED
    assert life.effects == []


def test_a_stop_during_backoff_starts_nothing() -> None:
    life = Life().running().exited()
    assert life.phase == Phase.BACKOFF
    life.take()
    life.post(Stop())
    assert (life.phase, life.result) == (Phase.STOPPED, Result.REQUESTED)
    life.advance(3600).post(Go())
    assert life.take() == []


def test_a_stop_during_spawning_stops_what_comes() -> None:
    life = Life().post(Start(), Go(), Stop())
    assert life.phase == Phase.STARTING
    life.take()
    life.post(Spawned(FIRST))
    assert life.phase == Phase.STOPPING
    assert life.take() == [Signal("TERM")]
    life.exited(0)
    assert (life.phase, life.result) == (Phase.STOPPED, Result.REQUESTED)


def test_a_stop_during_spawning_that_fails_is_stopped() -> None:
    life = Life().post(Start(), Go(), Stop(), SpawnFailed("cannot start: EAGAIN", transient=True))
    assert life.phase == Phase.STOPPED
    life.advance(3600)
    assert life.asked(Spawn) == [Spawn(1)]


def test_a_start_after_a_stop_during_spawning_keeps_the_process() -> None:
    life = Life(settle=0.0).post(Start(), Go(), Stop(), Start(), Spawned(FIRST))
    assert life.phase == Phase.RUNNING
    assert life.asked(Signal) == []


def test_a_stop_during_starting_stops() -> None:
    life = Life(ready=Ready(tcp="h:1")).up()
    life.take()
    life.post(Stop())
    assert life.take() == [Signal("TERM")]
    life.exited(0).advance(3600)
    assert life.phase == Phase.STOPPED


def test_a_stop_during_clearing_starts_nothing_and_keeps_the_exit() -> None:
    life = Life().running().exited(7, alone=False)
    assert isinstance(life.instance.state, Clearing)
    life.post(Stop())
    assert life.phase == Phase.STOPPING
    life.post(Emptied())
    assert life.phase == Phase.STOPPED
    assert life.instance.end is not None
    assert life.instance.end.exit == Exit(code=7)
    # The leftovers of a crash were killed; no stop of ours ran out of time.
    assert life.result != Result.TIMEOUT_STOP
    life.advance(3600)
    assert life.asked(Spawn) == [Spawn(1)]


def test_the_killing_goes_on_after_a_stop_during_clearing() -> None:
    life = Life().running().exited(7, alone=False).post(Stop())
    life.take()
    life.advance(2)
    assert life.take() == [Kill()] * 2


@pytest.mark.parametrize("result", [Result.TIMEOUT_START, Result.LIVENESS])
def test_a_stop_while_stopping_for_a_failure_is_a_request(result: Result) -> None:
    life = Life(restart=Restart.ALWAYS).running().post(Unhealthy(result, "why"), Stop())
    life.exited(1).advance(3600)
    assert (life.phase, life.result) == (Phase.STOPPED, Result.REQUESTED)


def test_a_stop_of_what_is_down_changes_nothing() -> None:
    life = Life(restart=Restart.NEVER).running().exited(1)
    before = life.instance
    life.post(Stop())
    assert life.instance is before
    assert life.phase == Phase.FAILED


# ------------------------------------------------------------------ leftovers of a crash


def test_leftovers_are_killed_before_the_restart() -> None:
    life = Life().running()
    life.take()
    life.exited(1, alone=False)
    assert life.take() == [Kill()]
    assert life.phase == Phase.STOPPING
    life.advance(0.9)
    assert life.take() == []
    life.advance(0.2)
    assert life.take() == [Kill()]
    life.post(Go())
    assert life.take() == []
    life.post(Emptied())
    assert life.phase == Phase.BACKOFF


def test_clearing_does_not_change_what_the_policy_says() -> None:
    life = Life(restart=Restart.NEVER).running().exited(0, alone=False).post(Emptied())
    assert (life.phase, life.result) == (Phase.EXITED, Result.SUCCESS)
    life = Life(restart=Restart.NEVER).running().exited(7, alone=False).post(Emptied())
    assert (life.phase, life.result) == (Phase.FAILED, Result.EXIT_CODE)


# ------------------------------------------------------------------ kill now


@pytest.mark.parametrize("stopping", [False, True])
def test_kill_now_skips_the_ladder(stopping: bool) -> None:
    life = Life(stop=LADDER).running()
    if stopping:
        life.post(Stop())
    life.take()
    life.post(KillNow())
    assert life.take() == [Kill()]
    life.advance(1.1)
    assert life.take() == [Kill()]
    life.post(Exited(Exit(signal=9)))
    assert life.phase == Phase.STOPPED


def test_kill_now_skips_the_stop_command() -> None:
    life = Life(stop=COMMAND).running()
    life.take()
    life.post(KillNow())
    assert life.take() == [Kill()]
    life.post(StopCommandDone())
    assert life.take() == []


@pytest.mark.parametrize("result", [Result.TIMEOUT_START, Result.LIVENESS])
def test_kill_now_is_a_request_whatever_was_the_reason_before(result: Result) -> None:
    life = Life(restart=Restart.ALWAYS).running().post(Unhealthy(result, "why"), KillNow())
    life.post(Exited(Exit(signal=9))).advance(3600)
    assert life.phase == Phase.STOPPED
    assert life.asked(Spawn) == [Spawn(1)]


def test_kill_now_during_spawning_kills_what_comes() -> None:
    """The second Ctrl-C kills; it does not begin a ladder."""
    life = Life(stop=LADDER).post(Start(), Go(), KillNow())
    life.take()
    life.post(Spawned(FIRST))
    assert life.take() == [Kill()]


def test_kill_now_during_clearing_is_a_request() -> None:
    life = Life(restart=Restart.ALWAYS).running().exited(1, alone=False).post(KillNow(), Emptied())
    life.advance(3600)
    assert life.asked(Spawn) == [Spawn(1)]
    assert life.phase == Phase.STOPPED


@pytest.mark.parametrize("so_far", [(Start(),), ()])
def test_kill_now_of_what_has_no_process_is_a_stop(so_far: tuple[lifecycle.Event, ...]) -> None:
    life = Life().post(*so_far, KillNow(), Go())
    assert life.phase == Phase.STOPPED
    assert life.effects == []


# ------------------------------------------------------------------ stale events


def test_old_timers_change_nothing() -> None:
    """A stop, a start and a stop again: the first ladder's timer is outlived."""
    life = Life().running().post(Stop()).advance(9).exited(0)
    life.post(Start()).respawned().post(Stop())
    life.take()
    life.advance(2)
    assert life.take() == []
    state = life.instance.state
    assert isinstance(state, Stopping)
    assert not state.killed


def test_a_settle_timer_of_an_earlier_process_does_not_make_ready() -> None:
    life = Life(settle=1.0).up().advance(0.9).exited(1).advance(0.05).post(Stop(), Start(), Go())
    life.post(Spawned(FIRST)).advance(0.5)
    assert life.phase == Phase.STARTING
    life.advance(0.6)
    assert life.phase == Phase.RUNNING


def test_an_end_that_is_told_twice_counts_once() -> None:
    life = Life().running().exited(1)
    before = life.instance
    life.exited(1).post(Emptied())
    assert life.instance is before


def test_a_process_that_nobody_asked_for_is_killed() -> None:
    life = Life().post(Spawned(FIRST))
    assert life.effects == [Kill()]
    life = Life().running()
    life.take()
    life.post(Adopted(FIRST, ready=True, spawned_at=0.0))
    assert life.take() == []


def test_go_means_nothing_unless_waiting() -> None:
    for life in (
        Life(),
        Life().running(),
        Life().running().exited(),
        Life().running().post(Stop()),
    ):
        before = life.instance
        life.take()
        life.post(Go())
        assert life.instance is before
        assert life.take() == []


def test_a_stop_that_was_begun_goes_on_with_what_is_left_of_its_rung() -> None:
    life = Life(stop=LADDER).post(Adopted(FIRST, False, 50.0))
    life.take()
    life.post(StopGoesOn(0, 2.0, Result.REQUESTED)).advance(1.9)
    assert life.take() == []
    life.advance(0.2)
    assert life.take() == [Signal("TERM")]
    life.exited(0)
    assert (life.phase, life.result) == (Phase.STOPPED, Result.REQUESTED)


def test_a_killing_that_was_begun_goes_on_at_once() -> None:
    life = Life(stop=LADDER).post(Adopted(FIRST, False, 50.0))
    life.take()
    life.post(StopGoesOn(2, 1.0, Result.TIMEOUT_STOP))
    assert life.take() == [Kill()]


def test_leftovers_of_a_stop_that_was_begun_have_heard_its_signal() -> None:
    life = Life(stop=LADDER).post(Adopted(FIRST, False, 50.0))
    life.take()
    life.post(StopGoesOn(0, 2.0, Result.REQUESTED, ended=True, exit=Exit(code=3)))
    life.exited(3, alone=False)
    assert life.take() == []
    life.post(Emptied())
    assert (life.phase, life.result) == (Phase.STOPPED, Result.REQUESTED)
    assert life.instance.end is not None
    assert life.instance.end.exit == Exit(code=3)
