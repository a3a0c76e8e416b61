"""Rotation of a log that somebody goes on appending to."""

import os
from pathlib import Path

from orchestrator.daemon import rotation


def test_head_moves_into_a_segment_and_offsets_stay(tmp_path: Path) -> None:
    log = tmp_path / "web-web.out"
    writer = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    first = b"".join(b"line %07d\n" % n for n in range(20_000))
    os.write(writer, first + b"half a li")
    segment = rotation.rotate(log, keep=5)
    os.write(writer, b"ne\nafter\n")
    os.close(writer)
    assert segment.read_bytes() == first
    assert log.stat().st_size == len(first) + len(b"half a line\nafter\n")
    with log.open("rb") as file:
        file.seek(len(first))
        assert file.read() == b"half a line\nafter\n"
    assert log.stat().st_blocks * 512 < len(first) / 4


def test_segments_join_without_gap_or_overlap_and_only_the_newest_stay(tmp_path: Path) -> None:
    log = tmp_path / "web-web.out"
    whole = b""
    for round_ in range(4):
        part = b"".join(b"%d %06d\n" % (round_, n) for n in range(5000))
        with log.open("ab") as file:
            file.write(part)
        whole += part
        rotation.rotate(log, keep=2)
    kept = rotation.segments(log)
    assert len(kept) == 2
    assert b"".join(p.read_bytes() for p in kept) == whole[len(whole) // 2 :]
    assert rotation.first_byte(log) == len(whole)


def test_a_line_longer_than_the_search_is_cut_where_it_is(tmp_path: Path) -> None:
    log = tmp_path / "web-web.out"
    log.write_bytes(b"x" * (rotation.NEWLINE_WITHIN + 10))
    assert rotation.rotate(log, keep=1).stat().st_size == rotation.NEWLINE_WITHIN + 10
