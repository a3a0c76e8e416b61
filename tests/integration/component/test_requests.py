"""Requests between real components: answered, checked at both ends, and errors answered too."""

from __future__ import annotations

import signal
from typing import Any

import msgpack
import pytest
import zmq

from tests.integration.component.conftest import Bench, Component

ENGINE = """
    from decimal import Decimal
    from orchestrator.component import get_logger

    LOG = get_logger()

    def on_place(args, to_send, states, config):
        LOG.info("Placed")
        if args["quantity"] == 13:
            raise ValueError("thirteen")
        if args["quantity"] == 14:
            return {"wrong": 1}
        if args["quantity"] == 15:
            return {"fills": [(1, 2)], "levels": {}, "tags": set()}
        return {
            "fills": [(args["price"], args["quantity"])],
            "levels": {args["price"]: args["quantity"]},
            "tags": args.get("tags", set()) | {"seen"},
        }

    connection_models = {"in": {"place": {
        "connection_type": "replyer",
        "required_creation_arguments": {"on_new_request": on_place},
        "required_arguments": {"price": Decimal, "quantity": int},
        "optional_arguments": {"tags": {str}},
        "required_return_arguments": {
            "fills": [(Decimal, int)], "levels": {Decimal: int}, "tags": {str},
        },
    }}}
"""
TRADER_MODEL = """
    from decimal import Decimal

    connection_models = {"out": {"place": {
        "connection_type": "requester",
        "optional_creation_arguments": {"timeout": 10},
        "required_arguments": {"price": Decimal, "quantity": int},
        "optional_arguments": {"tags": {str}},
        "required_return_arguments": {
            "fills": [(Decimal, int)], "levels": {Decimal: int}, "tags": {str},
        },
    }}}
"""


@pytest.fixture
def engine(bench: Bench) -> Component:
    return bench.start("engine", ENGINE).ready()


def ask(bench: Bench, *frames: bytes) -> Any:
    """Ask as a foreign REQ peer does."""
    with zmq.Context() as context, context.socket(zmq.REQ) as peer:
        peer.set(zmq.LINGER, 0)
        peer.set(zmq.RCVTIMEO, 10_000)
        peer.connect(bench.address("place"))
        peer.send_multipart(frames)
        return msgpack.unpackb(peer.recv())


def price(text: str) -> dict[str, Any]:
    return {"__decimal__": True, "as_str": text}


def request(**args: Any) -> bytes:
    return bytes(msgpack.packb({"args": args, "workflow_id": "w"}))


@pytest.mark.usefixtures("engine")
def test_typed_values_go_there_and_back(bench: Bench) -> None:
    trader = bench.start(
        "trader",
        TRADER_MODEL
        + """
    def main(to_send, config):
        order = {"price": Decimal("1.10"), "quantity": 3, "tags": {"a"}}
        reply = to_send("connection", "place", order)
        assert reply == {
            "fills": [(Decimal("1.10"), 3)], "levels": {Decimal("1.10"): 3}, "tags": {"a", "seen"},
        }, reply
        assert type(reply["fills"][0]) is tuple
        print("done", to_send("place", {"price": Decimal(1), "quantity": 1})["fills"])
    """,
        main=True,
    )
    assert trader.wait() == 0, trader.stderr
    assert trader.stdout == "done [(Decimal('1'), 1)]\n"


def test_errors_are_raised_at_the_requester_and_harm_nobody(
    bench: Bench, engine: Component
) -> None:
    trader = bench.start(
        "trader",
        TRADER_MODEL
        + """
    from orchestrator.component import RemoteError, ModelMismatch, UnknownOutput

    def main(to_send, config):
        for quantity in (13, 14, 15):
            try:
                to_send("connection", "place", {"price": Decimal(1), "quantity": quantity})
            except RemoteError as error:
                print(error.kind, error.type, error.message, sep="|")
        for args in ({"price": 1, "quantity": 1}, {"price": Decimal(1)}):
            try:
                to_send("connection", "place", args)
            except ModelMismatch as error:
                print(error)
        try:
            to_send("connection", "plaice", {})
        except UnknownOutput as error:
            print(error)
        print(len(to_send("connection", "place", {"price": Decimal(1), "quantity": 1})))
    """,
        main=True,
    )
    assert trader.wait() == 0, trader.stderr
    lines = trader.stdout.splitlines()
    assert lines[0] == "handler|ValueError|thirteen"
    assert lines[1].startswith(
        "return||cannot return from the request 'place': 'fills' is missing"
    )
    assert lines[2] == (
        "return||cannot return from the request 'place': "
        "'fills'[0][0]: expected Decimal, got int 1"
    )
    assert lines[3] == "cannot send the request 'place': 'price': expected Decimal, got int 1"
    assert lines[4] == "cannot send the request 'place': 'quantity' is missing: expected int"
    assert lines[5] == "cannot send to 'plaice': no such output; declared are 'place'"
    assert lines[6] == "3"
    assert "ValueError: thirteen" in engine.stderr
    assert "engine_handler.py" in engine.stderr


