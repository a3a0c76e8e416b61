"""The journal: what is written is read, and what cannot be read stops nothing."""

from __future__ import annotations

import itertools
import sqlite3
import stat
from pathlib import Path

import pytest

from orchestrator.daemon import journal as journals
from orchestrator.daemon.journal import Journal
from orchestrator.model.phase import Exit, Phase, Process, Result
from orchestrator.model.topology import Component
from orchestrator.supervision import lifecycle
from orchestrator.supervision.lifecycle import End, Instance
from tests import fakes

WEB = fakes.component("shop.web", config={"a": [1, {"b": None}]}, environment={"K": "ü"})
PROCESS = Process(4711, 99)


def write(journal: Journal, instance: Instance, *, up: bool = True, alone: bool = False) -> None:
    slot = instance.component.slot
    journal.components([instance.component])
    journal.write([journals.row(slot, instance, up=up, alone=alone, due=7.5, started_wall=1234.5)])


def only(path: Path, boot: str = "b1") -> journals.Record:
    journal = Journal.open(path, boot)
    try:
        (record,) = journal.records()
        return record
    finally:
        journal.close()


STATES: dict[str, lifecycle.State] = {
    "waiting": lifecycle.Waiting(),
    "spawning": lifecycle.Spawning(),
    "starting": lifecycle.Starting(PROCESS, 1, 2),
    "running": lifecycle.Running(PROCESS),
    "unready": lifecycle.Running(PROCESS, ready=False),
    "stopping": lifecycle.Stopping(PROCESS, 0, 1, Result.REQUESTED),
    "backoff": lifecycle.Backoff(1, 7.5),
    "exited": lifecycle.Down(Phase.EXITED),
    "stopped": lifecycle.Down(),
    "failed": lifecycle.Down(Phase.FAILED),
    "disabled": lifecycle.Down(Phase.DISABLED),
}
ENDS = [
    None,
    End(Result.SUCCESS, Exit(code=0)),
    End(Result.EXIT_CODE, Exit(code=7), "words, 'quoted' - ü"),
    End(Result.CORE_DUMP, Exit(signal=11, core_dumped=True)),
    End(Result.OOM_KILL, Exit(signal=9, oom=True)),
    End(Result.SPAWN_ERROR, None, "cannot execute './x'"),
]


@pytest.mark.parametrize("where", STATES)
@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.result.value if end else "none")
def test_what_is_written_is_read(tmp_path: Path, where: str, end: End | None) -> None:
    path = tmp_path / "journal.db"
    instance = Instance(WEB, STATES[where], 3, 2, 1, 4, 9, 55.5, end=end)
    journal = Journal.open(path, "b1")
    write(journal, instance, up=True, alone=True)
    journal.close()
    record = only(path)
    assert record.slot == "shop.web@1"
    assert record.component == WEB
    assert (record.up, record.alone) == (True, True)
    assert record.phase is instance.phase
    assert record.ready is instance.ready
    assert record.process == instance.process
    assert (record.generation, record.restarts, record.failures, record.attempt) == (3, 2, 1, 4)
    assert (record.spawned_at, record.due, record.started_wall) == (55.5, 7.5, 1234.5)
    assert record.end == end


