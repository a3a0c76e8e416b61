"""Control groups: what bounds the memory, processor and processes of one instance.

Which of them this machine grants is found out once (`find`), as a ladder: version 2 where a
controller is delegated to us, else a version 1 hierarchy that we may write to, else nothing,
and then a resource limit where one means nearly the same. What was asked and cannot be had
is an error that names what is missing, never silence.

A group belongs to one generation of one instance and is named after its marker, so that the
next daemon finds it again. It is made before the process is, which joins it itself before it
becomes the program: nothing of the tree is ever outside, whatever it does to its session, its
environment and its parents. Only instances that ask for a limit have one: see ADR 0021.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from collections.abc import Iterable, Mapping
from pathlib import Path

from msgspec import Struct, field

from orchestrator.errors import SpawnError
from orchestrator.model.units import Bytes

CONTROLLERS = ("memory", "cpu", "pids")
"""What an instance may ask to be bounded, by the kernel's name for it."""

PERIOD = 100_000
"""The time in microseconds over which the processor is shared out; the kernel's default."""

LEAST_QUOTA = 1000
"""The smallest share of a period that the kernel takes, in microseconds."""

_FREEZES = 50
"""How often a group that is being frozen is looked at before its processes are killed anyhow."""


class Limits(Struct, frozen=True):
    """What an instance asks for: `memory` in bytes, `cpu` in cores, `pids` in processes."""

    memory: Bytes | None = None
    cpu: float | None = None
    pids: int | None = None

    def __bool__(self) -> bool:
        return self != NO_LIMITS


NO_LIMITS = Limits()


class Ladder(Struct, frozen=True):
    """What this machine grants to this process.

    Attributes:
        unified: The directory of the version 2 hierarchy that takes our groups; "" for none.
        delegated: The controllers that are granted there.
        legacy: The directories that take our groups in version 1, by controller.
        missing: Why a controller is granted nowhere, in words, by controller.
    """

    unified: str = ""
    delegated: frozenset[str] = frozenset()
    legacy: Mapping[str, str] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)

    def way(self, controller: str) -> str:
        """Return how a controller is had: `cgroup v2`, `cgroup v1` or ""."""
        if controller in self.delegated:
            return "cgroup v2"
        return "cgroup v1" if controller in self.legacy else ""


class Placement(Struct, frozen=True):
    """What a process needs to be where it belongs.

    Attributes:
        joins: Files that it writes `0` into, in this order, before it becomes the program.
        rlimits: Resource limits in place of controllers that are not to be had.
    """

    joins: tuple[str, ...] = ()
    rlimits: Mapping[str, tuple[int, int]] = field(default_factory=dict)


# ------------------------------------------------------------------ what is granted


def find(own: Path = Path("/proc/self")) -> Ladder:
    """Find out what this process may use; in version 2 controllers are enabled on the way.

    Args:
        own: The directory of this process in /proc, whose `mountinfo` and `cgroup` are read.
    """
    unified, legacy = _mounts(own)
    paths = _paths(own)
    directory, delegated = _delegated(unified, paths.get("", "/"))
    granted: dict[str, str] = {}
    for controller, (mount, root) in legacy.items():
        if controller not in (*CONTROLLERS, "freezer"):
            continue
        place = _below(mount, root, paths.get(controller, "/"))
        if place and os.access(place, os.W_OK):
            granted[controller] = place
    missing = {
        controller: _why(controller, unified, legacy)
        for controller in CONTROLLERS
        if controller not in delegated and controller not in granted
    }
    return Ladder(directory, delegated, granted, missing)


def _why(
    controller: str, unified: tuple[str, str] | None, legacy: Mapping[str, tuple[str, str]]
) -> str:
    if controller in legacy:
        return f"the cgroup v1 controller {controller} is not writable for this user"
    if unified is None:
        return "no cgroup hierarchy is mounted"
    if controller not in _words(os.path.join(unified[0], "cgroup.controllers")):  # noqa: PTH118
        return f"the kernel has no cgroup controller {controller} here"
    return (
        f"the cgroup v2 controller {controller} is not delegated to this user; start orch by "
        "`systemd-run --user --scope -p Delegate=yes`"
    )


