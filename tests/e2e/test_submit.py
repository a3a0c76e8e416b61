"""Runs as users have them: by the command and by the client, to their end, whoever dies."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from orchestrator.client import AsyncJobs, Jobs
from orchestrator.component import ServiceParamTemplate
from orchestrator.errors import DaemonUnreachable, RequestFailed, UnknownName
from tests.e2e.scenario import Scenario, eventually, exits, nothing_runs, orch, says
from tests.e2e.test_output import fits

LONG = 60.0
"""What a test waits for comes; on a busy machine it takes its time."""

GATE = "echo begun; while [ ! -e {gate} ]; do sleep 0.02; done; echo done; exit {code}"

HANDLER = """
def before_watch_callback(instance):
    instance.set_progress(0.25, text="a quarter")


def after_watch_callback(file_list, instance):
    instance.set_state(files=sorted(file_list), code=instance.exit_code)
"""


class Lab:
    """A system with jobs whose ends the test decides."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        scenario.write(HANDLER, "handler.py")
        gate = scenario.root / "gate"
        self.gate = gate
        say = ["/bin/sh", "-c", 'echo "$0" "$@" >out.dat; cat out.dat', "said"]
        scenario.services(
            {
                "lab": {
                    "jobs": {
                        "say": {"command": say, "handler": "handler.py"},
                        "fail": {"command": ["/bin/sh", "-c", "echo no mesh >&2; exit 3"]},
                        "gate": {
                            "command": ["/bin/sh", "-c", GATE.format(gate=gate, code=0)],
                            "handler": "handler.py",
                            "concurrency": 1,
                            "stop": {"timeout": "30s"},
                        },
                        "strict": {"command": ["true"], "required": ["g_input_file"]},
                    }
                }
            },
            job_concurrency=4,
        )
        scenario.step("up", orch("up", "-d"), exits(0))

    def open(self) -> None:
        """Let the runs of `gate` end."""
        self.gate.touch()

    def kill_daemon(self) -> None:
        """Kill the daemon; its keeper starts another."""
        os.kill(int(self.scenario.daemon()["pid"]), signal.SIGKILL)

    def runs(self, *words: str) -> list[dict[str, Any]]:
        """Return the rows of `orch runs`."""
        rows: list[dict[str, Any]] = self.scenario.run("runs", "--json", *words).json()
        return rows

    def until(self, number: str, **wanted: object) -> None:
        """Wait until a run has these values."""

        def look() -> bool:
            with contextlib.suppress(RequestFailed), self.jobs() as jobs:
                row: Mapping[str, object] = {**jobs.run(number).row}
                return all(row[name] == value for name, value in wanted.items())
            return False

        eventually(look, within=LONG)

    def jobs(self) -> Jobs:
        """Return a client; who takes it closes it."""
        environment = self.scenario.environment
        return Jobs(self.scenario.topology, environment=environment, patience=LONG)


@pytest.fixture
def lab(scenario: Scenario) -> Iterator[Lab]:
    made = Lab(scenario)
    yield made
    made.open()


def test_a_run_is_submitted_awaited_and_shown(lab: Lab) -> None:
    done = lab.scenario.step(
        "it succeeds",
        orch("submit", "say", "--arg", "to=all", "-p", "mesh=3", "--id", "one", "--wait", "-v"),
        exits(0), says("one\n", r"lab\.say/one  running  a quarter", r"lab\.say/one  succeeded"),
    )  # fmt: skip
    assert done.out == "one\n"
    shown = lab.scenario.run("runs", "show", "one").text
    assert '"g_service_id": "one"' in shown
    assert '"mesh": 3' in shown
    assert '"code": 0' in shown
    logged = lab.scenario.run("logs", "lab.say/one", "--no-prefix")
    assert logged.out == "said to=all\n\n0"
    failed = lab.scenario.step(
        "it fails", orch("submit", "lab.fail", "--wait", "-q"), exits(1), says("no mesh")
    )
    assert "exit code 3" in failed.err
    table = lab.scenario.run("runs").out.splitlines()
    assert [line.split()[:2] for line in table[2:]] == [["lab.say/one", "succeeded"]]
    assert table[1].split()[1] == "failed"


