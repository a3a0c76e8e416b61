"""Watching source files: which of them have changed, told once per burst of writes.

The kernel's notices only say that something happened in a directory; what did is found by
looking: every watched tree is walked again and compared with how it was. So renames, new
directories, links that lead elsewhere, a tree that is removed and made again, and notices that
were lost need no rules of their own. A directory above each tree is watched too, for the tree may
come back as another.

Nothing is read from the kernel, and nothing imported for it, before something is watched.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

from msgspec import Struct, field

from orchestrator.model.units import Seconds

logger = logging.getLogger(__name__)

QUIET: Seconds = 0.08
"""After so long without a further write a burst is over."""

LONGEST: Seconds = 1.0
"""A burst that does not end is told of after so long."""

Patterns = tuple[str, ...]
Stamp = tuple[int, int, int]

_NEVER = frozenset({"__pycache__", "node_modules", "site-packages"})
_SCRATCH = (".pyc", ".swp", ".swx", "~", ".tmp")
_MASK = 0x2 | 0x4 | 0x8 | 0x40 | 0x80 | 0x100 | 0x200 | 0x400 | 0x800
"""Modified, its attributes too, closed, moved from and to, created, deleted, itself gone."""
_HEAD = struct.Struct("iIII")
_WILD = frozenset("*?[")


class Matcher(Protocol):
    """Patterns as a .gitignore has them."""

    def match_file(self, file: str) -> bool:
        """Tell whether they match a path."""


Ignored = list[tuple[str, Matcher]]


class _Tree(Struct):
    """What patterns speak of: a directory, and whether those below it belong to it."""

    top: str
    is_deep: bool


class _Seen(Struct):
    """What a walk has found: the files by path, and the directories to be told about."""

    files: dict[str, Stamp] = field(default_factory=dict)
    directories: set[str] = field(default_factory=set)


class Watcher:
    """Tells who watches files that have changed.

    Args:
        loop: Where it lives.
        outputs: A directory of ours, in which nothing is ever watched.
        changed: Called with the changed paths by watcher.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        outputs: str,
        changed: Callable[[Mapping[str, frozenset[str]]], None],
    ) -> None:
        self._loop = loop
        self._outputs = outputs
        self._changed = changed
        self._who: dict[Patterns, set[str]] = {}
        self._patterns: dict[str, Patterns] = {}
        self._matching: dict[Patterns, Matcher] = {}
        self._seen = _Seen()
        self._notices: _Notices | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._since = 0.0

    def follow(self, who: str, patterns: Patterns) -> None:
        """Watch what absolute patterns, written as in a .gitignore, match; () for nothing."""
        before = self._patterns.get(who, ())
        if before == patterns:
            return
        self._forget(who, before)
        if patterns:
            self._patterns[who] = patterns
            if patterns not in self._who:
                self._who[patterns] = set()
                self._begin(patterns)
            self._who[patterns].add(who)

    def close(self) -> None:
        """Stop watching."""
        if self._timer is not None:
            self._timer.cancel()
        if self._notices is not None:
            self._loop.remove_reader(self._notices.fileno())
            self._notices.close()
            self._notices = None

    # ------------------------------------------------------------- following

    def _forget(self, who: str, patterns: Patterns) -> None:
        self._patterns.pop(who, None)
        others = self._who.get(patterns)
        if others is not None:
            others.discard(who)
            if not others:
                del self._who[patterns], self._matching[patterns]

    def _begin(self, patterns: Patterns) -> None:
        from pathspec import GitIgnoreSpec  # noqa: PLC0415 - only where something is watched

        self._matching[patterns] = GitIgnoreSpec.from_lines(patterns)
        if self._notices is None:
            try:
                self._notices = _Notices()
            except OSError as error:
                logger.warning("Changed files are not noticed: %s", error)
                return
            self._loop.add_reader(self._notices.fileno(), self._noticed)
        # Changes before this moment were there when it began.
        found = _walk(_trees(patterns), self._outputs)
        self._listen(found.directories | self._seen.directories)
        self._seen.files.update(found.files)
        self._seen.directories |= found.directories

    def _noticed(self) -> None:
        if self._notices is None or not self._notices.take(self._is_of_interest):
            return
        now = self._loop.time()
        if self._timer is None:
            self._since = now
        else:
            self._timer.cancel()
        due = min(now + QUIET, self._since + LONGEST)
        self._timer = self._loop.call_at(due, self._look)

    def _is_of_interest(self, path: str, *, is_directory: bool) -> bool:
        name = os.path.basename(path)  # noqa: PTH119 - hot
        if _is_excluded(name) or path.startswith(f"{self._outputs}/"):
            return False
        return is_directory or any(spec.match_file(path) for spec in self._matching.values())

    def _look(self) -> None:
        """Compare what is there with what was, and tell of the difference."""
        self._timer = None
        trees = [tree for patterns in self._who for tree in _trees(patterns)]
        found = _walk(trees, self._outputs)
        before, self._seen = self._seen, found
        if found.directories != before.directories:
            self._listen(found.directories)
            # What came between the walk and the watch gave no notice.
            again = _walk(trees, self._outputs)
            found.files.update(again.files)
        else:
            self._listen(found.directories)
        paths = {path for path, stamp in found.files.items() if before.files.get(path) != stamp}
        paths |= before.files.keys() - found.files.keys()
        told: dict[str, frozenset[str]] = {}
        for patterns, spec in self._matching.items():
            matched = frozenset(filter(spec.match_file, paths))
            if matched:
                told |= dict.fromkeys(self._who[patterns], matched)
        if told:
            self._changed(told)

    def _listen(self, directories: Iterable[str]) -> None:
        if self._notices is None:
            return
        try:
            self._notices.watch(directories)
        except OSError as error:
            logger.warning("Not all changed files are noticed: %s", error)


