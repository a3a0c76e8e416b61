"""The rows of runs in a real Redis server."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.component import SetupError, mirror
from orchestrator.component.mirror import Mirror
from tests import redis_server
from tests.integration.runs.conftest import PATIENCE, eventually


class Server:
    """A Redis server that can be away for a while."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._running = contextlib.ExitStack()
        self.url = ""

    def start(self) -> None:
        self.url = self._running.enter_context(redis_server.running(self._place))

    def stop(self) -> None:
        self._running.close()
        (self._place / "redis.sock").unlink(missing_ok=True)

    def client(self) -> Any:
        return pytest.importorskip("redis").Redis.from_url(self.url)

    def rows(self, key: str) -> dict[str, Any]:
        with self.client() as client:
            found = client.hgetall(f"{key}:runs")
        return {name.decode(): json.loads(row) for name, row in found.items()}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path)
    made.start()
    yield made
    made.stop()


def row(run_id: str, state: str, **more: Any) -> dict[str, Any]:
    return {"id": run_id, "state": state, **more}


def test_rows_can_be_read_and_followed(server: Server) -> None:
    with server.client() as client, client.pubsub() as channel:
        channel.subscribe("orch:lab:runs")
        assert channel.get_message(timeout=PATIENCE)["type"] == "subscribe"
        made = Mirror(server.url, "lab")
        made.put(row("a", "queued"))
        told = json.loads(channel.get_message(timeout=PATIENCE)["data"])
        assert told == row("a", "queued")
        made.put(row("a", "running", progress=0.5, custom={"step": 2}))
        made.put(row("b", "cancelled"))
        made.close()
    assert server.rows("orch:lab") == {
        "a": row("a", "running", progress=0.5, custom={"step": 2}),
        "b": row("b", "cancelled"),
    }


def test_a_key_of_ones_own(server: Server) -> None:
    made = Mirror(f"{server.url}#mine", "lab")
    made.put(row("a", "queued"))
    made.put(row("b", "queued"))
    made.forget(["a"])
    made.close()
    assert set(server.rows("mine")) == {"b"}


def test_a_server_that_is_away_gets_the_newest_later(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "PAUSES", (0.01,))
    made = Mirror(server.url, "lab")
    made.put(row("a", "queued"))
    eventually(lambda: server.rows("orch:lab"))
    server.stop()
    for state in ("building", "running", "succeeded"):
        made.put(row("a", state))
    made.put(row("b", "queued"))
    server.start()
    eventually(lambda: len(server.rows("orch:lab")) == 2)
    assert server.rows("orch:lab")["a"]["state"] == "succeeded"
    made.close()


def test_nobody_waits_for_a_server_that_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "PENDING", 10)
    made = Mirror(f"unix://{tmp_path}/nobody", "lab")
    for number in range(100):
        made.put(row(str(number), "queued"))
    made.close()
    eventually(lambda: "orch-mirror" not in {one.name for one in threading.enumerate()})


@pytest.mark.parametrize("url", ["http://me:secret@host", "redis://me:secret@host:x"])
def test_a_url_that_is_none_is_refused_without_its_secret(url: str) -> None:
    with pytest.raises(SetupError, match="cannot mirror runs") as failure:
        Mirror(url, "lab")
    assert "secret" not in str(failure.value)


def test_many_rows_are_written_together(server: Server) -> None:
    made = Mirror(server.url, "lab")
    for number in range(3000):
        made.put(row(f"r{number}", "queued"))
    made.close()
    assert len(server.rows("orch:lab")) == 3000
