"""Runs in the journal: what was submitted, where each is, and the jobs as they were then.

A run is written before its submit is answered, and each try before its process is asked for.
What is over stays until retention removes it, and is read from here: only what is not over is
held in memory.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct

from orchestrator.errors import JournalError
from orchestrator.model import plain, topology
from orchestrator.model.jobs import RunCondition, RunResult, RunState
from orchestrator.model.phase import Process
from orchestrator.model.topology import Job
from orchestrator.supervision.retention import Over
from orchestrator.supervision.runs import Intent, Run

logger = logging.getLogger(__name__)

SCHEMA = """
CREATE TABLE IF NOT EXISTS job (digest TEXT PRIMARY KEY, plain TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS run (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, job TEXT NOT NULL, digest TEXT NOT NULL,
    submitted TEXT NOT NULL, state TEXT NOT NULL, attempt INTEGER, due REAL, began REAL,
    intent TEXT, result TEXT, code INTEGER, signal INTEGER, message TEXT, started_wall REAL,
    ended_wall REAL, size INTEGER, pid INTEGER, started INTEGER, shown TEXT
);
CREATE INDEX IF NOT EXISTS run_by_job ON run (job, number);
"""

TABLES = ("job", "run")

NEW_BOOT = "UPDATE run SET pid=NULL, started=NULL, due=0, began=0 WHERE began OR due OR pid"
"""What is forgotten when the machine has been started anew: its times and processes are gone."""

_OVER = tuple(state.value for state in RunState if state.is_over)
_MUTABLE = (
    "state", "attempt", "due", "began", "intent", "result", "code", "signal", "message",
    "started_wall", "ended_wall", "size", "pid", "started", "shown",
)  # fmt: skip
_COLUMNS = ("number", "id", "job", "digest", "submitted", *_MUTABLE)
_INSERT = f"INSERT INTO run VALUES ({','.join('?' * len(_COLUMNS))})"  # noqa: S608
_UPDATE = f"UPDATE run SET {', '.join(f'{c}=?' for c in _MUTABLE)} WHERE number=?"  # noqa: S608


class Record(Struct):
    """A run as the journal has it, with its process and what its hooks last showed."""

    run: Run
    process: Process | None
    shown: Mapping[str, Any]


class RunJournal:
    """The tables of runs, on the journal's connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._jobs: dict[str, Job] = {}
        self._digests: dict[int, tuple[Job, str]] = {}
        self._is_failing = False

    def add(self, run: Run) -> None:
        """Write a run that is submitted.

        Raises:
            JournalError: It cannot be written, or its id is taken.
        """
        digest, text = self._digest(run.job)
        submitted = {
            "priority": run.priority,
            "after": {target: condition.value for target, condition in run.after.items()},
            "request": run.request,
            "submitted": run.submitted,
            "scheduled": run.scheduled,
        }
        values = (run.number, run.id, run.job.name, digest, json.dumps(submitted))
        try:
            with self._connection as connection:
                if text is not None:
                    connection.execute("INSERT OR IGNORE INTO job VALUES (?, ?)", (digest, text))
                connection.execute(_INSERT, (*values, *_mutable(run, None, None)))
        except sqlite3.IntegrityError as error:
            raise JournalError(f"there is a run {run.id!r} already") from error
        except sqlite3.OperationalError as error:
            raise JournalError(f"cannot write the journal: {error}; free some space") from error
        self._jobs[digest] = run.job

    def _digest(self, job: Job) -> tuple[str, str | None]:
        """Return a job's digest, and its text unless it has been written already."""
        known = self._digests.get(id(job))
        if known is not None and known[0] is job:
            return known[1], None
        value = plain.encode(job)
        digest = topology.digest(value)
        self._digests[id(job)] = (job, digest)
        return digest, json.dumps(value)

    def write(
        self, changed: Iterable[tuple[Run, Process | None, Mapping[str, Any] | None]]
    ) -> bool:
        """Write where runs are, in one transaction; tell whether it could be done."""
        rows = [(*_mutable(run, process, shown), run.number) for run, process, shown in changed]
        try:
            with self._connection as connection:
                connection.executemany(_UPDATE, rows)
        except sqlite3.OperationalError as error:
            if not self._is_failing:
                logger.error("Cannot write the journal: %s; free some space", error)  # noqa: TRY400
            self._is_failing = True
            return False
        if self._is_failing:
            logger.info("The journal can be written again")
        self._is_failing = False
        return True

    def remove(self, run_ids: Collection[str]) -> None:
        """Forget runs.

        Raises:
            JournalError: That cannot be written.
        """
        try:
            with self._connection as connection:
                connection.executemany("DELETE FROM run WHERE id=?", [(one,) for one in run_ids])
        except sqlite3.OperationalError as error:
            raise JournalError(f"cannot write the journal: {error}; free some space") from error

    def measured(self, sizes: Mapping[str, int]) -> None:
        """Write how much the directories of runs take; when that cannot be, another time."""
        with contextlib.suppress(sqlite3.OperationalError), self._connection as connection:
            values = [(size, run_id) for run_id, size in sizes.items()]
            connection.executemany("UPDATE run SET size=? WHERE id=?", values)

    # ------------------------------------------------------------- reading

    def last_number(self) -> int:
        """Return the number of the newest run; 0 when there is none."""
        (number,) = self._connection.execute("SELECT max(number) FROM run").fetchone()
        return number or 0

    def newest(self) -> dict[str, str]:
        """Return the id of each job's newest run."""
        found = self._connection.execute("SELECT job, max(number), id FROM run GROUP BY job")
        return {job: run_id for job, _, run_id in found}

    def unfinished(self) -> list[Record]:
        """Return every run that is not over, the oldest first."""
        marks = ",".join("?" * len(_OVER))
        return list(self._select(f"state NOT IN ({marks}) ORDER BY number", _OVER))

    def over(
        self,
        *,
        jobs: Sequence[str] = (),
        states: Sequence[str] = _OVER,
        ids: Sequence[str] = (),
        before: int | None = None,
        limit: int = -1,
    ) -> list[Record]:
        """Return runs that are over, the newest first.

        `before` is the number of a run; -1 as `limit` returns all of them.
        """
        wanted = [state for state in states if state in _OVER]
        where = [f"state IN ({','.join('?' * len(wanted))})"]
        values: list[Any] = [*wanted]
        for column, words in (("job", jobs), ("id", ids)):
            if words:
                where.append(f"{column} IN ({','.join('?' * len(words))})")
                values += words
        if before is not None:
            where.append("number < ?")
            values.append(before)
        condition = f"{' AND '.join(where)} ORDER BY number DESC LIMIT ?"
        return list(self._select(condition, (*values, limit)))

    def states(self, run_ids: Collection[str]) -> dict[str, tuple[RunState, str, int]]:
        """Return the state, the job and the number of runs by id, of those there are."""
        found = {}
        for run_id in run_ids:
            row = self._connection.execute(
                "SELECT state, job, number FROM run WHERE id=?", (run_id,)
            ).fetchone()
            if row is not None:
                found[run_id] = RunState(row[0]), row[1], row[2]
        return found

    def kept(self, job: str) -> list[Over]:
        """Return what there is of a job's runs that are over, the last to end first."""
        marks = ",".join("?" * len(_OVER))
        rows = self._connection.execute(
            f"SELECT id, ended_wall, size FROM run WHERE job=? AND state IN ({marks}) "  # noqa: S608
            "ORDER BY ended_wall DESC, number DESC",
            (job, *_OVER),
        )
        return [Over(run_id, ended or 0.0, size) for run_id, ended, size in rows]

    def directories(self, run_ids: Collection[str]) -> dict[str, str]:
        """Return the directories of runs, by id."""
        found = {}
        for run_id in run_ids:
            row = self._connection.execute("SELECT submitted FROM run WHERE id=?", (run_id,))
            text = row.fetchone()
            if text is not None:
                found[run_id] = str(json.loads(text[0])["request"]["run_dir"])
        return found

    def forget_unused_jobs(self) -> None:
        """Drop the jobs of which no run is left."""
        with contextlib.suppress(sqlite3.OperationalError), self._connection as connection:
            connection.execute("DELETE FROM job WHERE digest NOT IN (SELECT digest FROM run)")

    def _select(self, condition: str, values: Sequence[Any]) -> Iterator[Record]:
        query = f"SELECT {', '.join(_COLUMNS)} FROM run WHERE {condition}"  # noqa: S608
        for row in self._connection.execute(query, values):
            try:
                yield self._record(row)
            except (ValueError, KeyError, TypeError) as error:
                logger.warning("The journal's run %s cannot be used: %s", row[1], error)

    def _record(self, row: Sequence[Any]) -> Record:
        (number, run_id, _, digest, submitted, state, attempt, due, began, intent, result, code,
         signal, message, started_wall, ended_wall, size, pid, started, shown) = row  # fmt: skip
        told = json.loads(submitted)
        run = Run(
            id=run_id,
            number=number,
            job=self._job(digest),
            priority=told["priority"],
            after={target: RunCondition(word) for target, word in told["after"].items()},
            request=told["request"],
            submitted=told["submitted"],
            scheduled=told["scheduled"],
            state=RunState(state),
            attempt=attempt,
            due=due,
            began=began,
            intent=Intent(intent) if intent else None,
            result=RunResult(result) if result else None,
            exit_code=code,
            signal=signal,
            message=message or "",
            started=started_wall,
            ended=ended_wall,
            size=size,
        )
        process = Process(pid, started) if pid is not None else None
        return Record(run, process, json.loads(shown) if shown else {})

    def _job(self, digest: str) -> Job:
        job = self._jobs.get(digest)
        if job is None:
            row = self._connection.execute("SELECT plain FROM job WHERE digest=?", (digest,))
            found = row.fetchone()
            if found is None:
                raise ValueError("its job is lost")
            job = self._jobs[digest] = plain.decode(Job, json.loads(found[0]))
            self._digests[id(job)] = (job, digest)
        return job


def _mutable(
    run: Run, process: Process | None, shown: Mapping[str, Any] | None
) -> tuple[Any, ...]:
    return (
        run.state.value,
        run.attempt,
        run.due,
        run.began,
        run.intent.value if run.intent else None,
        run.result.value if run.result else None,
        run.exit_code,
        run.signal,
        run.message,
        run.started,
        run.ended,
        run.size,
        process.pid if process else None,
        process.started if process else None,
        json.dumps(shown) if shown else None,
    )
