"""Fixtures of the fault tests: the worlds of the black-box tests, disturbed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.conftest import pytest_runtest_makereport, scenario

__all__ = ["pytest_runtest_makereport", "scenario"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything in this folder."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.faults)
