"""The rules of replicated values, and that copies follow whatever happens on the way."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.wire import states, values
from orchestrator.wire.states import Replica, Source, Update


def change(source: Source, changes: dict[object, object], **how: Any) -> Update:
    update = source.plan(changes, **how)
    source.commit(update)
    return update


def synced(value: dict[object, object], number: int = 5, epoch: str | None = "a") -> Replica:
    replica = Replica()
    assert replica.asks(0.0)
    replica.answer(Update(number, value, whole=True, epoch=epoch))
    return replica


def test_changes_follow_one_another() -> None:
    replica = synced({"a": 1})
    assert replica.take(Update(6, {"b": 2}, epoch="a"))
    assert replica.take(Update(7, {"a": None}, epoch="a"))
    assert replica.value == {"b": 2}
    assert not replica.is_behind


def test_deleting_a_key_that_is_not_there_is_no_error() -> None:
    replica = synced({"a": 1})
    replica.take(Update(6, {"zzz": None}, epoch="a"))
    assert replica.value == {"a": 1}


def test_what_comes_twice_or_late_is_dropped() -> None:
    replica = synced({"a": 1})
    replica.take(Update(6, {"a": 6}, epoch="a"))
    assert not replica.take(Update(6, {"a": 0}, epoch="a"))
    assert not replica.take(Update(3, {"a": 3}, whole=True, epoch="a"))
    assert replica.value == {"a": 6}
    assert not replica.asks(9.0)


def test_what_comes_in_the_wrong_order_is_put_right_without_a_snapshot() -> None:
    replica = synced({})
    replica.take(Update(7, {"a": 7}, epoch="a"))
    assert replica.is_behind
    replica.take(Update(6, {"a": 6}, epoch="a"))
    assert (replica.value, replica.number, replica.is_behind) == ({"a": 7}, 7, False)


def test_a_gap_asks_once_and_what_comes_meanwhile_is_kept() -> None:
    replica = synced({"a": 1})
    replica.take(Update(8, {"c": 8}, epoch="a"))
    assert replica.asks(1.0)
    replica.take(Update(9, {"c": 9}, epoch="a"))
    assert not replica.asks(1.05), "the answer is on its way"
    assert replica.value == {"a": 1}, "readers keep what was"
    assert replica.answer(Update(8, {"b": 7, "c": 8}, whole=True, epoch="a"))
    assert (replica.value, replica.number) == ({"b": 7, "c": 9}, 9)
    assert not replica.is_behind


def test_an_answer_that_does_not_come_is_asked_for_again() -> None:
    replica = Replica()
    assert replica.asks(0.0)
    assert not replica.asks(states.PATIENCE / 2)
    assert replica.asks(states.PATIENCE)


def test_a_source_that_has_begun_anew_is_asked_at_once() -> None:
    replica = synced({"a": 1})
    replica.take(Update(9, {"x": 1}, epoch="a"))
    assert replica.asks(1.0)
    replica.take(Update(0, {}, whole=True, epoch="b"))
    assert replica.asks(1.001)
    replica.answer(Update(0, {"new": 1}, whole=True, epoch="b"))
    assert (replica.value, replica.number, replica.is_behind) == ({"new": 1}, 0, False)


def test_what_a_dead_source_sent_does_not_come_back() -> None:
    replica = synced({"new": 1}, number=2, epoch="b")
    replica.take(Update(40, {"old": 1}, whole=True, epoch="a"))
    assert replica.value == {"new": 1}
    assert replica.asks(1.0)
    replica.answer(Update(2, {"new": 1}, whole=True, epoch="b"))
    assert (replica.value, replica.is_behind) == ({"new": 1}, False)


def test_more_than_can_be_kept_costs_another_snapshot() -> None:
    replica = synced({})
    for number in range(7, 8 + states.MOST_PENDING):
        replica.take(Update(number, {"n": number}, epoch="a"))
    last = 7 + states.MOST_PENDING
    assert replica.asks(1.0)
    replica.answer(Update(10, {"n": 10}, whole=True, epoch="a"))
    assert replica.is_behind
    assert replica.asks(1.1)
    replica.answer(Update(last, {"n": last}, whole=True, epoch="a"))
    assert (replica.number, replica.is_behind) == (last, False)


def test_a_source_without_an_epoch_that_says_number_0_always() -> None:
    replica = Replica()
    assert replica.asks(0.0)
    replica.answer(Update(0, {"a": 4}, whole=True))
    replica.take(Update(5, {"a": 5}))
    assert replica.asks(1.0)
    replica.take(Update(6, {"b": 6}))
    replica.answer(Update(0, {"a": 5}, whole=True))
    assert (replica.value, replica.number, replica.is_behind) == ({"a": 5, "b": 6}, 6, False)
    replica.take(Update(0, {"a": 0}))
    assert replica.asks(2.0), "it may have begun anew"


def test_the_numbers_of_a_source() -> None:
    source = Source("e")
    first = change(source, {"a": 1})
    assert (first.number, first.whole) == (0, True), "the first of a life is a snapshot"
    assert change(source, {"b": 2}, number=10) == Update(10, {"b": 2}, epoch="e")
    assert change(source, {"b": 3}, number=4).number == 11, "never back"
    assert change(source, {"c": 1}, whole=True).changes == {"c": 1}
    assert source.snapshot() == Update(12, {"c": 1}, whole=True, epoch="e")


def test_frames_are_those_of_service_framework() -> None:
    update = Update(3, {"a": 1}, epoch="e")
    frame = states.encode_update(update, "w")
    assert msgpack.unpackb(frame) == {
        "args": {"current_num": 3, "is_snapshot": False, "state": {"a": 1}},
        "workflow_id": "w",
        "epoch": "e",
    }
    assert states.decode_update(b"\xa1t" + frame, b"\xa1t") == (update, "w")
    reply = states.encode_snapshot(Update(3, {"a": 1}, whole=True, epoch="e"), None)
    assert msgpack.unpackb(reply)["return_args"] == {"current_num": 3, "state": {"a": 1}}
    theirs = msgpack.packb({"return_args": {"current_num": 0, "state": {}}, "workflow_id": None})
    assert states.decode_snapshot(theirs) == Update(0, {}, whole=True)


@pytest.mark.parametrize(
    "message",
    [
        1,
        {},
        {"args": {}},
        {"args": {"current_num": True, "is_snapshot": False, "state": {}}},
        {"args": {"current_num": 1, "is_snapshot": 0, "state": {}}},
        {"args": {"current_num": 1, "is_snapshot": False, "state": []}},
        {"args": {"current_num": 1, "is_snapshot": False, "state": {}}, "epoch": 3},
    ],
)
def test_what_is_no_update_is_refused(message: object) -> None:
    with pytest.raises(values.MalformedMessage):
        states.decode_update(values.encode(message), b"")


def test_an_error_instead_of_a_snapshot() -> None:
    frame = values.encode({"return_args": {}, "error": {"message": "too large"}})
    with pytest.raises(values.MalformedMessage, match="too large"):
        states.decode_snapshot(frame)


# --- Any order of events


Step = tuple[str, int, int | None]
steps = st.lists(
    st.one_of(
        st.tuples(st.just("change"), st.integers(0, 3), st.one_of(st.none(), st.integers(0, 9))),
        st.tuples(st.just("whole"), st.integers(0, 3), st.integers(0, 9)),
        st.tuples(st.just("restart"), st.integers(0, 1), st.none()),
        st.tuples(st.just("join"), st.just(0), st.none()),
        st.tuples(st.just("deliver"), st.integers(0, 5), st.none()),
        st.tuples(st.just("lose"), st.integers(0, 5), st.none()),
        st.tuples(st.just("repeat"), st.integers(0, 5), st.none()),
        st.tuples(st.just("answer"), st.just(0), st.none()),
        st.tuples(st.just("forget"), st.just(0), st.none()),
    ),
    max_size=60,
)


class World:
    """A source, a copy, and a bad road between them."""

    def __init__(self) -> None:
        self.lives = 0
        self.now = 0.0
        self.source = Source("0")
        self.copy = Replica()
        self.road: list[Update] = []
        self.asked = False
        self.answers = 0
        self._ask()

    def change(self, changes: dict[object, object], **how: Any) -> Update:
        return change(self.source, changes, **how)

    def send(self, update: Update) -> None:
        # What was sent does not change with its source.
        self.road.append(Update(update.number, dict(update.changes), update.whole, update.epoch))

    def take(self, update: Update) -> None:
        self.copy.take(update)
        self._ask()

    def restart(self, *, keeps: bool) -> None:
        self.lives += 1
        old = self.source
        self.source = (
            Source(str(self.lives), old.value, old.number) if keeps else Source(str(self.lives))
        )
        self.asked = False
        # Connections end with their process, and what was on them with it.
        self.road.clear()
        self.send(self.change({}))

    def answer(self) -> None:
        if self.asked:
            self.asked = False
            self.answers += 1
            found = self.source.snapshot()
            self.copy.answer(Update(found.number, dict(found.changes), True, found.epoch))
            self._ask()

    def _ask(self) -> None:
        self.now += 0.01
        if self.copy.asks(self.now):
            self.asked = True

    def step(self, kind: str, first: int, second: int | None) -> None:
        place = min(first, len(self.road) - 1)
        match kind:
            case "change":
                self.send(self.change({first: second}))
            case "whole":
                self.send(self.change({first: second}, whole=True))
            case "restart":
                self.restart(keeps=bool(first))
            case "join":
                self.send(self.change({}))
            case "deliver" if self.road:
                self.take(self.road.pop(place))
            case "lose" if self.road:
                self.road.pop(place)
            case "repeat" if self.road:
                self.take(self.road[place])
            case "answer":
                self.answer()
            case "forget":
                self.asked = False
            case _:
                """There was nothing on the road."""

    def settle(self) -> None:
        """Let what is on its way arrive; then the copy subscribes once more."""
        while self.road:
            self.take(self.road.pop(0))
        self.now += states.PATIENCE
        self.send(self.change({}))
        before = self.answers
        while self.road or self.asked:
            if self.road:
                self.take(self.road.pop(0))
            self.answer()
            assert self.answers < before + 5, "asks for ever"


@settings(max_examples=500)
@given(steps)
def test_a_copy_has_the_value_of_its_source_whatever_was_lost_repeated_or_restarted(
    happened: list[Step],
) -> None:
    world = World()
    for step in happened:
        world.step(*step)
    world.settle()
    assert world.copy.value == world.source.value
    assert not world.copy.is_behind


@settings(max_examples=300)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9), st.booleans()), min_size=1))
def test_a_copy_of_a_source_without_epoch_has_its_value_after_the_next_update(
    happened: list[tuple[int, int, bool]],
) -> None:
    value: dict[object, object] = {}
    copy = Replica()
    now = 0.0
    for number, (key, item, lost) in enumerate(happened):
        now += 1.0
        value[key] = item
        if not lost or number == len(happened) - 1:
            copy.take(Update(number, {key: item}))
            if copy.asks(now):
                copy.answer(Update(0, dict(value), whole=True))
    assert copy.value == value
