"""How the packages of services and components are laid out: `orch validate --layout`.

    shop/                    a service: a package with `__service__.md`
        __service__.md       says where its components are
        admin/               its configuration: conf.py, settings.py, commands.py
        api/                 a component: a package with `__component__.py`
            __init__.py      exposes CONF, CONFIGURATION, Client and Mock
            __component__.py

Nothing is imported here: files are read, and Python is parsed. That an import has no effects is
found out by the inspection, which does import.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from orchestrator.config import report
from orchestrator.config.components import Lowered
from orchestrator.config.report import Place
from orchestrator.config.source import Source, Span
from orchestrator.errors import Diagnostic, Related, Severity

SERVICE_MARKERS = ("__service__.md", "service.md")
COMPONENT_MARKERS = ("__component__.py", "component.py")
EXPOSED = ("CONF", "CONFIGURATION", "Client", "Mock")
ADMIN = ("conf.py", "settings.py", "commands.py")
_ELSEWHERE = (*ADMIN, "config.py", "configuration.py")
"""What looks like the configuration of a service, and then belongs into `admin`."""


class _Component(Struct, frozen=True):
    """A component's package: its dotted name, its directory, and where the topology names it."""

    lowered: Lowered
    package: str
    directory: Path
    place: Place

    @property
    def service(self) -> Path:
        """The directory of the service's package."""
        return self.directory.parent


def check(lowered: Mapping[str, Lowered], models: Mapping[str, Any]) -> list[Diagnostic]:
    """Judge the packages of a topology's components.

    Args:
        lowered: The components.
        models: What the inspection told of each; a component that it could not load is left out.
    """
    return list(_Layout().check(lowered, models))


