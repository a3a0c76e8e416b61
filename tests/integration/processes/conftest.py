"""A real system per test, and the check that nothing of it is left."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.processes.system import RealSystem


@pytest.fixture
def system() -> Iterator[RealSystem]:
    """A system; the test brings it down, the fixture checks."""
    made = RealSystem()
    try:
        yield made
    finally:
        left = made.sweep()
    assert not left, f"still alive after the test: {left}"
