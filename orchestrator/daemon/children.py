"""The ends of our own children, as SIGCHLD and waitid(2) tell them.

A child's pid is its own until we reap it, so none needs a pidfd to be told from another. A
descriptor for each would be copied for, and closed by, every program that is started: what a
start costs would grow with the number of those that run already.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from orchestrator import process as processes
from orchestrator.model.phase import Exit, Process

Ended = Callable[[Exit], None]


class Children:
    """Children that are followed, each until it is released; nobody else may reap one.

    Args:
        loop: Where the ends are told.
        lost: Called with what was watched and is no child of ours any more.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, lost: Callable[[Process, Ended], None]
    ) -> None:
        self._loop = loop
        self._lost = lost
        self._followed: set[Process] = set()
        self._watched: dict[int, tuple[Process, Ended]] = {}
        self._is_due = False
        self._has_told = False

    def __contains__(self, process: Process) -> bool:
        return process in self._followed

    def add(self, process: Process) -> None:
        """Follow a child."""
        self._followed.add(process)

    def watch(self, process: Process, ended: Ended) -> None:
        """Call `ended` once with how a followed child ended, never at once."""
        self._watched[process.pid] = (process, ended)
        self._look_soon()  # It may have ended before, and its signal have come.

    def release(self, process: Process) -> None:
        """Let the kernel forget a child that has ended, and follow it no more."""
        self._followed.discard(process)
        watched = self._watched.get(process.pid)
        if watched is not None and watched[0] == process:
            del self._watched[process.pid]
        processes.reap_child(process.pid)

    def look(self) -> None:
        """Tell the ends that there are; to be called for every SIGCHLD.

        The kernel shows one ended child of several, and always the same until it is reaped.
        Mostly there is one: it is told, and whether there are others is seen in the next turn
        of the loop, when it has been reaped. If there are, or it has not been, every child that
        is watched is looked at, a microsecond each.
        """
        self._is_due = False
        first, has_told = processes.ended_child(), self._has_told
        self._has_told = False
        if first is None:
            return
        try:
            if first in self._watched and not has_told:
                self._look_at(first)
                self._has_told = True
                self._look_soon()  # Behind the turn in which it is reaped.
                return
            for pid in tuple(self._watched):
                self._look_at(pid)
        except BaseException:
            self._look_soon()  # The others that have ended are still to be told.
            raise

    def _look_soon(self) -> None:
        if not self._is_due:
            self._is_due = True
            self._loop.call_soon(self._look_if_due)

    def _look_if_due(self) -> None:
        if self._is_due:
            self.look()

    def _look_at(self, pid: int) -> None:
        process, ended = self._watched.get(pid, (None, None))
        if process is None or ended is None:
            return  # What was told before has released it.
        try:
            how = processes.peek_child(pid)
        except ChildProcessError:
            del self._watched[pid]
            self._followed.discard(process)
            self._lost(process, ended)
            return
        if how is not None:
            del self._watched[pid]
            ended(how)
