"""The foreground of `orch up`: logs, transitions and signals in one loop, until the end.

The loop sleeps in one select over the daemon's watch stream, the kernel's notices of grown
log files, and the signals. What ends it: the system stopped, every instance ended, one that
`--exit-code-from`, `--abort-on-failure` or `--abort-on-exit` speaks of, or the user.
"""

from __future__ import annotations

import contextlib
import select
import signal
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from msgspec import Struct

from orchestrator import client
from orchestrator.cli import bars, change, logs, progress
from orchestrator.cli.follow import Follower
from orchestrator.cli.interrupts import Interrupts
from orchestrator.cli.screen import wants_colour
from orchestrator.cli.session import Session
from orchestrator.client import Client, Event, Row, Watch
from orchestrator.errors import DaemonUnreachable, ExitCode
from orchestrator.model.topology import Lock
from orchestrator.model.units import Seconds

_BY_SIGNAL = 128
_LEAVING: Seconds = 2.0
"""How long a daemon that was told to end, and broke off, is looked for."""
_ALIVE = frozenset({"starting", "running", "stopping"})


class Policy(Struct, frozen=True):
    """Whom to stay with (all when empty), and whose end ends everything.

    With both, the code is that of `exit_code_from`, also when the end of another ended it. A
    system whose jobs it `awaits_runs` of waits for submits, and for its clock.
    """

    names: tuple[str, ...] = ()
    exit_code_from: tuple[str, ...] = ()
    abort_on_failure: bool = False
    abort_on_exit: bool = False
    awaits_runs: bool = False


