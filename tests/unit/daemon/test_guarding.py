"""What the supervisor asks of its probes, and what it makes of what they find."""

from __future__ import annotations

import errno

import pytest

from orchestrator.daemon import rows
from orchestrator.daemon.health import Health
from orchestrator.model.phase import Exit
from orchestrator.model.topology import Backoff, Probe, Ready, Restart
from orchestrator.supervision import lifecycle
from tests import fakes
from tests.unit.daemon.system import System

SLOT = "shop.web@1"
TCP = Ready(tcp="h:1")
LIVE = Probe(tcp="h:1")


def test_a_process_is_guarded_from_its_first_readiness_to_its_end(system: System) -> None:
    system.apply(fakes.component("shop.web", ready=TCP, live=LIVE))
    assert (system.probes.watched, system.probes.guarded) == ({SLOT}, set())
    system.ready(SLOT)
    assert system.probes.guarded == {SLOT}
    system.crash(SLOT)
    assert (system.probes.watched, system.probes.guarded) == (set(), set())


def test_what_was_found_is_forgotten_with_the_process(system: System) -> None:
    system.apply(fakes.component("shop.web", ready=TCP, live=LIVE))
    system.ready(SLOT)
    system.reported.clear()
    found = Health(started=True, healthy=True, status="well")
    for _ in range(3):
        system.supervisor.tell(SLOT, found)
        system.host.turn()
    row = rows.row(system.supervisor, SLOT)
    assert (row["healthy"], row["why"]) == (True, "well")
    assert system.reported == [SLOT], "what is known already is no news"
    system.host.end(system.process(SLOT), Exit(code=1))
    system.host.turn()
    assert rows.row(system.supervisor, SLOT)["healthy"] is None


def test_what_is_not_ready_any_more_says_why(system: System) -> None:
    system.apply(fakes.component("shop.web", ready=TCP))
    system.ready(SLOT)
    system.supervisor.post(SLOT, lifecycle.LostReadiness())
    system.host.turn()
    assert rows.row(system.supervisor, SLOT)["why"] == "not ready: its readiness is lost"
    system.supervisor.tell(SLOT, Health(trouble="HTTP 503", status="busy"))
    assert rows.row(system.supervisor, SLOT)["why"] == "not ready: HTTP 503; busy"


@pytest.mark.parametrize(
    ("probe", "health", "words"),
    [
        (TCP, Health(started=True, trouble="Connection refused"), "tcp h:1: Connection refused"),
        (
            Ready(exec=("look", "now")),
            Health(started=True, trouble="exit 1"),
            "exec look now: exit 1",
        ),
    ],
)
def test_a_start_that_takes_too_long_says_what_was_found_last(
    system: System, probe: Ready, health: Health, words: str
) -> None:
    component = fakes.component("shop.web", ready=probe, start_timeout=2.0, restart=Restart.NEVER)
    system.apply(component)
    system.supervisor.tell(SLOT, health)
    system.host.advance(60)
    row = rows.row(system.supervisor, SLOT)
    assert (row["phase"], row["result"]) == ("failed", "timeout-start")
    assert row["why"] == f"not ready within 2s: {words}"


def test_a_startup_probe_that_never_succeeds_is_why_a_start_took_too_long(system: System) -> None:
    startup = Probe(http="http://h/")
    component = fakes.component(
        "shop.web", ready=TCP, startup=startup, start_timeout=2.0, restart=Restart.NEVER
    )
    system.apply(component)
    system.supervisor.tell(SLOT, Health(trouble="HTTP 503"))
    system.host.advance(60)
    why = rows.row(system.supervisor, SLOT)["why"]
    assert why == "not ready within 2s: http http://h/: HTTP 503"


def test_a_start_that_takes_too_long_and_was_never_looked_at_says_no_more(system: System) -> None:
    delay = Ready(delay=100.0)
    system.apply(
        fakes.component("shop.web", ready=delay, start_timeout=2.0, restart=Restart.NEVER)
    )
    system.host.advance(60)
    assert rows.row(system.supervisor, SLOT)["why"] == "not ready within 2s"


def test_a_start_says_what_it_waits_for(system: System) -> None:
    system.apply(fakes.component("shop.web", ready=TCP, startup=Probe(http="http://h/")))
    first = rows.row(system.supervisor, SLOT)["why"]
    system.supervisor.tell(SLOT, Health(started=True, trouble="Connection refused"))
    second = rows.row(system.supervisor, SLOT)["why"]
    assert str(first).startswith("waiting for the end of its start (http) ")
    assert str(second).startswith("waiting for its readiness (tcp) ")
    assert str(second).endswith("; Connection refused")


def test_without_a_descriptor_to_spare_a_start_is_tried_again(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prepare(*_: object) -> dict[int, int]:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(system.probes, "prepare", prepare)
        component = fakes.component("shop.web", ready=Ready(fd=3), backoff=Backoff(initial=1.0))
        system.apply(component)
        row = rows.row(system.supervisor, SLOT)
        assert (row["phase"], row["result"]) == ("backoff", "spawn-error")
        assert "Too many open files" in str(row["why"])
    system.host.advance(2.0)
    assert rows.row(system.supervisor, SLOT)["phase"] == "starting"