@pytest.mark.parametrize("keyword", ["def", "async def"])
def test_whatever_a_function_does_its_request_is_answered(bench: Bench, keyword: str) -> None:
    code = """
    import asyncio

    class Rude(BaseException):
        pass

    class Mute(Exception):
        def __str__(self):
            raise ValueError

    class Moving(dict):
        def __getitem__(self, key):
            raise RuntimeError("changed meanwhile")

        items = values = keys = __getitem__

    def on_place(args, to_send, states, config):
        match args["n"]:
            case 0:
                return {"any": "fine"}
            case 1:
                nested = []
                for _ in range(5000):
                    nested = [nested]
                return {"any": nested}
            case 2:
                nested = []
                nested.append(nested)
                return {"any": nested}
            case 3:
                return {"any": object()}
            case 4:
                return Moving(any=1)
            case 5:
                raise Rude("no")
            case 6:
                raise asyncio.CancelledError
            case 7:
                raise Mute

    def on_tick(args):
        raise asyncio.CancelledError

    connection_models = {"in": {
        "place": {
            "connection_type": "replyer",
            "required_creation_arguments": {"on_new_request": on_place},
            "required_arguments": {"n": int}, "required_return_arguments": {"any": object},
        },
        "ticks": {
            "connection_type": "subscriber",
            "required_creation_arguments": {"on_new_message": on_tick},
        },
    }}
    """
    victim = bench.start("victim", code.replace("def on_", f"{keyword} on_"))
    with zmq.Context() as context, context.socket(zmq.XPUB) as ticks:
        ticks.set(zmq.LINGER, 0)
        ticks.bind(bench.address("ticks"))
        victim.ready()
        assert ticks.poll(10_000), "it has subscribed"
        ticks.send(msgpack.packb({"args": {}, "workflow_id": "w"}))
        victim.printed("The message 'ticks' failed")
    said = {n: ask(bench, request(n=n))["error"] for n in range(1, 8)}
    assert {n: one["kind"] for n, one in said.items()} == {
        1: "return", 2: "return", 3: "return", 4: "return",
        5: "handler", 6: "handler", 7: "handler",
    }  # fmt: skip
    assert [said[n]["type"] for n in (5, 6, 7)] == ["Rude", "CancelledError", "Mute"]
    assert ask(bench, request(n=0))["return_args"] == {"any": "fine"}
    assert victim.stop() == 0


def test_foreign_peers_are_answered_whatever_they_send(bench: Bench, engine: Component) -> None:
    malformed = ask(bench, b"\xc1")
    assert malformed["error"]["kind"] == "malformed"
    assert ask(bench, b"one", b"two", b"three")["error"]["kind"] == "malformed"
    wrong = ask(bench, request(price=1, quantity=1))
    assert wrong["error"]["kind"] == "arguments"
    assert wrong["workflow_id"] == "w"
    assert "'price': expected Decimal, got int 1" in wrong["error"]["message"]
    deep = ask(bench, b"\x91" * 5000)
    assert deep["error"]["kind"] == "malformed"
    right = ask(bench, request(price=price("1.10"), quantity=2))
    assert "error" not in right
    assert right["workflow_id"] == "w"
    assert right["return_args"]["levels"] == {"__map__": [[price("1.10"), 2]]}
    assert engine.process.poll() is None


def test_envelopes_of_other_peers_come_back_untouched(bench: Bench, engine: Component) -> None:
    with zmq.Context() as context, context.socket(zmq.DEALER) as peer:
        peer.set(zmq.LINGER, 0)
        peer.set(zmq.RCVTIMEO, 10_000)
        peer.connect(bench.address("place"))
        for number in range(20):
            sent = request(price=price("1"), quantity=number)
            peer.send_multipart([b"route", b"%d" % number, b"", sent])
        found = [peer.recv_multipart() for _ in range(20)]
    assert [frames[:3] for frames in found] == [[b"route", b"%d" % n, b""] for n in range(20)]
    assert engine.stop() == 0


