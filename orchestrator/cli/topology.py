"""From a topology file to its lock and files, and the verbs that stop there.

`validate`, `build` and `schema` need no daemon. Handler code is imported in a
child process only, so that what it does at import it does not do to us.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct, structs

from orchestrator import config, files
from orchestrator.cli import diagnostics
from orchestrator.cli.session import Session
from orchestrator.config import layout as layouts
from orchestrator.config import schema as schemas
from orchestrator.errors import (
    Diagnostic,
    ExitCode,
    OrchestratorError,
    Severity,
    TopologyError,
    UsageError,
)
from orchestrator.model import units
from orchestrator.model.topology import Lock
from orchestrator.model.units import Seconds

if TYPE_CHECKING:
    from orchestrator import process

IMPORT_TIMEOUT: Seconds = 60.0
"""How long the imports of all handlers may take together."""

_DEATHS = 8
"""After how many imports that end their process the others are not looked at."""

_INSPECT = (sys.executable, "-m", "orchestrator.component.inspect")


class Wanted(Struct, frozen=True):
    """A lock that is good, and what the code of components told."""

    locked: config.Locked
    models: Mapping[str, Any]


def read(
    session: Session,
    *,
    settings: Mapping[str, str],
    settings_files: Sequence[str] = (),
    scale: Mapping[str, int] | None = None,
    running: Mapping[str, int] | None = None,
    mock: Sequence[str] = (),
    layout: bool = False,
    imports: bool,
) -> Wanted:
    """Read, check and lock the session's topology.

    `scale` and `running` are numbers of instances over those of the file; the second ones
    may name components that are not there any more. Of those in `mock` the Mock runs. With
    `layout` it is judged how the packages of services and components are laid out.

    Raises:
        TopologyError: It has mistakes; all of them are in the error.
    """
    draft = config.read(
        _shown(session.topology),
        project=session.options.project,
        settings=settings,
        settings_files=[Path(file) for file in settings_files],
        modules=module_values,
        environment=session.surroundings,
        scale=scale or {},
        running=running or {},
        mock=mock,
        keep_going=imports,
    )
    asked = [{**one, "layout": True} for one in draft.handlers] if layout else draft.handlers
    models = _models(asked) if imports else None
    if layout and models is not None:
        found = layouts.check(draft.lowered, models)
        draft = structs.replace(draft, found=(*draft.found, *found))
    locked = config.lock(draft, models)
    return Wanted(locked, models or {})


def write_first(lock: Lock) -> None:
    """Write what components may read when they start; `write` must follow."""
    files.write_files(base_dir_of(lock), config.build.needed_first(lock))


def write(session: Session, lock: Lock) -> None:
    """Write the files of every instance below the system's base directory."""
    changes = files.write_tree(base_dir_of(lock), config.build.files_of(lock))
    if session.options.verbose and (changes.written or changes.removed):
        session.screen.note(
            f"orch: {len(changes.written)} files written, {len(changes.removed)} removed "
            f"in {lock.base_dir}"
        )


def base_dir_of(lock: Lock) -> Path:
    """Return the directory in which the system keeps its files."""
    return Path(lock.base_dir)


def warn(session: Session, warnings: Sequence[Diagnostic]) -> None:
    """Print warnings on standard error."""
    if warnings:
        coloured = session.screen.err_coloured
        session.screen.note(diagnostics.text(warnings, coloured=coloured))


def _shown(path: Path) -> Path:
    """Return the path as people know it from where they are, for positions in messages."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def module_values(path: Path) -> dict[str, Any]:
    """Let a child process import a module of values, and return what that answers."""
    try:
        answers = _answers([{"name": str(path), "module": str(path)}])
    except OrchestratorError as problem:
        return {"error": {"message": str(problem)}}
    found: dict[str, Any] = answers[str(path)]
    return found


def _models(handlers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Let a child process import the handlers and tell their models, by component."""
    if not handlers:
        return {}
    # Many components may have one handler, which is imported once.
    alike: dict[str, list[str]] = {}
    for handler in handlers:
        alike.setdefault(json.dumps({**handler, "name": ""}), []).append(str(handler["name"]))
    handlers = [{**json.loads(one), "name": names[0]} for one, names in alike.items()]
    answers = _answers(handlers)
    return {name: answers[names[0]] for names in alike.values() for name in names}


