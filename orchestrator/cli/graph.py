"""`orch graph`: the system as a graph, for people, for Graphviz, for Mermaid, or as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

import msgspec

from orchestrator.cli import topology
from orchestrator.cli.session import Session
from orchestrator.errors import ExitCode
from orchestrator.model.edges import Edges, Node, edges


def graph(
    session: Session,
    *,
    format: str,  # noqa: A002 - named after its option
    settings: Mapping[str, str],
    settings_files: tuple[str, ...],
    no_import: bool,
) -> int:
    """Print who sends to whom and who waits for whom."""
    wanted = topology.read(
        session, settings=settings, settings_files=settings_files, imports=not no_import
    )
    topology.warn(session, wanted.locked.warnings)
    found = edges(wanted.locked.lock)
    if session.options.json or format == "json":
        session.screen.json(msgspec.to_builtins(found))
        return ExitCode.DONE
    drawing = {"text": _text, "dot": _dot, "mermaid": _mermaid}[format]
    session.screen.data("\n".join(drawing(found)))
    return ExitCode.DONE


def _text(found: Edges) -> Iterator[str]:
    for node in found.nodes:
        yield f"{node.name}{_remark(node)}"
        for wire in found.wires:
            if wire.source == node.name:
                yield f"  {wire.kind:<10}  {wire.source_end} → {wire.target} {wire.target_end}"
        for need in found.needs:
            if need.name == node.name:
                yield f"  after       {need.on} ({need.condition})"


def _remark(node: Node) -> str:
    remarks = []
    if node.replicas > 1:
        remarks.append(f"{node.replicas} instances")
    if node.mode != "service":
        remarks.append(node.mode)
    if node.is_leading:
        remarks.append("leading edge")
    return f" ({', '.join(remarks)})" if remarks else ""


def _dot(found: Edges) -> Iterator[str]:
    yield "digraph system {"
    yield "  rankdir=LR; node [shape=box];"
    for node in found.nodes:
        label = f"{node.name} x{node.replicas}" if node.replicas > 1 else node.name
        style = ", style=bold" if node.is_leading else ""
        yield f"  {_quoted(node.name)} [label={_quoted(label)}{style}];"
    for wire in found.wires:
        look = ", style=bold" if wire.kind == "state" else ""
        label = _quoted(wire.target_end)
        yield f"  {_quoted(wire.source)} -> {_quoted(wire.target)} [label={label}{look}];"
    for need in found.needs:
        yield (
            f"  {_quoted(need.name)} -> {_quoted(need.on)} "
            f"[label={_quoted(need.condition)}, style=dotted, constraint=false];"
        )
    yield "}"


def _mermaid(found: Edges) -> Iterator[str]:
    yield "flowchart LR"
    ids = {node.name: f"n{number}" for number, node in enumerate(found.nodes)}
    for node in found.nodes:
        label = f"{node.name} x{node.replicas}" if node.replicas > 1 else node.name
        yield f"  {ids[node.name]}[{_quoted(label)}]"
    for wire in found.wires:
        arrow = "==>" if wire.kind == "state" else "-->"
        yield f"  {ids[wire.source]} {arrow}|{wire.target_end}| {ids[wire.target]}"
    for need in found.needs:
        yield f"  {ids[need.name]} -.->|{need.condition}| {ids[need.on]}"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
