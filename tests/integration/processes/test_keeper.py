"""The keeper and the daemon for real: deaths, exits, refusals, the end."""

from __future__ import annotations

import json
import os
import resource
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator import keeper, keeping
from orchestrator import process as processes
from orchestrator.errors import DaemonRunning, OrchestratorError
from orchestrator.model.phase import Process
from orchestrator.model.topology import Backoff, Component, Dependency, Listen, Restart, Rung, Stop
from tests.integration.processes.system import RealSystem, eventually, python

SLEEPS = "import time; time.sleep(600)"
FAST = Stop(ladder=(Rung("TERM", 0.5),))
EXITS_7_ON_USR1 = """
import signal, sys, time
signal.signal(signal.SIGUSR1, lambda *_: sys.exit(7))
print("ready", flush=True)
while True: time.sleep(1)
"""
IGNORES_TERM = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(600)
"""


def test_a_system_comes_up_and_goes_down(system: RealSystem) -> None:
    result = system.up(python("a", SLEEPS), python("b", SLEEPS))
    assert [o["action"] for o in result["plan"]] == ["create", "create"]
    row = system.until("shop.a", phase="running")
    assert processes.is_alive(Process(row["pid"], processes.start_time(row["pid"]) or 0))
    system.ask("down")
    system.gone()
    assert not system.runtime_dir.exists()


def test_the_runtime_directory_and_its_sockets_are_private(system: RealSystem) -> None:
    system.start_keeper()
    assert stat.S_IMODE(system.runtime_dir.stat().st_mode) == 0o700
    for name in ("control.sock", "notify.sock"):
        assert stat.S_IMODE((system.runtime_dir / name).stat().st_mode) == 0o600
    system.ask("down")
    system.gone()


def test_killing_the_daemon_keeps_every_pid(system: RealSystem) -> None:
    system.up(python("a", SLEEPS), python("b", SLEEPS))
    before = {name: system.row(name)["pid"] for name in ("shop.a", "shop.b")}
    daemon = system.daemon()
    os.kill(daemon["pid"], signal.SIGKILL)
    system.new_daemon(daemon["pid"])
    assert system.daemon()["keeper_pid"] == daemon["keeper_pid"]
    after = {name: system.until(name, phase="running")["pid"] for name in before}
    assert after == before
    assert {system.row(name)["generation"] for name in before} == {1}
    system.ask("down")
    system.gone()


def test_clients_that_come_while_no_daemon_lives_wait_and_are_served(system: RealSystem) -> None:
    system.up(python("a", SLEEPS))
    daemon = system.daemon()["pid"]
    os.kill(daemon, signal.SIGSTOP)
    connection = system.connect()
    os.kill(daemon, signal.SIGKILL)
    with connection:
        connection.sendall(b'{"id": 1, "method": "ps", "params": {}}\n')
        # The dead daemon never accepted it: the listening socket is the keeper's too.
        data = connection.recv(1 << 16)
    assert b'"shop.a"' in data
    system.ask("down")
    system.gone()


def test_an_exit_while_the_daemon_is_dead_is_exact(system: RealSystem) -> None:
    """The component ends with 7 while the daemon is suspended, and then killed."""
    system.up(
        python("a", EXITS_7_ON_USR1, restart=Restart.NEVER),
        python("b", EXITS_7_ON_USR1, restart=Restart.NEVER),
    )
    eventually(lambda: system.output("a") and system.output("b"))
    pids = {name: system.row(f"shop.{name}")["pid"] for name in ("a", "b")}
    daemon = system.daemon()["pid"]
    os.kill(daemon, signal.SIGSTOP)
    os.kill(pids["a"], signal.SIGUSR1)
    started = processes.start_time(pids["a"]) or 0
    eventually(lambda: not processes.is_alive(Process(pids["a"], started)))
    os.kill(daemon, signal.SIGKILL)
    os.kill(pids["b"], signal.SIGKILL)
    system.new_daemon(daemon)
    row = system.until("shop.a", phase="failed")
    assert (row["exit_code"], row["signal"], row["result"]) == (7, None, "exit-code")
    row = system.until("shop.b", phase="failed")
    assert (row["exit_code"], row["signal"], row["result"]) == (None, 9, "signal")
    system.ask("down")
    system.gone()


def test_an_adopted_component_is_still_watched(system: RealSystem) -> None:
    system.up(python("a", EXITS_7_ON_USR1, restart=Restart.NEVER))
    eventually(lambda: system.output("a"))
    daemon = system.daemon()["pid"]
    os.kill(daemon, signal.SIGKILL)
    system.new_daemon(daemon)
    os.kill(system.row("shop.a")["pid"], signal.SIGUSR1)
    row = system.until("shop.a", phase="failed")
    assert row["exit_code"] == 7
    system.ask("down")
    system.gone()


def test_an_adopted_component_is_restarted_and_stopped_like_any(system: RealSystem) -> None:
    system.up(python("a", SLEEPS))
    daemon = system.daemon()["pid"]
    os.kill(daemon, signal.SIGKILL)
    system.new_daemon(daemon)
    first = system.row("shop.a")["pid"]
    os.kill(first, signal.SIGKILL)
    row = system.until("shop.a", phase="running", generation=2)
    assert row["pid"] != first
    system.ask("stop", names=["shop.a"])
    system.until("shop.a", phase="stopped")
    system.ask("down")
    system.gone()


def test_no_line_is_lost_when_the_daemon_is_killed(system: RealSystem) -> None:
    counts = "import time\nfor n in range(100000): print(n); time.sleep(0.0005)"
    system.up(python("a", counts))
    eventually(lambda: len(system.output("a").splitlines()) > 100)
    daemon = system.daemon()["pid"]
    os.kill(daemon, signal.SIGKILL)
    system.new_daemon(daemon)
    seen = len(system.output("a").splitlines())
    eventually(lambda: len(system.output("a").splitlines()) > seen + 100)
    system.ask("stop", names=["shop.a"])
    system.until("shop.a", phase="stopped")
    lines = system.output("a").splitlines()
    assert lines == [str(number) for number in range(len(lines))]
    system.ask("down")
    system.gone()


def test_a_daemon_that_is_killed_again_and_again_keeps_the_component(system: RealSystem) -> None:
    system.up(python("a", SLEEPS))
    first = system.row("shop.a")["pid"]
    for _ in range(3):
        daemon = system.daemon()["pid"]
        os.kill(daemon, signal.SIGKILL)
        system.new_daemon(daemon)
    assert system.until("shop.a", phase="running")["pid"] == first
    system.ask("down")
    system.gone()


def test_a_restart_counter_survives_the_daemon(system: RealSystem) -> None:
    system.up(python("a", SLEEPS))
    os.kill(system.row("shop.a")["pid"], signal.SIGKILL)
    system.until("shop.a", phase="running", generation=2)
    system.ask("start", names=["shop.a"])
    daemon = system.daemon()["pid"]
    os.kill(daemon, signal.SIGKILL)
    system.new_daemon(daemon)
    assert system.until("shop.a", phase="running")["restarts"] == 1
    system.ask("down")
    system.gone()


# ------------------------------------------------------------------ the keeper's first moments


def is_keeper(pid: int) -> bool:
    """Whether a process is a keeper by its command line, no copy of whoever started it."""
    return b"/orchestrator/keeper.py" in Path(f"/proc/{pid}/cmdline").read_bytes()


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a keeper stay a copy of ours until somebody needs it."""
    monkeypatch.setattr(keeper, "CALM", 600.0)


