"""Components forked by the zygote: their surroundings, and who dies when."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import pwd
import random
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from orchestrator import process as processes
from orchestrator.daemon.host import PosixHost
from orchestrator.errors import SpawnError
from orchestrator.model.phase import Process
from orchestrator.process import MARKER, Order, Setup

LIMIT = 20.0
KEY = f"zygote-{os.getpid()}"
TELL = """
import json, os, random, resource, signal, sys
def main(to_send, config):
    status = dict(line.split(":\\t", 1) for line in open("/proc/self/status") if ":\\t" in line)
    mask = os.umask(0)
    print(json.dumps({
        "uid": os.getuid(), "umask": mask, "nofile": resource.getrlimit(resource.RLIMIT_NOFILE),
        "environment": dict(os.environ), "sid": os.getsid(0) == os.getpid(),
        "fds": sorted(n for n in map(int, os.listdir("/proc/self/fd")) if n in (0, 1, 2, 9)),
        "cwd": os.getcwd(), "ppid": os.getppid(), "argv": sys.argv, "random": random.random(),
        "blocked": int(status["SigBlk"], 16), "path0": sys.path[0],
        "main": sys.modules["__main__"].__name__,
        "comm": open("/proc/self/comm").read().strip(),
        "title": open("/proc/self/cmdline").read().rstrip("\\0"),
        "shown": open("/proc/self/environ").read(),
    }), flush=True)
    signal.pause()
"""

FORK = """
import json, os, random, signal, threading
def main(to_send, config):
    threading.Thread(target=signal.pause, daemon=True).start()
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.write(writing, json.dumps([len(threading.enumerate()), random.random()]).encode())
        os._exit(0)
    os.wait()
    threads, dice = json.loads(os.read(reading, 999))
    print(json.dumps({"threads": threads, "differ": dice != random.random()}), flush=True)
    signal.pause()
"""

SECURE = """
import asyncio, json, signal, socket, sys
async def main(to_send, config):
    before = "ssl" in sys.modules
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    _, port = server.sockets[0].getsockname()
    try:
        await asyncio.open_connection("127.0.0.1", port, ssl=True)
    except OSError as error:
        found = type(error).__mro__
    import ssl
    context = asyncio.base_events.ssl.SSLContext is ssl.SSLContext
    told = {"before": before, "failed": bool(found), "same": context}
    print(json.dumps(told), flush=True)
    await asyncio.Event().wait()
