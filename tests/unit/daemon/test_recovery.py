"""The daemon's own death, at each moment of a life: nothing is lost, nothing runs twice."""

from __future__ import annotations

import signal

import pytest

from orchestrator.errors import SpawnError
from orchestrator.model.phase import Exit, Result
from orchestrator.model.topology import Dependency, Limit, Ready, Restart, Rung, Stop
from orchestrator.supervision import lifecycle
from tests import fakes
from tests.fakes import DaemonKilled, Fork, Program
from tests.unit.daemon.system import System

TCP = Ready(tcp="h:1")
DB = fakes.component("shop.db", ready=TCP)
WEB = fakes.component("shop.web", ready=TCP, depends_on={"shop.db": Dependency()})
CALM = fakes.component("shop.calm", settle=0.0)
SLOT = "shop.calm@1"
STUBBORN = Program(ignores=frozenset({signal.SIGTERM}))
DEAF = Program(ignores=frozenset({signal.SIGTERM, signal.SIGINT}))
LADDER = Stop((Rung("INT", 5.0), Rung("TERM", 5.0)))


def test_what_runs_is_adopted_with_the_same_pid(system: System) -> None:
    system.apply(CALM, DB, WEB)
    system.ready("shop.db@1")
    before = {slot: system.process(slot) for slot in system.supervisor.slots}
    system.reborn()
    system.host.advance(5)
    assert {slot: system.process(slot) for slot in system.supervisor.slots} == before
    assert len(system.started()) == 3
    assert system.host.sent == []
    assert system.phases() == {
        "shop.calm@1": "running",
        "shop.db@1": "running",
        "shop.web@1": "starting",
    }
    assert system.mismatches() == []


def test_an_exit_while_no_daemon_lived_is_not_lost(system: System) -> None:
    system.apply(fakes.with_fields(CALM, restart=Restart.NEVER))
    process = system.process(SLOT)
    system.kill_daemon()
    system.host.end(process, Exit(code=7))
    system.host.advance(10)
    system.new_daemon()
    system.host.advance(10)
    assert (system.phase(SLOT), system.result(SLOT)) == ("failed", "exit-code")
    end = system.instance(SLOT).end
    assert end is not None
    assert end.exit == Exit(code=7)
    assert system.host.zombies() == ()


def test_an_exit_while_no_daemon_lived_is_restarted(system: System) -> None:
    system.apply(CALM)
    process = system.process(SLOT)
    system.kill_daemon()
    system.host.end(process, Exit(code=7))
    system.new_daemon()
    system.host.advance(5)
    assert system.phase(SLOT) == "running"
    assert system.instance(SLOT).restarts == 1
    assert system.instance(SLOT).generation == 2


@pytest.mark.parametrize("fuse", range(12))
def test_a_death_during_the_first_start_ends_in_one_process(system: System, fuse: int) -> None:
    """Between intent, fork, answer and entry: the marker finds what the journal misses."""
    system.host.fuse = fuse
    try:
        system.apply(CALM)
    except DaemonKilled:
        system.kill_daemon()
        system.new_daemon()
    system.host.fuse = None
    system.apply(CALM)
    system.host.advance(5)
    assert system.phase(SLOT) == "running"
    assert system.living(SLOT) == 1
    assert len(system.started()) == 1


@pytest.mark.parametrize("fuse", range(14))
def test_a_death_during_a_restart_ends_in_one_process(system: System, fuse: int) -> None:
    system.apply(CALM, DB)
    system.host.advance(5)
    system.host.fuse = fuse
    try:
        system.crash(SLOT, 7)
        system.host.advance(5)
    except DaemonKilled:
        system.kill_daemon()
        system.new_daemon()
    system.host.fuse = None
    system.host.advance(5)
    assert system.phase(SLOT) == "running"
    assert system.living(SLOT) == 1
    assert len(system.started()) == 3


