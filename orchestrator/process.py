"""The only door to processes: starting, watching, signalling, finding and ending them.

Everything is keyed by `Process` (pid and kernel start time) and acts through a pidfd, so that
a reused pid is never touched. Nothing here waits for anything but a child's exec, and
nothing decides: the callers do.

Linux is the reference. Elsewhere there is no pidfd and no subreaper: `orch` needs both for
what it promises, and says so at import of this module's users.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import os
import resource
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from orchestrator import launch
from orchestrator.cgroups import NO_LIMITS, Limits
from orchestrator.errors import SpawnError
from orchestrator.model.phase import Exit, Process
from orchestrator.model.units import Seconds
from orchestrator.wire import forking

MARKER = "ORCH_INSTANCE"
"""The environment variable that marks every process of ours: `KEY/NAME/GENERATION`."""

_TRANSIENT = frozenset({errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOMEM})
_SIGNALS = tuple(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})
_LOG_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
_PIPE_FLAGS = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_LAUNCH = str(Path(__file__).with_name("launch.py"))


_ZYGOTE = (sys.executable, "-P", "-m", "orchestrator.zygote")
_TITLE_ROOM, _ENVIRONMENT_ROOM = 1024, 16384
"""How many bytes `ps` can show of a forked component's command line and environment."""

_UNDECIDED = 2.0
"""How many seconds a forked child may take from the daemon's go to its own code."""


@dataclass(frozen=True, slots=True)
class Setup:
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


@dataclass(frozen=True, slots=True)
class Order:
    """A program to start in a session of its own.

    `stdout` and `stderr` are paths opened for appending (made with mode 0640), None discards;
    with `piped` they are named pipes. A program holds the reading end of its pipes too, so that
    it gets no SIGPIPE whoever dies.
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
    umask: int | None = None
    setup: Setup = NO_SETUP
    limits: Limits = NO_LIMITS
    no_zygote: str | None = None


@dataclass(frozen=True, slots=True)
class Child:
    """A started program. With `errors`, its set-up is under way: see `setup_failure`."""

    process: Process
    errors: int | None = None


# ------------------------------------------------------------------ starting


@dataclass(slots=True)
class _OpenFiles:
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
    with contextlib.ExitStack() as opened:
        stdout = _log(order.stdout, opened, piped=order.piped)
        is_same = order.stderr == order.stdout
        stderr = stdout if is_same else _log(order.stderr, opened, piped=order.piped)
        argv, errors = order.argv, None
        if order.setup:
            errors, reported = _pipe(opened)
            argv = (*_launcher(order.setup, reported), *argv)
            for fd in (reported, *order.setup.fds.values()):
                os.set_inheritable(fd, True)
                # What stays open here must not reach the next child.
                opened.callback(os.set_inheritable, fd, False)
        before = _ticks()
        try:
            pid = _posix_spawn(argv, order, (_null(), stdout, stderr))
        except SpawnError:
            if errors is not None:
                os.close(errors)
            raise
    # Within one tick the start time is known; reading it costs a quarter of a spawn. The
    # child is not reaped by anybody else, so its entry in /proc is there, zombie or not.
    started = before if before == _ticks() else start_time(pid)
    return Child(Process(pid, started or 0), errors)


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
        raise _spawn_error(error, order) from error


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
        raise _spawn_error(error, order) from error
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
        raise _spawn_error(error, order) from error
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


def abandon(child: Child) -> None:
    """Kill and reap a child that was just started and cannot be followed."""
    os.kill(child.process.pid, signal.SIGKILL)
    os.waitpid(child.process.pid, 0)
    if child.errors is not None:
        os.close(child.errors)


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
        return _spawn_error(error, order)
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
    with contextlib.ExitStack() as opened:
        stdout = _log(order.stdout, opened, piped=order.piped)
        is_same = order.stderr == order.stdout
        stderr = stdout if is_same else _log(order.stderr, opened, piped=order.piped)
        wanted = {1: stdout, 2: stderr, **order.setup.fds}
        fds: dict[int, int] = {}
        try:
            for number, fd in wanted.items():
                fds[number] = os.dup(fd)
        except OSError as error:
            for fd in fds.values():
                os.close(fd)
            stage, reason = "duplicate a descriptor", error.strerror or str(error)
            raise SpawnError(stage, error.errno or 0, reason, transient=True) from error
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


def _log(path: str | None, opened: contextlib.ExitStack, *, piped: bool) -> int:
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
    opened.callback(os.close, fd)
    return fd


def _pipe(opened: contextlib.ExitStack) -> tuple[int, int]:
    try:
        reading, writing = os.pipe()
    except OSError as error:
        reason = error.strerror or str(error)
        raise SpawnError("make a pipe", error.errno or 0, reason, transient=True) from error
    opened.callback(os.close, writing)
    return reading, writing


def _spawn_error(error: OSError, order: Order) -> SpawnError:
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


# ------------------------------------------------------------------ identity


def _ticks() -> int:
    """The time since boot as /proc/PID/stat counts it, proc_pid_stat(5)."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // _TICK


