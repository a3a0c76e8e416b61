"""`orch submit`: a run of a job, written down before this says so, and awaited when asked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.cli import bars, screen
from orchestrator.cli.session import Session
from orchestrator.client import LAST_LINES, RunRow, last_lines, runs
from orchestrator.client.jobs import Jobs, Run
from orchestrator.client.runs import JobRow
from orchestrator.errors import ExitCode, TopologyError, UsageError
from orchestrator.model import jobs as words
from orchestrator.model.jobs import RunCondition
from orchestrator.model.units import Seconds

_HEADER = ("JOB", "RUNNING", "QUEUED", "SCHEDULE", "PROGRAM")

_TEXTS = ("g_", "s_")
"""How attributes begin that are texts, whatever they look like."""


def submit(
    session: Session,
    *,
    job: str | None,
    listed: bool,
    attributes: Mapping[str, str],
    arguments: Mapping[str, str],
    template: str | None,
    run_id: str | None,
    priority: int | None,
    after: tuple[str, ...],
    last_good: bool,
    wait: bool,
    wait_timeout: Seconds | None,
) -> int:
    """Submit a run; with `wait` the exit code tells how it ended."""
    if listed:
        return _list(session)
    if job is None:
        raise UsageError("name the job; those there are: orch submit --list")
    given = _template(template) if template is not None else {}
    given |= {name: _value(name, text) for name, text in attributes.items()}
    if wait_timeout is not None and not wait:
        raise UsageError("cannot use --wait-timeout without --wait")
    with Jobs(session.place) as jobs:
        run = jobs.submit(
            job,
            given,
            args=arguments,
            id=run_id,
            priority=priority,
            after=[_condition(text) for text in after],
            last_good=last_good,
        )
        if not wait:
            _print(session, run.row)
            return ExitCode.DONE
        if not session.options.json:
            _print(session, run.row)
            session.screen.flush()
        _follow(session, run, wait_timeout)
    if session.options.json:
        session.screen.json(run.row)
    if not run.succeeded:
        session.screen.say(f"orch: {failure(run.row)}")
    return ExitCode.DONE if run.succeeded else ExitCode.FAILED


def _list(session: Session) -> int:
    with Jobs(session.place) as jobs:
        rows = jobs.jobs()
    if session.options.json:
        session.screen.json(rows)
    elif session.options.quiet:
        for row in rows:
            session.screen.data(row["name"])
    else:
        session.screen.data(screen.table(_HEADER, [_cells(row) for row in rows]))
    return ExitCode.DONE


def _cells(row: JobRow) -> tuple[str, ...]:
    does = row["program"] or " ".join(row["command"] or ())
    counts = (str(row["running"]), str(row["queued"]))
    return (row["name"], *counts, row["schedule"] or "-", does)


def _print(session: Session, row: RunRow) -> None:
    if session.options.json:
        session.screen.json(row)
    else:
        session.screen.data(row["id"])


def _follow(session: Session, run: Run, timeout: Seconds | None) -> None:
    with bars.display(session) as shown:
        try:
            for row in run.events(timeout):
                shown.see(row)
        except KeyboardInterrupt:
            session.screen.note(
                f"orch: {run.row['name']} goes on; end it with: orch cancel {run.id}"
            )
            raise


def failure(row: RunRow, lines: int = LAST_LINES) -> str:
    """Return the text that explains how a run ended: its reason, and the end of its output."""
    head = runs.sentence(row)
    path = row["output"]
    tail = last_lines(path, lines) if path else []
    if not tail or row["state"] == "cancelled":
        return head
    return "\n".join((f"{head}; the end of {path}:", *(f"    {each}" for each in tail)))


def _condition(text: str) -> str | dict[str, str]:
    number, equals, condition = text.partition("=")
    known = [one.value for one in RunCondition]
    if equals and condition not in known:
        raise UsageError(f"cannot use {text!r} for --after: choose one of {', '.join(known)}")
    number = runs.id_of(number)
    return {number: condition} if equals else number


def _value(name: str, text: str) -> Any:
    """Return what `text` is for an attribute: as YAML reads it, or JSON where it looks so."""
    attribute = words.attribute(name)
    if attribute.startswith(_TEXTS):
        return text
    try:
        if text[:1] in ("{", "[", '"'):
            return json.loads(text)
        from orchestrator.config import compose  # noqa: PLC0415 - only attributes need it

        return compose.scalar(text) if text else text
    except ValueError as problem:
        raise UsageError(f"cannot use {text!r} for the attribute {name}: {problem}") from problem


def _template(file: str) -> dict[str, Any]:
    """Return the attributes that a file holds.

    Raises:
        TopologyError: It cannot be read, or is no map of attributes.
    """
    from orchestrator.config import compose  # noqa: PLC0415 - as above
    from orchestrator.config.source import Span  # noqa: PLC0415

    source = compose.read(Path(file), file)
    if not source.diagnostics and not isinstance(source.value, dict):
        message = "a template is a map of attributes, as 'input_file: in.dat'"
        source.diagnostics.append(source.diagnostic("ORC101", message, Span(0, 0)))
    if source.diagnostics:
        raise TopologyError(source.diagnostics)
    return dict(source.value)
