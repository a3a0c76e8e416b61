"""Workers in processes of their own, on orders that a daemon would have written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

PATIENCE = 60.0


def eventually(check: Callable[[], Any], timeout: float = PATIENCE) -> Any:
    """Return what `check` returns as soon as that is true."""
    deadline = time.monotonic() + timeout
    while not (found := check()):
        assert time.monotonic() < deadline, f"not within {timeout:g} s: {check}"
        time.sleep(0.01)
    return found


@dataclass
class Run:
    """One run of a worker."""

    place: Path
    order: Path
    process: subprocess.Popen[bytes]

    @property
    def dir(self) -> Path:
        return Path(json.loads(self.order.read_text())["run_dir"])

    @property
    def files(self) -> list[str]:
        return sorted(path.name for path in self.dir.iterdir())

    @property
    def output(self) -> str:
        return (self.dir / "output").read_text()

    @property
    def log(self) -> str:
        return (self.place / "worker.log").read_text()

    @property
    def result(self) -> dict[str, Any]:
        return dict(json.loads((self.place / "record" / "result.json").read_text()))

    @property
    def progress(self) -> dict[str, Any]:
        path = self.place / "record" / "progress.json"
        return dict(json.loads(path.read_text())) if path.exists() else {}

    def wait(self) -> int:
        return self.process.wait(PATIENCE)

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.wait()

    def until(self, check: Callable[[], Any]) -> Any:
        """Wait for something while the worker lives."""

        def checked() -> Any:
            found = check()
            assert found or self.process.poll() is None, f"ended early:\n{self.log}"
            return found

        return eventually(checked)

    def pid(self) -> int:
        """Return the pid of the program, as soon as it runs."""
        return int(self.until(lambda: self.progress.get("pid")))

    def said(self, text: str) -> str:
        """Wait until the program has said something."""
        path = self.dir / "output"
        return str(self.until(lambda: path.exists() and text in self.output and self.output))


@dataclass
class Jobs:
    """A directory with programs and hooks, and the runs of them."""

    place: Path
    runs: list[Run] = field(default_factory=list)

    def write(self, name: str, text: str, mode: int = 0o644) -> Path:
        path = self.place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        path.chmod(mode)
        return path

    def start(
        self,
        program: str | Path | None = None,
        *,
        environment: dict[str, str] | None = None,
        **order: Any,
    ) -> Run:
        """Start a worker; `program` is the text of a Python program, or the path of another."""
        number = len(self.runs) + 1
        if isinstance(program, str):
            program = self.write(f"prog{number}.py", program)
        place = self.place / f"worker{number}"
        (place / "record").mkdir(parents=True)
        plain = {
            "format": 1,
            "id": f"r{number}",
            "name": f"lab.sim/r{number}",
            "job": "lab.sim",
            "run_dir": str(self.place / "runs" / f"r{number}"),
            "record_dir": str(place / "record"),
            "directory": str(self.place),
            "program": program and str(program),
            **order,
        }
        path = place / "order.json"
        path.write_text(json.dumps(plain))
        with (place / "worker.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "orchestrator.component.worker", str(path)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )
        run = Run(place, path, process)
        self.runs.append(run)
        return run

    def finish(self, *arguments: Any, **order: Any) -> Run:
        """Start a worker and wait for its end."""
        run = self.start(*arguments, **order)
        run.wait()
        return run


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    made = Jobs(tmp_path)
    yield made
    for run in made.runs:
        if run.process.poll() is None:
            os.killpg(run.process.pid, signal.SIGKILL)
        run.process.wait(PATIENCE)
        pid = run.progress.get("pid")
        left = pid and living(pid)
        assert not left, f"the program {pid} still lives"


def living(pid: int) -> bool:
    """Tell whether a process lives; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except OSError:
        return False
