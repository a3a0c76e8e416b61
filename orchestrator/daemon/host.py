"""The seam to the operating system: what the supervisor may ask of the world.

`Host` is about ten calls. `PosixHost` does them with SIGCHLD and pidfds on an asyncio loop; the
tests' fake does them in virtual time, and one contract suite runs on both.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import functools
import logging
import os
import random
import select
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from msgspec import structs

from orchestrator import cgroups
from orchestrator import process as processes
from orchestrator.daemon.children import Children, Ended
from orchestrator.daemon.zygotes import Forked, NotForked, Zygotes
from orchestrator.errors import SpawnError
from orchestrator.model.phase import Exit, Process
from orchestrator.model.units import Instant, Seconds
from orchestrator.process import MARKER, Order

logger = logging.getLogger(__name__)

Spawned = Callable[[Process | SpawnError], None]

OTHERS_WORD: Seconds = 2.0
"""How long somebody's word about an orphan's exit is awaited once the process is gone."""

LOOK_AGAIN: Seconds = 0.02
"""Pause between questions to the kernel meanwhile."""

VERIFY_AGAIN: Seconds = 1.0
"""Pause between looks at a process that cannot be told from another that has its pid."""

REAP_LATER: Seconds = 0.1
"""How long an ended orphan may stay a zombie: one look serves all that end meanwhile."""


DISMISS_AGAIN: Seconds = 0.1
"""Pause before a control group is removed again whose last process is still ending."""

DISMISSALS = 20
"""How often that is tried; `kill: leader` may leave somebody there for good."""


class Host(Protocol):
    """What the supervisor asks of the operating system. Callbacks come on the loop, later."""

    def now(self) -> Instant:
        """Return the monotonic time."""

    def wall(self) -> dt.datetime:
        """Return the local time of day with its offset; it may jump, and only schedules use it."""

    def chance(self) -> float:
        """Return a random number from 0 to below 1."""

    def call_later(self, after: Seconds, callback: Callable[[], None]) -> None:
        """Call back after so many seconds. There is no cancelling."""

    def spawn(self, order: Order, done: Spawned) -> None:
        """Start a program; `done` is called at once or later with the process or the error."""

    def way(self, process: Process) -> str | None:
        """Return how a handler's interpreter came to be, None when that is not known."""

    def watch(self, process: Process, ended: Ended) -> None:
        """Call `ended` once when the process has ended; at once-later when it already has."""

    def release(self, process: Process) -> None:
        """Let the kernel forget a process whose end has been written down."""

    def signal(self, process: Process, number: int, *, group: bool) -> bool:
        """Signal a process, or its group while it is watched; False when it is gone."""

    def survivors(self, leader: Process, marker: str) -> tuple[Process, ...]:
        """Return what lives of a leader's tree besides the leader."""

    def marked(self, prefix: str) -> Mapping[str, Process]:
        """Return living orphans by their whole marker, for those that begin with `prefix`."""

    def kill_group(self, marker: str) -> None:
        """Kill all that is in the control group of a generation, if it has one."""

    def out_of_memory(self, marker: str) -> bool:
        """Tell whether the kernel has ended something of a generation for want of memory."""

    def dismiss(self, marker: str) -> None:
        """Take note that nothing is left of a generation."""


