"""Saying that one is ready, to a supervisor that may be busy or dead."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.component import notify

pytestmark = pytest.mark.timeout(20)


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Yield where the supervisor listens, if it does; wait for who still speaks at the end."""
    monkeypatch.setattr(notify, "_RETRY", 0.01)
    path = f"{tmp_path}/notify"
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    yield path
    for thread in threading.enumerate():
        if thread.name == "orch-ready":
            thread.join()


def test_ready_is_heard_at_once(address: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(address)
        notify.ready()
        assert listener.recv(100, socket.MSG_DONTWAIT) == b"READY=1"


def test_ready_is_not_lost_where_the_queue_is_full_for_longer_than_one_waits(address: str) -> None:
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as flood,
    ):
        listener.bind(address)
        flood.setblocking(False)
        filled = 0
        with contextlib.suppress(BlockingIOError):
            while flood.sendto(b"STATUS=busy", address):
                filled += 1
        assert not notify.send("STATUS=lost", patience=0.0, quiet=True)
        notify.ready(patience=0.0)
        said = [listener.recv(100) for _ in range(filled + 1)]
        assert said == [b"STATUS=busy"] * filled + [b"READY=1"]


def test_ready_is_not_lost_where_the_next_daemon_does_not_listen_yet(address: str) -> None:
    notify.ready()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(address)
        assert listener.recv(100) == b"READY=1"


def test_nobody_goes_on_where_it_may_never_be_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("NOTIFY_SOCKET", f"{tmp_path}/file/notify")
    notify.ready()
    assert "Cannot say that it is ready" in caplog.text
    assert "orch-ready" not in {thread.name for thread in threading.enumerate()}
