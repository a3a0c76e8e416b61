"""Connections to a daemon: requests, answers and streams."""

from __future__ import annotations

import contextlib
import math
import os
import select
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, Self, cast

from orchestrator.client import endpoint
from orchestrator.client.conversation import Conversation, Events
from orchestrator.client.endpoint import CONNECT_TIMEOUT
from orchestrator.client.place import SOCKET_NAME
from orchestrator.client.rows import Condition, Event, Outcome, Row, Step, Waiting, describe
from orchestrator.errors import DaemonUnreachable, ProtocolError, RequestFailed, WaitTimeout
from orchestrator.model import units
from orchestrator.model.units import Instant, Seconds
from orchestrator.wire import control

REQUEST_TIMEOUT: Seconds = 60.0
SILENCE: Seconds = 3.0
"""After so long without an answer somebody is told: a daemon takes milliseconds."""

KEEPER_ENDS: Seconds = 2.0
"""How long a keeper may take to follow its daemon; it takes a millisecond."""

REPAIR_TIMEOUT: Seconds = 10.0
"""How long the keeper may take to put a daemon that died back in place."""

QUIET: Seconds = 0.6
"""After so long without news nothing is in a hurry; those of many starts come sooner."""

_CHUNK = 1 << 18

_SLOW = frozenset({"reload", "upgrade", "call", "submit"})
"""What may take its time, since it waits for others."""


def _nothing() -> None:
    """Do nothing."""


class Change:
    """Whom a change concerns, by name, and who was as wished already.

    `needed` has, by the name of what stops, those that run and depend on it.
    """

    __slots__ = ("affected", "needed", "unchanged")

    def __init__(
        self,
        affected: tuple[str, ...],
        unchanged: tuple[str, ...],
        needed: dict[str, tuple[str, ...]],
    ) -> None:
        self.affected = affected
        self.unchanged = unchanged
        self.needed = needed


def connect(
    runtime_dir: Path, timeout: Seconds = CONNECT_TIMEOUT, *, starter: str = "orch up -d"
) -> Client:
    """Return a client of the daemon whose socket is in `runtime_dir`.

    Args:
        runtime_dir: The system's runtime directory.
        timeout: How long the daemon may take to accept, in seconds.
        starter: The command that starts this daemon, for the error message.

    Raises:
        DaemonUnreachable: Nobody listens there.
    """
    path = runtime_dir / SOCKET_NAME
    return Client(endpoint.connect(path, timeout, starter), path, starter)


