"""The zygote: a process that has the runtime loaded, and forks components and workers of runs.

Run as `python -P -m orchestrator.zygote FORMAT ROOM` with the daemon's socket as its standard
input. Each message on it carries one descriptor, the *channel* of one start, and nothing else.
The zygote forks; the child takes its order from its own channel, so that neither the zygote nor
a sibling ever holds another component's secrets:

    daemon → child   the order, with the descriptors to pass
    child → daemon   {"pid": …, "started": …}, or the step of the set-up that failed
    daemon → child   one byte: go

A child that is not told to go, because the daemon or the channel is gone, ends before any code
of the user's runs. While it waits its marker is *undecided* (see `process.marked_leaders`).

Children are forked by a middle process that ends at once, so that they are the daemon's: it is
a subreaper. The zygote has one thread, no ZeroMQ context and no loop, reads no order, and ends
with the daemon, or when a file that it has loaded has changed: the daemon then starts another.
"""

from __future__ import annotations

import array
import ast
import ctypes
import gc
import importlib
import json
import logging
import os
import random
import socket
import sys
import sysconfig
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from orchestrator import launch
from orchestrator.component import __main__ as program
from orchestrator.component import loader, rehearsal, worker
from orchestrator.component import serving as _serving
from orchestrator.wire import forking

BATCH = 64
"""How many children one middle process forks at most: it is in nobody's way for long."""

MARKER = "ORCH_INSTANCE"

_LOADED = (_serving,)
_PROGRAMS = {"orchestrator.component": program, "orchestrator.component.worker": worker}
"""What a child may become, by the word after `-m`."""

_LAST = 2**31 - 1  # the kernel knows which are open: closing them all is one call
_PR_SET_DUMPABLE, _PR_SET_NAME = 4, 15
_libc = ctypes.CDLL(None)

# As plain numbers: enumerations are written in Python, and each child would run it.
_UNIX, _STREAM = int(socket.AF_UNIX), int(socket.SOCK_STREAM)
_RIGHTS = int(socket.SOL_SOCKET), int(socket.SCM_RIGHTS)


class Hooks:
    """What the standard library does in Python at each fork, kept from ours.

    These hooks make locks anew and forget threads, of which we have none, and they go through
    every lock and logger that all children share. A child has them back for forks of its own.
    """

    def __init__(self) -> None:
        self._kept: list[tuple[list[Any], list[Any]]] = []

    def take(self) -> None:
        """Take them out of the interpreter's lists; found by a hook of our own."""

        def ours() -> None:
            """Do nothing."""

        os.register_at_fork(before=ours, after_in_parent=ours, after_in_child=ours)
        for hooks in gc.get_referrers(ours):
            if type(hooks) is list:
                self._kept.append((hooks, [hook for hook in hooks if hook is not ours]))
                hooks[:] = [hook for hook in self._kept[-1][1] if not _is_for_threads(hook)]

    def give_back(self) -> None:
        """Let a child have them, and do what each process needs: numbers of its own."""
        for hooks, kept in self._kept:
            hooks[:] = kept
        if self._kept:
            random.seed()


def _is_for_threads(hook: object) -> bool:
    """Tell whether a hook is one of these; all of a module, for one locks what another frees."""
    if getattr(hook, "__module__", None) in {logging.__name__, threading.__name__}:
        return True
    return getattr(hook, "__self__", None) is random.seed.__self__  # type: ignore[attr-defined]


class Shown:
    """The memory that /proc shows as our command line and environment.

    It was filled at the exec, and belongs to nobody once `os.environ` has been emptied; a child
    writes its own into its copy.
    """

    def __init__(self) -> None:
        fields = _stat()
        # proc_pid_stat(5), counted from the state: arg_start, arg_end, env_start, env_end.
        self._title, self._title_end, self._start, self._end = map(int, fields[45:49])
        self._shown = self._end - self._start

    def entitle(self, title: str, name: str) -> None:
        """Show `title` as the command line, and `name` as the name of the process."""
        room = self._title_end - self._title
        if room > 2:
            text = os.fsencode(title)[: room - 2]
            # The last byte is not NUL: so the kernel knows that this is one text.
            shown = text.ljust(room - 1, b"\0") + b"."
            ctypes.memmove(self._title, shown, room)
        _libc.prctl(_PR_SET_NAME, os.fsencode(name)[:15], 0, 0, 0)

    def undecided(self, environment: dict[str, str]) -> None:
        """Show an environment, as much as there is room for, with a marker that does not count."""
        marker = os.fsencode(f"{MARKER}={environment.get(MARKER, '')}\0")
        parts, left = [b"?" + marker[1:]], self._end - self._start - len(marker)
        for name, value in environment.items():
            entry = os.fsencode(f"{name}={value}\0")
            if name != MARKER and len(entry) <= left:
                parts.append(entry)
                left -= len(entry)
        if left >= 0:
            # What is beyond is empty by now, and stays shared.
            data = b"".join(parts).ljust(self._shown, b"\0")
            self._shown = len(data)
            ctypes.memmove(self._start, data, len(data))

    def decided(self) -> None:
        """Let the marker count: one byte, so that nobody sees half of it."""
        ctypes.memmove(self._start, MARKER[:1].encode(), 1)


