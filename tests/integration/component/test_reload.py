"""Hot reload of living components: messages, hooks, failures, fallbacks, and nothing left over."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zmq

from orchestrator import client
from orchestrator.client import Row
from orchestrator.model import names
from tests.integration.component.conftest import Bench, Component
from tests.integration.component.test_life import ask

VERSION = """
    VERSION = 1
    started = []

    def on_go(args, to_send, states, config):
        return {"version": VERSION, "started": len(started)}

    def init_function(to_send):
        started.append(VERSION)

    connection_models = {"in": {"go": {
        "connection_type": "replyer",
        "required_creation_arguments": {"on_new_request": on_go},
        "optional_arguments": {"n": int},
        "required_return_arguments": {"version": int, "started": int},
    }}}
"""
ASYNC = VERSION.replace("def on_go", "async def on_go")
LATER = "VERSION = 1", "VERSION = 2"


class Living:
    """A component whose file is rewritten and which is asked to reload."""

    def __init__(self, bench: Bench, name: str, code: str, **more: Any) -> None:
        self.bench = bench
        self.file = bench.path / f"{name}_handler.py"
        path = names.link_path(str(bench.path), f"test-{name}")
        environment = {"ORCH_CONTROL": path, **more.pop("environment", {})}
        self.code = textwrap.dedent(code)
        self.component: Component = bench.start(
            name, code, environment=environment, **more
        ).ready()
        self.row: Row = {  # type: ignore[typeddict-item]  # what a connection needs of it
            "name": f"test.{name}",
            "service": "test",
            "component": name,
            "instance": 1,
            "phase": "running",
            "pid": self.component.process.pid,
        }
        self.link = client.connect_component(bench.path, self.row)

    def edit(self, old: str, new: str) -> None:
        assert old in self.code, old
        self.code = self.code.replace(old, new)
        self.file.write_text(self.code)

    def reload(self) -> dict[str, Any]:
        return self.link.request("reload", timeout=20)

    def version(self) -> int:
        reply: Any = ask(self.bench)[0]
        return int(reply["return_args"]["version"])


Start = Callable[..., Living]


@pytest.fixture
def living(bench: Bench) -> Iterator[Start]:
    started: list[Living] = []

    def start(code: str = VERSION, name: str = "web", **more: Any) -> Living:
        started.append(Living(bench, name, code, **more))
        return started[-1]

    yield start
    for each in started:
        each.link.close()


@pytest.mark.parametrize("code", [VERSION, ASYNC])
@pytest.mark.parametrize("bytecode", [{}, {"PYTHONDONTWRITEBYTECODE": ""}])
def test_new_code_serves_in_the_same_process(
    living: Start, code: str, bytecode: dict[str, str]
) -> None:
    web = living(code, environment=bytecode)
    assert web.version() == 1
    for version in range(2, 7):
        # Of the same size, within the same second.
        web.edit(f"VERSION = {version - 1}", f"VERSION = {version}")
        answer = web.reload()
        assert answer["outcome"] == "swapped", answer
        assert answer["generation"] == version
        assert web.version() == version
    assert web.component.process.poll() is None
    assert web.link.request("code")["held"] == 0


IN_HAND = """
    import asyncio, os

    VERSION = 1

    async def on_go(args, to_send, states, config):
        print("began", VERSION, flush=True)
        while args.get("n") and not os.path.exists("go-on"):
            await asyncio.sleep(0.01)
        return {"version": VERSION}

    connection_models = {"in": {"go": {
        "connection_type": "replyer",
        "required_creation_arguments": {"on_new_request": on_go},
        "optional_arguments": {"n": int},
        "required_return_arguments": {"version": int},
    }}}
