"""What follows from being found ill: liveness, watchdog, and a readiness that flaps."""

from __future__ import annotations

from typing import Any

from orchestrator.model import topology
from orchestrator.model.phase import Exit, Phase, Result
from orchestrator.model.topology import Backoff, Probe, Ready, Restart, Rung
from orchestrator.supervision import lifecycle
from orchestrator.supervision.lifecycle import (
    BecameReady,
    Exited,
    Guard,
    LostReadiness,
    Signal,
    Spawn,
    Unhealthy,
    Watch,
)
from tests.unit.supervision.life import FIRST, Life

LIVE = Probe(http="http://h/")
READY = Ready(notify=True)
ILL = Unhealthy(Result.LIVENESS, "its liveness probe (http) failed 3 times: HTTP 503")
HANGS = Unhealthy(Result.WATCHDOG, "no WATCHDOG=1 within 1s")


def counted(life: Life, kind: type) -> int:
    return sum(isinstance(effect, kind) for effect in life.effects)


def signals(life: Life) -> list[str]:
    return [effect.signal for effect in life.effects if isinstance(effect, Signal)]


def guarded(**fields: Any) -> Life:
    return Life(ready=READY, live=LIVE, **fields).running()


def test_liveness_is_looked_after_from_the_first_readiness_on() -> None:
    life = Life(ready=READY, live=LIVE).up()
    assert (counted(life, Watch), counted(life, Guard)) == (1, 0)
    life.post(BecameReady())
    assert counted(life, Guard) == 1


def test_a_readiness_that_flaps_begins_nothing_anew_and_restarts_nothing() -> None:
    life = guarded()
    for _ in range(5):
        life.post(LostReadiness())
        assert (life.instance.phase, life.instance.ready) == (Phase.RUNNING, False)
        life.post(BecameReady())
        assert life.instance.ready
    assert (counted(life, Guard), counted(life, Spawn)) == (1, 1)


def test_a_command_that_settles_is_looked_after_too() -> None:
    assert counted(Life(live=LIVE, settle=0.0).up(), Guard) == 1
    life = Life(live=LIVE, settle=1.0).up()
    assert counted(life, Guard) == 0
    assert counted(life.advance(1.0), Guard) == 1


def test_what_has_neither_probe_nor_watchdog_is_not_looked_after() -> None:
    assert counted(Life(ready=READY).running(), Guard) == 0
    assert counted(Life(ready=READY, watchdog=3.0).running(), Guard) == 1


def test_an_adopted_process_is_looked_after_at_once() -> None:
    life = Life(live=LIVE, settle=0.0)
    life.post(lifecycle.Adopted(FIRST, ready=True, spawned_at=50.0))
    assert counted(life, Guard) == 1


def test_a_start_up_probe_replaces_settling() -> None:
    life = Life(startup=Probe(tcp="h:1"), settle=0.0, start_timeout=5.0).up()
    assert counted(life, Watch) == 1
    assert life.instance.phase is Phase.STARTING
    life.advance(5.0)
    assert life.instance.end is not None
    assert life.instance.end.result is Result.TIMEOUT_START


def test_failing_liveness_restarts_exactly_once_also_when_it_fails_again_meanwhile() -> None:
    life = guarded(backoff=Backoff(initial=5.0))
    life.post(ILL, ILL)
    assert (life.instance.phase, signals(life)) == (Phase.STOPPING, ["TERM"])
    life.post(Exited(Exit(code=0)), ILL)
    assert life.instance.phase is Phase.BACKOFF
    assert life.instance.end is not None
    assert (life.instance.end.result, life.instance.end.exit) == (Result.LIVENESS, Exit(code=0))
    assert life.instance.end.message == ILL.message
    life.advance(5.0).post(ILL, lifecycle.Go(), ILL)
    assert (life.instance.restarts, counted(life, Spawn)) == (1, 2)


def test_failing_liveness_is_a_failure_whatever_the_exit_code() -> None:
    life = guarded(restart=Restart.NEVER)
    life.post(ILL, Exited(Exit(code=0)))
    assert life.instance.phase is Phase.FAILED


def test_a_stop_while_it_is_brought_down_for_liveness_wins() -> None:
    life = guarded()
    life.post(ILL, lifecycle.Stop(), Exited(Exit(code=0)))
    assert life.instance.phase is Phase.STOPPED


def test_a_missed_watchdog_aborts_and_then_goes_down_the_ladder() -> None:
    stop = topology.Stop(ladder=(Rung("INT", 2.0), Rung("TERM", 3.0)))
    life = Life(ready=READY, watchdog=1.0, stop=stop).running().post(HANGS)
    assert signals(life) == ["ABRT"]
    assert signals(life.advance(2.0)) == ["ABRT", "INT"]
    assert signals(life.advance(2.0)) == ["ABRT", "INT", "TERM"]
    assert counted(life, lifecycle.Kill) == 0
    assert counted(life.advance(3.0), lifecycle.Kill) == 1
    life.post(Exited(Exit(signal=9)))
    assert life.instance.phase is Phase.BACKOFF
    assert life.instance.end is not None
    assert life.instance.end.result is Result.WATCHDOG


def test_what_an_aborted_leader_leaves_gets_the_ladder_at_once() -> None:
    life = Life(ready=READY, watchdog=1.0).running().post(HANGS)
    life.post(Exited(Exit(signal=6), alone=False))
    assert signals(life) == ["ABRT", "TERM"]
    life.post(lifecycle.Emptied())
    assert life.instance.phase is Phase.BACKOFF


def test_what_hangs_is_not_asked_by_its_stop_command() -> None:
    stop = topology.Stop(command=("bye",))
    life = Life(ready=READY, watchdog=1.0, stop=stop).running().post(HANGS)
    assert counted(life, lifecycle.RunStopCommand) == 0


def test_a_stop_while_it_is_aborted_waits_for_the_same_ladder() -> None:
    life = Life(ready=READY, watchdog=1.0).running().post(HANGS, lifecycle.Stop())
    assert signals(life.advance(10.0)) == ["ABRT", "TERM"]
    life.post(Exited(Exit(signal=15)))
    assert life.instance.phase is Phase.STOPPED


def test_without_a_ladder_what_hangs_is_aborted_and_killed() -> None:
    stop = topology.Stop(ladder=())
    life = Life(ready=READY, watchdog=1.0, stop=stop).running().post(HANGS)
    assert signals(life) == ["ABRT"]
    assert counted(life.advance(lifecycle.KILL_AGAIN), lifecycle.Kill) == 1