class _Notices:
    """The kernel's notices of changes in directories, inotify(7)."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd: int = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        self._by_number: dict[int, str] = {}

    def fileno(self) -> int:
        """Return the descriptor, readable when something changed."""
        return self._fd

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._fd)

    def watch(self, directories: Iterable[str]) -> None:
        """Be told of changes in these directories, whichever they are now, and in no others.

        Raises:
            OSError: The kernel gives no more watches.
        """
        wanted: dict[int, str] = {}
        problem = 0
        for directory in directories:
            number = self._libc.inotify_add_watch(self._fd, os.fsencode(directory), _MASK)
            if number >= 0:
                wanted[number] = directory
            elif ctypes.get_errno() not in (2, 20):  # Gone meanwhile, or no directory any more.
                problem = ctypes.get_errno()
        for number in self._by_number.keys() - wanted.keys():
            self._libc.inotify_rm_watch(self._fd, number)
        self._by_number = wanted
        if problem:
            raise OSError(problem, f"{os.strerror(problem)}; see fs.inotify.max_user_watches")

    def take(self, is_of_interest: Callable[..., bool]) -> bool:
        """Take all notices; tell whether one is of interest, or was lost."""
        found = False
        while True:
            try:
                data = os.read(self._fd, 1 << 16)
            except BlockingIOError:
                return found
            offset = 0
            while offset < len(data):
                number, mask, _cookie, length = _HEAD.unpack_from(data, offset)
                name = data[offset + _HEAD.size : offset + _HEAD.size + length].rstrip(b"\0")
                offset += _HEAD.size + length
                if mask & 0x8000:
                    # This watch is over. If it was one of ours, its directory is gone.
                    found |= self._by_number.pop(number, None) is not None
                elif mask & 0x4000 or not name:
                    found = True
                elif number in self._by_number and not found:
                    path = f"{self._by_number[number]}/{os.fsdecode(name)}"
                    found = is_of_interest(path, is_directory=bool(mask & 0x40000000))


def _trees(patterns: Patterns) -> Iterator[_Tree]:
    """Yield the directories in which patterns can match something."""
    for pattern in patterns:
        if pattern.startswith("!"):
            continue
        parts = pattern.strip("/").split("/")
        wild = next((n for n, part in enumerate(parts) if _WILD & set(part)), len(parts))
        top = "/" + "/".join(parts[:wild])
        if wild == len(parts):
            if pattern.endswith("/") or os.path.isdir(top):  # noqa: PTH112
                yield _Tree(top, is_deep=True)
            else:
                yield _Tree(os.path.dirname(top), is_deep=False)  # noqa: PTH120
        else:
            yield _Tree(top, is_deep=wild < len(parts) - 1 or "**" in parts[-1])


def _walk(trees: Iterable[_Tree], outputs: str) -> _Seen:
    seen = _Seen()
    deep: dict[str, bool] = {}
    for tree in trees:
        deep[tree.top] = deep.get(tree.top, False) or tree.is_deep
    for top, is_deep in deep.items():
        seen.directories.add(_nearest(os.path.dirname(top)))  # noqa: PTH120
        entered: set[tuple[int, int]] = set()
        todo = [(top, _ignored_above(top))]
        while todo:
            directory, ignored = todo.pop()
            try:
                status = Path(directory).stat()
                if (status.st_dev, status.st_ino) in entered:
                    continue
                entered.add((status.st_dev, status.st_ino))
                entries = list(os.scandir(directory))
            except OSError:
                continue
            seen.directories.add(directory)
            ignored = [*ignored, *_ignored_in(directory)]
            for entry in entries:
                if _is_excluded(entry.name) or entry.path == outputs:
                    continue
                _take(entry, seen, todo if is_deep else None, ignored)
    return seen


def _take(
    entry: os.DirEntry[str], seen: _Seen, todo: list[tuple[str, Ignored]] | None, ignored: Ignored
) -> None:
    try:
        is_directory = entry.is_dir()
        status = entry.stat()
    except OSError:
        return  # It has gone meanwhile, or leads nowhere.
    slash = "/" if is_directory else ""
    for directory, spec in ignored:
        if spec.match_file(entry.path.removeprefix(f"{directory}/") + slash):
            return
    if is_directory:
        if todo is not None:
            todo.append((entry.path, ignored))
        return
    seen.files[entry.path] = (status.st_mtime_ns, status.st_size, status.st_ino)
    if entry.is_symlink():
        seen.directories.add(os.path.dirname(os.path.realpath(entry.path)))  # noqa: PTH120


def _is_excluded(name: str) -> bool:
    return name in _NEVER or name[0] in ".#" or name.endswith(_SCRATCH)


def _nearest(directory: str) -> str:
    """Return a directory, or the nearest above it that is there."""
    while not os.path.isdir(directory):  # noqa: PTH112
        directory = os.path.dirname(directory)  # noqa: PTH120
    return directory


def _ignored_above(top: str) -> Ignored:
    """Return what .gitignore files say above a directory, up to the repository's top."""
    found: Ignored = []
    directory = top
    while not os.path.exists(f"{directory}/.git"):  # noqa: PTH110
        above = os.path.dirname(directory)  # noqa: PTH120
        if above == directory:
            return []  # No repository: nobody meant these files.
        directory = above
        found = [*_ignored_in(directory), *found]
    return found


def _ignored_in(directory: str) -> Ignored:
    try:
        with open(f"{directory}/.gitignore", encoding="utf-8") as file:  # noqa: PTH123
            lines = file.read().splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    from pathspec import GitIgnoreSpec  # noqa: PLC0415 - only where something is watched

    return [(directory, GitIgnoreSpec.from_lines(lines))]
