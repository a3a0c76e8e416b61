"""What descends from a process or carries its marker, by parents, sessions and environments."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable, Iterator

from orchestrator.model.phase import Process
from orchestrator.process.identity import MARKER, signal_verified, start_time, stat

_UNDECIDED = 2.0
"""How many seconds a forked child may take from the daemon's go to its own code."""

_UNDECIDED_MARKER = "?" + MARKER[1:]
"""The variable that a child of a zygote has until then."""

_LEAST_PAGE = 4000
"""The kernel gives a page of pids at a time; less than this many bytes are the last ones."""


class Adopted:
    """The direct children of main threads, read from files that stay open.

    Among them are all orphans that came to a process: the kernel gives them to the first thread
    that is alive (`find_new_reaper` in kernel/exit.c), and the main thread of a program of ours
    is so to its end. What another thread has started is not among them.

    Whoever waits for a restart waits for two such reads, and opening takes longer than reading.
    An open file is that of one process for good: it is empty when that has ended, whoever has
    its pid by then.
    """

    def __init__(self) -> None:
        self._files: dict[int, int] = {}

    def of(self, *pids: int) -> set[int]:
        """Return the children of the main threads of these; files of others are closed."""
        for pid in self._files.keys() - pids:
            os.close(self._files.pop(pid))
        return {child for pid in pids for child in self._read(pid)}

    def _read(self, pid: int) -> Iterable[int]:
        data = b""
        try:
            fd = self._files.get(pid)
            if fd is None:
                fd = os.open(f"/proc/{pid}/task/{pid}/children", os.O_RDONLY | os.O_CLOEXEC)
                self._files[pid] = fd
            while more := os.pread(fd, 65536, len(data)):
                data += more
                if len(more) < _LEAST_PAGE:
                    break
        except OSError:
            pass  # It has ended.
        return map(int, data.split())

    def __del__(self) -> None:
        self.of()


def children(pid: int) -> tuple[int, ...]:
    """Return the direct children of all threads of a process."""
    found: list[int] = []
    try:
        threads = os.listdir(f"/proc/{pid}/task")  # noqa: PTH208 - hot path
    except OSError:
        return ()
    for thread in threads:
        with contextlib.suppress(OSError):
            fd = os.open(f"/proc/{pid}/task/{thread}/children", os.O_RDONLY | os.O_CLOEXEC)
            with open(fd, "rb", buffering=0) as file:  # noqa: PTH123 - a descriptor
                found.extend(map(int, file.read().split()))
    return tuple(found)


def descendants(pid: int) -> Iterator[int]:
    """Yield the pids below `pid`, parents before children."""
    todo = list(children(pid))
    while todo:
        child = todo.pop()
        yield child
        todo.extend(children(child))


def survivors(
    leader: Process, marker: str, strangers: Iterable[int], *, ended: bool
) -> tuple[Process, ...]:
    """Return the living processes of a tree other than its leader.

    When the leader has `ended` nothing descends from it any more: its children have lost
    their parent.

    A tree is what descends from the leader, and what lost its parent and came to one of our
    subreapers (`strangers`), together with what descends from that. An orphan belongs to the
    tree when it is in the leader's session or group, or carries the marker: a program that
    cleared its environment *and* made a session *and* outlived its parent is not found.
    """
    roots = [pid for pid in strangers if _belongs(pid, leader, marker)]
    if not ended and start_time(leader.pid) == leader.started:
        roots.append(leader.pid)
    found: dict[int, Process] = {}
    for root in roots:
        for pid in (root, *descendants(root)):
            fields = None if pid == leader.pid else stat(pid)
            if fields and fields[0] not in b"ZX":
                found[pid] = Process(pid, int(fields[19]))
    return tuple(found.values())


def living(pids: Iterable[int]) -> Iterator[Process]:
    """Yield the processes behind `pids` that live; zombies do not."""
    for pid in pids:
        fields = stat(pid)
        if fields and fields[0] not in b"ZX":
            yield Process(pid, int(fields[19]))


def _belongs(pid: int, leader: Process, marker: str) -> bool:
    fields = stat(pid)
    if fields is None:
        return False
    group, session = int(fields[2]), int(fields[3])
    if leader.pid in (group, session):
        return True
    return marker_of(pid) == marker


def marker_of(pid: int) -> str | None:
    """Return the marker in the environment that a process was started with."""
    return variable_of(pid, MARKER)


def variable_of(pid: int, variable: str) -> str | None:
    """Return a variable of the environment that a process was started with; None without it."""
    return _variables_of(pid, variable)[0]


def _variables_of(pid: int, *variables: str) -> list[str | None]:
    try:
        with open(f"/proc/{pid}/environ", "rb", buffering=0) as file:  # noqa: PTH123
            data = file.read()
    except OSError:
        return [None] * len(variables)
    entries = data.split(b"\0")
    prefixes = (variable.encode() + b"=" for variable in variables)
    return [
        next(
            (e[len(prefix) :].decode(errors="replace") for e in entries if e.startswith(prefix)),
            None,
        )
        for prefix in prefixes
    ]


def marked_leaders(prefix: str) -> dict[str, Process]:
    """Return every living session leader whose marker begins with `prefix`, by its marker.

    Only recovery asks for it: it reads the environment of each process on the machine. A child
    of a zygote whose marker is undecided was told to go by the daemon that has died, and then
    it soon goes; or it was not, and then it ends by itself without having run. Either is
    awaited, so that no instance is overlooked and started twice; one that does neither has
    been suspended, and is killed.
    """
    deadline = time.monotonic() + _UNDECIDED
    while True:
        decided, undecided = _leaders(prefix)
        if not undecided:
            return decided
        if time.monotonic() > deadline:
            for process in undecided.values():
                signal_verified(process, signal.SIGKILL)
        time.sleep(0.002)


def _leaders(prefix: str) -> tuple[dict[str, Process], dict[str, Process]]:
    """Return the decided leaders and the undecided ones, in one look at all processes."""
    found: tuple[dict[str, Process], dict[str, Process]] = {}, {}
    for entry in os.listdir("/proc"):  # noqa: PTH208
        if not entry.isdecimal():
            continue
        pid = int(entry)
        fields = stat(pid)
        # A leader is alone in having its own pid as its session; its children share its marker.
        if fields is None or int(fields[3]) != pid or fields[0] in b"ZX":
            continue
        for marker, leaders in zip(
            _variables_of(pid, MARKER, _UNDECIDED_MARKER), found, strict=True
        ):
            if marker is not None and marker.startswith(prefix):
                leaders[marker] = Process(pid, int(fields[19]))
    return found


def become_subreaper() -> None:
    """Make orphans of our descendants our children (prctl(2), PR_SET_CHILD_SUBREAPER)."""
    import ctypes  # noqa: PLC0415 - only the daemon pays for it

    pr_set_child_subreaper = 36
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(pr_set_child_subreaper, 1, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
