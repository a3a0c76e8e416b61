"""`orch config`: what components are configured with, and where each value is from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from orchestrator.cli import configstore, screen, topology
from orchestrator.cli.session import Session
from orchestrator.component import hooks
from orchestrator.config import Locked
from orchestrator.config.configurations import Configured, Layered, Origin
from orchestrator.config.document import Setting
from orchestrator.errors import ExitCode, Position
from orchestrator.model import names as naming
from orchestrator.wire import exactjson

MASK = "***"
"""Stands for the value of a secret."""

Row = dict[str, Any]


def config(
    session: Session,
    *,
    words: tuple[str, ...],
    settings: Mapping[str, str],
    settings_files: tuple[str, ...],
    no_import: bool,
    no_refresh: bool,
) -> int:
    """Print every value of configurations, the layer that gave it and where that is.

    With `set`, `unset` or `refresh` first, change what the store of service classes holds.
    """
    if words and words[0] in configstore.WORDS:
        return configstore.run(session, words, no_refresh=no_refresh, settings=settings)
    wanted = topology.read(
        session, settings=settings, settings_files=settings_files, imports=not no_import
    )
    locked = wanted.locked
    chosen = _chosen(words, locked)
    secrets = set(locked.secrets)
    values = {base: list(_values(locked, base, secrets)) for base in chosen}
    known = [] if words else [_setting(one) for one in locked.settings.values()]
    if session.options.json:
        components = [{"name": base, "values": rows} for base, rows in values.items()]
        session.screen.json({"settings": known, "components": components})
        return ExitCode.DONE
    topology.warn(session, locked.warnings)
    rows = [("settings", row) for row in known]
    rows += [(base, row) for base, found in values.items() for row in found]
    if not rows:
        session.screen.note("orch: nothing is configured")
        return ExitCode.DONE
    table = [
        (name, row["key"], _shown(row["value"]), row["layer"], _place(row)) for name, row in rows
    ]
    heads = ("NAME", "KEY", "VALUE", "LAYER", "FROM")
    session.screen.data(screen.table(heads, table))
    return ExitCode.DONE


def _chosen(words: Sequence[str], locked: Locked) -> list[str]:
    """Return the components that words mean: themselves, all of a service, or an instance's.

    Raises:
        UnknownName: A word means none.
    """
    every = {base: None for base, one in locked.configured.items() if not one.component.bus}
    if not words:
        return list(every)
    known = {name: one.base for name, one in locked.lock.components.items() if one.base in every}
    return list(dict.fromkeys(known[name] for name in naming.select(words, known)))


def _values(locked: Locked, base: str, secrets: set[str]) -> Iterator[Row]:
    """Yield a row for each value of a component: of its configuration objects, else as given."""
    one = locked.configured[base]
    objects = list(one.objects(one.component.declared.component))
    for described, layered in objects:
        yield from _rows(layered, str(described["fullname"]), secrets)
    if one.component.service_class is not None:
        yield from _rows(_of_service(locked, one), None, secrets)
    elif not objects or one.component.package is None:
        yield from _rows(one.plain(), None, secrets)


def _of_service(locked: Locked, one: Configured) -> Layered:
    """Return the values of a service class: of its code, the topology and then the store."""
    component = next(
        made for made in locked.lock.components.values() if made.base == one.component.base
    )
    kept = hooks.layers(configstore.store_of(locked, component), component.base)
    made = Layered()
    code = Origin("default", note=kept.name or "")
    made.over(kept.default if isinstance(kept.default, dict) else {}, lambda _: code)
    for given in (*one.files, *one.above):
        made.over(given.fields, given.origin)
    if isinstance(kept.stored, dict):
        # What the code sets is all there is then.
        made = Layered()
        made.over(kept.stored, lambda _: Origin("store", note="config_set"))
    for keys, value in kept.changes.items():
        whole = value
        for key in reversed(keys):
            whole = {key: whole}
        made.over(whole, lambda _: Origin("store", note="orch config set"))
    return made


def _rows(layered: Layered, fullname: str | None, secrets: set[str]) -> Iterator[Row]:
    for keys, origins in sorted(layered.origins.items()):
        origin, value = origins[-1]
        yield {
            "key": ".".join(keys),
            "configuration": fullname,
            "value": _masked(value, secrets),
            **_origin(origin),
            "overrides": [
                {"value": _masked(lower, secrets), **_origin(one)}
                for one, lower in reversed(origins[:-1])
            ],
        }


def _origin(origin: Origin) -> Row:
    return {"layer": origin.layer, **_position(origin.position), "note": origin.note or None}


def _setting(setting: Setting) -> Row:
    value = setting.value if isinstance(setting.value, (str, int, float, list, dict)) else None
    note = {"environment": f"ORCH_SETTING_{setting.name}", "--set": f"--set {setting.name}"}
    place = setting.place
    position = place.source.position(place.span().start) if place is not None else None
    return {
        "key": setting.name,
        "value": MASK if setting.secret and value is not None else value,
        "secret": setting.secret,
        "layer": setting.layer,
        **_position(position),
        "note": note.get(setting.layer),
    }


def _position(position: Position | None) -> Row:
    if position is None:
        return {"file": None, "line": None, "column": None}
    return {"file": position.file, "line": position.line, "column": position.column}


def _masked(value: Any, secrets: set[str]) -> Any:
    """Return a value as JSON, with what stands for secrets masked."""
    if isinstance(value, str):
        for name in secrets:
            value = value.replace(f"${{settings.{name}}}", MASK)
        return str(value)
    if isinstance(value, dict):
        return {key: _masked(item, secrets) for key, item in value.items()}
    if isinstance(value, list):
        return [_masked(item, secrets) for item in value]
    return exactjson.dump(value)


def _shown(value: Any) -> str:
    """Return a value for a table: a text as it is, unless that would be nothing."""
    if isinstance(value, str) and value.strip() == value != "":
        return value if value.isprintable() else json.dumps(value)
    if isinstance(value, dict) and len(value) == 1:
        ((key, inner),) = value.items()
        if key.startswith("__") and isinstance(inner, str):
            return inner
    return json.dumps(value, ensure_ascii=False)


def _place(row: Row) -> str:
    if not row["file"]:
        return str(row["note"] or "")
    note = f" ({row['note']})" if row["note"] else ""
    return f"{row['file']}:{row['line']}{note}"
