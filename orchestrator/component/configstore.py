"""Where the configuration of services is kept: values by space and name, in one place.

    sqlite              the file `data/config.sqlite` below the directory of the system
    redis://HOST/0#KEY  hashes KEY:config:SPACE in a Redis server; also rediss:// and unix://
    memory              this process, for tests and for services outside of a system

The spaces are `default`, `stored`, `component` and, for each component, `changes:COMPONENT`; see
`component.hooks`. Every reading looks at the store, every writing is one transaction, and any
number of processes may do both. Values keep their exact types.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sqlite3
import threading
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from orchestrator.component.errors import ComponentError
from orchestrator.wire import exactjson

TIMEOUT = 30.0
"""For how many seconds a store is waited for, also when others write."""

FILE = "data/config.sqlite"
"""The file of SQLite, below the directory of the system."""

_TABLE = """
create table if not exists value (
    space text not null, name text not null, json text not null, primary key (space, name)
) without rowid
"""


class StoreError(ComponentError):
    """The configuration store cannot be read or written."""


class Store(Protocol):
    """Values by space and name. All that is written in one call is written, or nothing."""

    def read(self, space: str) -> dict[str, Any]:
        """Return the values of a space.

        Raises:
            StoreError: It cannot be read.
        """

    def write(self, space: str, values: Mapping[str, Any], gone: Collection[str] = ()) -> None:
        """Put values into a space, and remove names from it.

        Raises:
            StoreError: They cannot be written.
            TypeError: A value is of a type that cannot be kept.
        """


def opened(where: str, base_dir: Path) -> Store:
    """Return a store; nothing is looked at before it is used.

    Args:
        where: What the topology says: `sqlite` or a URL; or `memory`.
        base_dir: The directory of the system.

    Raises:
        StoreError: It is no store.
    """
    if where == "memory":
        return MemoryStore()
    if where == "sqlite":
        return SqliteStore(base_dir / FILE)
    url, _, key = where.partition("#")
    if url.partition("://")[0] in ("redis", "rediss", "unix"):
        return RedisStore(url, key or "orch")
    # It may hold a password.
    raise StoreError("no configuration store: expected sqlite, redis://, rediss:// or unix://")


class MemoryStore:
    """A store in this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spaces: dict[str, dict[str, str]] = {}

    def read(self, space: str) -> dict[str, Any]:
        """Return the values of a space."""
        with self._lock:
            found = dict(self._spaces.get(space, {}))
        return {name: _value(text) for name, text in found.items()}

    def write(self, space: str, values: Mapping[str, Any], gone: Collection[str] = ()) -> None:
        """Put values into a space, and remove names from it."""
        texts = {name: _text(name, value) for name, value in values.items()}
        with self._lock:
            there = self._spaces.setdefault(space, {})
            for name in gone:
                there.pop(name, None)
            there.update(texts)


class SqliteStore:
    """A store in a file. Each use opens it anew, so that threads and forks have their own."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def read(self, space: str) -> dict[str, Any]:
        """Return the values of a space; none when there is no file yet."""
        if not self._is_there():
            return {}
        with self._open() as db:
            rows = db.execute("select name, json from value where space = ?", (space,)).fetchall()
        return {name: _value(text) for name, text in rows}

    def write(self, space: str, values: Mapping[str, Any], gone: Collection[str] = ()) -> None:
        """Put values into a space, and remove names from it."""
        rows = [(space, name, _text(name, value)) for name, value in values.items()]
        with self._open() as db, db:
            db.execute("begin immediate")
            db.executemany(
                "delete from value where space = ? and name = ?", [(space, name) for name in gone]
            )
            db.executemany("insert or replace into value values (?, ?, ?)", rows)

    def _is_there(self) -> bool:
        try:
            return self.file.exists()
        except OSError as error:
            raise StoreError(f"cannot use the configuration store {self.file}: {error}") from error

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            self.file.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
            # Before SQLite would make it with another mode.
            os.close(os.open(self.file, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
            with contextlib.closing(
                sqlite3.connect(self.file, timeout=TIMEOUT, isolation_level=None)
            ) as db:
                if db.execute("pragma journal_mode").fetchone() != ("wal",):
                    db.execute("pragma journal_mode = wal")
                db.execute(_TABLE)
                yield db
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"cannot use the configuration store {self.file}: {error}") from error


class RedisStore:
    """A store in a Redis server, each space a hash."""

    def __init__(self, url: str, key: str) -> None:
        self._key = key
        try:
            self._redis: Any = importlib.import_module("redis")
        except ImportError as error:
            raise StoreError(
                "cannot use a configuration store in Redis: its client is not installed; "
                "pip install 'orch[redis]'"
            ) from error
        try:
            self._client = self._redis.Redis.from_url(
                url, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT, decode_responses=True
            )
        except ValueError as error:
            raise StoreError(f"cannot use the configuration store in Redis: {error}") from error

    def read(self, space: str) -> dict[str, Any]:
        """Return the values of a space."""
        with self._failures():
            found = self._client.hgetall(self._name(space))
        return {name: _value(text) for name, text in found.items()}

    def write(self, space: str, values: Mapping[str, Any], gone: Collection[str] = ()) -> None:
        """Put values into a space, and remove names from it."""
        texts = {name: _text(name, value) for name, value in values.items()}
        with self._failures(), self._client.pipeline(transaction=True) as batch:
            if gone:
                batch.hdel(self._name(space), *gone)
            if texts:
                batch.hset(self._name(space), mapping=texts)
            batch.execute()

    def _name(self, space: str) -> str:
        return f"{self._key}:config:{space}"

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except (self._redis.RedisError, OSError) as error:
            raise StoreError(f"cannot use the configuration store in Redis: {error}") from error


def _text(name: str, value: Any) -> str:
    try:
        return json.dumps(exactjson.dump(value))
    except TypeError as error:
        raise TypeError(f"cannot keep {name!r}: {error}") from error


def _value(text: str) -> Any:
    return exactjson.load(json.loads(text))