def test_a_keeper_becomes_an_interpreter_of_its_own(system: RealSystem) -> None:
    system.up(python("a", SLEEPS))
    about = system.daemon()
    eventually(lambda: is_keeper(about["keeper_pid"]))
    resident = Path(f"/proc/{about['keeper_pid']}/statm").read_text().split()[1]
    assert int(resident) * os.sysconf("SC_PAGE_SIZE") < 24 << 20
    assert system.daemon() == about
    system.ask("down")
    system.gone()


@pytest.mark.usefixtures("copied")
@pytest.mark.parametrize("moment", ["before it is given the system", "before it has begun"])
def test_a_daemon_that_dies_while_its_keeper_is_a_copy_is_put_back(
    system: RealSystem, moment: str
) -> None:
    with keeping.KeeperStart(system.runtime_dir) as start:
        (daemon,) = eventually(system.ours)
        if moment.endswith("system"):
            os.kill(daemon, signal.SIGKILL)
        start.give(base_dir=system.base_dir, name="shop", topology=system.topology)
        if moment.endswith("begun"):
            os.kill(daemon, signal.SIGKILL)
        start.finish()
    system.apply(python("a", SLEEPS))
    about = system.daemon()
    assert about["pid"] != daemon
    assert is_keeper(about["keeper_pid"])
    system.ask("down")
    system.gone()


