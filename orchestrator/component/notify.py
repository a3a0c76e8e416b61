"""Telling the supervisor how far the component is, as sd_notify(3) does."""

from __future__ import annotations

import logging
import os
import socket

logger = logging.getLogger(__name__)

# A reader that is busy must not hold up the component for long.
_PATIENCE = 1.0


def send(*lines: str) -> bool:
    """Send lines such as `READY=1`; False when nobody listens or the message was lost."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if path[:1] not in ("/", "@"):
        return False
    # A name that begins with @ is one in the abstract namespace.
    address = "\0" + path[1:] if path[0] == "@" else path
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.settimeout(_PATIENCE)
        try:
            sender.sendto("\n".join(lines).encode(), address)
        except OSError as error:
            logger.warning("Cannot notify %s: %s", path, error)
            return False
    return True
