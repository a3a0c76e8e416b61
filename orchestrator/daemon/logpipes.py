"""The pipes of components that want each line dated, and the one reader that carries them.

The daemon carries nothing. It makes the pipes, holds their reading ends so that what is in them
outlives writer and reader, and sees to it that there is a reader (`logreader.py`), which
outlives the daemon. Each of the three may be killed at any time, and nothing is lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import logging
import os
import signal
import sys
import termios
from pathlib import Path

from orchestrator import process as processes
from orchestrator.daemon import logreader, programs
from orchestrator.daemon.programs import Place
from orchestrator.errors import SpawnError
from orchestrator.model.phase import Process
from orchestrator.model.topology import Component
from orchestrator.model.units import Instant, Seconds
from orchestrator.wire import loglayout

logger = logging.getLogger(__name__)

END_TIMEOUT: Seconds = logreader.LAST + 2.0
"""How long the reader may take at the end to carry what is left."""

AGAIN: Seconds = 0.02
"""Pause before another reader is started in place of one that has ended."""

AGAIN_SOON: Seconds = 1.0
"""The same when that has lived no longer than this."""


class LogPipes:
    """The pipes of one system.

    Args:
        loop: The daemon's loop.
        place: The system's name and directories.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, place: Place) -> None:
        self._loop = loop
        self._place = place
        self._directory = Path(place.runtime_dir) / loglayout.PIPES
        self._lock = Path(place.runtime_dir) / logreader.LOCK
        self._held: dict[str, tuple[tuple[str, int], ...]] = {}
        self._begun: processes.Begun | None = None
        self._pidfd: int | None = None
        self._reader: Process | None = None
        self._since: Instant = 0.0
        self._is_closing = False
        self._ended = asyncio.Event()

    @property
    def reader(self) -> Process | None:
        """The reader, None while there is none."""
        return self._reader

    def prepare(self, slot: str, component: Component) -> None:
        """Make the pipes of a component that is about to be started, and see to their reader.

        Raises:
            SpawnError: They cannot be made, or nobody can read them.
        """
        if not component.is_piped:
            return
        try:
            self._hold(slot, component)
            for path in programs.outputs(component, self._place):
                if path is not None:
                    _make(path)
            self._read()
        except OSError as error:
            stage, number = "make the pipes of its logs", error.errno or 0
            transient = number in (errno.EMFILE, errno.ENFILE, errno.ENOSPC)
            reason = error.strerror or str(error)
            raise SpawnError(stage, number, reason, transient=transient) from error

    def recover(self, slot: str, component: Component) -> None:
        """Hold again what an earlier daemon held, and see to the reader."""
        if component.is_piped:
            with contextlib.suppress(SpawnError):
                self.prepare(slot, component)

    def keep(self, slot: str, component: Component | None) -> None:
        """Remove the pipes of a slot that is gone, or writes its files itself by now.

        The reader reads them to their end.
        """
        if slot in self._held and (component is None or not component.is_piped):
            for path, fd in self._held.pop(slot):
                os.close(fd)
                Path(path).unlink(missing_ok=True)

    def is_waiting(self, slot: str) -> bool:
        """Tell whether something that the slot has said is not in its files yet."""
        waiting = bytearray(4)
        for _, fd in self._held.get(slot, ()):
            fcntl.ioctl(fd, termios.FIONREAD, waiting)
            if any(waiting):
                return True
        return False

    def replace_reader(self) -> None:
        """Let new code do the reading: another reader takes the place of this one."""
        if self._reader is not None:
            processes.signal_verified(self._reader, signal.SIGKILL)

    async def close(self) -> None:
        """Remove all pipes; return when what is in them is in the files."""
        self._is_closing = True
        for slot in tuple(self._held):
            self.keep(slot, None)
        with contextlib.suppress(FileNotFoundError):
            for path in self._directory.iterdir():
                path.unlink()
            self._directory.rmdir()
        if self._pidfd is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), END_TIMEOUT)
        self._lock.unlink(missing_ok=True)

    # -------------------------------------------------------------- pipes

    def _hold(self, slot: str, component: Component) -> None:
        """Hold the reading ends of a slot's pipes, which are made where they are not there."""
        paths = [path for path in programs.pipes(component, self._place) if path is not None]
        held = self._held.get(slot, ())
        if [path for path, _ in held] == paths and all(_is_at(fd, path) for path, fd in held):
            return
        self._directory.mkdir(mode=0o700, exist_ok=True)
        new: list[tuple[str, int]] = []
        try:
            for path in paths:
                with contextlib.suppress(FileExistsError):
                    os.mkfifo(path, 0o600)
                flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW
                new.append((path, os.open(path, flags)))
        except OSError:
            for _, fd in new:
                os.close(fd)
            raise
        for _, fd in held:
            os.close(fd)
        self._held[slot] = tuple(new)

    # -------------------------------------------------------------- the reader

    def _read(self) -> None:
        """See to it that there is a reader."""
        if self._pidfd is not None or self._is_closing:
            return
        there = _locker(self._lock)
        if there is None:
            logs = Path(self._place.base_dir) / "logging"
            argv = (sys.executable, "-P", "-m", logreader.__name__)
            self._begun = processes.begin((*argv, self._place.runtime_dir, str(logs)), output=2)
            pid = self._begun.pid
            there = Process(pid, processes.start_time(pid) or 0)
        self._pidfd = processes.open_pidfd(there)
        if self._pidfd is None:
            self._loop.call_later(AGAIN, self._read_again)
            return
        self._reader, self._since = there, self._loop.time()
        self._loop.add_reader(self._pidfd, self._on_end, self._pidfd)

    def _on_end(self, pidfd: int) -> None:
        self._loop.remove_reader(pidfd)
        os.close(pidfd)
        self._pidfd, self._reader = None, None
        if self._begun is not None:
            self._begun.wait()
            self._begun = None
        if self._is_closing:
            self._ended.set()
        elif self._held:
            logger.warning("The reader of piped logs is gone: starting another")
            is_quick = self._loop.time() - self._since < AGAIN_SOON
            self._loop.call_later(AGAIN_SOON if is_quick else AGAIN, self._read_again)

    def _read_again(self) -> None:
        try:
            if self._held:
                self._read()
        except (OSError, SpawnError) as error:
            logger.error("Nobody reads piped logs, their writers wait: %s", error)  # noqa: TRY400
            self._loop.call_later(AGAIN_SOON, self._read_again)


def _make(path: str) -> None:
    """Make a log file, so that it is there before anything is said."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        os.close(os.open(path, flags, 0o640))
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), 0o750, exist_ok=True)  # noqa: PTH103, PTH120
        os.close(os.open(path, flags, 0o640))


def _is_at(fd: int, path: str) -> bool:
    try:
        there = os.stat(path)  # noqa: PTH116 - hot path
    except FileNotFoundError:
        return False
    return os.path.samestat(there, os.fstat(fd))


def _locker(lock: Path) -> Process | None:
    """Return who holds the reader's lock, None when nobody does."""
    try:
        fd = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        with contextlib.suppress(ValueError):
            pid, started = os.read(fd, 64).split()
            return Process(int(pid), int(started))
        return None
    else:
        return None
    finally:
        os.close(fd)
