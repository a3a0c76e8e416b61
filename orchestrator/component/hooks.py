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
import json
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.component import configstore
from orchestrator.component.configstore import Store, StoreError
from orchestrator.errors import ProtocolError
from orchestrator.wire import control

logger = logging.getLogger(__name__)

REFRESH = 60.0
"""How long a component may take to be reset, in seconds."""

Keys = tuple[str, ...]
"""Where a value stands in a configuration: the keys that lead to it."""


@dataclass(frozen=True, slots=True)
class Given:
    """What a topology says of a service.

    `instance` is the name of its process, `service.component` or `service.component@2`. `config`
    has its secrets in place, `shown` is the same without them. `link` is the path of the process's
    control link, empty for what has none.
    """

    instance: str
    config: Mapping[str, Any] = field(default_factory=dict)
    manifests: Mapping[str, Any] = field(default_factory=dict)
    shown: Mapping[str, Any] = field(default_factory=dict)
    link: str = ""

    @property
    def component(self) -> str:
        """The name of the component, the same for all of its replicas."""
        return self.instance.partition("@")[0]


class Asked:
    """What a service that builds its settings asks its hook for.

    `name` is the first name it asked for: that of its configuration, or of its manifests.
    """

    def __init__(self, given: Given | None, what: str) -> None:
        self.given = given
        self.what = what
        self.name: str | None = None

    def over(self, config: dict[str, Any]) -> dict[str, Any]:
        """Return the configuration of a service; one that asked for none is given it here."""
        if self.name is not None or self.given is None:
            return config
        store = process_store()
        _claim(store, self.given, None)
        return changed(layered(config, self.given.config), changes(store, self.given.component))


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
    """The settings of services, in the configuration store of this process or another one."""

    def __init__(self, store: Store | None = None) -> None:
        self._own_store = store

    @property
    def _store(self) -> Store:
        return process_store() if self._own_store is None else self._own_store

    def service_glob(self, name: str, default: Any = None) -> Any:
        """Return a copy of the value of a name; the default is added when there is none.

        Raises:
            StoreError: The store cannot be used.
        """
        store = self._store
        kept = store.read("default").get(name)
        if default is not None and kept != default:
            store.write("default", {name: default})
        base = kept if default is None else copy.deepcopy(default)
        asked = _asked.get()
        if asked is None or asked.name is not None:
            return store.read("stored").get(name, base)
        asked.name = name
        if asked.given is None:
            return store.read("stored").get(name, base)
        if asked.what == "kube":
            shown = asked.given.manifests or store.read("stored").get(name, base)
            return copy.deepcopy(shown)
        _claim(store, asked.given, name)
        return _effective(store, name, base, asked.given.config, asked.given.component)

    def config_get(self, name: str, default: Any = None) -> Any:
        """Return the value of a name as it is now, the default when there is none."""
        found = self._store.read("stored").get(name)
        if found is None:
            found = self._store.read("default").get(name)
        return default if found is None else found

    def config_set(self, name: str, value: Any) -> None:
        """Store the whole value of a name, in place of its default.

        Raises:
            StoreError: The store cannot be used.
            TypeError: The value is of a type that cannot be kept.
        """
        self._store.write("stored", {name: value})

    def config_unset(self, name: str) -> None:
        """Forget what was stored: the default is the value again."""
        self._store.write("stored", {}, gone=(name,))

    def config_refresh(self, name: str) -> tuple[str, ...]:
        """Reset the services whose configuration has that name, here and in other processes.

        Returns:
            The names of the instances that were reset. One in whose process this is called is
            reset beside the caller.
        """
        done = [reset(name, self) for reset in tuple(_refreshed)]
        own = _process.get("link")
        for instance, part in self._store.read("component").items():
            link = part.get("link")
            if part.get("name") == name and link and link != own and _ask_reset(link):
                done.append((instance,))
        return tuple(one for each in done for one in each)


class MemoryHook(Hook):
    """Settings that are kept in this process and no longer than the object."""

    def __init__(self) -> None:
        super().__init__(configstore.MemoryStore())


class RedisHook(Hook):
    """Settings in a Redis server, whatever the topology says."""

    def __init__(self, url: str = "redis://127.0.0.1:6379/0", key: str = "orch") -> None:
        super().__init__(configstore.RedisStore(url, key))


# ------------------------------------------------------------- one store and hook per process

_lock = threading.Lock()
_process: dict[str, Any] = {}
_refreshed: list[Callable[[str, Hook], tuple[str, ...]]] = []
"""Who resets services of this process by the name of their configuration."""


def use_store(store: Store) -> None:
    """Make this the store of the process."""
    with _lock:
        _process["store"] = store


