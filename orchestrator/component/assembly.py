"""Putting a component together: handler, configuration, connections, sockets, in this order."""

from __future__ import annotations

import importlib
import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import zmq

from orchestrator.component import (
    addresses,
    calls,
    configuration,
    connections,
    handlers,
    loader,
    notify,
    sending,
    sockets,
    sources,
)
from orchestrator.component.connections import End
from orchestrator.component.control import Link
from orchestrator.component.errors import SetupError
from orchestrator.component.flow import Flow
from orchestrator.component.handlers import Handler
from orchestrator.component.inbound import Inbound, Replyer, Subscriber
from orchestrator.component.instance import Instance
from orchestrator.component.outbound import ExternalRequest, Outbound, Publisher, Requester
from orchestrator.component.replication import Endpoints, Replicated, Served, States
from orchestrator.component.sending import ToSend
from orchestrator.component.sources import Out
from orchestrator.component.states import State

if TYPE_CHECKING:
    from orchestrator.component.stores import Store

logger = logging.getLogger(__name__)

Ended = TypeVar("Ended", End, State)


@dataclass(slots=True)
class Assembly:
    """A component with its sockets open. `to_send` is the one for plain functions."""

    handler: Handler
    config: dict[str, Any]
    states: States
    flow: Flow
    outputs: Mapping[str, Outbound]
    replicas: tuple[Replicated, ...]
    """The ends of states."""
    parts: tuple[Served, ...]
    """Their sockets, to be served whatever the functions do."""
    to_send: ToSend
    _context: sockets.Context | None
    _inbound: tuple[tuple[End, sockets.Socket], ...]
    instance: Instance
    tree: Mapping[str, Any]
    ends: tuple[End, ...]
    replicated: tuple[State, ...]
    link: Link | None = None
    _working: tuple[Inbound, ...] = ()
    _to_send_async: ToSend | None = None

    def inbound(self, to_send_async: ToSend | None = None) -> tuple[Inbound, ...]:
        """Return the inbound ends at work; async functions are given `to_send_async`."""
        self._to_send_async = to_send_async
        self._working = tuple(self._serving(end, socket) for end, socket in self._inbound)
        return self._working

    def exchange(self, handler: Handler, ends: tuple[End, ...]) -> None:
        """Have the same connections call and check what other code declares for them."""
        new = {(end.type.side, end.name): end for end in ends}
        for inbound in self._working:
            end = new["in", inbound.end.name]
            inbound.exchange(end, self._handle(end))
        for name, output in self.outputs.items():
            output.exchange(new["out", name])
        self._inbound = tuple((new["in", end.name], socket) for end, socket in self._inbound)
        self.handler, self.ends = handler, ends

    @property
    def context(self) -> sockets.Context:
        """The ZeroMQ context; one without sockets is made when first asked for."""
        if self._context is None:
            self._context = _context(self.instance)
        return self._context

    @property
    def states_out(self) -> dict[str, Out]:
        """The outward states, by name."""
        return {end.state.name: end for end in self.replicas if isinstance(end, Out)}

    def has_async(self) -> bool:
        """Tell whether a function of a connection is async."""
        return any(calls.is_async(end.function) for end, _ in self._inbound)

    def signal_hook(self, signal: int) -> Callable[..., Any] | None:
        """Return the handler file's hook for a signal; one for SIGINT serves SIGTERM too."""
        from signal import SIGTERM  # noqa: PLC0415

        if signal == SIGTERM and self.handler.sigterm_handler is not None:
            return self.handler.sigterm_handler
        return self.handler.sigint_handler

    def wired(self, ends: tuple[End, ...]) -> tuple[End, ...]:
        """Return ends as they are at the addresses of this component.

        Raises:
            SetupError: One has no address, or not one of its kind.
        """
        found = addresses.select(self.tree, ends, self.instance.number)
        return tuple(_at_bus(end, endpoints, self.context) for end, endpoints in found.items())

    def wait_for_subscribers(self, expected: Mapping[str, tuple[int, str]]) -> None:
        """Wait until publishers have the subscribers they expect; else log who is missing."""
        for output in self.outputs.values():
            if not isinstance(output, Publisher) or not output.expected:
                continue
            timeout = output.end.options.get(
                "subscribers_timeout", connections.SUBSCRIBERS_TIMEOUT
            )
            if not _wait_with_signs(output, timeout):
                who = expected.get(output.end.name, (0, ""))[1]
                logger.warning(
                    "Only %d of %d subscribers of %r are connected after %g s%s; going on without",
                    output.subscribers,
                    output.expected,
                    output.end.name,
                    timeout,
                    f" (expected {who})" if who else "",
                )

    def close(self, linger: float) -> None:
        """Close all sockets, giving what was sent `linger` seconds to leave."""
        for inbound in self._working:
            inbound.close()
        for output in self.outputs.values():
            if isinstance(output, Publisher):
                output.close()
        for end, socket in self._inbound:
            # A subscription counts as unsent while its publisher is away: nobody waits for that.
            if end.type.name == "subscriber":
                socket.close(linger=0)
        for part in self.parts:
            if part.socket.type in (zmq.SUB, zmq.DEALER):
                part.socket.close(linger=0)
        if self._context is not None:
            self._context.destroy(linger=round(linger * 1000))
        for state in self.states_out.values():
            state.close()

    def to_send_of(self, function: object) -> ToSend:
        """Return the `to_send` for a function: async ones are given an awaitable one."""
        if self._to_send_async is not None and calls.is_async(function):
            return self._to_send_async
        return self.to_send

    def _serving(self, end: End, socket: sockets.Socket) -> Inbound:
        if end.type.name == "subscriber":
            return Subscriber(end, socket, self.flow, self._handle(end))
        kind: type[Replyer] = Replyer
        if socket.type == zmq.ROUTER:
            kind = importlib.import_module(f"{__package__}.interleaving").Replyer
        return kind(end, socket, self.flow, self._handle(end))

    def _handle(self, end: End) -> Callable[[Any], Any]:
        assert end.function is not None
        function = calls.adapt(end.function, calls.MESSAGE)
        to_send, states, config = self.to_send_of(end.function), self.states, self.config

        def handle(arguments: Any) -> Any:
            return function(arguments, to_send, states, config)

        return handle


