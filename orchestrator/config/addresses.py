"""Addresses: what the user wrote, what it means, and the endpoint that each one gets.

`auto` becomes an ipc socket in the runtime directory, `auto:tcp` a loopback port that depends
on the system and the name alone, so that it is the same after every build.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct, field, structs

from orchestrator.config import report
from orchestrator.config.document import Entry
from orchestrator.config.report import Place, Report
from orchestrator.config.source import Source
from orchestrator.model import digests, topology, units

LONGEST_PATH = 107
"""The kernel's room for the path of a unix socket."""

FIRST_PORT, LAST_PORT = 20000, 32767
"""Where automatic ports lie: below the kernel's ephemeral range, above the well-known ones."""

BUS_PARTS = {"publish": "x_subscriber", "subscribe": "x_publisher"}
"""The parts of a bus's address, by what others do there, and its own socket at each."""

WILDCARDS = frozenset({"*", "0.0.0.0", "::"})  # noqa: S104  # names, nothing is bound

_HOST = re.compile(r"\*|[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?|\[[0-9A-Fa-f:.%]+\]")
_LOOPBACK = re.compile(r"localhost|127(\.\d+){3}|::1")


Whole = tuple[Source, Mapping[str, Any]] | None
"""The `curve` of the whole system and its file."""


class Endpoint(Struct, frozen=True):
    """What one text of an address means. `scheme` is auto, auto:tcp, tcp or ipc."""

    scheme: str
    host: str = ""
    port: int = 0
    path: str = ""

    @property
    def is_auto(self) -> bool:
        """Whether orch chooses the endpoint."""
        return self.scheme.startswith("auto")

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        return self.scheme != "tcp" or _LOOPBACK.fullmatch(self.host) is not None

    def __str__(self) -> str:
        if self.scheme == "tcp":
            host = f"[{self.host}]" if ":" in self.host else self.host
            return f"tcp://{host}:{self.port}"
        return f"ipc://{self.path}" if self.scheme == "ipc" else self.scheme


class Address(Struct, frozen=True):
    """A declared address: its parts by name, the only part of a plain one being ''."""

    name: str
    entry: Entry
    parts: Mapping[str, Endpoint]
    external: bool = False
    insecure: bool = False
    bus: bool = False
    terms: topology.Endpoint = field(default_factory=topology.Endpoint)

    def place(self, part: str) -> Place:
        """Return where a part's endpoint is written."""
        value = self.entry.value
        if isinstance(value, dict):
            key = part or "address"
            if key not in value:
                return self.entry.place
            return Place(self.entry.source, value, key)
        return Place(self.entry.source, self.entry.container, self.entry.key)


def parse(text: str) -> Endpoint:
    """Return what an endpoint's text means.

    Raises:
        ValueError: It means nothing; the message says why and what would help.
    """
    if text in {"auto", "auto:ipc"}:
        return Endpoint("auto")
    if text == "auto:tcp":
        return Endpoint("auto:tcp")
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "tcp", text
    if scheme == "ipc":
        if not rest.startswith("/"):
            raise ValueError(f"the path of {text!r} is not absolute; write ipc:///path/to/socket")
        return Endpoint("ipc", path=rest)
    if scheme == "inproc":
        raise ValueError(
            "inproc:// joins threads of one process, components are processes; write auto"
        )
    if scheme != "tcp":
        raise ValueError(
            f"there is no transport {scheme!r}; write tcp://HOST:PORT, ipc:///PATH or auto"
        )
    host, port = parse_host_port(rest)
    return Endpoint("tcp", host, port)


