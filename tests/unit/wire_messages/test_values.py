"""Values survive the wire, and no bytes can do worse than MalformedMessage."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import ProtocolError
from orchestrator.wire import values
from orchestrator.wire.values import CannotEncode, MalformedMessage

ZONES = st.timezones() | st.builds(
    timezone,
    # The library reads an offset of less than a second as none: python/cpython, fromisoformat.
    st.timedeltas(timedelta(hours=-23), timedelta(hours=23)).filter(
        lambda offset: not offset or abs(offset) >= timedelta(seconds=1)
    ),
)
MARKER = st.sampled_from(sorted(values.MARKERS))
SCALARS: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | MARKER
    | st.binary()
    | st.decimals(allow_nan=False)
    | st.uuids()
    | st.datetimes()
)
KEYS = SCALARS | st.tuples(st.text(), st.integers(-5, 5))
VALUES = st.recursive(
    SCALARS | st.sets(KEYS, max_size=4),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=3) | MARKER, inner, max_size=4)
        | st.dictionaries(KEYS, inner, max_size=4)
    ),
    max_leaves=12,
)


@given(VALUES)
def test_what_is_sent_is_received(value: Any) -> None:
    received = values.decode(values.encode(values.plain(value)))
    assert received == value
    assert type(received) is type(value)


@given(st.datetimes(timezones=ZONES))
def test_a_time_keeps_its_instant_and_offset(moment: datetime) -> None:
    received = values.decode(values.encode(moment))
    assert received.replace(tzinfo=None) == moment.replace(tzinfo=None)
    assert received.utcoffset() == moment.utcoffset()


@given(st.binary(max_size=300))
def test_any_bytes_are_a_value_or_malformed(data: bytes) -> None:
    try:
        values.decode(data)
    except MalformedMessage as error:
        assert str(error).startswith("cannot ")  # noqa: PT017 - both outcomes are allowed


@given(VALUES, st.data())
def test_a_damaged_message_is_a_value_or_malformed(value: Any, data: st.DataObject) -> None:
    sent = bytearray(values.encode(values.plain({"args": value})))
    place = data.draw(st.integers(0, len(sent) - 1))
    sent[place] = data.draw(st.integers(0, 255))
    for damaged in (bytes(sent), bytes(sent[:place]), bytes(sent) + b"\xc0"):
        try:
            values.decode(damaged)
        except MalformedMessage:
            continue


@pytest.mark.parametrize(
    "broken",
    [
        {"__decimal__": True},
        {"__decimal__": True, "as_str": "1.1.1"},
        {"__decimal__": True, "as_str": 5},
        {"__uuid__": True, "as_str": "x"},
        {"__datetime__": True, "as_str": "yesterday"},
        {"__set__": True, "value": 5},
        {"__set__": True, "value": [{"a": 1}]},
        {"__set__": True, "value": [{"__decimal__": True, "as_str": "sNaN"}]},
        {"__map__": 5},
        {"__map__": [[1]]},
        {"__map__": [[{"a": 1}, 2]]},
    ],
)
def test_a_broken_marker_is_malformed(broken: object) -> None:
    with pytest.raises(MalformedMessage):
        values.decode(msgpack.packb({"args": broken}))


def test_malformed_is_a_protocol_error() -> None:
    assert issubclass(MalformedMessage, ProtocolError)


@pytest.mark.parametrize("depth", [values.MAX_DEPTH + 1, 900, 5000])
def test_a_deeper_message_is_malformed(depth: int) -> None:
    with pytest.raises(MalformedMessage):
        values.decode(b"\x91" * depth + b"\xc0")
    with pytest.raises(MalformedMessage):
        values.decode(b"\x81\xa1a" * depth + b"\xc0")


def test_the_deepest_allowed_message_is_accepted() -> None:
    assert values.decode(b"\x91" * values.MAX_DEPTH + b"\xc0")


def test_a_long_message_that_is_flat_is_accepted() -> None:
    pairs = [[Decimal(n), {"n": n}] for n in range(500)]
    assert values.decode(values.encode(pairs)) == pairs


def test_what_is_nested_too_deep_is_not_sent() -> None:
    value: Any = None
    for _ in range(values.MAX_DEPTH):
        value = [value]
    with pytest.raises(CannotEncode, match="deeper"):
        values.plain(value)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (object(), "type object"),
        (2**70, "more than 64 bits"),
        ("\ud800", "cannot send the value"),
        ({"a": 1j}, "type complex"),
    ],
)
def test_what_has_no_form_is_named(value: object, said: str) -> None:
    with pytest.raises(CannotEncode, match=said):
        values.encode(value)


def test_a_failed_encoding_leaves_nothing_behind() -> None:
    with pytest.raises(CannotEncode):
        values.encode(["begun", object()])
    assert values.decode(values.encode("next")) == "next"


def test_a_dict_that_reads_like_a_marker_stays_a_dict() -> None:
    value = {"__decimal__": True, "as_str": "1"}
    assert values.decode(values.encode(values.plain(value))) == value


def test_keys_that_service_framework_packs_as_maps_are_read() -> None:
    # It sends them so, though its own receiver then dies.
    sent = msgpack.packb({Decimal("1.5"): 2, UUID(int=1): 3}, default=values._mark)
    assert values.decode(sent) == {Decimal("1.5"): 2, UUID(int=1): 3}


def test_frozensets_and_tuples_arrive_as_sets_and_lists() -> None:
    received = values.decode(values.encode({"f": frozenset("a"), "t": (1, 2)}))
    assert received == {"f": {"a"}, "t": [1, 2]}


def test_utc_is_written_with_its_offset() -> None:
    assert b"2026-01-02T03:04:05+00:00" in values.encode(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