def test_a_foreground_up_tells_of_runs_and_stays_for_them(scenario: Scenario) -> None:
    jobs = {"say": {"command": ["/bin/sh", "-c", "echo hello; exit 3"]}}
    scenario.services({"lab": {"jobs": jobs}})
    up = scenario.start("up")
    # Before it has applied, there is no such job yet.
    eventually(
        lambda: "exit code 3" in scenario.run("submit", "lab.say", "--id", "a", "--wait").err
    )
    eventually(lambda: "lab.say/a  failed  exit code 3" in up.err, within=LONG)
    up.interrupt()
    assert up.wait(LONG).code == 130


def test_mistakes_are_told_before_anything_is_queued(lab: Lab) -> None:
    for words, told in (
        (("lab.sya",), "did you mean 'lab.say'"),
        (("lab.strict", "-p", "watcher_enabled=3"), "it lacks g_input_file"),
        (("lab.strict", "-p", "watcher_enabled=3"), "o_watcher_enabled must be true or false"),
        (("lab.say", "--after", "nobody"), "there is no run or job 'nobody'"),
    ):
        lab.scenario.step("refused", orch("submit", *words), exits(1), says(told))
    lab.scenario.step("unknown", orch("runs", "show", "nobody"), exits(1), says("no run 'nobody'"))
    lab.scenario.step("unknown", orch("cancel", "nobody"), exits(1), says("no run 'nobody'"))
    lab.scenario.step("unknown", orch("status", "nobody"), exits(4))
    assert lab.runs() == []


def test_what_json_prints_of_runs_has_its_shape(lab: Lab) -> None:
    events = lab.scenario.start("events", "--json")
    eventually(lambda: events.out_has("snapshot"), within=LONG)
    fits(lab.scenario.run("submit", "lab.gate", "--id", "a", "--json").json(), "run")
    fits(lab.scenario.run("submit", "gate", "--id", "b", "--after", "a", "--json").json(), "run")
    lab.until("a", state="running")
    fits(lab.scenario.run("submit", "--list", "--json").json(), "jobs")
    fits(lab.runs(), "runs")
    fits(lab.scenario.run("explain", "b", "--json").json(), "explain")
    fits(lab.scenario.run("runs", "show", "a", "b", "--json").json(), "runs_show")
    fits(lab.scenario.run("status", "a", "--json").json(), "status")
    followed = lab.scenario.start("runs", "--follow", "--json")
    eventually(lambda: followed.out_has("lab.gate/b"), within=LONG)
    lab.open()
    for line in followed.wait(LONG).out.splitlines():
        fits(json.loads(line), "run")
    fits(lab.scenario.run("submit", "lab.fail", "--wait", "--json").json(), "run")
    fits(lab.scenario.run("cancel", "a", "--json").json(), "cancel")
    for line in lab.scenario.run("logs", "a", "--json").out.splitlines():
        fits(json.loads(line), "log")
    lab.scenario.step("down", orch("down"), exits(0))
    lines = [json.loads(line) for line in events.wait(LONG).out.splitlines()]
    assert {line["kind"] for line in lines} == {"snapshot", "run", "system"}
    for line in lines:
        fits(line, "event")
    states = [line["run"]["state"] for line in lines if line.get("run", {}).get("id") == "b"]
    assert [states[0], states[-1]] == ["queued", "succeeded"]


