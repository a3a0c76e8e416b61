"""What `--json` prints keeps its shapes: `schemas/output.schema.json` is what users script by."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from orchestrator import client
from orchestrator.config import schema
from tests.e2e.scenario import Scenario, bad, exits, orch

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
