"""Who connects is let in, and nobody is overlooked on the way."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from orchestrator.daemon import clients
from orchestrator.daemon.clients import Clients


class Greeter(asyncio.Protocol):
    """Counts who has come, and greets."""

    known = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        Greeter.known += 1
        transport.write(b"hello")
        transport.close()


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[tuple[Clients, str]]:
    path = str(tmp_path / "control.sock")
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(path)
    listening.listen()
    Greeter.known = 0
    made = Clients(asyncio.get_running_loop(), listening, Greeter)
    yield made, path
    made.close()


async def greeted(path: str) -> bytes:
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        return await asyncio.wait_for(reader.read(), 10)
    finally:
        writer.close()


async def test_many_at_once_are_let_in(door: tuple[Clients, str]) -> None:
    _, path = door
    assert await asyncio.gather(*(greeted(path) for _ in range(20))) == [b"hello"] * 20
    assert Greeter.known == 20


async def test_who_is_accepted_and_not_known_yet_is_arriving(door: tuple[Clients, str]) -> None:
    made, path = door
    connections = [socket.socket(socket.AF_UNIX) for _ in range(3)]
    for connection in connections:
        connection.connect(path)
    assert not made.are_arriving
    seen = []
    async with asyncio.timeout(10):
        while Greeter.known < 3:
            await asyncio.sleep(0)
            if Greeter.known == 0:
                seen.append(made.are_arriving)
        while made.are_arriving:  # noqa: ASYNC110
            await asyncio.sleep(0)
    assert any(seen)
    for connection in connections:
        connection.close()


async def test_a_want_of_descriptors_passes(
    door: tuple[Clients, str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    made, path = door
    monkeypatch.setattr(clients, "AGAIN", 0.05)

    class Poor:
        def fileno(self) -> int:
            return listening.fileno()

        def accept(self) -> None:
            made._listening = listening
            raise OSError(errno.EMFILE, "Too many open files")

    listening = made._listening
    monkeypatch.setattr(made, "_listening", Poor())
    assert await greeted(path) == b"hello"
    assert "No client is let in for 0.05s: Too many open files" in caplog.text


async def test_when_it_is_closed_nobody_is_let_in(door: tuple[Clients, str]) -> None:
    made, path = door
    made.close()
    with pytest.raises(ConnectionRefusedError):
        await greeted(path)
