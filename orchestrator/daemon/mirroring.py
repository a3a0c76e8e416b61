"""The rows of runs on their way to Redis, where a topology asks for it (`job_mirror`).

What goes there is what the streams of clients get. A daemon that takes over, or learns of a
server, tells it of all runs that are not over; then of each change.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from orchestrator.component.errors import SetupError
from orchestrator.daemon import programs, runrows
from orchestrator.daemon.runner import Runner
from orchestrator.errors import JournalError, RequestFailed
from orchestrator.supervision.runs import Run

if TYPE_CHECKING:
    from orchestrator.component.mirror import Mirror

logger = logging.getLogger(__name__)

_REMEMBERED = "job_mirror"


class Mirroring:
    """Has at most one mirror, which may change while the system runs."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._url = ""
        self._mirror: Mirror | None = None

    def use(self, url: str | None, secrets: Mapping[str, str]) -> None:
        """Mirror runs at a URL from now on, in which secrets may be named; None for nowhere.

        Raises:
            RequestFailed: It cannot be; all is as it was.
        """
        try:
            self._open(programs.revealed(url or "", secrets))
            self._runner.journal.remember(**{_REMEMBERED: url or ""})
        except (SetupError, JournalError) as error:
            raise RequestFailed("bad-mirror", str(error)) from error

    def recover(self, secrets: Mapping[str, str]) -> None:
        """Go on where an earlier daemon mirrored runs."""
        url = self._runner.journal.meta().get(_REMEMBERED, "")
        try:
            self._open(programs.revealed(url, secrets))
        except SetupError as error:
            logger.warning("%s", error)

    def put(self, runs: Iterable[Run]) -> None:
        """Runs have changed."""
        if self._mirror is not None:
            for run in runs:
                self._mirror.put(runrows.row(self._runner, run))

    def forget(self, run_ids: Iterable[str]) -> None:
        """Runs are kept no longer."""
        if self._mirror is not None:
            self._mirror.forget(run_ids)

    def close(self) -> None:
        """Mirror no more; waits a little for what is unwritten."""
        mirror, self._mirror, self._url = self._mirror, None, ""
        if mirror is not None:
            mirror.close()

    def _open(self, url: str) -> None:
        if url == self._url:
            return
        made = None
        if url:
            # Loaded by those who have a server to mirror to.
            from orchestrator.component.mirror import Mirror  # noqa: PLC0415

            made = Mirror(url, self._runner.place.name)
        if self._mirror is not None:
            self._mirror.end()
        self._mirror, self._url = made, url
        self.put(self._runner.runs.unfinished.values())
