"""The system as a graph: wires by their endpoints, needs by their names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.cli.conftest import Orch

TOPOLOGY = """
version: 1
name: market
addresses: {ticks: auto, book: {data: auto, snapshot: auto}}
services:
  feed: {command: "true", connections: {out: {prices: ticks}}, states: {out: {depth: book}}}
  desk:
    components:
      one:
        command: "true"
        replicas: 2
        connections: {in: {ticks: ticks}}
        states: {in: {book: book}}
        depends_on: [feed]
      two: {command: "true", depends_on: {desk.one: {condition: started}}}
"""


@pytest.fixture(autouse=True)
def market(world: Path) -> None:
    (world / "topology.yaml").write_text(TOPOLOGY)


def test_people_read_it(orch: Orch, capsys: pytest.CaptureFixture[str]) -> None:
    assert orch("graph") == 0
    assert capsys.readouterr().out.splitlines() == [
        "feed.feed (command, leading edge)",
        "  connection  prices → desk.one ticks",
        "  state       depth → desk.one book",
        "desk.one (2 instances, command)",
        "  after       feed.feed (ready)",
        "desk.two (command)",
        "  after       desk.one (started)",
    ]


def test_programs_read_it(orch: Orch, capsys: pytest.CaptureFixture[str]) -> None:
    assert orch("graph", "--json") == 0
    graph = json.loads(capsys.readouterr().out)
    assert [node["name"] for node in graph["nodes"]] == ["feed.feed", "desk.one", "desk.two"]
    assert graph["wires"][1] == {
        "kind": "state",
        "source": "feed.feed",
        "source_end": "depth",
        "target": "desk.one",
        "target_end": "book",
    }
    assert graph["needs"][0] == {"name": "desk.one", "on": "feed.feed", "condition": "ready"}


def test_graphviz_draws_it(orch: Orch, capsys: pytest.CaptureFixture[str]) -> None:
    assert orch("graph", "--format", "dot") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "digraph system {"
    assert '  "desk.one" [label="desk.one x2"];' in lines
    assert '  "feed.feed" -> "desk.one" [label="book", style=bold];' in lines
    assert lines[-1] == "}"


def test_mermaid_draws_it(orch: Orch, capsys: pytest.CaptureFixture[str]) -> None:
    assert orch("graph", "--format", "mermaid") == 0
    assert capsys.readouterr().out.splitlines() == [
        "flowchart LR",
        '  n0["feed.feed"]',
        '  n1["desk.one x2"]',
        '  n2["desk.two"]',
        "  n0 -->|ticks| n1",
        "  n0 ==>|book| n1",
        "  n1 -.->|ready| n0",
        "  n2 -.->|started| n1",
    ]