class Client:
    """A connection to the daemon. Close it, or use it as a context manager."""

    def __init__(
        self, stream: socket.socket, path: Path, starter: str, *, who: str = "the daemon"
    ) -> None:
        self._stream = stream
        self._path = path
        self._starter = starter
        self._who = who
        self._talk = Conversation()
        self._asked = 0
        self._at_end = False
        self._keeper = -1
        self.silent: Callable[[], None] = _nothing
        """Called once a request that should be quick has been without an answer for `SILENCE`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; watches of it end."""
        self._at_end = True
        self._stream.close()
        self._follow_keeper(0)

    def fileno(self) -> int:
        """Return the descriptor to select on."""
        return self._stream.fileno()

    @property
    def at_end(self) -> bool:
        """Whether the daemon has closed the connection."""
        return self._at_end

    def reopen(self, timeout: Seconds = REPAIR_TIMEOUT) -> None:
        """Connect anew after the daemon died; watches must be asked for again.

        Raises:
            DaemonUnreachable: No daemon came back within `timeout` seconds.
        """
        self._stream.close()
        deadline = time.monotonic() + timeout
        while True:
            try:
                self._stream = endpoint.connect(self._path, CONNECT_TIMEOUT, self._starter)
                break
            except DaemonUnreachable:
                # The keeper is at work, and a socket that is not there yet wakes nobody.
                if time.monotonic() >= deadline:
                    raise
                select.select([], [], [], 0.02)
        self._talk.restart()
        self._at_end = False

    def wait_closed(self, timeout: Seconds) -> bool:
        """Wait until the daemon has closed the connection; tell whether it did.

        Where it is known to end, its keeper is awaited too, which follows a moment later: whoever
        starts the system anew would still find its socket and its lock.
        """
        deadline = time.monotonic() + timeout
        while not self._at_end and (remaining := deadline - time.monotonic()) > 0:
            self.receive(remaining)
        if self._at_end and self._keeper >= 0:
            end = select.poll()
            end.register(self._keeper, select.POLLIN)
            end.poll(KEEPER_ENDS * 1000)
        return self._at_end

    def request(
        self, method: str, *, timeout: Seconds = REQUEST_TIMEOUT, **params: object
    ) -> dict[str, Any]:
        """Send a request and return its result.

        Raises:
            RequestFailed: The daemon refused; `code` says why.
            DaemonUnreachable: The daemon ended before it answered.
            WaitTimeout: It did not answer in `timeout` seconds; it may still do what was asked.
            ProtocolError: The answer breaks the protocol.
        """
        return self._request(method, params, timeout)[1]

    def _request(
        self,
        method: str,
        params: Mapping[str, Any],
        timeout: Seconds,
        *,
        is_stream: bool = False,
        texts: Mapping[str, bytes] = control.NO_TEXTS,
    ) -> tuple[int, dict[str, Any]]:
        deadline = time.monotonic() + timeout
        number, line = self._talk.request(method, params, is_stream=is_stream, texts=texts)
        self._send(line, method, timeout)
        silent_at = math.inf if method in _SLOW else time.monotonic() + SILENCE
        while not self._talk.is_answered(number):
            if self._at_end:
                self._lost(method)
            if self.receive(min(deadline, silent_at) - time.monotonic()):
                continue
            now = time.monotonic()
            if now >= silent_at and not self._at_end:
                silent_at = math.inf
                self.silent()
            if now >= deadline:
                limit = units.format_duration(timeout)
                raise WaitTimeout(f"{self._who} did not answer {method!r} within {limit}")
        return number, self._talk.answer(number)

    def _send(self, line: bytes, method: str, timeout: Seconds) -> None:
        try:
            self._stream.settimeout(timeout)
            self._stream.sendall(line)
        except TimeoutError as problem:
            limit = units.format_duration(timeout)
            raise WaitTimeout(f"{self._who} did not take {method!r} within {limit}") from problem
        except OSError:
            # A daemon that goes away may have said why before; what it sent is read first.
            with contextlib.suppress(OSError):
                while self.receive(0.0):
                    pass
            self._at_end = True

    def _lost(self, method: str) -> NoReturn:
        self._talk.finish()
        if not self._starter:
            raise RequestFailed("unreachable", f"{self._who} ended before it answered {method!r}")
        raise DaemonUnreachable(
            f"the daemon at {self._path} ended before it answered {method!r}; "
            f"start it with: {self._starter}"
        )

    def receive(self, timeout: Seconds) -> bool:
        """Take in what the daemon has sent, waiting up to `timeout`; tell whether it was anything.

        Raises:
            ProtocolError: It is not what the protocol allows.
        """
        if self._at_end:
            return False
        try:
            self._stream.settimeout(max(timeout, 0.0))
            data = self._stream.recv(_CHUNK)
        except (TimeoutError, BlockingIOError):
            return False
        except ConnectionError:
            data = b""
        if not data:
            self._at_end = True
            return False
        self._talk.feed(data)
        return True

    def ask(self, method: str, params: Mapping[str, Any], timeout: Seconds) -> None:
        """Send a request without waiting; `answered` has its result when it has come."""
        self._asked, line = self._talk.request(method, params)
        self._send(line, method, timeout)

    def answered(self) -> dict[str, Any] | None:
        """Return the result of what `ask` asked last; None while it has not come.

        Raises:
            RequestFailed: It was refused.
        """
        return self._talk.answer(self._asked) if self._talk.is_answered(self._asked) else None

    def stream(self, method: str, params: Mapping[str, Any]) -> Watch:
        """Ask for a stream of events; they come when the answer has."""
        number, _ = self._request(method, params, REQUEST_TIMEOUT, is_stream=True)
        return Watch(self, self._talk.stream(number), [], 0)

    def watch(self, names: Sequence[str] = (), *, runs: bool = False) -> Watch:
        """Follow the instances that `names` select (all when empty), from now on.

        With `runs` the runs of jobs come too, without a snapshot.
        """
        params: dict[str, Any] = {"names": list(names)}
        if runs:
            params["runs"] = True
        number, result = self._request("watch", params, REQUEST_TIMEOUT, is_stream=True)
        return Watch(self, self._talk.stream(number), _rows(result), int(result.get("seq", 0)))

    def watch_runs(self, ids: Sequence[str] = ()) -> Watch:
        """Follow the runs of these ids, all when empty, and no instances, from now on.

        How they are is asked after it, on this connection: then nothing is missed between.
        """
        params = {"names": [], "runs": list(ids) or True, "instances": False}
        return self.stream("watch", params)

    def ps(self, names: Sequence[str] = ()) -> list[Row]:
        """Return the rows of the instances that `names` select."""
        return _rows(self.request("ps", names=list(names)))

    def status(self, names: Sequence[str] = ()) -> tuple[dict[str, Any], list[Row]]:
        """Return what the daemon says of itself, and the rows."""
        result = self.request("status", names=list(names))
        return result["daemon"], _rows(result)

    def apply(
        self,
        lock: bytes,
        secrets: Mapping[str, str],
        *,
        plan: bool = False,
        names: Sequence[str] = (),
        no_deps: bool = False,
        remove_orphans: bool = False,
    ) -> list[Step]:
        """Make the system what `lock` says, or with `plan` tell only what that would do.

        `lock` is the JSON text of a lock, on one line.
        """
        params = {
            "secrets": dict(secrets),
            "plan": plan,
            "no_deps": no_deps,
            "remove_orphans": remove_orphans,
            "names": list(names),
        }
        _, result = self._request("apply", params, REQUEST_TIMEOUT, texts={"lock": lock})
        return cast("list[Step]", result["plan"])

    def explain(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """Return why the instances are as they are: each a chain from it to its cause."""
        return list(self.request("explain", names=list(names))["explanations"])

    def change(self, verb: str, names: Sequence[str]) -> Change:
        """Ask for `start`, `stop`, `restart` or `reset`; return whom it concerns."""
        result = self.request(verb, names=list(names))
        return Change(
            tuple(result.get("names", ())),
            tuple(result.get("unchanged", ())),
            {name: tuple(users) for name, users in result.get("needed", {}).items()},
        )

    def reload(
        self, names: Sequence[str], timeout: Seconds = REQUEST_TIMEOUT, *, no_wait: bool = False
    ) -> list[dict[str, str]]:
        """Have the instances take on changed code; return how it went with each.

        Each says its `name`, the `outcome` (swapped, unchanged, restarted, signalled, skipped
        or failed; with `no_wait` begun) and a `message`.
        """
        params = {"names": list(names), "no_wait": no_wait}
        return list(self.request("reload", timeout=timeout, **params)["reloads"])

    def kill(self, names: Sequence[str], signal: str) -> dict[str, str]:
        """Send a signal to the instances; return what it did by name, `pass` to most of them."""
        return dict(self.request("kill", signal=signal, names=list(names))["done"])

    def upgrade(self) -> dict[str, Any]:
        """Have the daemon become the code on disk; return what the new code says of it."""
        return self.request("upgrade")

    def down(self, *, kill: bool = False) -> list[str]:
        """Ask the daemon to stop everything and end; return the names still running."""
        told = self.request("down", kill=kill)
        self._follow_keeper(int(told.get("keeper_pid", 0)))
        return list(told.get("names", ()))

    def join_down(self) -> Watch:
        """Follow a stop that somebody else has asked for; `wait_closed` awaits its end."""
        about, _ = self.status()
        self._follow_keeper(int(about.get("keeper_pid") or 0))
        return self.watch()

    def _follow_keeper(self, pid: int) -> None:
        """Be ready to see the end of the keeper, unless it has ended; 0: of none any more."""
        if self._keeper >= 0:
            os.close(self._keeper)
        self._keeper = -1
        if pid and hasattr(os, "pidfd_open"):
            with contextlib.suppress(OSError):
                self._keeper = os.pidfd_open(pid)

    def wait_until(
        self,
        condition: Condition,
        timeout: Seconds,
        *,
        what: str,
        names: Sequence[str] = (),
        at_first_failure: bool = True,
        seen: Callable[[Row], None] | None = None,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> Outcome:
        """Follow the instances until the condition holds for each.

        Args:
            condition: What has to hold.
            timeout: The bound of the whole wait, in seconds.
            what: What is waited for, for the message: `ready` gives `not ready after 3s: …`.
            names: Whom to follow; all when empty.
            at_first_failure: End as soon as one has failed, instead of when none is pending.
            seen: Called with every row that comes, the first ones included.
            meanwhile: Called once when no news has come for `QUIET` seconds: while many are
                being started, the processors have more urgent things to do.

        Raises:
            WaitTimeout: It took too long; the message names who was still awaited.
            DaemonUnreachable: The daemon ended and did not come back.
        """
        deadline = time.monotonic() + timeout
        waiting = Waiting(condition, seen)
        watch = self.watch(names)
        waiting.begin(watch.rows)
        pause = QUIET
        while waiting.pending and not (at_first_failure and waiting.failed):
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                limit = units.format_duration(timeout)
                awaited = describe(waiting.pending.values())
                raise WaitTimeout(f"not {what} after {limit}: {awaited}")
            events = watch.wait(min(remaining, pause))
            if not events and pause < remaining:
                meanwhile()
                pause = timeout
            for event in events:
                waiting.take(event)
            if watch.at_end and waiting.pending:
                if waiting.is_over:
                    raise DaemonUnreachable(
                        f"the system stopped, not {what}: {describe(waiting.pending.values())}"
                    )
                self.reopen(min(REPAIR_TIMEOUT, max(deadline - time.monotonic(), 0.0)))
                watch = self.watch(names)
                waiting.begin(watch.rows)
        if waiting.failed and waiting.pending and not watch.at_end:
            # A failure fails its dependents in the same breath. Events come in order with
            # replies, so after one more reply theirs are here too, with their reasons.
            with contextlib.suppress(DaemonUnreachable, RequestFailed):
                self.request("ps", names=list(waiting.failed))
            for event in watch.wait(0.0):
                waiting.take(event)
        return Outcome(waiting.rows, tuple(waiting.failed.values()))


class Watch:
    """The stream of changes that follows a snapshot, without gap or repetition.

    `rows` is the snapshot, and `seq` the number of the last change in it.
    """

    __slots__ = ("_client", "_events", "rows", "seq")

    def __init__(self, client: Client, events: Events, rows: list[Row], seq: int) -> None:
        self._client = client
        self._events = events
        self.rows = rows
        self.seq = seq

    @property
    def at_end(self) -> bool:
        """Whether the daemon has closed the stream and all of it was taken."""
        return self._client.at_end and not self._events

    @property
    def has_events(self) -> bool:
        """Whether events have come already; a select would not tell."""
        return bool(self._events)

    def wait(self, timeout: Seconds) -> list[Event]:
        """Return the events that have come, waiting up to `timeout` for the first."""
        deadline: Instant = time.monotonic() + timeout
        while not self._events and not self._client.at_end:
            remaining = deadline - time.monotonic()
            if not self._client.receive(remaining) and remaining <= 0:
                break
        events = list(self._events)
        self._events.clear()
        return events

    def __iter__(self) -> Iterator[Event]:
        """Yield events until the daemon closes the stream; this is the one wait without end."""
        while not self.at_end:
            yield from self.wait(3600.0)


def _rows(result: Mapping[str, Any]) -> list[Row]:
    rows = result.get("instances")
    if not isinstance(rows, list):
        raise ProtocolError("cannot understand the daemon: a reply without 'instances'")
    return rows
