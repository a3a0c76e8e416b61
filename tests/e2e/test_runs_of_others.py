"""Runs as another user: the program, its hooks, and what they were made of."""

from __future__ import annotations

import pwd
from pathlib import Path

import pytest

from orchestrator.client.jobs import Jobs
from orchestrator.errors import RequestFailed
from tests.e2e.scenario import Scenario, exits, orch
from tests.e2e.test_guests import USER, pytestmark, world

__all__ = ["pytestmark", "world"]

SERVICE = """\
import os
import pathlib

def build():
    pathlib.Path("uid").write_text(str(os.getuid()))
"""


def test_a_run_its_hooks_and_their_check_are_that_users(world: Scenario) -> None:
    uid = pwd.getpwnam(USER).pw_uid
    world.write(SERVICE, "service.py")
    job = {"command": "cat uid", "service": "service.py", "user": USER}
    world.services({"lab": {"jobs": {"sim": job}}})
    world.step("up", orch("up", "-d"), exits(0))
    with Jobs(world.topology, environment=world.environment) as jobs:
        run = jobs.submit("lab.sim").wait(60)
        assert Path(str(run.row["output"])).read_text() == f"{uid}\n0"
        record = world.base / "data" / "runs" / run.id
        for path in (record, record / "result.json", Path(str(run.row["run_dir"]))):
            assert path.stat().st_uid == uid
        assert record.stat().st_mode & 0o077 == 0
        # What is imported to be checked is not imported as us.
        world.write("import os\nos.mkdir('/nobody-may')\n", "service.py")
        with pytest.raises(RequestFailed, match="PermissionError"):
            jobs.submit("lab.sim")
    assert not Path("/nobody-may").exists()
