"""A system for the command line to work on: a topology, a runtime directory, a fake daemon."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator import cli
from orchestrator.config import paths
from tests.unit.cli import fake
from tests.unit.cli.fake import FakeDaemon

Orch = Callable[..., int]


@pytest.fixture(autouse=True)
def world(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in an empty directory with a topology, far from the user's own settings."""
    root = tmp_path_factory.mktemp("w")
    (root / "topology.yaml").write_text(
        "version: 1\nname: world\nservices: {web: {command: sleep 1000}}\n"
    )
    (root / "run").mkdir()
    monkeypatch.chdir(root)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(root / "run"))
    for name in ("FILE", "PROJECT", "JSON", "QUIET", "VERBOSE", "COLOR"):
        monkeypatch.delenv(f"ORCH_{name}", raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    return root


@pytest.fixture
def runtime_dir(world: Path) -> Path:
    """Return the runtime directory of the world's system, made."""
    directory = paths.runtime_dir(
        world / "topology.yaml", None, {"XDG_RUNTIME_DIR": f"{world}/run"}
    )
    directory.mkdir(parents=True, exist_ok=True)
    return directory


@pytest.fixture
def daemon(runtime_dir: Path) -> Iterator[FakeDaemon]:
    """Give the system a daemon."""
    with fake.running(runtime_dir) as one:
        yield one


@pytest.fixture
def orch() -> Orch:
    """Return the command: arguments in, exit code out."""

    def run(*argv: str) -> int:
        return cli.main(argv)

    return run
