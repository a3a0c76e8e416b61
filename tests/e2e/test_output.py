"""What `--json` prints keeps its shapes: `schemas/output.schema.json` is what users script by."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from orchestrator import client
from orchestrator.config import schema
from tests.e2e.scenario import ORCH, Scenario, bad, exits, orch

OUTPUT: dict[str, Any] = json.loads(schema.text("output"))


def fits(value: Any, definition: str) -> None:
    """Check a value against a definition of the output schema."""
    jsonschema.Draft202012Validator({**OUTPUT, "$ref": f"#/$defs/{definition}"}).validate(value)


def test_the_schema_names_every_property_of_a_row() -> None:
    assert set(OUTPUT["$defs"]["instance"]["properties"]) == set(client.Row.__annotations__)


@pytest.mark.parametrize("definition", OUTPUT["$defs"])
def test_a_definition_refuses_what_is_something_else(definition: str) -> None:
    with pytest.raises(jsonschema.ValidationError):
        fits(17, definition)


REPLYER = """
def on_go(args, to_send, states, config):
    return {}

connection_models = {"in": {"go": {
    "connection_type": "replyer",
    "required_creation_arguments": {"on_go": on_go},
}}}
"""


def test_who_follows_ends_when_nobody_reads_any_more(scenario: Scenario) -> None:
    """Though nothing happens that could be written; as SIGPIPE ends a program."""
    scenario.write(REPLYER, "web.py")
    web = {"handler": "web.py", "connections": {"in": {"go": "go"}}}
    address = {"address": f"ipc://{scenario.root}/go.sock", "external": True}
    scenario.services(
        {"web": web, "talk": {"command": bad()}}, addresses={"go": address}, defaults={}
    )
    scenario.step("it comes up", orch("up", "-d", "--wait"), exits(0))
    scenario.until_logged("talk.talk")

    def left_by(reader: str, *argv: str) -> int:
        script = f"{{ {ORCH} {' '.join(argv)}; echo $? >code; }} | {reader}"
        exits(0)(scenario, scenario.start(command=["sh", "-c", script]).wait(15))
        return int((scenario.root / "code").read_text())

    sigpipe = 128 + 13
    for argv in (
        ["events"],
        ["events", "talk"],
        ["logs", "-f", "-n", "0"],
        ["tap", "web.web.go"],
        ["tap", "--rate", "web.web.go"],
    ):
        assert left_by("true", *argv) == sigpipe, argv
    for argv in (
        ["events", "--json"],
        ["logs", "-f", "talk"],
        ["top", "--interval", "1h"],
    ):
        assert left_by("head -1", *argv) == sigpipe, argv
    scenario.step("it goes down", orch("down"), exits(0))
    assert left_by("head -1", "logs", "-f", "talk") == sigpipe


def test_every_snapshot_and_stream_has_its_shape(scenario: Scenario, tmp_path: Path) -> None:
    scenario.services(
        {
            "web": {"command": ["sleep", "1000"], "replicas": 2},
            "talk": {"command": bad("--text", "hello")},
            "lame": {
                "command": bad("--exit-after", 0, "--exit-code", 3),
                "limit": {"failures": 1},
            },
            "late": {
                "command": ["sleep", "1000"],
                "depends_on": {"lame": {"condition": "completed_successfully"}},
            },
        }
    )
    fits(scenario.run("up", "--plan", "--json").json(), "plan")
    scenario.step("two fail", orch("up", "-d", "--wait"), exits(1))
    events = scenario.start("events", "--json")
    fits(scenario.run("up", "--plan", "--json").json(), "plan")
    fits(scenario.run("graph", "--json").json(), "graph")
    fits(scenario.run("doctor", "--json").json(), "doctor")
    rows = scenario.run("ps", "--json").json()
    fits(rows, "ps")
    assert [row["name"] for row in rows][:2] == ["web.web@1", "web.web@2"]
    assert [row["name"] for row in scenario.run("ps", "--json", "web").json()] == [
        "web.web@1",
        "web.web@2",
    ]
    fits(scenario.run("ps", "--json", "--all").json(), "ps")
    fits(scenario.run("status", "--json").json(), "status")
    for name in ("late", "lame", "web"):
        fits(scenario.run("explain", name, "--json").json(), "explain")
    scenario.run("restart", "web@1")
    scenario.run("scale", "web=1")
    for line in scenario.run("logs", "--json").out.splitlines():
        fits(json.loads(line), "log")
    scenario.step("one is waited for", orch("stop", "web"), exits(0))
    fits(scenario.run("wait", "web", "--for", "exit", "--json").json(), "ps")
    scenario.step("the end", orch("down"), exits(0))
    lines = [json.loads(line) for line in events.wait().out.splitlines()]
    assert {line["kind"] for line in lines} == {"snapshot", "instance", "removed", "system"}
    for line in lines:
        fits(line, "event")
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("version: 1\nservices: {web: {comand: x}}\n")
    fits(scenario.run("validate", "--json", str(wrong)).json(), "diagnostics")
