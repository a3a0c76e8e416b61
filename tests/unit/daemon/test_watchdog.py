"""Watchdogs in virtual time: who missed a deadline is told once, and signs cost no timers."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from orchestrator.daemon.watchdog import Watchdogs
from tests.fakes import FakeHost


class Kennel:
    def __init__(self) -> None:
        self.host = FakeHost()
        self.missed: list[tuple[str, float]] = []
        self.timers = 0
        self._call_later = self.host.call_later
        self.host.call_later = self._counted  # type: ignore[method-assign]
        begin = self.host.now()
        self.dogs = Watchdogs(
            self.host, lambda slot, _: self.missed.append((slot, self.host.now() - begin))
        )

    def _counted(self, after: float, callback: Callable[[], None]) -> None:
        self.timers += 1
        self._call_later(after, callback)


@pytest.fixture
def kennel() -> Kennel:
    return Kennel()


def test_a_missed_sign_is_told_once_and_on_time(kennel: Kennel) -> None:
    kennel.dogs.begin("a", 3.0)
    kennel.host.advance(2.9)
    assert kennel.missed == []
    kennel.host.advance(30.0)
    assert kennel.missed == [("a", 3.0)]


def test_the_deadline_counts_from_the_last_sign(kennel: Kennel) -> None:
    kennel.dogs.begin("a", 3.0)
    for _ in range(5):
        kennel.host.advance(2.0)
        kennel.dogs.sign("a")
    assert kennel.missed == []
    kennel.host.advance(30.0)
    assert kennel.missed == [("a", 13.0)]


def test_signs_cost_no_timers(kennel: Kennel) -> None:
    kennel.dogs.begin("a", 3.0)
    for _ in range(3000):
        kennel.host.advance(0.01)
        kennel.dogs.sign("a")
    assert kennel.missed == []
    assert kennel.timers <= 12


def test_what_has_ended_is_not_missed(kennel: Kennel) -> None:
    kennel.dogs.begin("a", 3.0)
    kennel.dogs.end("a")
    kennel.host.advance(30.0)
    kennel.dogs.sign("a")
    kennel.host.advance(30.0)
    assert kennel.missed == []


def test_the_timer_of_an_earlier_process_is_outlived(kennel: Kennel) -> None:
    kennel.dogs.begin("a", 3.0)
    kennel.host.advance(2.0)
    kennel.dogs.end("a")
    kennel.dogs.begin("a", 3.0)
    kennel.host.advance(2.0)
    assert kennel.missed == []
    kennel.host.advance(30.0)
    assert kennel.missed == [("a", 5.0)]


def test_a_daemon_that_was_held_up_itself_gives_everybody_a_period_more(kennel: Kennel) -> None:
    kennel.dogs.begin("a", 3.0)
    kennel.host._clock += 60.0
    kennel.host.turn()
    assert kennel.missed == []
    kennel.host.advance(2.9)
    assert kennel.missed == []
    kennel.host.advance(0.2)
    assert [slot for slot, _ in kennel.missed] == ["a"]
