"""Following the sizes of log files: what dates their bytes and what rotates them.

No log byte passes here, and a log that nobody writes to costs nothing. Each file has a one-shot
notice with the kernel; the first write makes it *active*. Active files are looked at once per
`LOOK`: a sample of size and time of the last write goes into the index, what has grown too
large is rotated, and what has not grown since the last look waits for the kernel again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from orchestrator import files
from orchestrator.daemon import rotation
from orchestrator.daemon.logindex import Index
from orchestrator.daemon.notices import Notices
from orchestrator.errors import OrchestratorError
from orchestrator.model.topology import Capture, Logs
from orchestrator.model.units import Seconds
from orchestrator.wire import loglayout
from orchestrator.wire.loglayout import Sample

logger = logging.getLogger(__name__)

LOOK: Seconds = 1.0
"""How long after a write its file is looked at: the resolution of times in logs."""

BATCH = 50
"""How many files are looked at before anything else has its turn."""

LOOKS_PER_SECOND = 200
"""Beyond so many active files each is looked at less often."""


class _Log:
    __slots__ = ("head", "index", "inode", "logs", "path", "rotating", "size", "wanted", "watch")

    def __init__(self, path: str, logs: Logs) -> None:
        self.path = path
        self.logs = logs
        self.wanted = True
        self.index: Index | None = None
        self.inode = 0
        self.size = -1
        self.head: int | None = None
        self.watch: int | None = None
        self.rotating = False


class LogWatch:
    """Watches the logs of living instances on an event loop.

    Args:
        loop: Where it lives.
        look: The pause between two looks at an active file.
        room: Called when a disk with logs is full, with the number of times that one was, and
            when there is room again, with 0.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        look: Seconds = LOOK,
        room: Callable[[int], None] = lambda _times: None,
    ) -> None:
        self._loop = loop
        self._tell_room = room
        self._full: set[str] = set()
        self._times_full = 0
        self._pause = look
        self._told: set[str] = set()
        self._notices = self._begin_to_notice()
        self._logs: dict[str, _Log] = {}
        self._slots: dict[str, tuple[int, Logs, tuple[str, ...]]] = {}
        self._by_watch: dict[int, _Log] = {}
        self._active: dict[str, _Log] = {}
        self._timer: asyncio.Handle | None = None
        self._is_listening = False

    def follows(self, slot: str, generation: int, logs: Logs) -> bool:
        """Tell whether the files of this process of a slot are followed, by these rules."""
        there = self._slots.get(slot)
        return there is not None and there[:2] == (generation, logs)

    def follow(self, slot: str, generation: int, logs: Logs, paths: Iterable[str | None]) -> None:
        """Follow the files that a process of a slot has opened. They are looked at later."""
        self.leave(slot)
        kept = tuple(path for path in paths if path is not None)
        self._slots[slot] = (generation, logs, kept)
        for path in kept:
            log = self._logs.setdefault(path, _Log(path, logs))
            log.logs, log.wanted = logs, True
            self._active[path] = log
        self._schedule()

    def leave(self, slot: str) -> None:
        """Look a last time at the files of a slot that has no process any more."""
        there = self._slots.pop(slot, None)
        for path in there[2] if there else ():
            log = self._logs.get(path)
            if log is not None:
                log.wanted = False
                self._active[path] = log
                self._schedule()

    def close(self) -> None:
        """Stop watching."""
        if self._timer is not None:
            self._timer.cancel()
        self._listen(on=False)
        if self._notices is not None:
            self._notices.close()

    # -------------------------------------------------------------- looking

    def _schedule(self) -> None:
        if self._timer is None:
            self._listen(on=False)
            pause = max(self._pause, len(self._active) / LOOKS_PER_SECOND)
            self._timer = self._loop.call_later(pause, self._look)

    def _begin_to_notice(self) -> Notices | None:
        try:
            return Notices()
        except OSError as error:
            self._warn_once("watch", f"Logs are looked at in turns, not watched: {error}")
            return None

    def _listen(self, *, on: bool) -> None:
        """Let the kernel wake us, or not while we look anyway."""
        if self._notices is None:
            return
        if on and not self._is_listening:
            self._loop.add_reader(self._notices.fileno(), self._schedule)
        elif not on and self._is_listening:
            self._loop.remove_reader(self._notices.fileno())
        self._is_listening = on

    def _look(self) -> None:
        fired = self._notices.take() if self._notices is not None else frozenset()
        for number in tuple(self._by_watch) if fired is None else fired:
            log = self._by_watch.pop(number, None)
            if log is not None:
                log.watch = None
                self._active[log.path] = log
        # Only what was just written to can have filled its disk; then we look until it is not.
        self._look_for_room({log.path.rpartition("/")[0] for log in self._active.values()})
        self._look_at(list(self._active.values()))

    def _look_for_room(self, directories: set[str]) -> None:
        for directory in directories | self._full:
            try:
                room = os.statvfs(directory)
            except OSError:
                self._full.discard(directory)
                continue
            # File systems that do not count their blocks have none.
            is_full = room.f_blocks > 0 and room.f_bavail == 0
            if is_full and directory not in self._full:
                self._full.add(directory)
                self._times_full += 1
                logger.warning(
                    "The disk of %s is full: what is written there is lost, or waits in a pipe",
                    directory,
                )
                self._tell_room(self._times_full)
            elif not is_full and directory in self._full:
                self._full.remove(directory)
                logger.info("The disk of %s has room again", directory)
                if not self._full:
                    self._tell_room(0)

    def _look_at(self, rest: list[_Log]) -> None:
        for log in rest[:BATCH]:
            if not self._examine(log):
                self._active.pop(log.path, None)
        if len(rest) > BATCH:
            self._timer = self._loop.call_later(0, self._look_at, rest[BATCH:])
            return
        self._timer = None
        if self._active or self._full:
            self._schedule()
        else:
            self._listen(on=True)

    def _examine(self, log: _Log) -> bool:
        """Look at one file; tell whether to look again soon."""
        if log.rotating:
            return True
        try:
            status = os.stat(log.path)  # noqa: PTH116 - hot path
        except OSError as error:
            self._lost(log, error)
            return False
        has_changed = status.st_size != log.size or status.st_ino != log.inode
        if has_changed:
            self._sample(log, status)
            self._rotate_if_large(log)
            return True
        if not log.wanted:
            self._forget(log)
            return False
        return not self._rest(log)

    def _rest(self, log: _Log) -> bool:
        """Wait for the kernel's word about a file; False when one must go on looking."""
        if self._notices is None:
            return False
        try:
            if log.watch is None:
                log.watch = self._notices.arm(log.path)
                self._by_watch[log.watch] = log
            # What was written before the watch was there is seen now or never.
            return os.stat(log.path).st_size == log.size  # noqa: PTH116 - hot path
        except OSError as error:
            self._warn_once("watch", f"Logs are looked at in turns, not watched: {error}")
            return False

    def _lost(self, log: _Log, error: OSError) -> None:
        if isinstance(error, FileNotFoundError):
            with contextlib.suppress(OSError):
                self._open_index(log)
                self._begin_anew(log)
        log.size, log.inode, log.index, log.head = -1, 0, None, None
        if not log.wanted:
            self._forget(log)
        else:
            self._warn_once(
                log.path,
                f"Cannot find {log.path}: {error.strerror}; "
                + (
                    "it is made again when its writer says something"
                    if log.logs.mode is Capture.PIPED
                    else "what its writer says is lost until it is started again"
                ),
            )

    def _forget(self, log: _Log) -> None:
        if log.watch is not None and self._notices is not None:
            self._by_watch.pop(log.watch, None)
            self._notices.disarm(log.watch)
        if self._logs.get(log.path) is log:
            del self._logs[log.path]

    def _sample(self, log: _Log, status: os.stat_result) -> None:
        try:
            self._open_index(log)
            last = log.index.last if log.index is not None else None
            known = max(log.size, last.offset if last else 0)
            if status.st_size < known or (log.inode and status.st_ino != log.inode):
                self._begin_anew(log)
            if status.st_size and log.index is not None:
                log.index.add(Sample(status.st_size, status.st_mtime_ns / 1e9))
        except (OSError, OrchestratorError) as error:
            self._warn_once("index", f"Cannot write when lines were logged: {error}")
        log.size, log.inode = status.st_size, status.st_ino
        self._told.discard(log.path)

    def _open_index(self, log: _Log) -> None:
        """Open the index of a log, unless its reader writes that."""
        if log.index is None and log.logs.mode is not Capture.PIPED:
            log.index = Index(Path(log.path))

    def _begin_anew(self, log: _Log) -> None:
        if log.index is not None:
            log.index.reset()
        log.head = 0
        moved = rotation.set_aside(Path(log.path))
        kept = f"; {len(moved)} segments of before end in {rotation.ASIDE}" if moved else ""
        logger.warning("%s was cut, replaced or deleted and begins anew%s", log.path, kept)

    # -------------------------------------------------------------- rotation

    def _rotate_if_large(self, log: _Log) -> None:
        if not log.logs.size or log.size <= log.logs.size or "holes" in self._told:
            return
        path = Path(log.path)
        try:
            if log.head is None:
                log.head = rotation.first_byte(path)
            if log.head > log.size:
                self._begin_anew(log)
        except OSError:
            return
        if log.size - log.head <= log.logs.size:
            return
        log.rotating = True
        # Copying takes long; the thread touches nothing but the files.
        logs = log.logs
        future = self._loop.run_in_executor(None, rotation.rotate, path, logs.keep, logs.size)
        future.add_done_callback(lambda done: self._rotated(log, done))

    def _rotated(self, log: _Log, done: asyncio.Future[Path | None]) -> None:
        log.rotating, log.head = False, None
        if done.cancelled():
            return
        error = done.exception()
        if isinstance(error, files.HolesUnsupported):
            self._warn_once("holes", f"Logs are not rotated while their writers live: {error}")
        elif error is not None:
            self._warn_once(f"rotate {log.path}", f"Cannot rotate {log.path}: {error}")
        else:
            self._told.discard(f"rotate {log.path}")
            self._prune(log)
            segment = done.result()
            if log.logs.compress and segment is not None:
                # Not one of the executor's threads: those rotate, and must not be slow.
                threading.Thread(target=_compress, args=(segment,), daemon=True).start()

    def _prune(self, log: _Log) -> None:
        there = rotation.segments(Path(log.path))
        parts = loglayout.split_segment(there[0].name) if there else None
        if log.index is None or parts is None:
            return
        try:
            log.index.prune(parts[1])
        except (OSError, OrchestratorError) as error:
            self._warn_once("index", f"Cannot write when lines were logged: {error}")

    def _warn_once(self, key: str, text: str) -> None:
        if key not in self._told:
            self._told.add(key)
            logger.warning("%s", text)


def _compress(segment: Path) -> None:
    """Compress a segment when nobody else needs the processor."""
    with contextlib.suppress(OSError):
        # A thread has a niceness of its own, setpriority(2).
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
    try:
        rotation.compress(segment)
    except OSError as error:
        logger.warning("Cannot compress %s: %s", segment, error)
