"""The runs of jobs: taken from the queue, each supervised as an instance, followed to its result.

The queue (`supervision.runs`) decides, the life cycle (`supervision.lifecycle`) supervises the
worker of each try, and the same executor as for components does what it asks for. Here they meet:
what is decided is written to the journal before anything is done for it, and a turn costs what
changed in it.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from orchestrator.daemon import runprograms
from orchestrator.daemon.executor import Executor
from orchestrator.daemon.host import Host
from orchestrator.daemon.journal import Journal
from orchestrator.daemon.programs import Place
from orchestrator.daemon.runjournal import Record
from orchestrator.daemon.runprograms import SLOT
from orchestrator.daemon.schedules import Timetable
from orchestrator.errors import JournalError, OrchestratorError
from orchestrator.model import names, plain
from orchestrator.model.jobs import RunResult, RunState
from orchestrator.model.phase import Exit, Process, Result
from orchestrator.model.topology import Job
from orchestrator.model.units import Seconds
from orchestrator.supervision import lifecycle
from orchestrator.supervision import runs as queues
from orchestrator.supervision.lifecycle import Instance
from orchestrator.supervision.runs import End, Run, Runs

logger = logging.getLogger(__name__)

WRITE_AGAIN: Seconds = 1.0
"""How long nothing begins when the journal could not be written."""

SPAWN_AGAIN: Seconds = 1.0
"""How long a run waits whose process the machine had no room for."""

Shown = Mapping[str, Any]
"""What a run's hooks show: `progress`, `text`, `custom`."""