def _mounts(own: Path) -> tuple[tuple[str, str] | None, dict[str, tuple[str, str]]]:
    """Return mount point and root of the version 2 hierarchy, and of each v1 controller."""
    unified: tuple[str, str] | None = None
    legacy: dict[str, tuple[str, str]] = {}
    for line in _lines(own / "mountinfo"):
        left, _, right = line.partition(" - ")
        before, after = left.split(), right.split()
        if len(before) < 5 or len(after) < 3:
            continue
        where = (before[4], before[3])
        if after[0] == "cgroup2" and unified is None:
            unified = where
        elif after[0] == "cgroup":
            for word in after[2].split(","):
                legacy.setdefault(word, where)
    return unified, legacy


def _paths(own: Path) -> dict[str, str]:
    """Return where this process is, by version 1 controller; under "" for version 2."""
    found = {}
    for line in _lines(own / "cgroup"):
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        for controller in controllers.split(","):
            found[controller] = path
    return found


def _below(mount: str, root: str, path: str) -> str:
    """Return the directory of a group in a mount that shows the hierarchy from `root` on."""
    if root != "/":
        if path != root and not path.startswith(f"{root}/"):
            return ""
        path = path[len(root) :]
    directory = os.path.normpath(f"{mount}/{path}")
    return directory if os.path.isdir(directory) else ""  # noqa: PTH112


def _delegated(mounted: tuple[str, str] | None, path: str) -> tuple[str, frozenset[str]]:
    """Return where in version 2 groups can be made, and the controllers they have there.

    Our own group has processes, so that the kernel refuses to enable controllers below it
    (unless it is the root); the nearest one above that is ours too has none.
    """
    if mounted is None:
        return "", frozenset()
    mount, root = mounted
    directory = _below(mount, root, path)
    best, most = "", frozenset[str]()
    while directory and (directory == mount or directory.startswith(f"{mount}/")):
        procs = os.path.join(directory, "cgroup.procs")  # noqa: PTH118
        if os.access(directory, os.W_OK) and os.access(procs, os.W_OK):
            enabled = _enabled(directory)
            if not best or len(enabled) > len(most):
                best, most = directory, enabled
        directory = os.path.dirname(directory) if directory != mount else ""  # noqa: PTH120
    return best, most


def _enabled(directory: str) -> frozenset[str]:
    """Enable what can be for the groups below a directory; return what is enabled."""
    control = os.path.join(directory, "cgroup.subtree_control")  # noqa: PTH118
    offered = _words(os.path.join(directory, "cgroup.controllers"))  # noqa: PTH118
    for controller in CONTROLLERS:
        if controller in offered and controller not in _words(control):
            with contextlib.suppress(OSError):
                _write(control, f"+{controller}")
    return frozenset(CONTROLLERS) & frozenset(_words(control))


# ------------------------------------------------------------------ groups