def _answers(requests: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what the inspection in a child process answers, by the names of the requests.

    An import that ends the child is answered for it; another child goes on with the others.
    """
    answers: dict[str, Any] = {}
    left, why = list(requests), ""
    for _ in range(_DEATHS):
        finished = _inspected(left)
        for line in finished.stdout.splitlines():
            try:
                reply = json.loads(line)
                answers[reply["name"]] = reply
            except (ValueError, KeyError, TypeError):
                # Handler code may print while it is imported; that is its own affair.
                continue
        left = [request for request in left if request["name"] not in answers]
        if not left:
            break
        first, *left = left
        said = finished.stderr.decode(errors="replace").strip().splitlines()
        why = "; ".join((f"exit {finished.code}", *said[-1:]))
        error = {"file": None, "line": None, "message": f"its import ends the process: {why}"}
        answers[first["name"]] = {"name": first["name"], "error": error}
        if not left:
            break
    else:
        raise OrchestratorError(f"cannot read the models of {left[0]['name']}: {why}")
    return answers


def _inspected(requests: Sequence[Mapping[str, Any]]) -> process.Finished:
    from orchestrator import process  # noqa: PLC0415 - only code that is ours needs it

    lines = "".join(json.dumps(request) + "\n" for request in requests)
    try:
        return process.run(_INSPECT, input=lines.encode(), timeout=IMPORT_TIMEOUT)
    except process.Overdue as problem:
        answered = len(problem.stdout.splitlines())
        slow = requests[min(answered, len(requests) - 1)]
        what = next(slow[key] for key in ("handler", "package", "class", "module") if key in slow)
        raise OrchestratorError(
            f"cannot read the models of {slow['name']}: the import of {what} "
            f"does not end ({units.format_duration(IMPORT_TIMEOUT)}); "
            "--no-import leaves the checks out that need them"
        ) from problem


def validate(
    session: Session,
    *,
    files: tuple[str, ...],
    format: str,  # noqa: A002 - named after its option
    layout: bool,
    strict: bool,
    settings: Mapping[str, str],
    settings_files: tuple[str, ...],
    no_import: bool,
) -> int:
    """Check topology files and print every mistake; exit 1 when there is one."""
    if layout and no_import:
        raise UsageError("--layout needs what --no-import leaves out")
    found: list[Diagnostic] = []
    good = True
    is_json = session.options.json or format == "json"
    for file in files or (str(session.topology),):
        session.choose(file)
        try:
            wanted = read(
                session,
                settings=settings,
                settings_files=settings_files,
                layout=layout,
                imports=not no_import,
            )
        except TopologyError as error:
            mistakes: Sequence[Diagnostic] = error.diagnostics
            is_valid = False
        else:
            mistakes = wanted.locked.warnings
            is_valid = not (strict and mistakes)
        found.extend(mistakes)
        good = good and is_valid
        if not is_json:
            _tell(session, mistakes, file, is_valid=is_valid)
    if is_json:
        session.screen.json([diagnostics.plain(one) for one in found])
    return ExitCode.DONE if good else ExitCode.FAILED


def _tell(session: Session, mistakes: Sequence[Diagnostic], file: str, *, is_valid: bool) -> None:
    if mistakes:
        session.screen.data(diagnostics.text(mistakes, coloured=session.screen.out_coloured))
    shown = _shown(Path(file).absolute())
    if is_valid:
        session.screen.note(f"{shown}: valid")
        return
    warnings = sum(one.severity is Severity.WARNING for one in mistakes)
    counts = _count(len(mistakes) - warnings, "mistake"), _count(warnings, "warning")
    session.screen.note(f"orch: {shown}: {', '.join(filter(None, counts))}")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' if number != 1 else ''}" if number else ""


def build(
    session: Session,
    *,
    output: str | None,
    check: bool,
    diff: bool,
    settings: Mapping[str, str],
    settings_files: tuple[str, ...],
    no_import: bool,
) -> int:
    """Write the files of every instance, or tell how the ones that are there differ."""
    wanted = read(session, settings=settings, settings_files=settings_files, imports=not no_import)
    warn(session, wanted.locked.warnings)
    lock = wanted.locked.lock
    root = Path(output) if output is not None else base_dir_of(lock)
    tree = config.build.files_of(lock)
    if check or diff:
        differences = files.compare_tree(root, tree)
        for one in differences:
            session.screen.note(f"orch: {root / one.path} is {one.kind}")
            if diff:
                session.screen.data(one.diff.rstrip("\n"))
        return ExitCode.FAILED if check and differences else ExitCode.DONE
    changes = files.write_tree(root, tree)
    for directory in config.build.directories_of(lock, wanted.locked.configured):
        files.make_dir(root / directory)
    session.screen.note(
        f"orch: {root}: {len(changes.written)} written, {len(changes.unchanged)} unchanged, "
        f"{len(changes.removed)} removed"
    )
    return ExitCode.DONE


def schema(session: Session, *, which: str) -> int:
    """Print one of the JSON Schemas."""
    session.screen.data(schemas.text(which).rstrip("\n"))
    return ExitCode.DONE
