"""The bus of an address `{bus: true}`: publishers and subscribers connect to it, and it forwards.

orch runs it as a component of its own, one for each such address. Messages and subscriptions pass
through ZeroMQ's own proxy and are never decoded here. A subscriber that is full holds the bus up,
and so the publishers, unless the address says `when_full: drop`.

Publishers wait for a subscription of their topic. So the bus first waits for the subscribers that
the topology names, and only then lets publishers in: none of them misses the beginning.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

import zmq

from orchestrator.component import connections, sockets
from orchestrator.component.sockets import Socket

logger = logging.getLogger(__name__)

config_model = {
    "required": {"publish": str, "subscribe": str},
    "optional": {"subscribers": int, "terms": dict},
}

_open: list[tuple[sockets.Context, Socket]] = []


def init_function(to_send: Callable[..., Any], states: object, config: Mapping[str, Any]) -> None:
    """Bind the subscribers' side, so that they find the bus when it is ready."""
    del to_send, states
    said = config.get("terms") or {}
    context = sockets.Context()
    context.terms = sockets.terms({config[side]: said for side in ("publish", "subscribe")})
    socket = sockets.open_socket(context, zmq.XPUB)
    if not sockets.terms_of(context, (config["subscribe"],)).drops:
        socket.set(zmq.XPUB_NODROP, 1)
    sockets.bind(socket, "subscribe", config["subscribe"])
    _open.append((context, socket))


def main(to_send: Callable[..., Any], config: Mapping[str, Any]) -> None:
    """Wait for the named subscribers, then forward until stopped."""
    del to_send
    ((context, outlet),) = _open
    try:
        inlet = sockets.open_socket(context, zmq.XSUB)
        for topic in _subscriptions(outlet, config.get("subscribers", 0)):
            inlet.send(topic)
        sockets.bind(inlet, "publish", config["publish"])
        zmq.proxy(inlet, outlet)
    finally:
        context.destroy(linger=0)


def _subscriptions(outlet: Socket, expected: int) -> tuple[bytes, ...]:
    """Return the subscriptions of the expected subscribers, or of those that came in time."""
    if not expected:
        return ()
    # Each subscription and each end of one, not only the first and the last of a topic.
    outlet.set(zmq.XPUB_VERBOSER, 1)
    counts: dict[bytes, int] = {}
    deadline = time.monotonic() + connections.SUBSCRIBERS_TIMEOUT
    while (found := sum(counts.values())) < expected:
        left = round((deadline - time.monotonic()) * 1000)
        if left <= 0 or not outlet.poll(left, zmq.POLLIN):
            logger.warning("Only %d of %d subscribers are connected; going on", found, expected)
            break
        event = outlet.recv()
        counts[event[1:]] = counts.get(event[1:], 0) + (1 if event[:1] == b"\1" else -1)
    outlet.set(zmq.XPUB_VERBOSER, 0)
    return tuple(b"\1" + topic for topic, count in counts.items() if count > 0)
