"""The Client of a component, from a script beside a system that is built."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.component import ComponentError, SetupError, client

PACKAGE = """
from orchestrator.component import ConfField, ConfigurationManager


class _Manager(ConfigurationManager):
    port = ConfField(1)


CONFIGURATION = _Manager("component")
CONF = CONFIGURATION.to_conf()


class Client:
    def __init__(self, *arguments, **named):
        self.told = (CONF.port, arguments, named)
"""


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    known, path = set(sys.modules), list(sys.path)
    package = tmp_path / "clientshop"
    package.mkdir()
    (package / "__init__.py").write_text(PACKAGE)
    (package / "__component__.py").write_text("def COMPONENT():\n    pass\n")
    directory = tmp_path / ".orch" / "conf" / "shop-api"
    directory.mkdir(parents=True)
    info = {
        "format": 1,
        "name": "shop.api",
        "package": "clientshop",
        "python_path": [str(tmp_path)],
    }
    for name, value in (
        ("__info__.json", info),
        ("config.json", {"port": 7}),
        ("addresses.json", {}),
    ):
        (directory / name).write_text(json.dumps(value))
    (tmp_path / ".orch" / "topology.lock.json").write_text("{}")
    yield tmp_path / ".orch"
    for name in set(sys.modules) - known:
        if name.startswith("clientshop"):
            del sys.modules[name]
    sys.path[:] = path
    sys.meta_path[:] = [one for one in sys.meta_path if type(one).__name__ != "SourceFinder"]


def test_a_client_is_configured_and_called(base: Path) -> None:
    assert client("shop.api", 1, two=2).told == (7, (1,), {"two": 2})
    assert client("shop.api", base_dir=base).told == (7, (), {})


def test_what_has_no_client_is_said(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ComponentError, match=r"shop-apo is not there; there are shop\.api"):
        client("shop.apo")
    with pytest.raises(ComponentError, match="build the system: orch build"):
        client("shop.api", base_dir=base / "nowhere")
    monkeypatch.chdir("/")
    with pytest.raises(ComponentError, match="cannot find a built system in / or above it"):
        client("shop.api")


def test_a_component_without_a_client_and_one_that_is_no_package(base: Path) -> None:
    info = base / "conf" / "shop-api" / "__info__.json"
    told = json.loads(info.read_text())
    (base.parent / "clientshop" / "__init__.py").write_text("")
    with pytest.raises(ComponentError, match="its package exposes no Client"):
        client("shop.api")
    del told["package"]
    info.write_text(json.dumps({**told, "handler": "/x.py"}))
    other = base.parent / "other"
    base.rename(other)  # What was found at a place is remembered.
    with pytest.raises(ComponentError, match="it is no package"):
        client("shop.api", base_dir=other)


def test_a_configuration_with_a_secret_needs_it(base: Path) -> None:
    config = base / "conf" / "shop-api" / "config.json"
    config.write_text(json.dumps({"port": "${settings.PORT}"}))
    with pytest.raises(SetupError, match="ORCH_SETTING_PORT"):
        client("shop.api")
