"""Configuration objects: declared with guard rails, filled in, and kept with exact types."""

from __future__ import annotations

import json
import math
import operator
import os
import stat
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.component import (
    ConfField,
    Configuration,
    ConfigurationError,
    ConfigurationManager,
    DirConfField,
    FileConfField,
    UnknownField,
    confobjects,
    rehearsal,
)
from orchestrator.component.errors import SetupError
from orchestrator.wire import exactjson


@pytest.fixture
def module() -> Iterator[ModuleType]:
    """A module as an author writes one, with configurations of all three types."""
    made = ModuleType("shop_conf_made")
    sys.modules[made.__name__] = made
    code = """
import operator
from orchestrator.component import ConfField, ConfigurationManager, DirConfField, FileConfField

class _Manager(ConfigurationManager):
    symbol = ConfField("BTC-USD")
    limits = ConfField({"low": 1})
    log = FileConfField("main.log", "logging")
    cache = DirConfField("cache", "data")
    database = FileConfField(
        "db.sqlite3", "data", value={"ENGINE": "sqlite3", "NAME": None},
        setattr_fct=lambda conf, key, path: operator.setitem(getattr(conf, key), "NAME", path),
    )

CONFIGURATION = _Manager("component")
CONF = CONFIGURATION.to_conf()
OF_SERVICE = _Manager("service", "OF_SERVICE").to_conf()
OF_PACKAGE = _Manager("package", var_name="OF_PACKAGE").to_conf()
NUMBER = 3
"""
    exec(compile(code, "shop_conf_made.py", "exec"), vars(made))
    yield made
    del sys.modules[made.__name__]


def test_a_configuration_has_its_defaults_and_refuses_other_names(module: ModuleType) -> None:
    conf = module.CONF
    assert isinstance(conf, Configuration)
    assert conf.symbol == "BTC-USD"
    assert conf.fullname == "shop_conf_made.CONF"
    assert list(conf.to_dict()) == ["symbol", "limits", "log", "cache", "database"]
    assert "symbol" in dir(conf)
    assert "symbol: BTC-USD" in str(conf)
    with pytest.raises(UnknownField, match=r"no field 'symbols_'; did you mean 'symbol'\?"):
        conf.symbols_ = "ETH"
    with pytest.raises(AttributeError, match="no field 'nothing'; there are symbol"):
        _ = conf.nothing
    with pytest.raises(KeyError):
        conf.from_dict({"symbol": "ETH", "wrong": 1})
    with pytest.raises(ConfigurationError, match="_private"):
        conf._private = 1
    with pytest.raises(ConfigurationError, match="cannot delete"):
        del conf.symbol
    assert conf.symbol == "BTC-USD", "a refused dict sets nothing"


def test_defaults_are_shared_with_nobody(module: ModuleType) -> None:
    module.CONF.limits["low"] = 2
    assert module.OF_SERVICE.limits == {"low": 1}
    assert module.CONFIGURATION.to_conf() is module.CONF


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"build": ConfField(1)}, "'build' cannot be a field: configurations have a method"),
        ({"to_file": ConfField(1)}, "'to_file' cannot be a field"),
        ({"CONF_PATH": ConfField(1)}, "'CONF_PATH' cannot be a field"),
        ({"_secret": ConfField(1)}, "'_secret' cannot be a field: names that begin with _"),
        ({"symbol": "BTC"}, r"'symbol' is no field but a str; write ConfField\(…\)"),
    ],
)
def test_names_that_cannot_be_fields_fail_where_they_are_declared(
    body: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigurationError, match=said):
        type("Manager", (ConfigurationManager,), body)


def test_every_mistake_of_a_class_is_told_at_once() -> None:
    with pytest.raises(ConfigurationError) as caught:
        type("Manager", (ConfigurationManager,), {"build": ConfField(), "_x": ConfField()})
    assert len(caught.value.mistakes) == 2


def test_fields_are_inherited_and_methods_are_allowed() -> None:
    class Base(ConfigurationManager):
        a = ConfField(1)

        def helper(self) -> int:
            return 1

    class Derived(Base):
        b = ConfField(2)

    assert Derived("package").to_conf().to_dict() == {"a": 1, "b": 2}
    assert Derived("package").conf_keys == {"a", "b"}


