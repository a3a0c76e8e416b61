"""Addresses and the ends that they wire."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from orchestrator import config
from orchestrator.config import addresses
from orchestrator.errors import Severity, TopologyError
from orchestrator.wire import keys
from tests.unit.config.conftest import Workshop, end, marked, model


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("tcp://127.0.0.1:80", "tcp://127.0.0.1:80"),
        ("localhost:80", "tcp://localhost:80"),
        ("tcp://[::1]:80", "tcp://[::1]:80"),
        ("*:80", "tcp://*:80"),
        ("ipc:///a/b", "ipc:///a/b"),
        ("auto", "auto"),
        ("auto:ipc", "auto"),
        ("auto:tcp", "auto:tcp"),
    ],
)
def test_endpoints_are_understood(text: str, meant: str) -> None:
    assert str(addresses.parse(text)) == meant


@pytest.mark.parametrize(
    "text",
    [
        "x",
        "tcp://x",
        "tcp://:1",
        "x:0",
        "x:65536",
        "x:a",
        "a b:1",
        "256.1.1.1:9",
        "1.2.3:9",
        "inproc://a",
        "udp://a:1",
        "ipc://relative",
        "http://x:1/y",
        "::1:80",
    ],
)
def test_bad_endpoints_are_refused(workshop: Workshop, text: str) -> None:
    one = workshop.mistakes(f"addresses: {{a: '{text}'}}\nservices: {{s: {{command: sh}}}}\n")[0]
    assert (one.code, marked(one)) == ("ORC211", f"'{text}'")


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("tcp://127.0.0.1:7000", "tcp://localhost:7000"),
        ("tcp://*:7000", "tcp://127.0.0.1:7000"),
        ("tcp://10.0.0.1:7000", "0.0.0.0:7000"),
        ("ipc:///x", "ipc:///x"),
    ],
)
def test_colliding_addresses_name_both_places(workshop: Workshop, one: str, two: str) -> None:
    text = f"""
        addresses:
          a: {one}
          b: {{data: auto, snapshot: "{two}"}}
        services: {{s: {{command: "sh ${{addresses.a}} ${{addresses.b.data}}"}}}}
    """
    found = workshop.only(text)
    assert (found.code, found.position.line) == ("ORC212", 3)
    assert found.related[0].position.line == 2


def test_addresses_of_others_do_not_collide(workshop: Workshop) -> None:
    text = """
        addresses:
          a: {address: tcp://10.0.0.1:7000, external: true}
          b: {address: tcp://10.0.0.1:7000, external: true}
          c: tcp://10.0.0.1:7001
          d: tcp://10.0.0.2:7001
        services: {s: {command: "sh ${addresses.c} ${addresses.d}"}}
    """
    assert workshop.codes(text) == []


def test_socket_paths_fit_the_kernel(workshop: Workshop) -> None:
    long = "/tmp/" + "x" * 100
    paths = f"{{a: 'ipc://{long}1', b: 'ipc://{long}12', c: 'ipc://{long}123'}}"
    text = f"addresses: {paths}\nservices: {{s: {{command: sh}}}}\n"
    assert [one.code for one in workshop.mistakes(text)].count("ORC213") == 1
    workshop.environment["XDG_RUNTIME_DIR"] = "/" + "r" * 90
    one = workshop.mistakes(
        "addresses: {a: auto}\nservices: {s: {command: 'sh ${addresses.a}'}}\n"
    )[0]
    assert one.code == "ORC213"
    assert "XDG_RUNTIME_DIR" in one.hint


def test_automatic_endpoints_are_the_same_every_time(workshop: Workshop) -> None:
    text = """
        addresses: {a: auto, b: auto:tcp, c: auto:tcp, p: {data: auto, more: auto:tcp}}
        services:
          s:
            command: >-
              sh ${addresses.a} ${addresses.b} ${addresses.c.port} ${addresses.p.data}
              ${addresses.p.more.host}
    """
    first, second = workshop.lock(text).lock, workshop.lock(text).lock
    assert first == second
    words = first.components["s.s"].command
    assert words[1] == f"ipc:///run/test/orch/{first.key}/a.ipc"
    assert words[4] == f"ipc:///run/test/orch/{first.key}/p.data.ipc"
    assert words[5] == "127.0.0.1"
    ports = [addresses.parse(words[2]).port, int(words[3])]
    assert len(set(ports)) == 2
    assert all(addresses.FIRST_PORT <= port <= addresses.LAST_PORT for port in ports)


def test_automatic_ports_keep_away_from_ports_that_the_file_names(workshop: Workshop) -> None:
    text = "addresses: {a: auto:tcp}\nservices: {s: {command: 'sh ${addresses.a.port} PORT'}}\n"
    port = workshop.lock(text).lock.components["s.s"].command[1]
    moved = workshop.lock(text.replace("PORT", port)).lock.components["s.s"].command
    assert moved[1] != moved[2] == port


@pytest.mark.parametrize(
    ("reference", "hint"),
    [
        ("addresses.a.port", "auto:tcp"),
        ("addresses.p", "p.data"),
        ("addresses.p.dat", "did you mean 'data'?"),
        ("addresses.a.b.c", ""),
    ],
)
def test_what_an_address_does_not_have_cannot_be_named(
    workshop: Workshop, reference: str, hint: str
) -> None:
    services = f"services: {{s: {{command: 'sh ${{{reference}}}'}}}}\n"
    text = "addresses: {a: auto, p: {data: auto, x: auto}}\n" + services
    one = next(one for one in workshop.mistakes(text) if one.code == "ORC023")
    assert marked(one) == f"${{{reference}}}"
    assert hint in one.hint


def shape(workshop: Workshop, address: str, ends: str) -> str:
    for name in ("a", "b", "c", "d"):
        workshop.write(f"{name}.py", "")
    return f"addresses: {{x: {address}}}\nservices:\n{ends}"


def service(name: str, direction: str, address: str = "x") -> str:
    return f"  {name}: {{handler: {name}.py, connections: {{{direction}: {{e: {address}}}}}}}\n"


def test_one_inward_and_many_outward_is_a_good_shape(workshop: Workshop) -> None:
    text = shape(workshop, "auto", service("a", "in") + service("b", "out") + service("c", "out"))
    assert workshop.codes(text) == []


def test_an_address_used_from_one_side_only_has_nobody_at_the_other(workshop: Workshop) -> None:
    one = workshop.only(shape(workshop, "auto", service("a", "in")))
    assert (one.code, marked(one)) == ("ORC214", "x")
    assert "a.a connections.in.e" in one.message


def test_the_other_end_may_be_elsewhere_or_any_program(workshop: Workshop) -> None:
    external = "{address: tcp://127.0.0.1:7000, external: true}"
    assert workshop.codes(shape(workshop, external, service("a", "in"))) == []
    program = service("a", "in") + "  b: {command: 'sh ${addresses.x}'}\n"
    assert workshop.codes(shape(workshop, "auto", program)) == []


def test_many_on_both_sides_cannot_all_be_served(workshop: Workshop) -> None:
    ends = service("a", "in") + service("b", "in") + service("c", "out") + service("d", "out")
    one = workshop.only(shape(workshop, "auto", ends))
    assert one.code == "ORC215"
    assert len(one.related) == 3


def test_an_unknown_address_gets_a_hint(workshop: Workshop) -> None:
    text = shape(workshop, "auto", service("a", "in", "y") + service("b", "out", "tcp://h:1"))
    text = text.replace("e: tcp://h:1", "e: 'tcp://h:1'").replace("{x:", "{ticks: auto, x:")
    found = [one for one in workshop.mistakes(text) if one.code == "ORC210"]
    assert "ticks and x" in found[0].hint
    assert "declare it" in found[1].hint


def test_an_unused_address_is_a_warning(workshop: Workshop) -> None:
    assert workshop.codes("addresses: {x: auto}\nservices: {s: {command: sh}}\n") == ["ORC220"]


def test_main_mode_takes_nothing_in(workshop: Workshop) -> None:
    text = shape(
        workshop,
        "auto",
        service("a", "in").replace("}}}", "}}, mode: main}") + service("b", "out"),
    )
    assert workshop.codes(text) == ["ORC221"]


def test_clear_text_beyond_this_machine_must_be_meant(workshop: Workshop) -> None:
    ends = service("a", "in") + service("b", "out")
    assert set(workshop.codes(shape(workshop, "tcp://*:7000", ends))) == {"ORC224"}
    meant = "{address: tcp://*:7000, insecure: true}"
    assert workshop.codes(shape(workshop, meant, ends)) == []
    free = "addresses: {x: 'tcp://*:7000'}\nservices: {s: {command: 'sh ${addresses.x}'}}\n"
    assert workshop.codes(free) == []


def test_parts_wire_ends_by_name_or_by_socket(workshop: Workshop) -> None:
    parts = "{data: auto, snapshot: auto}"
    whole = workshop.mistakes(shape(workshop, parts, service("a", "in") + service("b", "out")))
    assert [one.code for one in whole] == ["ORC219", "ORC219"]
    assert whole[0].hint == "name one of x.data and x.snapshot"
    wrong = workshop.mistakes(shape(workshop, "{external: true}", service("a", "in")))
    assert [(one.code, one.hint) for one in wrong if one.code == "ORC219"] == [("ORC219", "")]
    named = service("a", "in", "x.data") + service("b", "out", "{publisher: x.data}")
    assert workshop.codes(shape(workshop, parts, named)) == []


# With the handlers' models


def pair(workshop: Workshop, address: str = "auto", more: str = "") -> str:
    return shape(workshop, address, service("a", "in") + service("b", "out") + more)


def models(kind_a: str, kind_b: str, **more: Any) -> dict[str, Any]:
    return {
        "a.a": model("a.a", connections={"in": {"e": end(kind_a)}}),
        "b.b": model("b.b", connections={"out": {"e": end(kind_b)}}),
        **more,
    }


@pytest.mark.parametrize("kinds", [("replyer", "requester"), ("subscriber", "publisher")])
def test_ends_that_fit_are_good(workshop: Workshop, kinds: tuple[str, str]) -> None:
    assert workshop.codes(pair(workshop), models(*kinds)) == []


@pytest.mark.parametrize(
    ("kinds", "codes"),
    [
        (("replyer", "publisher"), {"ORC215"}),
        (("subscriber", "requester"), {"ORC214", "ORC216"}),
    ],
)
def test_ends_that_do_not_fit_are_told(
    workshop: Workshop, kinds: tuple[str, str], codes: set[str]
) -> None:
    found = workshop.mistakes(pair(workshop), models(*kinds))
    assert {one.code for one in found} == codes


def test_a_pair_that_cannot_speak_names_both_ends(workshop: Workshop) -> None:
    text = pair(workshop, more=service("c", "out"))
    third = {"c.c": model("c.c", connections={"out": {"e": end("requester")}})}
    one = workshop.only(text, models("subscriber", "publisher", **third))
    assert (one.code, one.position.line) == ("ORC216", 5)
    assert one.related[0].position.line == 4


def test_two_binders_are_told_even_with_a_good_shape(workshop: Workshop) -> None:
    text = pair(workshop, more=service("c", "out"))
    third = {"c.c": model("c.c", connections={"out": {"e": end("publisher")}})}
    one = workshop.only(text, models("subscriber", "publisher", **third))
    assert (one.code, one.position.line, one.related[0].position.line) == ("ORC215", 5, 4)


def test_wired_and_declared_must_be_the_same(workshop: Workshop) -> None:
    mine = {
        "a.a": model("a.a", connections={"in": {"ee": end("subscriber", line=7)}}),
        "b.b": model("b.b", connections={"out": {"e": end("publisher")}}),
    }
    undeclared, unwired = sorted(workshop.mistakes(pair(workshop), mine), key=lambda one: one.code)
    assert (undeclared.code, marked(undeclared), undeclared.hint) == (
        "ORC217",
        "e",
        "did you mean 'ee'?",
    )
    assert unwired.code == "ORC218"
    assert "line 7" in unwired.message


def test_an_end_without_sockets_needs_no_address(workshop: Workshop) -> None:
    mine = models("replyer", "requester")
    mine["b.b"]["connections"]["out"]["api"] = end("external_request")
    assert workshop.codes(pair(workshop), mine) == []


def test_a_handler_that_cannot_be_loaded_is_shown_at_its_line(workshop: Workshop) -> None:
    text = pair(workshop)
    broken = workshop.write("a.py", "import os\n  import nothing\n")
    error = {"file": str(broken), "line": 2, "message": "IndentationError: unexpected indent"}
    mine = models("replyer", "requester", **{"a.a": model("a.a", error=error)})
    one = workshop.only(text, mine)
    assert (one.code, Path(one.position.file).name, one.position.line) == ("ORC222", "a.py", 2)
    assert marked(one) == "import nothing"
    assert Path(one.related[0].position.file).name == "topology.yaml"


@pytest.mark.parametrize(
    "said",
    [
        "cannot load the handler: KeyError: 'a: b'",
        "cannot load the handler a.py: KeyError: 'a: b'",
        "KeyError: 'a: b'",
    ],
)
def test_that_a_handler_cannot_be_loaded_is_said_once(workshop: Workshop, said: str) -> None:
    error = {"file": None, "line": None, "message": said}
    mine = models("replyer", "requester", **{"a.a": model("a.a", error=error)})
    one = workshop.only(pair(workshop), mine)
    assert one.message == "cannot load the handler of 'a.a': KeyError: 'a: b'"


def test_a_handler_that_cannot_be_found_is_shown_where_it_is_named(workshop: Workshop) -> None:
    error = {"file": None, "line": None, "message": "no module named 'x'"}
    mine = models("replyer", "requester", **{"a.a": model("a.a", error=error)})
    one = workshop.only(pair(workshop), mine)
    assert (one.code, marked(one)) == ("ORC222", "a.py")


def test_main_mode_needs_a_main(workshop: Workshop) -> None:
    workshop.write("a.py", "")
    text = "services: {a: {handler: a.py, mode: main}}\n"
    assert workshop.codes(text, {"a.a": model("a.a")}) == ["ORC221"]
    assert workshop.codes(text, {"a.a": model("a.a", main=True)}) == []


def test_several_instances_cannot_bind_one_fixed_endpoint(workshop: Workshop) -> None:
    text = pair(workshop, "tcp://127.0.0.1:7000")
    one = workshop.only(text, models("replyer", "requester"), scale={"a": 2})
    assert (one.code, one.related[0].position.line) == ("ORC223", 1)
    assert workshop.codes(text, models("replyer", "requester"), scale={"b": 3}) == []


def test_each_instance_that_binds_has_its_own_endpoint(workshop: Workshop) -> None:
    lock = workshop.lock(pair(workshop), models("replyer", "requester"), scale={"a": 2}).lock
    base = f"ipc:///run/test/orch/{lock.key}/x"
    components = lock.components
    assert components["a.a@1"].connections.inward == {"e": {"replyer": f"{base}.ipc"}}
    assert components["a.a@2"].connections.inward == {"e": {"replyer": f"{base}@2.ipc"}}
    assert components["b.b"].connections.outward == {
        "e": {"requester": [f"{base}.ipc", f"{base}@2.ipc"]}
    }


def test_publishers_know_how_many_subscribers_to_expect(workshop: Workshop) -> None:
    text = pair(workshop, more=service("c", "in"))
    third = {"c.c": model("c.c", connections={"in": {"e": end("subscriber")}})}
    lock = workshop.lock(text, models("subscriber", "publisher", **third), scale={"a": 3}).lock
    assert dict(lock.components["b.b"].expect_subscribers) == {"e": 4}
    assert dict(lock.components["a.a@1"].expect_subscribers) == {}


def test_states_use_the_parts_of_an_address(workshop: Workshop) -> None:
    for name in ("a", "b"):
        workshop.write(f"{name}.py", "")
    text = """
        addresses: {book: {data: auto, snapshot: tcp://127.0.0.1:7001}}
        services:
          a: {handler: a.py, states: {in: {order_book: book}}}
          b: {handler: b.py, states: {out: {order_book: book}}}
    """
    mine = {
        "a.a": model("a.a", states={"in": {"order_book": end("delta_update_in")}}),
        "b.b": model("b.b", states={"out": {"order_book": end("delta_update_out")}}),
    }
    for given in (mine, None):
        lock = workshop.lock(text, given).lock
        data, snapshot = f"ipc:///run/test/orch/{lock.key}/book.data.ipc", "tcp://127.0.0.1:7001"
        assert lock.components["a.a"].states.inward == {
            "order_book": {"subscriber": data, "requester": snapshot}
        }
        assert lock.components["b.b"].states.outward == {
            "order_book": {"publisher": data, "replyer": snapshot}
        }
    one = workshop.mistakes(
        text.replace("{data: auto, snapshot: tcp://127.0.0.1:7001}", "auto"), mine
    )
    assert [each.code for each in one] == ["ORC219", "ORC219"]


# What both ends say of their messages


def declaring(direction: str, kind: str, **more: Any) -> dict[str, Any]:
    """Return the models of `a.a` (in) or `b.b` (out), whose handler's file is known."""
    base = "a.a" if direction == "in" else "b.b"
    described = end(kind, **{"required": {}, "optional": {}, "topic": None, "line": 3, **more})
    return {
        base: {
            **model(base, connections={direction: {"e": described}}),
            "file": f"/code/{base[0]}.py",
        }
    }


def test_models_that_disagree_are_told_with_all_places(workshop: Workshop) -> None:
    sender = declaring(
        "out",
        "requester",
        required={"levels": {"dict": ["str", "int"]}},
        lines={"arguments.levels": 8},
    )
    receiver = declaring("in", "replyer", required={"levels": {"dict": ["str", "Decimal"]}})
    one = workshop.only(pair(workshop), sender | receiver)
    assert (one.code, one.position.line) == ("ORC310", 4)
    assert one.message == (
        "b.b connections.out.e and a.a connections.in.e disagree: "
        "args.levels{} is sent as int, and expected as Decimal"
    )
    assert [(Path(place.position.file).name, place.position.line) for place in one.related] == [
        ("topology.yaml", 3),
        ("b.py", 8),
        ("a.py", 3),
    ]


def test_replies_go_the_other_way(workshop: Workshop) -> None:
    asks = declaring("out", "requester", returns={"required": {"ok": "bool"}, "optional": {}})
    gives = declaring("in", "replyer", returns={"required": {}, "optional": {"ok": "bool"}})
    one = workshop.only(pair(workshop), asks | gives)
    assert one.message.endswith(
        "return_args.ok is sent only at times, and required by the receiver"
    )
    assert one.message.startswith("a.a connections.in.e and b.b")


@pytest.mark.parametrize("topics", [("x", "xy"), (None, "x"), ("x", None)])
def test_topics_match_whole(workshop: Workshop, topics: tuple[str | None, str | None]) -> None:
    mine = declaring("in", "subscriber", topic=topics[0])
    one = workshop.only(pair(workshop), mine | declaring("out", "publisher", topic=topics[1]))
    assert (one.code, one.position.line, one.related[0].position.line) == ("ORC311", 3, 4)


def test_a_state_speaks_with_its_own_kind(workshop: Workshop) -> None:
    for name in ("a", "b", "c"):
        workshop.write(f"{name}.py", "")
    text = """
        addresses: {book: {data: auto, snapshot: auto}}
        services:
          a: {handler: a.py, states: {in: {x: {subscriber: book.data}}}}
          c: {handler: c.py, states: {in: {x: book}}}
          b: {handler: b.py, states: {out: {x: book}}}
    """
    full = {**end("subscriber"), "type": "full_update_in"}
    mine = {
        "a.a": model("a.a", states={"in": {"x": full}}),
        "b.b": model("b.b", states={"out": {"x": end("delta_update_out")}}),
        "c.c": model("c.c", states={"in": {"x": end("delta_update_in")}}),
    }
    one = workshop.only(text, mine)
    assert (one.code, one.position.line, one.related[0].position.line) == ("ORC312", 3, 5)


# Buses, and what addresses ask of sockets

BUS = "{bus: true}"


def test_many_publish_and_many_subscribe_at_a_bus(workshop: Workshop) -> None:
    more = service("c", "out") + service("d", "in")
    third = {
        "c.c": model("c.c", connections={"out": {"e": end("publisher")}}),
        "d.d": model("d.d", connections={"in": {"e": end("subscriber")}}),
    }
    text = pair(workshop, BUS, more)
    mine = models("subscriber", "publisher", **third)
    for given in (None, mine):
        lock = workshop.lock(text, given).lock
        base = f"ipc:///run/test/orch/{lock.key}/x"
        bus = lock.components["bus.x"]
        assert bus.handler == "orchestrator.component.bus"
        assert (bus.mode, bus.restart) == ("main", "always")
        assert dict(bus.config) == {
            "publish": f"{base}.publish.ipc",
            "subscribe": f"{base}.subscribe.ipc",
            **({"subscribers": 2} if given else {}),
        }
        publisher = lock.components["c.c"]
        assert publisher.endpoints[f"{base}.publish.ipc"].bus
        assert f"{base}.publish.ipc" in str(publisher.connections.outward)
        assert f"{base}.subscribe.ipc" in str(lock.components["d.d"].connections.inward)
    lock = workshop.lock(text, mine).lock
    assert dict(lock.components["b.b"].expect_subscribers) == {"e": 1}
    assert dict(lock.components["d.d"].expect_subscribers) == {}


def test_a_bus_may_have_endpoints_of_its_own_and_be_waited_for(workshop: Workshop) -> None:
    address = "{bus: true, publish: 'tcp://127.0.0.1:7000', subscribe: 'auto:tcp'}"
    ends = service("a", "in").replace("}}}", "}}, depends_on: [bus.x]}") + service("b", "out")
    lock = workshop.lock(shape(workshop, address, ends)).lock
    assert lock.components["bus.x"].config["publish"] == "tcp://127.0.0.1:7000"
    assert "bus.x" in lock.components["a.a"].depends_on


def test_a_bus_needs_both_sides_and_its_name(workshop: Workshop) -> None:
    one = workshop.only(shape(workshop, BUS, service("b", "out")))
    assert (one.code, marked(one)) == ("ORC214", "x")
    taken = "  bus: {components: {x: {command: sh}}}\n"
    found = workshop.mistakes(pair(workshop, BUS, taken))
    assert [one.code for one in found] == ["ORC313"]
    assert found[0].related


def test_a_requester_cannot_speak_with_a_bus(workshop: Workshop) -> None:
    found = workshop.mistakes(pair(workshop, BUS), models("subscriber", "requester"))
    assert {one.code for one in found} == {"ORC216"}


def test_a_publisher_that_connects_needs_a_bus(workshop: Workshop) -> None:
    mine = models("subscriber", "publisher")
    mine["b.b"]["connections"]["out"]["e"] |= {"binds": [], "connects": ["publisher"]}
    found = next(one for one in workshop.mistakes(pair(workshop), mine) if one.code == "ORC214")
    assert "{bus: true}" in found.hint
    assert workshop.codes(pair(workshop, BUS), mine) == []


def test_at_a_bus_somebody_must_publish_the_topic(workshop: Workshop) -> None:
    third = declaring("out", "publisher", topic="other")["b.b"]
    mine = declaring("in", "subscriber", topic="x") | declaring("out", "publisher", topic="x")
    text = pair(workshop, BUS, service("c", "out"))
    assert workshop.codes(text, mine | {"c.c": third}) == []
    mine["a.a"]["connections"]["in"]["e"]["topic"] = "y"
    assert set(workshop.codes(text, mine | {"c.c": third})) == {"ORC311"}


def test_models_are_compared_across_a_bus(workshop: Workshop) -> None:
    mine = declaring("in", "subscriber", required={"n": "str"})
    mine |= declaring("out", "publisher", required={"n": "int"})
    assert workshop.codes(pair(workshop, BUS), mine) == ["ORC310"]


def test_what_an_address_asks_reaches_both_ends(workshop: Workshop) -> None:
    address = "{address: auto, high_water_mark: 5, when_full: drop, max_message: 1MB}"
    lock = workshop.lock(pair(workshop, address), models("subscriber", "publisher")).lock
    for name in ("a.a", "b.b"):
        (terms,) = lock.components[name].endpoints.values()
        assert (terms.high_water_mark, terms.when_full) == (5, "drop")
        assert terms.max_message == 1_000_000
    assert lock.components["a.a"].endpoints == lock.components["b.b"].endpoints
    plain = workshop.lock(pair(workshop), models("subscriber", "publisher")).lock
    assert dict(plain.components["a.a"].endpoints) == {}


# Encryption


def keyed(workshop: Workshop, name: str = "own") -> None:
    """Write a key pair."""
    public, secret = "p" * 40, "s" * 40
    made = workshop.write(f"{name}.key", keys.write(keys.Keys(public, secret)))
    made.chmod(0o600)
    workshop.write(f"{name}.pub", keys.write(keys.Keys(public)))


def open_pair(workshop: Workshop, address: str, whole: str = "") -> str:
    return pair(workshop, address) + whole


def test_beyond_this_machine_everything_is_encrypted_with_the_systems_key(
    workshop: Workshop,
) -> None:
    keyed(workshop)
    keyed(workshop, "guest")
    whole = "curve: {key: own.key, allow: [guest.pub]}\n"
    text = open_pair(workshop, "tcp://0.0.0.0:7000", whole)
    lock = workshop.lock(text, models("subscriber", "publisher")).lock
    publisher, subscriber = lock.components["b.b"], lock.components["a.a"]
    assert publisher.connections.outward == {"e": {"publisher": "tcp://0.0.0.0:7000"}}
    assert subscriber.connections.inward == {"e": {"subscriber": "tcp://127.0.0.1:7000"}}
    for endpoint, component in (
        ("tcp://0.0.0.0:7000", publisher),
        ("tcp://127.0.0.1:7000", subscriber),
    ):
        curve = component.endpoints[endpoint].curve
        assert curve is not None
        assert curve.key == str(workshop.directory / "own.key")
        assert curve.allow == (str(workshop.directory / "guest.pub"),)
    assert "s" * 40 not in str(lock)
    local = open_pair(workshop, "tcp://127.0.0.1:7000", whole)
    assert (
        not workshop.lock(local, models("subscriber", "publisher"))
        .lock.components["a.a"]
        .endpoints
    )


def test_an_address_may_have_keys_of_its_own(workshop: Workshop) -> None:
    keyed(workshop)
    keyed(workshop, "other")
    address = "{address: tcp://127.0.0.1:7000, curve: {key: own.key, server: other.pub}}"
    lock = workshop.lock(pair(workshop, address), models("subscriber", "publisher")).lock
    (terms,) = lock.components["a.a"].endpoints.values()
    assert terms.curve is not None
    assert terms.curve.server == str(workshop.directory / "other.pub")


def test_what_may_be_clear_is_not_encrypted(workshop: Workshop) -> None:
    keyed(workshop)
    for address in (
        "{address: tcp://*:7000, insecure: true}",
        "{address: tcp://10.0.0.1:7000, external: true, insecure: true}",
    ):
        text = open_pair(workshop, address, "curve: {key: own.key}\n")
        assert not workshop.lock(text).lock.components["a.a"].endpoints


@pytest.mark.parametrize(
    ("curve", "code", "said"),
    [
        ("true", "ORC314", "needs the file of a key"),
        ("{key: none.key}", "ORC315", "No such file"),
        ("{key: own.pub}", "ORC315", "holds no secret key"),
        ("{key: open.key}", "ORC315", "others may read"),
        ("{key: own.key, allow: [a.py]}", "ORC315", "no public-key"),
        ("{key: own.key, server: none.pub}", "ORC315", "No such file"),
    ],
)
def test_keys_that_cannot_be_used_are_told(
    workshop: Workshop, curve: str, code: str, said: str
) -> None:
    keyed(workshop)
    workshop.write("open.key", (workshop.directory / "own.key").read_text()).chmod(0o644)
    address = f"{{address: tcp://10.0.0.1:7000, curve: {curve}}}"
    one = workshop.only(pair(workshop, address))
    assert (one.code, said in one.message) == (code, True), one
    assert one.hint


def test_mistakes_of_the_file_and_of_the_code_are_told_at_once(workshop: Workshop) -> None:
    text = """
    addresses: {x: auto, y: auto}
    services:
      a: {handler: a.py, connections: {in: {ask: x}, out: {nothing: y}}, restrat: never}
      b: {handler: b.py, connections: {out: {ask: x}}}
    """
    for name in ("a.py", "b.py"):
        workshop.write(name, "")
    models = {
        "a.a": model("a.a", connections={"in": {"ask": end("replyer")}}),
        "b.b": model("b.b", error={"message": "no", "file": None, "line": None}),
    }
    path = workshop.write("topology.yaml", text)
    draft = config.read(path, environment=workshop.environment, keep_going=True)
    with pytest.raises(TopologyError) as caught:
        config.lock(draft, models)
    assert {one.code for one in caught.value.diagnostics} >= {"ORC100", "ORC217", "ORC222"}


def test_nothing_is_called_missing_where_something_was_left_out(workshop: Workshop) -> None:
    text = """
    addresses: {x: auto}
    services:
      a: {handler: a.py, connections: {in: {ask: x}}}
      b: {handler: b.py, connections: {oot: {ask: x}}}
    """
    for name in ("a.py", "b.py"):
        workshop.write(name, "")
    models = {
        "a.a": model("a.a", connections={"in": {"ask": end("replyer")}}),
        "b.b": model("b.b", connections={"out": {"ask": end("requester")}}),
    }
    path = workshop.write("topology.yaml", text)
    draft = config.read(path, environment=workshop.environment, keep_going=True)
    with pytest.raises(TopologyError) as caught:
        config.lock(draft, models)
    assert [one.code for one in caught.value.diagnostics] == ["ORC100"]


@pytest.mark.parametrize(("address", "codes"), [("auto", ["ORC225"]), ("auto:tcp", [])])
def test_another_user_cannot_reach_a_socket_in_the_runtime_directory(
    workshop: Workshop, address: str, codes: list[str]
) -> None:
    other = "65534" if os.geteuid() != 65534 else "1"
    text = f"""
    addresses: {{x: "{address}"}}
    services:
      a: {{handler: a.py, user: "{other}", connections: {{in: {{ask: x}}}}}}
      b: {{handler: a.py, user: "{os.geteuid()}", connections: {{out: {{ask: x}}}}}}
    """
    workshop.write("a.py", "")
    assert workshop.codes(text) == codes


def test_a_main_that_nobody_calls_is_told(workshop: Workshop) -> None:
    workshop.write("a.py", "")
    one = workshop.only("services: {a: {handler: a.py}}", {"a.a": model("a.a", main=True)})
    assert (one.code, one.severity, one.hint) == ("ORC221", Severity.WARNING, "add `mode: main`")


def test_concurrency_without_an_async_function_is_told(workshop: Workshop) -> None:
    text = pair(workshop).replace("handler: a.py", "handler: a.py, concurrency: 8")
    mine = models("replyer", "requester")
    function = mine["a.a"]["connections"]["in"]["e"]
    function |= {"function": "on_e", "is_async": False}
    one = workshop.only(text, mine)
    assert (one.code, one.severity, marked(one)) == ("ORC439", Severity.WARNING, "8")
    assert one.hint == (
        "write `async def` for those of 'on_e' that wait for something, or leave it out"
    )
    function["is_async"] = True
    assert workshop.codes(text, mine) == []
    assert workshop.lock(text).lock.components["a.a"].concurrency == 8


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ("command: sh, concurrency: 2", "`concurrency` has no effect without `handler`"),
        (
            "handler: a.py, mode: main, concurrency: 2",
            "`concurrency` has no effect with `mode: main`: nothing comes in",
        ),
    ],
)
def test_concurrency_is_for_handlers_that_serve(
    workshop: Workshop, fields: str, said: str
) -> None:
    workshop.write("a.py", "")
    one = workshop.only(f"services: {{a: {{{fields}}}}}\n", {"a.a": model("a.a", main=True)})
    assert (one.code, one.severity, one.message) == ("ORC109", Severity.WARNING, said)


@pytest.mark.parametrize("wrong", ["0", "1001", "1.5", "many"])
def test_concurrency_has_bounds(workshop: Workshop, wrong: str) -> None:
    workshop.write("a.py", "")
    text = f"services: {{a: {{handler: a.py, concurrency: {wrong}}}}}\n"
    assert marked(workshop.only(text)) == wrong
