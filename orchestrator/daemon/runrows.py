"""What clients see of a run: one flat row, stable field by field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.daemon import rows, runprograms
from orchestrator.daemon.runjournal import Record
from orchestrator.daemon.runner import Runner
from orchestrator.model import units
from orchestrator.model.jobs import RunState
from orchestrator.model.topology import Job
from orchestrator.supervision.runs import Intent, Run

Row = dict[str, Any]


def row(runner: Runner, run: Run, *, position: bool = False) -> Row:
    """Return the row of a run that is not over, or has just ended.

    `position` is what costs the time to sort the queue.
    """
    process = runner.process(run.id)
    made = _row(runner, run, runner.shown.get(run.id, {}), process.pid if process else None)
    if run.state is RunState.QUEUED:
        made["position"] = runner.runs.position(run.id) if position else None
        made["why"] = _why(runner, run, made["position"])
    elif run.intent is not None:
        made["why"] = _STOPPED[run.intent]
    return made


def of_record(runner: Runner, record: Record) -> Row:
    """Return the row of a run that is over, as the journal has it."""
    return _row(runner, record.run, record.shown, None)


def of_job(job: Job, counts: Mapping[RunState, int]) -> Row:
    """Return the row of a job, given how many of its runs are in which state."""
    return {
        "name": job.name,
        "service": job.parent,
        "job": job.job,
        "program": job.program,
        "command": list(job.command) or None,
        "handler": job.handler,
        "template": dict(job.template),
        "required": list(job.required),
        "concurrency": job.concurrency,
        "priority": job.priority,
        "schedule": job.schedule,
        "queued": counts.get(RunState.QUEUED, 0),
        "running": counts.get(RunState.BUILDING, 0) + counts.get(RunState.RUNNING, 0),
    }


_STOPPED = {
    Intent.CANCEL: "is being cancelled",
    Intent.TIMEOUT: "took too long, is being stopped",
    Intent.STOP: "is being stopped with the system",
}


def _row(runner: Runner, run: Run, shown: Mapping[str, Any], pid: int | None) -> Row:
    template = run.request["template"]
    return {
        "id": run.id,
        "name": run.name,
        "job": run.job.name,
        "service": run.job.parent,
        "state": run.state.value,
        "result": run.result.value if run.result else None,
        "exit_code": run.exit_code,
        "message": run.message or None,
        "why": None,
        "progress": shown.get("progress"),
        "text": shown.get("text") or None,
        "custom": shown.get("custom") or {},
        "attempt": run.attempt,
        "attempts": run.attempts,
        "priority": run.priority,
        "after": _after(runner, run),
        "submitted_at": rows.timestamp(run.submitted),
        "started_at": rows.timestamp(run.started) if run.started else None,
        "ended_at": rows.timestamp(run.ended) if run.ended else None,
        "run_dir": run.request["run_dir"],
        "output": runprograms.output(run),
        "pid": pid,
        "args": template["s_service_args"],
        "template": template,
        "position": None,
    }


def _after(runner: Runner, run: Run) -> Sequence[Row]:
    if not run.after:
        return []
    unfinished = runner.runs.unfinished
    over = runner.journal.runs.states([one for one in run.after if one not in unfinished])
    return [
        {
            "id": target,
            "condition": condition.value,
            "state": unfinished[target].state.value
            if target in unfinished
            else over[target][0].value
            if target in over
            else None,
        }
        for target, condition in run.after.items()
    ]


def _why(runner: Runner, run: Run, position: int | None) -> str:
    """Say what a queued run waits for."""
    runs = runner.runs
    if run.waits:
        first = ", ".join(runs.unfinished[target].name for target in list(run.waits)[:3])
        more = len(run.waits) - 3
        return f"waits for {first}" + (f" and {more} more" if more > 0 else "")
    if run.due:
        left = units.format_duration(max(0.0, run.due - runner.host.now()))
        said = f": {run.message}" if run.message else ""
        return f"try {run.attempt + 1} of {run.attempts} in {left}{said}"
    if runs.is_held:
        return "the system is being stopped, or has not been brought up"
    before = f"; {position} before it" if position else ""
    return f"{runs.crowd(run.job.name)}{before}"
