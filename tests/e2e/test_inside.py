"""Seeing inside living handlers: their messages, counters and workflows."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.e2e.scenario import Scenario, exits, orch, says
from tests.e2e.test_output import fits

SERVER = """
    import threading
    from decimal import Decimal

    {async_}def ask(args, to_send, states, config):
        if args["price"] < 0:
            raise ValueError("too little")
        {await_}to_send("news", {{"price": args["price"]}})
        return {{"total": args["price"] * 2}}

    connection_models = {{
        "in": {{
            "ask": {{
                "connection_type": "replyer",
                "required_creation_arguments": {{"on_new_request": ask}},
                "required_arguments": {{"price": Decimal}},
                "required_return_arguments": {{"total": Decimal}},
            }}
        }},
        "out": {{
            "news": {{
                "connection_type": "publisher",
                "required_arguments": {{"price": Decimal}},
            }}
        }},
    }}
"""
LISTENER = """
    from decimal import Decimal
    from orchestrator.component import get_logger

    def hear(args, to_send, states, config):
        get_logger().warning("heard %s", args["price"])

    connection_models = {
        "in": {
            "news": {
                "connection_type": "subscriber",
                "required_creation_arguments": {"on_new_message": hear},
                "required_arguments": {"price": Decimal},
            }
        }
    }
"""
CLIENT = """
    import time
    from decimal import Decimal

    connection_models = {
        "out": {
            "ask": {
                "connection_type": "requester",
                "required_arguments": {"price": Decimal},
                "required_return_arguments": {"total": Decimal},
            }
        }
    }

    def main(to_send, config):
        while True:
            to_send("ask", {"price": Decimal("1.5")})
            time.sleep(0.01)
