"""Setting single values of a service class: `orch config set|unset|refresh`.

They go to the system's configuration store, where a service finds them when it is made or reset.
The topology says which components there are; nothing of theirs is imported.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.cli import change, topology
from orchestrator.cli.session import Session
from orchestrator.component import configstore, hooks
from orchestrator.component.configstore import Store
from orchestrator.component.hooks import Keys, Layers
from orchestrator.config import Locked, compose, report
from orchestrator.errors import ExitCode, UsageError
from orchestrator.model import names
from orchestrator.model.topology import Component

WORDS = ("set", "unset", "refresh")
"""The first words that mean one of these."""


def run(
    session: Session, words: Sequence[str], *, no_refresh: bool, settings: Mapping[str, Any]
) -> int:
    """Do what the first word says: set or unset values of a component, or reset components.

    Args:
        session: The system.
        words: `set NAME KEY=VALUE…`, `unset NAME KEY…` or `refresh NAME…`; `a.b` is the key `b` in
            the map `a`.
        no_refresh: Leave a service that runs as it is.
        settings: Values of settings, by name.
    """
    verb, *rest = words
    if not rest:
        raise UsageError(f"orch config {verb} needs a NAME")
    if verb == "refresh":
        return _refreshed(session, [_chosen(session, name, settings)[0].base for name in rest])
    name, *given = rest
    if not given:
        shape = "KEY=VALUE" if verb == "set" else "KEY"
        raise UsageError(f"orch config {verb} {name} needs a {shape}")
    component, store = _chosen(session, name, settings)
    values = dict(map(_pair, given)) if verb == "set" else {}
    gone = [_keys(word) for word in given] if verb == "unset" else []
    layers = hooks.layers(store, component.base)
    for keys in (*values, *gone):
        _warn(session, component, layers, keys)
    hooks.change(store, component.base, values, gone)
    for keys in values:
        # Not to what: it may be a password.
        session.screen.note(f"orch: {component.base}: {'.'.join(keys)} is set")
    for keys in gone:
        session.screen.note(f"orch: {component.base}: {'.'.join(keys)} is not set any more")
    if no_refresh:
        return ExitCode.DONE
    return _refreshed(session, [component.base], of_running=True)


def _refreshed(session: Session, names: Sequence[str], *, of_running: bool = False) -> int:
    """Reset the services; those that do not run find what is set when they start."""
    if of_running:
        daemon = session.try_connect()
        rows = daemon.ps(names) if daemon is not None else []
        if not any(row["pid"] for row in rows):
            session.screen.note("orch: it does not run; its start heeds what is set")
            return ExitCode.DONE
    return change.reload(
        session,
        names=tuple(names),
        everything=False,
        no_wait=False,
        wait_timeout=hooks.REFRESH,
    )


def _chosen(session: Session, word: str, settings: Mapping[str, Any]) -> tuple[Component, Store]:
    """Return the service class of a name, and the store of its configuration.

    Raises:
        UsageError: No component has the name, several have, or it is no service class.
    """
    locked = topology.read(session, settings=settings, imports=False).locked
    components = locked.lock.components.values()
    meant = {one.base: one for one in components if word in (one.base, one.service, one.name)}
    if not meant:
        hint = report.did_you_mean(word, {one.base for one in components})
        raise UsageError(f"there is no component {word!r}; {hint}".rstrip("; "))
    if len(meant) > 1:
        raise UsageError(f"{word!r} may be {report.listed(meant)}; name one")
    (component,) = meant.values()
    if component.service_class is None:
        raise UsageError(
            f"{component.base} is no service class: what it is configured with stands in the "
            "topology, in its files and in the environment"
        )
    return component, store_of(locked, component)


def store_of(locked: Locked, component: Component) -> Store:
    """Return the store that holds the configuration of a service class.

    Raises:
        StoreError: It is no store.
    """
    where = names.SECRET.sub(
        lambda found: locked.secrets.get(found[1], found[0]), component.surroundings.store
    )
    return configstore.opened(where, Path(locked.lock.base_dir))


def _pair(word: str) -> tuple[Keys, Any]:
    key, equals, text = word.partition("=")
    if not equals:
        raise UsageError(f"cannot set {word!r}: write KEY=VALUE")
    return _keys(key), _value(text, word)


def _keys(word: str) -> Keys:
    keys = tuple(word.split("."))
    if not all(keys):
        raise UsageError(f"{word!r} is no key: write KEY, or KEY.KEY for one within a map")
    return keys


def _value(text: str, word: str) -> Any:
    """Return what a text means in YAML, on one line: a number, true, a text, a list, a map."""
    if text[:1] not in ("[", "{", '"', "'"):
        try:
            return compose.scalar(text)
        except ValueError as error:
            raise UsageError(f"cannot set {word!r}: {error}") from None
    source = compose.parse(f"- {text}".encode(), Path("value"), "value")
    if source.diagnostics or not isinstance(source.value, list) or len(source.value) != 1:
        said = source.diagnostics[0].message if source.diagnostics else "it is no value of YAML"
        raise UsageError(f"cannot set {word!r}: {said}")
    return source.value[0]


def _warn(session: Session, component: Component, layers: Layers, keys: Keys) -> None:
    """Tell of a key that the service's configuration never had: it may be misspelt."""
    known: set[str] = {"enabled", "quiet", *component.config}
    known.update(*(_names(one) for one in (layers.default, layers.stored)))
    known.update(keys[0] for keys in layers.changes)
    if isinstance(layers.default, Mapping) and keys[0] not in known:
        hint = report.did_you_mean(keys[0], known)
        what = f"orch: {component.base} has no {keys[0]!r} in its configuration so far"
        session.screen.note(f"{what}; {hint}".rstrip("; "))


def _names(value: Any) -> Iterable[str]:
    return value if isinstance(value, Mapping) else ()