class PosixHost:
    """The real thing: no polling, and nobody is taken for another who had the same pid.

    What we have executed, and what is our child by now, is followed by its pid, which is its own
    until we reap it; all others by pidfds.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        keeper: int,
        acknowledge: Callable[[int], None],
        groups: cgroups.Groups | None = None,
    ) -> None:
        self._loop = loop
        self.groups = groups or cgroups.Groups(cgroups.Ladder(), "")
        self.acknowledge = acknowledge
        self._recovering = True
        self.keeper = keeper
        self._pidfds: dict[Process, int] = {}
        # One reader of the loop for all ends: one of its own for each takes three times as long.
        self._ends = select.epoll()
        self._watched: dict[int, tuple[Process, Ended]] = {}
        loop.add_reader(self._ends.fileno(), self._on_ends)
        self._pids: set[int] = set()
        self._leftovers: set[int] = set()
        self._children = Children(loop, self._ask_others)
        self._ended: set[Process] = set()
        self._told: dict[Process, Exit] = {}
        self._numbers: dict[Process, int] = {}
        self._untold: dict[Process, Ended] = {}
        self._launching: set[Process] = set()
        self._reapers: set[int] = set()
        self._adopted = processes.Adopted()
        self._strangers: frozenset[int] | None = None
        self._reaping = False
        self._ways: dict[Process, str] = {}
        self.zygotes = Zygotes(loop, self._zygote_is)
        processes.become_subreaper()

    def now(self) -> Instant:
        """Return the monotonic time, which counts across processes and daemons of one boot."""
        return time.monotonic()

    def wall(self) -> dt.datetime:
        """Return the local time of day with its offset; it may jump, and only schedules use it."""
        return dt.datetime.now().astimezone()

    def chance(self) -> float:
        """Return a random number from 0 to below 1."""
        return random.random()  # noqa: S311 - jitter, not cryptography

    def call_later(self, after: Seconds, callback: Callable[[], None]) -> None:
        """Call back after so many seconds; 0 means in the next turn of the loop."""
        if after > 0:
            self._loop.call_later(after, callback)
        else:
            self._loop.call_soon(callback)

    def spawn(self, order: Order, done: Spawned) -> None:
        """Start a program; a handler by the zygote where it can be."""
        try:
            order = self._placed(order, order.environment.get(MARKER, ""))
        except SpawnError as error:
            done(error)
            return
        if order.no_zygote is None:
            self._execute(order, done)
        elif order.no_zygote:
            self._execute_fresh(order, done, order.no_zygote)
        else:
            self.zygotes.ask(order, functools.partial(self._born, done))

    def _born(self, done: Spawned, outcome: Forked | SpawnError | NotForked, order: Order) -> None:
        if isinstance(outcome, NotForked):
            self._execute_fresh(order, done, outcome.why)
            return
        if isinstance(outcome, SpawnError):
            self.dismiss(order.environment.get(MARKER, ""))
            done(outcome)
            return
        # It may still be the child of the one that was forked to fork it.
        self._pidfds[outcome.process] = outcome.pidfd
        self._take(outcome.process)
        self._ways[outcome.process] = "zygote"
        done(outcome.process)

    def _execute_fresh(self, order: Order, done: Spawned, why: str) -> None:
        """Start a fresh interpreter, and remember why."""

        def started(outcome: Process | SpawnError) -> None:
            if isinstance(outcome, Process):
                self._ways[outcome] = f"exec ({why})"
            done(outcome)

        self._execute(order, started)

    def _take(self, process: Process) -> None:
        """Take note of a new process."""
        self._pids.add(process.pid)
        self._leftovers.discard(process.pid)

    def _zygote_is(self, pid: int, there: bool) -> None:
        """Take note that a child is the zygote, no orphan of anybody; or that it is gone."""
        (self._pids.add if there else self._pids.discard)(pid)

    def way(self, process: Process) -> str | None:
        """Return `zygote`, or `exec` and the reason."""
        return self._ways.get(process)

    def _execute(self, order: Order, done: Spawned) -> None:
        """Start a program by vfork and exec; with a set-up, wait for the launcher's word."""
        marker = order.environment.get(MARKER, "")
        try:
            child = processes.spawn(order)
        except SpawnError as error:
            self.groups.dismiss(marker)
            done(error)
            return
        self._children.add(child.process)
        self._take(child.process)
        if child.errors is None:
            done(child.process)
            return
        errors = child.errors
        self._launching.add(child.process)

        def report() -> None:
            self._loop.remove_reader(errors)
            self._launching.discard(child.process)
            failure = processes.setup_failure(errors, order)
            if failure is None:
                done(child.process)
                return

            def gone(_exit: Exit) -> None:
                self.release(child.process)
                self.dismiss(marker)

            self.watch(child.process, gone)
            done(failure)

        self._loop.add_reader(errors, report)

    def _placed(self, order: Order, marker: str) -> Order:
        """Return the order with what its limits need: a control group, or resource limits."""
        if not order.limits:
            return order
        setup = order.setup
        placement = self.groups.make(marker, order.limits, setup.user)
        rlimits = {**placement.rlimits, **setup.rlimits}
        setup = structs.replace(setup, joins=placement.joins, rlimits=rlimits)
        return structs.replace(order, setup=setup)

    def watch(self, process: Process, ended: Ended) -> None:
        """Call `ended` when the process has, with the exit as we or the keeper read it."""
        fd = self._pidfds.get(process)
        if process in self._children or (fd is None and processes.is_child(process)):
            self._children.add(process)
            self._pids.add(process.pid)
            self._children.watch(process, functools.partial(self._child_has, process, ended))
            return
        if fd is None:
            try:
                fd = processes.open_pidfd(process)
            except OSError as error:
                # Until somebody can tell it counts as alive: another beside it would be worse.
                logger.warning("Cannot verify pid %d, left alone: %s", process.pid, error)
                self._pids.add(process.pid)
                self._loop.call_later(VERIFY_AGAIN, self.watch, process, ended)
                return
        if fd is None:
            self._pids.discard(process.pid)
            self._loop.call_soon(self._ask_others, process, ended)
            return
        self._pids.add(process.pid)
        self._pidfds[process] = fd
        if fd not in self._watched:
            self._ends.register(fd, select.EPOLLIN)
        self._watched[fd] = (process, ended)

    def release(self, process: Process) -> None:
        """Reap a child, or close a pidfd; the keeper may forget its exit too."""
        self._told.pop(process, None)
        self._ways.pop(process, None)
        number = self._numbers.pop(process, None)
        if number is not None:
            self.acknowledge(number)
        self._pids.discard(process.pid)
        self._leftovers.discard(process.pid)
        self._ended.discard(process)
        if process in self._children:
            self._children.release(process)
        fd = self._pidfds.pop(process, None)
        if fd is not None:
            self._unwatch(fd)
            processes.reap(fd)
            os.close(fd)

    def signal(self, process: Process, number: int, *, group: bool) -> bool:
        """Signal this very process; a group only while its leader is not reaped."""
        is_ours = process in self._children
        if group:
            return processes.signal_group(process, number, ours=is_ours)
        if is_ours:
            return processes.signal_child(process.pid, number)
        fd = self._pidfds.get(process)
        if fd is not None:
            return processes.signal_process(fd, number)
        return processes.signal_verified(process, number)

    def survivors(self, leader: Process, marker: str) -> tuple[Process, ...]:
        """Return what lives of a tree, see `process.survivors`."""
        ended = leader in self._ended or not self._follows(leader)
        found = processes.survivors(leader, marker, self._orphans(), ended=ended)
        if self.groups.has(marker):
            members = processes.living(self.groups.members(marker))
            found = tuple({**dict.fromkeys(found), **dict.fromkeys(members)})
            found = tuple(process for process in found if process != leader)
        self._leftovers.update(process.pid for process in found)
        return found

    def unclaimed(self) -> tuple[Process, ...]:
        """Return what lives below the daemon or the keeper and carries nobody's marker.

        A descendant of a component that cleared its environment, left its session and outlived
        its parent is that of none any more; that it came to us says that it is of the system.
        """
        found = self._adopted.of(os.getpid(), self.keeper)
        ours = self._pids | {os.getpid(), self.keeper}
        return tuple(p for p in processes.living(found - ours) if not processes.marker_of(p.pid))

    def marked(self, prefix: str) -> Mapping[str, Process]:
        """Return the leaders of marked sessions, whoever their parent is by now."""
        return processes.marked_leaders(prefix)

    def kill_group(self, marker: str) -> None:
        """Kill a control group at once: nothing in it gets away, whatever it has done."""
        self.groups.kill(marker)

    def out_of_memory(self, marker: str) -> bool:
        """Ask the control group whether the kernel has killed in it for want of memory."""
        return self.groups.out_of_memory(marker)

    def dismiss(self, marker: str) -> None:
        """Remove the control group of a generation; one that is still ending in it may delay."""
        self._dismiss(marker, DISMISSALS)

    def _dismiss(self, marker: str, tries: int) -> None:
        if not self.groups.dismiss(marker) and tries > 1:
            self._loop.call_later(DISMISS_AGAIN, self._dismiss, marker, tries - 1)

    @property
    def is_launching(self) -> bool:
        """Whether the set-up of a program is under way, of which only we shall hear."""
        return bool(self._launching) or self.zygotes.is_forking

    def look_outside(self) -> None:
        """Look for orphans where they go without us: to who is above the keeper, or the daemon.

        A keeper that is killed takes its being their reaper with it, for all that live then.
        """
        above = processes.parent(self.keeper)
        if above == os.getpid():  # We have started it ourselves.
            above = os.getppid()
        if above:
            self._reapers.add(above)

    def keeper_told(self, number: int, process: Process, exit: Exit) -> None:  # noqa: A002
        """Take the keeper's word for how an orphan ended; it is kept until `release`."""
        self._numbers[process] = number
        waiting = self._untold.pop(process, None)
        if waiting is not None:
            waiting(exit)
        elif self._recovering or self._follows(process):
            self._told[process] = exit
        else:
            # An orphan of a component, which nobody follows.
            self.release(process)

    def recovered(self) -> None:
        """Let the keeper forget the exits that recovery did not ask for."""
        self._recovering = False
        self._loop.call_soon(self._forget_untaken)

    def _forget_untaken(self) -> None:
        for process in tuple(self._told):
            if not self._follows(process):
                self.release(process)

    def _follows(self, process: Process) -> bool:
        return process in self._children or process in self._pidfds

    # -------------------------------------------------------------- ends

    def _child_has(self, process: Process, ended: Ended, exit: Exit) -> None:  # noqa: A002
        self._ended.add(process)
        ended(exit)

    def _on_ends(self) -> None:
        """Take the ends that there are; those that one's failure leaves are told again."""
        for fd, _ in self._ends.poll(0):
            watched = self._unwatch(fd)
            if watched is not None:
                self._on_end(*watched, fd)

    def _unwatch(self, fd: int) -> tuple[Process, Ended] | None:
        watched = self._watched.pop(fd, None)
        if watched is not None:
            self._ends.unregister(fd)
        return watched

    def _on_end(self, process: Process, ended: Ended, fd: int) -> None:
        self._ended.add(process)
        try:
            exit = processes.peek_exit(fd)  # noqa: A001
        except ChildProcessError:
            self._ask_others(process, ended)
            return
        ended(exit or Exit())

    def _ask_others(self, process: Process, ended: Ended) -> None:
        """Find out how a process ended whose parent we are not.

        The keeper tells when it was the parent; the kernel when somebody else has reaped it.
        """
        told = self._told.pop(process, None) or self._foreign_exit(process)
        if told is not None:
            ended(told)
            return
        self._untold[process] = ended
        give_up = self.now() + OTHERS_WORD

        def look() -> None:
            if self._untold.get(process) is not ended:
                return
            found = self._foreign_exit(process)
            if found is None and self.now() < give_up:
                self._loop.call_later(LOOK_AGAIN, look)
                return
            del self._untold[process]
            ended(found or Exit())

        self._loop.call_later(LOOK_AGAIN, look)

    def _foreign_exit(self, process: Process) -> Exit | None:
        fd = self._pidfds.get(process)
        return None if fd is None else processes.foreign_exit(process, fd)

    # -------------------------------------------------------------- orphans

    def _orphans(self) -> frozenset[int]:
        """Children of ours or of the keeper that we did not start: orphans of components.

        One that is watched because its leader is gone is still an orphan.

        Read once per turn of the loop, however many components end in it.
        """
        if self._strangers is None:
            own = os.getpid()
            found = self._adopted.of(own, self.keeper)
            for reaper in self._reapers:
                found.update(processes.children(reaper))
            known = found & (self._pids - self._leftovers)
            self._strangers = frozenset(found - known - self._reapers - {own, self.keeper})
            self._loop.call_soon(self._forget_strangers)
        return self._strangers

    def _forget_strangers(self) -> None:
        self._strangers = None

    def child_ended(self) -> None:
        """Take a SIGCHLD: a child has ended, or an orphan may have."""
        self._children.look()
        if not self._reaping:
            self._reaping = True
            self._loop.call_later(REAP_LATER, self._reap_strangers)

    def _reap_strangers(self) -> None:
        """Reap orphans that ended; children that we started are reaped by `release`."""
        self._reaping = False
        for pid in processes.children(os.getpid()):
            if pid not in self._pids:
                processes.reap_child(pid)
