"""Reading logs: from the end, on from an offset, over holes, across replacement."""

from __future__ import annotations

import ctypes
import io
import json
import os
import re
import select
from pathlib import Path

import pytest

from orchestrator.cli import history
from orchestrator.cli.history import Choice
from orchestrator.cli.logfiles import LogFile
from orchestrator.cli.loglines import LONGEST, Style, Writer
from orchestrator.inotify import Notices

PUNCH = 0x1 | 0x2


def punch(path: Path, length: int) -> None:
    """Punch a hole into the head of a file, as rotation does."""
    libc = ctypes.CDLL(None, use_errno=True)
    fd = os.open(path, os.O_WRONLY)
    try:
        done = libc.fallocate(fd, PUNCH, ctypes.c_long(0), ctypes.c_long(length))
    finally:
        os.close(fd)
    if done != 0:
        pytest.skip("this file system has no holes")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "web.out"


def last_lines(log: Path, count: int | None, pattern: bytes | None = None) -> int:
    """Return where the last lines begin."""
    compiled = None if pattern is None else re.compile(pattern)
    return history.choose(LogFile(log), Choice(count, compiled))[0]


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, ""), (1, "three"), (2, "two\nthree"), (3, "one\ntwo\nthree"), (9, "one\ntwo\nthree"),
     (None, "one\ntwo\nthree")],
)  # fmt: skip
@pytest.mark.parametrize("end", ["", "\n"])
def test_the_last_lines_are_found(log: Path, count: int | None, shown: str, end: str) -> None:
    log.write_text("one\ntwo\nthree" + end)
    offset = last_lines(log, count)
    assert log.read_text()[offset:] == (shown + end if shown else "")


def test_the_last_lines_are_found_across_blocks(log: Path) -> None:
    lines = [f"{number} " + "x" * 50_000 for number in range(10)]
    log.write_text("\n".join(lines))
    assert log.read_text()[last_lines(log, 4) :] == "\n".join(lines[-4:])


def test_the_last_lines_that_match_are_found(log: Path) -> None:
    log.write_text("a 1\nb\na 2\na 3\nb\n")
    offset = last_lines(log, 2, rb"^a")
    assert log.read_text()[offset:] == "a 2\na 3\nb\n"
    assert last_lines(log, 2, rb"zz") == log.stat().st_size


def test_a_file_that_is_not_there_yet_is_empty_and_read_when_it_comes(log: Path) -> None:
    assert last_lines(log, 10) == 0
    file = LogFile(log)
    assert file.read() == b""
    log.write_bytes(b"here\n")
    assert file.read() == b"here\n"
    assert file.read() == b""


def test_a_punched_head_is_skipped_and_offsets_stay(log: Path) -> None:
    log.write_bytes(b"old line\n" * 20_000 + b"first kept\nlast\n")
    size = log.stat().st_size
    file = LogFile(log)
    punch(log, size - len(b"first kept\nlast\n"))
    assert log.stat().st_size == size
    assert LogFile(log).extent()[0] == size - len(b"first kept\nlast\n")
    assert file.read() == b"first kept\nlast\n"
    assert file.offset == size
    with log.open("ab") as more:
        more.write(b"more\n")
    assert file.read() == b"more\n"
    assert log.read_bytes()[last_lines(log, None) :] == b"first kept\nlast\nmore\n"
    assert log.read_bytes()[last_lines(log, 1000) :] == b"first kept\nlast\nmore\n"


def test_a_wholly_punched_file_shows_nothing(log: Path) -> None:
    log.write_bytes(b"x" * 65_536)
    punch(log, 65_536)
    assert LogFile(log).read() == b""


def test_a_replaced_or_cut_file_is_read_from_its_start(log: Path) -> None:
    log.write_bytes(b"before\n")
    file = LogFile(log)
    assert file.read() == b"before\n"
    log.rename(log.with_suffix(".old"))
    log.write_bytes(b"after, and longer\n")
    assert file.read() == b"after, and longer\n"
    log.write_bytes(b"cut\n")
    assert file.read() == b"cut\n"


