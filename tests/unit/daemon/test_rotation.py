"""Rotation of a log that somebody goes on appending to."""

import gzip
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
    assert segment is not None
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
    rotation.rotate(log, keep=1)
    assert rotation.first_byte(log) == rotation.NEWLINE_WITHIN + 10


def append(log: Path, data: bytes) -> None:
    with log.open("ab") as file:
        file.write(data)


def test_when_none_is_kept_an_empty_segment_marks_the_boundary(tmp_path: Path) -> None:
    log = tmp_path / "web-web.out"
    for _ in range(2):
        append(log, b"line\n" * 2000)
        rotation.rotate(log, keep=0)
    assert [p.name for p in rotation.segments(log)] == ["web-web.out.20000"]
    assert rotation.segments(log)[0].stat().st_size == 0
    assert rotation.first_byte(log) == 20_000


def test_nothing_new_makes_no_segment(tmp_path: Path) -> None:
    log = tmp_path / "web-web.out"
    append(log, b"line\n" * 2000)
    assert rotation.rotate(log, keep=2) is not None
    assert rotation.rotate(log, keep=2) is None
    append(log, b"half")
    assert rotation.rotate(log, keep=2) is not None
    assert len(rotation.segments(log)) == 2


def test_a_hole_that_a_dead_daemon_did_not_make_is_made_by_the_next(tmp_path: Path) -> None:
    log = tmp_path / "web-web.out"
    append(log, b"line\n" * 20_000)
    (tmp_path / "web-web.out.0").write_bytes(log.read_bytes())
    append(log, b"more\n" * 2_000)
    assert rotation.rotate(log, keep=5) == tmp_path / "web-web.out.100000"
    assert log.stat().st_blocks * 512 < 20_000
    assert b"".join(p.read_bytes() for p in rotation.segments(log)) == (
        b"line\n" * 20_000 + b"more\n" * 2_000
    )


def test_segments_of_one_log_are_not_those_of_another(tmp_path: Path) -> None:
    log = tmp_path / "web.out"
    for name in ("web.out.5", "web.out.10", "web.out.10.old", "web.out.10.20", "web.out.x"):
        (tmp_path / name).touch()
    assert [p.name for p in rotation.segments(log)] == ["web.out.5", "web.out.10"]


def test_segments_set_aside_are_those_of_the_last_time_only(tmp_path: Path) -> None:
    log = tmp_path / "web.out"
    (tmp_path / "web.out.5").touch()
    assert rotation.set_aside(log) == (tmp_path / "web.out.5.old",)
    assert rotation.set_aside(log) == ()
    (tmp_path / "web.out.9").touch()
    rotation.set_aside(log)
    assert [p.name for p in tmp_path.iterdir()] == ["web.out.9.old"]


def test_a_flood_keeps_no_more_than_its_segments_may_hold(tmp_path: Path) -> None:
    log = tmp_path / "web-web.out"
    log.write_bytes(b"".join(b"old %06d\n" % n for n in range(1000)))
    rotation.rotate(log, keep=2, size=50_000)
    with log.open("ab") as file:
        file.writelines(b"new %06d\n" % n for n in range(100_000))
    segment = rotation.rotate(log, keep=2, size=50_000)
    assert segment is not None
    assert rotation.segments(log) == (segment,)
    kept = segment.read_bytes()
    assert 100_000 <= len(kept) <= 100_000 + len(b"new 000000\n")
    assert kept.startswith(b"new ")
    assert kept.endswith(b"new 099999\n")
    assert rotation.first_byte(log) == log.stat().st_size


def segmented(log: Path, rounds: int = 3, keep: int = 5) -> bytes:
    """Make a log of compressed segments; return all of it."""
    whole = b""
    for number in range(rounds):
        part = b"".join(b"%d %06d\n" % (number, n) for n in range(5000))
        with log.open("ab") as file:
            file.write(part)
        whole += part
        segment = rotation.rotate(log, keep)
        assert segment is not None
        assert rotation.compress(segment) is not None
    return whole


def test_a_compressed_segment_takes_the_place_of_the_plain_one(tmp_path: Path) -> None:
    log = tmp_path / "web-web.out"
    whole = segmented(log)
    there = rotation.segments(log)
    third = len(whole) // 3
    assert [one.name for one in there] == [
        f"web-web.out.{begin}-{begin + third}.gz" for begin in (0, third, 2 * third)
    ]
    assert b"".join(gzip.decompress(one.read_bytes()) for one in there) == whole
    assert rotation.first_byte(log) == len(whole)
    assert sum(one.stat().st_size for one in there) < len(whole) / 3
    assert {one.stat().st_mode & 0o777 for one in there} == {0o640}


def test_compressed_segments_are_counted_and_removed_like_others(tmp_path: Path) -> None:
    log = tmp_path / "web-web.out"
    segmented(log, rounds=4, keep=2)
    assert len(rotation.segments(log)) == 2
    assert len(list(tmp_path.iterdir())) == 3


def test_a_segment_in_both_forms_counts_once(tmp_path: Path) -> None:
    """As a daemon leaves it that is killed between the rename and the removal."""
    log = tmp_path / "web-web.out"
    segmented(log, rounds=1)
    (packed,) = rotation.segments(log)
    plain = tmp_path / "web-web.out.0"
    plain.write_bytes(gzip.decompress(packed.read_bytes()))
    assert rotation.segments(log) == (plain,)
    assert rotation.compress(plain) == packed
    assert rotation.segments(log) == (packed,)


def test_what_a_killed_compression_left_is_removed_by_the_next(tmp_path: Path) -> None:
    log = tmp_path / "web-web.out"
    left = tmp_path / "web-web.out.0-7.gz.part"
    left.write_bytes(b"half")
    segmented(log, rounds=1)
    assert not left.exists()
    assert len(rotation.segments(log)) == 1


def test_a_segment_that_was_removed_meanwhile_is_not_compressed(tmp_path: Path) -> None:
    assert rotation.compress(tmp_path / "web-web.out.0") is None
    assert list(tmp_path.iterdir()) == []
