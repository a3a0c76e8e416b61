"""What clients ask about runs, and what they are told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.daemon.runcalls import RunCalls
from orchestrator.errors import RequestFailed
from tests.unit.daemon.test_runner import System, job


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    made = System(tmp_path)
    made.apply(job(), job("mesh", concurrency=1), most=2)
    yield made
    made.close()


@pytest.fixture
def calls(system: System) -> RunCalls:
    def later(_work: Any) -> None:
        raise AssertionError("nothing takes its time here")

    return RunCalls(system.runner, lambda: 7, later)


def submit(calls: RunCalls, name: Any = "lab.sim", **params: Any) -> dict[str, Any]:
    answer = calls.submit({"job": name, **params})
    assert isinstance(answer, dict)
    row: dict[str, Any] = answer["run"]
    return row


def test_a_submission_that_is_said_again_is_the_run_that_there_is(
    system: System, calls: RunCalls
) -> None:
    said: dict[str, Any] = {
        "id": "one", "template": {"mesh": 3}, "args": {"n": 7}, "priority": 5,
    }  # fmt: skip
    first = submit(calls, **said)
    assert submit(calls, **said)["id"] == first["id"]
    assert submit(calls, "sim", **said)["id"] == "one", "the job may be named otherwise"
    system.world.run_until()
    assert submit(calls, **said)["state"] == "succeeded"
    assert list(system.over()) == ["one"]


@pytest.mark.parametrize(
    "other",
    [
        {"template": {"mesh": 4}},
        {"args": {"n": 8}},
        {"priority": 6},
        {"after": {"zero": "succeeded"}},
        {"name": "lab.mesh"},
    ],
)
def test_another_content_under_the_same_name_is_refused(
    calls: RunCalls, other: dict[str, Any]
) -> None:
    submit(calls, id="zero")
    said: dict[str, Any] = {"id": "one", "template": {"mesh": 3}, "args": {"n": 7}, "priority": 5}
    submit(calls, **said)
    with pytest.raises(RequestFailed, match="there is a run 'one' already"):
        submit(calls, **{**said, **other})


def test_who_follows_a_job_may_say_so_again_when_it_has_a_newer_run(calls: RunCalls) -> None:
    submit(calls, id="zero")
    said: dict[str, Any] = {"id": "one", "after": {"sim": "completed"}}
    first = submit(calls, "lab.mesh", **said)
    assert [one["id"] for one in first["after"]] == ["zero"]
    submit(calls, id="newer")
    assert submit(calls, "lab.mesh", **said)["after"] == first["after"]


def test_a_queued_run_tells_what_it_waits_for(system: System, calls: RunCalls) -> None:
    for number in range(4):
        submit(calls, "lab.mesh", id=f"m{number}")
    submit(calls, id="after", after={"m3": "failed"})
    system.world.turn()
    told = {row["id"]: row for row in calls.runs({})["runs"]}
    assert told["m1"]["why"] == "waits for room: 1 of 1 runs of lab.mesh"
    assert told["m3"]["why"] == "waits for room: 1 of 1 runs of lab.mesh; 2 before it"
    assert told["after"]["why"] == "waits for lab.mesh/m3"
    submit(calls, id="s0")
    submit(calls, id="s1")
    system.world.turn()
    told = {row["id"]: row for row in calls.runs({})["runs"]}
    assert told["s1"]["why"].startswith("waits for room: 2 of 2 runs of all jobs; ")
    assert (told["s1"]["position"], calls.runs({})["seq"]) == (3, 7)


def test_the_jobs_are_told_with_their_runs(system: System, calls: RunCalls) -> None:
    system.apply(job(), job("mesh", concurrency=1, schedule="@daily"), most=2)
    submit(calls, "lab.mesh")
    submit(calls, "lab.mesh")
    system.world.turn()
    sim, mesh = calls.jobs({})["jobs"]
    assert (sim["name"], sim["command"], sim["queued"], sim["running"]) == (
        "lab.sim", ["true"], 0, 0,
    )  # fmt: skip
    assert (mesh["queued"], mesh["running"]) == (1, 1)
    assert (mesh["schedule"], mesh["concurrency"], mesh["program"]) == ("@daily", 1, None)


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("runs", {"ids": ["known-one", "known-on"]}),
        ("run", {"id": "lab.sim/known-on"}),
        ("cancel", {"ids": ["known-on"]}),
    ],
)
def test_what_nobody_knows_is_refused_with_what_was_meant(
    calls: RunCalls, method: str, params: dict[str, Any]
) -> None:
    submit(calls, id="known-one")
    with pytest.raises(RequestFailed, match="no run 'known-on'; did you mean 'known-one'") as no:
        getattr(calls, method)(params)
    assert no.value.code == "unknown-run"
    with pytest.raises(RequestFailed, match="orch runs shows them"):
        calls.run({"id": "quite-another"})


@pytest.mark.parametrize("method", ["submit", "runs"])
def test_an_unknown_job_is_refused_with_what_was_meant(calls: RunCalls, method: str) -> None:
    with pytest.raises(RequestFailed, match=r"no job 'lab.sin'; did you mean 'lab\.sim'") as no:
        getattr(calls, method)({"job": "lab.sin", "jobs": ["lab.sin"]})
    assert no.value.code == "unknown-job"