def parse_host_port(text: str) -> tuple[str, int]:
    """Return the host and the port of `host:port`; brackets of an IPv6 host are taken off.

    Raises:
        ValueError: It is no such pair; the message says why.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not host:
        raise ValueError(f"{text!r} is no HOST:PORT")
    if not _HOST.fullmatch(host) or (
        re.fullmatch(r"[0-9.]+", host)
        and not re.fullmatch(r"((25[0-5]|2[0-4]\d|1?\d?\d)(\.|$)){4}", host)
    ):
        raise ValueError(f"{host!r} is no host")
    if not (port.isascii() and port.isdecimal()) or not 0 < int(port) < 65536:
        hint = "; write auto:tcp for a port that orch chooses" if port in {"0", "*"} else ""
        raise ValueError(f"{port!r} is no port between 1 and 65535{hint}")
    return host.strip("[]"), int(port)


class Table(Struct):
    """The addresses of a topology, and the endpoints given to them."""

    key: str
    runtime_dir: str
    declared: dict[str, Address] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)
    named_ports: frozenset[int] = frozenset()
    ports: dict[str, int] = field(default_factory=dict)

    def endpoint(self, name: str, part: str, instance: int = 1) -> str:
        """Return the endpoint of a part, for one instance of what binds it."""
        meant = self.declared[name].parts[part]
        if not meant.is_auto:
            return str(meant)
        label = label_of(name, part, instance)
        if meant.scheme == "auto:tcp":
            return f"tcp://127.0.0.1:{self.port(label)}"
        return f"ipc://{self.runtime_dir}/{label}.ipc"

    def port(self, label: str) -> int:
        """Return the port of an automatic address; the same label always gets the same."""
        if label not in self.ports:
            taken = self.named_ports.union(self.ports.values())
            digest = digests.sha256(f"{self.key}\0{label}".encode())
            room = LAST_PORT - FIRST_PORT + 1
            first = int.from_bytes(digest[:4], "big") % room
            self.ports[label] = next(
                port
                for step in range(room)
                if (port := FIRST_PORT + (first + step) % room) not in taken
            )
        return self.ports[label]


def reachable(endpoint: str) -> str:
    """Return an endpoint as this machine connects to it: a wildcard host is no destination."""
    for host, own in (("*", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("[::]", "[::1]")):  # noqa: S104
        if endpoint.startswith(f"tcp://{host}:"):
            return f"tcp://{own}:{endpoint.rpartition(':')[2]}"
    return endpoint


def label_of(name: str, part: str, instance: int = 1) -> str:
    """Return the name of one endpoint: `book.data@2`; the first instance has no number."""
    label = f"{name}.{part}" if part else name
    return label if instance == 1 else f"{label}@{instance}"


def table(
    entries: Mapping[str, Entry],
    *,
    key: str,
    runtime_dir: str,
    texts: Iterable[str],
    whole: Whole = None,
    found: Report,
) -> Table:
    """Return the addresses of a document; report those that mean nothing or collide.

    `texts` are the files: automatic ports keep away from every number that they name. `whole` is
    the system's `curve`, with its file.
    """
    numbers = {
        int(word)
        for text in texts
        if "auto:tcp" in text
        for word in re.findall(r"\b[23]\d{4}\b", text)
    }
    made = Table(key, runtime_dir, named_ports=frozenset(numbers))
    for name, entry in entries.items():
        address = _address(name, entry, whole, found)
        if address is None:
            made.broken.add(name)
        else:
            made.declared[name] = address
    for name in sorted(made.declared):
        for part in sorted(made.declared[name].parts):
            made.endpoint(name, part)
    _check_lengths(made, found)
    _check_collisions(made, found)
    return made


def _address(name: str, entry: Entry, whole: Whole, found: Report) -> Address | None:
    value = entry.value
    is_bus = isinstance(value, dict) and value.get("bus") is True
    options: dict[str, Any] = {}
    if is_bus or (isinstance(value, dict) and "address" in value):
        options = value
        texts = {"": value["address"]} if not is_bus else {
            part: value.get(part, "auto") for part in BUS_PARTS
        }  # fmt: skip
    elif isinstance(value, dict):
        texts = {part: text for part, text in value.items() if not part.startswith("x-")}
    elif isinstance(value, str):
        texts = {"": value}
    else:
        return None
    external, insecure = bool(options.get("external")), bool(options.get("insecure"))
    parts: dict[str, Endpoint] = {}
    address = Address(name, entry, parts, external, insecure, is_bus)
    for part, text in texts.items():
        try:
            parts[part] = parse(str(text))
        except ValueError as error:
            found.error(
                "ORC211", f"address {label_of(name, part)!r}: {error}", address.place(part)
            )
            return None
        if external and parts[part].is_auto:
            message = f"address {name!r} is external, so that orch cannot choose its endpoint"
            found.error("ORC211", message, address.place(part), hint="write the endpoint")
            return None
    # With keys for the whole system, what others can reach is encrypted without asking.
    is_open = not (external or insecure or all(meant.is_local for meant in parts.values()))
    asked = options.get("curve", is_open and whole is not None)
    from orchestrator.config import curve  # noqa: PLC0415 - few ask for it

    keys = curve.of_address(entry.source, asked, whole, place=entry.place, found=found)
    if keys is None and asked is not False:
        return None
    return structs.replace(address, terms=_terms(options, keys))


def _terms(options: Mapping[str, Any], keys: topology.Curve | None) -> topology.Endpoint:
    usual = topology.Endpoint()
    return topology.Endpoint(
        high_water_mark=options.get("high_water_mark", usual.high_water_mark),
        when_full=topology.WhenFull(options.get("when_full", usual.when_full)),
        max_message=units.parse_size(str(options.get("max_message", usual.max_message))),
        bus=options.get("bus") is True,
        curve=keys,
    )


def _check_lengths(made: Table, found: Report) -> None:
    for name, address in made.declared.items():
        for part, meant in address.parts.items():
            if meant.scheme not in {"auto", "ipc"}:
                continue
            path = made.endpoint(name, part).removeprefix("ipc://")
            length = len(path.encode())
            if length > LONGEST_PATH:
                label = label_of(name, part)
                message = (
                    f"the socket path of {label!r} has {length} bytes, {LONGEST_PATH} fit: {path}"
                )
                hint = (
                    "use a shorter name or XDG_RUNTIME_DIR"
                    if meant.is_auto
                    else "use a shorter path"
                )
                found.error("ORC213", message, address.place(part), hint=hint)


def _check_collisions(made: Table, found: Report) -> None:
    """Report endpoints that two addresses share; a wildcard host shares its port with all."""
    ports: dict[int, list[tuple[Address, str, Endpoint]]] = {}
    paths: dict[str, tuple[Address, str]] = {}
    for address in made.declared.values():
        if address.external:
            continue
        for part, meant in address.parts.items():
            label = label_of(address.name, part)
            if meant.scheme == "ipc":
                if meant.path in paths:
                    first, other = paths[meant.path]
                    twin = label_of(first.name, other)
                    related = (first.place(other).related(f"{twin!r} is here"),)
                    message = f"{label!r} and {twin!r} have the same path {meant.path}"
                    found.error("ORC212", message, address.place(part), related=related)
                paths.setdefault(meant.path, (address, part))
            elif meant.scheme == "tcp":
                for first, other, before in ports.get(meant.port, ()):
                    if overlap(meant.host, before.host):
                        twin = label_of(first.name, other)
                        related = (first.place(other).related(f"{twin!r} is here"),)
                        message = f"{label!r} and {twin!r} collide: {meant} and {before}"
                        found.error("ORC212", message, address.place(part), related=related)
                ports.setdefault(meant.port, []).append((address, part, meant))


def overlap(one: str, two: str) -> bool:
    """Tell whether two hosts of one port cannot both be bound."""
    if one in WILDCARDS or two in WILDCARDS:
        return True
    return _same_host(one) == _same_host(two)


def _same_host(host: str) -> str:
    return "127.0.0.1" if host.lower() == "localhost" else host.lower()


def refer(word: str, made: Table, place: Place, found: Report) -> tuple[Address, str] | None:
    """Return the address and part (or '') that a reference names; report when there is none."""
    name, dot, part = word.partition(".")
    if name in made.broken:
        return None
    if name not in made.declared:
        if "://" in word or re.fullmatch(r"[^:]+:\d+", word):
            hint = "declare it under `addresses` and name it here"
        else:
            hint = report.known(name, [*made.declared, *made.broken])
        found.error("ORC210", f"there is no address {name!r}", place, hint=hint)
        return None
    address = made.declared[name]
    if dot and part not in address.parts:
        known = [known for known in address.parts if known]
        said = f"it has {report.listed(known)}" if known else "it has no parts"
        found.error("ORC210", f"address {name!r} has no part {part!r}", place, hint=said)
        return None
    return address, part
