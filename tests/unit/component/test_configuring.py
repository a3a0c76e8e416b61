"""Configurations of a component: filled in when it starts, and told to who reads a topology."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from orchestrator.component import (
    ConfigurationError,
    SettingsField,
    SettingsManager,
    configuring,
    confobjects,
    settings,
)
from orchestrator.component.errors import SetupError, UnknownField

CONF = """
from decimal import Decimal
from orchestrator.component import ConfField, ConfigurationManager, DirConfField, FileConfField

class _Manager(ConfigurationManager):
    symbol = ConfField("BTC-USD")
    limit = ConfField(Decimal("1.10"))
    port = ConfField(type=int)
    db = ConfField({"host": "localhost", "port": 5432})
    token = ConfField("")
    log = FileConfField("main.log", "logging")
    cache = DirConfField("cache", "data")

CONF = _Manager("component").to_conf()
"""
SETTINGS = """
from orchestrator.component import SettingsField, SettingsManager
from shopmade.conf import CONF

class Settings(SettingsManager):
    PORT = SettingsField(type=int)
    TOKEN = SettingsField(optional=True)

    def propagate_settings(self, component=None, component_arg=None):
        CONF.port = self.settings.PORT
        CONF.token = self.settings.TOKEN
"""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A service with a configuration and settings, importable as `shopmade`."""
    root = tmp_path / "src/shopmade"
    (root / "admin").mkdir(parents=True)
    for path in (root, root / "admin"):
        (path / "__init__.py").write_text("")
    (root / "conf.py").write_text(CONF)
    (root / "admin/settings.py").write_text(SETTINGS)
    monkeypatch.syspath_prepend(str(tmp_path / "src"))
    yield root
    for name in [one for one in sys.modules if one.partition(".")[0] == "shopmade"]:
        del sys.modules[name]


def conf() -> Any:
    return confobjects.load_object("shopmade.conf.CONF")


def configure(shop: Path, environment: dict[str, str] | None = None, **values: Any) -> Any:
    base = shop.parent.parent / "base"
    (found,) = configuring.configure(
        [conf()],
        base / "conf/shop-api",
        base_dir=base,
        service="shop",
        component="api",
        values=values,
        environment=environment or {},
    )
    return found


def test_without_built_files_the_layers_are_put_together(shop: Path) -> None:
    variables = {"ORCH_CONFIG__DB__HOST": "there", "ORCH_CONFIG__LIMIT": "2.50", "OTHER": "x"}
    found = configure(shop, variables, symbol="ETH", port="80", unknown=1)
    base = shop.parent.parent / "base"
    assert found.to_dict() == {
        "symbol": "ETH",
        "limit": Decimal("2.50"),
        "port": 80,
        "db": {"host": "there", "port": 5432},
        "token": "",
        "log": str(base / "logging/shop-api-main.log"),
        "cache": str(base / "data/shop-api-cache"),
    }
    assert (base / "data/shop-api-cache").is_dir()


def test_built_files_win_over_the_map_and_the_environment_over_both(shop: Path) -> None:
    directory = shop.parent.parent / "base/conf/shop-api"
    directory.mkdir(parents=True)
    (directory / "config.json").write_text('{"symbol": "old"}')
    built = {"fullname": "shopmade.conf.CONF", "conf": {"symbol": "built", "port": 1}}
    (directory / "shopmade.conf.CONF").write_text(json.dumps(built))
    found = configure(shop, {"ORCH_CONFIG__PORT": "2"}, symbol="map")
    assert (found.symbol, found.port) == ("built", 2)


def test_other_files_in_the_directory_are_left_alone(tmp_path: Path) -> None:
    for name in ("config.json", "handler.py", ".hidden", "shop.CONF.12.new", "README"):
        (tmp_path / name).write_text("no configuration")
    (tmp_path / "shop.conf.DIR").mkdir()
    assert confobjects.load_directory(tmp_path) == ()


