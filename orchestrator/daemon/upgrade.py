"""Replacing the code of a running daemon: the same process executes what is on disk now.

The process stays, and with it its pid, its children and their exit codes, the keeper's link and
the sockets. What its memory holds and nobody else does goes through a file in memory to the code
that follows: clients' connections, the keeper's words that are not written down yet, the pipes on
which readiness is awaited. All else is in the journal, as for any other death of the daemon.

Before anything is given up the new code shows, in a process of its own, that it can be imported
and reads this journal. Should it fail all the same, the keeper starts a daemon as ever.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import msgspec
from msgspec import Struct, field

from orchestrator import __version__, keeping
from orchestrator import process as processes
from orchestrator.daemon import journal as journals
from orchestrator.daemon.host import Host
from orchestrator.daemon.programs import Place
from orchestrator.errors import RequestFailed, SpawnError
from orchestrator.model.phase import Exit, Process
from orchestrator.model.units import Seconds
from orchestrator.process import Order

CHECK, RESUME = "--check", "--resume"
"""The arguments with which new code shows what it is, and goes on where the old one was."""

CHECK_TIMEOUT: Seconds = 30.0
SETTLE_TIMEOUT: Seconds = 2.0
"""How long what must not be torn apart is waited for: starts under way, answers unsent."""

LOOK_AGAIN: Seconds = 0.01

_HELD = ("link", "control", "notify", "lock")
"""The descriptors that every daemon of a system is given."""

BLOCKED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Signals that wait until the new code has handlers for them."""


class Handed(Struct, frozen=True):
    """A client's connection: the descriptor, its watch if it has one, a message's beginning."""

    fd: int
    stream: int | None
    only: tuple[str, ...]
    received: str
    asked: int | None = None
    """The number of the request for the upgrade, which the new code answers."""
    runs: tuple[str, ...] | None = None


class Handover(Struct, frozen=True):
    """What goes from the old code to the new. Whatever it lacks, the new code does without."""

    given: Mapping[str, Any] = field(default_factory=dict)
    version: str = ""
    sequence: int = 0
    sessions: tuple[Handed, ...] = ()
    link: str = ""
    exits: tuple[Mapping[str, Any], ...] = ()
    pipes: Mapping[str, int] = field(default_factory=dict)
    offsets: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def descriptors(self) -> tuple[int, ...]:
        """The descriptors that it speaks of."""
        held = (self.given[name] for name in _HELD if name in self.given)
        return (*held, *(session.fd for session in self.sessions), *self.pipes.values())

    def save(self) -> int:
        """Return a file in memory that holds it."""
        fd = os.memfd_create("handover")
        os.write(fd, json.dumps(msgspec.to_builtins(self)).encode())
        os.lseek(fd, 0, os.SEEK_SET)
        return fd

    @classmethod
    def load(cls, fd: int) -> Handover:
        """Read and close what `save` returned, perhaps by other code than ours."""
        with open(fd, encoding="utf-8") as file:
            found = msgspec.convert(json.load(file), cls)
        for each in found.descriptors:
            os.set_inheritable(each, False)
        return found


def argv(*arguments: str) -> tuple[str, ...]:
    """Return a command line of the daemon's code on disk, for the keeper's interpreter."""
    return (sys.executable, "-P", "-m", "orchestrator.daemon", *arguments)


def check(journal: Path) -> str:
    """Show what this code is, in words for `try_out`, having read the journal.

    Raises:
        ValueError: This code cannot read that journal.
        sqlite3.DatabaseError: Nor can anybody.
    """
    journals.readable(journal)
    return json.dumps({"version": __version__, "keeper": keeping.keeper_code()})


Tried = Callable[[Mapping[str, Any] | RequestFailed], None]


def try_out(host: Host, place: Place, done: Tried) -> None:
    """Have the code on disk start in a process of its own; tell what it is, or what is wrong."""
    out, err = (Path(place.runtime_dir) / f"upgrade.{kind}" for kind in ("out", "err"))
    journal = str(Path(place.base_dir) / "journal.db")

    def started(outcome: Process | SpawnError) -> None:
        if isinstance(outcome, SpawnError):
            done(RequestFailed("upgrade", f"cannot upgrade: {outcome}"))
            return
        process = outcome

        def ended(how: Exit) -> None:
            host.release(process)
            said, complaint = _taken(out), _taken(err)
            if how.code == 0:
                with contextlib.suppress(ValueError):
                    done(json.loads(said))
                    return
            last = (complaint or said).strip().rpartition("\n")[2] or str(how)
            message = f"the code on disk does not start ({last}); the daemon goes on as it was"
            done(RequestFailed("upgrade", f"cannot upgrade: {message}"))

        def give_up() -> None:
            host.signal(process, signal.SIGKILL, group=False)

        host.watch(process, ended)
        host.call_later(CHECK_TIMEOUT, give_up)

    for path in (out, err):
        path.unlink(missing_ok=True)
    host.spawn(Order(argv(CHECK, journal), os.environ, "/", str(out), str(err)), started)


def _taken(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    finally:
        path.unlink(missing_ok=True)


def execute(handover: Handover) -> NoReturn:
    """Become the code on disk. Returns only by an error, with everything as it was.

    Raises:
        OSError: It cannot be executed.
    """
    fd = handover.save()
    passed = (fd, *handover.descriptors)
    line = argv(RESUME, str(fd), handover.given["runtime_dir"])
    signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED)
    # The new code raises it as it needs, and must know what children are given.
    raised = processes.restore_open_files()
    try:
        for each in passed:
            os.set_inheritable(each, True)
        os.execv(line[0], line)  # noqa: S606 - no shell is wanted
    finally:
        for each in passed:
            os.set_inheritable(each, False)
        os.close(fd)
        if raised is not None:
            processes.raise_open_files(raised)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, BLOCKED)
