"""TLS over a connection of asyncio's streams, which the daemon loads without TLS of their own."""

from __future__ import annotations

import asyncio
import functools
import ssl
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

CHUNK = 65536
"""How much is read at once, and the longest line, in bytes."""


class Secured:
    """A client's end of a connection; `begin` comes first.

    Nothing is verified: who uses it is told by the topology whom to ask, as kubelets are.

    Args:
        reader: What the other side sends.
        writer: What it is sent through; who made it closes it.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = _unverified().wrap_bio(self._incoming, self._outgoing)
        self._plain = b""

    async def begin(self) -> None:
        """Shake hands.

        Raises:
            ValueError: The other side does not speak TLS, or nothing that both know.
        """
        await self._advance(self._tls.do_handshake)

    def write(self, data: bytes) -> None:
        """Send data."""
        self._tls.write(data)
        self._flush()

    async def readline(self) -> bytes:
        """Return a line, or what there is of it at the end, or of one that is too long."""
        await self._fill(lambda: b"\n" in self._plain or len(self._plain) >= CHUNK)
        line, newline, self._plain = self._plain.partition(b"\n")
        return line + newline

    async def readexactly(self, size: int) -> bytes:
        """Return so many bytes, fewer at the end."""
        await self._fill(lambda: len(self._plain) >= size)
        found, self._plain = self._plain[:size], self._plain[size:]
        return found

    async def _fill(self, is_enough: Callable[[], bool]) -> None:
        while not is_enough():
            try:
                more = await self._advance(lambda: self._tls.read(CHUNK))
            except ssl.SSLZeroReturnError:
                return
            if not more:
                return
            self._plain += more

    async def _advance(self, step: Callable[[], T]) -> T:
        """Return the result of a step of the protocol, once the other side has done its part."""
        while True:
            try:
                result = step()
            except ssl.SSLWantReadError:
                self._flush()
                if data := await self._reader.read(CHUNK):
                    self._incoming.write(data)
                else:
                    self._incoming.write_eof()
            except ssl.SSLZeroReturnError:
                raise
            except ssl.SSLError as error:
                raise ValueError(f"no TLS: {error.reason or error}") from error
            else:
                self._flush()
                return result

    def _flush(self) -> None:
        if data := self._outgoing.read():
            self._writer.write(data)


@functools.cache
def _unverified() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
