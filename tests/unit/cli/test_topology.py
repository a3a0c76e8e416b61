"""validate, build, explain, schema: the verbs that need no daemon."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from orchestrator.cli import topology
from tests.unit.cli.conftest import Orch

GOOD = "version: 1\nname: world\nservices:\n  web: {command: sleep 1000, config: {size: 1}}\n"
BAD = "version: 1\nname: world\nservices:\n  web: {command: sleep, restrat: always}\n"


@pytest.fixture(autouse=True)
def good(world: Path) -> Path:
    path = world / "topology.yaml"
    path.write_text(GOOD)
    return path


def test_a_good_topology_is_valid(orch: Orch, capsys: pytest.CaptureFixture[str]) -> None:
    assert orch("validate") == 0
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == "topology.yaml: valid\n"


def test_mistakes_of_all_files_are_data(
    orch: Orch, world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (world / "one.yaml").write_text(BAD)
    (world / "two.yaml").write_text(BAD)
    assert orch("validate", "one.yaml", "topology.yaml", "two.yaml") == 1
    text = capsys.readouterr().out
    assert "one.yaml:4:25: error ORC" in text
    assert "two.yaml:4:25: error ORC" in text
    assert "did you mean 'restart'?" in text
    assert "| " + " " * 24 + "^^^^^^^\n" in text


@pytest.mark.parametrize("argv", [["--format", "json"], ["--json"]])
def test_as_json_mistakes_are_one_array(
    argv: list[str], orch: Orch, world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (world / "one.yaml").write_text(BAD)
    assert orch("validate", "one.yaml", "topology.yaml", *argv) == 1
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["file"], found["line"], found["column"]) == ("one.yaml", 4, 25)
    assert found["severity"] == "error"
    assert orch("validate", *argv) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_warnings_are_mistakes_only_when_strict(
    orch: Orch, good: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good.write_text(GOOD.replace("config", "restart: no, config"))
    assert orch("validate") == 0
    assert "warning ORC" in capsys.readouterr().out
    assert orch("validate", "--strict") == 1
    assert capsys.readouterr().err == "orch: topology.yaml: 1 warning\n"
    good.write_text(GOOD.replace("config", "restart: no, nonsense: 1, config"))
    assert orch("validate") == 1
    assert capsys.readouterr().err == "orch: topology.yaml: 1 mistake, 1 warning\n"


def test_a_handler_is_imported_in_a_child_unless_told_not_to(
    orch: Orch, world: Path, good: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good.write_text("version: 1\nname: world\nservices:\n  web: {handler: web.py}\n")
    (world / "web.py").write_text("import sys\nprint('at import')\nraise RuntimeError('no')\n")
    assert orch("validate") == 1
    assert "RuntimeError" in capsys.readouterr().out
    assert orch("validate", "--no-import") == 0


def test_an_import_that_does_not_end_is_named(
    orch: Orch,
    world: Path,
    good: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(topology, "IMPORT_TIMEOUT", 2.0)
    good.write_text(
        "version: 1\nname: world\nservices:\n"
        "  quick: {handler: quick.py}\n  slow: {handler: slow.py}\n"
    )
    (world / "quick.py").write_text("")
    (world / "slow.py").write_text("import threading\nthreading.Event().wait()\n")
    assert orch("validate") == 1
    shown = capsys.readouterr().err
    assert "cannot read the models of slow.slow" in shown
    assert "slow.py does not end (2s); --no-import leaves" in shown


def test_build_writes_and_check_tells_what_is_stale(
    orch: Orch, world: Path, good: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert orch("build", "--check") == 1
    assert not (world / ".orch").exists()
    assert orch("build") == 0
    assert json.loads((world / ".orch/conf/web-web/config.json").read_text()) == {"size": 1}
    assert orch("build", "--check") == 0
    good.write_text(GOOD.replace("size: 1", "size: 2"))
    capsys.readouterr()
    assert orch("build", "--check", "--diff") == 1
    shown = capsys.readouterr()
    assert "config.json is changed" in shown.err
    assert '+  "size": 2' in shown.out.replace('+{"size":2}', '+  "size": 2')
    assert json.loads((world / ".orch/conf/web-web/config.json").read_text()) == {"size": 1}


def test_build_writes_elsewhere_when_told(orch: Orch, world: Path) -> None:
    assert orch("build", "-o", "out", "-q") == 0
    assert (world / "out/conf/web-web/config.json").is_file()
    assert not (world / ".orch").exists()


def test_settings_come_from_the_command_line(orch: Orch, world: Path, good: Path) -> None:
    good.write_text(
        GOOD.replace("services", "settings: {SIZE: 1}\nservices").replace(
            "size: 1", 'size: "${settings.SIZE}"'
        )
    )
    assert orch("build", "--set", "SIZE=7") == 0
    assert json.loads((world / ".orch/conf/web-web/config.json").read_text()) == {"size": 7}
    assert orch("build", "--set", "SIZZ=7") == 2


def test_a_code_is_explained(orch: Orch, capsys: pytest.CaptureFixture[str]) -> None:
    assert orch("explain", "orc100") == 0
    assert "ORC100" in capsys.readouterr().out
    assert orch("explain", "ORC999") == 2
    assert "unknown code 'ORC999'" in capsys.readouterr().err


def test_the_schema_is_printed(orch: Orch, capsys: pytest.CaptureFixture[str]) -> None:
    assert orch("schema") == 0
    assert json.loads(capsys.readouterr().out)["$id"] == "urn:orch:topology:1"


@pytest.mark.parametrize("which", ["topology", "lock", "output"])
def test_each_schema_is_printed(
    which: str, orch: Orch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert orch("schema", which) == 0
    schema = json.loads(capsys.readouterr().out)
    assert which in schema["$id"]
    jsonschema.Draft202012Validator.check_schema(schema)


def test_there_are_no_other_schemas(orch: Orch) -> None:
    assert orch("schema", "lok") == 2
