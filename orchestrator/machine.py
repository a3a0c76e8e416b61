"""What this machine grants to this user: found by asking the kernel, not by its version.

`survey` looks; `complaints` compares with what components ask for. Neither changes anything but
that controllers are enabled where they may be, as the daemon's start does, and that a temporary
file is made in the directory it is asked about.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import platform
import pwd
import resource
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from msgspec import Struct

from orchestrator import cgroups, files
from orchestrator.cgroups import Ladder
from orchestrator.model.topology import Component

GRANTED, DEGRADED, MISSING = "granted", "degraded", "missing"

OLDEST_KERNEL = (5, 4)
"""The first Linux with all that supervision rests on."""

DESCRIPTORS_BESIDE = 128
"""File descriptors that the daemon needs beside one for each instance."""

_SETGID, _SETUID, _SYS_NICE, _SYS_RESOURCE = 6, 7, 23, 24
_SUBREAPER = 37
_PIDFD_GET_INFO = 0xC040FF0B


class Finding(Struct, frozen=True):
    """One thing that the machine grants, or not.

    `grant` is `granted`, `degraded` or `missing`; `detail` says to what, or why; `help` what
    would help. Without a `needed` one nothing can be supervised.
    """

    name: str
    grant: str
    detail: str
    help: str = ""
    needed: bool = False


class Machine(Struct, frozen=True):
    """What is granted, for `complaints`."""

    findings: tuple[Finding, ...]
    ladder: Ladder
    capabilities: frozenset[int]


class Complaint(Struct, frozen=True):
    """What a component asks and cannot have, or has by less (`is_degraded`)."""

    component: str
    asks: str
    message: str
    is_degraded: bool = False


def survey(directory: Path) -> Machine:
    """Look at the machine; `directory` is where a system's files are or will be."""
    ladder, capabilities = cgroups.find(), _capabilities()
    findings = (
        _kernel(),
        _pidfd(),
        _exit_codes(),
        _subreaper(),
        *(_controller(ladder, word) for word in cgroups.CONTROLLERS),
        _tree(ladder),
        _holes(directory),
        _users(capabilities),
        _capability(capabilities, _SYS_NICE, "priority", "a `nice` below the daemon's own"),
        _capability(capabilities, _SYS_RESOURCE, "hard limits", "limits above the daemon's own"),
        _files(),
        _processes(),
        _inotify(),
        _clock(),
    )
    return Machine(findings, ladder, capabilities)


def complaints(machine: Machine, components: Iterable[Component]) -> tuple[Complaint, ...]:
    """Return what components ask that this machine does not grant, or grants by less."""
    found: list[Complaint] = []
    asked = list(components)
    for component in asked:
        found += _bounds(machine.ladder, component)
        found += _privileges(machine.capabilities, component)
    needed = len(asked) + DESCRIPTORS_BESIDE
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if resource.RLIM_INFINITY != hard < needed:
        message = f"{needed} file descriptors are needed, the hard limit is {hard}"
        found.append(Complaint("", "instances", message))
    return tuple(found)


# ------------------------------------------------------------------ what components ask


def _bounds(ladder: Ladder, component: Component) -> list[Complaint]:
    found = []
    for word in cgroups.CONTROLLERS:
        asked = getattr(component, word)
        if asked is None or ladder.way(word):
            continue
        why = ladder.missing.get(word, "")
        if word == "memory":
            less = f"{why}; each process is bounded by RLIMIT_AS instead"
            found.append(Complaint(component.name, word, less, is_degraded=True))
        elif word == "pids" and component.user and _is_other(component.user):
            less = f"{why}; RLIMIT_NPROC bounds all of the user's processes instead"
            found.append(Complaint(component.name, word, less, is_degraded=True))
        else:
            found.append(Complaint(component.name, word, why))
    return found


