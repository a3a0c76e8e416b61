"""Systems in virtual time: order, wishes, crashes, leftovers, changes and the end."""

from __future__ import annotations

import errno
import signal

import pytest

from orchestrator.daemon import rows, supervisor
from orchestrator.daemon.admission import STARTS_A_TURN
from orchestrator.errors import ExitCode, JournalError, SpawnError
from orchestrator.model import topology
from orchestrator.model.phase import Exit
from orchestrator.model.topology import (
    AtEnd,
    Backoff,
    Component,
    Condition,
    Dependency,
    Kill,
    Limit,
    OnSignal,
    Ready,
    Restart,
    Rung,
)
from orchestrator.supervision import lifecycle, pace
from orchestrator.supervision.lifecycle import Instance
from tests import fakes
from tests.fakes import Fork, Program
from tests.unit.daemon.system import KEY, System

TCP = Ready(tcp="h:1")
DB = fakes.component("shop.db", ready=TCP)
WEB = fakes.component("shop.web", ready=TCP, depends_on={"shop.db": Dependency()})
CACHE = fakes.component("shop.cache", ready=TCP)
CALM = fakes.component("shop.calm", settle=0.0)
STUBBORN = Program(ignores=frozenset({signal.SIGTERM}))


def up(system: System, *slots: str) -> None:
    """Let what starts become ready."""
    for slot in slots:
        system.ready(slot)


# ------------------------------------------------------------------ start


def test_a_dependent_starts_when_its_dependency_is_ready(system: System) -> None:
    system.apply(WEB, DB)
    assert system.started() == ["shop.db@1"]
    assert system.phases() == {"shop.web@1": "waiting", "shop.db@1": "starting"}
    system.ready("shop.db@1")
    assert system.started() == ["shop.db@1", "shop.web@1"]


def test_a_restart_of_a_dependency_restarts_whoever_asked_for_it(system: System) -> None:
    """By whatever cause: here it crashes, then it is restarted by a user."""
    bound = fakes.component("shop.bound", depends_on={"shop.db": Dependency(restart=True)})
    free = fakes.component("shop.free", depends_on={"shop.db": Dependency()})
    system.apply(DB, bound, free)
    up(system, "shop.db@1", "shop.bound@1", "shop.free@1")
    before = {slot: system.process(slot) for slot in ("shop.bound@1", "shop.free@1")}
    system.crash("shop.db@1")
    system.host.run_until(lambda: system.phase("shop.db@1") == "starting")
    system.host.run_until(lambda: system.phase("shop.bound@1") == "waiting")
    assert system.process("shop.free@1") == before["shop.free@1"]
    system.ready("shop.db@1")
    assert system.process("shop.bound@1") != before["shop.bound@1"]
    again = system.process("shop.bound@1")
    system.supervisor.restart(["shop.db@1"])
    system.host.run_until(lambda: system.phase("shop.bound@1") == "waiting")
    system.ready("shop.db@1")
    assert system.process("shop.bound@1") != again
    assert system.process("shop.free@1") == before["shop.free@1"]


def test_a_first_start_of_a_dependency_restarts_nobody(system: System) -> None:
    bound = fakes.component(
        "shop.bound", depends_on={"shop.db": Dependency(Condition.STARTED, restart=True)}
    )
    system.apply(DB, bound)
    system.ready("shop.db@1")
    assert system.started() == ["shop.db@1", "shop.bound@1"]


def test_independent_ones_start_together(system: System) -> None:
    system.apply(DB, CACHE, CALM)
    assert system.host.now() == 1000.0
    assert len(system.started()) == 3


def test_what_loads_starts_at_most_so_many_at_once(system: System) -> None:
    system.supervisor.admission.concurrency = 2
    system.apply(*(fakes.component(f"shop.n{n}", ready=TCP) for n in range(5)))
    assert len(system.started()) == 2
    system.ready("shop.n0@1")
    assert len(system.started()) == 3
    system.crash("shop.n1@1")
    assert len(system.started()) == 4, "one that failed makes room"


def test_the_news_of_many_starts_wait_for_the_last_one(system: System) -> None:
    many = [fakes.component(f"shop.c{number}", settle=0.0) for number in range(STARTS_A_TURN + 1)]
    system.apply(*many)
    assert system.reported == []
    system.host.turn()
    assert len(system.started()) == len(many)
    assert sorted(system.reported) == sorted(component.slot for component in many)