class _Layout:
    """One check; files are read once."""

    def __init__(self) -> None:
        self.sources: dict[Path, Source | None] = {}

    def check(
        self, lowered: Mapping[str, Lowered], models: Mapping[str, Any]
    ) -> Iterator[Diagnostic]:
        found: dict[Path, _Component] = {}
        for base, component in lowered.items():
            file = models.get(base, {}).get("file")
            if component.package is None or not file:
                continue
            place = component.declared.at("package")
            one = _Component(
                component, component.package.partition(":")[0], Path(file).parent, place
            )
            if Path(file).name not in COMPONENT_MARKERS or "." not in one.package:
                yield self.no_package(one)
                continue
            found.setdefault(one.directory, one)
            yield from self.effects(models[base].get("effects") or ())
        for one in found.values():
            yield from self.component(one)
        services: dict[Path, list[_Component]] = {}
        for one in found.values():
            services.setdefault(one.service, []).append(one)
        for directory, members in services.items():
            yield from self.service(directory, members)

    def no_package(self, one: _Component) -> Diagnostic:
        """Report a component that is no package within a service's."""
        message = f"{one.package!r} is no package with {COMPONENT_MARKERS[0]} within a service's"
        hint = f"such as {one.lowered.declared.service}.{one.lowered.declared.component}"
        source = one.place.source
        return source.diagnostic("ORC467", message, one.place.span(), hint=hint)

    def effects(self, effects: Iterable[Mapping[str, Any]]) -> Iterator[Diagnostic]:
        """Report what importing a package does."""
        for effect in effects:
            source = self.source(Path(str(effect["file"])))
            if source is not None:
                message = f"importing this {effect['what']}"
                hint = "do that when the component runs, in run() or initialize()"
                yield _at_line(source, int(effect["line"]), "ORC466", message, hint=hint)

    # ------------------------------------------------------------- a component

    def component(self, one: _Component) -> Iterator[Diagnostic]:
        markers = [name for name in COMPONENT_MARKERS if (one.directory / name).is_file()]
        if len(markers) > 1:
            message = f"{one.package} has {markers[0]} and {markers[1]}; the first one counts"
            source = self.source(one.directory / markers[1])
            if source is not None:
                yield _at_line(source, 1, "ORC467", message, severity=Severity.WARNING)
        for name in ADMIN[1:]:
            yield from self.misplaced(one.directory / name, one.service)
        yield from self.exposed(one)

    def exposed(self, one: _Component) -> Iterator[Diagnostic]:
        """Report what a component's package exposes beside what it may."""
        source = self.source(one.directory / "__init__.py")
        tree = _parsed(source)
        if source is None or tree is None:
            return
        for name, node in _public(tree, one.directory):
            if name not in (*EXPOSED, "COMPONENT"):
                yield _at_node(
                    source,
                    node,
                    "ORC462",
                    f"the component {one.package} exposes {name!r}",
                    hint=f"it exposes {report.listed(EXPOSED)} only; _{name} would be private",
                )

    # ------------------------------------------------------------- a service

    def service(self, directory: Path, members: list[_Component]) -> Iterator[Diagnostic]:
        yield from self.marker(directory, members)
        admin = directory / "admin"
        if admin.is_dir():
            yield from self.admin(admin, members[0])
        for name in _ELSEWHERE:
            yield from self.misplaced(directory / name, directory)
        known = {one.directory for one in members}
        for marker in COMPONENT_MARKERS[:1]:
            for path in sorted(directory.glob(f"*/{marker}")):
                source = self.source(path)
                if path.parent not in known and source is not None:
                    message = (
                        f"no component of the topology is {directory.name}.{path.parent.name}"
                    )
                    yield _at_line(source, 1, "ORC467", message, severity=Severity.WARNING)
        for path in sorted(directory.rglob("*.py")):
            if not {"__pycache__", "tests", "migrations"}.intersection(path.parts):
                yield from self.imports(path, directory, members)

    def marker(self, directory: Path, members: list[_Component]) -> Iterator[Diagnostic]:
        """Report a service without its file, and components that the file does not mention."""
        file = next((directory / n for n in SERVICE_MARKERS if (directory / n).is_file()), None)
        first = members[0]
        if file is None or not (directory / "__init__.py").is_file():
            missing = SERVICE_MARKERS[0] if file is None else "__init__.py"
            message = f"the service package {directory.name!r} has no {missing}"
            hint = f"{SERVICE_MARKERS[0]} says where its components are, the public one above all"
            if file is not None:
                hint = "a service is a package"
            source = first.place.source
            yield source.diagnostic("ORC460", message, first.place.span(), hint=hint)
        text = None if file is None else self.source(file)
        if text is None:
            return
        for one in members:
            names = {one.lowered.declared.component, one.directory.name}
            if not any(re.search(rf"(?<![\w-]){re.escape(n)}(?![\w-])", text.text) for n in names):
                yield _at_line(
                    text,
                    1,
                    "ORC461",
                    f"{text.path.name} does not mention the component "
                    f"{one.lowered.declared.component!r}",
                    severity=Severity.WARNING,
                    related=(one.place.related("it is declared here"),),
                )

    def admin(self, admin: Path, first: _Component) -> Iterator[Diagnostic]:
        """Report files of an admin package that are not called as they should be."""
        if not (admin / "__init__.py").is_file():
            message = f"{admin.parent.name}/admin is no package: it has no __init__.py"
            place = first.place
            yield place.source.diagnostic("ORC463", message, place.span())
        for path in sorted(admin.glob("*.py")):
            source = self.source(path)
            if path.name in ADMIN or path.name.startswith("_") or source is None:
                continue
            message = f"{path.name} is no file of an admin package"
            hint = report.known(path.name, ADMIN)
            yield _at_line(source, 1, "ORC463", message, severity=Severity.WARNING, hint=hint)

    def misplaced(self, path: Path, service: Path) -> Iterator[Diagnostic]:
        """Report a file of the service's configuration outside of its admin package."""
        source = self.source(path) if path.is_file() else None
        if source is not None:
            name = path.name if path.name in ADMIN else "conf.py"
            message = f"the configuration of the service {service.name!r} belongs into its admin"
            hint = f"move it to {service.name}/admin/{name}"
            yield _at_line(source, 1, "ORC464", message, severity=Severity.WARNING, hint=hint)

    def imports(
        self, path: Path, service: Path, members: list[_Component]
    ) -> Iterator[Diagnostic]:
        """Report imports of what another package does not expose."""
        source = self.source(path)
        tree = _parsed(source)
        if source is None or tree is None:
            return
        home = next((one for one in members if one.directory in path.parents), None)
        for node in ast.walk(tree):
            for module, name in _imported(node, path, service.parent):
                other = self.inside(module, service, home, members)
                is_private = name.startswith("_") and not name.startswith("__")
                if other is None or (module == other and not is_private):
                    continue
                what = module if module != other else f"{module}.{name}"
                yield _at_node(
                    source,
                    node,
                    "ORC465",
                    f"{what} is not exposed by the package {other}",
                    hint=f"import it from {other}, whose __init__ says what is public",
                )

    @staticmethod
    def inside(
        module: str, service: Path, home: _Component | None, members: list[_Component]
    ) -> str | None:
        """Return the package of another owner that a module is or belongs to."""
        for one in members:
            if module == one.package or module.startswith(f"{one.package}."):
                is_marker = f"{module.rpartition('.')[2]}.py" in COMPONENT_MARKERS
                is_own = home is not None and home.directory == one.directory
                return None if is_own or is_marker else one.package
        top = module.partition(".")[0]
        if top == service.name or not (service.parent / top / "__init__.py").is_file():
            return None
        return top

    # ------------------------------------------------------------- small parts

    def source(self, path: Path) -> Source | None:
        """Return a file as a source of diagnostics; None when it cannot be read."""
        if path not in self.sources:
            try:
                text = path.read_text(encoding="utf-8")
                self.sources[path] = Source(report.shown_path(str(path)), path, text)
            except (OSError, UnicodeDecodeError):
                self.sources[path] = None
        return self.sources[path]


