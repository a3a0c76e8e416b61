"""Names of segments, and the index that dates bytes."""

from __future__ import annotations

import pytest

from orchestrator.wire import loglayout
from orchestrator.wire.loglayout import EXACT, MAGIC, Sample, Segment, Span, Times, pack

THREE = (Sample(10, 100.0), Sample(30, 101.5), Sample(70, 4000.25))


def times(*samples: Sample) -> Times:
    return Times(MAGIC + pack(samples))


def unpack(packed: bytes) -> list[Sample]:
    return list(Times(MAGIC + packed))


def test_a_segment_is_called_after_its_log_and_its_first_offset() -> None:
    assert loglayout.segment_name("web-web@2.out", 512) == "web-web@2.out.512"
    assert loglayout.split_segment("web-web@2.out.512") == Segment("web-web@2.out", 512, None)


def test_a_compressed_one_tells_its_end_too() -> None:
    assert loglayout.compressed_name("web.out", 512, 600) == "web.out.512-600.gz"
    assert loglayout.split_segment("web.out.512-600.gz") == Segment("web.out", 512, 600)


@pytest.mark.parametrize(
    "name",
    [
        *("web.out", "web.out.512.old", "512", ".512", "web.out.5x", "a.²"),
        *("a.1-2", "a.1.gz", "a.1-.gz", "a.-2.gz", "a.1-2.gz.part", "a.1-2.gz.old", ".1-2.gz"),
    ],
)
def test_other_files_are_no_segments(name: str) -> None:
    assert loglayout.split_segment(name) is None


def test_a_byte_lies_between_two_samples() -> None:
    index = times(*THREE)
    assert index.span(0) == Span(10, None, 100.0)
    assert index.span(9) == Span(10, None, 100.0)
    assert index.span(10) == Span(30, 100.0, 101.5)
    assert index.span(69) == Span(70, 101.5, 4000.25)
    assert index.span(70) == Span(None, 4000.25, None)


def test_what_was_surely_written_before_a_time_can_be_skipped() -> None:
    index = times(*THREE)
    assert [index.surely_before(when) for when in (99, 100, 100.1, 101.5, 102, 9e9)] == [
        0, 0, 10, 10, 30, 70,
    ]  # fmt: skip


@pytest.mark.parametrize("order", [range(0, 80, 3), range(79, -1, -7)], ids=["on", "back"])
def test_spans_are_the_same_in_whatever_order_they_are_asked_for(order: range) -> None:
    index = times(*THREE)
    assert [index.span(at) for at in order] == [times(*THREE).span(at) for at in order]


def test_an_index_says_whether_its_times_are_exact() -> None:
    assert Times(EXACT + pack(THREE)).exact
    assert not times(*THREE).exact


def test_a_log_that_is_shorter_than_was_said_has_no_later_samples() -> None:
    index = times(*THREE)
    assert unpack(loglayout.up_to(index, 30)) == list(THREE[:2])
    assert unpack(loglayout.up_to(index, 31)) == [*THREE[:2], Sample(31, 4000.25)]
    assert unpack(loglayout.up_to(index, 90)) == list(THREE)
    assert loglayout.up_to(index, 0) == b""


@pytest.mark.parametrize("data", [b"", MAGIC, MAGIC[:5], b"something else that is long"])
def test_what_is_no_index_dates_nothing(data: bytes) -> None:
    assert len(Times(data)) == 0
    assert Times(data).span(5) == Span(None, None, None)
    assert Times(data).surely_before(5) == 0


def test_half_a_sample_at_the_end_is_ignored() -> None:
    data = MAGIC + loglayout.pack(THREE)
    assert list(Times(data[:-3])) == list(THREE[:2])


def test_thinning_keeps_the_newer_half_and_the_order() -> None:
    many = [Sample(n, float(n)) for n in range(8)]
    assert [one.offset for one in unpack(loglayout.thinned(times(*many)))] == [1, 3, 4, 5, 6, 7]


def test_pruning_keeps_what_dates_the_bytes_that_are_left() -> None:
    index = times(*THREE)
    assert loglayout.since(index, 5) == pack(THREE)
    assert loglayout.since(index, 30) == pack(THREE[1:])
    assert loglayout.since(index, 1000) == pack(THREE[2:])


def test_after_the_clock_was_set_back_no_sample_is_later() -> None:
    found = unpack(loglayout.clamped(times(*THREE), 101.0))
    assert [one.time for one in found] == [100.0, 101.0, 101.0]
