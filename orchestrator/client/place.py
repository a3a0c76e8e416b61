"""Which system is meant, and where its daemon is: by a topology file, or by what stands around."""

from __future__ import annotations

import os
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import NamedTuple

from orchestrator.config import paths
from orchestrator.errors import UsageError


class Place(NamedTuple):
    """A system's topology file, the directory of its sockets, and the command that starts it."""

    topology: Path
    runtime_dir: Path
    starter: str


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
    starter = " ".join(("orch", *words, "up -d"))
    return Place(file, paths.runtime_dir(file, project, environment), starter)


def _nearest() -> Path:
    here = Path.cwd()
    found = paths.nearest(here)
    if found is None:
        raise UsageError(
            f"cannot find {' or '.join(paths.DEFAULT_NAMES)} in {here} or above it; "
            "name a file with -f FILE"
        )
    return found
