"""Runs of jobs as the daemon keeps them: accepted, queued, supervised, tried again, kept."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from orchestrator.client.jobs import Jobs, Run
from orchestrator.errors import RequestFailed
from tests.e2e import processes
from tests.e2e.clock import WallClock
from tests.e2e.scenario import Scenario, bad, exits, orch, says
from tests.e2e.test_daemon_death import kill_daemon
from tests.e2e.test_limits import needs_groups

SOON = {"initial": "50ms", "jitter": 0}
LONG = 60.0


class Lab:
    """A system of jobs, and a client of it."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self._jobs: Jobs | None = None

    def up(self, jobs: Mapping[str, Any], **more: Any) -> Jobs:
        self.scenario.services({"lab": {"jobs": jobs}}, **more)
        self.scenario.step("up", orch("up", "-d"), exits(0))
        return self.jobs

    @property
    def jobs(self) -> Jobs:
        if self._jobs is None:
            environment = self.scenario.environment
            self._jobs = Jobs(self.scenario.topology, environment=environment, patience=LONG)
        return self._jobs

    def close(self) -> None:
        if self._jobs is not None:
            self._jobs.close()
            self._jobs = None

    def state(self, run: Run, *states: str) -> Run:
        """Wait until a run is in one of the states."""
        self.scenario.until(lambda: run.refresh().state in states, within=LONG)
        return run


@pytest.fixture
def lab(scenario: Scenario) -> Iterator[Lab]:
    made = Lab(scenario)
    yield made
    made.close()


def is_back(scenario: Scenario, old: int) -> bool:
    """Tell whether another daemon than the old one answers."""
    outcome = scenario.run("status", "--json")
    return outcome.code == 0 and outcome.json()["daemon"]["pid"] != old


def shell(text: str) -> list[str]:
    return ["sh", "-c", text]


def output(run: Run) -> str:
    return Path(str(run.row["output"])).read_text()


def test_a_run_has_a_directory_an_output_and_an_exit_code(lab: Lab) -> None:
    jobs = lab.up({"say": {"command": shell('echo "$0"; pwd; echo oh >&2; exit 3')}})
    run = jobs.submit("lab.say", args={"word": "it's $HOME"}).wait(LONG)
    assert (run.state, run.row["result"], run.row["exit_code"]) == ("failed", "exit-code", 3)
    directory = lab.scenario.base / "runs" / "lab-say" / run.id
    assert run.row["run_dir"] == str(directory)
    assert output(run) == f"word=it's $HOME\n{directory}\noh\n\n3"


def test_what_is_wrong_with_a_submit_is_told_at_once(lab: Lab) -> None:
    jobs = lab.up(
        {
            "sim": {"command": "true", "required": ["input_file", "seed"]},
            "fit": {"command": "true", "after": ["sim"]},
        }
    )
    with pytest.raises(RequestFailed, match=r"no job 'lab.smi'.*did you mean"):
        jobs.submit("lab.smi")
    with pytest.raises(RequestFailed, match="it lacks g_input_file, seed"):
        jobs.submit("lab.sim", {"seed": None})
    with pytest.raises(RequestFailed, match=r"follows lab\.sim, of which there is no run"):
        jobs.submit("lab.fit")
    with pytest.raises(RequestFailed, match=r"g_input_file must be text.*cannot be the id"):
        jobs.submit("lab.sim", {"g_service_id": "No Good", "input_file": 3, "seed": 1})
    assert not jobs.rows()
    given = {"g_service_id": "mine", "g_input_file": "", "seed": 1}
    with pytest.raises(RequestFailed, match="it lacks g_input_file"):
        jobs.submit("lab.sim", given)


def test_chains_fan_in_and_branches(lab: Lab) -> None:
    jobs = lab.up(
        {
            "part": {"command": shell('exit "$${0#code=}"')},
            "join": {"command": "true"},
            "rescue": {"command": "true"},
        }
    )
    good = [jobs.submit("lab.part", args={"code": 0}) for _ in range(3)]
    bad = jobs.submit("lab.part", args={"code": 1})
    joined = jobs.submit("lab.join", after=[run.id for run in good])
    last = jobs.submit("lab.join", after=[joined.id])
    fallen = jobs.submit("lab.join", after=[good[0].id, bad.id])
    rescued = jobs.submit("lab.rescue", after=[{bad.id: "failed"}])
    assert last.wait(LONG).state == "succeeded"
    assert rescued.wait(LONG).state == "succeeded"
    assert (fallen.wait(LONG).state, fallen.row["result"]) == ("failed", "dependency")
    assert fallen.row["started_at"] is None
    ends = [str(run.refresh().row["ended_at"]) for run in good]
    assert max(ends) <= str(joined.refresh().row["started_at"])


