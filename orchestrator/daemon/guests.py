"""What components of another user need of the daemon: sockets that they can reach.

The runtime directory is for the daemon's user alone. Others pass through `/run/orch/KEY`:

    UID.notify    where all components of that user notify; only he may write to it
    UID/          a directory of his own, where his handlers' control links are

In the place of each such control link in the runtime directory lies a symbolic link to it, which
belongs to that user. Whoever connects there compares him with whom the kernel says listens.
The notify sockets are held by the keeper, as sockets for components are.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pwd
import socket
from collections.abc import Callable, Mapping
from pathlib import Path

from orchestrator.daemon.programs import Place, Reachable
from orchestrator.daemon.store import Store
from orchestrator.errors import SpawnError
from orchestrator.model import names
from orchestrator.model.topology import Component

logger = logging.getLogger(__name__)

ROOT = Path("/run/orch")
"""Where only root makes anything; nobody else can run components of other users."""

PREFIX = "notify/"
"""Begins the names of our sockets in the keeper's store."""

_RECEIVED = 1 << 20
"""How many bytes of notifications may wait, as for the daemon's own."""


class Guests:
    """The reachable sockets of one system's components of other users.

    Args:
        place: The system's directories.
        store: What the keeper holds.
        listen: Reads a notify socket from now on.
        leave: Reads it no longer.
    """

    def __init__(
        self,
        place: Place,
        store: Store,
        listen: Callable[[socket.socket], None],
        leave: Callable[[socket.socket], None],
    ) -> None:
        self.root = ROOT / place.key
        self._place = place
        self._store = store
        self._listen = listen
        self._leave = leave
        self._open: dict[int, socket.socket] = {}

    def recover(self, held: Mapping[str, socket.socket]) -> None:
        """Take back what the keeper has held while there was no daemon."""
        for name, opened in held.items():
            self._open[int(name.removeprefix(PREFIX))] = opened
            self._listen(opened)

    def keep_again(self) -> None:
        """Give all of them to a new keeper."""
        for uid, opened in self._open.items():
            self._store.put(f"{PREFIX}{uid}", opened)

    def prepare(self, component: Component) -> Reachable | None:
        """Make what a component of another user needs; None for those of the daemon's user.

        Raises:
            SpawnError: It cannot be made.
        """
        user = other(component.user)
        if user is None:
            return None
        uid = user.pw_uid
        path = self.root / f"{uid}.notify"
        own = self.root / str(uid)
        link = names.link_path(self._place.runtime_dir, component.stem)
        there = names.link_path(str(own), component.stem)
        try:
            self.root.mkdir(mode=0o711, parents=True, exist_ok=True)
            _owned(self.root)
            self.root.chmod(0o711)
            own.mkdir(mode=0o700, exist_ok=True)
            os.chown(own, uid, user.pw_gid, follow_symlinks=False)
            if uid not in self._open or not path.is_socket():
                self._bind(path, uid)
            if component.has_runtime:
                _lead(Path(link), there, uid)
                self._open_configuration(component, user.pw_gid)
        except OSError as error:
            reason = error.strerror or str(error)
            stage = f"make the sockets for user {component.user!r} in {self.root}"
            raise SpawnError(stage, error.errno or 0, reason, transient=False) from error
        return Reachable(str(path), there)

    def admit(self, component: Component) -> None:
        """Let another user's handler read its own configuration as it is now, and no more."""
        user = other(component.user)
        if user is None or not component.has_runtime:
            return
        try:
            self._open_configuration(component, user.pw_gid)
        except OSError as error:
            logger.warning("%s cannot read its configuration: %s", component.name, error)

    def close(self) -> None:
        """Close and remove all of them: the system is down."""
        for uid, opened in self._open.items():
            self._leave(opened)
            opened.close()
            self._store.drop(f"{PREFIX}{uid}")
        self._open.clear()
        with contextlib.suppress(OSError):
            import shutil  # noqa: PLC0415 - few systems have other users

            shutil.rmtree(self.root)

    def _bind(self, path: Path, uid: int) -> None:
        path.unlink(missing_ok=True)
        bound = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            # Before the name exists: nobody else can send in between.
            os.fchmod(bound.fileno(), 0o600)
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVED)
            bound.bind(str(path))
            os.chown(path, uid, -1, follow_symlinks=False)
        except OSError:
            bound.close()
            raise
        before = self._open.pop(uid, None)
        if before is not None:
            self._leave(before)
            before.close()
        self._open[uid] = bound
        self._listen(bound)
        self._store.put(f"{PREFIX}{uid}", bound)

    def _open_configuration(self, component: Component, gid: int) -> None:
        conf = Path(self._place.base_dir) / "conf"
        for directory in (conf.parent, conf):
            directory.chmod(directory.stat().st_mode & 0o7777 | 0o001)
        for path in (conf / component.stem, *(conf / component.stem).iterdir()):
            os.chown(path, -1, gid, follow_symlinks=False)


def other(user: str | None) -> pwd.struct_passwd | None:
    """Return the user when it is not the daemon's, which must be root to become it.

    One that does not exist is found by the launcher, which says so.
    """
    if user is None or os.geteuid() != 0:
        return None
    try:
        found = pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
    except (KeyError, OverflowError):
        return None
    return found if found.pw_uid != os.geteuid() else None


def _owned(path: Path) -> None:
    """Raise an error unless a directory and the one above it belong to the daemon's user."""
    for each in (path.parent, path):
        if each.is_symlink() or each.stat().st_uid != os.geteuid():
            raise PermissionError(1, f"{each} belongs to another")


def _lead(link: Path, there: str, uid: int) -> None:
    """Make a symbolic link that belongs to the user it leads to."""
    link.parent.mkdir(mode=0o700, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        link.unlink()
    link.symlink_to(there)
    os.chown(link, uid, -1, follow_symlinks=False)
