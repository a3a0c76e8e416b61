"""Sockets that components are given: opened once, passed to every generation.

The keeper holds a copy of each, so that none is closed when the daemon dies: what connects
meanwhile waits in the kernel's queue. Replicas share one. A socket is closed when nobody who
declares it is wanted any more, and never for a restart.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

from orchestrator.daemon.store import Store
from orchestrator.errors import SpawnError
from orchestrator.model.phase import Phase
from orchestrator.model.topology import Component, Listen
from orchestrator.supervision.reconcile import Slot

FIRST = 3
"""The descriptor of the first socket, sd_listen_fds(3)."""

_LISTENING = "0A"
"""The state of a listening socket in /proc/net/tcp."""


class Sockets:
    """The open sockets of one system.

    Args:
        store: What the keeper holds.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._open: dict[str, socket.socket] = {}

    def recover(self, held: Mapping[str, socket.socket]) -> None:
        """Take back what the keeper has held while there was no daemon."""
        self._open.update(held)

    def keep_again(self) -> None:
        """Give all of them to a new keeper."""
        for name, opened in self._open.items():
            self._store.put(name, opened)

    def prepare(self, component: Component) -> dict[int, int]:
        """Return the sockets of a component by the descriptors that it finds them at.

        They stay ours: the caller must not close them.

        Raises:
            SpawnError: One cannot be opened; one that is in use is worth another try.
        """
        return {
            FIRST + number: self._opened(component, name, listen).fileno()
            for number, (name, listen) in enumerate(component.sockets.items())
        }

    def keep_only(self, slots: Iterable[Slot]) -> None:
        """Close what none of the slots needs any more."""
        if not self._open:
            return
        needed = {
            _key(there.instance.component, name, listen)
            for there in slots
            if there.instance.component.sockets and _needs_sockets(there)
            for name, listen in there.instance.component.sockets.items()
        }
        for key in set(self._open) - needed:
            self._close(key)

    def close(self) -> None:
        """Close all of them: the system is down."""
        for key in tuple(self._open):
            self._close(key)

    # -------------------------------------------------------------- parts

    def _opened(self, component: Component, name: str, listen: Listen) -> socket.socket:
        key = _key(component, name, listen)
        if key not in self._open:
            self._free(listen.address)
            try:
                self._open[key] = _listen(listen)
            except OSError as error:
                stage = f"listen on {listen.address} (socket {name!r})"
                number = error.errno or 0
                reason = error.strerror or str(error)
                if number == errno.EADDRINUSE:
                    reason = f"{reason.lower()}{_holder(listen.address)}"
                transient = number in (errno.EADDRINUSE, errno.EMFILE, errno.ENFILE)
                raise SpawnError(stage, number, reason, transient=transient) from error
            self._store.put(key, self._open[key])
        return self._open[key]

    def _free(self, address: str) -> None:
        """Close a socket of ours with this address that was declared otherwise before."""
        for key in tuple(self._open):
            if key.endswith(f" {address}"):
                self._close(key)

    def _close(self, key: str) -> None:
        with self._open.pop(key) as opened:
            if opened.family == socket.AF_UNIX:
                with contextlib.suppress(OSError):
                    os.unlink(opened.getsockname())  # noqa: PTH108
        self._store.drop(key)


def _key(component: Component, name: str, listen: Listen) -> str:
    """Name a socket by all that it was made from, its address last."""
    return f"{component.base}/{name} {listen.backlog} {listen.mode:o} {listen.address}"


def _needs_sockets(there: Slot) -> bool:
    """Whether it runs or is to run; what gave up or was stopped lets its clients know."""
    if there.instance.process is not None:
        return True
    return there.up and there.instance.phase not in (Phase.FAILED, Phase.EXITED, Phase.DISABLED)


def _listen(listen: Listen) -> socket.socket:
    """Open a socket as it is declared."""
    scheme, _, rest = listen.address.partition("://")
    if scheme == "unix":
        return _listen_at(rest, listen)
    host, _, port = rest.rpartition(":")
    host = {"*": "0.0.0.0", "localhost": "127.0.0.1"}.get(host, host.strip("[]"))  # noqa: S104
    opened = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        # What lingers in TIME_WAIT is no other listener.
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind((host, int(port)))
        opened.listen(listen.backlog)
    except OSError:
        opened.close()
        raise
    return opened


def _listen_at(path: str, listen: Listen) -> socket.socket:
    """Open a unix socket, in place of one that nobody serves any more."""
    with contextlib.suppress(FileNotFoundError), socket.socket(socket.AF_UNIX) as probe:
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            if probe.connect_ex(path) == 0:
                raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
            os.unlink(path)  # noqa: PTH108
    opened = socket.socket(socket.AF_UNIX)
    before = os.umask(0o777 & ~listen.mode)
    try:
        opened.bind(path)
        opened.listen(listen.backlog)
    except OSError:
        opened.close()
        raise
    finally:
        os.umask(before)
    return opened


def _holder(address: str) -> str:
    """Return in words who listens on the port of an address, as far as we may see."""
    port = address.rpartition(":")[2]
    if not port.isdecimal():
        return ""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text(encoding="ascii").splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == int(port):
                    inodes.add(f"socket:[{fields[9]}]")
    for process in Path("/proc").iterdir():
        if process.name.isdecimal() and inodes:
            with contextlib.suppress(OSError):
                if any(os.readlink(fd) in inodes for fd in (process / "fd").iterdir()):  # noqa: PTH115
                    name = (process / "comm").read_text(encoding="utf-8").strip()
                    return f" by pid {process.name} ({name})"
    return ""
