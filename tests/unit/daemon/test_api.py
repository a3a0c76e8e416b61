"""The control API over a transport that remembers: methods, refusals, streams, bad clients."""

from __future__ import annotations

import asyncio
import math
import os
import resource
import socket
import stat
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator import process as processes
from orchestrator.daemon import api as apis
from orchestrator.daemon import main
from orchestrator.daemon.admission import STARTS_A_TURN
from orchestrator.daemon.api import Api, Session
from orchestrator.errors import RequestFailed
from orchestrator.model import plain
from orchestrator.model.topology import Component, Dependency, Lock, Ready
from orchestrator.process import starting
from orchestrator.supervision import lifecycle
from orchestrator.wire import control
from tests import fakes
from tests.unit.daemon.system import KEY, System

WEB = fakes.component("shop.web", settle=0.0)
DB = fakes.component("shop.db", settle=0.0)
APP = fakes.component("shop.app", settle=0.0, depends_on={"shop.db": Dependency()})


class FakeTransport(asyncio.Transport):
    """Remembers what was written; its reader is as slow as the test says."""

    def __init__(self, uid: int) -> None:
        super().__init__()
        self.written = bytearray()
        self.waiting = 0
        self.closed = False
        self.aborted = False
        self._uid = uid

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self if name == "socket" else default

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        assert (level, option, size) == (socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        return struct.pack("iII", 1, self._uid, 1)

    def fileno(self) -> int:
        return 99

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.aborted
        self.written += data

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True

    def is_closing(self) -> bool:
        return self.closed or self.aborted


class Client:
    """A client of one session."""

    def __init__(self, api: Api, uid: int | None = None) -> None:
        self.session = Session(api)
        self.transport = FakeTransport(os.geteuid() if uid is None else uid)
        self.session.connection_made(self.transport)
        self._decoder = control.Decoder()
        self._number = 0

    def send(self, data: bytes) -> None:
        self.session.data_received(data)

    def messages(self) -> list[dict[str, Any]]:
        """Return what has come since last asked."""
        data = bytes(self.transport.written)
        self.transport.written.clear()
        return self._decoder.feed(data)

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        self.send(control.request(self._number, method, params))
        (reply,) = [m for m in self.messages() if "event" not in m]
        assert reply["id"] == self._number
        return reply

    def result(self, method: str, **params: Any) -> dict[str, Any]:
        reply = self.ask(method, **params)
        assert "result" in reply, reply
        result: dict[str, Any] = reply["result"]
        return result

    def error(self, method: str, **params: Any) -> dict[str, Any]:
        reply = self.ask(method, **params)
        assert "error" in reply, reply
        error: dict[str, Any] = reply["error"]
        return error

    def events(self) -> list[dict[str, Any]]:
        return [m["event"] for m in self.messages() if "event" in m]


@pytest.fixture
def api(system: System) -> Api:
    """An API whose supervisor publishes what it reports."""
    made = Api(system.supervisor, system.runner, {"pid": 1, "keeper_pid": 2, "version": "0"})
    system.supervisor._report = made.publish
    Path(system.place.runtime_dir).mkdir(parents=True)
    return made


@pytest.fixture
def client(api: Api) -> Client:
    return Client(api)


def lock(system: System, *components: Component, **fields: Any) -> dict[str, Any]:
    for component in components:
        system.host.programs.setdefault(component.command, fakes.Program())
    place = system.place
    made = Lock(
        name="shop",
        key=fields.pop("key", KEY),
        topology="/t.yaml",
        base_dir=fields.pop("base_dir", place.base_dir),
        runtime_dir=place.runtime_dir,
        components={component.name: component for component in components},
        **fields,
    )
    encoded: dict[str, Any] = plain.encode(made)
    return encoded


def apply(client: Client, system: System, *components: Component, **params: Any) -> dict[str, Any]:
    return client.result("apply", lock=lock(system, *components), **params)


# ------------------------------------------------------------------ methods


def test_apply_says_what_it_does_and_it_is_done_when_it_answers(
    client: Client, system: System
) -> None:
    result = apply(client, system, WEB)
    assert result["plan"] == [
        {"name": "shop.web", "action": "create", "cause": "new", "changed": []}
    ]
    (row,) = client.result("ps")["instances"]
    assert (row["name"], row["phase"]) == ("shop.web", "running")


def test_what_only_the_library_reads_of_a_lock_arrives_too(client: Client, system: System) -> None:
    odd = fakes.with_fields(WEB, environment={"PATH_OF": "/tmp/\udc80"}, config={"x": math.inf})
    apply(client, system, odd)
    (there,) = system.supervisor.slots.values()
    assert there.instance.component == odd


def test_a_plan_changes_nothing(client: Client, system: System) -> None:
    result = client.result("apply", lock=lock(system, WEB), plan=True)
    assert [o["action"] for o in result["plan"]] == ["create"]
    assert client.result("ps") == {"instances": []}


def test_apply_names_brings_what_they_need(client: Client, system: System) -> None:
    apply(client, system, WEB, APP, DB, names=["shop.app"])
    phases = {row["name"]: row["phase"] for row in client.result("ps")["instances"]}
    assert phases == {"shop.web": "stopped", "shop.app": "running", "shop.db": "running"}


def test_apply_no_deps_does_not(client: Client, system: System) -> None:
    apply(client, system, WEB, APP, DB, names=["shop.app"], no_deps=True)
    phases = {row["name"]: row["phase"] for row in client.result("ps")["instances"]}
    assert phases == {"shop.web": "stopped", "shop.app": "running", "shop.db": "stopped"}


def test_status_tells_of_the_daemon_and_the_instances(client: Client, system: System) -> None:
    apply(client, system, WEB)
    result = client.result("status")
    assert result["daemon"] == {"pid": 1, "keeper_pid": 2, "version": "0", "state": "running"}
    assert len(result["instances"]) == 1


def test_stop_start_and_restart_say_whom_they_concern(client: Client, system: System) -> None:
    apply(client, system, WEB, DB)
    assert client.result("stop", names=["shop.web"]) == {
        "names": ["shop.web"],
        "unchanged": [],
        "needed": {},
    }
    system.host.advance(1)
    assert client.result("stop", names=["shop"]) == {
        "names": ["shop.db"],
        "unchanged": ["shop.web"],
        "needed": {},
    }
    system.host.advance(1)
    assert client.result("start", names=["shop.web"])["names"] == ["shop.web"]
    assert client.result("start", names=["shop.web"])["unchanged"] == ["shop.web"]
    system.crash("shop.web@1")
    assert system.phase("shop.web@1") == "backoff"
    assert client.result("start", names=["shop.web"])["names"] == ["shop.web"]
    assert system.phase("shop.web@1") == "running", "it does not wait the backoff out"
    client.result("stop", names=["shop.web"])
    assert system.phase("shop.web@1") == "stopping"
    assert client.result("start", names=["shop.web"])["names"] == ["shop.web"]
    assert client.result("restart", names=["shop.web"])["names"] == ["shop.web"]
    assert client.result("reset")["names"] == ["shop.web", "shop.db"]


@pytest.mark.parametrize("word", ["USR1", "SIGUSR1", "usr1"])
def test_kill_takes_any_spelling_of_a_signal(client: Client, system: System, word: str) -> None:
    apply(client, system, WEB, DB, names=["shop.web"])
    assert client.result("kill", names=["shop"], signal=word) == {"done": {"shop.web": "pass"}}


@pytest.mark.parametrize("word", ["FOO", "", "SIG", "_DFL", "9", "BLOCK", "sig_dfl"])
def test_a_signal_that_is_none_is_refused(client: Client, system: System, word: str) -> None:
    apply(client, system, WEB)
    assert client.error("kill", names=["shop.web"], signal=word)["code"] == "unknown-signal"
    assert system.host.sent == []


@pytest.mark.parametrize("method", ["ps", "status", "start", "stop", "restart", "reset", "kill"])
def test_an_unknown_name_is_refused_and_nothing_is_done_to_the_others(
    client: Client, system: System, method: str
) -> None:
    apply(client, system, WEB, DB)
    started = len(system.host.orders)
    error = client.error(method, names=["shop.web", "shop.dbb"], signal="TERM")
    assert error["code"] == "unknown-name"
    assert error["near"][0] == "shop.db"
    assert "did you mean 'shop.db'" in error["message"]
    system.host.advance(5)
    assert (len(system.host.orders), system.host.sent) == (started, [])


def test_an_unknown_method_is_refused_and_the_session_goes_on(client: Client) -> None:
    error = client.error("statsu")
    assert error["code"] == "unknown-method"
    assert "'status'" in error["message"]
    assert "result" in client.ask("ps")


def test_a_disabled_one_cannot_be_started(client: Client, system: System) -> None:
    apply(client, system, fakes.with_fields(WEB, enabled=False))
    error = client.error("start", names=["shop.web"])
    assert error["code"] == "disabled"
    assert "'shop.web'" in error["message"]


@pytest.mark.parametrize(
    "broken",
    [
        None,
        {},
        [],
        "text",
        {"name": "shop"},
        {"name": "shop", "key": KEY, "topology": "/", "base_dir": "/", "runtime_dir": "/",
         "components": {"shop.web": {"service": 7}}},
    ],
)  # fmt: skip
def test_a_lock_that_is_none_is_refused(client: Client, broken: object) -> None:
    assert client.error("apply", lock=broken)["code"] == "bad-lock"
    assert "result" in client.ask("ps")


def test_apply_without_a_lock_is_refused(client: Client) -> None:
    assert client.error("apply")["code"] == "bad-lock"


def test_the_lock_of_another_system_is_refused(client: Client, system: System) -> None:
    error = client.error("apply", lock=lock(system, WEB, key="other"))
    assert error["code"] == "other-system"
    error = client.error("apply", lock=lock(system, WEB, base_dir="/elsewhere"))
    assert error["code"] == "other-system"
    assert "orch down" in error["message"]
    assert client.result("ps") == {"instances": []}


def test_apply_asks_for_descriptors_before_it_changes_anything(
    client: Client, api: Api, system: System
) -> None:
    def refuse(count: int) -> None:
        raise RequestFailed("limit", f"{count} are too many")

    api.needs_descriptors = refuse
    assert client.error("apply", lock=lock(system, WEB))["code"] == "limit"
    assert client.result("ps") == {"instances": []}


@pytest.mark.parametrize("method", ["start", "restart", "apply"])
def test_what_starts_is_refused_while_the_system_stops(
    client: Client, system: System, method: str
) -> None:
    apply(client, system, WEB)
    system.supervisor.shutdown()
    error = client.error(method, lock=lock(system, WEB), names=[])
    assert error["code"] == "stopping"
    assert client.result("status")["daemon"]["state"] == "stopping"


def test_a_stop_tells_who_goes_on_needing_what_stops(client: Client, system: System) -> None:
    apply(client, system, DB, APP)
    system.host.advance(1)
    assert client.result("stop", names=["shop.db", "shop.app"])["needed"] == {}
    system.host.advance(1)
    client.result("start", names=["shop.app"])
    system.host.advance(1)
    assert client.result("stop", names=["shop.db"])["needed"] == {"shop.db": ["shop.app"]}
    assert client.result("stop", names=["shop.app"])["needed"] == {}


def test_a_plan_and_a_stop_are_served_while_the_system_stops(
    client: Client, system: System
) -> None:
    apply(client, system, WEB)
    system.supervisor.shutdown()
    client.result("apply", lock=lock(system, WEB), plan=True)
    client.result("stop", names=["shop.web"])


def test_down_names_what_still_runs_and_begins_the_end(client: Client, system: System) -> None:
    apply(client, system, WEB, DB, names=["shop.web"])

    async def down() -> dict[str, Any]:
        result = client.result("down")
        await asyncio.sleep(0)  # the end begins once the answer is on its way
        return result

    loop = asyncio.new_event_loop()
    try:
        assert loop.run_until_complete(down()) == {"names": ["shop.web"], "keeper_pid": 2}
    finally:
        loop.close()
    assert system.supervisor.stopping
    system.host.advance(30)
    assert system.finished == 1


def test_a_defect_of_ours_is_told_and_takes_nobody_down(
    client: Client, api: Api, system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_names: object) -> None:
        raise KeyError("a defect")

    monkeypatch.setattr(api.supervisor, "stop", fail)
    apply(client, system, WEB)
    error = client.error("stop")
    assert error["code"] == "internal"
    assert error["message"].startswith("internal error")
    assert "result" in client.ask("ps")


# ------------------------------------------------------------------ secrets


def test_secrets_are_kept_private_and_forgotten(
    client: Client, system: System, tmp_path: Path
) -> None:
    component = fakes.with_fields(
        WEB, environment={"KEY": "${settings.K}"}, secrets=("K",), command=("with-secret",)
    )
    apply(client, system, component, secrets={"K": "s3cret"})
    assert system.host.orders[-1].environment["KEY"] == "s3cret"
    runtime = Path(system.place.runtime_dir)
    assert apis.kept_secrets(runtime) == {"K": "s3cret"}
    (path,) = runtime.iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not [p for p in tmp_path.iterdir() if p.is_file() and b"s3cret" in p.read_bytes()]
    apis.keep_secrets(runtime, {})
    assert list(runtime.iterdir()) == []
    assert apis.kept_secrets(runtime) == {}


def test_damaged_secrets_are_no_secrets(tmp_path: Path) -> None:
    for text in ("", "{", "[]", "null"):
        (tmp_path / "secrets.json").write_text(text)
        assert dict(apis.kept_secrets(tmp_path)) == {}


# ------------------------------------------------------------------ streams


def test_watch_begins_with_all_rows_and_goes_on_with_changes(
    api: Api, client: Client, system: System
) -> None:
    apply(client, system, WEB)
    watcher = Client(api)
    first = watcher.result("watch")
    assert [row["name"] for row in first["instances"]] == ["shop.web"]
    client.result("stop", names=["shop.web"])
    system.host.advance(1)
    events = watcher.events()
    assert {event["kind"] for event in events} == {"instance"}
    assert [event["row"]["phase"] for event in events][-1] == "stopped"
    numbers = [first["seq"], *(event["seq"] for event in events)]
    assert numbers == sorted(set(numbers)), "each number is greater than the one before"


def test_what_waits_for_a_profile_is_not_among_all(client: Client, system: System) -> None:
    debug = fakes.component("shop.debug", settle=0.0, profiles=("debug",))
    apply(client, system, WEB, debug, names=["shop.web"])

    def phases() -> dict[str, str]:
        return {row["name"]: row["phase"] for row in client.result("ps")["instances"]}

    assert phases() == {"shop.web": "running", "shop.debug": "stopped"}
    (said,) = client.result("explain", names=["shop.debug"])["explanations"]
    assert "it is started by name, or with its profile (debug)" in str(said)
    client.result("stop")
    assert client.result("start")["names"] == ["shop.web"]
    assert client.result("restart")["names"] == ["shop.web"]
    assert phases()["shop.debug"] == "stopped"
    assert client.result("start", names=["shop.debug"])["names"] == ["shop.debug"]
    system.host.advance(1)
    assert phases()["shop.debug"] == "running"
    assert client.result("restart")["names"] == ["shop.web", "shop.debug"]


MANY = [fakes.component(f"shop.c{number}", settle=0.0) for number in range(STARTS_A_TURN + 1)]


async def answers(client: Client) -> list[dict[str, Any]]:
    """Return what a client has got once everybody has had a turn."""
    for _ in range(5):
        await asyncio.sleep(0)
    return client.messages()


async def test_a_watch_amid_many_starts_begins_with_the_news_of_all(
    api: Api, client: Client, system: System
) -> None:
    apply(client, system, *MANY)
    watcher = Client(api)
    watcher.send(control.request(1, "watch", {}))
    assert await answers(watcher) == []
    assert watcher.session.has_unsent, "an upgrade would lose the answer"
    system.host.turn()
    (reply,) = await answers(watcher)
    assert [row["phase"] for row in reply["result"]["instances"]] == ["running"] * len(MANY)
    system.crash(MANY[0].slot)
    assert {event["row"]["name"] for event in watcher.events()} == {"shop.c0"}


async def test_a_watch_amid_many_starts_waits_for_them_no_longer_than_the_news(
    api: Api, client: Client, system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apis, "TELL_WITHIN", 0.0)
    apply(client, system, *MANY)
    watcher = Client(api)
    watcher.send(control.request(1, "watch", {}))
    (reply,) = await answers(watcher)
    phases = [row["phase"] for row in reply["result"]["instances"]]
    assert phases.count("waiting") == 1
    system.host.turn()
    assert {event["row"]["phase"] for event in watcher.events()} == {"running"}


async def test_a_watch_of_nobody_is_refused_amid_many_starts_too(
    api: Api, client: Client, system: System
) -> None:
    apply(client, system, *MANY)
    watcher = Client(api)
    watcher.send(control.request(1, "watch", {"names": ["nobody"]}))
    system.host.turn()
    await asyncio.sleep(0)
    system.supervisor.post(MANY[0].slot, lifecycle.Stop())
    system.host.turn()
    (reply,) = await answers(watcher)
    assert reply["error"]["code"] == "unknown-name"


def test_a_watch_of_names_hears_of_no_other(api: Api, client: Client, system: System) -> None:
    apply(client, system, WEB, DB)
    watcher = Client(api)
    first = watcher.result("watch", names=["shop.db"])
    assert [row["name"] for row in first["instances"]] == ["shop.db"]
    client.result("stop")
    system.host.advance(1)
    assert {event["row"]["name"] for event in watcher.events()} == {"shop.db"}


def test_a_watch_of_an_unknown_name_is_refused(client: Client) -> None:
    assert client.error("watch", names=["nobody"])["code"] == "unknown-name"
    assert client.session.stream is None


def test_a_removed_instance_is_told_by_its_name(api: Api, client: Client, system: System) -> None:
    apply(client, system, WEB, DB)
    watcher = Client(api)
    watcher.result("watch")
    apply(client, system, DB, remove_orphans=True)
    system.host.advance(20)
    last = watcher.events()[-1]
    assert (last["kind"], last["name"]) == ("removed", "shop.web")


def test_the_end_of_the_system_is_told_with_its_reason(
    api: Api, client: Client, system: System
) -> None:
    apply(client, system, WEB, DB, names=["shop.web"])
    watcher, narrow = Client(api), Client(api)
    watcher.result("watch")
    narrow.result("watch", names=["shop.db"])
    api.begin_shutdown(exit_code=10, why="shop.web failed (exit 1)")
    api.begin_shutdown(exit_code=0, why="again")
    for stream in (watcher, narrow):
        (said,) = [event for event in stream.events() if event["kind"] == "system"]
        assert (said["state"], said["exit_code"]) == ("stopping", 10)
        assert said["why"] == "shop.web failed (exit 1)"


def test_a_reader_that_does_not_read_is_cut_off_and_the_others_go_on(
    api: Api, client: Client, system: System
) -> None:
    apply(client, system, WEB)
    slow, quick = Client(api), Client(api)
    slow.result("watch")
    quick.result("watch")
    slow.transport.waiting = apis.SLOW_READER + 1
    client.result("stop")
    system.host.advance(1)
    assert slow.transport.aborted
    assert not slow.transport.written
    assert not quick.transport.aborted
    assert quick.events()


def test_who_has_left_is_forgotten(api: Api, client: Client, system: System) -> None:
    left: list[bool] = []
    api.idle = lambda: left.append(True)
    watcher = Client(api)
    watcher.result("watch")
    watcher.session.connection_lost(None)
    assert left == [True]
    assert api.sessions == {client.session}
    apply(client, system, WEB)
    assert not watcher.transport.written


# ------------------------------------------------------------------ bad clients


def test_several_requests_in_one_breath_are_answered_in_order(client: Client) -> None:
    client.send(b"".join(control.request(n, "ps", {}) for n in (1, 2, 3)))
    assert [message["id"] for message in client.messages()] == [1, 2, 3]


def test_a_request_in_pieces_is_answered_once_it_is_whole(client: Client) -> None:
    data = control.request(1, "ps", {})
    for number in range(len(data)):
        assert client.messages() == []
        client.send(data[number : number + 1])
    assert [message["id"] for message in client.messages()] == [1]


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xfe\n",
        b"GET / HTTP/1.1\r\n",
        b"[1]\n",
        b'"ps"\n',
        b"{}\n",
        b'{"id": "1", "method": "ps"}\n',
        b'{"id": 1, "method": 7}\n',
        b'{"id": 1}\n',
        b'{"method": "ps"}\n',
        b'{"id": 1, "method": "ps", "params": [1]}\n',
        b'{"id": 1, "method": "ps", "params": "x"}\n',
    ],
)
def test_what_is_no_request_is_told_and_the_connection_ends(client: Client, data: bytes) -> None:
    client.send(data)
    (message,) = client.messages()
    assert message["error"]["code"] == "protocol"
    assert client.transport.closed


