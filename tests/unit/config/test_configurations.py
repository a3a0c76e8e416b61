"""Configurations: layer over layer, typed by what components declare, each with its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator import config
from orchestrator.config.configurations import Layered, Origin
from orchestrator.errors import UsageError
from tests.unit.config.conftest import Workshop

TOPOLOGY = """
    settings: {HOST: h, KEY: {secret: true, required: true}}
    config: {level: system, db: {host: system, port: 1}}
    services:
      shop:
        config: {level: service, db: {host: service}}
        components:
          api:
            handler: api.py
            config: {level: component}
          other: {command: sleep 1}
"""
MODEL = {
    "required": {"level": "str"},
    "optional": {
        "db": {"map": {"host": "str", "port": "int"}},
        "price": "Decimal",
        "tags": {"set": "str"},
        "count": "int",
    },
}


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    made = Workshop(tmp_path)
    made.environment["ORCH_SETTING_KEY"] = "k"
    made.write("api.py", "")
    return made


def answer(base: str = "shop.api", **more: Any) -> dict[str, Any]:
    return {
        "name": base,
        "error": None,
        "main": False,
        "config": MODEL,
        "config_model": True,
        "connections": {"in": {}, "out": {}},
        "states": {"in": {}, "out": {}},
        **more,
    }


def locked(shop: Workshop, text: str = TOPOLOGY, **options: Any) -> config.Locked:
    models = options.pop("models", {"shop.api": answer()})
    return shop.lock(text, models, **options)


def with_file(name: str) -> str:
    return TOPOLOGY.replace("handler: api.py", f"handler: api.py\n            config_file: {name}")


def values(found: config.Locked, base: str = "shop.api") -> Any:
    return dict(found.lock.components[base].config)


def layers(found: config.Locked, base: str = "shop.api") -> dict[str, tuple[str, int | None]]:
    """The layer of each value, and the line that gave it."""
    made: dict[str, tuple[str, int | None]] = {}
    for keys, origins in found.configured[base].plain().origins.items():
        position = origins[-1][0].position
        made[".".join(keys)] = (origins[-1][0].layer, position.line if position else None)
    return made


def test_layers_are_merged_and_each_value_knows_its_own(shop: Workshop) -> None:
    found = locked(shop)
    assert values(found) == {"level": "component", "db": {"host": "service", "port": 1}}
    assert layers(found) == {
        "level": ("component", 9),
        "db.host": ("service", 5),
        "db.port": ("system", 2),
    }
    origins = found.configured["shop.api"].plain().origins["level",]
    assert [origin.layer for origin, _ in origins] == ["system", "service", "component"]


def test_files_win_over_maps_the_environment_over_files_and_the_command_line_over_all(
    shop: Workshop,
) -> None:
    shop.write("api.yaml", "level: file\ncount: 1\ndb: {port: 2}\nprice: 1.10\n")
    text = TOPOLOGY.replace(
        "handler: api.py", "handler: api.py\n            config_file: api.yaml"
    )
    found = locked(shop, text)
    assert values(found) == {
        "level": "file", "count": 1, "db": {"host": "service", "port": 2}, "price": 1.1,
    }  # fmt: skip
    assert layers(found)["db.port"] == ("file", 3)
    shop.environment |= {
        "ORCH_CONFIG__LEVEL": "5", "ORCH_CONFIG__COUNT": "3", "ORCH_CONFIG__DB__PORT": "4",
        "ORCH_CONFIG__UNKNOWN": "x", "ORCH_CONFIG__TAGS": '["a"]',
    }  # fmt: skip
    found = locked(shop, text)
    assert values(found) == {
        "level": "5", "count": 3, "price": 1.1, "tags": ["a"],
        "db": {"host": "service", "port": 4},
    }  # fmt: skip
    assert layers(found)["db.port"] == ("environment", None)
    given = {"shop.api.count": "6", "shop.api.db.port": "7", "shop.db.host": "all", "HOST": "x"}
    found = locked(shop, text, settings=given)
    assert values(found)["count"] == 6
    assert values(found)["db"] == {"host": "all", "port": 7}
    assert values(found, "shop.other")["db"] == {"host": "all", "port": 4}
    assert layers(found)["count"] == ("--set", None)


def test_files_of_the_service_and_the_system_are_below_the_component_s(shop: Workshop) -> None:
    shop.write("system.yaml", "level: s\ncount: 1\n")
    shop.write("service.json", '{"count": 2, "price": "3"}')
    shop.write("own.yaml", "price: 4\n")
    text = """
        config_file: system.yaml
        services:
          shop:
            config_file: [service.json]
            components: {api: {handler: api.py, config_file: own.yaml}}
    """
    assert values(locked(shop, text)) == {"level": "s", "count": 2, "price": 4}


def test_a_python_module_gives_a_configuration(shop: Workshop) -> None:
    shop.write("conf.py", "level = 'x'\nprice = None\n")
    gives = {"values": {"level": "x", "price": {"__decimal__": "1.10"}}, "lines": {"level": 1}}
    text = with_file("conf.py")
    found = locked(shop, text, modules=lambda _: {"error": None, **gives})
    assert values(found)["price"] == "1.10"
    assert layers(found)["level"] == ("file", 1)


@pytest.mark.parametrize(
    ("config_", "code", "said"),
    [
        ("{level: a, cuont: 1}", "ORC434", "no configuration 'cuont'; did you mean 'count'?"),
        ("{level: 1}", "ORC435", "'level': expected str, got a int"),
        ("{level: a, count: x}", "ORC435", "'count': expected a whole number"),
        ("{level: a, price: x}", "ORC435", "'price': expected a decimal number"),
        ("{level: a, db: {port: x}}", "ORC435", "expected a whole number"),
        ("{level: a, db: 5}", "ORC435", "'db': expected {'host': str, 'port': int}, got a int"),
        ("{level: a, tags: [[1]]}", "ORC435", "'tags': unhashable"),
    ],
)
def test_what_does_not_fit_is_told_at_its_place(
    shop: Workshop, config_: str, code: str, said: str
) -> None:
    text = f"""
        services:
          shop:
            components:
              api: {{handler: api.py, config: {config_}}}
    """
    (mistake,) = shop.mistakes(text, {"shop.api": answer()})
    told = f"{mistake.message}; {mistake.hint}"
    assert (mistake.code, said in told) == (code, True), told
    assert mistake.position.line == 4


def test_what_is_required_and_given_by_nobody_is_missing(shop: Workshop) -> None:
    text = "services: {shop: {components: {api: {handler: api.py}}}}"
    (mistake,) = shop.mistakes(text, {"shop.api": answer()})
    assert (mistake.code, "'level': str" in mistake.message) == ("ORC436", True)
    assert shop.mistakes(text, {"shop.api": answer(setup_config=True)}) == ()
    text = text.replace("api.py", "api.py, environment: {ORCH_CONFIG__LEVEL: x}")
    assert shop.mistakes(text, {"shop.api": answer()}) == ()


def test_what_several_are_given_must_be_known_to_one(shop: Workshop) -> None:
    text = """
        config: {levels: x}
        services:
          shop:
            config: {level: a, mine: 1}
            components: {api: {handler: api.py}, two: {handler: api.py}}
    """
    models = {
        "shop.api": answer(),
        "shop.two": answer(
            "shop.two", config={"required": {}, "optional": {"mine": "int", "level": "str"}}
        ),
    }
    (mistake,) = shop.mistakes(text, models)
    assert mistake.message == "no component here has the configuration 'levels'"
    assert mistake.position.line == 1
    found = locked(shop, text.replace("levels", "level"), models=models)
    assert values(found) == {"level": "a"}, "what another knows is kept from it"
    assert values(found, "shop.two") == {"level": "a", "mine": 1}


def test_overrides_name_what_is_there(shop: Workshop) -> None:
    for word, said in {
        "shpo.api.level": "no service 'shpo'; did you mean 'shop'",
        "shop.apy.level": "shop has no component 'apy'; did you mean 'api'",
        "shop.api": "names no key",
    }.items():
        with pytest.raises(UsageError, match=said):
            locked(shop, settings={word: "1"})
    (mistake,) = shop.mistakes(TOPOLOGY, {"shop.api": answer()}, settings={"shop.api.count": "x"})
    assert "from --set shop.api.count: expected a whole number" in mistake.message
    (mistake,) = shop.mistakes(TOPOLOGY, {"shop.api": answer()}, settings={"shop.api.nono": "x"})
    assert mistake.code == "ORC434"


# --- Configuration objects of packages

FIELDS = {
    "symbol": {"plain": "str", "value": "BTC", "file": "/code/conf.py", "line": 3},
    "limit": {"plain": "Decimal", "value": {"__decimal__": "1.10"}, "file": None, "line": None},
    "db": {"plain": "dict", "value": {"host": "localhost", "port": 1}, "file": None, "line": None},
    "token": {"plain": "str", "value": "", "set": "${settings.KEY}", "file": None, "line": None},
    "log": {
        "plain": "str", "value": None, "file": None, "line": None,
        "standard": {"api": "/base/logging/shop-api-log", "api@2": "/base/logging/shop-api@2-log"},
    },
}  # fmt: skip
PACKAGE = """
    settings: {KEY: {secret: true, required: true}, PORT: 80}
    addresses: {orders: "tcp://127.0.0.1:8001"}
    services:
      shop:
        components:
          api:
            package: shop.api
            replicas: 2
            config: {limit: 2.5, db: {host: "${addresses.orders}", user: "${self.name}"}}
