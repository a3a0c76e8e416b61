"""States between real components: late joiners, gaps, restarts of either side, every loop."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgpack
import pytest
import zmq
from redis import Redis

from tests import redis_server
from tests.integration.component.conftest import Bench, Component, eventually

SOURCE = """
    from decimal import Decimal

    state_models = {"out": {
        "price": {"state_type": "full_update_out", "required_arguments": {"ask": Decimal}},
        "book": {
            "state_type": "delta_update_out",
            "required_arguments": {str: int},
        },
    }}

    def on_change(args, to_send, states, config):
        for key, value in args["book"].items():
            to_send("state", "book", {key: value})
        if "ask" in args:
            to_send("price", {"ask": args["ask"]})
        return {"book": dict(states["book"]), "price": dict(states["price"])}

    connection_models = {"in": {"change": {
        "connection_type": "replyer",
        "required_creation_arguments": {"on_new_request": on_change},
        "required_arguments": {"book": dict},
        "optional_arguments": {"ask": Decimal},
        "required_return_arguments": {"book": dict, "price": dict},
    }}}
"""

READER = """
    from decimal import Decimal

    state_models = {"in": {
        "price": {"state_type": "full_update_in", "required_arguments": {"ask": Decimal}},
        "book": {"state_type": "delta_update_in", "required_arguments": {str: int}},
    }}

    def on_look(args, to_send, states, config):
        return {"book": states["book"], "price": states["price"]}

    connection_models = {"in": {"NAME": {
        "connection_type": "replyer",
        "required_creation_arguments": {"on_new_request": on_look},
        "required_return_arguments": {"book": dict, "price": dict},
    }}}
