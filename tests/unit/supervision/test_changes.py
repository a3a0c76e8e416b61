"""Plans as text: what was applied and runs, what is wanted, and what is to be done."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from orchestrator.model.topology import Apply, Component, applies
from orchestrator.supervision import changes
from orchestrator.supervision.changes import Present
from tests import fakes

WEB = fakes.component("shop.web")
DB = fakes.component("shop.db")
SHELL = {"PATH": "/elsewhere"}
WEB_1, WEB_2 = fakes.component("shop.web@1"), fakes.component("shop.web@2")


def running(component: Component) -> Present:
    return Present(component, up=True, alive=True)


def stopped(component: Component) -> Present:
    return Present(component, up=False, alive=False, ended=True)


def completed(component: Component) -> Present:
    return Present(component, up=True, alive=False, ended=True)


def failed(component: Component) -> Present:
    return Present(component, up=True, alive=False, failed=True, ended=True)


CASES: dict[str, tuple[list[Present], list[Component], list[str], list[str]]] = {
    "everything is new": (
        [],
        [WEB, DB],
        [],
        ["create shop.web: new", "create shop.db: new"],
    ),
    "nothing changed": ([running(WEB)], [WEB], [], ["keep shop.web: unchanged"]),
    "a stopped one starts": ([stopped(WEB)], [WEB], [], ["start shop.web: was stopped"]),
    "a failed one starts": ([failed(WEB)], [WEB], [], ["start shop.web: had failed"]),
    "a changed command restarts": (
        [running(WEB)],
        [fakes.with_fields(WEB, command=("other",))],
        [],
        ["restart shop.web: field command changed"],
    ),
    "a changed policy is live": (
        [running(WEB)],
        [fakes.with_fields(WEB, settle=3.0, start_timeout=9.0)],
        [],
        ["update shop.web: fields start_timeout, settle changed"],
    ),
    "live and restart together restart": (
        [running(WEB)],
        [fakes.with_fields(WEB, settle=3.0, nice=5)],
        [],
        ["restart shop.web: fields nice, settle changed"],
    ),
    "a changed one that is down starts": (
        [stopped(WEB)],
        [fakes.with_fields(WEB, command=("other",))],
        [],
        ["start shop.web: field command changed"],
    ),
    "another shell is for the next start": (
        [running(WEB), completed(DB)],
        [fakes.with_fields(WEB, inherited=SHELL), fakes.with_fields(DB, inherited=SHELL)],
        [],
        [
            "update shop.web: inherited variables changed, for its next start",
            "update shop.db: inherited variables changed, for its next start",
        ],
    ),
    "another shell starts what is to start anyway": (
        [stopped(WEB), failed(DB)],
        [fakes.with_fields(WEB, inherited=SHELL), fakes.with_fields(DB, inherited=SHELL)],
        [],
        ["start shop.web: was stopped", "start shop.db: had failed"],
    ),
    "another shell is not the cause": (
        [running(WEB)],
        [fakes.with_fields(WEB, inherited=SHELL, nice=5)],
        [],
        ["restart shop.web: field nice changed"],
    ),
    "only those named are touched": (
        [running(WEB)],
        [fakes.with_fields(WEB, command=("other",)), DB],
        ["shop.db@1"],
        ["keep shop.web: not among those named", "create shop.db: new"],
    ),
    "a new one that is not named is there and down": (
        [running(WEB)],
        [WEB, DB],
        ["shop.web@1"],
        ["keep shop.web: unchanged", "create shop.db: new, not started"],
    ),
    "one that is gone is an orphan": (
        [running(WEB), running(DB)],
        [WEB],
        [],
        [
            "keep shop.web: unchanged",
            "orphan shop.db: no longer in the topology; --remove-orphans stops it",
        ],
    ),
    "one that is gone and does not run leaves no trace": (
        [running(WEB), failed(DB)],
        [WEB],
        [],
        [
            "keep shop.web: unchanged",
            "remove shop.db: no longer in the topology",
        ],
    ),
    "scaling down removes": (
        [running(WEB_1), running(WEB_2)],
        [WEB],
        [],
        [
            "update shop.web: field replicas changed",
            "remove shop.web@2: fewer replicas",
        ],
    ),
    "scaling up leaves the first alone": (
        [running(WEB)],
        [WEB_1, WEB_2],
        [],
        ["update shop.web@1: field replicas changed", "create shop.web@2: new"],
    ),
    "a disabled one is not started": (
        [stopped(WEB)],
        [fakes.with_fields(WEB, enabled=False)],
        [],
        ["update shop.web: field enabled changed"],
    ),
    "a disabled one that is unchanged is kept": (
        [stopped(fakes.with_fields(WEB, enabled=False))],
        [fakes.with_fields(WEB, enabled=False)],
        [],
        ["keep shop.web: unchanged"],
    ),
}


def plan(
    present: list[Present], wanted: list[Component], chosen: list[str], **options: bool
) -> list[str]:
    # Two replicas' commands are the same; the fake names them after the instance.
    def same(component: Component) -> Component:
        if component.command == (f"{component.base}@{component.instance}",):
            return structs.replace(component, command=(component.base,))
        return component

    by_slot = {p.component.slot: structs.replace(p, component=same(p.component)) for p in present}
    components = {component.slot: same(component) for component in wanted}
    return [
        str(operation)
        for operation in changes.plan(by_slot, components, chosen or list(components), **options)
    ]


@pytest.mark.parametrize("case", CASES)
def test_plan(case: str) -> None:
    present, wanted, chosen, expected = CASES[case]
    assert plan(present, wanted, chosen) == expected


def test_orphans_are_removed_on_request() -> None:
    assert plan([running(WEB), running(DB)], [WEB], [], remove_orphans=True) == [
        "keep shop.web: unchanged",
        "remove shop.db: no longer in the topology",
    ]


def test_a_running_one_that_is_disabled_is_not_left_running() -> None:
    (line,) = plan([running(WEB)], [fakes.with_fields(WEB, enabled=False)], [])
    assert line == "update shop.web: field enabled changed"


def test_a_plan_twice_is_a_plan_of_nothing() -> None:
    for _, wanted, _, _ in CASES.values():
        assert all(
            line.startswith("keep ") for line in plan([running(c) for c in wanted], wanted, [])
        )


@pytest.mark.parametrize("field", Component.__struct_fields__)
def test_every_field_knows_what_its_change_needs(field: str) -> None:
    identity = {"service", "component", "instance"}
    if field not in identity:
        assert isinstance(applies()[field], Apply)
        assert changes.needs([(field,)]) is applies()[field]


def test_the_worst_of_several_changes_decides() -> None:
    assert changes.needs([]) is Apply.LIVE
    assert changes.needs([("settle",)]) is Apply.LIVE
    assert changes.needs([("settle",), ("command",)]) is Apply.RESTART


@pytest.mark.parametrize(
    ("taken", "more", "action"),
    [
        ((True, True), {}, changes.Action.UPDATE),
        ((True, True), {"nice": 1}, changes.Action.RESTART),
        ((True, False), {}, changes.Action.RESTART),
        ((False, True), {}, changes.Action.RESTART),
    ],
)
def test_who_takes_settings_is_told_of_them_while_it_runs(
    taken: tuple[bool, bool], more: dict[str, Any], action: changes.Action
) -> None:
    base = Component("shop", "api", settings={"PORT": 1}, takes_settings=taken[0])
    after = structs.replace(
        base, settings={"PORT": 2}, config={"a": 1}, takes_settings=taken[1], **more
    )
    (operation,) = changes.plan({base.slot: running(base)}, {base.slot: after}, {base.slot})
    assert operation.action is action
    assert ("told to it" in operation.cause) is (action is changes.Action.UPDATE)
