"""Living components themselves: their control links, and questions to many of them at once."""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.client import endpoint
from orchestrator.client.connection import Client
from orchestrator.client.endpoint import CONNECT_TIMEOUT
from orchestrator.client.rows import Row
from orchestrator.errors import DaemonUnreachable, ProtocolError, RequestFailed, WaitTimeout
from orchestrator.model import names
from orchestrator.model.units import Instant, Seconds


def connect_component(runtime_dir: Path, row: Row, timeout: Seconds = CONNECT_TIMEOUT) -> Client:
    """Return a client of an instance's own control link, for the methods that it serves.

    Raises:
        RequestFailed: It has none: it does not run, or is no handler.
    """
    stem = names.file_stem(row["service"], row["component"], row["instance"])
    path = Path(names.link_path(os.fspath(runtime_dir), stem))
    try:
        # That of another user's component lies elsewhere: a link of that user leads to it.
        stream = endpoint.connect(path, timeout, "", path.lstat().st_uid)
    except (DaemonUnreachable, OSError) as problem:
        lives = row["pid"] is not None and row["phase"] == "running"
        doing = "no handler, or of another user" if lives else row["phase"]
        message = f"cannot ask {row['name']} itself: it is {doing}"
        raise RequestFailed("unreachable", message) from problem
    return Client(stream, path, "", who=row["name"])


def ask_components(
    runtime_dir: Path,
    rows: Sequence[Row],
    method: str,
    params: Mapping[str, Any],
    timeout: Seconds,
) -> dict[str, dict[str, Any]]:
    """Ask living instances themselves, all at once; return the answers by instance name.

    Who has no control link, refuses, or does not answer within `timeout` seconds in all (a
    function of it may be at work) is left out.
    """
    deadline = time.monotonic() + timeout
    answers: dict[str, dict[str, Any]] = {}
    living = [row for row in rows if row["pid"] is not None]
    for begin in range(0, len(living), _AT_ONCE):
        asked: dict[int, tuple[str, Client]] = {}
        try:
            for row in living[begin : begin + _AT_ONCE]:
                with contextlib.suppress(RequestFailed, WaitTimeout):
                    one = connect_component(runtime_dir, row, timeout)
                    one.ask(method, params, timeout)
                    asked[one.fileno()] = row["name"], one
            _collect(asked, answers, deadline)
        finally:
            for _, one in asked.values():
                one.close()
    return answers


_AT_ONCE = 256
"""How many instances are asked at a time: a process has so many descriptors without asking."""


def _collect(
    asked: Mapping[int, tuple[str, Client]],
    answers: dict[str, dict[str, Any]],
    deadline: Instant,
) -> None:
    poll = select.poll()
    for descriptor in asked:
        poll.register(descriptor, select.POLLIN)
    pending = set(asked)
    while pending:
        remaining = max(0.0, deadline - time.monotonic())
        ready = poll.poll(remaining * 1000)
        if not ready:
            return
        for descriptor, _ in ready:
            name, one = asked[descriptor]
            with contextlib.suppress(RequestFailed, ProtocolError):
                one.receive(0.0)
                answer = one.answered()
                if answer is not None:
                    answers[name] = answer
                elif not one.at_end:
                    continue
            pending.discard(descriptor)
            poll.unregister(descriptor)