def test_a_queued_run_says_what_it_waits_for_and_is_cancelled(lab: Lab) -> None:
    for number in ("a", "b", "c"):
        lab.scenario.run("submit", "lab.gate", "--id", number)
    lab.until("a", state="running")
    lab.scenario.step(
        "why", orch("explain", "lab.gate/c"), exits(0),
        says("lab.gate/c is queued: waits for room: 1 of 1 runs of lab.gate; 1 before it"),
    )  # fmt: skip
    lab.scenario.step("status", orch("status", "a"), exits(0), says(r"pid \d+"))
    lab.scenario.step("status", orch("status", "c"), exits(3))
    lab.scenario.step("one", orch("cancel", "c"), exits(0), says(r"lab\.gate/c  cancelled"))
    lab.scenario.step("all", orch("cancel", "--all", "lab.gate"), exits(0))
    assert {row["state"] for row in lab.runs()} == {"cancelled"}
    lab.scenario.step(
        "again", orch("cancel", "a"), exits(0), says("a: it had ended already")
    )  # fmt: skip


def test_logs_follow_a_run_from_its_queue_to_its_end(lab: Lab) -> None:
    lab.scenario.run("submit", "lab.gate", "--id", "a")
    lab.scenario.run("submit", "lab.gate", "--id", "b")
    logs = lab.scenario.start("logs", "-f", "--no-prefix", "b")
    lab.until("a", state="running")
    lab.open()
    done = logs.wait(LONG)
    assert (done.code, done.out) == (0, "begun\ndone\n\n0")
    lab.scenario.step("down", orch("down"), exits(0))
    offline = lab.scenario.run("logs", "--no-prefix", "b")
    assert offline.out == "begun\ndone\n\n0"


def test_a_command_that_waits_goes_on_with_the_next_daemon(lab: Lab) -> None:
    waiting = lab.scenario.start("submit", "lab.gate", "--id", "a", "--wait")
    lab.until("a", state="running")
    lab.kill_daemon()
    lab.until("a", state="running")
    lab.scenario.step("and one that becomes another", orch("upgrade"), exits(0))
    lab.open()
    done = waiting.wait(LONG)
    assert (done.code, done.out) == (0, "a\n"), str(done)
    lab.scenario.step("once", orch("logs", "a", "--no-prefix"), says(r"^begun\ndone\n\n0$"))


def test_a_client_chains_and_joins_runs_through_the_death_of_the_daemon(lab: Lab) -> None:
    with lab.jobs() as jobs:
        slow = jobs.submit("gate")
        other = jobs.submit("lab.say", {"mesh": "fine"}, args={"n": 7})
        joined = jobs.submit("say", after=[slow, other])
        repair = jobs.submit("say", after=[{slow.id: "failed"}])
        assert other.wait(LONG).succeeded
        assert other.path("out.dat").read_text(encoding="utf-8") == "said n=7\n"
        assert other.custom == {"files": ["out.dat", "output"], "code": 0}
        assert other.template["mesh"] == "fine"
        seen = []
        for row in joined.events(LONG):
            seen.append(row["state"])
            if len(seen) == 1:
                assert row["why"] == f"waits for {slow.row['name']}"
                lab.until(slow.id, state="running")
                lab.kill_daemon()
                lab.open()
        assert (seen[0], seen[-1]) == ("queued", "succeeded")
        assert slow.refresh().exit_code == 0
        assert repair.wait(LONG).row["result"] == "dependency"
        assert [run.state for run in jobs.wait(slow.id, joined.id, timeout=LONG)] == [
            "succeeded", "succeeded",
        ]  # fmt: skip
        assert [run.id for run in jobs.runs(states=["failed"])] == [repair.id]


def test_a_client_loops_until_a_condition_holds(lab: Lab) -> None:
    """A, B, and as long as the condition does not hold A again: the seed's own flow."""
    lab.open()
    with lab.jobs() as jobs:
        for turn in range(1, 4):
            first = jobs.submit("lab.say", args={"turn": turn}).wait(LONG)
            said = first.path("out.dat").read_text(encoding="utf-8")
            second = jobs.submit("lab.say", args={"heard": said.split()[-1]}).wait(LONG)
            if second.path("out.dat").read_text(encoding="utf-8").endswith("turn=3\n"):
                break
        assert turn == 3
        assert len(jobs.runs("lab.say")) == 6


