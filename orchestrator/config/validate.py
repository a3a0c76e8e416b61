"""The schema's verdict in words for people.

The quick validator says where and by which keyword a value fails; everything else is looked
up in the schema itself, so that the words do not depend on whose validator it was.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

from msgspec import Struct

from orchestrator.config import report, schema
from orchestrator.config.report import Place, Report
from orchestrator.config.source import Source

Path = tuple[str | int, ...]


class Violation(Struct, frozen=True):
    """One failure: where in the instance, which keyword, and the schema that holds it."""

    path: Path
    keyword: str
    schema: Any


class Verdict(Struct, frozen=True):
    """What is to be said about a violation, and where: at a key, or at a value."""

    code: str
    message: str
    path: Path
    at_key: bool = False
    hint: str = ""


def violations(value: Any) -> Iterator[Violation]:
    """Yield each violation of the topology schema by `value`."""
    for error in _validator().iter_errors(value):
        root = schema.topology()
        path, where = tuple(error.instance_path), list(error.schema_path)
        keyword = str(where[-1]) if where else ""
        holder = _follow(root, where[:-1])
        yield Violation(path, keyword, holder)


def check(
    source: Source, found: Report, ignore: Collection[tuple[int, str | int]] = ()
) -> list[Path]:
    """Report every violation in `source`; return the paths of the values that are at fault.

    `ignore` are places, by container and key, of which worse has been said.
    """
    verdicts: dict[tuple[Path, str], Verdict] = {}
    broken: list[Path] = []
    for violation in violations(source.value):
        for verdict in explain(violation, source.value):
            verdicts.setdefault((verdict.path, verdict.code), verdict)
            broken.append(verdict.path)
    for verdict in _relevant(verdicts.values()):
        place = _place(source, verdict)
        if (id(place.container), place.key) not in ignore:
            found.error(verdict.code, verdict.message, place, hint=verdict.hint)
    return broken


def explain(violation: Violation, root: Any) -> Iterator[Verdict]:
    """Yield what to say about a violation; nothing when another says it better."""
    explainer = _EXPLAINERS.get(violation.keyword)
    value = _value_at(root, violation.path)
    if explainer is None:
        message = f"{_name(violation.path)}: {value!r} does not fit ({violation.keyword})"
        yield Verdict("ORC102", message, violation.path)
        return
    yield from explainer(violation, value)


def prune(value: Any, paths: Iterable[Path]) -> None:
    """Take what is at fault out of `value`, so that later checks see only what they can read.

    Named things (services, components, addresses, settings) stay, as None: their names are
    known, and references to them are no further mistakes.
    """
    for path in sorted(set(paths), key=len, reverse=True):
        parent, key = _parent(value, path)
        if isinstance(parent, dict) and key in parent:
            if _is_named(path):
                if not isinstance(parent[key], dict):
                    parent[key] = None
            else:
                del parent[key]


@functools.cache
def _validator() -> Any:
    import jsonschema_rs  # noqa: PLC0415  # 20 ms, which a build of nothing need not pay

    # Its text, which whoever makes no mistake need not read; and patterns that look neither
    # ahead nor behind, as ours, in the engine that has them ready in half the time.
    options = jsonschema_rs.RegexOptions()
    return jsonschema_rs.Draft202012Validator(schema.text("topology"), pattern_options=options)


def _follow(root: Any, steps: Iterable[Any]) -> Any:
    for step in steps:
        try:
            root = root[step]
        except (KeyError, IndexError, TypeError):
            return {}
    return root


def _value_at(root: Any, path: Path) -> Any:
    for step in path:
        root = root[step]
    return root


def _parent(root: Any, path: Path) -> tuple[Any, str]:
    """Return the map that holds what `path` names, and its key; a list counts as a whole."""
    steps = list(itertools.takewhile(lambda step: isinstance(step, str), path))
    try:
        return (_value_at(root, tuple(steps[:-1])), str(steps[-1])) if steps else (None, "")
    except (KeyError, IndexError, TypeError):
        return None, ""


def _is_named(path: Path) -> bool:
    match path:
        case ("services" | "addresses" | "settings" | "packages", _):
            return True
        case ("services", _, "components" | "jobs", _):
            return True
        case _:
            return False


def _place(source: Source, verdict: Verdict) -> Place:
    if not verdict.path:
        return Place(source, source.value if isinstance(source.value, (dict, list)) else {}, "")
    container = _value_at(source.value, verdict.path[:-1])
    return Place(source, container, verdict.path[-1], at_key=verdict.at_key)


def _relevant(verdicts: Iterable[Verdict]) -> Iterator[Verdict]:
    """Drop what only follows from another mistake: a misspelt `comand` is no missing command."""
    every = list(verdicts)
    mended = {
        one.path[:-1]
        for one in every
        if one.code == "ORC100" and one.hint.partition("'")[2].rstrip("'?") in _IDENTIFYING
    }
    for one in every:
        if not (one.code == "ORC103" and one.path in mended):
            yield one


_IDENTIFYING = {"handler", "package", "class", "command", "components", "jobs", "program"}

_KINDS = {
    "object": "a map",
    "array": "a list",
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "nothing",
}


def kind_of(value: Any) -> str:
    """Return what a value is, in a user's words: `text 'x'`, `a list`, `nothing`."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true" if value else "false"
        case str():
            shown = value if len(value) <= 40 else value[:37] + "…"
            return f"the text {shown!r}"
        case int() | float():
            return f"the number {value}"
        case list():
            return "a list"
        case _:
            return "a map"