def _wait_with_signs(output: Publisher, timeout: float) -> bool:
    """Wait for subscribers; the watchdog counts already, so give it its signs meanwhile."""
    deadline = time.monotonic() + timeout
    step = notify.sign_every() or timeout
    while not output.wait_for_subscribers(min(step, deadline - time.monotonic())):
        if time.monotonic() >= deadline:
            return False
        notify.sign()
    return True


def assemble(instance: Instance, flow: Flow) -> Assembly:
    """Load a component and open its sockets.

    Raises:
        SetupError: Something is wrong with it; sockets that were open are closed.
    """
    instance.enter()
    handler = handlers.load(instance.handler, instance.python_path)
    config = configuration.resolve(handler, instance.config, os.environ, instance.arguments)
    tree = dict(instance.addresses)
    if handler.setup_addresses is not None:
        tree = handlers.hook("setup_addresses", handler.setup_addresses, tree, config) or tree
    ends, states = handler.ends(config), handler.states(config)
    check_mode(instance, handler, (*ends, *states))
    wired = addresses.select(tree, ends, instance.number)
    replicated = addresses.select_states(tree, states, instance.number)
    if tree:
        _warn_of_unused(tree, ends, states)
    # Most have a socket; the others spare the context.
    context = _context(instance) if ends or states else None
    if context is not None:
        wired = {_at_bus(end, endpoints, context): endpoints for end, endpoints in wired.items()}
        replicated = {
            _at_bus(state, endpoints.get("publisher", ()), context): endpoints
            for state, endpoints in replicated.items()
        }
    try:
        return _open(
            instance,
            handler,
            config,
            flow,
            tree=tree,
            wired=wired,
            replicated=replicated,
            kept=_stores(instance, tree, states) if states else {},
            context=context,
        )
    except BaseException:
        if context is not None:
            context.destroy(linger=0)
        raise


def _context(instance: Instance) -> sockets.Context:
    context = sockets.Context()
    context.terms = sockets.terms(instance.endpoints)
    return context


def _warn_of_unused(
    tree: Mapping[str, Any], ends: tuple[End, ...], states: tuple[State, ...]
) -> None:
    for group, used in (("connections", ends), ("states", states)):
        for name in addresses.unused(tree, used, group):
            logger.warning(
                "The address of %s.%s is not used: no such %s is declared",
                group,
                name,
                group[:-1],
            )


def _at_bus(end: Ended, endpoints: tuple[str, ...], context: sockets.Context) -> Ended:
    """Return the end as it is at its address: at a bus a publisher connects."""
    if "publisher" not in end.type.sockets or not sockets.terms_of(context, endpoints).bus:
        return end
    return replace(end, options={**end.options, "is_x_pub": True})


