"""Types of connections and states in words."""

from __future__ import annotations

import subprocess
import sys

import pytest

from orchestrator.component import explaining


@pytest.mark.parametrize("name", explaining.TYPES)
def test_every_type_and_argument_is_explained(name: str) -> None:
    kind = explaining.TYPES[name]
    said = explaining.text(name)
    assert said is not None
    assert said.startswith(f"{name}: ")
    for argument in [*filter(None, [kind.function]), *kind.creation]:
        assert f"    {argument} " in said
    for partner in kind.partners:
        assert partner in said
    assert max(map(len, said.splitlines())) <= 120


def test_other_names_are_explained_too() -> None:
    assert explaining.text("external_target") == explaining.text("external_request")
    both = explaining.text("local_variable_delta_update")
    assert both is not None
    assert "delta_update_in: " in both
    assert "delta_update_out: " in both
    assert explaining.text("repliers") is None


def test_nobody_pays_for_sockets() -> None:
    code = "import orchestrator.component.explaining, sys; sys.exit('zmq' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