def test_the_news_of_many_slow_starts_come_meanwhile(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "TELL_WITHIN", 0.0)
    many = [fakes.component(f"shop.c{number}", settle=0.0) for number in range(STARTS_A_TURN + 1)]
    system.apply(*many)
    assert len(system.started()) == STARTS_A_TURN
    assert system.reported


def test_many_starts_leave_turns_to_others(system: System) -> None:
    """Clients are answered between the starts of a thousand, not after them."""
    many = STARTS_A_TURN * 2 + 5
    system.apply(*(fakes.component(f"shop.n{n}", settle=0.0) for n in range(many)))
    assert len(system.started()) == STARTS_A_TURN
    system.host.turn()
    system.host.run_until(lambda: len(system.started()) == many)
    assert set(system.phases().values()) == {"running"}


def test_a_dependency_that_fails_fails_its_dependents_at_once(system: System) -> None:
    last = fakes.component("shop.last", depends_on={"shop.web": Dependency()})
    db = fakes.with_fields(DB, restart=Restart.NEVER)
    system.apply(last, WEB, db)
    system.crash("shop.db@1", 1)
    assert set(system.phases().values()) == {"failed"}
    assert system.result("shop.web@1") == "dependency"
    end = system.instance("shop.web@1").end
    assert end is not None
    assert end.message == "cannot start 'shop.web': 'shop.db' failed (exit 1)"


def test_an_optional_dependency_that_fails_lets_go(system: System) -> None:
    db = fakes.with_fields(DB, restart=Restart.NEVER)
    web = fakes.with_fields(WEB, depends_on={"shop.db": Dependency(required=False)})
    system.apply(web, db)
    system.crash("shop.db@1")
    assert system.phase("shop.web@1") == "starting"


def test_starting_one_starts_what_it_needs_and_no_more(system: System) -> None:
    system.apply(DB, WEB, CACHE, names=[])
    system.supervisor.start(["shop.web@1"])
    up(system, "shop.db@1", "shop.web@1")
    assert system.phases() == {
        "shop.db@1": "running",
        "shop.web@1": "running",
        "shop.cache@1": "stopped",
    }


def test_alone_starts_without_what_it_needs(system: System) -> None:
    system.apply(DB, WEB, names=["shop.web@1"], alone=True)
    assert system.phases() == {"shop.db@1": "stopped", "shop.web@1": "starting"}


def test_a_disabled_one_never_starts(system: System) -> None:
    off = fakes.component("shop.off", enabled=False)
    system.apply(off)
    system.supervisor.start(["shop.off@1"])
    system.supervisor.restart(["shop.off@1"])
    system.host.advance(60)
    assert system.phase("shop.off@1") == "disabled"
    assert system.started() == []


def test_a_program_that_is_not_there_fails_and_says_why(system: System) -> None:
    missing = SpawnError("execute './gone'", errno.ENOENT, "No such file or directory")
    system.apply(fakes.component("shop.gone"), program=Program(fails=missing))
    assert system.phase("shop.gone@1") == "failed"
    assert system.result("shop.gone@1") == "spawn-error"
    end = system.instance("shop.gone@1").end
    assert end is not None
    assert end.message == "cannot execute './gone': No such file or directory"


def test_a_transient_error_is_tried_again(system: System) -> None:
    busy = SpawnError("start './busy'", errno.EAGAIN, "busy", transient=True)
    calm = fakes.component("shop.busy", settle=0.0)
    system.apply(calm, program=Program(fails=busy))
    assert system.phase("shop.busy@1") == "backoff"
    system.host.programs[calm.command] = Program()
    system.host.advance(0.6)
    assert system.phase("shop.busy@1") == "running"


def test_a_dependency_that_goes_down_in_the_same_breath_lets_nobody_start(system: System) -> None:
    """The last condition comes true while another is being stopped: that one is not ready."""
    both = {"shop.db": Dependency(), "shop.cache": Dependency()}
    web = fakes.with_fields(WEB, depends_on=both)
    system.apply(web, DB, CACHE)
    system.ready("shop.db@1")
    system.supervisor.post("shop.cache@1", lifecycle.BecameReady())
    system.supervisor.stop(["shop.db@1"])
    system.host.turn()
    assert "shop.web@1" not in system.started()


# ------------------------------------------------------------------ stop


