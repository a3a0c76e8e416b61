"""What a child is, looked at from outside: exactly what the topology says, and nothing else."""

from __future__ import annotations

import grp
import json
import os
import pwd
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.scenario import Scenario, bad, eventually, exits, orch
from tests.e2e.test_guests import USER, closed_interpreter
from tests.e2e.test_limits import groups_of, needs_groups
from tests.e2e.test_sockets import free_port

HANDLER = """
import json
import os
import socket
import time


def main(to_send, config):
    with open("environment", "w") as file:
        json.dump(dict(os.environ), file)
    os.rename("environment", "environment.json")
    if "LISTEN_FDS" in os.environ:
        served = socket.socket(fileno=os.dup(3))
        while True:
            connection, _ = served.accept()
            with connection:
                connection.sendall(str(os.getpid()).encode())
    while True:
        time.sleep(3600)
"""

ASKED = {
    "umask": "0027",
    "nice": 5,
    "oom_score_adj": 700,
    "no_new_privileges": True,
    "rlimits": {"nofile": 300, "core": 0, "cpu": [600, 900]},
    "environment": {"COLOUR": "green", "EMPTY": ""},
    "inherit_env": ["LANG"],
}

handler = {"handler": "web.py", "mode": "main", "watch": False}


def status(pid: int) -> dict[str, str]:
    """Return /proc/PID/status by field."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def limits(pid: int) -> dict[str, tuple[str, str]]:
    """Return the soft and hard limits of a process, as the kernel calls them."""
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()[1:]
    return {line[:26].strip(): (line[26:47].strip(), line[47:68].strip()) for line in lines}


def descriptors(pid: int) -> dict[int, str]:
    """Return where the descriptors of a process lead."""
    return {int(each.name): str(each.readlink()) for each in Path(f"/proc/{pid}/fd").iterdir()}


def environment(pid: int) -> dict[str, str]:
    """Return the environment of a process as the kernel shows it."""
    entries = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return dict(entry.split("=", 1) for entry in entries if entry)


def check_outside(scenario: Scenario, name: str, user: str | None) -> int:
    """Compare a process with what was asked for; return its pid."""
    pid = int(scenario.row(name)["pid"])
    seen = status(pid)
    assert seen["Umask"] == "0027"
    assert seen["NoNewPrivs"] == "1"
    uid, gid, groups = os.getuid(), os.getgid(), set(os.getgroups())
    if user is not None:
        entry = pwd.getpwnam(user)
        uid, gid = entry.pw_uid, entry.pw_gid
        groups = {each.gr_gid for each in grp.getgrall() if user in each.gr_mem} | {gid}
    assert seen["Uid"].split() == [str(uid)] * 4
    assert seen["Gid"].split() == [str(gid)] * 4
    assert set(map(int, seen["Groups"].split())) == groups
    assert os.getpriority(os.PRIO_PROCESS, pid) == max(5, os.getpriority(os.PRIO_PROCESS, 0))
    assert Path(f"/proc/{pid}/oom_score_adj").read_text().strip() == "700"
    found = limits(pid)
    assert found["Max open files"] == ("300", "300")
    assert found["Max core file size"] == ("0", "0")
    assert found["Max cpu time"] == ("600", "900")
    assert str(Path(f"/proc/{pid}/cwd").readlink()) == str(scenario.root)
    return pid


def told(name: str, scenario: Scenario, pid: int, **more: str) -> dict[str, str]:
    """Return what the environment is to be."""
    (key,) = scenario.keys()
    generation = environment(pid)["ORCH_INSTANCE"].rpartition("/")[2]
    marker = f"{key}/{name}@1/{generation}"
    return {"LANG": "C.UTF-8", "COLOUR": "green", "EMPTY": "", "ORCH_INSTANCE": marker, **more}


@pytest.fixture(params=["own", pytest.param("other", marks=pytest.mark.root)])
def user(request: pytest.FixtureRequest, scenario: Scenario) -> str | None:
    """Whom the components run as: the daemon's user, or another."""
    if request.param == "own":
        return None
    if closed_interpreter():
        pytest.skip(f"others cannot enter {closed_interpreter()}; `make test` lets them")
    scenario.root.chmod(0o777)
    return USER


def test_a_child_is_what_was_declared_however_it_starts(
    scenario: Scenario, user: str | None
) -> None:
    asked: dict[str, Any] = {**ASKED, **({"user": user} if user else {})}
    scenario.write(HANDLER, "web.py")
    plain = {key: asked[key] for key in ("environment", "inherit_env", "umask")}
    scenario.services(
        {
            "plain": {"command": bad(), **plain},
            "launched": {"command": bad(), **asked},
            "web": {**handler, **asked},
        }
    )
    scenario.step("all come up", orch("up", "-d", "--wait"), exits(0))
    rows = scenario.ps()
    assert rows["web.web"]["start"] == "zygote"

    pid = rows["plain.plain"]["pid"]
    assert status(pid)["Umask"] == "0027"
    assert environment(pid) == told("plain.plain", scenario, pid)
    assert sorted(descriptors(pid)) == [0, 1, 2]

    pid = check_outside(scenario, "launched.launched", user)
    assert environment(pid) == told("launched.launched", scenario, pid)
    found = descriptors(pid)
    assert sorted(found) == [0, 1, 2]
    assert found[0] == "/dev/null"
    assert found[1] == str(scenario.log_path("launched.launched"))
    assert found[2] == str(scenario.log_path("launched.launched", "err"))

    pid = check_outside(scenario, "web.web", user)
    path = scenario.root / "environment.json"
    eventually(path.exists)
    inside = json.loads(path.read_text())
    # What orch tells the runtime itself is taken out of the environment by it.
    wanted = told("web.web", scenario, pid)
    assert {name: inside[name] for name in inside if name != "NOTIFY_SOCKET"} == wanted
    # What it opens itself are sockets and the like; no file of the daemon's has come along.
    files = {number: path for number, path in descriptors(pid).items() if path.startswith("/")}
    logs = [str(scenario.log_path("web.web", kind)) for kind in ("out", "err")]
    assert files == {0: "/dev/null", 1: logs[0], 2: logs[1]}


@needs_groups
def test_a_forked_handler_is_bounded_like_any_other(scenario: Scenario) -> None:
    scenario.write(HANDLER, "web.py")
    scenario.services({"web": {**handler, "pids": 50, "memory": "512MiB"}})
    scenario.step("it comes up", orch("up", "-d", "--wait"), exits(0))
    found = scenario.row("web.web")
    assert found["start"] == "zygote"
    assert groups_of(found["pid"])
    scenario.step("it stops", orch("down"), exits(0))


def test_a_forked_handler_keeps_its_socket_over_an_upgrade(scenario: Scenario) -> None:
    port = free_port()
    scenario.write(HANDLER, "web.py")
    scenario.services({"web": {**handler, "sockets": {"http": f"tcp://127.0.0.1:{port}"}}})
    scenario.step("it comes up", orch("up", "-d", "--wait"), exits(0))

    def answer() -> int:
        with socket.create_connection(("127.0.0.1", port), timeout=15) as connection:
            return int(connection.recv(100))

    before = scenario.row("web.web")
    assert before["start"] == "zygote"
    assert answer() == before["pid"]
    scenario.step("the code is replaced", orch("upgrade"), exits(0))
    assert answer() == before["pid"]
    scenario.step("it is restarted", orch("restart", "web"), exits(0))
    assert answer() == scenario.row("web.web")["pid"] != before["pid"]