def start_time(pid: int) -> int | None:
    """Return the start time of a process in clock ticks since boot; None when there is none."""
    fields = _stat(pid)
    return int(fields[19]) if fields else None


def session(pid: int) -> int | None:
    """Return the session of a process, which is the pid of the component that leads it."""
    fields = _stat(pid)
    return int(fields[3]) if fields else None


def parent(pid: int) -> int | None:
    """Return the parent of a process; None when there is none."""
    fields = _stat(pid)
    return int(fields[1]) if fields else None


def is_alive(process: Process) -> bool:
    """Tell whether this very process lives (a zombie does not)."""
    fields = _stat(process.pid)
    return fields is not None and int(fields[19]) == process.started and fields[0] not in b"ZX"


def boot_id() -> str:
    """Return the kernel's name for this boot: pids and start times mean nothing in another."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def open_pidfd(process: Process) -> int | None:
    """Return a pidfd of this very process, or None when it is gone (and reaped).

    Raises:
        OSError: No descriptor is to be had, or nobody can tell whose the pid is.
    """
    try:
        fd = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return None
    # Between reading the start time and opening, the pid may have been reused: look again.
    started = start_time(process.pid)
    if started == process.started:
        return fd
    lives = started is None and not _has_ended(fd)
    os.close(fd)
    if lives:
        raise PermissionError(errno.EACCES, f"cannot read /proc/{process.pid}/stat")
    return None


def _has_ended(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def _stat(pid: int) -> list[bytes] | None:
    """The fields of /proc/PID/stat from the third on, see proc_pid_stat(5)."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        data = os.read(fd, 4096)
    except OSError:
        return None
    finally:
        os.close(fd)
    # The command name is in parentheses and may hold anything, parentheses too.
    return data[data.rindex(b")") + 2 :].split()


# ------------------------------------------------------------------ ends


def peek_exit(pidfd: int) -> Exit | None:
    """Return how a child ended, leaving it a zombie; None while it lives.

    What is not reaped cannot be lost: if we are killed before the end is in the journal, the
    keeper becomes its parent and reads it again.

    Raises:
        ChildProcessError: The process is not (or no longer) a child of ours.
    """
    info = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    return None if info is None else _exit(info.si_code, info.si_status)


def foreign_exit(process: Process, pidfd: int) -> Exit | None:
    """Return how a process ended that is no child of ours; None when nobody can tell yet.

    While it waits to be reaped, its status is the last field of /proc/PID/stat (of our own
    user's processes); afterwards PIDFD_GET_INFO has it, Linux 6.15 and later (linux/pidfd.h).
    """
    fields = _stat(process.pid)
    if fields is not None and int(fields[19]) == process.started:
        return _status(int(fields[49])) if fields[0] == b"Z" else None
    import fcntl  # noqa: PLC0415 - only when keeper and daemon have both been killed

    pidfd_get_info, pidfd_info_exit = 0xC040FF0B, 1 << 3
    info = bytearray(struct.pack("=Q56x", pidfd_info_exit))
    try:
        fcntl.ioctl(pidfd, pidfd_get_info, info)
    except OSError:
        return None
    (mask,) = struct.unpack_from("=Q", info)
    return _status(struct.unpack_from("=i", info, 60)[0]) if mask & pidfd_info_exit else None


def _status(status: int) -> Exit:
    """Read a status as wait(2) gives it."""
    if os.WIFEXITED(status):
        return Exit(code=os.WEXITSTATUS(status))
    return Exit(signal=os.WTERMSIG(status), core_dumped=os.WCOREDUMP(status))


def reap(pidfd: int) -> None:
    """Let the kernel forget an ended child. A process that is no child of ours is left alone."""
    with contextlib.suppress(ChildProcessError):
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)


