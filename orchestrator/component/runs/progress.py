"""How far a run is: `progress.json`, whole at every moment, and a word to the daemon.

    {"format": 1, "id": …, "attempt": 1, "state": "running", "hook": null, "progress": 0.4,
     "text": "40 of 100", "custom": {…}, "pid": 4711, "started_at": …, "updated_at": …}

Whoever changes something only says so; the attendant writes, at most every `PACE` seconds.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from orchestrator import files
from orchestrator.component import notify
from orchestrator.errors import OrchestratorError
from orchestrator.model.units import Seconds

logger = logging.getLogger(__name__)

PACE: Seconds = 0.1
"""How often progress is written at most."""

CUSTOM = 64 * 1024
"""How large a run's own state may be, in bytes of JSON."""

CHANGED = "ORCH_RUN=changed"
"""What the daemon is told: there is news in the file."""


class Progress:
    """What is known of a run, from any thread.

    Args:
        path: The file to write.
        fixed: What never changes: id and attempt.
        wake: Called when there is something to write.
    """

    def __init__(self, path: Path, fixed: Mapping[str, Any], wake: Callable[[], object]) -> None:
        self._path = path
        self._wake = wake
        self._lock = threading.Lock()
        self._is_new = True
        self._is_told_of = False
        self._known: dict[str, Any] = {
            "format": 1,
            **fixed,
            "state": "building",
            "hook": None,
            "progress": None,
            "text": "",
            "custom": {},
            "pid": None,
            "started_at": now(),
            "updated_at": now(),
        }

    def __getitem__(self, name: str) -> Any:
        return self._known[name]

    def set(self, **changes: Any) -> None:
        """Change what is known; written soon."""
        with self._lock:
            if all(self._known[name] == value for name, value in changes.items()):
                return
            self._known |= changes
            self._known["updated_at"] = now()
            is_first, self._is_new = not self._is_new, True
        if is_first:
            self._wake()

    def add(self, custom: Mapping[str, Any]) -> None:
        """Change a part of the run's own state.

        Raises:
            ValueError: It is no plain data, or grows too large.
        """
        with self._lock:
            merged = {**self._known["custom"], **custom}
        try:
            text = json.dumps(merged, allow_nan=False)
        except (TypeError, RecursionError) as error:
            raise ValueError(f"cannot keep the state: {error}") from error
        if len(text) > CUSTOM:
            raise ValueError(
                f"cannot keep a state of {len(text)} bytes; {CUSTOM} is the most: "
                "write it to a file of the run"
            )
        # A copy, which no hook can change afterwards.
        self.set(custom=json.loads(text))

    @property
    def is_new(self) -> bool:
        """Whether there is something that has not been written."""
        return self._is_new

    def write(self) -> None:
        """Write what is new, and tell the daemon."""
        with self._lock:
            if not self._is_new:
                return
            self._is_new = False
            data = json.dumps(self._known).encode()
        try:
            files.write_atomic(self._path, data, 0o600)
        except OrchestratorError as error:
            if not self._is_told_of:
                self._is_told_of = True
                logger.warning("%s", error)
            return
        self._is_told_of = False
        notify.send(CHANGED, quiet=True)


def now() -> str:
    """Return the time of day, for people: ISO 8601 in UTC."""
    text = datetime.now(UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")
