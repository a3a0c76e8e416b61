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
    """Return file, line and message; the mistakes name their places themselves."""
    match = _PLACE.match(found.mistakes[0])
    if match is None and (frame := _users_frame(found)) is not None:
        return {"file": frame[0], "line": frame[1], "message": str(found)}
    if match is None:
        return {"file": None, "line": None, "message": str(found)}
    message = match["message"] if len(found.mistakes) == 1 else str(found)
    return {"file": match["file"], "line": int(match["line"]), "message": message}


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