def reap_stranger(pid: int) -> bool:
    """Reap the child `pid` if it has ended; tell whether it had."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True


def _exit(code: int, status: int) -> Exit:
    if code == os.CLD_EXITED:
        return Exit(code=status)
    return Exit(signal=status, core_dumped=code == os.CLD_DUMPED)


# ------------------------------------------------------------------ signals


def signal_process(pidfd: int, number: int) -> bool:
    """Send a signal through a pidfd; False when the process has ended."""
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return False
    return True


def signal_group(leader: Process, number: int, *, ours: bool) -> bool:
    """Send a signal to the process group of a leader.

    The group's number is the leader's pid, which cannot be reused before it is reaped. A
    leader that is `ours` is reaped by us alone; any other is looked at first.
    """
    if not ours and start_time(leader.pid) != leader.started:
        return False
    try:
        os.killpg(leader.pid, number)
    except ProcessLookupError:
        return False
    return True


def signal_verified(process: Process, number: int) -> bool:
    """Send a signal to this very process; False when it is gone or another has its pid."""
    try:
        fd = open_pidfd(process)
    except OSError:
        return False  # What cannot be verified is not touched.
    if fd is None:
        return False
    try:
        return signal_process(fd, number)
    finally:
        os.close(fd)


# ------------------------------------------------------------------ trees


def adopted(pid: int) -> set[int]:
    """Return the direct children of the main thread of a process.

    Among them are all orphans that came to it: the kernel gives them to the first thread that
    is alive (`find_new_reaper` in kernel/exit.c), and the main thread of a program of ours is
    so to its end. What another thread has started is not among them.
    """
    try:
        fd = os.open(f"/proc/{pid}/task/{pid}/children", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return set()
    data = b""
    try:
        while more := os.read(fd, 65536):
            data += more
    except OSError:
        pass  # It has ended meanwhile.
    finally:
        os.close(fd)
    return set(map(int, data.split()))


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
            fields = None if pid == leader.pid else _stat(pid)
            if fields and fields[0] not in b"ZX":
                found[pid] = Process(pid, int(fields[19]))
    return tuple(found.values())


def living(pids: Iterable[int]) -> Iterator[Process]:
    """Yield the processes behind `pids` that live; zombies do not."""
    for pid in pids:
        fields = _stat(pid)
        if fields and fields[0] not in b"ZX":
            yield Process(pid, int(fields[19]))


def _belongs(pid: int, leader: Process, marker: str) -> bool:
    fields = _stat(pid)
    if fields is None:
        return False
    group, session = int(fields[2]), int(fields[3])
    if leader.pid in (group, session):
        return True
    return marker_of(pid) == marker


def marker_of(pid: int) -> str | None:
    """Return the marker in the environment that a process was started with."""
    return _marker(pid, MARKER)


def _marker(pid: int, variable: str) -> str | None:
    try:
        with open(f"/proc/{pid}/environ", "rb", buffering=0) as file:  # noqa: PTH123
            data = file.read()
    except OSError:
        return None
    prefix = variable.encode() + b"="
    for entry in data.split(b"\0"):
        if entry.startswith(prefix):
            return entry[len(prefix) :].decode(errors="replace")
    return None


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
        undecided = _leaders(prefix, "?" + MARKER[1:])
        if not undecided:
            return _leaders(prefix, MARKER)
        if time.monotonic() > deadline:
            for process in undecided.values():
                signal_verified(process, signal.SIGKILL)
        time.sleep(0.002)


def _leaders(prefix: str, variable: str) -> dict[str, Process]:
    found = {}
    for entry in os.listdir("/proc"):  # noqa: PTH208
        if not entry.isdecimal():
            continue
        pid = int(entry)
        fields = _stat(pid)
        # A leader is alone in having its own pid as its session; its children share its marker.
        if fields is None or int(fields[3]) != pid or fields[0] in b"ZX":
            continue
        marker = _marker(pid, variable)
        if marker is not None and marker.startswith(prefix):
            found[marker] = Process(pid, int(fields[19]))
    return found


def become_subreaper() -> None:
    """Make orphans of our descendants our children (prctl(2), PR_SET_CHILD_SUBREAPER)."""
    import ctypes  # noqa: PLC0415 - only the daemon pays for it

    pr_set_child_subreaper = 36
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(pr_set_child_subreaper, 1, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


# ------------------------------------------------------------------ children of our own


@dataclass(frozen=True, slots=True)
class Finished:
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
        raise _spawn_error(error, order) from error
    with child:
        try:
            stdout, stderr = child.communicate(input, timeout)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
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
    try:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=cwd,
            env=environment,
            process_group=0,
        )
    except OSError as error:
        raise _spawn_error(error, Order(tuple(argv), environment, cwd)) from error
    except ValueError as error:
        raise SpawnError(f"execute {argv[0]!r}", errno.EINVAL, str(error)) from error


def left_by(group: int, variable: str, value: str) -> tuple[Process, ...]:
    """Return what lives of a program below us: its group, and who carries its variable.

    Nobody is overlooked by having lost its parent when we are a subreaper.
    """
    found = []
    for pid in descendants(os.getpid()):
        fields = _stat(pid)
        if not fields or fields[0] in b"ZX":
            continue
        if int(fields[2]) == group or _marker(pid, variable) == value:
            found.append(Process(pid, int(fields[19])))
    return tuple(found)


def end_all(found: Iterable[Process], patience: Seconds) -> None:
    """Kill processes and wait until they are dead, so long at most; reap those of ours."""
    deadline = time.monotonic() + patience
    opened = [(process, fd) for process in found if (fd := _opened(process)) is not None]
    for _, fd in opened:
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


def begin(argv: Sequence[str], *, output: int, passed: Sequence[int] = ()) -> Begun:
    """Start a program of ours in a session of its own; the caller waits for it.

    Both of its outputs go to the descriptor `output`; it gets those `passed` too.

    Raises:
        SpawnError: It cannot be started.
    """
    try:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            pass_fds=passed,
            start_new_session=True,
        )
    except OSError as error:
        raise _spawn_error(error, Order(tuple(argv), os.environ, "/")) from error


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
        raise _spawn_error(error, Order(tuple(argv), environment or {}, cwd or "")) from error


def ended(begun: Begun, timeout: Seconds | None) -> int | None:
    """Wait for a program's end and return its exit code, negative for a signal.

    None when it takes longer.
    """
    try:
        return begun.wait(timeout)
    except subprocess.TimeoutExpired:
        return None
