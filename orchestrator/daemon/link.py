"""The line to the keeper, as the daemon holds it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from typing import Any


class Link:
    """The daemon's end of the keeper's link. Neither end ever waits for the other."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, connection: socket.socket, received: bytes = b""
    ) -> None:
        connection.setblocking(False)
        self._loop = loop
        self._connection = connection
        self._received = received
        self._unsent = b""
        self._acks: list[int] = []
        self.exits: dict[int, dict[str, Any]] = {}
        self.lost = False

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._connection.fileno()

    def close(self) -> None:
        """Close our end; there is nobody at the other."""
        self._loop.remove_writer(self.fileno())
        self._connection.close()

    def acknowledge(self, number: int) -> None:
        """Let the keeper forget an exit; those of one turn go together."""
        self.exits.pop(number, None)
        if not self._acks:
            self._loop.call_soon(self._send_acks)
        self._acks.append(number)

    def _send_acks(self) -> None:
        acks, self._acks = self._acks, []
        if acks:
            self.send(ack=acks)

    def send(self, **message: Any) -> None:
        """Tell the keeper; when it is gone there is nobody to tell."""
        if not self.lost:
            self._unsent += json.dumps(message).encode() + b"\n"
            self._flush()

    def say_goodbye(self) -> None:
        """Send the last word, and wait until it is with the keeper."""
        self.send(bye=True)
        self._drain()

    def hand_over(self) -> bytes:
        """Send what is to be sent, and return what has come of a message that is not whole."""
        self._send_acks()
        self._drain()
        return self._received

    def _drain(self) -> None:
        self._loop.remove_writer(self.fileno())
        if self._unsent and not self.lost:
            self._connection.setblocking(True)
            self._connection.settimeout(5)
            with contextlib.suppress(OSError):
                self._connection.sendall(self._unsent)
            self._connection.setblocking(False)
            self._unsent = b""

    def _flush(self) -> None:
        try:
            sent = self._connection.send(self._unsent)
            self._unsent = self._unsent[sent:]
        except BlockingIOError:
            pass
        except OSError:
            self.lost, self._unsent = True, b""
        if self._unsent:
            self._loop.add_writer(self.fileno(), self._flush)
        else:
            self._loop.remove_writer(self.fileno())

    def receive(self) -> list[dict[str, Any]]:
        """Return the messages that have come."""
        chunks = [self._received]
        while True:
            try:
                data = self._connection.recv(1 << 16)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            if not data:
                self.lost = True
                break
            chunks.append(data)
        *lines, self._received = b"".join(chunks).split(b"\n")
        messages = [json.loads(line) for line in lines]
        self.exits.update((m["exit"]["seq"], m["exit"]) for m in messages if "exit" in m)
        return messages