def _public(tree: ast.Module, directory: Path) -> Iterator[tuple[str, ast.AST]]:
    """Yield the names that a package's `__init__` exposes, with where each is bound."""
    bound: dict[str, ast.AST] = {}
    every: list[str] | None = None
    for node in tree.body:
        for name in _bound(node):
            bound[name] = node
        if isinstance(node, ast.Assign) and "__all__" in _bound(node):
            try:
                every = [str(one) for one in ast.literal_eval(node.value)]
            except (ValueError, TypeError):
                every = None
            for name in every or ():
                bound.setdefault(name, node)
    for name, place in bound.items():
        is_module = (directory / f"{name}.py").is_file() or (directory / name).is_dir()
        if every is not None:
            if name in every:
                yield name, place
        elif not name.startswith("_") and not is_module:
            yield name, place


def _bound(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.ImportFrom):
        if node.module == "__future__":
            return []
        return [alias.asname or alias.name for alias in node.names]
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return [node.name]
    targets: list[ast.expr] = []
    if isinstance(node, ast.Assign):
        targets = node.targets
    elif isinstance(node, ast.AnnAssign):
        targets = [node.target]
    return [one.id for target in targets for one in ast.walk(target) if isinstance(one, ast.Name)]


def _imported(node: ast.AST, path: Path, root: Path) -> Iterator[tuple[str, str]]:
    """Yield the modules that a statement imports, each with the name taken from it, if any."""
    if isinstance(node, ast.Import):
        yield from ((alias.name, "") for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        module = node.module or ""
        if node.level:
            parts = path.parent.relative_to(root).parts
            around = parts[: len(parts) - node.level + 1]
            module = ".".join((*around, *filter(None, [module])))
        for alias in node.names:
            place = root.joinpath(*module.split("."), alias.name)
            is_module = place.with_suffix(".py").is_file() or place.is_dir()
            yield (f"{module}.{alias.name}", "") if is_module else (module, alias.name)


def _parsed(source: Source | None) -> ast.Module | None:
    if source is None:
        return None
    try:
        return ast.parse(source.text)
    except (SyntaxError, ValueError):
        return None


def _at_line(
    source: Source, line: int, code: str, message: str, *, severity: Severity = Severity.ERROR,
    hint: str = "", related: tuple[Related, ...] = (),
) -> Diagnostic:  # fmt: skip
    starts = source.starts()
    line = min(max(line, 1), len(starts))
    text = source.excerpt(line)
    start = starts[line - 1] + len(text) - len(text.lstrip())
    span = Span(start, start + len(text.strip()))
    return source.diagnostic(code, message, span, severity=severity, hint=hint, related=related)


def _at_node(source: Source, node: ast.AST, code: str, message: str, *, hint: str) -> Diagnostic:
    line = getattr(node, "lineno", 1)
    return _at_line(source, line, code, message, severity=Severity.WARNING, hint=hint)
