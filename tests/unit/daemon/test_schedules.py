"""What runs by the clock: once at its time, whatever happens to clock, daemon and run."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.daemon import explain, rows
from orchestrator.model.phase import Exit
from orchestrator.model.topology import Backoff, Condition, Dependency, Limit
from tests import fakes
from tests.fakes import Program
from tests.unit.daemon.system import System

JOB = fakes.component("shop.job", settle=0.0, schedule="*/5 * * * *")
SLOT = "shop.job@1"
SHORT = Program(1.0, Exit(code=0))


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    system = System(tmp_path)
    yield system
    system.close()


def runs(system: System) -> int:
    return system.started().count(SLOT)


def test_it_runs_at_its_times_and_not_before(system: System) -> None:
    system.apply(JOB, program=SHORT)
    assert system.phase(SLOT) == "waiting"
    row = rows.row(system.supervisor, SLOT)
    assert row["why"] == "scheduled, next at 00:05"
    assert row["next_start_in"] == pytest.approx(300)
    system.host.advance(299)
    assert runs(system) == 0
    system.host.advance(3)
    assert (runs(system), system.phase(SLOT)) == (1, "exited")
    assert rows.row(system.supervisor, SLOT)["why"] == "scheduled, next at 00:10"
    system.host.advance(3600)
    assert runs(system) == 13
    assert system.instance(SLOT).restarts == 0


def test_a_run_that_is_not_over_is_not_disturbed(system: System) -> None:
    system.apply(JOB, program=Program(720.0, Exit(code=0)))
    system.host.advance(305)
    process = system.process(SLOT)
    system.host.advance(600)
    assert (runs(system), system.process(SLOT)) == (1, process)
    system.host.advance(300)
    assert runs(system) == 2


def test_a_start_by_hand_runs_it_now(system: System) -> None:
    system.apply(JOB, program=SHORT)
    system.host.advance(10)
    system.supervisor.start([SLOT])
    system.host.advance(5)
    assert (runs(system), system.phase(SLOT)) == (1, "exited")
    system.host.advance(300)
    assert runs(system) == 2


def test_one_that_was_stopped_does_not_run(system: System) -> None:
    system.apply(JOB, program=SHORT)
    system.supervisor.stop([SLOT])
    system.host.advance(3600)
    assert (runs(system), system.phase(SLOT)) == (0, "stopped")


def test_a_failed_run_is_retried_by_policy_and_the_next_time_begins_anew(system: System) -> None:
    job = fakes.with_fields(JOB, backoff=Backoff(initial=1.0, factor=1.0), limit=Limit(3))
    system.apply(job, program=Program(0.1, Exit(code=1)))
    system.host.advance(310)
    assert (runs(system), system.phase(SLOT)) == (3, "failed")
    assert rows.row(system.supervisor, SLOT)["next_start_in"] == pytest.approx(290, abs=1)
    system.host.advance(300)
    assert runs(system) == 6


def test_its_time_may_come_before_its_dependency_is_there(system: System) -> None:
    job = fakes.with_fields(JOB, depends_on={"shop.db": Dependency(Condition.STARTED)})
    db = fakes.component("shop.db", settle=0.0)
    system.apply(job, db, program=SHORT, names=[SLOT])
    system.host.advance(301)
    assert system.phase(SLOT) == "waiting"
    found = explain.explain(system.supervisor, SLOT)
    assert [link["name"] for link in found["because"]] == ["shop.job", "shop.db"]
    system.host.programs[db.command] = Program()
    system.supervisor.start([db.slot])
    system.host.advance(2)
    assert (runs(system), system.phase(SLOT)) == (1, "exited")


def test_a_clock_that_jumps_forward_makes_up_for_what_it_left_out_once(system: System) -> None:
    system.apply(JOB, program=SHORT)
    system.host.midnight += dt.timedelta(hours=5, minutes=2)
    system.host.advance(60)
    assert runs(system) == 1
    system.host.advance(300)
    assert runs(system) == 2


def test_a_clock_that_is_set_back_runs_nothing_twice(system: System) -> None:
    system.apply(JOB, program=SHORT)
    system.host.advance(302)
    system.host.midnight -= dt.timedelta(hours=1)
    system.host.advance(3500)
    assert runs(system) == 1
    system.host.advance(500)
    assert runs(system) == 2


@pytest.mark.parametrize("seconds", [10.0, 299.5, 300.5])
def test_the_daemon_s_death_loses_no_run_and_repeats_none(system: System, seconds: float) -> None:
    system.apply(JOB, program=SHORT)
    system.host.advance(seconds)
    system.kill_daemon()
    system.host.advance(5)
    system.new_daemon()
    system.host.advance(320 - 5 - seconds)
    assert runs(system) == 1


def test_a_schedule_may_come_and_go(system: System) -> None:
    system.apply(JOB, program=SHORT)
    system.apply(fakes.with_fields(JOB, schedule=None))
    assert runs(system) == 1, "without one it runs at once"
    system.apply(JOB)
    system.host.advance(301)
    assert runs(system) == 2


def test_times_that_came_while_nobody_wanted_it_are_not_made_up_for(system: System) -> None:
    system.apply(JOB, program=SHORT)
    system.supervisor.stop([SLOT])
    system.host.advance(3590)
    system.apply(JOB)
    system.host.advance(5)
    assert runs(system) == 0
    system.host.advance(10)
    assert runs(system) == 1
