"""Where keys stand in a Python file, such as `connection_models["in"]["orders"]`; for errors."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

Key = tuple[object, ...]


class Lines(Mapping[Key, int]):
    """The lines of a file as `read` finds them, looked for when first needed: rarely.

    Args:
        path: The file, None for what has none.
        source: What it held when it was loaded; None reads it, when first needed.
    """

    def __init__(self, path: str | None, source: bytes | None = None) -> None:
        self._path = path
        self._source = source
        self._found: Mapping[Key, int] | None = None

    def __getitem__(self, key: Key) -> int:
        return self._lines()[key]

    def __iter__(self) -> Iterator[Key]:
        return iter(self._lines())

    def __len__(self) -> int:
        return len(self._lines())

    def _lines(self) -> Mapping[Key, int]:
        if self._found is None:
            self._found = read(self._path, self._source)
        return self._found


def read(path: str | None, source: bytes | None = None) -> Mapping[Key, int]:
    """Return the line of each module-level name, and of each key of dict displays assigned to one.

    Nothing is found in a file that cannot be read; errors then go without a line. Who has its
    `source` spares the reading.
    """
    if path is None:
        return {}
    try:
        tree = ast.parse(Path(path).read_bytes() if source is None else source)
    except (OSError, SyntaxError, ValueError):
        return {}
    lines: dict[Key, int] = {}
    for node in tree.body:
        for name, value in _assigned(node):
            lines[name,] = node.lineno
            lines.update(_keys((name,), value))
    return lines


def of_class(path: str, qualname: str, source: bytes | None = None) -> Iterator[tuple[str, int]]:
    """Yield the names that a class assigns in its body, with their lines."""
    try:
        body = ast.parse(Path(path).read_bytes() if source is None else source).body
    except (OSError, SyntaxError, ValueError):
        return
    for part in qualname.split("."):
        if part == "<locals>":
            continue
        body = next(
            (
                node.body
                for node in body
                if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name == part
            ),
            [],
        )
    for node in body:
        for name, _ in _assigned(node):
            yield name, node.lineno


def _assigned(node: ast.stmt) -> Iterator[tuple[str, ast.expr | None]]:
    match node:
        case ast.Assign(targets=targets, value=value):
            for target in targets:
                if isinstance(target, ast.Name):
                    yield target.id, value
        case ast.AnnAssign(target=ast.Name(id=name), value=value):
            yield name, value
        case (
            ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name)
        ):
            yield name, None
        case _:
            return


def _keys(path: Key, value: ast.expr | None) -> Iterator[tuple[Key, int]]:
    if not isinstance(value, ast.Dict):
        return
    for key, item in zip(value.keys, value.values, strict=True):
        if isinstance(key, ast.Constant):
            inner = (*path, key.value)
            yield inner, key.lineno
            yield from _keys(inner, item)