class Groups:
    """The control groups of one system.

    Args:
        ladder: What the machine grants.
        key: The system's key; its groups lie in a directory `orch-KEY` of each hierarchy.
    """

    def __init__(self, ladder: Ladder, key: str) -> None:
        self.ladder = ladder
        self._home = f"orch-{key}"
        self._made: dict[str, tuple[str, ...]] = {}
        self._leaving: dict[str, None] = {}
        for name in self._found():
            self._made[name] = tuple(self._directories(name))

    def make(self, marker: str, limits: Limits, user: str | None) -> Placement:
        """Make the group of a generation that is about to start.

        Args:
            marker: The marker of the generation.
            limits: What it asks for.
            user: The user that it will run as; None for ours.

        Raises:
            SpawnError: What is asked cannot be had; nothing is left.
        """
        self._retry()
        rlimits: dict[str, tuple[int, int]] = {}
        controlled: dict[str, int | float] = {}
        for controller in CONTROLLERS:
            asked = getattr(limits, controller)
            if asked is None:
                continue
            if self.ladder.way(controller):
                controlled[controller] = asked
            else:
                rlimits.update(self._in_place_of(controller, asked, user))
        if not controlled:
            return Placement(rlimits=rlimits)
        name = self._name(marker)
        directories = self._needed(name, controlled)
        self._made[name] = tuple(dict.fromkeys(directories.values()))
        stage = "make a control group"
        try:
            for directory in self._made[name]:
                stage = f"make the control group {directory!r}"
                self._make(directory)
            for controller, asked in controlled.items():
                stage = f"limit {controller} to {asked}"
                _limit(directories[controller], controller, asked, self.ladder.way(controller))
        except OSError as error:
            self.dismiss(marker)
            number = error.errno or 0
            transient = number in (errno.EAGAIN, errno.ENOMEM)
            raise SpawnError(
                stage, number, error.strerror or str(error), transient=transient
            ) from error
        joins = tuple(f"{directory}/cgroup.procs" for directory in self._made[name])
        return Placement(joins, rlimits)

    def has(self, marker: str) -> bool:
        """Tell whether a generation has a group."""
        return self._name(marker) in self._made

    def members(self, marker: str) -> tuple[int, ...]:
        """Return the pids in the group of a generation; none when it has no group."""
        return self._members(self._name(marker))

    def _members(self, name: str) -> tuple[int, ...]:
        found: dict[int, None] = {}
        for directory in self._made.get(name, ()):
            found.update(dict.fromkeys(_pids(directory)))
        return tuple(found)

    def kill(self, marker: str) -> bool:
        """Kill all that is in a group at once; False when the generation has none.

        Version 2 does it in one write. In version 1 the group is frozen meanwhile, so that
        nothing in it can fork away; it is thawed in any case: the frozen cannot die.
        """
        name = self._name(marker)
        if name not in self._made:
            return False
        self._kill(name)
        return True

    def _kill(self, name: str) -> None:
        for directory in self._made[name]:
            try:
                _write(f"{directory}/cgroup.kill", "1")
            except OSError:
                continue
            return
        state = self._freezer(name)
        try:
            if state:
                _freeze(state)
            for pid in self._members(name):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    # What is frozen in our group cannot end, so the pid is still its own.
                    os.kill(pid, signal.SIGKILL)
        finally:
            if state:
                _thaw(state)

    def out_of_memory(self, marker: str) -> bool:
        """Tell whether the kernel has killed something in a group for want of memory."""
        for directory in self._made.get(self._name(marker), ()):
            for file in ("memory.events", "memory.oom_control"):
                for line in _lines(Path(directory, file)):
                    word, _, count = line.partition(" ")
                    if word == "oom_kill" and count != "0":
                        return True
        return False

    def dismiss(self, marker: str) -> bool:
        """Remove the group of a generation of which nothing is left.

        False when it cannot be removed yet, because a process is still ending in it; it is
        tried again with the next group at the latest.
        """
        name = self._name(marker)
        if name not in self._made or self._remove(name):
            return True
        self._leaving[name] = None
        return False

    def keep_only(self, markers: Iterable[str]) -> None:
        """Kill and remove what an earlier daemon left that belongs to none of `markers`."""
        kept = {self._name(marker) for marker in markers}
        for name in tuple(self._made):
            if name not in kept:
                self._kill(name)
                if not self._remove(name):
                    self._leaving[name] = None

    def close(self) -> None:
        """Remove what is left, when the whole system is down."""
        for name in tuple(self._made):
            self._remove(name)
        for parent in self._parents():
            with contextlib.suppress(OSError):
                os.rmdir(f"{parent}/{self._home}")  # noqa: PTH106

    # -------------------------------------------------------------- parts

    def _name(self, marker: str) -> str:
        """The directory's name, `service.component@1.GENERATION`: see `programs.marker`."""
        _, _, rest = marker.partition("/")
        return rest.replace("/", ".")

    def _parents(self) -> tuple[str, ...]:
        found = [self.ladder.unified, *self.ladder.legacy.values()]
        return tuple(dict.fromkeys(directory for directory in found if directory))

    def _directories(self, name: str) -> list[str]:
        made = [f"{parent}/{self._home}/{name}" for parent in self._parents()]
        return [directory for directory in made if os.path.isdir(directory)]  # noqa: PTH112

    def _found(self) -> tuple[str, ...]:
        """The groups that are there already: an earlier daemon has made them."""
        found: dict[str, None] = {}
        for parent in self._parents():
            with contextlib.suppress(OSError), os.scandir(f"{parent}/{self._home}") as entries:
                found.update(dict.fromkeys(e.name for e in entries if e.is_dir()))
        return tuple(found)

    def _needed(self, name: str, controlled: Iterable[str]) -> dict[str, str]:
        """The directories by controller; one of them can kill the whole group."""
        below = f"{self._home}/{name}"
        needed = {}
        if self.ladder.unified:
            needed["unified"] = f"{self.ladder.unified}/{below}"
        elif "freezer" in self.ladder.legacy:
            needed["freezer"] = f"{self.ladder.legacy['freezer']}/{below}"
        for controller in controlled:
            unified = controller in self.ladder.delegated
            parent = self.ladder.unified if unified else self.ladder.legacy[controller]
            needed[controller] = f"{parent}/{below}"
        return needed

    def _make(self, directory: str) -> None:
        home = os.path.dirname(directory)  # noqa: PTH120
        if not os.path.isdir(home):  # noqa: PTH112
            os.mkdir(home, 0o755)  # noqa: PTH102
            if os.path.dirname(home) == self.ladder.unified and self.ladder.delegated:  # noqa: PTH120
                _enabled(home)
        with contextlib.suppress(FileExistsError):
            os.mkdir(directory, 0o755)  # noqa: PTH102
        # One that is found may have been left frozen.
        if os.path.exists(state := f"{directory}/freezer.state"):  # noqa: PTH110
            _thaw(state)

    def _in_place_of(
        self, controller: str, asked: float, user: str | None
    ) -> dict[str, tuple[int, int]]:
        why = self.ladder.missing.get(controller, "no cgroup controller is to be had")
        stage = f"limit {controller} to {asked:g}"
        if controller == "memory":
            return {"as": (int(asked), int(asked))}
        if controller == "pids":
            if user is not None and user not in ("root", "0", str(os.geteuid())):
                return {"nproc": (int(asked), int(asked))}
            why += "; a `user` of its own would allow it, by RLIMIT_NPROC"
        raise SpawnError(stage, errno.ENOTSUP, f"{why} (see orch doctor)")

    def _freezer(self, name: str) -> str:
        for directory in self._made.get(name, ()):
            if os.path.exists(state := f"{directory}/freezer.state"):  # noqa: PTH110
                return state
        return ""

    def _remove(self, name: str) -> bool:
        left = []
        for directory in self._made.get(name, ()):
            try:
                os.rmdir(directory)  # noqa: PTH106
            except FileNotFoundError:
                continue
            except OSError:
                left.append(directory)
        if left:
            self._made[name] = tuple(left)
            return False
        self._made.pop(name, None)
        self._leaving.pop(name, None)
        return True

    def _retry(self) -> None:
        for name in tuple(self._leaving):
            self._remove(name)


