"""The client: requests, watches and waits, against a daemon that a test drives."""

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator import client
from orchestrator.client import Client, Verdict, connection, endpoint
from orchestrator.errors import DaemonUnreachable, ProtocolError, RequestFailed, WaitTimeout
from orchestrator.wire import control
from tests.unit.cli import fake
from tests.unit.cli.fake import FAILED, STOPPED, FakeDaemon, make_row


@pytest.fixture
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeDaemon]:
    with fake.running(tmp_path_factory.mktemp("d")) as one:
        yield one


@pytest.fixture
def reached(daemon: FakeDaemon) -> Iterator[Client]:
    with client.connect(daemon.path.parent) as one:
        yield one


def once_watched(daemon: FakeDaemon, action: Callable[[], None]) -> threading.Thread:
    """Do `action` as soon as somebody watches."""

    def run() -> None:
        daemon.until_watched()
        action()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_without_a_daemon_the_error_names_socket_and_command(tmp_path: Path) -> None:
    with pytest.raises(DaemonUnreachable) as caught:
        client.connect(tmp_path, starter="orch -f x.yaml up -d")
    assert str(tmp_path / "control.sock") in str(caught.value)
    assert "orch -f x.yaml up -d" in str(caught.value)
    assert caught.value.exit_code == 69


def test_a_socket_path_that_is_too_long_is_unreachable_too(tmp_path: Path) -> None:
    with pytest.raises(DaemonUnreachable, match="too long"):
        client.connect(tmp_path / ("x" * 120))


def test_a_request_gives_the_result(daemon: FakeDaemon, reached: Client) -> None:
    daemon.add("market.engine")
    assert [row["name"] for row in reached.ps()] == ["market.engine"]
    assert daemon.requests == [("ps", {"names": []})]


def test_a_daemon_that_is_silent_is_told_of_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "SILENCE", 0.01)
    ours, theirs = socket.socketpair()
    told: list[bytes] = []

    def answer() -> None:
        told.append(theirs.recv(1 << 16))
        theirs.sendall(control.result(json.loads(told[-1])["id"], {"instances": []}))

    with theirs, Client(ours, Path("control.sock"), "orch up -d") as one:
        one.silent = answer
        assert one.ps() == []
    assert len(told) == 1


def test_a_refusal_carries_its_code(daemon: FakeDaemon, reached: Client) -> None:
    daemon.add("market.engine")
    with pytest.raises(RequestFailed, match="did you mean 'market") as caught:
        reached.change("stop", ["markte"])
    assert caught.value.code == "unknown-name"
    assert daemon.rows["market.engine"]["phase"] == "running"


def test_a_daemon_that_ends_before_it_answers_is_unreachable(
    daemon: FakeDaemon, reached: Client
) -> None:
    def vanish(daemon: FakeDaemon, params: dict[str, Any]) -> dict[str, Any]:
        del params
        daemon.hang_up()
        return {}

    daemon.answers["ps"] = vanish
    with pytest.raises(DaemonUnreachable, match="ended before it answered 'ps'"):
        reached.ps()


def test_a_daemon_that_says_nothing_is_not_waited_for_for_ever(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    runtime_dir = tmp_path_factory.mktemp("d")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(runtime_dir / "control.sock"))
        listener.listen()
        with (
            client.connect(runtime_dir) as silent,
            pytest.raises(WaitTimeout, match="'ps' within"),
        ):
            silent.request("ps", timeout=0.05)


@pytest.mark.parametrize(
    "garbage",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"[1, 2]\n",
        b'{"id": 1}\n',
        b'{"id": 1, "result": 3}\n',
    ],
)
def test_garbage_is_a_protocol_error(
    tmp_path_factory: pytest.TempPathFactory, garbage: bytes
) -> None:
    runtime_dir = tmp_path_factory.mktemp("d")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(runtime_dir / "control.sock"))
        listener.listen()
        with client.connect(runtime_dir) as one:
            stream, _ = listener.accept()
            with stream:
                stream.sendall(garbage)
                with pytest.raises(ProtocolError, match="cannot"):
                    one.ps()


def test_an_answer_cut_off_in_its_middle_is_a_protocol_error(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    runtime_dir = tmp_path_factory.mktemp("d")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(runtime_dir / "control.sock"))
        listener.listen()
        with client.connect(runtime_dir) as one:
            stream, _ = listener.accept()
            stream.sendall(b'{"id": 1, "resu')
            stream.shutdown(socket.SHUT_WR)
            with stream, pytest.raises(ProtocolError, match="cut off"):
                one.ps()