def test_notices_tell_which_files_grew(tmp_path: Path) -> None:
    with Notices() as notices:
        assert not notices.watch(tmp_path / "none")
        assert notices.watch(tmp_path)
        assert notices.take() == frozenset()
        (tmp_path / "a").write_text("x")
        (tmp_path / "b").touch()
        assert select.select([notices.fileno()], [], [], 5.0)[0]
        assert notices.take() == frozenset({tmp_path / "a", tmp_path / "b"})
        assert notices.take() == frozenset()


def shown(style: Style, *pieces: bytes, flush: bool = True, width: int = 5) -> bytes:
    """Return what a writer shows of `pieces`."""
    out = io.BytesIO()
    writer = Writer("a.b", "stdout", out, style)
    for piece in pieces:
        writer.write(piece, width)
    if flush:
        writer.flush(width)
    return out.getvalue()


def test_each_line_has_its_prefix() -> None:
    assert shown(Style(), b"one\ntwo\n") == b"a.b    | one\na.b    | two\n"


def test_a_line_in_pieces_is_one_line() -> None:
    assert shown(Style(), b"on", b"e\ntw", b"o", flush=False) == b"a.b    | one\n"


def test_an_unfinished_line_is_shown_at_the_end() -> None:
    assert shown(Style(), b"one\ntw") == b"a.b    | one\na.b    | tw\n"


def test_bytes_stay_bytes_unless_a_terminal_shows_them() -> None:
    text = b"\xff\x00 crlf\r\n"
    assert shown(Style(), text) == b"a.b    | " + text
    assert shown(Style(terminal=True), b"\xff\n") == "a.b    | �\n".encode()
    assert shown(Style(prefix=False), text, b"no end") == text + b"no end"


def test_a_pattern_keeps_the_lines_that_match() -> None:
    style = Style(prefix=False, pattern=re.compile(rb"t"))
    assert shown(style, b"one\ntwo\nthree\n") == b"two\nthree\n"
    assert shown(Style(pattern=re.compile(rb"t")), b"one\ntwo") == b"a.b    | two\n"
    assert shown(style, b"one\n") == b""


def test_json_lines_have_name_stream_and_line() -> None:
    style = Style(prefix=False, json=True)
    assert shown(style, b'"x\xff"\n') == (
        '{"name": "a.b", "stream": "stdout", "time": "1970-01-01T00:00:00.000Z", '
        '"line": "\\"x�\\""}\n'.encode()
    )


def test_a_line_without_end_comes_in_marked_pieces() -> None:
    long = b"x" * LONGEST
    assert shown(Style(), long, b"y", b"\nz\n", flush=False) == (
        b"a.b    | " + long + b"\na.b    |+ y\na.b    | z\n"
    )
    found = shown(Style(prefix=False, json=True), long, b"y", b"\nz\n").splitlines()
    assert [json.loads(line).get("continued") for line in found] == [None, True, None]


def test_a_long_line_is_cut_between_characters() -> None:
    lines = shown(Style(), b"x" * (LONGEST - 1) + "€€".encode(), b"\n").splitlines()
    assert [line.decode()[-1] for line in lines] == ["x", "€"]


def test_times_stand_before_lines() -> None:
    out = io.BytesIO()
    writer = Writer("a.b", "stdout", out, Style(times=True))
    writer.write(b"one\ntwo", 3, 1.5)
    writer.write(b"\n", 3, 2.25)
    assert out.getvalue() == (
        b"a.b  | 1970-01-01T00:00:01.500Z one\na.b  | 1970-01-01T00:00:02.250Z two\n"
    )


def test_colours_go_around_the_prefix_only() -> None:
    line = shown(Style(coloured=True), b"one\n")
    assert line.endswith(b"\x1b[0m one\n")
    assert line.startswith(b"\x1b[")
