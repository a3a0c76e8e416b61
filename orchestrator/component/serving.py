"""A component at work in mode service: messages in turn, until a signal.

ZeroMQ's file descriptors are watched raw: each tells, once, that its socket may have something,
and the socket is then emptied. After `BUDGET` messages the other sockets get their turn. Nothing
is polled, so idle costs nothing.

Functions never run in parallel. Here all of them are plain and run where their message was read;
`orchestrator.component.concurrent` is for components that have async ones.
"""

from __future__ import annotations

import functools
import logging
import signal

from orchestrator.component import notify, observing, reloading, signals, sockets
from orchestrator.component.assembly import Assembly
from orchestrator.component.inbound import Inbound
from orchestrator.component.loop import Loop
from orchestrator.component.meter import clock
from orchestrator.component.replication import Served

logger = logging.getLogger(__name__)

BUDGET = 64
"""How many messages of one socket are handled before the others get their turn."""

SLOW = 0.001
"""How long a message may take, in seconds, for more to be handled before the others' turn."""

SIGNALS = (signal.SIGTERM, signal.SIGINT)
"""What stops a component."""


def serve(assembly: Assembly) -> None:
    """Handle messages until SIGTERM or SIGINT; finish the message in hand, call the hook."""
    stopping(assembly, watching(assembly).run(SIGNALS))


def watching(assembly: Assembly) -> Loop:
    """Return a loop that will handle the messages of a component when it is run."""
    loop = Loop()
    if every := notify.sign_every():
        loop.repeat(every, notify.sign)
    # States first, so that functions see what was sent before their message.
    inbound = assembly.inbound()
    turns = [(part.socket, functools.partial(_serve, part, loop)) for part in assembly.parts]
    turns += [(end.socket, functools.partial(_drain, end, loop)) for end in inbound]
    for socket, turn in turns:
        loop.add_reader(sockets.descriptor(socket), turn)
        # What came before the watch began gives no sign.
        loop.call_soon(turn)
    if assembly.link is not None:
        assembly.link.offers.append(functools.partial(_offer, assembly, inbound, loop))
        loop.add_reader(assembly.link.fileno(), assembly.link.turn)
    return loop


def _offer(assembly: Assembly, inbound: tuple[Inbound, ...], loop: Loop) -> None:
    wake = {id(end): functools.partial(_drain, end, loop) for end in inbound}
    reloading.offer(assembly, loop.call_soon)
    observing.offer(assembly, inbound, lambda end: loop.call_soon(wake[id(end)]))


def stopping(assembly: Assembly, signum: int, frame: object = None) -> None:
    """Tell that the component stops, and call the handler file's hook for the signal."""
    notify.send("STOPPING=1")
    logger.info("Stopping on %s", signal.Signals(signum).name)
    signals.tell(signum, frame)
    hook = assembly.signal_hook(signum)
    if hook is not None:
        try:
            hook(signum, frame, assembly.to_send, assembly.states, assembly.config)
        except Exception:
            logger.exception("The signal hook failed")


def _serve(part: Served, loop: Loop) -> None:
    take = part.take
    for _ in range(BUDGET):
        if not take():
            return
    loop.call_soon(functools.partial(_serve, part, loop))


def _drain(end: Inbound, loop: Loop) -> None:
    # Asked after the first message, for often it is the only one; a busy socket is emptied without
    # asking, until there is nothing.
    take = end.take
    began = clock()
    if not take():
        return
    done = clock()
    if done - began >= SLOW:
        loop.call_soon(functools.partial(_drain, end, loop))
    elif end.ready():
        for _ in range(BUDGET - 1):
            if not take():
                break
        else:
            loop.call_soon(functools.partial(_drain, end, loop))
    end.meter.turned(began, done)
