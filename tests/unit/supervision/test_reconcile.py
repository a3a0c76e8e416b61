"""Who may start and who may stop: every condition against every place in a life."""

from __future__ import annotations

import pytest

from orchestrator.model.phase import Exit, Phase, Process, Result
from orchestrator.model.topology import Condition, Dependency
from orchestrator.supervision import lifecycle, reconcile
from orchestrator.supervision.lifecycle import End, Instance, State
from orchestrator.supervision.reconcile import Clear, Never, Slot, Verdict, Wait
from tests import fakes

PROCESS = Process(7, 7)
FAILURE = End(Result.EXIT_CODE, Exit(code=1))

STATES: dict[str, State] = {
    "waiting": lifecycle.Waiting(),
    "spawning": lifecycle.Spawning(),
    "starting": lifecycle.Starting(PROCESS, 1, 2),
    "ready": lifecycle.Running(PROCESS),
    "not ready": lifecycle.Running(PROCESS, ready=False),
    "stopping": lifecycle.Stopping(PROCESS, 0, 1, Result.REQUESTED),
    "clearing": lifecycle.Clearing(Exit(code=1), 1, 0.5),
    "backoff": lifecycle.Backoff(1, 2.0),
    "exited": lifecycle.Down(Phase.EXITED),
    "stopped": lifecycle.Down(Phase.STOPPED),
    "failed": lifecycle.Down(Phase.FAILED),
    "disabled": lifecycle.Down(Phase.DISABLED),
}

GO = {
    Condition.STARTED: {"starting", "ready", "not ready", "exited"},
    Condition.READY: {"ready"},
    Condition.COMPLETED: {"exited", "failed"},
    Condition.COMPLETED_SUCCESSFULLY: {"exited"},
}
"""Where a dependency's condition holds."""

NEVER = {
    Condition.STARTED: {"failed", "disabled"},
    Condition.READY: {"failed", "disabled", "exited"},
    Condition.COMPLETED: {"disabled"},
    Condition.COMPLETED_SUCCESSFULLY: {"failed", "disabled"},
}
"""Where it can no longer come to hold."""

MEMBERS = {"shop.db": ("shop.db@1",), "shop.web": ("shop.web@1",), "shop": ("shop.db@1",)}


def slots(
    state: State, dependency: Dependency, *, up: bool = True, alone: bool = False
) -> dict[str, Slot]:
    """Return a web that waits, and its db in a state."""
    db = Instance(fakes.component("shop.db"), state, generation=1, end=FAILURE)
    web = fakes.component("shop.web", depends_on={"shop.db": dependency})
    return {
        "shop.db@1": Slot(db, up=up),
        "shop.web@1": Slot(Instance(web, lifecycle.Waiting()), up=True, alone=alone),
    }


def judge(
    where: str,
    condition: Condition,
    *,
    required: bool = True,
    up: bool = True,
    alone: bool = False,
) -> Verdict:
    table = slots(STATES[where], Dependency(condition, required), up=up, alone=alone)
    return reconcile.may_start("shop.web@1", table, MEMBERS)


@pytest.mark.parametrize("where", STATES)
@pytest.mark.parametrize("condition", Condition)
def test_a_dependency_lets_go_makes_wait_or_makes_fail(condition: Condition, where: str) -> None:
    verdict = judge(where, condition)
    if where in GO[condition]:
        assert verdict == Clear()
    elif where in NEVER[condition]:
        assert isinstance(verdict, Never)
        assert verdict.culprit == "shop.db@1"
        assert verdict.message.startswith("cannot start 'shop.web': 'shop.db' ")
    else:
        assert isinstance(verdict, Wait)
        assert verdict.message.startswith(f"waiting for shop.db ({condition})")


@pytest.mark.parametrize("where", STATES)
@pytest.mark.parametrize("condition", Condition)
def test_an_optional_dependency_never_makes_fail(condition: Condition, where: str) -> None:
    verdict = judge(where, condition, required=False)
    assert not isinstance(verdict, Never)
    if where in NEVER[condition]:
        assert isinstance(verdict, Clear)
        (warning,) = verdict.warnings
        assert warning.startswith("starts without its optional dependency: 'shop.db' ")
    elif where not in GO[condition]:
        assert isinstance(verdict, Wait)


