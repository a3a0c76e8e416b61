"""start, stop, restart, reset, kill, wait, down: each waits until it is done."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.cli.conftest import Orch
from tests.unit.cli.fake import FAILED, STOPPED, FakeDaemon, Refusal, end


def later(daemon: FakeDaemon, action: Callable[[], None]) -> threading.Thread:
    """Do `action` when somebody watches."""

    def run() -> None:
        daemon.until_watched()
        action()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def slowly(names: list[str]) -> Callable[[FakeDaemon, dict[str, Any]], dict[str, Any]]:
    """Answer that `names` are affected, and leave the rest to the test."""
    return lambda _daemon, _params: {"names": names, "unchanged": []}


def test_start_waits_until_the_instance_is_ready(
    orch: Orch, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.add("web.web", phase="starting", ready=False)
    daemon.answers["start"] = slowly(["web.web"])
    thread = later(daemon, lambda: daemon.change("web.web", phase="running", ready=True))
    assert orch("start", "web") == 0
    thread.join()
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == "web.web  starting  pid 100\nweb.web  ready  pid 100\n"


def test_a_start_that_fails_shows_why(
    orch: Orch, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.add("web.web", phase="starting", ready=False)
    daemon.answers["start"] = slowly(["web.web"])
    why = "cannot execute './x': No such file or directory"
    thread = later(daemon, lambda: daemon.change("web.web", **FAILED, why=why))
    assert orch("start", "web", "-q") == 1
    thread.join()
    assert capsys.readouterr().err == f"orch: web.web failed: {why}\n"


def test_a_start_that_a_dependency_prevents_shows_the_culprit_and_its_last_lines(
    orch: Orch, daemon: FakeDaemon, world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("db", "mid", "other", "web"):
        (world / f"{name}.err").write_text(f"{name} of old\n")
    (world / "db.err").write_text("".join(f"line {number}\n" for number in range(30)))
    logs = {name: {"stderr": str(world / f"{name}.err")} for name in ("db", "mid", "other", "web")}
    mid = "cannot start 's.mid': 's.db' failed (exit 1)"
    why = f"cannot start 's.web': 's.mid' failed ({mid})"
    dependency = {**FAILED, "result": "dependency", "exit_code": None}
    daemon.add("s.db", **FAILED, **logs["db"])
    daemon.add("s.mid", **dependency, **logs["mid"], why=mid)
    daemon.add("s.other", **FAILED, **logs["other"])
    daemon.add("s.web", **STOPPED, **logs["web"])
    daemon.answers["start"] = slowly(["s.web"])
    daemon.rows["s.web"] |= {**dependency, "why": why}
    assert orch("start", "s.web", "-q") == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == f"orch: s.web failed: {why}"
    assert lines[1] == f"orch: s.db failed: exit 1; the end of {world / 'db.err'}:"
    assert lines[2:] == [f"    line {number}" for number in range(10, 30)]


def test_a_warning_is_told_once(
    orch: Orch, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    warning = "starts without its optional dependency: 'opt.opt' failed (exit 3)"
    daemon.add("web.web", phase="starting", ready=False)
    daemon.answers["start"] = slowly(["web.web"])

    def start() -> None:
        daemon.change("web.web", warning=warning)
        daemon.change("web.web", phase="running", ready=True)

    thread = later(daemon, start)
    assert orch("start", "web") == 0
    thread.join()
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines() == [
        "web.web  starting  pid 100",
        f"orch: warning: web.web: {warning}",
        "web.web  ready  pid 100",
    ]


def test_a_warning_of_before_is_no_news_to_a_down(
    orch: Orch, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.add("web.web", warning="of before")

    def end_all(daemon: FakeDaemon, params: dict[str, Any]) -> dict[str, Any]:
        daemon.change("web.web", phase="stopping", ready=False)
        daemon.change("web.web", warning="the stop command failed: exit 9")
        return end(daemon, params)

    daemon.answers["after down"] = end_all
    assert orch("down") == 0
    err = capsys.readouterr().err
    assert "of before" not in err
    assert err.count("orch: warning: web.web: the stop command failed: exit 9\n") == 1


def test_starting_what_runs_changes_nothing(
    orch: Orch, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.add("web.web")
    assert orch("start", "web") == 0
    assert "web.web: nothing to start" in capsys.readouterr().err


def test_stop_waits_until_the_process_is_gone(orch: Orch, daemon: FakeDaemon) -> None:
    daemon.add("web.web", phase="stopping", ready=False, wanted="down")
    daemon.answers["stop"] = slowly(["web.web"])
    thread = later(daemon, lambda: daemon.change("web.web", **STOPPED))
    assert orch("stop", "web") == 0
    thread.join()


def test_stop_without_waiting_returns_at_once(orch: Orch, daemon: FakeDaemon) -> None:
    daemon.add("web.web", phase="stopping", wanted="down")
    daemon.answers["stop"] = slowly(["web.web"])
    assert orch("stop", "web", "--no-wait") == 0
    assert [method for method, _ in daemon.requests] == ["stop"]


def test_a_stop_that_takes_too_long_says_whom_it_waited_for(
    orch: Orch, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.add("web.web", phase="stopping", wanted="down")
    daemon.answers["stop"] = slowly(["web.web"])
    assert orch("stop", "web", "--wait-timeout", "50ms", "-q") == 1
    assert capsys.readouterr().err == (
        "orch: not stopped after 50ms: web.web (stopping, pid 100)\n"
    )


def test_restart_waits_for_a_newer_process(orch: Orch, daemon: FakeDaemon) -> None:
    daemon.add("web.web", generation=4)
    daemon.answers["restart"] = slowly(["web.web"])
    thread = later(daemon, lambda: daemon.change("web.web", generation=5))
    assert orch("restart", "web") == 0
    thread.join()


def test_reset_is_done_when_nothing_counts_as_failed(orch: Orch, daemon: FakeDaemon) -> None:
    daemon.add("web.web", **FAILED)
    daemon.answers["reset"] = slowly(["web.web"])
    assert orch("reset", "web", "--wait-timeout", "20ms") == 1
    daemon.rows["web.web"] |= STOPPED
    assert orch("reset", "web") == 0


@pytest.mark.parametrize("verb", ["start", "stop", "restart", "kill", "reset"])
def test_a_change_needs_names_or_all(
    verb: str, orch: Orch, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.add("web.web")
    assert orch(verb) == 2
    assert "--all" in capsys.readouterr().err
    assert orch(verb, "--all", "web") == 2
    assert daemon.requests == []
    assert orch(verb, "--all") == 0


@pytest.mark.parametrize("verb", ["start", "stop", "restart", "kill", "reset", "wait"])
def test_an_unknown_name_changes_nobody(verb: str, orch: Orch, daemon: FakeDaemon) -> None:
    daemon.add("web.web")
    before = dict(daemon.rows)
    assert orch(verb, "web", "wbe") == 1
    assert daemon.rows == before


def test_kill_sends_the_signal(
    orch: Orch, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.add("web.web")
    assert orch("kill", "-s", "SIGUSR1", "web") == 0
    assert daemon.until_asked("kill") == {"names": ["web"], "signal": "USR1"}
    assert "sent USR1 to web.web" in capsys.readouterr().err


def test_kill_tells_what_a_signal_did_instead(
    orch: Orch, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.add("web.web")
    daemon.add("web.db")
    daemon.signals["web.web"] = "restart"
    assert orch("kill", "-s", "HUP", "web") == 0
    assert capsys.readouterr().err.splitlines() == [
        "orch: sent HUP to web.db",
        "orch: HUP to web.web: restart (signals)",
    ]


def test_an_unknown_signal_is_a_usage_error(
    orch: Orch, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.add("web.web")
    assert orch("kill", "-s", "TREM", "web") == 2
    assert "did you mean TERM?" in capsys.readouterr().err
    assert daemon.requests == []


def test_wait_ends_when_the_instance_is_ready(orch: Orch, daemon: FakeDaemon) -> None:
    daemon.add("web.web", ready=False)
    thread = later(daemon, lambda: daemon.change("web.web", ready=True))
    assert orch("wait", "web") == 0
    thread.join()


def test_waiting_for_readiness_of_what_has_ended_fails(orch: Orch, daemon: FakeDaemon) -> None:
    daemon.add("work.work", phase="exited", pid=None, ready=False, result="success", exit_code=0)
    assert orch("wait", "work") == 1


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"phase": "exited", "result": "success", "exit_code": 0}, 0),
        ({"phase": "failed", "result": "exit-code", "exit_code": 42}, 42),
        ({"phase": "failed", "result": "signal", "signal": 9}, 137),
        ({"phase": "failed", "result": "spawn-error"}, 1),
    ],
)
def test_waiting_for_the_end_gives_the_exit_code(
    changes: dict[str, Any],
    code: int,
    orch: Orch,
    daemon: FakeDaemon,
    capsys: pytest.CaptureFixture[str],
) -> None:
    daemon.add("work.work")
    thread = later(daemon, lambda: daemon.change("work.work", pid=None, ready=False, **changes))
    assert orch("wait", "work", "--for", "exit") == code
    thread.join()
    assert capsys.readouterr().out == f"work.work {code}\n"
    assert orch("wait", "work", "--for", "exit", "--json") == code
    assert json.loads(capsys.readouterr().out) == [daemon.rows["work.work"]]


def test_down_ends_the_system_and_waits_for_it(
    orch: Orch, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.add("web.web")
    assert orch("down") == 0
    assert daemon.until_asked("down") == {"kill": False}
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "web.web  stopped  requested" in shown.err


def test_down_without_a_daemon_is_done_already(
    orch: Orch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert orch("down") == 0
    assert "nothing runs" in capsys.readouterr().err


def test_down_names_whom_it_still_waits_for_each_second(
    orch: Orch, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.add("web.web")
    daemon.add("market.engine", pid=12)

    def stopping(daemon: FakeDaemon, params: dict[str, Any]) -> dict[str, Any]:
        del params
        daemon.change("web.web", **STOPPED)
        daemon.change("market.engine", phase="stopping", ready=False, stop_in=10.0)
        return {}

    daemon.answers["after down"] = stopping
    assert orch("down", "--wait-timeout", "1200ms") == 1
    shown = capsys.readouterr().err
    assert "orch: stopping market.engine (pid 12, 9s left)\n" in shown
    assert "orch: not stopped after 1.2s: market.engine (pid 12, 8.8s left)\n" in shown


def test_down_tells_a_daemon_that_died_on_the_way_again(orch: Orch, daemon: FakeDaemon) -> None:
    daemon.add("web.web")

    def die(daemon: FakeDaemon, params: dict[str, Any]) -> dict[str, Any]:
        del params
        daemon.answers["after down"] = end
        daemon.hang_up()
        return {}

    daemon.answers["after down"] = die
    assert orch("down", "--kill") == 0
    asked = [params for method, params in daemon.requests if method == "down"]
    assert asked == [{"kill": True}, {"kill": True}]


def test_down_of_a_system_that_ends_just_now_is_done(
    orch: Orch, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    def leave(daemon: FakeDaemon, params: dict[str, Any]) -> dict[str, Any]:
        del params
        daemon.path.unlink()
        daemon.hang_up()
        return {}

    daemon.answers["watch"] = leave
    assert orch("down") == 0
    assert capsys.readouterr().err == "orch: stopped\n"


def test_a_refusal_is_one_line(
    orch: Orch, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.add("web.web")

    def refuse(daemon: FakeDaemon, params: dict[str, Any]) -> dict[str, Any]:
        del daemon, params
        raise Refusal("stopping", "cannot start 'web.web': the system is stopping")

    daemon.answers["start"] = refuse
    assert orch("start", "web") == 1
    assert capsys.readouterr().err == ("orch: cannot start 'web.web': the system is stopping\n")


def test_a_stop_with_a_stop_command_that_failed_is_no_success(
    orch: Orch, daemon: FakeDaemon
) -> None:
    daemon.add("web.web", warning="the stop command failed: exit 1")
    assert orch("stop", "web") == 1


def test_a_stop_that_somebody_takes_back_does_not_wait_for_ever(
    orch: Orch, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.add("web.web")
    daemon.taken_back = True
    assert orch("stop", "web") == 1
    assert "web.web was started again meanwhile" in capsys.readouterr().err
