"""The program of a run and all that waits for it: one thread, which no hook can hold up.

The main thread calls the hooks of users, and may be in one for as long as it pleases. This thread
sees the program's end at once and writes its exit code; forwards a stop; kills what does not heed
it; notices changed files; and writes the progress. The main thread asks for the `next` event:

    CHANGED   files of the run have changed (once, until `listen` is called again)
    ENDED     the program has ended, all of it; `exit` says how
    STOP      the run is to stop
"""

from __future__ import annotations

import contextlib
import enum
import logging
import os
import queue
import select
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from orchestrator import inotify, process
from orchestrator.component.runs import directory
from orchestrator.component.runs.progress import PACE, Progress
from orchestrator.errors import ExitCode, OrchestratorError
from orchestrator.model.phase import Exit
from orchestrator.model.units import Seconds

logger = logging.getLogger(__name__)

VARIABLE = "ORCH_RUN_ID"
"""The environment variable by which a program and all that it starts know their run."""

BURST: Seconds = 0.2
"""Changes so close together are told of as one."""

GRACE: Seconds = 1.0
"""How long a hook may go on when the run is to stop; then it is interrupted."""

SHARE = 0.6
"""The part of the time for a stop that the program has, before it is killed."""

WATCHED = 1000
"""How many directories of a run are followed; changes in others are seen at the interval."""

_LEFT: Seconds = 5.0
"""How long what is killed may take to die."""

_OUTPUT_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
_OURS = ("NOTIFY_SOCKET", "ORCH_CONTROL", "WATCHDOG_USEC", "WATCHDOG_PID")


class Event(enum.Enum):
    """What the main thread is told."""

    CHANGED = enum.auto()
    ENDED = enum.auto()
    STOP = enum.auto()


