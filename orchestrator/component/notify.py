"""Telling the supervisor how far the component is, as sd_notify(3) does."""

from __future__ import annotations

import logging
import os
import socket

logger = logging.getLogger(__name__)

# A reader that is busy must not hold up the component for long.
_PATIENCE = 1.0


def sign_every() -> float:
    """Return how often the watchdog wants a sign of life, in seconds; 0 when there is none.

    That is twice as often as it must be, so that one sign may be late.
    """
    wanted, of = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not wanted.isdecimal() or of not in ("", str(os.getpid())):
        return 0.0
    return int(wanted) / 2_000_000


def sign() -> bool:
    """Give the watchdog its sign of life; never wait for a supervisor that does not listen."""
    return send("WATCHDOG=1", patience=0.0)


def send(*lines: str, patience: float = _PATIENCE, quiet: bool = False) -> bool:
    """Send lines such as `READY=1`; False when nobody listens or the message was lost.

    That is in the log, unless `quiet`.
    """
    path = os.environ.get("NOTIFY_SOCKET", "")
    if path[:1] not in ("/", "@"):
        return False
    # A name that begins with @ is one in the abstract namespace.
    address = "\0" + path[1:] if path[0] == "@" else path
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.settimeout(patience)
        try:
            sender.sendto("\n".join(lines).encode(), address)
        except OSError as error:
            if not quiet:
                logger.warning("Cannot notify %s: %s", path, error)
            return False
    return True
