"""Starting the keeper of a system, and with it the daemon; or the keeper of one that lost both."""

from __future__ import annotations

import contextlib
import json
import os
import select
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator import process as processes
from orchestrator.errors import DaemonRunning, OrchestratorError, SpawnError
from orchestrator.model.units import Instant, Seconds

_KEEPER = str(Path(__file__).with_name("keeper.py"))

KEEPER_TIMEOUT: Seconds = 10.0
"""How long a keeper may take to take the lock and open its sockets; it takes 30 ms."""


class KeeperStart:
    """A keeper that is coming up: `finish` waits for its word."""

    def __init__(self, child: processes.Begun, reading: int) -> None:
        self._child = child
        self._reading = reading

    def finish(self) -> None:
        """Return when the control socket accepts connections; the daemon may still be loading.

        Raises:
            DaemonRunning: Another keeper holds the system's lock; the message names its pid.
            OrchestratorError: The directories cannot be used, or the keeper did not answer.
        """
        try:
            answer = _read_answer(self._reading)
        finally:
            os.close(self._reading)
            self._child.wait()
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
    passed = tuple(fd for word, fd in (held or {}).items() if word != "daemon")
    logs = base_dir / "logging"
    try:
        logs.mkdir(mode=0o750, parents=True, exist_ok=True)
        log = os.open(logs / "orch.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
    except OSError as error:
        where = error.filename or str(logs)
        help_ = "set base_dir to one that can be written"
        message = f"cannot use the directory {where!r}: {error.strerror}; {help_}"
        raise OrchestratorError(message) from error
    reading, writing = os.pipe()
    arguments: dict[str, Any] = {
        "runtime_dir": str(runtime_dir),
        "base_dir": str(base_dir),
        "name": name,
        "topology": str(topology),
        "python": sys.executable,
        "ready": writing,
    }
    if held:
        arguments["held"] = dict(held)
    argv = (sys.executable, "-I", "-S", _KEEPER, json.dumps(arguments))
    try:
        child = processes.begin(argv, output=log, passed=(writing, *passed))
    except SpawnError as error:
        os.close(reading)
        raise OrchestratorError(f"cannot start the keeper: {error}") from error
    finally:
        os.close(writing)
        os.close(log)
    return KeeperStart(child, reading)


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
