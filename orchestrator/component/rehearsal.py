"""The start of a component, rehearsed by the process that will fork components.

A page of memory that a forked process writes to becomes its own, and in CPython even reading an
object writes to its count of references. What can be written once, before the fork, is: the
interpreter specialises code after some calls, fills caches and makes objects when first needed.
So the component in `rehearsed`, which has no connection, is started several times over.

Then new objects of a child would fill the gaps that all this has left between those it shares,
one page for each. So the gaps are filled: a child's own objects then lie side by side.

And where the interpreter knows of objects that nobody counts (PEP 683, CPython 3.12), all that is
loaded is made one of them: to read it is to write no more.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys
from collections.abc import Iterable
from pathlib import Path
from types import CodeType, CoroutineType, FrameType, GeneratorType
from typing import Any

from orchestrator.component import kinds, runtime, serving

TIMES = 10
"""How often: code is specialised from its ninth call on."""

FIELDS = 6
"""Up to how many fields of a message have their tests made beforehand."""

_INSTANCE = Path(__file__).with_name("rehearsed")

_POOL = 16 * 1024 - 48
"""The room for small objects of one size side by side, in bytes."""

_filling: list[bytes] = []

_ENOUGH = 4
"""How many pieces side by side say that no gap has been found for them."""

_MOST = 10_000
"""How many gaps of a size there may be."""

_UNCOUNTED = 1 << 31
"""A count of references, read as 32 bits, from which on CPython leaves it as it is."""

_PLAIN = (str, bytes, int, float, complex, bool)
"""Types whose objects refer to nothing."""

_RUNNING = (FrameType, GeneratorType, CoroutineType)
"""What ends with the call it belongs to, and lets go of what it held."""


def rehearse() -> None:
    """Start a component several times; nobody hears of it.

    Modules, paths, signals and the directory are as before; logging is set up, as in a component.
    """
    for fields in range(FIELDS + 1):
        kinds.tests(fields, 0)
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
    _fill_heap()


def _fill_heap() -> None:
    """Do so between the larger ones, and what libraries hold: the C library's."""
    allocate = ctypes.CDLL(None).malloc
    allocate.argtypes, allocate.restype = (ctypes.c_size_t,), ctypes.c_void_p
    large = (1 << power for power in range(16, 10, -1))
    for chunk in (*large, *range(1024, 16, -16)):
        # The next gap is smaller than two of these: more side by side are from the end.
        run, last = 0, 0
        for _ in range(_MOST):
            place = allocate(chunk - 8)
            run = run + 1 if place == last + chunk else 0
            last = place
            if run == _ENOUGH:
                break
        else:
            return  # Another allocator than glibc's, which has another order.


def immortalise() -> int:
    """Let nobody count references to what there is, from now on; return how many objects that are.

    They are never freed, and stay as they are otherwise. 0 where the interpreter counts them all:
    CPython before 3.12, one without the global lock, or one that is not CPython.
    """
    if sys.implementation.name != "cpython" or sys.version_info < (3, 12) or sys.maxsize < 2**32:
        return 0
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        return 0
    # All memory, as words of 32 bits; the first one of an object is its count, or the half of it
    # that tells (Include/object.h in 3.12, Include/refcount.h since 3.14).
    memory = (ctypes.c_uint32 * 2**45).from_address(0)
    forever = memory[id(None) // 4]
    if forever < _UNCOUNTED:
        return 0
    places = [place for place in _reachable(gc.get_objects()) if memory[place // 4] < _UNCOUNTED]
    for place in places:
        memory[place // 4] = forever
    return len(places)


def _reachable(todo: list[Any]) -> Iterable[int]:
    """Return where the objects in `todo` are, and what they refer to; `todo` is empty then."""
    seen: dict[int, None] = {id(todo): None}
    while todo:
        each = todo.pop()
        place = id(each)
        if place in seen or type(each) in _RUNNING:
            continue
        seen[place] = None
        if type(each) is CodeType:  # the collector does not know what it refers to
            todo += (each.co_consts, each.co_names, each.co_name, each.co_qualname)
            todo += (each.co_filename, each.co_linetable, each.co_exceptiontable)
        elif type(each) not in _PLAIN:
            todo += gc.get_referents(each)
    del seen[id(todo)]
    return seen