def test_what_was_the_code_s_own_default_is_left_to_the_code(shop: Path) -> None:
    directory = shop.parent.parent / "base/conf/shop-api"
    directory.mkdir(parents=True)
    built = {"fullname": "shopmade.conf.CONF", "conf": {"symbol": "old", "port": 1}}
    text = json.dumps({**built, "defaults": ["symbol"]})
    (directory / "shopmade.conf.CONF").write_text(text)
    assert (configure(shop).symbol, configure(shop).port) == ("BTC-USD", 1)


def test_every_mistake_is_told_at_once(shop: Path) -> None:
    with pytest.raises(SetupError) as caught:
        configure(shop, {"ORCH_CONFIG__LIMIT": "much"}, port="x", db=3)
    assert len(caught.value.mistakes) == 3
    assert "'port' from the configuration: expected a whole number" in str(caught.value)
    assert "'db' from the configuration: expected dict, got a int" in str(caught.value)
    assert "'limit' from the environment: expected a decimal number" in str(caught.value)


def test_secrets_of_a_built_file_come_from_the_environment(
    shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = shop.parent.parent / "base/conf/shop-api"
    directory.mkdir(parents=True)
    built = {
        "fullname": "shopmade.conf.CONF",
        "conf": {"token": "Bearer ${settings.TOKEN}", "port": "${settings.PIN}"},
        "secrets": ["PIN", "TOKEN"],
    }
    (directory / "shopmade.conf.CONF").write_text(json.dumps(built))
    with pytest.raises(ConfigurationError, match="'TOKEN' is not in the environment"):
        configure(shop)
    monkeypatch.setenv("ORCH_SETTING_TOKEN", "t0p")
    monkeypatch.setenv("ORCH_SETTING_PIN", "1234")
    found = configure(shop)
    assert (found.token, found.port) == ("Bearer t0p", 1234)


def request(shop: Path, **settings_: Any) -> dict[str, Any]:
    return {
        "package": "shopmade.api",
        "service": "shop",
        "component": ["api", "api@2"],
        "base_dir": str(shop.parent.parent / "base"),
        "settings": settings_,
    }


def test_a_reader_is_told_fields_standard_paths_and_what_settings_come_to(shop: Path) -> None:
    asked = request(shop, PORT=8080, TOKEN="${settings.TOKEN}")
    answer = configuring.described([conf()], None, asked)
    json.dumps(answer)
    (made,) = answer["configurations"]
    assert (made["fullname"], made["type"]) == ("shopmade.conf.CONF", "component")
    fields = made["fields"]
    assert fields["symbol"] == {
        "plain": "str",
        "value": "BTC-USD",
        "file": str(shop / "conf.py"),
        "line": 6,
    }
    assert fields["limit"]["value"] == {"__decimal__": "1.10"}
    base = asked["base_dir"]
    assert fields["log"]["standard"] == {
        "api": f"{base}/logging/shop-api-main.log",
        "api@2": f"{base}/logging/shop-api@2-main.log",
    }
    assert (fields["port"]["set"], fields["token"]["set"]) == (8080, "${settings.TOKEN}")
    assert "set" not in fields["symbol"]
    assert answer["settings"] == ["PORT", "TOKEN"]
    assert answer["hook"] == {"file": str(shop / "admin/settings.py"), "line": 9}


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("admin/settings.py", SETTINGS, "the setting 'PORT' is required, and not in the topology"),
        ("admin/settings.py", "1 / 0\n", r"admin/settings\.py:1: ZeroDivisionError"),
        (
            "admin/settings.py",
            "def propagate_settings(component, arg):\n    raise OSError('no')\n",
            r"propagate_settings failed: .*settings\.py:2: OSError: no",
        ),
        ("conf.py", CONF.replace('"BTC-USD"', "iter"), r"conf\.py:6: cannot keep .*symbol is a"),
        ("conf.py", CONF.replace('("component")', '("component", "C")'), "has no 'C'"),
    ],
)
def test_what_cannot_be_told_is_an_error_with_its_place(
    shop: Path, file: str, text: str, said: str
) -> None:
    (shop / file).write_text(text)
    sys.modules.pop("shopmade.conf", None)
    with pytest.raises(SetupError, match=said):
        configuring.described([conf()], None, request(shop))