def check_mode(instance: Instance, handler: Handler, ends: tuple[End | State, ...]) -> None:
    """Raise `SetupError` for what a handler declares and its mode has not."""
    mistakes: list[str] = []
    if instance.main_mode:
        if handler.main is None:
            mistakes.append(
                f"{handler.origin.file}: mode main needs a function main(to_send, config)"
            )
        mistakes += [
            f"{handler.origin.place(f'{_noun(end)}_models', 'in', end.name)}: "
            f"mode main allows no inbound {_noun(end)}; remove it, or use mode service"
            for end in ends
            if end.type.side == "in"
        ]
    elif (
        handler.main is not None
        and handler.init_function is None
        and not any(end.type.side == "in" for end in ends)
    ):
        mistakes.append(
            f"{handler.origin.file}: nothing reaches it, and its main function is only called in "
            "mode main: write `mode: main` (orch run: -m)"
        )
    if mistakes:
        raise SetupError(mistakes)


def _open(
    instance: Instance,
    handler: Handler,
    config: dict[str, Any],
    flow: Flow,
    *,
    tree: Mapping[str, Any],
    wired: Mapping[End, tuple[str, ...]],
    replicated: Mapping[State, Endpoints],
    kept: Mapping[str, Store],
    context: sockets.Context | None,
) -> Assembly:
    ends = tuple(wired)
    interleaves = instance.concurrency > 1 and any(
        calls.is_async(end.function) for end in ends if end.type.side == "in"
    )
    inbound: dict[End, sockets.Socket] = {}
    outputs: dict[str, Outbound] = {}
    opened: tuple[Replicated, ...] = ()
    if context is not None:
        # Binders first: a component may be connected to itself.
        for end in sorted(ends, key=lambda end: not end.binds):
            if end.type.side == "in":
                kind = _inward(end, interleaves=interleaves)
                inbound[end] = sockets.open_socket(context, kind)
                sockets.attach(inbound[end], end, wired[end])
            else:
                outputs[end.name] = _output(end, wired[end], instance, flow, context)
        opened = sources.opened(replicated, kept, context, flow)
    # An inward state hides an outward one of its name.
    states = States({end.state.name: end for end in opened})
    states_out = {end.state.name: end for end in opened if isinstance(end, Out)}
    every: tuple[End | State, ...] = (*ends, *replicated)
    pause = max((end.options.get("wait_after_creation_s", 0.0) for end in every), default=0.0)
    if pause:
        time.sleep(pause)  # noqa: TID251 - nothing else runs yet, and the model asks for it
    to_send = sending.make(
        {name: output.send for name, output in outputs.items()},
        {name: state.send for name, state in states_out.items()},
    )
    if handler.init_function is not None:
        try:
            handler.init_function(to_send, states, config)
        except Exception as error:  # user code may raise anything
            root = str(Path(handler.origin.file).parent) if handler.origin.file else None
            raise SetupError(f"init_function failed: {loader.place(error, root)}") from error
    # In declared order, whatever was bound first.
    in_order = tuple((end, inbound[end]) for end in ends if end in inbound)
    parts = tuple(part for end in opened for part in end.served())
    return Assembly(
        handler,
        config,
        states,
        flow,
        outputs,
        opened,
        parts,
        to_send,
        context,
        in_order,
        instance,
        tree,
        ends,
        tuple(replicated),
    )


def _stores(
    instance: Instance, tree: Mapping[str, Any], states: tuple[State, ...]
) -> dict[str, Store]:
    named = {state.name: where for state, where in addresses.stores(tree, states).items()}
    if not named:
        return {}
    # Most components keep nothing, and need not import what would.
    from orchestrator.component import stores  # noqa: PLC0415

    mistakes: list[str] = []
    named = configuration.replaced(named, os.environ, mistakes)
    if mistakes:
        raise SetupError([f"addresses: persist: {mistake}" for mistake in mistakes])
    return {
        name: stores.opened(where, instance.name, name, instance.data)
        for name, where in named.items()
    }


def _inward(end: End, *, interleaves: bool) -> int:
    """Return the socket type of an inward end: a REP answers one request before the next."""
    if end.type.name == "subscriber":
        return int(zmq.SUB)
    return int(zmq.ROUTER if interleaves else zmq.REP)


def _noun(end: End | State) -> str:
    return "connection" if isinstance(end, End) else "state"


def _output(
    end: End, endpoints: tuple[str, ...], instance: Instance, flow: Flow, context: sockets.Context
) -> Outbound:
    match end.type.name:
        case "requester":
            return Requester(end, context, flow, endpoints)
        case "publisher":
            told = instance.expected.get(end.name, (0, ""))[0]
            expected = max(told, end.options.get("min_subscribers", 0))
            socket = sockets.open_socket(context, Publisher.kind(expected=expected))
            terms = sockets.terms_of(context, endpoints)
            publisher = Publisher(end, socket, flow, expected=expected, terms=terms)
            sockets.attach(socket, end, endpoints)
            return publisher
        case _:
            return ExternalRequest(end, flow)
