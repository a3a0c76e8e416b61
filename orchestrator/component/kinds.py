"""Types of message models, compiled: one `Kind` per type. See `orchestrator.component.models`."""

from __future__ import annotations

import functools
import inspect
import reprlib
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from types import FunctionType, NoneType
from typing import Any
from uuid import UUID

from orchestrator.wire import values

Plain = Any
"""A type as plain data, for those who must not import handlers: "str", {"list": "Decimal"}, …"""

_SENDABLE = frozenset((str, int, float, bool, bytes, Decimal, datetime, UUID, NoneType))
FLAT = frozenset((str, int, float, bool, bytes, NoneType))
"""What msgpack has a form of its own for that holds nothing else."""

_OPAQUE = frozenset((dict, list, object))
_HOW = (
    "write a class (str, int, float, bool, bytes, Decimal, datetime, UUID, dict, list, tuple, "
    "set or object), {T: T}, {'key': T}, [T], (T, T), {T} or {'a', 'b'}"
)


class NotAModel(ValueError):
    """A model holds something that describes no type; the message says where and what would do."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A compiled type.

    `accepts` tells whether a value fits, `explain` yields what is wrong with one that does not.
    `dump` prepares a fitting value for `values.encode`, `load` turns a decoded value into what the
    model promises and leaves alone what does not fit; either is None when there is nothing to do.
    `cls` is set when `accepts` is no more than `isinstance`.
    """

    plain: Plain
    name: str
    accepts: Callable[[Any], bool]
    explain: Callable[[Any, str], Iterator[str]]
    dump: Callable[[Any], Any] | None = None
    load: Callable[[Any], Any] | None = None
    cls: type | None = None
    hashable: bool = False


def compile_type(
    model: object, *, wire: bool = True, strict: bool = False, path: str = ""
) -> Kind:
    """Compile one type.

    Args:
        model: What stands in the model.
        wire: Whether values leave the process.
        strict: Whether the type stands within optional arguments.
        path: Where it stands, for the error.

    Raises:
        NotAModel: It is no type, or cannot be sent.
    """
    if isinstance(model, type):
        return _instance(model, wire=wire, path=path)
    if model is Any:
        return _instance(object, wire=wire, path=path)
    if isinstance(model, dict):
        return _dictionary(model, wire=wire, strict=strict, path=path)
    if isinstance(model, list) and len(model) == 1:
        return _list(compile_type(model[0], wire=wire, strict=strict, path=f"{path}[]"))
    if isinstance(model, tuple) and model:
        items = (
            compile_type(m, wire=wire, strict=strict, path=f"{path}[{i}]")
            for i, m in enumerate(model)
        )
        return _tuple(tuple(items))
    if isinstance(model, (set, frozenset)) and model:
        return _set(model, wire=wire, strict=strict, path=path)
    if isinstance(model, FunctionType):
        if wire:
            raise NotAModel(f"{_at(path)}a function cannot be sent to another process")
        return _function(model)
    raise NotAModel(f"{_at(path)}{shown(model)} describes no type: {_HOW}")


# --- Dicts with fixed keys


def _split(
    fields: Mapping[str, Kind],
) -> tuple[tuple[tuple[str, type], ...], tuple[tuple[str, Callable[[Any], bool]], ...]]:
    """Split fields into those for which isinstance will do, and the others."""
    quick = tuple((name, kind.cls) for name, kind in fields.items() if kind.cls is not None)
    slow = tuple((name, kind.accepts) for name, kind in fields.items() if kind.cls is None)
    return quick, slow


def having(fields: Mapping[str, Kind], *, exactly: bool = False) -> Callable[[Any], bool]:
    """Return a test for dicts that have at least these fields, or exactly these."""
    quick, slow = _split(fields)
    most = len(fields) if exactly else sys.maxsize
    given = [most, *(part for field in (*quick, *slow) for part in field)]
    made: Callable[[Any], bool] = tests(len(quick), len(slow))(*given)
    return made