def test_a_stop_sends_term_to_the_group_and_continues_it(system: System) -> None:
    system.apply(CALM)
    process = system.process("shop.calm@1")
    system.supervisor.stop(["shop.calm@1"])
    assert [(s.process, s.number, s.group) for s in system.host.sent] == [
        (process, signal.SIGTERM, True),
        (process, signal.SIGCONT, True),
    ]
    system.host.turn()
    assert system.phase("shop.calm@1") == "stopped"
    assert system.host.zombies() == ()


def test_kill_mixed_sends_the_stop_signal_to_the_leader_alone(system: System) -> None:
    stop = topology.Stop(kill=Kill.MIXED)
    system.apply(fakes.with_fields(CALM, stop=stop), program=Program(forks=(Fork(STUBBORN),)))
    system.supervisor.stop(["shop.calm@1"])
    assert not any(sent.group for sent in system.host.sent)
    system.host.run_until(lambda: system.phase("shop.calm@1") == "stopped")
    assert system.living() == 0


def test_a_suspended_process_can_be_stopped(system: System) -> None:
    graceful = Program(handles={signal.SIGTERM: (0.0, Exit(code=0))})
    system.apply(CALM, program=graceful)
    system.host.signal(system.process("shop.calm@1"), signal.SIGSTOP, group=False)
    system.supervisor.stop(["shop.calm@1"])
    system.host.advance(0.1)
    assert system.phase("shop.calm@1") == "stopped"


@pytest.mark.parametrize(
    "fork",
    [
        Fork(Program()),
        Fork(STUBBORN),
        Fork(STUBBORN, setsid=True),
        Fork(STUBBORN, setsid=True, orphan=True),
        Fork(STUBBORN, orphan=True, unmarked=True),
        Fork(Program(ignores=frozenset({signal.SIGTERM}), forks=(Fork(STUBBORN, setsid=True),))),
    ],
    ids=["child", "stubborn", "setsid", "double fork", "cleared environment", "grandchild"],
)
def test_a_stop_is_over_when_the_whole_tree_is_gone(system: System, fork: Fork) -> None:
    system.apply(CALM, program=Program(forks=(fork,)))
    assert system.living(KEY) == 0 or system.living() > 1
    system.supervisor.stop(["shop.calm@1"])
    system.host.run_until(lambda: system.phase("shop.calm@1") == "stopped", limit=30)
    assert not [p for p in system.host.world.values() if p.alive]
    assert system.host.zombies() == ()


def test_one_that_ignores_everything_is_killed_after_its_ladder(system: System) -> None:
    ladder = topology.Stop(ladder=(Rung("INT", 2.0), Rung("TERM", 3.0)))
    stubborn = Program(ignores=frozenset({signal.SIGINT, signal.SIGTERM}))
    system.apply(fakes.with_fields(CALM, stop=ladder), program=stubborn)
    system.supervisor.stop(["shop.calm@1"])
    system.host.run_until(lambda: system.phase("shop.calm@1") == "stopped")
    assert system.host.names() == ["INT", "TERM", "KILL"]
    assert system.host.now() == pytest.approx(1005.0)
    assert system.result("shop.calm@1") == "timeout-stop"


def test_children_that_are_made_while_being_killed_are_killed_too(system: System) -> None:
    bomb = Program(ignores=frozenset({signal.SIGTERM}))
    for _ in range(3):
        bomb = Program(0.4, ignores=frozenset({signal.SIGTERM}), forks=(Fork(bomb, 0.2, True),))
    system.apply(CALM, program=Program(0.1, Exit(code=1), forks=(Fork(bomb, 0.05, True),)))
    system.supervisor.stop(["shop.calm@1"])
    system.host.run_until(lambda: system.phase("shop.calm@1") == "stopped", limit=30)
    assert not [p for p in system.host.world.values() if p.alive]


def test_dependents_stop_first(system: System) -> None:
    system.apply(DB, WEB, program=Program(handles={signal.SIGTERM: (1.0, Exit(code=0))}))
    up(system, "shop.db@1", "shop.web@1")
    web, db = system.process("shop.web@1"), system.process("shop.db@1")
    system.supervisor.stop(["shop.db@1", "shop.web@1"])
    system.host.run_until(lambda: set(system.phases().values()) == {"stopped"})
    terms = [(s.process, s.at) for s in system.host.sent if s.number == signal.SIGTERM]
    assert terms == [(web, 1000.0), (db, 1001.0)]


def test_stopping_a_dependency_leaves_its_dependents(system: System) -> None:
    system.apply(DB, WEB)
    up(system, "shop.db@1", "shop.web@1")
    system.supervisor.stop(["shop.db@1"])
    system.host.advance(1)
    assert system.phases() == {"shop.db@1": "stopped", "shop.web@1": "running"}


