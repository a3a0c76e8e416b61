"""submit, runs and cancel, and runs in the verbs that speak of instances too."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli import submit
from orchestrator.errors import UsageError
from tests.unit.cli.conftest import Orch
from tests.unit.cli.fake import SUCCEEDED, FakeDaemon, answer, eventually, make_run

ROOT = Path(__file__).parents[3]
FAILED: dict[str, Any] = {"state": "failed", "result": "exit-code", "exit_code": 3}

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def lab(daemon: FakeDaemon) -> FakeDaemon:
    daemon.add_job("lab.sim")
    daemon.add_job("lab.mesh")
    daemon.add("web.web")
    return daemon


@contextlib.contextmanager
def meanwhile(action: Callable[[], None]) -> Iterator[None]:
    """Do `action` in a thread beside the body."""
    thread = threading.Thread(target=action)
    thread.start()
    yield
    thread.join()


# ------------------------------------------------------------------ submit


def test_submit_prints_the_id_and_sends_what_was_said(
    lab: FakeDaemon, orch: Orch, capsys: Capture, world: Path
) -> None:
    (world / "template.yaml").write_text("input_file: in.dat\nmesh: {size: 3}\nsteps: 1\n")
    words = ("-p", "steps=100", "-p", "fine=true", "-p", "user_id=007", "-p", 'list=["a", 1]')
    options = (
        "--arg",
        "seed=7",
        "--priority",
        "3",
        "--after",
        "lab.mesh/a",
        "--after",
        "b=failed",
    )
    assert orch("submit", "lab.sim", *words, "--file", "template.yaml", *options) == 0
    (number,) = lab.runs
    assert capsys.readouterr().out == f"{number}\n"
    params = lab.until_asked("submit")
    assert params == {
        "job": "lab.sim",
        "id": number,
        "template": {
            "input_file": "in.dat", "mesh": {"size": 3}, "steps": 100, "fine": True,
            "user_id": "007", "list": ["a", 1],
        },
        "args": {"seed": "7"},
        "priority": 3,
        "after": {"a": "succeeded", "b": "failed"},
        "use": "new",
    }  # fmt: skip


def test_submit_as_json_is_the_row(lab: FakeDaemon, orch: Orch, capsys: Capture) -> None:
    assert orch("submit", "sim", "--id", "mine", "--last-good", "--json") == 0
    assert json.loads(capsys.readouterr().out) == lab.runs["mine"]
    assert lab.until_asked("submit")["use"] == "last-good"


def test_the_jobs_there_are_can_be_listed(lab: FakeDaemon, orch: Orch, capsys: Capture) -> None:
    assert orch("submit", "--list", "-q") == 0
    assert capsys.readouterr().out == "lab.sim\nlab.mesh\n"
    assert orch("submit", "--list") == 0
    assert "lab.mesh  0        0       -         /somewhere/mesh.py" in capsys.readouterr().out
    assert orch("submit", "--list", "--json") == 0
    assert json.loads(capsys.readouterr().out) == list(lab.jobs.values())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "orch submit --list"),
        (("sim", "--after", "a=done"), "choose one of succeeded, failed, completed"),
        (("sim", "--priority", "high"), "write a whole number"),
        (("sim", "--wait-timeout", "3s"), "without --wait"),
        (("sim", "-p", "mesh=[1,"), "for the attribute mesh"),
        (("sim", "-p", "size=1e999"), "too large"),
        (("sim", "-p", "mesh"), "write NAME=VALUE"),
    ],
)
def test_what_cannot_be_submitted_is_a_usage_error(
    words: tuple[str, ...], says: str, lab: FakeDaemon, orch: Orch, capsys: Capture
) -> None:
    assert orch("submit", *words) == 2
    assert says in capsys.readouterr().err
    assert not lab.runs


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("- a\n- b\n", r"template\.yaml:1:1: error ORC101: a template is a map"),
        ("a: 1\na: 2\n", r"template\.yaml:2:1: error"),
        ("a: [\n", r"template\.yaml:\d:\d: error ORC003"),
        (None, r"ORC001: cannot read template\.yaml: No such file"),
    ],
)
def test_a_template_that_cannot_be_read_is_told_with_its_place(
    text: str | None, says: str, lab: FakeDaemon, orch: Orch, capsys: Capture
) -> None:
    if text is not None:
        Path("template.yaml").write_text(text)
    assert orch("submit", "sim", "--file", "template.yaml") == 1
    assert re.search(says, capsys.readouterr().err)
    assert not lab.runs


def test_an_unknown_job_says_what_was_meant(lab: FakeDaemon, orch: Orch, capsys: Capture) -> None:
    assert orch("submit", "lab.smi") == 1
    assert "there is no job 'lab.smi'; did you mean 'lab.sim'" in capsys.readouterr().err
    assert not lab.runs


def test_texts_stay_texts_and_others_are_as_yaml_reads_them() -> None:
    assert submit._value("input_file", "2024") == "2024"
    assert submit._value("s_user_id", "true") == "true"
    assert submit._value("size", "0x10") == 16
    assert submit._value("size", "") == ""
    assert submit._value("size", "null") is None
    with pytest.raises(UsageError):
        submit._value("size", "{")


@pytest.mark.parametrize(("end", "code"), [(SUCCEEDED, 0), (FAILED, 1)])
def test_the_exit_code_is_of_the_run_that_is_awaited(
    end: dict[str, Any], code: int, lab: FakeDaemon, orch: Orch, capsys: Capture
) -> None:
    output = Path("output").absolute()
    output.write_text("step 1\nno such mesh\n3\n")

    def work() -> None:
        lab.until_asked("runs")
        lab.change_run("mine", state="running", output=str(output))
        lab.change_run("mine", **end)

    with meanwhile(work):
        assert orch("submit", "sim", "--id", "mine", "--wait") == code
    shown = capsys.readouterr()
    assert shown.out == "mine\n"
    assert shown.err.splitlines()[:2] == ["lab.sim/mine  queued", "lab.sim/mine  running"]
    if code:
        assert f"orch: lab.sim/mine failed: exit 3; the end of {output}:" in shown.err
        assert "    no such mesh\n" in shown.err


def test_what_hooks_say_is_told_when_asked_for(
    lab: FakeDaemon, orch: Orch, capsys: Capture
) -> None:
    def work(times: int) -> None:
        lab.until_asked("runs", times)
        for text in ("one", "two"):
            lab.change_run(f"r{times}", state="running", text=text)
        lab.change_run(f"r{times}", **SUCCEEDED)

    for times, flags in ((1, ()), (2, ("-v",))):
        with meanwhile(lambda times=times: work(times)):  # type: ignore[misc]
            assert orch("submit", "sim", "--id", f"r{times}", "--wait", *flags) == 0
        shown = capsys.readouterr().err
        assert "running  one" in shown
        assert ("running  two" in shown) == bool(flags)


def test_an_awaited_run_as_json_is_its_last_row(
    lab: FakeDaemon, orch: Orch, capsys: Capture
) -> None:
    def work() -> None:
        lab.until_asked("runs")
        lab.change_run("mine", state="cancelled", result="requested")

    with meanwhile(work):
        assert orch("submit", "sim", "--id", "mine", "--wait", "--json", "-q") == 1
    shown = capsys.readouterr()
    assert json.loads(shown.out)["state"] == "cancelled"
    assert shown.err == "orch: lab.sim/mine cancelled\n"


def test_a_wait_has_its_limit(lab: FakeDaemon, orch: Orch, capsys: Capture) -> None:
    assert orch("submit", "sim", "--id", "mine", "--wait", "--wait-timeout", "50ms") == 1
    assert "not finished after 50ms: lab.sim/mine queued" in capsys.readouterr().err
    assert "mine" in lab.runs


class Terminal:
    """A command whose standard error is a terminal, its output too when asked."""

    def __init__(self, world: Path, *argv: str, on_terminal: bool = False) -> None:
        self.shown = b""
        self._master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "orchestrator", *argv],
            env={
                "PYTHONPATH": str(ROOT), "XDG_RUNTIME_DIR": str(world / "run"),
                "TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40", "LANG": "C.UTF-8",
            },
            cwd=world, stdin=slave, stderr=slave,
            stdout=slave if on_terminal else subprocess.PIPE,
        )  # fmt: skip
        os.close(slave)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # The end of a terminal is an error.
            while data := os.read(self._master, 1 << 16):
                self.shown += data

    def until(self, text: str) -> None:
        """Wait until something is shown."""
        eventually(lambda: text.encode() in self.shown, 30)

    def end(self) -> tuple[int, str, str]:
        """Return the exit code, standard output, and what the terminal has shown."""
        out, _ = self.process.communicate(timeout=30)
        self._reader.join()
        os.close(self._master)
        return self.process.returncode, (out or b"").decode(), self.shown.decode()


def test_a_terminal_shows_bars(lab: FakeDaemon, world: Path) -> None:
    terminal = Terminal(world, "submit", "sim", "--id", "mine", "--wait")
    lab.until_asked("runs")
    lab.change_run("mine", why="1 of 1 runs of lab.sim is running")
    terminal.until("1 of 1 runs of lab.sim is running")
    lab.change_run("mine", state="building")
    terminal.until("building")
    lab.change_run("mine", state="running", progress=0.42, text="step [42] of 100")
    terminal.until("42%")
    terminal.until("step [42] of 100")
    lab.change_run("mine", **SUCCEEDED)
    code, out, shown = terminal.end()
    assert (code, out) == (0, "mine\n")
    assert "━" in shown
    assert "lab.sim/mine  \x1b[32msucceeded\x1b[0m" in shown
    assert shown.rstrip().endswith("\x1b[?25h") or "\x1b[?25h" in shown, "the cursor is back"


def test_many_runs_are_counted_below_the_bars(lab: FakeDaemon, world: Path) -> None:
    for number in range(30):
        lab.runs[f"r{number}"] = make_run(f"r{number}", state="running", progress=0.5)
    terminal = Terminal(world, "runs", "--follow")
    terminal.until("10 more")
    for number in range(30):
        lab.change_run(f"r{number}", **SUCCEEDED)
    code, _, shown = terminal.end()
    assert code == 0
    assert shown.count("succeeded") == 30


def test_who_stops_waiting_is_told_that_the_run_goes_on(lab: FakeDaemon, world: Path) -> None:
    terminal = Terminal(world, "submit", "sim", "--id", "mine", "--wait")
    lab.until_asked("runs")
    lab.change_run("mine", state="running", text="at work")
    terminal.until("at work")
    terminal.process.send_signal(2)
    code, _, shown = terminal.end()
    assert code == 130
    assert "lab.sim/mine goes on; end it with: orch cancel mine" in shown
    assert "Traceback" not in shown
    assert lab.runs["mine"]["state"] == "running"


def test_bars_are_loaded_for_a_terminal_only(lab: FakeDaemon, world: Path) -> None:
    lab.change_run("0", **SUCCEEDED)
    lab.change_run("1")

    def lists(daemon: FakeDaemon, params: dict[str, Any]) -> dict[str, Any]:
        found = answer("runs")(daemon, params)
        daemon.change_run("1", **SUCCEEDED)
        return found

    lab.answers["runs"] = lists
    code = (
        "import sys; from orchestrator import cli; cli.main(['runs', '--follow']); "
        "print('rich' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=world,
        env={"PYTHONPATH": str(ROOT), "XDG_RUNTIME_DIR": str(world / "run")},
    )  # fmt: skip
    assert done.stdout == "False\n"
    assert done.stderr == "lab.sim/1  succeeded\n"


# ------------------------------------------------------------------ runs


def test_runs_are_a_table_the_newest_first(lab: FakeDaemon, orch: Orch, capsys: Capture) -> None:
    times = {"submitted_at": "2999-01-01T00:00:00.000Z", "started_at": "2999-01-01T00:00:00.000Z"}
    ended = "2999-01-01T00:01:30.000Z"
    lab.runs["1"] = make_run("1", **{**times, **SUCCEEDED, "ended_at": ended})
    lab.runs["2"] = make_run("2", "lab.mesh", **{**times, **FAILED, "ended_at": ended})
    lab.runs["3"] = make_run(
        "3", **{**times, "state": "running", "progress": 0.421, "text": "step\n3"}
    )
    lab.runs["4"] = make_run("4", submitted_at=ended, why="1 of 1 runs of lab.sim is running")
    assert orch("runs") == 0
    assert capsys.readouterr().out == (
        "RUN         STATE      PROGRESS  SUBMITTED  TOOK    DETAIL\n"
        "lab.sim/4   queued     -         0s ago     -       1 of 1 runs of lab.sim is running\n"
        "lab.sim/3   running    42%       0s ago     0s      step\n"
        "lab.mesh/2  failed     -         0s ago     1m 30s  exit 3\n"
        "lab.sim/1   succeeded  100%      0s ago     1m 30s\n"
    )


def test_runs_are_chosen_by_job_state_and_number(
    lab: FakeDaemon, orch: Orch, capsys: Capture
) -> None:
    for number in range(60):
        lab.runs[f"s{number}"] = make_run(f"s{number}")
    lab.runs["m"] = make_run("m", "lab.mesh", **FAILED)
    assert orch("runs", "lab.mesh", "-q") == 0
    assert capsys.readouterr().out == "m\n"
    assert orch("runs", "--state", "failed", "--state", "cancelled", "-q") == 0
    assert capsys.readouterr().out == "m\n"
    assert orch("runs", "-q") == 0
    shown = capsys.readouterr()
    assert len(shown.out.splitlines()) == 50
    assert shown.err == ""
    assert orch("runs") == 0
    shown = capsys.readouterr()
    assert len(shown.out.splitlines()) == 51
    assert shown.err == "orch: these are the newest 50; -n all shows all\n"
    assert orch("runs", "-n", "2") == 0
    shown = capsys.readouterr()
    assert (len(shown.out.splitlines()), shown.err) == (3, "")
    for words in (("-n", "all"), ("-n", "61")):
        assert orch("runs", *words) == 0
        shown = capsys.readouterr()
        assert (len(shown.out.splitlines()), shown.err) == (62, "")
    assert orch("runs", "--json") == 0
    assert json.loads(capsys.readouterr().out) == list(reversed(lab.runs.values()))
    assert orch("runs", "--state", "run") == 2
    assert "did you mean running?" in capsys.readouterr().err


def test_all_about_a_run_is_shown(
    lab: FakeDaemon, orch: Orch, capsys: Capture, world: Path
) -> None:
    (world / "output").write_text("one\ntwo\n3\n")
    lab.runs["1"] = make_run(
        "1", **FAILED, attempt=2, attempts=3, output=str(world / "output"), run_dir=str(world),
        after=[{"id": "0", "condition": "completed", "state": "failed"}], custom={"mesh": "fine"},
        args={"seed": "7"}, template={"g_input_file": "in.dat"}, pid=None, priority=4,
    )  # fmt: skip
    error = {"hook": "after_watch_callback", "type": "OSError", "message": "no",
             "where": "handlers/sim.py:7", "traceback": "…"}  # fmt: skip
    about = {"run": lab.runs["1"], "result": {}, "errors": [error], "record_dir": "/records/1"}
    lab.answers["run"] = lambda _daemon, _params: about
    assert orch("runs", "show", "lab.sim/1") == 0
    assert capsys.readouterr().out == (
        "lab.sim/1\n"
        "  state      failed: exit 3\n"
        "  tries      2 of 3\n"
        "  submitted  2026-11-22T10:00:00.000Z\n"
        "  priority   4\n"
        "  after      0 (completed; is failed)\n"
        '  custom     {"mesh": "fine"}\n'
        "  arguments  seed=7\n"
        '  template   {"g_input_file": "in.dat"}\n'
        f"  directory  {world}\n"
        "  records    /records/1\n"
        "  error      after_watch_callback: OSError: no (handlers/sim.py:7)\n"
        f"  output     {world}/output\n"
        "    one\n    two\n    3\n"
    )
    assert orch("runs", "show", "1", "--json") == 0
    assert json.loads(capsys.readouterr().out) == [about]


def test_show_needs_a_run_and_nothing_else(lab: FakeDaemon, orch: Orch, capsys: Capture) -> None:
    assert orch("runs", "show") == 2
    assert orch("runs", "show", "1", "--follow") == 2
    assert "orch runs show ID" in capsys.readouterr().err
    lab.change_run("xabc")
    assert orch("runs", "show", "xab") == 1
    assert "did you mean 'xabc'" in capsys.readouterr().err


def test_runs_are_followed_as_lines(lab: FakeDaemon, orch: Orch, capsys: Capture) -> None:
    lab.runs["1"] = make_run("1", state="running")

    def work() -> None:
        lab.until_asked("runs", 2)
        lab.change_run("1", state="running", progress=0.5)
        lab.change_run("1", **SUCCEEDED)

    with meanwhile(work):
        assert orch("runs", "--follow", "--json") == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["state"], row["progress"]) for row in rows] == [
        ("running", None), ("running", 0.5), ("succeeded", 1.0),
    ]  # fmt: skip


def test_a_table_fits_the_terminal(lab: FakeDaemon, world: Path) -> None:
    lab.runs["1"] = make_run("1", **{**FAILED, "message": "build: " + "no room " * 40})
    terminal = Terminal(world, "runs", on_terminal=True)
    _, _, shown = terminal.end()
    lines = [line for line in re.sub(r"\x1b\[[0-9;]*m", "", shown).splitlines() if line]
    assert len(lines) == 2
    assert lines[1].endswith("…")
    assert len(lines[1]) == 120
    nothing = Terminal(world, "runs", "--follow")
    assert nothing.end()[2].strip() == "orch: nothing runs, and nothing waits"


# ------------------------------------------------------------------ cancel


def test_a_run_is_cancelled_by_its_id(lab: FakeDaemon, orch: Orch, capsys: Capture) -> None:
    lab.change_run("1", state="running")
    lab.change_run("2", **SUCCEEDED)
    assert orch("cancel", "lab.sim/1", "2") == 0
    assert capsys.readouterr().err == (
        "orch: 2: it had ended already\nlab.sim/1  cancelled\n"
    )  # fmt: skip
    assert lab.runs["1"]["state"] == "cancelled"
    assert orch("cancel", "3") == 1
    assert "there is no run '3'" in capsys.readouterr().err


def test_all_runs_of_a_job_are_cancelled(lab: FakeDaemon, orch: Orch, capsys: Capture) -> None:
    for number in range(60):
        lab.runs[f"s{number}"] = make_run(f"s{number}")
    lab.runs["m"] = make_run("m", "lab.mesh")
    assert orch("cancel", "--all", "lab.sim", "--json") == 0
    shown = capsys.readouterr()
    assert len(json.loads(shown.out)["cancelled"]) == 60
    assert shown.err == "orch: 60 runs have ended\n"
    assert lab.runs["m"]["state"] == "queued"
    assert orch("cancel", "--all", "lab.sim") == 0
    assert capsys.readouterr().err == "orch: nothing to cancel\n"
    assert orch("cancel") == 2


def test_a_cancelled_run_is_awaited(lab: FakeDaemon, orch: Orch, capsys: Capture) -> None:
    def slowly(_daemon: FakeDaemon, params: dict[str, Any]) -> dict[str, Any]:
        return {"cancelled": params["ids"], "unchanged": []}

    lab.runs["1"] = make_run("1", state="running")
    lab.answers["cancel"] = slowly
    assert orch("cancel", "1", "--no-wait") == 0
    assert orch("cancel", "1", "--wait-timeout", "50ms") == 1
    assert "not finished after 50ms: lab.sim/1 running" in capsys.readouterr().err

    def work() -> None:
        lab.until_asked("runs", 2)
        lab.change_run("1", state="cancelled")

    with meanwhile(work):
        assert orch("cancel", "1") == 0


# ------------------------------------------------------------------ runs in other verbs


def test_logs_of_a_run_are_its_output(
    lab: FakeDaemon, orch: Orch, capfdbinary: pytest.CaptureFixture[bytes], world: Path
) -> None:
    (world / "output").write_text("one\ntwo\n0\n")
    lab.change_run("1", **SUCCEEDED, output=str(world / "output"))
    assert orch("logs", "lab.sim/1") == 0
    shown = capfdbinary.readouterr().out
    assert shown == b"lab.sim/1  | one\nlab.sim/1  | two\nlab.sim/1  | 0\n"
    assert orch("logs", "1", "-n", "1", "--no-prefix") == 0
    assert capfdbinary.readouterr().out == b"0\n"
    assert orch("logs", "1", "-f", "--no-prefix") == 0, "a run that has ended is not awaited"
    assert capfdbinary.readouterr().out == b"one\ntwo\n0\n"
    assert orch("logs", "lab.sim/2") == 1
    assert b"there is no run '2'" in capfdbinary.readouterr().err
    assert orch("logs", "wbe") == 1
    assert b"did you mean 'web" in capfdbinary.readouterr().err


def test_logs_follow_a_run_to_its_end_through_the_death_of_the_daemon(
    lab: FakeDaemon, world: Path
) -> None:
    output = world / "r" / "output"
    lab.change_run("1", why="waits")
    out = world / "followed"
    with out.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "orchestrator", "logs", "-f", "--no-prefix", "1"],
            env={"PYTHONPATH": str(ROOT), "XDG_RUNTIME_DIR": str(world / "run")},
            cwd=world, stdout=file, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    lab.until_asked("runs", 2)
    output.parent.mkdir()
    output.write_text("one\n")
    lab.change_run("1", state="running", output=str(output))
    eventually(lambda: out.read_bytes() == b"one\n")
    lab.hang_up()
    lab.until_asked("runs", 3)
    with output.open("a") as file_:
        file_.write("two\n\n0\n")
    lab.change_run("1", **SUCCEEDED)
    assert process.wait(30) == 0
    assert out.read_bytes() == b"one\ntwo\n\n0\n"


def test_logs_of_a_run_are_there_without_a_daemon(
    orch: Orch, capfdbinary: pytest.CaptureFixture[bytes], world: Path
) -> None:
    record = world / ".orch" / "data" / "runs" / "1"
    record.mkdir(parents=True)
    (record / "order.json").write_text(json.dumps({"run_dir": str(world)}))
    (world / "output").write_text("one\n0\n")
    assert orch("logs", "1") == 0
    assert capfdbinary.readouterr().out == b"1  | one\n1  | 0\n"


def test_events_tell_of_runs_too(lab: FakeDaemon, orch: Orch, capsys: Capture) -> None:
    lab.change_run("1")

    def work() -> None:
        lab.until_asked("runs")
        lab.change_run("1", state="running", progress=0.1)
        lab.change_run("1", state="running", progress=0.2)
        lab.change_run("1", **FAILED)
        lab.publish({"kind": "run-removed", "id": "1"})
        lab.stop()

    with meanwhile(work):
        assert orch("events") == 0
    lines = [line.split("  ", 1)[1] for line in capsys.readouterr().out.splitlines()]
    assert [" ".join(line.split()) for line in lines] == [
        "lab.sim/1 running", "lab.sim/1 failed exit 3", "orch stopped told to",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("word", "seen"),
    [
        ("lab.sim", ["lab.sim/1"]),
        ("lab", ["lab.sim/1", "lab.mesh/2"]),
        ("lab.mesh/2", ["lab.mesh/2"]),
        ("web", ["web.web"]),
    ],
)
def test_events_are_of_what_was_named(
    word: str, seen: list[str], lab: FakeDaemon, orch: Orch, capsys: Capture
) -> None:
    lab.runs["1"] = make_run("1")
    lab.runs["2"] = make_run("2", "lab.mesh")

    def work() -> None:
        lab.until_watched()
        lab.until_asked("runs", 1 + (word == "lab.mesh/2"))
        lab.change_run("1", **SUCCEEDED)
        lab.change_run("2", **SUCCEEDED)
        lab.change("web.web", phase="stopping")
        lab.stop()

    with meanwhile(work):
        assert orch("events", word, "--json") == 0
    first, *items = map(json.loads, capsys.readouterr().out.splitlines())
    assert [row["name"] for row in first["runs"]] == [n for n in seen[::-1] if n != "web.web"]
    names = [
        (item.get("run") or item.get("row"))["name"] for item in items if item["kind"] != "system"
    ]
    assert names == seen


def test_status_tells_all_about_a_run(lab: FakeDaemon, orch: Orch, capsys: Capture) -> None:
    lab.change_run("1", state="running", pid=7)
    assert orch("status", "lab.sim/1") == 0
    assert capsys.readouterr().out.startswith("lab.sim/1\n  state      running\n")
    lab.change_run("1", **SUCCEEDED, pid=None)
    assert orch("status", "1", "web", "--json") == 3
    told = json.loads(capsys.readouterr().out)
    assert [one["run"]["id"] for one in told["runs"]] == ["1"]
    assert [row["name"] for row in told["instances"]] == ["web.web"]
    assert orch("status", "nobody") == 4


def test_explain_goes_through_the_runs_before(
    lab: FakeDaemon, orch: Orch, capsys: Capture, world: Path
) -> None:
    (world / "output").write_text("no mesh\n3\n")
    first = {"id": "1", "condition": "succeeded", "state": "queued"}
    lab.runs["1"] = make_run("1", why="2 of 2 runs of lab.sim are running")
    lab.runs["2"] = make_run("2", after=[first], why="waits for lab.sim/1")
    assert orch("explain", "lab.sim/2") == 0
    assert capsys.readouterr().out == (
        "lab.sim/2 is queued, because lab.sim/1 is queued: 2 of 2 runs of lab.sim are running\n"
    )
    lab.change_run("1", **FAILED, output=str(world / "output"))
    lab.change_run("2", state="failed", result="dependency", after=[{**first, "state": "failed"}])
    assert orch("explain", "2") == 0
    assert capsys.readouterr().out == (
        "lab.sim/2 is failed, because lab.sim/1 is failed: exit 3\n"
        f"The end of {world}/output:\n    no mesh\n    3\n"
    )
    assert orch("explain", "2", "--json") == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert (told["name"], told["run"]["id"]) == ("lab.sim/2", "1")
    met = [{"id": "1", "condition": "completed", "state": "failed"}]
    lab.change_run("2", state="queued", result=None, after=met, why="3 are before it")
    assert orch("explain", "2") == 0
    assert capsys.readouterr().out == "lab.sim/2 is queued: 3 are before it\n"


def test_wait_is_over_when_the_runs_are(lab: FakeDaemon, orch: Orch, capsys: Capture) -> None:
    lab.runs["1"] = make_run("1", state="running")
    lab.runs["2"] = make_run("2", **SUCCEEDED)

    def work() -> None:
        lab.until_asked("runs", 3)
        lab.change_run("1", **FAILED)

    with meanwhile(work):
        assert orch("wait", "lab.sim/1", "2") == 1
    assert capsys.readouterr().err == "orch: lab.sim/1 failed: exit 3\n"
    assert orch("wait", "2", "1", "--for", "exit") == 3
    assert capsys.readouterr().out == "lab.sim/2 0\nlab.sim/1 3\n"
    assert orch("wait", "2", "--json") == 0
    assert json.loads(capsys.readouterr().out) == [lab.runs["2"]]
    assert orch("wait", "2", "web") == 2
    lab.change_run("3")
    assert orch("wait", "3", "--timeout", "50ms") == 1
    assert "not finished after 50ms: lab.sim/3 queued" in capsys.readouterr().err
