"""Groups: who is restarted with whom, who waits, and when it is too much. Virtual time."""

from __future__ import annotations

import pytest
from msgspec import structs

from orchestrator.model.phase import Exit, Phase, Process, Result
from orchestrator.model.topology import Group, Rung, Stop, Strategy
from orchestrator.supervision import groups, lifecycle
from orchestrator.supervision.groups import Standing
from orchestrator.supervision.lifecycle import Instance, State
from orchestrator.supervision.reconcile import Slot
from tests import fakes

ALL = Group(strategy=Strategy.ONE_FOR_ALL)
REST = Group(strategy=Strategy.REST_FOR_ONE)
ONE = Group(strategy=Strategy.ONE_FOR_ONE)

RUNNING = lifecycle.Running(Process(7, 7))
STOPPING = lifecycle.Stopping(Process(7, 7), 0, 1, Result.REQUESTED)
BACKOFF = lifecycle.Backoff(1, 2.0)
WAITING = lifecycle.Waiting()
SPAWNING = lifecycle.Spawning()

PLACES = {"s.a@1": 0, "s.b@1": 1, "s.b@2": 1, "s.c@1": 2}


def members(**states: State) -> dict[str, Slot]:
    """Return the slots of a, b (two instances) and c, running unless said otherwise."""
    found = {}
    for slot in PLACES:
        letter, number = slot[2], slot[4:]
        state = states.get(letter + number, states.get(letter, RUNNING))
        name = f"s.{letter}@{number}" if letter == "b" else f"s.{letter}"
        component = fakes.component(name)
        found[slot] = Slot(Instance(component, state), up=True)
    return found


def down(slots: dict[str, Slot], slot: str, *, up: bool) -> None:
    """Let a slot be down, wanted or not."""
    instance = structs.replace(slots[slot].instance, state=lifecycle.Down())
    slots[slot] = Slot(instance, up=up)


def fail(
    group: Group, slot: str, slots: dict[str, Slot], standing: Standing | None = None,
    now: float = 100.0,
) -> Standing:  # fmt: skip
    """Return the standing after a failure."""
    return groups.failed(
        "core", group, standing or Standing(), slot,
        slots=slots, places=PLACES, now=now, why="exit 1",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("group", "failure", "stopping", "starting"),
    [
        (ONE, "s.b@1", (), ()),
        (ALL, "s.b@1", ("s.a@1", "s.b@2", "s.c@1"), ("s.a@1", "s.b@1", "s.b@2", "s.c@1")),
        (REST, "s.b@1", ("s.c@1",), ("s.b@1", "s.c@1")),
        (REST, "s.a@1", ("s.b@1", "s.b@2", "s.c@1"), tuple(PLACES)),
        (REST, "s.c@1", (), ("s.c@1",)),
    ],
)
def test_the_strategy_says_who_is_restarted(
    group: Group, failure: str, stopping: tuple[str, ...], starting: tuple[str, ...]
) -> None:
    slots = members(**{failure[2] + failure[4:]: BACKOFF})
    standing = fail(group, failure, slots)
    assert (standing.stopping, standing.starting) == (stopping, starting)
    assert standing.restarts == (100.0,)


def test_they_go_down_from_the_last_to_the_first() -> None:
    slots = members(a=BACKOFF)
    standing = fail(ALL, "s.a@1", slots)
    assert list(groups.due(standing, slots, PLACES)) == ["s.c@1"]
    slots["s.c@1"] = members(c=STOPPING)["s.c@1"]
    standing = groups.settled(standing, slots)
    assert list(groups.due(standing, slots, PLACES)) == [], "it has been asked, and lives"
    slots["s.c@1"] = members(c=WAITING)["s.c@1"]
    standing = groups.settled(standing, slots)
    assert list(groups.due(standing, slots, PLACES)) == ["s.b@1", "s.b@2"], "replicas together"


def test_nobody_starts_before_all_are_down_and_the_backoff_is_over() -> None:
    slots = members(a=WAITING, b=BACKOFF, b2=WAITING, c=STOPPING)
    standing = fail(ALL, "s.b@1", slots)
    assert standing.stopping == ("s.c@1",)
    assert groups.holds_back(standing, "s.a@1", slots, PLACES) == "s.c@1"
    slots = members(a=WAITING, b1=BACKOFF, b2=WAITING, c=WAITING)
    standing = groups.settled(standing, slots)
    assert groups.holds_back(standing, "s.a@1", slots, PLACES) == "s.b@1"
    slots = members(a=WAITING, b=WAITING, c=WAITING)
    standing = groups.settled(standing, slots)
    assert groups.holds_back(standing, "s.a@1", slots, PLACES) is None
    assert groups.holds_back(standing, "s.b@2", slots, PLACES) == "s.a@1"


def test_each_starts_when_those_before_it_are_ready() -> None:
    standing = Standing(starting=tuple(PLACES))
    slots = members(a=lifecycle.Starting(Process(7, 7), 1, 2), b=WAITING, c=WAITING)
    standing = groups.settled(standing, slots)
    assert groups.holds_back(standing, "s.b@1", slots, PLACES) == "s.a@1"
    slots = members(b=WAITING, c=WAITING)
    standing = groups.settled(standing, slots)
    assert standing.starting == ("s.b@1", "s.b@2", "s.c@1")
    assert groups.holds_back(standing, "s.b@1", slots, PLACES) is None
    assert groups.holds_back(standing, "s.b@2", slots, PLACES) is None
    assert groups.holds_back(standing, "s.c@1", slots, PLACES) == "s.b@1"
    assert groups.settled(standing, members()).starting == ()


