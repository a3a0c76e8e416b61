"""Who a process is, whether it lives, how it ended; and signals to that very process."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import struct
import time
from pathlib import Path

from orchestrator.model.phase import Exit, Process

MARKER = "ORCH_INSTANCE"
"""The environment variable that marks every process of ours: `KEY/NAME/GENERATION`."""

_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def ticks() -> int:
    """The time since boot as /proc/PID/stat counts it, proc_pid_stat(5)."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // _TICK


def start_time(pid: int) -> int | None:
    """Return the start time of a process in clock ticks since boot; None when there is none."""
    fields = stat(pid)
    return int(fields[19]) if fields else None


def session(pid: int) -> int | None:
    """Return the session of a process, which is the pid of the component that leads it."""
    fields = stat(pid)
    return int(fields[3]) if fields else None


def parent(pid: int) -> int | None:
    """Return the parent of a process; None when there is none."""
    fields = stat(pid)
    return int(fields[1]) if fields else None


def is_alive(process: Process) -> bool:
    """Tell whether this very process lives (a zombie does not)."""
    fields = stat(process.pid)
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


def stat(pid: int) -> list[bytes] | None:
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


def is_child(process: Process) -> bool:
    """Tell whether this very process is a child of ours, alive or not reaped yet."""
    fields = stat(process.pid)
    return fields is not None and (int(fields[1]), int(fields[19])) == (
        os.getpid(),
        process.started,
    )


def ended_child() -> int | None:
    """Return the pid of a child that has ended and is not reaped; None when there is none.

    Of several it is always the same one, until that is reaped.
    """
    try:
        info = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return None if info is None else info.si_pid


def peek_child(pid: int) -> Exit | None:
    """Return how the child `pid` ended, see `peek_exit`; its pid is its own until it is reaped.

    Raises:
        ChildProcessError: It is no child of ours.
    """
    info = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    return None if info is None else _exit(info.si_code, info.si_status)


def foreign_exit(process: Process, pidfd: int) -> Exit | None:
    """Return how a process ended that is no child of ours; None when nobody can tell yet.

    While it waits to be reaped, its status is the last field of /proc/PID/stat (of our own
    user's processes); afterwards PIDFD_GET_INFO has it, Linux 6.15 and later (linux/pidfd.h).
    """
    fields = stat(process.pid)
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


def reap_child(pid: int) -> bool:
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


def signal_child(pid: int, number: int) -> bool:
    """Send a signal to a child that is not reaped; False when it has ended."""
    try:
        os.kill(pid, number)
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