def test_bad_declarations_of_fields_say_so() -> None:
    with pytest.raises(ConfigurationError, match="category 'logs' is none of 'data', 'logging'"):
        FileConfField("x", "logs")
    with pytest.raises(ConfigurationError, match="below its category"):
        DirConfField("../x", "data")
    with pytest.raises(ConfigurationError, match="describes no type"):
        ConfField(type=3)
    with pytest.raises(ConfigurationError, match="the default"):
        ConfField("x", type=int)
    with pytest.raises(ConfigurationError, match="not to 'system'"):
        ConfigurationManager("system")


def test_a_declared_type_is_kept() -> None:
    class Manager(ConfigurationManager):
        price = ConfField(type=Decimal)
        levels = ConfField({}, type={str: int})

    conf = Manager("package").to_conf()
    conf.price = Decimal("1.10")
    with pytest.raises(ConfigurationError, match="'price'"):
        conf.price = "1.10"
    with pytest.raises(ConfigurationError, match="'levels'"):
        conf.levels = {"a": "b"}


def test_standard_paths_are_named_after_whom_they_belong_to(
    module: ModuleType, tmp_path: Path
) -> None:
    for conf in (module.CONF, module.OF_SERVICE, module.OF_PACKAGE):
        conf.standard_configure(tmp_path, "shop", "api")
    assert module.CONF.log == str(tmp_path / "logging/shop-api-main.log")
    assert module.OF_SERVICE.log == str(tmp_path / "logging/shop-main.log")
    assert module.OF_PACKAGE.cache == str(tmp_path / "data/cache")
    assert module.CONF.database == {
        "ENGINE": "sqlite3",
        "NAME": str(tmp_path / "data/shop-api-db.sqlite3"),
    }


def test_standard_paths_move_and_what_was_set_stays(module: ModuleType, tmp_path: Path) -> None:
    conf = module.CONF
    conf.cache = "/mine"
    for base in (tmp_path / "one", tmp_path / "two", tmp_path / "two"):
        conf.standard_configure(base, "shop", "api")
    assert conf.log == str(tmp_path / "two/logging/shop-api-main.log")
    assert conf.database["NAME"] == str(tmp_path / "two/data/shop-api-db.sqlite3")
    assert conf.cache == "/mine"
    conf.log = str(tmp_path / "own.log")
    conf.standard_configure(tmp_path / "three", "shop", "api")
    assert conf.log == str(tmp_path / "own.log")


def test_a_custom_setter_may_set_the_field_itself(tmp_path: Path) -> None:
    class Manager(ConfigurationManager):
        url = FileConfField(
            "a.db", "data", setattr_fct=lambda conf, key, path: setattr(conf, key, f"file:{path}")
        )

    conf = Manager("package").to_conf()
    conf.standard_configure(tmp_path / "one", "s", "c")
    conf.standard_configure(tmp_path / "two", "s", "c")
    assert conf.url == f"file:{tmp_path}/two/data/a.db"


def test_a_build_makes_the_tree_and_the_file_loads(module: ModuleType, tmp_path: Path) -> None:
    base = tmp_path / "not" / "there"
    umask = os.umask(0)
    try:
        module.CONF.standard_configure(base, "shop", "api")
        path = module.CONF.build(base, "shop", "api")
    finally:
        os.umask(umask)
    assert path == str(base / "conf/shop-api/shop_conf_made.CONF")
    for one in (
        base.parent,
        base,
        base / "logging",
        base / "static",
        base / "data/shop-api-cache",
    ):
        assert stat.S_IMODE(one.stat().st_mode) == 0o750, one
    assert stat.S_IMODE(Path(path).stat().st_mode) == 0o640
    assert json.loads(Path(path).read_text())["fullname"] == "shop_conf_made.CONF"
    before = module.CONF.to_dict()
    vars(module)["CONF"] = module.CONFIGURATION.__class__("component").to_conf()
    (loaded,) = confobjects.load_directory(Path(path).parent)
    assert loaded.to_dict() == before
    assert path == loaded.CONF_PATH
    loaded.standard_configure("/elsewhere", "shop", "api")
    assert loaded.log == before["log"], "what was loaded is what somebody wants"


