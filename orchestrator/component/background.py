"""Serving the states of a component whose plain main function has the thread to itself."""

from __future__ import annotations

import contextlib
import os
import select
import threading
from collections.abc import Iterator, Sequence

from orchestrator.component import sockets
from orchestrator.component.replication import Served


@contextlib.contextmanager
def serving(parts: Sequence[Served]) -> Iterator[None]:
    """Serve sockets of states from a thread for as long as the block runs."""
    if not parts:
        yield
        return
    stopped, stop = os.pipe2(os.O_CLOEXEC)
    with os.fdopen(stopped, "rb"):
        thread = threading.Thread(target=_serve, args=(parts, stopped), name="states")
        with os.fdopen(stop, "wb"):
            thread.start()
            try:
                yield
            finally:
                os.write(stop, b"\0")
                thread.join()


def _serve(parts: Sequence[Served], stopped: int) -> None:
    with select.epoll() as poll:
        poll.register(stopped, select.EPOLLIN)
        by_descriptor = {sockets.descriptor(part.socket): part for part in parts}
        for descriptor in by_descriptor:
            poll.register(descriptor, select.EPOLLIN)
        # What came before the watch began gives no sign.
        ready = list(by_descriptor)
        while stopped not in ready:
            for descriptor in ready:
                part = by_descriptor[descriptor]
                while part.take():
                    pass
            ready = [descriptor for descriptor, _ in poll.poll()]
