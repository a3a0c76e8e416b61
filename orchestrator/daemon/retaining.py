"""Removing runs that are kept no longer: their directories first, then what the journal knows.

Directories are measured and removed in a thread, one job at a time, so that a run of a million
files delays nobody. A daemon that dies meanwhile finds the rest by the journal.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from orchestrator.daemon import runprograms
from orchestrator.daemon.runner import Runner
from orchestrator.errors import JournalError
from orchestrator.model.topology import Keep
from orchestrator.model.units import Bytes, Seconds
from orchestrator.supervision import retention
from orchestrator.supervision.runs import Run

logger = logging.getLogger(__name__)

GATHER: Seconds = 1.0
"""How long ends are gathered before a job's runs are looked at."""

LONGEST: Seconds = 3600.0
"""The longest pause between two looks for what has become too old: the clock may be set."""


class Retention:
    """Keeps of each job's runs what its `keep` says.

    Args:
        loop: Where it lives.
        runner: Whose runs they are.
        removed: Called with the ids of the runs that are gone.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        runner: Runner,
        removed: Callable[[Sequence[str]], None],
    ) -> None:
        self._loop = loop
        self._runner = runner
        self._removed = removed
        self._dirty: set[str] = set()
        self._stuck: set[str] = set()
        self._task: asyncio.Task[None] | None = None
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._is_closed = False
        runner.over = self._over

    def look(self, jobs: Iterable[str]) -> None:
        """Look soon at what is kept of these jobs' runs."""
        self._dirty.update(jobs)
        if self._dirty and self._task is None and not self._is_closed:
            self._task = self._loop.create_task(self._work(), name="retention")

    async def close(self) -> None:
        """Stop looking; a removal that has begun is finished."""
        self._is_closed = True
        for timer in self._timers.values():
            timer.cancel()
        if self._task is not None:
            await self._task

    def _over(self, run: Run) -> None:
        # The last run of a chain frees those before it, of other jobs.
        jobs = {run.job.name, *run.job.after}
        limited = [name for name in jobs if self._keep(name) != Keep()]
        if limited:
            self.look(limited)

    def _keep(self, job: str) -> Keep:
        known = self._runner.jobs.get(job)
        return known.keep if known is not None else Keep()

    async def _work(self) -> None:
        try:
            while self._dirty and not self._is_closed:
                await asyncio.sleep(GATHER)
                jobs, self._dirty = self._dirty, set()
                for job in jobs:
                    await self._limit(job)
        except JournalError as error:
            logger.warning("Runs are kept longer than they should be: %s", error)
        finally:
            self._task = None

    async def _limit(self, job: str) -> None:
        keep = self._keep(job)
        if keep == Keep() or self._is_closed:
            return
        journal = self._runner.journal.runs
        over = journal.kept(job)
        unknown = [run for run in over if run.size is None] if keep.size is not None else []
        if unknown:
            directories = self._directories([run.id for run in unknown])
            sizes = await self._loop.run_in_executor(None, _sizes, directories)
            journal.measured(sizes)
            over = journal.kept(job)
        now = time.time()  # noqa: TID251 - ages of files that outlive the machine's uptime
        needed = self._runner.runs.waits_for(run.id for run in over) | self._stuck
        found = retention.excess(over, keep, now, needed)
        if found.ids:
            await self._remove(found.ids)
        self._look_again(job, found.again_in)

    def _look_again(self, job: str, again_in: Seconds | None) -> None:
        timer = self._timers.pop(job, None)
        if timer is not None:
            timer.cancel()
        if again_in is not None and not self._is_closed:
            pause = min(LONGEST, again_in)
            self._timers[job] = self._loop.call_later(pause, self.look, (job,))

    async def _remove(self, run_ids: Sequence[str]) -> None:
        directories = self._directories(run_ids)
        errors = await self._loop.run_in_executor(None, _remove_all, directories)
        for run_id, error in errors.items():
            self._stuck.add(run_id)
            logger.warning("The run %s cannot be removed: %s", run_id, error)
        gone = [run_id for run_id in run_ids if run_id not in errors]
        self._runner.journal.runs.remove(gone)
        logger.info("Removed %d runs that are kept no longer", len(gone))
        self._removed(gone)

    def _directories(self, run_ids: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """Return by run what it has, which is ours: it did not exist when it was submitted."""
        place = self._runner.place
        found: dict[str, tuple[str, ...]] = {}
        for run_id, directory in self._runner.journal.runs.directories(run_ids).items():
            own = runprograms.record_dir(place, run_id)
            is_its = os.path.basename(directory) == run_id  # noqa: PTH119
            found[run_id] = (directory, own) if is_its else (own,)
        return found


def _remove_all(directories: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Remove directories by run; return what went wrong, by run."""
    import shutil  # noqa: PLC0415 - a daemon without jobs starts sooner

    errors: dict[str, str] = {}
    for run_id, paths in directories.items():
        for path in paths:
            try:
                if not Path(path).is_symlink():
                    shutil.rmtree(path)
            except FileNotFoundError:
                continue
            except OSError as error:
                errors[run_id] = str(error)
    return errors


def _sizes(directories: Mapping[str, Sequence[str]]) -> dict[str, Bytes]:
    return {run_id: _size(paths) for run_id, paths in directories.items()}


def _size(paths: Iterable[str]) -> Bytes:
    """Return how much directories take on the disk."""
    whole = 0
    for path in paths:
        for directory, _, names in os.walk(path):
            for name in names:
                try:
                    whole += os.lstat(os.path.join(directory, name)).st_blocks * 512  # noqa: PTH118
                except OSError:
                    continue
    return whole
