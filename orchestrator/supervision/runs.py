"""The queue of runs: which begin now, which must wait, and what becomes of one that ended.

Theory. A run is queued until everything it waits for holds: the runs before it (`waits`), the
time of its next try (`due`), and room, of its job and of the system. Then it is taken, once for
each try; whoever takes it tells how that ended, and only then is it tried again or over. What was
asked of a taken run meanwhile (`intent`) decides what its end means: so a run that was cancelled
is cancelled, whatever its program did last.

No clock is read here and nothing is written: times are given, and what changed is collected in
`changed`, what is to be stopped in `stops`. Each event costs the logarithm of the queue's length.
"""

from __future__ import annotations

import enum
import heapq
from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct, field, structs

from orchestrator.model.jobs import RunCondition, RunResult, RunState
from orchestrator.model.topology import Job, Overlap
from orchestrator.model.units import Instant
from orchestrator.supervision import policy


class Intent(enum.StrEnum):
    """What was asked of a run whose process lives."""

    CANCEL = "cancel"
    TIMEOUT = "timeout"
    STOP = "stop"


class Run(Struct, eq=False):
    """One run, with the job as it was when the run was submitted.

    `after` are the runs that it was submitted to wait for, `waits` those of them that are not
    over. `attempt` counts the tries, `due` is the time of the next one: 0 when it is not held.
    `request` is what only its worker reads. `submitted`, `started` and `ended` are wall-clock
    times, for people; `began` is when the process of this try was asked for.
    """

    id: str
    number: int
    job: Job
    priority: int = 0
    after: Mapping[str, RunCondition] = field(default_factory=dict)
    request: Mapping[str, Any] = field(default_factory=dict)
    submitted: float = 0.0
    scheduled: bool = False
    state: RunState = RunState.QUEUED
    attempt: int = 0
    due: Instant = 0.0
    began: Instant = 0.0
    intent: Intent | None = None
    result: RunResult | None = None
    exit_code: int | None = None
    signal: int | None = None
    message: str = ""
    started: float = 0.0
    ended: float = 0.0
    size: int | None = None
    waits: dict[str, RunCondition] = field(default_factory=dict)

    @property
    def is_taken(self) -> bool:
        """Whether one of its tries is under way."""
        return self.state in (RunState.BUILDING, RunState.RUNNING)

    @property
    def is_ready(self) -> bool:
        """Whether it lacks nothing but room."""
        return self.state is RunState.QUEUED and not self.waits and self.due == 0

    @property
    def attempts(self) -> int:
        """How many tries it has at most."""
        return self.job.retries.limit + 1

    @property
    def name(self) -> str:
        """The run's name, `service.job/ID`."""
        return f"{self.job.name}/{self.id}"


class End(Struct, frozen=True):
    """How one try ended; one that would only fail again is not `worth_retrying`."""

    result: RunResult
    exit_code: int | None = None
    signal: int | None = None
    message: str = ""
    worth_retrying: bool = True


_Entry = tuple[int, int, Run]


