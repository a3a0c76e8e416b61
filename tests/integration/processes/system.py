"""A real keeper and daemon under a directory of their own, and a bare client for them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from orchestrator import files, keeping
from orchestrator import process as processes
from orchestrator.model import plain
from orchestrator.model.topology import Component, Lock, Stop
from orchestrator.model.units import Seconds
from orchestrator.wire import control

PATIENCE: Seconds = 10.0

SHORT_STOP = Stop()


def eventually(condition: Callable[[], Any], timeout: Seconds = PATIENCE) -> Any:
    """Return what `condition` returns once it is true."""
    end = time.monotonic() + timeout
    pause = 0.002
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < end, f"not so within {timeout:g}s"
        time.sleep(pause)  # a poll, bounded above
        pause = min(pause * 1.5, 0.05)


def python(name: str, code: str, **fields: Any) -> Component:
    """Return a component that runs Python code."""
    argv = (sys.executable, "-I", "-S", "-u", "-c", code)
    return Component("shop", name, **{"command": argv, "settle": 0.0, **fields})


class RealSystem:
    """One system with a keeper: started, asked, killed in every way, and swept up."""

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="orch-t"))
        self.key = "t" + hashlib.sha256(str(self.root).encode()).hexdigest()[:11]
        self.runtime_dir = self.root / self.key
        self.base_dir = self.root / "base"
        self.topology = self.root / "topology.yaml"

    def start_keeper(self) -> None:
        keeping.start_keeper(
            runtime_dir=self.runtime_dir,
            base_dir=self.base_dir,
            name="shop",
            topology=self.topology,
        )

    def up(self, *components: Component, **params: Any) -> dict[str, Any]:
        """Start the keeper and apply a lock of these components."""
        self.start_keeper()
        return self.apply(*components, **params)

    def lock(self, *components: Component) -> dict[str, Any]:
        lock = Lock(
            name="shop",
            key=self.key,
            topology=str(self.topology),
            base_dir=str(self.base_dir),
            runtime_dir=str(self.runtime_dir),
            components={component.name: component for component in components},
        )
        encoded: dict[str, Any] = plain.encode(lock)
        return encoded

    def apply(self, *components: Component, **params: Any) -> dict[str, Any]:
        return self.ask("apply", lock=self.lock(*components), **params)

    # ------------------------------------------------------------- asking

    def connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(PATIENCE)
        connection.connect(str(self.runtime_dir / "control.sock"))
        return connection

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """Return the result of a request; an AssertionError when it is refused."""
        reply = self.exchange(control.request(1, method, params))
        assert reply is not None, "the daemon hung up"
        assert "result" in reply, reply
        result: dict[str, Any] = reply["result"]
        return result

    def exchange(self, data: bytes) -> dict[str, Any] | None:
        """Send bytes; return the first message that comes back, None at the end."""
        decoder = control.Decoder()
        with self.connect() as connection:
            connection.sendall(data)
            while True:
                chunk = connection.recv(1 << 16)
                if not chunk:
                    return None
                for message in decoder.feed(chunk):
                    return message

    def row(self, name: str) -> dict[str, Any]:
        rows: list[dict[str, Any]] = self.ask("ps", names=[name])["instances"]
        assert len(rows) == 1
        return rows[0]

    def until(self, name: str, **wanted: Any) -> dict[str, Any]:
        """Return the row of an instance once its fields are as wanted."""

        def there() -> dict[str, Any] | None:
            row = self.row(name)
            return row if all(row[key] == value for key, value in wanted.items()) else None

        found: dict[str, Any] = eventually(there)
        return found

    def daemon(self) -> dict[str, Any]:
        about: dict[str, Any] = self.ask("status")["daemon"]
        return about

    def new_daemon(self, old: int) -> int:
        """Return the pid of the daemon that came after `old`."""

        def there() -> int | None:
            with contextlib.suppress(OSError, AssertionError):
                pid: int = self.daemon()["pid"]
                return pid if pid != old else None
            return None

        found: int = eventually(there)
        return found

    def log(self) -> str:
        path = self.base_dir / "logging" / "orch.log"
        return path.read_text() if path.exists() else ""

    def output(self, name: str) -> str:
        return (self.base_dir / "logging" / f"shop-{name}.out").read_text()

    # ------------------------------------------------------------- what is there

    def ours(self) -> dict[int, str]:
        """Return the living processes of this system: marked ones, keeper, daemon.

        In its first moments a keeper is a copy of whoever started it; the lock names it.
        """
        found = {}
        keeper = files.read_note(self.base_dir / "orch.lock").partition("\n")[0]
        for entry in Path("/proc").iterdir():
            if not entry.name.isdecimal():
                continue
            try:
                command = (entry / "cmdline").read_bytes()
                environment = (entry / "environ").read_bytes()
                state = (entry / "stat").read_bytes().rsplit(b")", 1)[1].split()[0]
            except OSError:
                continue
            marked = f"{processes.MARKER}={self.key}/".encode() in environment
            ours = str(self.runtime_dir).encode() in command
            if (marked or ours or entry.name == keeper) and state not in b"ZX":
                found[int(entry.name)] = command.replace(b"\0", b" ").decode(errors="replace")[
                    :200
                ]
        return found

    def gone(self, within: float = 10.0) -> None:
        """Wait until nothing of the system lives; a look may miss one that forks meanwhile."""
        eventually(lambda: not self.ours() and not self.ours(), within)

    def sweep(self) -> dict[int, str]:
        """Kill what is left, remove the files, and return what was left."""
        left = self.ours()
        for _ in range(100):
            found = self.ours()
            if not found:
                break
            for pid in found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.root)
        return left


def refusal(reply: dict[str, Any] | None) -> dict[str, Any]:
    """Return the error of a reply."""
    assert reply is not None
    error: dict[str, Any] = reply["error"]
    return error


def parse(text: str) -> Any:
    """Return what a child has printed as JSON."""
    return json.loads(text)