"""


@pytest.fixture(params=["plain", "async"])
def talking(scenario: Scenario, request: pytest.FixtureRequest) -> Scenario:
    """A server that is asked and tells, a listener, and nobody who asks."""
    words = {"async_": "", "await_": ""}
    if request.param == "async":
        words = {"async_": "async ", "await_": "await "}
    scenario.write(SERVER.format(**words), "server.py")
    scenario.write(LISTENER, "listener.py")
    scenario.write(CLIENT, "client.py")
    scenario.services(
        {
            "server": {
                "handler": "server.py",
                "connections": {"in": {"ask": "asks"}, "out": {"news": "news"}},
            },
            "listener": {"handler": "listener.py", "connections": {"in": {"news": "news"}}},
            "client": {
                "handler": "client.py",
                "mode": "main",
                "enabled": False,
                "connections": {"out": {"ask": "asks"}},
            },
            "other": {"command": ["sleep", "1000"]},
        },
        addresses={"asks": "auto", "news": "auto"},
    )
    scenario.step("it runs", orch("up", "-d", "--wait"), exits(0))
    return scenario


def connections(scenario: Scenario, name: str) -> dict[str, dict[str, Any]]:
    """Return the counters of an instance, asking until it is not too busy to tell."""
    found = scenario.until(lambda: scenario.row(name)["connections"])
    return {one["connection"]: one for one in found}


def test_a_call_is_handled_like_any_request(talking: Scenario) -> None:
    outcome = talking.step(
        "the reply is printed", orch("call", "server", "ask", '{"price": "2.25"}'), exits(0)
    )
    assert outcome.json() == {"total": "4.50"}
    talking.step(
        "arguments are checked against the model",
        orch("call", "server", "ask", '{"price": true, "prize": 1}'),
        exits(1),
        says("'price': expected Decimal, got bool True", "'prize' is not declared"),
    )
    talking.step(
        "an error of the function is told",
        orch("call", "server", "ask", '{"price": -1}'),
        exits(1),
        says("ValueError: too little"),
    )
    talking.step("a wrong name", orch("call", "server", "ast"), exits(1), says("replies to ask"))
    talking.step("no replyer", orch("call", "listener", "news"), exits(1), says("no requests"))
    talking.step("no JSON", orch("call", "server", "ask", "{price"), exits(2), says("JSON"))
    talking.step("no handler", orch("call", "other", "ask"), exits(1), says("other.other"))
    ask = connections(talking, "server.server")["ask"]
    assert (ask["messages"], ask["errors"]) == (2, 1)
    talking.until(lambda: connections(talking, "listener.listener")["news"]["messages"] == 1)


def test_a_workflow_is_followed_over_components(talking: Scenario) -> None:
    outcome = talking.step("one begins", orch("call", "server", "ask", '{"price": 1}'), exits(0))
    workflow = outcome.err.split()[-1]

    def hops() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = talking.run("trace", workflow, "--json").json()
        fits(found, "trace")
        return found if len(found) == 3 else []

    assert [(hop["name"], hop["connection"], hop["side"]) for hop in talking.until(hops)] == [
        ("server.server", "ask", "in"),
        ("server.server", "news", "out"),
        ("listener.listener", "news", "in"),
    ]
    talking.step("people read it", orch("trace", workflow), exits(0), says("← listener"))
    talking.step(
        "its id is in the log lines", orch("logs", "listener", "--grep", workflow), says("heard 1")
    )
    talking.step("an unknown one", orch("trace", "nothing"), exits(1), says("nobody remembers"))


def test_messages_are_tapped_as_they_come_and_go(talking: Scenario) -> None:
    taps = [
        talking.start("tap", "server.server.ask", "--json", "-n", "2"),
        talking.start("tap", "server.news", "server.ask", "-n", "6"),
        talking.start("tap", "listener.listener.news", "-n", "1"),
    ]

    def asked() -> bool:
        talking.run("call", "server", "ask", '{"price": 3}')
        return all(tap.process.poll() is not None for tap in taps)

    talking.until(asked)
    lines = [json.loads(line) for line in taps[0].wait().out.splitlines()]
    fits(lines[0], "tap")
    assert [(line["what"], line["args"]) for line in lines] == [
        ("request", {"price": "3"}),
        ("reply", {"total": "6"}),
    ]
    assert lines[0]["workflow_id"] == lines[1]["workflow_id"]
    assert {line.split()[3] for line in taps[1].wait().out.splitlines()} == {
        "request",
        "message",
        "reply",
    }
    assert '{"price": "3"}' in taps[2].wait().out
    talking.step("a wrong name", orch("tap", "server.server.asks"), exits(1), says("ask, news"))
    talking.step("no connection", orch("tap", "server"), exits(2), says("service.component"))


def test_a_main_that_never_pauses_is_seen_too(talking: Scenario) -> None:
    talking.write(talking.topology.read_text().replace('"enabled": false', '"enabled": true'))
    talking.step("it asks on and on", orch("up", "-d", "--wait"), exits(0))
    tap = talking.start("tap", "client.client.ask", "--json", "-n", "20")
    lines = [json.loads(line) for line in tap.wait().out.splitlines()]
    assert [line["what"] for line in lines] == ["request"] * 20
    ask = connections(talking, "client.client")["ask"]
    assert ask["messages"] >= 20
    assert ask["p99_ms"] >= ask["p50_ms"] > 0
    rates = talking.start("tap", "--rate", "--json", "server.server.ask")
    line = talking.until(lambda: rates.out.count("\n") and json.loads(rates.out.splitlines()[0]))
    assert line["rate"] > 0
    outcome = talking.step("a look at all", orch("top", "--once"), exits(0))
    assert "→ ask" in outcome.out
    assert "other.other" in outcome.out
    assert "MB" in outcome.out
    (sample,) = [
        json.loads(line) for line in talking.run("top", "--once", "--json").out.splitlines()
    ]
    fits(sample, "top")
    fits(talking.run("ps", "--json").json(), "ps")
    assert {one["name"] for one in sample} == {
        "server.server",
        "listener.listener",
        "client.client",
        "other.other",
    }


BOOK = """
    from decimal import Decimal

    {async_}def change(args, to_send, states, config):
        {await_}to_send("state", "book", {{args["key"]: args.get("price")}})
        {await_}to_send("last", {{"key": args["key"]}})

    connection_models = {{
        "in": {{
            "change": {{
                "connection_type": "replyer",
                "required_creation_arguments": {{"on_new_request": change}},
                "required_arguments": {{"key": str}},
                "optional_arguments": {{"price": Decimal}},
            }}
        }}
    }}
    state_models = {{
        "out": {{
            "book": {{"state_type": "delta_update_out", "required_arguments": {{str: Decimal}}}},
            "last": {{"state_type": "full_update_out", "required_arguments": {{"key": str}}}},
        }}
    }}
"""
READER = """
    from decimal import Decimal

    connection_models = {
        "out": {
            "change": {
                "connection_type": "requester",
                "required_arguments": {"key": str},
                "optional_arguments": {"price": Decimal},
            }
        }
    }
    state_models = {
        "in": {
            "book": {"state_type": "delta_update_in", "required_arguments": {str: Decimal}},
            "last": {"state_type": "full_update_in", "required_arguments": {"key": str}},
        }
    }
