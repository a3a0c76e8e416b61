"""How a process of ours ends well: on SIGTERM and SIGINT, with the children that it made.

Only processes that were made for a component handle exit signals. A component that runs in its
caller's own process leaves them, and the children it registered, to the caller.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import time
from types import FrameType
from typing import Any, NoReturn

from orchestrator.component import notify, serving, signals

logger = logging.getLogger(__name__)

PATIENCE = 2.0
"""How long the children have from SIGTERM to KILL together, in seconds: a supervisor waits."""

_children: list[Any] = []
_owner = 0


def register_child(child: Any) -> None:
    """Have a child ended when this process ends.

    Args:
        child: A `subprocess.Popen`, a `multiprocessing.Process`, or an executor with processes:
            what has `terminate`, `terminate_workers` or `shutdown`.

    Raises:
        TypeError: It has none of them.
    """
    if not any(callable(getattr(child, name, None)) for name in _ENDINGS):
        kind = type(child).__name__
        raise TypeError(f"cannot look after a {kind}: it has none of {', '.join(_ENDINGS)}")
    if child not in _children:
        _children.append(child)


def end_children() -> None:
    """End the registered children: terminate all, wait for them, kill who stays."""
    children, _children[:] = list(_children), []
    for child in children:
        _quietly(_terminate, child)
    deadline = time.monotonic() + PATIENCE
    for child in children:
        _quietly(_wait, child, max(0.0, deadline - time.monotonic()))
        _quietly(_kill, child)


def manage() -> None:
    """Handle the exit signals of this process from now on: a component lives in it."""
    global _owner  # noqa: PLW0603 - a forked child has our handlers too, and they are not for it
    _owner = os.getpid()
    for known in serving.SIGNALS:
        signal.signal(known, _exit)


def _exit(signum: int, frame: FrameType | None) -> NoReturn:
    for known in serving.SIGNALS:
        signal.signal(known, signal.SIG_DFL)  # A second one ends what does not end.
    if os.getpid() != _owner:
        signal.raise_signal(signum)
    notify.send("STOPPING=1")
    logger.info("Stopping on %s", signal.Signals(signum).name)
    signals.tell(signum, frame)
    sys.exit(0)


_ENDINGS = ("terminate", "terminate_workers", "shutdown")


def _terminate(child: Any) -> None:
    if callable(getattr(child, "terminate", None)):
        child.terminate()
        return
    # An executor's own processes, while it still knows them.
    for process in tuple((getattr(child, "_processes", None) or {}).values()):
        process.terminate()
    child.shutdown(wait=False, cancel_futures=True)


def _wait(child: Any, patience: float) -> None:
    if callable(getattr(child, "join", None)):
        child.join(patience)
    elif callable(getattr(child, "wait", None)):
        child.wait(patience)


def _kill(child: Any) -> None:
    is_alive = getattr(child, "is_alive", None) or (lambda: child.poll() is None)
    if callable(getattr(child, "kill", None)) and is_alive():
        child.kill()
        _wait(child, PATIENCE)


def _quietly(call: Any, *arguments: Any) -> None:
    with contextlib.suppress(Exception):  # One child must not keep the others from their end.
        call(*arguments)
