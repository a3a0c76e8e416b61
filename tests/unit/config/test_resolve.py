"""Drafts to locks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from orchestrator import config
from orchestrator.config import build, paths, schema
from orchestrator.model import plain, topology
from orchestrator.model.topology import (
    Backoff,
    Component,
    Condition,
    Dependency,
    Kill,
    Lock,
    Mode,
    Probe,
    Ready,
    Restart,
    Rung,
    Stop,
)
from tests.unit.config.conftest import Workshop

EVERYTHING = """
    name: shop
    settings: {N: 2, KEY: {required: true, secret: true}}
    addresses: {web: auto:tcp, bus: auto}
    config: {a: {x: 1, y: 1}, l: [1, 2]}
    defaults: {stop: {timeout: 5s}, backoff: {max: 3s}}
    start_concurrency: 9
    services:
      s:
        config: {a: {y: 2}, k: "key=${settings.KEY}", dollar: "$$${settings.N}"}
        components:
          h:
            handler: h.py
            connections: {in: {e: bus}}
            config: {a: {z: 3}, l: [3], me: "${self.name}", nth: "${self.instance}"}
            replicas: 2
          g: {handler: h.py, mode: main, connections: {out: {e: bus}}}
          c:
            command: ./run.sh 'a b' --port=${addresses.web.port} ${self.instance}
            depends_on: {h: {condition: started, required: false, restart: true}}
            environment: {KEY: "${settings.KEY}", RUN: "${self.run_dir}"}
            umask: 022
            rlimits: {nofile: 1024, core: unlimited, as: [1GiB, 2GiB]}
            memory: 512MiB
            cpu: 1.5
            pids: 100
            user: 1000
            success_codes: [3]
            stop: {signal: SIGINT, kill: mixed, command: ./bye now}
            ready:
              http: http://${addresses.web.host}:${addresses.web.port}/up
              status: 204
              every: 500ms
            logs: {size: 1MiB, keep: 2}
            backoff: {initial: 0s}
            limit: {failures: 0}
            on_failure: shutdown
      d:
        command: echo $1; exec sleep 1
        shell: true
        stop: [{signal: INT, wait: 1s}, {signal: TERM, wait: 2s}]
