"""Publications between real components: by topic, none lost, and bad ones harm nobody."""

from __future__ import annotations

import signal

import msgpack
import pytest
import zmq

from tests.integration.component.conftest import Bench

SUBSCRIBER = """
    import sys
    seen = []

    def on_tick(args, to_send, states, config):
        if args["n"] == -1:
            raise RuntimeError("minus one")
        seen.append(args["n"])
        if args["n"] == config["last"]:
            print(f"{len(seen)} of {seen[-1]}, in order: {seen == sorted(seen)}")

    config_model = {"required": {"last": int}}
    connection_models = {"in": {"ticks": {
        "connection_type": "subscriber",
        "required_creation_arguments": {"on_new_message": on_tick},
        "optional_creation_arguments": {"topic": TOPIC},
        "required_arguments": {"n": int},
    }}}
"""
PUBLISHER = """
    connection_models = {"out": {"ticks": {
        "connection_type": "publisher",
        "optional_creation_arguments": {"topic": TOPIC},
        "required_arguments": {"n": int},
    }}}

    def main(to_send, config):
        for n in range(1, config["count"] + 1):
            assert to_send("connection", "ticks", {"n": n}) == {}

    config_model = {"required": {"count": int}}
"""


def subscriber(topic: str = "") -> str:
    return SUBSCRIBER.replace("TOPIC", repr(topic))


def publisher(topic: str = "") -> str:
    return PUBLISHER.replace("TOPIC", repr(topic))


def test_a_feed_waits_for_its_subscribers_and_loses_nothing(bench: Bench) -> None:
    """More messages than all buffers hold, to subscribers that start after the feed."""
    feed = bench.start(
        "feed",
        publisher(),
        main=True,
        config={"count": 50_000},
        expect_subscribers={"ticks": ["test.one", "test.two"]},
    ).ready()
    both = [bench.start(name, subscriber(), config={"last": 50_000}) for name in ("one", "two")]
    for component in both:
        component.printed("50000 of 50000, in order: True\n")
    assert feed.wait() == 0
    assert feed.stderr == ""


def test_a_subscriber_that_stands_still_holds_the_feed_and_loses_nothing(bench: Bench) -> None:
    slow = bench.start("slow", subscriber(), config={"last": 60_000}).ready()
    slow.process.send_signal(signal.SIGSTOP)
    # The kernel's buffers and both queues take some; the rest must wait.
    feed = bench.start(
        "feed",
        publisher().replace("\"topic\": ''", '"topic": \'\', "min_subscribers": 1, "timeout": 20'),
        main=True,
        config={"count": 60_000},
    )
    slow.process.send_signal(signal.SIGCONT)
    slow.printed("60000 of 60000, in order: True\n")
    assert feed.wait() == 0, feed.stderr


def test_a_subscriber_that_never_reads_ends_in_an_error(bench: Bench) -> None:
    feed = bench.start(
        "feed",
        publisher().replace(
            "\"topic\": ''", '"topic": \'\', "min_subscribers": 1, "timeout": 0.2'
        ),
        main=True,
        config={"count": 10_000_000},
    ).ready()
    with zmq.Context() as context, context.socket(zmq.SUB) as peer:
        peer.set(zmq.LINGER, 0)
        peer.set(zmq.RCVHWM, 10)
        peer.subscribe(b"")
        peer.connect(bench.address("ticks"))
        feed.printed("SendTimeout: cannot publish 'ticks': a subscriber has not read for 0.2 s")
    assert feed.wait() == 1


WAITING = """
    import time
    from orchestrator.component import SendTimeout

    def main(to_send, config):
        while True:
            began = time.thread_time()
            try:
                to_send(config["kind"], "ticks", {"n": 1}, timeout=0.5)
            except SendTimeout:
                print("asleep" if time.thread_time() - began < 0.05 else "busy")
                break
"""
WAITING_PUBLISHER = """
    connection_models = {"out": {"ticks": {
        "connection_type": "publisher",
        "optional_creation_arguments": {"min_subscribers": 1},
        "required_arguments": {"n": int},
    }}}
"""
WAITING_STATE = """
    state_models = {"out": {"ticks": {
        "state_type": "delta_update_out",
        "required_arguments": {"n": int},
    }}}
"""