class Attendant:
    """Runs a program in a run's directory.

    Args:
        run_id: The run, as the program is told.
        run_dir: Its directory.
        stop_signal: What a program gets that is to stop.
        stop_timeout: How long a stop may take before somebody kills us all, in seconds.
    """

    def __init__(
        self, run_id: str, run_dir: Path, stop_signal: int, stop_timeout: Seconds
    ) -> None:
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.exit: Exit | None = None
        """How the program ended; None before."""
        self.problem: str = ""
        """What has gone wrong with the program's end, in words."""
        self.is_stopping = False
        """Whether the run is to stop."""
        self.has_changed = False
        """Whether files have changed since `listen` was called."""
        self._run_id = run_id
        self._run_dir = run_dir
        self._stop_signal = stop_signal
        self._stop_timeout = stop_timeout
        self._progress: Progress | None = None
        self._program: process.Begun | None = None
        self._pidfd = -1
        self._output = -1
        self._woken, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._notices: inotify.Notices | None = None
        self._wants_notices = False
        self._is_closing = False
        self._has_stopped = False
        self._ended_by_stop = False
        self._written = -PACE
        self._due: dict[Callable[[], object], float] = {}
        self._readers: dict[int, Callable[[], object]] = {}
        self._poll = select.poll()
        self._main = threading.main_thread().ident
        self._thread = threading.Thread(target=self._attend, name="orch-run", daemon=True)

    def begin(self, progress: Progress) -> None:
        """Attend from now on."""
        self._progress = progress
        self._thread.start()

    @property
    def has_program(self) -> bool:
        """Whether the program was started."""
        return self._program is not None

    @property
    def was_stopped(self) -> bool:
        """Whether the run was told to stop before its program had ended."""
        return self.is_stopping if self.exit is None else self._ended_by_stop

    def next(self, patience: Seconds | None) -> Event | None:
        """Wait for the next event, so long at most (None: for ever); None when there is none."""
        with contextlib.suppress(queue.Empty):
            return self._events.get(timeout=patience)
        return None

    def start(self, argv: Sequence[str], environment: Mapping[str, str]) -> int:
        """Start the program, and return its pid.

        Raises:
            OrchestratorError: It cannot be started, or its `output` not be made.
        """
        path = self._run_dir / directory.OUTPUT
        given = {name: value for name, value in environment.items() if name not in _OURS}
        given[VARIABLE] = self._run_id
        # What a Python program prints is to be seen then, not when it ends.
        given.setdefault("PYTHONUNBUFFERED", "1")
        # Orphans of the program come to us, so that none writes after its end.
        process.become_subreaper()
        try:
            output = os.open(path, _OUTPUT_FLAGS, 0o640)
        except OSError as error:
            raise OrchestratorError(f"cannot make {path}: {error.strerror}") from error
        try:
            program = process.begin_program(
                argv, environment=given, cwd=str(self._run_dir), output=output
            )
        except BaseException:
            os.close(output)
            raise
        self._output = output
        self._pidfd = os.pidfd_open(program.pid)
        self._program = program
        if self._has_stopped:
            self._signal(self._stop_signal)  # It came too late for the thread to see it.
        self.wake()
        return program.pid

    def listen(self) -> None:
        """Tell of the next change of a file: what has changed up to now is known.

        So a callback that writes a file is not called again for that.
        """
        self.has_changed = False
        self._wants_notices = True
        self.wake()

    def stop(self) -> None:
        """Have the program stop, and whatever hook is in hand; callable from a signal handler."""
        self.is_stopping = True
        self._events.put(Event.STOP)
        self.wake()

    def wake(self) -> None:
        """Look around: something has changed; callable from a signal handler."""
        # A full pipe wakes, too; after the end there is nobody to be woken.
        with contextlib.suppress(BlockingIOError, OSError):
            os.write(self._wake, b"w")

    def close(self) -> None:
        """Attend no longer; what is known of the progress has been written."""
        self._is_closing = True
        self.wake()
        if self._thread.is_alive():
            self._thread.join()
        for fd in (self._woken, self._wake, self._pidfd, self._output):
            if fd >= 0:
                os.close(fd)
        self._woken = self._wake = self._pidfd = self._output = -1

    # -------------------------------------------------------------- the thread

    def _attend(self) -> None:
        try:
            self._turn()
        except BaseException:
            # Nobody would see the program's end: better none than half a run. The daemon kills
            # what is left of it.
            logger.critical("internal error in the attendant of the run", exc_info=True)
            os._exit(ExitCode.FAILED)

    def _turn(self) -> None:
        self._readers[self._woken] = lambda: _empty(self._woken)
        self._poll.register(self._woken, select.POLLIN)
        while not self._is_closing:
            self._look()
            now = time.monotonic()
            for task in [task for task, due in self._due.items() if due <= now]:
                del self._due[task]
                task()
            patience = None
            if self._due:
                patience = max(0.0, min(self._due.values()) - time.monotonic()) * 1000
            for fd, _ in self._poll.poll(patience and patience + 1):
                self._readers[fd]()
        self._write()
        if self._notices is not None:
            self._notices.__exit__()

    def _look(self) -> None:
        """See what other threads want."""
        if self._progress is not None and self._progress.is_new and self._write not in self._due:
            self._due[self._write] = self._written + PACE
        if self._program is not None and self._pidfd not in self._readers:
            self._readers[self._pidfd] = self._ended
            self._poll.register(self._pidfd, select.POLLIN)
        if self._wants_notices:
            self._wants_notices = False
            self._listen()
        if self.is_stopping and not self._has_stopped:
            self._has_stopped = True
            now = time.monotonic()
            self._due[self._interrupt] = now + min(GRACE, self._stop_timeout * SHARE)
            self._due[self._kill] = now + self._stop_timeout * SHARE
            self._signal(self._stop_signal)

    def _write(self) -> None:
        if self._progress is not None:
            self._progress.write()
            self._written = time.monotonic()

    def _tell(self) -> None:
        self.has_changed = True
        self._events.put(Event.CHANGED)

    def _interrupt(self) -> None:
        # A real signal: a hook that sleeps or reads is woken by no other way.
        if self._main is not None:
            signal.pthread_kill(self._main, signal.SIGTERM)

    def _listen(self) -> None:
        """Forget the notices up to now, and wait for the next."""
        try:
            if self._notices is None:
                self._notices = inotify.Notices(inotify.EVERY)
            for one in directory.subdirectories(self._run_dir, WATCHED):
                self._notices.watch(one)
            self._notices.take()
        except OrchestratorError as error:
            logger.warning("Changed files are seen at each interval only: %s", error)
            return
        self._due.pop(self._tell, None)
        self._readers[self._notices.fileno()] = self._noticed
        self._poll.register(self._notices.fileno(), select.POLLIN)

    def _noticed(self) -> None:
        # Once is enough until the main thread asks again: a flood of output costs nothing.
        if self._notices is not None:
            self._poll.unregister(self._notices.fileno())
        self._due[self._tell] = time.monotonic() + BURST

    def _signal(self, signum: int) -> None:
        if self._program is not None and self.exit is None:
            process.signal_process(self._pidfd, signum)
            process.signal_process(self._pidfd, signal.SIGCONT)

    def _kill(self) -> None:
        if self._program is not None and self.exit is None:
            logger.warning("The program does not stop: killing it")
            process.signal_process(self._pidfd, signal.SIGKILL)

    def _ended(self) -> None:
        """End what the program has left, write down how it ended, and tell."""
        program = self._program
        assert program is not None
        self._poll.unregister(self._pidfd)
        ended = Exit()
        with contextlib.suppress(ChildProcessError):  # A hook has waited for whatever child ends.
            ended = process.peek_exit(self._pidfd) or ended
        deadline = time.monotonic() + _LEFT
        # While it is not reaped nobody else can have its group's number.
        while left := process.left_by(program.pid, VARIABLE, self._run_id):
            patience = deadline - time.monotonic()
            if patience <= 0:
                logger.warning("What the program has left cannot be killed: %d", len(left))
                break
            process.end_all(left, patience)
        program.wait()
        try:
            os.write(self._output, f"\n{number(ended)}".encode())
        except OSError as error:
            self.problem = f"cannot write the exit code to {directory.OUTPUT}: {error.strerror}"
            logger.warning("%s", self.problem)
        self._ended_by_stop = self.is_stopping
        self.exit = ended
        self._events.put(Event.ENDED)


def number(ended: Exit) -> int | str:
    """Return an end as one number: the exit code, or a signal's as a negative one."""
    if ended.code is not None:
        return ended.code
    return "?" if ended.signal is None else -ended.signal


def _empty(fd: int) -> None:
    with contextlib.suppress(BlockingIOError):
        while os.read(fd, 4096):
            pass