def process_store() -> Store:
    """Return the store of the process; in its memory unless it is told otherwise."""
    with _lock:
        store: Store = _process.setdefault("store", configstore.MemoryStore())
        return store


def use_hook(hook: Any) -> None:
    """Make this the hook of services that are made without one."""
    with _lock:
        _process["hook"] = hook


def default_hook() -> Any:
    """Return the hook of this process, or a new one of its context `hook`."""
    with _lock:
        hook = _process.get("hook")
        make = _process.get("make", Hook)
    return make() if hook is None else hook


def make_hooks_by(make: Callable[[], Any]) -> None:
    """Have hooks made by this while the process has none."""
    with _lock:
        _process["make"] = make


def use_link(path: str) -> None:
    """Tell where this process itself is asked."""
    with _lock:
        _process["link"] = path


def when_refreshed(reset: Callable[[str, Hook], tuple[str, ...]]) -> None:
    """Have services of this process reset by the name of their configuration."""
    _refreshed.append(reset)


# ------------------------------------------------------------- layers


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


def changed(config: dict[str, Any], by_path: Mapping[Keys, Any]) -> dict[str, Any]:
    """Return a configuration with single values of it replaced."""
    for path in sorted(by_path, key=len):
        config = layered(config, _nested(path, by_path[path]))
    return config


def changes(store: Store, component: str) -> dict[Keys, Any]:
    """Return the single values that were set for a component."""
    found = store.read(f"changes:{component}")
    return {tuple(json.loads(path)): value for path, value in found.items()}


def change(
    store: Store,
    component: str,
    values: Mapping[Keys, Any],
    gone: Sequence[Keys] = (),
) -> None:
    """Set single values of a component's configuration, and take others back.

    What stood below a path goes with it.
    """
    over = [*values, *gone]
    there = changes(store, component)
    old = [path for path in there if any(path[: len(one)] == one for one in over)]
    store.write(
        f"changes:{component}",
        {json.dumps(path): value for path, value in values.items()},
        gone=[json.dumps(path) for path in old],
    )


@dataclass(frozen=True, slots=True)
class Layers:
    """The layers of a component's configuration; None is what there is not.

    `name` is that of the configuration, None when the component has not told it, or has none.
    """

    name: str | None
    default: Any
    given: Mapping[str, Any] | None
    stored: Any
    changes: Mapping[Keys, Any]


def layers(store: Store, component: str) -> Layers:
    """Return the layers of a component's configuration, as far as it has told them."""
    parts = store.read("component")
    first = next((name for name in parts if name.partition("@")[0] == component), "")
    part = parts.get(first, {})
    name = part.get("name")
    return Layers(
        name=name,
        default=store.read("default").get(name) if name else None,
        given=part.get("given"),
        stored=store.read("stored").get(name) if name else None,
        changes=changes(store, component),
    )


def _effective(
    store: Store, name: str, base: Any, config: Mapping[str, Any], component: str
) -> Any:
    value = store.read("stored").get(name)
    if value is None:
        value = layered(base or {}, config) if isinstance(base or {}, Mapping) else base
    if not isinstance(value, Mapping):
        return value
    return changed(dict(value), changes(store, component))


def _nested(path: Keys, value: Any) -> dict[str, Any]:
    for key in reversed(path):
        value = {key: value}
    return dict(value)


def _claim(store: Store, given: Given, name: str | None) -> None:
    """Tell in the store which configuration a component has, and where to ask it for a reset."""
    part = {"name": name, "given": dict(given.shown), "link": given.link}
    if store.read("component").get(given.instance) != part:
        store.write("component", {given.instance: part})


def _ask_reset(link: str) -> bool:
    """Ask a component for a reset; False when it is not there, or in this process.

    Raises:
        StoreError: It refused, or its reset failed.
    """
    request = control.request(1, "reload", {})
    decoder = control.Decoder()
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as asked:
            asked.settimeout(REFRESH)
            asked.connect(link)
            if Path(link).lstat().st_uid not in (0, os.geteuid()):
                return False
            asked.sendall(request)
            while data := asked.recv(1 << 16):
                for reply in decoder.feed(data):
                    return _was_reset(reply)
    except (OSError, ProtocolError) as error:
        logger.debug("Nobody to refresh at %s: %s", link, error)
    return False


def _was_reset(reply: Mapping[str, Any]) -> bool:
    error, result = reply.get("error"), reply.get("result")
    if isinstance(error, dict):
        raise StoreError(f"cannot refresh: {error.get('message')}")
    if isinstance(result, dict) and result.get("outcome") == "failed":
        raise StoreError(f"cannot refresh: {result.get('message')}")
    return isinstance(result, dict)
