"""What must outlive the daemon, in SQLite under the system's base directory.

One row per slot: its component as applied, what is wanted, and what its life cycle must not
forget. A row is written before the effect whose loss would orphan a process: the intent to
spawn is there before the fork, in `intents` until the row follows. Losing power loses the
processes too, so commits are not synced to disk; a killed daemon loses nothing.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from orchestrator.daemon import runjournal
from orchestrator.daemon.intents import Intents
from orchestrator.daemon.runjournal import RunJournal
from orchestrator.errors import JournalError
from orchestrator.model import plain
from orchestrator.model.phase import Exit, Phase, Process, Result
from orchestrator.model.topology import Component
from orchestrator.model.units import Instant, Seconds
from orchestrator.supervision.lifecycle import End, Instance

logger = logging.getLogger(__name__)

FORMAT = "2"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS component (slot TEXT PRIMARY KEY, plain TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS slot (
    slot TEXT PRIMARY KEY, up INTEGER, alone INTEGER, phase TEXT, ready INTEGER,
    pid INTEGER, started INTEGER, generation INTEGER, restarts INTEGER, failures INTEGER,
    attempt INTEGER, spawned_at REAL, due REAL, started_wall REAL,
    result TEXT, code INTEGER, signal INTEGER, core INTEGER, message TEXT, ended INTEGER
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS stop (
    slot TEXT PRIMARY KEY, generation INTEGER, rung INTEGER, due REAL, result TEXT, lived REAL,
    pid INTEGER, started INTEGER
) WITHOUT ROWID;
"""

_WRITE = "INSERT OR REPLACE INTO slot VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
_COLUMNS = _WRITE.count("?")
_GENERATION = 7
_RECORDS = "SELECT component.plain, slot.* FROM component LEFT JOIN slot USING (slot)"


_NO_ROOM = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR_WRITE,
        sqlite3.SQLITE_IOERR_FSYNC,
        sqlite3.SQLITE_IOERR_TRUNCATE,
        sqlite3.SQLITE_IOERR_SHMMAP,
        sqlite3.SQLITE_IOERR_SHMOPEN,
        sqlite3.SQLITE_IOERR_SHMSIZE,
    }
)


class Begun(Struct, frozen=True):
    """How far the stop of a generation has come.

    `rung` and `result` are those of `lifecycle.Stopping`; the rung is over at `due`. `lived` is
    how long the process was well, `command` the stop command while it runs.
    """

    generation: int
    rung: int
    due: Instant
    result: Result
    lived: Seconds
    command: Process | None = None


class Record(Struct, frozen=True):
    """What the journal knows of a slot; `ended`: the process is dead, its tree may not be."""

    slot: str
    component: Component
    up: bool
    alone: bool
    phase: Phase
    ready: bool
    process: Process | None
    generation: int
    restarts: int
    failures: int
    attempt: int
    spawned_at: float
    due: float
    started_wall: float
    end: End | None
    ended: bool = False