"""


@pytest.fixture
def lock(workshop: Workshop) -> Lock:
    """Return the lock of a topology that uses nearly everything."""
    workshop.write("h.py", "")
    workshop.write("run.sh", "").chmod(0o755)
    return workshop.lock(EVERYTHING, settings={"KEY": "s3cret"}).lock


def test_each_instance_is_a_component(lock: Lock) -> None:
    assert list(lock.components) == ["s.h@1", "s.h@2", "s.g", "s.c", "d.d"]
    assert [one.name for one in lock.components.values()] == list(lock.components)
    assert (lock.name, lock.start_concurrency) == ("shop", 9)


def test_config_is_merged_at_every_depth_and_resolved_per_instance(lock: Lock) -> None:
    assert lock.components["s.h@2"].config == {
        "a": {"x": 1, "y": 2, "z": 3},
        "l": [3],
        "k": "key=${settings.KEY}",
        "dollar": "$2",
        "me": "s.h@2",
        "nth": 2,
    }
    assert lock.components["s.h@1"].config["me"] == "s.h@1"


def test_secrets_stay_references_and_are_listed(lock: Lock, workshop: Workshop) -> None:
    assert lock.components["s.c"].environment["KEY"] == "${settings.KEY}"
    assert lock.components["s.c"].secrets == ("KEY",)
    assert lock.components["d.d"].secrets == ()
    locked = config.lock(workshop.read(EVERYTHING, settings={"KEY": "s3cret"}), None)
    assert dict(locked.secrets) == {"KEY": "s3cret"}
    assert not any("s3cret" in file.text for file in build.files_of(locked.lock))


def test_options_become_values_of_the_model(lock: Lock, workshop: Workshop) -> None:
    one, here = lock.components["s.c"], workshop.directory
    port = one.command[2].removeprefix("--port=")
    assert one.command == (f"{here}/run.sh", "a b", f"--port={port}", "1")
    assert one.ready == Ready(http=f"http://127.0.0.1:{port}/up", status=(204, 204), every=0.5)
    assert one.stop == Stop((Rung("INT", 5.0),), Kill.MIXED, (f"{here}/bye", "now"))
    assert one.backoff == Backoff(initial=0.0, max=3.0)
    assert (one.memory, one.cpu, one.pids) == (512 << 20, 1.5, 100)
    assert one.rlimits == {"nofile": (1024, 1024), "core": (-1, -1), "as": (2**30, 2**31)}
    assert (one.umask, one.user, one.success_codes) == (0o22, "1000", (0, 3))
    assert (one.logs.size, one.logs.keep, one.limit.failures) == (2**20, 2, 0)
    assert one.environment["RUN"] == lock.runtime_dir
    assert one.depends_on == {"s.h": Dependency(Condition.STARTED, required=False, restart=True)}
    assert lock.components["d.d"].command == ("/bin/sh", "-c", "echo $1; exec sleep 1")
    assert lock.components["d.d"].stop.ladder == (Rung("INT", 1.0), Rung("TERM", 2.0))


def test_probes_are_resolved_like_readiness(workshop: Workshop) -> None:
    lock = workshop.lock(
        """
        addresses: {up: {address: "tcp://127.0.0.1:7001", external: true}}
        services:
          s:
            command: sh
            live: {http: "http://127.0.0.1:${addresses.up.port}/", every: 500ms, failures: 5}
            startup: {exec: "./look --at ${self.name}", timeout: 1m}
            watchdog: 1m30s
        """
    ).lock
    one = lock.components["s.s"]
    assert one.live == Probe(http="http://127.0.0.1:7001/", every=0.5, failures=5)
    assert one.startup == Probe(exec=(f"{workshop.directory}/look", "--at", "s.s"), timeout=60.0)
    assert one.watchdog == 90.0


def test_restart_is_by_default_what_the_kind_of_component_needs(lock: Lock) -> None:
    kinds = {name: one.restart for name, one in lock.components.items()}
    assert kinds == {
        "s.h@1": Restart.ALWAYS,
        "s.h@2": Restart.ALWAYS,
        "s.g": Restart.ON_FAILURE,
        "s.c": Restart.ON_FAILURE,
        "d.d": Restart.ON_FAILURE,
    }
    assert lock.components["s.g"].mode is Mode.MAIN


def test_the_plain_lock_comes_back_and_fits_its_schema(lock: Lock) -> None:
    encoded = json.loads(topology.canonical(plain.encode(lock)))
    assert plain.decode(Lock, encoded) == lock
    whole = {"digest": topology.digest(encoded), "lock": encoded}
    jsonschema.Draft202012Validator(json.loads(schema.text("lock"))).validate(whole)


def test_the_smallest_component_is_all_defaults(workshop: Workshop) -> None:
    workshop.environment = {"XDG_RUNTIME_DIR": "/run/test", "PATH": "/bin:/usr/bin"}
    lock = workshop.lock("services: {a: {command: sh, inherit_env: false}}\n").lock
    here = str(workshop.directory)
    assert lock.components["a.a"] == Component("a", "a", command=("sh",), working_dir=here)
    assert lock.topology == f"{here}/topology.yaml"
    assert lock.base_dir == f"{here}/.orch"


@pytest.mark.parametrize(
    ("folder", "name"), [("my_Shop 2", "my-shop-2"), ("___", "system"), ("ok", "ok")]
)
def test_a_system_without_name_has_its_folders(workshop: Workshop, folder: str, name: str) -> None:
    path = workshop.write(f"{folder}/topology.yaml", "services: {a: {command: sh}}\n")
    assert config.read(path, environment=workshop.environment).name == name


@pytest.mark.parametrize(
    ("file", "project", "name"),
    [
        ("topology.yaml", None, ".orch"),
        ("topology.yml", None, ".orch"),
        ("topology.yaml", "two", ".orch-two"),
        ("shop.yaml", None, ".orch-shop"),
        ("shop.test.yml", None, ".orch-shop.test"),
        ("shop.yaml", "two", ".orch-shop-two"),
    ],
)
def test_systems_of_one_folder_have_a_directory_each(
    workshop: Workshop, file: str, project: str | None, name: str
) -> None:
    path = workshop.write(file, "services: {a: {command: sh}}\n")
    draft = config.read(path, environment=workshop.environment, project=project)
    assert draft.base_dir == workshop.directory / name
    (ignored,) = (
        file for file in build.files_of(config.lock(draft, None).lock) if file.path == ".gitignore"
    )
    assert ignored.text == "*\n"


def test_a_link_to_a_topology_is_the_same_system(workshop: Workshop) -> None:
    path = workshop.write("topology.yaml", "services: {a: {command: sh}}\n")
    link = workshop.directory / "link.yaml"
    link.symlink_to(path)
    first, second = (config.read(one, environment=workshop.environment) for one in (path, link))
    assert (first.key, first.base_dir) == (second.key, second.base_dir)


def test_projects_share_nothing(workshop: Workshop) -> None:
    text = "base_dir: out\nservices: {a: {command: sh}}\n"
    first, second = workshop.read(text), workshop.read(text, project="two")
    assert (second.name, second.base_dir.name) == ("two", "out-two")
    assert first.base_dir.name == "out"
    assert first.key != second.key
    assert first.runtime_dir != second.runtime_dir


def test_the_key_is_of_the_real_path(workshop: Workshop) -> None:
    path = workshop.write("topology.yaml", "services: {a: {command: sh}}\n")
    link = workshop.directory / "link.yaml"
    link.symlink_to(path)
    assert paths.key(link, None) == paths.key(path, None)
    assert len(paths.key(path, None)) == paths.KEY_LENGTH


def test_a_working_dir_may_depend_on_the_instance(workshop: Workshop) -> None:
    text = "services: {a: {command: sh, replicas: 2, working_dir: 'd${self.instance}'}}\n"
    dirs = [Path(one.working_dir).name for one in workshop.lock(text).lock.components.values()]
    assert dirs == ["d1", "d2"]


def test_scale_wins_over_the_file(workshop: Workshop) -> None:
    text = "services: {a: {command: sh, replicas: 5}}\n"
    assert list(workshop.lock(text, scale={"a.a": 1}).lock.components) == ["a.a"]
    assert list(workshop.lock(text, scale={"a": 2}).lock.components) == ["a.a@1", "a.a@2"]


def test_warnings_of_the_draft_are_those_of_the_lock(workshop: Workshop) -> None:
    locked: Any = workshop.lock("services: {a: {command: no-such-program}}\n")
    assert [one.code for one in locked.warnings] == ["ORC233"]
