"""Loading handler code from its source, never from a .pyc.

A .pyc is trusted by the source's size and its time in whole seconds, so two saves of equal size
within one second would run the older one. Modules below a handler's directories are compiled from
their source each time; all others load as Python loads them.
"""

from __future__ import annotations

import contextlib
import importlib.machinery
import importlib.util
import itertools
import os
import sys
import threading
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType

from orchestrator.component import compatibility
from orchestrator.component.errors import CannotSwap, SetupError

Stamp = tuple[int, int, int]
"""Time of the last write, size and inode of a file."""

_EXTENSIONS = tuple(importlib.machinery.EXTENSION_SUFFIXES)
_LIBRARY = f"{Path(os.__file__).parent}/"
_RUNTIME = frozenset({"orchestrator", "__main__", "__mp_main__"})
_OURS = f"{Path(__file__).parent}/"
_NOT_OURS = frozenset({"__pycache__", "site-packages", "node_modules"})

_COMPILED: dict[str, tuple[bytes, CodeType]] = {}
"""By file: what it held when it was compiled, and its code."""


class SourceLoader(importlib.machinery.SourceFileLoader):
    """Compiles the source at each load and leaves no .pyc behind."""

    def get_code(self, fullname: str) -> CodeType:
        """Return the code of the module, compiled from what its file holds now."""
        return _compiled(self.get_filename(fullname))


