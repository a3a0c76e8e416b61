"""Who belongs to whom and who needs whom, read from the declarations."""

from __future__ import annotations

from orchestrator.model.phase import Process
from orchestrator.model.topology import Dependency
from orchestrator.supervision import lifecycle
from orchestrator.supervision.lifecycle import Instance
from orchestrator.supervision.reconcile import Slot
from orchestrator.supervision.relations import Relations
from tests import fakes

RUNNING = lifecycle.Running(Process(7, 7))


def slots(*running: str, **depends_on: str) -> dict[str, Slot]:
    """Return a database with two replicas, and by component of `app` what it depends on."""
    components = [fakes.component("data.db@1"), fakes.component("data.db@2")]
    for name, target in depends_on.items():
        wishes = {target: Dependency()} if target else {}
        components.append(fakes.component(f"app.{name}", depends_on=wishes))
    return {
        one.slot: Slot(Instance(one, RUNNING if one.slot in running else lifecycle.Down()))
        for one in components
    }


def test_a_component_and_a_service_have_all_their_instances() -> None:
    members = Relations.of(slots(web="", job="")).members
    assert members["data.db"] == members["data"] == ("data.db@1", "data.db@2")
    assert members["app"] == ("app.web@1", "app.job@1")
    assert members["app.web"] == ("app.web@1",)


def test_a_dependency_on_a_component_is_one_on_each_of_its_instances() -> None:
    relations = Relations.of(slots(web="data.db", job="app.web"))
    assert relations.needs == {
        "app.web@1": ("data.db@1", "data.db@2"),
        "app.job@1": ("app.web@1",),
    }
    assert relations.dependents == {
        "data.db@1": ("app.web@1",),
        "data.db@2": ("app.web@1",),
        "app.web@1": ("app.job@1",),
    }


def test_nobody_depends_on_itself_by_way_of_its_service() -> None:
    relations = Relations.of(slots(web="app", job=""))
    assert relations.needs == {"app.web@1": ("app.job@1",)}


def test_a_closure_holds_what_is_needed_by_what_is_needed() -> None:
    relations = Relations.of(slots(web="data.db", job="app.web", other=""))
    assert relations.closure(["app.job@1"]) == {
        "app.job@1", "app.web@1", "data.db@1", "data.db@2",
    }  # fmt: skip
    assert relations.closure(["app.other@1"]) == {"app.other@1"}


def test_users_are_those_that_run_and_are_not_named() -> None:
    there = slots("data.db@1", "app.web@1", web="data.db", job="data.db")
    relations = Relations.of(there)
    assert relations.users(["data.db@1", "data.db@2"], there) == {"data.db@1": ("app.web@1",)}
    assert relations.users(["data.db@1", "app.web@1"], there) == {}
