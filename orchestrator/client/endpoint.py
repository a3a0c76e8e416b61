"""Where a daemon listens, and who may be believed to be it."""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path

from orchestrator.errors import DaemonUnreachable
from orchestrator.model.units import Seconds

CONNECT_TIMEOUT: Seconds = 5.0


def connect(path: Path, timeout: Seconds, starter: str, owner: int | None = None) -> socket.socket:
    """Connect to the daemon's socket, or where the user `owner` must be the one who listens.

    Raises:
        DaemonUnreachable: Nobody listens there, or somebody else does.
    """
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        stream.settimeout(timeout)
        stream.connect(os.fspath(path))
    except OSError as problem:
        stream.close()
        why = problem.strerror or str(problem)
        raise DaemonUnreachable(
            f"cannot reach the daemon at {path}: {why}; start it with: {starter}"
        ) from problem
    peer = _peer(stream)
    if peer not in ((os.geteuid(), 0) if owner is None else (owner,)):
        # It would be given our secrets.
        stream.close()
        raise DaemonUnreachable(
            f"cannot trust the daemon at {path}: it runs as uid {peer}, not as {os.geteuid()}; "
            "set XDG_RUNTIME_DIR to a directory of your own"
        )
    return stream


def _peer(stream: socket.socket) -> int:
    """Return the user at the other end of a unix socket, unix(7)."""
    given = stream.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    uid: int = struct.unpack("3i", given)[1]
    return uid