class SourceFinder:
    """Finds modules as Python does, and gives those below `roots` to `SourceLoader`."""

    def __init__(self, roots: Sequence[Path]) -> None:
        # As they are named, and where links lead to.
        both = dict.fromkeys(str(one) for root in roots for one in (root, root.resolve()))
        self.roots = tuple(f"{root}/" for root in both)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the spec of a module below the roots; None leaves it to the next finder."""
        del target
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if (
            spec is None
            or not spec.origin
            or type(spec.loader) is not importlib.machinery.SourceFileLoader
        ):
            return None
        if not spec.origin.startswith(self.roots) or "/site-packages/" in spec.origin:
            return None
        return importlib.util.spec_from_file_location(
            fullname,
            spec.origin,
            loader=SourceLoader(fullname, spec.origin),
            submodule_search_locations=spec.submodule_search_locations,
        )


class Code:
    """The code of one handler: its modules, loaded, and exchanged for newer ones.

    What is exchanged are the modules below the handler's own directory (`root`): a package, or
    the directory of a single file with those of its neighbours that are imported. All others are
    loaded once.
    """

    def __init__(self, handler: str, python_path: Sequence[str] = ()) -> None:
        self.handler = handler
        self.generation = 1
        """Counts the codes that have served in this process, from 1."""
        self._threads: tuple[threading.Thread, ...] = ()
        self._outside: Mapping[str, Stamp] = {}
        self._served: Mapping[str, bytes] = {}
        compatibility.install()
        for entry in reversed(python_path):
            if entry not in sys.path:
                sys.path.insert(0, entry)
        before = threading.enumerate()
        self.place = self._find()
        self.module = self._load()
        self._settled(before)

    def renew(self) -> Renewal:
        """Import the code as it is now beside the one that serves.

        Raises:
            SetupError: It cannot be loaded; names file and line. Nothing has changed.
            CannotSwap: It can, but not take the place of the other in this process.
        """
        return Renewal(self)

    def check(self) -> None:
        """Compile the code as it is now, and no more.

        Raises:
            SetupError: A file cannot be compiled; names file and line.
        """
        with failures(self.place.root, self.handler):
            for path in self.place.sources():
                _compiled(str(path))

    def is_touched(self, paths: Iterable[str]) -> bool:
        """Tell whether changed files make other code of this, or of what it reads at import."""
        for path in map(os.path.realpath, paths):
            inside = self.place.root is not None and path.startswith(f"{self.place.root}/")
            if not inside or not path.endswith(".py"):
                return True
            known = self._served.get(path)
            if known is None and not self.place.is_package:
                continue  # A neighbour that is not imported.
            try:
                now = Path(path).read_bytes()
            except OSError:
                now = None
            if now != known:
                return True
        return False

    def _find(self) -> Place:
        if is_path(self.handler):
            return _place_of(Path(self.handler))
        with failures(None, self.handler):
            # Imports the packages around it.
            spec = importlib.util.find_spec(self.handler)
        if spec is None:
            raise SetupError(f"cannot find the module {self.handler!r} in {', '.join(sys.path)}")
        source = Path(spec.origin) if spec.origin and spec.has_location else None
        return Place(self.handler, source, is_package=bool(spec.submodule_search_locations))

    def _load(self) -> ModuleType:
        place = self.place
        if place.root is not None:
            take_over(place.root)
        if not is_path(self.handler):
            with failures(place.root, self.handler):
                return importlib.import_module(self.handler)
        home = str(place.home)
        # Behind all others, so that a neighbour named like a library does not hide it.
        if home not in sys.path:
            sys.path.append(home)
        return place.execute(self.handler)

    def _settled(self, before: Sequence[threading.Thread]) -> None:
        """Remember what a later exchange has to compare with."""
        self._threads = _begun_since(before)
        self._served = {
            path: _COMPILED[path][0]
            for path in map(str, self.place.sources())
            if path in _COMPILED
        }
        self._outside = _stamps(self.place.root)

    def refuse_leftovers(self) -> None:
        """Raise `CannotSwap` for what the exchange of modules would leave as it was."""
        for thread in self._threads:
            if thread.is_alive():
                raise CannotSwap(
                    f"the thread {thread.name!r}, begun when the code was imported, still runs it"
                )
        now = _stamps(self.place.root)
        for path, stamp in self._outside.items():
            if path in now and now[path] != stamp:
                raise CannotSwap(f"{path} has changed, which is outside of {self.place.root}")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a handler's code lies; `source` is its file, None for what has none."""

    name: str
    source: Path | None
    is_package: bool

    @property
    def root(self) -> Path | None:
        """The directory below which modules are the handler's own."""
        return self.source.parent if self.source else None

    @property
    def home(self) -> Path | None:
        """The directory from which it can be imported by its name."""
        return self.root.parent if self.root and self.is_package else self.root

    def sources(self) -> Iterator[Path]:
        """Yield the files of the code: all of a package, the loaded ones around a single file."""
        if self.root is None:
            return
        if not self.is_package:
            for module in modules_below(self.root).values():
                path = Path(str(vars(module)["__file__"]))
                if path.suffix == ".py" and path.exists():
                    yield path
            return
        for directory, inner, names in os.walk(self.root):
            inner[:] = [name for name in inner if name not in _NOT_OURS and name[0] != "."]
            yield from (Path(directory, name) for name in names if name.endswith(".py"))

    def execute(self, handler: str) -> ModuleType:
        """Run the file as a new module under its name."""
        assert self.source is not None
        spec = importlib.util.spec_from_file_location(
            self.name,
            self.source,
            loader=SourceLoader(self.name, str(self.source)),
            submodule_search_locations=[str(self.source.parent)] if self.is_package else None,
        )
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[self.name] = module
        with failures(self.source.parent, handler):
            try:
                spec.loader.exec_module(module)
            except BaseException:
                sys.modules.pop(self.name, None)
                raise
        return module


class Renewal:
    """A new generation of modules beside the old; ends with `commit` or `undo`."""

    def __init__(self, code: Code) -> None:
        self._code = code
        self._path = list(sys.path)
        self._place = code.place
        code.refuse_leftovers()
        code.check()
        before = threading.enumerate()
        known = set(sys.modules)
        self._before = before
        self._old = modules_below(code.place.root)
        self._attributes = list(_bound_in_parents(self._old))
        importlib.invalidate_caches()
        for name in self._old:
            del sys.modules[name]
        try:
            if is_path(code.handler):
                # What the path leads to may be another directory now.
                found = _place_of(Path(code.handler), code.place.name)
                self._move(code.place, found)
                code.place = found
            self.module = code._load()  # noqa: SLF001 - the two are one
            _refuse_what_stays(before, known)
        except BaseException:
            self.undo()
            raise

    def commit(self) -> None:
        """Forget the old generation; it is collected when nothing refers to it any more."""
        self._code.module = self.module
        self._code.generation += 1
        self._code._settled(self._before)  # noqa: SLF001 - the two are one
        _forget_compiled()
        self._old.clear()
        self._attributes.clear()

    def undo(self) -> None:
        """Put the old generation back as if nothing had been."""
        for name in modules_below(self._code.place.root):
            del sys.modules[name]
        sys.modules.update(self._old)
        for parent, name, module in self._attributes:
            setattr(parent, name, module)
        self._code.place = self._place
        sys.path[:] = self._path

    @staticmethod
    def _move(old: Place, new: Place) -> None:
        """Let the neighbours of a directory that took the place of another be found there."""
        if old.home != new.home and str(old.home) in sys.path:
            sys.path[sys.path.index(str(old.home))] = str(new.home)


