"""Where states outlive their component: a SQLite file of its own, or a Redis server.

    sqlite              the file `data/COMPONENT.sqlite` below the directory of the system
    redis://HOST/0#KEY  a hash KEY:COMPONENT:STATE in a Redis server; also rediss:// and unix://

What is stored are the bytes that would be sent: a number and, for each key of the state, a value.
A change is stored before anybody is told of it. SQLite writes ahead and waits for the disk at
checkpoints only: no change is lost when the component dies, the last ones may be when the machine
loses its power. Redis does as its server is configured.

The Redis client is imported when a state asks for it; `pip install 'orch[redis]'` brings it.
"""

from __future__ import annotations

import importlib
import os
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from orchestrator.component.errors import SendError, SetupError

TIMEOUT = 5.0
"""For how many seconds a store is waited for."""

_NUMBER = b"#number"
_TABLES = """
create table if not exists state (name text primary key, number integer not null);
create table if not exists item (
    name text not null, key blob not null, value blob not null, primary key (name, key)
) without rowid;
"""


class Store(Protocol):
    """Where one state is kept."""

    def load(self) -> tuple[int, dict[bytes, bytes]] | None:
        """Return number and items of what was saved, None when nothing was."""

    def save(self, number: int, changes: Mapping[bytes, bytes | None], *, whole: bool) -> None:
        """Save changes, all or none of them; None removes a key, `whole` all others.

        Raises:
            SendError: They could not be saved.
        """

    def close(self) -> None:
        """Let go of the store."""


def opened(where: str, component: str, state: str, file: Path) -> Store:
    """Open the store of a state.

    Args:
        where: What the topology says: `sqlite` or a URL.
        component: The component's name.
        state: The state's name.
        file: The component's SQLite file.

    Raises:
        SetupError: It is no store, or cannot be opened.
    """
    if where == "sqlite":
        return SqliteStore(file, state)
    url, _, key = where.partition("#")
    if url.partition("://")[0] in ("redis", "rediss", "unix"):
        return RedisStore(url, f"{key or 'orch'}:{component}:{state}", state)
    # It may hold a password.
    raise SetupError(
        f"cannot keep the state {state!r}: expected 'sqlite', redis://, rediss:// or unix://"
    )


class SqliteStore:
    """A state in the component's file, beside its others."""

    def __init__(self, file: Path, state: str) -> None:
        self._state = state
        self._file = file
        try:
            file.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
            os.close(os.open(file, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
            # Whoever serves in the background takes turns with whoever sends.
            self._db = sqlite3.connect(
                file, timeout=TIMEOUT, isolation_level=None, check_same_thread=False
            )
            self._db.execute("pragma journal_mode = wal")
            self._db.execute("pragma synchronous = normal")
            self._db.executescript(_TABLES)
        except (OSError, sqlite3.Error) as error:
            raise SetupError(f"cannot keep the state {state!r} in {file}: {error}") from error

    def load(self) -> tuple[int, dict[bytes, bytes]] | None:
        """Return number and items of what was saved, None when nothing was."""
        found = self._db.execute("select number from state where name = ?", (self._state,))
        row = found.fetchone()
        if row is None:
            return None
        items = self._db.execute("select key, value from item where name = ?", (self._state,))
        return int(row[0]), dict(items)

    def save(self, number: int, changes: Mapping[bytes, bytes | None], *, whole: bool) -> None:
        """Save changes in one transaction."""
        name, db = self._state, self._db
        kept = [(name, key, value) for key, value in changes.items() if value is not None]
        gone = [(name, key) for key, value in changes.items() if value is None]
        try:
            with db:
                db.execute("begin immediate")
                if whole:
                    db.execute("delete from item where name = ?", (name,))
                db.executemany("insert or replace into item values (?, ?, ?)", kept)
                db.executemany("delete from item where name = ? and key = ?", gone)
                db.execute("insert or replace into state values (?, ?)", (name, number))
        except sqlite3.Error as error:
            raise SendError(f"cannot keep the state {name!r} in {self._file}: {error}") from error

    def close(self) -> None:
        """Close the file."""
        self._db.close()


class RedisStore:
    """A state in a hash of a Redis server."""

    def __init__(self, url: str, key: str, state: str) -> None:
        self._state = state
        self._key = key
        try:
            self._redis: Any = importlib.import_module("redis")
        except ImportError as error:
            raise SetupError(
                f"cannot keep the state {state!r} in Redis: its client is not installed; "
                "pip install 'orch[redis]'"
            ) from error
        try:
            self._client = self._redis.Redis.from_url(
                url, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT
            )
            self._client.ping()
        except (self._redis.RedisError, OSError, ValueError) as error:
            raise SetupError(f"cannot keep the state {state!r} in Redis: {error}") from error

    def load(self) -> tuple[int, dict[bytes, bytes]] | None:
        """Return number and items of what was saved, None when nothing was."""
        try:
            items: dict[bytes, bytes] = self._client.hgetall(self._key)
        except (self._redis.RedisError, OSError) as error:
            raise SetupError(
                f"cannot read the state {self._state!r} from Redis: {error}"
            ) from error
        number = items.pop(_NUMBER, None)
        return None if number is None else (int(number), items)

    def save(self, number: int, changes: Mapping[bytes, bytes | None], *, whole: bool) -> None:
        """Save changes in one transaction."""
        kept: dict[bytes, bytes | int] = {k: v for k, v in changes.items() if v is not None}
        gone = [key for key, value in changes.items() if value is None]
        try:
            with self._client.pipeline(transaction=True) as batch:
                if whole:
                    batch.delete(self._key)
                if gone:
                    batch.hdel(self._key, *gone)
                batch.hset(self._key, mapping={**kept, _NUMBER: number})
                batch.execute()
        except (self._redis.RedisError, OSError) as error:
            raise SendError(f"cannot keep the state {self._state!r} in Redis: {error}") from error

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
