"""The start of a component, rehearsed by the process that will fork components.

A page of memory that a forked process writes to becomes its own, and in CPython even reading an
object writes to its count of references. What can be written once, before the fork, is: the
interpreter specialises code after some calls, fills caches and makes objects when first needed.
So the component in `rehearsed`, which has no connection, is started several times over.

Then new objects of a child would fill the gaps that all this has left between those it shares,
one page for each. So the gaps are filled: a child's own objects then lie side by side.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from orchestrator.component import runtime, serving

TIMES = 10
"""How often: code is specialised from its ninth call on."""

_INSTANCE = Path(__file__).with_name("rehearsed")

_POOL = 16 * 1024 - 48
"""The room for small objects of one size side by side, in bytes."""

_filling: list[bytes] = []


def rehearse() -> None:
    """Start a component several times; nobody hears of it.

    Modules, paths, signals and the directory are as before; logging is set up, as in a component.
    """
    modules, path, finders = set(sys.modules), list(sys.path), list(sys.meta_path)
    here = os.getcwd()  # noqa: PTH109 - put back as it was
    handlers = {known: signal.getsignal(known) for known in serving.SIGNALS}
    heard = {name: os.environ.pop(name, None) for name in ("NOTIFY_SOCKET", "ORCH_CONTROL")}
    try:
        os.chdir(_INSTANCE)
        for _ in range(TIMES):
            runtime.rehearse(_INSTANCE)
            for name in set(sys.modules) - modules:
                del sys.modules[name]
            sys.path[:], sys.meta_path[:] = path, finders
    finally:
        os.chdir(here)
        os.environ.update({name: value for name, value in heard.items() if value is not None})
        for known, handler in handlers.items():
            signal.signal(known, handler)


def fill_gaps() -> None:
    """Take all free room between the small objects that there are, for ever."""
    for size in range(48, 513, 16):
        room = size - sys.getsizeof(b"")
        wanted = _POOL // size - 1  # A pool's worth side by side: no other has a gap.
        run, last = 0, 0
        while run < wanted:
            _filling.append(bytes(room))
            place = id(_filling[-1])
            run = run + 1 if place == last + size else 0
            last = place