@pytest.mark.usefixtures("copied")
def test_the_orphans_of_a_daemon_that_dies_early_are_the_keepers(system: RealSystem) -> None:
    """No matter that the keeper is a copy still: the exit codes of its children are exact."""
    system.up(python("a", EXITS_7_ON_USR1, restart=Restart.NEVER))
    about, row = system.daemon(), system.row("shop.a")
    assert not is_keeper(about["keeper_pid"])
    eventually(lambda: system.output("a"))
    os.kill(about["pid"], signal.SIGSTOP)
    os.kill(row["pid"], signal.SIGUSR1)
    os.kill(about["pid"], signal.SIGKILL)
    system.new_daemon(about["pid"])
    assert system.until("shop.a", phase="failed")["exit_code"] == 7
    assert system.daemon()["keeper_pid"] == about["keeper_pid"]
    system.ask("down")
    system.gone()


@pytest.mark.usefixtures("copied")
def test_a_keeper_that_is_a_copy_is_replaced_when_it_is_killed(system: RealSystem) -> None:
    system.up(python("a", SLEEPS))
    about = system.daemon()
    assert not is_keeper(about["keeper_pid"])
    os.kill(about["keeper_pid"], signal.SIGKILL)
    eventually(lambda: system.daemon()["keeper_pid"] != about["keeper_pid"])
    assert system.daemon()["pid"] == about["pid"]
    assert is_keeper(system.daemon()["keeper_pid"])
    system.ask("down")
    system.gone()


@pytest.mark.usefixtures("copied")
def test_a_socket_to_be_held_makes_the_keeper_hurry(system: RealSystem) -> None:
    """It is asked at once, and a daemon that dies then loses no socket."""
    listen = Listen(f"unix://{system.root}/web.sock")
    system.up(python("a", SLEEPS, sockets={"web": listen}))
    about = system.daemon()
    assert is_keeper(about["keeper_pid"])
    before = (system.root / "web.sock").stat().st_ino
    os.kill(about["pid"], signal.SIGKILL)
    system.new_daemon(about["pid"])
    system.until("shop.a", phase="running")
    assert (system.root / "web.sock").stat().st_ino == before
    system.ask("down")
    system.gone()


