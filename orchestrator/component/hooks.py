"""What services ask for their settings: `hook.service_glob(name, default)`.

The values stand in the configuration store of the system, in layers; the later wins:

    default    what the code gives, kept so that it can be seen
    given      what the topology says of the component: `config:`, and that it is enabled
    stored     what `config_set` stored under the name, whole: it stands for both of the above
    changes    what `orch config set COMPONENT key=value` stored

Nothing is cached: who asks, reads. What a service has built from it stays until it is reset.
"""

from __future__ import annotations

import contextlib
import contextvars
import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Given:
    """What a topology says of a service: its component's name, configuration and manifests."""

    component: str
    config: Mapping[str, Any] = field(default_factory=dict)
    manifests: Mapping[str, Any] = field(default_factory=dict)


class Asked:
    """What a service that builds its settings asks its hook for."""

    def __init__(self, given: Given | None, what: str) -> None:
        self.given = given
        self.what = what
        self.name: str | None = None
        """The first name it asked for: that of its configuration, or of its manifests."""

    def over(self, config: dict[str, Any]) -> dict[str, Any]:
        """Return the configuration of a service; one that asked for none is given it here."""
        if self.name is not None or self.given is None:
            return config
        return layered(config, self.given.config)


_given: contextvars.ContextVar[Given | None] = contextvars.ContextVar("given", default=None)
_asked: contextvars.ContextVar[Asked | None] = contextvars.ContextVar("asked", default=None)


def given() -> Given | None:
    """Return what the topology says of the service that is made now."""
    return _given.get()


@contextlib.contextmanager
def giving(what: Given | None) -> Iterator[None]:
    """Let the services that are made in the block have this of the topology."""
    token = _given.set(what)
    try:
        yield
    finally:
        _given.reset(token)


@contextlib.contextmanager
def building(what: Given | None, purpose: str) -> Iterator[Asked]:
    """Tell hooks that a service builds its `kube` or its `config`."""
    asked = Asked(what, purpose)
    token = _asked.set(asked)
    try:
        # Services that are made meanwhile are others.
        with giving(None):
            yield asked
    finally:
        _asked.reset(token)


class Hook:
    """The settings of services."""

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}

    def service_glob(self, name: str, default: Any = None) -> Any:
        """Return the value of a name; the default is added when there is none."""
        value = self._values.setdefault(name, copy.deepcopy(default))
        asked = _asked.get()
        if asked is not None and asked.given is not None and asked.name is None:
            asked.name = name
            if asked.what == "config" and isinstance(value, Mapping):
                return layered(value, asked.given.config)
            if asked.what == "kube" and asked.given.manifests:
                return copy.deepcopy(dict(asked.given.manifests))
        return copy.deepcopy(value)


_made: list[Hook] = []


def default_hook() -> Any:
    """Return the hook of this process."""
    if not _made:
        _made.append(Hook())
    return _made[0]


def layered(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of maps laid over each other; maps in them too."""
    merged = copy.deepcopy(dict(below))
    for key, value in above.items():
        under = merged.get(key)
        if isinstance(value, Mapping):
            merged[key] = layered(under if isinstance(under, Mapping) else {}, value)
        else:
            merged[key] = copy.deepcopy(value)
    return merged
