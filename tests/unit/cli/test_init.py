"""Keys for encrypted addresses."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from orchestrator.wire import keys
from tests.unit.cli.conftest import Orch


def test_a_key_pair_is_made_once(
    orch: Orch, world: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(world)
    assert orch("init", "--keys", "--name", "shop") == 0
    assert capsys.readouterr().out == "curve: {key: keys/shop.key}\n"
    secret, public = world / "keys" / "shop.key", world / "keys" / "shop.pub"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert stat.S_IMODE(secret.parent.stat().st_mode) == 0o700
    made = keys.read(secret.read_text())
    assert made.secret
    assert keys.read(public.read_text()) == keys.Keys(made.public)
    assert orch("init", "--keys", "--name", "shop") == 1
    assert keys.read(secret.read_text()) == made
    assert "not replaced" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [("init",), ("init", "--keys", "--name", "../x")])
def test_what_cannot_be_made_is_a_usage_error(
    orch: Orch, world: Path, monkeypatch: pytest.MonkeyPatch, argv: tuple[str, ...]
) -> None:
    monkeypatch.chdir(world)
    assert orch(*argv) == 2
    assert not (world / "keys").exists()
