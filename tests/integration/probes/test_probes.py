"""Probes and notifications of a real supervisor, with real processes, files and sockets."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.daemon import rows
from orchestrator.daemon.host import PosixHost
from orchestrator.daemon.journal import Journal
from orchestrator.daemon.notifications import Notifications
from orchestrator.daemon.probes import Probes
from orchestrator.daemon.programs import Place
from orchestrator.daemon.runner import Runner
from orchestrator.daemon.supervisor import Supervisor
from orchestrator.model import topology
from orchestrator.model.topology import Backoff, Probe, Ready, Rung
from tests import fakes
from tests.integration.probes.conftest import KEY, Server, eventually

SLOT = "shop.web@1"
SLEEP = "import time; time.sleep(60)"
PRELUDE = """
import os, socket, sys, time
from pathlib import Path
def say(*lines):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto("\\n".join(lines).encode(), os.environ["NOTIFY_SOCKET"])
def until(name):
    while not Path(name).exists(): time.sleep(0.005)
"""


class System:
    """A daemon's inner parts around one component."""

    def __init__(self, host: PosixHost, directory: Path) -> None:
        self.directory = directory
        (directory / "logging").mkdir()
        loop = asyncio.get_running_loop()
        self.journal = Journal.open(directory / "journal.db", "boot")
        place = Place(KEY, "shop", str(directory), str(directory))
        self.finished = asyncio.Event()
        self.supervisor = Supervisor(
            host, self.journal, place, lambda _slots: None, self.finished.set
        )
        self.probes = Probes(loop, self.supervisor)
        self.supervisor.executor.probes = self.probes
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.notify.bind(str(directory / "notify.sock"))
        runner = Runner(host, self.journal, place, lambda _runs: None)
        Notifications(loop, self.supervisor, self.probes, runner).listen(self.notify)

    def start(self, code: str = SLEEP, **fields: Any) -> None:
        component = fakes.component(
            command=(sys.executable, "-I", "-S", "-u", "-c", PRELUDE + code),
            working_dir=str(self.directory),
            stop=topology.Stop(ladder=(Rung("TERM", 5.0),)),
            **{"backoff": Backoff(initial=0.0), "settle": 0.0, **fields},
        )
        self.supervisor.apply({SLOT: component}, frozenset({SLOT}))

    def row(self) -> rows.Row:
        return rows.row(self.supervisor, SLOT)

    async def becomes(self, **wanted: object) -> rows.Row:
        await eventually(lambda: all(self.row()[k] == value for k, value in wanted.items()))
        return self.row()

    def touch(self, name: str) -> None:
        (self.directory / name).touch()

    async def close(self) -> None:
        self.supervisor.shutdown(kill=True)
        await self.finished.wait()
        self.probes.close()
        assert not self.probes._tasks
        asyncio.get_running_loop().remove_reader(self.notify.fileno())
        self.notify.close()
        self.journal.close()


