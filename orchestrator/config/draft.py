"""From a topology file to a draft: everything that can be known without the handlers' code."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from orchestrator.config import (
    addresses,
    bus,
    checks,
    groups,
    jobs,
    listening,
    load,
    paths,
    report,
    source,
    surroundings,
    wiring,
)
from orchestrator.config.addresses import Table
from orchestrator.config.components import Lowered, Lowering
from orchestrator.config.configurations import ANY
from orchestrator.config.document import Document
from orchestrator.config.report import Place, Report
from orchestrator.config.settings import Given
from orchestrator.config.settings import shown as shown_settings
from orchestrator.config.valuesfile import Modules
from orchestrator.errors import Diagnostic, UsageError
from orchestrator.model import names
from orchestrator.model.topology import Group


class Draft(Struct, frozen=True):
    """A topology that was read; `lock` makes a Lock of it.

    `handlers` are the requests for the inspection of handlers' models and of service classes;
    `files` is every file that was read, as it is shown. `found` are warnings,
    and mistakes too where `read` was to keep going; then it may lack what was at fault.
    """

    found: tuple[Diagnostic, ...]
    handlers: tuple[dict[str, Any], ...]
    files: tuple[str, ...]
    name: str
    key: str
    topology: Path
    base_dir: Path
    runtime_dir: Path
    document: Document
    lowered: Mapping[str, Lowered]
    groups: Mapping[str, Group]
    jobs: Mapping[str, jobs.LoweredJob]
    table: Table
    ends: tuple[wiring.End, ...]
    mentioned: frozenset[str]
    store: str
    mirror: str | None
    environment: Mapping[str, str]
    overrides: Mapping[str, str]


def read(
    path: Path,
    *,
    environment: Mapping[str, str],
    project: str | None = None,
    settings: Mapping[str, str] | None = None,
    settings_files: Sequence[Path] = (),
    modules: Modules | None = None,
    scale: Mapping[str, int] | None = None,
    running: Mapping[str, int] | None = None,
    mock: Sequence[str] = (),
    keep_going: bool = False,
) -> Draft:
    """Read a topology with its includes and check all that needs no handler code.

    Args:
        path: The topology file; a relative path is shown in diagnostics as it is given.
        environment: The caller's environment: for `${NAME}` and for what components inherit.
        project: Tells systems from the same file apart; names the system, when given.
        settings: Values of settings, as texts, from the command line; and of configurations,
            by `service.component.key`.
        settings_files: Files of settings, over those that the topology names.
        modules: Tells what Python files of settings and configurations give; without it
            they are mistakes.
        scale: Numbers of instances by component, over those of the file.
        running: The same by full name, for what `scale` does not name; names that the file
            does not have are passed over.
        mock: The components, or services, of which the Mock runs in the component's place.
        keep_going: Leave the mistakes to `lock`, which raises them with those that it finds.

    Raises:
        TopologyError: The topology has mistakes; it carries all of them, and the warnings.
        UsageError: `project`, `settings`, `scale` or `mock` ask for what cannot be.
    """
    if project is not None and not names.is_name(project):
        raise UsageError(
            f"cannot use {project!r} as a project: "
            "use lower-case letters, digits and inner hyphens"
        )
    with source.collector_off():
        counts = scale or {}, running or {}
        texts = settings or {}
        overrides = {name: text for name, text in texts.items() if "." in name}
        plain = {name: text for name, text in texts.items() if name not in overrides}
        given = Given(plain, tuple(settings_files), modules, overrides)
        draft = _read(path, dict(environment), project, given, counts, mock=mock)
    if not keep_going:
        Report(list(draft.found)).finish(draft.files)
    return draft


def _read(
    path: Path, environment: Mapping[str, str], project: str | None, given: Given,
    counts: tuple[Mapping[str, int], Mapping[str, int]], *, mock: Sequence[str],
) -> Draft:  # fmt: skip
    found = Report()
    loaded = load.load(path, given=given, environment=environment, found=found)
    complete = not found.has_errors()
    runtime_dir = paths.runtime_dir(path, project, environment)
    table = addresses.table(
        loaded.addresses,
        key=paths.key(path, project),
        runtime_dir=str(runtime_dir),
        texts=[one.text for one in loaded.sources],
        whole=(loaded.root, loaded.top["curve"]) if "curve" in loaded.top else None,
        found=found,
    )
    scale, running = counts
    numbers = {**running, **_scaled(loaded, scale, complete=complete)}
    lowering = Lowering(environment, found, given.modules, loaded.packages)
    lowered = {
        base: lowering.lower(declared, numbers.get(base))
        for base, declared in loaded.components.items()
        if isinstance(declared.owner.value, dict)
    }
    _mocked(lowered, mock)
    checks.presence(loaded, [one.file for one in loaded.sources if one.value is None], found)
    checks.effects(loaded, lowered, found)
    options = ((component.declared, component.options) for component in lowered.values())
    listening.check(options, table, found)
    mentioned = checks.references(loaded, table, found)
    before = len(found.found)
    ends = wiring.ends(lowered, table, found)
    for made in bus.components(ends, lowered, table, lowering, found):
        lowered[made.base] = made
        ends.extend(bus.ends(made, table))
    complete = complete and not table.broken and len(found.found) == before
    checks.dependencies(loaded, lowered, found)
    restarted = groups.lower(loaded, lowered, found)
    ending = jobs.lower(loaded, lowering, found)
    wiring.check_shape(ends, table, mentioned, complete=complete, found=found)
    surroundings.check_entries(loaded, found)
    store = surroundings.store(loaded, found)
    mirror = jobs.mirror(loaded, found)
    base_dir = paths.base_dir(path, loaded.top.get("base_dir"), project)
    _check_base_dir(base_dir, loaded, found)
    return Draft(
        found=tuple(found.found),
        handlers=(
            *(
                _request(component, loaded, base_dir)
                for component in lowered.values()
                if (component.handler or component.package or component.service_class)
                and not component.bus
            ),
            *surroundings.requests(loaded),
        ),
        files=loaded.files,
        name=project or loaded.name,
        key=table.key,
        topology=Path(os.path.realpath(path)),
        base_dir=base_dir,
        runtime_dir=runtime_dir,
        document=loaded,
        lowered=lowered,
        groups=restarted,
        jobs=ending,
        table=table,
        ends=tuple(ends),
        mentioned=mentioned,
        store=store,
        mirror=mirror,
        environment=environment,
        overrides=given.overrides,
    )


def _check_base_dir(base_dir: Path, loaded: Document, found: Report) -> None:
    """Report a base directory that is there and cannot be one."""
    try:
        if base_dir.is_dir():
            with os.scandir(base_dir):
                return
        if not base_dir.exists():
            return
        reason = "it is no directory"
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
    place = Place(loaded.root, loaded.top, "base_dir")
    message = f"cannot use {base_dir} for what is built: {reason}"
    hint = "write another base_dir, or move what is there away"
    found.error("ORC438", message, place, hint=hint)


def _request(component: Lowered, loaded: Document, base_dir: Path) -> dict[str, Any]:
    """Return what the inspection is asked of a component's code."""
    packages = {
        name: entry.value.get("conf") if isinstance(entry.value, dict) else None
        for name, entry in loaded.packages.items()
    }
    asked: dict[str, Any] = {"base_dir": str(base_dir), "packages": packages}
    path = list(component.python_path)
    if component.package is not None:
        asked |= {
            "service": component.declared.service,
            "component": [component.own_name(number + 1) for number in range(component.replicas)],
            "settings": shown_settings(loaded.settings),
        }
        request = {"name": component.base, "package": component.package, "python_path": path}
        return {**request, "configure": asked}
    # What packages declare does not depend on who uses them: equal handlers are read once.
    more = {"configure": {**asked, "service": "", "component": [ANY]}} if packages else {}
    if component.service_class is not None:
        request = {"name": component.base, "class": component.service_class, "python_path": path}
        return {**request, **more}
    return {
        "name": component.base,
        "handler": component.handler,
        "python_path": path,
        "mode": str(component.mode),
        **more,
    }


