"""Declared jobs to what each of their runs is: programs, hooks, templates, and what they wait for.

Every mistake is reported. What a template lacks is none: a submit may give it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from orchestrator.config import interpolate, options, report
from orchestrator.config.components import Lowering
from orchestrator.config.document import Declared, Document
from orchestrator.config.interpolate import Template
from orchestrator.config.report import Place, Report
from orchestrator.model import graph, units
from orchestrator.model import jobs as attributes
from orchestrator.model.jobs import RunCondition
from orchestrator.model.topology import (
    After,
    JobWatcher,
    Keep,
    Overlap,
    Retries,
)

_SERVERS = ("redis://", "rediss://", "unix://")

_SHARED = (
    "user",
    "group",
    "umask",
    "nice",
    "oom_score_adj",
    "no_new_privileges",
    "zygote",
    "rlimits",
    "memory",
    "cpu",
    "pids",
    "stop",
)
"""What a job has as components have it, from `defaults` too."""


class LoweredJob(Struct):
    """A job with everything settled but references that are resolved later.

    `command` and `environment` may hold templates; `options` are further fields of the model's
    Job.
    """

    declared: Declared
    command: tuple[str, ...]
    environment: dict[str, str]
    inherited: dict[str, str]
    options: dict[str, Any]


def mirror(loaded: Document, found: Report) -> str | None:
    """Return where the rows of runs are mirrored, with its secrets unnamed; None for nowhere."""
    word = loaded.top.get("job_mirror")
    if not isinstance(word, str):
        return None
    place = Place(loaded.root, loaded.top, "job_mirror")
    for reference in interpolate.references(word) if isinstance(word, Template) else ():
        if reference.namespace != "settings":
            message = f"${{{reference.name}}} means nothing in `job_mirror`"
            found.error("ORC420", message, place.of(reference.text), hint="name a setting")
    if not word.startswith((*_SERVERS, "${")):
        hint = "write redis://HOST/0#KEY, rediss://… or unix:///PATH"
        # It may hold a password.
        found.error("ORC420", "`job_mirror` is no URL of a Redis server", place, hint=hint)
    return str(word)


def lower(loaded: Document, lowering: Lowering, found: Report) -> dict[str, LoweredJob]:
    """Return the jobs by name, `service.job`."""
    lowered = {
        name: _lower(declared, lowering, found)
        for name, declared in loaded.jobs.items()
        if isinstance(declared.owner.value, dict)
    }
    for name, declared in loaded.jobs.items():
        if name in loaded.components:
            message = f"{name!r} names a component and a job"
            related = (loaded.components[name].place.related("the component"),)
            found.error("ORC405", message, declared.place, related=related)
    _after(loaded, lowered, found)
    return lowered


def _lower(declared: Declared, lowering: Lowering, found: Report) -> LoweredJob:
    own = declared.own
    variables = lowering.environment(declared)
    inherited = lowering.inherited_by(declared, variables)
    command: tuple[str, ...] = ()
    if "command" in own:
        command = lowering.command(declared, {**inherited, **variables})
    made = options.some(_SHARED, declared, found)
    for name in ("concurrency", "priority"):
        if name in own:
            made[name] = own[name]
    if "program" in own:
        made["program"] = _file(declared, "program", own["program"], found)
    for name in ("service", "handler"):
        if name in own:
            made[name] = _code(declared, name, own[name], found)
    made["python_path"] = _python_path(declared, made)
    made["template"] = _template(declared, own.get("template", {}), found)
    made["required"] = tuple(attributes.attribute(word) for word in own.get("required", ()))
    made["watcher"] = _watcher(declared, own.get("watcher", {}), found)
    made["keep"] = _keep(own.get("keep", {}))
    made["retries"] = _retries(declared, own.get("retries", 0), found)
    if "timeout" in own:
        made["timeout"] = units.parse_duration(own["timeout"])
    if "schedule" in own:
        made["schedule"] = options.schedule(own["schedule"], declared.at("schedule"), found)
    if "overlap" in own:
        made["overlap"] = Overlap(own["overlap"])
    if "schedule" in own:
        _check_scheduled(declared, made, found)
    return LoweredJob(declared, command, variables, inherited, made)


def _check_scheduled(declared: Declared, made: Mapping[str, Any], found: Report) -> None:
    """Nobody gives a scheduled run what its template lacks."""
    missing = [name for name in made["required"] if made["template"].get(name) in (None, "")]
    if missing:
        message = f"{declared.base!r} is scheduled, and its template lacks {', '.join(missing)}"
        related = (declared.at("required").related("required here"),)
        found.error("ORC406", message, declared.at("schedule"), related=related)


def _file(declared: Declared, field: str, word: str, found: Report) -> str:
    """Return the absolute path of a file that must be there."""
    path = Path(os.path.normpath(declared.directory / word))
    if not path.is_file():
        siblings = [each.name for each in path.parent.glob("*")] if path.parent.is_dir() else []
        said = "is a directory" if path.is_dir() else "is not there"
        hint = report.did_you_mean(path.name, siblings) or f"looked for {path}"
        place = declared.at(field)
        found.error("ORC401", f"the file {word!r} of `{field}` {said}", place, hint=hint)
    return str(path)


def _code(declared: Declared, field: str, word: str, found: Report) -> str:
    """Return where a hook's class is: an absolute path, perhaps with a class, or a module's."""
    file, colon, name = word.partition(":")
    if colon and not name.isidentifier():
        message = f"`{field}`: {name!r} cannot be the name of a class"
        found.error("ORC403", message, declared.at(field))
    if file.endswith(".py") or "/" in file:
        return f"{_file(declared, field, file, found)}{colon}{name}"
    if not colon or not all(part.isidentifier() for part in file.split(".")):
        message = f"`{field}`: {word!r} is neither a file nor a class of a module"
        hint = "write FILE.py, FILE.py:CLASS or MODULE:CLASS"
        found.error("ORC403", message, declared.at(field), hint=hint)
    return word


def _python_path(declared: Declared, made: Mapping[str, Any]) -> tuple[str, ...]:
    """Return where the hooks' imports are looked up: beside them, then beside the topology."""
    codes = [made[name] for name in ("service", "handler") if name in made]
    beside = [str(Path(code.partition(":")[0]).parent) for code in codes if code.startswith("/")]
    return tuple(dict.fromkeys((*beside, str(declared.directory)))) if codes else ()


