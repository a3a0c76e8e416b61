"""`orch runs` and `orch cancel`, and what other verbs say of a run that is named to them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, cast

from orchestrator.cli import bars, invocation, screen
from orchestrator.cli.session import Session
from orchestrator.client import Client, RunRow, last_lines, runs
from orchestrator.client.jobs import Jobs
from orchestrator.errors import ExitCode, RequestFailed, UsageError
from orchestrator.model import units
from orchestrator.model.units import Seconds

_SHOW = "show"
_COUNT = 50
"""How many runs a table has when nobody says."""

_HEADER = ("RUN", "STATE", "PROGRESS", "SUBMITTED", "TOOK", "DETAIL")
_LINES = 10


def listing(
    session: Session,
    *,
    words: tuple[str, ...],
    states: tuple[str, ...],
    count: int | None,
    follow: bool,
) -> int:
    """List runs; after the word `show`, tell all about some."""
    if words[:1] == (_SHOW,):
        if len(words) == 1 or states or count or follow:
            raise UsageError("name the runs to show, and nothing else: orch runs show ID")
        return _show(session, words[1:])
    if follow:
        params = runs.selection((), words, states or runs.UNFINISHED)
        most = None if count == invocation.ALL_LINES else count
        return _follow(session, _rows(session.connect(), params)[:most])
    most = _COUNT if count is None and not session.options.json else count
    limit = None if most in (None, invocation.ALL_LINES) else most
    # One more than is shown tells whether there are more.
    found = _rows(session.connect(), runs.selection((), words, states, limit and limit + 1))
    is_cut = limit is not None and len(found) > limit
    found = found[:limit]
    _print(session, found)
    if is_cut and count is None:
        session.screen.note(f"orch: these are the newest {limit}; -n all shows all")
    return ExitCode.DONE


def _rows(daemon: Client, params: dict[str, Any]) -> list[RunRow]:
    return cast("list[RunRow]", daemon.request("runs", **params)["runs"])


def _print(session: Session, rows: Sequence[RunRow]) -> None:
    if session.options.json:
        session.screen.json(rows)
    elif session.options.quiet:
        for row in rows:
            session.screen.data(row["id"])
    else:
        now = datetime.now(UTC)
        table = _table(rows, now, _width(session), coloured=session.screen.out_coloured)
        session.screen.data(table)


def _width(session: Session) -> int | None:
    """Return how wide a line may be; None where it is no matter."""
    if not session.screen.is_terminal:
        return None
    import shutil  # noqa: PLC0415 - only a terminal has a width

    return shutil.get_terminal_size((0, 0)).columns or None


def _follow(session: Session, rows: Sequence[RunRow]) -> int:
    """Show how runs go on, until all of them have ended."""
    if not rows:
        session.screen.note("orch: nothing runs, and nothing waits")
        return ExitCode.DONE
    with Jobs(session.place) as jobs:
        changes = jobs.follow([row["id"] for row in rows])
        if session.options.json:
            for row in changes:
                session.screen.line(row)
        else:
            with bars.display(session) as shown:
                for row in changes:
                    shown.see(row)
    return ExitCode.DONE


def _table(rows: Sequence[RunRow], now: datetime, width: int | None, *, coloured: bool) -> str:
    cells = [
        (
            row["name"],
            row["state"],
            "-" if row["progress"] is None else f"{row['progress']:.0%}",
            f"{_duration(_since(row['submitted_at'], now))} ago",
            _took(row, now),
            " ".join(runs.reason(row).partition("\n")[0].split()),
        )
        for row in rows
    ]
    if width is not None:
        # What is before the last column, its title included, and the gaps between them.
        before = sum(2 + max(map(len, column)) for column in zip(_HEADER, *cells, strict=True))
        room = width - before + 2 + max(len(row[-1]) for row in (_HEADER, *cells))
        cells = [(*row[:-1], _cut(row[-1], max(room, len(_HEADER[-1])))) for row in cells]
    colours = {1: [bars.colour_of(row["state"]) for row in rows]} if coloured else None
    return screen.table(_HEADER, cells, colours)


def _cut(text: str, room: int) -> str:
    return text if len(text) <= room else text[: room - 1] + "…"


def _since(begin: str, end: datetime) -> Seconds:
    return max(0.0, (end - datetime.fromisoformat(begin)).total_seconds())


def _duration(seconds: Seconds) -> str:
    """Return a duration in seconds, a short one in tenths."""
    short = round(seconds, 1) if seconds < 10 else round(seconds)
    return units.format_duration(short) if short else "0s"


def _took(row: RunRow, now: datetime) -> str:
    if row["started_at"] is None:
        return "-"
    ended = row["ended_at"]
    seconds = _since(row["started_at"], now if ended is None else datetime.fromisoformat(ended))
    return _duration(seconds)


# ------------------------------------------------------------------ one run


def _show(session: Session, words: Sequence[str]) -> int:
    daemon = session.connect()
    found = [daemon.request("run", id=runs.id_of(word)) for word in words]
    if session.options.json:
        session.screen.json(found)
    else:
        coloured = session.screen.out_coloured
        session.screen.data("\n\n".join(block(one, coloured=coloured) for one in found))
    return ExitCode.DONE


def block(about: dict[str, Any], *, coloured: bool) -> str:
    """Return all about a run, given what the daemon answers to `run`."""
    row: RunRow = about["run"]
    facts = [
        ("state", _state(row, coloured=coloured)),
        ("tries", f"{row['attempt']} of {row['attempts']}"),
        ("submitted", row["submitted_at"]),
    ]
    optional = (
        ("started", row["started_at"]),
        ("ended", row["ended_at"] and f"{row['ended_at']}, took {_took(row, datetime.now(UTC))}"),
        ("process", row["pid"] and f"pid {row['pid']}"),
        ("priority", row["priority"] or None),
        ("after", ", ".join(map(_predecessor, row["after"]))),
        ("custom", row["custom"] and json.dumps(row["custom"], ensure_ascii=False)),
        ("arguments", " ".join(f"{name}={value}" for name, value in row["args"].items())),
        ("template", _attributes(row["template"])),
        ("directory", row["run_dir"]),
        ("records", about["record_dir"]),
    )
    facts.extend((label, str(value)) for label, value in optional if value)
    lines = [screen.paint(row["name"], screen.BOLD, on=coloured)]
    lines.extend(f"  {label:<10} {value}" for label, value in facts)
    # The first mistake is often why it failed, and told already.
    errors = [error for error in about["errors"] if error["message"] not in runs.reason(row)]
    lines.extend(f"  error      {_error(error)}" for error in errors)
    if row["output"]:
        lines.append(f"  output     {row['output']}")
        lines.extend(f"    {line}" for line in last_lines(row["output"], _LINES))
    return "\n".join(lines)


def _attributes(template: dict[str, Any]) -> str:
    told = {name: value for name, value in template.items() if value not in (None, {})}
    return json.dumps(told, ensure_ascii=False) if told else ""


def _state(row: RunRow, *, coloured: bool) -> str:
    text = screen.paint(row["state"], bars.colour_of(row["state"]), on=coloured)
    if row["progress"] is not None and not runs.is_finished(row):
        text += f", {row['progress']:.0%}"
    why = runs.reason(row)
    return f"{text}: {why}" if why else text


def _predecessor(after: dict[str, Any]) -> str:
    return f"{after['id']} ({after['condition']}; is {after['state']})"


def _error(error: dict[str, Any]) -> str:
    where = f" ({error['where']})" if error.get("where") else ""
    return f"{error['hook']}: {error['type']}: {error['message']}{where}"


# ------------------------------------------------------------------ their end


def cancel(
    session: Session,
    *,
    words: tuple[str, ...],
    everything: bool,
    no_wait: bool,
    wait_timeout: Seconds,
) -> int:
    """End runs, and wait until they have ended."""
    if not words and not everything:
        raise UsageError("name the runs to end, or say --all")
    if everything:
        params = runs.selection((), words, runs.UNFINISHED)
    else:
        params = runs.selection([runs.id_of(word) for word in words])
    done = session.connect().request("cancel", **params)
    if session.options.json:
        session.screen.json({"cancelled": done["cancelled"], "unchanged": done["unchanged"]})
    for number in done["unchanged"]:
        session.screen.note(f"orch: {number}: it had ended already")
    if everything and not done["cancelled"]:
        session.screen.note("orch: nothing to cancel")
    if not no_wait and done["cancelled"]:
        _until_ended(session, done["cancelled"], wait_timeout)
    return ExitCode.DONE


def _until_ended(session: Session, numbers: Sequence[str], timeout: Seconds) -> None:
    is_many = len(numbers) > _COUNT
    shown = bars.Lines(session.screen)
    with Jobs(session.place) as jobs:
        for row in jobs.follow(numbers, timeout):
            if runs.is_finished(row) and not is_many:
                shown.see(row)
    if is_many:
        session.screen.note(f"orch: {len(numbers)} runs have ended")


def await_end(
    session: Session, rows: Sequence[RunRow], timeout: Seconds, *, tells_code: bool
) -> int:
    """Wait until runs have ended; 1, or the program's code, when one has not succeeded."""
    with Jobs(session.place) as jobs:
        ended = [run.row for run in jobs.wait(*(row["id"] for row in rows), timeout=timeout)]
    if session.options.json:
        session.screen.json(ended)
    elif tells_code:
        for row in ended:
            session.screen.data(f"{row['name']} {_code(row)}")
    if tells_code:
        return next((code for code in map(_code, ended) if code), ExitCode.DONE)
    for row in ended:
        if row["state"] != "succeeded":
            session.screen.say(f"orch: {runs.sentence(row)}")
    return ExitCode.FAILED if any(map(_code, ended)) else ExitCode.DONE