def test_the_last_word_counts(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    journal = Journal.open(path, "b1")
    write(journal, Instance(WEB, generation=1))
    changed = fakes.with_fields(WEB, settle=9.0)
    write(journal, Instance(changed, generation=2), up=False)
    journal.close()
    record = only(path)
    assert (record.generation, record.up, record.component) == (2, False, changed)


def test_what_is_removed_is_gone(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path / "journal.db", "b1")
    write(journal, Instance(WEB))
    write(journal, Instance(fakes.component("shop.db")))
    journal.components((), ["shop.web@1"])
    assert [record.slot for record in journal.records()] == ["shop.db@1"]
    journal.close()


def test_a_component_whose_slot_was_never_written_is_stopped(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path / "journal.db", "b1")
    journal.components([WEB])
    (record,) = journal.records()
    assert (record.slot, record.phase, record.up) == ("shop.web@1", Phase.STOPPED, False)
    journal.close()


def test_words_about_the_system_are_remembered(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    journal = Journal.open(path, "b1")
    journal.remember(start_concurrency="7")
    journal.close()
    journal = Journal.open(path, "b1")
    assert journal.meta()["start_concurrency"] == "7"
    journal.close()


def test_it_is_read_by_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    journal = Journal.open(path, "b1")
    write(journal, Instance(WEB))
    for file in tmp_path.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0, file
    journal.close()


def test_a_writer_that_is_killed_loses_nothing_that_was_written(tmp_path: Path) -> None:
    """The file is read while the dead writer's connection was never closed."""
    path = tmp_path / "journal.db"
    dead = Journal.open(path, "b1")
    write(dead, Instance(WEB, STATES["running"], 3))
    assert only(path).process == PROCESS
    dead.close()


# ------------------------------------------------------------------ another boot


@pytest.mark.parametrize("where", STATES)
def test_pids_of_another_boot_mean_nothing(tmp_path: Path, where: str) -> None:
    path = tmp_path / "journal.db"
    journal = Journal.open(path, "b1")
    end = End(Result.EXIT_CODE, Exit(code=7))
    write(journal, Instance(WEB, STATES[where], 3, 2, end=end))
    journal.close()
    record = only(path, "b2")
    assert record.process is None
    assert not record.ready
    assert (record.spawned_at, record.due) == (0.0, 0.0)
    assert record.phase.is_terminal
    if where in {"exited", "failed"}:
        assert record.phase.value == where
    assert (record.up, record.generation, record.restarts, record.end) == (True, 3, 2, end)
    assert only(path, "b2") == record


# ------------------------------------------------------------------ damage


def filled(path: Path, count: int = 60) -> None:
    journal = Journal.open(path, "b1")
    for number in range(count):
        write(journal, Instance(fakes.component(f"shop.n{number}"), STATES["running"], 1))
    journal.close()


def damaged_places() -> list[tuple[str, int]]:
    return list(itertools.product(["cut", "zeros", "noise"], [0, 10, 100, 4096, 5000, 12288, -50]))


@pytest.mark.parametrize(("how", "place"), damaged_places())
def test_a_damaged_file_stops_no_start(tmp_path: Path, how: str, place: int) -> None:
    path = tmp_path / "journal.db"
    filled(path)
    data = bytearray(path.read_bytes())
    at = place % len(data)
    if how == "cut":
        del data[at:]
    else:
        length = min(4096, len(data) - at)
        filling = bytes(length) if how == "zeros" else bytes(i * 37 % 256 for i in range(length))
        data[at : at + length] = filling
    path.write_bytes(bytes(data))
    journal = Journal.open(path, "b1")
    for record in journal.records():
        assert isinstance(record.component, Component)
    write(journal, Instance(WEB))
    assert "shop.web@1" in {record.slot for record in journal.records()}
    journal.close()


@pytest.mark.parametrize("content", [b"", b"no database at all\n" * 500])
def test_what_is_no_journal_is_put_aside_and_said(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "journal.db"
    path.write_bytes(content)
    journal = Journal.open(path, "b1")
    assert list(journal.records()) == []
    write(journal, Instance(WEB))
    journal.close()
    if content:
        assert (tmp_path / "journal.damaged").read_bytes() == content
        assert str(path) in caplog.text


def test_a_journal_of_another_format_is_put_aside_whole(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "journal.db"
    journal = Journal.open(path, "b1")
    journal.remember(format="99")
    write(journal, Instance(WEB))
    journal.close()
    journal = Journal.open(path, "b1")
    assert list(journal.records()) == []
    assert journal.meta()["format"] == journals.FORMAT
    journal.close()
    assert "99" in caplog.text
    with sqlite3.connect(tmp_path / "journal.damaged") as aside:
        rows = aside.execute("SELECT slot FROM component").fetchall()
    aside.close()
    assert rows == [("shop.web@1",)], "what was there can still be looked at"


def test_another_sqlite_file_is_no_journal(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE slot (something TEXT)")
    other.close()
    journal = Journal.open(path, "b1")
    write(journal, Instance(WEB))
    assert len(list(journal.records())) == 1
    journal.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE component SET plain='{' WHERE slot='shop.web@1'",
        "UPDATE component SET plain='[]' WHERE slot='shop.web@1'",
        "UPDATE component SET plain='{}' WHERE slot='shop.web@1'",
        "UPDATE slot SET phase='levitating' WHERE slot='shop.web@1'",
        "UPDATE slot SET phase=NULL WHERE slot='shop.web@1'",
        "UPDATE slot SET result='bored' WHERE slot='shop.web@1'",
    ],
)
def test_a_row_that_cannot_be_used_costs_only_itself(
    tmp_path: Path, statement: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "journal.db"
    journal = Journal.open(path, "b1")
    write(journal, Instance(WEB, STATES["running"]))
    write(journal, Instance(fakes.component("shop.db"), STATES["running"]))
    journal.close()
    with sqlite3.connect(path) as other:
        other.execute(statement)
    other.close()
    journal = Journal.open(path, "b1")
    assert "shop.db@1" in {record.slot for record in journal.records()}
    assert "shop.web@1" in caplog.text or len(list(journal.records())) == 2
    journal.close()


def test_a_full_disk_stops_no_supervision(tmp_path: Path) -> None:
    """What could not be written is said, and can be written later."""
    path = tmp_path / "journal.db"
    journal = Journal.open(path, "b1")
    write(journal, Instance(WEB))
    pages = journal._connection.execute("PRAGMA page_count").fetchone()[0]
    journal._connection.execute(f"PRAGMA max_page_count={pages}")
    big = Instance(WEB, end=End(Result.SPAWN_ERROR, None, "x" * 200_000))
    row = journals.row("shop.web@1", big, up=True, alone=False, due=0.0, started_wall=0.0)
    assert journal.write([row]) is False
    journal._connection.execute("PRAGMA max_page_count=1000000")
    assert journal.write([row]) is True
    (record,) = journal.records()
    assert record.end is not None
    assert len(record.end.message) == 200_000
    journal.close()