def _name(path: Path) -> str:
    """Return the key a user knows: the last names of the path."""
    last = path[-1] if path else ""
    if isinstance(last, int):
        return f"item {last + 1} of {_name(path[:-1])}"
    return f"`{last}`" if path else "the file"


def _owner(path: Path) -> str:
    match path:
        case ():
            return "a topology"
        case ("services", str(name)):
            return f"service {name!r}"
        case ("services", str(name), "components", str(component)):
            return f"component '{name}.{component}'"
        case ("services", str(name), "jobs", str(job)):
            return f"job '{name}.{job}'"
        case _:
            pass
    return _name(path)


def _type(violation: Violation, value: Any) -> Iterator[Verdict]:
    wanted = violation.schema["type"]
    kinds = [wanted] if isinstance(wanted, str) else list(wanted)
    unit = violation.schema.get("x-unit")
    if unit == "duration" and isinstance(value, (int, float)) and not isinstance(value, bool):
        message = f"{_name(violation.path)} needs a unit: {value} of what?"
        yield Verdict("ORC106", message, violation.path, hint=f"write {value}s or {value}ms")
        return
    said = " or ".join(_KINDS[kind] for kind in kinds)
    message = f"{_name(violation.path)} must be {said}, not {kind_of(value)}"
    yield Verdict("ORC101", message, violation.path, value is None, _type_hint(kinds, value))


def _type_hint(kinds: list[str], value: Any) -> str:
    if "boolean" in kinds and isinstance(value, str):
        if value.lower() in {"on", "yes", "y"}:
            return f"{value!r} is text in YAML 1.2; write true"
        if value.lower() in {"off", "no", "n"}:
            return f"{value!r} is text in YAML 1.2; write false"
    if isinstance(value, str) and {"integer", "number"} & set(kinds):
        if re.fullmatch(r"[-+]?0\d+", value):
            octal = "0o" + value.lstrip("+-")
            return f"a leading zero makes it text; write {int(value)}, or {octal} for octal"
        if re.fullmatch(r"[-+]?\d+", value):
            return "take the quotes away"
    if value is None:
        return "give it a value, or remove the key"
    if "array" in kinds and "string" not in kinds and isinstance(value, str):
        return f"write [{value}]"
    return ""


