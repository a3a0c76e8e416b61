"""Sockets that are opened for components: what their addresses mean, and who has them already."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

from orchestrator.config import addresses
from orchestrator.config.addresses import Endpoint, Table
from orchestrator.config.document import Declared
from orchestrator.config.interpolate import Template
from orchestrator.config.report import Place, Report
from orchestrator.model.topology import Listen, Ready

FIRST = 3
"""The descriptor of the first socket, sd_listen_fds(3)."""


def sockets(declared: Declared, value: dict[str, Any], found: Report) -> dict[str, Listen]:
    """Return the sockets of a component; report addresses that cannot be listened on."""
    made: dict[str, Listen] = {}
    for name, written in value.items():
        if name.startswith("x-"):
            continue
        options = written if isinstance(written, dict) else {"address": written}
        place = _place(declared, name, written)
        text = options["address"]
        if isinstance(text, Template):
            continue  # a reference that cannot stand here, which has been said
        try:
            meant = parse(text)
        except ValueError as error:
            found.error("ORC250", f"socket {name!r}: {error}", place)
            continue
        if not meant.is_local and not options.get("insecure"):
            message = f"other machines could connect to the socket {name!r} at {text}"
            hint = "use a loopback address, or write {address: …, insecure: true}"
            found.error("ORC251", message, place, hint=hint)
        if meant.scheme == "ipc" and len(meant.path.encode()) > addresses.LONGEST_PATH:
            length, fit = len(meant.path.encode()), addresses.LONGEST_PATH
            message = f"the path of the socket {name!r} has {length} bytes, {fit} fit"
            found.error("ORC213", message, place, hint="use a shorter path")
        known = {key: options[key] for key in ("backlog",) if key in options}
        if "mode" in options:
            known["mode"] = int(options["mode"], 8)
        made[name] = Listen(address=_written(meant), **known)
    return made


def parse(text: str) -> Endpoint:
    """Return what the address of a socket means.

    Raises:
        ValueError: One cannot listen on it; the message says why and what would help.
    """
    if text.startswith("unix:"):
        text = "ipc:" + text.removeprefix("unix:")
    meant = addresses.parse(text)
    if meant.is_auto:
        raise ValueError("clients have to know its address; write tcp://HOST:PORT or unix:///PATH")
    if meant.scheme == "tcp" and meant.host not in ("*", "localhost"):
        try:
            ipaddress.ip_address(meant.host)
        except ValueError:
            raise ValueError(f"{meant.host!r} is no IP address of this machine") from None
    return meant


def check(
    components: Iterable[tuple[Declared, Mapping[str, Any]]], table: Table, found: Report
) -> None:
    """Report sockets that collide with each other, with addresses, or with `ready.fd`.

    `components` are declarations with their options as lowered.
    """
    taken: list[tuple[Endpoint, Place, str]] = [
        (meant, address.place(part), f"address {addresses.label_of(address.name, part)!r}")
        for address in table.declared.values()
        if not address.external
        for part, meant in address.parts.items()
    ]
    for declared, options in components:
        opened: Mapping[str, Listen] = options.get("sockets", {})
        written = declared.get("sockets", {})
        for name, listen in opened.items():
            meant, place = parse(listen.address), _place(declared, name, written[name])
            who = f"socket {name!r} of {declared.base!r}"
            for other, where, whose in taken:
                if _collide(meant, other):
                    message = f"{who} and {whose} collide: {listen.address}"
                    related = (where.related(f"{whose} is here"),)
                    found.error("ORC252", message, place, related=related)
            taken.append((meant, place, who))
        ready = options.get("ready")
        if isinstance(ready, Ready) and ready.fd in range(FIRST, FIRST + len(opened)):
            message = f"descriptor {ready.fd} of {declared.base!r} is that of a socket"
            hint = f"write ready: {{fd: {FIRST + len(opened)}}}"
            found.error("ORC253", message, declared.at("ready", "fd"), hint=hint)


def _collide(one: Endpoint, two: Endpoint) -> bool:
    if one.scheme != two.scheme:
        return False
    if one.scheme == "ipc":
        return one.path == two.path
    return one.port == two.port and addresses.overlap(one.host, two.host)


def _place(declared: Declared, name: str, written: Any) -> Place:
    steps = (name, "address") if isinstance(written, dict) else (name,)
    return declared.at("sockets", *steps)


def _written(meant: Endpoint) -> str:
    return f"unix://{meant.path}" if meant.scheme == "ipc" else str(meant)
