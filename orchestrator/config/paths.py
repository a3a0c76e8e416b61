"""Where a system's directories are. Arithmetic on names; makes nothing, imports little."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from orchestrator.model import digests

KEY_LENGTH = 12

DEFAULT_NAMES = ("topology.yaml", "topology.yml")
"""What a topology file is called when nobody names it."""


def nearest(directory: Path) -> Path | None:
    """Return the topology file in a directory or above it, None when there is none."""
    for one in (directory, *directory.parents):
        for name in DEFAULT_NAMES:
            if (one / name).is_file():
                return one / name
    return None


def key(topology: Path, project: str | None) -> str:
    """Return what names a system here: a digest of its file's real path and project."""
    real = os.path.realpath(topology)
    name = os.fsencode(real) + b"\0" + (project or "").encode()
    return digests.sha256(name).hex()[:KEY_LENGTH]


def runtime_dir(topology: Path, project: str | None, environment: Mapping[str, str]) -> Path:
    """Return the private directory of a system's sockets, `<runtime root>/orch/<key>`."""
    root = environment.get("XDG_RUNTIME_DIR") or f"/tmp/orch-{os.getuid()}"  # noqa: S108
    return Path(root) / "orch" / key(topology, project)


def base_dir(topology: Path, declared: str | None, project: str | None) -> Path:
    """Return where built files, logs and the journal of a system go.

    Systems from one file that differ by project never share it, nor do those from two files
    of one folder that declare nothing. As for `key`, a link's target gives the name.
    """
    beside = topology.absolute().parent
    name = declared or _default(Path(os.path.realpath(topology)))
    return Path(os.path.normpath(beside / (f"{name.rstrip('/')}-{project}" if project else name)))


def _default(topology: Path) -> str:
    return ".orch" if topology.name in DEFAULT_NAMES else f".orch-{topology.stem}"
