"""Segments and the live file are one stream by offset, however the daemon rotates meanwhile."""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path

import pytest

from orchestrator.cli import history
from orchestrator.cli.history import Choice
from orchestrator.cli.logfiles import Catalogue, LogFile
from orchestrator.daemon import rotation


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "web.out"


def append(log: Path, data: bytes) -> bytes:
    with log.open("ab") as file:
        file.write(data)
    return data


def numbered(begin: int, end: int) -> bytes:
    return b"".join(b"line %07d\n" % n for n in range(begin, end))


def read_all(file: LogFile, limit: int = 10_000) -> bytes:
    found = b""
    while data := file.read(limit):
        found += data
    return found


@pytest.fixture(params=["plain", "compressed", "some compressed"])
def rotated(log: Path, request: pytest.FixtureRequest) -> bytes:
    """Make a log of three segments and a live part; return all of it."""
    whole = b""
    for number in range(3):
        whole += append(log, numbered(number * 500, number * 500 + 500))
        segment = rotation.rotate(log, keep=5)
        assert segment is not None
        if request.param == "compressed" or (request.param != "plain" and number == 1):
            rotation.compress(segment)
    return whole + append(log, numbered(1500, 1600) + b"unfinished")


def test_segments_and_live_file_are_one_stream(log: Path, rotated: bytes) -> None:
    assert LogFile(log).extent() == (0, len(rotated))
    assert read_all(LogFile(log)) == rotated
    assert read_all(LogFile(log), limit=7)[:9100] == rotated[:9100]
    assert read_all(LogFile(log, 9999)) == rotated[9999:]


@pytest.mark.parametrize("count", [1, 2, 50, 101, 102, 600, 1601, 5000])
def test_the_last_lines_are_found_across_segments(log: Path, rotated: bytes, count: int) -> None:
    begin, end = history.choose(LogFile(log), Choice(count))
    assert rotated[begin:end].count(b"\n") + 1 == min(count, 1601)
    assert begin == 0 or rotated[begin - 1 : begin] == b"\n"


def test_lines_that_match_are_found_across_segments(log: Path, rotated: bytes) -> None:
    begin, _ = history.choose(LogFile(log), Choice(2, re.compile(rb"499$")))
    assert rotated[begin:].startswith(b"line 0000499\n")
    begin, end = history.choose(LogFile(log), Choice(2, re.compile(rb"nowhere")))
    assert begin == end == len(rotated)


def test_zero_bytes_are_shown_where_the_boundary_is_known(log: Path, rotated: bytes) -> None:
    rotation.rotate(log, keep=5)
    rotated += append(log, b"\0\0 nul\n" + b"\0" * 10_000)
    assert read_all(LogFile(log)) == rotated


def test_segments_that_are_gone_are_passed_over(log: Path, rotated: bytes) -> None:
    file = LogFile(log, 100)
    for segment in rotation.segments(log)[:2]:
        segment.unlink()
    assert file.extent()[0] == 13_000
    assert read_all(file) == rotated[13_000:]
    rotation.segments(log)[0].unlink()
    assert read_all(LogFile(log)) == rotated[19_500:]


def test_a_segment_removed_in_the_middle_leaves_the_rest(log: Path, rotated: bytes) -> None:
    rotation.segments(log)[1].unlink()
    assert read_all(LogFile(log)) == rotated[:6500] + rotated[13_000:]


def test_without_kept_segments_the_marker_tells_the_boundary(log: Path) -> None:
    append(log, numbered(0, 500))
    file = LogFile(log)
    file.read(100)
    rotation.rotate(log, keep=0)
    rest = append(log, b"\0after\n")
    assert read_all(file) == rest
    assert LogFile(log).extent() == (6500, 6507)


def test_what_was_rotated_between_two_reads_is_neither_lost_nor_twice(log: Path) -> None:
    whole = append(log, numbered(0, 1000))
    file = LogFile(log)
    found = file.read(5000)
    rotation.rotate(log, keep=5)
    whole += append(log, numbered(1000, 1500))
    found += file.read(5000)
    rotation.rotate(log, keep=5)
    whole += append(log, numbered(1500, 1600))
    assert found + read_all(file) == whole


def test_a_replaced_live_file_hides_the_segments_of_the_old_one(log: Path, rotated: bytes) -> None:
    file = LogFile(log, len(rotated))
    assert file.read() == b""
    log.rename(log.with_name("moved"))
    new = append(log, numbered(7000, 7010))
    assert read_all(file) == new
    assert read_all(LogFile(log)) == new, "a new reader knows by the size"
    new += append(log, numbered(7010, 9010))
    assert file.read() == new[130:], "the follower knows for good"


def test_a_cut_file_is_read_from_its_start(log: Path, rotated: bytes) -> None:
    file = LogFile(log, len(rotated))
    os.truncate(log, 0)
    new = append(log, b"new\n")
    assert read_all(file) == new


def test_directories_are_listed_again_only_when_they_changed(
    log: Path, rotated: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert rotated
    os.utime(log.parent, (1, 1))
    listings: list[Path] = []
    listing = os.listdir

    def list_and_count(path: Path) -> list[str]:
        listings.append(path)
        return listing(path)

    monkeypatch.setattr(os, "listdir", list_and_count)
    catalogue = Catalogue()
    for _ in range(5):
        assert catalogue.begins(log) == (0, 6500, 13_000)
    assert len(listings) == 1
    rotation.rotate(log, keep=5)
    assert catalogue.begins(log) == (0, 6500, 13_000, 19_500)


def test_a_hole_is_none_when_its_segment_went_before_it_was_looked_at(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the list of segments and the look at the newest, four rotations."""
    listing = Catalogue.begins

    def write(first: int) -> None:
        with log.open("ab") as file:
            file.write(numbered(first, first + 10_000))
        rotation.rotate(log, 3)

    def begins(catalogue: Catalogue, path: Path) -> tuple[int, ...]:
        found = listing(catalogue, path)
        monkeypatch.undo()
        for first in range(10_000, 50_000, 10_000):
            write(first)
        return found

    write(0)
    monkeypatch.setattr(Catalogue, "begins", begins)
    assert read_all(LogFile(log)) == numbered(20_000, 50_000)


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("keep", [3, 1000])
def test_a_reader_beside_a_writer_and_a_rotation_misses_nothing(
    log: Path, keep: int, compress: bool
) -> None:
    """With all segments kept, every byte; with three, every byte unless it fell too far behind."""
    log.touch()
    done = threading.Event()

    def write() -> None:
        with log.open("ab", buffering=0) as file:
            for n in range(40_000):
                file.write(b"line %07d\n" % n)
        done.set()

    def rotate() -> None:
        while not done.is_set():
            segment = rotation.rotate(log, keep)
            if compress and segment is not None:
                rotation.compress(segment)

    threads = [threading.Thread(target=target) for target in (write, rotate)]
    for thread in threads:
        thread.start()
    file = LogFile(log)
    found = []
    while not done.is_set():
        found.append(file.read(3000))
    for thread in threads:
        thread.join()
    found.append(read_all(file))
    text = b"".join(found)
    if keep > 3:
        assert text == numbered(0, 40_000)
    assert b"\0" not in text
    assert text.endswith(numbered(39_990, 40_000))


@pytest.mark.parametrize("kind", ["directory", "loop"])
def test_what_cannot_be_read_is_a_problem_not_an_end(log: Path, kind: str) -> None:
    if kind == "directory":
        log.mkdir()
    else:
        log.symlink_to(log)
    file = LogFile(log)
    assert file.read() == b""
    assert file.problem is not None
