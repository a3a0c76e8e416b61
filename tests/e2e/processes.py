"""Finding every process of a test's world in /proc, however it hides."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Process:
    """One process as /proc shows it."""

    pid: int
    parent: int
    state: str
    started: int
    command: str

    @property
    def alive(self) -> bool:
        """Whether it is more than an entry that nobody has reaped."""
        return self.state not in "ZX"


def of_world(root: Path, marker: str, keys: Sequence[str]) -> list[Process]:
    """Return the living processes that belong to a world, and the dead ones that its processes
    have not reaped.

    A process belongs to it when its environment holds the run's marker or orch's own with the
    key of one of its systems, when it works or has a file open below `root`, or when its command
    line names it.
    """
    own = {os.getpid(), os.getppid()}
    everyone = [process for pid in pids() if pid not in own and (process := read(pid)) is not None]
    found = {
        process.pid: process
        for process in everyone
        if process.alive and belongs(process, root, marker, keys)
    }
    zombies = {each.pid: each for each in everyone if not each.alive and each.parent in found}
    return list((found | zombies).values())


def pids() -> list[int]:
    """Return every pid."""
    return [int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit()]


def read(pid: int) -> Process | None:
    """Return one process, nothing when it has gone."""
    try:
        before, _, after = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")
        command = (
            Path(f"/proc/{pid}/cmdline")
            .read_bytes()
            .replace(b"\0", b" ")
            .decode(errors="replace")
            .strip()
        )
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = after.split()
    name = before.partition(b"(")[2].decode(errors="replace")
    return Process(
        pid, int(fields[1]), fields[0].decode(), int(fields[19]), command or f"[{name}]"
    )


def is_alive(pid: int) -> bool:
    """Tell whether a process of this pid lives and is no zombie."""
    process = read(pid)
    return process is not None and process.alive


def children(pid: int) -> list[Process]:
    """Return the processes whose parent has this pid."""
    return [each for each in map(read, pids()) if each is not None and each.parent == pid]


def belongs(process: Process, root: Path, marker: str, keys: Sequence[str]) -> bool:
    """Tell whether a process is of this world."""
    if f"{root}/" in process.command or process.command.endswith(str(root)):
        return True
    folder = Path(f"/proc/{process.pid}")
    try:
        variables = (folder / "environ").read_bytes().decode(errors="replace").split("\0")
        places = [
            str((folder / "cwd").readlink()),
            *(str(each.readlink()) for each in (folder / "fd").iterdir()),
        ]
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False
    if marker in variables or any(
        each == str(root) or each.startswith(f"{root}/") for each in places
    ):
        return True
    return any(
        each.startswith("ORCH_INSTANCE=") and each[14:].split("/")[0] in keys for each in variables
    )
