"""The asynchronous twin of `jobs`: the same names, to be awaited.

    async with AsyncJobs("topology.yaml") as jobs:
        runs = [await jobs.submit("lab.simulate", args={"case": case}) for case in range(100)]
        await asyncio.gather(*(run.wait() for run in runs))

However many runs are awaited, there is one connection to the daemon, and one to the next one
when it dies.
"""

from __future__ import annotations

import asyncio
import collections
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, cast

from orchestrator.client import endpoint, jobs, place, runs
from orchestrator.client.connection import REPAIR_TIMEOUT, REQUEST_TIMEOUT
from orchestrator.client.conversation import Conversation, Events
from orchestrator.client.endpoint import CONNECT_TIMEOUT
from orchestrator.client.place import SOCKET_NAME, Place
from orchestrator.client.rows import Event, RunRow
from orchestrator.client.runs import After, Following, JobRow, RunView, Template
from orchestrator.errors import DaemonUnreachable, OrchestratorError, WaitTimeout
from orchestrator.model import units
from orchestrator.model.units import Seconds

_REOPENING: Seconds = 0.02
"""How often it is tried: a socket that is not there yet wakes nobody."""


class AsyncRun(RunView):
    """One run of a job. What it tells is as it was when last looked at; `refresh` looks."""

    def __init__(self, jobs: AsyncJobs, row: RunRow) -> None:
        super().__init__(row)
        self._jobs = jobs

    async def refresh(self) -> Self:
        """Look at it anew."""
        self.row = (await self._jobs.rows([self.id]))[0]
        return self

    async def wait(self, timeout: Seconds | None = None) -> Self:  # noqa: ASYNC109 - as jobs.Run
        """Wait until it has ended, see `jobs.Run.wait`."""
        async for _ in self.events(timeout):
            pass
        return self

    async def events(
        self,
        timeout: Seconds | None = None,  # noqa: ASYNC109 - as jobs.Run
    ) -> AsyncIterator[RunRow]:
        """Yield its row as it is, then at every change, the last one as it ended."""
        async for row in self._jobs.follow([self.id], timeout):
            self.row = row
            yield row

    async def cancel(self) -> bool:
        """Ask for its end; tell whether it had not ended yet. `wait` waits until it has."""
        return self.id in await self._jobs.cancel(self.id)

    async def details(self) -> dict[str, Any]:
        """Return its `run` (the row), its `result` and what its hooks did wrong (`errors`)."""
        return await self._jobs.details(self.id)