@functools.cache
def tests(quick: int, slow: int) -> Callable[..., Any]:
    """Return what makes tests for dicts with so many fields of each sort, see `having`.

    The source has one line of conditions, which costs half of what a loop does; nothing in it is
    anybody else's.
    """
    names = [f"n{number}, t{number}" for number in range(quick + slow)]
    conditions = [
        "isinstance(value, dict)",
        "len(value) <= most",
        *(f"isinstance(value[n{number}], t{number})" for number in range(quick)),
        *(f"t{number}(value[n{number}])" for number in range(quick, quick + slow)),
    ]
    source = f"""
def make({", ".join(["most", *names])}):
    def accepts(value):
        try:
            return {" and ".join(conditions)}
        except KeyError:
            return False
    return accepts
"""
    space: dict[str, Any] = {}
    exec(source, space)  # noqa: S102 - two numbers are all that goes into it
    made: Callable[..., Any] = space["make"]
    return made


def dump_fields(
    fields: Mapping[str, Kind], *, open_ended: bool = False
) -> Callable[[Any], Any] | None:
    """Return what prepares a dict with these fields for sending, None when nothing has to be done.

    An open-ended dict may have other keys, of which nothing is known.
    """
    dumps = tuple((name, kind.dump) for name, kind in fields.items() if kind.dump)
    if not dumps and not open_ended:
        return None

    def dump(value: Any) -> Any:
        result = dict(value)
        for name, prepare in dumps:
            if name in result:
                result[name] = prepare(result[name])
        if open_ended and len(result) > len(fields):
            for name in result.keys() - fields.keys():
                result[name] = values.plain(result[name])
            return values.mapping(result)
        return result

    return dump


def load_fields(fields: Mapping[str, Kind]) -> Callable[[Any], Any] | None:
    """Return what gives the fields of a decoded dict their types, None when they have them."""
    loads = tuple((name, kind.load) for name, kind in fields.items() if kind.load)
    if not loads:
        return None

    def load(value: Any) -> Any:
        if isinstance(value, dict):
            for name, convert in loads:
                if name in value:
                    value[name] = convert(value[name])
        return value

    return load


def _dictionary(model: dict[Any, Any], *, wire: bool, strict: bool, path: str) -> Kind:
    if len(model) == 1:
        key, item = next(iter(model.items()))
        if _is_key_type(key):
            keys = compile_type(key, wire=wire, strict=strict, path=f"{path} (key)")
            if not keys.hashable:
                raise NotAModel(f"{_at(path)}{keys.name} cannot be a key of a dict")
            return _mapping(keys, compile_type(item, wire=wire, strict=strict, path=f"{path}[]"))
    for key in model:
        if not isinstance(key, str) or key in values.MARKERS:
            raise NotAModel(
                f"{_at(path)}the key {key!r} must be text and no marker of the wire format"
            )
    fields = {
        key: compile_type(item, wire=wire, strict=strict, path=key_path(path, key))
        for key, item in model.items()
    }
    if strict:
        return _fields_at_most(fields)
    return _fields_at_least(fields)


def _fields_at_least(fields: dict[str, Kind]) -> Kind:
    accepts = having(fields)

    def explain(value: Any, path: str) -> Iterator[str]:
        if not isinstance(value, dict):
            yield _expected(path, name, value)
            return
        for key, kind in fields.items():
            if key not in value:
                yield f"{key_path(path, key)} is missing: expected {kind.name}"
            elif not kind.accepts(value[key]):
                yield from kind.explain(value[key], key_path(path, key))

    name = _fields_name(fields)
    dump = dump_fields(fields, open_ended=True)
    return Kind({"map": _plains(fields)}, name, accepts, explain, dump, load_fields(fields))


def _fields_at_most(fields: dict[str, Kind]) -> Kind:
    tests = {key: kind.accepts for key, kind in fields.items()}

    def accepts(value: Any) -> bool:
        if not isinstance(value, dict):
            return False
        for key, item in value.items():
            test = tests.get(key)
            if test is None or not test(item):
                return False
        return True

    def explain(value: Any, path: str) -> Iterator[str]:
        if not isinstance(value, dict):
            yield _expected(path, name, value)
            return
        for key, item in value.items():
            if key not in fields:
                known = ", ".join(map(repr, fields))
                yield f"{key_path(path, key)} is not declared; declared are {known}"
            elif not fields[key].accepts(item):
                yield from fields[key].explain(item, key_path(path, key))

    name = _fields_name(fields)
    return Kind(
        {"map": _plains(fields)}, name, accepts, explain, dump_fields(fields), load_fields(fields)
    )


# --- Containers of any size