def _additional(violation: Violation, value: Any) -> Iterator[Verdict]:
    known = violation.schema.get("properties", {})
    patterns = violation.schema.get("patternProperties", {})
    component = schema.definition("component")["properties"]
    is_service = len(violation.path) == 2 and violation.path[0] == "services"
    for key in value:
        if key in known or any(re.search(pattern, key) for pattern in patterns):
            continue
        path = (*violation.path, key)
        beside = next((name for name in ("components", "jobs") if name in value), None)
        if is_service and beside and key in component:
            message = f"`{key}` cannot stand beside `{beside}` in {_owner(violation.path)}"
            hint = f"move `{key}` into a component"
            if key in schema.definition("defaults")["properties"]:
                hint += ", or into `defaults` for all of them"
            yield Verdict("ORC104", message, path, at_key=True, hint=hint)
            continue
        names = [*known, "components", "jobs"] if is_service else list(known)
        hint = report.did_you_mean(key, names) or _also(key, component, names)
        yield Verdict(
            "ORC100",
            f"unknown key `{key}` in {_owner(violation.path)}",
            path,
            at_key=True,
            hint=hint,
        )


def _also(key: str, component: Any, names: list[str]) -> str:
    if key in component and key not in names:
        return f"`{key}` belongs to a component"
    if len(names) <= 8:
        return f"known here: {report.listed(names)}"
    return "keys of your own begin with x-"


def _required(violation: Violation, value: Any) -> Iterator[Verdict]:
    for key in violation.schema["required"]:
        if key not in value:
            yield Verdict("ORC103", f"{_owner(violation.path)} lacks `{key}`", violation.path)


def _dependent(violation: Violation, value: Any) -> Iterator[Verdict]:
    for key, needs in violation.schema["dependentRequired"].items():
        for need in needs:
            if key in value and need not in value:
                message = f"`{key}` has a meaning only with `{need}`"
                yield Verdict("ORC105", message, (*violation.path, key), at_key=True)


def _one_of(violation: Violation, value: Any) -> Iterator[Verdict]:
    if not isinstance(value, dict):
        return  # of the wrong type, which is said
    keys = [branch["required"][0] for branch in violation.schema["oneOf"]]
    given = [key for key in value if key in keys]
    owner = _owner(violation.path)
    if len(given) > 1:
        message = f"{owner} has {report.listed(f'`{key}`' for key in given)}; exactly one can be"
        yield Verdict("ORC104", message, (*violation.path, given[1]), at_key=True)
        return
    if len(violation.path) == 2 and violation.path[0] == "services":
        keys = [*keys, "components", "jobs"]
    choices = ", ".join(f"`{key}`" for key in keys[:-1]) + f" or `{keys[-1]}`"
    yield Verdict("ORC103", f"{owner} needs one of {choices}", violation.path, at_key=True)


def _enum(violation: Violation, value: Any) -> Iterator[Verdict]:
    allowed = [one for one in violation.schema["enum"] if one != "no"]
    message = (
        f"{_name(violation.path)} must be {' or '.join(map(str, allowed))}, not {kind_of(value)}"
    )
    hint = report.did_you_mean(value, allowed) if isinstance(value, str) else ""
    yield Verdict("ORC102", message, violation.path, hint=hint)


def _const(violation: Violation, value: Any) -> Iterator[Verdict]:
    wanted = violation.schema["const"]
    shown = str(wanted).lower() if isinstance(wanted, bool) else wanted
    hint = "this orch reads version 1 only" if violation.path == ("version",) else ""
    message = f"{_name(violation.path)} must be {shown}, not {kind_of(value)}"
    yield Verdict("ORC102", message, violation.path, hint=hint)


def _pattern(violation: Violation, value: Any) -> Iterator[Verdict]:
    if isinstance(value, dict):
        yield from _names(violation, value)
        return
    unit = violation.schema.get("x-unit")
    if unit == "duration":
        message = f"{_name(violation.path)}: {value!r} is no duration"
        yield Verdict(
            "ORC106", message, violation.path, hint="write one as 500ms, 1.5s, 2m or 1h30m"
        )
    elif unit == "size":
        message = f"{_name(violation.path)}: {value!r} is no size"
        yield Verdict("ORC106", message, violation.path, hint="write one as 4096, 50MB or 512MiB")
    else:
        said = violation.schema.get("description", "").rstrip(".")
        if re.search(violation.schema["pattern"], value.upper()):
            said = f"did you mean {value.upper()!r}?"
        yield Verdict(
            "ORC102", f"{_name(violation.path)} cannot be {value!r}", violation.path, hint=said
        )