"""


def package(**more: Any) -> dict[str, Any]:
    described = {
        "fullname": "shop.conf.CONF", "type": "component", "package": None, "fields": FIELDS,
    }  # fmt: skip
    return {
        **answer(config_model=False),
        "configurations": [described],
        "settings": ["KEY", "PORT"],
        "hook": {"file": "/code/settings.py", "line": 9},
        **more,
    }


def test_configuration_objects_have_every_layer_for_each_instance(shop: Workshop) -> None:
    found = locked(shop, PACKAGE, models={"shop.api": package()})
    second = found.lock.components["shop.api@2"]
    assert second.configurations == {
        "shop.conf.CONF": {
            "conf": {
                "symbol": "BTC",
                "limit": {"__decimal__": "2.5"},
                "db": {"host": "tcp://127.0.0.1:8001", "port": 1, "user": "shop.api@2"},
                "token": "${settings.KEY}",
                "log": "/base/logging/shop-api@2-log",
            },
            "defaults": ["symbol"],
        }
    }
    assert second.secrets == ("KEY",)
    assert second.settings == {"PORT": 80}
    ((_, layered),) = found.configured["shop.api"].objects("api")
    told = {
        key: (origin.layer, str(origin.position))
        for key in FIELDS
        if (origin := layered.origin(key)) is not None
    }
    assert told["symbol"] == ("default", "/code/conf.py:3:1")
    assert told["token"] == ("settings", "/code/settings.py:9:1")
    assert told["limit"][0] == "component"
    assert told["log"] == ("default", "None")


def test_built_files_keep_types_and_name_their_secrets(shop: Workshop) -> None:
    found = locked(shop, PACKAGE, models={"shop.api": package()})
    files = {file.path: file for file in config.build.files_of(found.lock)}
    built = json.loads(files["conf/shop-api/shop.conf.CONF"].text)
    assert built["fullname"] == "shop.conf.CONF"
    assert built["conf"]["limit"] == {"__decimal__": "2.5"}
    assert built["secrets"] == ["KEY"]
    given = json.loads(files["conf/shop-api/settings.json"].text)
    assert given == {"settings": {"PORT": 80}, "secrets": ["KEY"]}


@pytest.mark.parametrize(
    ("config_", "code", "said"),
    [
        ("{smybol: x}", "ORC434", "did you mean 'symbol'?"),
        ("{limit: much}", "ORC435", "'limit': expected a decimal number"),
        ("{db: [1]}", "ORC435", "'db': expected dict, got a list"),
        ("{shop.conf.CONF: {limit: much}}", "ORC435", "'limit': expected a decimal number"),
    ],
)
def test_mistakes_in_what_objects_are_given_have_their_place(
    shop: Workshop, config_: str, code: str, said: str
) -> None:
    text = f"services: {{shop: {{components: {{api: {{package: a.b, config: {config_}}}}}}}}}"
    (mistake,) = shop.mistakes(text, {"shop.api": package()})
    assert (mistake.code, said in f"{mistake.message}; {mistake.hint}") == (code, True), mistake


def test_a_broken_configuration_of_a_package_is_told_once_where_that_is_named(
    shop: Workshop,
) -> None:
    text = """
        packages: {common: {path: ., conf: "common:X"}}
        services: {shop: {components: {api: {package: a.b}, two: {package: a.c}}}}
    """
    broken = package(packages={"common": "the module common has no 'X'"})
    (mistake,) = shop.mistakes(text, {"shop.api": broken, "shop.two": {**broken}})
    assert (mistake.code, mistake.position.line) == ("ORC437", 1)
    (mistake,) = shop.mistakes(text.replace("path: .", "path: nowhere"), {})
    assert mistake.code == "ORC230"


def test_a_package_s_own_values_are_its_lowest_layer(shop: Workshop) -> None:
    text = """
        packages: {common: {config: {symbol: package, limit: 3}}}
        services: {shop: {components: {api: {package: a.b, config: {symbol: own}}}}}
    """
    answered = package()
    answered["configurations"][0]["package"] = "common"
    found = locked(shop, text, models={"shop.api": answered})
    values_ = found.lock.components["shop.api"].configurations["shop.conf.CONF"]["conf"]
    assert (values_["symbol"], values_["limit"]) == ("own", {"__decimal__": "3"})


def test_equal_requests_are_asked_once_and_packages_are_told_of_settings(shop: Workshop) -> None:
    requests = {one["name"]: one for one in shop.read(PACKAGE).handlers}
    asked = requests["shop.api"]["configure"]
    assert asked["component"] == ["api", "api@2"]
    assert asked["settings"] == {"KEY": "${settings.KEY}", "PORT": 80}
    text = "services: {a: {components: {b: {handler: api.py}, c: {handler: api.py}}}}"
    one, two = shop.read("packages: {common: {}}\n" + text).handlers
    assert {**one, "name": ""} == {**two, "name": ""}


def test_a_value_of_another_shape_forgets_what_was_below() -> None:
    made = Layered()
    layers_: list[dict[str, Any]] = [{"a": {"b": 1, "c": 2}}, {"a": 3}, {"a": {"d": 4}}]
    for fields in layers_:
        made.over(fields, lambda _: Origin("component"))
    assert made.values == {"a": {"d": 4}}
    assert list(made.origins) == [("a", "d")]


def test_a_handler_has_its_own_keys_and_those_of_packages_beside_them(shop: Workshop) -> None:
    text = """
        packages: {common: {}}
        services:
          shop:
            components: {api: {handler: api.py, config: {level: a, symbol: x, free: 1}}}
    """
    objects = {"configurations": package()["configurations"]}
    free = answer(config_model=False, **objects)
    found = locked(shop, text, models={"shop.api": free})
    assert values(found) == {"level": "a", "symbol": "x", "free": 1}, "it takes anything"
    assert (
        found.lock.components["shop.api"].configurations["shop.conf.CONF"]["conf"]["symbol"] == "x"
    )
    (mistake,) = shop.mistakes(text, {"shop.api": answer(**objects)})
    assert "no configuration 'free'" in mistake.message
    found = locked(shop, text.replace(", free: 1", ""), models={"shop.api": answer(**objects)})
    assert values(found) == {"level": "a"}, "its model knows nothing else"
    found = locked(shop, text, models={"shop.api": free}, settings={"shop.api.limit": "3.5"})
    conf = found.lock.components["shop.api"].configurations["shop.conf.CONF"]["conf"]
    assert conf["limit"] == {"__decimal__": "3.5"}
