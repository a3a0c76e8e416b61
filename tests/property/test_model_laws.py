"""Laws of the model: graphs, durations and sizes, plain values."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from orchestrator.model import graph, names, plain, topology, units
from orchestrator.model.topology import (
    AtEnd,
    Backoff,
    Capture,
    Component,
    Condition,
    Dependency,
    Limit,
    Listen,
    Lock,
    Logs,
    Mode,
    Ready,
    Restart,
    Wiring,
)
from tests.property import strategies

# ------------------------------------------------------------------ graphs

nodes = st.sampled_from("abcdefgh")
graphs = st.dictionaries(nodes, st.lists(nodes, max_size=4, unique=True).map(tuple), max_size=8)


def acyclic(edges: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """The same graph with the edges that go up the alphabet only."""
    return {name: tuple(n for n in needs if n < name) for name, needs in edges.items()}


def reaches(edges: dict[str, tuple[str, ...]], start: str, goal: str) -> bool:
    return any(need == goal or goal in graph.closure(edges, [need]) for need in edges[start])


@given(graphs.map(acyclic))
def test_order_puts_each_after_what_it_needs(edges: dict[str, tuple[str, ...]]) -> None:
    order = graph.order(edges)
    assert sorted(order) == sorted(edges)
    for name, needs in edges.items():
        assert all(order.index(need) < order.index(name) for need in needs if need in edges)


@given(graphs.map(acyclic))
def test_what_has_no_cycle_reports_none(edges: dict[str, tuple[str, ...]]) -> None:
    assert graph.cycles(edges) == ()


@given(graphs)
def test_cycles_are_found_exactly_when_there_are_any(edges: dict[str, tuple[str, ...]]) -> None:
    cyclic = {name for name in edges if reaches(edges, name, name)}
    found = graph.cycles(edges)
    assert bool(found) is bool(cyclic)
    for cycle in found:
        assert len(set(cycle)) == len(cycle)
        for name, need in zip(cycle, (*cycle[1:], cycle[0]), strict=True):
            assert need in edges[name]
        assert min(cycle, key=list(edges).index) == cycle[0]
    if found:
        with pytest.raises(ValueError, match="cycle"):
            graph.order(edges)
    else:
        graph.order(edges)


@given(graphs)
def test_every_knot_is_reported_once(edges: dict[str, tuple[str, ...]]) -> None:
    found = graph.cycles(edges)
    in_cycles = [name for cycle in found for name in cycle]
    assert len(in_cycles) == len(set(in_cycles))
    for name in edges:
        if reaches(edges, name, name):
            assert any(
                name == cycle[0]
                or (reaches(edges, name, cycle[0]) and reaches(edges, cycle[0], name))
                for cycle in found
            )


@given(graphs)
def test_dependents_is_the_graph_turned_round(edges: dict[str, tuple[str, ...]]) -> None:
    turned = graph.dependents(edges)
    there = {(name, need) for name, needs in edges.items() for need in needs}
    back = {(user, name) for name, users in turned.items() for user in users}
    assert there == back


def test_a_deep_graph_needs_no_recursion() -> None:
    chain = {str(n): (str(n + 1),) for n in range(5000)}
    assert len(graph.order(chain)) == 5000
    assert graph.cycles(chain) == ()
    chain["5000"] = ("0",)
    assert len(graph.cycles(chain)[0]) == 5001


# ------------------------------------------------------------------ units

amounts = st.integers(0, 10_000)


@given(amounts, st.sampled_from(["ms", "s", "m", "h", "d"]))
def test_a_duration_is_its_number_of_units(number: int, unit: str) -> None:
    factor = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}[unit]
    assert units.parse_duration(f"{number}{unit}") == pytest.approx(number * factor)


@given(amounts, amounts)
def test_durations_add_up(minutes: int, seconds: int) -> None:
    assert units.parse_duration(f"{minutes}m{seconds}s") == pytest.approx(minutes * 60 + seconds)


@given(st.floats(0, 10_000_000))
def test_what_people_read_is_near_what_is_meant(seconds: float) -> None:
    text = units.format_duration(seconds)
    back = units.parse_duration(text.replace(" ", ""))
    rough = 0.0006 if seconds < 1 else 0.06 if seconds < 60 else 0.6 if seconds < 3600 else 60
    if seconds >= 86400:
        rough = 3600
    assert abs(back - seconds) <= rough


@pytest.mark.parametrize(
    "text", ["", "5", "1.5", "s", "-1s", "1 s", "1s2", "1x", "s1", "1..5s", "1e3s", "1S", " 1s"]
)
def test_a_number_without_its_unit_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration"):
        units.parse_duration(text)


@given(amounts, st.sampled_from(["", "k", "M", "G", "T", "Ki", "Mi", "Gi", "Ti"]), st.booleans())
def test_a_size_is_its_number_of_bytes(number: int, unit: str, b: bool) -> None:
    base = 1024 if unit.endswith("i") else 1000
    power = " kMGT".index(unit[0].replace("K", "k")) if unit else 0
    assert units.parse_size(f"{number}{unit}{'B' if b else ''}") == number * base**power


@pytest.mark.parametrize("text", ["", "MB", "-1", "1X", "1 2", "1.MB", "1MBB", "0x10"])
def test_other_words_are_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="is no size"):
        units.parse_size(text)


# ------------------------------------------------------------------ plain values

words = st.text(max_size=8)
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-1000, 1000), st.text(max_size=5)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)
wirings = st.builds(
    Wiring,
    inward=st.dictionaries(words, words | st.lists(words, max_size=2), max_size=2),
    outward=st.dictionaries(words, words, max_size=2),
)
components: st.SearchStrategy[Component] = st.builds(
    Component,
    service=words,
    component=words,
    instance=st.integers(1, 5),
    replicas=st.integers(1, 5),
    handler=st.none() | words,
    command=st.lists(words, max_size=3).map(tuple),
    mode=st.sampled_from(Mode),
    enabled=st.booleans(),
    depends_on=st.dictionaries(
        words,
        st.builds(Dependency, st.sampled_from(Condition), st.booleans(), st.booleans()),
        max_size=2,
    ),
    connections=wirings,
    states=wirings,
    expect_subscribers=st.dictionaries(words, st.integers(0, 9), max_size=2),
    config=st.dictionaries(words, json_values, max_size=3),
    environment=st.dictionaries(words, words, max_size=3),
    inherited=st.dictionaries(words, words, max_size=3),
    secrets=st.lists(words, max_size=2).map(tuple),
    umask=st.none() | st.integers(0, 0o777),
    rlimits=st.dictionaries(words, st.tuples(st.integers(-1, 9), st.integers(-1, 9)), max_size=2),
    nice=st.none() | st.integers(-20, 19),
    sockets=st.dictionaries(words, st.builds(Listen, words, st.integers(1, 9)), max_size=2),
    memory=st.none() | st.integers(1, 1 << 40),
    cpu=st.none() | st.floats(0.01, 64),
    pids=st.none() | st.integers(1, 1 << 20),
    no_new_privileges=st.booleans(),
    zygote=st.booleans(),
    restart=st.sampled_from(Restart),
    success_codes=st.lists(st.integers(0, 255), max_size=3).map(tuple),
    backoff=st.builds(Backoff, initial=strategies.seconds, factor=st.floats(1, 10)),
    limit=st.builds(Limit, st.integers(0, 20)),
    start_timeout=strategies.seconds,
    ready=st.none()
    | st.builds(Ready, tcp=words, status=st.tuples(st.integers(100, 599), st.integers(100, 599)))
    | st.builds(Ready, exec=st.lists(words, min_size=1, max_size=2).map(tuple)),
    stop=strategies.stops,
    logs=st.builds(
        Logs,
        capture=st.booleans(),
        mode=st.sampled_from(Capture),
        size=st.integers(0, 10**9),
        keep=st.integers(0, 9),
        compress=st.booleans(),
    ),
    on_failure=st.sampled_from(AtEnd),
    on_exit=st.sampled_from(AtEnd),
)


@given(components)
def test_a_component_survives_its_plain_form(component: Component) -> None:
    value = plain.encode(component)
    assert plain.decode(Component, value) == component
    through_json = json.loads(topology.canonical(value))
    again = plain.decode(Component, through_json)
    assert again == component
    assert topology.digest(plain.encode(again)) == topology.digest(value)


@given(components)
def test_a_plain_form_holds_no_defaults(component: Component) -> None:
    defaults = Component("", "")
    for name in plain.encode(component):
        if name not in {"service", "component"}:
            assert getattr(component, name) != getattr(defaults, name)


awkward_words = st.text(st.characters(exclude_categories=()), max_size=4)
awkward = st.recursive(
    st.none() | st.floats() | st.integers() | awkward_words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(awkward_words, inner, max_size=3),
    max_leaves=5,
)
"""With halves of surrogate pairs, numbers that are none, and others that few read."""


@given(components, st.dictionaries(awkward_words, awkward, max_size=2))
def test_a_component_survives_its_text(component: Component, config: dict[str, object]) -> None:
    component = structs.replace(component, config={**component.config, **config})
    text = plain.dumps(component)
    assert b"\n" not in text
    again = plain.loads(Component, text)
    # In words, because a number that is none does not equal itself.
    assert topology.canonical(plain.encode(again)) == topology.canonical(plain.encode(component))


@given(st.lists(components, max_size=3))
def test_a_lock_survives_its_text(members: list[Component]) -> None:
    lock = Lock("shop", "k", "/t.yaml", "/b", "/r", {c.slot: c for c in members})
    assert plain.loads(Lock, plain.dumps(lock)) == lock
    assert plain.loads(Lock, json.dumps(plain.encode(lock))) == lock


@given(st.lists(components, max_size=3))
def test_a_lock_survives_its_plain_form(members: list[Component]) -> None:
    lock = Lock("shop", "k", "/t.yaml", "/b", "/r", {c.slot: c for c in members})
    assert plain.decode(Lock, json.loads(topology.canonical(plain.encode(lock)))) == lock


@given(components)
def test_keys_of_a_newer_version_are_left_out(component: Component) -> None:
    value = {**plain.encode(component), "invented_later": 7}
    assert plain.decode(Component, value) == component


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        "text",
        7,
        {},
        {"service": "a"},
        {"service": "a", "component": "b", "restart": "sometimes"},
        {"service": "a", "component": "b", "stop": 5},
        {"service": "a", "component": "b", "depends_on": ["db"]},
        {"service": "a", "component": "b", "backoff": "fast"},
        {"service": "a", "component": "b", "command": None},
    ],
)
def test_what_does_not_fit_is_a_value_error(value: object) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the type is the promise
        plain.decode(Component, value)
    with pytest.raises(ValueError):  # noqa: PT011
        plain.loads(Component, json.dumps(value))


@pytest.mark.parametrize("text", ["", "{", "nothing", '{"service": "a", "component": NaN}'])
def test_what_is_no_text_of_it_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        plain.loads(Component, text)


@given(st.dictionaries(words, json_values, max_size=5))
def test_the_canonical_text_does_not_depend_on_the_order(value: dict[str, object]) -> None:
    turned = dict(reversed(value.items()))
    assert topology.canonical(value) == topology.canonical(turned)


# ------------------------------------------------------------------ names

labels = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,6}[a-z0-9])?", fullmatch=True)


@given(labels, labels, st.integers(1, 9), st.integers(1, 9))
def test_a_name_is_split_into_what_made_it(
    service: str, component: str, instance: int, replicas: int
) -> None:
    name = names.instance_name(service, component, min(instance, replicas), replicas)
    assert names.is_name(service)
    assert names.is_name(component)
    number = min(instance, replicas) if replicas > 1 else 0
    assert names.split(name) == (service, component, number)
    assert names.select([name], [name]) == (name,)
    assert names.select([service], [name]) == (name,)
    assert names.select([f"{service}.{component}"], [name]) == (name,)
