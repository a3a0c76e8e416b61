"""Starting the keeper of a system, and with it the daemon; or the keeper of one that lost both."""

from __future__ import annotations

import binascii
import contextlib
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn, Self

from orchestrator.errors import DaemonRunning, OrchestratorError
from orchestrator.model.units import Instant, Seconds

_KEEPER = os.path.join(os.path.dirname(__file__), "keeper.py")  # noqa: PTH118, PTH120

_DAEMON = (sys.executable, "-P", "-m", "orchestrator.daemon")
_IGNORED = (signal.SIGPIPE, signal.SIGXFSZ)
"""What the interpreter ignores, and those that it starts must not."""

KEEPER_TIMEOUT: Seconds = 10.0
"""How long a keeper may take to take the lock and open its sockets; it takes 2 ms."""


HELD = ("control", "notify", "lock", "link")
"""What a living daemon hands to a new keeper, in the order in which the keeper takes it."""


class KeeperStart:
    """A keeper that is coming up, and below it the daemon, which loads meanwhile.

    Both wait for `give`, so they can be started before it is known what for; when that comes
    to nothing they end with `close`, and have touched nothing. `finish` waits for their word.
    Until `give` they write to our standard error, then to the system's log.

    Args:
        runtime_dir: The system's private directory of sockets.
        replaces: Whether the daemon lives, and only its keeper has died.

    Raises:
        OrchestratorError: No process can be started.
    """

    def __init__(self, runtime_dir: Path, *, replaces: bool = False) -> None:
        self._runtime_dir = runtime_dir
        self._ours, theirs = socket.socketpair()
        try:
            with theirs:
                start = _beside if replaces else _before
                self._child = start(theirs.fileno(), os.fspath(runtime_dir))
        except OSError as error:
            self._ours.close()
            raise OrchestratorError(f"cannot start the keeper: {error.strerror}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def give(
        self, *, base_dir: Path, name: str, topology: Path, held: Mapping[str, int] | None = None
    ) -> None:
        """Tell the keeper whose it is, see `begin_keeper`.

        Raises:
            OrchestratorError: The base directory cannot be used.
        """
        log = _open_log(base_dir)
        arguments = {
            "runtime_dir": str(self._runtime_dir),
            "base_dir": str(base_dir),
            "name": name,
            "topology": str(topology),
            "code": keeper_code(),
            "daemon": (held or {}).get("daemon", 0),
        }
        fds = [log, *((held[word] for word in HELD) if held else ())]
        try:
            # A keeper that died answers nothing, and `finish` says so.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                socket.send_fds(self._ours, [json.dumps(arguments).encode() + b"\n"], fds)
        finally:
            os.close(log)

    def close(self) -> None:
        """Let go of a keeper; one that has no system ends, and its daemon has ended."""
        if self._ours.fileno() < 0:
            return
        with self._ours, contextlib.suppress(OSError):
            self._ours.shutdown(socket.SHUT_WR)
            self._ours.settimeout(KEEPER_TIMEOUT)
            while self._ours.recv(65536):
                pass
        os.waitpid(self._child, 0)

    def finish(self) -> None:
        """Return when the control socket accepts connections; the daemon may still be loading.

        Raises:
            DaemonRunning: Another keeper holds the system's lock; the message names its pid.
            OrchestratorError: The directories cannot be used, or the keeper did not answer.
        """
        try:
            answer = _read_answer(self._ours.fileno())
        finally:
            self.close()
        if "error" in answer:
            if answer["error"] == "locked":
                raise DaemonRunning(answer["message"], int(answer.get("pid", 0)))
            raise OrchestratorError(answer["message"])


def start_keeper(*, runtime_dir: Path, base_dir: Path, name: str, topology: Path) -> None:
    """Start the keeper of a system, and with it the daemon, and wait for the control socket.

    Whether the daemon comes up is seen by asking it: if it cannot, connections end at once
    and the reason stands in `logging/orch.log` below the base directory.

    Raises:
        DaemonRunning: Another keeper holds the system's lock; the message names its pid.
        OrchestratorError: The directories cannot be used, or the keeper did not answer.
    """
    begin_keeper(runtime_dir=runtime_dir, base_dir=base_dir, name=name, topology=topology).finish()