def test_a_watch_gives_the_snapshot_and_then_every_change(
    daemon: FakeDaemon, reached: Client
) -> None:
    daemon.add("a.a")
    watch = reached.watch()
    daemon.change("a.a", phase="stopping")
    daemon.change("a.a", **STOPPED)
    daemon.stop()
    assert [row["phase"] for row in watch.rows] == ["running"]
    phases = [event["row"]["phase"] for event in watch if event["kind"] == "instance"]
    assert phases == ["stopping", "stopped"]
    assert watch.at_end


def test_events_that_come_before_a_reply_are_kept_for_the_watch(
    daemon: FakeDaemon, reached: Client
) -> None:
    daemon.add("a.a")
    watch = reached.watch()
    reached.change("stop", ["a.a"])
    assert watch.has_events
    assert [event["row"]["phase"] for event in watch.wait(0.0)] == ["stopped"]


def test_a_wait_ends_when_the_condition_holds_for_all(daemon: FakeDaemon, reached: Client) -> None:
    daemon.add("a.a", phase="starting", ready=False)
    daemon.add("b.b")
    seen: list[str] = []
    thread = once_watched(daemon, lambda: daemon.change("a.a", phase="running", ready=True))
    outcome = reached.wait_until(
        client.ready, 10.0, what="ready", seen=lambda row: seen.append(row["phase"])
    )
    thread.join()
    assert not outcome.failed
    assert seen == ["starting", "running", "running"]


def test_a_failed_instance_ends_the_wait_of_the_others(
    daemon: FakeDaemon, reached: Client
) -> None:
    daemon.add("a.a", phase="starting", ready=False)
    daemon.add("b.b", phase="starting", ready=False)
    thread = once_watched(daemon, lambda: daemon.change("a.a", **FAILED))
    outcome = reached.wait_until(client.ready, 10.0, what="ready")
    thread.join()
    assert [row["name"] for row in outcome.failed] == ["a.a"]


def test_those_that_a_failure_takes_along_are_told_too(
    daemon: FakeDaemon, reached: Client
) -> None:
    daemon.add("db.db", **FAILED)
    daemon.add("web.web", phase="waiting", ready=False, pid=None)
    daemon.add("work.work", phase="starting", ready=False)

    def next_breath(daemon: FakeDaemon, params: dict[str, Any]) -> dict[str, Any]:
        del params
        daemon.change("web.web", **FAILED, why="cannot start 'web.web': 'db.db' failed (exit 1)")
        return {"instances": []}

    daemon.answers["ps"] = next_breath
    outcome = reached.wait_until(client.ready, 10.0, what="ready")
    assert [row["name"] for row in outcome.failed] == ["db.db", "web.web"]


def test_a_wait_that_takes_too_long_names_whom_it_waited_for(
    daemon: FakeDaemon, reached: Client
) -> None:
    daemon.add("market.engine", phase="starting", ready=False, pid=12)
    daemon.add(
        "web.web", phase="waiting", ready=False, pid=None, why="waiting for db (ready) 3.1s"
    )
    with pytest.raises(WaitTimeout) as caught:
        reached.wait_until(client.ready, 0.05, what="ready")
    assert str(caught.value) == (
        "not ready after 50ms: market.engine (starting, pid 12), "
        "web.web (waiting for db (ready) 3.1s)"
    )


def test_a_long_list_of_names_is_counted(daemon: FakeDaemon, reached: Client) -> None:
    for number in range(1000):
        daemon.add(f"s.c{number}", phase="starting", ready=False)
    with pytest.raises(WaitTimeout, match="and 990 more"):
        reached.wait_until(client.ready, 0.0, what="ready")


def test_a_removed_instance_is_awaited_no_longer(daemon: FakeDaemon, reached: Client) -> None:
    daemon.add("a.a", phase="starting", ready=False)
    thread = once_watched(daemon, lambda: daemon.publish({"kind": "removed", "name": "a.a"}))
    outcome = reached.wait_until(client.ready, 10.0, what="ready")
    thread.join()
    assert outcome.rows == {}


