"""Which system is meant, and where its daemon is: by a topology file, or by what stands around."""

from __future__ import annotations

import os
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import NamedTuple

from orchestrator.config import paths
from orchestrator.errors import UsageError

SOCKET_NAME = "control.sock"
"""Where a daemon listens, in its runtime directory."""

LOCK_NAME = "orch.lock"
"""The lock of a system's directory, in which its keeper says where it is."""


class Place(NamedTuple):
    """A system's topology file, the directory of its sockets, and the command that starts it."""

    topology: Path
    runtime_dir: Path
    starter: str
    is_usual: bool = True
    """Whether the directory is the one that the environment names."""
    moved_from: str = ""
    """The topology file of the system that runs, if its folder has been moved since."""

    @property
    def has_socket(self) -> bool:
        """Whether there is a socket, which a daemon that was killed may have left."""
        return os.path.exists(self.runtime_dir / SOCKET_NAME)  # noqa: PTH110


def find(
    topology: str | PathLike[str] | Place | None = None,
    project: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> Place:
    """Return where a system is.

    Args:
        topology: Its file; by default what `ORCH_FILE` names, else the nearest `topology.yaml`
            in the working directory or above it.
        project: What tells systems of one file apart; `ORCH_PROJECT` by default.
        environment: Where those and `XDG_RUNTIME_DIR` are read; the process's by default.

    Raises:
        UsageError: No file is named, and none is found.
    """
    if isinstance(topology, Place):
        return topology
    environment = os.environ if environment is None else environment
    named = topology or environment.get("ORCH_FILE")
    project = project or environment.get("ORCH_PROJECT") or None
    file = Path(named).absolute() if named else _nearest()
    words = [*(("-f", os.fspath(named)) if named else ()), *(("-p", project) if project else ())]
    starter = " ".join(("orch", *map(_typed, words), "up -d"))
    usual = Place(file, paths.runtime_dir(file, project, environment), starter)
    return _elsewhere(usual, project) or usual


def _elsewhere(usual: Place, project: str | None) -> Place | None:
    """Return where the system's daemon is when it is not in the usual place.

    It was started with another `XDG_RUNTIME_DIR`, or the folder has been moved since. The lock
    in the system's own directory says so; a copy of the folder has a copy of the lock, which
    is another file.
    """
    if (usual.runtime_dir / SOCKET_NAME).exists():
        return None
    try:
        with open(paths.base_dir(usual.topology, None, project) / LOCK_NAME, "rb") as lock:  # noqa: PTH123
            status, lines = os.fstat(lock.fileno()), lock.read().split(b"\n")
        _, runtime_dir, topology, inode = (os.fsdecode(line) for line in lines[:4])
    except (OSError, ValueError):
        return None
    found = Path(runtime_dir)
    is_ours = status.st_uid == os.geteuid() and inode == str(status.st_ino)
    if not is_ours or not (found / SOCKET_NAME).exists():
        return None
    if found.name == usual.runtime_dir.name:
        return usual._replace(runtime_dir=found, is_usual=False)
    if os.path.exists(topology):  # noqa: PTH110
        return None  # Another topology has chosen the directory that would be ours.
    return usual._replace(runtime_dir=found, is_usual=False, moved_from=topology)


def _typed(word: str) -> str:
    """Return a word as it is typed at a shell."""
    # As `shlex.quote`, whose module every command would pay for.
    if word and all(letter.isalnum() or letter in "@%+=:,./_-" for letter in word):
        return word
    return "'" + word.replace("'", "'\"'\"'") + "'"


def _nearest() -> Path:
    here = Path.cwd()
    found = paths.nearest(here)
    if found is None:
        raise UsageError(
            f"cannot find {' or '.join(paths.DEFAULT_NAMES)} in {here} or above it; "
            "name a file with -f FILE"
        )
    return found