def test_a_stop_command_runs_before_the_ladder(system: System) -> None:
    stop = topology.Stop(command=("bye",))
    system.host.programs["bye",] = Program(0.5, Exit(code=3))
    system.apply(fakes.with_fields(CALM, stop=stop))
    system.supervisor.stop(["shop.calm@1"])
    assert system.host.orders[-1].argv == ("bye",)
    system.host.advance(0.4)
    assert system.host.sent == []
    system.host.advance(0.2)
    assert system.phase("shop.calm@1") == "stopped"
    assert system.host.zombies() == ()


def test_a_stop_command_that_hangs_is_not_left_behind(system: System) -> None:
    stop = topology.Stop(command=("bye",))
    system.host.programs["bye",] = Program()
    system.apply(fakes.with_fields(CALM, stop=stop))
    system.supervisor.stop(["shop.calm@1"])
    system.host.advance(60)
    assert system.phase("shop.calm@1") == "stopped"
    assert system.living() == 0


def test_a_stop_command_outlives_no_stop(system: System) -> None:
    """The process obeyed while the command was still at work."""
    stop = topology.Stop(command=("bye",))
    system.host.programs["bye",] = Program()
    system.apply(fakes.with_fields(CALM, stop=stop))
    system.supervisor.stop(["shop.calm@1"])
    system.crash("shop.calm@1", 0)
    system.host.advance(60)
    assert system.phase("shop.calm@1") == "stopped"
    assert system.living() == 0


def test_a_stop_command_that_cannot_be_started_does_not_prevent_the_stop(system: System) -> None:
    stop = topology.Stop(command=("bye",))
    system.host.programs["bye",] = Program(fails=SpawnError("execute 'bye'", 2, "gone"))
    system.apply(fakes.with_fields(CALM, stop=stop))
    system.supervisor.stop(["shop.calm@1"])
    system.host.advance(1)
    assert system.phase("shop.calm@1") == "stopped"


# ------------------------------------------------------------------ a later word wins


def test_a_stop_during_backoff_starts_nothing(system: System) -> None:
    system.apply(CALM)
    system.crash("shop.calm@1")
    assert system.phase("shop.calm@1") == "backoff"
    system.supervisor.stop(["shop.calm@1"])
    system.host.advance(3600)
    assert system.phase("shop.calm@1") == "stopped"
    assert len(system.started()) == 1


def test_a_start_during_stopping_starts_anew(system: System) -> None:
    system.apply(CALM, program=Program(handles={signal.SIGTERM: (1.0, Exit(code=0))}))
    system.supervisor.stop(["shop.calm@1"])
    system.host.advance(0.5)
    system.supervisor.start(["shop.calm@1"])
    system.host.advance(1)
    assert system.phase("shop.calm@1") == "running"
    assert len(system.started()) == 2
    assert system.living() == 1


@pytest.mark.parametrize("restart", Restart)
def test_a_start_while_a_crash_is_cleared_up_starts_anew(system: System, restart: Restart) -> None:
    """The later word: it shall run. The end that came before is no answer to it."""
    leaves = Program(1.0, Exit(code=7), forks=(Fork(Program(), setsid=True),))
    system.apply(fakes.with_fields(CALM, restart=restart), program=leaves)
    system.host.run_until(lambda: system.phase("shop.calm@1") == "stopping")
    system.supervisor.start(["shop.calm@1"])
    system.host.programs[CALM.command] = Program()
    system.host.advance(5)
    assert system.phase("shop.calm@1") == "running"


def test_twenty_restarts_end_in_exactly_one_process(system: System) -> None:
    system.apply(CALM, program=Program(handles={signal.SIGTERM: (0.3, Exit(code=0))}))
    for _ in range(20):
        system.supervisor.restart(["shop.calm@1"])
        system.host.advance(0.05)
        assert system.living() <= 1
    system.host.advance(10)
    assert system.phase("shop.calm@1") == "running"
    assert system.living() == 1


@pytest.mark.parametrize("slow", [0.0, 1.0])
def test_a_stop_during_a_slow_spawn_stops(system: System, slow: float) -> None:
    system.apply(CALM, program=Program(slow=slow))
    system.supervisor.stop(["shop.calm@1"])
    system.host.advance(5)
    assert system.phase("shop.calm@1") == "stopped"
    assert system.living() == 0


