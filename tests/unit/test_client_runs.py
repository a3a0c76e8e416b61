"""Runs by the client: submitted once, awaited to their end, through the death of daemons."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.client import AsyncJobs, Jobs, RunRow, runs
from orchestrator.client.runs import Following
from orchestrator.config import paths
from orchestrator.errors import (
    DaemonUnreachable,
    ProtocolError,
    RequestFailed,
    UnknownName,
    UsageError,
    WaitTimeout,
)
from orchestrator.model import names
from tests.unit.cli import fake
from tests.unit.cli.fake import SUCCEEDED, FakeDaemon, make_job, make_run


@pytest.fixture
def world(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path_factory.mktemp("c")
    (root / "topology.yaml").touch()
    monkeypatch.chdir(root)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(root))
    for name in ("ORCH_FILE", "ORCH_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    return root


@pytest.fixture
def daemon(world: Path) -> Iterator[FakeDaemon]:
    directory = paths.runtime_dir(world / "topology.yaml", None, {"XDG_RUNTIME_DIR": str(world)})
    directory.mkdir(parents=True)
    with fake.running(directory) as one:
        one.add_job("lab.sim")
        one.add_job("lab.mesh")
        yield one


@pytest.fixture
def jobs(daemon: FakeDaemon) -> Iterator[Jobs]:
    del daemon
    with Jobs() as one:
        yield one


@pytest.fixture
async def several(daemon: FakeDaemon) -> AsyncIterator[AsyncJobs]:
    del daemon
    async with AsyncJobs() as one:
        yield one


@contextlib.contextmanager
def meanwhile(action: Callable[[], None]) -> Iterator[None]:
    """Do `action` in a thread beside the body."""
    thread = threading.Thread(target=action)
    thread.start()
    yield
    thread.join()


class Template:
    """A template as users have them: it knows itself as plain data."""

    def __init__(self, **attributes: Any) -> None:
        self.attributes = attributes

    def to_plain(self) -> dict[str, Any]:
        return self.attributes


# ------------------------------------------------------------------ what is sent


def test_a_run_is_named_by_who_submits_it() -> None:
    first, second = runs.submission("lab.sim"), runs.submission("lab.sim")
    assert first["id"] != second["id"]
    assert names.RUN_ID.fullmatch(first["id"])
    assert runs.submission("lab.sim", id="mine")["id"] == "mine"
    of_template = runs.submission("lab.sim", {"g_service_id": "its"})
    assert of_template["id"] == "its"
    assert "g_service_id" not in of_template["template"]


def test_names_of_runs_sort_by_time() -> None:
    times = [0, 1, 35, 36, 1_700_000_000_000, 1_800_000_000_000]
    made = [names.run_id(one, names.SALTS - 1) for one in times]
    assert made == sorted(made)
    assert {len(one) for one in made} == {12}


def test_a_submission_has_all_that_was_said() -> None:
    params = runs.submission(
        "lab.sim",
        Template(g_input_file="in.dat", g_output_file=None, mesh=3),
        args={"steps": 100},
        priority=7,
        after=["one", {"two": "failed"}],
        last_good=True,
        attributes={"mesh": 4},
    )
    assert params.pop("id")
    assert params == {
        "job": "lab.sim",
        "template": {"g_input_file": "in.dat", "mesh": 4},
        "args": {"steps": "100"},
        "priority": 7,
        "after": {"one": "succeeded", "two": "failed"},
        "use": "last-good",
    }


def test_conditions_may_be_a_map() -> None:
    assert runs.submission("lab.sim", after={"one": "failed"})["after"] == {"one": "failed"}


@pytest.mark.parametrize("template", [17, {3: 4}, ["input_file"]])
def test_what_is_no_template_is_refused(template: Any) -> None:
    with pytest.raises(RequestFailed, match="a template is a mapping") as caught:
        runs.submission("lab.sim", template)
    assert caught.value.code == "bad-run"


@pytest.mark.parametrize(
    ("template", "job"),
    [
        ({"s_service_name": "sim"}, "lab.sim"),
        ({"s_service_name": "lab.mesh"}, "lab.mesh"),
        ({"g_service_path": "/elsewhere/mesh.py"}, "lab.mesh"),
        ({"g_service_path": "/elsewhere/mesh.py", "s_service_name": "sim"}, "lab.sim"),
        ({"service_path": "mesh.py"}, "lab.mesh"),
        ({"g_service_path": "x/sim.py", "s_service_name": "sim.py"}, "lab.sim"),
    ],
)
def test_a_template_tells_its_job(template: dict[str, Any], job: str) -> None:
    known: Any = [make_job("lab.sim"), make_job("lab.mesh")]
    assert runs.job_of(Template(**template), known) == job


def test_a_template_that_fits_no_job_or_several_is_refused() -> None:
    known: Any = [make_job("lab.sim"), make_job("other.sim"), make_job("lab.mesh")]
    with pytest.raises(RequestFailed, match=r"several jobs fit.*lab\.sim, other\.sim"):
        runs.job_of({"s_service_name": "sim"}, known)
    with pytest.raises(UnknownName, match=r"did you mean 'lab\.mesh'"):
        runs.job_of({"s_service_name": "lab.mush"}, known)
    with pytest.raises(RequestFailed, match="cannot tell the job"):
        runs.job_of({"input_file": "x"}, known)


# ------------------------------------------------------------------ what is said of runs


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, "lab.sim/1 queued"),
        ({"why": "2 are before it"}, "lab.sim/1 queued: 2 are before it"),
        ({"state": "running", "text": "step 3"}, "lab.sim/1 running: step 3"),
        ({"state": "running", "why": "old"}, "lab.sim/1 running"),
        (SUCCEEDED, "lab.sim/1 succeeded"),
        ({"state": "failed", "exit_code": 3, "result": "exit-code"}, "lab.sim/1 failed: exit 3"),
        ({"state": "failed", "result": "oom-kill"}, "lab.sim/1 failed: oom-kill"),
        ({"state": "failed", "message": "build: no disk"}, "lab.sim/1 failed: build: no disk"),
        ({"state": "cancelled", "result": "requested"}, "lab.sim/1 cancelled"),
    ],
)
def test_a_run_is_told_in_a_sentence(changes: dict[str, Any], says: str) -> None:
    row: Any = make_run("1", **changes)
    assert runs.sentence(row) == says


def test_the_daemons_rows_are_what_the_client_says_they_are() -> None:
    assert set(make_run("1")) == set(RunRow.__annotations__)
    assert set(make_job("lab.sim")) == set(runs.JobRow.__annotations__)


def test_what_a_snapshot_holds_is_no_news() -> None:
    following = Following(["1", "2"])
    old: Any = {"seq": 7, "kind": "run", "run": make_run("1", state="building")}
    new: Any = {"seq": 8, "kind": "run", "run": make_run("1", **SUCCEEDED)}
    rows: Any = [make_run("1", state="running"), make_run("2")]
    assert following.begin(rows, 7) == rows
    assert following.take(old) is None
    assert following.take(new) == new["run"]
    assert following.take(new) is None, "nobody awaits it any more"
    assert list(following.pending) == ["2"]


def test_an_end_of_the_system_is_noticed() -> None:
    following = Following(["1"])
    following.take({"kind": "system", "state": "stopping"})
    assert not following.is_over
    following.take({"kind": "system", "state": "stopped"})
    assert following.is_over


def test_a_long_list_of_runs_is_counted() -> None:
    following = Following(str(number) for number in range(100))
    rows: Any = [make_run(str(number)) for number in range(100)]
    following.begin(rows, 0)
    assert following.describe().endswith("lab.sim/9 queued and 90 more")


# ------------------------------------------------------------------ the synchronous client


def test_a_run_is_submitted_and_looked_at(daemon: FakeDaemon, jobs: Jobs) -> None:
    run = jobs.submit("sim", {"input_file": "in.dat"}, args={"steps": 3}, mesh="fine")
    assert (run.job, run.state, run.is_finished) == ("lab.sim", "queued", False)
    assert daemon.runs[run.id]["template"] == {"input_file": "in.dat", "mesh": "fine"}
    with pytest.raises(RequestFailed, match="no directory yet"):
        run.path("out.dat")
    daemon.change_run(run.id, state="running", progress=0.5, run_dir="/r/1", custom={"a": 1})
    assert run.refresh().state == "running"
    assert (run.progress, run.custom, run.path("out")) == (0.5, {"a": 1}, Path("/r/1/out"))
    assert [one.id for one in jobs.runs("lab.sim", states=["running"])] == [run.id]
    assert jobs.run(run.id).row == run.row
    assert repr(run) == f"<Run lab.sim/{run.id} running>"


def test_a_template_is_sent_to_its_job(daemon: FakeDaemon, jobs: Jobs) -> None:
    run = jobs.send(Template(g_service_path="/x/mesh.py", g_input_file="in.dat"))
    assert daemon.runs[run.id]["job"] == "lab.mesh"


def test_an_unknown_job_is_refused_with_what_was_meant(jobs: Jobs) -> None:
    with pytest.raises(RequestFailed, match=r"did you mean 'lab\.sim'") as caught:
        jobs.submit("lab.sin")
    assert caught.value.code == "unknown-job"


def test_a_wait_ends_with_the_run(daemon: FakeDaemon, jobs: Jobs) -> None:
    run = jobs.submit("sim")

    def work() -> None:
        daemon.until_watched()
        daemon.change_run(run.id, state="running")
        daemon.change_run(run.id, **SUCCEEDED)

    with meanwhile(work):
        assert run.wait(30).succeeded
    assert run.exit_code == 0


def test_events_are_every_change_and_the_last_is_the_end(daemon: FakeDaemon, jobs: Jobs) -> None:
    run = jobs.submit("sim")

    def work() -> None:
        daemon.until_asked("runs")
        daemon.change_run("another", state="running")
        for state in ("building", "running", "failed"):
            daemon.change_run(run.id, state=state)

    with meanwhile(work):
        states = [row["state"] for row in run.events(30)]
    assert states == ["queued", "building", "running", "failed"]


def test_a_run_that_has_ended_is_not_waited_for(daemon: FakeDaemon, jobs: Jobs) -> None:
    daemon.change_run("1", **SUCCEEDED)
    assert [row["state"] for row in jobs.run("1").events()] == ["succeeded"]
    assert [run.id for run in jobs.wait("1", "1")] == ["1", "1"]
    assert jobs.wait_finished("1").succeeded


def test_a_wait_that_takes_too_long_says_how_the_run_is(daemon: FakeDaemon, jobs: Jobs) -> None:
    daemon.change_run("1", why="1 of 1 runs of lab.sim is running")
    with pytest.raises(WaitTimeout) as caught:
        jobs.run("1").wait(0.05)
    assert str(caught.value) == (
        "not finished after 50ms: lab.sim/1 queued: 1 of 1 runs of lab.sim is running"
    )


def test_a_wait_goes_on_with_the_next_daemon(daemon: FakeDaemon, jobs: Jobs) -> None:
    """One dies while it waits, the next before it has answered, and then the run has ended."""
    run = jobs.submit("sim")
    answer = fake.answer("runs")

    def dies(daemon: FakeDaemon, params: dict[str, Any]) -> dict[str, Any]:
        del daemon.answers["runs"]
        daemon.hang_up()
        return answer(daemon, params)

    def work() -> None:
        daemon.until_asked("runs")
        daemon.answers["runs"] = dies
        daemon.hang_up()
        daemon.until_asked("runs", 3)
        daemon.change_run(run.id, **SUCCEEDED)

    with meanwhile(work):
        assert run.wait(30).succeeded


def test_what_a_dying_daemon_did_not_answer_is_submitted_once(
    daemon: FakeDaemon, jobs: Jobs
) -> None:
    answer = fake.answer("submit")

    def dies(daemon: FakeDaemon, params: dict[str, Any]) -> dict[str, Any]:
        del daemon.answers["submit"]
        daemon.hang_up()
        return answer(daemon, params)

    daemon.answers["submit"] = dies
    run = jobs.submit("sim")
    assert list(daemon.runs) == [run.id]
    assert [method for method, _ in daemon.requests] == ["submit", "submit"]


def test_a_wait_ends_with_the_system(daemon: FakeDaemon, jobs: Jobs) -> None:
    run = jobs.submit("sim")

    def work() -> None:
        daemon.until_asked("runs")
        daemon.stop()

    with (
        meanwhile(work),
        pytest.raises(DaemonUnreachable, match=r"the system was stopped: lab\.sim/\w+ queued"),
    ):
        run.wait(30)


def test_a_daemon_that_does_not_come_back_ends_the_patience(daemon: FakeDaemon) -> None:
    with Jobs(patience=0.05) as jobs:
        run = jobs.submit("sim")
        daemon.close()
        with pytest.raises(DaemonUnreachable, match="orch up -d"):
            run.refresh()


def test_a_cancelled_run_ends(daemon: FakeDaemon, jobs: Jobs) -> None:
    run = jobs.submit("sim")
    assert run.cancel()
    assert run.wait(30).state == "cancelled"
    assert not run.cancel()
    assert run.details()["record_dir"].endswith(run.id)
    assert daemon.requests[-1] == ("run", {"id": run.id})


def test_two_runs_are_followed_at_once(daemon: FakeDaemon, jobs: Jobs) -> None:
    first, second = jobs.submit("sim"), jobs.submit("mesh")
    events = first.events(30)
    assert next(events)["state"] == "queued"
    daemon.change_run(second.id, **SUCCEEDED)
    assert second.wait(30).succeeded
    daemon.change_run(first.id, **SUCCEEDED)
    assert [row["state"] for row in events] == ["succeeded"]


def test_the_system_is_found_as_the_command_finds_it(
    daemon: FakeDaemon, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del daemon
    (world / "below").mkdir()
    monkeypatch.chdir(world / "below")
    Jobs().close()
    monkeypatch.chdir("/")
    with pytest.raises(UsageError, match=r"cannot find topology\.yaml"):
        Jobs()
    Jobs(world / "topology.yaml").close()
    monkeypatch.setenv("ORCH_FILE", str(world / "topology.yaml"))
    Jobs().close()
    with pytest.raises(DaemonUnreachable, match=r"orch -f \S+ -p other up -d"):
        Jobs(project="other")


# ------------------------------------------------------------------ the asynchronous client


async def beside(function: Callable[..., Any], *args: Any) -> Any:
    """Wait for something of the fake daemon without holding up the loop."""
    return await asyncio.to_thread(function, *args)


async def test_many_runs_are_awaited_on_one_connection(
    daemon: FakeDaemon, several: AsyncJobs
) -> None:
    made = [await several.submit("sim", case=case) for case in range(50)]

    async def work() -> None:
        await beside(daemon.until_asked, "runs", 50)
        for run in made:
            daemon.change_run(run.id, state="running")
            daemon.change_run(run.id, **SUCCEEDED)

    async with asyncio.TaskGroup() as group:
        group.create_task(work())
        waits = [group.create_task(run.wait(30)) for run in made]
    assert all(one.result().succeeded for one in waits)
    assert sum(method == "watch" for method, _ in daemon.requests) == 1


async def test_asynchronous_events_are_every_change(
    daemon: FakeDaemon, several: AsyncJobs
) -> None:
    run = await several.send({"s_service_name": "sim"})
    states = []
    async for row in run.events(30):
        states.append(row["state"])
        if row["state"] == "queued":
            daemon.change_run(run.id, state="running")
        elif row["state"] == "running":
            assert await run.cancel()
    assert states == ["queued", "running", "cancelled"]
    assert run.state == "cancelled"
    assert (await run.refresh()).is_finished
    assert (await several.run(run.id)).row == run.row
    assert [one.id for one in await several.runs("sim", limit=1)] == [run.id]
    assert (await run.details())["errors"] == []
    assert (await several.wait_finished(run.id)).state == "cancelled"


async def test_asynchronous_waits_go_on_with_the_next_daemon(
    daemon: FakeDaemon, several: AsyncJobs
) -> None:
    made = [await several.submit("sim") for _ in range(3)]

    async def work() -> None:
        await beside(daemon.until_asked, "runs", 3)
        daemon.hang_up()
        await beside(daemon.until_asked, "runs", 6)
        for run in made:
            daemon.change_run(run.id, **SUCCEEDED)

    async with asyncio.TaskGroup() as group:
        group.create_task(work())
        finished = group.create_task(several.wait(*(run.id for run in made[:2]), timeout=30))
        group.create_task(made[0].wait(30))
        group.create_task(made[2].wait(30))
    assert [run.id for run in finished.result()] == [run.id for run in made[:2]]


async def test_an_asynchronous_submit_is_said_again_to_the_next_daemon(
    daemon: FakeDaemon, several: AsyncJobs
) -> None:
    answer = fake.answer("submit")

    def dies(daemon: FakeDaemon, params: dict[str, Any]) -> dict[str, Any]:
        del daemon.answers["submit"]
        daemon.hang_up()
        return answer(daemon, params)

    daemon.answers["submit"] = dies
    run = await several.submit("sim")
    assert list(daemon.runs) == [run.id]


async def test_asynchronous_waits_end_in_time_and_with_the_system(
    daemon: FakeDaemon, several: AsyncJobs
) -> None:
    run = await several.submit("sim")
    with pytest.raises(WaitTimeout, match="not finished after 50ms"):
        await run.wait(0.05)

    async def work() -> None:
        await beside(daemon.until_asked, "runs", 2)
        daemon.stop()

    with pytest.raises(DaemonUnreachable, match="the system was stopped"):
        await asyncio.gather(run.wait(30), work())


async def test_refusals_and_garbage_reach_who_asked(
    daemon: FakeDaemon, several: AsyncJobs
) -> None:
    with pytest.raises(RequestFailed, match="did you mean"):
        await several.submit("lab.sin")

    def garbage(daemon: FakeDaemon, params: dict[str, Any]) -> dict[str, Any]:
        del params
        daemon.publish({"kind": "run", "run": make_run("1")})
        raise fake.Garbage

    daemon.answers["jobs"] = garbage
    with pytest.raises(ProtocolError, match="neither reply nor event"):
        await several.jobs()


async def test_who_is_closed_or_not_entered_says_so(daemon: FakeDaemon) -> None:
    del daemon
    closed = AsyncJobs()
    with pytest.raises(DaemonUnreachable, match="async with"):
        await closed.jobs()