def _mapping(keys: Kind, items: Kind) -> Kind:
    keys_fit, items_fit = _all_fit(keys), _all_fit(items)
    key_load, item_load = keys.load or _same, items.load or _same
    item_dump = items.dump
    text_keys = keys.cls is str

    def accepts(value: Any) -> bool:
        return isinstance(value, dict) and keys_fit(value) and items_fit(value.values())

    def explain(value: Any, path: str) -> Iterator[str]:
        if not isinstance(value, dict):
            yield _expected(path, name, value)
            return
        for key, item in value.items():
            if not keys.accepts(key):
                yield _expected(f"{path}, key", keys.name, key)
            if not items.accepts(item):
                yield from items.explain(item, f"{path}[{_brief(key)}]")

    def dump(value: Any) -> Any:
        prepared = (
            value if item_dump is None else {key: item_dump(item) for key, item in value.items()}
        )
        if text_keys:
            return prepared if values.MARKERS.isdisjoint(prepared) else values.mapping(prepared)
        return values.mapping(prepared)

    def load(value: Any) -> Any:
        if isinstance(value, dict):
            return {key_load(key): item_load(item) for key, item in value.items()}
        return value

    name = f"{{{keys.name}: {items.name}}}"
    needs_load = bool(keys.load or items.load)
    return Kind(
        {"dict": [keys.plain, items.plain]},
        name,
        accepts,
        explain,
        dump,
        load if needs_load else None,
    )


def _list(items: Kind) -> Kind:
    items_fit = _all_fit(items)
    item_dump, item_load = items.dump, items.load

    def accepts(value: Any) -> bool:
        return isinstance(value, (list, tuple)) and items_fit(value)

    def explain(value: Any, path: str) -> Iterator[str]:
        if not isinstance(value, (list, tuple)):
            yield _expected(path, name, value)
            return
        for index, item in enumerate(value):
            if not items.accepts(item):
                yield from items.explain(item, f"{path}[{index}]")

    def dump(value: Any) -> Any:
        assert item_dump is not None
        return [item_dump(item) for item in value]

    def load(value: Any) -> Any:
        assert item_load is not None
        return [item_load(item) for item in value] if isinstance(value, list) else value

    name = f"[{items.name}]"
    return Kind(
        {"list": items.plain},
        name,
        accepts,
        explain,
        dump if item_dump else None,
        load if item_load else None,
    )


def _tuple(items: tuple[Kind, ...]) -> Kind:
    size = len(items)
    tests = tuple(kind.accepts for kind in items)
    dumps = tuple(kind.dump or _same for kind in items)
    loads = tuple(kind.load or _same for kind in items)
    item_loads = any(kind.load for kind in items)

    def accepts(value: Any) -> bool:
        if not isinstance(value, (tuple, list)) or len(value) != size:
            return False
        return all(test(item) for test, item in zip(tests, value, strict=True))

    def explain(value: Any, path: str) -> Iterator[str]:
        if not isinstance(value, (tuple, list)) or len(value) != size:
            yield _expected(path, name, value)
            return
        for index, (kind, item) in enumerate(zip(items, value, strict=True)):
            if not kind.accepts(item):
                yield from kind.explain(item, f"{path}[{index}]")

    def dump(value: Any) -> Any:
        return [prepare(item) for prepare, item in zip(dumps, value, strict=True)]

    def load(value: Any) -> Any:
        if not isinstance(value, (list, tuple)) or len(value) != size:
            return value
        if item_loads:
            return tuple(convert(item) for convert, item in zip(loads, value, strict=True))
        return tuple(value)

    name = f"({', '.join(kind.name for kind in items)}{',' if size == 1 else ''})"
    needs_dump = any(kind.dump for kind in items)
    hashable = all(kind.hashable for kind in items)
    plain = {"tuple": [kind.plain for kind in items]}
    return Kind(
        plain, name, accepts, explain, dump if needs_dump else None, load, hashable=hashable
    )


def _set(model: Collection[Any], *, wire: bool, strict: bool, path: str) -> Kind:
    first = next(iter(model))
    if len(model) == 1 and _is_key_type(first):
        items = compile_type(first, wire=wire, strict=strict, path=f"{path}{{}}")
        if not items.hashable:
            raise NotAModel(f"{_at(path)}{items.name} cannot be an item of a set")
        return _set_of(items)
    if any(map(_is_key_type, model)):
        raise NotAModel(
            f"{_at(path)}a set of several types describes no type; write {{T}} with one"
        )
    return _members(frozenset(model), strict=strict)