def test_the_reason_names_how_the_dependency_failed() -> None:
    verdict = judge("failed", Condition.READY)
    assert isinstance(verdict, Never)
    assert verdict.message == "cannot start 'shop.web': 'shop.db' failed (exit 1)"


@pytest.mark.parametrize("where", STATES)
@pytest.mark.parametrize("condition", Condition)
def test_alone_does_not_wait_for_what_nobody_wants(condition: Condition, where: str) -> None:
    assert judge(where, condition, up=False, alone=True) == Clear()


def test_alone_waits_for_what_is_wanted() -> None:
    assert isinstance(judge("starting", Condition.READY, alone=True), Wait)


def test_one_who_waits_for_what_was_stopped_is_told_how_to_start_it() -> None:
    verdict = judge("stopped", Condition.READY, up=False)
    assert isinstance(verdict, Wait)
    assert "orch start shop.db" in verdict.message


def test_what_could_not_even_start_never_completes() -> None:
    """A dependency of the dependency failed: it ended without a process."""
    table = slots(STATES["failed"], Dependency(Condition.COMPLETED))
    never_ran = fakes.component("shop.db")
    end = End(Result.DEPENDENCY, None, "cannot start 'shop.db': 'shop.disk' failed (exit 1)")
    table["shop.db@1"] = Slot(Instance(never_ran, lifecycle.Down(Phase.FAILED), end=end), up=True)
    assert isinstance(reconcile.may_start("shop.web@1", table, MEMBERS), Never)


def test_all_replicas_and_all_of_a_service_are_waited_for() -> None:
    web = fakes.component("shop.web", depends_on={"data": Dependency()})
    ready, starting = STATES["ready"], STATES["starting"]
    table = {
        "data.db@1": Slot(Instance(fakes.component("data.db@1"), ready), up=True),
        "data.db@2": Slot(Instance(fakes.component("data.db@2"), starting), up=True),
        "data.cache@1": Slot(Instance(fakes.component("data.cache"), starting), up=True),
        "shop.web@1": Slot(Instance(web, lifecycle.Waiting()), up=True),
    }
    members = {"data": ("data.db@1", "data.db@2", "data.cache@1")}
    verdict = reconcile.may_start("shop.web@1", table, members)
    assert verdict == Wait("waiting for data.db@2 (ready), data.cache (ready)")


def test_a_service_that_depends_on_itself_does_not_wait_for_itself() -> None:
    web = fakes.component("shop.web", depends_on={"shop": Dependency()})
    table = {"shop.web@1": Slot(Instance(web, lifecycle.Waiting()), up=True)}
    assert reconcile.may_start("shop.web@1", table, {"shop": ("shop.web@1",)}) == Clear()


# ------------------------------------------------------------------ stopping


@pytest.mark.parametrize("where", STATES)
def test_a_dependency_stops_after_those_that_go_down_too(where: str) -> None:
    table = slots(STATES["ready"], Dependency())
    web = table["shop.web@1"].instance.component
    table["shop.web@1"] = Slot(Instance(web, STATES[where]), up=False)
    over = where in {"exited", "stopped", "failed", "disabled"}
    assert reconcile.may_stop("shop.db@1", table, {"shop.db@1": ("shop.web@1",)}) is over


def test_a_dependent_that_stays_up_holds_nothing_back() -> None:
    table = slots(STATES["ready"], Dependency())
    assert reconcile.may_stop("shop.db@1", table, {"shop.db@1": ("shop.web@1",)})


def test_who_has_no_dependents_may_stop() -> None:
    table = slots(STATES["ready"], Dependency())
    assert reconcile.may_stop("shop.web@1", table, {"shop.db@1": ("shop.web@1",)})
    assert reconcile.may_stop("shop.db@1", table, {"shop.db@1": ("gone@1",)})