class Runs:
    """All runs of a system that are not over."""

    def __init__(self) -> None:
        self.unfinished: dict[str, Run] = {}
        self.changed: dict[str, Run] = {}
        self.stops: dict[str, None] = {}
        self.taken = 0
        self.is_held = False
        """Whether no run may begin: the system is being stopped, or has no topology yet."""
        self._most = 1
        self._limits: dict[str, int] = {}
        self._active: dict[str, int] = {}
        self._ready: dict[str, list[_Entry]] = {}
        self._heads: list[tuple[int, int, str]] = []
        self._due: list[tuple[Instant, int, Run]] = []
        self._waiters: dict[str, list[Run]] = {}
        self._ranks: dict[str, int] | None = None

    # ------------------------------------------------------------- what is asked

    def configure(self, most: int, limits: Mapping[str, int | None]) -> None:
        """Set how many runs there may be at once, of all jobs and of each."""
        self._most = most
        self._limits = {job: limit for job, limit in limits.items() if limit is not None}
        for job in self._ready:
            self._show_head(job)

    def add(self, run: Run, over: Mapping[str, RunState]) -> None:
        """Take a queued or taken run in; `over` tells how those ended that are not here.

        One of those that it waits for and that nobody knows any more counts as cancelled.
        """
        self.unfinished[run.id] = run
        self._touch(run)
        if run.is_taken:
            self.taken += 1
            self._active[run.job.name] = self._active.get(run.job.name, 0) + 1
            return
        failed = ""
        for target, condition in run.after.items():
            if target in self.unfinished and target != run.id:
                run.waits[target] = condition
                self._waiters.setdefault(target, []).append(run)
            elif not holds(condition, over.get(target, RunState.CANCELLED)):
                failed = failed or _unmet(target, condition, over.get(target))
        if failed:
            self._finish(run, RunState.FAILED, End(RunResult.DEPENDENCY, message=failed))
        else:
            self._enqueue(run)

    def cancel(self, run_id: str) -> bool:
        """Cancel a run; False when it is over or is being cancelled already."""
        run = self.unfinished.get(run_id)
        if run is None or run.intent is Intent.CANCEL:
            return False
        if run.is_taken:
            self._ask(run, Intent.CANCEL)
        else:
            end = End(RunResult.REQUESTED, run.exit_code, run.signal, "cancelled")
            self._finish(run, RunState.CANCELLED, end)
        return True

    def expire(self, run_id: str, attempt: int) -> None:
        """The time of a try is up."""
        run = self.unfinished.get(run_id)
        if run is not None and run.is_taken and run.attempt == attempt and run.intent is None:
            self._ask(run, Intent.TIMEOUT)

    def stop_all(self) -> None:
        """Let nothing begin any more, and stop what has."""
        self.is_held = True
        for run in self.unfinished.values():
            if run.is_taken:
                if run.intent is None:
                    self._ask(run, Intent.STOP)
                self.stops[run.id] = None

    # ------------------------------------------------------------- what happens

    def take(self, now: Instant) -> list[Run]:
        """Return the runs that begin now: they are building from here on, in a new try."""
        while self._due and self._due[0][0] <= now:
            _, _, run = heapq.heappop(self._due)
            if run.state is RunState.QUEUED and run.due:
                run.due = 0.0
                self._enqueue(run)
        begun: list[Run] = []
        while not self.is_held and self.taken < self._most and self._heads:
            _, number, job = heapq.heappop(self._heads)
            ready = self._ready[job]
            if not self._prune(ready) or not self._has_room(job):
                continue
            if ready[0][1] != number:
                self._show_head(job)
                continue
            _, _, run = heapq.heappop(ready)
            self._begin(run, now)
            begun.append(run)
            self._show_head(job)
        return begun

    def next_due(self) -> Instant | None:
        """Return when a run is to be tried again; None when there is nothing of the kind."""
        while self._due and not (self._due[0][2].state is RunState.QUEUED and self._due[0][2].due):
            heapq.heappop(self._due)
        return self._due[0][0] if self._due and not self.is_held else None

    def runs(self, run_id: str) -> None:
        """The program of a run has been started."""
        run = self.unfinished[run_id]
        if run.state is RunState.BUILDING:
            run.state = RunState.RUNNING
            self._touch(run)

    def never_began(self, run_id: str, due: Instant = 0.0) -> None:
        """A try that was taken was found not to have begun: it waits again, until `due`."""
        run = self.unfinished[run_id]
        self._leave(run)
        run.attempt -= 1
        if run.intent is Intent.CANCEL:
            self._finish(run, RunState.CANCELLED, End(RunResult.REQUESTED, message="cancelled"))
            return
        self._queue_again(run, due)

    def ended(self, run_id: str, end: End, chance: float, now: Instant) -> None:
        """A try has ended: the run is over, or will be tried again."""
        run = self.unfinished[run_id]
        self._leave(run)
        if run.intent is Intent.CANCEL:
            end = structs.replace(end, result=RunResult.REQUESTED, message="cancelled")
            self._finish(run, RunState.CANCELLED, end)
            return
        if end.result is RunResult.SUCCESS:
            self._finish(run, RunState.SUCCEEDED, end)
            return
        pause = policy.delay(run.job.retries.backoff, run.attempt - 1, chance)
        if run.intent is Intent.TIMEOUT:
            took = f"took longer than {run.job.timeout:g}s"
            end = structs.replace(end, result=RunResult.TIMEOUT, message=took, worth_retrying=True)
        elif run.intent is Intent.STOP:
            stopped = "stopped with the system"
            end = End(RunResult.REQUESTED, end.exit_code, end.signal, stopped)
            pause = 0.0
        if end.worth_retrying and run.attempt < run.attempts:
            self._note(run, end)
            self._queue_again(run, now + pause if pause else 0.0)
        else:
            self._finish(run, RunState.FAILED, end)

    # ------------------------------------------------------------- what is seen

    def position(self, run_id: str) -> int | None:
        """Return how many queued runs go before a queued run; None for others."""
        if self._ranks is None:
            queued = [run for run in self.unfinished.values() if run.state is RunState.QUEUED]
            # Those that lack nothing but room go first, whoever else has come before.
            queued.sort(key=lambda run: (not run.is_ready, -run.priority, run.number))
            self._ranks = {run.id: place for place, run in enumerate(queued)}
        return self._ranks.get(run_id)

    def crowd(self, job: str) -> str:
        """Return who takes the room that a ready run of a job waits for."""
        limit = self._limits.get(job)
        if limit is not None and self._active.get(job, 0) >= limit:
            return f"waits for room: {self._active[job]} of {limit} runs of {job}"
        if self.taken >= self._most:
            return f"waits for room: {self.taken} of {self._most} runs of all jobs"
        return "is about to begin"

    def waits_for(self, run_ids: Iterable[str]) -> set[str]:
        """Return which of these runs one that is not over was submitted to follow."""
        wanted = set(run_ids)
        found: set[str] = set()
        for run in self.unfinished.values():
            if run.after:
                found.update(wanted.intersection(run.after))
        return found

    # ------------------------------------------------------------- small parts

    def _touch(self, run: Run) -> None:
        self.changed[run.id] = run
        self._ranks = None

    def _ask(self, run: Run, intent: Intent) -> None:
        run.intent = intent
        self.stops[run.id] = None
        self._touch(run)

    def _enqueue(self, run: Run) -> None:
        """Put a run where it waits: for its time, or for room; others are called when it can."""
        self._ranks = None
        if run.waits:
            return
        if run.due:
            heapq.heappush(self._due, (run.due, run.number, run))
            return
        job = run.job.name
        ready = self._ready.setdefault(job, [])
        heapq.heappush(ready, (-run.priority, run.number, run))
        if ready[0][2] is run:
            self._show_head(job)

    def _show_head(self, job: str) -> None:
        """Let the first of a job's ready runs stand for it among all jobs."""
        ready = self._ready.get(job)
        if ready and self._prune(ready):
            heapq.heappush(self._heads, (ready[0][0], ready[0][1], job))

    @staticmethod
    def _prune(ready: list[_Entry]) -> bool:
        """Drop first entries that were cancelled; tell whether any is left."""
        while ready and not ready[0][2].is_ready:
            heapq.heappop(ready)
        return bool(ready)

    def _has_room(self, job: str) -> bool:
        limit = self._limits.get(job)
        return limit is None or self._active.get(job, 0) < limit

    def _begin(self, run: Run, now: Instant) -> None:
        run.state = RunState.BUILDING
        run.attempt += 1
        run.began = now
        run.intent = None
        self.taken += 1
        self._active[run.job.name] = self._active.get(run.job.name, 0) + 1
        self._touch(run)

    def _leave(self, run: Run) -> None:
        """A taken run gives its place to others."""
        job = run.job.name
        self.taken -= 1
        self._active[job] -= 1
        self.stops.pop(run.id, None)
        self._show_head(job)

    def _queue_again(self, run: Run, due: Instant) -> None:
        run.state = RunState.QUEUED
        run.intent = None
        run.due = due
        self._touch(run)
        self._enqueue(run)

    @staticmethod
    def _note(run: Run, end: End) -> None:
        run.result = end.result
        run.exit_code = end.exit_code
        run.signal = end.signal
        run.message = end.message

    def _finish(self, run: Run, state: RunState, end: End) -> None:
        """A run is over; so are those that can no longer get what they wait for."""
        todo = [(run, state, end)]
        while todo:
            run, state, end = todo.pop()
            run.state = state
            run.intent = None
            run.due = 0.0
            run.waits.clear()
            self._note(run, end)
            del self.unfinished[run.id]
            self._touch(run)
            for waiter in self._waiters.pop(run.id, ()):
                condition = waiter.waits.pop(run.id, None)
                if condition is None:
                    continue  # It is over itself, or about to be.
                if holds(condition, state):
                    self._touch(waiter)
                    self._enqueue(waiter)
                    continue
                waiter.waits.clear()
                why = _unmet(run.name, condition, state)
                todo.append((waiter, RunState.FAILED, End(RunResult.DEPENDENCY, message=why)))


