"""Frames between components, and that they are service_framework's, byte by byte."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from uuid import UUID

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.wire import messages, values
from orchestrator.wire.messages import Error, Failure
from orchestrator.wire.values import MalformedMessage

ID = "6f1c2a34-5b6d-4e7f-8a9b-0c1d2e3f4a5b"
ID_BYTES = "ab776f726b666c6f775f6964d924" + ID.encode().hex()

# Written by msg_pack of service_framework 0.0.3.
GOLDEN_ARGUMENTS: dict[str, Any] = {
    "order_id": "ORD-1",
    "price": Decimal("1.10"),
    "tags": {"a"},
    "pair": ("x", 1),
    "id": UUID(ID),
    "raw": b"\0",
    "n": None,
    "yes": True,
}
GOLDEN_REQUEST = bytes.fromhex(
    "82a46172677388a86f726465725f6964a54f52442d31a5707269636582ab5f5f646563696d616c5f5fc3a661735f73"
    "7472a4312e3130a47461677382a75f5f7365745f5fc3a576616c756591a161a47061697292a17801a2696482a85f5f"
    "757569645f5fc3a661735f737472d92436663163326133342d356236642d346537662d386139622d30633164326533"
    "6634613562a3726177c40100a16ec0a3796573c3" + ID_BYTES
)
GOLDEN_FIRST_HOP = bytes.fromhex(
    "82a46172677380ab776f726b666c6f775f696482a85f5f757569645f5fc3a661735f737472d924"
    + ID.encode().hex()
)
GOLDEN_REPLY = bytes.fromhex("82ab72657475726e5f6172677381a26f6bc3" + ID_BYTES)
GOLDEN_PUBLICATION = bytes.fromhex("a47469636b82a46172677381a16e01" + ID_BYTES)


def test_requests_are_service_frameworks_bytes() -> None:
    assert messages.encode_request(GOLDEN_ARGUMENTS, ID) == GOLDEN_REQUEST
    assert messages.decode_request(GOLDEN_REQUEST) == ({**GOLDEN_ARGUMENTS, "pair": ["x", 1]}, ID)


def test_the_uuid_of_a_first_hop_becomes_text() -> None:
    assert messages.decode_request(GOLDEN_FIRST_HOP) == ({}, ID)


def test_replies_are_service_frameworks_bytes() -> None:
    assert messages.encode_reply({"ok": True}, ID) == GOLDEN_REPLY
    assert messages.decode_reply(GOLDEN_REPLY) == ({"ok": True}, ID, None)


def test_publications_are_service_frameworks_bytes() -> None:
    topic = messages.prefix("tick")
    assert topic + messages.encode_request({"n": 1}, ID) == GOLDEN_PUBLICATION
    assert messages.decode_publication(GOLDEN_PUBLICATION, topic) == ({"n": 1}, ID)


@given(st.text(max_size=40), st.text(max_size=40))
def test_no_topic_is_the_beginning_of_another(one: str, other: str) -> None:
    if one and one != other:
        assert not messages.prefix(other).startswith(messages.prefix(one))


def test_without_a_topic_everything_is_received() -> None:
    assert messages.prefix("") == b""
    assert messages.decode_publication(messages.encode_request({"n": 1}, None), b"") == (
        {"n": 1},
        None,
    )


def test_a_publication_of_another_topic_is_malformed() -> None:
    with pytest.raises(MalformedMessage, match="topic"):
        messages.decode_publication(GOLDEN_PUBLICATION, messages.prefix("tock"))


def test_an_error_reply_carries_kind_type_and_message() -> None:
    error = Error(Failure.HANDLER, "ValueError", "too late")
    frame = messages.encode_error(error, ID)
    assert messages.decode_reply(frame) == ({}, ID, error)
    # A peer that does not know errors finds a reply without arguments.
    assert msgpack.unpackb(frame)["return_args"] == {}


def test_an_error_message_that_is_no_utf_8_is_sent_nevertheless() -> None:
    frame = messages.encode_error(Error("handler", "E", "bad \ud800"), None)
    error = messages.decode_reply(frame)[2]
    assert error is not None
    assert error.message == "bad \\ud800"


@pytest.mark.parametrize(
    "frame", [b"", b"\xc1", msgpack.packb([1]), msgpack.packb({}), msgpack.packb(5)]
)
def test_what_is_no_message_is_malformed(frame: bytes) -> None:
    with pytest.raises(MalformedMessage):
        messages.decode_request(frame)
    with pytest.raises(MalformedMessage):
        messages.decode_reply(frame)


@given(
    st.dictionaries(
        st.sampled_from(["args", "return_args", "workflow_id", "error", "x"]),
        st.recursive(
            st.none() | st.text() | st.integers(-9, 9),
            lambda s: st.lists(s) | st.dictionaries(st.text(), s),
        ),
    )
)
def test_maps_of_any_shape_are_messages_or_malformed(found: dict[str, Any]) -> None:
    frame = values.encode(found)
    for decode in (messages.decode_request, messages.decode_reply):
        try:
            workflow_id = decode(frame)[1]
        except MalformedMessage:
            continue
        assert workflow_id is None or isinstance(workflow_id, str)


def test_small_publications_are_told_from_all_others() -> None:
    def accepts(arguments: object) -> bool:
        return isinstance(arguments, dict) and isinstance(arguments.get("n"), int)

    topic = messages.prefix("ticks")
    small = messages.small_publications(topic, 100, accepts)
    frame = topic + messages.encode_request({"n": 1}, "w")
    assert small(frame) == ({"n": 1}, "w")
    for other in (
        messages.prefix("tick") + messages.encode_request({"n": 1}, "w"),
        topic + messages.encode_request({"n": "1"}, "w"),
        topic + messages.encode_request({"n": 1}, None),
        topic + messages.encode_request({"n": 1}, "w" * 100),
        topic + values.encode({"args": {"n": 1}}),
        topic + values.encode({"args": {"n": 1}, "workflow_id": UUID(int=1)}),
        topic + values.encode([1]),
        frame[:-1],
        frame + b"\0",
        topic,
    ):
        assert small(other) is None
