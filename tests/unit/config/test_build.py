"""Locks to files."""

from __future__ import annotations

import json

import pytest
from msgspec import structs

from orchestrator.config import build
from orchestrator.model.topology import Lock
from tests.unit.config.conftest import Workshop, end, model

TEXT = """
    name: shop
    addresses: {bus: tcp://127.0.0.1:7000}
    services:
      a: {handler: a.py, connections: {in: {e: bus}}, config: {z: 1, é: "ü"}}
      b: {handler: a.py, mode: main, connections: {out: {e: bus}}}
      c: {command: sh -x, environment: {A: b}}
"""


@pytest.fixture
def lock(workshop: Workshop) -> Lock:
    """Return the lock of two handlers and a command."""
    workshop.write("a.py", "")
    models = {
        "a.a": model("a.a", connections={"in": {"e": end("subscriber")}}),
        "b.b": model("b.b", main=True, connections={"out": {"e": end("publisher")}}),
    }
    return workshop.lock(TEXT, models, scale={"a": 2}).lock


def test_a_build_is_the_same_every_time(lock: Lock) -> None:
    assert build.files_of(lock) == build.files_of(lock)


def test_every_instance_has_its_directory(lock: Lock) -> None:
    paths = [file.path for file in build.files_of(lock)]
    assert paths[:2] == ["topology.lock.json", ".gitignore"]
    of_handler = ["__info__.json", "config.json", "environment.json", "addresses.json"]
    assert paths[2:] == [
        *(f"conf/{stem}/{name}" for stem in ("a-a", "a-a@2", "b-b") for name in of_handler),
        *(f"conf/c-c/{name}" for name in of_handler[:3]),
    ]


def test_the_files_of_a_handler_are_what_its_runtime_reads(lock: Lock, workshop: Workshop) -> None:
    files = {file.path: file for file in build.files_of(lock)}
    here = str(workshop.directory)
    assert json.loads(files["conf/b-b/__info__.json"].text) == {
        "format": 1,
        "name": "b.b",
        "service": "b",
        "component": "b",
        "instance": 1,
        "mode": "main",
        "handler": f"{here}/a.py",
        "working_dir": here,
        "python_path": [here],
        "expect_subscribers": {"e": 2},
    }
    assert json.loads(files["conf/a-a@2/addresses.json"].text) == {
        "connections": {"in": {"e": {"subscriber": "tcp://127.0.0.1:7000"}}, "out": {}},
        "states": {"in": {}, "out": {}},
    }
    assert files["conf/a-a/config.json"].text == '{\n  "z": 1,\n  "é": "ü"\n}\n'
    assert json.loads(files["conf/c-c/environment.json"].text) == {"A": "b"}
    assert json.loads(files["conf/c-c/__info__.json"].text)["command"] == ["sh", "-x"]


def test_what_may_hold_something_private_is_private(lock: Lock) -> None:
    modes = {file.path.rpartition("/")[2]: file.mode for file in build.files_of(lock)}
    assert modes["topology.lock.json"] == modes["environment.json"] == 0o600
    assert modes["config.json"] == 0o640


def test_a_lock_file_is_read_back_or_refused(lock: Lock) -> None:
    text = build.lock_text(lock)
    read = build.read_lock(text)
    assert read.components == {
        name: structs.replace(component, inherited={})
        for name, component in lock.components.items()
    }
    with pytest.raises(ValueError, match="edited"):
        build.read_lock(text.replace("7000", "7001"))
    with pytest.raises(ValueError, match="cannot read"):
        build.read_lock("{}")


def test_what_is_built_does_not_depend_on_who_calls(workshop: Workshop) -> None:
    text = "services: {a: {command: sh, inherit_env: true, environment: {A: b}}}\n"
    first = workshop.lock(text).lock
    workshop.environment |= {"PATH": "/bin:/usr/bin:/x", "LANG": "C"}
    second = workshop.lock(text).lock
    assert first.components["a.a"].inherited != second.components["a.a"].inherited
    assert build.files_of(first) == build.files_of(second)
    made = {file.path: file.text for file in build.files_of(second)}
    assert json.loads(made["conf/a-a/environment.json"]) == {"A": "b"}


def test_a_command_that_is_wired_is_told_its_addresses(workshop: Workshop) -> None:
    text = """
        addresses: {bus: tcp://127.0.0.1:7000}
        services:
          a: {command: sh, connections: {in: {e: bus}}}
          b: {command: sh, states: {out: {s: bus}}}  # together they use both ends of it
          c: {command: sh}
    """
    made = {file.path: file.text for file in build.files_of(workshop.lock(text).lock)}
    assert json.loads(made["conf/a-a/addresses.json"]) == {
        "connections": {"in": {"e": "tcp://127.0.0.1:7000"}, "out": {}},
        "states": {"in": {}, "out": {}},
    }
    assert json.loads(made["conf/b-b/addresses.json"]) == {
        "connections": {"in": {}, "out": {}},
        "states": {"in": {}, "out": {"s": "tcp://127.0.0.1:7000"}},
    }
    assert "conf/c-c/addresses.json" not in made


def test_a_command_connects_to_every_replica_of_a_handler(workshop: Workshop) -> None:
    workshop.write("a.py", "")
    text = """
        addresses: {bus: auto}
        services:
          a: {handler: a.py, replicas: 2, connections: {out: {e: bus}}}
          b: {command: sh, connections: {in: {e: bus}}}
    """
    models = {"a.a": model("a.a", connections={"out": {"e": end("publisher")}})}
    made = {file.path: file.text for file in build.files_of(workshop.lock(text, models).lock)}
    bound = [
        json.loads(made[f"conf/{stem}/addresses.json"])["connections"]["out"]["e"]["publisher"]
        for stem in ("a-a", "a-a@2")
    ]
    wired = json.loads(made["conf/b-b/addresses.json"])["connections"]
    assert wired == {"in": {"e": bound}, "out": {}}
    assert len(set(bound)) == 2


def test_a_declared_base_dir_is_the_users_to_ignore(workshop: Workshop) -> None:
    lock = workshop.lock("base_dir: out\nservices: {a: {command: sh}}\n").lock
    assert ".gitignore" not in [file.path for file in build.files_of(lock)]
