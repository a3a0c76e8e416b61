"""Starting programs: vfork and exec, a launcher for what must be set up first, the zygote.

Nothing here waits for anything but a child's exec.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import os
import resource
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from msgspec import Struct, field

from orchestrator import launch
from orchestrator.cgroups import NO_LIMITS, Limits
from orchestrator.errors import SpawnError
from orchestrator.model.phase import Process
from orchestrator.process.identity import MARKER, start_time, ticks
from orchestrator.wire import forking

_TRANSIENT = frozenset({errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOMEM})
_SIGNALS = tuple(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})
_LOG_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
_PIPE_FLAGS = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
_LAUNCH = str(Path(__file__).parents[1] / "launch.py")


_ZYGOTE = (sys.executable, "-P", "-m", "orchestrator.zygote")
_TITLE_ROOM, _ENVIRONMENT_ROOM = 1024, 16384
"""How many bytes `ps` can show of a forked component's command line and environment."""


class Setup(Struct, frozen=True):
    """What a program's process is given before the program begins; None leaves as it is.

    Attributes:
        fds: Descriptors to pass, by the number that the program finds them at.
        pid_variables: Environment variables that the program finds its own pid in.
        joins: The `cgroup.procs` files of the control groups that it belongs to.
        rlimits: Limit name without `RLIMIT_`, lower case, to (soft, hard); -1 is unlimited.
    """

    user: str | None = None
    group: str | None = None
    nice: int | None = None
    oom_score_adj: int | None = None
    no_new_privileges: bool = False
    rlimits: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    fds: Mapping[int, int] = field(default_factory=dict)
    pid_variables: tuple[str, ...] = ()
    joins: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self is not NO_SETUP and self != NO_SETUP  # Mostly it is that very one.


NO_SETUP = Setup()
"""What most programs are given: nothing."""


class Order(Struct, frozen=True):
    """A program to start in a session of its own.

    `stdout` and `stderr` are paths opened for appending (made with mode 0640), None discards;
    with `piped` they are named pipes. A program holds the reading end of its pipes too, so that
    it gets no SIGPIPE whoever dies. `output`, a descriptor of ours, takes both in their place.
    `limits` are for who places the process; `spawn` itself knows nothing of them.
    `no_zygote` says of a handler's interpreter why it must be a fresh one; empty when the
    zygote may fork it, None when it is none.
    """

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    working_dir: str
    stdout: str | None = None
    stderr: str | None = None
    piped: bool = False
    output: int | None = None
    umask: int | None = None
    setup: Setup = NO_SETUP
    limits: Limits = NO_LIMITS
    no_zygote: str | None = None


class Child(Struct, frozen=True):
    """A started program. With `errors`, its set-up is under way: see `setup_failure`."""

    process: Process
    errors: int | None = None


# ------------------------------------------------------------------ starting


class _OpenFiles(Struct):
    """The limits of open files that we began with, once ours have been raised.

    `low` are descriptors below them: what is passed by number must not lie above, or
    posix_spawn(3) refuses it.
    """

    began: tuple[int, int] | None = None
    low: tuple[int, ...] = ()


_open_files = _OpenFiles()


def raise_open_files(soft: int) -> None:
    """Raise our soft limit of open files; what we start has the limits that we began with.

    Programs that use select(2), or close every descriptor there may be, rely on a low one.
    """
    if _open_files.began is None:
        _open_files.low = tuple(os.dup(_null()) for _ in range(3))
        _open_files.began = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, _open_files.began[1]))


def restore_open_files() -> int | None:
    """Take the limits that we began with again: what is open above them stays open.

    Returns the soft limit that was raised; None when it was not.
    """
    soft = None
    if _open_files.began is not None:
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        resource.setrlimit(resource.RLIMIT_NOFILE, _open_files.began)
        for fd in _open_files.low:
            os.close(fd)
        _open_files.began, _open_files.low = None, ()
    return soft


