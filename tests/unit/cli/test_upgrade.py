"""upgrade: what the new code says of itself is told, and what stays as it was."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orchestrator import __version__
from tests.unit.cli.conftest import Orch
from tests.unit.cli.fake import FakeDaemon, Refusal

TOLD: dict[str, Any] = {
    "before": "0.0.9",
    "now": __version__,
    "pid": 12,
    "instances": 3,
    "keeper_pid": 11,
    "keeper_is_current": True,
}


def test_both_versions_are_told(
    orch: Orch, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.answers["upgrade"] = lambda _daemon, _params: TOLD
    assert orch("upgrade") == 0
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == (
        f"orch: upgraded from 0.0.9 to {__version__}: the daemon is pid 12 as before, "
        "3 instances were kept\n"
    )
    assert orch("upgrade", "--json") == 0
    assert json.loads(capsys.readouterr().out) == TOLD


def test_an_older_keeper_and_another_installation_are_told(
    orch: Orch, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.answers["upgrade"] = lambda _daemon, _params: {
        **TOLD,
        "now": "7.7",
        "keeper_is_current": False,
    }
    assert orch("upgrade") == 0
    shown = capsys.readouterr().err
    assert "the keeper, pid 11, goes on with the code it was started with" in shown
    assert f"this command is of version {__version__}" in shown


def test_a_refusal_is_told(
    orch: Orch, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(_daemon: FakeDaemon, _params: dict[str, Any]) -> dict[str, Any]:
        raise Refusal("upgrade", "cannot upgrade: the code on disk does not start")

    daemon.answers["upgrade"] = refuse
    assert orch("upgrade") == 1
    assert capsys.readouterr().err == "orch: cannot upgrade: the code on disk does not start\n"
