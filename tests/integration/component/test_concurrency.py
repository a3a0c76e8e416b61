"""Components several of whose async functions are under way at once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import msgpack
import pytest
import zmq

from orchestrator.wire import messages
from tests.integration.component.conftest import Bench, Component, eventually
from tests.integration.component.test_reload import Living

GATE = """
    import asyncio, os
    from orchestrator.component import get_logger

    VERSION = 1
    inside = most = 0
    opened = {}

    def gate(name):
        return opened.setdefault(name, asyncio.Event())

    async def on_go(args, to_send, states, config):
        global inside, most
        inside += 1
        most = max(most, inside)
        print("began", args["n"], flush=True)
        if inside == config.get("all"):
            gate("all").set()
        try:
            await gate(args["at"]).wait()
            if args["n"] < 0:
                raise ValueError(f"negative: {args['n']}")
            if "ticks" in config:
                get_logger().warning("now %s", args["n"])
                await to_send("ticks", {"n": args["n"]})
                await to_send("ticks", {"n": args["n"]})
        finally:
            inside -= 1
        return {"n": args["n"], "most": most, "version": VERSION}

    def on_open(args, to_send, states, config):
        gate(args["at"]).set()

    config_model = {"optional": {"all": int, "ticks": bool}}
    connection_models = {
        "in": {
            "go": {
                "connection_type": "replyer", "required_creation_arguments": {"on_go": on_go},
                "required_arguments": {"n": int, "at": str},
                "required_return_arguments": {"n": int, "most": int, "version": int},
            },
            "open": {
                "connection_type": "replyer", "required_creation_arguments": {"on_open": on_open},
                "required_arguments": {"at": str},
            },
        },
        "out": {},
    }
"""
TICKS = '"ticks": {"connection_type": "publisher", "required_arguments": {"n": int}}'


class Peers:
    """Requesters of a component, each with a socket of its own."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._sockets: list[zmq.Socket[bytes]] = []

    def socket(self, kind: int, name: str) -> zmq.Socket[bytes]:
        made = self._context.socket(kind)
        self._sockets.append(made)
        made.set(zmq.LINGER, 0)
        made.set(zmq.RCVTIMEO, 20_000)
        made.connect(self.bench.address(name))
        return made

    def ask(self, name: str = "go", workflow_id: str = "w", **args: Any) -> zmq.Socket[bytes]:
        """Send a request from a peer of its own, and return the peer."""
        made = self.socket(zmq.REQ, name)
        made.send(msgpack.packb({"args": args, "workflow_id": workflow_id}))
        return made

    def open(self, at: str) -> None:
        answer(self.ask("open", at=at))

    def close(self) -> None:
        for made in self._sockets:
            made.close()
        self._context.term()


def answer(peer: zmq.Socket[bytes]) -> Any:
    reply = msgpack.unpackb(peer.recv())
    return reply.get("return_args", reply.get("error"))


@pytest.fixture
def peers(bench: Bench) -> Iterator[Peers]:
    with contextlib.closing(Peers(bench)) as made:
        yield made


def start(bench: Bench, concurrency: int, code: str = GATE, **config: Any) -> Component:
    return bench.start("gate", code, config=config, concurrency=concurrency).ready()


def test_as_many_requests_are_served_at_once_as_it_says(bench: Bench, peers: Peers) -> None:
    """None of them ends before all have begun."""
    component = start(bench, 8, all=8)
    asked = [peers.ask(n=n, at="all") for n in range(8)]
    replies = [answer(peer) for peer in asked]
    assert [reply["n"] for reply in replies] == list(range(8))
    assert {reply["most"] for reply in replies} == {8}
    assert component.stop() == 0


def test_no_more_are_taken_than_it_says(bench: Bench, peers: Peers) -> None:
    component = start(bench, 3, all=3)
    asked = [peers.ask(n=n, at="all") for n in range(12)]
    replies = [answer(peer) for peer in asked]
    assert [reply["n"] for reply in replies] == list(range(12))
    assert {reply["most"] for reply in replies} == {3}
    assert component.stop() == 0


def test_replies_go_to_who_asked_in_the_order_in_which_functions_end(
    bench: Bench, peers: Peers
) -> None:
    component = start(bench, 5)
    many = peers.socket(zmq.DEALER, "go")
    for number, at in ((1, "late"), (2, "soon"), (-3, "soon")):
        payload = msgpack.packb({"args": {"n": number, "at": at}, "workflow_id": "w"})
        many.send_multipart([b"way", bytes([abs(number)]), b"", payload])
    other = peers.ask(n=9, at="late")
    component.printed("began 9")
    peers.open("soon")
    soon = [many.recv_multipart() for _ in range(2)]
    assert [frames[:3] for frames in soon] == [[b"way", b"\2", b""], [b"way", b"\3", b""]]
    assert msgpack.unpackb(soon[1][3])["error"] == {
        "kind": "handler",
        "type": "ValueError",
        "message": "negative: -3",
    }
    peers.open("late")
    assert many.recv_multipart()[1] == b"\1"
    assert answer(other)["n"] == 9
    assert component.stop() == 0