class Journal:
    """The journal of one system; `open` makes or repairs it."""

    def __init__(self, connection: sqlite3.Connection, intents: Intents, boot: str) -> None:
        self._connection = connection
        self._intents = intents
        self._untaken: dict[str, tuple[Any, ...]] = {}
        """The rows of intents, by slot, that a full disk has kept us from writing."""
        self._boot = boot
        self.runs = RunJournal(connection)
        self._failing = False
        self.is_new = False
        """Whether it was made now: what ran before, if anything did, it does not know."""

    @classmethod
    def open(cls, path: Path, boot: str) -> Journal:
        """Open the journal of this boot; what cannot be read is put aside and said.

        Pids and monotonic times of another boot mean nothing: such processes are gone.

        Raises:
            JournalError: It is as it should be, and there is no room to use it.
        """
        connection: sqlite3.Connection | None = None
        intents = Intents(path.with_suffix(".intents"))
        try:
            connection = _connect(path)
            journal = cls(connection, intents, boot)
            journal._check(boot)
        except (sqlite3.DatabaseError, json.JSONDecodeError, ValueError) as error:
            if connection is not None:
                connection.close()
            if _lacks_room(error):
                raise JournalError(
                    f"cannot use the journal {path}: {error}; free some space"
                ) from error
            aside, saved = path.with_suffix(".damaged"), _salvaged(path)
            logger.warning(
                "The journal %s cannot be used (%s): put aside as %s", path, error, aside
            )
            with contextlib.suppress(FileNotFoundError):
                os.replace(path, aside)  # noqa: PTH105 - replace, on purpose, what is there
            for suffix in ("-wal", "-shm"):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(f"{path}{suffix}")  # noqa: PTH108
            journal = cls(_connect(path), intents, boot)
            journal._restore(saved)
            journal._check(boot)
            journal.is_new = True
        journal._take_intents()
        return journal

    def _take_intents(self) -> None:
        """Write down the starts that a daemon was killed in: what follows the row that is there.

        A row of the same generation is newer: it was written when the process was there. When
        they cannot be written they count all the same, and the next write takes them along.
        """
        columns = "SELECT slot, generation FROM component LEFT JOIN slot USING (slot)"
        known = dict(self._connection.execute(columns))
        rows = [
            row
            for row in self._intents.read(self._boot)
            if len(row) == _COLUMNS
            and row[0] in known
            and row[_GENERATION] == (known[row[0]] or 0) + 1
        ]
        if rows:
            self._untaken = {row[0]: row for row in rows}
            self._intents.is_pending = True
            self.write(())
            logger.info("Took note of starts begun: %s", ", ".join(row[0] for row in rows))

    def intend(self, rows: Sequence[tuple[Any, ...]]) -> bool:
        """Write down, quicker than `write`, what is to be started; `write` must follow.

        Tells whether it could be done: not while others are pending.
        """
        return not self._intents.is_pending and self._intents.write(self._boot, rows)

    def _restore(self, saved: Mapping[str, list[tuple[Any, ...]]]) -> None:
        """Write what could be read of a damaged journal; rows of another shape are lost."""
        for table, rows in saved.items():
            with contextlib.suppress(sqlite3.Error), self._connection as connection:
                marks = ",".join("?" * len(rows[0]))
                connection.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)  # noqa: S608

    def _check(self, boot: str) -> None:
        with self._connection as connection:
            (health,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if health != "ok":
                raise sqlite3.DatabaseError(health)
            known = dict(connection.execute("SELECT key, value FROM meta"))
            if known.get("format", FORMAT) != FORMAT:
                raise ValueError(f"format {known['format']}, this daemon writes {FORMAT}")
            # A table of another shape is found now, not at the first write.
            connection.execute("SELECT slot, plain FROM component LIMIT 1")
            shape = connection.execute("SELECT * FROM slot LIMIT 1").description
            if len(shape) != _COLUMNS or shape[0][0] != "slot":
                raise ValueError("its tables are not this daemon's")
            self.is_new = "boot" not in known
            if known.get("boot", boot) != boot:
                connection.execute("DELETE FROM meta WHERE key='standings'")
                connection.execute(runjournal.NEW_BOOT)
                connection.execute(
                    "UPDATE slot SET pid=NULL, started=NULL, ready=0, spawned_at=0, due=0, "
                    "phase=CASE WHEN phase IN ('exited', 'failed') THEN phase ELSE 'stopped' END"
                )
            rows = {"format": FORMAT, "boot": boot}
            if not rows.items() <= known.items():  # What is so already must not need room.
                connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", rows.items())

    def meta(self) -> dict[str, str]:
        """Return what was remembered with `remember`."""
        return dict(self._connection.execute("SELECT key, value FROM meta"))

    def remember(self, **values: str) -> None:
        """Keep words about the system as a whole.

        Raises:
            JournalError: They cannot be written.
        """
        with self._writing() as connection:
            connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", values.items())

    def components(self, components: Iterable[Component], removed: Iterable[str] = ()) -> None:
        """Write the components as applied, and forget removed slots.

        Raises:
            JournalError: They cannot be written; the journal is as it was.
        """
        with self._writing() as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO component VALUES (?, ?)",
                ((c.slot, plain.dumps(c).decode()) for c in components),
            )
            gone = [(slot,) for slot in removed]
            connection.executemany("DELETE FROM component WHERE slot=?", gone)
            connection.executemany("DELETE FROM slot WHERE slot=?", gone)
            connection.executemany("DELETE FROM stop WHERE slot=?", gone)
        for (slot,) in gone:
            self._untaken.pop(slot, None)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._connection as connection:
                yield connection
        except sqlite3.OperationalError as error:
            raise JournalError(f"cannot write the journal: {error}; free some space") from error

    def write(self, rows: Iterable[tuple[Any, ...]]) -> bool:
        """Write slots, made by `row`, in one transaction; tell whether it could be done.

        A full disk must not stop supervision: the caller keeps what could not be written and
        tries again, and until then a killed daemon may forget it.
        """
        try:
            with self._connection as connection:
                # In this order: what is written now is newer.
                connection.executemany(_WRITE, (*self._untaken.values(), *rows))
            self._untaken.clear()
            self._intents.forget()
        except sqlite3.OperationalError as error:
            if not self._failing:
                logger.error("Cannot write the journal: %s; free some space", error)  # noqa: TRY400
            self._failing = True
            return False
        if self._failing:
            logger.info("The journal can be written again")
        self._failing = False
        return True

    def stops(self, begun: Mapping[str, Begun]) -> None:
        """Write how far stops have come, by slot; without that they begin anew after a death."""
        rows = (
            (
                slot, stop.generation, stop.rung, stop.due, stop.result.value, stop.lived,
                stop.command.pid if stop.command else None,
                stop.command.started if stop.command else None,
            )
            for slot, stop in begun.items()
        )  # fmt: skip
        try:
            with self._connection as connection:
                connection.executemany(
                    "INSERT OR REPLACE INTO stop VALUES (?,?,?,?,?,?,?,?)", rows
                )
        except sqlite3.OperationalError as error:
            logger.warning("Cannot write how far stops have come: %s", error)

    def begun(self) -> dict[str, Begun]:
        """Return by slot how far the last stop that was written had come."""
        found = {}
        for row in self._connection.execute("SELECT * FROM stop"):
            try:
                slot, generation, rung, due, result, lived, pid, started = row
                command = Process(pid, started) if pid is not None else None
                found[slot] = Begun(generation, rung, due, Result(result), lived, command)
            except ValueError as error:
                logger.warning("The journal's stop %s cannot be used: %s", row[0], error)
        return found

    def records(self) -> Iterator[Record]:
        """Yield every slot that has a component; damaged rows are reported and left out."""
        for text, *values in self._connection.execute(_RECORDS):
            try:
                component = plain.loads(Component, text)
                yield _record(component, list(self._untaken.get(component.slot, values)))
            except ValueError as error:
                logger.warning("The journal's row %s cannot be used: %s", values[0], error)

    def close(self) -> None:
        """Close the files."""
        self._connection.close()
        self._intents.close()


