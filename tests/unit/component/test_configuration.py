"""The layers of a configuration, and every mistake in them at once."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import UUID

import pytest

from orchestrator.component import configuration, handlers
from orchestrator.component.errors import SetupError
from orchestrator.component.handlers import Handler


def handler(**names: Any) -> Handler:
    module = ModuleType("made")
    vars(module).update(names)
    return handlers.read(module)


def resolve(
    model: Any = None,
    file: dict[str, Any] | None = None,
    environment: dict[str, str] | None = None,
    arguments: dict[str, str] | None = None,
    hooks: dict[str, Any] | None = None,
    **names: Any,
) -> dict[str, Any]:
    made = handler(config_model=model, **(hooks or {}), **names)
    return configuration.resolve(made, file or {}, environment or {}, arguments or {})


def test_later_layers_win() -> None:
    model = {"required": dict.fromkeys("abcd", str)}
    found = resolve(
        model,
        dict.fromkeys("abcd", "file"),
        {f"ORCH_CONFIG__{key}": "environment" for key in "BCD"},
        dict.fromkeys("cd", "arguments"),
        setup_config=lambda config: {"d": config["d"] + " and hook"},
    )
    assert found == {"a": "file", "b": "environment", "c": "arguments", "d": "arguments and hook"}


@pytest.mark.parametrize("name", ["setup_config", "setup_configs"])
def test_the_hook_is_merged_under_both_names_flat_and_in_groups(name: str) -> None:
    model = {"required": {"a": int}, "optional": {"b": int}}
    for result in ({"b": 2}, {"required": {}, "optional": {"b": 2}}):
        assert resolve(model, {"a": 1}, hooks={name: lambda _, found=result: found}) == {
            "a": 1,
            "b": 2,
        }


def test_values_become_what_the_model_says() -> None:
    model = {
        "required": {
            "price": Decimal,
            "exact": Decimal,
            "at": datetime,
            "id": UUID,
            "tags": {str},
            "pair": (str, Decimal),
            "levels": {Decimal: [Decimal]},
            "ratio": float,
            "raw": bytes,
            "inner": {"at": datetime},
            "free": dict,
        }
    }
    identity = "6f1c2a34-5b6d-4e7f-8a9b-0c1d2e3f4a5b"
    found = resolve(
        model,
        {
            "price": 0.1,
            "exact": "1.10",
            "at": "2026-01-02T03:04:05Z",
            "id": identity,
            "tags": ["a", "a"],
            "pair": ["x", 1],
            "levels": {"1.5": ["2"]},
            "ratio": 2,
            "raw": "é",
            "inner": {"at": "2026-01-02T03:04:05Z"},
            "free": {"x": 1},
        },
    )
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert found == {
        "price": Decimal("0.1"),
        "exact": Decimal("1.10"),
        "at": moment,
        "id": UUID(identity),
        "tags": {"a"},
        "pair": ("x", Decimal(1)),
        "levels": {Decimal("1.5"): [Decimal(2)]},
        "ratio": 2.0,
        "raw": "é".encode(),
        "inner": {"at": moment},
        "free": {"x": 1},
    }


def test_text_becomes_what_the_model_says() -> None:
    model = {
        "required": {
            "n": int,
            "f": float,
            "b": bool,
            "d": Decimal,
            "l": [int],
            "s": str,
            "any": object,
        }
    }
    given = {"n": "5", "f": "1.5", "b": "yes", "d": "1.10", "l": "[1, 2]", "s": "5", "any": "5"}
    expected = {
        "n": 5,
        "f": 1.5,
        "b": True,
        "d": Decimal("1.10"),
        "l": [1, 2],
        "s": "5",
        "any": "5",
    }
    assert resolve(model, arguments=given) == expected
    assert (
        resolve(model, environment={f"ORCH_CONFIG__{k.upper()}": v for k, v in given.items()})
        == expected
    )


def test_without_a_model_everything_is_kept() -> None:
    assert resolve(None, {"a": 1}, {"ORCH_CONFIG__B": "x"}, {"c": "y"}) == {
        "a": 1,
        "b": "x",
        "c": "y",
    }


def test_every_mistake_is_named_at_once() -> None:
    model = {
        "required": {"symbol": str, "window": int, "price": Decimal, "at": datetime},
        "optional": {"on": bool},
    }
    with pytest.raises(SetupError) as caught:
        resolve(
            model,
            {"window": "many", "price": [1], "at": "soon", "unknown": 1},
            arguments={"on": "perhaps"},
        )
    assert caught.value.mistakes == (
        "configuration: 'window' from the file: expected a whole number",
        (
            "configuration: 'at' from the file: expected a time, "
            'such as "2026-01-02T03:04:05+00:00"'
        ),
        "configuration: 'on' from the arguments: expected true or false",
        "configuration: 'symbol' is missing: expected str",
        "configuration: 'price': expected Decimal, got list [1]",
        (
            "configuration: 'unknown' is not declared; "
            "declared are 'symbol', 'window', 'price', 'at', 'on'"
        ),
    )


def test_secrets_come_from_the_environment() -> None:
    found = resolve(
        None,
        {"url": "http://u:${settings.KEY}@h", "list": ["${settings.KEY}"], "plain": "$5"},
        {"ORCH_SETTING_KEY": "s3cret"},
    )
    assert found == {"url": "http://u:s3cret@h", "list": ["s3cret"], "plain": "$5"}
    with pytest.raises(
        SetupError, match="the setting 'KEY' is not in the environment, as ORCH_SETTING_KEY"
    ):
        resolve(None, {"url": "${settings.KEY}"})


def test_a_failing_hook_is_an_error_with_its_line() -> None:
    def fails(_: object) -> None:
        raise RuntimeError("no such exchange")

    with pytest.raises(
        SetupError,
        match=r"setup_config failed: .*test_configuration.py:\d+: RuntimeError: no such",
    ):
        resolve(None, setup_config=fails)
    with pytest.raises(SetupError, match="setup_config must return a dict, got int"):
        resolve(None, setup_config=lambda _: 5)


def test_the_groups_of_the_file_are_flattened(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"required": {"a": 1}, "optional": {"b": 2}}')
    assert configuration.read(path) == {"a": 1, "b": 2}
    path.write_text('{"required": 1}')
    assert configuration.read(path) == {"required": 1}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{\n 1}", r":2:2: cannot read the configuration"),
        ("[]", "expected an object"),
        ("\xff", "not UTF-8|cannot read"),
    ],
)
def test_a_broken_file_is_named_with_line_and_column(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(SetupError, match=said):
        configuration.read(path)
    with pytest.raises(SetupError, match="No such file"):
        configuration.read(tmp_path / "other.json")