def holds(condition: RunCondition, state: RunState) -> bool:
    """Tell whether a run that is over has ended as somebody needs it."""
    match condition:
        case RunCondition.SUCCEEDED:
            return state is RunState.SUCCEEDED
        case RunCondition.FAILED:
            return state is RunState.FAILED
        case RunCondition.COMPLETED:
            return True


def _unmet(name: str, condition: RunCondition, state: RunState | None) -> str:
    if state is None:
        return f"{name} is not known any more"
    return f"{name} was to be {condition}, and is {state}"


class Scheduled(Struct, frozen=True):
    """What the time of a schedule means: whether to submit a run, and whom to cancel for it."""

    submit: bool
    cancel: tuple[str, ...] = ()


def on_schedule(job: Job, runs: Runs) -> Scheduled:
    """Decide what to do when the time of a job's schedule has come."""
    mine = [run for run in runs.unfinished.values() if run.scheduled and run.job.name == job.name]
    match job.overlap:
        case Overlap.SKIP:
            return Scheduled(submit=not mine)
        case Overlap.QUEUE:
            # One waits at most: a job that takes longer than its interval would queue for ever.
            is_waiting = any(run.state is RunState.QUEUED for run in mine)
            return Scheduled(submit=not is_waiting)
        case Overlap.CANCEL_RUNNING:
            return Scheduled(submit=True, cancel=tuple(run.id for run in mine))
