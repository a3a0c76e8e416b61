"""The reader of pipes: what it moves, how it dates it, and what it leaves where it is."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.daemon import logreader
from orchestrator.daemon.logindex import Index
from orchestrator.daemon.logreader import TURN, Pipe, Reader
from orchestrator.wire import loglayout
from orchestrator.wire.loglayout import EXACT, MAGIC, Sample, Times, pack


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    path = tmp_path / "pipes" / "web-web.out"
    path.parent.mkdir()
    os.mkfifo(path)
    return path


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "logging" / "web-web.out"


@pytest.fixture
def pipe(fifo: Path, log: Path) -> Iterator[Pipe]:
    made = Pipe(fifo, log)
    yield made
    made.close()


@pytest.fixture
def writer(fifo: Path) -> Iterator[int]:
    fd = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
    yield fd
    os.close(fd)


def index_of(log: Path) -> Times:
    return Times((log.parent / loglayout.TIMES / log.name).read_bytes())


def test_bytes_are_moved_as_they_are_and_dated(pipe: Pipe, writer: int, log: Path) -> None:
    os.write(writer, b"nul \0 bad \xff\r\nhalf")
    assert pipe.carry()
    assert log.read_bytes() == b"nul \0 bad \xff\r\nhalf"
    os.write(writer, b" a line\n")
    assert pipe.carry()
    assert not pipe.carry()
    index = index_of(log)
    assert index.exact
    assert index[len(index) - 1].offset == log.stat().st_size
    assert log.stat().st_mode & 0o777 == 0o640


def test_one_turn_is_bounded(pipe: Pipe, writer: int, log: Path) -> None:
    os.write(writer, bytes(TURN))
    assert pipe.carry()
    assert log.stat().st_size <= TURN


def test_it_goes_on_behind_what_is_there(fifo: Path, writer: int, log: Path) -> None:
    """Another reader has died after it had dated what it could not move any more."""
    log.parent.mkdir()
    log.write_bytes(b"before\n")
    ahead = log.parent / loglayout.TIMES / log.name
    ahead.parent.mkdir()
    ahead.write_bytes(MAGIC + pack((Sample(3, 10.0), Sample(7, 11.0), Sample(50, 12.0))))
    os.write(writer, b"after\n")
    pipe = Pipe(fifo, log)
    assert pipe.carry()
    pipe.close()
    assert log.read_bytes() == b"before\nafter\n"
    assert [one.offset for one in index_of(log)] == [3, 7, 13]


def test_what_cannot_be_written_stays_in_the_pipe(
    pipe: Pipe, writer: int, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.write(writer, b"one\n")
    assert pipe.carry()
    dated = list(index_of(log))

    def full(*_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "splice", full)
        os.write(writer, b"two\n")
        with pytest.raises(OSError, match="No space"):
            pipe.carry()
    # A sample of the same millisecond takes the place of the one before.
    assert [one.offset for one in index_of(log)] == [one.offset for one in dated]
    assert [one.time for one in index_of(log)] == pytest.approx(
        [one.time for one in dated], abs=0.002
    )
    assert pipe.carry()
    assert log.read_bytes() == b"one\ntwo\n"


def test_a_file_that_was_cut_begins_anew(pipe: Pipe, writer: int, log: Path) -> None:
    os.write(writer, b"much\nmore\n")
    assert pipe.carry()
    log.write_bytes(b"")
    os.write(writer, b"new\n")
    assert pipe.carry()
    assert log.read_bytes() == b"new\n"
    assert [one.offset for one in index_of(log)] == [4]


def test_a_pipe_is_over_when_it_is_empty_and_its_writers_are_gone(fifo: Path, log: Path) -> None:
    pipe = Pipe(fifo, log)
    writer = os.open(fifo, os.O_RDWR)
    os.write(writer, b"last")
    assert not pipe.is_over()
    os.close(writer)
    assert not pipe.is_over()
    assert pipe.carry()
    assert pipe.is_over()
    pipe.close()


def test_pipes_come_and_go_and_the_reader_ends_with_their_directory(fifo: Path, log: Path) -> None:
    reader = threading.Thread(target=Reader(fifo.parent, log.parent).serve, daemon=True)
    other = fifo.with_name("other.out")
    with open(os.open(fifo, os.O_RDWR), "wb", buffering=0) as writer:  # noqa: PTH123
        writer.write(b"first\n")
        reader.start()
        os.mkfifo(other)
        with open(os.open(other, os.O_RDWR), "wb", buffering=0) as late:  # noqa: PTH123
            late.write(b"another\n" * 5000)
        writer.write(b"last\n")
        holder = os.open(other, os.O_RDONLY | os.O_NONBLOCK)
        # What is in a pipe whose directory goes is nobody's any more.
        deadline = time.monotonic() + 30
        while not (log.exists() and log.read_bytes() == b"first\nlast\n"):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        fifo.unlink()
        other.unlink()
        fifo.parent.rmdir()
        reader.join(60)
        os.close(holder)
    assert not reader.is_alive()
    assert log.read_bytes() == b"first\nlast\n"


@pytest.mark.parametrize("attempt", range(40))
def test_a_directory_that_goes_right_after_it_was_read_is_missed_by_nobody(
    fifo: Path, log: Path, attempt: int
) -> None:
    del attempt  # About one in twenty had told nobody of its end.
    made = Reader(fifo.parent, log.parent)
    reader = threading.Thread(target=made.serve, daemon=True)
    reader.start()
    deadline = time.monotonic() + 30
    while not made._by_name:
        assert time.monotonic() < deadline
    fifo.unlink()
    while made._by_name:
        assert time.monotonic() < deadline
    fifo.parent.rmdir()
    reader.join(30)
    assert not reader.is_alive()


def test_there_is_one_reader(tmp_path: Path) -> None:
    lock = tmp_path / logreader.LOCK
    assert logreader._lock(lock)
    assert lock.read_text().split()[0] == str(os.getpid())
    assert not logreader._lock(lock)


def test_an_exact_index_grows_by_a_sample_a_millisecond(log: Path) -> None:
    log.parent.mkdir()
    index = Index(log, exact=True)
    for sample in (Sample(1, 5.0), Sample(2, 5.0005), Sample(3, 5.0009), Sample(4, 5.001)):
        index.add(sample)
    assert list(index_of(log)) == [Sample(3, 5.0009), Sample(4, 5.001)]
    again = Index(log)
    assert again.last == Sample(4, 5.001)
    assert not index_of(log).exact, "who writes it now does not know when each line was said"
    assert (log.parent / loglayout.TIMES / log.name).read_bytes()[: len(EXACT)] == MAGIC
