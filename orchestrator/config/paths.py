"""Where a system's directories are. Arithmetic on names; makes nothing, imports little."""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Mapping
from pathlib import Path

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
    return _sha256(name)[:KEY_LENGTH]


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


def _sha256(data: bytes) -> str:
    """Return the digest in hexadecimal, as `hashlib` does, which loads OpenSSL for it.

    That is a tenth of the time of a short command; so `random` does the same.
    """
    for name in ("_sha2", "_sha256", "hashlib"):  # From 3.12 on, before, and anywhere.
        with contextlib.suppress(ImportError):
            digest: str = importlib.import_module(name).sha256(data).hexdigest()
            return digest
    raise AssertionError("internal error: a Python without SHA-256")


def _default(topology: Path) -> str:
    return ".orch" if topology.name in DEFAULT_NAMES else f".orch-{topology.stem}"
