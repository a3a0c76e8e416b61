"""What children have in common that answer questions about user code: streams, and errors."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, TextIO

from orchestrator.component.errors import SetupError

_OURS = f"{Path(__file__).parents[1]}/"
_LIBRARY = f"{Path(os.__file__).parent}/"

_PLACE = re.compile(r"(?P<file>/.+?):(?P<line>\d+): (?P<message>.*)", re.DOTALL)


def private() -> tuple[TextIO, TextIO]:
    """Take stdin and stdout for the protocol; user code reads nothing and prints to stderr."""
    requests = os.fdopen(os.dup(0), encoding="utf-8")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    with Path(os.devnull).open(encoding="utf-8") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    return requests, answers


def error(found: SetupError) -> dict[str, Any]:
    """Return file, line and message; with several mistakes those of the first, and `each`."""
    each = [_placed(mistake) for mistake in found.mistakes]
    if len(each) > 1:
        return {**each[0], "message": str(found), "each": each}
    if each[0]["file"] is None and (frame := _users_frame(found)) is not None:
        return {"file": frame[0], "line": frame[1], "message": str(found)}
    return each[0]


def _placed(mistake: str) -> dict[str, Any]:
    """Return file, line and message of a mistake, which names its place itself."""
    match = _PLACE.match(mistake)
    if match is None:
        return {"file": None, "line": None, "message": mistake}
    return {"file": match["file"], "line": int(match["line"]), "message": match["message"]}


def _users_frame(found: BaseException) -> tuple[str, int] | None:
    """Return file and line of the innermost code, not ours, in which an error came up."""
    frame: tuple[str, int] | None = None
    trace = found.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if file.startswith("/") and not file.startswith((_OURS, _LIBRARY)):
            frame = file, trace.tb_lineno
        trace = trace.tb_next
    return frame