class Mine(ServiceParamTemplate):
    """A template as a user has it in a script of their own."""

    mesh = Decimal("0.1")

    def __init__(self, sample: str) -> None:
        super().__init__(input_file="handler.py", output_file="out.dat")
        self.s_service_name = "say"
        self.sample = sample
        self.since = datetime(2026, 11, 22, tzinfo=UTC)
        self.set_service_param({"sample": sample})


def test_a_template_of_a_subclass_is_sent_and_travels_as_plain_data(lab: Lab) -> None:
    with lab.jobs() as jobs:
        run = jobs.send(Mine("copper")).wait(LONG)
        assert run.succeeded, run.message
        assert run.path("out.dat").read_text(encoding="utf-8") == "said sample=copper\n"
        assert run.path("handler.py").exists(), "it is the input file"
        assert run.template["sample"] == "copper"
        assert run.template["since"] == {
            "__datetime__": True,
            "as_str": "2026-11-22T00:00:00+00:00",
        }
        with pytest.raises(UnknownName, match="unknown name 'sya'"):
            jobs.send({"s_service_name": "sya"})


def test_what_is_submitted_twice_is_one_run(lab: Lab) -> None:
    with lab.jobs() as jobs:
        first = jobs.submit("lab.say", {"mesh": 3}, args={"n": 7}, id="one")
        assert jobs.submit("lab.say", {"mesh": 3}, args={"n": 7}, id="one").id == first.id
        first.wait(LONG)
        assert jobs.submit("say", {"mesh": 3}, args={"n": 7}, id="one").succeeded
        with pytest.raises(RequestFailed, match="there is a run 'one' already"):
            jobs.submit("lab.say", {"mesh": 4}, args={"n": 7}, id="one")
        assert len(jobs.runs()) == 1


async def test_many_runs_are_awaited_at_once_through_the_death_of_the_daemon(lab: Lab) -> None:
    environment = lab.scenario.environment
    async with AsyncJobs(lab.scenario.topology, environment=environment, patience=LONG) as jobs:
        slow = await jobs.submit("gate")
        quick = [await jobs.submit("say", args={"n": n}) for n in range(5)]

        async def trouble() -> None:
            await asyncio.to_thread(lab.until, slow.id, state="running")
            await asyncio.to_thread(lab.kill_daemon)
            late = await jobs.submit("say", args={"n": "late"})
            assert (await late.wait(LONG)).succeeded
            lab.open()

        ended = await asyncio.gather(
            trouble(), slow.wait(LONG), jobs.wait(*(run.id for run in quick), timeout=LONG)
        )
        assert slow.succeeded
        assert all(run.succeeded for run in ended[2])


def test_who_waits_is_told_when_the_system_stops(lab: Lab) -> None:
    with lab.jobs() as jobs:
        lab.scenario.run("submit", "lab.gate", "--id", "a")
        lab.scenario.run("submit", "lab.gate", "--id", "b")
        events = jobs.run("b").events(LONG)
        assert next(events)["state"] == "queued"
        lab.scenario.step("down", orch("down"), exits(0), nothing_runs)
        with pytest.raises(DaemonUnreachable, match=r"the system was stopped: lab\.gate/b queued"):
            list(events)
    lab.open()
    lab.scenario.step("up", orch("up", "-d"), exits(0))
    lab.until("b", state="succeeded")


def test_the_shell_completes_jobs_and_runs(lab: Lab, tmp_path: Path) -> None:
    lab.scenario.run("submit", "lab.gate", "--id", "a")
    script = tmp_path / "completion"
    script.write_text(lab.scenario.run("completion", "bash").out)

    def complete(*words: str) -> list[str]:
        typed = " ".join(f"'{word}'" for word in words)
        code = (
            f"source {script}; COMP_WORDS=({typed}); COMP_CWORD={len(words) - 1}; _orch; "
            'printf "%s\\n" "${COMPREPLY[@]}"'
        )
        return lab.scenario.command(["bash", "-c", code]).out.split()

    assert complete("orch", "submit", "lab.s") == ["lab.say", "lab.strict"]
    assert complete("orch", "cancel", "") == ["a"]
    assert "show" in complete("orch", "runs", "")
