"""Why something is not running, in virtual time."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from orchestrator.daemon import explain
from orchestrator.model import topology
from orchestrator.model.phase import Exit
from orchestrator.model.topology import Condition, Dependency, Ready, Restart, Rung
from tests import fakes
from tests.fakes import Fork, Program
from tests.unit.daemon.system import System

TCP = Ready(tcp="h:1")
DB = fakes.component("shop.db", ready=TCP)
API = fakes.component("shop.api", ready=TCP, depends_on={"shop.db": Dependency()})
WEB = fakes.component("shop.web", depends_on={"shop.api": Dependency()})


def told(system: System, slot: str) -> tuple[str, Any]:
    """Return the chain as one text, and the culprit's name."""
    explanation = explain.explain(system.supervisor, slot)
    chain = " <- ".join(f"{link['name']} {link['says']}" for link in explanation["because"])
    culprit = explanation["culprit"]
    return chain, culprit and culprit["name"]


def test_the_chain_goes_to_the_one_that_is_in_backoff(system: System) -> None:
    system.apply(WEB, API, DB)
    system.crash("shop.db@1", 3)
    assert told(system, "shop.web@1") == (
        (
            "shop.web is waiting for shop.api (ready) 0ms"
            " <- shop.api is waiting for shop.db (ready) 0ms"
            " <- shop.db is in backoff: exit 3; restart 1/10, next in 500ms"
        ),
        "shop.db",
    )


def test_what_can_never_start_points_at_what_failed(system: System) -> None:
    db = fakes.with_fields(DB, restart=Restart.NEVER)
    system.apply(WEB, API, db)
    system.crash("shop.db@1", 3)
    chain, culprit = told(system, "shop.web@1")
    assert chain.startswith("shop.web was not started: cannot start 'shop.web': 'shop.api' failed")
    assert chain.endswith("<- shop.db has failed: exit 3")
    assert culprit == "shop.db"


def test_what_was_stopped_by_hand_is_named_with_what_starts_it(system: System) -> None:
    system.apply(API, DB)
    system.ready("shop.db@1")
    system.ready("shop.api@1")
    system.supervisor.stop(["shop.db@1"])
    system.host.advance(20)
    system.crash("shop.api@1")
    system.host.advance(1)
    chain, culprit = told(system, "shop.api@1")
    assert "orch start shop.db" in chain
    assert chain.endswith("<- shop.db is stopped")
    assert culprit == "shop.db"


def test_what_runs_has_no_culprit(system: System) -> None:
    system.apply(DB)
    system.ready("shop.db@1")
    assert told(system, "shop.db@1") == ("shop.db is running and ready", None)


def test_what_has_ended_well_has_no_culprit(system: System) -> None:
    job = fakes.component("shop.job", restart=Restart.NEVER)
    system.apply(job, program=Program(lives=1.0, exit=Exit(code=0)))
    system.host.advance(5)
    assert told(system, "shop.job@1") == ("shop.job has ended well (exit 0)", None)


def test_an_optional_dependency_that_failed_is_no_cause(system: System) -> None:
    dead = fakes.component("shop.dead", restart=Restart.NEVER)
    wishes = {
        "shop.dead": Dependency(Condition.COMPLETED_SUCCESSFULLY, required=False),
        "shop.db": Dependency(),
    }
    web = fakes.component("shop.web", depends_on=wishes)
    system.apply(web, DB)
    system.apply(web, DB, dead, program=Program(lives=0.0, exit=Exit(code=3)))
    system.host.advance(2)
    assert told(system, "shop.web@1")[1] == "shop.db"


def test_what_is_stopping_says_what_it_was_told_and_what_follows(system: System) -> None:
    deaf = frozenset({signal.SIGTERM, signal.SIGINT})
    stop = topology.Stop(ladder=(Rung("INT", 5.0), Rung("TERM", 3.0)), command=("bye",))
    system.host.programs["bye",] = Program(2.0)
    child = Fork(Program(ignores=deaf), setsid=True)
    stubborn = Program(handles={signal.SIGINT: (4.0, Exit(code=0))}, forks=(child,))
    db = fakes.component("shop.db", settle=0.0, stop=stop)
    web = fakes.component("shop.web", settle=0.0, stop=stop, depends_on={"shop.db": Dependency()})
    system.apply(db, web, program=stubborn)
    system.supervisor.stop(["shop.db@1", "shop.web@1"])
    said = []
    for _ in range(4):
        system.host.advance(1.5)
        said.append(told(system, "shop.web@1")[0].removeprefix("shop.web is stopping "))
    assert said[0] == "by request: its stop command runs; KILL follows in 16.5s"
    assert said[1] == "by request: INT was sent; KILL follows in 7s"
    assert said[2] == "by request: INT was sent; KILL follows in 5.5s"
    assert told(system, "shop.db@1")[0] == "shop.db is running until shop.web has stopped"
    system.host.advance(1)
    told_last = told(system, "shop.web@1")[0]
    assert "it has ended, and 1 of its processes still live; KILL follows in 3s" in told_last


def test_what_is_restarted_says_so(system: System) -> None:
    db = fakes.component("shop.db", settle=0.0)
    system.apply(db, program=Program(ignores=frozenset({signal.SIGTERM})))
    system.supervisor.restart(["shop.db@1"])
    assert told(system, "shop.db@1")[0] == (
        "shop.db is stopping to be started again: TERM was sent; KILL follows in 10s"
    )


@pytest.mark.parametrize(
    ("ready", "words"),
    [
        (Ready(notify=True), "READY=1 did not come on NOTIFY_SOCKET"),
        (Ready(log="^up$"), "nothing that it wrote matches '^up$'"),
        (Ready(fd=3), "no newline came on file descriptor 3"),
    ],
)
def test_what_should_have_been_said_is_told(system: System, ready: Ready, words: str) -> None:
    db = fakes.component("shop.db", ready=ready, start_timeout=5.0, restart=Restart.NEVER)
    system.apply(db)
    system.host.advance(6)
    assert told(system, "shop.db@1")[0] == f"shop.db has failed: not ready within 5s: {words}"
