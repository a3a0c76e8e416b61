"""What clients see of an instance, in each of its phases."""

from __future__ import annotations

import json
import signal

import pytest

from orchestrator.daemon import rows
from orchestrator.errors import SpawnError
from orchestrator.model import topology
from orchestrator.model.phase import Exit
from orchestrator.model.topology import Dependency, Limit, Logs, Ready, Restart, Rung
from tests import fakes
from tests.fakes import Program
from tests.unit.daemon.system import System

SLOT = "shop.web@1"
FIELDS = {
    "name", "service", "component", "instance", "phase", "ready", "healthy", "pid", "generation",
    "restarts", "reload", "result", "exit_code", "signal", "started_at", "wanted", "why",
    "failures", "next_start_in", "stop_in", "stdout", "stderr", "warning",
}  # fmt: skip


def row(system: System, slot: str = SLOT) -> dict[str, object]:
    found = rows.row(system.supervisor, slot)
    assert set(found) >= FIELDS
    json.dumps(found)
    has_pid = found["pid"] is not None
    assert has_pid or found["phase"] != "running"
    assert not has_pid or found["phase"] in {"starting", "running", "stopping"}
    return found


def test_a_running_one(system: System) -> None:
    system.apply(fakes.component("shop.web", settle=0.0))
    found = row(system)
    assert found["name"] == "shop.web"
    assert (found["phase"], found["ready"], found["wanted"]) == ("running", True, "up")
    assert found["pid"] == system.process(SLOT).pid
    assert (found["generation"], found["restarts"], found["failures"]) == (1, 0, 0)
    assert (found["result"], found["exit_code"], found["signal"]) == (None, None, None)
    assert found["why"] is None
    started = found["started_at"]
    assert isinstance(started, str)
    assert started.endswith("Z")
    assert len(started) == len("2026-01-01T00:00:00.000Z")
    assert str(found["stdout"]).endswith("/logging/shop-web.out")
    assert str(found["stderr"]).endswith("/logging/shop-web.err")


def test_a_replica_has_its_number(system: System) -> None:
    system.apply(fakes.component("shop.web@2", logs=Logs(capture=False)))
    found = row(system, "shop.web@2")
    assert (found["name"], found["instance"]) == ("shop.web@2", 2)
    assert (found["stdout"], found["stderr"]) == (None, None)


def test_a_waiting_one_says_for_what_and_how_long(system: System) -> None:
    system.apply(
        fakes.component("shop.db", ready=Ready(tcp="h:1")),
        fakes.component("shop.web", depends_on={"shop.db": Dependency()}),
    )
    system.host.advance(3.1)
    found = row(system)
    assert (found["phase"], found["pid"], found["started_at"]) == ("waiting", None, None)
    assert found["why"] == "waiting for shop.db (ready) 3.1s"
    assert "tcp" in str(row(system, "shop.db@1")["why"])


def test_one_in_backoff_says_how_often_and_when(system: System) -> None:
    system.apply(fakes.component("shop.web", settle=0.0, limit=Limit(10)))
    system.crash(SLOT, 7)
    system.host.advance(0.1)
    found = row(system)
    assert (found["phase"], found["result"], found["exit_code"]) == ("backoff", "exit-code", 7)
    assert found["next_start_in"] == pytest.approx(0.4)
    assert found["failures"] == 1
    assert "restart 1/10, next in 400ms" in str(found["why"])
    assert found["wanted"] == "up"


def test_failures_are_forgotten_when_it_has_lived_well_for_long_enough(system: System) -> None:
    backoff = topology.Backoff(initial=0.001, jitter=0.0, reset_after=5.0)
    system.apply(fakes.component("shop.web", settle=0.0, backoff=backoff))
    for count in (1, 2):
        system.crash(SLOT, 7)
        system.host.advance(0.1)
        assert (row(system)["phase"], row(system)["failures"]) == ("running", count)
    system.host.advance(4.8)
    assert row(system)["failures"] == 2
    system.host.advance(0.2)
    assert row(system)["failures"] == 0


def test_one_that_was_killed(system: System) -> None:
    system.apply(fakes.component("shop.web", settle=0.0, restart=Restart.NEVER))
    system.host.end(system.process(SLOT), Exit(signal=signal.SIGKILL))
    system.host.turn()
    found = row(system)
    assert (found["phase"], found["result"]) == ("failed", "signal")
    assert (found["exit_code"], found["signal"]) == (None, 9)
    assert found["why"] == "signal 9"


