"""What a machine grants, and what is said to those who ask for more."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest
from msgspec import structs

from orchestrator import machine as machines
from orchestrator.cgroups import Ladder
from orchestrator.machine import Machine
from tests import fakes

NOTHING = Machine(
    (), Ladder(missing=dict.fromkeys(("memory", "cpu", "pids"), "there is none")), frozenset()
)
EVERYTHING = Machine(
    (),
    Ladder("/v2", frozenset({"memory", "cpu", "pids"})),
    frozenset({6, 7, 23, 24}),
)


def test_a_survey_names_everything_once(tmp_path: Path) -> None:
    found = machines.survey(tmp_path / "not" / "yet").findings
    names = [one.name for one in found]
    assert len(set(names)) == len(names)
    assert {"kernel", "pidfd", "memory", "log rotation", "open files"} <= set(names)
    assert all(one.detail for one in found)
    # Whoever runs these tests can supervise.
    assert {one.grant for one in found if one.needed} == {machines.GRANTED}
    # What is not granted says what would help.
    assert all(one.help for one in found if one.grant != machines.GRANTED)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("fields", "asks", "degraded"),
    [
        ({"memory": 4096}, "memory", True),
        ({"cpu": 0.5}, "cpu", False),
        ({"pids": 5}, "pids", False),
        ({"pids": 5, "user": str(os.geteuid() + 1)}, "pids", True),
        ({"user": str(os.geteuid() + 1)}, "user", False),
        ({"user": "nobody-of-this-name"}, "user", False),
        ({"nice": -20}, "nice", False),
        ({"oom_score_adj": -1000}, "oom_score_adj", False),
    ],
)
def test_what_cannot_be_had_is_named(fields: dict[str, object], asks: str, degraded: bool) -> None:
    component = fakes.component("shop.web", **fields)
    found = {one.asks: one for one in machines.complaints(NOTHING, [component])}
    assert found[asks].is_degraded is degraded
    assert found[asks].component == "shop.web"
    assert machines.complaints(EVERYTHING, [component]) == ()


def test_a_hard_limit_may_be_lowered_and_not_raised() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    lower = fakes.component("shop.web", rlimits={"nofile": (1, hard - 1)})
    higher = fakes.component("shop.web", rlimits={"nofile": (1, hard + 1)})
    endless = fakes.component("shop.web", rlimits={"nofile": (1, -1)})
    assert machines.complaints(NOTHING, [lower]) == ()
    for component in (higher, endless):
        (one,) = machines.complaints(NOTHING, [component])
        assert (one.asks, one.is_degraded) == ("rlimits.nofile", False)


def test_what_this_user_is_already_is_no_change() -> None:
    component = fakes.component("shop.web", user=str(os.geteuid()), nice=19, oom_score_adj=1000)
    assert machines.complaints(NOTHING, [component]) == ()


def test_more_instances_than_descriptors_are_too_many() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard == resource.RLIM_INFINITY or hard > 50_000:
        pytest.skip("so many descriptors need too many instances")
    one = fakes.component("shop.web")
    many = [structs.replace(one, instance=number + 1) for number in range(hard)]
    (complaint,) = machines.complaints(EVERYTHING, many)
    assert f"the hard limit is {hard}" in complaint.message