def test_the_workflow_id_is_in_the_log_and_grows_per_hop(bench: Bench, engine: Component) -> None:
    relay = bench.start(
        "relay",
        TRADER_MODEL
        + """
    def on_go(args, to_send, states, config):
        for quantity in (1, 2):
            to_send("connection", "place", {"price": Decimal(1), "quantity": quantity})
        return {}

    connection_models["in"] = {"go": {
        "connection_type": "replyer", "required_creation_arguments": {"on_go": on_go},
    }}
    """,
    ).ready()
    with zmq.Context() as context, context.socket(zmq.REQ) as peer:
        peer.set(zmq.LINGER, 0)
        peer.connect(bench.address("go"))
        peer.send(msgpack.packb({"args": {}, "workflow_id": "chain"}))
        assert peer.poll(10_000)
        assert msgpack.unpackb(peer.recv()) == {"return_args": {}, "workflow_id": "chain"}
    assert relay.stop() == 0
    placed = [line.split()[2:4] for line in engine.stderr.splitlines() if line.endswith("Placed")]
    assert placed == [["test.engine", "chain"], ["test.engine", "chain_1"]]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_request_that_nobody_answers_ends_with_its_deadline(
    bench: Bench, *, asynchronous: bool
) -> None:
    code = """
    from orchestrator.component import RequestTimeout

    connection_models = {"out": {"place": {
        "connection_type": "requester", "optional_creation_arguments": {"timeout": 0.3},
    }}}

    ASYNC def main(to_send, config):
        for _ in range(2):
            try:
                AWAIT to_send("connection", "place", {})
            except RequestTimeout as error:
                print(error)
    """
    code = code.replace("ASYNC", "async" if asynchronous else "").replace(
        "AWAIT", "await" if asynchronous else ""
    )
    code = code.replace("     def main", "    def main")
    assert (alone := bench.start("alone", code, main=True)).wait() == 0, alone.stderr
    address = bench.address("place")
    nobody = (
        f"cannot complete the request 'place': nobody was connected at {address} for 0.3 s; "
        "is the component that replies running?"
    )
    assert alone.stdout.splitlines() == [nobody, nobody]
    with zmq.Context() as context, context.socket(zmq.REP) as silent:
        silent.set(zmq.LINGER, 0)
        silent.bind(address)
        assert (heard := bench.start("heard", code, main=True)).wait() == 0, heard.stderr
    assert heard.stdout.splitlines()[0] == (
        f"cannot complete the request 'place': no reply from {address} within 0.3 s; "
        "it may have been carried out"
    )


def test_a_late_reply_answers_no_other_request(bench: Bench) -> None:
    main = bench.start(
        "asks",
        """
    from orchestrator.component import RequestTimeout

    connection_models = {"out": {"place": {
        "connection_type": "requester", "optional_creation_arguments": {"timeout": 1},
        "required_arguments": {"n": int}, "required_return_arguments": {"n": int},
    }}}

    def main(to_send, config):
        try:
            to_send("connection", "place", {"n": 0})
        except RequestTimeout:
            print("late", flush=True)
        print([to_send("connection", "place", {"n": n})["n"] for n in (1, 2, 3)])
    """,
        main=True,
    )
    with zmq.Context() as context, context.socket(zmq.ROUTER) as peer:
        peer.set(zmq.LINGER, 0)
        peer.bind(bench.address("place"))
        first = peer.recv_multipart()
        main.printed("late")
        for frames in (first, *(None,) * 3):
            found = frames or peer.recv_multipart()
            arguments = msgpack.unpackb(found[-1])["args"]
            peer.send_multipart([*found[:-1], msgpack.packb({"return_args": arguments})])
        assert main.wait() == 0, main.stderr
    assert main.stdout == "late\n[1, 2, 3]\n"