"""


@pytest.mark.parametrize("words", [("", ""), ("async ", "await ")], ids=["plain", "async"])
def test_states_are_seen_as_connections_are(scenario: Scenario, words: tuple[str, str]) -> None:
    scenario.write(BOOK.format(async_=words[0], await_=words[1]), "owner.py")
    scenario.write(READER, "reader.py")
    scenario.services(
        {
            "owner": {
                "handler": "owner.py",
                "connections": {"in": {"change": "change"}},
                "states": {"out": {"book": "book", "last": "last"}},
            },
            "reader": {
                "handler": "reader.py",
                "connections": {"out": {"change": "change"}},
                "states": {"in": {"book": "book", "last": "last"}},
            },
        },
        addresses={
            "change": "auto",
            "book": {"data": "auto", "snapshot": "auto"},
            "last": "auto",
        },
    )
    scenario.step("it runs", orch("up", "-d", "--wait"), exits(0))
    out = scenario.start("tap", "owner.book", "--json")
    copy = scenario.start("tap", "reader.book", "reader.last", "--json")

    def told(one: Any) -> list[dict[str, Any]]:
        return [json.loads(line) for line in one.out.splitlines() if line.endswith("}")]

    def changed() -> bool:
        """Whether a change, sent anew until all taps are open, came out of each."""
        scenario.run("call", "owner", "change", '{"key": "ü", "price": "1.5"}')
        ends = {one["state"] for one in told(copy) if one["args"]}
        return ends == {"book", "last"} and any(one["args"] for one in told(out))

    scenario.until(changed)
    line = next(one for one in told(copy) if one["state"] == "last")
    fits(line, "tap")
    assert (line["what"], line["type"], line["args"]) == (
        "update",
        "full_update_in",
        {"key": "ü"},
    )
    outcome = scenario.step(
        "a workflow", orch("call", "owner", "change", '{"key": "a"}'), exits(0)
    )
    workflow = outcome.err.split()[-1]

    def hops() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = scenario.run("trace", workflow, "--json").json()
        return found if len(found) == 5 else []

    found = scenario.until(hops)
    fits(found, "trace")
    # A copy may have one update before its owner sends the next.
    assert sorted((hop["name"], hop.get("state", "")) for hop in found) == [
        ("owner.owner", ""),
        ("owner.owner", "book"),
        ("owner.owner", "last"),
        ("reader.reader", "book"),
        ("reader.reader", "last"),
    ]

    def counted() -> bool:
        states = [scenario.row(name)["states"] for name in ("owner.owner", "reader.reader")]
        sent, taken = ({one["state"]: one for one in found or ()} for found in states)
        return sent.keys() == taken.keys() == {"book", "last"} and all(
            sent[state][what] >= taken[state][what] > 0
            for state in ("book", "last")
            for what in ("messages", "bytes")
        )

    scenario.until(counted)
    outcome = scenario.step("a look", orch("top", "--once"), exits(0))
    assert "→ book" in outcome.out
    assert "← last" in outcome.out
    fits(json.loads(scenario.run("top", "--once", "--json").out), "top")
    fits(scenario.run("ps", "--json").json(), "ps")
    scenario.step("a wrong name", orch("tap", "owner.bok"), exits(1), says("book, last"))
    scenario.step("with --rate too", orch("tap", "--rate", "owner.bok"), exits(1), says("book"))


def test_what_waits_is_counted(scenario: Scenario) -> None:
    slow = LISTENER.replace("get_logger()", "__import__('time').sleep(0.05) or get_logger()")
    scenario.write(slow, "listener.py")
    scenario.write(
        """
        connection_models = {
            "out": {
                "news": {
                    "connection_type": "publisher",
                    "required_creation_arguments": {"min_subscribers": 1},
                    "required_arguments": {"price": __import__("decimal").Decimal},
                }
            }
        }

        def main(to_send, config):
            import decimal, threading
            for number in range(150):
                to_send("news", {"price": decimal.Decimal(number)})
            threading.Event().wait()
        """,
        "teller.py",
    )
    scenario.services(
        {
            "listener": {"handler": "listener.py", "connections": {"in": {"news": "news"}}},
            "teller": {
                "handler": "teller.py",
                "mode": "main",
                "connections": {"out": {"news": "news"}},
            },
        },
        addresses={"news": "auto"},
    )
    scenario.step("it runs", orch("up", "-d", "--wait"), exits(0))

    def waiting() -> int:
        answers = scenario.row("listener.listener")["connections"]
        return int(answers[0]["waiting"]) if answers else 0

    assert 0 < scenario.until(waiting) < 150

    def all_heard() -> bytes:
        log = scenario.log("listener.listener", "err")
        return log if log.count(b"heard") == 150 else b""

    heard = scenario.until(all_heard, within=30)
    numbers = [int(line.split()[-1]) for line in heard.splitlines() if b"heard" in line]
    assert numbers == list(range(150))
    assert connections(scenario, "listener.listener")["news"]["messages"] == 150
