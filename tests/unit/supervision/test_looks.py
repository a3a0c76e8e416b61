"""What a row of looks means, and how a pattern is found in output that comes in pieces."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.model.topology import Probe
from orchestrator.supervision import looks
from orchestrator.supervision.looks import Output, Tally

PROBE = Probe(tcp="h:1", failures=3, successes=2)


def believed(probe: Probe, answers: str, tally: Tally | None = None) -> list[bool | None]:
    """Return what is believed after each answer: `+` good, `-` bad, `~` bad but excused."""
    found = []
    tally = tally or Tally()
    for answer in answers:
        tally = looks.count(tally, probe, good=answer == "+", excused=answer == "~")
        found.append(tally.good)
    return found


def test_an_opinion_needs_as_many_answers_in_a_row_as_declared() -> None:
    assert believed(PROBE, "++---++") == [None, True, True, True, False, False, True]


def test_one_good_answer_forgives_the_failures_before_it() -> None:
    assert believed(PROBE, "++--+--+--") == [None, *[True] * 9]


def test_one_bad_answer_begins_the_successes_anew() -> None:
    assert believed(PROBE, "+-+-+-++")[-2:] == [None, True]


def test_excused_failures_do_not_count() -> None:
    assert believed(PROBE, "++~~~~~~--")[-1] is True
    assert believed(PROBE, "~~~~---") == [*[None] * 6, False]


def test_the_first_look_decides_about_an_adopted_process() -> None:
    assert believed(PROBE, "-", looks.adopted(PROBE)) == [False]
    assert believed(PROBE, "+--", looks.adopted(PROBE)) == [True, True, True]


@given(st.text("+-~", max_size=60), st.integers(1, 4), st.integers(1, 4))
def test_an_opinion_changes_only_after_enough_equal_answers(
    answers: str, failures: int, successes: int
) -> None:
    probe = Probe(tcp="h:1", failures=failures, successes=successes)
    opinions = [None, *believed(probe, answers)]
    for place, (before, after) in enumerate(itertools.pairwise(opinions), 1):
        counted = answers[:place].replace("~", "")
        if after is True and not before:
            assert answers[:place].endswith("+" * successes)
        if after is False and before is not False:
            assert counted.endswith("-" * failures)


def test_the_first_looks_are_quick_then_one_a_second_and_never_slower_than_declared() -> None:
    pauses = [looks.eager_pause(PROBE, seen) for seen in range(1, 8)]
    assert pauses == [*looks.FIRST_PAUSES, 1.0, 1.0]
    assert looks.eager_pause(Probe(tcp="h:1", every=0.3), 50) == 0.3


@pytest.mark.parametrize(
    ("pattern", "pieces"),
    [
        ("listening", [b"liste", b"ning"]),
        ("listening on", [b"\x1b[1;32mlisten", b"ing\x1b[0m", b" \x1b[1m", b"on"]),
        ("listening", [b"\x1b[3", b"2mlisten\x1b[0", b"ming"]),
        ("^ready$", [b"starting\nnot ready\n", b"ready\n"]),
        ("^ready$", [b"starting\r\nready\r\n"]),
        ("^ready$", [b"starting\nready"]),
        ("größe", ["grö".encode()[:3], "grö".encode()[3:] + "ße".encode()]),
        ("after", [b"\xff\xfe\x00 after"]),
        ("listening", [b"\x1b]0;a title\x07listening"]),
        ("100%", [b"10%\r50%\r", b"100%\r"]),
    ],
    ids=str,
)
def test_a_match_may_come_in_pieces_and_colours(pattern: str, pieces: list[bytes]) -> None:
    output = Output(pattern)
    *before, last = pieces
    assert not any(output.feed(piece) for piece in before)
    assert output.feed(last)


def test_a_match_at_the_beginning_of_a_large_piece_is_found() -> None:
    assert Output("listening").feed(b"listening\n" + b"x" * 1_000_000)
    assert Output("listening").feed(b"listening" + b"x" * 1_000_000)


def test_what_is_on_two_lines_is_no_match() -> None:
    output = Output("listening")
    assert not output.feed(b"listen\n")
    assert not output.feed(b"ing\n")


def test_an_endless_line_is_not_kept_whole() -> None:
    output = Output("listening")
    for _ in range(20):
        assert not output.feed(b"x" * looks.KEPT)
    assert len(output._line) == looks.KEPT
    assert not output.feed(b"listen")
    assert output.feed(b"ing")


@given(st.lists(st.sampled_from([b"a", b"\n", b"\x1b[1m", b"b", "é".encode()]), max_size=30))
def test_it_does_not_matter_where_output_is_cut(parts: list[bytes]) -> None:
    whole = b"".join(parts)
    at_once = Output("aé?b").feed(whole)
    bytewise = Output("aé?b")
    pieces = (whole[place : place + 1] for place in range(len(whole)))
    assert any(map(bytewise.feed, pieces)) == at_once
