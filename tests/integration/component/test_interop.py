"""service_framework 0.0.3, as its author released it, and ours talk in both directions.

Both run a file that is nearly the same, so that whatever one side sends the other one receives.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import zmq

from orchestrator.wire import values
from tests.integration.component.conftest import Bench, eventually

# As the original wants it: these names of parameters, and `dict` where a None may be.
FILE = """
    from decimal import Decimal
    from uuid import UUID

    VALUES = {"price": Decimal, "tags": {str}, "id": UUID, "count": int}
    seen = []

    def on_look(args, to_send, states, config):
        return {"states": {name: dict(value) for name, value in states.items()},
                "seen": list(seen)}

    def on_do(args, to_send, states, config):
        return {"answer": to_send(args["kind"], args["name"], args["args"])}

    def on_ask(args, to_send, states, config):
        return {"price": args["price"] + 1, "tags": args["tags"] | {"answered"},
                "id": args["id"], "count": args["count"] + 1}

    def on_news(args, to_send, states, config):
        seen.append(args["count"])

    DELTA = {
        "required_state_arguments": {"current_num": int, "is_snapshot": bool},
        "required_arguments": {"state": dict},
        "optional_creation_arguments": {"topic": "books"},
    }

    connection_models = {
        "in": {
            "look": {
                "connection_type": "replyer",
                "required_creation_arguments": {"on_new_request": on_look},
                "required_return_arguments": {"states": dict, "seen": list},
            },
            "do": {
                "connection_type": "replyer",
                "required_creation_arguments": {"on_new_request": on_do},
                "required_arguments": {"kind": str, "name": str, "args": dict},
                "required_return_arguments": {"answer": dict},
            },
            "ask": {
                "connection_type": "replyer",
                "required_creation_arguments": {"on_new_request": on_ask},
                "required_arguments": VALUES,
                "required_return_arguments": VALUES,
            },
            "news": {
                "connection_type": "subscriber",
                "required_creation_arguments": {"on_new_message": on_news},
                "optional_creation_arguments": {"topic": "news"},
                "required_arguments": VALUES,
            },
        },
        "out": {
            "ask_other": {
                "connection_type": "requester",
                "required_arguments": VALUES,
                "required_return_arguments": VALUES,
            },
            "tell": {
                "connection_type": "publisher",
                "optional_creation_arguments": {"topic": "news"},
                "required_arguments": VALUES,
            },
            "tell_else": {
                "connection_type": "publisher",
                "optional_creation_arguments": {"topic": "newspaper"},
                "required_arguments": VALUES,
            },
        },
    }

    state_models = {
        "in": {
            "full": {"state_type": "full_update_in", "required_arguments": VALUES},
            "delta": {"state_type": "delta_update_in", **DELTA},
        },
        "out": {
            "my_full": {"state_type": "full_update_out", "required_arguments": VALUES},
            "my_delta": {"state_type": "delta_update_out", **DELTA},
        },
    }
"""

SOME = {
    "price": Decimal("1.10"),
    "tags": {"a", "b"},
    "id": UUID("12345678-1234-4234-8234-123456789abc"),
    "count": 1,
}


@dataclass
class Side:
    """One of the two, driven by requests of a raw peer."""

    ports: dict[str, str]
    context: zmq.Context[zmq.Socket[bytes]]

    def ask(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        with self.context.socket(zmq.REQ) as request:
            request.set(zmq.LINGER, 0)
            request.set(zmq.RCVTIMEO, 20_000)
            request.connect(f"tcp://{self.ports[name]}")
            request.send(values.encode({"args": arguments, "workflow_id": "w"}))
            answer = values.decode(request.recv())
        assert "error" not in answer, answer
        found = answer["return_args"]
        assert isinstance(found, dict)
        return found

    def do(self, kind: str, name: str, arguments: dict[str, Any]) -> Any:
        return self.ask("do", {"kind": kind, "name": name, "args": arguments})["answer"]

    def delta(self, number: int, state: dict[str, Any], *, whole: bool = False) -> None:
        update = {"current_num": number, "is_snapshot": whole, "state": state}
        self.do("state", "my_delta", update)

    def sees(self, state: str) -> Any:
        return self.ask("look", {})["states"][state]


@pytest.fixture
def sides(bench: Bench, request: pytest.FixtureRequest) -> Iterator[dict[str, Side]]:
    """Both sides; ours serves so many requests at once as the fixture's parameter says."""
    ours, theirs, context = _ports(), _ports(), zmq.Context()
    concurrency = getattr(request, "param", 1)
    code = FILE if concurrency == 1 else FILE.replace("def on_ask", "async def on_ask")
    bench.start("ours", code, **_wired(ours, theirs), concurrency=concurrency).ready()
    original = _original(bench.path, _wired(theirs, ours))
    try:
        found = {"ours": Side(ours, context), "theirs": Side(theirs, context)}
        found["theirs"].ask("look", {})
        yield found
        assert original.poll() is None, "it ends at whatever it does not understand"
        assert bench.started[-1].process.poll() is None
    finally:
        original.kill()
        original.wait()
        context.destroy(linger=0)


