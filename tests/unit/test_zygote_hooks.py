"""What the standard library does at each fork, left out for the children of the zygote."""

from __future__ import annotations

import subprocess
import sys

FORKED = """
import faulthandler, logging, os, random, sys, threading
from orchestrator.zygote import Hooks

hooks = Hooks()
hooks.take()
before = random.getstate()
pid = os.fork()
if pid:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
assert random.getstate() == before, "the hooks have run"
hooks.give_back()
assert random.getstate() != before, "it has numbers of its own"
faulthandler.dump_traceback_later(10, exit=True)
thread = threading.Thread(target=logging.getLogger, args=("of.a.thread",))
thread.start()
thread.join()
faulthandler.cancel_dump_traceback_later()
if grandchild := os.fork():
    os._exit(os.waitstatus_to_exitcode(os.waitpid(grandchild, 0)[1]))
os._exit(random.getstate() == before)
"""


def test_a_child_without_the_hooks_has_every_lock_free() -> None:
    """Another thread can log: nothing was locked for a fork and not freed after it."""
    argv = [sys.executable, "-c", FORKED]
    done = subprocess.run(argv, check=False, capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
