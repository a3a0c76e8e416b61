"""The part of the control API that is about runs."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any

from orchestrator.daemon import runprograms, runrows, submitting
from orchestrator.daemon.runjournal import Record
from orchestrator.daemon.runner import Runner
from orchestrator.errors import JournalError, RequestFailed
from orchestrator.model.jobs import RunState
from orchestrator.supervision.runs import Run

Params = Mapping[str, Any]
Answer = dict[str, Any] | Coroutine[Any, Any, dict[str, Any]]


class RunCalls:
    """The methods about runs; `sequence` tells the number of the last item of a stream."""

    def __init__(self, runner: Runner, sequence: Callable[[], int]) -> None:
        self._runner = runner
        self._sequence = sequence

    def submit(self, params: Params) -> Answer:
        """Accept a run: from the answer on it survives the daemon."""
        job = submitting.job_of(self._runner, params)
        run, over = submitting.make(self._runner, job, params)
        return self._accept(run, over)

    def _accept(self, run: Run, over: Mapping[str, RunState]) -> dict[str, Any]:
        try:
            self._runner.submit(run, over)
        except JournalError as error:
            raise RequestFailed("journal", f"cannot submit {run.job.name}: {error}") from error
        return {"run": runrows.row(self._runner, run)}

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
        run = runner.runs.unfinished.get(run_id)
        if run is not None:
            row = runrows.row(runner, run, position=True)
        else:
            records = runner.journal.runs.over(ids=[run_id])
            if not records:
                raise self._unknown([run_id])
            run = records[0].run
            row = runrows.of_record(runner, records[0])
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
        missing = [one for one in ids if one not in runner.runs.unfinished]
        known = runner.journal.runs.states(missing)
        unknown = [one for one in missing if one not in known]
        if unknown:
            raise self._unknown(unknown)
        wanted = ids or [
            run.id
            for run in runner.runs.unfinished.values()
            if (not jobs or run.job.name in jobs) and run.state.value in states
        ]
        cancelled = runner.cancel(wanted)
        done = set(cancelled)
        return {"cancelled": cancelled, "unchanged": [one for one in wanted if one not in done]}

    # ------------------------------------------------------------- small parts

    def _jobs(self, words: Sequence[str]) -> list[str]:
        """Return the names of jobs that words mean: jobs, or all of a service."""
        known = dict.fromkeys((*self._runner.jobs, *self._runner.newest))
        found: list[str] = []
        for word in words:
            meant = [name for name in known if word in (name, *name.split("."))]
            if not meant:
                near = difflib.get_close_matches(word, known, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise RequestFailed("bad-run", f"there is no job {word!r}{hint}")
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

    @staticmethod
    def _unknown(ids: Iterable[str]) -> RequestFailed:
        said = ", ".join(ids)
        return RequestFailed("unknown-run", f"there is no run {said}; orch runs shows them")


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
