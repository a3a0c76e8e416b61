"""Encrypted connections between real components and foreign peers, and who may connect."""

from __future__ import annotations

import socket as posix
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zmq

from orchestrator.wire import keys
from orchestrator.wire.keys import Keys
from tests.integration.component.conftest import Bench

ENGINE = """
    def on_place(args):
        return {"n": args["n"] + 1}

    connection_models = {"in": {"place": {
        "connection_type": "replyer",
        "required_creation_arguments": {"on_new_request": on_place},
        "required_arguments": {"n": int}, "required_return_arguments": {"n": int},
    }}}
"""
TRADER = """
    connection_models = {"out": {"place": {
        "connection_type": "requester", "optional_creation_arguments": {"timeout": TIMEOUT},
        "required_arguments": {"n": int}, "required_return_arguments": {"n": int},
    }}}

    def main(to_send, config):
        print(to_send("place", {"n": 1})["n"])
"""


def make(bench: Bench, name: str, mode: int = 0o600) -> Keys:
    made = Keys(*(key.decode() for key in zmq.curve_keypair()))
    path = bench.path / f"{name}.key"
    path.write_text(keys.write(made))
    path.chmod(mode)
    (bench.path / f"{name}.pub").write_text(keys.write(Keys(made.public)))
    return made


def port() -> int:
    with posix.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def terms(bench: Bench, address: str, key: str, **more: Any) -> dict[str, Any]:
    return {address: {"curve": {"key": str(bench.path / f"{key}.key"), **more}}}


@contextmanager
def requester(address: str, own: Keys | None, server: Keys) -> Iterator[zmq.Socket[bytes]]:
    with zmq.Context() as context, context.socket(zmq.REQ) as peer:
        peer.set(zmq.LINGER, 0)
        if own is not None:
            peer.curve_publickey, peer.curve_secretkey = own.public.encode(), own.secret.encode()
            peer.curve_serverkey = server.public.encode()
        peer.connect(address)
        peer.send(msgpack.packb({"args": {"n": 5}, "workflow_id": "w"}))
        yield peer


def test_only_who_is_allowed_is_answered(bench: Bench) -> None:
    own, guest, stranger = (make(bench, name) for name in ("own", "guest", "stranger"))
    address = f"tcp://127.0.0.1:{port()}"
    allow = [str(bench.path / "guest.pub")]
    engine = bench.start(
        "engine",
        ENGINE,
        addresses={"in": {"place": {"replyer": address}}},
        endpoints=terms(bench, address, "own", allow=allow),
    ).ready()
    for known in (guest, own):
        with requester(address, known, own) as peer:
            peer.set(zmq.RCVTIMEO, 20_000)
            assert msgpack.unpackb(peer.recv())["return_args"] == {"n": 6}
    with requester(address, stranger, own) as peer:
        engine.printed(f"its key {stranger.public} is not allowed")
        assert not peer.poll(200)
    with requester(address, None, own) as peer:
        assert not peer.poll(500)
    wrong_server = make(bench, "wrong")
    with requester(address, guest, wrong_server) as peer:
        assert not peer.poll(500)
    assert own.secret not in engine.stderr
    assert engine.stop() == 0


def test_components_speak_with_each_other_and_with_a_foreign_server(bench: Bench) -> None:
    own, partner = make(bench, "own"), make(bench, "partner")
    address = f"tcp://127.0.0.1:{port()}"
    bench.start(
        "engine",
        ENGINE,
        addresses={"in": {"place": {"replyer": address}}},
        endpoints=terms(bench, address, "own"),
    ).ready()
    code = TRADER.replace("TIMEOUT", "20")
    wired = {"out": {"place": {"requester": address}}}
    ours = bench.start(
        "ours", code, main=True, addresses=wired, endpoints=terms(bench, address, "own")
    )
    assert ours.wait() == 0, ours.stderr
    assert ours.stdout == "2\n"
    with zmq.Context() as context, context.socket(zmq.REP) as server:
        server.set(zmq.LINGER, 0)
        server.curve_server = True
        server.curve_publickey = partner.public.encode()
        server.curve_secretkey = partner.secret.encode()
        foreign = f"tcp://127.0.0.1:{server.bind_to_random_port('tcp://127.0.0.1')}"
        told = terms(bench, foreign, "own", server=str(bench.path / "partner.pub"))
        theirs = bench.start(
            "theirs",
            code,
            main=True,
            addresses={"out": {"place": {"requester": foreign}}},
            endpoints=told,
        )
        server.set(zmq.RCVTIMEO, 20_000)
        server.recv()
        server.send(msgpack.packb({"return_args": {"n": 7}, "workflow_id": None}))
        assert theirs.wait() == 0, theirs.stderr
    assert theirs.stdout == "7\n"
    assert own.secret not in ours.stderr + theirs.stderr


@pytest.mark.parametrize("problem", ["missing", "open"])
def test_a_key_that_cannot_be_used_is_named(bench: Bench, problem: str) -> None:
    if problem == "open":
        make(bench, "own", 0o640)
    address = f"tcp://127.0.0.1:{port()}"
    engine = bench.start(
        "engine",
        ENGINE,
        addresses={"in": {"place": {"replyer": address}}},
        endpoints=terms(bench, address, "own"),
    )
    assert engine.wait() == 1
    said = "No such file" if problem == "missing" else "others may read it; chmod 600"
    assert f"cannot use the key {Path(bench.path / 'own.key')}: {said}" in engine.stderr
