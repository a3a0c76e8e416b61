"""sd_notify messages: what components say of themselves."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import Mapping

from orchestrator import process as processes
from orchestrator.daemon import health
from orchestrator.daemon.probes import Probes
from orchestrator.daemon.runner import Runner
from orchestrator.daemon.supervisor import Supervisor

logger = logging.getLogger(__name__)

_CREDENTIALS = socket.CMSG_SPACE(12)


class Notifications:
    """Reads the notify sockets; senders are told apart by credentials that the kernel adds.

    The whole queue is read at each wake-up: senders block when eleven datagrams wait.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        supervisor: Supervisor,
        probes: Probes,
        runner: Runner,
    ) -> None:
        self._loop = loop
        self._supervisor = supervisor
        self._probes = probes
        self._runner = runner
        self._sockets: list[socket.socket] = []
        supervisor.executor.hear = self.hear

    def listen(self, notify: socket.socket) -> None:
        """Read a socket from now on."""
        notify.setblocking(False)
        self._sockets.append(notify)
        self._loop.add_reader(notify.fileno(), self._on_readable, notify)

    def leave(self, notify: socket.socket) -> None:
        """Read a socket no longer; before it is closed."""
        self._loop.remove_reader(notify.fileno())
        if notify in self._sockets:
            self._sockets.remove(notify)

    def hear(self) -> None:
        """Take what has come; the last words of a process that has just ended."""
        for notify in tuple(self._sockets):
            self._on_readable(notify)

    def _on_readable(self, notify: socket.socket) -> None:
        while True:
            try:
                data, ancillary, _, _ = notify.recvmsg(4096, _CREDENTIALS)
            except BlockingIOError:
                return
            for level, kind, value in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
                    pid, _, _ = struct.unpack("iII", value[:12])
                    self._take(pid, fields(data))

    def _take(self, pid: int, said: Mapping[str, str]) -> None:
        run = self._runner.run_of(pid)
        if run is not None:
            if "ORCH_RUN" in said:
                self._runner.told(run)
            return
        slot = self._slot(pid)
        if slot is None:
            logger.debug("A notification from pid %d, which belongs to no component", pid)
            return
        if "STATUS" in said:
            self._probes.found(slot, status=health.shown(said["STATUS"]))
        if "X_ORCH_ERROR" in said:
            self._supervisor.facts[slot].last_words = health.shown(said["X_ORCH_ERROR"])
        if said.get("READY") == "1":
            self._probes.spoke(slot)
        if said.get("WATCHDOG") == "1":
            self._probes.watchdogs.sign(slot)
        elif said.get("WATCHDOG") == "trigger":
            self._probes.abort(slot, "it sent WATCHDOG=trigger")

    def _slot(self, pid: int) -> str | None:
        by_pid = self._supervisor.executor.by_pid
        # A shell script's notification comes from a child in its session.
        slot = by_pid.get(pid) or by_pid.get(processes.session(pid) or 0)
        return slot if slot in self._supervisor.slots else None


def fields(data: bytes) -> dict[str, str]:
    """Return the assignments of a message by name; the last of a name holds."""
    lines = data.decode(errors="replace").split("\n")
    return {name: value for name, sep, value in (line.partition("=") for line in lines) if sep}
