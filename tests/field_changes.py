"""A change of every field that a component can have, for the tests of what changes do.

Each entry gives the fields before and after; what the change needs stands in the schema, as
`x-apply`. A field of the schema without an entry fails the tests, so that none is forgotten.
"""

from __future__ import annotations

import getpass
import os
from pathlib import Path
from typing import Any

from orchestrator.config import schema

Fields = dict[str, Any]

SLEEP: Fields = {"command": ["sleep", "1000"]}
CODE = """
import threading

from orchestrator.component import CommonService, Component

def main(to_send, config):
    threading.Event().wait()

def init_function(to_send, states, config):
    pass

class Waiting(Component):
    def run(self):
        main(None, None)

COMPONENT = Waiting("fields", "waiting")

class Service(CommonService):
    def run(self, hook=None):
        self.app = self
"""
FILES = {
    "one.py": CODE,
    "two.py": CODE,
    "one.env": "A=1\n",
    "two.env": "A=2\n",
    "sub/x": "",
    "one.yaml": "kind: A",
    "two.yaml": "kind: B",
    "one.conf.yaml": "a: 1\n",
    "two.conf.yaml": "a: 2\n",
}
ADDRESSES = {"one": "tcp://127.0.0.1:17101", "two": "tcp://127.0.0.1:17102"}

APPLY: dict[str, str] = {
    name: words["x-apply"] for name, words in schema.definition("component")["properties"].items()
}
"""What the change of each field needs on a running instance."""


def _on(field: str, before: Any, after: Any, **more: Any) -> tuple[Fields, Fields]:
    """Change one field of a command; None leaves it out."""
    base = {**SLEEP, **more}
    return _with(base, field, before), _with(base, field, after)


def _with(base: Fields, field: str, value: Any) -> Fields:
    return base if value is None else {**base, field: value}


CHANGES: dict[str, tuple[Fields, Fields]] = {
    "handler": ({"handler": "one.py", "mode": "main"}, {"handler": "two.py", "mode": "main"}),
    "package": ({"package": "one"}, {"package": "two"}),
    "class": ({"class": "one:Service"}, {"class": "two:Service"}),
    "command": (SLEEP, {"command": ["sleep", "2000"]}),
    "mode": ({"handler": "one.py", "mode": "main"}, {"handler": "one.py", "mode": "service"}),
    "concurrency": (
        {"handler": "one.py", "mode": "service"},
        {"handler": "one.py", "mode": "service", "concurrency": 8},
    ),
    "shell": ({"command": "sleep 1000"}, {"command": "sleep 1000", "shell": True}),
    "replicas": _on("replicas", None, 2),
    "enabled": _on("enabled", None, False),
    "profiles": _on("profiles", None, ["debug"]),
    "depends_on": _on("depends_on", None, ["other"]),
    "connections": _on("connections", {"out": {"a": "one"}}, {"out": {"a": "two"}}),
    "states": _on("states", {"out": {"a": "one"}}, {"out": {"a": "two"}}),
    "config": _on("config", {"depth": {"a": 1}}, {"depth": {"a": 2}}),
    "config_file": _on("config_file", "one.conf.yaml", "two.conf.yaml"),
    "environment": _on("environment", {"A": "1"}, {"A": "2"}),
    "env_file": _on("env_file", "one.env", "two.env"),
    "inherit_env": _on("inherit_env", True, ["PATH"]),
    "working_dir": _on("working_dir", None, "sub"),
    "umask": _on("umask", "022", "077"),
    "user": _on("user", None, getpass.getuser()),
    "group": _on("group", None, str(Path("/proc/self").stat().st_gid)),
    "rlimits": _on("rlimits", {"core": 0}, {"core": 0, "nofile": 512}),
    "nice": _on("nice", None, os.nice(0) + 1),
    "oom_score_adj": _on("oom_score_adj", None, 500),
    "no_new_privileges": _on("no_new_privileges", None, True),
    "zygote": _on("zygote", None, False),
    "memory": _on("memory", None, "1GiB"),
    "cpu": _on("cpu", None, 1.5),
    "pids": _on("pids", None, 500),
    "sockets": _on("sockets", None, {"http": f"unix:///tmp/orch-fields-{os.getpid()}.sock"}),
    "restart": _on("restart", "always", "never"),
    "success_codes": _on("success_codes", None, [0, 3]),
    "backoff": _on("backoff", {"initial": "1s"}, {"initial": "2s"}),
    "limit": _on("limit", None, {"failures": 3}),
    "start_timeout": _on("start_timeout", None, "9s"),
    "settle": _on("settle", None, "10ms"),
    "ready": _on("ready", {"delay": "1ms"}, {"delay": "2ms"}),
    "live": _on("live", None, {"exec": ["true"]}),
    "startup": _on("startup", None, {"exec": ["true"]}),
    "manifests": (
        {"class": "one:Service", "manifests": ["one.yaml"]},
        {"class": "one:Service", "manifests": ["two.yaml"]},
    ),
    "keep_alive": (
        {"class": "one:Service"},
        {"class": "one:Service", "keep_alive": {"interval": "1h"}},
    ),
    "watchdog": _on("watchdog", None, "1h"),
    "stop": _on("stop", None, {"timeout": "3s"}),
    "logs": _on("logs", None, {"keep": 2}),
    "on_failure": _on("on_failure", None, "shutdown"),
    "on_exit": _on("on_exit", None, "shutdown"),
    "schedule": _on("schedule", None, "@daily"),
    "signals": _on("signals", None, {"USR1": "ignore"}),
    "reload": _on("reload", None, "restart"),
    "reload_signal": (
        {**SLEEP, "reload": "signal"},
        {**SLEEP, "reload": "signal", "reload_signal": "USR1"},
    ),
    "watch": (
        {**SLEEP, "reload": "restart", "watch": ["a"]},
        {**SLEEP, "reload": "restart", "watch": ["b"]},
    ),
}


def topology(
    which: int, *, only: str | None = None, without: frozenset[str] = frozenset()
) -> Fields:
    """Return a topology in which a component of each field's name has it so (0) or so (1).

    With `only`, that one component has changed and all others have not. `other` never does.
    `without` leaves fields out: this machine may not grant them.
    """
    services: dict[str, Any] = {"other": SLEEP}
    for field, versions in CHANGES.items():
        if field in without:
            continue
        changed = which if only in (None, field) else 0
        services[field.replace("_", "-")] = versions[changed]
    return {
        "version": 1,
        "name": "fields",
        "addresses": {
            name: {"address": endpoint, "external": True} for name, endpoint in ADDRESSES.items()
        },
        "defaults": {"settle": "0s"},
        "services": services,
    }


def write(directory: Path) -> None:
    """Write the files that the components name."""
    for name, text in FILES.items():
        path = directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
