"""From a request to a run: what is asked for, checked as a whole, every mistake at once."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from orchestrator.daemon import runprograms
from orchestrator.daemon.codecheck import Code
from orchestrator.daemon.runner import Runner
from orchestrator.errors import RequestFailed
from orchestrator.model import jobs as attributes
from orchestrator.model import names
from orchestrator.model.jobs import RunCondition, RunState
from orchestrator.model.topology import Job
from orchestrator.supervision.runs import Run

Params = Mapping[str, Any]

_KNOWN = {"job", "template", "args", "id", "priority", "after", "use"}
_PRIORITY = 1000


def job_of(runner: Runner, params: Params) -> Job:
    """Return the job that is to be run.

    Raises:
        RequestFailed: There is none of the name.
    """
    name = params.get("job")
    job = runner.jobs.get(name) if isinstance(name, str) else None
    if job is None and isinstance(name, str):
        # `sim` is enough where one service has a job of the name.
        meant = [one for one in runner.jobs.values() if name == one.job]
        job = meant[0] if len(meant) == 1 else None
    if job is None:
        words = [*runner.jobs, *(one.job for one in runner.jobs.values())]
        known = ", ".join(list(runner.jobs)[:8])
        others = f"known: {known}" if known else "the topology has no jobs"
        hint = names.did_you_mean(str(name), words) or others
        raise RequestFailed("unknown-job", f"there is no job {name!r}; {hint}")
    return job


def is_repeated(runner: Runner, job: Job, params: Params, run: Run) -> bool:
    """Tell whether a request is the one that `run` came from.

    Whoever names a run may say it again after a daemon that died before it answered.
    """
    bad: list[str] = []
    template = _template(job, (), params, bad)
    template["g_service_id"] = run.id
    template["g_work_path"] = _work_path(runner, job, template)
    wishes = dict(_wishes(params.get("after") or (), bad))
    return (
        not bad
        and run.job.name == job.name
        and run.request["template"] == template
        and run.priority == _priority(job, params, bad)
        and all(
            run.after.get(_run_id(word)) == condition
            for word, condition in wishes.items()
            # A job stands for its newest run, which may be another one by now.
            if word not in runner.newest and f"{job.parent}.{word}" not in runner.newest
        )
    )


def make(
    runner: Runner, job: Job, code: Code, params: Params, *, scheduled: bool = False
) -> tuple[Run, Mapping[str, RunState]]:
    """Return the run that is asked for, and how those ended that it waits for and that are over.

    Raises:
        RequestFailed: It cannot be; the message tells every reason.
    """
    bad: list[str] = [f"there is no {word!r} in a submit" for word in params.keys() - _KNOWN]
    template = _template(job, (*job.required, *code.required), params, bad)
    run_id = _id(runner, params, template, bad)
    priority = _priority(job, params, bad)
    after, over = _after(runner, job, params.get("after") or (), bad)
    template["g_service_id"] = run_id
    run_dir = _run_dir(runner, job, template, run_id, bad)
    if bad:
        raise RequestFailed("bad-run", f"cannot submit {job.name}: {'; '.join(bad)}")
    run = Run(
        id=run_id,
        number=runner.next_number(),
        job=job,
        priority=priority,
        after=after,
        request={
            "template": template,
            "run_dir": run_dir,
            "service": code.service,
            "handler": code.handler,
            "code": {"snapshot": code.snapshot},
        },
        submitted=time.time(),  # noqa: TID251 - shown to people
        scheduled=scheduled,
    )
    return run, over


def _template(job: Job, required: Sequence[str], params: Params, bad: list[str]) -> dict[str, Any]:
    """Return all attributes of the run by the names that hooks know them by."""
    made: dict[str, Any] = {
        "g_work_path": None,
        "g_service_path": job.program,
        "g_input_file": None,
        "g_output_file": None,
        "o_watcher_enabled": job.watcher.enabled,
        "o_watcher_interval": job.watcher.interval,
        "s_service_name": job.job,
        "s_user_id": None,
        "s_service_args": {},
    }
    _put(made, job.template, bad)
    given = params.get("template") or {}
    if isinstance(given, Mapping):
        _put(made, given, bad)
    else:
        bad.append("`template` must map names to values")
    arguments = params.get("args") or {}
    try:
        added = attributes.arguments(arguments)
        made["s_service_args"] = {**made["s_service_args"], **added}
    except ValueError as error:
        bad.append(str(error))
    missing = [name for name in dict.fromkeys(required) if made.get(name) in (None, "")]
    if missing:
        bad.append(f"it lacks {', '.join(missing)}")
    return made


def _put(made: dict[str, Any], given: Mapping[str, Any], bad: list[str]) -> None:
    for word, value in given.items():
        if word.startswith("x-"):
            continue
        name = attributes.attribute(word)
        if not name.isidentifier():
            bad.append(f"{word!r} cannot name an attribute")
            continue
        if value is None and name in made:
            continue  # as a template in Python has what nobody gave
        try:
            good = attributes.checked(name, value)
        except ValueError as error:
            bad.append(str(error))
            continue
        made[name] = {**made[name], **good} if name == "s_service_args" else good


def _id(runner: Runner, params: Params, template: dict[str, Any], bad: list[str]) -> str:
    asked = params.get("id")
    run_id = template.get("g_service_id") if asked is None else asked
    if run_id is None:
        return runner.new_id()
    try:
        attributes.checked("g_service_id", run_id)
    except ValueError as error:
        bad.append(str(error))
        return "none"
    if run_id in runner.runs.unfinished or runner.journal.runs.states([run_id]):
        bad.append(f"there is a run {run_id!r} already")
    return str(run_id)


def _priority(job: Job, params: Params, bad: list[str]) -> int:
    priority = params.get("priority")
    if priority is None:
        return job.priority
    is_number = isinstance(priority, int) and not isinstance(priority, bool)
    if not is_number or not -_PRIORITY <= priority <= _PRIORITY:
        bad.append(f"`priority` must be a number from -{_PRIORITY} to {_PRIORITY}")
        return 0
    return int(priority)


def _run_dir(
    runner: Runner, job: Job, template: dict[str, Any], run_id: str, bad: list[str]
) -> str:
    """Return the directory of the run, which must not be there: it will be removed some day."""
    path = template["g_work_path"] = _work_path(runner, job, template)
    made = os.path.join(path, run_id)  # noqa: PTH118
    if os.path.lexists(made):
        bad.append(f"{made} is there already")
    return made


def _work_path(runner: Runner, job: Job, template: Mapping[str, Any]) -> str:
    path = template["g_work_path"] or runprograms.work_path(job, runner.place)
    return os.path.normpath(os.path.join(job.directory, path))  # noqa: PTH118


def _after(
    runner: Runner, job: Job, given: Any, bad: list[str]
) -> tuple[dict[str, RunCondition], dict[str, RunState]]:
    """Return the runs to wait for, by id, and the states of those that are over.

    A job stands for its newest run. What the job itself declares holds for jobs of which no run
    is given.
    """
    wanted: dict[str, RunCondition] = {}
    over: dict[str, RunState] = {}
    jobs: set[str] = set()
    for word, condition in _wishes(given, bad):
        run_id, _, state, its_job = _found(runner, job, word)
        if run_id is None:
            bad.append(f"`after`: there is no run or job {word!r}")
            continue
        wanted[run_id] = condition
        jobs.add(its_job)
        if state is not None:
            over[run_id] = state
    for name, after in job.after.items():
        if name in jobs:
            continue
        run_id, _, state, _ = _found(runner, job, name)
        if run_id is None:
            bad.append(f"it follows {name}, of which there is no run: submit that first")
            continue
        wanted[run_id] = after.condition
        if state is not None:
            over[run_id] = state
    return wanted, over


def _wishes(given: Any, bad: list[str]) -> Iterable[tuple[str, RunCondition]]:
    if isinstance(given, str):
        given = [given]
    pairs = given.items() if isinstance(given, Mapping) else ((word, None) for word in given)
    for word, said in pairs:
        condition = said.get("condition") if isinstance(said, Mapping) else said
        try:
            yield str(word), RunCondition(condition or RunCondition.SUCCEEDED)
        except ValueError:
            choices = " or ".join(RunCondition)
            bad.append(f"`after`: the condition of {word} must be {choices}, not {condition!r}")


def _found(runner: Runner, job: Job, word: str) -> tuple[str | None, int, RunState | None, str]:
    """Return the id, the number, the state when it is over, and the job of a run.

    The word is an id, `service.job/ID`, or the name of a job.
    """
    beside = f"{job.parent}.{word}"
    run_id = runner.newest.get(beside) or runner.newest.get(word) or _run_id(word)
    known = runner.runs.unfinished.get(run_id)
    if known is not None:
        return known.id, known.number, None, known.job.name
    found = runner.journal.runs.states([run_id]).get(run_id)
    if found is None:
        return None, 0, None, ""
    state, its_job, number = found
    return run_id, number, state, its_job


def _run_id(word: str) -> str:
    """Return the id in a word that may be a run's whole name."""
    return word.rpartition("/")[2]