"""


class Client:
    """Sends requests as any peer would."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.context = zmq.Context()
        self.sockets: list[zmq.Socket[bytes]] = []

    def socket(self, kind: int) -> zmq.Socket[bytes]:
        """Return a socket that lives as long as the client."""
        self.sockets.append(self.context.socket(kind))
        self.sockets[-1].set(zmq.RCVTIMEO, 20_000)
        return self.sockets[-1]

    def ask(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        with self.context.socket(zmq.REQ) as socket:
            socket.set(zmq.LINGER, 0)
            socket.set(zmq.RCVTIMEO, 20_000)
            socket.connect(self.bench.address(name))
            socket.send(msgpack.packb({"args": arguments, "workflow_id": "w"}))
            answer = msgpack.unpackb(socket.recv())
        assert "error" not in answer, answer
        found = answer["return_args"]
        assert isinstance(found, dict)
        return found

    def change(self, book: dict[str, Any], ask: str | None = None) -> dict[str, Any]:
        more = {} if ask is None else {"ask": {"__decimal__": True, "as_str": ask}}
        return self.ask("change", {"book": book, **more})

    def sees(self, name: str, book: dict[str, Any], ask: str | None = None) -> None:
        price = {} if ask is None else {"ask": {"__decimal__": True, "as_str": ask}}
        wanted = {"book": book, "price": price}
        eventually(lambda: self.ask(name, {}) == wanted)


@pytest.fixture
def client(bench: Bench) -> Iterator[Client]:
    found = Client(bench)
    yield found
    found.context.destroy(linger=0)


def reader(bench: Bench, name: str, code: str = READER) -> Component:
    return bench.start(name, code.replace("NAME", name))


def test_copies_follow_and_late_ones_get_what_they_missed(bench: Bench, client: Client) -> None:
    source = bench.start("source", SOURCE).ready()
    reader(bench, "early").ready()
    client.sees("early", {})
    assert client.change({"a": 1, "b": 2}, "1.10") == {
        "book": {"a": 1, "b": 2},
        "price": {"ask": {"__decimal__": True, "as_str": "1.10"}},
    }
    client.change({"a": None, "zzz": None, "c": 3})
    client.sees("early", {"b": 2, "c": 3}, "1.10")
    reader(bench, "late").ready()
    client.sees("late", {"b": 2, "c": 3}, "1.10")
    assert source.stop() == 0
    assert source.stderr.count("WARNING") == 0


def test_a_copy_started_before_its_source(bench: Bench, client: Client) -> None:
    reader(bench, "early").ready()
    bench.start("source", SOURCE).ready()
    client.change({"a": 1}, "2")
    client.sees("early", {"a": 1}, "2")


def test_either_side_restarts(bench: Bench, client: Client) -> None:
    source = bench.start("source", SOURCE).ready()
    copy = reader(bench, "copy").ready()
    client.change({"a": 1, "b": 2}, "1")
    client.sees("copy", {"a": 1, "b": 2}, "1")
    copy.process.kill()
    copy.wait()
    client.change({"a": 2})
    reader(bench, "copy").ready()
    client.sees("copy", {"a": 2, "b": 2}, "1")
    source.process.kill()
    source.wait()
    # What had been lives on with its readers until the source says something new.
    client.sees("copy", {"a": 2, "b": 2}, "1")
    bench.start("source", SOURCE).ready()
    client.sees("copy", {}, "1")
    client.change({"x": 9})
    client.sees("copy", {"x": 9}, "1")


def test_an_invalid_update_is_logged_and_dropped(bench: Bench, client: Client) -> None:
    publisher = client.socket(zmq.XPUB)
    publisher.bind(bench.address("price.data"))
    other = client.socket(zmq.XPUB)
    other.bind(bench.address("book.data"))
    answers = client.socket(zmq.REP)
    answers.bind(bench.address("book.all"))
    copy = reader(bench, "copy").ready()
    for socket in (publisher, other):
        socket.recv()
    answers.recv()
    snapshot = {"current_num": 4, "state": {"a": 1, "bad": "text"}}
    answers.send(msgpack.packb({"return_args": snapshot, "workflow_id": None}))
    client.sees("copy", {"a": 1})
    assert "'bad': expected int, got str 'text'" in copy.stderr

    def update(number: int, state: dict[str, Any], socket: Any = other) -> None:
        args = {"current_num": number, "is_snapshot": False, "state": state}
        socket.send(msgpack.packb({"args": args, "workflow_id": "flow-7"}))

    publisher.send(b"\xc1")
    publisher.send(msgpack.packb({"args": {"ask": 3}, "workflow_id": "flow-6"}))
    other.send(b"\x01")
    update(5, {"b": 2, "c": "text"})
    update(6, {"d": 4})
    client.sees("copy", {"a": 1, "d": 4})
    logged = copy.printed("flow-7")
    assert "flow-6 dropped an update of the state 'price': 'ask': expected Decimal" in logged
    assert "flow-7 dropped an update of the state 'book': 'c': expected int" in logged
    assert logged.count("Dropped an update of the state") == 2
    update(8, {"e": 8})
    answers.recv()
    # Not waited for.
    client.sees("copy", {"a": 1, "d": 4})
    update(9, {"f": 9})
    snapshot = {"current_num": 0, "state": {"g": 7, "e": 8}}
    answers.send(msgpack.packb({"return_args": snapshot, "workflow_id": None}))
    client.sees("copy", {"g": 7, "e": 8, "f": 9})


def test_handlers_cannot_change_what_they_see(bench: Bench, client: Client) -> None:
    bench.start("source", SOURCE).ready()
    code = READER.replace(
        "def on_look(args, to_send, states, config):",
        """def on_look(args, to_send, states, config):
        try:
            states["book"]["a"] = 5
        except TypeError as error:
            print(error)
        kept.append(states["book"])
        print("kept", kept[0], states["book"] is states["book"], sorted(states))""",
    ).replace("state_models =", "kept = []\n    state_models =", 1)
    copy = reader(bench, "copy", code).ready()
    client.change({"a": 1})
    client.sees("copy", {"a": 1})
    client.change({"a": 2})
    client.sees("copy", {"a": 2})
    assert "a state is read-only; copy it" in copy.stdout
    lines = [line for line in copy.stdout.splitlines() if line.startswith("kept")]
    assert lines[-1] == lines[0], "a copy is a copy"
    assert lines[-1].endswith("True ['book', 'price']")


def test_async_functions_send_and_see_states(bench: Bench, client: Client) -> None:
    code = SOURCE.replace("def on_change", "async def on_change").replace(
        "            to_send(", "            await to_send("
    )
    bench.start("source", code).ready()
    waiting = READER.replace(
        "def on_look(args, to_send, states, config):",
        """async def on_look(args, to_send, states, config):
        import asyncio
        # The world goes on while a function waits.
        while not states["book"]:
            await asyncio.sleep(0.001)""",
    )
    reader(bench, "copy", waiting).ready()
    client.change({"a": 1}, "1")
    client.sees("copy", {"a": 1}, "1")


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_main_sends_states_and_serves_them_meanwhile(
    bench: Bench, client: Client, kind: str
) -> None:
    code = """
    import asyncio, time
    state_models = {"out": {
        "price": {"state_type": "full_update_out", "required_arguments": {"ask": object}},
        "book": {"state_type": "delta_update_out", "required_arguments": {str: int}},
    }}

    def main(to_send, states, config):
        for number in range(10):
            to_send("state", "book", {str(number): number})
        to_send("state", "price", {"ask": 1})
        print("sent", states["book"]["9"], flush=True)
        while True:
            time.sleep(0.01)
    """
    if kind == "async def":
        code = (
            code.replace("def main", "async def main")
            .replace("to_send(", "await to_send(")
            .replace("main(await to_send", "main(to_send")
            .replace("time.sleep", "await asyncio.sleep")
        )
    code = code.replace("main(await ", "main(")
    source = bench.start("source", code, main=True).ready()
    source.printed("sent 9")
    late = READER.replace('"ask": Decimal', '"ask": object')
    reader(bench, "late", late).ready()
    wanted = {"book": {str(number): number for number in range(10)}, "price": {"ask": 1}}
    eventually(lambda: client.ask("late", {}) == wanted)
    assert source.stop() == 0


def test_mode_main_takes_no_inward_state(bench: Bench) -> None:
    code = """
    state_models = {"in": {"a": {"state_type": "full_update_in"}}}
    def main(to_send):
        pass
    """
    component = bench.start("main", code, main=True)
    assert component.wait() == 1
    assert "state_models['in']['a']: mode main allows no inbound state" in component.stderr


def test_the_form_of_the_original_and_topics(bench: Bench, client: Client) -> None:
    """A raw peer reads what goes over the wire, byte for byte what service_framework reads."""
    code = """
    state_models = {"out": {"book": {
        "state_type": "delta_update_out",
        "optional_creation_arguments": {"topic": "eur", "wait_after_creation_s": 0.01},
        "required_state_arguments": {"current_num": int, "is_snapshot": bool},
        "required_arguments": {"state": dict},
    }}}

    def on_go(args, to_send):
        to_send("state", "book", {"state": {"a": 1}, "is_snapshot": False, "current_num": 0})
        to_send("state", "book", {"state": {"b": 2}, "is_snapshot": False, "current_num": 40})
        to_send("state", "book", {"state": {"c": 3}, "is_snapshot": True, "current_num": 1})
        try:
            to_send("state", "book", {"a": 1})
        except ValueError as error:
            print(error)

    connection_models = {"in": {"go": {
        "connection_type": "replyer", "required_creation_arguments": {"on_new_request": on_go},
    }}}
    """
    source = bench.start("source", code).ready()
    subscriber = client.socket(zmq.SUB)
    topic = msgpack.packb("eur")
    subscriber.subscribe(topic)
    subscriber.connect(bench.address("book.data"))

    def read() -> dict[str, Any]:
        frame = subscriber.recv()
        assert frame.startswith(topic)
        found = msgpack.unpackb(frame[len(topic) :])
        assert set(found) == {"args", "workflow_id", "epoch"}
        return dict(found["args"])

    assert read() == {"current_num": 0, "is_snapshot": True, "state": {}}
    client.ask("go", {})
    assert read() == {"current_num": 1, "is_snapshot": False, "state": {"a": 1}}
    assert read() == {"current_num": 40, "is_snapshot": False, "state": {"b": 2}}
    assert read() == {"current_num": 41, "is_snapshot": True, "state": {"c": 3}}
    with client.context.socket(zmq.REQ) as request:
        request.connect(bench.address("book.all"))
        request.send(msgpack.packb({"args": {}}))
        answer = msgpack.unpackb(request.recv())
        assert answer["return_args"] == {"current_num": 41, "state": {"c": 3}}
        request.send(b"\xc1")
        assert msgpack.unpackb(request.recv())["error"]["kind"] == "malformed"
    assert "'a' is not declared; 'state' is missing" in source.printed("cannot send")


@pytest.fixture
def redis(bench: Bench) -> Iterator[str]:
    with redis_server.running(bench.path) as url:
        yield url


@pytest.mark.parametrize("store", ["sqlite", "redis"])
def test_a_kept_state_outlives_its_source(
    bench: Bench, client: Client, store: str, request: pytest.FixtureRequest
) -> None:
    where = "sqlite" if store == "sqlite" else request.getfixturevalue("redis") + "#test"
    states = {
        "in": {},
        "out": {
            "price": {"publisher": bench.address("price.data"), "persist": "${settings.STORE}"},
            "book": {
                "publisher": bench.address("book.data"),
                "replyer": bench.address("book.all"),
                "persist": where,
            },
        },
    }
    how: dict[str, Any] = {"states": states, "environment": {"ORCH_SETTING_STORE": where}}
    source = bench.start("source", SOURCE, **how).ready()
    client.change({"a": 1, "b": 2}, "1")
    client.change({"b": None, "c": 3})
    source.process.kill()
    source.wait()
    source = bench.start("source", SOURCE, **how).ready()
    reader(bench, "copy").ready()
    client.sees("copy", {"a": 1, "c": 3}, "1")
    assert client.change({"d": 4})["book"] == {"a": 1, "c": 3, "d": 4}
    client.sees("copy", {"a": 1, "c": 3, "d": 4}, "1")
    assert source.stop() == 0
    # Another model: what does not fit it any more is left out, and said.
    code = SOURCE.replace("{str: int}", "{str: str}").replace("{key: value}", "{key: str(value)}")
    source = bench.start("source", code.replace('{"ask": Decimal}', '{"bid": Decimal}', 1), **how)
    source.ready()
    assert client.change({"d": 4})["book"] == {"d": "4"}
    assert "cannot use all that was kept of 'book': 'a': expected str, got int 1" in source.stderr
    assert "Cannot use what was kept of the state 'price'" in source.stderr
    if store == "sqlite":
        file = bench.path / "data" / "source.sqlite"
        assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("unix:///nowhere/redis.sock", "cannot keep the state 'price' in Redis: "),
        ("redis://127.0.0.1:1/0", "cannot keep the state 'price' in Redis: "),
        (
            "oracle://user:secret@host",
            "cannot keep the state 'price': expected 'sqlite', redis://",
        ),
        ("redis://:${settings.PASSWORD}@127.0.0.1", "the setting 'PASSWORD' is not in the env"),
    ],
)
def test_a_store_that_cannot_be_had_is_explained(bench: Bench, where: str, said: str) -> None:
    code = """
    state_models = {"out": {"price": {"state_type": "full_update_out"}}}
    """
    out = {"price": {"publisher": bench.address("price"), "persist": where}}
    source = bench.start("source", code, states={"out": out})
    assert source.wait() == 1
    assert said in source.stderr
    assert "Traceback" not in source.stderr
    assert "secret" not in source.stderr


