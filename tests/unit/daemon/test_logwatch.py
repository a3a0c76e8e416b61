"""Watching logs: dated, rotated, and left alone while nobody writes."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator.daemon import logwatch, rotation
from orchestrator.daemon.logindex import Index
from orchestrator.daemon.logwatch import LogWatch
from orchestrator.daemon.notices import Notices
from orchestrator.model.topology import Logs
from orchestrator.wire import loglayout
from orchestrator.wire.loglayout import Sample, Times


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "web-web.out"
    path.touch()
    return path


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    made.run_until_complete(made.shutdown_default_executor())
    made.close()


@pytest.fixture
def watch(loop: asyncio.AbstractEventLoop) -> Iterator[LogWatch]:
    made = LogWatch(loop, look=0.01)
    yield made
    made.close()


Until = Callable[[Callable[[], object]], None]


@pytest.fixture
def until(loop: asyncio.AbstractEventLoop) -> Until:
    """Return a function that lets the loop run until something is so."""

    async def wait(check: Callable[[], object]) -> None:
        async with asyncio.timeout(45):  # the disk may be busy
            while not check():  # noqa: ASYNC110 - files tell nobody
                await asyncio.sleep(0.005)

    return lambda check: loop.run_until_complete(wait(check))


def samples(log: Path) -> list[Sample]:
    path = log.parent / loglayout.TIMES / log.name
    return list(Times(path.read_bytes())) if path.exists() else []


def append(log: Path, data: bytes, time: float | None = None) -> None:
    """Append as a child does; with `time`, as if the write had been then."""
    with log.open("ab") as file:
        file.write(data)
    if time is not None:
        os.utime(log, (time, time))


def first_byte(log: Path) -> int:
    return rotation.first_byte(log) if rotation.segments(log) else -1


def rests(watch: LogWatch) -> bool:
    return not watch._active and watch._timer is None and watch._is_listening


def test_each_write_is_dated_by_the_file_itself(watch: LogWatch, until: Until, log: Path) -> None:
    watch.follow("a", 1, Logs(), (str(log), None))
    until(lambda: rests(watch))
    assert samples(log) == []
    append(log, b"x" * 10, 1000.5)
    until(lambda: samples(log) == [Sample(10, 1000.5)])
    until(lambda: rests(watch))
    append(log, b"x" * 10, 2000.25)
    until(lambda: samples(log)[1:] == [Sample(20, 2000.25)])


def test_what_was_written_while_nobody_watched_is_dated_too(
    watch: LogWatch, until: Until, log: Path
) -> None:
    Index(log).add(Sample(5, 500.0))
    append(log, b"x" * 10, 1000.5)
    watch.follow("a", 1, Logs(), (str(log),))
    until(lambda: samples(log) == [Sample(5, 500.0), Sample(10, 1000.5)])


def test_after_the_end_of_its_process_a_log_is_seen_to_its_end_and_forgotten(
    watch: LogWatch, until: Until, log: Path
) -> None:
    watch.follow("a", 1, Logs(), (str(log),))
    assert watch.follows("a", 1, Logs())
    assert not watch.follows("a", 1, Logs(size=1))
    assert not watch.follows("a", 2, Logs())
    append(log, b"last words", 1000.0)
    watch.leave("a")
    until(lambda: samples(log) == [Sample(10, 1000.0)] and not watch._logs)
    assert not watch.follows("a", 1, Logs())
    watch.leave("a")


def test_a_log_that_grew_too_large_is_rotated_and_its_index_pruned(
    watch: LogWatch, until: Until, log: Path
) -> None:
    watch.follow("a", 1, Logs(size=1000, keep=2), (str(log),))
    whole = b""
    for number in range(5):
        part = b"".join(b"%d %04d\n" % (number, n) for n in range(200))
        append(log, part, 1000.0 + number)
        whole += part
        end = len(whole)
        until(functools.partial(lambda end: first_byte(log) == end, end))
    assert len(rotation.segments(log)) == 2
    assert b"".join(p.read_bytes() for p in rotation.segments(log)) == whole[len(whole) * 3 // 5 :]
    until(lambda: samples(log)[0].offset == len(whole) * 3 // 5)
    append(log, b"small\n")
    until(lambda: samples(log)[-1].offset == len(whole) + 6)
    until(lambda: rests(watch))
    assert rotation.first_byte(log) == len(whole)


@pytest.mark.parametrize("how", ["cut", "replaced", "deleted"])
def test_a_log_that_begins_anew_has_an_index_that_does_too(
    watch: LogWatch, until: Until, log: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    watch.follow("a", 1, Logs(), (str(log),))
    append(log, b"x" * 10_000, 1000.0)
    until(lambda: len(samples(log)) == 1)
    until(lambda: rests(watch))
    (log.parent / "web-web.out.0").touch()
    if how == "cut":
        os.truncate(log, 0)
        append(log, b"new", 2000.0)
    elif how == "replaced":
        other = log.with_name("other")
        append(other, b"new" * 10_000, 2000.0)
        other.rename(log)
    else:
        log.unlink()
        until(lambda: "begins anew" in caplog.text)
        append(log, b"new" * 10_000, 2000.0)
        watch.follow("a", 2, Logs(), (str(log),))  # as at the next start of its writer
    until(lambda: samples(log) == [Sample(log.stat().st_size, 2000.0)])
    assert rotation.segments(log) == ()
    assert "begins anew" in caplog.text


def test_a_log_deleted_under_its_writer_is_said_once(
    watch: LogWatch, until: Until, log: Path, caplog: pytest.LogCaptureFixture
) -> None:
    watch.follow("a", 1, Logs(), (str(log),))
    until(lambda: rests(watch))
    with log.open("ab", buffering=0) as writer:
        log.unlink()
        writer.write(b"into the void")
        until(lambda: "is lost until it is started again" in caplog.text)
        until(lambda: rests(watch))


def test_without_watches_files_are_looked_at_in_turns(
    watch: LogWatch,
    until: Until,
    log: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def full(path: str) -> int:
        raise OSError(28, "No space left on device", path)

    monkeypatch.setattr(watch._notices, "arm", full)
    watch.follow("a", 1, Logs(), (str(log),))
    append(log, b"x", 1000.0)
    until(lambda: len(samples(log)) == 1)
    until(lambda: "looked at in turns" in caplog.text)
    append(log, b"x", 1001.0)
    until(lambda: len(samples(log)) == 2)
    assert caplog.text.count("in turns") == 1


def test_a_kernel_that_gives_no_notices_at_all_is_done_without(
    loop: asyncio.AbstractEventLoop,
    until: Until,
    log: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def none_left() -> Notices:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(logwatch, "Notices", none_left)
    watch = LogWatch(loop, look=0.01)
    watch.follow("a", 1, Logs(), (str(log),))
    append(log, b"x", 1000.0)
    until(lambda: len(samples(log)) == 1)
    append(log, b"x", 1001.0)
    until(lambda: len(samples(log)) == 2)
    watch.leave("a")
    until(lambda: not watch._logs)
    watch.close()
    assert caplog.text.count("looked at in turns") == 1


def test_a_full_disk_is_told_and_watched_until_there_is_room(
    loop: asyncio.AbstractEventLoop, until: Until, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []
    real, free = os.statvfs, [5]

    def statvfs(path: str) -> os.statvfs_result:
        fields = list(real(path))
        fields[4] = free[0]  # f_bavail
        return os.statvfs_result(fields)

    monkeypatch.setattr(os, "statvfs", statvfs)
    watch = LogWatch(loop, look=0.01, room=told.append)
    watch.follow("a", 1, Logs(), (str(log),))
    until(lambda: rests(watch))
    assert told == []
    for times in (1, 2):
        free[0] = 0
        append(log, b"more\n")
        until(lambda: told[-1:] == [times])  # noqa: B023 - called at once
        free[0] = 7
        until(lambda: told[-1] == 0)
        until(lambda: rests(watch))
    assert told == [1, 0, 2, 0]
    watch.close()


def test_an_index_that_cannot_be_written_stops_nothing(
    watch: LogWatch, until: Until, log: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (log.parent / loglayout.TIMES).write_text("in the way")
    watch.follow("a", 1, Logs(size=100), (str(log),))
    append(log, b"x\n" * 100)
    until(lambda: rotation.segments(log))
    assert caplog.text.count("Cannot write when") == 1


def test_many_files_are_looked_at_a_few_at_a_time(
    watch: LogWatch, until: Until, tmp_path: Path
) -> None:
    logs = [tmp_path / f"a-{n}.out" for n in range(logwatch.BATCH * 2 + 1)]
    for n, log in enumerate(logs):
        append(log, b"x", 1000.0)
        watch.follow(str(n), 1, Logs(), (str(log),))
    until(lambda: all(samples(log) for log in logs))


def test_an_index_goes_on_where_it_ended(log: Path) -> None:
    Index(log).add(Sample(5, 500.0))
    path = log.parent / loglayout.TIMES / log.name
    with path.open("ab") as file:
        file.write(b"half")
    index = Index(log)
    assert index.last == Sample(5, 500.0)
    index.add(Sample(5, 600.0))
    index.add(Sample(9, 600.0))
    assert samples(log) == [Sample(5, 500.0), Sample(9, 600.0)]


def test_a_clock_that_was_set_back_takes_the_older_samples_along(log: Path) -> None:
    index = Index(log)
    for one in (Sample(5, 500.0), Sample(6, 900.0), Sample(9, 600.0)):
        index.add(one)
    assert samples(log) == [Sample(5, 500.0), Sample(6, 600.0), Sample(9, 600.0)]


def test_an_index_never_grows_beyond_its_bound(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loglayout, "MOST_SAMPLES", 16)
    index = Index(log)
    for n in range(1, 200):
        index.add(Sample(n, float(n)))
    found = [one.offset for one in samples(log)]
    assert len(found) <= 16
    assert found[-5:] == [195, 196, 197, 198, 199]
    assert found == sorted(found)


@pytest.fixture(autouse=True)
def warnings_are_seen(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
