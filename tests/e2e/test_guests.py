"""Components of another user: they notify, are asked, are reloaded; and nobody else's."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.scenario import ORCH, Scenario, bad, exits, orch, row, says
from tests.e2e.test_daemon_death import back_again, kill_daemon
from tests.e2e.test_sockets import free_port

USER = os.environ.get("ORCH_TEST_USER", "nobody")

HANDLER = """
import os

VERSION = 1


def on_ask(args):
    return {"version": VERSION, "uid": os.getuid()}


connection_models = {"in": {"ask": {
    "connection_type": "replyer",
    "required_creation_arguments": {"on_new_request": on_ask},
    "required_arguments": {},
    "required_return_arguments": {"version": int, "uid": int},
}}}
"""

CONNECT = """
import socket, sys
kind = getattr(socket, sys.argv[1])
with socket.socket(socket.AF_UNIX, kind) as one:
    try:
        one.connect(sys.argv[2])
        print("connected")
    except OSError as error:
        print(type(error).__name__)
"""


def closed_interpreter() -> str:
    """Return the directory above the interpreter that others may not enter; empty if none."""
    for path in (Path(sys.executable).absolute(), Path(sys.executable).resolve(), ORCH):
        for directory in path.parents:
            if not directory.stat().st_mode & 0o001:
                return str(directory)
    return ""


pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(
        bool(closed_interpreter()),
        reason=f"others cannot enter {closed_interpreter()}; `make test` makes it reachable",
    ),
]


@pytest.fixture
def world(scenario: Scenario) -> Scenario:
    """A world that others may pass through, as a project of several users is."""
    scenario.root.chmod(0o755)
    return scenario


def uid_of(pid: int) -> int:
    return Path(f"/proc/{pid}").stat().st_uid


def try_as(uid: int, kind: str, path: Path) -> str:
    """Connect to a unix socket as a user; return what comes of it."""
    return subprocess.run(
        [sys.executable, "-I", "-S", "-c", CONNECT, kind, str(path)],
        user=uid,
        group=uid,
        extra_groups=[],
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


def handler(world: Scenario, version: int = 1) -> None:
    """Write a handler of another user, reachable by its control link and a port only."""
    world.write(HANDLER.replace("VERSION = 1", f"VERSION = {version}"), "web.py")
    web = {"handler": "web.py", "connections": {"in": {"ask": "ask"}}, "watch": False}
    address = {"address": f"tcp://127.0.0.1:{free_port()}", "external": True}
    world.services({"web": {**web, "user": USER}}, addresses={"ask": address})


def shared(world: Scenario) -> Path:
    """Return the directory of this world's sockets for other users."""
    (key,) = (path.name for path in world.runtime.glob("orch/*"))
    return Path("/run/orch") / key


def test_a_program_of_another_user_notifies_also_the_next_daemon(world: Scenario) -> None:
    pinging = bad("--notify-after", 0, "--ping", 0.1)
    web = {"command": pinging, "ready": {"notify": True}, "watchdog": "20s", "user": USER}
    world.services({"web": web, "own": {**web, "user": "root"}})
    world.step("both are ready", orch("up", "-d", "--wait"), exits(0))
    found = world.row("web.web")
    assert uid_of(found["pid"]) == pwd.getpwnam(USER).pw_uid
    directory = shared(world)
    assert directory.stat().st_mode & 0o777 == 0o711
    rows = back_again(world, kill_daemon(world))
    assert rows["web.web"]["pid"] == found["pid"]
    world.step("a restart waits for the word", orch("restart", "web"), exits(0))
    world.step("new code reads it too", orch("upgrade"), exits(0))
    world.step("it starts again", orch("restart", "web"), exits(0))
    world.until_row("web.web", phase="running", ready=True)
    world.step("all is stopped", orch("down"), exits(0))
    assert not directory.exists()


def test_what_a_dead_daemon_was_told_is_heard_by_the_next(world: Scenario) -> None:
    web = {"command": bad("--notify-after", 6), "ready": {"notify": True}, "user": USER}
    world.services({"web": web})
    world.step("it is started", orch("up", "-d"))
    pid = world.until_row("web.web", phase="starting")["pid"]
    back_again(world, kill_daemon(world))
    assert world.until_row("web.web", phase="running", ready=True)["pid"] == pid


def test_a_handler_of_another_user_is_asked_and_reloaded(world: Scenario) -> None:
    handler(world)
    world.step("it is ready", orch("up", "-d", "--wait"), exits(0))
    pid = world.row("web.web")["pid"]
    uid = pwd.getpwnam(USER).pw_uid
    outcome = world.step("it is called", orch("call", "web", "ask", "{}"), exits(0))
    assert outcome.json() == {"version": 1, "uid": uid}
    world.write(HANDLER.replace("VERSION = 1", "VERSION = 2"), "web.py")
    world.step("it is reloaded", orch("reload", "web"), exits(0), says("in place"))
    outcome = world.step("it answers anew", orch("call", "web", "ask", "{}"), exits(0))
    assert outcome.json() == {"version": 2, "uid": uid}
    world.step("the next daemon", orch("ps"), exits(0), row("web.web", pid=pid, code=2))
    back_again(world, kill_daemon(world))
    world.step("reloads it too", orch("reload", "web"), exits(0))
    world.step("it is restarted", orch("restart", "web"), exits(0))
    world.step("and called", orch("call", "web", "ask", "{}"), exits(0))


def test_other_users_cannot_reach_what_is_not_theirs(world: Scenario) -> None:
    handler(world)
    world.step("it is ready", orch("up", "-d", "--wait"), exits(0))
    user, directory = pwd.getpwnam(USER), shared(world)
    link, notify = directory / str(user.pw_uid), directory / f"{user.pw_uid}.notify"
    assert (link.stat().st_mode & 0o777, link.stat().st_uid) == (0o700, user.pw_uid)
    assert (notify.stat().st_mode & 0o777, notify.stat().st_uid) == (0o600, user.pw_uid)
    (control,) = link.rglob("web-web")
    assert try_as(user.pw_uid, "SOCK_DGRAM", notify) == "connected"
    for kind, path in (("SOCK_DGRAM", notify), ("SOCK_STREAM", control)):
        assert try_as(user.pw_uid - 1, kind, path) == "PermissionError"
    # He may put another's socket in the place of his own; nobody is taken in.
    control.unlink()
    control.symlink_to(next(world.runtime.glob("orch/*/control.sock")))
    world.step("nothing is asked there", orch("call", "web", "ask", "{}"), exits(1))
    world.step(
        "the daemon restarts it", orch("reload", "web"), exits(0), says("another user listens")
    )
    world.step("and reaches it again", orch("call", "web", "ask", "{}"), exits(0))