def test_priority_and_concurrency_decide_who_begins(lab: Lab) -> None:
    trigger = lab.scenario.root / "go"
    wait = shell(f"while ! test -e {trigger}; do sleep 0.02; done")
    jobs = lab.up(
        {"gate": {"command": wait}, "one": {"command": "true", "concurrency": 1}},
        job_concurrency=1,
    )
    gate = lab.state(jobs.submit("lab.gate"), "running")
    late = jobs.submit("lab.one")
    soon = jobs.submit("lab.one", priority=5)
    assert [jobs.rows([run.id])[0]["position"] for run in (soon, late)] == [0, 1]
    trigger.touch()
    for run in (gate, soon, late):
        run.wait(LONG)
    began = [str(run.refresh().row["started_at"]) for run in (gate, soon, late)]
    assert began == sorted(began)


def test_a_failure_is_tried_again_in_the_same_directory(lab: Lab) -> None:
    program = 'echo "try"; if mkdir first 2>/dev/null; then exit 4; fi'
    jobs = lab.up({"shy": {"command": shell(program), "retries": {"limit": 3, "backoff": SOON}}})
    run = jobs.submit("lab.shy").wait(LONG)
    assert (run.state, run.row["attempt"], run.row["attempts"]) == ("succeeded", 2, 4)
    assert output(run) == "try\n\n0"
    assert Path(f"{run.row['output']}.1").read_text() == "try\n\n4"


def test_a_run_that_is_cancelled_or_late_leaves_no_process(lab: Lab) -> None:
    hidden = "setsid sh -c 'trap \"\" TERM; while :; do sleep 0.1; done' & wait"
    stop = {"timeout": "1s"}
    jobs = lab.up(
        {
            "deep": {"command": shell(hidden), "stop": stop},
            "late": {"command": shell(hidden), "stop": stop, "timeout": "1s"},
        }
    )
    deep, late = jobs.submit("lab.deep"), jobs.submit("lab.late")
    lab.state(deep, "running")
    assert deep.cancel()
    assert deep.wait(LONG).state == "cancelled"
    assert (late.wait(LONG).state, late.row["result"]) == ("failed", "timeout")
    assert not [p for p in lab.scenario.processes() if "trap" in p.command]
    assert not deep.cancel()


@needs_groups
def test_a_program_that_uses_more_memory_than_it_may_is_told_of(lab: Lab) -> None:
    jobs = lab.up({"eat": {"command": bad("--eat", 300 << 20), "memory": "64MiB"}})
    run = jobs.submit("lab.eat").wait(LONG)
    assert (run.state, run.row["result"]) == ("failed", "oom-kill")


def test_a_worker_killed_takes_its_program_along_and_is_told_of(lab: Lab) -> None:
    jobs = lab.up({"slow": {"command": "sleep 1000"}})
    run = lab.state(jobs.submit("lab.slow"), "running")
    os.kill(int(run.row["pid"] or 0), signal.SIGKILL)
    assert (run.wait(LONG).state, run.row["result"]) == ("failed", "lost")
    assert not [p for p in lab.scenario.processes() if p.command.startswith("sleep")]


