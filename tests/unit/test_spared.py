"""Modules that are left out of imports."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from orchestrator import client, spared


def test_what_is_left_out_cannot_be_imported_in_the_block_and_can_behind_it() -> None:
    sys.modules.pop("this", None)
    with spared.without("this", "sys"):
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module("this")
        assert importlib.import_module("sys") is sys, "what is loaded stays"
    assert "this" not in sys.modules


def test_it_is_put_right_after_a_failure() -> None:
    sys.modules.pop("this", None)
    with pytest.raises(ZeroDivisionError), spared.without("this"):
        raise ZeroDivisionError
    assert "this" not in sys.modules


@pytest.mark.parametrize(
    ("loads", "spares"),
    [
        ("orchestrator.daemon.__main__", "ssl gzip shutil difflib typer typing_extensions"),
        ("orchestrator.cli.early", "msgspec orchestrator.client.connection inspect"),
        (
            "orchestrator.cli.up",
            "orchestrator.client.rows shutil difflib jsonschema_rs dataclasses",
        ),
        ("orchestrator.client", "orchestrator.client.rows socket json"),
    ],
)
def test_what_is_started_often_loads_only_what_it_needs(loads: str, spares: str) -> None:
    """In an interpreter of its own; the daemon's module ends at its missing arguments."""
    code = f"""
import sys
try:
    import {loads}
except IndexError:
    pass
print(*set({spares!r}.split()) & sys.modules.keys())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_every_name_of_the_client_is_there() -> None:
    for name in client.__all__:
        assert getattr(client, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        client.nothing  # noqa: B018