def test_nothing_is_done_after_a_malformed_request(client: Client, system: System) -> None:
    """Where the next one begins is unknown."""
    apply(client, system, WEB)
    client.send(b'{"id": 1, "method": 7}\n' + control.request(2, "stop", {}))
    system.host.advance(5)
    assert system.phase("shop.web@1") == "running"


@pytest.mark.parametrize(
    "params",
    [
        {"names": "shop.web"},
        {"names": 7},
        {"names": [7]},
        {"names": [None]},
        {"names": {"a": 1}},
        {"names": [["shop.web"]]},
    ],
)
@pytest.mark.parametrize("method", ["ps", "watch", "stop"])
def test_names_of_a_wrong_type_are_an_error_and_not_the_end(
    client: Client, system: System, method: str, params: dict[str, Any]
) -> None:
    apply(client, system, WEB)
    assert "error" in client.ask(method, **params)
    assert "result" in client.ask("ps")
    system.host.advance(1)
    assert system.phase("shop.web@1") == "running"


@pytest.mark.parametrize("secrets", [[], "x", 7, {"K": 1}, {"K": None}])
def test_secrets_of_a_wrong_type_change_nothing(
    client: Client, system: System, secrets: object
) -> None:
    component = fakes.with_fields(WEB, environment={"A": "${settings.K}"}, secrets=("K",))
    reply = client.ask("apply", lock=lock(system, component), secrets=secrets)
    if "error" not in reply:
        system.host.advance(1)
        assert all(
            isinstance(value, str)
            for order in system.host.orders
            for value in order.environment.values()
        )
    assert "result" in client.ask("ps")