def _ports() -> dict[str, str]:
    names = ("look", "do", "ask", "tell", "tell_else", "my_full", "my_delta", "my_delta_all")
    with contextlib.ExitStack() as stack:
        found = {}
        for name in names:
            probe = stack.enter_context(socket.socket())
            probe.bind(("127.0.0.1", 0))
            found[name] = f"127.0.0.1:{probe.getsockname()[1]}"
    return found


def _wired(own: dict[str, str], other: dict[str, str]) -> dict[str, Any]:
    return {
        "addresses": {
            "in": {
                **{name: {"replyer": own[name]} for name in ("look", "do", "ask")},
                "news": {"subscriber": other["tell"]},
            },
            "out": {
                "ask_other": {"requester": other["ask"]},
                "tell": {"publisher": own["tell"]},
                "tell_else": {"publisher": own["tell_else"]},
            },
        },
        "states": {
            "in": {
                "full": {"subscriber": other["my_full"]},
                "delta": {"subscriber": other["my_delta"], "requester": other["my_delta_all"]},
            },
            "out": {
                "my_full": {"publisher": own["my_full"]},
                "my_delta": {"publisher": own["my_delta"], "replyer": own["my_delta_all"]},
            },
        },
    }


def _original(path: Path, tree: dict[str, Any]) -> subprocess.Popen[bytes]:
    (path / "theirs.py").write_text(textwrap.dedent(FILE))
    file = {"connections": tree["addresses"], "states": tree["states"]}
    (path / "theirs.json").write_text(json.dumps(file))
    argv = ["-m", "service_framework", "-s", "./theirs.py", "-a", "./theirs.json"]
    with (path / "theirs.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, *argv], cwd=path, stdout=log, stderr=log, env=dict(os.environ)
        )


BOTH = pytest.mark.parametrize(("sender", "receiver"), [("ours", "theirs"), ("theirs", "ours")])


@pytest.mark.parametrize("sides", [1, 8], indirect=True)
@BOTH
def test_requests_publications_and_states(
    sides: dict[str, Side], sender: str, receiver: str
) -> None:
    source, copy = sides[sender], sides[receiver]

    answer = source.do("connection", "ask_other", SOME)
    assert answer == {**SOME, "price": Decimal("2.10"), "tags": {"a", "b", "answered"}, "count": 2}

    def published() -> bool:
        # The first ones may be lost: a publisher of the original does not wait for anybody.
        source.do("connection", "tell_else", {**SOME, "count": 7})
        source.do("connection", "tell", {**SOME, "count": 5})
        return 5 in copy.ask("look", {})["seen"]

    eventually(published)
    assert set(copy.ask("look", {})["seen"]) == {5}, "topics match whole"

    eventually(lambda: source.do("state", "my_full", SOME) == {} and copy.sees("full") == SOME)
    source.do("state", "my_full", {**SOME, "count": 2})
    eventually(lambda: copy.sees("full")["count"] == 2)

    source.delta(1, {"a": Decimal(1), "b": {"x"}})
    eventually(lambda: copy.sees("delta") == {"a": Decimal(1), "b": {"x"}})
    source.delta(2, {"a": None, "c": SOME["id"]})
    eventually(lambda: copy.sees("delta") == {"b": {"x"}, "c": SOME["id"]})
    source.delta(9, {"d": 4})
    eventually(lambda: copy.sees("delta") == {"b": {"x"}, "c": SOME["id"], "d": 4})
    source.delta(10, {"only": 1}, whole=True)
    eventually(lambda: copy.sees("delta") == {"only": 1})


def test_the_original_follows_us_over_our_restart(bench: Bench, sides: dict[str, Side]) -> None:
    ours, theirs = sides["ours"], sides["theirs"]
    for number in range(5):
        ours.delta(number, {str(number): number})
    eventually(lambda: theirs.sees("delta") == {str(number): number for number in range(5)})
    bench.started[0].process.kill()
    bench.started[0].wait()
    bench.start("ours", FILE, **_wired(ours.ports, theirs.ports)).ready()

    def followed() -> bool:
        ours.delta(0, {"new": 1})
        return bool(theirs.sees("delta") == {"new": 1})

    eventually(followed)