def _names(violation: Violation, value: Any) -> Iterator[Verdict]:
    """The names of a map are at fault; both validators say only which map."""
    rules = schema.resolved(violation.schema.get("propertyNames", violation.schema))
    pattern, longest = rules.get("pattern", ""), rules.get("maxLength", 10**6)
    taken = rules.get("not", {}).get("enum", ())
    for key in value:
        path = (*violation.path, key)
        if len(key) < rules.get("minLength", 0):
            yield Verdict("ORC107", "a key cannot be empty", path, at_key=True)
        elif key in taken:
            message = (
                f"{key!r} cannot be the name of a part: it would hide the address's own {key}"
            )
            yield Verdict("ORC107", message, path, at_key=True)
        elif len(key) > longest:
            message = f"the name {key!r} is longer than {longest} characters"
            yield Verdict("ORC107", message, path, at_key=True)
        elif not re.search(pattern, key):
            yield Verdict(
                "ORC107", f"{key!r} is no valid name", path, True, _name_hint(pattern, key)
            )


def _name_hint(pattern: str, key: str) -> str:
    if not pattern.startswith("^[a-z0-9]"):
        return "names are made of letters, digits and _, and do not begin with a digit"
    better = re.sub(r"[^a-z0-9]+", "-", key.lower()).strip("-")[:48].strip("-")
    rule = "names are lower-case letters, digits and inner hyphens"
    return f"{rule}: {better!r}" if better else rule


def _range(violation: Violation, value: Any) -> Iterator[Verdict]:
    low, high = violation.schema.get("minimum"), violation.schema.get("maximum")
    said = (
        f"between {low} and {high}"
        if low is not None and high is not None
        else (f"at least {low}" if high is None else f"at most {high}")
    )
    yield Verdict("ORC108", f"{_name(violation.path)} must be {said}, not {value}", violation.path)


def _empty(violation: Violation, value: Any) -> Iterator[Verdict]:
    if violation.keyword == "minLength" and isinstance(value, dict):
        yield from _names(violation, value)
        return
    if violation.keyword == "minItems" and value:
        said = f"{_name(violation.path)} needs {violation.schema['minItems']} items"
    else:
        said = f"{_name(violation.path)} cannot be empty"
    yield Verdict("ORC108", said, violation.path)


def _long(violation: Violation, value: Any) -> Iterator[Verdict]:
    if isinstance(value, dict):
        yield from _names(violation, value)
        return
    most = violation.schema.get("maxLength", violation.schema.get("maxItems"))
    what = "characters" if isinstance(value, str) else "items"
    yield Verdict("ORC108", f"{_name(violation.path)} has more than {most} {what}", violation.path)


def _unique(violation: Violation, value: Any) -> Iterator[Verdict]:
    for number, item in enumerate(value):
        if item in value[:number]:
            message = f"{kind_of(item)} is given twice in {_name(violation.path)}"
            yield Verdict("ORC102", message, (*violation.path, number))


_EXPLAINERS: dict[str, Callable[[Violation, Any], Iterator[Verdict]]] = {
    "type": _type,
    "additionalProperties": _additional,
    "required": _required,
    "dependentRequired": _dependent,
    "oneOf": _one_of,
    "enum": _enum,
    "const": _const,
    "pattern": _pattern,
    "not": _names,
    "propertyNames": _names,
    "minimum": _range,
    "maximum": _range,
    "minLength": _empty,
    "minItems": _empty,
    "minProperties": _empty,
    "maxLength": _long,
    "maxItems": _long,
    "uniqueItems": _unique,
}