def test_stop_and_start_during_a_slow_spawn_keep_it(system: System) -> None:
    system.apply(CALM, program=Program(slow=1.0))
    system.supervisor.stop(["shop.calm@1"])
    system.supervisor.start(["shop.calm@1"])
    system.host.advance(5)
    assert system.phase("shop.calm@1") == "running"
    assert len(system.started()) == 1


def test_reset_lets_a_failed_one_be_started_again(system: System) -> None:
    system.apply(fakes.with_fields(CALM, limit=Limit(1)))
    system.crash("shop.calm@1")
    assert system.result("shop.calm@1") == "start-limit"
    system.supervisor.reset(["shop.calm@1"])
    system.host.advance(60)
    assert system.phase("shop.calm@1") == "stopped"
    system.supervisor.start(["shop.calm@1"])
    assert system.phase("shop.calm@1") == "running"


def test_a_restart_brings_the_failed_and_the_stopped_up(system: System) -> None:
    system.apply(fakes.with_fields(CALM, restart=Restart.NEVER))
    system.crash("shop.calm@1")
    assert system.phase("shop.calm@1") == "failed"
    system.supervisor.restart(["shop.calm@1"])
    assert system.phase("shop.calm@1") == "running"


# ------------------------------------------------------------------ crash


@pytest.mark.parametrize(
    "fork",
    [Fork(STUBBORN), Fork(STUBBORN, setsid=True), Fork(STUBBORN, setsid=True, orphan=True)],
    ids=["child", "setsid", "double fork"],
)
def test_leftovers_of_a_crash_are_killed_before_the_restart(system: System, fork: Fork) -> None:
    system.apply(CALM, program=Program(1.0, Exit(code=1), forks=(fork,)))
    living: list[int] = []
    system.host.on_spawn = lambda _order: living.append(system.living())
    system.host.run_until(lambda: len(system.started()) == 2, limit=10)
    assert living == [0]


def test_leftovers_of_kill_leader_are_left(system: System) -> None:
    calm = fakes.with_fields(CALM, stop=topology.Stop(kill=Kill.LEADER))
    system.apply(calm, program=Program(1.0, Exit(code=1), forks=(Fork(STUBBORN),)))
    system.host.run_until(lambda: len(system.started()) == 2, limit=10)
    assert system.living() > 1


def test_a_crash_is_restarted_after_its_backoff(system: System) -> None:
    system.apply(CALM)
    first = system.process("shop.calm@1")
    system.crash("shop.calm@1", 7)
    assert system.phase("shop.calm@1") == "backoff"
    system.host.advance(0.51)
    assert system.phase("shop.calm@1") == "running"
    assert system.process("shop.calm@1") != first
    assert system.host.zombies() == ()


def test_dependents_go_on_while_their_dependency_restarts(system: System) -> None:
    system.apply(DB, WEB)
    up(system, "shop.db@1", "shop.web@1")
    web = system.process("shop.web@1")
    system.crash("shop.db@1")
    system.host.advance(5)
    assert system.process("shop.web@1") == web


# ------------------------------------------------------------------ change


def test_an_apply_twice_changes_nothing(system: System) -> None:
    system.apply(DB, CALM)
    up(system, "shop.db@1")
    before = system.phases()
    assert system.apply(DB, CALM) == ["keep shop.db: unchanged", "keep shop.calm: unchanged"]
    system.host.advance(5)
    assert system.phases() == before
    assert len(system.started()) == 2


def test_a_changed_command_restarts_it_with_the_new_one(system: System) -> None:
    system.apply(CALM, DB)
    system.apply(fakes.with_fields(CALM, command=("calm v2",)), DB)
    system.host.advance(1)
    assert [order.argv for order in system.host.orders][-1] == ("calm v2",)
    assert system.living("shop.calm@1") == 1
    assert len(system.started()) == 3


def test_a_command_that_changes_while_it_is_being_spawned_is_not_lost(system: System) -> None:
    system.apply(CALM, program=Program(slow=1.0))
    system.apply(fakes.with_fields(CALM, command=("calm v2",)))
    system.host.advance(5)
    assert system.phase("shop.calm@1") == "running"
    assert [order.argv for order in system.host.orders][-1] == ("calm v2",)
    assert system.living("shop.calm@1") == 1


def test_a_live_change_keeps_the_process(system: System) -> None:
    system.apply(CALM)
    process = system.process("shop.calm@1")
    system.apply(fakes.with_fields(CALM, stop=topology.Stop(ladder=(Rung("INT", 1.0),))))
    system.host.advance(1)
    assert system.process("shop.calm@1") == process
    system.supervisor.stop(["shop.calm@1"])
    assert system.host.names() == ["INT"]


