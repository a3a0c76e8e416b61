"""Sockets that orch listens on for components: no restart and no death refuses a connection."""

from __future__ import annotations

import functools
import os
import signal
import socket
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any, Self

from tests.e2e.scenario import Scenario, bad, eventually, exits, orch, says
from tests.e2e.test_daemon_death import back_again, kill_daemon

HTTPD = [sys.executable, "-I", "-S", str(Path(__file__).with_name("httpd.py"))]


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Client:
    """Connects again and again, and counts what comes of it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.outcomes: Counter[str] = Counter()
        self.served: Counter[int] = Counter()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.wait(0.002):
            try:
                self.served[self.get()] += 1
                self.outcomes["served"] += 1
            except (OSError, ValueError) as error:
                self.outcomes[type(error).__name__] += 1

    def get(self) -> int:
        """Return the pid of the server that answered."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            answer = b""
            while chunk := connection.recv(65536):
                answer += chunk
        return int(answer.rpartition(b"\r\n")[2])


def served_by_more(client: Client, than: int) -> bool:
    return len(client.served) > than


def descriptors(pid: int) -> list[int]:
    return sorted(int(each.name) for each in Path(f"/proc/{pid}/fd").iterdir())


def web(port: int, **more: Any) -> dict[str, Any]:
    return {"command": HTTPD, "sockets": {"http": f"tcp://127.0.0.1:{port}"}, **more}


def test_restarts_and_the_daemons_death_refuse_no_connection(scenario: Scenario) -> None:
    port = free_port()
    scenario.services({"web": web(port)})
    scenario.step("it comes up", orch("up", "-d", "--wait"), exits(0))
    with Client(port) as client:
        scenario.until(lambda: client.outcomes["served"] > 20)
        for _ in range(5):
            served = len(client.served)
            scenario.step("it is restarted", orch("restart", "web"), exits(0))
            eventually(functools.partial(served_by_more, client, served))
        old = kill_daemon(scenario)
        back_again(scenario, old)
        scenario.step("the next daemon restarts it", orch("restart", "web"), exits(0))
        scenario.until(lambda: len(client.served) >= 7)
        keeper = scenario.daemon()["keeper_pid"]
        os.kill(keeper, signal.SIGKILL)
        scenario.until(lambda: scenario.daemon()["keeper_pid"] != keeper)
        old = kill_daemon(scenario)
        os.kill(scenario.row("web.web")["pid"], signal.SIGKILL)
        back_again(scenario, old)
        scenario.until(lambda: len(client.served) >= 8)
    assert client.outcomes["ConnectionRefusedError"] == 0, client.outcomes
    # Only what was in the hands of the one that was killed may be lost.
    assert client.outcomes.total() - client.outcomes["served"] <= 1, client.outcomes


def test_the_socket_waits_while_the_daemon_and_the_server_are_both_dead(
    scenario: Scenario,
) -> None:
    port = free_port()
    scenario.services({"web": web(port, restart="always", backoff={"initial": "0s"})})
    scenario.step("it comes up", orch("up", "-d", "--wait"), exits(0))
    pid, daemon = scenario.row("web.web")["pid"], scenario.daemon()["pid"]
    os.kill(daemon, signal.SIGSTOP)
    os.kill(pid, signal.SIGKILL)
    os.kill(daemon, signal.SIGKILL)
    assert Client(port).get() != pid  # connected at once, served by the next