def spawn(order: Order) -> Child:
    """Start a program; return when its exec has succeeded.

    By posix_spawn(3), which shares our memory with the child until the exec: its price does
    not grow with us, and it is a third less than that of `subprocess`. Only descriptors 0, 1, 2
    and what the set-up passes reach the child, because all others are close-on-exec. The
    working directory is taken from us, so it is ours for that moment.

    With a set-up the exec of a small launcher has succeeded; the program's own is known
    when `errors` ends: empty when all went well, otherwise `setup_failure` reads the reason.

    Raises:
        SpawnError: The program cannot be started; nothing of it is left.
    """
    opened: list[int] = []
    try:
        stdout, stderr = _outputs(order, opened)
        if order.setup:
            return _launched(order, (_null(), stdout, stderr))
        before = ticks()
        pid = _posix_spawn(order.argv, order, (_null(), stdout, stderr))
    finally:
        for fd in opened:
            os.close(fd)
    return Child(_process(pid, before))


def _launched(order: Order, streams: tuple[int, int, int]) -> Child:
    """Start a program by way of the launcher, which sets up its process."""
    with contextlib.ExitStack() as opened:
        errors, reported = _pipe(opened)
        for fd in (reported, *order.setup.fds.values()):
            os.set_inheritable(fd, True)
            # What stays open here must not reach the next child.
            opened.callback(os.set_inheritable, fd, False)
        before = ticks()
        try:
            pid = _posix_spawn((*_launcher(order.setup, reported), *order.argv), order, streams)
        except SpawnError:
            os.close(errors)
            raise
    return Child(_process(pid, before), errors)


def _process(pid: int, before: int) -> Process:
    """Return a child that was started since the clock had counted `before` ticks."""
    # Within one tick the start time is known; reading it costs a quarter of a spawn. The
    # child is not reaped by anybody else, so its entry in /proc is there, zombie or not.
    started = before if before == ticks() else start_time(pid)
    return Process(pid, started or 0)


def replace(order: Order) -> NoReturn:
    """Become a program, with our standard streams and our place among processes.

    Raises:
        SpawnError: It cannot be; this process may have the user and limits asked for already.
    """
    try:
        program = _program(order.argv[0], order.environment)
        if order.umask is not None:
            os.umask(order.umask)
        if order.working_dir:
            os.chdir(order.working_dir)
        _set_up(order.setup)
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)  # The interpreter ignores them.
        os.execve(program, order.argv, order.environment)  # noqa: S606
    except OSError as error:
        raise spawn_error(error, order) from error


def perform(order: Order, *, output: int) -> int:
    """Run a program beside us to its end, as `replace` would start it; return its exit code.

    What it prints goes to the descriptor `output`, its errors to our own.

    Raises:
        SpawnError: There is no room for another process.
    """
    sys.stdout.flush()
    try:
        pid = os.fork()
    except OSError as error:
        raise spawn_error(error, order) from error
    if pid == 0:
        try:
            os.dup2(output, 1)
            replace(order)
        except SpawnError as error:
            os.write(2, f"orch: {error}\n".encode())
        finally:
            os._exit(127)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _set_up(setup: Setup) -> None:
    """Apply a set-up to this process."""
    if not setup:
        return
    stage = ""
    try:
        for stage in launch.prepare(_plain(setup)):  # noqa: B007 - told when its step fails
            pass
    except launch.FAILURES as error:
        raise failed_step(launch.failure(stage, error)) from error


