"""`concurrency`: several async functions of one component under way at once."""

from __future__ import annotations

import functools
import json
from typing import Any

import pytest

from tests.e2e.scenario import Scenario, exits, orch, says

pytestmark = pytest.mark.e2e

WEB = """
import asyncio
from pathlib import Path

VERSION = 0
HERE = {"under way": 0, "most": 0}


def on_load(previous):
    global HERE
    HERE = previous.HERE


async def on_ask(args):
    HERE["under way"] += 1
    HERE["most"] = max(HERE["most"], HERE["under way"])
    if HERE["under way"] == args["wait_for"]:
        Path("all").touch()
    while args["wait_for"] and not Path(args["file"]).exists():
        await asyncio.sleep(0.005)
    await asyncio.sleep(0)
    HERE["under way"] -= 1
    return {"version": VERSION, "n": args["n"], "most": HERE["most"]}


connection_models = {"in": {"ask": {
    "connection_type": "replyer",
    "required_creation_arguments": {"on_new_request": on_ask},
    "required_arguments": {"n": int, "wait_for": int, "file": str},
    "required_return_arguments": {"version": int, "n": int, "most": int},
}}}
"""

MODELS = """
import asyncio
import json

config_model = {"optional": {"file": str}}
connection_models = {"out": {"ask": {
    "connection_type": "requester",
    "optional_creation_arguments": {"timeout": 60},
    "required_arguments": {"n": int, "wait_for": int, "file": str},
    "required_return_arguments": {"version": int, "n": int, "most": int},
}}}
"""

ONCE = (
    MODELS
    + """
def main(to_send, config):
    number = int(__import__("os").environ["NUMBER"])
    reply = to_send("ask", {"n": number, "wait_for": 8, "file": config.get("file", "all")})
    with open("replies", "a") as replies:
        replies.write(json.dumps(reply) + "\\n")
"""
)

EIGHT = (
    MODELS
    + """
async def ask_on(to_send, who):
    n = 0
    with open(f"replies-{who}", "w", buffering=1) as replies:
        while True:
            n += 1
            reply = await to_send("ask", {"n": n, "wait_for": 0, "file": ""})
            print(json.dumps(reply), file=replies)


async def main(to_send, config):
    await asyncio.gather(*(ask_on(to_send, who) for who in range(8)))
"""
)


def system(scenario: Scenario, *, concurrency: int, **askers: Any) -> None:
    """Write a replyer that serves several at once, and those who ask it."""
    scenario.write(WEB, "web/__init__.py")
    asks = {"mode": "main", "connections": {"out": {"ask": "ask"}}, "restart": "never"}
    web = {
        "handler": "web",
        "connections": {"in": {"ask": "ask"}},
        "watch": False,
        "concurrency": concurrency,
        "stop": {"timeout": "30s"},
    }
    components = {"web": web, **{name: {**asks, **own} for name, own in askers.items()}}
    scenario.services({"shop": {"components": components}}, addresses={"ask": "auto"})


def replies(scenario: Scenario, name: str = "replies") -> list[dict[str, int]]:
    path = scenario.root / name
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def once(scenario: Scenario, **config: Any) -> dict[str, Any]:
    """Return eight components each of which asks once."""
    scenario.write(ONCE, "once.py")
    return {
        f"asker{n}": {"handler": "once.py", "config": config, "environment": {"NUMBER": str(n)}}
        for n in range(8)
    }


def test_eight_slow_requests_are_served_together(scenario: Scenario) -> None:
    """The file that each waits for is there when all eight are under way."""
    system(scenario, concurrency=8, **once(scenario))
    scenario.step("all come up", orch("up", "-d"), exits(0))
    scenario.until(lambda: len(replies(scenario)) == 8)
    assert sorted(reply["n"] for reply in replies(scenario)) == list(range(8))
    sample = scenario.run("top", "--once", "--json", "shop.web").json()[0]
    (end,) = sample["connections"]
    assert (end["messages"], end["in_flight"], end["errors"]) == (8, 0, 0)


def test_a_stop_lets_what_is_under_way_end(scenario: Scenario) -> None:
    system(scenario, concurrency=8, **once(scenario, file="go-on"))
    scenario.step("all come up", orch("up", "-d"), exits(0))
    scenario.until((scenario.root / "all").exists)
    sample = scenario.run("top", "--once", "--json", "shop.web").json()[0]
    assert sample["connections"][0]["in_flight"] == 8
    stop = scenario.start("stop", "shop.web")
    scenario.until_row("shop.web", phase="stopping")
    (scenario.root / "go-on").touch()
    assert stop.wait().code == 0
    scenario.until(lambda: len(replies(scenario)) == 8)
    assert sorted(reply["n"] for reply in replies(scenario)) == list(range(8))


def test_no_request_is_lost_while_code_is_exchanged_under_concurrent_load(
    scenario: Scenario,
) -> None:
    scenario.write(EIGHT, "eight.py")
    system(scenario, concurrency=8, asker={"handler": "eight.py"})
    scenario.step("both come up", orch("up", "-d", "--wait"), exits(0))
    before = scenario.row("shop.web")
    names = [f"replies-{who}" for who in range(8)]

    def all_have(version: int) -> bool:
        said = f'"version": {version},'
        return all(said in (scenario.root / name).read_text() for name in names)

    for version in range(1, 21):
        scenario.write(WEB.replace("VERSION = 0", f"VERSION = {version}"), "web/__init__.py")
        scenario.step(
            f"code {version} is taken on", orch("reload", "shop.web"), exits(0), says("in place")
        )
        scenario.until(functools.partial(all_have, version))
    scenario.step("the asker ends", orch("stop", "shop.asker"), exits(0))
    after = scenario.row("shop.web")
    assert (after["pid"], after["restarts"], after["code"]) == (before["pid"], 0, 21)
    for name in names:
        said = replies(scenario, name)
        assert [each["n"] for each in said] == list(range(1, len(said) + 1))
        versions = [each["version"] for each in said]
        assert versions == sorted(versions)
    assert replies(scenario, names[0])[-1]["most"] == 8
    assert not scenario.log("shop.asker", "err").count(b"Error")
    assert b"still in use" not in scenario.log("shop.web", "err")
