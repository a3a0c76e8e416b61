"""What importing code does beside defining things: a package must be *neutral*, and do nothing.

The interpreter's audit events tell of files that are written, sockets, processes and threads, with
the place in the user's code that caused them. What libraries do when they are imported is theirs.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

Effect = dict[str, Any]
"""`file`, `line`, and in words `what` was done."""

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

_DOES = {
    "socket.connect": "connects a socket",
    "socket.bind": "binds a socket",
    "socket.getaddrinfo": "looks up the host {}",
    "subprocess.Popen": "starts the program {}",
    "os.system": "runs {} by a shell",
    "os.fork": "forks",
    "os.posix_spawn": "starts the program {}",
    "os.exec": "becomes the program {}",
    "os.mkdir": "makes the directory {}",
    "os.rmdir": "removes the directory {}",
    "os.remove": "removes {}",
    "os.rename": "renames {}",
    "os.link": "links {}",
    "os.symlink": "links {}",
    "os.truncate": "truncates {}",
    "os.chmod": "changes the mode of {}",
    "os.chown": "changes the owner of {}",
    "os.chdir": "changes the working directory",
    "os.putenv": "sets the environment variable {}",
    "os.unsetenv": "removes the environment variable {}",
    "_thread.start_new_thread": "starts a thread",
    "sqlite3.connect": "opens the database {}",
}

_state: dict[str, Any] = {"hooked": False, "roots": None, "effects": []}


@contextlib.contextmanager
def recording(roots: Sequence[str], file: str) -> Iterator[list[Effect]]:
    """Record what code below `roots` does within the block.

    Args:
        roots: Directories of the user's code.
        file: What is blamed for what has no place of its own.
    """
    effects: list[Effect] = []
    if not _state["hooked"]:
        sys.addaudithook(_heard)  # There is no way to take it off again.
        _state["hooked"] = True
    before = _settings()
    both = {f"{one}/" for root in roots for one in (Path(root), Path(root).resolve())}
    _state.update(roots=tuple(both), effects=effects)
    start = threading.Thread.start

    def told(thread: threading.Thread) -> None:
        _heard("_thread.start_new_thread", ())  # Not every version of Python tells it.
        start(thread)

    threading.Thread.start = told  # type: ignore[method-assign, assignment]
    try:
        yield effects
    finally:
        threading.Thread.start = start  # type: ignore[method-assign]
        _state["roots"] = None
    for what, value in _settings().items():
        if value != before[what]:
            effects.append({"file": file, "line": 1, "what": what})


def _heard(event: str, arguments: tuple[Any, ...]) -> None:
    if _state["roots"] is None:
        return
    what = _opened(arguments) if event == "open" else _DOES.get(event)
    if what is None:
        return
    # What follows is not to be heard.
    roots, _state["roots"] = _state["roots"], None
    try:
        place = _place(roots)
        if place is not None:
            said = _said(arguments)
            effect = {**place, "what": what.format(said)}
            if effect not in _state["effects"] and "__pycache__" not in said:
                _state["effects"].append(effect)
    finally:
        _state["roots"] = roots


def _opened(arguments: tuple[Any, ...]) -> str | None:
    path, mode, flags = (*arguments, None, None, None)[:3]
    if isinstance(path, int) or str(path) == os.devnull:
        return None
    by_mode = isinstance(mode, str) and set(mode) & set("wax+")
    by_flags = mode is None and (flags or 0) & _WRITES
    return "writes {}" if by_mode or by_flags else None


def _said(arguments: tuple[Any, ...]) -> str:
    first = arguments[0] if arguments else ""
    return repr(os.fsdecode(first)) if isinstance(first, (str, bytes, os.PathLike)) else "it"


def _place(roots: tuple[str, ...]) -> Effect | None:
    """Return where the user's code is at; None when a library is being imported by it."""
    frame = sys._getframe(2)  # noqa: SLF001 - there is no other way to see who did it
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(roots) and "/site-packages/" not in file:
            return {"file": file, "line": frame.f_lineno}
        if file.startswith("<frozen importlib"):
            return None
        frame = frame.f_back  # type: ignore[assignment] # it ends with None
    return None


def _settings() -> dict[str, object]:
    django = sys.modules.get("django.conf")
    root = logging.getLogger()
    return {
        "sets up logging": (tuple(map(id, root.handlers)), root.level),
        "configures Django": django is not None and django.settings.configured,
        "handles signals": [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)],
        "changes sys.path": list(sys.path),
    }