def test_a_wait_survives_the_death_of_the_daemon(daemon: FakeDaemon, reached: Client) -> None:
    daemon.add("a.a", phase="starting", ready=False)

    def die() -> None:
        daemon.rows["a.a"] = make_row("a.a")
        daemon.hang_up()

    thread = once_watched(daemon, die)
    outcome = reached.wait_until(client.ready, 10.0, what="ready")
    thread.join()
    assert outcome.rows["a.a"]["ready"]


def test_a_wait_ends_with_the_system(daemon: FakeDaemon, reached: Client) -> None:
    daemon.add("a.a", phase="starting", ready=False)
    thread = once_watched(daemon, daemon.stop)
    with pytest.raises(DaemonUnreachable, match=r"the system stopped, not ready: a\.a"):
        reached.wait_until(client.ready, 10.0, what="ready")
    thread.join()


@pytest.mark.parametrize(
    ("changes", "settled", "ready", "ended"),
    [
        ({"phase": "waiting", "pid": None, "ready": False}, "PENDING", "PENDING", "PENDING"),
        ({"phase": "starting", "ready": False}, "DONE", "PENDING", "PENDING"),
        (
            {"phase": "starting", "pid": None, "ready": False},
            "PENDING",
            "PENDING",
            "PENDING",
        ),
        ({"phase": "running", "ready": False}, "DONE", "PENDING", "PENDING"),
        ({}, "DONE", "DONE", "PENDING"),
        ({"phase": "stopping", "ready": False}, "PENDING", "PENDING", "PENDING"),
        ({"phase": "backoff", "pid": None, "ready": False}, "DONE", "PENDING", "PENDING"),
        (
            {"phase": "backoff", "pid": None, "ready": False, "generation": 0},
            "PENDING",
            "PENDING",
            "PENDING",
        ),
        ({"phase": "waiting", "ready": False, "failures": 2}, "DONE", "PENDING", "PENDING"),
        ({"phase": "waiting", "ready": False, "next_start_in": 60.0}, "DONE", "DONE", "PENDING"),
        ({"phase": "exited", "pid": None, "ready": False}, "DONE", "DONE", "DONE"),
        ({"phase": "disabled", "pid": None, "ready": False}, "DONE", "DONE", "DONE"),
        (STOPPED, "DONE", "FAILED", "DONE"),
        (FAILED, "FAILED", "FAILED", "DONE"),
    ],
)
def test_conditions_judge_every_phase(
    changes: dict[str, Any], settled: str, ready: str, ended: str
) -> None:
    row: Any = make_row("a.a", **changes)
    assert client.settled(row) is Verdict[settled]
    assert client.ready(row) is Verdict[ready]
    assert client.ended(row) is Verdict[ended]


def test_a_restart_is_done_with_a_newer_process_only() -> None:
    condition = client.regenerated({"a.a": 3})
    old: Any = make_row("a.a", generation=3)
    new: Any = make_row("a.a", generation=4)
    unready: Any = make_row("a.a", generation=4, ready=False, phase="starting")
    assert condition(old) is Verdict.PENDING
    assert condition(unready) is Verdict.PENDING
    assert condition(new) is Verdict.DONE


def test_a_failure_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    log = tmp_path / "a.err"
    log.write_text("".join(f"line {number}\n" for number in range(100)))
    row: Any = make_row("a.a", **FAILED, stderr=str(log))
    lines = client.failure(row).splitlines()
    assert lines[0] == f"a.a failed: exit 1; the end of {log}:"
    assert lines[1:] == [f"    line {number}" for number in range(80, 100)]


def test_a_failure_without_errors_shows_the_standard_output(tmp_path: Path) -> None:
    (tmp_path / "a.err").touch()
    (tmp_path / "a.out").write_text("only this")
    row: Any = make_row(
        "a.a", **FAILED, stdout=str(tmp_path / "a.out"), stderr=str(tmp_path / "a.err")
    )
    assert client.failure(row).endswith("\n    only this")


def test_the_last_lines_of_a_great_file_are_read_from_its_end(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as file:
        file.seek(50_000_000)
        file.write(b"\n" + b"x" * 200_000 + b"\nlast but one\r\n\xff unfinished")
    assert client.last_lines(log, 2) == ["last but one", "� unfinished"]
    assert client.last_lines(tmp_path / "none", 2) == []


def test_another_users_daemon_is_not_trusted(
    daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    uid = os.geteuid()
    monkeypatch.setattr(endpoint, "_peer", lambda _: uid + 4711)
    with pytest.raises(DaemonUnreachable, match=f"it runs as uid {uid + 4711}"):
        client.connect(daemon.path.parent)
