"""The code of users around a run: found, loaded, and kept as it was when the run was submitted.

A *snapshot* is a directory of copies, each below `tree` at the path of its original:

    SNAPSHOTS/DIGEST/tree/home/lab/handlers/sim_handler.py

Modules of a run are compiled from the copies under the names of the originals: `__file__`,
tracebacks and data files beside the code are where their author expects them, but what is run is
what was submitted, whatever has happened to the files since. The digest is of paths and contents,
so the same code is kept once.

What is kept are the modules below the roots (the directories of service and handler, that of the
topology, and the Python path) that importing the hooks has loaded; the rest of their packages,
and the neighbours of a single file, for they may be imported later. Installed libraries are not.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import inspect
import linecache
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from orchestrator.component import loader
from orchestrator.component.errors import SetupError
from orchestrator.component.runs import hooks
from orchestrator.component.runs.templates import (
    ServiceParamTemplate,
    ServiceProgramTemplate,
    WatcherHandler,
)
from orchestrator.model import jobs

TREE = "tree"
Stamp = tuple[int, int, int]
NEIGHBOURS = 200
"""How many modules beside a single file are kept at most."""
PACKAGE = 2000
"""How many modules of one package are kept at most."""

_NOT_OURS = frozenset({"__pycache__", "site-packages", "dist-packages", "node_modules"})


@dataclass(frozen=True, slots=True)
class Kind:
    """What service and handler differ in.

    Attributes:
        hooks: Their names, and what each is called with.
    """

    name: str
    base: type
    suffix: str
    place: str
    hooks: Mapping[str, tuple[str, ...]]


SERVICE = Kind(
    "service",
    ServiceProgramTemplate,
    "Service",
    jobs.SERVICE_PLACE,
    {"build": (), "prepare_input_file": ()},
)
HANDLER = Kind(
    "handler",
    WatcherHandler,
    "Handler",
    jobs.HANDLER_PLACE,
    {
        "before_watch_callback": ("instance",),
        "file_change_callback": ("file_list", "instance"),
        "after_watch_callback": ("file_list", "instance"),
    },
)


@dataclass(frozen=True, slots=True)
class Hooks:
    """What has the hooks: a class, or a module with plain functions."""

    kind: Kind
    target: Any
    spec: str
    """Where it is: `FILE:CLASS` or `MODULE:CLASS`; a module alone for functions."""

    @property
    def names(self) -> tuple[str, ...]:
        """The hooks that its author wrote."""
        inherited = vars(self.kind.base)
        return tuple(
            name
            for name in self.kind.hooks
            if (hook := getattr(self.target, name, None)) and hook is not inherited.get(name)
        )

    def made(self, template: ServiceParamTemplate) -> Any:
        """Return an instance, made with the template if it asks for one."""
        if not isinstance(self.target, type):
            return self.target
        asked = list(inspect.signature(self.target).parameters.values())
        first = asked[0] if asked else None
        wants = first is not None and (
            first.name in ("param_template", "template")
            or (first.default is first.empty and first.kind in _POSITIONAL)
        )
        return self.target(template) if wants else self.target()


@dataclass(frozen=True, slots=True)
class Code:
    """What users wrote for a job."""

    service: Hooks | None
    handler: Hooks | None
    template: type[ServiceParamTemplate]

    @property
    def is_one(self) -> bool:
        """Whether service and handler are the same class."""
        one, other = self.service, self.handler
        return one is not None and other is not None and one.target is other.target


class Sources:
    """The sources of modules: as their files are now, or as a snapshot has them.

    Args:
        roots: Directories below which modules are the user's.
        snapshot: Where copies are; None for the files themselves.
    """

    def __init__(self, roots: Sequence[Path], snapshot: Path | None = None) -> None:
        both = dict.fromkeys(str(one) for root in roots for one in (root, root.resolve()))
        self.roots = tuple(f"{root.rstrip('/')}/" for root in both)
        self.taken: dict[str, bytes] = {}
        """By path: what was compiled."""
        self.stamps: dict[str, Stamp] = {}
        """By path: time, size and inode of each file that was read, as it was then."""
        self._tree = f"{snapshot}/{TREE}" if snapshot else None

    def is_ours(self, path: str) -> bool:
        """Tell whether a file is the user's own code."""
        return path.startswith(self.roots) and _NOT_OURS.isdisjoint(path.split("/"))

    def is_file(self, path: str) -> bool:
        """Tell whether there is a module at a path, in the snapshot or else as a file."""
        return self.is_kept(path) or os.path.isfile(path)  # noqa: PTH113 - hot

    def is_kept(self, path: str) -> bool:
        """Tell whether the snapshot has a file."""
        return self._tree is not None and os.path.isfile(self._tree + path)  # noqa: PTH113

    def read(self, path: str, file: str) -> bytes:
        """Return what a file holds, and remember which one that was."""
        with open(file, "rb") as opened:  # noqa: PTH123 - the stamp is of what is read
            status = os.fstat(opened.fileno())
            self.stamps[path] = (status.st_mtime_ns, status.st_size, status.st_ino)
            return opened.read()

    def code(self, path: str) -> CodeType:
        """Return the code of a module."""
        is_kept = self.is_kept(path)
        data = self.taken[path] = self.read(path, f"{self._tree}{path}" if is_kept else path)
        if is_kept:
            # So that a traceback shows the lines that ran, and not those of a later edit.
            lines = data.decode(errors="replace").splitlines(keepends=True)
            linecache.cache[path] = (len(data), None, lines, path)
        compiled: CodeType = compile(data, path, "exec", dont_inherit=True)
        return compiled

    # The finder of sys.meta_path.

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the spec of a module of the user's; None leaves it to the next finder."""
        del target
        tail = fullname.rpartition(".")[2]
        if self._tree is not None:
            for entry in sys.path if path is None else path:
                for file, is_package in (
                    (f"{entry}/{tail}/__init__.py", True),
                    (f"{entry}/{tail}.py", False),
                ):
                    if self.is_kept(file):
                        return self.spec(fullname, file, is_package=is_package)
        found = importlib.machinery.PathFinder.find_spec(fullname, path)
        if found is None or not found.origin or not self.is_ours(found.origin):
            return None
        if type(found.loader) is not importlib.machinery.SourceFileLoader:
            return None
        return self.spec(fullname, found.origin, is_package=bool(found.submodule_search_locations))

    def spec(
        self, fullname: str, file: str, *, is_package: bool
    ) -> importlib.machinery.ModuleSpec:
        """Return the spec of a module at a path."""
        found = importlib.util.spec_from_file_location(
            fullname,
            file,
            loader=_Loader(fullname, file, self),
            submodule_search_locations=[os.path.dirname(file)] if is_package else None,  # noqa: PTH120
        )
        assert found is not None
        return found


