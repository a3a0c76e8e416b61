"""The files of a built system: a pure function of the Lock, the same bytes every time."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from orchestrator.config.configurations import Configured
from orchestrator.model import plain, topology
from orchestrator.model.topology import Component, Lock, Wiring

LOCK_FILE = "topology.lock.json"
"""The lock with its digest; what `up` gave the daemon can be compared with it."""

EMPTY = "{}\n"

FORMAT = 1
"""The version of `__info__.json`."""

PUBLIC, PRIVATE = 0o640, 0o600
"""Modes: the environment may hold what came from an env file, and the lock holds it too."""


class File(Struct, frozen=True):
    """A file to write: its path within the base directory, its text and its mode."""

    path: str
    text: str
    mode: int = PUBLIC


def files_of(lock: Lock) -> tuple[File, ...]:
    """Return every file of a built system, the lock itself first."""
    made = [File(LOCK_FILE, lock_text(lock), PRIVATE)]
    if Path(lock.base_dir).name.startswith(".orch"):
        made.append(File(".gitignore", "*\n"))
    for component in lock.components.values():
        made.extend(_of_component(component))
    return tuple(made)


def needed_first(lock: Lock) -> tuple[File, ...]:
    """Return the files that a component may read when it starts, a part of `files_of`.

    The rest is for people and for `orch run`: it can be made and written while the system
    comes up.
    """
    made: list[File] = []
    for component in lock.components.values():
        if _is_told(component):
            made.extend(_of_component(component))
        elif component.config:
            made.append(_config(component))
    return tuple(made)


CATEGORIES = ("data", "logging", "static")
"""What configuration objects have files and directories in."""


def directories_of(lock: Lock, configured: Mapping[str, Configured]) -> tuple[str, ...]:
    """Return the directories that components with configuration objects need, with their paths.

    Those of the categories are within the base directory, the others absolute.
    """
    made: dict[str, None] = {}
    for component in lock.components.values():
        if component.configurations:
            made.update(dict.fromkeys(CATEGORIES))
        for described in configured[component.base].answer.get("configurations") or ():
            values = component.configurations.get(described["fullname"], {}).get("conf", {})
            for name, one in described["fields"].items():
                if one.get("is_directory") and isinstance(values.get(name), str):
                    made[values[name]] = None
    return tuple(made)


def lock_text(lock: Lock) -> str:
    """Return the text of a lock file: the plain lock and its digest, canonical.

    What components inherit is left out: a build does not depend on who calls.
    """
    encoded = topology.declared(plain.encode(lock))
    whole = {"digest": topology.digest(encoded), "lock": encoded}
    return topology.canonical(whole).decode() + "\n"


def read_lock(text: str) -> Lock:
    """Return the Lock of a lock file's text.

    Raises:
        ValueError: It is no lock file, or its digest is not that of its lock.
    """
    try:
        whole = json.loads(text)
        encoded, digest = whole["lock"], whole["digest"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"cannot read the lock: {error!r}; build it again") from error
    if topology.digest(encoded) != digest:
        raise ValueError(
            "cannot use the lock: its digest does not fit, it was edited; build it again"
        )
    return plain.decode(Lock, encoded)


def directory_of(component: Component) -> str:
    """Return the configuration directory of an instance, within the base directory."""
    return f"conf/{component.stem}"


def _of_component(component: Component) -> list[File]:
    place = directory_of(component)
    made = [
        File(f"{place}/__info__.json", _text(_info(component))),
        _config(component),
        File(f"{place}/environment.json", _text(component.environment), PRIVATE),
    ]
    made += [
        File(f"{place}/{fullname}", _object(fullname, values, component.secrets))
        for fullname, values in component.configurations.items()
    ]
    if component.package is not None or component.takes_settings:
        whole = {"settings": component.settings, "secrets": list(component.secrets)}
        made.append(File(f"{place}/settings.json", _text(whole)))
    if _is_told(component):
        made.append(File(f"{place}/addresses.json", _text(_addresses(component))))
    return made


def _info(component: Component) -> dict[str, Any]:
    info: dict[str, Any] = {
        "format": FORMAT,
        "name": component.name,
        "service": component.service,
        "component": component.component,
        "instance": component.instance,
        "working_dir": component.working_dir,
    }
    if not component.has_runtime:
        return {**info, "command": list(component.command)}
    if component.endpoints:
        info["endpoints"] = {
            endpoint: plain.encode(terms) for endpoint, terms in component.endpoints.items()
        }
    return {
        **info,
        **_kind(component),
        "mode": component.mode.value,
        "python_path": list(component.python_path),
        "expect_subscribers": dict(component.expect_subscribers),
    }


def _kind(component: Component) -> dict[str, Any]:
    if component.handler is not None:
        more = {"concurrency": component.concurrency} if component.concurrency > 1 else {}
        return {"handler": component.handler, **more}
    found = {"surroundings": plain.encode(component.surroundings)}
    if component.package is not None:
        return {"package": component.package, **found}
    if component.manifests:
        found["manifests"] = dict(component.manifests)
    every = component.keep_alive.interval if component.keep_alive else 0.0
    return {"class": component.service_class, "keep_alive": every, **found}


def _config(component: Component) -> File:
    return File(f"{directory_of(component)}/config.json", _text(component.config))


def _object(fullname: str, values: Mapping[str, Any], secrets: Sequence[str]) -> str:
    """Return the file of a configuration object.

    It says which settings it stands for, and by `defaults` what is the code's own: newer code,
    in a watched package, may have others.
    """
    whole: dict[str, Any] = {"fullname": fullname, **values}
    if secrets and "${settings." in _dumps(values):
        whole["secrets"] = list(secrets)
    text = json.dumps(whole, indent=4, ensure_ascii=False, default=dict) + "\n"
    return text if _is_utf8(text) else json.dumps(whole, indent=4, default=dict) + "\n"


def _is_told(component: Component) -> bool:
    """Whether it finds a file with its addresses: a wired program may read where others are."""
    ends = (component.connections, component.states)
    wired = any(wiring.inward or wiring.outward for wiring in ends)
    return component.has_runtime or wired


def _addresses(component: Component) -> dict[str, Any]:
    return {
        "connections": _ends(component.connections),
        "states": _ends(component.states),
    }


def _ends(wiring: Wiring) -> dict[str, Mapping[str, Any]]:
    return {"in": dict(wiring.inward), "out": dict(wiring.outward)}


def _text(value: Mapping[str, Any]) -> str:
    """One key a line, what is in it on the same line.

    `json` indents in Python, not in C: a thousand components would take 150 ms of it.
    """
    if not value:
        return EMPTY
    lines = (f"  {_dumps(key)}: {_dumps(value[key])}" for key in sorted(value))
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    # Values from the environment may hold bytes that are no UTF-8; escaped they survive.
    return text if _is_utf8(text) else json.dumps(dict(value)) + "\n"


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


_dumps = json.JSONEncoder(sort_keys=True, ensure_ascii=False, default=dict).encode
