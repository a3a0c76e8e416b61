"""Intents: what is about to be started is found until the journal has it, and never later."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from orchestrator.daemon import journal as journals
from orchestrator.daemon.journal import Journal
from orchestrator.errors import JournalError
from orchestrator.model.phase import Phase, Process
from orchestrator.supervision import lifecycle
from orchestrator.supervision.lifecycle import Instance
from tests import fakes

WEB = Instance(fakes.component("shop.web"), lifecycle.Running(Process(4711, 99)), generation=3)
NEXT = structs.replace(WEB, state=lifecycle.Spawning(), generation=4)


def row(instance: Instance) -> tuple[Any, ...]:
    slot = instance.component.slot
    return journals.row(slot, instance, up=True, alone=False, due=0.0, started_wall=1.0)


def opened(path: Path, boot: str = "b1") -> Journal:
    return Journal.open(path / "journal.db", boot)


def only(path: Path, boot: str = "b1") -> journals.Record:
    journal = opened(path, boot)
    try:
        (record,) = journal.records()
        return record
    finally:
        journal.close()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory whose journal has the component, and its third process."""
    journal = opened(tmp_path)
    journal.components([WEB.component])
    assert journal.write([row(WEB)])
    journal.close()
    return tmp_path


def intend(place: Path, *instances: Instance) -> None:
    journal = opened(place)
    assert journal.intend([row(instance) for instance in instances])
    journal.close()


def test_an_intent_is_found_by_the_next_daemon(place: Path) -> None:
    intend(place, NEXT)
    assert (only(place).generation, only(place).process) == (4, None)
    assert only(place).phase is Phase.STARTING


def test_what_the_journal_has_is_an_intent_no_more(place: Path) -> None:
    journal = opened(place)
    running = structs.replace(NEXT, state=lifecycle.Running(Process(4712, 100)))
    assert journal.intend([row(NEXT)])
    assert journal.write([row(running)])
    assert journal.intend([row(structs.replace(NEXT, generation=5))])
    journal.close()
    assert only(place).generation == 5


def test_an_intent_of_a_generation_that_the_journal_has_says_nothing_new(place: Path) -> None:
    intend(place, WEB)
    assert only(place).process == Process(4711, 99)


def test_a_second_intent_waits_for_the_journal(place: Path) -> None:
    journal = opened(place)
    assert journal.intend([row(NEXT)])
    assert not journal.intend([row(NEXT)])
    assert journal.write([])
    assert journal.intend([row(NEXT)])
    journal.close()


def test_an_intent_of_another_boot_is_none(place: Path) -> None:
    intend(place, NEXT)
    assert only(place, "b2").generation == 3


def test_an_intent_for_what_is_gone_is_none(place: Path) -> None:
    intend(place, NEXT, Instance(fakes.component("shop.db"), lifecycle.Spawning(), generation=1))
    assert only(place).generation == 4


@pytest.mark.parametrize("cut", [0, 5, 9, 60, -2])
def test_an_intent_that_was_cut_off_is_none(place: Path, cut: int) -> None:
    intend(place, NEXT)
    path = place / "journal.intents"
    path.write_bytes(path.read_bytes()[:cut])
    assert only(place).generation == 3


def test_an_intent_over_a_longer_one_is_read_to_its_end(place: Path) -> None:
    journal = opened(place)
    assert journal.intend([row(NEXT)] * 5)
    assert journal.write([])
    assert journal.intend([row(NEXT)])
    journal.close()
    assert only(place).generation == 4


def test_the_file_is_private(place: Path) -> None:
    assert (place / "journal.intents").stat().st_mode & 0o777 == 0o600


def test_without_the_file_one_writes_the_journal(place: Path) -> None:
    (place / "journal.intents").unlink()
    (place / "journal.intents").mkdir()
    journal = opened(place)
    assert not journal.intend([row(NEXT)])
    assert journal.write([row(NEXT)])
    journal.close()
    assert only(place).generation == 4


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """Let no file grow, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def killed(place: Path) -> Iterator[Path]:
    """A directory whose daemon was killed in a start; SQLite has the rest in its log."""
    dead = opened(place)
    assert dead.intend([row(NEXT)])
    yield place
    dead.close()


def test_a_full_disk_costs_no_intent_and_stops_no_start(
    killed: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It counts although it cannot be taken over, and is kept until it can."""
    path = killed / "journal.intents"
    before = path.read_bytes()
    with full_disk():
        journal = opened(killed)
        (record,) = journal.records()
        assert (record.generation, record.phase, record.process) == (4, Phase.STARTING, None)
        assert not journal.intend([row(WEB)])
        assert not journal.write([])
    assert "Cannot write the journal" in caplog.text
    assert "free some space" in caplog.text
    assert not (killed / "journal.damaged").exists()
    assert path.read_bytes() == before
    assert journal.write([])
    assert path.read_bytes() != before
    journal.close()
    assert only(killed).generation == 4


def test_what_follows_an_intent_that_could_not_be_taken_over_is_newer(killed: Path) -> None:
    with full_disk():
        journal = opened(killed)
    running = structs.replace(NEXT, state=lifecycle.Running(Process(4712, 100)))
    assert journal.write([row(running)])
    (record,) = journal.records()
    assert record.process == Process(4712, 100)
    journal.close()
    assert only(killed).process == Process(4712, 100)


def test_an_intent_that_could_not_be_taken_over_goes_with_its_component(killed: Path) -> None:
    with full_disk():
        journal = opened(killed)
    journal.components([], ["shop.web@1"])
    journal.components([WEB.component])
    (record,) = journal.records()
    assert record.generation == 0
    journal.close()


def test_a_full_disk_puts_no_journal_aside(place: Path) -> None:
    """Of another boot it has to be written; that fails, and nothing is lost."""
    dead = opened(place)
    before = (place / "journal.db-wal").read_bytes()
    with (
        full_disk(),
        pytest.raises(JournalError, match=r"cannot use the journal .*free some space"),
    ):
        opened(place, "b2")
    assert not (place / "journal.damaged").exists()
    assert (place / "journal.db-wal").read_bytes() == before
    dead.close()
    assert only(place).generation == 3