@pytest.mark.parametrize("kind", ["connection", "state"])
def test_who_waits_for_a_subscriber_sleeps(bench: Bench, kind: str) -> None:
    states = {"publisher": bench.address("ticks"), "replyer": bench.address("whole")}
    feed = bench.start(
        "feed",
        (WAITING_STATE if kind == "state" else WAITING_PUBLISHER) + WAITING,
        main=True,
        config={"kind": kind},
        states={"out": {"ticks": states}} if kind == "state" else None,
    )
    with zmq.Context() as context, context.socket(zmq.SUB) as peer:
        peer.set(zmq.LINGER, 0)
        peer.set(zmq.RCVHWM, 10)
        peer.subscribe(b"")
        peer.connect(bench.address("ticks"))
        feed.printed("asleep\n")
    assert feed.wait() == 0, feed.stderr


def test_a_missing_subscriber_is_named_and_not_waited_for_for_ever(bench: Bench) -> None:
    feed = bench.start(
        "feed",
        publisher().replace("\"topic\": ''", '"topic": \'\', "subscribers_timeout": 0.2'),
        main=True,
        config={"count": 3},
        expect_subscribers={"ticks": ["test.one", "test.two"]},
    )
    assert feed.wait() == 0
    assert (
        "WARNING test.feed - Only 0 of 2 subscribers of 'ticks' are connected after 0.2 s "
        "(expected test.one, test.two); going on without"
    ) in feed.stderr


def test_topics_match_whole(bench: Bench) -> None:
    one = bench.start("one", subscriber("tick"), config={"last": 3}).ready()
    other = bench.start("other", subscriber("ticks"), config={"last": 3}).ready()
    feed = bench.start(
        "feed", publisher("tick"), main=True, config={"count": 3}, expect_subscribers={"ticks": 1}
    )
    assert feed.wait() == 0
    one.printed("3 of 3, in order: True\n")
    assert other.stop() == 0
    assert other.stdout == ""


def test_bad_publications_are_logged_and_dropped(bench: Bench) -> None:
    address = bench.address("ticks")
    component = bench.start("one", subscriber("t"), config={"last": 2}).ready()
    topic = msgpack.packb("t")
    with zmq.Context() as context, context.socket(zmq.XPUB) as peer:
        peer.set(zmq.LINGER, 0)
        peer.bind(address)
        assert peer.poll(10_000)
        for payload in (
            b"\xc1",
            msgpack.packb({"args": {"n": "text"}, "workflow_id": "w"}),
            msgpack.packb({"args": {"n": -1}, "workflow_id": "chain"}),
            msgpack.packb({"args": {"n": 2}, "workflow_id": "w"}),
        ):
            peer.send(topic + payload)
        component.printed("1 of 2, in order: True\n")
    assert "Dropped a message on 'ticks': cannot decode a message" in component.stderr
    assert (
        "cannot accept the message 'ticks': 'n': expected int, got str 'text'" in component.stderr
    )
    assert "ERROR test.one chain The message 'ticks' failed" in component.stderr
    assert "RuntimeError: minus one" in component.stderr
    assert component.stop() == 0


@pytest.mark.parametrize("arguments", ['{"n": "1"}', "{}", "None", '{"n": 1, "m": 2}'])
def test_what_breaks_the_model_is_not_published(bench: Bench, arguments: str) -> None:
    feed = bench.start(
        "feed",
        publisher().replace('{"n": n}) == {}', f"{arguments})"),
        main=True,
        config={"count": 1},
    )
    assert feed.wait() == 1
    assert "ModelMismatch: cannot send the message 'ticks': " in feed.stderr
