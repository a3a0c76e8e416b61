"""The control protocol, line by line."""

from __future__ import annotations

import json

import pytest

from orchestrator.errors import ProtocolError
from orchestrator.wire import control


def test_requests_replies_refusals_and_events_have_their_shapes() -> None:
    assert json.loads(control.request(1, "ps", {"names": ["a"]})) == {
        "id": 1,
        "method": "ps",
        "params": {"names": ["a"]},
    }
    assert json.loads(control.result(1, {"instances": []})) == {
        "id": 1,
        "result": {"instances": []},
    }
    assert json.loads(control.error(1, "unknown-name", "unknown name 'x'", near=["y"])) == {
        "id": 1,
        "error": {"code": "unknown-name", "message": "unknown name 'x'", "near": ["y"]},
    }
    assert json.loads(control.event(1, {"seq": 7})) == {"id": 1, "event": {"seq": 7}}


@pytest.mark.parametrize("params", [{}, {"plan": True}])
def test_a_parameter_may_be_a_text_already(params: dict[str, object]) -> None:
    line = control.request(1, "apply", params, {"lock": b'{"a":[1]}', "other": b"2"})
    assert json.loads(line) == {
        "id": 1,
        "method": "apply",
        "params": {**params, "lock": {"a": [1]}, "other": 2},
    }
    assert line.index(b"\n") == len(line) - 1


def test_a_newline_in_a_text_does_not_end_the_line() -> None:
    (message,) = control.Decoder().feed(control.encode({"a": "x\ny\u2028z\r"}))
    assert message == {"a": "x\ny\u2028z\r"}


def test_empty_lines_are_nothing() -> None:
    assert control.Decoder().feed(b'\n \n{"id": 1}\r\n\n') == [{"id": 1}]


@pytest.mark.parametrize(
    "line",
    [
        b"[]",
        b"7",
        b"null",
        b'"text"',
        b"{",
        b"{}}",
        b"\xff\xfe",
        b'{"a": \x00}',
        b"GET / HTTP/1.1",
        b"[" * 200_000,
        b'{"a": ' + b"9" * 5000 + b"}",
    ],
    ids=lambda line: repr(line[:12]),
)
def test_what_is_no_object_is_a_protocol_error(line: bytes) -> None:
    with pytest.raises(ProtocolError, match="cannot read a message"):
        control.Decoder().feed(line + b"\n")


def test_a_line_without_end_is_given_up() -> None:
    decoder = control.Decoder(longest=1000)
    decoder.feed(b"x" * 900)
    with pytest.raises(ProtocolError, match="more than 1000 bytes"):
        decoder.feed(b"x" * 200)


def test_any_text_that_a_process_may_be_given_can_be_sent() -> None:
    """Environment variables that are no UTF-8 come to Python as lone surrogates."""
    text = b"na\xefve".decode(errors="surrogateescape")
    (message,) = control.Decoder().feed(control.encode({"environment": {"NAME": text}}))
    assert message == {"environment": {"NAME": text}}