def _privileges(capabilities: frozenset[int], component: Component) -> list[Complaint]:
    found = []
    may_change = {_SETUID, _SETGID} <= capabilities
    if component.user and _is_other(component.user) and not may_change:
        message = f"only root becomes the user {component.user!r}"
        found.append(Complaint(component.name, "user", message))
    if component.nice is not None and _SYS_NICE not in capabilities:
        least = min(os.getpriority(os.PRIO_PROCESS, 0), 20 - _hard("NICE"))
        if component.nice < least:
            message = f"nice {component.nice} needs CAP_SYS_NICE; this user may have {least}"
            found.append(Complaint(component.name, "nice", message))
    if _SYS_RESOURCE in capabilities:
        return found
    own = int(Path("/proc/self/oom_score_adj").read_text(encoding="ascii"))
    if component.oom_score_adj is not None and component.oom_score_adj < own:
        message = f"oom_score_adj below {own} needs CAP_SYS_RESOURCE"
        found.append(Complaint(component.name, "oom_score_adj", message))
    for name, (_, hard) in component.rlimits.items():
        most = _hard(name.upper())
        if most != resource.RLIM_INFINITY and not 0 <= hard <= most:
            message = f"a hard limit above {most} needs CAP_SYS_RESOURCE"
            found.append(Complaint(component.name, f"rlimits.{name}", message))
    return found


def _hard(name: str) -> int:
    return resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))[1]


def _is_other(user: str) -> bool:
    """Whether a user, by name or number, is another than ours; an unknown one is."""
    if user.isdecimal():
        return int(user) != os.geteuid()
    try:
        return pwd.getpwnam(user).pw_uid != os.geteuid()
    except KeyError:
        return True


# ------------------------------------------------------------------ what is granted


def _kernel() -> Finding:
    release = platform.release()
    numbers = tuple(int(word) for word in release.split("-")[0].split(".")[:2] if word.isdecimal())
    if platform.system() == "Linux" and numbers >= OLDEST_KERNEL:
        return Finding("kernel", GRANTED, f"Linux {release}", needed=True)
    oldest = ".".join(map(str, OLDEST_KERNEL))
    detail = f"{platform.system()} {release}"
    return Finding("kernel", MISSING, detail, f"Linux {oldest} or newer", needed=True)


def _pidfd() -> Finding:
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError as error:
        help_ = "a kernel, or a sandbox, that allows pidfd_open(2)"
        return Finding("pidfd", MISSING, str(error.strerror), help_, needed=True)
    return Finding(
        "pidfd", GRANTED, "ends are noticed at once, by processes, not pids", needed=True
    )


def _exit_codes() -> Finding:
    name = "exit codes"
    try:
        with open(os.pidfd_open(os.getpid()), "rb", buffering=0) as pidfd:  # noqa: PTH123
            fcntl.ioctl(pidfd, _PIDFD_GET_INFO, bytearray(64))
    except OSError:
        detail = "known as long as keeper and daemon are not killed at once"
        return Finding(name, DEGRADED, detail, "Linux 6.15 or newer (PIDFD_GET_INFO)")
    return Finding(name, GRANTED, "known even after keeper and daemon were killed")


def _subreaper() -> Finding:
    value = ctypes.c_int()
    if ctypes.CDLL(None).prctl(_SUBREAPER, ctypes.byref(value), 0, 0, 0) == 0:
        return Finding("subreaper", GRANTED, "orphans come home", needed=True)
    return Finding("subreaper", MISSING, "prctl(2) refuses it", "another sandbox", needed=True)


def _controller(ladder: Ladder, word: str) -> Finding:
    way = ladder.way(word)
    if way:
        directory = ladder.unified if word in ladder.delegated else ladder.legacy[word]
        return Finding(word, GRANTED, f"{way} in {directory}")
    why = ladder.missing[word]
    help_ = "root, or a delegated cgroup: systemd-run --user --scope -p Delegate=yes orch up"
    if word == "memory":
        return Finding(word, DEGRADED, f"RLIMIT_AS for each process: {why}", help_)
    if word == "pids":
        return Finding(word, DEGRADED, f"RLIMIT_NPROC, for another user only: {why}", help_)
    return Finding(word, MISSING, why, help_)


