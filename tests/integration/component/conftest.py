"""Real components in processes of their own: written, started, waited for, and gone afterwards."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

PATIENCE = 20.0


def eventually(check: Callable[[], Any], timeout: float = PATIENCE) -> Any:
    """Return what `check` returns as soon as that is true."""
    deadline = time.monotonic() + timeout
    while not (found := check()):
        assert time.monotonic() < deadline, f"not within {timeout:g} s: {check}"
        time.sleep(0.01)
    return found


@dataclass
class Component:
    """One running component; its outputs go to files, as under the daemon."""

    name: str
    process: subprocess.Popen[bytes]
    out: Path
    err: Path
    _notify: socket.socket
    _said: list[str] = field(default_factory=list)

    @property
    def stdout(self) -> str:
        return self.out.read_text()

    @property
    def stderr(self) -> str:
        return self.err.read_text()

    def ready(self) -> Component:
        """Wait until the component says that it is."""
        deadline = time.monotonic() + PATIENCE
        while "READY=1" not in self._said:
            left = deadline - time.monotonic()
            assert self.process.poll() is None, f"{self.name} ended early:\n{self.stderr}"
            assert left > 0, f"{self.name} is not ready:\n{self.stderr}"
            if select.select([self._notify], [], [], min(left, 0.1))[0]:
                self._said += self._notify.recv(4096).decode().splitlines()
        return self

    def wait(self) -> int:
        """Wait for its end and return the exit code."""
        return self.process.wait(PATIENCE)

    def stop(self, signum: int = signal.SIGTERM) -> int:
        """Send a signal, wait for its end and return the exit code."""
        self.process.send_signal(signum)
        return self.wait()

    def printed(self, text: str) -> str:
        """Wait until it has printed a text, to stdout or stderr."""
        return str(
            eventually(lambda: text in self.stdout + self.stderr and self.stdout + self.stderr)
        )

    def cpu_ns(self) -> int:
        """Return how long its threads have run."""
        tasks = Path(f"/proc/{self.process.pid}/task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)


@dataclass
class Bench:
    """Starts components in one directory and knows their addresses."""

    path: Path
    started: list[Component] = field(default_factory=list)

    def address(self, name: str) -> str:
        return f"ipc://{self.path}/{name}.sock"

    def start(
        self,
        name: str,
        code: str,
        *,
        main: bool = False,
        config: dict[str, Any] | None = None,
        environment: dict[str, str] | None = None,
        addresses: dict[str, Any] | None = None,
        states: dict[str, Any] | None = None,
        **info: Any,
    ) -> Component:
        """Start a handler file as a component; connections are wired by name."""
        handler = self.path / f"{name}_handler.py"
        handler.write_text(textwrap.dedent(code))
        directory = self.path / "conf" / name
        directory.mkdir(parents=True, exist_ok=True)
        any_name = _Wired(self)
        described = {
            "format": 1,
            "name": f"test.{name}",
            "service": "test",
            "component": name,
            "instance": 1,
            "handler": str(handler),
            "mode": "main" if main else "service",
            "working_dir": str(self.path),
            "python_path": [],
            **info,
        }
        tree = {
            "connections": addresses if addresses is not None else any_name.tree(handler),
            "states": states if states is not None else any_name.states(handler),
        }
        (directory / "__info__.json").write_text(json.dumps(described))
        (directory / "config.json").write_text(json.dumps(config or {}))
        (directory / "addresses.json").write_text(json.dumps(tree))
        notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        (self.path / f"{name}.notify").unlink(missing_ok=True)
        notify.bind(str(self.path / f"{name}.notify"))
        out, err = self.path / f"{name}.out", self.path / f"{name}.err"
        with out.open("ab") as stdout, err.open("ab") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", "orchestrator.component", str(directory)],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
                env={
                    **os.environ,
                    "PYTHONPATH": str(Path(__file__).parents[3]),
                    "NOTIFY_SOCKET": str(self.path / f"{name}.notify"),
                    **(environment or {}),
                },
            )
        component = Component(name, process, out, err, notify)
        self.started.append(component)
        return component

    def close(self) -> None:
        """Kill what still runs."""
        for component in self.started:
            with contextlib.suppress(ProcessLookupError):
                component.process.send_signal(signal.SIGCONT)
                component.process.kill()
            component.process.wait(PATIENCE)
            component._notify.close()


@dataclass
class _Wired:
    bench: Bench

    def tree(self, handler: Path) -> dict[str, Any]:
        """Wire each connection that the file names to the address of that name."""
        from orchestrator.component import inspect

        answer = inspect.inspect({"name": "x", "handler": str(handler)})
        return {
            side: {
                name: dict.fromkeys(end["sockets"], self.bench.address(name))
                for name, end in ends.items()
                if end["sockets"]
            }
            for side, ends in answer["connections"].items()
        }

    def states(self, handler: Path) -> dict[str, Any]:
        """Wire each state likewise; a delta state has an address for each of its two pairs."""
        from orchestrator.component import inspect

        answer = inspect.inspect({"name": "x", "handler": str(handler)})
        return {
            side: {
                name: {
                    socket: self.bench.address(f"{name}.{_PAIR[socket]}")
                    for socket in end["sockets"]
                }
                for name, end in ends.items()
            }
            for side, ends in answer["states"].items()
        }


_PAIR = {"publisher": "data", "subscriber": "data", "replyer": "all", "requester": "all"}


@pytest.fixture
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    # Unix sockets have short names.
    found = Bench(tmp_path_factory.mktemp("c"))
    yield found
    found.close()