def test_a_module_of_values_is_told_with_lines_and_types(tmp_path: Path) -> None:
    path = tmp_path / "made_values.py"
    path.write_text(
        "import os\nfrom decimal import Decimal\n\nA = Decimal('1.10')\n_b = 1\nc = [1]\n"
    )
    found = configuring.module_values(path)
    assert found["values"] == {"A": {"__decimal__": "1.10"}, "c": [1]}
    assert found["lines"] == {"A": 4, "c": 6}
    path.write_text("A = object()\n")
    with pytest.raises(SetupError, match=r"made_values\.py:1: cannot keep A is a object"):
        configuring.module_values(path)
    path.write_text("\n1 / 0\n")
    with pytest.raises(SetupError, match=r"made_values\.py:2: .*ZeroDivisionError"):
        configuring.module_values(path)


# --- Settings


class Settings(SettingsManager):
    PORT = SettingsField(type=int)
    DEBUG = SettingsField(optional=True, default_value=False)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path / "settings_made.py"
    sys.modules.pop("settings_made", None)


def test_settings_come_from_a_module_outside_of_a_topology(module: Path) -> None:
    module.write_text("import os\nPORT = 80\nOTHER = 1\n")
    manager = Settings("settings_made")
    assert (manager.settings.PORT, manager.settings.DEBUG) == (80, False)
    assert list(manager.settings) == ["PORT", "DEBUG"]
    assert "80" not in str(manager.settings)
    with pytest.raises(UnknownField, match="there is no setting 'OTHER'"):
        _ = manager.settings.OTHER
    with pytest.raises(NotImplementedError):
        manager.propagate_settings()


def test_without_a_module_there_are_none_and_asking_says_so() -> None:
    manager = Settings("no_such_module_of_settings")
    assert not manager.is_loaded
    with pytest.raises(ConfigurationError, match="no module 'no_such_module_of_settings'"):
        _ = manager.settings


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("OTHER = 1\n", r"'PORT' is required, and not in .*settings_made\.py"),
        ("PORT = 'x'\n", "'PORT' of .*: expected a whole number"),
        ("PORT = [1]\n", "'PORT' of .*: expected int, got a list"),
        ("\n1 / 0\n", r"settings_made\.py:2: ZeroDivisionError"),
    ],
)
def test_bad_settings_are_told_with_their_file(module: Path, text: str, said: str) -> None:
    module.write_text(text)
    with pytest.raises(ConfigurationError, match=said):
        Settings("settings_made")


def test_fields_of_settings_have_guard_rails() -> None:
    with pytest.raises(ConfigurationError, match="'settings' cannot be a setting"):
        type("Bad", (SettingsManager,), {"settings": SettingsField()})
    with pytest.raises(ConfigurationError, match="it is private"):
        type("Bad", (SettingsManager,), {"_X": SettingsField()})


def test_a_started_component_reads_its_settings_and_secrets(tmp_path: Path) -> None:
    assert settings.read(tmp_path, {}) is None
    (tmp_path / settings.FILE).write_text('{"settings": {"PORT": 1}, "secrets": ["KEY"]}')
    assert settings.read(tmp_path, {"ORCH_SETTING_KEY": "k"}) == {"PORT": 1, "KEY": "k"}
    with pytest.raises(ConfigurationError, match="'KEY' is not in the environment"):
        settings.read(tmp_path, {})
    (tmp_path / settings.FILE).write_text("[")
    with pytest.raises(ConfigurationError, match="cannot read the settings"):
        settings.read(tmp_path, {})
