"""Jobs of a system, for a program that submits runs and decides by their results.

    with Jobs("topology.yaml") as jobs:
        run = jobs.submit("lab.simulate", {"input_file": "in.dat"}, args={"steps": 100})
        if run.wait().succeeded:
            print((run.path("out.dat")).read_text())

A daemon that dies meanwhile is put back in place by its keeper, and this goes on with the next
one: what was submitted is submitted once, and a wait misses nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from os import PathLike
from typing import Any, Self, TypeVar, cast

from orchestrator.client import connection, place, runs
from orchestrator.client.connection import REPAIR_TIMEOUT, Client, Watch
from orchestrator.client.place import Place
from orchestrator.client.rows import RunRow
from orchestrator.client.runs import After, Following, JobRow, RunView, Template
from orchestrator.errors import DaemonUnreachable, WaitTimeout
from orchestrator.model import units
from orchestrator.model.units import Instant, Seconds

_Result = TypeVar("_Result")

_ENDLESS: Seconds = 3600.0
"""How long one look at a stream lasts when there is no limit: it only begins again."""


class Run(RunView):
    """One run of a job. What it tells is as it was when last looked at; `refresh` looks."""

    def __init__(self, jobs: Jobs, row: RunRow) -> None:
        super().__init__(row)
        self._jobs = jobs

    def refresh(self) -> Self:
        """Look at it anew."""
        self.row = self._jobs.rows([self.id])[0]
        return self

    def wait(self, timeout: Seconds | None = None) -> Self:
        """Wait until it has ended, however long that takes when there is no `timeout`.

        Raises:
            WaitTimeout: It has not, within `timeout` seconds.
            DaemonUnreachable: The system was stopped, or no daemon came back.
        """
        for _ in self.events(timeout):
            pass
        return self

    def events(self, timeout: Seconds | None = None) -> Iterator[RunRow]:
        """Yield its row as it is, then at every change, the last one as it ended.

        Raises:
            WaitTimeout: It has not ended within `timeout` seconds.
            DaemonUnreachable: The system was stopped, or no daemon came back.
        """
        for row in self._jobs.follow([self.id], timeout):
            self.row = row
            yield row

    def cancel(self) -> bool:
        """Ask for its end; tell whether it had not ended yet. `wait` waits until it has."""
        return self.id in self._jobs.cancel(self.id)

    def details(self) -> dict[str, Any]:
        """Return its `run` (the row), its `result` and what its hooks did wrong (`errors`)."""
        return self._jobs.details(self.id)


class Jobs:
    """The jobs of one system. Close it, or use it as a context manager.

    It may be used by one thread at a time.
    """

    def __init__(
        self,
        topology: str | PathLike[str] | Place | None = None,
        *,
        project: str | None = None,
        environment: Mapping[str, str] | None = None,
        patience: Seconds = REPAIR_TIMEOUT,
    ) -> None:
        """Reach the system of a topology file.

        Args:
            topology: The file; by default what `ORCH_FILE` names, else the nearest
                `topology.yaml` in the working directory or above it.
            project: What tells systems of one file apart; `ORCH_PROJECT` by default.
            environment: Where those and `XDG_RUNTIME_DIR` are read; the process's by default.
            patience: How long a daemon that died may take to be replaced, in seconds.

        Raises:
            UsageError: No file is named, and none is found.
            DaemonUnreachable: The system does not run.
        """
        self._place = place.find(topology, project, environment)
        self._patience = patience
        self._client = self._connect()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; what was submitted goes on."""
        self._client.close()

    def submit(
        self,
        job: str,
        template: Template | None = None,
        *,
        args: Mapping[str, Any] | None = None,
        id: str | None = None,  # noqa: A002 - what everybody calls it
        priority: int | None = None,
        after: After = (),
        last_good: bool = False,
        **attributes: Any,
    ) -> Run:
        """Submit a run; when this returns it is written down, and survives whatever comes.

        Args:
            job: `service.job`, or one of the two where that is clear.
            template: Its attributes: a mapping, or a `ServiceParamTemplate`. What it does not
                say is as the topology says.
            args: Words `name=value` for the program.
            id: Its name; one is made by default. The same submission again is the same run.
            priority: Runs of a higher one are started first.
            after: Runs that come first, as ids of those that must succeed, or
                `{id: "failed"}`.
            last_good: Use the code of services and handlers that could be imported last,
                instead of what the files say now.
            attributes: More attributes.

        Raises:
            RequestFailed: It cannot be run; the message has every mistake.
            UnknownName: No such job.
        """
        params = runs.submission(
            job,
            template,
            args=args,
            id=id,
            priority=priority,
            after=after,
            last_good=last_good,
            attributes=attributes,
        )
        return Run(self, self._ask("submit", params)["run"])

    def send(self, template: Template) -> Run:
        """Submit a run of the job that the template itself names, see `runs.job_of`.

        Raises:
            RequestFailed: It cannot be run; the message has every mistake.
            UnknownName: No job fits.
        """
        return self.submit(runs.job_of(template, self.jobs()), template)

    def jobs(self) -> list[JobRow]:
        """Return the jobs of the system."""
        return cast("list[JobRow]", self._ask("jobs", {})["jobs"])

    def run(self, id: str) -> Run:  # noqa: A002 - as above
        """Return a run.

        Raises:
            RequestFailed: There is none of this id; retention may have removed it.
        """
        return Run(self, self.rows([id])[0])

    def runs(self, *jobs: str, states: Sequence[str] = (), limit: int | None = None) -> list[Run]:
        """Return runs of the named jobs (of all when none is named), the newest first."""
        return [Run(self, row) for row in self.rows(jobs=jobs, states=states, limit=limit)]

    def rows(
        self,
        ids: Sequence[str] = (),
        *,
        jobs: Sequence[str] = (),
        states: Sequence[str] = (),
        limit: int | None = None,
    ) -> list[RunRow]:
        """Return rows of runs, the newest first; of `ids` all, of anything else up to `limit`."""
        params = runs.selection(ids, jobs, states, limit)
        return cast("list[RunRow]", self._ask("runs", params)["runs"])

    def details(self, id: str) -> dict[str, Any]:  # noqa: A002 - as above
        """Return a run's `run` (its row), `result`, `errors` of its hooks, and `record_dir`."""
        return self._ask("run", {"id": id})

    def cancel(self, *ids: str) -> list[str]:
        """Ask for the end of runs; return the ids of those that had not ended yet."""
        return list(self._ask("cancel", {"ids": list(ids)})["cancelled"])

    def wait(self, *ids: str, timeout: Seconds | None = None) -> list[Run]:
        """Wait until all of these runs have ended; return them in the same order.

        Raises:
            WaitTimeout: Some have not, within `timeout` seconds.
            DaemonUnreachable: The system was stopped, or no daemon came back.
        """
        last = {row["id"]: row for row in self.follow(ids, timeout)}
        return [Run(self, last[one]) for one in ids]

    def wait_finished(self, id: str, timeout: Seconds | None = None) -> Run:  # noqa: A002
        """Wait until a run has ended, see `wait`."""
        return self.wait(id, timeout=timeout)[0]

    def follow(self, ids: Sequence[str], timeout: Seconds | None = None) -> Iterator[RunRow]:
        """Yield the rows of runs, then each as it changes, until all of them have ended.

        Raises:
            WaitTimeout: Some have not, within `timeout` seconds.
            DaemonUnreachable: The system was stopped, or no daemon came back.
        """
        deadline = time.monotonic() + (float("inf") if timeout is None else timeout)
        following = Following(ids)
        # A stream of its own: what else is asked meanwhile, or followed, does not disturb it.
        with self._connect() as asked:
            while following.pending:
                watch, found = self._patiently(asked, lambda: _look(asked, following))
                yield from following.begin(found["runs"], found.get("seq", 0))
                yield from _changes(watch, following, deadline)
                if following.pending and timeout is not None and time.monotonic() >= deadline:
                    raise late(following, timeout)
                if watch.at_end and following.pending:
                    if following.is_over:
                        raise stopped(following)
                    asked.reopen(self._patience)

    def _connect(self) -> Client:
        return connection.connect(self._place.runtime_dir, starter=self._place.starter)

    def _ask(self, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        return self._patiently(self._client, lambda: self._client.request(method, **params))

    def _patiently(self, asked: Client, ask: Callable[[], _Result]) -> _Result:
        """Ask a daemon, and when it dies over it the next one: all we ask may be asked twice."""
        deadline = time.monotonic() + self._patience
        while True:
            try:
                return ask()
            except DaemonUnreachable:
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    raise
            asked.reopen(remaining)


def _look(asked: Client, following: Following) -> tuple[Watch, dict[str, Any]]:
    ids = list(following.pending)
    return asked.watch_runs(ids), asked.request("runs", **runs.selection(ids))


def _changes(watch: Watch, following: Following, deadline: Instant) -> Iterator[RunRow]:
    """Yield what changes, until all has ended, or the stream has, or the time is over."""
    while following.pending and not watch.at_end:
        remaining = min(deadline - time.monotonic(), _ENDLESS)
        if remaining <= 0:
            return
        for event in watch.wait(remaining):
            row = following.take(event)
            if row is not None:
                yield row


def late(following: Following, timeout: Seconds) -> WaitTimeout:
    """Return the error of a wait that took too long."""
    limit = units.format_duration(timeout)
    return WaitTimeout(f"not finished after {limit}: {following.describe()}")


def stopped(following: Following) -> DaemonUnreachable:
    """Return the error of a wait for what cannot come any more."""
    return DaemonUnreachable(f"the system was stopped: {following.describe()}")
