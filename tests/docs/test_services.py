"""The pages about service classes: what they type, and the Python that they show."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.docs.test_documents import BLOCK, ROOT, type_page
from tests.e2e.scenario import Scenario
from tests.e2e.test_platform import NEEDS


@NEEDS[0]
@NEEDS[1]
def test_what_the_page_about_the_platform_says_happens(scenario: Scenario) -> None:
    type_page("docs/tutorial/platform.md", scenario)


@pytest.mark.parametrize("page", ["docs/reference/services.md", "docs/how-to/service-classes.md"])
def test_the_python_of_a_page_runs(page: str) -> None:
    """In a process of its own: a registry is its process's."""
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = [body for language, name, body in BLOCK.findall(text) if language == "python"]
    whole = [body for body in blocks if "import" in body and "def speak" not in body]
    assert whole
    for body in whole:
        tests = (
            "\nfor name in [one for one in dir() if one.startswith('test_')]: globals()[name]()"
        )
        done = subprocess.run(
            [sys.executable, "-c", body + tests], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