def main(arguments: list[str]) -> int:
    """Serve until the daemon ends; in a child, become the component. Return the exit code."""
    if arguments[:1] != [str(forking.FORMAT)]:
        return 1
    _load_asyncio()
    known = _files(sys.modules.values())
    hooks = Hooks()
    hooks.take()
    control = socket.socket(fileno=os.dup(0))
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.close(null)
    shown, marker = Shown(), os.environ.get(MARKER, "")
    os.environ.clear()
    shown.undecided({MARKER: marker})
    shown.decided()
    shown.entitle(f"orch zygote of {marker.partition('/')[0]}", "orch zygote")
    loader.leave_out_loaded()
    ast.parse("{}")  # makes the types of the tree, which each child would make for itself
    for _ in range(rehearsal.TIMES):
        _practise(shown)
    rehearsal.rehearse()
    gc.collect()
    rehearsal.fill_gaps()
    rehearsal.immortalise()
    gc.freeze()  # A child's collector leaves what we have loaded alone, and thus shared.
    order = _serve(control, known, shown)
    if order is None:
        return 0
    module = _PROGRAMS[order["argv"][-2]]
    hooks.give_back()
    return int(module.main(_assume(order, module)))


class _Later(ModuleType):
    """Stands for a module that is imported when something of it is asked for."""

    def __getattr__(self, name: str) -> object:
        return getattr(importlib.import_module(self.__name__), name)


def _load_asyncio() -> None:
    """Import asyncio, but not what encrypts for it, until a component does.

    That is a sixth of all memory areas that each fork would copy.
    """
    if "ssl" not in sys.modules and "asyncio" not in sys.modules:
        sys.modules["ssl"] = None  # type: ignore[assignment]  # as where there is none
        try:
            asyncio = importlib.import_module("asyncio")
        finally:
            del sys.modules["ssl"]
        without = sys.modules.pop("asyncio.sslproto")
        del asyncio.sslproto
        for name, module in list(sys.modules.items()):
            if name.startswith("asyncio."):
                for found, own in list(vars(module).items()):
                    if found == "ssl" and own is None:
                        setattr(module, found, _Later("ssl"))
                    elif own is without:
                        setattr(module, found, _Later(without.__name__))
    importlib.import_module("orchestrator.component.concurrent")


def _serve(
    control: socket.socket, known: dict[str, tuple[int, int]], shown: Shown
) -> dict[str, Any] | None:
    """Fork whoever is asked for; return None at the end, in a child its order."""
    while True:
        channels = _requested(control)
        if channels is None:
            return None
        if not channels:
            continue
        if known != _stamps(known):
            return None  # Whoever asked sees the channel end, and asks the next zygote.
        mine = _fork(channels)
        if mine is not None:
            return _born(mine, shown)
        for channel in channels:
            os.close(channel)


def _requested(control: socket.socket) -> list[int] | None:
    """Wait for requests and return their channels; None when there is nobody to ask."""
    channels: list[int] = []
    flags = 0
    while len(channels) < BATCH:
        try:
            data, fds = _receive(control, 16, 4, flags)
        except BlockingIOError:
            break
        except OSError:
            return None
        if not data:
            # What was asked for before the end was asked by nobody who still waits.
            return None
        channels += fds[:1]
        for fd in fds[1:]:
            os.close(fd)
        flags = socket.MSG_DONTWAIT
    return channels


def _receive(
    source: socket.SocketType, size: int, most: int, flags: int = 0
) -> tuple[bytes, list[int]]:
    """Receive a message and its descriptors; `socket.recv_fds` leaves its flags unused."""
    data, ancillary, _, _ = source.recvmsg(size, socket.CMSG_LEN(most * 4), flags)
    fds = array.array("i")
    for level, kind, value in ancillary:
        if (level, kind) == _RIGHTS:
            fds.frombytes(value[: len(value) - len(value) % 4])
    return data, list(fds)


def _fork(channels: list[int]) -> int | None:
    """Fork a child for each channel; return None, but in a child its channel."""
    try:
        middle = os.fork()
    except OSError:
        return None
    if middle:
        os.waitpid(middle, 0)
        return None
    for channel in channels:
        try:
            child = os.fork()
        except OSError:
            break
        if not child:
            return channel
    os._exit(0)


