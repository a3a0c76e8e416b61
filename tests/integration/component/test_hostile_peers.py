"""Peers that send anything: the component goes on, counts it, and logs a burst once."""

from __future__ import annotations

import contextlib
import random
import socket as posix
from collections.abc import Iterator
from typing import Any

import msgpack
import zmq

from tests.integration.component.conftest import Bench

VICTIM = """
    def on_place(args):
        return {"n": args["n"] + 1}

    def on_tick(args):
        if args["n"] == -1:
            print("still here", flush=True)

    connection_models = {"in": {
        "place": {
            "connection_type": "replyer",
            "required_creation_arguments": {"on_new_request": on_place},
            "required_arguments": {"n": int}, "required_return_arguments": {"n": int},
        },
        "ticks": {
            "connection_type": "subscriber",
            "required_creation_arguments": {"on_new_message": on_tick},
            "required_arguments": {"n": int},
        },
    }}
"""
GOOD = msgpack.packb({"args": {"n": 1}, "workflow_id": "w"})
LARGE = 100_000


def hostile(rng: random.Random) -> Iterator[list[bytes]]:
    """Yield messages of one or several frames, each wrong in its own way."""
    for _ in range(400):
        frame = bytearray(GOOD)
        match rng.randrange(8):
            case 0:
                frame = bytearray(rng.randbytes(rng.randrange(80)))
            case 1:
                del frame[rng.randrange(len(frame)) :]
            case 2:
                frame[rng.randrange(len(frame))] ^= 1 << rng.randrange(8)
            case 3:
                frame = bytearray(b"\x91" * rng.randrange(2_000))
            case 4:
                frame = bytearray(
                    msgpack.packb({"args": rng.choice([None, 1, [], "x", {"n": "1"}])})
                )
            case 5:
                frame = bytearray(b"\xdd\xff\xff\xff\xff" * rng.randrange(50))
            case 6:
                frame += rng.randbytes(5)
            case _:
                frame = bytearray(LARGE + 1)
        yield [bytes(frame), *(rng.randbytes(3) for _ in range(rng.choice([0, 0, 0, 1, 5])))]


def port() -> int:
    with posix.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_nothing_that_peers_send_harms_a_component(bench: Bench) -> None:
    rng = random.Random(20)
    place, ticks = port(), bench.address("ticks")
    address = f"tcp://127.0.0.1:{place}"
    victim = bench.start(
        "victim",
        VICTIM,
        addresses={"in": {"place": address, "ticks": ticks}},
        endpoints={address: {"max_message": LARGE}, ticks: {"max_message": LARGE}},
    ).ready()
    with zmq.Context() as context, context.socket(zmq.XPUB) as feed:
        feed.set(zmq.LINGER, 0)
        feed.bind(ticks)
        assert feed.poll(20_000)
        for frames in hostile(rng):
            # A peer per few messages, for one that sends too much is disconnected.
            with context.socket(rng.choice([zmq.REQ, zmq.DEALER])) as peer:
                # Long enough: libzmq 4.3.5 aborts where this ends within a message of many frames.
                peer.set(zmq.LINGER, 20_000)
                peer.connect(address)
                for _ in range(rng.choice([1, 1, 3])):
                    peer.send_multipart([b"", *frames] if peer.TYPE == zmq.DEALER else frames)
                    if peer.TYPE == zmq.REQ:
                        break
            feed.send_multipart(frames)
            if rng.random() < 0.3:
                with posix.create_connection(("127.0.0.1", place)) as raw:
                    raw.sendall(rng.choice([b"", b"\xff" + bytes(8) + b"\x7f\x03"]))
                    with contextlib.suppress(OSError):
                        raw.sendall(rng.randbytes(rng.randrange(300)))
        with context.socket(zmq.REQ) as peer:
            peer.set(zmq.LINGER, 0)
            peer.set(zmq.RCVTIMEO, 20_000)
            peer.connect(address)
            peer.send(GOOD)
            assert msgpack.unpackb(peer.recv())["return_args"] == {"n": 2}
        # Too large a publication has not made it deaf.
        while not victim.stdout:
            feed.send(msgpack.packb({"args": {"n": -1}}))
            feed.poll(50) and feed.recv()
    assert victim.process.poll() is None
    assert victim.stop() == 0
    lines = victim.stderr.splitlines()
    assert any("Refused a request" in line for line in lines)
    assert any("Dropped a message" in line for line in lines)
    assert any("more like" in line for line in lines)
    assert "Traceback" not in victim.stderr
    assert len(lines) < 60, victim.stderr


