"""Help pages and tables, letter by letter; ORCH_GOLDEN=1 writes them anew, review reads them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator.cli import app, commands, diagnostics, screen
from orchestrator.errors import Diagnostic, Position, Related, Severity
from tests.unit.cli.conftest import Orch
from tests.unit.cli.fake import FAILED, STOPPED, FakeDaemon

GOLDEN = Path(__file__).parents[2] / "golden"


def compare(name: str, text: str) -> None:
    """Compare `text` with the golden file `name`, or write that."""
    path = GOLDEN / name
    if os.environ.get("ORCH_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("verb", ["", *(command.name for command in commands.COMMANDS)])
def test_help_is_as_reviewed(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.parse([verb, "--help"] if verb else ["--help"]) == 0
    # Which type an argument has is typer's own remark, and not every version makes it.
    text = capsys.readouterr().out.replace(" <list[str]>", "").replace(" <str>", "")
    compare(f"help{'-' if verb else ''}{verb}.txt", text)


def test_the_table_of_ps_is_as_reviewed(
    daemon: FakeDaemon, orch: Orch, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.add("cache.cache", pid=7, started_at=None)
    daemon.add("market.engine@1", pid=12345, generation=3, restarts=2, started_at=None)
    daemon.add("market.engine@2", phase="backoff", ready=False, pid=None, restarts=4,
               result="exit-code", exit_code=1, why="restart 4/10, next in 3.8s")  # fmt: skip
    daemon.add("market.feed", **FAILED)
    daemon.add("web.web", phase="waiting", ready=False, pid=None, generation=0,
               why="waiting for market.feed (ready) 3.1s")  # fmt: skip
    daemon.add("work.work", **STOPPED)
    for row in daemon.rows.values():
        row["started_at"] = "2999-01-01T00:00:00.000Z"
    assert orch("ps") == 0
    compare("ps.txt", capsys.readouterr().out)


def test_diagnostics_are_as_reviewed() -> None:
    found = [
        Diagnostic(
            "ORC102",
            "unknown key 'restrat'",
            Position("topology.yaml", 7, 5),
            length=7,
            excerpt="    restrat: always",
            hint="did you mean 'restart'?",
        ),
        Diagnostic(
            "ORC301",
            "port 8001 is used twice",
            Position("topology.yaml", 12, 2),
            Severity.WARNING,
            length=4,
            excerpt="\tport: 8001",
            related=(Related(Position("other.yaml", 3, 1), "here too"),),
        ),
    ]
    compare("diagnostics.txt", diagnostics.text(found) + "\n")


def test_colours_do_not_change_the_widths_of_a_table() -> None:
    rows = [("a", "running"), ("bb", "x")]
    plain = screen.table(("NAME", "PHASE"), rows)
    coloured = screen.table(("NAME", "PHASE"), rows, {1: (screen.GREEN, "")})
    assert coloured.replace("\x1b[32m", "").replace("\x1b[0m", "") == plain
    assert "\x1b[32mrunning\x1b[0m" in coloured
