"""Asking a component: its answer, its refusal, or what is the matter with its link."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.daemon import asking
from orchestrator.errors import RequestFailed
from orchestrator.model import names
from orchestrator.wire import control
from tests import fakes

WEB = fakes.component("shop.web", handler="/web.py", command=())

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def ask(
    directory: Path, monkeypatch: pytest.MonkeyPatch, serve: Serve, within: float = 30.0
) -> dict[str, Any]:
    """Ask a component whose link is served so."""
    monkeypatch.chdir(directory)  # Unix sockets have short names.
    path = Path(names.link_path(".", WEB.stem))
    path.parent.mkdir()

    async def both() -> dict[str, Any]:
        async with await asyncio.start_unix_server(serve, path):
            return await asking.ask(".", WEB, "reload", within=within, changed=["/web.py"])

    return asyncio.run(both())


def test_the_answer_is_returned_though_it_comes_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.extend(control.Decoder().feed(await reader.readline()))
        reply = control.result(1, {"outcome": "swapped"})
        for byte in reply:
            writer.write(bytes([byte]))
            await writer.drain()
        writer.close()

    assert ask(tmp_path, monkeypatch, serve) == {"outcome": "swapped"}
    assert [(one["method"], one["params"]) for one in asked] == [
        ("reload", {"changed": ["/web.py"]})
    ]


@pytest.mark.parametrize(
    ("says", "code"),
    [
        (control.error(1, "unknown-method", "it knows no 'reload'"), "unknown-method"),
        (b"nonsense\n", "protocol"),
        (b"", "gone"),
        (b'{"id": 1, "resu', "gone"),
    ],
)
def test_what_is_no_answer_says_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: bytes, code: str
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(says)
        writer.close()

    with pytest.raises(RequestFailed) as problem:
        ask(tmp_path, monkeypatch, serve)
    assert problem.value.code == code


def test_one_that_is_busy_for_too_long_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()  # until the asker hangs up
        writer.close()

    with pytest.raises(RequestFailed, match="within 50ms") as problem:
        ask(tmp_path, monkeypatch, serve, within=0.05)
    assert problem.value.code == "timeout"


def test_one_without_a_link_cannot_be_reached(tmp_path: Path) -> None:
    with pytest.raises(RequestFailed, match="no control link") as problem:
        asyncio.run(asking.ask(str(tmp_path), WEB, "code", within=30.0))
    assert problem.value.code == "unreachable"
