"""Addresses of connections: the seed's file layout, read into ZeroMQ endpoints.

    {"connections": {"in": {"orders": {"replyer": "127.0.0.1:8001"}}, "out": {…}}, "states": {…}}

An address without a scheme is tcp. A plain text instead of `{socket: address}` is the address of
the connection's only socket. A list stands for the replicas of the end that binds: a connector
connects to all of them, a binder takes the one of its instance.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from orchestrator.component.connections import End
from orchestrator.component.errors import SetupError
from orchestrator.component.states import State

Wired = TypeVar("Wired", End, State)

IPC_LIMIT = 107
"""How many bytes the path of a Unix socket may have."""

_TCP = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%\w]+\]|[^\[\]:/\s]+):(?P<port>\d{1,5})")


def endpoint(text: object) -> str:
    """Return an address as ZeroMQ wants it.

    Raises:
        ValueError, TypeError: It is no address; the message says what one looks like.
    """
    if not isinstance(text, str):
        raise TypeError(f"{text!r} is no address: expected text such as '127.0.0.1:8001'")
    scheme, found, rest = text.partition("://")
    if not found:
        scheme, rest = "tcp", text
    if scheme == "ipc":
        if not rest or len(rest.encode()) > IPC_LIMIT:
            raise ValueError(f"{text!r} needs a path of 1 to {IPC_LIMIT} bytes")
        return text
    match = _TCP.fullmatch(rest) if scheme == "tcp" else None
    if match is None or not 0 < int(match["port"]) < 65536:
        raise ValueError(
            f"{text!r} is no address: expected host:port, tcp://host:port or ipc:///path"
        )
    return f"tcp://{rest}"


def split(address: str) -> tuple[str, int]:
    """Return host and port of a tcp endpoint."""
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    return host.strip("[]"), int(port)


def select(
    tree: Mapping[str, Any], ends: Sequence[End], instance: int = 1
) -> dict[End, tuple[str, ...]]:
    """Return the endpoints of each end, in order; none for an end without a socket.

    Args:
        tree: What the addresses file holds.
        ends: The declared ends.
        instance: Which replica this is, from 1.

    Raises:
        SetupError: Names every end without an address, and every address that is none.
    """
    if not ends:
        return {}
    found = _select(tree, "connections", ends, instance)
    return {end: next(iter(sockets.values()), ()) for end, sockets in found.items()}


def select_states(
    tree: Mapping[str, Any], states: Sequence[State], instance: int = 1
) -> dict[State, dict[str, tuple[str, ...]]]:
    """Return the endpoints of each socket of each state, as `select` does for connections."""
    if not states:
        return {}
    found = _select(tree, "states", states, instance)
    many = [
        f"addresses: states.{state.type.side}.{state.name}.{socket}: has {len(endpoints)} "
        "addresses; a state has one source"
        for state, sockets in found.items()
        for socket, endpoints in sockets.items()
        if len(endpoints) > 1
    ]
    if many:
        raise SetupError(many)
    return found


def stores(tree: Mapping[str, Any], states: Sequence[State]) -> dict[State, str]:
    """Return where outward states are kept, of those that are: the key `persist` of their end."""
    found: dict[State, str] = {}
    for state in states:
        sockets = tree["states"][state.type.side][state.name]
        if isinstance(sockets, Mapping) and state.type.side == "out" and "persist" in sockets:
            found[state] = str(sockets["persist"])
    return found


def unused(
    tree: Mapping[str, Any], ends: Sequence[End | State], group: str = "connections"
) -> Iterator[str]:
    """Yield `in.name` of every address in a group that no declared end uses."""
    declared = {(end.type.side, end.name) for end in ends}
    given = tree.get(group)
    for side, names in given.items() if isinstance(given, Mapping) else ():
        for name in names if isinstance(names, Mapping) else ():
            if (side, name) not in declared:
                yield f"{side}.{name}"


def _select(
    tree: Mapping[str, Any], group: str, ends: Sequence[Wired], instance: int
) -> dict[Wired, dict[str, tuple[str, ...]]]:
    mistakes: list[str] = []
    found: dict[Wired, dict[str, tuple[str, ...]]] = {end: {} for end in ends}
    for end in ends:
        for socket in end.type.sockets:
            try:
                found[end][socket] = _endpoints(tree, group, end, socket, instance)
            except (ValueError, TypeError, AttributeError) as error:
                path = f"{group}.{end.type.side}.{end.name}.{socket}"
                mistakes.append(f"addresses: {path}: {error}")
    if mistakes:
        raise SetupError(mistakes)
    return found


def _endpoints(
    tree: Mapping[str, Any], group: str, end: End | State, socket: str, instance: int
) -> tuple[str, ...]:
    sockets = ((tree.get(group) or {}).get(end.type.side) or {}).get(end.name)
    if not sockets:
        raise ValueError(f"is missing; the {group[:-1]} is declared but not wired")
    if not isinstance(sockets, Mapping):
        sockets = {socket: sockets}
    beside = {"persist"} if group == "states" and end.type.side == "out" else set()
    unknown = sockets.keys() - set(end.type.sockets) - beside
    if unknown:
        known = ", ".join(end.type.sockets)
        raise ValueError(f"{min(unknown)!r} is no socket of a {end.type.name}; it has {known}")
    given = sockets.get(socket)
    if not given:
        raise ValueError("is missing")
    texts = given if isinstance(given, list) else [given]
    if not end.type.binds or (socket != "replyer" and not end.binds):
        return tuple(map(endpoint, texts))
    if len(texts) < instance and len(texts) != 1:
        raise ValueError(f"has {len(texts)} addresses, none for instance {instance}")
    return (endpoint(texts[instance - 1 if len(texts) > 1 else 0]),)