def test_a_keeper_without_an_interpreter_to_become_stays_a_copy(
    system: RealSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    monkeypatch.setattr(keeper, "CALM", 0.0)
    system.up(Component("shop", "a", command=("/bin/sleep", "600"), settle=0.0))
    about = system.daemon()
    eventually(lambda: "staying what it was copied from" in system.log())
    os.kill(about["pid"], signal.SIGKILL)
    system.new_daemon(about["pid"])
    assert system.daemon()["keeper_pid"] == about["keeper_pid"]
    assert system.until("shop.a", phase="running")["generation"] == 1
    system.ask("down")
    system.gone()


def test_whoever_starts_a_system_is_let_go_of(system: RealSystem) -> None:
    """Its standard streams are nobody's any more when it has ended, or its reader would wait."""
    code = (
        "import pathlib, sys; from orchestrator import keeper, keeping; keeper.CALM = 600.0; "
        "root = pathlib.Path(sys.argv[1]); "
        "keeping.start_keeper(runtime_dir=root / sys.argv[2], base_dir=root / 'base', "
        "name='shop', topology=root / 'topology.yaml')"
    )
    argv = [sys.executable, "-c", code, str(system.root), system.key]
    done = subprocess.run(argv, capture_output=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    system.ask("down")
    system.gone()


# ------------------------------------------------------------------ one daemon per system


def test_a_second_keeper_is_refused_and_names_the_first(system: RealSystem) -> None:
    system.up(python("a", SLEEPS))
    keeper = system.daemon()["keeper_pid"]
    with pytest.raises(DaemonRunning) as caught:
        system.start_keeper()
    assert caught.value.pid == keeper
    assert str(keeper) in str(caught.value)
    assert str(system.base_dir) in str(caught.value)
    assert system.until("shop.a", phase="running")
    system.ask("down")
    system.gone()


def test_a_second_keeper_elsewhere_with_the_same_base_is_refused(system: RealSystem) -> None:
    system.up(python("a", SLEEPS))
    keeper = system.daemon()["keeper_pid"]
    with pytest.raises(DaemonRunning) as caught:
        keeping.start_keeper(
            runtime_dir=system.root / "other",
            base_dir=system.base_dir,
            name="shop",
            topology=system.topology,
        )
    assert caught.value.pid == keeper
    system.ask("down")
    system.gone()


def test_after_its_end_a_system_can_be_started_again(system: RealSystem) -> None:
    for _ in range(2):
        system.up(python("a", SLEEPS))
        system.until("shop.a", phase="running")
        system.ask("down")
        system.gone()


def test_a_keeper_that_was_killed_blocks_no_later_one(system: RealSystem) -> None:
    """Keeper and daemon are killed: the component lives, and the next daemon adopts it."""
    system.up(python("a", SLEEPS))
    pid = system.row("shop.a")["pid"]
    about = system.daemon()
    os.kill(about["pid"], signal.SIGSTOP)  # Or it may have started another keeper by then.
    os.kill(about["keeper_pid"], signal.SIGKILL)
    os.kill(about["pid"], signal.SIGKILL)
    eventually(lambda: set(system.ours()) == {pid})
    system.start_keeper()
    row = system.until("shop.a", phase="running")
    assert row["pid"] == pid
    system.ask("down")
    system.gone()


def test_a_keeper_that_is_given_no_system_ends_and_touches_nothing(system: RealSystem) -> None:
    with keeping.KeeperStart(system.runtime_dir):
        eventually(system.ours)  # The daemon that loads; the keeper is a copy of ours.
    system.gone()
    assert not any(system.root.iterdir())


def test_a_keeper_whose_starter_is_killed_ends(system: RealSystem) -> None:
    code = (
        "import os, pathlib, signal, sys; from orchestrator import keeping; "
        "keeping.KeeperStart(pathlib.Path(sys.argv[1])); "
        "print(flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    argv = [sys.executable, "-c", code, str(system.runtime_dir)]
    done = subprocess.run(argv, stdout=subprocess.DEVNULL, check=False)
    assert done.returncode == -signal.SIGKILL
    system.gone()
    assert not any(system.root.iterdir())


# ------------------------------------------------------------------ daemons that cannot


def test_a_daemon_that_cannot_start_is_reported_and_given_up(
    system: RealSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORCH_LOG_LEVEL", "LOUD")
    system.start_keeper()
    system.gone()
    log = system.log()
    assert "giving up" in log
    assert "LOUD" in log
    assert not (system.runtime_dir / "control.sock").exists()


def test_a_base_directory_that_is_a_file_is_an_error_at_once(system: RealSystem) -> None:
    system.base_dir.write_text("")
    with pytest.raises(OrchestratorError, match="cannot use the directory"):
        system.start_keeper()
    system.gone()


def test_a_runtime_directory_whose_path_is_too_long_is_an_error(system: RealSystem) -> None:
    system.runtime_dir = system.root / ("x" * 120)
    with pytest.raises(OrchestratorError, match="XDG_RUNTIME_DIR"):
        system.start_keeper()
    system.gone()


def test_a_damaged_journal_stops_nothing(system: RealSystem) -> None:
    system.up(python("a", SLEEPS))
    system.ask("down")
    system.gone()
    (system.base_dir / "journal.db").write_bytes(b"this is no database" * 100)
    system.up(python("a", SLEEPS))
    system.until("shop.a", phase="running")
    assert "journal" in system.log()
    assert (system.base_dir / "journal.damaged").exists()
    system.ask("down")
    system.gone()


def test_without_room_for_another_process_a_start_is_tried_again(system: RealSystem) -> None:
    """The daemon stays, and so does what runs; root is not limited."""
    if os.geteuid() == 0:
        pytest.skip("the kernel limits root in nothing")
    system.up(python("a", SLEEPS), python("b", SLEEPS, backoff=Backoff(0.1, 1.0, 0.1)))
    about, kept = system.daemon(), system.row("shop.a")["pid"]
    began = resource.prlimit(about["pid"], resource.RLIMIT_NPROC)
    resource.prlimit(about["pid"], resource.RLIMIT_NPROC, (1, began[1]))
    os.kill(system.row("shop.b")["pid"], signal.SIGKILL)
    row = system.until("shop.b", phase="backoff")
    eventually(lambda: "Resource temporarily unavailable" in (system.row("shop.b")["why"] or ""))
    resource.prlimit(about["pid"], resource.RLIMIT_NPROC, began)
    row = system.until("shop.b", phase="running")
    assert row["generation"] > 1
    assert system.daemon()["pid"] == about["pid"]
    assert system.row("shop.a")["pid"] == kept
    system.ask("down")
    system.gone()


# ------------------------------------------------------------------ the end


@pytest.mark.parametrize("whom", ["pid", "keeper_pid"])
def test_sigterm_stops_all_in_order(system: RealSystem, whom: str) -> None:
    """Dependents first; to the daemon or to the keeper, it is the same."""
    slow = """
import signal, sys, time
def end(*_):
    print("stopping", time.monotonic(), flush=True); time.sleep(0.2)
    print("stopped", time.monotonic(), flush=True); sys.exit(0)
signal.signal(signal.SIGTERM, end)
print("ready", flush=True)
while True: time.sleep(1)
"""
    system.up(
        python("db", slow),
        python("web", slow, depends_on={"shop.db": Dependency()}),
    )
    eventually((system.base_dir / "logging/shop-web.out").exists)
    eventually(lambda: "ready" in system.output("web") and "ready" in system.output("db"))
    os.kill(system.daemon()[whom], signal.SIGTERM)
    system.gone()

    def when(name: str, word: str) -> float:
        (line,) = [x for x in system.output(name).splitlines() if x.startswith(word)]
        return float(line.split()[1])

    assert when("web", "stopped") <= when("db", "stopping")


def test_a_component_that_ignores_term_is_killed(system: RealSystem) -> None:
    system.up(python("a", IGNORES_TERM, stop=FAST))
    eventually(lambda: "ready" in system.output("a"))
    system.ask("stop", names=["shop.a"])
    row = system.until("shop.a", phase="stopped")
    assert (row["result"], row["signal"]) == ("timeout-stop", 9)
    system.ask("down")
    system.gone()


ESCAPES = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for how in ("child", "session", "double"):
    if os.fork() == 0:
        if how != "child": os.setsid()
        if how == "double" and os.fork(): os._exit(0)
        open(f"{how}-{os.getpid()}", "w").close()
        time.sleep(600)
signal.signal(signal.SIGTERM, signal.SIG_DFL)
signal.signal(signal.SIGUSR1, lambda *_: os._exit(3))
print("ready", flush=True)
time.sleep(600)
"""


def escaped(directory: Path) -> list[int]:
    return [int(path.name.rpartition("-")[2]) for path in directory.glob("*-*")]


def alive(pid: int) -> bool:
    return processes.is_alive(Process(pid, processes.start_time(pid) or -1))


def test_a_stop_ends_the_whole_tree(system: RealSystem, tmp_path: Path) -> None:
    system.up(python("a", ESCAPES, stop=FAST, working_dir=str(tmp_path)))
    eventually(lambda: len(escaped(tmp_path)) == 3)
    eventually(lambda: "ready" in system.output("a"))
    system.ask("stop", names=["shop.a"])
    system.until("shop.a", phase="stopped")
    assert not [pid for pid in escaped(tmp_path) if alive(pid)]
    system.ask("down")
    system.gone()


def test_leftovers_of_a_crash_are_gone_before_the_restart(
    system: RealSystem, tmp_path: Path
) -> None:
    system.up(python("a", ESCAPES, stop=FAST, working_dir=str(tmp_path), restart=Restart.NEVER))
    eventually(lambda: len(escaped(tmp_path)) == 3)
    eventually(lambda: "ready" in system.output("a"))
    os.kill(system.row("shop.a")["pid"], signal.SIGUSR1)
    row = system.until("shop.a", phase="failed")
    assert row["exit_code"] == 3
    assert not [pid for pid in escaped(tmp_path) if alive(pid)]
    system.ask("down")
    system.gone()


def test_leftovers_are_found_after_an_adoption(system: RealSystem, tmp_path: Path) -> None:
    system.up(python("a", ESCAPES, stop=FAST, working_dir=str(tmp_path), restart=Restart.NEVER))
    eventually(lambda: len(escaped(tmp_path)) == 3)
    eventually(lambda: "ready" in system.output("a"))
    daemon = system.daemon()["pid"]
    os.kill(daemon, signal.SIGKILL)
    system.new_daemon(daemon)
    system.ask("stop", names=["shop.a"])
    system.until("shop.a", phase="stopped")
    assert not [pid for pid in escaped(tmp_path) if alive(pid)]
    system.ask("down")
    system.gone()


def test_an_unused_daemon_ends(system: RealSystem) -> None:
    """One that was never given a system, when nobody has come for a while."""
    system.start_keeper()
    system.ask("ps")
    system.gone(within=60)


def test_the_keeper_leaves_no_descriptor_with_a_component(system: RealSystem) -> None:
    code = (
        "import os, sys, time\n"
        "print(sorted(int(n) for n in os.listdir('/proc/self/fd')), flush=True)\n"
        "time.sleep(600)"
    )
    system.up(python("a", code))
    line = eventually(lambda: system.output("a").strip())
    # The fourth is the directory that is being listed.
    assert line == "[0, 1, 2, 3]"
    system.ask("down")
    system.gone()


def test_the_child_gets_exactly_the_declared_environment(system: RealSystem) -> None:
    code = (
        "import os, json, time; print(json.dumps(dict(os.environ)), flush=True); time.sleep(600)"
    )
    os.environ["ORCH_TEST_LEAK"] = "1"
    try:
        system.up(python("a", code, environment={"A": "1", "LC_ALL": "C.UTF-8"}))
    finally:
        del os.environ["ORCH_TEST_LEAK"]
    found = json.loads(eventually(lambda: system.output("a").strip()))
    assert found.pop(processes.MARKER) == f"{system.key}/shop.a@1/1"
    assert found == {"A": "1", "LC_ALL": "C.UTF-8"}
    system.ask("down")
    system.gone()


def test_a_client_that_is_killed_disturbs_nobody(system: RealSystem) -> None:
    system.up(python("a", SLEEPS))
    path = str(system.runtime_dir / "control.sock")
    code = (
        "import os, socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]);"
        """s.sendall(b'{"id":1,"method":"watch","params":{}}\\n{"id":2,"met');"""
        "s.recv(10); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-I", "-S", "-c", code, path], check=False, timeout=20)
    assert system.row("shop.a")["phase"] == "running"
    system.ask("down")
    system.gone()