def _posix_spawn(argv: tuple[str, ...], order: Order, streams: tuple[int, ...]) -> int:
    directory = order.working_dir
    before = None if order.umask is None else os.umask(order.umask)
    # A launcher lowers its limit itself, once it has moved descriptors that lie above it.
    raised = None
    if _open_files.began is not None and not order.setup:
        raised = resource.getrlimit(resource.RLIMIT_NOFILE)
        for fd, low in zip(streams, _open_files.low, strict=True):
            os.dup2(fd, low, inheritable=False)
        streams = _open_files.low
        resource.setrlimit(resource.RLIMIT_NOFILE, _open_files.began)
    try:
        if directory:
            os.chdir(directory)
        return os.posix_spawn(
            _program(argv[0], order.environment),
            argv,
            order.environment,
            file_actions=[(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(streams)],
            setsid=True,
            setsigmask=(),
            # The interpreter ignores some, and so may have whoever started us (nohup, `&`).
            setsigdef=_SIGNALS,
        )
    except OSError as error:
        raise spawn_error(error, order) from error
    except ValueError as error:
        # A NUL byte in a word, or "=" in the name of a variable.
        raise SpawnError(f"execute {argv[0]!r}", errno.EINVAL, str(error)) from error
    finally:
        if raised is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, raised)
            for low in _open_files.low:
                os.dup2(_null(), low, inheritable=False)
        if directory:
            os.chdir("/")
        if before is not None:
            os.umask(before)


def _program(name: str, environment: Mapping[str, str]) -> str:
    """Return the path of a program as the child's own PATH finds it."""
    if "/" in name:
        return name
    for directory in environment.get("PATH", os.defpath).split(os.pathsep):
        path = f"{directory or '.'}/{name}"
        if os.access(path, os.X_OK) and not os.path.isdir(path):  # noqa: PTH112 - hot path
            return path
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)


def _is_in_path(program: str, order: Order) -> bool:
    try:
        _program(program, order.environment)
    except FileNotFoundError:
        return False
    return True


@functools.cache
def _null() -> int:
    return os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)


def setup_failure(errors: int, order: Order) -> SpawnError | None:
    """Read what a launcher reported and close the pipe; None when the program was executed."""
    with open(errors, "rb") as pipe:
        report = pipe.read()
    if not report:
        return None
    failure = json.loads(report)
    error = OSError(failure["errno"], failure["reason"])
    if failure["stage"] == "execute":
        error.filename = order.argv[0]
        return spawn_error(error, order)
    return failed_step(failure)


def failed_step(failure: Mapping[str, Any]) -> SpawnError:
    """Return the error for a step of the set-up that the new process has reported."""
    transient = failure["errno"] in _TRANSIENT
    return SpawnError(failure["stage"], failure["errno"], failure["reason"], transient=transient)


def _launcher(setup: Setup, reported: int) -> tuple[str, ...]:
    plain = _plain(setup) | {
        "errors": reported,
        "fds": {str(number): fd for number, fd in setup.fds.items()},
    }
    return (sys.executable, "-I", "-S", _LAUNCH, json.dumps(plain))


def _plain(setup: Setup) -> dict[str, Any]:
    rlimits = dict(setup.rlimits)
    if _open_files.began is not None:
        rlimits.setdefault("nofile", _open_files.began)
    return {
        "user": setup.user,
        "group": setup.group,
        "nice": setup.nice,
        "oom_score_adj": setup.oom_score_adj,
        "no_new_privileges": setup.no_new_privileges,
        "rlimits": {name: list(pair) for name, pair in rlimits.items()},
        "pid_variables": setup.pid_variables,
        "joins": setup.joins,
    }


def start_zygote(environment: Mapping[str, str], control: int) -> Process:
    """Start a zygote that takes requests from the socket `control`; it may still be loading.

    What it says goes where our own words go. It gives up its room in the environment and on the
    command line to those that it forks.

    Raises:
        SpawnError: It cannot be started.
    """
    given = {**environment, "ORCH_ROOM": "x" * _ENVIRONMENT_ROOM}
    argv = (*_ZYGOTE, str(forking.FORMAT), "x" * _TITLE_ROOM)
    pid = _posix_spawn(argv, Order(argv, given, "/"), (control, 1, 2))
    return Process(pid, start_time(pid) or 0)


