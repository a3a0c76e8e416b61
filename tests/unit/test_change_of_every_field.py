"""What the change of each field does to a running instance, from the schema to the plan."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator import config
from orchestrator.config import Locked
from orchestrator.model.topology import Component
from orchestrator.supervision import changes
from orchestrator.supervision.changes import Action, Operation, Present
from tests import field_changes

ACTION = {"live": Action.UPDATE, "restart": Action.RESTART}
NAMED_OTHERWISE = {
    "shell": "command",
    "config_file": "config",
    "env_file": "environment",
    "mode": "mode",
    "class": "service_class",
}
"""What the plan calls a field that only files have."""


def locked(directory: Path, topology: dict[str, Any]) -> Locked:
    field_changes.write(directory)
    path = directory / "topology.yaml"
    path.write_text(json.dumps(topology, indent=1), encoding="utf-8")
    environment = {"PATH": "/usr/bin:/bin", "HOME": "/", "OTHER": "1"}
    return config.lock(config.read(path, environment=environment), None)


def by_slot(lock: Locked) -> dict[str, Component]:
    return {component.slot: component for component in lock.lock.components.values()}


def planned(before: Locked, after: Locked) -> dict[str, Operation]:
    """Return the plan for a system in which everything runs, by slot."""
    present = {
        slot: Present(component, up=True, alive=True)
        for slot, component in by_slot(before).items()
    }
    wanted = by_slot(after)
    return {one.slot: one for one in changes.plan(present, wanted, wanted)}


def test_every_field_of_the_schema_has_a_change() -> None:
    assert set(field_changes.CHANGES) == set(field_changes.APPLY)


@pytest.mark.parametrize("field", field_changes.CHANGES)
def test_a_change_does_what_the_schema_says_and_nothing_to_others(
    field: str, tmp_path: Path
) -> None:
    before = locked(tmp_path, field_changes.topology(0))
    after = locked(tmp_path, field_changes.topology(1, only=field))
    slot = f"{field.replace('_', '-')}.{field.replace('_', '-')}@1"
    plan = planned(before, after)
    operation = plan.pop(slot)
    assert operation.action is ACTION[field_changes.APPLY[field]]
    if field == "inherit_env":
        assert operation.cause == "inherited variables changed, for its next start"
    else:
        assert NAMED_OTHERWISE.get(field, field) in {path[0] for path in operation.changed}
    plan.pop("replicas.replicas@2", None)
    assert {one.action for one in plan.values()} == {Action.KEEP}


@pytest.mark.parametrize("field", sorted(set(field_changes.CHANGES) - {"inherit_env"}))
def test_a_change_is_shown_where_it_stands(field: str, tmp_path: Path) -> None:
    before = locked(tmp_path, field_changes.topology(0))
    after = locked(tmp_path, field_changes.topology(1, only=field))
    name = field.replace("_", "-")
    operation = planned(before, after)[f"{name}.{name}@1"]
    lines = (tmp_path / "topology.yaml").read_text().splitlines()
    first = next(n for n, line in enumerate(lines, 1) if line == f'  "{name}": {{')
    last = next(n for n, line in enumerate(lines, 1) if n > first and line.startswith("  }"))
    for path in operation.changed:
        position = after.origin(operation.name, path)
        assert position is not None
        assert first <= position.line <= last
        # At the value's key, or at the component's name for what is not written any more.
        words = {path[0], path[-1], field, name, "command"}
        assert any(f'"{word}"' in lines[position.line - 1] for word in words)
