"""The control link: private, patient with nobody, and never in the way of the component."""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from orchestrator.component import control
from orchestrator.component.control import Call, Link
from orchestrator.errors import RequestFailed
from orchestrator.model import names


@pytest.fixture
def link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Link]:
    monkeypatch.chdir(tmp_path)  # Unix sockets have short names.
    made = Link("link/web")
    yield made
    made.close()


class Peer:
    """A client whose every step is one turn of the link."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.stream.connect(link.path)
        self.stream.settimeout(5)
        link.turn()

    def send(self, data: bytes) -> None:
        self.stream.sendall(data)
        self.link.turn()

    def ask(self, method: str, **params: object) -> dict[str, Any]:
        self.send(json.dumps({"id": 1, "method": method, "params": params}).encode() + b"\n")
        return self.read()

    def read(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.stream.recv(1 << 16))
        return found


@pytest.fixture
def peer(link: Link) -> Iterator[Peer]:
    made = Peer(link)
    with made.stream:
        yield made


def test_the_socket_is_its_owners_alone(link: Link) -> None:
    path = Path(link.path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_predecessors_socket_is_replaced(link: Link) -> None:
    second = Link(link.path)
    Peer(second).stream.close()
    second.close()


def test_a_method_answers_with_what_it_returns(link: Link, peer: Peer) -> None:
    link.methods["double"] = lambda call: {"is": call.params["n"] * 2}
    assert peer.ask("double", n=21) == {"id": 1, "result": {"is": 42}}


def test_a_method_may_answer_later(link: Link, peer: Peer) -> None:
    kept: list[Call] = []
    link.methods["later"] = kept.append
    peer.send(b'{"id": 7, "method": "later"}\n')
    kept[0].answer({"done": True})
    assert peer.read() == {"id": 7, "result": {"done": True}}


def test_a_stream_ends_with_its_reader(link: Link, peer: Peer) -> None:
    kept: list[Call] = []
    gone: list[bool] = []

    def stream(call: Call) -> None:
        call.closed = lambda: gone.append(True)
        kept.append(call)

    link.methods["stream"] = stream
    peer.send(b'{"id": 1, "method": "stream"}\n')
    assert kept[0].emit({"n": 1})
    assert peer.read() == {"id": 1, "event": {"n": 1}}
    peer.stream.close()
    link.turn()
    assert gone == [True]
    assert not kept[0].emit({"n": 2})


def test_an_unknown_method_is_refused_with_those_there_are(link: Link, peer: Peer) -> None:
    link.methods["reload"] = lambda _: {}
    error = peer.ask("relod")["error"]
    assert error["code"] == "unknown-method"
    assert "there are reload" in error["message"]


def test_a_methods_own_refusal_and_our_defects_are_told_apart(link: Link, peer: Peer) -> None:
    def refuse(_: Call) -> Mapping[str, Any]:
        raise RequestFailed("busy", "cannot do it now")

    def break_down(_: Call) -> Mapping[str, Any]:
        raise KeyError("x")

    link.methods.update(refuse=refuse, break_down=break_down)
    assert peer.ask("refuse")["error"] == {"code": "busy", "message": "cannot do it now"}
    assert peer.ask("break_down")["error"]["code"] == "internal"


@pytest.mark.parametrize("line", [b"nonsense\n", b"[1]\n", b'{"id": "x", "method": "y"}\n'])
def test_what_is_no_request_ends_the_connection_and_no_other(
    link: Link, peer: Peer, line: bytes
) -> None:
    peer.send(line)
    assert peer.read()["error"]["code"] == "protocol"
    assert peer.stream.recv(1) == b""
    Peer(link).stream.close()


def test_a_client_that_does_not_read_is_cut_off(
    link: Link, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "UNREAD", 1 << 20)
    kept: list[Call] = []
    link.methods["stream"] = kept.append
    peer.send(b'{"id": 1, "method": "stream"}\n')
    for _ in range(100):
        if not kept[0].emit({"text": "x" * 100_000}):
            break
    assert not kept[0].is_alive


def test_more_clients_than_allowed_wait_for_one_to_go(
    link: Link, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "CLIENTS", 1)
    link.methods["ping"] = lambda _: {}
    second = Peer(link)
    second.stream.sendall(b'{"id": 2, "method": "ping"}\n')
    link.turn()
    peer.stream.close()
    for _ in range(3):
        link.turn()
    assert second.read() == {"id": 2, "result": {}}
    second.stream.close()


def test_the_variable_is_taken_so_that_no_child_listens_in_our_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(control.VARIABLE, "link/x")
    made = control.open_link()
    assert made is not None
    made.close()
    assert control.VARIABLE not in os.environ
    assert control.open_link() is None


def test_without_a_place_for_it_the_component_goes_on_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(control.VARIABLE, f"{tmp_path}/{'x' * 120}")
    assert control.open_link() is None


def test_a_long_stem_becomes_its_digest() -> None:
    assert names.link_path("/run/k", "shop-web@2") == "/run/k/link/shop-web@2"
    path = names.link_path("/run/k", "s" * 48 + "-" + "c" * 48 + "@10")
    assert len(path) == len("/run/k/link/") + 16
    assert path != names.link_path("/run/k", "s" * 48 + "-" + "c" * 48 + "@11")