class _Loader(importlib.machinery.SourceFileLoader):
    """Compiles what the sources have, and leaves no .pyc behind."""

    def __init__(self, fullname: str, path: str, sources: Sources) -> None:
        super().__init__(fullname, path)
        self._sources = sources

    def get_code(self, fullname: str) -> CodeType:
        """Return the code of the module."""
        return self._sources.code(self.get_filename(fullname))


def load(
    base: Path,
    python_path: Sequence[str],
    service: str | None,
    handler: str | None,
    snapshot: Path | None = None,
) -> tuple[Code, Sources]:
    """Import the hooks of a job, and return them with the sources that were read for it.

    What is imported stays imported: this is for a process that does nothing else.

    Args:
        base: What relative paths are relative to: the directory of the topology.
        python_path: Directories to find modules in, before all others.
        service: Where the service is: `FILE`, `FILE:CLASS`, `MODULE`, `MODULE:CLASS`; or None.
        handler: Where the handler is, likewise.
        snapshot: The directory with copies to load instead of the files.

    Raises:
        SetupError: They cannot be imported, or are not there; names file and line.
    """
    base, python_path = Path(os.path.normpath(base)), [*map(os.path.normpath, python_path)]
    given = [(kind, spec) for kind, spec in ((SERVICE, service), (HANDLER, handler)) if spec]
    homes = [
        Path(os.path.normpath(base / path)).parent
        for path, _ in map(_parts, (spec for _, spec in given))
        if loader.is_path(path)
    ]
    sources = Sources([*homes, base, *map(Path, python_path)], snapshot)
    sys.meta_path.insert(0, sources)
    for entry in reversed(python_path):
        if entry not in sys.path:
            sys.path.insert(0, entry)
    # Behind all others, so that a neighbour named like a library does not hide it.
    sys.path += [entry for entry in map(str, (*homes, base)) if entry not in sys.path]
    modules: dict[str, ModuleType] = {}
    found = {kind.name: _hooks(kind, spec, base, sources, modules) for kind, spec in given}
    templates = [
        one
        for module in modules.values()
        for one in _classes(module)
        if issubclass(one, ServiceParamTemplate) and one is not ServiceParamTemplate
    ]
    template = templates[0] if len(set(templates)) == 1 else ServiceParamTemplate
    return Code(found.get("service"), found.get("handler"), template), sources


