"""The state of runs in Redis, for whoever has no other way to the daemon.

    HGET    KEY:runs ID     the run's row as JSON: state, progress, text, custom, exit code, …
    HGETALL KEY:runs        those of all runs that are kept
    SUBSCRIBE KEY:runs      each row again when it changes

KEY is the fragment of the URL, as in `redis://host/0#lab`, or `orch:SYSTEM`. One process writes:
the daemon. It must not wait, so a thread does; of a run that changes quicker than Redis takes it,
the newest row wins. A server that is away is tried again, and then has what it missed.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import logging
import threading
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from orchestrator.component.errors import SetupError
from orchestrator.component.stores import TIMEOUT
from orchestrator.model.units import Seconds

logger = logging.getLogger(__name__)

BATCH = 500
"""How many rows are written at once."""

PENDING = 50_000
"""How many rows wait at most for a server that is away; the oldest are given up."""

SCHEMES = ("redis", "rediss", "unix")

PAUSES: tuple[Seconds, ...] = (0.2, 0.5, 1.0, 2.0, 5.0)
"""How long a server that is away is left alone, each time; then the last again."""

LAST: Seconds = 2.0
"""How long `close` waits for what is unwritten."""

Row = Mapping[str, Any]


class Mirror:
    """Writes rows of runs to a Redis server, from a thread of its own.

    Args:
        url: `redis://`, `rediss://` or `unix://`, with the key as its fragment.
        system: The name of the system, for the key.

    Raises:
        SetupError: The client is not installed, or the URL is none.
    """

    def __init__(self, url: str, system: str) -> None:
        self._url, _, key = url.partition("#")
        if importlib.util.find_spec("redis") is None:
            raise SetupError(
                "cannot mirror runs in Redis: its client is not installed; "
                "pip install 'orch[redis]'"
            )
        try:
            parts = urlsplit(self._url)
            _ = parts.port
        except ValueError as error:
            raise SetupError(f"cannot mirror runs in Redis: {error}") from None
        if parts.scheme not in SCHEMES:
            # The URL itself may hold a password.
            raise SetupError(
                f"cannot mirror runs: expected {', '.join(f'{one}://' for one in SCHEMES)}, "
                f"not {parts.scheme}://"
            )
        self._redis: Any = None
        self._client: Any = None
        self._key = f"{key or f'orch:{system}'}:runs"
        self._changed = threading.Condition()
        self._pending: dict[str, Row | None] = {}
        self._is_closing = False
        self._pauses = 0
        self._thread = threading.Thread(target=self._write_all, name="orch-mirror", daemon=True)
        self._thread.start()

    def put(self, row: Row) -> None:
        """Have a row written soon; never waits."""
        self._add({str(row["id"]): row})

    def forget(self, ids: Iterable[str]) -> None:
        """Have the rows of runs removed soon; never waits."""
        self._add(dict.fromkeys(ids))

    def end(self) -> None:
        """Write what is unwritten if the server is there, and end; never waits."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()

    def close(self) -> None:
        """End, and wait for that for a little while."""
        self.end()
        self._thread.join(LAST)

    def _add(self, rows: Mapping[str, Row | None]) -> None:
        with self._changed:
            for run_id, row in rows.items():
                # At the end of the queue, so that what is given up is the oldest.
                self._pending.pop(run_id, None)
                self._pending[run_id] = row
            while len(self._pending) > PENDING:
                del self._pending[next(iter(self._pending))]
            self._changed.notify()

    def _write_all(self) -> None:
        # Here, because loading the client takes longer than anybody else may wait.
        self._redis = importlib.import_module("redis")
        self._client = self._redis.Redis.from_url(
            self._url, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT
        )
        while True:
            with self._changed:
                while not self._pending and not self._is_closing:
                    self._changed.wait()
                if not self._pending:
                    break
                batch = {one: self._pending[one] for one in list(self._pending)[:BATCH]}
            if self._write(batch):
                self._pauses = 0
                with self._changed:
                    for run_id, row in batch.items():
                        # What has changed meanwhile stays for the next turn.
                        if self._pending.get(run_id, row) is row:
                            self._pending.pop(run_id, None)
            elif not self._pause():
                break
        self._client.close()

    def _write(self, batch: Mapping[str, Row | None]) -> bool:
        """Write rows in one go; tell whether that was possible."""
        gone = [run_id for run_id, row in batch.items() if row is None]
        kept = {run_id: json.dumps(row) for run_id, row in batch.items() if row is not None}
        try:
            with self._client.pipeline(transaction=True) as together:
                if gone:
                    together.hdel(self._key, *gone)
                if kept:
                    together.hset(self._key, mapping=kept)
                for text in kept.values():
                    together.publish(self._key, text)
                together.execute()
        except (self._redis.RedisError, OSError) as error:
            if not self._pauses:
                logger.warning("Runs are not mirrored, trying again: %s", error)
            return False
        if self._pauses:
            logger.info("Runs are mirrored again")
        return True

    def _pause(self) -> bool:
        """Leave the server alone for a while; False when there is no time left."""
        pause = PAUSES[min(self._pauses, len(PAUSES) - 1)]
        self._pauses += 1
        with self._changed:
            if not self._is_closing:
                self._changed.wait_for(lambda: self._is_closing, pause)
            return not self._is_closing