class AsyncJobs:
    """The jobs of one system, see `jobs.Jobs`. An asynchronous context manager, of one loop."""

    def __init__(
        self,
        topology: str | os.PathLike[str] | Place | None = None,
        *,
        project: str | None = None,
        environment: Mapping[str, str] | None = None,
        patience: Seconds = REPAIR_TIMEOUT,
    ) -> None:
        """Name a system, with the words of `jobs.Jobs`; it is reached on entering."""
        self._place = place.find(topology, project, environment)
        self._patience = patience
        self._link: _Link | None = None
        self._opening = asyncio.Lock()
        self._awaited: dict[str, set[_Follower]] = {}

    async def __aenter__(self) -> Self:
        self._link = await self._open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; what was submitted goes on."""
        link, self._link = self._link, None
        if link is not None:
            await link.close()

    async def submit(
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
    ) -> AsyncRun:
        """Submit a run, see `jobs.Jobs.submit`."""
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
        return AsyncRun(self, (await self._ask("submit", params))["run"])

    async def send(self, template: Template) -> AsyncRun:
        """Submit a run of the job that the template itself names, see `runs.job_of`."""
        return await self.submit(runs.job_of(template, await self.jobs()), template)

    async def jobs(self) -> list[JobRow]:
        """Return the jobs of the system."""
        return cast("list[JobRow]", (await self._ask("jobs", {}))["jobs"])

    async def run(self, id: str) -> AsyncRun:  # noqa: A002 - as above
        """Return a run, see `jobs.Jobs.run`."""
        return AsyncRun(self, (await self.rows([id]))[0])

    async def runs(
        self, *jobs: str, states: Sequence[str] = (), limit: int | None = None
    ) -> list[AsyncRun]:
        """Return runs of the named jobs (of all when none is named), the newest first."""
        rows = await self.rows(jobs=jobs, states=states, limit=limit)
        return [AsyncRun(self, row) for row in rows]

    async def rows(
        self,
        ids: Sequence[str] = (),
        *,
        jobs: Sequence[str] = (),
        states: Sequence[str] = (),
        limit: int | None = None,
    ) -> list[RunRow]:
        """Return rows of runs, the newest first; of `ids` all, of anything else up to `limit`."""
        params = runs.selection(ids, jobs, states, limit)
        return cast("list[RunRow]", (await self._ask("runs", params))["runs"])

    async def details(self, id: str) -> dict[str, Any]:  # noqa: A002 - as above
        """Return a run's `run` (its row), `result`, `errors` of its hooks, and `record_dir`."""
        return await self._ask("run", {"id": id})

    async def cancel(self, *ids: str) -> list[str]:
        """Ask for the end of runs; return the ids of those that had not ended yet."""
        return list((await self._ask("cancel", {"ids": list(ids)}))["cancelled"])

    async def wait(
        self,
        *ids: str,
        timeout: Seconds | None = None,  # noqa: ASYNC109 - as jobs.Jobs
    ) -> list[AsyncRun]:
        """Wait until all of these runs have ended; return them in the same order."""
        last = {row["id"]: row async for row in self.follow(ids, timeout)}
        return [AsyncRun(self, last[one]) for one in ids]

    async def wait_finished(
        self,
        id: str,  # noqa: A002 - as above
        timeout: Seconds | None = None,  # noqa: ASYNC109 - as jobs.Jobs
    ) -> AsyncRun:
        """Wait until a run has ended, see `wait`."""
        return (await self.wait(id, timeout=timeout))[0]

    async def follow(
        self,
        ids: Sequence[str],
        timeout: Seconds | None = None,  # noqa: ASYNC109 - as jobs.Jobs
    ) -> AsyncIterator[RunRow]:
        """Yield the rows of runs, then each as it changes, until all of them have ended.

        Raises:
            WaitTimeout: Some have not, within `timeout` seconds.
            DaemonUnreachable: The system was stopped, or no daemon came back.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (float("inf") if timeout is None else timeout)
        follower = _Follower(ids)
        following = follower.following
        for one in follower.ids:
            self._awaited.setdefault(one, set()).add(follower)
        try:
            while following.pending:
                link = await self._watching()
                follower.begin()
                found = await self._ask("runs", runs.selection(list(following.pending)))
                for row in following.begin(found["runs"], found.get("seq", 0)):
                    yield row
                while following.pending:
                    events = await follower.next(deadline - loop.time())
                    for event in events:
                        if (news := following.take(event)) is not None:
                            yield news
                    if following.pending and timeout is not None and loop.time() >= deadline:
                        raise jobs.late(following, timeout)
                    if not events and (follower.is_cut_off or link.is_lost):
                        break
                if following.is_over and following.pending:
                    raise jobs.stopped(following)
        finally:
            for one in follower.ids:
                self._awaited[one].discard(follower)
                if not self._awaited[one]:
                    del self._awaited[one]

    # --------------------------------------------------------------- the connection

    async def _ask(self, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Ask the daemon, and when it dies over it the next one: all we ask may be asked twice."""
        deadline = time.monotonic() + self._patience
        while True:
            link = await self._linked()
            try:
                return await link.request(method, params)
            except DaemonUnreachable:
                if time.monotonic() >= deadline:
                    raise

    async def _watching(self) -> _Link:
        """Return a connection on which the runs of the system are followed."""
        deadline = time.monotonic() + self._patience
        while True:
            link = await self._linked()
            try:
                await link.watch()
            except DaemonUnreachable:
                if time.monotonic() >= deadline:
                    raise
            else:
                return link

    async def _linked(self) -> _Link:
        """Return the connection, a new one when the daemon has died."""
        async with self._opening:
            if self._link is None:
                raise DaemonUnreachable("this AsyncJobs is closed; use it as 'async with'")
            if self._link.is_lost:
                self._link = await self._open(self._patience)
            return self._link

    async def _open(self, patience: Seconds = 0.0) -> _Link:
        loop = asyncio.get_running_loop()
        path = self._place.runtime_dir / SOCKET_NAME
        deadline = loop.time() + patience
        stream: socket.socket | None = None
        while stream is None:
            try:
                stream = endpoint.connect(path, CONNECT_TIMEOUT, self._place.starter)
            except DaemonUnreachable:
                if loop.time() >= deadline:
                    raise
                await asyncio.sleep(_REOPENING)
        link = _Link(path, self._place.starter, self._dispatch)
        await loop.create_connection(lambda: link, sock=stream)
        return link

    def _dispatch(self, event: Event | None) -> None:
        """Hand an item of the stream to who waits for it; None is its end."""
        if event is not None and event["kind"] == "run":
            concerned = self._awaited.get(event["run"]["id"], set())
        else:
            concerned = set().union(*self._awaited.values())
        for follower in concerned:
            follower.put(event)


