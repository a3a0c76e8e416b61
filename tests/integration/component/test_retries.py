"""Requests that are sent again, deadlines of single calls, and publishers that need not wait."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import msgpack
import pytest
import zmq

from tests.integration.component.conftest import Bench

ASKS = """
    from orchestrator.component import RequestTimeout

    connection_models = {"out": {"place": {
        "connection_type": "requester",
        "optional_creation_arguments": OPTIONS,
        "required_arguments": {"n": int}, "required_return_arguments": {"who": str},
    }}}

    ASYNC def main(to_send, config):
        for n in range(COUNT):
            try:
                print((AWAIT to_send("place", {"n": n}))["who"], flush=True)
            except RequestTimeout as error:
                print(error)
"""
REPLICA = """
    def on_place(args, to_send, states, config):
        return {"who": config["me"]}

    config_model = {"required": {"me": str}}
    connection_models = {"in": {"place": {
        "connection_type": "replyer",
        "required_creation_arguments": {"on_new_request": on_place},
        "required_arguments": {"n": int}, "required_return_arguments": {"who": str},
    }}}
"""
BOTH_WAYS = pytest.mark.parametrize("asynchronous", [False, True])


def asks(options: str, *, asynchronous: bool, count: int = 1) -> str:
    code = ASKS.replace("OPTIONS", options).replace("COUNT", str(count))
    if not asynchronous:
        return code.replace("ASYNC ", "").replace("AWAIT ", "")
    return code.replace("ASYNC", "async").replace("AWAIT", "await")


@contextmanager
def router(bench: Bench) -> Iterator[zmq.Socket[bytes]]:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as peer:
        peer.set(zmq.LINGER, 0)
        peer.set(zmq.RCVTIMEO, 20_000)
        peer.bind(bench.address("place"))
        yield peer


def answer(peer: zmq.Socket[bytes], frames: list[bytes], who: str) -> None:
    peer.send_multipart([*frames[:-1], msgpack.packb({"return_args": {"who": who}})])


@BOTH_WAYS
def test_an_idempotent_request_is_sent_again(bench: Bench, *, asynchronous: bool) -> None:
    options = '{"idempotent": True, "timeout": 6, "attempts": 3, "backoff": 0.01}'
    with router(bench) as peer:
        main = bench.start("asks", asks(options, asynchronous=asynchronous), main=True)
        first = peer.recv_multipart()
        second = peer.recv_multipart()
        assert first[-1] == second[-1]
        answer(peer, second, "second")
        assert main.wait() == 0, main.stderr
    assert main.stdout == "second\n"


@BOTH_WAYS
def test_a_replyer_that_is_away_for_longer_than_an_attempt_is_awaited(
    bench: Bench, *, asynchronous: bool
) -> None:
    """The deadline is that of all attempts, also of those in which nobody is connected."""
    options = '{"idempotent": True, "timeout": 20, "attempts": 40, "backoff": 0.01}'
    with router(bench) as peer:
        main = bench.start("asks", asks(options, asynchronous=asynchronous), main=True)
        peer.recv_multipart()
    with pytest.raises(subprocess.TimeoutExpired):
        main.process.wait(1.2)  # Longer than two attempts may take.
    assert main.stdout == ""
    with router(bench) as peer:
        answer(peer, peer.recv_multipart(), "the next")
        assert main.wait() == 0, main.stderr
    assert main.stdout == "the next\n"


@BOTH_WAYS
def test_any_other_request_is_sent_once(bench: Bench, *, asynchronous: bool) -> None:
    with router(bench) as peer:
        main = bench.start("asks", asks('{"timeout": 1}', asynchronous=asynchronous), main=True)
        peer.recv_multipart()
        assert main.wait() == 0, main.stderr
        peer.set(zmq.RCVTIMEO, 0)
        with pytest.raises(zmq.Again):
            peer.recv_multipart()
    assert "within 1 s; it may have been carried out" in main.stdout


@BOTH_WAYS
def test_all_attempts_share_the_deadline(bench: Bench, *, asynchronous: bool) -> None:
    options = '{"idempotent": True, "timeout": 0.6, "attempts": 2}'
    with router(bench) as peer:
        main = bench.start("asks", asks(options, asynchronous=asynchronous), main=True)
        assert main.wait() == 0, main.stderr
        assert len([peer.recv_multipart() for _ in range(2)]) == 2
    assert "within 0.6 s to any of 2 attempts; it may have been carried out" in main.stdout


@BOTH_WAYS
def test_requests_of_a_replica_that_stands_still_go_to_the_others(
    bench: Bench, *, asynchronous: bool
) -> None:
    addresses = {name: bench.address(name) for name in ("one", "two")}
    replicas = {
        name: bench.start(
            name,
            REPLICA,
            config={"me": name},
            addresses={"in": {"place": {"replyer": address}}},
        ).ready()
        for name, address in addresses.items()
    }
    replicas["one"].process.send_signal(signal.SIGSTOP)
    options = '{"idempotent": True, "timeout": 3, "attempts": 3, "backoff": 0.01}'
    main = bench.start(
        "asks",
        asks(options, asynchronous=asynchronous, count=6),
        main=True,
        addresses={"out": {"place": {"requester": list(addresses.values())}}},
    )
    assert main.wait() == 0, main.stderr
    assert main.stdout.split() == ["two"] * 6
    replicas["one"].process.send_signal(signal.SIGCONT)
    replicas["two"].stop(signal.SIGKILL)
    again = bench.start(
        "again",
        asks(options, asynchronous=asynchronous, count=3),
        main=True,
        addresses={"out": {"place": {"requester": list(addresses.values())}}},
    )
    assert again.wait() == 0, again.stderr
    assert again.stdout.split() == ["one"] * 3


@BOTH_WAYS
def test_one_call_may_have_a_deadline_of_its_own(bench: Bench, *, asynchronous: bool) -> None:
    code = asks('{"timeout": 60}', asynchronous=asynchronous)
    code = code.replace('{"n": n})', '{"n": n}, timeout=0.2)')
    main = bench.start("asks", code, main=True)
    assert main.wait() == 0, main.stderr
    assert "nobody was connected" in main.stdout
    assert "for 0.2 s" in main.stdout


def test_what_was_refused_and_what_failed_are_two_errors(bench: Bench) -> None:
    bench.start(
        "one", REPLICA.replace('{"who": config["me"]}', "1 / 0"), config={"me": ""}
    ).ready()
    code = """
    from orchestrator.component import RemoteError, RemoteFailure, RemoteRefusal

    connection_models = {"out": {"place": {
        "connection_type": "requester", "required_arguments": {"n": object},
    }}}

    def main(to_send, config):
        for n in (1, "one"):
            try:
                to_send("place", {"n": n})
            except RemoteError as error:
                print(type(error).__name__, error.kind, error.type)
    """
    main = bench.start(
        "main", code, main=True, addresses={"out": {"place": bench.address("place")}}
    )
    assert main.wait() == 0, main.stderr
    assert main.stdout.splitlines() == [
        "RemoteFailure handler ZeroDivisionError",
        "RemoteRefusal arguments ",
    ]


@BOTH_WAYS
def test_a_publisher_may_let_a_full_subscriber_miss_messages(
    bench: Bench, *, asynchronous: bool
) -> None:
    code = """
    connection_models = {"out": {"ticks": {
        "connection_type": "publisher", "required_arguments": {"n": int, "more": bytes},
        "optional_creation_arguments": {"min_subscribers": 1},
    }}}

    ASYNC def main(to_send, config):
        for n in range(3_000):
            AWAIT to_send("ticks", {"n": n, "more": bytes(4_000)})
        print("done")
    """.replace("ASYNC", "async" if asynchronous else "").replace(
        "AWAIT", "await" if asynchronous else ""
    )
    code = code.replace("     def main", "    def main").replace(
        "             to_send", "            to_send"
    )
    with zmq.Context() as context, context.socket(zmq.SUB) as idle:
        idle.set(zmq.LINGER, 0)
        idle.set(zmq.RCVHWM, 1)
        idle.subscribe(b"")
        address = bench.address("ticks")
        idle.connect(address)
        terms = {address: {"high_water_mark": 10, "when_full": "drop"}}
        feed = bench.start("feed", code, main=True, endpoints=terms)
        feed.printed("done")
        seen = [msgpack.unpackb(idle.recv())["args"]["n"] for _ in range(10)]
        assert seen == list(range(10))
        # What waits for it leaves the feed before it ends.
        while feed.process.poll() is None:
            idle.poll(50) and idle.recv()
    lines = [line for line in feed.stderr.splitlines() if "WARNING" in line]
    assert "Dropped a message of 'ticks': a subscriber is full" in lines[0]
    assert "more like the last one" in lines[-1]
    assert len(lines) == 2
