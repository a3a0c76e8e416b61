"""The documents are tried in worlds of their own, like the scenarios."""

from tests.e2e.conftest import pytest_runtest_makereport, scenario

__all__ = ["pytest_runtest_makereport", "scenario"]