class Runner:
    """All runs of one system.

    Args:
        host: The operating system, or its fake.
        journal: Where runs are written before anything is done for them.
        place: The system's name and directories.
        report: Called with the runs that changed, once a turn.
        finished: Called when no process of a run lives any more and none will be started.
    """

    def __init__(
        self,
        host: Host,
        journal: Journal,
        place: Place,
        report: Callable[[Iterable[Run]], None],
        finished: Callable[[], None] = lambda: None,
    ) -> None:
        self.host = host
        self.journal = journal
        self.place = place
        self.runs = Runs()
        self.runs.is_held = True
        self.jobs: dict[str, Job] = {}
        self.concurrency: int | None = None
        self.executor = Executor(
            host, place, self._post, self._soon, self._instance, order=runprograms.order
        )
        self.newest: dict[str, str] = {}
        self.over: Callable[[Run], None] = lambda _run: None
        """Called with each run that is over, once that is written."""
        self.submit_scheduled: Callable[[Job], None] = lambda _job: None
        """Submits a run of a job whose time has come."""
        self.timetable = Timetable(host, self._on_schedule)
        self.shown: dict[str, Shown] = {}
        self._report = report
        self._finished = finished
        self._number = 0
        self._last_id = (0, 0)
        self._lives: dict[str, Instance] = {}
        self._queue: deque[tuple[str, lifecycle.Event]] = deque()
        self._effects: list[tuple[str, lifecycle.Effect]] = []
        self._dirty: dict[str, Run] = {}
        self._reported: dict[str, Run] = {}
        self._turning = False
        self._scheduled = False
        self._strays: dict[str, Process] = {}
        self._looks_at: float | None = None
        self._stopping = False

    # ------------------------------------------------------------- what clients ask

    def apply(self, jobs: Mapping[str, Job], concurrency: int | None) -> None:
        """Take the jobs as they are from now on; runs that were submitted keep theirs.

        Raises:
            JournalError: They cannot be written; nothing is changed.
        """
        told = {
            "jobs": {name: plain.encode(job) for name, job in jobs.items()},
            "concurrency": concurrency,
        }
        self.journal.remember(jobs=json.dumps(told), runs_held="")
        self._configure(jobs, concurrency)
        if self.runs.is_held:
            # The system was down; what a schedule would have begun meanwhile is not made up for.
            for name in jobs:
                self.timetable.begin(name)
        self.runs.is_held = self._stopping
        self._soon()

    def submit(self, run: Run, over: Mapping[str, RunState]) -> None:
        """Take a new run in; `over` tells how those ended that it waits for and that are over.

        Raises:
            JournalError: It cannot be written; there is no such run.
        """
        self.journal.runs.add(run)
        self._number = max(self._number, run.number)
        self.newest[run.job.name] = run.id
        self.runs.add(run, over)
        self._soon()

    def cancel(self, run_ids: Iterable[str]) -> list[str]:
        """Cancel runs; return those that were not over, nor being cancelled already."""
        cancelled = [run_id for run_id in run_ids if self.runs.cancel(run_id)]
        self._soon()
        return cancelled

    def _on_schedule(self, name: str) -> None:
        """The time of a job's schedule has come."""
        if self.runs.is_held:
            return
        job = self.jobs[name]
        meant = queues.on_schedule(job, self.runs)
        self.cancel(meant.cancel)
        if meant.submit:
            self.submit_scheduled(job)
        else:
            logger.info("%s: not run by its schedule, its last run is not over", name)

    def shutdown(self, *, kill: bool = False) -> None:
        """Let no run begin any more, and stop those that have; then `finished` is called.

        A run that is stopped so is tried again by the next daemon if it may be.
        """
        if not self._stopping:
            self._stopping = True
            self._remember(runs_held="yes")
        self._end_strays()
        self.runs.stop_all()
        if kill:
            for run_id in self._lives:
                self._post(SLOT + run_id, lifecycle.KillNow())
        self._soon()

    def next_number(self) -> int:
        """Return the number of the next run."""
        return self._number + 1

    def new_id(self) -> str:
        """Return an id for a new run, after all that came before."""
        now = int(time.time() * 1000)  # noqa: TID251 - shown to people
        if now > self._last_id[0]:
            self._last_id = (now, int(self.host.chance() * names.SALTS / 2))
        else:
            self._last_id = (self._last_id[0], self._last_id[1] + 1)
        return names.run_id(*self._last_id)

    # ------------------------------------------------------------- what is seen

    def process(self, run_id: str) -> Process | None:
        """Return the process of a run's worker, None when there is none."""
        instance = self._lives.get(run_id)
        return instance.process if instance else None

    def run_of(self, pid: int) -> str | None:
        """Return whose worker a process is."""
        slot = self.executor.by_pid.get(pid)
        return slot.removeprefix(SLOT) if slot else None

    def told(self, run_id: str) -> None:
        """A worker says that what it shows has changed."""
        run = self.runs.unfinished.get(run_id)
        if run is None or not run.is_taken:
            return
        self._look(run)
        self._reported[run_id] = run
        self._soon()

    def _look(self, run: Run) -> None:
        told = runprograms.read(run, self.place, runprograms.PROGRESS)
        if not told:
            return
        self.shown[run.id] = {name: told.get(name) for name in ("progress", "text", "custom")}
        if told.get("state") != RunState.BUILDING.value:
            self.runs.runs(run.id)

    @property
    def is_stopping(self) -> bool:
        """Whether the system is being stopped."""
        return self._stopping

    @property
    def is_down(self) -> bool:
        """Whether no process of a run lives."""
        return not self._lives

    @staticmethod
    def most(concurrency: int | None) -> int:
        """Return how many runs there may be at once; None: one for each processor."""
        return concurrency or os.cpu_count() or 1

    @property
    def is_wanted(self) -> bool:
        """Whether there are jobs, or runs that are not over."""
        return bool(self.jobs or self.runs.unfinished)

    def markers(self) -> list[str]:
        """Return the markers of the runs whose trees live."""
        return [
            f"{self.place.key}/{SLOT}{run_id}/{instance.generation}"
            for run_id, instance in self._lives.items()
        ]

    # ------------------------------------------------------------- turns

    def _post(self, slot: str, event: lifecycle.Event) -> None:
        self._queue.append((slot.removeprefix(SLOT), event))
        self._soon()

    def _soon(self) -> None:
        if not self._turning and not self._scheduled:
            self._scheduled = True
            self.host.call_later(0.0, self._scheduled_turn)

    def _scheduled_turn(self) -> None:
        self._scheduled = False
        self.turn()

    def turn(self) -> None:
        """Step, take, write, act: until nothing follows."""
        if self._turning:
            return
        self._turning = True
        try:
            while True:
                while self._queue:
                    self._step(*self._queue.popleft())
                for run in self.runs.take(self.host.now()):
                    self._begin(run)
                for run_id in self.runs.stops:
                    if run_id in self._lives:
                        self._queue.append((run_id, lifecycle.Stop()))
                self.runs.stops.clear()
                if self._queue:
                    continue
                if not self._act():
                    break
            self.executor.release()
        finally:
            self._turning = False
        self._tell()
        self._look_later()
        if self._stopping and self.is_down:
            self._finished()

    def _tell(self) -> None:
        """Tell of the runs that changed."""
        reported, self._reported = self._reported, {}
        if reported:
            self._report(reported.values())
            for run in reported.values():
                if run.state.is_over:
                    self.shown.pop(run.id, None)  # The journal has it.

    def _begin(self, run: Run) -> None:
        run.started = run.ended = 0.0
        logger.info("%s building, try %d of %d", run.name, run.attempt, run.attempts)
        component = runprograms.component(run, self.place)
        self._lives[run.id] = Instance(component, generation=run.attempt - 1)
        self.shown.pop(run.id, None)
        self._queue.append((run.id, lifecycle.Start()))
        self._queue.append((run.id, lifecycle.Go()))

    def _step(self, run_id: str, event: lifecycle.Event) -> None:
        before = self._lives.get(run_id)
        if before is None:
            return
        run = self.runs.unfinished[run_id]
        if isinstance(event, lifecycle.SpawnFailed) and event.transient:
            del self._lives[run_id]
            logger.info("%s waits for room on the machine: %s", run.name, event.message)
            self.runs.never_began(run_id, self.host.now() + SPAWN_AGAIN)
            return
        after, effects = lifecycle.step(before, event, self.host.now())
        if after is before and not effects:
            return
        self._lives[run_id] = after
        self._effects.extend((run_id, effect) for effect in effects)
        self._dirty[run_id] = run
        if before.process is None and after.process is not None:
            self._watch_time(run)
            self._reported[run_id] = run
        if isinstance(after.state, lifecycle.Down) and event.__class__ is not lifecycle.Start:
            self._ended(run, after)

    def _watch_time(self, run: Run) -> None:
        """Let a try not take longer than it may."""
        if run.job.timeout:
            attempt = run.attempt
            left = run.began + run.job.timeout - self.host.now()

            def up() -> None:
                self.runs.expire(run.id, attempt)
                self._soon()

            self.host.call_later(max(0.0, left), up)

    def _ended(self, run: Run, instance: Instance) -> None:
        """A try is over: its worker and all that it has started are gone."""
        self._look(run)
        del self._lives[run.id]
        self.executor.forget(SLOT + run.id)
        self._conclude(run, instance)

    def _conclude(self, run: Run, instance: Instance | None) -> None:
        run.ended = time.time()  # noqa: TID251 - shown to people
        end = self._end(run, instance)
        self.runs.ended(run.id, end, self.host.chance(), self.host.now())
        if not run.state.is_over:
            run.ended = 0.0

    def _end(self, run: Run, instance: Instance | None) -> End:
        """Tell how a try ended, by its worker's word or else by how the worker ended."""
        told = runprograms.read(run, self.place, runprograms.RESULT)
        end = instance.end if instance else None
        how = (end.exit if end else None) or Exit()
        if told:
            return _told_end(told, how)
        if end is not None and end.result is Result.SPAWN_ERROR:
            return End(RunResult.SPAWN_ERROR, message=end.message, worth_retrying=False)
        if how.oom:
            return End(RunResult.OOM_KILL, how.code, how.signal, "its memory was used up")
        why = runprograms.last_words(run, self.place)
        message = f"its worker ended without a result ({how})" + (f": {why}" if why else "")
        return End(RunResult.LOST, how.code, how.signal, message)

    # ------------------------------------------------------------- effects

    def _act(self) -> bool:
        """Write what changed, then do what was asked for; tell whether anything follows."""
        if not self._write():
            self.host.call_later(WRITE_AGAIN, self._soon)
            return False
        if not self._effects:
            return bool(self._queue)
        effects, self._effects = self._effects, []
        for run_id, effect in effects:
            instance = self._lives.get(run_id)
            if instance is None:
                continue
            if isinstance(effect, lifecycle.Spawn) and not self._prepare(run_id):
                continue
            try:
                self.executor.do(SLOT + run_id, instance, effect)
            except Exception as error:
                # A defect of ours in one effect must not cost the others theirs.
                logger.exception("Internal error: %s of the run %s", effect, run_id)
                if isinstance(effect, lifecycle.Spawn):
                    failed = lifecycle.SpawnFailed(f"internal error: {error!r}")
                    self._queue.append((run_id, failed))
        return True

    def _prepare(self, run_id: str) -> bool:
        run = self.runs.unfinished[run_id]
        run.started = time.time()  # noqa: TID251 - shown to people
        try:
            runprograms.prepare(run, self.place)
        except (OSError, OrchestratorError) as error:
            reason = error.strerror or str(error) if isinstance(error, OSError) else str(error)
            self._queue.append((run_id, lifecycle.SpawnFailed(f"cannot prepare it: {reason}")))
            return False
        return True

    def _write(self) -> bool:
        if self.timetable.unwritten:
            self._remember(job_schedules=self.timetable.text())
        changed, self.runs.changed = self.runs.changed, {}
        self._dirty.update(changed)
        self._reported.update(changed)
        if not self._dirty:
            return True
        for run in changed.values():
            if run.state.is_over and not run.ended:
                run.ended = time.time()  # noqa: TID251 - shown to people
        rows = [
            (run, self.process(run.id), self.shown.get(run.id)) for run in self._dirty.values()
        ]
        if not self.journal.runs.write(rows):
            return False
        dirty, self._dirty = self._dirty, {}
        for run in dirty.values():
            if run.state.is_over:
                logger.info(
                    "%s %s%s", run.name, run.state, f": {run.message}" if run.message else ""
                )
                self.over(run)
        return True

    def _look_later(self) -> None:
        """Have a turn when a run is to be tried again."""
        due = self.runs.next_due()
        if due is None or (self._looks_at is not None and self._looks_at <= due):
            return
        self._looks_at = due

        def look() -> None:
            self._looks_at = None
            self.turn()

        self.host.call_later(max(0.0, due - self.host.now()), look)

    # ------------------------------------------------------------- recovery

    def recall(self, remembered: Mapping[str, str]) -> None:
        """Take up the jobs, as the journal remembers them; `recover` then takes up the runs."""
        self.timetable.restore(remembered.get("job_schedules", "{}"))
        self._recall(remembered.get("jobs", ""))
        self.runs.is_held = remembered.get("runs_held", "yes") == "yes"

    def recover(self, *, complete: bool = True) -> None:
        """Take over the runs of an earlier daemon: adopt what lives, judge what ended.

        Nothing begins that began before, and what was accepted is there. Unless the journal is
        `complete`, what runs and is not in it is looked for too: it runs on, and is ended with
        the system.
        """
        self._number = self.journal.runs.last_number()
        self.newest = self.journal.runs.newest()
        self.journal.runs.forget_unused_jobs()
        records = self.journal.runs.unfinished()
        unwritten: Mapping[str, Process] = {}
        if any(record.run.is_taken and record.process is None for record in records):
            unwritten = self.host.marked(f"{self.place.key}/{SLOT}")
        ended = self.journal.runs.states(
            {target for record in records for target in record.run.after}
        )
        over = {run_id: state for run_id, (state, _, _) in ended.items()}
        if not complete:
            self._find_strays({f"{record.run.id}/{record.run.attempt}" for record in records})
        for record in records:
            self.runs.add(record.run, over)
            if record.shown:
                self.shown[record.run.id] = record.shown
        for record in records:
            if record.run.is_taken:
                marker = f"{self.place.key}/{SLOT}{record.run.id}/{record.run.attempt}"
                self._take_over(record, record.process or unwritten.get(marker))
        self.turn()

    def _find_strays(self, known: Collection[str]) -> None:
        prefix = f"{self.place.key}/{SLOT}"
        for marker, process in self.host.marked(prefix).items():
            name = marker.removeprefix(prefix)
            if name not in known:
                self._strays[marker] = process
                logger.warning("Pid %d is the run %s of a lost journal", process.pid, name)

    def _end_strays(self) -> None:
        """Kill what runs as ours when everything ends, and nobody knows as what."""
        strays, self._strays = self._strays, {}
        for marker, process in strays.items():
            logger.warning("Killed pid %d, a run of a lost journal", process.pid)
            for each in (*self.host.survivors(process, marker), process):
                self.host.signal(each, signal.SIGKILL, group=False)

    def _take_over(self, record: Record, process: Process | None) -> None:
        run = record.run
        if process is not None:
            component = runprograms.component(run, self.place)
            self._lives[run.id] = Instance(component, generation=run.attempt)
            self._queue.append((run.id, lifecycle.Adopted(process, True, run.began)))
            self.executor.follow(SLOT + run.id, process)
            logger.info("Adopted %s, pid %d", run.name, process.pid)
            self._look(run)
            if run.intent is not None:
                self.runs.stops[run.id] = None
            return
        began = any(
            runprograms.read(run, self.place, name)
            for name in (runprograms.RESULT, runprograms.PROGRESS)
        )
        if began:
            self._look(run)
            self._conclude(run, None)
        else:
            self.runs.never_began(run.id)

    def _recall(self, text: str) -> None:
        try:
            told = json.loads(text) if text else {}
            jobs = {name: plain.decode(Job, one) for name, one in told.get("jobs", {}).items()}
        except (ValueError, AttributeError) as error:
            logger.warning("The journal's jobs cannot be used: %s", error)
            return
        self._configure(jobs, told.get("concurrency"))

    # ------------------------------------------------------------- small parts

    def _configure(self, jobs: Mapping[str, Job], concurrency: int | None) -> None:
        known = self.jobs
        # A job that is as it was stays the same object: runs share it.
        self.jobs = {
            name: known[name] if known.get(name) == job else job for name, job in jobs.items()
        }
        self.concurrency = concurrency
        self.runs.configure(
            self.most(concurrency), {name: job.concurrency for name, job in jobs.items()}
        )
        self.timetable.set({name: job.schedule for name, job in jobs.items() if job.schedule})

    def _instance(self, slot: str) -> Instance | None:
        return self._lives.get(slot.removeprefix(SLOT))

    def _remember(self, **words: str) -> None:
        try:
            self.journal.remember(**words)
        except JournalError as error:
            logger.warning("A daemon that takes over will not know all: %s", error)


def _told_end(told: Mapping[str, Any], how: Exit) -> End:
    """Return the end that a worker has written down."""
    code, number = told.get("exit_code"), told.get("signal")
    message = str(told.get("message") or "")
    if told.get("state") == RunState.SUCCEEDED.value:
        return End(RunResult.SUCCESS, code, number, message)
    if how.oom:
        return End(RunResult.OOM_KILL, code, number, message or "its memory was used up")
    try:
        result = RunResult(told["result"])
    except (KeyError, ValueError):
        result = RunResult.SIGNAL if number is not None else RunResult.EXIT_CODE
    # What cannot be executed now cannot be a moment later.
    worth_retrying = result is not RunResult.SPAWN_ERROR
    return End(result, code, number, message, worth_retrying=worth_retrying)