def test_runs_outlive_the_daemon(lab: Lab) -> None:
    """One runs, one has ended meanwhile, one waits, one is cancelled; nothing happens twice."""
    root = lab.scenario.root
    wait = f'echo "$ORCH_RUN_ID" >> {root}/began; while ! test -e {root}/go; do sleep 0.02; done'
    jobs = lab.up(
        {"slow": {"command": shell(f"echo begin; {wait}; echo end; exit 5")}}, job_concurrency=2
    )
    first, second, third = (jobs.submit("lab.slow") for _ in range(3))
    lab.state(first, "running")
    lab.state(second, "running")
    pid = first.row["pid"]
    cancelled = jobs.submit("lab.slow")
    cancelled.cancel()
    old = kill_daemon(lab.scenario)
    lab.scenario.until(lambda: is_back(lab.scenario, old), within=LONG)
    assert first.refresh().row["pid"] == pid
    assert (third.refresh().state, cancelled.refresh().state) == ("queued", "cancelled")
    lab.scenario.until(lambda: len((root / "began").read_text().split()) == 2)
    (root / "go").touch()
    for run in (first, second, third):
        assert (run.wait(LONG).state, run.row["exit_code"]) == ("failed", 5)
        assert output(run) == "begin\nend\n\n5"
    began = (root / "began").read_text().split()
    assert sorted(began) == sorted(run.id for run in (first, second, third))
    assert cancelled.refresh().state == "cancelled"


def test_down_stops_runs_and_the_next_up_goes_on_with_the_queue(lab: Lab) -> None:
    trigger = lab.scenario.root / "go"
    wait = shell(f"while ! test -e {trigger}; do sleep 0.02; done")
    described = {
        "once": {"command": wait},
        "again": {"command": wait, "retries": 1},
        "next": {"command": "true"},
    }
    jobs = lab.up(described, job_concurrency=2)
    once, again = jobs.submit("lab.once"), jobs.submit("lab.again")
    waiting = jobs.submit("lab.next")
    lab.state(once, "running")
    lab.state(again, "running")
    lab.scenario.step("down", orch("down"), exits(0))
    lab.scenario.until(lambda: not lab.scenario.processes())
    lab.close()
    trigger.touch()
    lab.scenario.step("up", orch("up", "-d"), exits(0))
    jobs = lab.jobs
    rows = {row["id"]: row for row in jobs.rows()}
    assert (rows[once.id]["state"], rows[once.id]["result"]) == ("failed", "requested")
    jobs.wait(again.id, waiting.id, timeout=LONG)
    rows = {row["id"]: row for row in jobs.rows()}
    assert {rows[run.id]["state"] for run in (again, waiting)} == {"succeeded"}
    assert rows[again.id]["attempt"] == 2


def test_an_upgrade_keeps_runs_and_who_follows_them(lab: Lab) -> None:
    trigger = lab.scenario.root / "go"
    jobs = lab.up({"slow": {"command": shell(f"while ! test -e {trigger}; do sleep 0.02; done")}})
    run = lab.state(jobs.submit("lab.slow"), "running")
    events = run.events(LONG)
    assert next(events)["state"] == "running"
    lab.scenario.step("upgrade", orch("upgrade"), exits(0))
    trigger.touch()
    assert [row["state"] for row in events][-1] == "succeeded"
    assert run.refresh().row["attempt"] == 1


def test_changed_jobs_are_for_new_runs_and_changed_code_too(lab: Lab) -> None:
    trigger = lab.scenario.root / "go"
    program = lab.scenario.write("#!/bin/sh\ncat word\n", "program.sh")
    program.chmod(0o755)

    def write(word: str) -> None:
        lab.scenario.write(
            f"""\
            import pathlib

            def build():
                pathlib.Path("word").write_text("{word}")
            """,
            "service.py",
        )

    write("old")
    described = {
        "gate": {"command": shell(f"while ! test -e {trigger}; do sleep 0.02; done")},
        "tell": {"program": "program.sh", "service": "service.py"},
    }
    jobs = lab.up(described, job_concurrency=1)
    jobs.submit("lab.gate")
    old = jobs.submit("lab.tell")
    write("new")
    new = jobs.submit("lab.tell")
    lab.scenario.write("def build(:\n", "service.py")
    with pytest.raises(RequestFailed, match=r"service.py:1.*SyntaxError"):
        jobs.submit("lab.tell")
    last = jobs.submit("lab.tell", last_good=True)
    trigger.touch()
    words = [output(run.wait(LONG)).split("\n")[0] for run in (old, new, last)]
    assert words == ["old", "new", "new"]