"""


class World:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.loop = asyncio.new_event_loop()
        self.host = PosixHost(self.loop, os.getpid(), lambda _number: None)
        self.loop.add_signal_handler(signal.SIGCHLD, self.host.child_ended)
        self.count = 0

    def order(self, code: str = TELL, **fields: Any) -> Order:
        self.count += 1
        conf = self.directory / f"conf{self.count}"
        conf.mkdir()
        (conf / "handler.py").write_text(code)
        info = {"format": 1, "name": "a", "handler": str(conf / "handler.py"), "mode": "main"}
        (conf / "__info__.json").write_text(json.dumps(info))
        for name in ("addresses.json", "config.json"):
            (conf / name).write_text("{}")
        for path in (self.directory, conf, *conf.iterdir()):
            path.chmod(0o755)
        log = str(self.directory / f"{self.count}.out")
        environment = {MARKER: f"{KEY}/shop.web@1/{self.count}", "A": "é", "LANG": "C.UTF-8"}
        argv = (sys.executable, "-P", "-m", "orchestrator.component", str(conf))
        order = Order(argv, environment, "", stdout=log, stderr=log, no_zygote="")
        return structs.replace(order, **fields)

    def until(self, condition: Callable[[], Any]) -> None:
        async def poll() -> None:
            async with asyncio.timeout(LIMIT):
                while not condition():  # noqa: ASYNC110 - a condition of the world
                    await asyncio.sleep(0.002)

        self.loop.run_until_complete(poll())

    def outcome(self, order: Order) -> Process | SpawnError:
        outcomes: list[Process | SpawnError] = []
        self.host.spawn(order, outcomes.append)
        self.until(lambda: outcomes)
        return outcomes[0]

    def start(self, order: Order) -> Process:
        process = self.outcome(order)
        assert isinstance(process, Process), process
        return process

    def told(self, order: Order) -> dict[str, Any]:
        log = Path(order.stdout or "")
        self.until(lambda: log.exists() and log.read_text().endswith("\n"))
        found: dict[str, Any] = json.loads(log.read_text())
        return found

    def close(self) -> None:
        self.host.zygotes.close()

        def empty() -> bool:
            left = processes.children(os.getpid())
            for pid in left:
                os.kill(pid, signal.SIGKILL)
                processes.reap_child(pid)
            return not left

        try:
            self.until(empty)
        finally:
            self.loop.close()
            ctypes.CDLL(None).prctl(36, 0, 0, 0, 0)  # no subreaper any more


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


def test_a_forked_component_finds_what_an_executed_one_finds(world: World) -> None:
    orders = [world.order(working_dir=str(world.directory), umask=0o027)]
    orders.append(structs.replace(world.order(), no_zygote="asked for"))
    orders[1] = structs.replace(orders[1], working_dir=orders[0].working_dir, umask=0o027)
    ways, found = [], []
    for order in orders:
        ways.append(world.host.way(world.start(order)))
        found.append(world.told(order))
    assert ways == ["zygote", "exec (asked for)"]
    forked, executed = found
    for told, order in zip(found, orders, strict=True):
        assert told["environment"] == dict(order.environment)
        shown = {entry for entry in told.pop("shown").split("\0") if entry}
        assert shown == {f"{name}={value}" for name, value in order.environment.items()}
        assert told.pop("environment")
        assert told["title"].replace("\0", " ") == " ".join(order.argv)
        assert told.pop("argv")[1:] == [order.argv[-1]]
        del told["title"], told["random"]
    assert forked.pop("comm") == "shop.web@1"
    assert executed.pop("comm") != "shop.web@1"
    assert forked.pop("main") == "orchestrator.component.__main__"
    assert executed.pop("main") == "__main__"
    assert forked == executed


def test_two_forks_do_not_throw_the_same_dice(world: World) -> None:
    orders = [world.order(), world.order()]
    for order in orders:
        world.start(order)
    one, other = (world.told(order)["random"] for order in orders)
    assert one != other


def test_a_fork_of_its_own_forgets_threads_and_throws_other_dice(world: World) -> None:
    order = world.order(FORK)
    world.start(order)
    assert world.told(order) == {"threads": 1, "differ": True}


def test_asyncio_encrypts_once_it_is_asked_to(world: World) -> None:
    order = world.order(SECURE)
    world.start(order)
    assert world.told(order) == {"before": False, "failed": True, "same": True}


def test_descriptors_and_limits_are_passed_as_declared(world: World) -> None:
    reading, writing = os.pipe()
    setup = Setup(fds={9: writing}, rlimits={"nofile": (300, 400)})
    order = world.order(setup=setup)
    process = world.start(order)
    os.close(writing)
    told = world.told(order)
    assert told["fds"] == [0, 1, 2, 9]
    assert told["nofile"] == [300, 400]
    os.kill(process.pid, signal.SIGKILL)
    with open(reading, "rb") as file:  # noqa: PTH123 - a descriptor
        assert file.read() == b""  # nobody else has it: neither the zygote nor a sibling


@pytest.mark.root
def test_another_user_is_become_and_stays_visible_to_recovery(
    world: World, tmp_path: Path
) -> None:
    for path in tmp_path.parents:
        if path.stat().st_uid == os.getuid() and path.stat().st_mode & 0o077 == 0:
            path.chmod(0o711)  # the handler is his to read
    order = world.order(setup=Setup(user="nobody"), working_dir="/")
    process = world.start(order)
    assert world.told(order)["uid"] == pwd.getpwnam("nobody").pw_uid
    assert processes.marker_of(process.pid) == order.environment[MARKER]


def test_a_step_that_fails_is_told_as_by_the_launcher(world: World) -> None:
    for fields, stage in (
        ({"setup": Setup(rlimits={"nofile": (100, 50)})}, "set the limit nofile=100:50"),
        ({"working_dir": "/no/such/folder"}, "enter the directory '/no/such/folder'"),
    ):
        found = []
        for no_zygote in ("", "asked for"):
            error = world.outcome(world.order(**fields, no_zygote=no_zygote))
            assert isinstance(error, SpawnError)
            found.append((error.stage, error.errno, error.transient))
        assert found[0] == found[1]
        assert found[0][0] == stage
    world.host.child_ended()  # as SIGCHLD tells the daemon
    world.until(lambda: set(processes.children(os.getpid())) == {world.host.zygotes.pid})


def test_who_needs_other_variables_of_the_interpreter_is_executed(world: World) -> None:
    world.start(world.order())
    order = world.order()
    environment = {**order.environment, "LANG": "C"}
    process = world.start(structs.replace(order, environment=environment))
    assert world.host.way(process) == "exec (its LANG is not that of the zygote)"


def test_nonsense_does_not_disturb_the_zygote(world: World) -> None:
    world.start(world.order())
    pid = world.host.zygotes.pid
    living = world.host.zygotes._living
    assert living is not None
    living.control.send(b"no descriptor")
    one, other = socket.socketpair()
    one.send(b"{no json")
    socket.send_fds(living.control, [b"f"], [other.fileno()])
    socket.send_fds(living.control, [b"f"], [0])
    other.close()
    report = json.loads(one.recv(4096))
    assert report["stage"] == "read the order"
    one.close()
    assert world.host.way(world.start(world.order())) == "zygote"
    assert world.host.zygotes.pid == pid


@pytest.mark.parametrize("seed", range(6))
def test_the_zygotes_death_neither_loses_nor_doubles_a_start(world: World, seed: int) -> None:
    dice = random.Random(seed)
    orders = [world.order() for _ in range(20)]
    outcomes: list[Process | SpawnError] = []

    kills = []

    def kill() -> None:
        pid = world.host.zygotes.pid
        kills.append(pid)
        if pid is not None:
            os.kill(pid, signal.SIGKILL)

    for _ in range(3):
        world.loop.call_later(dice.uniform(0.0, 0.4), kill)
    for order in orders:
        world.host.spawn(order, outcomes.append)
    world.until(lambda: len(outcomes) == len(orders) and len(kills) == 3)
    for order in orders:
        world.told(order)  # exactly one line, and thus one process
    assert all(isinstance(outcome, Process) for outcome in outcomes)
    assert len(processes.marked_leaders(f"{KEY}/shop.")) == len(orders)  # not the zygote
    assert all(processes.is_alive(each) for each in outcomes if isinstance(each, Process))
    assert world.host.way(world.start(world.order())) == "zygote"


def test_a_zygote_whose_files_change_is_followed_by_another(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = tmp_path / "sitecustomize.py"
    library.write_text("")
    starting = processes.start_zygote

    def with_library(environment: dict[str, str], control: int) -> Process:
        return starting({**environment, "PYTHONPATH": str(tmp_path)}, control)

    monkeypatch.setattr(processes, "start_zygote", with_library)
    world.start(world.order())
    before = world.host.zygotes.pid
    library.write_text("changed = True\n")
    assert world.host.way(world.start(world.order())) == "zygote"
    assert world.host.zygotes.pid not in (None, before)


def test_a_child_that_nobody_tells_to_go_never_runs(world: World) -> None:
    world.start(world.order())
    living = world.host.zygotes._living
    assert living is not None
    payload, fds = processes.fork_order(order := world.order())
    ours, theirs = socket.socketpair()
    socket.send_fds(ours, [payload], list(fds.values()))
    for fd in fds.values():
        os.close(fd)
    socket.send_fds(living.control, [b"f"], [theirs.fileno()])
    theirs.close()
    report = json.loads(ours.recv(4096))
    process = Process(report["pid"], report["started"])
    assert processes.marker_of(process.pid) is None  # it does not count yet
    os.kill(process.pid, signal.SIGSTOP)  # and does not get to see that we die
    ours.close()
    assert order.environment[MARKER] not in processes.marked_leaders(f"{KEY}/")
    assert not processes.is_alive(process)
    assert Path(order.stdout or "").read_text() == ""
