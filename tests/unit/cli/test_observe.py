"""ps and status: data on standard output, exit codes that scripts read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.cli.conftest import Orch
from tests.unit.cli.fake import STOPPED, FakeDaemon


def test_without_a_daemon_the_exit_code_is_69_and_the_way_out_is_told(
    orch: Orch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert orch("ps") == 69
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("orch: cannot reach the daemon at ")
    assert shown.err.endswith("start it with: orch up -d\n")


def test_the_way_out_names_the_file_and_the_project(
    orch: Orch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert orch("-f", "other.yaml", "-p", "two", "status") == 69
    assert "start it with: orch -f other.yaml -p two up -d" in capsys.readouterr().err


def test_without_a_topology_the_names_that_were_looked_for_are_told(
    orch: Orch, world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (world / "topology.yaml").unlink()
    assert orch("ps") == 2
    assert "cannot find topology.yaml or topology.yml" in capsys.readouterr().err


def test_the_topology_is_searched_upwards(
    orch: Orch, world: Path, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon.add("web.web")
    below = world / "deep" / "down"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert orch("ps") == 0


def test_ps_as_json_is_one_array_of_rows(
    orch: Orch, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.add("market.engine@1")
    daemon.add("market.engine@2")
    daemon.add("web.web")
    assert orch("ps", "market", "--json") == 0
    assert json.loads(capsys.readouterr().out) == [
        {**daemon.rows["market.engine@1"], "connections": None, "states": None},
        {**daemon.rows["market.engine@2"], "connections": None, "states": None},
    ]


def test_ps_all_begins_with_the_daemon(
    orch: Orch, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.add("web.web")
    assert orch("--json", "ps", "--all") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["name"], row["pid"]) for row in rows] == [("orch", 11), ("web.web", 100)]
    assert rows[0].keys() == rows[1].keys()


def test_a_quiet_ps_prints_names(
    orch: Orch, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.add("web.web")
    daemon.add("work.work")
    assert orch("ps", "-q") == 0
    assert capsys.readouterr().out == "web.web\nwork.work\n"


def test_an_unknown_name_is_one_line_with_what_was_meant(
    orch: Orch, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.add("cache.cache")
    assert orch("ps", "cahce") == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("orch: unknown name 'cahce'; did you mean 'cache")
    assert shown.err.count("\n") == 1


def test_status_tells_all_and_the_last_lines(
    orch: Orch, daemon: FakeDaemon, world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = world / "web.err"
    log.write_text("".join(f"line {number}\n" for number in range(30)))
    daemon.add("web.web", stderr=str(log), restarts=2, result="exit-code", exit_code=1)
    assert orch("status", "web") == 0
    text = capsys.readouterr().out
    assert "running, ready" in text
    assert "last end   exit-code (exit 1)" in text
    assert "line 20" in text
    assert "line 19" not in text
    assert "daemon" not in text
    assert orch("status") == 0
    assert "pid 11, keeper pid 10" in capsys.readouterr().out


def test_how_it_ended_before_is_no_detail_of_what_runs(
    orch: Orch, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.add("web.web", restarts=1, result="exit-code", exit_code=7)
    daemon.add("work.work", phase="starting", ready=False, result="oom-kill", signal=9)
    assert orch("ps") == 0
    lines = capsys.readouterr().out.splitlines()
    assert "exit 7" not in lines[1]
    assert lines[2].endswith("oom-kill (signal 9)")
    daemon.add("web.web", result="exit-code", exit_code=7, why="serving 3 clients")
    assert orch("ps", "web") == 0
    assert capsys.readouterr().out.rstrip().endswith("serving 3 clients")


def test_status_tells_a_warning(
    orch: Orch, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.add("web.web", warning="the stop command failed: exit 9")
    assert orch("status", "web") == 0
    assert "  warning    the stop command failed: exit 9\n" in capsys.readouterr().out


def test_status_as_json_has_the_daemon_and_the_instances(
    orch: Orch, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.add("web.web")
    assert orch("status", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert {"pid", "keeper_pid", "started_at", "version", "topology"} <= found["daemon"].keys()
    assert found["instances"] == [daemon.rows["web.web"]]


def test_the_exit_code_of_status_tells_whether_the_names_run(
    orch: Orch, daemon: FakeDaemon
) -> None:
    daemon.add("web.web")
    daemon.add("work.work", **STOPPED)
    assert orch("status", "web") == 0
    assert orch("status", "work") == 3
    assert orch("status", "web", "work") == 3
    assert orch("status") == 0, "without names it tells nothing of the kind"
    assert orch("status", "wbe") == 4


def test_colour_is_for_terminals_unless_asked_for(
    orch: Orch, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.add("web.web")
    orch("ps")
    assert "\x1b" not in capsys.readouterr().out
    orch("ps", "--color", "always")
    assert "\x1b[32mrunning" in capsys.readouterr().out
    orch("ps", "--color", "always", "--json")
    assert "\x1b" not in capsys.readouterr().out