COPY = """
    from orchestrator.component import ComponentError

    def on_go(args, to_send, states):
        try:
            to_send("ask", {}, timeout=1)
        except ComponentError:
            pass
        return {"whole": dict(states["whole"]), "parts": len(states["parts"])}

    connection_models = {
        "in": {"go": {
            "connection_type": "replyer",
            "required_creation_arguments": {"on_new_request": on_go},
            "required_return_arguments": {"whole": {str: int}, "parts": int},
        }},
        "out": {"ask": {
            "connection_type": "requester", "required_return_arguments": {"n": int},
        }},
    }
    state_models = {"in": {
        "whole": {"state_type": "full_update_in", "required_arguments": {"n": int}},
        "parts": {"state_type": "delta_update_in", "required_arguments": {"n": int}},
    }}
"""


def answered(rng: random.Random) -> list[bytes]:
    """Return what a peer may send as an update, a snapshot or a reply."""
    whatever: list[Any] = [
        None,
        5,
        -1,
        "x",
        True,
        {},
        [],
        {"n": 1},
        {"n": "x"},
        {"z": 1},
        {"n": None},
        2**63,
    ]
    body = {
        "current_num": rng.choice(whatever),
        "is_snapshot": rng.choice(whatever),
        "state": rng.choice([*whatever, {"__map__": [[1, 2]]}, {"__set__": 1}]),
        "n": rng.choice(whatever),
    }
    message = {
        rng.choice(["args", "return_args"]): rng.choice([body, body, body, *whatever]),
        "workflow_id": rng.choice(whatever),
        "epoch": rng.choice([None, "one", "two", 5]),
        rng.choice(["error", "more"]): rng.choice([None, 5, {"kind": 5, "message": []}]),
    }
    frame = bytes(msgpack.packb(message))
    if rng.random() < 0.2:
        frame = rng.randbytes(rng.randrange(60))
    return [frame, *(rng.randbytes(3) for _ in range(rng.choice([0, 0, 0, 0, 2])))]


def test_nothing_that_is_answered_or_told_harms_a_component(bench: Bench) -> None:
    rng = random.Random(21)
    with zmq.Context() as context, contextlib.ExitStack() as stack:

        def opened(kind: int, name: str, *, binds: bool = True) -> zmq.Socket[bytes]:
            made: zmq.Socket[bytes] = stack.enter_context(context.socket(kind))
            made.set(zmq.LINGER, 0)
            (made.bind if binds else made.connect)(bench.address(name))
            return made

        told = [opened(zmq.XPUB, "whole.data"), opened(zmq.XPUB, "parts.data")]
        asked = [opened(zmq.ROUTER, "ask"), opened(zmq.ROUTER, "parts.all")]
        victim = bench.start("victim", COPY).ready()
        assert all(one.poll(20_000) for one in told), "it has subscribed to both"
        go = opened(zmq.DEALER, "go", binds=False)

        def reply() -> dict[str, Any]:
            go.send_multipart([b"", msgpack.packb({"args": {}})])
            while not go.poll(1):
                for one in asked:
                    if one.poll(0):
                        one.send_multipart([*one.recv_multipart()[:-1], *answered(rng)])
            found = msgpack.unpackb(go.recv_multipart()[1])
            assert "error" not in found, found
            return dict(found["return_args"])

        for _ in range(100):
            for one in told:
                for _ in range(4):
                    one.send_multipart(answered(rng))
            reply()
        while reply()["whole"] != {"n": 77}:
            told[0].send(msgpack.packb({"args": {"n": 77}}))
    assert victim.process.poll() is None
    assert victim.stop() == 0
    assert "Traceback" not in victim.stderr