def test_only_as_many_runs_are_kept_as_are_to_be(lab: Lab) -> None:
    trigger = lab.scenario.root / "go"
    wait = f"while ! test -e {trigger}; do sleep 0.02; done"
    jobs = lab.up(
        {
            "short": {"command": "true", "keep": {"count": 2}},
            "slow": {"command": shell(wait), "keep": {"count": 0}},
        },
        job_concurrency=4,
    )
    slow = jobs.submit("lab.slow")
    needed = jobs.submit("lab.short").wait(LONG)
    follower = jobs.submit("lab.short", after=[slow.id, needed.id])
    runs = [jobs.submit("lab.short").wait(LONG) for _ in range(4)]
    directory = lab.scenario.base / "runs" / "lab-short"
    kept = {needed.id, runs[-2].id, runs[-1].id}
    lab.scenario.until(lambda: {p.name for p in directory.iterdir()} == kept, within=LONG)
    assert slow.refresh().state == "running"
    trigger.touch()
    follower.wait(LONG)
    kept = {follower.id, runs[-1].id}
    lab.scenario.until(lambda: {p.name for p in directory.iterdir()} == kept, within=LONG)
    records = lab.scenario.base / "data" / "runs"
    lab.scenario.until(lambda: {p.name for p in records.iterdir()} == kept, within=LONG)
    # They are forgotten when their directories are gone.
    lab.scenario.until(lambda: {row["id"] for row in jobs.rows()} == kept, within=LONG)


def test_old_and_large_runs_go(lab: Lab) -> None:
    big = shell("head -c 1000000 /dev/zero > data")
    jobs = lab.up(
        {
            "big": {"command": big, "keep": {"size": "1500KB"}},
            "brief": {"command": "true", "keep": "1s"},
        }
    )
    first, last = (jobs.submit("lab.big").wait(LONG) for _ in range(2))
    jobs.submit("lab.brief").wait(LONG)
    lab.scenario.until(lambda: [row["id"] for row in jobs.rows()] == [last.id], within=LONG)
    assert Path(str(last.row["run_dir"])).is_dir()
    assert not Path(str(first.row["run_dir"])).exists()


def test_a_run_is_submitted_by_the_clock(lab: Lab) -> None:
    WallClock(lab.scenario).set_second(51)
    jobs = lab.up({"often": {"command": "true", "schedule": "* * * * *"}})
    lab.scenario.until(jobs.rows, within=90)
    (row,) = jobs.rows()
    lab.scenario.until(lambda: jobs.rows([row["id"]])[0]["state"] == "succeeded", within=LONG)


def test_a_component_and_a_job_live_side_by_side(lab: Lab) -> None:
    """Runs are no instances: they are in no list of those, and `down` knows both."""
    scenario = lab.scenario
    scenario.services(
        {
            "lab": {
                "components": {"web": {"command": "sleep 1000"}},
                "jobs": {"s": {"command": "sleep 1000"}},
            }
        }
    )
    scenario.step("up", orch("up", "-d", "--wait"), exits(0))
    run = lab.state(lab.jobs.submit("lab.s"), "running")
    assert set(scenario.ps()) == {"lab.web"}
    scenario.step("nothing is to be done", orch("up", "--plan"), exits(0), says("keep"))
    began = time.monotonic()
    scenario.step("down", orch("down").within(30), exits(0))
    assert time.monotonic() - began < 25
    assert not processes.is_alive(int(run.row["pid"] or 0))


def test_a_foreground_system_of_jobs_stays_until_it_is_interrupted(lab: Lab) -> None:
    scenario = lab.scenario
    scenario.services({"lab": {"jobs": {"s": {"command": "echo here"}}}})
    foreground = scenario.start("up")
    scenario.until(lambda: scenario.run("status").code == 0, within=LONG)
    assert lab.jobs.submit("lab.s").wait(LONG).state == "succeeded"
    foreground.interrupt()
    assert foreground.wait().code == 130


def test_a_plan_tells_what_changes_about_jobs(lab: Lab) -> None:
    lab.up({"one": {"command": "true"}, "two": {"command": "true"}})
    lab.scenario.services(
        {"lab": {"jobs": {"one": {"command": "false"}, "new": {"command": "true"}}}}
    )
    lab.scenario.step(
        "the plan has a line for each",
        orch("up", "--plan"),
        exits(0),
        says(r"lab.one +update +field command changed, for new runs \(topology.yaml:\d+:\d+\)"),
        says(r"lab.new +create"),
        says(r"lab.two +remove"),
    )