@pytest.fixture
async def system(
    host: PosixHost, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[System]:
    made = System(host, tmp_path_factory.mktemp("p"))
    tasks = asyncio.all_tasks()
    yield made
    await made.close()
    await eventually(lambda: asyncio.all_tasks() <= tasks | {asyncio.current_task()})


async def test_an_adopted_start_is_not_ready_by_what_an_earlier_process_wrote(
    system: System,
) -> None:
    log = system.directory / "logging" / "shop-web.out"
    log.write_text("listening\n")
    code = "until('go'); print('listening'); time.sleep(60)"
    system.start(code, ready=Ready(log="^listening$"))
    await system.becomes(phase="starting")
    # As a daemon that adopts it: it knows what is written down, and no more.
    system.probes.close()
    system.probes = Probes(asyncio.get_running_loop(), system.supervisor)
    system.supervisor.executor.probes = system.probes
    component = system.supervisor.slots[SLOT].instance.component
    system.probes.watch(SLOT, component)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await system.becomes(ready=True)
    system.touch("go")
    await system.becomes(ready=True)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


async def test_a_line_in_two_writes_with_colours_and_no_newline_makes_ready_once(
    system: System,
) -> None:
    code = """
for piece in ("\\x1b[32mlist", "en\\x1b[0mi", "ng on 80"):
    sys.stdout.write(piece); sys.stdout.flush()
    if piece != "ng on 80": Path(piece[-1]).touch(); until("go" + piece[-1])
time.sleep(60)
"""
    system.start(code, ready=Ready(log="listening on 80"))
    for piece in ("t", "i"):
        await eventually((system.directory / piece).exists)
        assert not system.row()["ready"]
        system.touch("go" + piece)
    await system.becomes(phase="running", ready=True)


async def test_lines_of_an_earlier_process_make_nothing_ready(system: System) -> None:
    code = """
if not Path("second").exists():
    Path("second").touch(); print("listening"); until("end"); sys.exit(1)
sys.stdout = sys.stderr
print("starting"); Path("third").touch(); until("go"); print("listening")
time.sleep(60)
"""
    system.start(code, ready=Ready(log="^listening$"))
    await system.becomes(ready=True)
    system.touch("end")
    await eventually((system.directory / "third").exists)
    await asyncio.sleep(0.15)
    assert (system.row()["phase"], system.row()["ready"]) == ("starting", False)
    system.touch("go")
    await system.becomes(phase="running", ready=True, generation=2)


async def test_a_newline_on_the_descriptor_makes_ready_and_all_is_closed(system: System) -> None:
    system.start(
        "os.write(7, b'x'); until('go'); os.write(7, b'\\n'); time.sleep(60)", ready=Ready(fd=7)
    )
    await system.becomes(phase="starting")
    system.touch("go")
    await system.becomes(phase="running", ready=True)
    system.supervisor.stop([SLOT])
    await system.becomes(phase="stopped")
    # The first end of a process has opened what stays open.
    before = descriptors()
    system.supervisor.start([SLOT])
    await system.becomes(phase="running", ready=True)
    system.supervisor.stop([SLOT])
    await system.becomes(phase="stopped")
    # Fewer when what other tests had left open was collected meanwhile.
    await eventually(lambda: descriptors() <= before)


async def test_http_readiness_flaps_and_nothing_restarts(system: System) -> None:
    server = await Server(b"HTTP/1.0 503 No\r\n\r\n").start()
    ready = Ready(http=f"http://127.0.0.1:{server.port}/", every=0.02, failures=2)
    system.start(ready=ready)
    found = await system.becomes(phase="starting")
    await eventually(lambda: str(system.row()["why"]).endswith("; HTTP 503"))
    for _ in range(3):
        server.answer = b"HTTP/1.0 200 OK\r\n\r\n"
        await system.becomes(phase="running", ready=True, why=None)
        server.answer = b"HTTP/1.0 500 Oh\r\n\r\n"
        await system.becomes(phase="running", ready=False, why="not ready: HTTP 500")
    assert system.row()["pid"] == found["pid"]
    assert (system.row()["generation"], system.row()["healthy"]) == (1, None)
    await server.stop()


async def test_liveness_restarts_once_and_each_life_is_looked_at_anew(system: System) -> None:
    server = await Server(b"").start()
    live = Probe(tcp=f"127.0.0.1:{server.port}", every=0.02, failures=3)
    code = "import signal; signal.signal(15, lambda *_: (until('end'), os._exit(0))); "
    code += "Path('set').touch(); " + SLEEP
    system.start(code, live=live, backoff=Backoff(initial=1.0, jitter=0.0))
    before = await system.becomes(phase="running", healthy=True)
    await eventually((system.directory / "set").exists)
    await server.stop()
    await system.becomes(phase="stopping", healthy=False)
    await asyncio.sleep(0.1)  # It would fail again while it stops and while it waits.
    system.touch("end")
    await system.becomes(phase="backoff", result="liveness", healthy=None)
    await server.start()
    after = await system.becomes(phase="running", healthy=True, generation=2)
    assert after["pid"] != before["pid"]
    assert after["restarts"] == 1
    await server.stop()


async def test_failures_soon_after_the_start_can_be_excused(system: System) -> None:
    live = Probe(tcp="127.0.0.1:1", every=0.01, failures=1, start_period=0.4)
    system.start(live=live, restart=topology.Restart.NEVER)
    await system.becomes(phase="running", healthy=None)
    began = asyncio.get_running_loop().time()
    await system.becomes(phase="failed", result="liveness")
    assert asyncio.get_running_loop().time() - began > 0.3


async def test_the_word_ready_waits_for_the_end_of_the_start(system: System) -> None:
    startup = Probe(exec=("/usr/bin/test", "-e", "started"), every=0.02)
    code = "say('READY=1', 'STATUS=warm'); Path('said').touch(); " + SLEEP
    system.start(code, ready=Ready(notify=True), startup=startup)
    await eventually((system.directory / "said").exists)
    await eventually(lambda: "warm" in str(system.row()["why"]))
    assert system.row()["phase"] == "starting"
    system.touch("started")
    await system.becomes(phase="running", ready=True, why="warm")


async def test_the_end_of_the_start_waits_for_the_word_ready(system: System) -> None:
    startup = Probe(exec=("/usr/bin/true",), every=0.02)
    system.start(
        "until('go'); say('READY=1'); " + SLEEP, ready=Ready(notify=True), startup=startup
    )
    await eventually(lambda: str(system.row()["why"]).startswith("waiting for its readiness (no"))
    assert system.row()["phase"] == "starting"
    system.touch("go")
    await system.becomes(phase="running", ready=True)


async def test_who_was_not_asked_cannot_make_itself_ready(system: System) -> None:
    code = f"os.environ['NOTIFY_SOCKET'] = {str(system.directory / 'notify.sock')!r}\n"
    system.start(code + "say('READY=1'); Path('said').touch(); " + SLEEP, settle=30.0)
    await eventually((system.directory / "said").exists)
    await asyncio.sleep(0.05)
    assert system.row()["phase"] == "starting"


async def test_a_status_is_one_line_that_is_safe_to_print(system: System) -> None:
    code = "say('READY=1', 'STATUS=\\x1b[31mred\\x07 ' + 'x' * 500); " + SLEEP
    system.start(code, ready=Ready(notify=True))
    await system.becomes(phase="running")
    why = str(system.row()["why"])
    assert why.startswith("[31mred")
    assert why.isprintable()
    assert len(why) == 200


@pytest.mark.parametrize("lines", [b"", b"=", b"READY", b"\xff\xfe", b"WATCHDOG=2\nSTATUS"])
async def test_nonsense_changes_nothing(system: System, lines: bytes) -> None:
    code = f"""
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
    sender.sendto({lines!r} or b"x", os.environ["NOTIFY_SOCKET"])
until("go"); say("READY=1"); time.sleep(60)
"""
    system.start(code, ready=Ready(notify=True))
    await asyncio.sleep(0.1)
    assert system.row()["phase"] == "starting"
    system.touch("go")
    await system.becomes(phase="running")


async def test_a_missed_watchdog_is_an_abort(system: System) -> None:
    code = """
say("READY=1")
for _ in range(8): time.sleep(0.05); say("WATCHDOG=1")
Path(str(os.getpid())).touch(); time.sleep(60)
"""
    system.start(code, ready=Ready(notify=True), watchdog=0.2, restart=topology.Restart.NEVER,
                 rlimits={"core": (0, 0)})  # fmt: skip
    pid = (await system.becomes(phase="running"))["pid"]
    found = await system.becomes(phase="failed")
    assert (system.directory / str(pid)).exists(), "it was fed for longer than a period"
    assert (found["result"], found["signal"]) == ("watchdog", signal.SIGABRT)
    assert found["why"] == "no WATCHDOG=1 within 200ms"


async def test_stopping_ends_all_looking(system: System) -> None:
    asked = system.directory / "asked"
    look = ("/bin/sh", "-c", f"echo >> {asked}; sleep 60")
    code = "import signal; signal.signal(15, lambda *_: None); " + SLEEP + "\n" + SLEEP
    system.start(code, live=Probe(exec=look, every=0.01, timeout=0.05, failures=1000))
    await eventually(asked.exists)
    system.supervisor.stop([SLOT])
    await system.becomes(phase="stopping")
    await eventually(lambda: all(t.done() for t in system.probes._tasks.values()))


def adopt(system: System) -> None:
    """Let a new daemon's probes look after the process, whose start they did not see."""
    system.probes.forget(SLOT)
    system.probes.watch(SLOT, system.supervisor.slots[SLOT].instance.component)


async def test_an_adopted_process_that_has_not_spoken_is_not_ready(system: System) -> None:
    system.start("until('go'); say('READY=1'); " + SLEEP, ready=Ready(notify=True))
    await system.becomes(phase="starting")
    adopt(system)
    await asyncio.sleep(0.05)
    assert system.row()["phase"] == "starting"
    system.touch("go")
    await system.becomes(phase="running", ready=True)


async def test_the_first_look_tells_that_an_adopted_process_is_not_ready(system: System) -> None:
    server = await Server(b"").start()
    system.start(ready=Ready(tcp=f"127.0.0.1:{server.port}", every=0.2, failures=1000))
    await system.becomes(phase="running", ready=True)
    await server.stop()
    adopt(system)
    await system.becomes(phase="running", ready=False, why="not ready: Connection refused")
    await server.start()
    await system.becomes(phase="running", ready=True, generation=1)
    await server.stop()


async def test_an_adopted_process_past_its_start_is_not_asked_to_start_again(
    system: System,
) -> None:
    startup = Probe(exec=("/usr/bin/test", "-e", "started"), every=0.02)
    system.touch("started")
    system.start("say('READY=1'); " + SLEEP, ready=Ready(notify=True), startup=startup)
    await system.becomes(phase="running", ready=True)
    (system.directory / "started").unlink()
    adopt(system)
    await asyncio.sleep(0.05)
    assert not system.probes._tasks
    assert system.row()["ready"]