def _tree(ladder: Ladder) -> Finding:
    name = "whole trees"
    if ladder.unified and os.path.exists(f"{ladder.unified}/cgroup.procs"):  # noqa: PTH110
        return Finding(name, GRANTED, "ended by cgroup.kill where a limit is asked, else by sweep")
    if "freezer" in ladder.legacy:
        return Finding(name, GRANTED, "ended by the freezer where a limit is asked, else by sweep")
    detail = "ended by group, session, descent and marker; what clears all four escapes"
    return Finding(name, DEGRADED, detail, "a cgroup that this user may use")


def _holes(directory: Path) -> Finding:
    name, where = "log rotation", directory
    while not where.is_dir() and where != where.parent:
        where = where.parent
    try:
        with tempfile.TemporaryFile(dir=where) as file:
            file.write(b"x" * 8192)
            file.flush()
            files.punch_hole(file.fileno(), 0, 4096)
    except (OSError, files.HolesUnsupported) as error:
        detail = f"only at a restart: {where} takes no holes ({error})"
        return Finding(name, DEGRADED, detail, "a base_dir on ext4, xfs, btrfs or tmpfs")
    return Finding(name, GRANTED, f"while programs write: {where} takes holes")


def _users(capabilities: frozenset[int]) -> Finding:
    me = f"this is uid {os.geteuid()}"
    if {_SETUID, _SETGID} <= capabilities:
        return Finding("other users", GRANTED, f"{me}, with CAP_SETUID and CAP_SETGID")
    return Finding("other users", MISSING, f"{me}; components run as it", "root")


def _capability(capabilities: frozenset[int], number: int, name: str, what: str) -> Finding:
    word = {_SYS_NICE: "CAP_SYS_NICE", _SYS_RESOURCE: "CAP_SYS_RESOURCE"}[number]
    if number in capabilities:
        return Finding(name, GRANTED, f"{what}, by {word}")
    return Finding(name, MISSING, f"{what}: no {word}", "root with that capability")


def _files() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        return Finding("open files", GRANTED, f"{soft} now, without a hard limit")
    room = max(0, hard - DESCRIPTORS_BESIDE)
    detail = f"{soft} now, {hard} at most: {room} instances"
    if hard >= 4096:
        return Finding("open files", GRANTED, detail)
    return Finding("open files", DEGRADED, detail, "ulimit -Hn 65536, or LimitNOFILE=")


def _processes() -> Finding:
    soft, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    if soft == resource.RLIM_INFINITY or soft >= 1024:
        word = "no limit" if soft == resource.RLIM_INFINITY else str(soft)
        return Finding("processes", GRANTED, f"{word} for this user")
    return Finding("processes", DEGRADED, f"{soft} for this user", "ulimit -u 4096")


def _inotify() -> Finding:
    fd = ctypes.CDLL(None, use_errno=True).inotify_init1(os.O_CLOEXEC)
    if fd < 0:
        detail = f"files are looked at again and again: {os.strerror(ctypes.get_errno())}"
        return Finding("inotify", DEGRADED, detail, "sysctl fs.inotify.max_user_instances=1024")
    os.close(fd)
    most = ""
    with contextlib.suppress(OSError):
        path = Path("/proc/sys/fs/inotify/max_user_instances")
        most = f", {path.read_text(encoding='ascii').strip()} instances at most"
    return Finding("inotify", GRANTED, f"logs are followed without polling{most}")


def _clock() -> Finding:
    resolution = time.clock_getres(time.CLOCK_MONOTONIC)
    if resolution <= 0.001:
        return Finding("clock", GRANTED, "monotonic; steps of the wall clock have no effect")
    return Finding("clock", DEGRADED, f"monotonic, in steps of {resolution:g}s", "another kernel")


def _capabilities() -> frozenset[int]:
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        word = next(line.split()[1] for line in lines if line.startswith("CapEff:"))
        mask = int(word, 16)
        return frozenset(number for number in range(64) if mask >> number & 1)
    return frozenset()