def conventional(kind: Kind, base: Path, names: Sequence[str]) -> str | None:
    """Return where a service or handler is when nobody says it: by the name of the job."""
    for name in names:
        path = base / kind.place.format(name)
        if path.is_file():
            return str(path)
    return None


# ---------------------------------------------------------------- snapshots


def keep(sources: Sources, snapshots: Path) -> tuple[str, Path]:
    """Copy the code that was loaded into a snapshot; return its digest and its directory.

    Raises:
        OSError: It cannot be written; nothing of it is there.
    """
    kept = dict(sources.taken)
    for path in _others(sources):
        if path not in kept:
            with suppress(OSError):  # It is gone again, or nobody may read it.
                kept[path] = sources.read(path, path)
    # Whoever keeps code imports these two; whoever runs what was kept needs neither.
    digest = importlib.import_module("hashlib").sha256()
    for path, data in sorted(kept.items()):
        digest.update(f"{path}\0{len(data)}\0".encode() + data)
    name: str = digest.hexdigest()[:32]
    target = snapshots / name
    if not target.is_dir():
        _write(kept, snapshots, target)
    return name, target


def _write(kept: Mapping[str, bytes], snapshots: Path, target: Path) -> None:
    new = snapshots / f".{target.name}.{os.getpid()}.new"
    try:
        for path, data in kept.items():
            copy = Path(f"{new}/{TREE}{path}")
            copy.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            copy.write_bytes(data)
            copy.chmod(0o644)  # A run may be another user's.
        (new / TREE).mkdir(mode=0o755, parents=True, exist_ok=True)
        try:
            new.rename(target)
        except OSError:
            if not target.is_dir():  # Another was quicker: it holds the same.
                raise
    finally:
        importlib.import_module("shutil").rmtree(new, ignore_errors=True)


def _others(sources: Sources) -> Iterator[str]:
    """Yield the modules that may be imported later: of packages, and beside single files."""
    directories = {os.path.dirname(path) for path in sources.taken}  # noqa: PTH120
    packages = {one for one in directories if f"{one}/__init__.py" in sources.taken}
    for directory in sorted(directories - packages):
        names = sorted(name for name in os.listdir(directory) if name.endswith(".py"))  # noqa: PTH208
        yield from (f"{directory}/{name}" for name in names[:NEIGHBOURS])
    for package in sorted(packages):
        count = 0
        for directory, inner, names in os.walk(package):
            inner[:] = [name for name in inner if name not in _NOT_OURS and name[0] != "."]
            for name in names:
                if name.endswith(".py") and count < PACKAGE:
                    count += 1
                    yield f"{directory}/{name}"


# ------------------------------------------------------------------ finding


_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def _parts(spec: str) -> tuple[str, str]:
    """Return file or module, and the class; empty when none is named."""
    where, colon, name = spec.rpartition(":")
    return (where, name) if colon else (spec, "")


def _hooks(
    kind: Kind, spec: str, base: Path, sources: Sources, modules: dict[str, ModuleType]
) -> Hooks:
    where, wanted = _parts(spec)
    if where not in modules:
        with _located(kind, where):
            modules[where] = _module(kind, where, base, sources)
    module = modules[where]
    stem = (base / where).stem if loader.is_path(where) else where.rpartition(".")[2]
    target = _wanted(kind, where, module, wanted) if wanted else _named(kind, where, module, stem)
    named = f"{where}:{target.__name__}" if isinstance(target, type) else where
    found = Hooks(kind, target, named)
    mistakes = [mistake for name in found.names if (mistake := _misfit(kind, target, name))]
    if mistakes:
        raise SetupError(mistakes)
    return found


