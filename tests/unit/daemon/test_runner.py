"""Runs over the death of their daemon, at every single one of its steps, in virtual time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from orchestrator.daemon.codecheck import NO_CODE
from orchestrator.daemon.host import Spawned
from orchestrator.daemon.journal import Journal
from orchestrator.daemon.programs import Place
from orchestrator.daemon.runner import Runner
from orchestrator.daemon.submitting import make
from orchestrator.errors import SpawnError
from orchestrator.model.jobs import RunResult, RunState
from orchestrator.model.phase import Exit
from orchestrator.model.topology import Backoff, Job, Overlap, Retries
from orchestrator.process import MARKER, Order
from orchestrator.supervision.runs import Run
from tests.fakes import DaemonKilled, FakeHost, Living, Program

KEY = "k1"
WELL, BADLY = Exit(code=0), Exit(code=1)


class World(FakeHost):
    """Workers that write what workers write: that they began, and what became of them."""

    def __init__(self) -> None:
        super().__init__()
        self.script: dict[str, Program] = {}
        self.began: list[tuple[str, int]] = []
        self.directories: dict[str, Path] = {}

    def spawn(self, order: Order, done: Spawned) -> None:
        _, run_id, _ = order.environment[MARKER].replace("run:", "").split("/")
        self.directories[run_id] = Path(order.argv[-1]).parent
        self.programs[order.argv] = self.script.get(run_id, Program(1.0, WELL))
        super().spawn(order, done)

    def _begin(self, program: Program, marker: str, **more: Any) -> Living:
        living = super()._begin(program, marker, **more)
        _, run_id, attempt = marker.replace("run:", "").split("/")
        self.began.append((run_id, int(attempt)))
        self._write(run_id, "progress.json", {"attempt": int(attempt), "state": "running"})
        return living

    def _end(self, living: Living, how: Exit, *, even_stopped: bool = False) -> None:
        if living.alive and how.code is not None:
            _, run_id, attempt = living.marker.replace("run:", "").split("/")
            state = "succeeded" if how.code == 0 else "failed"
            result = "success" if how.code == 0 else "exit-code"
            told = {"attempt": int(attempt), "state": state, "result": result}
            self._write(run_id, "result.json", {**told, "exit_code": how.code, "signal": None})
        super()._end(living, how, even_stopped=even_stopped)

    def _write(self, run_id: str, name: str, told: Mapping[str, Any]) -> None:
        (self.directories[run_id] / name).write_text(json.dumps(told))


class System:
    """A runner, its world, and its journal on a real file."""

    def __init__(self, directory: Path) -> None:
        self.world = World()
        self.place = Place(KEY, "lab", str(directory / "run"), str(directory))
        self.path = directory / "journal.db"
        self.finished = 0
        self._attach()

    def _attach(self) -> None:
        self.journal = Journal.open(self.path, "boot")
        write, add = self.journal.runs.write, self.journal.runs.add

        def fused_write(changed: Any) -> bool:
            changed = list(changed)
            self.world.burn()
            done = write(changed)
            self.world.burn()
            return done

        def fused_add(run: Run) -> None:
            self.world.burn()
            add(run)
            self.world.burn()

        self.journal.runs.write = fused_write  # type: ignore[method-assign]
        self.journal.runs.add = fused_add  # type: ignore[method-assign]
        self.runner = Runner(
            self.world, self.journal, self.place, lambda _runs: None, self._on_finished
        )
        self.runner.submit_scheduled = self._submit_scheduled

    def _on_finished(self) -> None:
        self.finished += 1

    def apply(self, *jobs: Job, most: int = 2) -> None:
        self.runner.apply({job.name: job for job in jobs}, most)

    def submit(self, job: str = "sim", **params: Any) -> str:
        return self._submit(self.runner.jobs[f"lab.{job}"], **params)

    def _submit_scheduled(self, job: Job) -> None:
        self._submit(job, scheduled=True)

    def _submit(self, job: Job, *, scheduled: bool = False, **params: Any) -> str:
        run, over = make(self.runner, job, NO_CODE, params, scheduled=scheduled)
        self.runner.submit(run, over)
        return run.id

    def reborn(self) -> None:
        """Kill the daemon, if it lives, and start another."""
        self.world.fuse = None
        self.world.daemon_died()
        self.journal.close()
        self._attach()
        self.runner.recall(self.journal.meta())
        self.runner.recover()

    def over(self) -> dict[str, Run]:
        return {record.run.id: record.run for record in self.journal.runs.over()}

    def states(self) -> dict[str, str]:
        unfinished = {run.id: run.state.value for run in self.runner.runs.unfinished.values()}
        return unfinished | {run.id: run.state.value for run in self.over().values()}

    def close(self) -> None:
        self.journal.close()


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    made = System(tmp_path)
    yield made
    made.close()


def job(name: str = "sim", **fields: Any) -> Job:
    return Job("lab", name, command=("true",), **fields)


AGAIN = Retries(1, Backoff(initial=1.0, jitter=0.0))


def test_runs_begin_in_turn_and_their_ends_are_written(system: System) -> None:
    system.apply(job(), most=2)
    system.world.script["r3"] = Program(1.0, Exit(code=7))
    for name in ("r1", "r2", "r3"):
        system.submit(id=name)
    system.world.turn()
    assert system.states() == {"r1": "running", "r2": "running", "r3": "queued"} or (
        system.states() == {"r1": "building", "r2": "building", "r3": "queued"}
    )
    system.world.run_until()
    assert system.states() == {"r1": "succeeded", "r2": "succeeded", "r3": "failed"}
    assert (system.over()["r3"].exit_code, system.over()["r3"].result) == (7, RunResult.EXIT_CODE)
    assert not system.world.zombies()


@pytest.mark.parametrize(("second", "gap"), [(None, 0.0), (None, 5.0), (7, 0.0)])
def test_a_death_at_any_step_loses_nothing_and_runs_nothing_twice(
    tmp_path: Path, second: int | None, gap: float
) -> None:
    """Two at once, one that is tried again, one that follows, one that is cancelled."""
    for fuse in range(0, 200, 1 if second is None else 3):
        directory = tmp_path / str(fuse)
        directory.mkdir()
        system = System(directory)
        try:
            if not _play(system, fuse, second, gap):
                assert fuse > 30, "the daemon has so few steps?"
                return
        finally:
            system.close()
    raise AssertionError("it never came to an end")


def _play(system: System, fuse: int, second: int | None, gap: float) -> bool:
    """Play the story with a death after so many steps; tell whether there was one."""
    world = system.world
    system.apply(job(), job("again", retries=AGAIN), job("next"), most=2)
    world.script |= {"bad": Program(0.5, BADLY), "halt": Program()}
    accepted: set[str] = set()
    wishes: list[tuple[str, dict[str, Any]]] = [
        ("sim", {"id": "one"}),
        ("again", {"id": "bad"}),
        ("sim", {"id": "halt"}),
        ("next", {"id": "last", "after": ["one"]}),
        ("next", {"id": "never", "after": ["bad"]}),
    ]
    died = False
    cancelled = False
    world.fuse = fuse
    deadline = world.now() + 60
    while world.now() < deadline:
        try:
            while wishes:
                name, params = wishes[0]
                if not system.journal.runs.states([params["id"]]):
                    system.submit(name, **params)
                accepted.add(params["id"])
                wishes.pop(0)
            world.advance(0.25)
            if not cancelled and world.now() > 1002.5:
                system.runner.cancel(["halt"])
                world.turn()
                cancelled = True
        except DaemonKilled:
            world.advance(gap)
            system.reborn()
            world.fuse = second if not died else None
            died = True
        if not system.runner.runs.unfinished and not wishes:
            break
    if world.fuse is not None and died:
        world.fuse = None
    assert accepted == {"one", "bad", "halt", "last", "never"}
    assert not system.runner.runs.unfinished
    over = system.over()
    found = {name: (run.state.value, run.attempt, run.exit_code) for name, run in over.items()}
    assert found["one"] == ("succeeded", 1, 0)
    assert found["bad"] == ("failed", 2, 1)
    assert found["last"] == ("succeeded", 1, 0)
    assert found["never"] == ("failed", 0, None)
    assert found["halt"][0] == "cancelled"
    assert over["never"].result is RunResult.DEPENDENCY
    assert len(world.began) == len(set(world.began)), f"twice: {world.began}"
    assert set(world.began) - {("halt", 1)} == {("one", 1), ("bad", 1), ("bad", 2), ("last", 1)}
    assert not world.living(KEY), "something is left"
    return died


def test_what_ended_while_there_was_no_daemon_is_known_by_its_word(system: System) -> None:
    system.apply(job())
    system.submit(id="r1")
    system.world.turn()
    system.world.daemon_died()
    system.world.advance(5.0)
    system.reborn()
    system.world.run_until()
    assert system.states() == {"r1": "succeeded"}


def test_a_worker_that_died_without_a_word_is_lost_and_tried_again_if_it_may_be(
    system: System,
) -> None:
    system.apply(job(), job("again", retries=AGAIN))
    system.world.script["r1"] = system.world.script["r2"] = Program()
    system.submit(id="r1")
    system.submit("again", id="r2")
    system.world.turn()
    for living in system.world.living(KEY):
        system.world.end(living.process, Exit(signal=9))
    system.world.script["r2"] = Program(1.0, WELL)
    system.world.run_until()
    assert system.states() == {"r1": "failed", "r2": "succeeded"}
    assert system.over()["r1"].result is RunResult.LOST
    assert "signal 9" in system.over()["r1"].message
    assert system.over()["r2"].attempt == 2


def test_another_boot_loses_processes_and_nothing_else(system: System) -> None:
    system.apply(job(), most=1)
    system.world.script["r1"] = Program()
    system.submit(id="r1")
    system.submit(id="r2")
    system.world.turn()
    system.journal.close()
    system.world.world.clear()
    system.world.daemon_died()
    Journal.open(system.path, "another boot").close()
    system.reborn()
    system.world.run_until()
    assert system.states() == {"r1": "failed", "r2": "succeeded"}
    assert system.over()["r1"].result is RunResult.LOST


def test_what_no_journal_knows_any_more_runs_on_and_ends_with_the_system(system: System) -> None:
    system.apply(job())
    system.world.script["r1"] = Program()
    system.submit(id="r1")
    system.world.turn()
    system.journal.close()
    for path in system.path.parent.glob("journal.db*"):
        path.unlink()
    system.world.daemon_died()
    system._attach()
    system.runner.recall(system.journal.meta())
    system.runner.recover(complete=False)
    system.world.advance(5.0)
    assert len(system.world.living(KEY)) == 1
    assert not system.states()
    system.runner.shutdown()
    system.world.run_until()
    assert not system.world.living(KEY)


def test_a_shutdown_stops_what_runs_and_keeps_what_waits_for_the_next_up(system: System) -> None:
    system.apply(job(), job("again", retries=AGAIN), most=2)
    system.world.script |= dict.fromkeys(("r1", "r2"), Program(handles={15: (0.2, BADLY)}))
    system.submit(id="r1")
    system.submit("again", id="r2")
    system.submit(id="r3")
    system.world.turn()
    system.runner.shutdown()
    system.world.run_until()
    assert system.finished
    assert system.states() == {"r1": "failed", "r2": "queued", "r3": "queued"}
    assert system.over()["r1"].result is RunResult.REQUESTED
    system.world.script["r2"] = Program(1.0, WELL)
    system.reborn()
    system.world.advance(10.0)
    assert system.states()["r3"] == "queued", "nobody has brought it up"
    system.apply(job(), job("again", retries=AGAIN))
    system.world.run_until()
    assert system.states() == {"r1": "failed", "r2": "succeeded", "r3": "succeeded"}


def test_a_try_that_takes_too_long_is_stopped_also_after_an_adoption(system: System) -> None:
    system.apply(job(timeout=10.0))
    system.world.script["r1"] = Program(handles={15: (0.2, BADLY)})
    system.submit(id="r1")
    system.world.advance(6.0)
    system.reborn()
    system.world.advance(3.9)
    assert system.states() == {"r1": "running"}
    system.world.advance(0.5)
    assert system.over()["r1"].result is RunResult.TIMEOUT


def test_a_machine_without_room_costs_no_try(system: System) -> None:
    system.apply(job())
    busy = SpawnError("start it", 11, "Resource temporarily unavailable", transient=True)
    system.world.script["r1"] = Program(fails=busy)
    system.submit(id="r1")
    system.world.advance(3.5)
    assert system.states() == {"r1": "queued"}
    system.world.script["r1"] = Program(1.0, WELL)
    system.world.run_until()
    assert (system.states(), system.over()["r1"].attempt) == ({"r1": "succeeded"}, 1)


def test_nothing_begins_while_the_journal_cannot_be_written(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    system.apply(job())
    system.submit(id="r1")
    is_full = True
    write = system.journal.runs.write
    monkeypatch.setattr(
        system.journal.runs, "write", lambda changed: not is_full and write(list(changed))
    )
    system.world.advance(5.0)
    assert not system.world.began
    is_full = False
    system.world.run_until()
    assert system.states() == {"r1": "succeeded"}
    assert system.world.began == [("r1", 1)]


def test_a_schedule_submits_once_for_each_time_and_not_for_what_it_was_down(
    system: System,
) -> None:
    nightly = job(schedule="0 * * * *", overlap=Overlap.QUEUE)
    system.apply(nightly)
    system.world.advance(3 * 3600 + 60)
    assert len(system.over()) == 3
    # A daemon that was dead for two hours makes up for one run.
    system.world.daemon_died()
    system.world.advance(2 * 3600)
    system.reborn()
    system.world.advance(60)
    assert len(system.over()) == 4
    system.runner.shutdown()
    system.world.advance(3 * 3600)
    system.reborn()
    system.apply(nightly)
    system.world.advance(60)
    assert len(system.over()) == 4
    assert {run.scheduled for run in system.over().values()} == {True}


def test_a_changed_job_is_for_new_runs(system: System) -> None:
    system.apply(job(), most=1)
    system.submit(id="r1")
    system.submit(id="r2")
    system.apply(Job("lab", "sim", command=("false",)), most=1)
    system.submit(id="r3")
    system.reborn()
    commands = {run.id: run.job.command for run in system.runner.runs.unfinished.values()}
    assert commands == {"r1": ("true",), "r2": ("true",), "r3": ("false",)}
    system.world.run_until()
    assert set(system.states().values()) == {RunState.SUCCEEDED.value}
