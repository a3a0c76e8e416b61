"""A component's life: start with clear errors, work in turn, idle for nothing, stop in order."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path

import msgpack
import pytest
import zmq

from tests.integration.component.conftest import Bench, Component, eventually

REPLYER = """
    import sys

    def on_go(args, to_send, states, config):
        print("got", args.get("n"), flush=True)
        return {}

    connection_models = {"in": {"go": {
        "connection_type": "replyer",
        "required_creation_arguments": {"on_go": on_go},
        "optional_arguments": {"n": int},
    }}}
"""


def ask(bench: Bench, count: int = 1, **args: object) -> list[object]:
    with zmq.Context() as context, context.socket(zmq.DEALER) as peer:
        peer.set(zmq.LINGER, 0)
        peer.set(zmq.RCVTIMEO, 10_000)
        peer.connect(bench.address("go"))
        for _ in range(count):
            peer.send_multipart([b"", msgpack.packb({"args": args, "workflow_id": "w"})])
        return [msgpack.unpackb(peer.recv_multipart()[1]) for _ in range(count)]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# --- Idle and stop


@pytest.mark.parametrize("asynchronous", [False, True])
def test_an_idle_component_uses_no_cpu(bench: Bench, *, asynchronous: bool) -> None:
    code = REPLYER.replace("def on_go", "async def on_go") if asynchronous else REPLYER
    component = bench.start("idle", code).ready()
    ask(bench, 10)
    before = eventually(lambda: _settled(component))
    # Half a second in which nothing comes.
    select.select([], [], [], 0.5)
    assert component.cpu_ns() - before < 2_000_000
    assert len(ask(bench)) == 1


def _settled(component: Component) -> int:
    first = component.cpu_ns()
    select.select([], [], [], 0.05)
    return first if component.cpu_ns() == first else 0


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_signal_finishes_the_message_in_hand_and_calls_the_hook(
    bench: Bench, signum: int, *, asynchronous: bool
) -> None:
    wait = "await asyncio.sleep(0.3)" if asynchronous else "time.sleep(0.3)"
    component = bench.start(
        "engine",
        f"""
    import asyncio, time

    {"async " if asynchronous else ""}def on_go(args, to_send, states, config):
        print("begun")
        {wait}
        print("finished")
        return {{}}

    def sigint_handler(sigint, frame, to_send, states, config):
        print("hook", int(sigint), config)

    connection_models = {{"in": {{"go": {{
        "connection_type": "replyer", "required_creation_arguments": {{"on_go": on_go}},
    }}}}}}
    """,
        config={"a": 1},
    ).ready()
    with zmq.Context() as context, context.socket(zmq.REQ) as peer:
        peer.set(zmq.LINGER, 0)
        peer.connect(bench.address("go"))
        peer.send(msgpack.packb({"args": {}}))
        component.printed("begun")
        assert component.stop(signum) == 0
        # The reply has left before the end.
        assert peer.poll(10_000)
    assert component.stdout.splitlines() == ["begun", "finished", f"hook {signum} {{'a': 1}}"]
    assert f"Stopping on {signal.Signals(signum).name}" in component.stderr


def test_sigterm_prefers_its_own_hook(bench: Bench) -> None:
    component = bench.start(
        "engine",
        REPLYER
        + """
    def sigint_handler():
        print("int")

    def sigterm_handler():
        print("term")
        raise RuntimeError("in the hook")
    """,
    ).ready()
    assert component.stop() == 0
    assert component.stdout == "term\n"
    assert "RuntimeError: in the hook" in component.stderr


def test_a_stop_waits_for_no_publisher_that_has_gone(bench: Bench) -> None:
    code = """
        from orchestrator.component import runtime

        runtime.LINGER_AFTER_STOP = 60.0

        def on_news(args, to_send, states, config):
            pass

        connection_models = {"in": {"news": {
            "connection_type": "subscriber",
            "required_creation_arguments": {"on_news": on_news},
        }}}
    """
    component = bench.start("reader", code).ready()
    # What a subscriber tells its publisher is nothing that may linger after it.
    assert component.stop() == 0


def test_its_end_is_told_to_the_supervisor(bench: Bench) -> None:
    component = bench.start("engine", REPLYER).ready()
    assert component.stop() == 0
    assert component._notify.recv(100) == b"STOPPING=1"


def test_a_handler_may_end_the_component(bench: Bench) -> None:
    component = bench.start("engine", REPLYER.replace("return {}", "sys.exit(7)")).ready()
    with zmq.Context() as context, context.socket(zmq.REQ) as peer:
        peer.set(zmq.LINGER, 0)
        peer.connect(bench.address("go"))
        peer.send(msgpack.packb({"args": {}}))
        assert component.wait() == 7


# --- Async functions


def test_async_functions_run_in_turn_and_send_concurrently(bench: Bench) -> None:
    bench.start(
        "worker",
        """
    def on_work(args, to_send, states, config):
        return {"n": args["n"] * 2}

    connection_models = {"in": {"work": {
        "connection_type": "replyer", "required_creation_arguments": {"on_work": on_work},
        "required_arguments": {"n": int}, "required_return_arguments": {"n": int},
    }}}
    """,
    ).ready()
    component = bench.start(
        "engine",
        """
    import asyncio
    running = 0

    async def on_go(args, to_send, states, config):
        global running
        running += 1
        assert running == 1
        asked = [to_send("connection", "work", {"n": n}) for n in range(20)]
        replies = await asyncio.gather(*asked)
        await to_send("ticks", {"n": args["n"]})
        running -= 1
        if args["n"] == 5:
            raise ValueError("five")
        return {"sum": sum(reply["n"] for reply in replies)}

    def on_plain(args, to_send, states, config):
        assert running == 0
        return to_send("work", {"n": 4})

    connection_models = {
        "in": {
            "go": {
                "connection_type": "replyer", "required_creation_arguments": {"on_go": on_go},
                "required_arguments": {"n": int}, "required_return_arguments": {"sum": int},
            },
            "plain": {
                "connection_type": "replyer",
                "required_creation_arguments": {"on_plain": on_plain},
                "required_return_arguments": {"n": int},
            },
        },
        "out": {
            "work": {
                "connection_type": "requester", "required_arguments": {"n": int},
                "required_return_arguments": {"n": int},
            },
            "ticks": {"connection_type": "publisher", "required_arguments": {"n": int}},
        },
    }
    """,
    ).ready()
    with zmq.Context() as context, context.socket(zmq.REQ) as plain:
        plain.set(zmq.LINGER, 0)
        plain.connect(bench.address("plain"))
        plain.send(msgpack.packb({"args": {}}))
        replies = ask(bench, 30, n=1)
        assert replies == [{"return_args": {"sum": 380}, "workflow_id": "w"}] * 30
        assert plain.poll(10_000)
        assert msgpack.unpackb(plain.recv())["return_args"] == {"n": 8}
    failed = ask(bench, n=5)[0]
    assert isinstance(failed, dict)
    assert failed["error"] == {"kind": "handler", "type": "ValueError", "message": "five"}
    assert component.stop() == 0


# --- Mode main


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        ("print('done')", 0, "done"),
        ("raise KeyError('lost')", 1, "KeyError: 'lost'"),
        ("import sys; sys.exit(4)", 4, ""),
    ],
)
def test_main_ends_as_its_function_ends(
    bench: Bench, body: str, code: int, said: str, *, asynchronous: bool
) -> None:
    prefix = "async " if asynchronous else ""
    component = bench.start("main", f"{prefix}def main(to_send, config):\n    {body}\n", main=True)
    assert component.wait() == code
    assert said in component.stdout + component.stderr
    if code == 1:
        assert "main_handler.py" in component.stderr
        assert "ExceptionGroup" not in component.stderr


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_signal_ends_main_after_the_hook(bench: Bench, *, asynchronous: bool) -> None:
    component = bench.start(
        "main",
        f"""
    import asyncio, time

    {"async " if asynchronous else ""}def main(to_send, config):
        try:
            print("begun", flush=True)
            while True:
                {"await asyncio" if asynchronous else "time"}.sleep(30)
        finally:
            print("finally")

    def sigint_handler(sigint, frame, to_send, states, config):
        print("hook")
    """,
        main=True,
    )
    component.printed("begun")
    assert component.stop() == 0
    assert sorted(component.stdout.split()) == ["begun", "finally", "hook"]


# --- Starting


def test_what_is_printed_is_in_the_file_at_once(bench: Bench) -> None:
    component = bench.start("engine", REPLYER.replace(", flush=True", "")).ready()
    ask(bench, n=3)
    component.printed("got 3\n")
    assert component.stop() == 0


def test_hooks_run_before_the_component_is_ready(bench: Bench) -> None:
    component = bench.start(
        "engine",
        REPLYER.replace('{"n": int}', "{}").replace('args.get("n")', "config")
        + """
    def setup_config(config):
        return {"b": 2}

    def setup_addresses(addresses, config):
        addresses["connections"]["in"]["go"]["replyer"] = config["address"]
        return addresses

    def setup_connection_models(models, config):
        del models["in"]["gone"]
        return models

    def init_function(to_send, states, config):
        print("init", config["b"])

    connection_models["in"]["gone"] = {"connection_type": "subscriber"}
    """,
        addresses={"in": {"go": {"replyer": "not an address"}}},
        config={"a": 1, "address": bench.address("go")},
    ).ready()
    assert component.stdout == "init 2\n"
    ask(bench)
    component.printed("'b': 2")
    assert component.stop() == 0


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("x = (", "{path}:1: cannot load the handler: SyntaxError: '(' was never closed"),
        ("config_model = {'required': {'a': int}}", "configuration: 'a' is missing: expected int"),
        (
            "state_models = {'in': {'book': {'state_type': 'full_updates'}}}",
            "{path}:1: state_models['in']['book']['state_type']: 'full_updates' is no state type",
        ),
        (
            "connection_models = {'out': {'go': {'connection_type': 'requester'}}}",
            "addresses: connections.out.go.requester: is missing; the connection is declared but",
        ),
        (
            "def init_function():\n    1 / 0",
            "init_function: init_function() must take 1 or 2 or 3 arguments",
        ),
        (
            "def init_function(to_send):\n    1 / 0",
            "init_function failed: {path}:2: ZeroDivisionError: division by zero",
        ),
        (
            "def main(to_send, config):\n    pass",
            "nothing reaches it, and its main function is only called in mode main",
        ),
    ],
)
def test_what_cannot_start_says_why_in_one_line(bench: Bench, code: str, said: str) -> None:
    component = bench.start("bad", code, addresses={})
    assert component.wait() == 1
    path = bench.path / "bad_handler.py"
    lines = component.stderr.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("orch: cannot start test.bad: ")
    assert said.format(path=path) in lines[0]


def test_mode_main_refuses_inbound_connections_and_wants_a_function(bench: Bench) -> None:
    component = bench.start("bad", REPLYER, main=True)
    assert component.wait() == 1
    first, *rest = component.stderr.splitlines()
    assert first == "orch: cannot start test.bad: 2 mistakes"
    assert "mode main needs a function main(to_send, config)" in rest[0]
    assert (
        "bad_handler.py:8: connection_models['in']['go']: mode main allows no inbound" in rest[1]
    )


@pytest.mark.parametrize("kind", ["tcp", "ipc"])
def test_an_address_in_use_is_named(bench: Bench, kind: str) -> None:
    port = free_port()
    address = f"tcp://127.0.0.1:{port}" if kind == "tcp" else bench.address("go")
    with zmq.Context() as context, context.socket(zmq.REP) as owner:
        owner.bind(address)
        component = bench.start("second", REPLYER, addresses={"in": {"go": address}})
        assert component.wait() == 1
        assert component.stderr == (
            f"orch: cannot start test.second: cannot bind 'go' to {address}: "
            "the address is in use; stop what uses it, or give this connection another address\n"
        )


def test_an_address_that_becomes_free_in_time_is_taken(bench: Bench) -> None:
    address = f"tcp://127.0.0.1:{free_port()}"
    with zmq.Context() as context:
        owner = context.socket(zmq.REP)
        owner.bind(address)
        component = bench.start(
            "second",
            'print("loaded")\n' + REPLYER.replace("\n    ", "\n"),
            addresses={"in": {"go": address}},
        )
        component.printed("loaded")
        owner.close(linger=0)
        component.ready()
    assert component.stop() == 0


def test_a_socket_file_that_nobody_serves_is_taken_over(bench: Bench) -> None:
    path = bench.address("go").removeprefix("ipc://")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(path)
    component = bench.start("engine", REPLYER).ready()
    assert len(ask(bench)) == 1
    assert component.stop() == 0


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("203.0.113.7:8001", "this machine has no address '203.0.113.7'"),
        ("no-such-host.invalid:8001", "this machine has no address 'no-such-host.invalid'"),
        ("ipc:///nowhere/at/all", "the directory of the socket does not exist"),
    ],
)
def test_an_address_that_cannot_be_had_is_explained(bench: Bench, address: str, said: str) -> None:
    component = bench.start("bad", REPLYER, addresses={"in": {"go": address}})
    assert component.wait() == 1
    assert said in component.stderr


def test_only_the_host_that_is_named_is_bound(bench: Bench) -> None:
    port = free_port()
    component = bench.start(
        "engine", REPLYER, addresses={"in": {"go": f"localhost:{port}"}}
    ).ready()
    listening = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
    bound = [
        line.split()[1]
        for line in listening.splitlines()
        if line.split()[1].endswith(f":{port:04X}")
    ]
    assert bound == [f"0100007F:{port:04X}"]
    assert component.stop() == 0


def test_a_broken_directory_is_explained(tmp_path: Path) -> None:
    def run() -> str:
        command = [sys.executable, "-m", "orchestrator.component", str(tmp_path)]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
            cwd=Path(__file__).parents[3],
        )
        assert done.returncode == 1
        return done.stderr

    assert "__info__.json: No such file or directory" in run()
    (tmp_path / "__info__.json").write_text(json.dumps({"format": 9}))
    assert "its format is 9, this version reads 1; build it again" in run()
    (tmp_path / "__info__.json").write_text(json.dumps({"format": 1, "name": "x"}))
    assert "__info__.json has no handler" in run()


# --- orch run, inspect


def test_a_file_is_run_with_the_flags_of_the_command_line(bench: Bench) -> None:
    handler = bench.path / "solo.py"
    handler.write_text(
        "config_model = {'required': {'a': int, 'b': int}}\n"
        "connection_models = {'out': {'go': {'connection_type': 'publisher'}}}\n"
        "def main(to_send, config):\n    to_send('go', {})\n    print(config)\n"
    )
    (bench.path / "a.json").write_text(
        json.dumps({"connections": {"out": {"go": bench.address("go")}}})
    )
    (bench.path / "c.json").write_text('{"required": {"a": 1}}')
    code = (
        "import sys; from pathlib import Path; from orchestrator.component import runtime\n"
        "sys.exit(runtime.run_file(Path('solo.py'), addresses=Path('a.json'),"
        " config=Path('c.json'),"
        " main_mode=True, log_level='debug', extra={'b': '2'}))"
    )
    done = subprocess.run(
        [sys.executable, "-u", "-c", code],
        cwd=bench.path,
        env={"PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "{'a': 1, 'b': 2}\n", "")


def test_inspection_answers_line_by_line_whatever_user_code_prints(tmp_path: Path) -> None:
    good = tmp_path / "good.py"
    good.write_text(
        "import os, sys\nprint('noise')\nos.write(1, b'more noise')\n"
        "assert sys.stdin.read() == ''\n"
        "from decimal import Decimal\n"
        "def on_go(args):\n    pass\n"
        "def main(to_send, config):\n    pass\n"
        "config_model = {'required': {'n': int}}\n"
        "connection_models = {'in': {'go': {'connection_type': 'replyer',\n"
        "  'required_creation_arguments': {'on_go': on_go},"
        " 'required_arguments': {'p': Decimal}}}}\n"
        "state_models = {'in': {'book': {'state_type': 'local_variable_delta_update',\n"
        "  'required_arguments': {'asks': {Decimal: Decimal}}}}}\n"
    )
    bad = tmp_path / "bad.py"
    bad.write_text("import os\n1 / 0\n")
    requests = [
        {"name": path.stem, "handler": str(path), "python_path": [], "mode": "service"}
        for path in (good, bad)
    ]
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator.component.inspect"],
        input="".join(json.dumps(request) + "\n" for request in requests),
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    first, second = map(json.loads, done.stdout.splitlines())
    assert first == {
        "config_model": True,
        "setup_config": False,
        "takes_settings": False,
        "name": "good",
        "file": str(good),
        "main": True,
        "config": {"required": {"n": "int"}, "optional": {}},
        "connections": {
            "in": {
                "go": {
                    "type": "replyer",
                    "sockets": ["replyer"],
                    "binds": ["replyer"],
                    "connects": [],
                    "topic": None,
                    "required": {"p": "Decimal"},
                    "optional": {},
                    "returns": {"required": {}, "optional": {}},
                    "function": "on_go",
                    "is_async": False,
                    "line": 11,
                    "lines": {
                        "creation_arguments.on_go": 12,
                        "arguments.p": 12,
                    },
                }
            },
            "out": {},
        },
        "states": {
            "in": {
                "book": {
                    "type": "delta_update_in",
                    "sockets": ["subscriber", "requester"],
                    "binds": [],
                    "connects": ["subscriber", "requester"],
                    "topic": None,
                    "required": {"asks": {"dict": ["Decimal", "Decimal"]}},
                    "optional": {},
                    "returns": {"required": {}, "optional": {}},
                    "function": None,
                    "line": 13,
                    "lines": {"arguments.asks": 14},
                }
            },
            "out": {},
        },
        "error": None,
    }
    assert second["name"] == "bad"
    assert second["error"] == {
        "file": str(bad),
        "line": 2,
        "message": "cannot load the handler: ZeroDivisionError: division by zero",
    }
    assert "noise" in done.stderr


@pytest.mark.parametrize(
    "module", ["orchestrator.component.runtime", "orchestrator.component.inspect"]
)
def test_little_is_imported(module: str) -> None:
    code = f"import {module}, sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[3],
        # Measuring coverage would import what is looked for here.
        env={name: value for name, value in os.environ.items() if "COV" not in name},
        capture_output=True,
        text=True,
        check=True,
    )
    heavy = {
        "asyncio",
        "ruamel",
        "jsonschema",
        "typer",
        "psutil",
        "pydantic",
        "subprocess",
        "multiprocessing",
    }
    heavy |= {"zmq"} if module.endswith("inspect") else set()
    assert not heavy & set(done.stdout.split())


def test_what_an_async_main_ends_with_is_how_it_ends(bench: Bench) -> None:
    code = """
    import asyncio, sys

    async def main(to_send, config):
        if config["n"] == 1:
            sys.exit(7)
        poller = asyncio.create_task(asyncio.sleep(60))
        poller.cancel()
        await poller
    """
    left = bench.start("left", code, main=True, config={"n": 1})
    assert left.wait() == 7
    assert not left.stderr
    cancelled = bench.start("cancelled", code, main=True, config={"n": 2})
    assert cancelled.wait() == 1
    assert "what the main function awaited was cancelled" in cancelled.stderr
    assert re.search(r'cancelled_handler.py", line \d+, in main', cancelled.stderr)