def _born(channel: int, shown: Shown) -> dict[str, Any]:
    """Take the order of a child that has just been forked, and carry it out up to the go."""
    os.dup2(channel, 3, inheritable=False)
    _close_but({0, 1, 2, 3})
    talk = socket.SocketType(_UNIX, _STREAM, 0, 3)
    stage = "read the order"
    order: dict[str, Any] = {}
    try:
        data, given = _receive(talk, forking.LONGEST, forking.MOST)
        if not data:
            os._exit(0)
        order = json.loads(data.decode())
        setup, environment = order["setup"], order["environment"]
        fds = dict(zip(order["numbers"], given, strict=True))
        os.setsid()
        for variable, text in environment.items():
            os.environ[variable] = text
        if "TZ" in environment:
            time.tzset()
        shown.undecided(environment)
        shown.entitle(" ".join(order["argv"]), order["name"])
        fd = launch.arrange(talk.detach(), fds)
        talk = socket.SocketType(_UNIX, _STREAM, 0, fd)
        _close_but({0, 1, 2, fd, *fds})
        if order["umask"] is not None:
            os.umask(order["umask"])
        if order["working_dir"]:
            stage = f"enter the directory {order['working_dir']!r}"
            os.chdir(order["working_dir"])
        for stage in launch.prepare(setup):  # noqa: B007 - told when its step fails
            pass
        # Another user's process hides from him what an exec would show again.
        _libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)
        report = _reported()
    except launch.FAILURES as error:
        report = json.dumps(launch.failure(stage, error)).encode()
    try:
        talk.send(report)
        told = talk.recv(1)
    except OSError:
        told = b""
    if told != forking.GO:
        os._exit(0)
    talk.close()
    shown.decided()
    return order


def _practise(shown: Shown) -> None:
    """Do once what each child does before its go, as far as it leaves nothing: see `rehearsal`."""
    setup: dict[str, Any] = dict.fromkeys(("nice", "oom_score_adj", "user", "group"))
    setup |= {"no_new_privileges": False, "rlimits": {}, "pid_variables": [], "joins": []}
    given = dict.fromkeys(("PATH", "HOME", "LANG", "NOTIFY_SOCKET", "ORCH_CONTROL"), "x")
    order = {"setup": setup, "environment": given, "argv": ["python", "-m", "x"], "name": "x"}
    one, other = socket.socketpair()
    with one, other:
        one.send(json.dumps(order).encode())
        data, _ = _receive(other, forking.LONGEST, forking.MOST)
        read = json.loads(data.decode())
        for variable, text in read["environment"].items():
            os.environ[variable] = text
        for _ in launch.prepare(read["setup"]):
            pass
        other.send(_reported())
        one.recv(forking.LONGEST)
    os.environ.clear()
    shown.decided()


def _assume(order: dict[str, Any], module: ModuleType) -> list[str]:
    """Look like an interpreter that was just started with the order's words; return ours."""
    argv = order["argv"]
    sys.orig_argv[:] = argv
    sys.argv[:] = [str(module.__file__), argv[-1]]
    # Ours is kept by the module table of whoever imports us; user code sees the component's.
    sys.modules["__main__"] = module
    gc.enable()
    return sys.argv[1:]


def _reported() -> bytes:
    return b'{"pid": %d, "started": %d}' % (os.getpid(), int(_stat()[19]))


def _close_but(kept: Iterable[int]) -> None:
    begin = 0
    for fd in sorted(kept):
        if begin < fd:  # Given no range, it may close them all.
            os.closerange(begin, fd)
        begin = fd + 1
    os.closerange(begin, _LAST)


def _stat() -> list[bytes]:
    """Our own /proc/self/stat from the third field on."""
    with open("/proc/self/stat", "rb", buffering=0) as file:  # noqa: PTH123 - in every start
        data = file.read()
    return data[data.rindex(b")") + 2 :].split()


def _files(modules: Iterable[ModuleType]) -> dict[str, tuple[int, int]]:
    """Return what identifies each loaded file that is not the standard library's."""
    standard = sysconfig.get_path("stdlib") + "/"
    packages = (sysconfig.get_path("purelib") + "/", sysconfig.get_path("platlib") + "/")
    paths = [str(Path(sys.executable).resolve())]
    for module in list(modules):
        path = getattr(module, "__file__", None)
        if path and (path.startswith(packages) or not path.startswith(standard)):
            paths.append(path)
    return _stamps(paths)


def _stamps(paths: Iterable[str]) -> dict[str, tuple[int, int]]:
    stamps = {}
    for path in paths:
        try:
            status = os.stat(path)  # noqa: PTH116 - in every start
        except OSError:
            stamps[path] = (0, 0)
            continue
        stamps[path] = (status.st_mtime_ns, status.st_ino)
    return stamps


if __name__ == "__main__":
    gc.disable()
    sys.exit(main(sys.argv[1:]))
