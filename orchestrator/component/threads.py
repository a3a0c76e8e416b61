"""Named background threads of one owner, each with an event that asks it to end.

A target that has a parameter `stop` is given the event and ends when it is set. Any other is
interrupted: SystemExit is raised in its thread, at the next step of Python. What waits in a
system call is not reached by that; it is awaited for a while and then left behind, and nobody
waits for it when the process ends.
"""

from __future__ import annotations

import ctypes
import inspect
import logging
import threading
import time
from collections.abc import Callable, Iterable

logger = logging.getLogger(__name__)

PATIENCE = 5.0
"""How long threads may take to end when they are told to, in seconds."""

_AFTER_INTERRUPT = 1.0


class Threads:
    """The threads of one owner.

    Args:
        owner: Named in the log.
        changed: Called, in any thread, when one has begun or ended.
    """

    def __init__(self, owner: str, changed: Callable[[], object] = lambda: None) -> None:
        self.changed = changed
        self._owner = owner
        self._lock = threading.Lock()
        self._known: dict[str, _Thread] = {}

    def spawn(self, name: str, target: Callable[..., object]) -> bool:
        """Call `target` in a thread; False when the one of that name still lives.

        Raises:
            TypeError: It cannot be called.
        """
        if not callable(target):
            raise TypeError(f"cannot spawn {name!r}: {target!r:.80} is no function")
        with self._lock:
            known = self._known.get(name)
            if known is not None and known.thread.is_alive():
                logger.debug("%s: the thread %r still lives, and stays", self._owner, name)
                return False
            one = _Thread(heeds=_takes_stop(target))
            one.thread = threading.Thread(
                target=self._run, args=(name, target, one), name=name, daemon=True
            )
            self._known[name] = one
            one.thread.start()
        self.changed()
        return True

    def living(self) -> tuple[str, ...]:
        """Return the names of those that live, in the order in which they began."""
        with self._lock:
            return tuple(name for name, one in self._known.items() if one.thread.is_alive())

    def terminate(self, *names: str, within: float = PATIENCE) -> tuple[str, ...]:
        """End threads, all when none are named; return those that did not end in time.

        Names that are not known are passed over. The calling thread is told, not awaited.
        """
        with self._lock:
            chosen = {
                name: self._known.pop(name)
                for name in (names or tuple(self._known))
                if name in self._known
            }
        for one in chosen.values():
            one.stop.set()
            if not one.heeds:
                one.interrupt()
        _join(chosen.values(), within)
        late = [one for one in chosen.values() if one.heeds and one.thread.is_alive()]
        for one in late:
            one.interrupt()
        _join(late, _AFTER_INTERRUPT)
        here = threading.current_thread()
        left = tuple(
            name
            for name, one in chosen.items()
            if one.thread.is_alive() and one.thread is not here
        )
        if left:
            logger.warning("%s: left behind, for nothing interrupts it: %s", self._owner, left)
        return left

    def _run(self, name: str, target: Callable[..., object], one: _Thread) -> None:
        try:
            target(stop=one.stop) if one.heeds else target()
        except SystemExit:
            pass  # Its end, by itself or by us.
        except BaseException:  # user code may raise anything
            logger.exception("%s: the thread %r failed", self._owner, name)
        finally:
            one.end()
            with self._lock:
                if self._known.get(name) is one:
                    del self._known[name]
            self.changed()


_RAISE_IN = ctypes.pythonapi.PyThreadState_SetAsyncExc


class _Settled(BaseException):
    """Nothing is wrong: the interpreter has looked for exceptions that wait."""


class _Thread:
    def __init__(self, *, heeds: bool) -> None:
        self.thread: threading.Thread = threading.current_thread()
        self.stop = threading.Event()
        self.heeds = heeds
        self._lock = threading.Lock()
        self._is_over = False

    def interrupt(self) -> None:
        """Raise SystemExit in it, unless it has ended: its number may be another's by now."""
        with self._lock:
            if self._is_over or self.thread is threading.current_thread():
                return
            number = ctypes.c_ulong(self.thread.ident or 0)
            own = ctypes.c_ulong(threading.get_ident())
            put, end, settled = _RAISE_IN, ctypes.py_object(SystemExit), ctypes.py_object(_Settled)
            # CPython tells all threads of an exception that waits for one, until somebody takes
            # one: where this one never looks they would be slow for ever, and those that are
            # traced would stand (3.11). One of our own ends that; the thread looks for its own
            # whenever it goes on. No function of Python may be called in between.
            try:
                put(number, end)
                put(own, settled)
                while True:
                    pass
            except _Settled:
                return

    def end(self) -> None:
        """Take note that its target has returned."""
        with self._lock:
            self._is_over = True


def _join(threads: Iterable[_Thread], within: float) -> None:
    until = time.monotonic() + within
    for one in threads:
        if one.thread is not threading.current_thread():
            one.thread.join(max(0.0, until - time.monotonic()))


def _takes_stop(target: Callable[..., object]) -> bool:
    try:
        return "stop" in inspect.signature(target).parameters
    except (TypeError, ValueError):
        return False  # Some built-in functions do not tell.
