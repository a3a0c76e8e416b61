"""Laws of the queue of runs, and of what is kept of them, for every order of events.

The world is fair and unkind: whoever is taken ends some day, well or not, and whatever can be
asked meanwhile is asked.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule
from msgspec import structs

from orchestrator.model.jobs import RunCondition, RunResult, RunState
from orchestrator.model.topology import Backoff, Job, Keep, Overlap, Retries
from orchestrator.supervision import retention
from orchestrator.supervision import runs as queues
from orchestrator.supervision.retention import Over
from orchestrator.supervision.runs import End, Intent, Run, Runs, holds

NAMES = ("a", "b", "c")
PAUSE = Backoff(initial=1.0, factor=2.0, max=8.0, jitter=0.1)
SUCCESS = End(RunResult.SUCCESS, 0)
FAILURE = End(RunResult.EXIT_CODE, 1)


class Queue(RuleBasedStateMachine):
    """A queue, and what each of its runs has been through."""

    ids = Bundle("ids")

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.runs = Runs()
        self.most = 2
        self.limits: dict[str, int | None] = dict.fromkeys(NAMES)
        self.runs.configure(self.most, self.limits)
        self.known: dict[str, Run] = {}
        self.over: dict[str, RunState] = {}
        self.lives: dict[str, int] = {}
        self.cancelled: set[str] = set()
        self.not_before: dict[str, float] = {}

    # What is asked

    @rule(
        target=ids,
        job=st.sampled_from(NAMES),
        priority=st.integers(-1, 2),
        retries=st.integers(0, 2),
        timeout=st.sampled_from([0.0, 5.0]),
        data=st.data(),
    )
    def submit(
        self, job: str, priority: int, retries: int, timeout: float, data: st.DataObject
    ) -> str:
        number = len(self.known) + 1
        targets = data.draw(st.lists(st.sampled_from(sorted(self.known) or ["none"]), max_size=3))
        after = {
            target: data.draw(st.sampled_from(RunCondition))
            for target in targets
            if target in self.known
        }
        run = Run(
            id=f"r{number}",
            number=number,
            job=Job("lab", job, timeout=timeout, retries=Retries(retries, PAUSE)),
            priority=priority,
            after=after,
        )
        self.known[run.id] = run
        self.runs.add(run, {target: self.over[target] for target in after if target in self.over})
        self.settle()
        return run.id

    @rule(run_id=ids)
    def cancel(self, run_id: str) -> None:
        was_over = run_id in self.over
        if self.runs.cancel(run_id):
            assert not was_over
            self.cancelled.add(run_id)
        self.settle()

    @rule(most=st.integers(1, 4), limit=st.sampled_from([None, 1, 2]), job=st.sampled_from(NAMES))
    def configure(self, most: int, limit: int | None, job: str) -> None:
        self.most = most
        self.limits[job] = limit
        self.runs.configure(most, {f"lab.{name}": bound for name, bound in self.limits.items()})

    # What happens

    @rule()
    def take(self) -> None:
        ready = [run for run in self.runs.unfinished.values() if run.is_ready]
        begun = self.runs.take(self.now)
        self.settle()
        for run in begun:
            assert run.id not in self.lives, "two tries at once"
            assert run.id not in self.over
            assert self.now >= self.not_before.get(run.id, 0.0)
            for target, condition in run.after.items():
                assert target in self.over
                assert holds(condition, self.over[target])
            self.lives[run.id] = run.attempt
        # Nobody who lacked nothing was passed over by somebody who comes after him.
        for run in ready:
            if run.id in self.lives or run.id in self.over:
                continue
            room = self.room(run.job.name)
            assert not room, f"{run.id} could have begun"
            limit = self.runs._limits.get(run.job.name)
            mine = sum(self.known[run_id].job.name == run.job.name for run_id in self.lives)
            is_limited = limit is not None and mine >= limit
            for other in begun:
                if other.job.name == run.job.name or not is_limited:
                    assert (-other.priority, other.number) < (-run.priority, run.number)

    @rule(data=st.data(), well=st.booleans(), worth=st.booleans(), chance=st.floats(0, 0.99))
    def end(self, data: st.DataObject, well: bool, worth: bool, chance: float) -> None:
        if not self.lives:
            return
        run = self.known[data.draw(st.sampled_from(sorted(self.lives)))]
        del self.lives[run.id]
        intent, attempt = run.intent, run.attempt
        end = SUCCESS if well else structs.replace(FAILURE, worth_retrying=worth)
        self.runs.ended(run.id, end, chance, self.now)
        if run.state is RunState.QUEUED:
            assert intent is not Intent.CANCEL
            assert not well
            assert attempt < run.attempts
            self.not_before[run.id] = run.due
        elif intent is Intent.CANCEL:
            assert run.state is RunState.CANCELLED
        elif well:
            assert run.state is RunState.SUCCEEDED
        else:
            assert run.state is RunState.FAILED
            if intent is Intent.TIMEOUT:
                assert run.result is RunResult.TIMEOUT
                assert attempt == run.attempts
        self.settle()

    @rule(data=st.data())
    def never_began(self, data: st.DataObject) -> None:
        if self.lives:
            run_id = data.draw(st.sampled_from(sorted(self.lives)))
            attempt = self.lives.pop(run_id)
            self.runs.never_began(run_id)
            assert self.known[run_id].attempt == attempt - 1
            self.settle()

    @rule(data=st.data(), behind=st.integers(0, 1))
    def expire(self, data: st.DataObject, behind: int) -> None:
        if self.lives:
            run_id = data.draw(st.sampled_from(sorted(self.lives)))
            before = self.known[run_id].intent
            self.runs.expire(run_id, self.lives[run_id] - behind)
            if behind or before is not None:
                assert self.known[run_id].intent is before, "a timer of another try"
            else:
                assert run_id in self.runs.stops

    @rule(pause=st.floats(0.1, 10.0))
    def wait(self, pause: float) -> None:
        self.now += pause

    def teardown(self) -> None:
        """In a fair world everything is over some day, and what was cancelled is cancelled."""
        for _ in range(10 * len(self.known) + 10):
            due = self.runs.next_due()
            self.now = max(self.now, due or 0.0)
            self.take()
            for run_id in list(self.lives):
                del self.lives[run_id]
                self.runs.ended(run_id, SUCCESS, 0.5, self.now)
                self.settle()
        assert not self.runs.unfinished
        assert set(self.over) == set(self.known)
        for run_id in self.cancelled:
            assert self.over[run_id] is RunState.CANCELLED

    # What always holds

    def settle(self) -> None:
        """Take what changed, as whoever writes it down does."""
        changed, self.runs.changed = self.runs.changed, {}
        for run in changed.values():
            if run.state.is_over:
                assert run.id not in self.over, "over twice"
                self.over[run.id] = run.state

    def room(self, job: str) -> bool:
        taken = [self.known[run_id] for run_id in self.lives]
        bound = self.limits[job.partition(".")[2]]
        mine = sum(run.job.name == job for run in taken)
        configured = self.runs._limits.get(job)
        assert configured == bound or configured is None
        return len(taken) < self.most and (configured is None or mine < configured)

    @invariant()
    def books_are_right(self) -> None:
        assert self.runs.taken == len(self.lives)
        assert set(self.lives) == {r.id for r in self.runs.unfinished.values() if r.is_taken}
        for run_id, state in self.over.items():
            assert self.known[run_id].state is state, "it changed after its end"
            assert run_id not in self.runs.unfinished

    @invariant()
    def queued_have_distinct_places(self) -> None:
        queued = [r for r in self.runs.unfinished.values() if r.state is RunState.QUEUED]
        places = sorted(self.runs.position(run.id) or 0 for run in queued)
        assert places == list(range(len(queued)))


TestQueue = Queue.TestCase


# ------------------------------------------------------------------ in words


def run(number: int, **fields: object) -> Run:
    job = fields.pop("job", Job("lab", "sim"))
    return Run(id=f"r{number}", number=number, job=job, **fields)  # type: ignore[arg-type]


def queue(*members: Run, most: int = 1) -> Runs:
    made = Runs()
    made.configure(most, {})
    for each in members:
        made.add(each, {})
    return made


def test_a_fan_in_begins_when_all_have_succeeded_and_falls_with_the_first_that_fails() -> None:
    after = {"r1": RunCondition.SUCCEEDED, "r2": RunCondition.SUCCEEDED}
    runs = queue(run(1), run(2), run(3, after=after), run(4, after={"r3": RunCondition.SUCCEEDED}))
    assert [each.id for each in runs.take(0.0)] == ["r1"]
    runs.ended("r1", SUCCESS, 0.5, 0.0)
    assert [each.id for each in runs.take(0.0)] == ["r2"]
    runs.ended("r2", FAILURE, 0.5, 0.0)
    fallen = [each for each in runs.changed.values() if each.result is RunResult.DEPENDENCY]
    assert [(each.id, each.state, each.message) for each in fallen] == [
        ("r3", RunState.FAILED, "lab.sim/r2 was to be succeeded, and is failed"),
        ("r4", RunState.FAILED, "lab.sim/r3 was to be succeeded, and is failed"),
    ]


def test_a_branch_on_failure_runs_only_after_one() -> None:
    wish = {"r1": RunCondition.FAILED}
    for end, state in ((FAILURE, RunState.QUEUED), (SUCCESS, RunState.FAILED)):
        other = run(2, after=wish)
        runs = queue(run(1), other)
        runs.take(0.0)
        runs.ended("r1", end, 0.5, 0.0)
        assert other.state is state


def test_a_chain_of_ten_thousand_falls_at_once() -> None:
    """Without recursion, whose depth is bounded."""
    links = [run(1)]
    links += [run(n, after={f"r{n - 1}": RunCondition.SUCCEEDED}) for n in range(2, 10_001)]
    runs = queue(*links)
    runs.cancel("r1")
    assert not runs.unfinished
    assert {each.state for each in links[1:]} == {RunState.FAILED}


def test_retries_wait_longer_each_time_and_end() -> None:
    job = Job("lab", "sim", retries=Retries(2, structs.replace(PAUSE, jitter=0.0)))
    one = run(1, job=job)
    runs, now, pauses = queue(one), 0.0, []
    while one.state is RunState.QUEUED:
        if (due := runs.next_due()) is not None:
            pauses.append(due - now)
            assert not runs.take(due - 0.01)
            now = due
        assert runs.take(now) == [one]
        runs.ended(one.id, FAILURE, 0.5, now)
    assert pauses == [1.0, 2.0]
    assert (one.state, one.attempt, one.exit_code) == (RunState.FAILED, 3, 1)


def test_what_the_system_stops_is_tried_again_only_if_it_may_be() -> None:
    patient = run(1, job=Job("lab", "sim", retries=Retries(1)))
    single = run(2)
    waiting = run(3)
    runs = queue(patient, single, waiting, most=2)
    runs.take(0.0)
    runs.stop_all()
    assert set(runs.stops) == {"r1", "r2"}
    for each in (patient, single):
        runs.ended(each.id, End(RunResult.SIGNAL, None, 15), 0.5, 0.0)
    assert (patient.state, patient.attempt) == (RunState.QUEUED, 1)
    assert (single.state, single.result) == (RunState.FAILED, RunResult.REQUESTED)
    assert waiting.state is RunState.QUEUED
    assert not runs.take(1000.0)


def test_a_success_that_was_faster_than_its_timeout_counts() -> None:
    one = run(1, job=Job("lab", "sim", timeout=5.0))
    runs = queue(one)
    runs.take(0.0)
    runs.expire("r1", 1)
    runs.ended("r1", SUCCESS, 0.5, 5.0)
    assert one.state is RunState.SUCCEEDED


def test_what_the_schedule_does_when_its_last_run_is_not_over() -> None:
    def decided(overlap: Overlap, *members: Run) -> queues.Scheduled:
        runs = queue(*members)
        runs.take(0.0)
        return queues.on_schedule(Job("lab", "sim", overlap=overlap), runs)

    def scheduled(number: int) -> Run:
        return run(number, scheduled=True)

    submit, nothing = queues.Scheduled(True), queues.Scheduled(False)
    for overlap in Overlap:
        assert decided(overlap) == submit
        # What somebody submitted, or another job's, is none of the schedule's business.
        assert decided(overlap, run(1), run(2, job=Job("lab", "other"), scheduled=True)) == submit
    assert decided(Overlap.SKIP, scheduled(1)) == nothing
    assert decided(Overlap.QUEUE, scheduled(1)) == submit
    assert decided(Overlap.QUEUE, scheduled(1), scheduled(2)) == nothing
    replaced = queues.Scheduled(True, ("r1", "r2"))
    assert decided(Overlap.CANCEL_RUNNING, scheduled(1), scheduled(2)) == replaced


# ------------------------------------------------------------------ what is kept

ends = st.lists(
    st.tuples(st.floats(0, 1000), st.one_of(st.none(), st.integers(0, 100)), st.booleans()),
    max_size=12,
)
limits = st.one_of(st.none(), st.integers(0, 300))


@given(ends, limits, st.one_of(st.none(), st.integers(0, 10)), limits)
def test_only_too_much_is_removed_and_never_what_is_needed(
    found: list[tuple[float, int | None, bool]],
    age: int | None,
    count: int | None,
    size: int | None,
) -> None:
    now = 1000.0
    found.sort(key=lambda one: -one[0])
    over = [Over(str(n), ended, taken) for n, (ended, taken, _) in enumerate(found)]
    needed = {str(n) for n, (_, _, is_needed) in enumerate(found) if is_needed}
    result = retention.excess(over, Keep(age, count, size), now, needed)
    gone = set(result.ids)
    kept = [one for one in over if one.id not in gone]
    free = [one for one in kept if one.id not in needed]
    assert not gone & needed
    assert list(result.ids) == sorted(gone, key=int, reverse=True), "the oldest first"
    if age is count is size is None:
        assert not gone
    if age is not None:
        assert all(now - one.ended < age for one in free)
    if count is not None:
        assert len(kept) <= count or all(one.id in needed for one in kept[count:])
    if size is not None and len(kept) > 1 and kept[-1].id not in needed:
        assert sum(one.size or 0 for one in kept) <= size
    # Doing it is enough: nothing is left to remove at once.
    assert not retention.excess(kept, Keep(age, count, size), now, needed).ids
    if result.again_in is not None:
        later = retention.excess(
            kept, Keep(age, count, size), now + result.again_in + 1e-6, needed
        )
        assert later.ids


def test_the_last_result_stays_though_it_is_too_large() -> None:
    over = [Over("new", 10.0, 500), Over("old", 5.0, 1)]
    assert retention.excess(over, Keep(size=100), 20.0, ()).ids == ("old",)