def fork_order(order: Order) -> tuple[bytes, dict[int, int]]:
    """Return an order as a forked child reads it, and the descriptors to send with it.

    These are by the number that the child finds them at, and the caller's to close.

    Raises:
        SpawnError: A log file cannot be opened, or there are no more descriptors.
    """
    opened: list[int] = []
    fds: dict[int, int] = {}
    try:
        stdout, stderr = _outputs(order, opened)
        for number, fd in {1: stdout, 2: stderr, **order.setup.fds}.items():
            fds[number] = os.dup(fd)
    except OSError as error:
        for fd in fds.values():
            os.close(fd)
        stage, reason = "duplicate a descriptor", error.strerror or str(error)
        raise SpawnError(stage, error.errno or 0, reason, transient=True) from error
    finally:
        for fd in opened:
            os.close(fd)
    plain = {
        "argv": order.argv,
        "name": order.environment.get(MARKER, "//").split("/")[1],
        "environment": dict(order.environment),
        "working_dir": order.working_dir,
        "umask": order.umask,
        "setup": _plain(order.setup),
        "numbers": list(fds),
    }
    return json.dumps(plain).encode(), fds


def _outputs(order: Order, opened: list[int]) -> tuple[int, int]:
    if order.output is not None:
        return order.output, order.output
    stdout = _log(order.stdout, opened, piped=order.piped)
    is_same = order.stderr == order.stdout
    return stdout, stdout if is_same else _log(order.stderr, opened, piped=order.piped)


def _log(path: str | None, opened: list[int], *, piped: bool) -> int:
    """Open a log, and take note of it in `opened`."""
    if path is None:
        return _null()
    try:
        try:
            fd = os.open(path, _PIPE_FLAGS if piped else _LOG_FLAGS, 0o640)
        except FileNotFoundError:
            # Somebody has removed the directory of a running system; the rest goes on.
            os.makedirs(os.path.dirname(path), 0o750, exist_ok=True)  # noqa: PTH103, PTH120
            fd = os.open(path, _LOG_FLAGS, 0o640)
    except OSError as error:
        stage = f"open the {'pipe' if piped else 'log file'} {path!r}"
        transient = error.errno in _TRANSIENT or error.errno == errno.ENOSPC
        reason = error.strerror or str(error)
        raise SpawnError(stage, error.errno or 0, reason, transient=transient) from error
    opened.append(fd)
    return fd


def _pipe(opened: contextlib.ExitStack) -> tuple[int, int]:
    try:
        reading, writing = os.pipe()
    except OSError as error:
        reason = error.strerror or str(error)
        raise SpawnError("make a pipe", error.errno or 0, reason, transient=True) from error
    opened.callback(os.close, writing)
    return reading, writing


def spawn_error(error: OSError, order: Order) -> SpawnError:
    """Return what kept a program from being started, in words that help."""
    program = order.argv[0]
    reason = error.strerror or str(error)
    number = error.errno or 0
    transient = number in _TRANSIENT
    directory = order.working_dir
    if directory and error.filename == directory and program != directory:
        return SpawnError(f"enter the directory {directory!r}", number, reason)
    if transient:
        return SpawnError(f"start {program!r}", number, reason, transient=True)
    if number == errno.ENOENT and "/" not in program and not _is_in_path(program, order):
        # A file of this name in the working directory is no program: that would be ./NAME.
        reason = f"not found in PATH={order.environment.get('PATH', os.defpath)}"
    elif number == errno.ENOENT and (
        "/" not in program or os.path.exists(os.path.join(directory, program))  # noqa: PTH118, PTH110
    ):
        reason = "the interpreter that its first line names is missing"
    elif number == errno.EACCES and os.path.isfile(os.path.join(directory, program)):  # noqa: PTH118, PTH113
        reason = f"{reason} (is it executable? chmod +x {program})"
    elif number == errno.ENOEXEC:
        reason = f"{reason} (a script needs a first line such as #!/bin/sh)"
    return SpawnError(f"execute {program!r}", number, reason)