def test_another_user_is_refused(api: Api) -> None:
    stranger = Client(api, uid=os.geteuid() + 12345)
    assert stranger.transport.aborted
    assert stranger.session not in api.sessions
    stranger.send(control.request(1, "ps", {}))
    assert not stranger.transport.written


def test_root_is_served(api: Api) -> None:
    assert "result" in Client(api, uid=0).ask("ps")


# ------------------------------------------------------------------ descriptors


@pytest.fixture
def limits(
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[[int, int], list[tuple[int, int]]]]:
    """Fake the process's limits of open files; return what was set."""
    monkeypatch.setattr(starting, "_open_files", starting._OpenFiles())

    def fake(soft: int, hard: int) -> list[tuple[int, int]]:
        done: list[tuple[int, int]] = []
        monkeypatch.setattr(resource, "getrlimit", lambda _which: (soft, hard))
        monkeypatch.setattr(resource, "setrlimit", lambda _which, pair: done.append(pair))
        return done

    yield fake
    processes.restore_open_files()


def test_enough_descriptors_are_left_alone(
    limits: Callable[[int, int], list[tuple[int, int]]],
) -> None:
    done = limits(1024, 4096)
    main.need_descriptors(100)
    assert done == []


def test_the_soft_limit_is_raised_to_what_is_needed(
    limits: Callable[[int, int], list[tuple[int, int]]],
) -> None:
    done = limits(1024, 4096)
    main.need_descriptors(2000)
    ((soft, hard),) = done
    assert soft >= 2000
    assert hard == 4096


