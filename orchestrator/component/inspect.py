"""What handlers declare, as plain data: `python -m orchestrator.component.inspect`.

Reads one JSON object per line from stdin, `{"name", "handler", "python_path", "mode"}`, and
answers each with one line on stdout. The handler's code runs here, in a process of its own, so
that whoever validates a topology needs not import it. Whatever that code prints goes to stderr,
and it reads nothing from stdin.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any, TextIO

from orchestrator.component import handlers, loader, models
from orchestrator.component.errors import SetupError
from orchestrator.component.handlers import Handler
from orchestrator.component.kinds import NotAModel

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
    """Return the declared states; their types are named, not yet served."""
    found: dict[str, Any] = {"in": {}, "out": {}}
    for side, states in handler.state_models.items():
        for name, model in states.items():
            place = handler.origin.place("state_models", side, name)
            if side not in found or not isinstance(model, dict):
                raise SetupError(
                    f"{place}: expected a dict with 'state_type' on side 'in' or 'out'"
                )
            key = ("state_models", side, name)
            described = _state(side, model, place, handler.origin.line(*key))
            found[side][name] = {**described, "lines": handler.origin.lines_below(*key)}
    return found


def _state(side: str, model: dict[str, Any], place: str, line: int | None) -> dict[str, Any]:
    kind = str(model.get("state_type")).replace(
        "local_variable_delta_update", f"delta_update_{side}"
    )
    sockets = _STATE_SOCKETS.get(kind)
    if sockets is None or not kind.endswith(f"_{side}"):
        fitting = ", ".join(known for known in _STATE_SOCKETS if known.endswith(f"_{side}"))
        raise SetupError(
            f"{place}: {model.get('state_type')!r} is no state type on side {side!r}; "
            f"there are {fitting}"
        )
    try:
        arguments = models.arguments(
            model.get("required_arguments"), model.get("optional_arguments")
        )
    except NotAModel as error:
        raise SetupError(f"{place}: {error}") from error
    creation = {
        **(model.get("required_creation_arguments") or {}),
        **(model.get("optional_creation_arguments") or {}),
    }
    return {
        "type": kind,
        "sockets": list(sockets),
        "binds": list(sockets) if side == "out" else [],
        "connects": list(sockets) if side == "in" else [],
        "topic": creation.get("topic") or None,
        **arguments.plain(),
        "returns": {"required": {}, "optional": {}},
        "function": None,
        "line": line,
    }


_STATE_SOCKETS = {
    "full_update_in": ("subscriber",),
    "delta_update_in": ("subscriber", "requester"),
    "full_update_out": ("publisher",),
    "delta_update_out": ("publisher", "replyer"),
}


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
