"""Hooks of jobs under a real daemon: what they say, what they are given, and how they may die."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from orchestrator.component import ServiceParamTemplate
from tests import redis_server
from tests.e2e import processes
from tests.e2e.scenario import Row, Scenario, exits, orch

WITHIN = 60.0
WAITS = "import signal\nprint('here', flush=True)\nsignal.pause()\n"


def system(scenario: Scenario, *, up: bool = True, **more: Any) -> None:
    """Write a system with the job `lab.sim`, and bring it up."""
    job = {"program": "sim.py", "stop": {"timeout": "10s"}, **more.pop("job", {})}
    scenario.services({"lab": {"jobs": {"sim": job}}}, **more)
    if up:
        scenario.step("the system comes up", orch("up", "-d"), exits(0))


def submit(scenario: Scenario, *words: str) -> str:
    return scenario.step("a run is accepted", orch("submit", "sim", *words), exits(0)).out.strip()


def run(scenario: Scenario, run_id: str) -> Row:
    """Return the row of a run."""
    rows = scenario.run("runs", "--json").json()
    return next(row for row in rows if row["id"] == run_id)


def until_run(scenario: Scenario, run_id: str, **wanted: object) -> Row:
    def look() -> Row | None:
        row = run(scenario, run_id)
        return row if all(row[key] == value for key, value in wanted.items()) else None

    found: Row = scenario.until(look, within=WITHIN, saying=f"{run_id} becomes {wanted}")
    return found


def record(scenario: Scenario, run_id: str, name: str) -> Any:
    return json.loads((scenario.base / "data" / "runs" / run_id / name).read_text())


def test_a_template_in_python_is_that_of_the_topology(scenario: Scenario) -> None:
    """The same attributes lead to the same order, wherever they were written."""

    class SimTemplate(ServiceParamTemplate):
        def __init__(self, mesh: str) -> None:
            super().__init__(input_file="in.dat", output_file="out.dat", o_watcher_interal=2)
            self.mesh = mesh
            self.limits = {"low": [1, 2.5], "high": None}
            self.register_param({"time": 5})
            self.set_service_param({"step": 7, "name": "it's"})

    in_python = SimTemplate("fine").to_plain()
    del in_python["s_param_set"]
    scenario.write("numbers", "in.dat")
    scenario.write("pass\n", "sim.py")
    in_yaml = {
        "input_file": "in.dat",
        "output_file": "out.dat",
        "watcher_interval": 2,
        "mesh": "fine",
        "limits": {"low": [1, 2.5], "high": None},
        "s_time": 5,
        "args": {"step": 7, "name": "it's"},
    }
    system(scenario, job={"template": in_yaml})
    scenario.write(json.dumps(in_python), "template.yaml")
    orders = []
    for words in (("--id", "yaml"), ("--id", "python", "--file", "template.yaml")):
        run_id = submit(scenario, *words, "--wait")
        order = record(scenario, run_id, "order.json")
        orders.append({**order["template"], "g_service_id": None, "watcher": order["watcher"]})
    assert orders[0] == orders[1]
    assert orders[0]["mesh"] == "fine"
    assert orders[0]["watcher"]["interval"] == 2


def test_what_hooks_say_can_be_read_by_every_client(scenario: Scenario) -> None:
    scenario.write(WAITS, "sim.py")
    scenario.write(
        """
        class SimHandler:
            def before_watch_callback(self, instance):
                instance.set_progress(3, 4)
                instance.set_state(mesh=instance.param_template.mesh)
        """,
        "handlers/sim_handler.py",
    )
    system(scenario)
    run_id = submit(scenario, "-p", "mesh=fine")
    row = until_run(scenario, run_id, state="running", progress=0.75)
    assert (row["text"], row["custom"]) == ("3 of 4", {"mesh": "fine"})
    scenario.step("it is cancelled", orch("cancel", run_id), exits(0))
    row = until_run(scenario, run_id, state="cancelled")
    assert row["custom"] == {"mesh": "fine"}


def test_broken_code_is_refused_and_the_last_good_one_still_there(scenario: Scenario) -> None:
    scenario.write("import sys\nprint(sys.argv[1:])\n", "sim.py")
    word = "def build():\n    from word import WORD\n    open('word', 'w').write(WORD)\n"
    scenario.write(word, "services/sim.py")
    scenario.write("WORD = 'one'\n", "services/word.py")
    system(scenario)
    first = submit(scenario, "--wait")
    # What is imported by a hook only when it runs is of the code, too.
    scenario.write("WORD = 'two'\n", "services/word.py")
    second = submit(scenario, "--wait")
    broken = scenario.write("def build(:\n", "services/sim.py")
    refused = scenario.run("submit", "sim")
    assert refused.code == 1
    assert f"{broken}:1: " in refused.err
    assert "SyntaxError" in refused.err
    third = submit(scenario, "--last-good", "--wait")
    said = [
        (Path(run(scenario, one)["run_dir"]) / "word").read_text()
        for one in (first, second, third)
    ]
    assert said == ["one", "two", "two"]


def test_a_worker_that_is_killed_leaves_nothing_of_its_program(scenario: Scenario) -> None:
    scenario.write(
        "import os, subprocess, sys, signal\n"
        "endless = [sys.executable, '-c', 'import signal; signal.pause()']\n"
        "one = subprocess.Popen(endless)\n"
        "two = subprocess.Popen(endless, start_new_session=True)\n"
        "print(os.getpid(), one.pid, two.pid, flush=True)\n"
        "signal.pause()\n",
        "sim.py",
    )
    system(scenario)
    run_id = submit(scenario)
    row = until_run(scenario, run_id, state="running")
    output = Path(row["output"])
    scenario.until(lambda: output.exists() and output.read_text().count(" ") == 2, within=WITHIN)
    pids = [*map(int, output.read_text().split()), row["pid"]]
    os.kill(row["pid"], signal.SIGKILL)
    row = until_run(scenario, run_id, state="failed")
    assert row["result"] == "lost"
    assert "signal 9" in row["message"]
    scenario.until(lambda: not any(map(processes.is_alive, pids)), within=WITHIN)


def test_a_hook_that_hangs_is_ended_by_the_timeout(scenario: Scenario) -> None:
    scenario.write("print('no')\n", "sim.py")
    scenario.write("import time\ndef build():\n    time.sleep(3600)\n", "services/sim.py")
    system(scenario, job={"timeout": "1s"})
    run_id = submit(scenario)
    row = until_run(scenario, run_id, state="failed")
    assert row["result"] == "timeout"
    assert not Path(row["output"]).exists()


def test_runs_are_mirrored_into_redis(scenario: Scenario) -> None:
    """Queued, running with its own state, cancelled, done; and after the daemon's death."""
    redis = pytest.importorskip("redis")
    scenario.write(WAITS, "sim.py")
    scenario.write(
        "def before_watch_callback(instance):\n    instance.set_state(mesh='fine')\n",
        "handlers/sim_handler.py",
    )
    with (
        redis_server.running(scenario.root) as url,
        redis.Redis.from_url(url) as client,
    ):
        system(
            scenario,
            settings={"KEY": {"required": True, "secret": True}},
            job_mirror=f"{url}#${{settings.KEY}}",
            job_concurrency=1,
            up=False,
        )
        scenario.environment["ORCH_SETTING_KEY"] = "mine"
        scenario.step("the system comes up", orch("up", "-d"), exits(0))

        def mirrored(run_id: str, **wanted: object) -> Row:
            def look() -> Row | None:
                row = json.loads(client.hget("mine:runs", run_id) or b"{}")
                return row if wanted.items() <= {**row}.items() else None

            found: Row = scenario.until(look, within=WITHIN, saying=f"{run_id} is {wanted}")
            return found

        first, second, third = (submit(scenario) for _ in range(3))
        assert mirrored(first, state="running", custom={"mesh": "fine"})["job"] == "lab.sim"
        mirrored(second, state="queued")
        scenario.step("one is cancelled", orch("cancel", third), exits(0))
        mirrored(third, state="cancelled")
        pid = scenario.daemon()["pid"]
        os.kill(pid, signal.SIGKILL)
        scenario.until(lambda: not processes.is_alive(pid))
        row = until_run(scenario, first, state="running")
        os.kill(record(scenario, first, "progress.json")["pid"], signal.SIGTERM)
        mirrored(first, state="failed", result="signal")
        mirrored(second, state="running")
        assert row["pid"]
        assert "mine" not in (scenario.base / "topology.lock.json").read_text()
        scenario.step("the system goes down", orch("down"), exits(0))


def test_what_the_jobs_own_template_requires_is_asked_for_at_submit(scenario: Scenario) -> None:
    scenario.write("pass\n", "sim.py")
    scenario.write(
        """
        from orchestrator.component import ServiceParamTemplate
        class SimTemplate(ServiceParamTemplate):
            not_null_attr = ("mesh", "solver")
        def build():
            pass
        """,
        "services/sim.py",
    )
    system(scenario)
    refused = scenario.run("submit", "sim", "-p", "solver=fast")
    assert refused.code == 1
    assert "it lacks mesh" in refused.err
    assert scenario.run("runs", "--json").json() == []
    submit(scenario, "-p", "solver=fast", "-p", "mesh=fine", "--wait")