def test_a_hard_limit_that_is_too_low_is_an_error_with_the_figure(
    limits: Callable[[int, int], list[tuple[int, int]]],
) -> None:
    done = limits(1024, 4096)
    with pytest.raises(RequestFailed) as caught:
        main.need_descriptors(5000)
    assert caught.value.code == "limit"
    assert "4096" in str(caught.value)
    assert "5000" in str(caught.value)
    assert "ulimit" in str(caught.value)
    assert done == []


def test_without_a_hard_limit_any_number_can_be_had(
    limits: Callable[[int, int], list[tuple[int, int]]],
) -> None:
    done = limits(1024, resource.RLIM_INFINITY)
    main.need_descriptors(50_000)
    assert done[0][0] >= 50_000


def test_ready_is_watched_by_names(api: Api, client: Client, system: System) -> None:
    """A row is sent when its readiness changes, not only its phase."""
    probed = fakes.component("shop.probed", ready=Ready(tcp="h:1"))
    apply(client, system, probed)
    watcher = Client(api)
    watcher.result("watch", names=["shop.probed"])
    system.ready("shop.probed@1")
    assert watcher.events()[-1]["row"]["ready"] is True


def test_a_connection_goes_on_in_other_code(api: Api, client: Client, system: System) -> None:
    """Half a request and a watch are handed over; the next code answers and streams."""
    system.apply(WEB)
    client.send(control.request(5, "watch", {"names": ["shop.web"]}))
    line = control.request(6, "ps", {})
    client.send(line[:10])
    client.transport.written.clear()
    handed = client.session.hand_over(None)
    assert handed is not None
    assert (handed.stream, handed.only, handed.received) == (
        5,
        ("shop.web@1",),
        line[:10].decode(),
    )
    successor = Client(api)
    successor.session.go_on(handed)
    (row,) = successor.events()
    assert row["row"]["name"] == "shop.web"
    successor.send(line[10:])
    (reply,) = successor.messages()
    assert reply["id"] == 6
    system.supervisor.stop(["shop.web@1"])
    assert successor.events()


def test_who_has_not_taken_what_was_sent_begins_anew(client: Client) -> None:
    client.transport.waiting = 1
    assert client.session.hand_over(None) is None


def test_an_upgrade_is_refused_while_the_system_stops(client: Client, system: System) -> None:
    system.supervisor.stopping = True
    assert client.error("upgrade")["code"] == "stopping"