def refuses(port: int) -> bool:
    """Whether nobody listens."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_a_stop_closes_the_socket_and_a_unix_socket_is_private(scenario: Scenario) -> None:
    port, path = free_port(), scenario.root / "web.sock"
    sockets = {"http": f"tcp://127.0.0.1:{port}", "admin": f"unix://{path}"}
    open_ = {"address": f"unix://{scenario.root}/open.sock", "mode": "0666"}
    scenario.services({"web": web(port) | {"sockets": {**sockets, "open": open_}}})
    scenario.step("it comes up", orch("up", "-d", "--wait"), exits(0))
    Client(port).get()
    assert path.stat().st_mode & 0o777 == 0o600
    assert (scenario.root / "open.sock").stat().st_mode & 0o777 == 0o666
    scenario.step("it is stopped", orch("stop", "web"), exits(0))
    scenario.until(lambda: not path.exists())
    scenario.until(lambda: refuses(port))  # The keeper has closed its copy a moment later.
    scenario.step("it is started", orch("start", "web"), exits(0))
    Client(port).get()
    assert path.exists()


def test_a_port_in_use_is_tried_again_and_who_has_it_is_told(scenario: Scenario) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        again = {"initial": "100ms", "factor": 1}
        scenario.services({"web": web(port, backoff=again, limit={"failures": 0})})
        scenario.step("it cannot", orch("up", "-d"))
        found = scenario.until_row("web.web", phase="backoff", result="spawn-error")
        assert f"cannot listen on tcp://127.0.0.1:{port}" in str(found), found
        assert f"address already in use by pid {os.getpid()}" in str(found), found
    scenario.until_row("web.web", phase="running")
    Client(port).get()


def test_replicas_share_a_socket(scenario: Scenario) -> None:
    port = free_port()
    scenario.services({"web": web(port, replicas=2)})
    scenario.step("they come up", orch("up", "-d", "--wait"), exits(0))
    with Client(port) as client:
        scenario.until(lambda: len(client.served) == 2)
        scenario.step("one is stopped", orch("stop", "web.web@1"), exits(0))
        scenario.step("the other serves", orch("ps"), exits(0))
    assert set(client.outcomes) == {"served"}, client.outcomes


def test_a_program_has_its_sockets_and_nothing_else(scenario: Scenario) -> None:
    sockets = {"b": f"unix://{scenario.root}/b.sock", "a": f"unix://{scenario.root}/a.sock"}
    other = {"command": bad(), "depends_on": ["web"]}
    scenario.services({"web": {"command": bad("--report"), "sockets": sockets}, "other": other})
    scenario.step("it comes up", orch("up", "-d", "--wait"), exits(0))
    report = scenario.until_logged("web.web").decode()
    assert '"LISTEN_FDNAMES": "b:a"' in report
    assert '"LISTEN_FDS": "2"' in report
    pid = scenario.row("web.web")["pid"]
    assert f'"LISTEN_PID": "{pid}"' in report
    assert descriptors(pid) == [0, 1, 2, 3, 4]
    assert descriptors(scenario.row("other.other")["pid"]) == [0, 1, 2]
    back_again(scenario, kill_daemon(scenario))
    scenario.step("both start anew", orch("restart", "web", "other"), exits(0))
    scenario.until_logged("web.web", times=2)
    assert descriptors(scenario.row("web.web")["pid"]) == [0, 1, 2, 3, 4]
    assert descriptors(scenario.row("other.other")["pid"]) == [0, 1, 2]


def test_a_socket_for_other_machines_is_refused_unless_meant(scenario: Scenario) -> None:
    scenario.services({"web": {"command": bad(), "sockets": {"http": "tcp://*:8099"}}})
    scenario.step("it is refused", orch("validate"), exits(1), says("ORC251", "insecure: true"))


REPLYER = """
def on_ask(args, to_send, states, config):
    return {}

connection_models = {"in": {"ask": {
    "connection_type": "replyer",
    "required_creation_arguments": {"on_new_request": on_ask},
}}}
"""

ASKER = """
import time

def main(to_send, config):
    while True:
        to_send("connection", "ask", {})
        print("answered", flush=True)
        time.sleep(0.01)

connection_models = {"out": {"ask": {
    "connection_type": "requester",
    "optional_creation_arguments": {"idempotent": True, "attempts": 100, "timeout": 60},
}}}
"""


def test_an_address_that_clients_are_connected_to_is_bound_again_at_each_restart(
    scenario: Scenario,
) -> None:
    """What the last process left of its connections is in nobody's way."""
    scenario.write(REPLYER, "web.py")
    scenario.write(ASKER, "asker.py")
    scenario.services(
        {
            "web": {"handler": "web.py", "connections": {"in": {"ask": "asks"}}},
            "asker": {
                "handler": "asker.py",
                "mode": "main",
                "connections": {"out": {"ask": "asks"}},
            },
        },
        addresses={"asks": f"tcp://127.0.0.1:{free_port()}"},
    )
    scenario.step("they come up", orch("up", "-d", "--wait"), exits(0))
    for life in (2, 3, 4):
        scenario.until_logged("asker.asker", "answered")
        answered = scenario.log("asker.asker").count(b"answered")
        if life == 4:
            os.kill(scenario.row("web.web")["pid"], signal.SIGKILL)
        else:
            scenario.step("a restart works", orch("restart", "web"), exits(0))
        scenario.until_row("web.web", phase="running", ready=True, generation=life)
        scenario.until_logged("asker.asker", "answered", times=answered + 10)
    assert b"in use" not in scenario.log("web.web", "err")
    assert scenario.row("asker.asker")["restarts"] == 0