def readable(path: Path) -> None:
    """Check that this code reads a journal that a daemon of perhaps another version writes.

    Raises:
        ValueError: It is of a format that this code does not know, or a row cannot be used.
        sqlite3.DatabaseError: It is damaged.
    """
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        connection.text_factory = _text
        known = dict(connection.execute("SELECT key, value FROM meta"))
        if known.get("format") != FORMAT:
            raise ValueError(f"the journal has format {known.get('format')}, not {FORMAT}")
        for text, *values in connection.execute(_RECORDS):
            _record(plain.loads(Component, text), values)


def row(
    slot: str,
    instance: Instance,
    *,
    up: bool,
    alone: bool,
    due: float,
    started_wall: float,
    ended: Process | None = None,
) -> tuple[Any, ...]:
    """Return the values of a slot as `Journal.write` takes them.

    `ended` is the dead leader of a tree that is being brought down.
    """
    process, end = instance.process or ended, instance.end
    exit = end.exit if end else None  # noqa: A001
    return (
        slot,
        up,
        alone,
        instance.phase.value,
        instance.ready,
        process.pid if process else None,
        process.started if process else None,
        instance.generation,
        instance.restarts,
        instance.failures,
        instance.attempt,
        instance.spawned_at,
        due,
        started_wall,
        end.result.value if end else None,
        exit.code if exit else None,
        exit.signal if exit else None,
        exit.core_dumped if exit else None,
        end.message if end else None,
        ended is not None,
    )


def _record(component: Component, values: list[Any]) -> Record:
    if values[0] is None:
        return Record(
            component.slot, component, False, False, Phase.STOPPED, False, None,
            0, 0, 0, 0, 0.0, 0.0, 0.0, None,
        )  # fmt: skip
    (slot, up, alone, phase, ready, pid, started, generation, restarts, failures, attempt,
     spawned_at, due, wall, result, code, signal, core, message, ended) = values  # fmt: skip
    end = None
    if result is not None:
        known = code is not None or signal is not None
        oom = result == Result.OOM_KILL.value
        exit = Exit(code, signal, bool(core), oom) if known else None  # noqa: A001
        end = End(Result(result), exit, message or "")
    return Record(
        slot=slot,
        component=component,
        up=bool(up),
        alone=bool(alone),
        phase=Phase(phase),
        ready=bool(ready),
        process=Process(pid, started) if pid is not None else None,
        generation=generation,
        restarts=restarts,
        failures=failures,
        attempt=attempt,
        spawned_at=spawned_at,
        due=due,
        started_wall=wall,
        end=end,
        ended=bool(ended),
    )


def _salvaged(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Return the rows that can be read of a damaged journal of our own format, by table."""
    found: dict[str, list[tuple[Any, ...]]] = {}
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(path)) as damaged:
        damaged.text_factory = _text
        known = dict(damaged.execute("SELECT key, value FROM meta"))
        if known.get("format") != FORMAT:
            return {}
        for table in ("meta", "component", "slot", *runjournal.TABLES):
            with contextlib.suppress(sqlite3.Error):
                for values in damaged.execute(f"SELECT * FROM {table}"):  # noqa: S608
                    found.setdefault(table, []).append(values)
    return found


def _lacks_room(error: Exception) -> bool:
    """Tell whether it is the disk that is full, or a file that may not grow, and no damage."""
    return getattr(error, "sqlite_errorcode", None) in _NO_ROOM


def _text(data: bytes) -> str:
    return data.decode(errors="replace")


def _connect(path: Path) -> sqlite3.Connection:
    with contextlib.suppress(OSError):
        # Private from the first moment: the files beside it take its mode.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(path, timeout=5.0)
    connection.text_factory = _text
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=OFF")
        connection.executescript(_SCHEMA + runjournal.SCHEMA)
    except sqlite3.DatabaseError:
        connection.close()
        raise
    os.chmod(path, 0o600)  # noqa: PTH101
    return connection