def is_path(handler: str) -> bool:
    """Tell whether a handler is given by its place rather than by its module name."""
    return "/" in handler or handler.endswith(".py")


def modules_below(root: Path | None) -> dict[str, ModuleType]:
    """Return the loaded modules of a directory that can be loaded anew: those with a source."""
    if root is None:
        return {}
    start = f"{root}/"
    return {
        name: module
        for name, module in _loaded()
        if (file := _file(module)).startswith(start)
        and not file.endswith(_EXTENSIONS)
        and "/site-packages/" not in file
        and name.partition(".")[0] not in _RUNTIME
    }


def _place_of(path: Path, name: str = "") -> Place:
    source = path / "__init__.py" if path.is_dir() else path
    if not source.is_file():
        what = "a package without __init__.py" if path.is_dir() else "no such file"
        raise SetupError(f"cannot load the handler {path}: {what}")
    return Place(name or module_name(path.stem), source.resolve(), is_package=path.is_dir())


def module_name(stem: str) -> str:
    """Return the name to import a handler by: its own, unless a library has it."""
    name = "".join(c if c.isalnum() else "_" for c in stem)
    if name in sys.stdlib_module_names or name in sys.modules or not name.isidentifier():
        return f"handler_{name}"
    return name


def take_over(root: Path) -> None:
    """Have the modules below `root` compiled from their source, once."""
    finder = SourceFinder((root,))
    known = (one.roots for one in sys.meta_path if isinstance(one, SourceFinder))
    if finder.roots not in known:
        sys.meta_path.insert(0, finder)


def _compiled(path: str) -> CodeType:
    """Return the code of a file as it is now; what has not changed is not compiled again."""
    data = Path(path).read_bytes()
    known = _COMPILED.get(path)
    if known is not None and known[0] == data:
        return known[1]
    try:
        code: CodeType = compile(data, path, "exec", dont_inherit=True)
    except SyntaxError as error:
        # Of bytes that are no text Python does not always say where.
        error.filename = error.filename or path
        error.lineno = error.lineno or data[: max(0, data.find(b"\0"))].count(b"\n") + 1
        raise
    _COMPILED[path] = data, code
    return code


def compiled_source(path: str | None) -> bytes | None:
    """Return what a handler's file held when it was last compiled; None for all others."""
    known = _COMPILED.get(path) if path else None
    return known and known[0]


def _forget_compiled() -> None:
    """Drop the code of files that are gone."""
    for path in [path for path in _COMPILED if not os.path.exists(path)]:  # noqa: PTH110 - hot
        del _COMPILED[path]


def _file(module: object) -> str:
    """Return the file of a module, or the directory of a namespace; empty for what has neither."""
    namespace = getattr(module, "__dict__", {})
    file = namespace.get("__file__")
    if file is None and type(module) is ModuleType and "__path__" in namespace:
        file = next((f"{path}/" for path in namespace["__path__"]), "")
    return file if isinstance(file, str) else ""


def _bound_in_parents(
    modules: Mapping[str, ModuleType],
) -> Iterator[tuple[ModuleType, str, ModuleType]]:
    """Yield the packages that stay and refer to a module that goes, with the name they use."""
    for name, module in modules.items():
        parent, _, attribute = name.rpartition(".")
        if parent in sys.modules and parent not in modules:
            yield sys.modules[parent], attribute, module