def test_disabling_stops_it(system: System) -> None:
    system.apply(CALM)
    system.apply(fakes.with_fields(CALM, enabled=False))
    system.host.advance(20)
    assert system.living() == 0
    assert system.phase("shop.calm@1") == "disabled"


def test_an_orphan_is_left_and_a_removed_one_disappears(system: System) -> None:
    system.apply(CALM, CACHE)
    system.apply(CACHE)
    system.host.advance(20)
    assert system.phase("shop.calm@1") == "running"
    system.apply(CACHE, remove_orphans=True)
    system.host.advance(20)
    assert "shop.calm@1" not in system.supervisor.slots
    assert system.living("shop.calm@1") == 0
    assert [record.slot for record in system.journal.records()] == ["shop.cache@1"]
    assert "shop.calm@1" in system.reported


def test_an_orphan_that_does_not_run_is_forgotten(system: System) -> None:
    system.apply(CALM, CACHE)
    system.supervisor.stop(["shop.calm@1"])
    system.host.advance(20)
    system.apply(CACHE)
    assert list(system.supervisor.slots) == ["shop.cache@1"]


def test_slots_stand_in_the_order_of_the_topology(system: System) -> None:
    system.apply(CACHE, CALM)
    system.apply(CALM, CACHE)
    assert list(system.supervisor.slots) == ["shop.calm@1", "shop.cache@1"]


def test_one_that_comes_back_while_it_is_being_removed_stays(system: System) -> None:
    system.apply(CALM, CACHE, program=Program(handles={signal.SIGTERM: (2.0, Exit(code=0))}))
    system.apply(CACHE, remove_orphans=True)
    system.host.advance(1)
    system.apply(CALM, CACHE)
    system.host.advance(20)
    assert system.phase("shop.calm@1") == "running"
    system.supervisor.stop(["shop.calm@1"])
    system.host.advance(20)
    assert system.phase("shop.calm@1") == "stopped"


def test_a_dry_plan_changes_nothing(system: System) -> None:
    system.supervisor.apply({CALM.slot: CALM}, frozenset({CALM.slot}), dry=True)
    assert system.supervisor.slots == {}
    assert list(system.journal.records()) == []


# ------------------------------------------------------------------ the end


def test_a_shutdown_stops_all_in_reverse_order_and_is_told_once(system: System) -> None:
    system.apply(DB, WEB, CACHE, program=Program(handles={signal.SIGTERM: (1.0, Exit(code=0))}))
    up(system, "shop.db@1", "shop.web@1", "shop.cache@1")
    names = {system.process(slot): slot for slot in system.supervisor.slots}
    system.supervisor.shutdown(why="by request")
    assert system.finished == 0
    system.host.advance(10)
    assert system.finished == 1
    assert system.supervisor.exit_code == 0
    terms = [(names[s.process], s.at) for s in system.host.sent if s.number == signal.SIGTERM]
    assert dict(terms) == {"shop.web@1": 1000.0, "shop.cache@1": 1000.0, "shop.db@1": 1001.0}
    assert system.living() == 0


def test_a_shutdown_of_nothing_is_over_at_once(system: System) -> None:
    system.supervisor.shutdown()
    system.host.turn()
    assert system.finished == 1


def test_a_kill_skips_every_order_and_ladder(system: System) -> None:
    system.apply(DB, WEB, program=STUBBORN)
    up(system, "shop.db@1", "shop.web@1")
    system.supervisor.shutdown()
    system.host.advance(1)
    system.supervisor.shutdown(kill=True)
    system.host.advance(0.1)
    assert system.finished == 1
    assert system.living() == 0


def test_a_kill_reaches_what_is_being_spawned(system: System) -> None:
    system.apply(CALM, program=Program(ignores=frozenset({signal.SIGTERM}), slow=1.0))
    system.supervisor.shutdown(kill=True)
    system.host.advance(1.5)
    assert system.finished == 1


