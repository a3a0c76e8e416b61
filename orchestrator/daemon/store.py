"""Descriptors that the keeper holds for the daemon, so that its death closes none of them."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
from collections.abc import Mapping
from pathlib import Path

from orchestrator.model.units import Seconds

logger = logging.getLogger(__name__)

TIMEOUT: Seconds = 5.0
"""How long the keeper may take to answer; it takes a fraction of a millisecond."""


class Store:
    """The keeper's store (see `orchestrator.keeper`).

    Args:
        path: The keeper's socket for descriptors.
    """

    def __init__(self, path: Path) -> None:
        self._path = str(path)

    def take(self) -> dict[str, socket.socket]:
        """Return a copy of all that is held, by name; nothing when there is no keeper."""
        held: dict[str, socket.socket] = {}
        with contextlib.suppress(OSError), self._ask({"get": True}) as connection:
            while True:
                data, fds, _, _ = socket.recv_fds(connection, 65536, 1)
                if not fds:
                    break
                os.set_inheritable(fds[0], False)
                held[json.loads(data)["name"]] = socket.socket(fileno=fds[0])
        return held

    def put(self, name: str, opened: socket.socket) -> None:
        """Have a socket held, in place of another of that name."""
        try:
            with self._ask({"put": name}, opened.fileno()) as connection:
                connection.recv(65536)
        except OSError as error:
            logger.warning("The socket %s does not outlive this daemon: %s", name, error)

    def drop(self, name: str) -> None:
        """Have a socket held no longer."""
        with contextlib.suppress(OSError), self._ask({"drop": name}):
            pass

    def _ask(self, request: Mapping[str, object], *fds: int) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            connection.settimeout(TIMEOUT)
            connection.connect(self._path)
            socket.send_fds(connection, [json.dumps(request).encode()], fds)
        except OSError:
            connection.close()
            raise
        return connection