class Foreground:
    """A command that stays with its system; a context manager that holds the signals."""

    def __init__(self, session: Session, lock: Lock, policy: Policy) -> None:
        self._session = session
        self._policy = policy
        self._interrupts = Interrupts()
        self._follower = _follower(session, Path(lock.base_dir) / "logging")
        self._transitions = progress.Transitions(session.screen)
        self._stopping = progress.Stopping(session.screen)
        self._live: dict[str, None] = {}
        self._failed: dict[str, Row] = {}
        self._owns_all = True
        self._awaits_runs = policy.awaits_runs
        self._runs = bars.Lines(session.screen)
        self._code: int | None = None
        self._ends_by_itself = False
        self._failed_with = 0
        self._aborts = False
        self._asked = 0
        self._is_over = False

    def __enter__(self) -> Self:
        self._interrupts.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._interrupts.__exit__()
        self._follower.__exit__()

    def fileno(self) -> int:
        """Return the descriptor that becomes readable when the user wants to end."""
        return self._interrupts.fileno()

    @property
    def was_interrupted(self) -> bool:
        """Whether the user wants to end before it began."""
        return bool(self._interrupts.take())

    def follow(self, daemon: Client, *, is_ours: bool) -> int:
        """Stay until the end and return the exit code.

        Args:
            daemon: What was applied to.
            is_ours: This command started the daemon, so it ends it too.
        """
        self._owns_all = is_ours or not self._policy.names
        try:
            return self._loop(daemon)
        except BrokenPipeError:
            # Nobody reads any more, which for a foreground is as good as Ctrl-C.
            with contextlib.suppress(BrokenPipeError):
                self._end(daemon)
            raise

    def _loop(self, daemon: Client) -> int:
        watch = daemon.watch(self._policy.names, runs=self._awaits_runs)
        self._begin(watch.rows)
        while True:
            self._consider(daemon)
            self._sleep(daemon, watch)
            for number in self._interrupts.take():
                self._interrupted(daemon, number)
            for event in watch.wait(0.0):
                self._take(event)
            if watch.at_end:
                if self._is_over or self._is_gone(daemon):
                    break
                watch = daemon.watch(self._policy.names, runs=self._awaits_runs)
                self._begin(watch.rows)
                self._ask_again(daemon)
            if self._asked and not self._owns_all and not self._live:
                break
            if self._asked:
                self._stopping.tell(time.monotonic())
        self._follower.drain()
        if self._failed_with and (self._code is None or self._ends_by_itself):
            return self._failed_with
        return ExitCode.DONE if self._code is None else self._code

    def _sleep(self, daemon: Client, watch: Watch) -> None:
        more = self._follower.pump() or watch.has_events
        timeout: Seconds | None = self._stopping.due(time.monotonic()) if self._asked else None
        awaited = [one.fileno() for one in (self._follower, daemon, self._interrupts)]
        select.select(awaited, [], [], 0.0 if more else timeout)

    def _begin(self, rows: Iterable[Row]) -> None:
        rows = list(rows)
        self._live.clear()
        self._failed.clear()
        self._follower.width = max((len(row["name"]) for row in rows), default=0)
        for row in rows:
            self._see(row)

    def _take(self, event: Event) -> None:
        kind = event["kind"]
        if kind == "instance":
            self._see(event["row"])
        elif kind == "removed":
            self._live.pop(event["name"], None)
            self._failed.pop(event["name"], None)
            self._stopping.forget(event["name"])
        elif kind == "run":
            self._runs.see(event["run"])
        elif kind == "system":
            self._system(event)

    def _system(self, event: Event) -> None:
        if event["state"] == "stopped":
            self._is_over = True
            # That all had ended was seen first, maybe; why the system ended says more.
            if self._code is None or (self._ends_by_itself and event.get("exit_code")):
                self._code = event.get("exit_code", 0)
            return
        # Should the daemon's last word not arrive, the one before says as much.
        self._failed_with = event.get("exit_code", 0)
        if not self._asked:
            why = event.get("why") or "the daemon was told to"
            self._session.screen.note(f"orch: stopping: {why}")

    def _see(self, row: Row) -> None:
        name = row["name"]
        self._follower.see(row)
        self._stopping.see(row, time.monotonic())
        if row["phase"] not in _ALIVE:
            self._follower.finish(name)
        self._transitions.see(row)
        if client.is_terminal(row):
            self._live.pop(name, None)
        else:
            self._live[name] = None
        if row["phase"] != "failed":
            self._failed.pop(name, None)
        elif name not in self._failed:
            self._failed[name] = row
            self._session.screen.say(f"orch: {client.failure(row)}")
        self._judge(row)

    def _judge(self, row: Row) -> None:
        """Let the end of a component that matters decide the exit code."""
        if self._code is not None or not client.is_terminal(row):
            return
        if row["name"] in self._policy.exit_code_from:
            self._code = change.exit_code(row)
        elif self._aborts_with(row) and not self._asked:
            self._aborts = True
            if not self._policy.exit_code_from:
                failed = ExitCode.FAILED if row["phase"] == "failed" else ExitCode.DONE
                self._code = change.exit_code(row) or failed

    def _aborts_with(self, row: Row) -> bool:
        """Tell whether the end of an instance is that of all; what never ran has not ended."""
        if self._policy.abort_on_failure and row["phase"] == "failed":
            return True
        return self._policy.abort_on_exit and row["phase"] in ("failed", "exited")

    def _consider(self, daemon: Client) -> None:
        """End what has come to its end."""
        if self._asked or self._is_over:
            return
        if self._code is None and not self._live and not self._awaits_runs:
            self._ends_by_itself = True
            self._code = ExitCode.FAILED if self._failed else ExitCode.DONE
        if self._aborts or self._code is not None:
            self._end(daemon)

    def _interrupted(self, daemon: Client, number: int) -> None:
        self._code = _BY_SIGNAL + number
        if self._asked:
            self._session.screen.say("orch: killing")
            self._end(daemon, kill=True)
            return
        again = " (Ctrl-C again to kill)" if number == signal.SIGINT else ""
        self._session.screen.say(f"orch: stopping in order{again}")
        self._end(daemon)

    def _end(self, daemon: Client, *, kill: bool = False) -> None:
        """Ask for the end of what this command stays with: everything, or its names."""
        self._asked = 2 if kill else 1
        self._ask_again(daemon)

    def _ask_again(self, daemon: Client) -> None:
        if not self._asked:
            return
        with contextlib.suppress(DaemonUnreachable):
            if self._owns_all:
                daemon.down(kill=self._asked > 1)
            elif self._asked > 1:
                daemon.kill(self._policy.names, "KILL")
            else:
                daemon.change("stop", self._policy.names)

    def _is_gone(self, daemon: Client) -> bool:
        """Wait for the keeper to repair the daemon; tell whether none came back."""
        self._follower.drain()
        try:
            daemon.reopen(_LEAVING if self._asked else client.REPAIR_TIMEOUT)
        except DaemonUnreachable as problem:
            if not self._asked:
                self._session.screen.say(f"orch: {problem}")
                self._code = problem.exit_code
            return True
        return False


def _follower(session: Session, directory: Path) -> Follower:
    """Return a follower that shows what is written from now on, whoever wrote before."""
    out = logs.style_of(session, prefix=True, coloured=session.screen.out_coloured)
    coloured = wants_colour(sys.stderr, session.options.color, session.environment)
    err = logs.style_of(session, prefix=True, coloured=coloured)
    follower = Follower({"stdout": out, "stderr": err}, split=True)
    follower.from_now(directory)
    return follower
