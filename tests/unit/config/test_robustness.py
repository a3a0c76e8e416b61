"""Whatever stands in a file, the answer is a lock or positions, never a traceback."""

from __future__ import annotations

import copy
import json
import random
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config import build, compose
from orchestrator.errors import TopologyError
from tests.unit.config.conftest import Workshop
from tests.unit.config.test_resolve import EVERYTHING

JUNK: tuple[Any, ...] = (
    *(None, True, 0, -1, 1.5, "", "x", "é", "\x00", "a\nb", "10s", "<<", "1e999", 2**70),
    *("${", "${NO}", "${self.name}", "${addresses.web}", "${addresses.bus.port}", "$$"),
    *("${settings.KEY}", "a.b.c", "tcp://1:2", [], {}, [None], ["a", "a"], [[]], {"a": 1}),
    *({"x-y": 1}, {"address": "auto"}, {"data": "auto", "y": "auto:tcp"}),
)
KEYS = ("x", "restart", "components", "handler", "command", "ready", "é", "a b", "in", "stop")
MARKS = ":{}[]&*!|>'\"%@`\t#,\x01é$"
GOOD = textwrap.dedent(EVERYTHING)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        if isinstance(item, (dict, list)):
            yield from places(item, (*path, key))
        else:
            yield (*path, key)


def with_other_values(chance: random.Random) -> str:
    """Return the topology with a few values replaced, moved or removed."""
    value = compose.parse(GOOD.encode(), Path("good"), "good").value
    for _ in range(chance.randint(1, 4)):
        *above, last = chance.choice(list(places(value)))
        container = value
        for key in above:
            container = container[key]
        what = chance.random()
        if what < 0.6:
            container[last] = copy.deepcopy(chance.choice(JUNK))
        elif isinstance(container, dict) and what < 0.8:
            container[chance.choice(KEYS)] = container[last]
        elif isinstance(container, dict):
            del container[last]
    return json.dumps(value, ensure_ascii=False)


def with_other_lines(chance: random.Random) -> str:
    """Return the topology with a few lines cut, moved or sprinkled with marks."""
    lines = GOOD.split("\n")
    for _ in range(chance.randint(1, 3)):
        number = chance.randrange(len(lines))
        line, at = lines[number], chance.randint(0, len(lines[number]))
        lines[number] = chance.choice(
            (line[:at], " " * at + line, line[:at] + chance.choice(MARKS) + line[at:])
        )
    return "\n".join(lines)


@pytest.mark.parametrize("change", [with_other_values, with_other_lines])
@pytest.mark.parametrize("batch", range(4))
def test_a_damaged_file_gives_positions_or_a_lock(
    workshop: Workshop, change: Any, batch: int
) -> None:
    workshop.write("h.py", "")
    workshop.environment["ORCH_SETTING_KEY"] = "s3cret"
    for seed in range(batch * 50, batch * 50 + 50):
        text = change(random.Random(seed))
        try:
            locked = workshop.lock(text)
        except TopologyError as error:
            for one in error.diagnostics:
                assert (one.position.line, one.position.column, one.length) >= (1, 1, 1), seed
        else:
            assert build.files_of(locked.lock)