def test_a_stopping_one_says_what_is_left_of_its_ladder(system: System) -> None:
    stubborn = Program(ignores=frozenset({signal.SIGTERM, signal.SIGINT}))
    ladder = topology.Stop(ladder=(Rung("INT", 2.0), Rung("TERM", 3.0)))
    system.apply(fakes.component("shop.web", settle=0.0, stop=ladder), program=stubborn)
    system.supervisor.stop([SLOT])
    system.host.advance(1.5)
    found = row(system)
    assert (found["phase"], found["wanted"]) == ("stopping", "down")
    assert found["stop_in"] == pytest.approx(3.5)
    assert found["pid"] is not None
    system.host.advance(10)
    found = row(system)
    assert (found["phase"], found["stop_in"], found["pid"]) == ("stopped", None, None)
    assert found["result"] == "timeout-stop"


def test_one_that_starts_without_an_optional_dependency_warns(system: System) -> None:
    optional = {"shop.db": Dependency(required=False)}
    system.apply(
        fakes.component("shop.db", restart=Restart.NEVER),
        fakes.component("shop.web", settle=0.0, depends_on=optional),
    )
    assert row(system)["warning"] is None
    system.crash("shop.db@1", 3)
    found = row(system)
    assert found["phase"] == "running"
    assert found["warning"] == "starts without its optional dependency: 'shop.db' failed (exit 3)"
    system.supervisor.reset(["shop.db@1"])
    system.supervisor.start(["shop.db@1"])
    system.host.advance(2)
    system.supervisor.restart([SLOT])
    system.host.advance(2)
    assert (row(system)["phase"], row(system)["warning"]) == ("running", None)


@pytest.mark.parametrize(
    ("bye", "words"),
    [
        (Program(0.5, Exit(code=9)), "exit 9"),
        (
            Program(fails=SpawnError("execute 'bye'", 2, "No such file or directory")),
            "cannot execute 'bye': No such file or directory",
        ),
    ],
)
def test_a_stop_command_that_fails_is_a_warning(system: System, bye: Program, words: str) -> None:
    system.host.programs["bye",] = bye
    stop = topology.Stop(command=("bye",))
    system.apply(fakes.component("shop.web", settle=0.0, stop=stop))
    system.supervisor.stop([SLOT])
    system.reported.clear()
    system.host.advance(1)
    assert SLOT in system.reported
    found = row(system)
    assert (found["phase"], found["warning"]) == ("stopped", f"the stop command failed: {words}")
    system.supervisor.start([SLOT])
    system.host.advance(1)
    assert row(system)["warning"] is None


def test_a_failed_start_says_why(system: System) -> None:
    missing = SpawnError("execute './x'", 2, "No such file or directory")
    system.apply(fakes.component("shop.web"), program=Program(fails=missing))
    found = row(system)
    assert (found["phase"], found["result"]) == ("failed", "spawn-error")
    assert found["why"] == "cannot execute './x': No such file or directory"
    assert found["pid"] is None


def test_a_disabled_and_a_stopped_one(system: System) -> None:
    system.apply(fakes.component("shop.web", enabled=False), fakes.component("shop.db"), names=[])
    assert row(system)["phase"] == "disabled"
    found = row(system, "shop.db@1")
    assert (found["phase"], found["wanted"], found["generation"]) == ("stopped", "down", 0)


def test_times_are_utc_with_milliseconds() -> None:
    assert rows.timestamp(0.0) == "1970-01-01T00:00:00.000Z"
    assert rows.timestamp(1_700_000_000.5) == "2023-11-14T22:13:20.500Z"


def test_rows_tell_that_logs_are_being_lost_and_how_often(system: System) -> None:
    system.apply(
        fakes.component("shop.web", settle=0.0),
        fakes.component("shop.mute", settle=0.0, logs=Logs(capture=False)),
    )
    system.supervisor.lose_logs(1)
    assert row(system)["warning"] == "its log is being lost: the disk is full"
    assert row(system, "shop.mute@1")["warning"] is None
    system.supervisor.lose_logs(0)
    assert row(system)["warning"] is None
    system.supervisor.lose_logs(2)
    assert str(row(system)["warning"]).endswith("(2 times by now)")