def _template(declared: Declared, raw: dict[str, Any], found: Report) -> dict[str, Any]:
    """Return the attributes by the names that hooks know them by."""
    made: dict[str, Any] = {}
    for word, value in raw.items():
        if word.startswith("x-"):
            continue
        place = declared.at("template", word)
        name = attributes.attribute(word)
        if name in made:
            message = f"the attribute {name!r} is given twice, also under another name"
            found.error("ORC404", message, place.of_key())
        try:
            made[name] = attributes.checked(name, value)
        except ValueError as error:
            found.error("ORC404", f"`template`: {error}", place)
    path = made.get("g_work_path")
    if isinstance(path, str):
        made["g_work_path"] = os.path.normpath(declared.directory / path)
    return made


def _watcher(declared: Declared, raw: dict[str, Any], found: Report) -> JobWatcher:
    program = declared.own.get("program")
    named = (declared.component, Path(program).stem if isinstance(program, str) else "")
    places = [declared.directory / attributes.HANDLER_PLACE.format(name) for name in named]
    if raw and "handler" not in declared.own and not any(place.exists() for place in places):
        message = "`watcher` has no effect without a `handler`"
        found.warn("ORC109", message, declared.at("watcher"))
    made: dict[str, Any] = {}
    if "enabled" in raw:
        made["enabled"] = raw["enabled"]
    if "interval" in raw:
        made["interval"] = units.parse_duration(raw["interval"])
        if made["interval"] <= 0:
            place = declared.at("watcher", "interval")
            found.error("ORC108", "`interval` must be more than 0s", place)
    return JobWatcher(**made)


def _keep(raw: str | dict[str, Any]) -> Keep:
    if isinstance(raw, str):
        return Keep(age=units.parse_duration(raw))
    return Keep(
        age=units.parse_duration(raw["age"]) if "age" in raw else None,
        count=raw.get("count"),
        size=units.parse_size(str(raw["size"])) if "size" in raw else None,
    )


def _retries(declared: Declared, raw: int | dict[str, Any], found: Report) -> Retries:
    if isinstance(raw, int):
        return Retries(raw)
    if "backoff" in raw and not raw.get("limit"):
        message = "`backoff` has no effect: `limit` allows no retry"
        found.warn("ORC109", message, declared.at("retries", "backoff"))
    return Retries(raw.get("limit", 0), options.backoff(raw.get("backoff", {})))


def _after(loaded: Document, lowered: Mapping[str, LoweredJob], found: Report) -> None:
    """Resolve every `after` to jobs; report unknown names and circles."""
    edges: dict[str, dict[str, Place]] = {name: {} for name in lowered}
    for name, job in lowered.items():
        raw: Any = job.declared.own.get("after") or []
        keys: list[Any] = list(raw if isinstance(raw, dict) else range(len(raw)))
        waits: dict[str, After] = {}
        for key in keys:
            if isinstance(raw, dict) and key.startswith("x-"):
                continue
            word = key if isinstance(raw, dict) else raw[key]
            place = Place(job.declared.owner.source, raw, key, at_key=True)
            target = _target(word, job, loaded, place, found)
            if target is None:
                continue
            said = raw[key].get("condition") if isinstance(raw, dict) else None
            waits[target] = After(RunCondition(said)) if said else After()
            edges[name][target] = place
        job.options["after"] = waits
    known = {
        name: {to: at for to, at in ends.items() if to in edges} for name, ends in edges.items()
    }
    for circle in graph.cycles(known):
        _report_circle(circle, known, found)


def _report_circle(
    circle: tuple[str, ...], edges: Mapping[str, Mapping[str, Place]], found: Report
) -> None:
    first = edges[circle[0]][circle[1 % len(circle)]]
    if len(circle) == 1:
        found.error("ORC402", f"{circle[0]!r} waits for itself", first)
        return
    path = " → ".join((*circle, circle[0]))
    related = [
        edges[one][other].related(f"{one!r} waits for {other!r} here")
        for one, other in zip(circle[1:], (*circle[2:], circle[0]), strict=True)
    ]
    message = f"jobs wait for each other in a circle: {path}"
    found.error("ORC402", message, first, related=related)


def _target(
    word: str, job: LoweredJob, loaded: Document, place: Place, found: Report
) -> str | None:
    """Return the name of the job that a word means: one of the same service, or any."""
    beside = f"{job.declared.service}.{word}"
    for name in (beside, word):
        if name in loaded.jobs:
            return name
    near = [name.partition(".")[2] for name in loaded.jobs]
    hint = report.did_you_mean(word, [*near, *loaded.jobs])
    message = f"{job.declared.base!r} waits for the job {word!r}, which does not exist"
    if word in loaded.components or beside in loaded.components:
        hint = "`after` names jobs, and this is a component"
    found.error("ORC400", message, place, hint=hint)
    return None