def _code(row: RunRow) -> int:
    if row["state"] == "succeeded":
        return ExitCode.DONE
    return row["exit_code"] or ExitCode.FAILED


# ------------------------------------------------------------------ runs as names


def among(daemon: Client, words: Sequence[str]) -> tuple[tuple[str, ...], list[RunRow]]:
    """Return those of `words` that name instances, and the rows of the runs that others name.

    Raises:
        RequestFailed: A word names neither.
    """
    if not words:
        return (), []
    if not any("/" in word for word in words) and selects(daemon, words):
        return tuple(words), []
    named: list[str] = []
    found: dict[str, RunRow] = {}
    for word in words:
        if "/" not in word and selects(daemon, (word,)):
            named.append(word)
            continue
        try:
            rows = _rows(daemon, runs.selection([runs.id_of(word)]))
        except RequestFailed as refusal:
            if refusal.code == "unknown-run" and "/" not in word:
                # It looks more like an instance, and then that is what it is near to.
                daemon.ps((word,))
            raise
        found.update((row["id"], row) for row in rows)
    return tuple(named), list(found.values())


def selects(daemon: Client, words: Sequence[str]) -> bool:
    """Tell whether each word names instances."""
    try:
        daemon.ps(words)
    except RequestFailed as refusal:
        if refusal.code != "unknown-name":
            raise
        return False
    return True
