"""Topologies in texts: written to a directory of the test, read, and their mistakes counted."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from orchestrator import config
from orchestrator.errors import Diagnostic, TopologyError

ENVIRONMENT = {"PATH": "/usr/bin:/bin", "HOME": "/home/test"}


@dataclass
class Workshop:
    """A directory with a topology in it."""

    directory: Path
    environment: dict[str, str] = field(default_factory=lambda: dict(ENVIRONMENT))

    def write(self, name: str, text: str) -> Path:
        """Write a file beside the topology, indentation taken off."""
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text).lstrip("\n"), encoding="utf-8")
        return path

    def read(self, text: str, **options: Any) -> config.Draft:
        """Return the draft of a topology."""
        path = self.write("topology.yaml", text)
        return config.read(path, environment=self.environment, **options)

    def lock(
        self, text: str, models: Mapping[str, Any] | None = None, **options: Any
    ) -> config.Locked:
        """Return the lock of a topology."""
        return config.lock(self.read(text, **options), models)

    def mistakes(
        self, text: str, models: Mapping[str, Any] | None = None, **options: Any
    ) -> tuple[Diagnostic, ...]:
        """Return what is wrong with a topology, warnings included."""
        try:
            return self.lock(text, models, **options).warnings
        except TopologyError as error:
            return error.diagnostics

    def codes(
        self, text: str, models: Mapping[str, Any] | None = None, **options: Any
    ) -> list[str]:
        """Return the codes of what is wrong with a topology."""
        return [one.code for one in self.mistakes(text, models, **options)]

    def only(
        self, text: str, models: Mapping[str, Any] | None = None, **options: Any
    ) -> Diagnostic:
        """Return the one mistake of a topology."""
        (one,) = self.mistakes(text, models, **options)
        return one


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    """Return a directory to write topologies in; sockets go to a short path."""
    made = Workshop(tmp_path)
    made.environment["XDG_RUNTIME_DIR"] = "/run/test"
    return made


def marked(diagnostic: Diagnostic) -> str:
    """Return the text that a diagnostic underlines."""
    start = diagnostic.position.column - 1
    return diagnostic.excerpt[start : start + diagnostic.length]


def end(kind: str, **more: Any) -> dict[str, Any]:
    """Return an end as the inspection of a handler describes it."""
    sockets = {
        "replyer": (["replyer"], ["replyer"]),
        "requester": (["requester"], []),
        "publisher": (["publisher"], ["publisher"]),
        "subscriber": (["subscriber"], []),
        "delta_update_in": (["subscriber", "requester"], []),
        "delta_update_out": (["publisher", "replyer"], ["publisher", "replyer"]),
        "external_request": ([], []),
    }[kind]
    connects = [socket for socket in sockets[0] if socket not in sockets[1]]
    return {"type": kind, "sockets": sockets[0], "binds": sockets[1], "connects": connects, **more}


def model(name: str, *, main: bool = False, error: Any = None, **groups: Any) -> dict[str, Any]:
    """Return the answer of the inspection: `model("a.b", connections={"in": {…}})`."""
    empty: dict[str, Any] = {"in": {}, "out": {}}
    return {
        "name": name,
        "main": main,
        "config": {"required": {}, "optional": {}},
        "connections": {**empty, **groups.get("connections", {})},
        "states": {**empty, **groups.get("states", {})},
        "error": error,
    }