def _mocked(lowered: Mapping[str, Lowered], words: Sequence[str]) -> None:
    """Let the Mock of components run in their place.

    Raises:
        UsageError: A word means no component, or one that is no package.
    """
    for word in words:
        meant = [
            one
            for base, one in lowered.items()
            if word in {base, one.declared.service, one.declared.component}
        ]
        packages = [one for one in meant if one.package is not None]
        if not meant:
            hint = report.did_you_mean(word, lowered)
            message = f"cannot mock {word!r}: there is no such component; {hint}"
            raise UsageError(message.rstrip("; "))
        if not packages:
            raise UsageError(f"cannot mock {word!r}: it is no package, so it has no Mock")
        for one in packages:
            one.package = f"{str(one.package).partition(':')[0]}:Mock"


def _scaled(loaded: Document, scale: Mapping[str, int], *, complete: bool) -> dict[str, int]:
    """Return the numbers of instances by full component name.

    Raises:
        UsageError: A name means no component, or several; or a number is below 1.
    """
    numbers: dict[str, int] = {}
    for word, number in scale.items():
        meant = [base for base in loaded.components if word in {base, base.partition(".")[2]}]
        if len(meant) > 1 and word not in meant:
            raise UsageError(f"cannot scale {word!r}: it may be {report.listed(meant)}; name one")
        if not meant:
            if not complete:
                continue
            known = [*loaded.components, *(one.partition(".")[2] for one in loaded.components)]
            hint = report.did_you_mean(word, known)
            raise UsageError(
                f"cannot scale {word!r}: there is no such component; {hint}".rstrip("; ")
            )
        if number < 1:
            raise UsageError(f"cannot scale {word!r} to {number}: at least 1 instance runs")
        numbers[word if word in meant else meant[0]] = number
    return numbers
