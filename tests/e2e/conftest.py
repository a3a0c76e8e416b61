"""Fixtures of the black-box tests: a world per test, and nothing left of it afterwards."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.e2e.scenario import Scenario

STORY = pytest.StashKey[Scenario]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything in this folder."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.e2e)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the scenario's story to a failure."""
    report = yield
    scenario = item.stash.get(STORY, None)
    if scenario is not None and report.failed and report.when == "call":
        report.sections.extend((f"scenario: {title}", text) for title, text in scenario.story())
    return report


@pytest.fixture
def scenario(request: pytest.FixtureRequest) -> Iterator[Scenario]:
    """A world of its own for one test, whose intent is the test's name.

    Afterwards it is taken down. Whatever survives that, a process, a socket, fails the test.
    """
    world = Scenario(request.node.name.removeprefix("test_").replace("_", " "))
    request.node.stash[STORY] = world
    try:
        yield world
    finally:
        left = world.leave()
        world.remove()
    assert not left, "\n".join(left)
