"""When lines were written: by the index, by the times they begin with, by the file."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from orchestrator.cli import dating, history
from orchestrator.cli.history import Choice
from orchestrator.cli.logfiles import LogFile
from orchestrator.cli.loglines import LONGEST
from orchestrator.daemon.logindex import Index
from orchestrator.errors import UsageError
from orchestrator.wire.loglayout import Sample, Times

NOON = 1_795_348_800.0  # 2026-11-22T12:00:00Z


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "web.out"


def make(log: Path, text: bytes, *samples: tuple[int, float], modified: float = NOON) -> Path:
    log.write_bytes(text)
    index = Index(log)
    for offset, when in samples:
        index.add(Sample(offset, when))
    os.utime(log, (modified, modified))
    return log


def dated(log: Path, limit: int = 1000) -> list[tuple[float, bytes]]:
    file = LogFile(log)
    end = file.extent()[1]
    found = list(dating.pieces(file, dating.times_of(log), end, limit))
    assert b"".join(piece.data for piece in found) == log.read_bytes()
    position = 0
    for piece in found:
        assert piece.offset == position
        position += len(piece.data)
    return [(piece.time - NOON, piece.data) for piece in found]


@pytest.mark.parametrize("limit", [1, 3, 1000])
def test_a_line_is_of_the_first_sample_that_has_its_end(log: Path, limit: int) -> None:
    make(log, b"one\ntwo\nthree\nfour\n", (6, NOON - 20), (14, NOON - 10))
    found: dict[bytes, float] = {}
    for when, data in dated(log, limit):
        for line in data.splitlines():
            found[line] = when
    assert found == {b"one": -20, b"two": -10, b"three": -10, b"four": 0}


def test_without_an_index_the_file_dates_its_lines(log: Path) -> None:
    assert dated(make(log, b"one\ntwo")) == [(0, b"one\ntwo")]


def test_a_time_in_a_line_counts_and_takes_the_following_lines_along(log: Path) -> None:
    text = (
        b"before\n2026-11-22T11:59:59.250Z INFO a\n  more of a\n2026-11-22T11:59:59.5Z b\nafter\n"
    )
    assert dated(make(log, text)) == [
        (-0.75, b"before\n2026-11-22T11:59:59.250Z INFO a\n  more of a\n"),
        (-0.5, b"2026-11-22T11:59:59.5Z b\nafter\n"),
    ]


def test_a_time_that_cannot_be_is_part_of_the_text(log: Path) -> None:
    text = b"2019-01-01T00:00:00Z replayed\n2026-13-45T99:00:00Z\n2027-01-01T00:00:00Z ahead\n"
    assert dated(make(log, text)) == [(0, text)]
    assert dated(make(log, text, (51, NOON - 3), (78, NOON))) == [(-3, text[:51]), (0, text[51:])]


def test_times_are_those_that_are_shown(log: Path) -> None:
    make(log, b"one\ntwo\n", (4, NOON - 4.1239), (8, NOON - 4.1))
    assert [when for when, _ in dated(log)] == pytest.approx([-4.124, -4.1], abs=1e-6)
    assert window(log, until=NOON - 4.124) == b"one\n"


def test_times_never_fall(log: Path) -> None:
    text = b"2026-11-22T11:59:59.9Z b\n2026-11-22T11:59:59.1Z a\n"
    assert [when for when, _ in dated(make(log, text))] == pytest.approx([-0.1, -0.1])


def test_a_line_without_end_is_read_in_bounded_pieces(log: Path) -> None:
    make(log, b"x" * (3 * LONGEST) + b"\nlast\n")
    pieces = dated(log, 1 << 16)
    assert max(len(data) for _, data in pieces) <= LONGEST + (1 << 16)


def window(log: Path, **limits: float) -> bytes:
    begin, end = history.choose(LogFile(log), Choice(**limits))  # type: ignore[arg-type]
    return log.read_bytes()[begin:end]


def test_since_and_until_choose_whole_lines(log: Path) -> None:
    make(log, b"one\ntwo\nthree\nfour\n", (6, NOON - 20), (14, NOON - 10))
    assert window(log, since=NOON - 30) == b"one\ntwo\nthree\nfour\n"
    assert window(log, since=NOON - 20) == b"one\ntwo\nthree\nfour\n"
    assert window(log, since=NOON - 19) == b"two\nthree\nfour\n"
    assert window(log, since=NOON - 5) == b"four\n"
    assert window(log, since=NOON + 1) == b""
    assert window(log, until=NOON - 21) == b""
    assert window(log, until=NOON - 20) == b"one\n"
    assert window(log, until=NOON - 1) == b"one\ntwo\nthree\n"
    assert window(log, since=NOON - 15, until=NOON - 5) == b"two\nthree\n"
    assert window(log, since=NOON - 15, until=NOON - 5, lines=1) == b"three\n"


def test_since_goes_by_the_times_in_lines_too(log: Path) -> None:
    make(log, b"2026-11-22T11:59:59.1Z a\n2026-11-22T11:59:59.9Z b\n")
    assert window(log, since=NOON - 0.5) == b"2026-11-22T11:59:59.9Z b\n"
    assert window(log, until=NOON - 0.5) == b"2026-11-22T11:59:59.1Z a\n"


def test_an_index_is_read_where_it_lies_and_what_is_none_is_empty(log: Path) -> None:
    make(log, b"one\n", (4, NOON))
    assert list(dating.times_of(log)) == [Sample(4, NOON)]
    assert len(dating.times_of(log.with_name("other"))) == 0
    (log.parent / ".times" / "empty").touch()
    assert len(dating.times_of(log.with_name("empty"))) == 0
    assert isinstance(dating.times_of(log), Times)


@pytest.fixture
def in_new_york(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "EST5")
    time.tzset()


@pytest.mark.parametrize(
    ("text", "moment"),
    [("10m", -600), ("1h30m", -5400), ("2026-11-22T11:00:00Z", -3600), ("2026-11-22T06:30", -1800),
     ("2026-11-22T13:00:00+02:00", -3600), ("06:59", -60), ("06:59:30.5", -29.5),
     ("2026-11-22", -7 * 3600)],
)  # fmt: skip
@pytest.mark.usefixtures("in_new_york")
def test_a_moment_is_written_as_people_do(text: str, moment: float) -> None:
    assert history.parse_time(text, "--since", NOON) == NOON + moment


@pytest.mark.parametrize("text", ["", "yesterday", "25:00", "2026-13-01", "10", "-5m"])
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="for --since: write how long ago, as 10m"):
        history.parse_time(text, "--since", NOON)
