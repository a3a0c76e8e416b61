"""Settings: from defaults, files, the environment and the command line, the last one wins."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config import codes
from orchestrator.errors import TopologyError, UsageError
from tests.unit.config.conftest import Workshop

TOPOLOGY = """
    settings:
      PORT: 80
      NAME: {default: shop}
      KEY: {secret: true, required: true}
      RATIO: {type: number}
      HOSTS: {type: list, default: [a]}
      LIMITS: {type: map, default: {low: 1}}
      DEBUG: false
    services:
      a:
        command: sleep 1
        config:
          port: ${settings.PORT}
          name: ${settings.NAME}
          hosts: ${settings.HOSTS}
          limits: ${settings.LIMITS}
          shown: hosts ${settings.HOSTS}
          key: ${settings.KEY}
"""

FLAT = textwrap.dedent(TOPOLOGY)


def config(shop: Workshop, text: str = TOPOLOGY, **options: Any) -> Any:
    locked = shop.lock(text, **options)
    return dict(next(iter(locked.lock.components.values())).config)


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    made = Workshop(tmp_path)
    made.environment["ORCH_SETTING_KEY"] = "k"
    return made


def test_later_layers_win(shop: Workshop) -> None:
    assert config(shop)["port"] == 80
    shop.write("settings.yaml", "PORT: 81\nNAME: file\nHOSTS: [b, c]\n")
    found = config(shop)
    assert (found["port"], found["name"], found["hosts"]) == (81, "file", ["b", "c"])
    assert found["shown"] == 'hosts ["b", "c"]'
    assert found["key"] == "${settings.KEY}"
    more = shop.write("more.json", '{"PORT": 82}')
    assert config(shop, settings_files=[more])["port"] == 82
    shop.environment["ORCH_SETTING_PORT"] = "83"
    assert config(shop, settings_files=[more])["port"] == 83
    assert config(shop, settings={"PORT": "84"})["port"] == 84


def test_texts_become_what_the_setting_is(shop: Workshop) -> None:
    given = {"HOSTS": '["x"]', "LIMITS": '{"low": 2}', "RATIO": "1.5"}
    found = config(shop, settings=given)
    assert (found["hosts"], found["limits"]) == (["x"], {"low": 2})
    for name, text, said in [
        ("PORT", "x", "no whole number"),
        ("DEBUG", "x", "neither true nor false"),
        ("RATIO", "x", "no number"),
        ("HOSTS", "x", "no list of JSON"),
        ("LIMITS", "[1]", "no map of JSON"),
    ]:
        (mistake,) = shop.mistakes(TOPOLOGY, settings={name: text})
        assert mistake.code == "ORC026"
        assert said in mistake.message


def test_a_topology_names_its_files(shop: Workshop) -> None:
    shop.write("settings.yaml", "PORT: 1\n")
    shop.write("one.yaml", "PORT: 2\nNAME: one\n")
    shop.write("two.yaml", "PORT: 3\n")
    assert config(shop, "settings_file: one.yaml\n" + FLAT)["port"] == 2
    text = "settings_file: [one.yaml, '${env.WHICH}.yaml']\n" + FLAT
    shop.environment["WHICH"] = "two"
    found = config(shop, text)
    assert (found["port"], found["name"]) == (3, "one")


def test_a_topology_without_settings_reads_no_file(shop: Workshop) -> None:
    shop.write("settings.yaml", "- no settings\n")
    assert shop.mistakes("services: {a: {command: sleep 1}}") == ()


def modules(answer: dict[str, Any]) -> Any:
    return lambda path: {"name": str(path), "error": None, **answer}


def test_a_python_module_is_asked_for_what_it_gives(shop: Workshop) -> None:
    shop.write("settings.py", "import os\nPORT = 90\nfrom decimal import Decimal\nNAME = 1\n")
    answer = {
        "values": {"PORT": 90, "NAME": "n", "OTHER": 1, "RATIO": 2},
        "lines": {"PORT": 2, "NAME": 4, "OTHER": 1},
    }
    found = config(shop, modules=modules(answer))
    assert (found["port"], found["name"]) == (90, "n")
    (mistake,) = shop.mistakes(TOPOLOGY, modules=modules({**answer, "values": {"PORT": "x"}}))
    assert mistake.code == "ORC433"
    assert (Path(mistake.position.file).name, mistake.position.line) == ("settings.py", 2)
    assert mistake.related[0].position.file.endswith("topology.yaml")


def test_a_module_that_raises_is_told_at_its_line(shop: Workshop) -> None:
    path = shop.write("settings.py", "A = 1\nB = A / 0\n")
    error = {"file": str(path), "line": 2, "message": "ZeroDivisionError: division by zero"}
    (mistake,) = shop.mistakes(TOPOLOGY, modules=modules({"error": error}))
    assert mistake.code == "ORC431"
    assert (Path(mistake.position.file).name, mistake.position.line) == ("settings.py", 2)
    assert mistake.excerpt == "B = A / 0"
    (mistake,) = shop.mistakes(TOPOLOGY)
    assert (mistake.code, "nothing is imported here" in mistake.message) == ("ORC431", True)


@pytest.mark.parametrize(
    ("text", "code", "said", "line"),
    [
        ("NAME: x\nPORT: much\n", "ORC433", "must be a whole number, not", 2),
        ("PORT: true\n", "ORC433", "must be a whole number, not true", 1),
        ("DEBUG: 1\n", "ORC433", "must be true or false, not the number 1", 1),
        ("NAME: x\n\nPROT: 1\n", "ORC432", "declares no setting 'PROT'", 3),
        ("WHATEVER: 1\n", "ORC432", "declares no setting 'WHATEVER'", 1),
        ("- 1\n", "ORC430", "must be a map, not a list", 1),
        ("A: [\n", "ORC003", "", 2),
        ("PORT: 1\nPORT: 2\n", "ORC004", "PORT", 2),
    ],
)
def test_mistakes_in_a_file_are_told_at_their_place(
    shop: Workshop, text: str, code: str, said: str, line: int
) -> None:
    shop.write("settings.yaml", text)
    (mistake,) = shop.mistakes(TOPOLOGY)
    assert (mistake.code, said in mistake.message) == (code, True), mistake
    assert (Path(mistake.position.file).name, mistake.position.line) == ("settings.yaml", line)


@pytest.mark.parametrize(
    ("word", "said"),
    [("no.yaml", "does not exist"), (".", "is no file"), ("x.toml", "cannot read values from")],
)
def test_files_that_cannot_be_are_told_where_they_are_named(
    shop: Workshop, word: str, said: str
) -> None:
    shop.write("x.toml", "")
    text = f"settings_file: {word}\n" + FLAT
    (mistake,) = shop.mistakes(text)
    assert (mistake.code, said in mistake.message) == ("ORC430", True), mistake
    assert mistake.position.line == 1
    (mistake,) = shop.mistakes(TOPOLOGY, settings_files=[shop.directory / word])
    assert (mistake.code, said in mistake.message) == ("ORC430", True), mistake


def test_a_secret_of_a_file_is_shown_by_no_diagnostic(shop: Workshop) -> None:
    text = TOPOLOGY.replace("KEY: {secret: true", "KEY: {secret: true, type: string")
    shop.write("settings.yaml", "KEY: [t0psecret]\n")
    mistakes = shop.mistakes(text)
    assert [one.code for one in mistakes] == ["ORC433"]
    assert "t0psecret" not in repr(mistakes)


def test_a_secret_of_a_file_stays_out_of_the_lock(shop: Workshop) -> None:
    del shop.environment["ORCH_SETTING_KEY"]
    shop.write("settings.yaml", "KEY: t0psecret\n")
    locked = shop.lock(TOPOLOGY)
    assert "t0psecret" not in repr(locked.lock)
    assert locked.secrets == {"KEY": "t0psecret"}


def test_what_is_required_is_missing_until_a_layer_gives_it(shop: Workshop) -> None:
    del shop.environment["ORCH_SETTING_KEY"]
    with pytest.raises(TopologyError) as caught:
        config(shop)
    assert [one.code for one in caught.value.diagnostics] == ["ORC025"]
    with pytest.raises(UsageError, match="no such setting; did you mean 'PORT'"):
        config(shop, settings={"PROT": "1", "KEY": "k"})


def test_packages_may_declare_further_settings_themselves(shop: Workshop) -> None:
    text = """
        settings: {PORT: 80}
        services: {a: {components: {b: {package: shop.b}}}}
    """
    shop.write("settings.yaml", "WHATEVER: 1\n")
    assert shop.mistakes(text) == ()
    shop.write("settings.yaml", "PROT: 1\n")
    assert [one.code for one in shop.mistakes(text)] == ["ORC432"]


def test_every_code_is_explained() -> None:
    for code in ("ORC430", "ORC431", "ORC432", "ORC433"):
        assert code in codes.CODES