def _limit(directory: str, controller: str, asked: float, way: str) -> None:
    """Write one limit into a group."""
    if controller == "pids":
        _write(f"{directory}/pids.max", str(int(asked)))
    elif controller == "cpu":
        quota = max(LEAST_QUOTA, round(asked * PERIOD))
        if way == "cgroup v2":
            _write(f"{directory}/cpu.max", f"{quota} {PERIOD}")
        else:
            _write(f"{directory}/cpu.cfs_period_us", str(PERIOD))
            _write(f"{directory}/cpu.cfs_quota_us", str(quota))
    elif way == "cgroup v2":
        _write(f"{directory}/memory.max", str(int(asked)))
        with contextlib.suppress(OSError):  # A kernel without swap has no such file.
            _write(f"{directory}/memory.swap.max", "0")
    else:
        _write(f"{directory}/memory.limit_in_bytes", str(int(asked)))
        with contextlib.suppress(OSError):  # Likewise.
            _write(f"{directory}/memory.memsw.limit_in_bytes", str(int(asked)))


def _freeze(state: str) -> None:
    """Begin to freeze, and wait for it as long as is worth waiting; never raises."""
    with contextlib.suppress(OSError):
        _write(state, "FROZEN")
        for _ in range(_FREEZES):
            if _words(state) == ["FROZEN"]:
                return
            os.sched_yield()


def _thaw(state: str) -> None:
    with contextlib.suppress(OSError):
        _write(state, "THAWED")


def _pids(directory: str) -> list[int]:
    return [int(word) for word in _words(f"{directory}/cgroup.procs") if word != "0"]


def _words(path: str) -> list[str]:
    try:
        with open(path, encoding="ascii") as file:  # noqa: PTH123
            return file.read().split()
    except OSError:
        return []


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return []


def _write(path: str, text: str) -> None:
    """Write to a control file, which must be there: a directory that is no group has none."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
