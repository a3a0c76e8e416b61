"""Groups in a whole system: order, waiting, intensity, hands, and the daemon's death."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.daemon import explain
from orchestrator.errors import ExitCode
from orchestrator.model.phase import Exit
from orchestrator.model.topology import (
    Backoff,
    Component,
    Limit,
    Ready,
    Restart,
    Rung,
    Stop,
    Strategy,
    Then,
)
from tests import fakes
from tests.fakes import Program
from tests.unit.daemon.system import System

READY = Ready(tcp="h:1")
STOP = Stop((Rung("TERM", 2.0),))
SLOW = Program(handles={15: (1.0, Exit(code=0))})
QUICK = Backoff(initial=0.1, factor=1.0, jitter=0.0)


def member(name: str, **fields: object) -> Component:
    return fakes.component(name, **{"ready": READY, "stop": STOP, "backoff": QUICK, **fields})


A, B, C = (member(f"shop.{letter}") for letter in "abc")
SLOTS = ("shop.a@1", "shop.b@1", "shop.c@1")


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    system = System(tmp_path)
    yield system
    system.close()


def up(system: System, *slots: str) -> None:
    for slot in slots or SLOTS:
        system.ready(slot)


def settle(system: System) -> None:
    """Let everything that starts become ready, for a while."""
    for _ in range(20):
        system.host.advance(0.5)
        for slot in sorted(system.probes.watched):
            system.ready(slot)


def all_of(system: System, **fields: object) -> None:
    system.group("core", A, B, C, **{"strategy": Strategy.ONE_FOR_ALL, **fields})
    for component in (A, B, C):
        system.host.programs[component.command] = SLOW
    up(system)


def test_all_go_down_backwards_and_start_forwards(system: System) -> None:
    for component in (A, B, C):
        system.host.programs[component.command] = SLOW
    all_of(system)
    before = [system.process(slot) for slot in SLOTS]
    system.crash("shop.b@1")
    assert system.phase("shop.c@1") == "stopping"
    assert system.phase("shop.a@1") == "running", "it waits for the one behind it"
    system.host.run_until(lambda: system.phase("shop.c@1") == "waiting")
    assert system.phase("shop.a@1") == "stopping"
    assert len(system.started()) == 3, "nobody starts before all are down"
    system.host.run_until(lambda: system.phase("shop.a@1") == "starting")
    assert system.phase("shop.b@1") == "waiting"
    system.ready("shop.a@1")
    assert system.phase("shop.b@1") == "starting"
    assert system.phase("shop.c@1") == "waiting"
    up(system, "shop.b@1", "shop.c@1")
    assert system.started()[3:] == list(SLOTS)
    assert [system.instance(slot).restarts for slot in SLOTS] == [0, 1, 0]
    assert all(system.process(slot) not in before for slot in SLOTS)
    assert system.mismatches() == []


def test_the_rest_for_one_leaves_those_before_it_alone(system: System) -> None:
    all_of(system, strategy=Strategy.REST_FOR_ONE)
    first = system.process("shop.a@1")
    system.crash("shop.b@1")
    settle(system)
    assert system.process("shop.a@1") == first
    assert system.started()[3:] == ["shop.b@1", "shop.c@1"]


def test_one_for_one_only_counts(system: System) -> None:
    all_of(system, strategy=Strategy.ONE_FOR_ONE, intensity=1)
    others = [system.process("shop.a@1"), system.process("shop.c@1")]
    system.crash("shop.b@1")
    system.host.run_until(lambda: system.phase("shop.b@1") == "starting")
    assert [system.process("shop.a@1"), system.process("shop.c@1")] == others
    system.ready("shop.b@1")
    system.crash("shop.b@1")
    settle(system)
    assert set(system.phases().values()) == {"failed"}


def test_the_backoff_of_one_delays_all(system: System) -> None:
    b = fakes.with_fields(B, backoff=Backoff(initial=20.0, jitter=0.0))
    system.group("core", A, b, C, strategy=Strategy.ONE_FOR_ALL)
    up(system)
    system.crash("shop.b@1")
    system.host.advance(10)
    assert system.phases()["shop.a@1"] == "waiting"
    found = explain.explain(system.supervisor, "shop.a@1")
    assert [link["name"] for link in found["because"]] == ["shop.a", "shop.b"]
    assert "waiting for shop.b, restarted with group core" in found["because"][0]["says"]
    system.host.advance(11)
    assert system.phases()["shop.a@1"] == "starting"


def test_one_restart_too_many_stops_the_group_until_it_is_reset(system: System) -> None:
    all_of(system, intensity=3, period=60.0)
    other = fakes.component("shop.z")
    system.apply(A, B, C, other)
    for _ in range(4):
        system.crash("shop.b@1", 7)
        settle(system)
    assert [system.phase(slot) for slot in SLOTS] == ["failed"] * 3
    assert system.phase("shop.z@1") == "running"
    assert [system.result(slot) for slot in SLOTS] == ["start-limit"] * 3
    end = system.instance("shop.a@1").end
    assert end is not None
    assert end.message.startswith("group intensity: 'core' needed 4 restarts within 1m")
    assert end.message.endswith("the last: shop.b (exit 7)")
    found = explain.explain(system.supervisor, "shop.a@1")
    assert [link["name"] for link in found["because"]] == ["shop.a", "shop.b"]
    assert found["culprit"]["name"] == "shop.b"
    system.supervisor.reset(SLOTS)
    assert [system.phase(slot) for slot in SLOTS] == ["stopped"] * 3
    system.supervisor.start(SLOTS)
    settle(system)
    for _ in range(3):
        system.crash("shop.b@1")
        settle(system)
        assert [system.phase(slot) for slot in SLOTS] == ["running"] * 3, "counted anew"


def test_a_start_by_hand_after_giving_up_tries_again(system: System) -> None:
    all_of(system, intensity=0)
    system.crash("shop.b@1")
    settle(system)
    assert system.phase("shop.a@1") == "failed"
    system.supervisor.start(["shop.a@1"])
    settle(system)
    assert [system.phase(slot) for slot in SLOTS] == ["running", "failed", "failed"]


def test_giving_up_may_end_the_system(system: System) -> None:
    all_of(system, intensity=0, then=Then.SHUTDOWN)
    system.crash("shop.b@1")
    system.host.advance(30)
    assert system.finished == 1
    assert system.supervisor.exit_code == ExitCode.COMPONENT_FAILURE
    assert "group intensity" in system.supervisor.exit_why


def test_a_member_at_its_own_limit_takes_the_group_along(system: System) -> None:
    b = fakes.with_fields(B, limit=Limit(2))
    system.group("core", A, b, C, strategy=Strategy.ONE_FOR_ONE, intensity=100)
    up(system)
    system.crash("shop.b@1")
    settle(system)
    system.crash("shop.b@1")
    settle(system)
    assert set(system.phases().values()) == {"failed"}
    end = system.instance("shop.c@1").end
    assert end is not None
    assert end.message == "group 'core': shop.b gave up (2 failures in a row, the last: exit 1)"


def test_a_member_that_is_never_restarted_concerns_nobody(system: System) -> None:
    b = fakes.with_fields(B, restart=Restart.NEVER)
    system.group("core", A, b, C, strategy=Strategy.ONE_FOR_ALL, intensity=0)
    up(system)
    system.crash("shop.b@1")
    settle(system)
    assert list(system.phases().values()) == ["running", "failed", "running"]


def test_restarts_by_hand_count_for_nothing(system: System) -> None:
    all_of(system, intensity=0)
    others = [system.process("shop.a@1"), system.process("shop.c@1")]
    for _ in range(3):
        system.supervisor.restart(["shop.b@1"])
        settle(system)
    assert [system.process("shop.a@1"), system.process("shop.c@1")] == others


def test_a_member_stopped_by_hand_stays_down(system: System) -> None:
    all_of(system)
    system.supervisor.stop(["shop.c@1"])
    settle(system)
    system.crash("shop.a@1")
    settle(system)
    assert list(system.phases().values()) == ["running", "running", "stopped"]


def test_what_had_ended_well_runs_again_with_the_others(system: System) -> None:
    a = fakes.with_fields(A, ready=None, settle=0.0, restart=Restart.ON_FAILURE)
    system.group("core", a, B, C, strategy=Strategy.ONE_FOR_ALL)
    up(system, "shop.b@1", "shop.c@1")
    system.crash("shop.a@1", 0)
    assert system.phase("shop.a@1") == "exited"
    system.crash("shop.b@1")
    settle(system)
    assert system.started().count("shop.a@1") == 2
    assert list(system.phases().values()) == ["running", "running", "running"]


def test_a_shutdown_in_the_middle_of_it_is_a_shutdown(system: System) -> None:
    all_of(system)
    system.crash("shop.b@1")
    system.supervisor.shutdown()
    system.host.advance(30)
    assert system.finished == 1
    assert set(system.phases().values()) == {"stopped"}


@pytest.mark.parametrize("seconds", [0.0, 0.5, 1.5, 2.5, 9.0])
def test_the_daemon_may_die_in_the_middle_of_it(system: System, seconds: float) -> None:
    all_of(system)
    system.crash("shop.b@1")
    system.host.advance(seconds)
    system.reborn()
    settle(system)
    assert [system.phase(slot) for slot in SLOTS] == ["running"] * 3
    assert system.started()[3:] == list(SLOTS)


def test_restarts_are_remembered_over_the_daemon_s_death(system: System) -> None:
    all_of(system, intensity=3, period=60.0)
    for _ in range(3):
        system.crash("shop.b@1")
        settle(system)
    system.reborn()
    settle(system)
    system.crash("shop.b@1")
    settle(system)
    assert [system.phase(slot) for slot in SLOTS] == ["failed"] * 3
    system.reborn()
    system.host.advance(30)
    assert [system.phase(slot) for slot in SLOTS] == ["failed"] * 3, "nor is that forgotten"


def test_a_group_that_was_taken_out_of_the_topology_does_nothing(system: System) -> None:
    all_of(system)
    system.crash("shop.b@1")
    system.supervisor.groups.declared = {}
    system.apply(A, B, C)
    settle(system)
    assert [system.phase(slot) for slot in SLOTS] == ["running"] * 3
    assert system.supervisor.groups.standings == {}
