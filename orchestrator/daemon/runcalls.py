"""The part of the control API that is about runs."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from orchestrator.daemon import runprograms, runrows, submitting
from orchestrator.daemon.codecheck import NO_CODE, Code, CodeChecks
from orchestrator.daemon.runjournal import Record
from orchestrator.daemon.runner import Runner
from orchestrator.errors import JournalError, RequestFailed
from orchestrator.model import names
from orchestrator.model.jobs import RunState
from orchestrator.model.topology import Job
from orchestrator.supervision.runs import Run

logger = logging.getLogger(__name__)

Params = Mapping[str, Any]
Answer = dict[str, Any] | Coroutine[Any, Any, dict[str, Any]]


class RunCalls:
    """The methods about runs.

    Args:
        runner: Whose runs they are.
        sequence: Tells the number of the last item of a stream.
        later: Does what takes its time beside everything else.
    """

    def __init__(
        self,
        runner: Runner,
        sequence: Callable[[], int],
        later: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self._runner = runner
        self._sequence = sequence
        self._later = later
        self.codes: CodeChecks | None = None
        """Finds out about hooks; without it no job has any."""
        runner.submit_scheduled = self._submit_scheduled

    def submit(self, params: Params) -> Answer:
        """Accept a run: from the answer on it survives the daemon."""
        job = submitting.job_of(self._runner, params)
        repeated = self._repeated(job, params)
        if repeated is not None:
            return repeated
        use = params.get("use") or "new"
        if use not in ("new", "last-good"):
            raise RequestFailed("bad-run", f"`use` must be new or last-good, not {use!r}")
        if use == "last-good" and self.codes is not None:
            return self._accept(job, self.codes.last_good(job), params)
        code = self._code(job)
        if code is None:
            return self._find_and_accept(job, params)
        return self._accept(job, code, params)

    def _repeated(self, job: Job, params: Params) -> dict[str, Any] | None:
        """Return the answer to a request that was answered before, perhaps to nobody."""
        known = self._known(str(params.get("id")))
        if known is not None and submitting.is_repeated(self._runner, job, params, known[0]):
            return {"run": known[1]}
        return None

    def _code(self, job: Job) -> Code | None:
        return self.codes.known(job) if self.codes is not None else NO_CODE

    async def _find_and_accept(
        self, job: Job, params: Params, *, scheduled: bool = False
    ) -> dict[str, Any]:
        assert self.codes is not None
        code = await self.codes.find(job)
        if self._runner.is_stopping:
            raise RequestFailed("stopping", "the system is being stopped")
        # Said again meanwhile, it has been accepted already.
        return self._repeated(job, params) or self._accept(job, code, params, scheduled=scheduled)

    def _submit_scheduled(self, job: Job) -> None:
        """Submit a run because its time has come; whoever looks at the log learns why not."""
        self._later(self._submitted_by_schedule(job))

    async def _submitted_by_schedule(self, job: Job) -> None:
        try:
            code = self._code(job)
            if code is None:
                await self._find_and_accept(job, {}, scheduled=True)
            else:
                self._accept(job, code, {}, scheduled=True)
        except RequestFailed as error:
            logger.warning("Not submitted by its schedule: %s", error)

    def _accept(
        self, job: Job, code: Code, params: Params, *, scheduled: bool = False
    ) -> dict[str, Any]:
        run, over = submitting.make(self._runner, job, code, params, scheduled=scheduled)
        try:
            self._runner.submit(run, over)
        except JournalError as error:
            raise RequestFailed("journal", f"cannot submit {run.job.name}: {error}") from error
        return {"run": runrows.row(self._runner, run)}

    def jobs(self, _params: Params) -> dict[str, Any]:
        """Return the jobs that there are, with how many runs they have."""
        counts: dict[str, dict[RunState, int]] = {}
        for run in self._runner.runs.unfinished.values():
            of_job = counts.setdefault(run.job.name, {})
            of_job[run.state] = of_job.get(run.state, 0) + 1
        jobs = self._runner.jobs.values()
        return {"jobs": [runrows.of_job(job, counts.get(job.name, {})) for job in jobs]}

    def runs(self, params: Params) -> dict[str, Any]:
        """Return the rows of runs, the newest first."""
        runner = self._runner
        ids = list(dict.fromkeys(_id(word) for word in _words(params, "ids")))
        jobs = self._jobs(_words(params, "jobs"))
        states = self._states(params)
        limit = params.get("limit")
        limit = limit if isinstance(limit, int) and limit >= 0 else -1
        before = self._number(params.get("before"))
        found: list[tuple[int, Run | Record]] = []
        for run in reversed(runner.runs.unfinished.values()):
            if (
                (not ids or run.id in ids)
                and (not jobs or run.job.name in jobs)
                and run.state.value in states
                and (before is None or run.number < before)
            ):
                found.append((run.number, run))
                if len(found) == limit:
                    break
        records = runner.journal.runs.over(
            jobs=jobs, states=states, ids=ids, before=before, limit=limit
        )
        found += [(record.run.number, record) for record in records]
        found.sort(key=lambda one: one[0], reverse=True)
        if ids and len(found) < len(ids):
            self._refuse_unknown(ids)
        if limit >= 0:
            del found[limit:]
        shown = [
            runrows.row(runner, one, position=True)
            if isinstance(one, Run)
            else runrows.of_record(runner, one)
            for _, one in found
        ]
        return {"runs": shown, "seq": self._sequence()}

    def run(self, params: Params) -> dict[str, Any]:
        """Return all that is known of one run."""
        runner = self._runner
        run_id = _id(str(params.get("id", "")))
        known = self._known(run_id)
        if known is None:
            raise self._unknown([run_id])
        run, row = known
        result = runprograms.read(run, runner.place, runprograms.RESULT) or None
        return {
            "run": row,
            "result": result,
            "errors": (result or {}).get("errors", []),
            "record_dir": runprograms.record_dir(runner.place, run_id),
        }

    def cancel(self, params: Params) -> dict[str, Any]:
        """Cancel runs: those named, or all of the jobs and in the states that are given."""
        runner = self._runner
        ids = [_id(word) for word in _words(params, "ids")]
        jobs = self._jobs(_words(params, "jobs"))
        states = self._states(params)
        if not ids and not jobs and "states" not in params:
            raise RequestFailed("bad-run", "cannot cancel: name runs, jobs or states")
        self._refuse_unknown(ids)
        wanted = ids or [
            run.id
            for run in runner.runs.unfinished.values()
            if (not jobs or run.job.name in jobs) and run.state.value in states
        ]
        cancelled = runner.cancel(wanted)
        done = set(cancelled)
        return {"cancelled": cancelled, "unchanged": [one for one in wanted if one not in done]}

    # ------------------------------------------------------------- small parts

    def _known(self, run_id: str) -> tuple[Run, runrows.Row] | None:
        """Return a run and its row, None when nobody knows it."""
        run = self._runner.runs.unfinished.get(run_id)
        if run is not None:
            return run, runrows.row(self._runner, run, position=True)
        for record in self._runner.journal.runs.over(ids=[run_id]):
            return record.run, runrows.of_record(self._runner, record)
        return None

    def _refuse_unknown(self, ids: Sequence[str]) -> None:
        missing = [one for one in ids if one not in self._runner.runs.unfinished]
        known = self._runner.journal.runs.states(missing)
        unknown = [one for one in missing if one not in known]
        if unknown:
            raise self._unknown(unknown)

    def _jobs(self, words: Sequence[str]) -> list[str]:
        """Return the names of jobs that words mean: jobs, or all of a service."""
        known = dict.fromkeys((*self._runner.jobs, *self._runner.newest))
        found: list[str] = []
        for word in words:
            meant = [name for name in known if word in (name, *name.split("."))]
            if not meant:
                near = names.did_you_mean(word, known)
                raise RequestFailed(
                    "unknown-job", f"there is no job {word!r}; {near}".rstrip("; ")
                )
            found += meant
        return found

    @staticmethod
    def _states(params: Params) -> list[str]:
        words = _words(params, "states")
        for word in words:
            if word not in set(RunState):
                choices = ", ".join(RunState)
                raise RequestFailed("bad-run", f"there is no state {word!r}; known: {choices}")
        return words or [state.value for state in RunState]

    def _number(self, word: Any) -> int | None:
        """Return the number of the run that `before` names."""
        if word is None:
            return None
        run_id = _id(str(word))
        run = self._runner.runs.unfinished.get(run_id)
        if run is not None:
            return run.number
        found = self._runner.journal.runs.states([run_id]).get(run_id)
        if found is None:
            raise self._unknown([run_id])
        return found[2]

    def _unknown(self, ids: Sequence[str]) -> RequestFailed:
        said = ", ".join(map(repr, ids))
        newest = itertools.islice(reversed(self._runner.runs.unfinished), _LOOKED_AT)
        near = names.did_you_mean(ids[0], [*self._runner.newest.values(), *newest])
        hint = near or "orch runs shows them"
        return RequestFailed("unknown-run", f"there is no run {said}; {hint}")


_LOOKED_AT = 200
"""How many runs are looked at for one that was meant."""


def _words(params: Params, name: str) -> list[str]:
    value = params.get(name) or ()
    if isinstance(value, str):
        value = (value,)
    if not isinstance(value, list | tuple) or not all(isinstance(word, str) for word in value):
        raise RequestFailed("bad-run", f"`{name}` must be a list of texts")
    return list(value)


def _id(word: str) -> str:
    """Return the id in a word that may be a run's whole name."""
    return word.rpartition("/")[2]