def test_what_is_no_request_is_refused_or_ignored(bench: Bench, peers: Peers) -> None:
    start(bench, 2)
    peer = peers.socket(zmq.DEALER, "go")
    wrong = msgpack.packb({"args": {"n": "one"}, "workflow_id": "w"})
    for frames in (
        [b"no", b"delimiter"],
        [b"no body", b""],
        [b"", b"two", b"parts"],
        [b"", wrong],
    ):
        peer.send_multipart(frames)
    kinds = [msgpack.unpackb(peer.recv_multipart()[1])["error"]["kind"] for _ in range(2)]
    assert kinds == ["malformed", "arguments"]


def test_each_workflow_keeps_its_id(bench: Bench, peers: Peers) -> None:
    code = GATE.replace('"out": {}', f'"out": {{{TICKS}}}')
    component = start(bench, 2, code, ticks=True, all=2)
    ticks = peers.socket(zmq.SUB, "ticks")
    ticks.subscribe(b"")
    # Nobody tells when a subscription has arrived but the messages themselves.
    probe = iter(range(100, 10_000))
    peers.open("probe")
    eventually(
        lambda: (
            answer(peers.ask(workflow_id="p", n=next(probe), at="probe"))
            and ticks.poll(50, zmq.POLLIN)
        )
    )
    asked = [peers.ask(workflow_id=word, n=n, at="all") for n, word in enumerate("ab")]
    assert [answer(peer)["n"] for peer in asked] == [0, 1]
    came: list[tuple[int, str]] = []
    decode = messages.publications(messages.prefix(""))
    while len(came) < 4:
        arguments, workflow_id = decode(ticks.recv())
        assert workflow_id
        if workflow_id[0] != "p":
            came.append((arguments["n"], workflow_id))
    assert sorted(came) == [(0, "a"), (0, "a_1"), (1, "b"), (1, "b_1")]
    assert " a now 0\n" in component.stderr
    assert " b now 1\n" in component.stderr


def test_what_has_begun_is_finished_and_answered_before_the_end(
    bench: Bench, peers: Peers
) -> None:
    code = GATE + (
        "\n    def sigterm_handler(signum, frame):\n        print('stopping', inside)\n"
    )
    code = code.replace('print("began"', 'asyncio.get_running_loop().add_signal_handler(10, '
                        'gate("late").set)\n        print("began"')  # fmt: skip
    component = start(bench, 2, code)
    asked = [peers.ask(n=n, at="late") for n in range(2)]
    component.printed("began 0")
    component.printed("began 1")
    component.process.terminate()
    component.process.send_signal(10)
    assert [answer(peer)["n"] for peer in asked] == [0, 1]
    assert component.wait() == 0
    assert "stopping 0" in component.stdout


@pytest.mark.parametrize("concurrency", [1, 2])
def test_a_busy_connection_leaves_others_their_turn(
    bench: Bench, peers: Peers, concurrency: int
) -> None:
    code = GATE.replace("def on_open", "async def on_open")
    code = code.replace('gate(args["at"]).set()', 'print("opens", flush=True)')
    code = code.replace('await gate(args["at"]).wait()', 'await go_on(args["n"])')
    code += """
    async def go_on(n):
        while n == 0 and not os.path.exists("go-on"):
            await asyncio.sleep(0.01)
    """
    with contextlib.closing(Living(bench, "gate", code, concurrency=concurrency).link) as link:
        component = bench.started[-1]
        queued = [peers.ask(n=0, at="") for _ in range(concurrency)]
        eventually(lambda: component.stdout.count("began 0") == concurrency)
        queued += [peers.ask(n=n, at="") for n in range(1, 20)]
        queued.append(peers.ask("open", at=""))

        def told(what: str) -> list[int]:
            return [end[what] for end in link.request("stats")["connections"]]

        # A REP socket tells nothing of requests while one is in hand.
        eventually(lambda: told("waiting")[1] == 1)
        assert told("in_flight") == [concurrency, 0]
        (bench.path / "go-on").touch()
        for peer in queued:
            answer(peer)
        began = component.stdout.splitlines()
        assert began.index("opens") < len(began) - 5
        assert told("in_flight") == [0, 0]
        assert told("messages") == [concurrency + 19, 1]


LISTENER = """
    import asyncio

    turns = asyncio.Condition()
    last = 0

    async def on_tick(args, to_send, states, config):
        global last
        print("began", args["n"], flush=True)
        async with turns:
            # Backwards.
            await turns.wait_for(lambda: last == args["after"])
            last = args["n"]
            turns.notify_all()
        print("ended", args["n"], flush=True)

    connection_models = {"in": {"ticks": {
        "connection_type": "subscriber",
        "required_creation_arguments": {"on_new_message": on_tick},
        "required_arguments": {"n": int, "after": int},
    }}}
"""


