"""The control socket: who connects is let in, and none is overlooked while the code is replaced.

asyncio's own server does not tell of a connection that it has accepted and whose protocol does
not know of it yet. An upgrade in that moment would lose the client.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import logging
import socket
from collections.abc import Callable

from orchestrator.model.units import Seconds

logger = logging.getLogger(__name__)

AT_ONCE = 100
"""How many are let in before others on the loop have their turn."""

AGAIN: Seconds = 1.0
"""How long nobody is let in when there are no descriptors or memory for another."""

_SCARCE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Clients:
    """Lets in who connects, until it is closed.

    Args:
        loop: The loop.
        listening: The socket; it is closed with this.
        made: Makes the protocol of a client.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listening: socket.socket,
        made: Callable[[], asyncio.BaseProtocol],
    ) -> None:
        self._loop = loop
        self._listening = listening
        self._made = made
        self._arriving: set[asyncio.Task[None]] = set()
        listening.setblocking(False)
        self._listen()

    @property
    def are_arriving(self) -> bool:
        """Whether somebody has been let in whom the protocol does not know yet."""
        return bool(self._arriving)

    def close(self) -> None:
        """Let nobody in any more."""
        if self._listening.fileno() >= 0:
            self._loop.remove_reader(self._listening)
            self._listening.close()

    def _listen(self) -> None:
        if self._listening.fileno() >= 0:
            self._loop.add_reader(self._listening, self._accept)

    def _accept(self) -> None:
        for _ in range(AT_ONCE):
            try:
                connection, _ = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _SCARCE:
                    raise
                logger.warning("No client is let in for %gs: %s", AGAIN, error.strerror)
                self._loop.remove_reader(self._listening)
                self._loop.call_later(AGAIN, self._listen)
                return
            connection.setblocking(False)
            task = self._loop.create_task(self._let_in(connection))
            self._arriving.add(task)
            task.add_done_callback(functools.partial(self._arrived, connection))

    async def _let_in(self, connection: socket.socket) -> None:
        await self._loop.connect_accepted_socket(self._made, connection)

    def _arrived(self, connection: socket.socket, task: asyncio.Task[None]) -> None:
        self._arriving.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.warning("A client could not be let in: %s", task.exception())
            connection.close()