def test_replicas_take_turns_and_a_dead_one_is_left_out(bench: Bench) -> None:
    code = """
    def on_who(args, to_send, states, config):
        return {"name": config["name"]}

    connection_models = {"in": {"who": {
        "connection_type": "replyer", "required_creation_arguments": {"on_who": on_who},
        "required_return_arguments": {"name": str},
    }}}
    """
    where = [bench.address("one"), bench.address("two"), bench.address("never")]
    one, two = (
        bench.start(
            name, code, config={"name": name}, addresses={"in": {"who": where}}, instance=n
        ).ready()
        for n, name in ((1, "one"), (2, "two"))
    )
    asker = bench.start(
        "asker",
        """
    import sys

    connection_models = {"out": {"who": {
        "connection_type": "requester", "required_return_arguments": {"name": str},
    }}}

    def main(to_send, config):
        both = set()
        while len(both) < 2:
            both.add(to_send("who", {})["name"])
        print("both", flush=True)
        found = []
        while found[-20:] != ["two"] * 20:
            try:
                found.append(to_send("who", {})["name"])
            except TimeoutError:
                found.append("lost")
        print("two alone")
    """,
        main=True,
        addresses={"out": {"who": where}},
    )
    asker.printed("both")
    one.stop(signal.SIGKILL)
    assert asker.wait() == 0, asker.stderr
    assert two.stop() == 0


def test_external_requests_call_a_function_under_its_model(bench: Bench) -> None:
    main = bench.start(
        "main",
        """
    class Client:
        @staticmethod
        def cancel_order(order_id):
            return {"order_id": order_id.upper()}

    connection_models = {"out": {
        "cancel": {
            "connection_type": "external_target",
            "required_creation_arguments": {"target": "Client.cancel_order"},
            "required_arguments": {"order_id": str},
            "required_return_arguments": {"order_id": str},
        },
        "raw": {"connection_type": "external_request",
                "required_creation_arguments": {"func_to_call": lambda: None}},
    }}

    def main(to_send, states, config):
        print(to_send("connection", "cancel", {"order_id": "a"}), to_send("raw", {}), dict(states))
        try:
            to_send("cancel", {"order_id": 5})
        except ValueError as error:
            print(error)
    """,
        main=True,
    )
    assert main.wait() == 0, main.stderr
    assert main.stdout.splitlines() == [
        "{'order_id': 'A'} {} {}",
        "cannot call 'cancel': 'order_id': expected str, got int 5",
    ]


def test_a_late_reply_lengthens_no_deadline(bench: Bench) -> None:
    main = bench.start(
        "asks",
        """
    import time
    from orchestrator.component import RequestTimeout

    connection_models = {"out": {"place": {
        "connection_type": "requester", "optional_creation_arguments": {"timeout": 60},
        "required_return_arguments": {"n": int},
    }}}

    def main(to_send, config):
        for which in ("first", "second"):
            try:
                to_send("connection", "place", {}, timeout=1)
            except RequestTimeout as error:
                print(which, "within 1 s" in str(error), flush=True)
        print(to_send("connection", "place", {}))
    """,
        main=True,
    )
    with zmq.Context() as context, context.socket(zmq.ROUTER) as peer:
        peer.set(zmq.LINGER, 0)
        peer.set(zmq.RCVTIMEO, 20_000)
        peer.bind(bench.address("place"))
        first = peer.recv_multipart()
        main.printed("first True")
        peer.recv_multipart()
        # The second is never answered, and the socket wakes for this.
        peer.send_multipart([*first[:-1], msgpack.packb({"return_args": {"n": 1}})])
        main.printed("second True")
        third = peer.recv_multipart()
        peer.send_multipart([*third[:-1], msgpack.packb({"return_args": {"n": 3}})])
        assert main.wait() == 0, main.stderr
    assert main.stdout.splitlines()[-1] == "{'n': 3}"


def test_a_peer_that_breaks_the_protocol_once_is_found_again(bench: Bench) -> None:
    main = bench.start(
        "asks",
        """
    from orchestrator.component import RequestTimeout, outbound

    outbound.CONNECT_AGAIN = 0.0
    connection_models = {"out": {"place": {
        "connection_type": "requester", "required_return_arguments": {"n": int},
    }}}

    def main(to_send, config):
        for _ in range(100):
            try:
                print(to_send("connection", "place", {}, timeout=0.5))
                break
            except RequestTimeout as error:
                print(error, flush=True)
    """,
        main=True,
    )
    with zmq.Context() as context, context.socket(zmq.ROUTER) as peer:
        peer.set(zmq.LINGER, 0)
        peer.set(zmq.RCVTIMEO, 20_000)
        peer.bind(bench.address("place"))
        peer.send_multipart([peer.recv_multipart()[0], b"no envelope"])
        second = peer.recv_multipart()
        peer.send_multipart([*second[:-1], msgpack.packb({"return_args": {"n": 2}})])
        assert main.wait() == 0, main.stderr
    assert main.stdout.splitlines()[-1] == "{'n': 2}"
