"""What handlers declare, as plain data: `python -m orchestrator.component.inspect`.

Reads one JSON object per line from stdin, `{"name", "handler", "python_path", "mode"}` or
`{"name", "class", "python_path"}`, and answers each with one line on stdout. The code runs here,
in a process of its own, so
that whoever validates a topology needs not import it. Whatever that code prints goes to stderr,
and it reads nothing from stdin.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import sys
from pathlib import Path
from typing import Any, TextIO

from orchestrator.component import handlers, loader
from orchestrator.component.errors import SetupError
from orchestrator.component.handlers import Handler

_PLACE = re.compile(r"(?P<file>/.+?):(?P<line>\d+): (?P<message>.*)", re.DOTALL)


def inspect(request: dict[str, Any]) -> dict[str, Any]:
    """Return what one handler declares, or where and why it cannot be read."""
    answer: dict[str, Any] = {
        "name": request.get("name"),
        "file": None,
        "main": False,
        "config": {"required": {}, "optional": {}},
        "connections": {"in": {}, "out": {}},
        "states": {"in": {}, "out": {}},
        "error": None,
    }
    before, path = set(sys.modules), list(sys.path)
    try:
        if "class" in request:
            _service(request)
            return answer
        handler = handlers.load(request["handler"], tuple(request.get("python_path") or ()))
        answer["file"] = handler.origin.file
        answer["main"] = handler.main is not None
        answer["config"] = handler.config.plain()
        answer["connections"] = _connections(handler)
        answer["states"] = _states(handler)
    except SetupError as error:
        answer["error"] = _error(error)
    finally:
        # Two components may have neighbours of the same name.
        for name in set(sys.modules) - before:
            if isinstance(getattr(sys.modules[name], "__loader__", None), loader.SourceLoader):
                del sys.modules[name]
        sys.path[:] = path
        sys.meta_path[:] = [f for f in sys.meta_path if not isinstance(f, loader.SourceFinder)]
    return answer


def _service(request: dict[str, Any]) -> None:
    """Raise `SetupError` unless the request's `module:Class` is a service that can be run."""
    hosting = importlib.import_module("orchestrator.component.hosting")
    module, _, name = request["class"].partition(":")
    code = loader.Code(module, tuple(request.get("python_path") or ()))
    hosting.check(hosting.service_class(code.module, name))


def main() -> int:
    """Answer requests until stdin ends."""
    requests, answers = _private_streams()
    with requests, answers:
        for line in requests:
            if line.strip():
                answers.write(json.dumps(inspect(json.loads(line))) + "\n")
                answers.flush()
    return 0


def _connections(handler: Handler) -> dict[str, Any]:
    found: dict[str, Any] = {"in": {}, "out": {}}
    for end in handler.ends_as_written():
        lines = handler.origin.lines_below("connection_models", end.type.side, end.name)
        found[end.type.side][end.name] = {**end.plain(), "lines": lines}
    return found


def _states(handler: Handler) -> dict[str, Any]:
    found: dict[str, Any] = {"in": {}, "out": {}}
    for state in handler.states_as_written():
        key = ("state_models", state.type.side, state.name)
        lines = handler.origin.lines_below(*key)
        found[state.type.side][state.name] = {**state.plain(), "lines": lines}
    return found


def _error(error: SetupError) -> dict[str, Any]:
    """Return file, line and message; the mistakes name their places themselves."""
    match = _PLACE.match(error.mistakes[0])
    if match is None:
        return {"file": None, "line": None, "message": str(error)}
    message = match["message"] if len(error.mistakes) == 1 else str(error)
    return {"file": match["file"], "line": int(match["line"]), "message": message}


def _private_streams() -> tuple[TextIO, TextIO]:
    """Take stdin and stdout for the protocol; user code reads nothing and prints to stderr."""
    requests = os.fdopen(os.dup(0), encoding="utf-8")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    with Path(os.devnull).open(encoding="utf-8") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    return requests, answers


if __name__ == "__main__":
    sys.exit(main())
