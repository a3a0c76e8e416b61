"""Following the logs of many instances at once, woken by the kernel and never by a clock."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

from orchestrator.cli import logfiles
from orchestrator.cli.inotify import Notices
from orchestrator.cli.logfiles import LogFile
from orchestrator.cli.loglines import Style, Writer
from orchestrator.client import Row

_STREAMS = ("stdout", "stderr")


class _Source:
    __slots__ = ("file", "writer")

    def __init__(self, file: LogFile, writer: Writer) -> None:
        self.file = file
        self.writer = writer


class Follower:
    """Reads on in every log file it was told of, a piece of each in turn.

    Args:
        style: For standard output and standard error of the components.
        start: The offset at which to begin in a file that is new to the follower.
        split: Show standard error on our standard error instead of on standard output.
        streams: Which of `stdout` and `stderr` to show.
    """

    def __init__(
        self,
        style: Mapping[str, Style],
        *,
        start: Callable[[Path], int] = logfiles.beginning,
        split: bool = False,
        streams: tuple[str, ...] = _STREAMS,
    ) -> None:
        self._notices = Notices()
        self._style = style
        self._start = start
        self._split = split
        self._streams = streams
        self._sources: dict[Path, _Source] = {}
        self._by_name: dict[str, list[_Source]] = {}
        self._changed: dict[Path, None] = {}
        self._unwatched: set[Path] = set()
        self._watched: set[Path] = set()
        self.width = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
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
        self._start = lambda path: sizes.get(path, 0)

    def fileno(self) -> int:
        """Return the descriptor that becomes readable when a file has grown."""
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
        self._watch(path.parent)
        if path in self._sources:
            return
        out = (sys.stderr if self._split and stream == "stderr" else sys.stdout).buffer
        writer = Writer(name, stream, out, self._style[stream])
        source = _Source(LogFile(path, self._start(path)), writer)
        self._sources[path] = source
        self._by_name.setdefault(name, []).append(source)
        self._changed[path] = None
        self.width = max(self.width, len(name))

    def _watch(self, directory: Path) -> None:
        if directory in self._watched:
            return
        if self._notices.watch(directory):
            self._watched.add(directory)
            self._unwatched.discard(directory)
        else:
            self._unwatched.add(directory)

    def pump(self) -> bool:
        """Show a piece of every file that has grown; tell whether there is more."""
        changed = self._notices.take()
        if changed is None:
            self._changed = dict.fromkeys(self._sources)
        else:
            for path in changed:
                if path in self._sources:
                    self._changed[path] = None
        rest: dict[Path, None] = {}
        for path in self._changed:
            source = self._sources[path]
            data = source.file.read()
            if data:
                source.writer.write(data, self.width)
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
        for source in self._sources.values():
            source.writer.flush(self.width)
        sys.stdout.flush()
        sys.stderr.flush()

    def finish(self, name: str) -> None:
        """Show what is left of an instance whose process has ended."""
        for source in self._by_name.get(name, ()):
            while data := source.file.read():
                source.writer.write(data, self.width)
            source.writer.flush(self.width)