_last_of_ours: str | None = None


def leave_out_loaded() -> None:
    """Take all that is loaded by now for libraries and the runtime, which nobody looks through.

    A forked component would dirty the memory of each module that it shares with all others.
    """
    global _last_of_ours  # noqa: PLW0603 - said once, by the process that forks
    _last_of_ours = next(reversed(sys.modules))


def _loaded() -> list[tuple[str, ModuleType]]:
    """Return the modules that were loaded since, in the order of their loading."""
    try:
        names = list(
            itertools.takewhile(lambda name: name != _last_of_ours, reversed(sys.modules))
        )
    except RuntimeError:  # a thread has imported something meanwhile
        names = [*reversed(sys.modules.copy())]
    return [(name, sys.modules[name]) for name in reversed(names) if name in sys.modules]


def _stamps(root: Path | None) -> dict[str, Stamp]:
    """Return what tells whether files outside of `root` change: neither libraries nor ours."""
    stamps = {}
    below = f"{root}/"
    for name, module in _loaded():
        file = _file(module)
        if not file or file.startswith(_LIBRARY) or "/site-packages/" in file:
            continue
        inside = file.startswith(below) and not file.endswith(_EXTENSIONS)
        if inside or name.partition(".")[0] in _RUNTIME:
            continue
        with contextlib.suppress(OSError):
            status = Path(file).stat()
            stamps[file] = (status.st_mtime_ns, status.st_size, status.st_ino)
    return stamps


def _begun_since(before: Sequence[threading.Thread]) -> tuple[threading.Thread, ...]:
    return tuple(thread for thread in threading.enumerate() if thread not in before)


def _refuse_what_stays(before: Sequence[threading.Thread], known: set[str]) -> None:
    """Raise `CannotSwap` for what an import has done that cannot be taken back."""
    for thread in _begun_since(before):
        raise CannotSwap(f"the code begins the thread {thread.name!r} when it is imported")
    for name in [name for name in sys.modules if name not in known]:
        spec = getattr(sys.modules[name], "__spec__", None)
        loader = getattr(spec, "loader", None)
        if not isinstance(loader, importlib.machinery.ExtensionFileLoader):
            continue
        if name.partition(".")[0] not in sys.stdlib_module_names:
            raise CannotSwap(f"the code imports the C extension {name!r}, which is new to it")


class failures:  # noqa: N801 - reads as a statement: with failures(...)
    """Turns what user code raises at import into a SetupError with file and line.

    Args:
        root: Where the user's code lies: the innermost frame below it is told.
        name: How the code is named, when it has no place.
        what: What it is.
    """

    def __init__(self, root: Path | None, name: str, what: str = "handler") -> None:
        self.root = str(root) if root else None
        self.name = name
        self.what = what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None or isinstance(error, (KeyboardInterrupt, GeneratorExit, SetupError)):
            return
        where, words = _located(error, self.root)
        if where:
            raise SetupError(f"{where}cannot load the {self.what}: {words}") from error
        raise SetupError(f"cannot load the {self.what} {self.name}: {words}") from error


def place(error: BaseException, root: str | None = None) -> str:
    """Return `file:line: Type: message` for an error, at its innermost frame below `root`."""
    return "".join(_located(error, root))


def cause(error: BaseException) -> BaseException:
    """Return the one error in a group of one: the group is ours, the error the user's."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def traceback_text(error: BaseException) -> str:
    """Return the traceback of an error from the first frame on that is not ours."""
    error = cause(error)
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_OURS):
        trace = trace.tb_next
    shown = error.with_traceback(trace or error.__traceback__)
    return "".join(traceback.format_exception(shown)).rstrip()


def _located(error: BaseException, root: str | None) -> tuple[str, str]:
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return f"{error.filename}:{error.lineno}: ", f"{type(error).__name__}: {error.msg}"
    where = ""
    trace = error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if root is None or file.startswith(root):
            where = f"{file}:{trace.tb_lineno}: "
        trace = trace.tb_next
    return where, f"{type(error).__name__}: {error}"