@pytest.mark.parametrize(
    ("fields", "code", "expected"),
    [
        ({"on_failure": AtEnd.SHUTDOWN, "restart": Restart.NEVER}, 1, ExitCode.COMPONENT_FAILURE),
        ({"on_exit": AtEnd.SHUTDOWN, "restart": Restart.NEVER}, 0, ExitCode.DONE),
        ({"on_exit": AtEnd.SHUTDOWN, "restart": Restart.NEVER}, 1, ExitCode.COMPONENT_FAILURE),
    ],
)
def test_an_end_that_takes_the_system_down(
    system: System, fields: dict[str, object], code: int, expected: int
) -> None:
    system.apply(fakes.with_fields(CALM, **fields), DB)
    up(system, "shop.db@1")
    system.crash("shop.calm@1", code)
    system.host.advance(20)
    assert system.finished == 1
    assert system.supervisor.exit_code == expected
    assert "shop.calm" in system.supervisor.exit_why
    assert system.living() == 0


def test_an_end_that_is_restarted_takes_nothing_down(system: System) -> None:
    system.apply(fakes.with_fields(CALM, on_failure=AtEnd.SHUTDOWN))
    system.crash("shop.calm@1")
    system.host.advance(5)
    assert system.finished == 0


def test_a_stop_by_request_takes_nothing_down(system: System) -> None:
    ends = {"on_exit": AtEnd.SHUTDOWN, "on_failure": AtEnd.SHUTDOWN}
    system.apply(fakes.with_fields(CALM, **ends))
    system.supervisor.stop(["shop.calm@1"])
    system.host.advance(20)
    assert system.finished == 0
    assert not system.supervisor.stopping


# ------------------------------------------------------------------ completion


def test_one_that_waits_for_a_completion_goes_when_it_ended_well(system: System) -> None:
    after = {"shop.calm": Dependency(Condition.COMPLETED_SUCCESSFULLY)}
    system.apply(CALM, fakes.with_fields(CACHE, depends_on=after))
    assert system.phase("shop.cache@1") == "waiting"
    system.crash("shop.calm@1", 0)
    assert system.phase("shop.cache@1") == "starting"


def test_one_that_waits_for_a_success_fails_when_it_cannot_come(system: System) -> None:
    after = {"shop.calm": Dependency(Condition.COMPLETED_SUCCESSFULLY)}
    calm = fakes.with_fields(CALM, restart=Restart.NEVER)
    system.apply(calm, fakes.with_fields(CACHE, depends_on=after))
    system.crash("shop.calm@1", 3)
    assert system.phase("shop.cache@1") == "failed"


# ------------------------------------------------------------------ signals from users


def test_send_reaches_the_first_process_alone(system: System) -> None:
    system.apply(CALM, DB, names=["shop.calm@1"])
    assert system.supervisor.send(["shop.calm@1", "shop.db@1"], signal.SIGUSR1) == {
        "shop.calm@1": OnSignal.PASS
    }
    assert [(s.number, s.group) for s in system.host.sent] == [(signal.SIGUSR1, False)]


def test_the_journal_agrees_after_each_step(system: System) -> None:
    system.apply(DB, WEB, CALM)
    assert system.mismatches() == []
    up(system, "shop.db@1")
    assert system.mismatches() == []
    system.crash("shop.calm@1")
    assert system.mismatches() == []
    system.supervisor.stop(["shop.web@1"])
    assert system.mismatches() == []
    system.host.advance(30)
    assert system.mismatches() == []


# ------------------------------------------------------------------ a full disk