def _module(kind: Kind, where: str, base: Path, sources: Sources) -> ModuleType:
    if not loader.is_path(where):
        return importlib.import_module(where)
    file = os.path.normpath(base / where)
    is_package = os.path.isdir(file)  # noqa: PTH112
    if is_package:
        file = f"{file}/__init__.py"
    if not sources.is_file(file):
        raise SetupError(f"cannot load the {kind.name} {base / where}: there is no such file")
    for module in list(sys.modules.values()):
        if getattr(module, "__file__", None) == file:
            return module  # The other of the two has imported it.
    stem = Path(file).parent.name if is_package else Path(file).stem
    spec = sources.spec(loader.module_name(stem), file, is_package=is_package)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    assert spec.loader is not None
    spec.loader.exec_module(module)
    return module


def _classes(module: ModuleType) -> list[type]:
    """Return the classes of a module, its own first; not those that are ours."""
    found = [one for one in vars(module).values() if isinstance(one, type)]
    found = [one for one in found if not one.__module__.startswith("orchestrator.")]
    return sorted(dict.fromkeys(found), key=lambda one: one.__module__ != module.__name__)


def _wanted(kind: Kind, where: str, module: ModuleType, wanted: str) -> Any:
    target = getattr(module, wanted, None)
    if isinstance(target, type):
        return target
    there = ", ".join(one.__name__ for one in _classes(module)) or "none"
    raise SetupError(
        f"cannot find the {kind.name} in {where}: no class {wanted!r}; there are: {there}"
    )


def _named(kind: Kind, where: str, module: ModuleType, stem: str) -> Any:
    """Return the class by its name, its base or its hooks; the module when it has the hooks."""
    expected = _plain_name(stem).removesuffix(kind.name) + kind.name
    classes = _classes(module)
    own = [one for one in classes if one.__module__ == module.__name__]
    ways: tuple[Callable[[type], bool], ...] = (
        lambda one: _plain_name(one.__name__) == expected,
        lambda one: issubclass(one, kind.base),
        lambda one: any(hasattr(one, name) for name in kind.hooks),
    )
    for way, among in zip(ways, (classes, own, own), strict=True):
        found = [one for one in among if way(one)]
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(one.__name__ for one in found)
            raise SetupError(
                f"cannot tell which class is the {kind.name} in {where}: {names}; "
                f"name it as {where}:{found[0].__name__}"
            )
    if any(callable(getattr(module, name, None)) for name in kind.hooks):
        return module
    name = stem.removesuffix(f"_{kind.name}").upper() + kind.suffix
    raise SetupError(
        f"cannot find the {kind.name} in {where}: expected a class {name}, or one with "
        f"{', '.join(kind.hooks)}"
    )


def _plain_name(name: str) -> str:
    return name.replace("_", "").replace("-", "").casefold()


def _misfit(kind: Kind, target: Any, name: str) -> str:
    """Tell what is wrong with a hook, at its place; empty when nothing is."""
    hook = getattr(target, name)
    code = getattr(inspect.unwrap(hook), "__code__", None)
    place = f"{code.co_filename}:{code.co_firstlineno}: " if code else ""
    if not callable(hook):
        return f"{place}{name} of {target.__name__} is no function"
    given = kind.hooks[name]
    try:
        asked = list(inspect.signature(hook).parameters.values())
    except (TypeError, ValueError):
        return ""
    is_bound = not isinstance(target, type) or isinstance(
        inspect.getattr_static(target, name), (staticmethod, classmethod)
    )
    needed = [
        one.name
        for one in (asked if is_bound else asked[1:])
        if one.default is one.empty and one.kind in (*_POSITIONAL, one.KEYWORD_ONLY)
    ]
    if not is_bound and not asked:
        return f"{place}{name} of {target.__name__} takes no self"
    if len(needed) > len(given):
        return f"{place}{name} asks for ({', '.join(needed)}), but is given ({', '.join(given)})"
    return ""


@contextmanager
def _located(kind: Kind, where: str) -> Iterator[None]:
    """Turn what user code raises at import into a SetupError with file and line."""
    try:
        yield
    except (SetupError, KeyboardInterrupt, hooks.Interrupted):
        raise
    except BaseException as error:  # user code, `sys.exit` and all
        message = error.msg if isinstance(error, SyntaxError) else hooks.said(error)
        said = f"{type(error).__name__}: {message}"
        place = hooks.where(error)
        if place:
            raise SetupError(f"{place}: cannot load the {kind.name}: {said}") from error
        raise SetupError(f"cannot load the {kind.name} {where}: {said}") from error
