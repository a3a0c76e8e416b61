"""The table of codes."""

from __future__ import annotations

import re
from pathlib import Path

from orchestrator import config
from orchestrator.config import codes


def test_every_code_that_is_used_is_explained_and_the_other_way_round() -> None:
    used: set[str] = set()
    for module in Path(config.__file__).parent.glob("*.py"):
        if module.name != "codes.py":
            used.update(re.findall(r"\bORC\d{3}\b", module.read_text()))
    assert used == set(codes.CODES)


def test_explanations_are_titled_sentences() -> None:
    for code, entry in codes.CODES.items():
        assert entry.text.endswith("."), code
        assert not entry.title.endswith("."), code


def test_a_code_is_found_in_any_case_and_an_unknown_one_is_none() -> None:
    text = codes.explain("orc004")
    assert text is not None
    assert text.startswith("ORC004: duplicate key\n\n")
    assert codes.explain("ORC999") is None
