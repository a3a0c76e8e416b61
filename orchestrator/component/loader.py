"""Loading handler code from its source, never from a .pyc.

A .pyc is trusted by the source's size and its time in whole seconds, so two saves of equal size
within one second would run the older one. Modules below a handler's directories are compiled from
their source each time; all others load as Python loads them.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import CodeType, ModuleType

from orchestrator.component.errors import SetupError


class SourceLoader(importlib.machinery.SourceFileLoader):
    """Compiles the source at each load and leaves no .pyc behind."""

    def get_code(self, fullname: str) -> CodeType:
        """Return the code of the module, compiled now."""
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


class SourceFinder:
    """Finds modules as Python does, and gives those below `roots` to `SourceLoader`."""

    def __init__(self, roots: Sequence[Path]) -> None:
        self.roots = tuple(str(root.resolve()) + "/" for root in roots)

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


def load(handler: str, python_path: Sequence[str] = ()) -> ModuleType:
    """Import a handler: a file, a package directory or a dotted module.

    Args:
        handler: An absolute path, or a module name.
        python_path: Directories to import from, before all others.

    Raises:
        SetupError: It is not there, or its code failed; names file and line.
    """
    for entry in reversed(python_path):
        if entry not in sys.path:
            sys.path.insert(0, entry)
    if is_path(handler):
        return _load_path(Path(handler))
    with _failures(None, handler):
        # Imports the packages around it.
        spec = importlib.util.find_spec(handler)
    if spec is None:
        raise SetupError(f"cannot find the module {handler!r} in {', '.join(sys.path)}")
    home = Path(spec.origin).parent if spec.origin else None
    if home is not None:
        _watch(home)
    with _failures(home, handler):
        return importlib.import_module(handler)


def is_path(handler: str) -> bool:
    """Tell whether a handler is given by its place rather than by its module name."""
    return "/" in handler or handler.endswith(".py")


def _load_path(path: Path) -> ModuleType:
    source = path / "__init__.py" if path.is_dir() else path
    if not source.is_file():
        what = "a package without __init__.py" if path.is_dir() else "no such file"
        raise SetupError(f"cannot load the handler {path}: {what}")
    source = source.resolve()
    home = source.parent.parent if path.is_dir() else source.parent
    # Behind all others, so that a neighbour named like a library does not hide it.
    if str(home) not in sys.path:
        sys.path.append(str(home))
    _watch(source.parent)
    name = _module_name(path.stem)
    spec = importlib.util.spec_from_file_location(
        name,
        source,
        loader=SourceLoader(name, str(source)),
        submodule_search_locations=[str(source.parent)] if path.is_dir() else None,
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    with _failures(source.parent, str(path)):
        try:
            spec.loader.exec_module(module)
        except BaseException:
            sys.modules.pop(name, None)
            raise
    return module


def _module_name(stem: str) -> str:
    """Return the name to import a handler by: its own, unless a library has it."""
    name = "".join(c if c.isalnum() else "_" for c in stem)
    if name in sys.stdlib_module_names or name in sys.modules or not name.isidentifier():
        return f"handler_{name}"
    return name


def _watch(root: Path) -> None:
    sys.meta_path.insert(0, SourceFinder((root,)))


class _failures:  # noqa: N801 - reads as a statement: with _failures(...)
    """Turns what user code raises at import into a SetupError with file and line."""

    def __init__(self, root: Path | None, handler: str) -> None:
        self.root = str(root) if root else None
        self.handler = handler

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None or isinstance(error, (KeyboardInterrupt, GeneratorExit, SetupError)):
            return
        where, words = _located(error, self.root)
        if where:
            raise SetupError(f"{where}cannot load the handler: {words}") from error
        raise SetupError(f"cannot load the handler {self.handler}: {words}") from error


def place(error: BaseException, root: str | None = None) -> str:
    """Return `file:line: Type: message` for an error, at its innermost frame below `root`."""
    return "".join(_located(error, root))


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
