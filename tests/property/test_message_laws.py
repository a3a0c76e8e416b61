"""Received bytes are not trusted: whatever they are, there is a value or one known error."""

from __future__ import annotations

import contextlib
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.component import models
from orchestrator.component.errors import ModelMismatch
from orchestrator.wire import messages, values
from tests.property.test_shape_laws import TYPES

KEYS = st.text(max_size=3) | st.sampled_from(
    sorted(values.MARKERS | {"as_str", "value", "args", "return_args", "workflow_id", "error"})
)
PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=4)
    | st.binary(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(KEYS, inner, max_size=3)
        | st.dictionaries(st.integers(0, 9) | st.binary(max_size=2), inner, max_size=2)
    ),
    max_leaves=12,
)


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    """Random bytes, and frames that were right before something happened to them."""
    if draw(st.booleans()):
        return draw(st.binary(max_size=64))
    frame = bytearray(msgpack.packb(draw(PLAIN)))
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, max(0, len(frame) - 1)))
        match draw(st.sampled_from(["cut", "change", "insert", "repeat"])):
            case "cut":
                del frame[place:]
            case "change" if frame:
                frame[place] = draw(st.integers(0, 255))
            case "repeat":
                frame *= 2
            case _:
                frame[place:place] = draw(st.binary(max_size=4))
    return bytes(frame)


READERS: list[Any] = [
    values.decode,
    messages.decode_request,
    messages.decode_reply,
    lambda frame: messages.decode_publication(frame, b""),
    lambda frame: messages.decode_publication(frame, messages.prefix("topic")),
]


@given(frames(), st.sampled_from(READERS))
def test_any_bytes_are_read_or_refused(frame: bytes, read: Any) -> None:
    with contextlib.suppress(values.MalformedMessage):
        read(frame)


@given(PLAIN, st.dictionaries(st.sampled_from(["a", "args"]), TYPES, max_size=2), st.booleans())
def test_any_value_is_accepted_or_explained(value: Any, model: Any, optional: bool) -> None:
    compiled = models.arguments(*((None, model) if optional else (model, None)))
    try:
        found = values.decode(msgpack.packb({"a": value, "args": value}))
    except values.MalformedMessage:
        return
    for received in (found, found["a"]):
        loaded = compiled.load(received) if compiled.load else received
        if not compiled.accepts(loaded):
            with pytest.raises(ModelMismatch) as caught:
                compiled.check(loaded, "x")
            assert caught.value.mistakes


@pytest.mark.parametrize("opening", [b"\x80", b"\x90"])
def test_too_many_containers_are_refused_before_they_are_made(opening: bytes) -> None:
    count = values.MAX_CONTAINERS + 2
    with pytest.raises(values.MalformedMessage, match="1000000 lists and maps"):
        values.decode(b"\xdd" + count.to_bytes(4) + opening * count)
    # Bytes that only look like containers are no containers.
    assert len(values.decode(b"\xc6" + count.to_bytes(4) + opening * count)) == count


@pytest.mark.parametrize("depth", [values.MAX_DEPTH + 1, 100_000])
def test_too_deep_a_message_is_refused(depth: int) -> None:
    with pytest.raises(values.MalformedMessage):
        values.decode(b"\x91" * depth + b"\x00")
