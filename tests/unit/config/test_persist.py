"""Where states are kept, as a topology says it."""

from __future__ import annotations

import pytest

from tests.unit.config.conftest import Workshop, end, marked, model

MODELS = {
    "s.a": model("s.a", states={"out": {"book": end("delta_update_out")}}),
    "s.b": model("s.b", states={"in": {"book": end("delta_update_in")}}),
}


def house(workshop: Workshop, out: str, inward: str = "book") -> str:
    workshop.write("a.py", "")
    workshop.write("b.py", "")
    return f"""\
name: house
settings: {{HOST: {{default: here}}, PASSWORD: {{secret: true, required: true}}}}
addresses: {{book: {{data: auto, snapshot: auto}}}}
services:
  s:
    components:
      a: {{handler: a.py, states: {{out: {{book: {out}}}}}}}
      b: {{handler: b.py, states: {{in: {{book: {inward}}}}}}}
"""


@pytest.mark.parametrize(
    "sockets", ["address: book", "publisher: book.data, replyer: book.snapshot"]
)
@pytest.mark.parametrize(
    ("where", "meant"),
    [
        ("sqlite", "sqlite"),
        ("redis://h:6379/0", "redis://h:6379/0#house"),
        ("'redis://${settings.HOST}/0#mine'", "redis://here/0#mine"),
        ("'rediss://:${settings.PASSWORD}@h'", "rediss://:${settings.PASSWORD}@h#house"),
    ],
)
def test_a_source_is_told_where_its_state_is_kept(
    workshop: Workshop, sockets: str, where: str, meant: str
) -> None:
    text = house(workshop, f"{{{sockets}, persist: {where}}}")
    locked = workshop.lock(text, MODELS, settings={"PASSWORD": "xyz"})
    component = locked.lock.components["s.a"]
    told = component.states.outward["book"]
    assert told["persist"] == meant
    assert set(told) == {"publisher", "replyer", "persist"}
    assert component.secrets == (("PASSWORD",) if "PASSWORD" in where else ())
    assert set(locked.lock.components["s.b"].states.inward["book"]) == {"subscriber", "requester"}


def test_a_copy_keeps_nothing(workshop: Workshop) -> None:
    text = house(workshop, "book", "{address: book, persist: sqlite}")
    one = workshop.only(text, MODELS, settings={"PASSWORD": "xyz"})
    assert (one.code, marked(one)) == ("ORC300", "persist")


@pytest.mark.parametrize(
    ("out", "codes"),
    [
        ("{address: book, persist: oracle}", ["ORC102"]),
        ("{address: book, publisher: book.data}", ["ORC104"]),
        ("{address: libro, persist: sqlite}", ["ORC210"]),
        ("{persist: sqlite}", ["ORC103"]),
    ],
)
def test_other_mistakes_are_named(workshop: Workshop, out: str, codes: list[str]) -> None:
    text = house(workshop, out)
    found = workshop.codes(text, MODELS, settings={"PASSWORD": "xyz"})
    assert found[: len(codes)] == codes