def _set_of(items: Kind) -> Kind:
    items_fit = _all_fit(items)

    def accepts(value: Any) -> bool:
        return isinstance(value, (set, frozenset)) and items_fit(value)

    def explain(value: Any, path: str) -> Iterator[str]:
        if not isinstance(value, (set, frozenset)):
            yield _expected(path, name, value)
            return
        for item in value:
            if not items.accepts(item):
                yield from items.explain(item, f"{path}{{}}")

    name = f"{{{items.name}}}"
    return Kind({"set": items.plain}, name, accepts, explain)


def _members(members: frozenset[Any], *, strict: bool) -> Kind:
    def accepts(value: Any) -> bool:
        if not isinstance(value, (set, frozenset)):
            return False
        return value <= members if strict else value >= members

    def explain(value: Any, path: str) -> Iterator[str]:
        yield _expected(path, f"a set of {'at most' if strict else 'at least'} {name}", value)

    name = f"{{{', '.join(sorted(map(repr, members)))}}}"
    shown = sorted((m if isinstance(m, (str, int, float)) else repr(m) for m in members), key=repr)
    return Kind({"members": shown}, name, accepts, explain)


# --- Single values


def _instance(cls: type, *, wire: bool, path: str) -> Kind:
    if wire and cls not in _SENDABLE and cls not in _OPAQUE and cls not in (set, frozenset, tuple):
        raise NotAModel(
            f"{_at(path)}a {cls.__qualname__} cannot be sent to another process: {_HOW}"
        )
    name = "any" if cls is object else cls.__name__

    def accepts(value: Any) -> bool:
        return isinstance(value, cls)

    def explain(value: Any, path: str) -> Iterator[str]:
        yield _expected(path, name, value)

    dump = values.plain if wire and (cls in _OPAQUE or cls is tuple) else None
    load = _to_tuple if cls is tuple else _to_frozenset if cls is frozenset else None
    hashable = cls not in (dict, list, set, object)
    return Kind(name, name, accepts, explain, dump, load, cls, hashable)


def _function(model: FunctionType) -> Kind:
    count = len(inspect.signature(model).parameters)

    def accepts(value: Any) -> bool:
        try:
            inspect.signature(value).bind(*([None] * count))
        except (TypeError, ValueError):
            return False
        return True

    def explain(value: Any, path: str) -> Iterator[str]:
        yield _expected(path, name, value)

    name = f"a callable with {count} arguments"
    return Kind({"function": count}, name, accepts, explain)


def _all_fit(kind: Kind) -> Callable[[Collection[Any]], bool]:
    """Return a test for many values; for plain classes it runs at C speed."""
    test, cls = kind.accepts, kind.cls
    if cls is None:
        return lambda items: all(map(test, items))
    same = frozenset((cls,))

    def fit(items: Collection[Any]) -> bool:
        return same.issuperset(map(type, items)) or all(map(test, items))

    return fit


def _is_key_type(model: object) -> bool:
    """Tell whether a key or a set's item is meant as a type rather than as itself."""
    return isinstance(model, type) or (isinstance(model, tuple) and any(map(_is_key_type, model)))


def _to_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _to_frozenset(value: Any) -> Any:
    return frozenset(value) if isinstance(value, set) else value


def _same(value: Any) -> Any:
    return value


# --- Words


def _plains(fields: Mapping[str, Kind]) -> dict[str, Plain]:
    return {name: kind.plain for name, kind in fields.items()}


def _fields_name(fields: Mapping[str, Kind]) -> str:
    return f"{{{', '.join(f'{key!r}: {kind.name}' for key, kind in fields.items())}}}"


def _expected(path: str, name: str, value: object) -> str:
    return f"{path}: expected {name}, got {shown(value)}"


def shown(value: object) -> str:
    """Return type and beginning of a value, for people."""
    return f"{type(value).__name__} {_brief(value)}"


def _brief(value: object) -> str:
    return reprlib.repr(value)


def key_path(path: str, key: str) -> str:
    """Return how a key below `path` is written in errors."""
    return f"{path}[{key!r}]" if path else repr(key)


def _at(path: str) -> str:
    return f"{path}: " if path else ""