def test_a_change_that_cannot_be_kept_is_not_made(
    bench: Bench, client: Client, redis: str
) -> None:
    code = SOURCE.replace(
        '            to_send("state", "book", {key: value})',
        """            try:
                to_send("state", "book", {key: value})
            except Exception as error:
                print(type(error).__name__, error)""",
    )
    states = {"out": {
        "price": {"publisher": bench.address("price.data")},
        "book": {
            "publisher": bench.address("book.data"),
            "replyer": bench.address("book.all"),
            "persist": redis,
        },
    }}  # fmt: skip
    source = bench.start("source", code, states=states).ready()
    client.change({"a": 1})
    with Redis.from_url(redis) as other:
        other.shutdown(nosave=True)
    assert client.change({"b": 2})["book"] == {"a": 1}
    assert "SendError cannot keep the state 'book' in Redis" in source.stdout


def test_a_state_costs_nothing_while_nothing_happens(bench: Bench, client: Client) -> None:
    bench.start("source", SOURCE).ready()
    copy = reader(bench, "copy").ready()
    client.change({"a": 1}, "1")
    client.sees("copy", {"a": 1}, "1")
    before = copy.cpu_ns()
    client.ask("copy", {})
    assert copy.cpu_ns() - before < 50_000_000


@pytest.mark.parametrize(("kind", "model"), [("full", "object"), ("delta", "{str: object}")])
def test_what_cannot_be_sent_changes_nothing(bench: Bench, kind: str, model: str) -> None:
    owner = bench.start(
        "owner",
        f"""
    from orchestrator.component import SendError

    state_models = {{"out": {{"book": {{
        "state_type": "{kind}_update_out", "required_arguments": {model},
    }}}}}}

    def main(to_send, states, config):
        deep = []
        for _ in range(300):
            deep = [deep]
        to_send("state", "book", {{"a": 1}})
        for wrong in (deep, object(), 2**70):
            try:
                to_send("state", "book", {{"a": wrong}})
            except SendError as error:
                print(error)
        print(states["book"])
    """,
        main=True,
    )
    assert owner.wait() == 0, owner.stderr
    lines = owner.stdout.splitlines()
    assert [line.startswith("cannot send the state 'book'") for line in lines[:3]] == [True] * 3
    assert lines[3] == "{'a': 1}"
