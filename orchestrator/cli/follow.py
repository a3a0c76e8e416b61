"""The logs of many instances at once: what they hold, in order of time, and what comes.

What comes is shown as it comes, woken by the kernel and never by a clock.
"""

from __future__ import annotations

import heapq
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Self

from orchestrator.cli import dating
from orchestrator.cli.dating import Piece
from orchestrator.cli.logfiles import CHUNK, Catalogue, LogFile
from orchestrator.cli.loglines import Style, Writer
from orchestrator.client import Row
from orchestrator.inotify import Notices

_STREAMS = ("stdout", "stderr")
_ROOM = 1 << 26
"""How many bytes of logs are held at once while they are merged."""

Start = Callable[[LogFile], tuple[int, int | None]]
"""Chooses the offset at which to begin in a file that is new, and where what it holds ends."""


class _Source:
    __slots__ = ("end", "file", "writer")

    def __init__(self, file: LogFile, end: int | None, writer: Writer) -> None:
        self.file = file
        self.end = end
        self.writer = writer


class Follower:
    """Reads on in every log file it was told of, a piece of each in turn.

    Args:
        style: For standard output and standard error of the components.
        start: Where to begin in a file that is new to the follower; by default with all of it.
        split: Show standard error on our standard error instead of on standard output.
        streams: Which of `stdout` and `stderr` to show.
        stays: Whether what comes is shown too.
    """

    def __init__(
        self,
        style: Mapping[str, Style],
        *,
        start: Start = lambda file: (file.offset, None),
        split: bool = False,
        streams: tuple[str, ...] = _STREAMS,
        stays: bool = True,
    ) -> None:
        self._notices = Notices() if stays else None
        self._catalogue = Catalogue()
        self._style = style
        self._start = start
        self._split = split
        self._streams = streams
        self._sources: dict[Path, _Source] = {}
        self._by_name: dict[str, list[_Source]] = {}
        self._changed: dict[Path, None] = {}
        self._unwatched: set[Path] = set()
        self._watched: set[Path] = set()
        self._is_dated = any(one.times or one.json for one in style.values())
        self.width = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._notices is not None:
            self._notices.__exit__()

    def from_now(self, *directories: Path) -> None:
        """Show of files that are new to the follower only what is written from now on.

        Args:
            directories: Where such files may be; by default where those it knows are.
        """
        sizes = {
            path: path.stat().st_size
            for directory in directories or self._watched
            for path in directory.glob("*")
        }
        self._start = lambda file: (sizes.get(file.path, 0), None)

    def fileno(self) -> int:
        """Return the descriptor that becomes readable when a file has grown."""
        assert self._notices is not None, "internal error: nothing is awaited"
        return self._notices.fileno()

    def see(self, row: Row) -> None:
        """Take in the files of an instance; the first time they are read from their start."""
        if row["name"] in self._by_name and not self._unwatched:
            return
        for stream in self._streams:
            path = row["stdout"] if stream == "stdout" else row["stderr"]
            if path is not None:
                self.add(row["name"], stream, Path(path))

    def add(self, name: str, stream: str, path: Path) -> None:
        """Follow one file, which may not exist yet."""
        if self._notices is not None:
            self._watch(path.parent)
        if path in self._sources:
            return
        out = (sys.stderr if self._split and stream == "stderr" else sys.stdout).buffer
        writer = Writer(name, stream, out, self._style[stream])
        file = LogFile(path, 0, self._catalogue)
        file.offset, end = self._start(file)
        source = _Source(file, end, writer)
        self._sources[path] = source
        self._by_name.setdefault(name, []).append(source)
        self._changed[path] = None
        self.width = max(self.width, len(name))

    def _watch(self, directory: Path) -> None:
        if directory in self._watched or self._notices is None:
            return
        if self._notices.watch(directory):
            self._watched.add(directory)
            self._unwatched.discard(directory)
        else:
            self._unwatched.add(directory)
            self._notices.watch(directory.parent)

    def show_history(self) -> None:
        """Show what the files hold from where they begin, merged in the order of time."""
        windows = [(one, self._end(one)) for one in self._sources.values()]
        windows = [(one, end) for one, end in windows if one.file.offset < end]
        limit = max(1 << 12, min(CHUNK, _ROOM // max(1, len(windows))))
        by_time = self._is_dated or len(windows) > 1
        runs = [self._history(one, end, limit, by_time=by_time) for one, end in windows]
        for piece, source in heapq.merge(*runs, key=lambda run: run[0].time):
            source.writer.write(piece.data, self.width, piece.time)
        sys.stdout.flush()
        sys.stderr.flush()

    @staticmethod
    def _end(source: _Source) -> int:
        return source.file.extent()[1] if source.end is None else source.end

    @staticmethod
    def _history(
        source: _Source, end: int, limit: int, *, by_time: bool
    ) -> Iterator[tuple[Piece, _Source]]:
        file = source.file
        times = dating.times_of(file.path) if by_time else None
        for piece in dating.pieces(file, times, end, limit):
            yield piece, source

    def problems(self) -> tuple[str, ...]:
        """Return what could not be read, and why."""
        found = (source.file for source in self._sources.values())
        return tuple(
            f"cannot read {file.path}: {file.problem.strerror}" for file in found if file.problem
        )

    def pump(self) -> bool:
        """Show a piece of every file that has grown; tell whether there is more."""
        changed = self._notices.take() if self._notices is not None else None
        if changed is None:
            # A watched directory may be gone, and another come in its place.
            self._unwatched |= self._watched
            self._watched.clear()
        if changed != frozenset() and self._unwatched:
            for directory in tuple(self._unwatched):
                self._watch(directory)
            changed = None
        if changed is None:
            self._changed = dict.fromkeys(self._sources)
        else:
            for path in changed:
                if path in self._sources:
                    self._changed[path] = None
        rest: dict[Path, None] = {}
        for path in self._changed:
            if self._show_next(self._sources[path]):
                rest[path] = None
        if self._changed:
            sys.stdout.flush()
            sys.stderr.flush()
        self._changed = rest
        return bool(rest)

    def drain(self) -> None:
        """Show everything there is now, the unfinished lines too."""
        self._changed = dict.fromkeys(self._sources)
        while self.pump():
            pass
        self.flush()
        sys.stdout.flush()
        sys.stderr.flush()

    def finish(self, name: str) -> None:
        """Show what is left of an instance whose process has ended."""
        for source in self._by_name.get(name, ()):
            while self._show_next(source):
                pass
            source.writer.flush(self.width, source.file.modified)

    def flush(self) -> None:
        """Show the unfinished lines: no more of them is read."""
        for source in self._sources.values():
            source.writer.flush(self.width, source.file.modified)

    def _show_next(self, source: _Source) -> bool:
        """Show the next piece of a file; tell whether there was any."""
        file = source.file
        before = file.modified
        data = file.read()
        if data and self._is_dated:
            begin, times = file.offset - len(data), dating.times_of(file.path)
            if times.exact:
                pieces = dating.dated_by(times, data, begin, file.modified)
            else:
                # Just written, so between the last look and the last write.
                pieces = dating.stamped(data, begin, before or None, file.modified)
            for piece in pieces:
                source.writer.write(piece.data, self.width, piece.time)
        elif data:
            source.writer.write(data, self.width)
        return bool(data)
