"""Types of two ends: what is said to fit does."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from orchestrator.component import models
from orchestrator.wire import shapes, values

# A model and a value that fits it, hand in hand.

SCALARS: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(-9, 9) | st.booleans(),
    bool: st.booleans(),
    str: st.text(max_size=3),
    bytes: st.binary(max_size=3),
    Decimal: st.decimals(allow_nan=False, places=2),
}

TYPES = st.recursive(
    st.sampled_from(list(SCALARS)),
    lambda inner: (
        inner.map(lambda one: [one])
        | st.tuples(inner, inner)
        | st.dictionaries(st.sampled_from(["a", "b"]), inner, min_size=1)
        | st.sampled_from([str, int, Decimal]).flatmap(
            lambda key: inner.map(lambda one: {key: one})
        )
        | st.sampled_from([str, int, bool]).map(lambda one: {one})
    ),
    max_leaves=4,
)


def fitting(model: Any) -> st.SearchStrategy[Any]:
    """Return the values that a required argument of a type may have."""
    match model:
        case type():
            return SCALARS[model]
        case [one]:
            return st.lists(fitting(one), max_size=2) if isinstance(model, list) else st.nothing()
        case tuple():
            return st.tuples(*map(fitting, model))
        case set():
            return st.sets(fitting(next(iter(model))), max_size=2)
        case dict():
            key = next(iter(model))
            if isinstance(key, type):
                return st.dictionaries(fitting(key), fitting(model[key]), max_size=2)
            return st.fixed_dictionaries({name: fitting(one) for name, one in model.items()})
        case _:
            raise AssertionError(model)


@given(st.data())
def test_what_fits_is_accepted_by_the_receiver(data: st.DataObject) -> None:
    sent = data.draw(TYPES)
    wanted = data.draw(st.just(sent) | TYPES)
    sender, receiver = (models.arguments({"x": one}, None) for one in (sent, wanted))
    assume(not list(shapes.disagreements(sender.plain(), receiver.plain(), "args")))
    value = {"x": data.draw(fitting(sent))}
    assert sender.accepts(value)
    carried = values.decode(values.encode(sender.dump(value) if sender.dump else value))
    assert receiver.accepts(receiver.load(carried) if receiver.load else carried)