def test_an_apply_that_the_journal_cannot_take_changes_nothing(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    system.apply(CALM)
    before = dict(system.supervisor.slots)

    def full(*_: object, **__: object) -> None:
        raise JournalError("cannot write the journal: disk is full; free some space")

    with monkeypatch.context() as patch:
        patch.setattr(system.journal, "components", full)
        with pytest.raises(JournalError, match="free some space"):
            system.apply(fakes.with_fields(CALM, command=("other",)), DB)
    assert system.supervisor.slots == before
    assert system.mismatches() == []


def test_a_defect_in_one_effect_costs_the_others_nothing(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = system.supervisor.executor.do

    def faulty(slot: str, instance: Instance, effect: lifecycle.Effect) -> None:
        if slot == "shop.db@1":
            raise RuntimeError("a defect")
        real(slot, instance, effect)

    monkeypatch.setattr(system.supervisor.executor, "do", faulty)
    system.apply(DB, CALM)
    assert system.phases() == {"shop.db@1": "failed", "shop.calm@1": "running"}
    assert system.result("shop.db@1") == "spawn-error"


def hopeless(number: int) -> list[Component]:
    """Components that end at once and are restarted without a pause."""
    return [
        fakes.component(f"shop.n{n}", settle=0.0, backoff=Backoff(initial=0.0), limit=Limit(0))
        for n in range(number)
    ]


def test_crash_loops_have_so_many_restarts_a_second_together(system: System) -> None:
    system.supervisor.admission.turnstile.set_rate(10.0)
    many = hopeless(30)
    system.apply(*many, program=Program(0.01, Exit(code=1)))
    system.host.advance(20)
    first = len(system.started()) - len(many)
    assert first == pytest.approx(10 * (20 + pace.STORED), abs=5)
    restarts = [system.instance(component.slot).restarts for component in many]
    assert max(restarts) - min(restarts) <= 2, "everybody gets a turn"
    waiting = [c.slot for c in many if system.phase(c.slot) == "waiting"]
    why = rows.row(system.supervisor, waiting[0])["why"]
    assert "waiting for its turn (at most 10 such restarts a second)" in why
    assert "exit 1" in why


def test_a_thousand_crash_loops_have_no_more_starts_than_their_rate_allows(
    system: System,
) -> None:
    """After each has failed once, the bucket and the rate are all there is."""
    system.supervisor.admission.turnstile.set_rate(20.0)
    many = hopeless(1000)
    system.apply(*many, program=Program(0.01, Exit(code=1)))
    system.host.advance(2)
    assert len(system.started()) >= len(many)
    for seconds in (10, 20, 30):
        system.host.run_until(1000.0 + seconds)
        again = len(system.started()) - len(many)
        assert again <= 20 * (seconds + pace.STORED) + 1


def test_a_crash_loop_of_others_delays_no_first_restart_and_no_start(system: System) -> None:
    system.supervisor.admission.turnstile.set_rate(1.0)
    well = fakes.component("shop.well", settle=0.0)
    system.apply(*hopeless(30), well, program=Program(0.01, Exit(code=1)))
    system.host.programs[well.command] = Program()
    system.host.advance(1)
    system.supervisor.start([well.slot])
    system.host.advance(40)
    before = system.process(well.slot)
    system.crash(well.slot)
    assert system.phase(well.slot) == "running"
    assert system.process(well.slot) != before


def test_one_that_waits_for_its_turn_can_be_stopped_and_started(system: System) -> None:
    system.supervisor.admission.turnstile.set_rate(0.01)
    (one,) = hopeless(1)
    system.apply(one, program=Program(0.01, Exit(code=1)))
    system.host.advance(5)
    assert system.phase(one.slot) == "waiting"
    started = len(system.started())
    system.supervisor.stop([one.slot])
    system.host.advance(500)
    assert (system.phase(one.slot), len(system.started())) == ("stopped", started)
    system.supervisor.start([one.slot])
    assert len(system.started()) == started + 1, "what is asked for is not made to wait"


SIGNALS = {
    "HUP": OnSignal.RESTART,
    "USR1": OnSignal.PASS,
    "USR2": OnSignal.IGNORE,
    "WINCH": OnSignal.STOP,
}


def test_a_signal_does_what_the_component_declares(system: System) -> None:
    web = fakes.component("shop.web", settle=0.0, signals=SIGNALS)
    system.apply(web, CALM)
    first = system.process(web.slot)
    both = [web.slot, CALM.slot]
    assert system.supervisor.send(both, signal.SIGUSR2) == {
        web.slot: OnSignal.IGNORE,
        CALM.slot: OnSignal.PASS,
    }
    assert [(sent.process, sent.number) for sent in system.host.sent] == [
        (system.process(CALM.slot), signal.SIGUSR2)
    ]
    assert system.supervisor.send([web.slot], signal.SIGHUP) == {web.slot: OnSignal.RESTART}
    system.host.run_until(lambda: system.phase(web.slot) == "running")
    assert system.process(web.slot) != first
    system.supervisor.send([web.slot], signal.SIGWINCH)
    system.host.run_until(lambda: system.phase(web.slot) == "stopped")
    assert system.supervisor.send([web.slot], signal.SIGHUP) == {}, "it does not run"


def test_a_signal_to_the_daemon_reaches_those_that_declare_it(system: System) -> None:
    web = fakes.component("shop.web", settle=0.0, signals=SIGNALS)
    system.apply(web, CALM)
    system.supervisor.relay(signal.SIGUSR1)
    assert [(sent.process, sent.number) for sent in system.host.sent] == [
        (system.process(web.slot), signal.SIGUSR1)
    ]
    system.supervisor.shutdown()
    system.supervisor.relay(signal.SIGHUP)
    system.host.advance(30)
    assert system.finished == 1
