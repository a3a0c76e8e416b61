"""Administrators called as services call them, without orch."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from orchestrator.component import (
    Administrator,
    Command,
    CommandArg,
    Component,
    ComponentError,
    ConfField,
    ConfigurationManager,
)


class _Manager(ConfigurationManager):
    size = ConfField(1)


class _Api(Component):
    def run(self) -> None:
        sys.stdout.write(f"runs {self.conf.size}\n")


class _Shop(Administrator):
    commands = (
        Command("grow", args=[CommandArg("--by", type=int, default=1, help="how much")]),
        Command("count", help="Count.", concerned_components=["api", "store.other"]),
    )

    def propagate_settings(self, component: object = None, component_arg: object = None) -> None:
        assert isinstance(component, Component)
        component.conf.size = 10 if component_arg is None else int(str(component_arg))

    def cmd_grow(self, component: Component, parsed: object, unknown: list[str]) -> None:
        """Make it bigger.

        By that much.
        """
        told = (component.full_name, component.conf.size, vars(parsed)["by"], unknown)
        sys.stdout.write(" ".join(["grows", *map(str, told)]) + "\n")

    def cmd_count(self) -> None:
        sys.stdout.write("counts\n")

    def cmd_fail(self, component: Component) -> None:
        raise KeyError(component.name)


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> _Shop:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("orchestrator.component.exits.manage", lambda: None)
    module = ModuleType("shop_of_a_test")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    components = []
    for service, name in (("shop", "api"), ("shop", "web"), ("store", "other")):
        manager = _Manager("component", f"CONF_{service}_{name}")
        components.append(_Api(service, name, [manager], load_name=f"{service}_{name}"))
        setattr(module, f"{service}_{name}", components[-1])
    return _Shop("shop", components)


def test_a_command_has_arguments_settings_and_what_is_unknown(
    shop: _Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    assert shop(["shop", "api", "grow", "--by", "3", "more"]) == 0
    assert shop(["shop", "web", "-c", "7", "grow"]) == 0
    assert capsys.readouterr().out == "grows shop.api 10 3 ['more']\ngrows shop.web 7 1 []\n"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["shop"], 2, "component"),
        (["shap", "api", "grow"], 2, "shap"),
        (["shop", "other", "grow"], 2, "shop has no component 'other'; there are api, web"),
        (["shop", "api", "shrink"], 2, "shop.api has no command 'shrink' (no such command)"),
        (["shop", "api", "grows"], 2, "did you mean 'grow'?"),
        (["shop", "web", "count"], 2, "shop.web has no command 'count' (not for it)"),
        (["shop", "api", "grow", "--by", "much"], 2, "invalid int value: 'much'"),
        (["shop", "api", "count", "on"], 2, "unrecognized arguments: on"),
        (["shop", "api", "fail"], 1, "KeyError: 'api'"),
        (
            ["shop", "api", "collect_static"],
            1,
            "cannot make Django's files: shop.api configures no",
        ),
    ],
)
def test_wrong_words_are_2_and_failures_1(
    shop: _Shop, capsys: pytest.CaptureFixture[str], words: list[str], code: int, said: str
) -> None:
    with pytest.raises(SystemExit) as end:
        shop(words)
    assert end.value.code == code
    told = capsys.readouterr().err
    assert said in told
    assert ("Traceback" in told) == (words[-1] == "fail")


def test_commands_concern_components_and_have_help(shop: _Shop) -> None:
    api, web, other = shop.components.values()
    assert "count" in shop.commands_of(api)
    assert "count" not in shop.commands_of(web)
    assert "count" in shop.commands_of(other)
    assert shop.commands_of(web)["grow"].help == "Make it bigger."


def test_build_and_start_do_their_steps_once(
    shop: _Shop, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    shop(["shop", "api", "-b", "here", "build"])
    built = tmp_path / "here" / "conf" / "shop-api"
    assert capsys.readouterr().out == f"{built}\n"
    assert (built / "__info__.json").is_file()
    shop(["shop", "api", "start"])
    assert capsys.readouterr().out == "runs 10\n"
    assert not (tmp_path / "app_data").exists()


def test_two_components_of_one_name_are_refused() -> None:
    with pytest.raises(ComponentError, match=r"two components are called shop.api"):
        Administrator("shop", [_Api("shop", "api"), _Api("shop", "api")])


def test_a_command_without_a_function_is_refused() -> None:
    class Bad(Administrator):
        commands = (Command("nothing"),)

    with pytest.raises(ComponentError, match="'nothing' has no function cmd_nothing"):
        Bad("shop", [])