def test_a_start_whose_row_never_came_is_known_by_its_intent(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal knows the process before; the intent says that another may be there."""
    system.apply(CALM)
    system.host.advance(5)
    monkeypatch.setattr(system.journal, "write", lambda _rows: False)  # a kill before it
    system.crash(SLOT, 7)
    system.host.advance(5)
    assert system.living(SLOT) == 1
    system.reborn()
    system.host.advance(5)
    assert system.instance(SLOT).generation == 2
    assert system.instance(SLOT).restarts == 1
    assert len(system.started()) == 2
    assert system.living(SLOT) == 1


def test_hand_stopped_stays_stopped(system: System) -> None:
    system.apply(CALM, DB)
    system.supervisor.stop([SLOT])
    system.host.advance(1)
    system.reborn()
    system.host.advance(60)
    assert system.phase(SLOT) == "stopped"
    assert not system.supervisor.slots[SLOT].up


@pytest.mark.parametrize(
    ("code", "phase"), [(0, "exited"), (3, "failed")], ids=["exited", "failed"]
)
def test_what_has_ended_stays_ended(system: System, code: int, phase: str) -> None:
    system.apply(fakes.with_fields(CALM, restart=Restart.NEVER))
    system.crash(SLOT, code)
    system.reborn()
    system.host.advance(60)
    assert system.phase(SLOT) == phase
    assert len(system.started()) == 1
    end = system.instance(SLOT).end
    assert end is not None
    assert end.exit == Exit(code=code)


def test_a_disabled_one_stays_disabled(system: System) -> None:
    system.apply(fakes.with_fields(CALM, enabled=False))
    system.reborn()
    system.host.advance(60)
    assert system.phase(SLOT) == "disabled"


def test_a_backoff_goes_on_where_it_was(system: System) -> None:
    system.apply(CALM, program=Program(0.1, Exit(code=1)))
    system.host.run_until(lambda: system.instance(SLOT).failures == 4, limit=60)
    system.host.turn()
    assert system.phase(SLOT) == "backoff"
    due = system.supervisor.facts[SLOT].due
    started = len(system.started())
    system.reborn()
    assert system.phase(SLOT) == "backoff"
    assert system.instance(SLOT).failures == 4
    system.host.run_until(due - 0.01)
    assert len(system.started()) == started
    system.host.run_until(due + 0.01)
    assert len(system.started()) == started + 1


def test_a_backoff_that_is_overdue_ends_at_once(system: System) -> None:
    system.apply(CALM)
    system.crash(SLOT)
    system.kill_daemon()
    system.host.advance(600)
    system.new_daemon()
    system.host.turn()
    assert system.phase(SLOT) == "running"


def test_a_crash_loop_is_counted_across_daemons(system: System) -> None:
    """A daemon that dies with each crash must not make a loop without end of it."""
    system.apply(fakes.with_fields(CALM, limit=Limit(4)), program=Program(0.2, Exit(code=1)))
    for _ in range(40):
        if system.phase(SLOT) == "failed":
            break
        system.host.advance(0.5)
        system.reborn()
        system.host.advance(0.5)
    assert (system.phase(SLOT), system.result(SLOT)) == ("failed", "start-limit")
    assert len(system.started()) == 4


def test_failures_are_kept_while_a_restart_waits_for_its_dependency(system: System) -> None:
    web = fakes.with_fields(WEB, limit=Limit(3))
    system.apply(DB, web)
    system.ready("shop.db@1")
    system.crash("shop.web@1")
    system.supervisor.stop(["shop.db@1"])
    system.host.advance(5)
    assert system.phase("shop.web@1") == "waiting"
    assert system.instance("shop.web@1").failures == 1
    system.reborn()
    system.host.advance(1)
    assert system.phase("shop.web@1") == "waiting"
    assert system.instance("shop.web@1").failures == 1


# ------------------------------------------------------------------ within a stop


def test_a_stop_goes_on(system: System) -> None:
    system.apply(CALM, program=STUBBORN)
    system.supervisor.stop([SLOT])
    system.host.advance(1)
    system.reborn()
    system.host.advance(30)
    assert system.phase(SLOT) == "stopped"
    assert system.living() == 0


def test_a_stop_whose_leader_is_gone_goes_on_to_the_last_of_the_tree(system: System) -> None:
    tree = Program(forks=(Fork(STUBBORN, setsid=True),))
    system.apply(CALM, program=tree)
    system.supervisor.stop([SLOT])
    system.host.advance(1)
    assert system.instance(SLOT).process is None
    system.reborn()
    system.host.advance(30)
    assert system.phase(SLOT) == "stopped"
    assert system.living() == 0


def test_a_stop_goes_on_where_it_was(system: System) -> None:
    """No signal twice, no step longer than it may be: also over two deaths."""
    system.apply(fakes.with_fields(CALM, stop=LADDER), program=DEAF)
    system.supervisor.stop([SLOT])
    begun = system.host.now()
    system.host.advance(2)
    system.reborn()
    system.host.advance(2)
    system.reborn()
    assert system.host.names() == ["INT"]
    system.host.advance(2)
    assert system.host.names() == ["INT", "TERM"]
    system.reborn()
    system.host.run_until(lambda: system.phase(SLOT) == "stopped", limit=30)
    assert system.host.names() == ["INT", "TERM", "KILL"]
    assert system.host.now() - begun == 10
    assert system.result(SLOT) == "timeout-stop"


def test_what_was_left_of_a_tree_is_not_told_again(system: System) -> None:
    tree = Program(forks=(Fork(DEAF, setsid=True),))
    system.apply(CALM, program=tree)
    system.supervisor.stop([SLOT])
    system.host.advance(1)
    told = system.host.names()
    system.reborn()
    system.host.advance(1)
    assert system.host.names() == told
    system.host.advance(30)
    assert system.phase(SLOT) == "stopped"
    assert system.living() == 0


@pytest.mark.parametrize(("lives", "over"), [(3.0, 3.0), (60.0, 10.0)])
def test_a_stop_command_is_run_once(system: System, lives: float, over: float) -> None:
    """The next daemon waits for what is left of it, and no longer than it may take."""
    system.host.programs["bye",] = Program(lives)
    component = fakes.with_fields(CALM, stop=Stop(LADDER.ladder, command=("bye",)))
    system.apply(component, program=STUBBORN)
    begun = system.host.now()
    system.supervisor.stop([SLOT])
    system.host.advance(1)
    system.reborn()
    system.host.run_until(lambda: "INT" in system.host.names(), limit=30)
    assert system.host.now() - begun == over
    assert [order.argv for order in system.host.orders].count(("bye",)) == 1
    system.host.advance(30)
    assert system.phase(SLOT) == "stopped"
    assert system.living() == 0


def test_why_it_is_stopped_is_not_forgotten(system: System) -> None:
    """A request that came later counts, and so does the life that it had."""
    component = fakes.with_fields(CALM, stop=LADDER, limit=Limit(failures=2))
    system.apply(component, program=DEAF)
    system.host.advance(60)
    system.supervisor.post(SLOT, lifecycle.Unhealthy(Result.LIVENESS, "it hangs"))
    system.host.advance(1)
    system.reborn()
    system.host.run_until(lambda: system.phase(SLOT) != "stopping", limit=30)
    assert system.result(SLOT) == "liveness"
    assert system.phase(SLOT) == "running", "it was well for a minute: that is no series"
    system.supervisor.post(SLOT, lifecycle.Unhealthy(Result.LIVENESS, "it hangs"))
    system.host.advance(1)
    system.supervisor.stop([SLOT])
    system.host.advance(1)
    system.reborn()
    system.host.advance(30)
    assert (system.phase(SLOT), system.result(SLOT)) == ("stopped", "timeout-stop")


def test_leftovers_of_a_crash_are_killed_by_the_next_daemon(system: System) -> None:
    leaves = Program(1.0, Exit(code=7), forks=(Fork(STUBBORN, setsid=True, orphan=True),))
    system.apply(CALM, program=leaves)
    living: list[int] = []
    system.host.on_spawn = lambda _order: living.append(system.living(SLOT))
    system.host.run_until(lambda: system.phase(SLOT) == "stopping")
    system.reborn()
    system.host.run_until(lambda: len(system.started()) == 2, limit=30)
    assert living == [0], "a start beside what the last life left"


def test_an_exit_code_survives_although_leftovers_were_being_killed(system: System) -> None:
    leaves = Program(1.0, Exit(code=7), forks=(Fork(STUBBORN, setsid=True),))
    system.apply(fakes.with_fields(CALM, restart=Restart.NEVER), program=leaves)
    system.host.run_until(lambda: system.phase(SLOT) == "stopping")
    system.reborn()
    system.host.advance(30)
    assert len(system.started()) == 1, "restart: never"
    assert (system.phase(SLOT), system.result(SLOT)) == ("failed", "exit-code")
    end = system.instance(SLOT).end
    assert end is not None
    assert end.exit == Exit(code=7)
    assert system.living() == 0


def test_leftovers_of_what_died_without_a_daemon_are_killed(system: System) -> None:
    leaves = Program(1.0, Exit(code=7), forks=(Fork(STUBBORN, setsid=True),))
    system.apply(CALM, program=leaves)
    system.kill_daemon()
    system.host.advance(5)
    living: list[int] = []
    system.host.on_spawn = lambda _order: living.append(system.living(SLOT))
    system.new_daemon()
    system.host.run_until(lambda: len(system.started()) == 2, limit=30)
    assert living == [0]


def test_a_start_that_timed_out_under_never_is_not_tried_again(system: System) -> None:
    db = fakes.with_fields(DB, restart=Restart.NEVER, start_timeout=5.0)
    system.apply(db, program=STUBBORN)
    system.host.advance(6)
    assert system.phase("shop.db@1") == "stopping"
    system.reborn()
    system.host.advance(30)
    assert len(system.started()) == 1
    assert (system.phase("shop.db@1"), system.result("shop.db@1")) == ("failed", "timeout-start")


def test_a_restart_in_progress_is_finished(system: System) -> None:
    system.apply(CALM, program=Program(handles={signal.SIGTERM: (3.0, Exit(code=0))}))
    system.supervisor.restart([SLOT])
    system.host.advance(1)
    system.reborn()
    system.host.advance(30)
    assert system.phase(SLOT) == "running"
    assert len(system.started()) == 2


def test_a_shutdown_that_was_interrupted_leaves_nothing_running(system: System) -> None:
    system.apply(CALM, DB, program=STUBBORN)
    system.supervisor.shutdown()
    system.host.advance(1)
    system.reborn()
    system.host.advance(30)
    assert system.living() == 0
    assert set(system.phases().values()) == {"stopped"}


# ------------------------------------------------------------------ within a start


def test_a_slow_spawn_is_found_by_its_marker(system: System) -> None:
    system.apply(CALM, program=Program(slow=1.0))
    system.host.advance(0.5)
    system.reborn()
    system.host.advance(5)
    assert system.phase(SLOT) == "running"
    assert system.living(SLOT) == 1
    assert len(system.started()) == 1


def test_a_slow_spawn_that_nobody_wants_any_more_is_stopped(system: System) -> None:
    system.apply(CALM, program=Program(slow=1.0))
    system.supervisor.stop([SLOT])
    system.reborn()
    system.host.advance(5)
    assert system.phase(SLOT) == "stopped"
    assert system.living() == 0


def test_a_set_up_that_failed_without_a_daemon_is_tried_again(system: System) -> None:
    error = SpawnError("become user x", 22, "unknown")
    system.apply(CALM, program=Program(slow=1.0, fails=error))
    system.kill_daemon()
    system.host.advance(5)
    system.new_daemon()
    system.host.advance(0.5)
    system.host.advance(5)
    assert system.phase(SLOT) == "failed"
    assert system.result(SLOT) == "spawn-error"
    assert len(system.started()) == 2


def test_a_start_timeout_begins_anew_at_worst(system: System) -> None:
    system.apply(fakes.with_fields(DB, start_timeout=5.0))
    system.host.advance(3)
    system.reborn()
    system.host.advance(5.2)
    assert system.phase("shop.db@1") == "backoff"


def test_dependents_wait_on_after_a_rebirth(system: System) -> None:
    system.apply(DB, WEB)
    system.reborn()
    assert system.phases() == {"shop.db@1": "starting", "shop.web@1": "waiting"}
    system.ready("shop.db@1")
    assert system.phase("shop.web@1") == "starting"


# ------------------------------------------------------------------ readiness


def test_ready_stays_ready_and_is_looked_at_again(system: System) -> None:
    system.apply(DB)
    system.ready("shop.db@1")
    system.reborn()
    system.host.turn()
    assert system.instance("shop.db@1").ready
    assert "shop.db@1" in system.probes.watched


def test_not_ready_stays_not_ready(system: System) -> None:
    system.apply(DB)
    system.ready("shop.db@1")
    system.supervisor.post("shop.db@1", lifecycle.LostReadiness())
    system.host.turn()
    system.reborn()
    system.host.turn()
    assert not system.instance("shop.db@1").ready


# ------------------------------------------------------------------ identity


def test_a_pid_that_another_has_now_is_never_signalled(system: System) -> None:
    system.apply(CALM)
    process = system.process(SLOT)
    system.kill_daemon()
    system.host.end(process, Exit(code=0))
    system.host.release(process)
    other = system.host.foreign()
    assert other.process.pid == process.pid
    system.new_daemon()
    system.host.advance(10)
    system.supervisor.stop([SLOT])
    system.host.advance(30)
    assert other.alive
    assert not [sent for sent in system.host.sent if sent.process == other.process]


def test_three_deaths_in_a_row_change_nothing(system: System) -> None:
    system.apply(CALM, DB)
    before = system.process(SLOT)
    for _ in range(3):
        system.reborn()
    system.host.advance(5)
    assert system.process(SLOT) == before
    assert len(system.started()) == 2


def test_slots_keep_the_order_of_the_topology(system: System) -> None:
    system.apply(WEB, CALM, DB)
    system.reborn()
    assert list(system.supervisor.slots) == [WEB.slot, CALM.slot, DB.slot]


# ------------------------------------------------------------------ removal


@pytest.mark.parametrize("fuse", range(6))
def test_a_removal_goes_on_over_the_daemons_death(system: System, fuse: int) -> None:
    slow = Program(handles={signal.SIGTERM: (2.0, Exit(code=0))})
    system.apply(CALM, DB, program=slow)
    system.host.advance(1)
    system.host.fuse = fuse
    try:
        system.apply(DB, remove_orphans=True)
    except DaemonKilled:
        system.kill_daemon()
        system.new_daemon()
        system.apply(DB, remove_orphans=True)
    system.reborn()
    system.host.advance(5)
    assert list(system.supervisor.slots) == [DB.slot]
    assert [record.slot for record in system.journal.records()] == [DB.slot]
    assert system.living(SLOT) == 0


def test_one_that_came_back_is_not_removed_after_the_daemons_death(system: System) -> None:
    system.apply(CALM, DB, program=Program(handles={signal.SIGTERM: (2.0, Exit(code=0))}))
    system.apply(DB, remove_orphans=True)
    system.host.advance(1)
    system.apply(CALM, DB)
    system.reborn()
    system.supervisor.stop([SLOT])
    system.host.advance(20)
    assert system.phase(SLOT) == "stopped"


def test_settle_counts_from_the_start_of_the_process(system: System) -> None:
    system.apply(fakes.with_fields(CALM, settle=10.0))
    system.host.advance(7)
    system.reborn()
    system.host.advance(3.1)
    assert system.phase(SLOT) == "running"
