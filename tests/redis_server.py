"""A real Redis server for tests, on a unix socket, keeping nothing."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.scenario import eventually


@contextlib.contextmanager
def running(directory: Path, *arguments: str) -> Iterator[str]:
    """Run a server and give its URL; skip the test where there is none to be run."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed; on Debian: apt-get install redis-server")
    path = directory / "redis.sock"
    argv = [program, "--port", "0", "--unixsocket", str(path), "--save", "", *arguments]
    server = subprocess.Popen([*argv, "--dir", str(directory)], stdout=subprocess.DEVNULL)
    try:
        eventually(path.exists, within=30)
        yield f"unix://{path}"
    finally:
        server.kill()
        server.wait()
