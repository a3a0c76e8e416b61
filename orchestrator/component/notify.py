"""Telling the supervisor how far the component is, as sd_notify(3) does."""

from __future__ import annotations

import errno
import logging
import os
import socket
import threading
import time

logger = logging.getLogger(__name__)

# A reader that is busy must not hold up the component for long.
_PATIENCE = 1.0

# The daemon is busy, has died, or is being replaced: another one will listen at the same path.
_NOT_YET = frozenset({errno.EAGAIN, errno.ECONNREFUSED, errno.ENOENT, errno.ENOBUFS})

_RETRY = 0.5

_UNIX, _DATAGRAM = int(socket.AF_UNIX), socket.SOCK_DGRAM | socket.SOCK_CLOEXEC


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


def ready(*, patience: float = _PATIENCE) -> None:
    """Say `READY=1`, which must not be lost, however long nobody listens.

    After `patience` seconds a thread goes on trying until it is heard, and the component works.
    """
    if not _address():
        return
    try:
        _send("READY=1", patience)
    except OSError as error:
        if error.errno not in _NOT_YET and not isinstance(error, TimeoutError):
            logger.warning("Cannot say that it is ready: %s", error)
            return
        logger.warning("The supervisor has not heard yet that this is ready: %s", error)
        threading.Thread(target=_insist, name="orch-ready", daemon=True).start()


def send(*lines: str, patience: float = _PATIENCE, quiet: bool = False) -> bool:
    """Send lines such as `STATUS=busy`; False when nobody listens or the message was lost.

    That is in the log, unless `quiet`.
    """
    if not _address():
        return False
    try:
        _send("\n".join(lines), patience)
    except OSError as error:
        if not quiet:
            logger.warning("Cannot notify %s: %s", os.environ["NOTIFY_SOCKET"], error)
        return False
    return True


def _insist() -> None:
    while True:
        try:
            _send("READY=1", None)
        except OSError as error:
            if error.errno not in _NOT_YET:
                logger.warning("Cannot say that it is ready: %s", error)
                return
            time.sleep(_RETRY)  # noqa: TID251 - in a thread of its own
        else:
            return


def _send(text: str, patience: float | None) -> None:
    # The one in C: that of `socket` runs much Python to be made and closed, at each start.
    sender = socket.SocketType(_UNIX, _DATAGRAM)
    try:
        sender.settimeout(patience)
        sender.sendto(text.encode(), _address())
    finally:
        sender.close()


def _address() -> str:
    path = os.environ.get("NOTIFY_SOCKET", "")
    # A name that begins with @ is one in the abstract namespace.
    return "\0" + path[1:] if path[:1] == "@" else path if path[:1] == "/" else ""
