"""The control link of living components, in each of the four ways they may wait."""

from __future__ import annotations

import os
import time

import pytest

from orchestrator import client
from orchestrator.client import Row
from orchestrator.errors import RequestFailed
from orchestrator.model import names
from tests.integration.component.conftest import Bench
from tests.integration.component.test_life import REPLYER

MAIN = """
    import select

    def main(to_send, config):
        select.select([], [], [])
"""
ASYNC_MAIN = """
    import asyncio

    async def main(to_send, config):
        await asyncio.Event().wait()
"""
ASYNC = REPLYER.replace("def on_go", "async def on_go")


@pytest.mark.parametrize(
    ("code", "main"), [(REPLYER, False), (ASYNC, False), (MAIN, True), (ASYNC_MAIN, True)]
)
def test_a_component_answers_on_its_link_and_idles_for_nothing(
    bench: Bench, code: str, *, main: bool
) -> None:
    path = names.link_path(str(bench.path), "test-web")
    component = bench.start("web", code, main=main, environment={"ORCH_CONTROL": path}).ready()
    row: Row = {  # type: ignore[typeddict-item]  # what a connection needs of it
        "name": "test.web",
        "service": "test",
        "component": "web",
        "instance": 1,
        "phase": "running",
        "pid": component.process.pid,
    }
    for _ in range(3):
        with (
            client.connect_component(bench.path, row) as link,
            pytest.raises(RequestFailed, match="unknown method 'nothing'"),
        ):
            link.request("nothing", timeout=10)
    before = component.cpu_ns()
    time.sleep(0.3)
    assert component.cpu_ns() - before < 3_000_000
    assert component.stop() == 0
    with pytest.raises(RequestFailed, match=r"cannot ask test\.web itself"):
        client.connect_component(bench.path, {**row, "phase": "stopped", "pid": None})
    with pytest.raises(RequestFailed, match=r"cannot ask test\.web itself: it is starting"):
        client.connect_component(bench.path, {**row, "phase": "starting"})
    assert os.path.lexists(path)  # Its successor replaces it, the daemon removes it at the end.