def test_sync_file_loads_lets_edit_and_writes_back(module: ModuleType, tmp_path: Path) -> None:
    path = module.CONF.build(tmp_path, "shop", "api")
    with module.CONF.sync_file(path) as conf:
        conf.symbol = "ETH-USD"
    assert json.loads(Path(path).read_text())["conf"]["symbol"] == "ETH-USD"
    text = Path(path).read_text()
    with pytest.raises(ZeroDivisionError), module.CONF.sync_file(path):
        operator.truediv(1, 0)
    assert Path(path).read_text() == text
    other = module.OF_SERVICE.build(tmp_path, "shop", "api")
    with (
        pytest.raises(ConfigurationError, match=r"it is of shop_conf_made\.OF_SERVICE"),
        module.CONF.sync_file(other),
    ):
        pass


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", r"conf:1:2: Expecting"),
        ("[]", "it is no file of a configuration"),
        ('{"fullname": "shop_conf_made.CONF", "conf": 1}', "its `conf` is no map"),
        ('{"fullname": "shop_conf_made.CONF", "conf": {"a": 1}}', "conf: .* has no field 'a'"),
        ('{"fullname": "shop_conf_made.NUMBER", "conf": {}}', "is no configuration but a int"),
        ('{"fullname": "shop_conf_made.NOTHING", "conf": {}}', "has no 'NOTHING'"),
        ('{"fullname": "no_such_module_x.CONF", "conf": {}}', "cannot import no_such_module_x"),
        ('{"fullname": "CONF", "conf": {}}', "not the full name"),
        (
            '{"fullname": "shop_conf_made.CONF", "conf": {"symbol": {"__decimal__": "x"}}}',
            "'x' is no value of __decimal__",
        ),
    ],
)
@pytest.mark.usefixtures("module")
def test_a_bad_file_is_named_with_its_mistake(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "conf"
    path.write_text(text)
    with pytest.raises(SetupError, match=said) as caught:
        ConfigurationManager.set_conf_from_file(path)
    assert isinstance(caught.value, ConfigurationError)


def test_files_that_cannot_be_are_clear_errors(module: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"cannot read .*nothing"):
        ConfigurationManager.set_conf_from_file(tmp_path / "nothing")
    with pytest.raises(ConfigurationError, match=r"cannot read .*nothing"):
        confobjects.load_directory(tmp_path / "nothing")
    (tmp_path / "data").write_text("")
    with pytest.raises(ConfigurationError, match="cannot make the directory"):
        module.CONF.build(tmp_path / "data", "shop", "api")
    module.CONF.symbol = operator.add
    with pytest.raises(ConfigurationError, match=r"conf\.symbol is a builtin_function"):
        module.CONFIGURATION.to_file(tmp_path / "x")
    assert not (tmp_path / "x").exists()


EXACT = {
    "price": Decimal("1.10"),
    "at": datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC),
    "naive": datetime(2026, 1, 2),  # noqa: DTZ001 - it must stay so
    "day": date(2026, 1, 2),
    "clock": time(3, 4, 5),
    "span": timedelta(days=-1, microseconds=3),
    "id": UUID("6f1c2a34-5b6d-4e7f-8a9b-0c1d2e3f4a5b"),
    "tags": {"b", "a"},
    "frozen": frozenset({1, (2, Decimal(3))}),
    "pair": (1, [2, (3,)]),
    "raw": b"\x00\xff",
    "like a date": "2026-01-02T03:04:05.000000Z",
    "like a marker": {"__decimal__": "1.10"},
    "keys": {1: "a", Decimal("2.5"): "b"},
    "path": Path("/a/b"),
    "infinite": math.inf,
    "nothing": None,
}


def test_exact_types_survive() -> None:
    again = exactjson.load(json.loads(exactjson.text(EXACT)))
    assert again == EXACT
    assert {key: type(value) for key, value in again.items()} == {
        key: type(value) for key, value in EXACT.items()
    }


_SCALARS = (
    st.none() | st.booleans() | st.integers() | st.text() | st.binary() | st.uuids()
    | st.floats(allow_nan=False) | st.decimals(allow_nan=False) | st.dates() | st.timedeltas()
)  # fmt: skip
_KEYS = st.text() | st.integers() | st.sampled_from(["__decimal__", "__map__", "__set__"])


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    st.recursive(
        _SCALARS,
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(_KEYS, inner)
            | st.tuples(inner, inner)
            | st.sets(_SCALARS)
            | st.frozensets(_SCALARS)
        ),
        max_leaves=10,
    )
)
def test_whatever_is_dumped_is_loaded(value: Any) -> None:
    again = exactjson.load(json.loads(json.dumps(exactjson.dump(value))))
    assert again == value
    assert type(again) is type(value)


def test_code_beside_the_files_of_a_component_is_no_configuration() -> None:
    """The zygote rehearses a component whose handler lies there; without it starts are slow."""
    assert confobjects.files_in(rehearsal._INSTANCE) == []
