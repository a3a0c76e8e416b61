"""`orch config`: values with their layers, for people and for programs; secrets are masked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config import schema
from tests.unit.cli.conftest import Orch

TOPOLOGY = """\
settings: {PORT: 80, KEY: {secret: true, required: true}}
config: {level: system, at: "${settings.PORT}"}
services:
  shop:
    config: {level: service}
    components:
      api: {command: sleep 1, config: {level: own, key: "Bearer ${settings.KEY}"}}
      other: {command: sleep 1}
"""


@pytest.fixture(autouse=True)
def shop(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (world / "topology.yaml").write_text(TOPOLOGY)
    monkeypatch.setenv("ORCH_SETTING_KEY", "t0p")


def test_people_see_every_value_and_where_it_is_from(
    orch: Orch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert orch("config", "--set", "shop.api.level=here", "--set", "PORT=81") == 0
    assert capsys.readouterr().out.splitlines() == [
        "NAME        KEY    VALUE       LAYER        FROM",
        "settings    PORT   81          --set        --set PORT",
        "settings    KEY    ***         environment  ORCH_SETTING_KEY",
        "shop.api    at     81          system       topology.yaml:2",
        "shop.api    key    Bearer ***  component    topology.yaml:7",
        "shop.api    level  here        --set        --set shop.api.level",
        "shop.other  at     81          system       topology.yaml:2",
        "shop.other  level  service     service      topology.yaml:5",
    ]


def test_programs_see_what_was_overridden(orch: Orch, capsys: pytest.CaptureFixture[str]) -> None:
    assert orch("config", "shop.api", "--json") == 0
    shown: Any = json.loads(capsys.readouterr().out)
    assert "t0p" not in json.dumps(shown)
    assert shown["settings"] == []
    (api,) = shown["components"]
    rows = {row["key"]: row for row in api["values"]}
    assert (rows["level"]["layer"], rows["level"]["line"]) == ("component", 7)
    assert [one["layer"] for one in rows["level"]["overrides"]] == ["service", "system"]
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.validate(shown, json.loads(schema.text("output"))["$defs"]["config"])


def test_names_that_are_not_there_are_mistakes(
    orch: Orch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert orch("config", "shop.apy") == 1
    assert "unknown name 'shop.apy'; did you mean 'shop.api'" in capsys.readouterr().err
    assert orch("config", "--set", "shop.apy.level=1") == 2
    assert orch("config", "shop.api@2") == 1
    assert "unknown name 'shop.api@2'" in capsys.readouterr().err
    assert orch("config", "shop") == 0
    assert orch("config", "shop.api@1") == 0


def test_a_system_without_configuration_says_so(
    world: Path, orch: Orch, capsys: pytest.CaptureFixture[str]
) -> None:
    (world / "topology.yaml").write_text("services: {a: {command: sleep 1}}")
    assert orch("config") == 0
    captured = capsys.readouterr()
    assert (captured.out, "nothing is configured" in captured.err) == ("", True)


def test_a_service_class_has_what_its_store_holds(
    world: Path, orch: Orch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "services: {mail: {class: 'shop.mail:Mail', config: {host: here, port: 25}}}"
    (world / "topology.yaml").write_text(text)
    assert orch("config", "set", "mail", "host=there", "--no-refresh") == 0
    capsys.readouterr()
    assert orch("config", "mail", "--no-import") == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()[1:]] == [
        ["mail.mail", "host", "there", "store", "orch", "config", "set"],
        ["mail.mail", "port", "25", "component", "topology.yaml:1"],
    ]