def test_messages_begin_in_order_and_may_end_in_another(bench: Bench) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    with context, context.socket(zmq.XPUB) as publisher:
        publisher.set(zmq.LINGER, 0)
        publisher.set(zmq.RCVTIMEO, 20_000)
        publisher.bind(bench.address("ticks"))
        component = bench.start("listener", LISTENER, concurrency=3).ready()
        publisher.recv()
        for number, after in ((1, 2), (2, 3), (3, 0)):
            arguments = {"args": {"n": number, "after": after}, "workflow_id": "w"}
            publisher.send(messages.prefix("") + msgpack.packb(arguments))
        text = component.printed("ended 1")
    said = [f"{what} {number}" for what, number in zip(*[iter(text.split())] * 2, strict=True)]
    assert said == [*(f"began {n}" for n in (1, 2, 3)), *(f"ended {n}" for n in (3, 2, 1))]


# --- Reload


def test_what_is_under_way_goes_on_in_the_old_code(bench: Bench, peers: Peers) -> None:
    """New messages are for the new one at once; the old one is left when its last has ended."""
    code = (
        GATE
        + """
    def on_load(previous):
        global opened
        opened = previous.opened
        print("load", VERSION, flush=True)

    def on_unload():
        print("unload", VERSION, inside, flush=True)
    """
    )
    web = Living(bench, "gate", code, concurrency=4)
    try:
        early = [peers.ask(n=n, at="late") for n in range(2)]
        web.component.printed("began 0")
        web.component.printed("began 1")
        for version in (2, 3):
            web.edit(f"VERSION = {version - 1}", f"VERSION = {version}")
            answered = web.reload()
            assert (answered["outcome"], answered["generation"]) == ("swapped", version)
            peers.open("soon")
            assert answer(peers.ask(n=5, at="soon"))["version"] == version
        assert web.link.request("code")["held"] == 1
        assert "unload 1" not in web.component.stdout
        peers.open("late")
        assert [answer(peer)["version"] for peer in early] == [1, 1]
        web.component.printed("unload 1 0")
        eventually(lambda: web.link.request("code")["held"] == 0)
        said = [line for line in web.component.stdout.splitlines() if "load" in line]
        assert said == ["load 2", "load 3", "unload 2 0", "unload 1 0"]
        assert "still in use" not in web.component.stderr
    finally:
        web.link.close()


# --- A loop that has nothing to do

COUNTED = """
    import asyncio

    async def on_go(args, to_send, states, config):
        selector = asyncio.get_running_loop()._selector
        select, turns = selector.select, 0

        def counted(timeout=None):
            nonlocal turns
            turns += 1
            return select(timeout)

        selector.select = counted
        print("began", args["n"], flush=True)
        try:
            await asyncio.sleep(0.5)
        finally:
            del selector.select
        return {"turns": turns}

    async def on_tell(args, to_send, states, config):
        await to_send("ticks", {"n": 1})

    connection_models = {
        "in": {
            "go": {
                "connection_type": "replyer", "required_creation_arguments": {"on_go": on_go},
                "required_arguments": {"n": int}, "required_return_arguments": {"turns": int},
            },
            "tell": {
                "connection_type": "replyer",
                "required_creation_arguments": {"on_tell": on_tell},
            },
        },
        "out": {"ticks": {"connection_type": "publisher", "required_arguments": {"n": int}}},
    }
"""
FEW = 40
"""More turns of a loop than half a second has reasons for, and far fewer than it has time for."""


def test_a_loop_does_not_turn_because_of_what_it_cannot_take_yet(
    bench: Bench, peers: Peers
) -> None:
    """Neither for a request behind the one under way, nor for one that comes at the end."""
    component = start(bench, 1, COUNTED)
    first = peers.ask(n=1)
    component.printed("began 1")
    second = peers.ask(n=2)
    assert answer(first)["turns"] < FEW
    component.printed("began 2")
    peers.ask(n=3)
    component.process.terminate()
    assert answer(second)["turns"] < FEW
    assert component.wait() == 0, component.stderr


def test_a_loop_does_not_turn_because_somebody_has_subscribed(bench: Bench, peers: Peers) -> None:
    component = start(bench, 1, COUNTED)
    ticks = peers.socket(zmq.SUB, "ticks")
    ticks.subscribe(b"")
    while not ticks.poll(10):
        answer(peers.ask("tell"))
    assert answer(peers.ask(n=1))["turns"] < FEW
    ticks.close()
    assert answer(peers.ask(n=2))["turns"] < FEW
    assert component.stop() == 0
