"""orch up: what it asks of the daemon, how it stays, how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator import cli
from orchestrator.config import paths
from tests.unit.cli import fake
from tests.unit.cli.conftest import Orch
from tests.unit.cli.fake import FAILED, STOPPED, FakeDaemon, Refusal, end, eventually, make_row

ROOT = Path(__file__).parents[3]

EXITED: dict[str, Any] = {
    "phase": "exited",
    "ready": False,
    "pid": None,
    "result": "success",
    "exit_code": 0,
}


class Up:
    """A running `orch up` in the foreground."""

    def __init__(self, world: Path, *argv: str) -> None:
        self.out, self.err = world / "up.out", world / "up.err"
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "orchestrator", "up", *argv],
                env={
                    "PATH": os.defpath,
                    "PYTHONPATH": str(ROOT),
                    "XDG_RUNTIME_DIR": str(world / "run"),
                },
                cwd=world, stdout=out, stderr=err, stdin=subprocess.DEVNULL,
            )  # fmt: skip

    def until(self, text: str) -> None:
        """Wait until `text` is on standard error."""
        eventually(lambda: text in self.err.read_text())

    def interrupt(self, number: int = signal.SIGINT) -> None:
        """Send a signal, Ctrl-C by default."""
        self.process.send_signal(number)

    def wait(self) -> int:
        """Return the exit code."""
        return self.process.wait(15)


Start = Callable[..., Up]


@pytest.fixture
def up(world: Path) -> Iterator[Start]:
    """Return a function that starts `orch up …` in the foreground."""
    started: list[Up] = []

    def start(*argv: str) -> Up:
        started.append(Up(world, *argv))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.wait(10)


@pytest.fixture(autouse=True)
def two(world: Path) -> None:
    (world / "topology.yaml").write_text(
        "version: 1\nname: world\nservices:\n"
        "  web: {command: sleep 1000}\n  work: {command: sleep 1000}\n"
    )


def test_a_bad_topology_shows_every_mistake_and_changes_nothing(
    orch: Orch, daemon: FakeDaemon, world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (world / "topology.yaml").write_text(
        "version: 1\nname: world\nservices:\n"
        "  web: {command: x, restrat: always}\n  work: {comand: y}\n"
    )
    assert orch("up", "-d") == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "topology.yaml:4:" in shown.err
    assert "did you mean 'restart'?" in shown.err
    assert "topology.yaml:5:" in shown.err
    assert daemon.requests == []
    assert not (world / ".orch").exists()


def test_a_bad_topology_starts_no_daemon(orch: Orch, world: Path) -> None:
    (world / "topology.yaml").write_text("version: 1\nservices: {web: {comand: x}}\n")
    assert orch("up") == 1
    assert list((world / "run").rglob("*.sock")) == []


def test_detached_applies_the_lock_and_returns_when_nobody_waits(
    orch: Orch, daemon: FakeDaemon, world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert orch("up", "-d") == 0
    asked = daemon.until_asked("apply")
    assert list(asked["lock"]["components"]) == ["web.web", "work.work"]
    assert (asked["plan"], asked["names"], asked["no_deps"]) == (False, [], False)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "web.web  ready  pid 100" in shown.err
    assert (world / ".orch" / "topology.lock.json").is_file()
    assert (world / ".orch" / "conf" / "web-web" / "config.json").is_file()


def test_a_file_may_come_before_the_names(orch: Orch, world: Path) -> None:
    other = (world / "topology.yaml").rename(world / "other.yaml")
    directory = paths.runtime_dir(other, None, {"XDG_RUNTIME_DIR": f"{world}/run"})
    directory.mkdir(parents=True)
    with fake.running(directory) as daemon:
        daemon.add("web.web")
        assert orch("up", "-d", "other.yaml", "web") == 0
        asked = daemon.until_asked("apply")
    assert asked["lock"]["topology"] == str(other)
    assert asked["names"] == ["web"]


PROFILED = (
    "version: 1\nname: world\nservices:\n"
    "  web: {command: sleep 1000}\n"
    "  debug: {command: sleep 1000, profiles: [debug]}\n"
    "  load: {command: sleep 1000, profiles: [debug, load-test]}\n"
)


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        ("", "web.web"),
        ("--profile load-test", "web.web load.load"),
        ("--profile load-test --profile debug", "web.web debug.debug load.load"),
        ("ORCH_PROFILES=load-test", "web.web load.load"),
        ("ORCH_PROFILES=debug,load-test,", "web.web debug.debug load.load"),
        ("ORCH_PROFILES=load-test debug", "debug"),
    ],
)
def test_what_has_profiles_is_started_with_one_of_them_or_by_its_name(
    daemon: FakeDaemon, world: Path, monkeypatch: pytest.MonkeyPatch, words: str, asked: str
) -> None:
    (world / "topology.yaml").write_text(PROFILED)
    for name in ("web.web", "debug.debug", "load.load"):
        daemon.add(name)
    variables = [word for word in words.split() if "=" in word]
    for variable in variables:
        monkeypatch.setenv(*variable.split("="))
    assert cli.main(["up", "-d", *(w for w in words.split() if w not in variables)]) == 0
    params = daemon.until_asked("apply")
    assert params["names"] == asked.split()
    assert list(params["lock"]["components"]) == ["web.web", "debug.debug", "load.load"]


def test_a_profile_that_nothing_has_is_refused(
    orch: Orch, daemon: FakeDaemon, world: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert orch("up", "-d", "--profile", "debug") == 2
    assert "unknown profile 'debug'; nothing in the topology has it" in capsys.readouterr().err
    (world / "topology.yaml").write_text(PROFILED)
    monkeypatch.setenv("ORCH_PROFILES", "debugs")
    assert orch("up", "-d") == 2
    assert "unknown profile 'debugs'; did you mean 'debug'?" in capsys.readouterr().err
    assert daemon.requests == []


def test_a_topology_of_profiles_alone_needs_one(
    orch: Orch, daemon: FakeDaemon, world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (world / "topology.yaml").write_text(PROFILED.replace("  web: {command: sleep 1000}\n", ""))
    assert orch("up", "-d") == 2
    assert "without a profile: --profile (debug, load-test)" in capsys.readouterr().err
    assert daemon.requests == []


def test_names_no_deps_and_orphans_reach_the_daemon(orch: Orch, daemon: FakeDaemon) -> None:
    daemon.add("web.web")
    assert orch("up", "-d", "--no-deps", "--remove-orphans", "--scale", "work=2", "web") == 0
    asked = daemon.until_asked("apply")
    assert (asked["names"], asked["no_deps"], asked["remove_orphans"]) == (["web"], True, True)
    assert list(asked["lock"]["components"]) == ["web.web", "work.work@1", "work.work@2"]


def test_an_unknown_name_is_refused_before_anything_is_asked(
    orch: Orch, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    assert orch("up", "-d", "wbe") == 1
    assert "did you mean 'web" in capsys.readouterr().err
    assert orch("up", "--exit-code-from", "worc") == 1
    assert daemon.requests == []


def test_a_refused_apply_leaves_a_daemon_that_was_there(
    orch: Orch, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(daemon: FakeDaemon, params: dict[str, Any]) -> dict[str, Any]:
        del daemon, params
        raise Refusal("other-system", "this daemon runs 'shop', not 'world'")

    daemon.answers["apply"] = refuse
    assert orch("up", "-d") == 1
    assert capsys.readouterr().err == "orch: this daemon runs 'shop', not 'world'\n"
    assert [method for method, _ in daemon.requests] == ["apply"]


def stopping(daemon: FakeDaemon, params: dict[str, Any]) -> dict[str, Any]:
    """Refuse to apply, for the first time; a down is under way."""
    del params
    daemon.change("web.web", phase="stopping", ready=False, stop_in=4.0)
    del daemon.answers["apply"]
    raise Refusal("stopping", "the system is being stopped; try again when it is down")


def test_what_is_being_stopped_is_waited_for_and_brought_up_anew(
    orch: Orch, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    def over(daemon: FakeDaemon, params: dict[str, Any]) -> dict[str, Any]:
        del daemon.answers["after watch"]
        return end(daemon, params)

    daemon.answers["apply"] = stopping
    daemon.answers["after watch"] = over
    assert orch("up", "-d", "--wait-timeout", "10s") == 0
    told = "the system is being stopped; waiting until it is down: web.web (pid 100, 4s left)\n"
    assert told in capsys.readouterr().err
    asked = [method for method, _ in daemon.requests]
    assert [method for method in asked if method in ("apply", "down")] == ["apply"] * 2


def test_a_stop_is_waited_for_only_so_long(
    orch: Orch, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.answers["apply"] = stopping
    assert orch("up", "-d", "-q", "--wait-timeout", "50ms") == 1
    told = capsys.readouterr().err
    assert told.startswith("orch: not down after 50ms: web.web (pid 100, ")


def test_a_daemon_that_ends_as_we_come_is_asked_again_once(
    orch: Orch, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    deaths = 0

    def die(daemon: FakeDaemon, params: dict[str, Any]) -> dict[str, Any]:
        nonlocal deaths
        del params
        deaths += 1
        daemon.hang_up()
        return {}

    daemon.answers["apply"] = die
    assert orch("up", "-d") == 69
    assert deaths == 2
    assert "ended before it answered 'apply'" in capsys.readouterr().err


def test_detached_tells_every_failure_and_fails(
    orch: Orch, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    def half(daemon: FakeDaemon, params: dict[str, Any]) -> dict[str, Any]:
        del params
        daemon.change("web.web", **FAILED, why="cannot execute './x': No such file or directory")
        daemon.change("work.work", **FAILED)
        return {"plan": []}

    daemon.answers["apply"] = half
    assert orch("up", "-d", "-q") == 1
    assert capsys.readouterr().err == (
        "orch: web.web failed: cannot execute './x': No such file or directory\n"
        "orch: work.work failed: exit 1\n"
    )
    assert "down" not in [method for method, _ in daemon.requests]


def test_a_wait_that_takes_too_long_says_for_whom(
    orch: Orch, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    def slow(daemon: FakeDaemon, params: dict[str, Any]) -> dict[str, Any]:
        del params
        daemon.change("web.web", phase="starting", ready=False, pid=12)
        return {"plan": []}

    daemon.answers["apply"] = slow
    assert orch("up", "-d", "--wait", "--wait-timeout", "50ms", "-q") == 1
    assert capsys.readouterr().err == "orch: not ready after 50ms: web.web (starting, pid 12)\n"


def test_a_plan_is_printed_and_not_done(
    orch: Orch, daemon: FakeDaemon, world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert orch("up", "--plan") == 0
    assert daemon.until_asked("apply")["plan"] is True
    assert capsys.readouterr().out == (
        "web.web    create  it is not there\nwork.work  create  it is not there\n"
    )
    assert not (world / ".orch").exists()
    assert orch("up", "--plan", "--json") == 0
    assert [step["action"] for step in json.loads(capsys.readouterr().out)] == ["create", "create"]


def test_a_plan_without_a_daemon_starts_none(
    orch: Orch, world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert orch("up", "--plan", "web") == 0
    assert capsys.readouterr().out == "web.web  create  no daemon runs\n"
    assert list((world / "run").rglob("*.sock")) == []


def test_orphans_are_told(
    orch: Orch, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = [
        {
            "name": "old.old",
            "action": "orphan",
            "cause": "it is not in the topology",
            "changed": [],
        },
        {
            "name": "web.web",
            "action": "restart",
            "cause": "command changed",
            "changed": [["command"]],
        },
    ]
    daemon.answers["apply"] = lambda _daemon, _params: {"plan": steps}
    daemon.add("web.web")
    daemon.add("work.work")
    assert orch("up", "-d") == 0
    shown = capsys.readouterr().err
    assert "old.old is not in the topology any more; --remove-orphans stops it" in shown
    assert "restart web.web: command changed (topology.yaml:4:9)" in shown


def test_orphans_are_not_waited_for(orch: Orch, daemon: FakeDaemon) -> None:
    daemon.add("web.web")
    daemon.add("work.work")
    daemon.add("old.old", phase="starting", ready=False)
    daemon.answers["apply"] = lambda *_: {
        "plan": [
            {
                "name": "old.old",
                "action": "orphan",
                "cause": "it is not in the topology",
                "changed": [],
            }
        ]
    }
    assert orch("up", "-d", "--wait", "--wait-timeout", "1s") == 0


def test_what_cannot_go_together_is_a_usage_error(orch: Orch, daemon: FakeDaemon) -> None:
    assert orch("up", "-d", "--exit-code-from", "web") == 2
    assert orch("up", "--wait", "--abort-on-failure") == 2
    assert orch("up", "-d", "--abort-on-exit") == 2
    assert daemon.requests == []


def logged(daemon: FakeDaemon, world: Path) -> tuple[Path, Path]:
    """Let an apply start `web.web` with log files; return these."""
    logs = world / ".orch" / "logging"
    logs.mkdir(parents=True)
    out, err = logs / "web-web.out", logs / "web-web.err"
    out.write_text("from the day before\n")
    err.touch()

    def apply(daemon: FakeDaemon, params: dict[str, Any]) -> dict[str, Any]:
        del params
        daemon.rows["web.web"] = make_row("web.web", stdout=str(out), stderr=str(err))
        return {"plan": []}

    daemon.answers["apply"] = apply
    return out, err


def test_the_foreground_shows_what_is_written_from_now_on(
    daemon: FakeDaemon, world: Path, up: Start
) -> None:
    out, err = logged(daemon, world)
    running = up()
    running.until("web.web  ready")
    for path, text in ((out, "to the out\n"), (err, "to the err\n")):
        with path.open("a") as log:
            log.write(text)
    running.until("web.web  | to the err\n")
    eventually(lambda: running.out.read_text() == "web.web  | to the out\n")
    running.interrupt()
    assert running.wait() == 130
    assert daemon.until_asked("down") == {"kill": False}
    assert "stopping in order (Ctrl-C again to kill)" in running.err.read_text()


def test_a_second_ctrl_c_kills_and_those_awaited_are_named(
    daemon: FakeDaemon, world: Path, up: Start
) -> None:
    logged(daemon, world)

    def stubborn(daemon: FakeDaemon, params: dict[str, Any]) -> dict[str, Any]:
        if params["kill"]:
            return end(daemon, params)
        daemon.change("web.web", phase="stopping", ready=False, stop_in=10.0)
        return {}

    daemon.answers["after down"] = stubborn
    running = up()
    running.until("web.web  ready")
    running.interrupt()
    running.until("orch: stopping web.web (pid 100, ")
    running.interrupt()
    assert running.wait() == 130
    assert "orch: killing" in running.err.read_text()
    asked = [params for method, params in daemon.requests if method == "down"]
    assert asked == [{"kill": False}, {"kill": True}]


def test_a_third_ctrl_c_gives_up_waiting(daemon: FakeDaemon, world: Path, up: Start) -> None:
    logged(daemon, world)
    daemon.answers["after down"] = lambda _daemon, _params: {}
    running = up()
    running.until("web.web  ready")
    running.interrupt()
    daemon.until_asked("down")
    running.interrupt()
    daemon.until_asked("down", times=2)
    running.interrupt()
    assert running.wait() == 130


def test_term_stops_in_order_too(daemon: FakeDaemon, world: Path, up: Start) -> None:
    logged(daemon, world)
    running = up()
    running.until("web.web  ready")
    running.interrupt(signal.SIGTERM)
    assert running.wait() == 143
    assert daemon.until_asked("down") == {"kill": False}


def test_with_names_only_these_are_stopped(daemon: FakeDaemon, world: Path, up: Start) -> None:
    logged(daemon, world)
    daemon.add("work.work")
    running = up("web")
    running.until("web.web  ready")
    running.interrupt()
    assert running.wait() == 130
    assert daemon.until_asked("stop") == {"names": ["web"]}
    assert "down" not in [method for method, _ in daemon.requests]
    assert daemon.rows["work.work"]["phase"] == "running"


@pytest.mark.parametrize(("last", "code"), [(EXITED, 0), (FAILED, 1)])
def test_it_ends_when_every_instance_has_ended(
    last: dict[str, Any], code: int, daemon: FakeDaemon, world: Path, up: Start
) -> None:
    out, _ = logged(daemon, world)
    running = up()
    running.until("web.web  ready")
    with out.open("a") as log:
        log.write("last words, unfinished")
    daemon.change("web.web", **last)
    assert running.wait() == code
    assert running.out.read_text() == "web.web  | last words, unfinished\n"
    assert daemon.until_asked("down") == {"kill": False}


@pytest.mark.parametrize("code", [0, 10, 11])
def test_it_ends_with_the_system_and_its_exit_code(
    code: int, daemon: FakeDaemon, world: Path, up: Start
) -> None:
    logged(daemon, world)
    running = up()
    running.until("web.web  ready")
    event = {"kind": "system", "state": "stopping", "exit_code": code, "why": "web.web failed"}
    daemon.publish(event)
    daemon.change("web.web", **STOPPED)
    daemon.stop(code)
    assert running.wait() == code


def test_the_exit_code_can_be_that_of_a_component(
    daemon: FakeDaemon, world: Path, up: Start
) -> None:
    logged(daemon, world)
    daemon.add("work.work")
    running = up("--exit-code-from", "web")
    running.until("web.web    ready")
    daemon.change("web.web", **FAILED | {"exit_code": 42})
    assert running.wait() == 42
    assert daemon.rows["work.work"]["phase"] == "stopped"


def test_a_failure_can_stop_everything(daemon: FakeDaemon, world: Path, up: Start) -> None:
    logged(daemon, world)
    daemon.add("work.work")
    running = up("--abort-on-failure")
    running.until("ready")
    daemon.change("web.web", **FAILED | {"exit_code": None, "signal": 9})
    assert running.wait() == 137
    assert daemon.rows["work.work"]["phase"] == "stopped"


@pytest.mark.parametrize(
    ("end", "code"),
    [(EXITED, 0), (FAILED | {"exit_code": 3}, 3), (FAILED | {"exit_code": None}, 1)],
)
def test_an_end_can_stop_everything(
    daemon: FakeDaemon, world: Path, up: Start, end: dict[str, object], code: int
) -> None:
    logged(daemon, world)
    daemon.add("work.work")
    running = up("--abort-on-exit")
    running.until("work.work  ready")
    daemon.change("web.web", **end)
    assert running.wait() == code
    assert daemon.rows["work.work"]["phase"] == "stopped"


def test_the_exit_code_is_that_of_the_named_one_when_another_failed(
    daemon: FakeDaemon, world: Path, up: Start
) -> None:
    logged(daemon, world)
    daemon.add("work.work")

    def ended(daemon: FakeDaemon, _: dict[str, Any]) -> dict[str, Any]:
        daemon.change("work.work", **STOPPED | {"exit_code": None, "signal": 15})
        daemon.stop()
        return {}

    daemon.answers["after down"] = ended
    running = up("--abort-on-failure", "--exit-code-from", "work")
    running.until("work.work  ready")
    daemon.change("web.web", **FAILED | {"exit_code": 7})
    assert running.wait() == 143


def test_the_foreground_survives_the_death_of_the_daemon(
    daemon: FakeDaemon, world: Path, up: Start
) -> None:
    out, _ = logged(daemon, world)
    running = up()
    running.until("web.web  ready")
    daemon.hang_up()
    daemon.until_asked("watch", times=2)
    with out.open("a") as log:
        log.write("still here\n")
    eventually(lambda: running.out.read_text() == "web.web  | still here\n")
    running.interrupt()
    assert running.wait() == 130


def test_as_json_the_foreground_streams_lines(daemon: FakeDaemon, world: Path, up: Start) -> None:
    out, _ = logged(daemon, world)
    running = up("--json", "-q")
    daemon.until_watched()
    with out.open("a") as log:
        log.write("one\n")
    expected = {"name": "web.web", "stream": "stdout", "line": "one"}
    eventually(lambda: running.out.read_text().endswith("\n"))
    found = json.loads(running.out.read_text())
    assert found.pop("time").endswith("Z")
    assert found == expected
    running.interrupt()
    assert running.wait() == 130