@pytest.mark.parametrize("phase", [Phase.EXITED, Phase.FAILED, Phase.DISABLED])
def test_nobody_waits_for_one_that_will_not_come(phase: Phase) -> None:
    standing = Standing(starting=("s.a@1", "s.c@1"))
    slots = members(a=lifecycle.Down(phase), c=WAITING)
    assert groups.settled(standing, slots).starting == ("s.c@1",)


def test_one_that_was_stopped_by_hand_is_neither_waited_for_nor_stopped() -> None:
    slots = members(a=BACKOFF, c=RUNNING)
    standing = fail(ALL, "s.a@1", slots)
    slots["s.c@1"] = structs.replace(slots["s.c@1"], up=False)
    assert list(groups.due(standing, slots, PLACES)) == []
    down(slots, "s.c@1", up=False)
    for slot in ("s.b@1", "s.b@2"):
        down(slots, slot, up=True)
    standing = groups.settled(standing, slots)
    assert "s.c@1" not in standing.starting
    assert "s.b@1" in standing.starting, "down for a moment only"


def test_one_whose_process_is_being_made_is_stopped_when_it_is_there() -> None:
    slots = members(a=BACKOFF, c=SPAWNING)
    standing = groups.settled(fail(ALL, "s.a@1", slots), slots)
    assert "s.c@1" in standing.stopping
    assert list(groups.due(standing, slots, PLACES)) == []
    assert list(groups.due(standing, members(a=BACKOFF), PLACES)) == ["s.c@1"]


def test_what_dies_while_it_is_brought_down_with_the_others_does_not_count() -> None:
    slots = members(a=BACKOFF)
    standing = fail(ALL, "s.a@1", slots)
    assert fail(ALL, "s.c@1", slots, standing) is standing


def test_a_member_that_fails_again_at_its_new_start_counts() -> None:
    slots = members(a=BACKOFF, b=WAITING, c=WAITING)
    standing = groups.settled(fail(ALL, "s.a@1", slots), slots)
    again = fail(ALL, "s.a@1", slots, standing, now=101.0)
    assert again.restarts == (100.0, 101.0)
    assert set(again.starting) == set(PLACES)


def test_a_second_failure_of_a_rest_keeps_the_first_in_mind() -> None:
    slots = members(c=BACKOFF)
    first = fail(REST, "s.c@1", slots)
    second = fail(REST, "s.b@1", members(b1=BACKOFF, c=WAITING), first)
    assert second.starting == ("s.b@1", "s.c@1")


def test_one_restart_too_many_within_the_period_and_the_group_gives_up() -> None:
    slots, standing = members(b1=BACKOFF), Standing()
    for second in range(3):
        standing = fail(ONE, "s.b@1", slots, standing, now=100.0 + second)
        assert not standing.gave_up
    standing = fail(ONE, "s.b@1", slots, standing, now=103.0)
    assert standing.gave_up == (
        "group intensity: 'core' needed 4 restarts within 10s, more than 3; "
        "the last: s.b@1 (exit 1)"
    )
    assert standing.culprit == "s.b@1"
    assert standing.stopping == ("s.a@1", "s.b@2", "s.c@1")
    assert fail(ONE, "s.a@1", slots, standing) is standing


def test_restarts_that_are_older_than_the_period_do_not_count() -> None:
    slots, standing = members(b1=BACKOFF), Standing()
    for failure in range(50):
        standing = fail(ONE, "s.b@1", slots, standing, now=100.0 + failure * 3.4)
        assert not standing.gave_up
        assert len(standing.restarts) <= 3


def test_no_intensity_means_no_restart() -> None:
    assert fail(Group(intensity=0), "s.b@1", members(b1=BACKOFF)).gave_up


def test_a_member_that_gave_up_by_itself_takes_the_group_along() -> None:
    slots = members(b1=lifecycle.Down(Phase.FAILED))
    standing = groups.cannot_go_on(
        "core", Standing(), "s.b@1", slots=slots, places=PLACES, why="10 failures in a row"
    )
    assert standing.gave_up == "group 'core': s.b@1 gave up (10 failures in a row)"
    assert standing.stopping == ("s.a@1", "s.b@2", "s.c@1")
    other = groups.cannot_go_on(
        "core", standing, "s.a@1", slots=slots, places=PLACES, why="another"
    )
    assert other is standing, "the first reason is the reason"


def test_a_member_that_is_gone_from_the_topology_holds_nobody() -> None:
    standing = Standing(stopping=("s.x@1",), starting=("s.x@1", "s.c@1"))
    standing = groups.settled(standing, members(c=WAITING))
    assert (standing.stopping, standing.starting) == ((), ("s.c@1",))


def given_up(state: State) -> Instance:
    instance = Instance(
        fakes.component("s.a", stop=Stop((Rung("TERM", 1.0),))), state, generation=1
    )
    after, _ = lifecycle.step(instance, lifecycle.GiveUp("too much"), 1.0)
    return after


@pytest.mark.parametrize("state", [lifecycle.Down(), WAITING, BACKOFF])
def test_giving_up_fails_what_has_no_process(state: State) -> None:
    after = given_up(state)
    assert after.phase is Phase.FAILED
    assert after.end == lifecycle.End(Result.START_LIMIT, None, "too much")


def test_giving_up_brings_a_process_down_and_that_is_a_failure() -> None:
    after = given_up(RUNNING)
    assert after.phase is Phase.STOPPING
    after, _ = lifecycle.step(after, lifecycle.Exited(Exit(signal=15)), 2.0)
    assert after.phase is Phase.FAILED
    assert after.end == lifecycle.End(Result.START_LIMIT, Exit(signal=15), "too much")


@pytest.mark.parametrize("phase", [Phase.EXITED, Phase.FAILED, Phase.DISABLED])
def test_giving_up_leaves_alone_what_has_ended(phase: Phase) -> None:
    assert given_up(lifecycle.Down(phase)).phase is phase