class _Follower:
    """A wait for runs: what has come for it, and what wakes it."""

    def __init__(self, ids: Sequence[str]) -> None:
        self.following = Following(ids)
        self.ids = tuple(self.following.pending)
        self.is_cut_off = False
        self._events: Events = collections.deque()
        self._woken = asyncio.Event()

    def begin(self) -> None:
        """Begin with a new stream."""
        self.is_cut_off = False
        self._events.clear()

    def put(self, event: Event | None) -> None:
        """Take in an item of the stream, or None for its end."""
        if event is None:
            self.is_cut_off = True
        else:
            self._events.append(event)
        self._woken.set()

    async def next(self, limit: Seconds) -> list[Event]:
        """Return what has come, waiting up to `limit` for the first."""
        if not self._events and not self.is_cut_off:
            self._woken.clear()
            try:
                await asyncio.wait_for(
                    self._woken.wait(), None if limit == float("inf") else limit
                )
            except TimeoutError:
                return []
        events = list(self._events)
        self._events.clear()
        return events


class _Link(asyncio.Protocol):
    """A connection to one daemon; when that dies it is of no more use."""

    def __init__(self, path: Path, starter: str, dispatch: Callable[[Event | None], None]) -> None:
        self.is_lost = False
        self._path = path
        self._starter = starter
        self._dispatch = dispatch
        self._talk = Conversation()
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._stream: int | None = None
        self._problem: OrchestratorError | None = None
        self._transport: asyncio.Transport | None = None
        self._closed = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Take in what the daemon sent."""
        try:
            self._talk.feed(data)
        except OrchestratorError as problem:
            self._problem = problem
            assert self._transport is not None
            self._transport.abort()
            return
        for number in self._talk.answered():
            answer = self._answers.pop(number, None)
            try:
                result = self._talk.answer(number)
            except OrchestratorError as refusal:
                if answer is not None and not answer.done():
                    answer.set_exception(refusal)
            else:
                if answer is not None and not answer.done():
                    answer.set_result(result)
        if self._stream is not None:
            events = self._talk.stream(self._stream)
            while events:
                self._dispatch(events.popleft())

    def connection_lost(self, _error: Exception | None) -> None:
        """Tell all who wait that nothing more comes."""
        self.is_lost = True
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(self._gone())
        self._answers.clear()
        self._dispatch(None)
        if not self._closed.done():
            self._closed.set_result(None)

    async def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()
            await self._closed

    async def request(self, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Send a request and return its result, see `Client.request`."""
        return await self._request(method, params, is_stream=False)

    async def watch(self) -> None:
        """Follow all runs, unless they are followed already."""
        if self._stream is None:
            params = {"names": [], "runs": True, "instances": False}
            await self._request("watch", params, is_stream=True)

    async def _request(
        self, method: str, params: Mapping[str, Any], *, is_stream: bool
    ) -> dict[str, Any]:
        if self.is_lost:
            raise self._gone()
        assert self._transport is not None
        number, line = self._talk.request(method, params, is_stream=is_stream)
        if is_stream:
            self._stream = number
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        self._transport.write(line)
        try:
            return await asyncio.wait_for(answer, REQUEST_TIMEOUT)
        except TimeoutError as problem:
            limit = units.format_duration(REQUEST_TIMEOUT)
            message = f"the daemon did not answer {method!r} within {limit}"
            raise WaitTimeout(message) from problem

    def _gone(self) -> OrchestratorError:
        if self._problem is not None:
            return self._problem
        return DaemonUnreachable(
            f"the daemon at {self._path} ended; start it with: {self._starter}"
        )
