"""The reader: carries what piped components say into their log files, and dates it.

Run as `python -P -m orchestrator.daemon.logreader RUNTIME_DIR LOGS`. One process with one thread
serves all pipes of a system. It is told nothing: each named pipe in `RUNTIME_DIR/pipes` is read
into the file of its name in LOGS; one that comes is taken up, one that is removed is read to its
end; when the directory goes, what is left is carried and the reader ends. So any daemon finds it
useful as it is, and any other reader can take its place. A lock keeps it the only one.

Nothing is ever held here. The kernel moves bytes from pipe to file in one call, splice(2), which
takes from the pipe what it has written and no more, also when we are killed within it. What a
disk has no room for stays in the pipe, and the writer waits when that is full. The file holds
what was written, byte by byte; times go into an exact index beside it (`wire/loglayout.py`),
before the bytes, so that whoever sees a line finds its time.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import math
import os
import resource
import select
import stat
import sys
import termios
import time
from pathlib import Path

from orchestrator.daemon import rotation
from orchestrator.daemon.logindex import Index
from orchestrator.daemon.notices import Notices
from orchestrator.errors import OrchestratorError
from orchestrator.model.units import Bytes, Instant, Seconds
from orchestrator.wire import loglayout
from orchestrator.wire.loglayout import Sample

TURN: Bytes = 1 << 16
"""How much one pipe may give before the others have their turn: a whole pipe, pipe(7)."""

AGAIN: Seconds = 0.25
"""Pause before a file is tried again that could not be written to."""

LAST: Seconds = 3.0
"""How long at the end what is left is carried, should there be no room, or no end of it."""

LOCK = "pipes.lock"
"""The file in the runtime directory that the reader locks; it holds its pid and start time."""

_NAME = b"orch logs"
_PR_SET_NAME = 15
_WAITING = bytearray(4)


class Pipe:
    """One named pipe and the log that it is carried into.

    Raises:
        OSError: From the constructor: it cannot be opened.
    """

    def __init__(self, path: Path, log: Path) -> None:
        self.path = path
        self.log = log
        self.fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self.is_removed = False
        self._file = -1
        self._identity = (0, 0)
        self._index: Index | None = None
        self._told = ""

    def close(self) -> None:
        """Let go of both files."""
        os.close(self.fd)
        if self._file >= 0:
            os.close(self._file)

    def carry(self) -> bool:
        """Move what is there, a turn of it; False when nothing was.

        Raises:
            OSError: The log cannot be written to; all that was not written is still there.
        """
        waiting = min(_waiting(self.fd), TURN)
        if not waiting:
            return False
        end = self._end()
        self._date(end + waiting)
        moved = 0
        try:
            moved = os.splice(
                self.fd, self._file, waiting, offset_dst=end, flags=os.SPLICE_F_NONBLOCK
            )
        finally:
            if moved < waiting:
                self._cut(end + moved)
        return True

    def is_over(self) -> bool:
        """Tell whether nothing is in it and nobody has it open for writing."""
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        found = poll.poll(0)
        return bool(found) and not found[0][1] & select.POLLIN

    def complain(self, error: OSError) -> None:
        """Say once why the log cannot be written to, and let the daemon look for room."""
        reason = error.strerror or str(error)
        if reason != self._told:
            self._told = reason
            _say(f"Cannot write to {self.log}: {reason.lower()}; its writer waits")
        with contextlib.suppress(OSError):
            os.utime(self.log)

    def recovered(self) -> None:
        """Take note that the log can be written to."""
        if self._told:
            self._told = ""
            _say(f"{self.log} goes on")

    # -------------------------------------------------------------- the file

    def _end(self) -> int:
        """Return the length of the log, opened anew when somebody has taken it away."""
        try:
            status = os.stat(self.log)  # noqa: PTH116 - hot path
        except FileNotFoundError:
            status = None
        if status is None or (status.st_dev, status.st_ino) != self._identity:
            status = self._open()
        else:
            self._cut(status.st_size)  # Somebody may have.
        return status.st_size

    def _open(self) -> os.stat_result:
        if self._file >= 0:
            os.close(self._file)
            self._file, self._identity = -1, (0, 0)
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            self._file = os.open(self.log, flags, 0o640)
        except FileNotFoundError:
            self.log.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
            self._file = os.open(self.log, flags, 0o640)
        status = os.fstat(self._file)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file")
        self._identity = (status.st_dev, status.st_ino)
        self._index = None
        with contextlib.suppress(OSError, OrchestratorError):
            self._index = Index(self.log, exact=True)
            self._index.cut(status.st_size)
            if status.st_size:
                self._index.add(Sample(status.st_size, status.st_mtime_ns / 1e9))
        return status

    # -------------------------------------------------------------- times

    def _date(self, end: int) -> None:
        """Note that the bytes up to `end` are read now; without room for it they go undated."""
        if self._index is None:
            return
        now = time.time_ns() / 1e9  # the clock of the machine: people compare these
        with contextlib.suppress(OSError, OrchestratorError):
            if self._index.is_full:
                there = rotation.segments(self.log)
                parts = loglayout.split_segment(there[0].name) if there else None
                self._index.prune(parts[1] if parts else 0)
            self._index.add(Sample(end, now))

    def _cut(self, end: int) -> None:
        if self._index is not None:
            with contextlib.suppress(OSError, OrchestratorError):
                self._index.cut(end)


class Reader:
    """All pipes of one system."""

    def __init__(self, pipes: Path, logs: Path) -> None:
        self._directory = pipes
        self._logs = logs
        self._notices = Notices()
        self._epoll = select.epoll()
        self._by_name: dict[str, tuple[int, Pipe]] = {}
        self._by_fd: dict[int, Pipe] = {}
        self._ready: dict[int, Pipe] = {}
        self._stuck: dict[int, Pipe] = {}
        self._try_again: Instant = 0.0

    def serve(self) -> None:
        """Carry until the directory of the pipes is gone and what they hold is carried."""
        with contextlib.suppress(FileNotFoundError):
            self._notices.watch_directory(str(self._directory))
            # A directory does not always tell its own end: not if it is removed in the moment
            # after it was read (Linux 6.18). The one above it does.
            self._notices.watch_directory(str(self._directory.parent))
        self._epoll.register(self._notices.fileno(), select.EPOLLIN)
        is_there = self._look_around()
        give_up = math.inf
        while is_there or ((self._ready or self._stuck) and time.monotonic() < give_up):
            for fd, _ in self._epoll.poll(self._pause()):
                if fd in self._by_fd:
                    self._ready[fd] = self._by_fd[fd]
                else:
                    self._notices.take()
                    is_there = self._look_around()
            self._unstick()
            self._turn()
            if not is_there:
                give_up = min(give_up, time.monotonic() + LAST)

    def _pause(self) -> Seconds | None:
        if self._ready:
            return 0.0
        return max(0.0, self._try_again - time.monotonic()) if self._stuck else None

    def _look_around(self) -> bool:
        """Take up pipes that have come, mark those that have gone; False without a directory."""
        try:
            with os.scandir(self._directory) as entries:
                there = {entry.name: entry.inode() for entry in entries}
            is_there = True
        except FileNotFoundError:
            there, is_there = {}, False
        for name, (inode, pipe) in tuple(self._by_name.items()):
            if there.get(name) != inode:
                del self._by_name[name]
                pipe.is_removed = True
                self._ready[pipe.fd] = pipe
        for name, inode in there.items():
            if name not in self._by_name:
                self._open(name, inode)
        return is_there

    def _open(self, name: str, inode: int) -> None:
        try:
            pipe = Pipe(self._directory / name, self._logs / name)
        except OSError as error:
            if not isinstance(error, FileNotFoundError):
                _say(f"Cannot read the pipe of {name}: {error.strerror}")
            return
        if not stat.S_ISFIFO(os.fstat(pipe.fd).st_mode):
            pipe.close()
            return
        self._by_name[name] = (inode, pipe)
        self._by_fd[pipe.fd] = pipe
        # By edges: the end of a writer is no news until another has come and said something.
        self._epoll.register(pipe.fd, select.EPOLLIN | select.EPOLLET)

    def _turn(self) -> None:
        """Let each pipe that has something give a piece of it."""
        for fd, pipe in tuple(self._ready.items()):
            if fd in self._stuck:
                del self._ready[fd]
                continue
            try:
                if pipe.carry():
                    pipe.recovered()
                    continue
            except OSError as error:
                pipe.complain(error)
                if not self._stuck:
                    self._try_again = time.monotonic() + AGAIN
                self._stuck[fd] = pipe
            del self._ready[fd]
            if pipe.is_removed and fd not in self._stuck and pipe.is_over():
                self._close(pipe)

    def _unstick(self) -> None:
        if self._stuck and time.monotonic() >= self._try_again:
            self._ready |= self._stuck
            self._stuck.clear()

    def _close(self, pipe: Pipe) -> None:
        self._epoll.unregister(pipe.fd)
        del self._by_fd[pipe.fd]
        pipe.close()


def _waiting(fd: int) -> Bytes:
    fcntl.ioctl(fd, termios.FIONREAD, _WAITING)
    return int.from_bytes(_WAITING, sys.byteorder)


def _say(text: str) -> None:
    shown = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    with contextlib.suppress(OSError):
        os.write(2, f"{shown} reader[{os.getpid()}] WARNING {text}\n".encode())


def _lock(path: Path) -> bool:
    """Lock the file while we live, and write into it who we are; False: another has it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    fields = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()
    os.ftruncate(fd, 0)
    os.write(fd, b"%d %s\n" % (os.getpid(), fields[19]))
    return True


def main(runtime_dir: Path, logs: Path) -> int:
    """Read the pipes of a system; return at once when another reader does."""
    ctypes.CDLL(None).prctl(_PR_SET_NAME, _NAME, 0, 0, 0)
    if not _lock(runtime_dir / LOCK):
        return 0
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    os.umask(0o027)
    Reader(runtime_dir / loglayout.PIPES, logs).serve()
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