"""


def test_the_message_in_hand_is_finished_by_the_code_that_began_it(living: Start) -> None:
    web = living(IN_HAND)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    with context, context.socket(zmq.DEALER) as peer:
        peer.set(zmq.LINGER, 0)
        peer.set(zmq.RCVTIMEO, 10_000)
        peer.connect(web.bench.address("go"))
        request = msgpack.packb({"args": {"n": 1}, "workflow_id": "w"})
        peer.send_multipart([b"", request])
        web.component.printed("began 1")
        peer.send_multipart([b"", request])
        web.edit("VERSION = 1", "VERSION = 2")
        with ThreadPoolExecutor() as pool:
            answer = pool.submit(web.reload)
            (web.bench.path / "go-on").touch()
            assert answer.result()["outcome"] == "swapped"
        peer.send_multipart([b"", request])
        replies = [msgpack.unpackb(peer.recv_multipart()[1]) for _ in range(3)]
        first, waiting, later = (reply["return_args"]["version"] for reply in replies)
        # Who waits is served by either, as the request for the reload comes sooner or later.
        assert (first, later) == (1, 2)
        assert waiting in {1, 2}


@pytest.mark.parametrize("code", [VERSION, ASYNC])
@pytest.mark.parametrize("prefix", ["", "async "])
def test_hooks_hand_over_and_clean_up(living: Start, code: str, prefix: str) -> None:
    hooks = f"""
    {prefix}def on_load(previous, to_send, states, config):
        print("load", VERSION, "after", previous.VERSION, flush=True)
        started.extend(previous.started)

    {prefix}def on_unload():
        print("unload", VERSION, flush=True)
    """
    web = living(code + hooks)
    web.edit(*LATER)
    assert web.reload()["outcome"] == "swapped"
    assert web.component.stdout == "load 2 after 1\nunload 1\n"
    reply: Any = ask(web.bench)[0]
    assert reply["return_args"] == {"version": 2, "started": 2}


BROKEN = [
    ("VERSION = 1", "VERSION = = 1", r"web_handler\.py:2: .*SyntaxError"),
    ("VERSION = 1", "import no_such_thing", r"web_handler\.py:2: .*ModuleNotFoundError"),
    ("VERSION = 1", "import sys; sys.exit(3)", r"web_handler\.py:2: .*SystemExit"),
    (
        '"on_new_request": on_go',
        '"on_new_request": "on_gone"',
        r"web_handler\.py:\d+: .*cannot find 'on_gone'",
    ),
    ('"version": int', '"version": 5', r"web_handler\.py:\d+: .*describes no type"),
    ("started.append", "started.missing", r"init_function failed: .*web_handler\.py:9: "),
    ('"go": {', '"gone": {', r"gone.*is missing; the connection is declared but not wired"),
    ('"connection_type": "replyer"', '"connection_type": "nothing"', r"no connection type"),
]


@pytest.mark.parametrize(("old", "new", "said"), BROKEN)
def test_broken_code_leaves_the_old_serving_until_it_is_mended(
    living: Start, old: str, new: str, said: str
) -> None:
    web = living()
    web.edit(old, new)
    for _ in range(2):
        answer = web.reload()
        assert answer["outcome"] == "failed", answer
        assert re.search(said, answer["message"], re.DOTALL), answer["message"]
        assert web.link.request("code")["error"] == answer["message"]
        assert web.version() == 1
    web.edit(new, old)
    web.edit(*LATER)
    assert web.reload()["outcome"] == "swapped"
    assert web.version() == 2


@pytest.mark.parametrize("prefix", ["", "async "])
def test_a_hook_that_raises_before_the_exchange_prevents_it(living: Start, prefix: str) -> None:
    hook = (
        f"\n    {prefix}def on_load():\n        if VERSION > 1:\n            raise OSError('no')\n"
    )
    web = living(VERSION + hook)
    web.edit(*LATER)
    answer = web.reload()
    assert answer["outcome"] == "failed"
    assert re.search(r"on_load failed: .*web_handler\.py:\d+: OSError: no", answer["message"])
    assert web.version() == 1


@pytest.mark.parametrize("code", [VERSION, ASYNC])
def test_a_hook_that_awaits_what_it_has_cancelled_ends_nothing(living: Start, code: str) -> None:
    web = living(
        code
        + """
    import asyncio

    async def on_unload():
        poller = asyncio.create_task(asyncio.sleep(60))
        poller.cancel()
        await poller
    """
    )
    web.edit(*LATER)
    assert web.reload()["outcome"] == "swapped"
    web.component.printed("on_unload failed")
    assert web.version() == 2
    web.edit("async def on_unload", "async def on_load")
    failed = web.reload()
    assert failed["outcome"] == "failed"
    assert "on_load failed" in failed["message"]
    assert web.version() == 2


def test_one_that_raises_after_it_does_not(living: Start) -> None:
    web = living(VERSION + "\n    def on_unload():\n        raise OSError('no')\n")
    web.edit(*LATER)
    assert web.reload()["outcome"] == "swapped"
    assert web.version() == 2
    web.component.printed("on_unload failed")


THREAD = """import threading
threading.Thread(target=threading.Event().wait, name="poller", daemon=True).start()
VERSION = 2"""
FALLBACKS = [
    ("VERSION = 1", THREAD, "begins the thread 'poller'"),
    ("VERSION = 1", "import _ruamel_yaml", "_ruamel_yaml', which is new to it"),
    ("def on_go", "async def on_go", "the function of in.go is async now"),
    ("started = []", "config_model = {'optional': {'a': int}}", "config_model has changed"),
]


@pytest.mark.parametrize(("old", "new", "why"), FALLBACKS)
def test_code_that_cannot_be_exchanged_asks_for_a_new_process(
    living: Start, old: str, new: str, why: str
) -> None:
    web = living(VERSION.replace("started.append(VERSION)", "pass"))
    web.edit(old, new)
    answer = web.reload()
    assert answer["outcome"] == "restart", answer
    assert why in answer["message"]
    assert web.version() == 1


def test_a_thread_of_the_old_import_keeps_it_from_being_exchanged(living: Start) -> None:
    web = living(VERSION.replace("VERSION = 1", THREAD.replace("\n", "\n    ")))
    answer = web.reload()
    assert answer["outcome"] == "restart"
    assert "the thread 'poller'" in answer["message"]


@pytest.mark.parametrize("prefix", ["", "async "])
def test_main_is_not_exchanged_but_its_successor_is_compiled(living: Start, prefix: str) -> None:
    wait = "await asyncio.Event().wait()" if prefix else "threading.Event().wait()"
    code = f"import asyncio, threading\n{prefix}def main(to_send, config):\n    {wait}\n"
    job = living(code, main=True)
    answer = job.reload()
    assert answer["outcome"] == "restart"
    assert "main() runs" in answer["message"]
    job.edit("import asyncio", "import asyncio,")
    answer = job.reload()
    assert answer["outcome"] == "failed"
    assert "job_handler.py:1: " in answer["message"] or "web_handler.py:1: " in answer["message"]


def test_outputs_go_on_by_their_new_models(living: Start, bench: Bench) -> None:
    living(
        VERSION.replace('"go": {', '"ask": {').replace(
            '"on_new_request": on_go', '"on_new_request": on_go'
        )
    )
    relay = living(
        """
        NUMBER = 1

        def on_go(args, to_send, states, config):
            reply = to_send("ask", {"n": NUMBER})
            return {"version": reply["version"] * 10 + NUMBER}

        connection_models = {
            "in": {"go": {
                "connection_type": "replyer",
                "required_creation_arguments": {"on_new_request": on_go},
                "required_return_arguments": {"version": int},
            }},
            "out": {
                "ask": {
                    "connection_type": "requester",
                    "optional_arguments": {"n": int},
                    "required_return_arguments": {"version": int, "started": int},
                },
                "add": {
                    "connection_type": "external_request",
                    "required_creation_arguments": {"func_to_call": on_go},
                },
            },
        }
        """,
        name="relay",
    )
    assert relay.version() == 11
    relay.edit("NUMBER = 1", "NUMBER = '2'")
    relay.edit('{"n": int}', '{"n": str}')
    relay.edit("+ NUMBER", "+ int(NUMBER)")
    assert relay.reload()["outcome"] == "swapped"
    reply: Any = ask(bench)[0]
    # The peer still wants an int: what is sent now is what the new model allows.
    assert reply["error"]["type"] == "RemoteRefusal"
    assert "expected int, got str" in reply["error"]["message"]


def test_many_reloads_leave_nothing_behind(living: Start) -> None:
    web = living(VERSION.replace("started = []", "started = [bytes(100_000)]"))

    def facts() -> tuple[int, int, int]:
        process = Path(f"/proc/{web.component.process.pid}")
        status = process.joinpath("status").read_text()
        pages = int(re.search(r"VmRSS:\s+(\d+)", status)[1])  # type: ignore[index]
        return (
            pages,
            len(list((process / "fd").iterdir())),
            len(list((process / "task").iterdir())),
        )

    before = facts()
    for number in range(1, 201):
        web.edit(f"VERSION = {number}\n", f"VERSION = {number + 1}\n")
        assert web.reload()["generation"] == number + 1
        if number == 50:
            before = facts()
    after = facts()
    assert web.version() == 201
    assert web.link.request("code")["held"] <= 1
    assert after[1:] == before[1:]
    assert after[0] - before[0] < 3000, "kB more after 150 reloads of 100 kB each"