def revive_keeper(runtime_dir: Path) -> bool:
    """Start the keeper of a system whose keeper and daemon were killed; tell whether it was so.

    Raises:
        OrchestratorError: It was so, and its keeper cannot be started.
    """
    try:
        known = json.loads((runtime_dir / "system.json").read_bytes())
        base_dir, name, topology = known["base_dir"], known["name"], known["topology"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    with contextlib.suppress(DaemonRunning):  # Somebody else was faster.
        start_keeper(
            runtime_dir=runtime_dir,
            base_dir=Path(base_dir),
            name=name,
            topology=Path(topology),
        )
    return True


def begin_keeper(
    *,
    runtime_dir: Path,
    base_dir: Path,
    name: str,
    topology: Path,
    held: Mapping[str, int] | None = None,
) -> KeeperStart:
    """Begin to start the keeper of a system; the caller must `finish` what is returned.

    Args:
        runtime_dir: The system's private directory of sockets.
        base_dir: The system's directory of files; it is locked.
        name: The system's name.
        topology: The topology file, for `status`.
        held: What a living daemon hands to a new keeper in place of a dead one: the
            descriptors `control`, `notify`, `lock` and `link`, and the pid `daemon`.

    Raises:
        OrchestratorError: The base directory cannot be used.
    """
    start = KeeperStart(runtime_dir, replaces=held is not None)
    try:
        start.give(base_dir=base_dir, name=name, topology=topology, held=held)
    except OrchestratorError:
        start.close()
        raise
    return start


def keeper_code() -> int:
    """Return a number that tells one keeper's code from another's, of the file on disk."""
    return binascii.crc32(Path(_KEEPER).read_bytes())


def _open_log(base_dir: Path) -> int:
    logs = base_dir / "logging"
    try:
        logs.mkdir(mode=0o750, parents=True, exist_ok=True)
        return os.open(logs / "orch.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
    except OSError as error:
        where = error.filename or str(logs)
        help_ = "set base_dir to one that can be written"
        message = f"cannot use the directory {where!r}: {error.strerror}; {help_}"
        raise OrchestratorError(message) from error


def _read_answer(reading: int) -> dict[str, str]:
    data = bytearray()
    deadline: Instant = time.monotonic() + KEEPER_TIMEOUT
    poll = select.poll()
    poll.register(reading, select.POLLIN)
    while not data.endswith(b"\n"):
        left = deadline - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            raise OrchestratorError(f"cannot start the keeper: no answer in {KEEPER_TIMEOUT:g}s")
        chunk = os.read(reading, 65536)
        if not chunk:
            raise OrchestratorError("cannot start the keeper: it ended without an answer")
        data += chunk
    answer: dict[str, str] = json.loads(data)
    return answer


def _beside(channel: int, runtime_dir: str) -> int:
    """Start a keeper for a daemon that lives; return the pid of the process to wait for."""
    os.set_inheritable(channel, True)
    argv = (sys.executable, "-I", "-S", _KEEPER, str(channel), "0", "0", runtime_dir, *_DAEMON)
    nothing = (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDWR, 0)
    streams = (nothing, (os.POSIX_SPAWN_DUP2, 2, 1))
    return os.posix_spawn(
        argv[0], argv, os.environ, file_actions=streams, setsid=True, setsigdef=_IGNORED
    )


def _before(channel: int, runtime_dir: str) -> int:
    """Start a daemon, and its keeper; return the pid of the process to wait for.

    Everybody waits for the daemon, so its interpreter comes first; but the keeper must be its
    parent. So a copy of ours starts it, keeps the system, and has an interpreter of its own later.
    """
    child = os.fork()
    if child:
        return child
    try:
        os.setsid()
        if not os.fork():
            _begin_keeper(channel, runtime_dir)
    except BaseException as error:  # noqa: BLE001 - another process goes on with what is above
        os.write(2, f"orch: cannot start the keeper: {error!r}\n".encode())
    finally:
        os._exit(0)


def _begin_keeper(channel: int, runtime_dir: str) -> NoReturn:
    ours, theirs = (end.detach() for end in socket.socketpair())
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
        if int(name) not in {0, 1, 2, channel, ours, theirs}:
            with contextlib.suppress(OSError):  # That of the listing is closed.
                os.close(int(name))
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    os.dup2(2, 1)
    os.set_inheritable(2, True)  # Whoever had closed it got one that is not.
    os.chdir("/")
    os.set_inheritable(theirs, True)
    daemon = (*_DAEMON, str(theirs), runtime_dir)
    pid = os.posix_spawn(daemon[0], daemon, os.environ, setsid=True)
    os.close(theirs)
    from orchestrator import keeper  # noqa: PLC0415 - nobody else needs it

    os._exit(keeper.begin(socket.socket(fileno=channel), (pid, ours), list(_DAEMON)))
