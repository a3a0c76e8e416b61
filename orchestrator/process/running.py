"""Programs of our own whose end is waited for: short ones, and those of runs."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from orchestrator.errors import SpawnError
from orchestrator.model.phase import Process
from orchestrator.model.units import Seconds
from orchestrator.process.identity import open_pidfd, reap, signal_process, stat
from orchestrator.process.starting import Order, spawn_error
from orchestrator.process.trees import descendants, variable_of


class Finished(Struct, frozen=True):
    """A short child that has ended; `code` is negative for a signal, as in `subprocess`."""

    code: int
    stdout: bytes
    stderr: bytes


class Overdue(TimeoutError):
    """A short child ran too long and was killed; `stdout` is what it had written."""

    def __init__(self, message: str, stdout: bytes) -> None:
        super().__init__(message)
        self.stdout = stdout


_DRAIN: Seconds = 1.0
"""How long what a killed child left in its pipes is read: another may hold them open."""


def run(
    argv: Sequence[str],
    *,
    input: bytes = b"",  # noqa: A002 - subprocess's own word
    timeout: Seconds,
    environment: Mapping[str, str] | None = None,
    cwd: str | None = None,
    user: tuple[int, int] | None = None,
) -> Finished:
    """Run a program to its end and return what it wrote.

    With `user`, numbers of a user and a group, it is run as these and has no other groups.

    Raises:
        SpawnError: It cannot be started.
        Overdue: It ran longer than `timeout`; it has been killed with its group.
    """
    order = Order(tuple(argv), environment or os.environ, cwd or "")
    try:
        child = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            cwd=cwd,
            start_new_session=True,
            user=user[0] if user else None,
            group=user[1] if user else None,
            extra_groups=() if user else None,
        )
    except OSError as error:
        raise spawn_error(error, order) from error
    with child:
        try:
            stdout, stderr = child.communicate(input, timeout)
        except BaseException as error:
            # Ctrl-C too: in a session of its own it has not heard of it.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            try:
                stdout, _ = child.communicate(timeout=_DRAIN)
            except subprocess.TimeoutExpired as late:
                stdout = late.output or b""
            message = f"{argv[0]!r} did not end within {timeout:g}s"
            raise Overdue(message, stdout) from None
    return Finished(child.returncode, stdout, stderr)


Begun = subprocess.Popen[bytes]
"""A program of ours that `begin` started."""


def begin_program(
    argv: Sequence[str], *, environment: Mapping[str, str], cwd: str, output: int
) -> Begun:
    """Start the program of a run in a process group of its own; the caller waits for it.

    It stays in our session, so that it is found as a part of our tree. It reads nothing, and
    both of its outputs go to the descriptor `output`.

    Raises:
        SpawnError: It cannot be started.
    """
    return _begun(argv, environment, cwd, output, process_group=0)


def left_by(group: int, variable: str, value: str) -> tuple[Process, ...]:
    """Return what lives of a program below us: its group, and who carries its variable.

    Nobody is overlooked by having lost its parent when we are a subreaper.
    """
    found = []
    for pid in descendants(os.getpid()):
        fields = stat(pid)
        if not fields or fields[0] in b"ZX":
            continue
        if int(fields[2]) == group or variable_of(pid, variable) == value:
            found.append(Process(pid, int(fields[19])))
    return tuple(found)


def end_all(found: Iterable[Process], patience: Seconds) -> None:
    """Kill processes and wait until they are dead, so long at most; reap those of ours."""
    deadline = time.monotonic() + patience
    opened = [(process, fd) for process in found if (fd := _opened(process)) is not None]
    for _, fd in opened:
        with contextlib.suppress(PermissionError):  # One that has become another user.
            signal_process(fd, signal.SIGKILL)
    for _, fd in opened:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
        reap(fd)
        os.close(fd)


def _opened(process: Process) -> int | None:
    try:
        return open_pidfd(process)
    except OSError:
        return None  # What cannot be verified is not touched.


def begin(argv: Sequence[str], *, output: int) -> Begun:
    """Start a program of ours in a session of its own; the caller waits for it.

    Both of its outputs go to the descriptor `output`.

    Raises:
        SpawnError: It cannot be started.
    """
    return _begun(argv, os.environ, "/", output, start_new_session=True)


def _begun(
    argv: Sequence[str], environment: Mapping[str, str], cwd: str, output: int, **how: Any
) -> Begun:
    try:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=cwd,
            env=environment,
            **how,
        )
    except OSError as error:
        raise spawn_error(error, Order(tuple(argv), environment, cwd)) from error
    except ValueError as error:
        raise SpawnError(f"execute {argv[0]!r}", errno.EINVAL, str(error)) from error


def beside(
    argv: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    cwd: str | None = None,
    passed: Sequence[int] = (),
) -> Begun:
    """Start a program that shares our terminal and outputs; the caller waits for it.

    Raises:
        SpawnError: It cannot be started.
    """
    try:
        return subprocess.Popen(argv, env=environment, cwd=cwd, pass_fds=passed)
    except OSError as error:
        raise spawn_error(error, Order(tuple(argv), environment or {}, cwd or "")) from error


def ended(begun: Begun, timeout: Seconds | None) -> int | None:
    """Wait for a program's end and return its exit code, negative for a signal.

    None when it takes longer.
    """
    try:
        return begun.wait(timeout)
    except subprocess.TimeoutExpired:
        return None
