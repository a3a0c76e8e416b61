"""What goes from the old code to the new: nothing is lost on the way."""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path

import pytest

from orchestrator.daemon import journal as journals
from orchestrator.daemon import upgrade
from orchestrator.daemon.journal import Journal
from orchestrator.daemon.upgrade import Handed, Handover
from orchestrator.supervision.lifecycle import Instance
from tests import fakes

WEB = fakes.component("shop.web")


def test_what_is_handed_over_arrives_and_its_descriptors_are_not_inherited() -> None:
    fds = [os.open(os.devnull, os.O_RDONLY) for _ in range(2)]
    handover = Handover(
        version="1.2",
        sequence=7,
        sessions=(Handed(fds[0], 3, ("shop.web@1",), 'half a "mess\xff', 9),),
        link='{"ex',
        exits=({"seq": 1, "pid": 2, "started": 3, "code": 0, "signal": None, "core": False},),
        pipes={"shop.web@1": fds[1]},
        offsets={"shop.web@1": (10, 20)},
    )
    try:
        fd = handover.save()
        for each in fds:
            os.set_inheritable(each, True)
        assert Handover.load(fd) == handover
        assert not any(os.get_inheritable(each) for each in fds)
    finally:
        for each in fds:
            os.close(each)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_code_of_another_age_may_leave_out_what_it_does_not_know() -> None:
    fd = os.memfd_create("handover")
    os.write(fd, json.dumps({"version": "0.9", "news": 1, "sessions": []}).encode())
    os.lseek(fd, 0, os.SEEK_SET)
    assert Handover.load(fd) == Handover(version="0.9")


def written(path: Path) -> None:
    journal = Journal.open(path, "b1")
    journal.components([WEB])
    journal.write(
        [journals.row(WEB.slot, Instance(WEB), up=True, alone=False, due=0.0, started_wall=0.0)]
    )
    journal.close()


def test_the_check_tells_the_version_and_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    written(path)
    before = path.read_bytes()
    assert set(json.loads(upgrade.check(path))) == {"version", "keeper"}
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE meta SET value='17' WHERE key='format'",
        "UPDATE slot SET phase='levitating'",
        "UPDATE component SET plain='{}'",
        "DROP TABLE slot",
    ],
)
def test_a_journal_that_this_code_cannot_read_fails_the_check(
    tmp_path: Path, statement: str
) -> None:
    path = tmp_path / "journal.db"
    written(path)
    with sqlite3.connect(path) as other:
        other.execute(statement)
    other.close()
    with pytest.raises((ValueError, sqlite3.DatabaseError)):
        upgrade.check(path)


def test_a_journal_that_is_not_there_fails_the_check(tmp_path: Path) -> None:
    with pytest.raises(sqlite3.OperationalError):
        upgrade.check(tmp_path / "journal.db")
    assert not list(tmp_path.iterdir())
