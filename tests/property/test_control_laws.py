"""The control protocol reads the same messages however the bytes are cut."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import ProtocolError
from orchestrator.wire import control

json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=8)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
messages = st.dictionaries(st.text(max_size=6), json_values, max_size=4)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(data) + 1) for place in places} | {len(data)})
    return [data[a:b] for a, b in zip([0, *ends], ends, strict=False)]


@given(st.lists(messages, max_size=5), st.lists(st.integers(0, 10_000), max_size=20))
def test_any_cutting_gives_the_same_messages(
    told: list[dict[str, Any]], places: list[int]
) -> None:
    data = b"".join(map(control.encode, told))
    decoder = control.Decoder()
    found = [message for chunk in cut(data, places) for message in decoder.feed(chunk)]
    decoder.finish()
    assert found == told


@given(messages)
def test_byte_by_byte(message: dict[str, Any]) -> None:
    decoder = control.Decoder()
    data = control.encode(message)
    found = [m for number in range(len(data)) for m in decoder.feed(data[number : number + 1])]
    assert found == [message]


@given(messages)
def test_a_message_is_one_line(message: dict[str, Any]) -> None:
    assert control.encode(message).count(b"\n") == 1


@given(messages, st.integers(1, 10_000))
def test_a_stream_that_ends_within_a_message_is_told(message: dict[str, Any], place: int) -> None:
    data = control.encode(message)
    head = data[: 1 + place % (len(data) - 1)] if len(data) > 2 else data[:1]
    decoder = control.Decoder()
    assert decoder.feed(head) == []
    with pytest.raises(ProtocolError):
        decoder.finish()


@given(st.binary(max_size=60))
def test_garbage_is_a_protocol_error_or_messages(data: bytes) -> None:
    try:
        found = control.Decoder().feed(data + b"\n")
    except ProtocolError:
        return
    assert all(isinstance(message, dict) for message in found)


@given(st.integers(1, 60), st.lists(st.integers(0, 10_000), max_size=5))
def test_a_line_is_too_long_however_it_is_cut(length: int, places: list[int]) -> None:
    line = b'{"a":"' + b"x" * length + b'"}'
    decoder = control.Decoder(longest=40)

    def feed() -> int:
        return sum(len(decoder.feed(chunk)) for chunk in cut(line + b"\n", places))

    if len(line) > 40:
        with pytest.raises(ProtocolError, match="more than 40 bytes"):
            feed()
    else:
        assert feed() == 1
