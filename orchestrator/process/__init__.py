"""The only door to processes: starting, watching, signalling, finding and ending them.

Everything is keyed by `Process` (pid and kernel start time) and acts through a pidfd, or on a
child that is not reaped yet, so that a reused pid is never touched. Nothing here decides: the
callers do.

    identity   who a process is, whether it lives, how it ended; signals to that very one
    trees      what descends from a process, or carries its marker
    starting   vfork and exec, the launcher, the zygote
    running    programs of our own whose end is waited for

Linux is the reference. Elsewhere there is no pidfd and no subreaper: `orch` needs both for
what it promises, and says so at import of this module's users.
"""

from __future__ import annotations

from orchestrator.process.identity import (
    MARKER,
    boot_id,
    ended_child,
    foreign_exit,
    is_alive,
    is_child,
    open_pidfd,
    parent,
    peek_child,
    peek_exit,
    reap,
    reap_child,
    session,
    signal_child,
    signal_group,
    signal_process,
    signal_verified,
    start_time,
)
from orchestrator.process.running import (
    Begun,
    Finished,
    Overdue,
    begin,
    begin_program,
    beside,
    end_all,
    ended,
    left_by,
    run,
)
from orchestrator.process.starting import (
    NO_SETUP,
    Child,
    Order,
    Setup,
    failed_step,
    fork_order,
    perform,
    raise_open_files,
    replace,
    restore_open_files,
    setup_failure,
    spawn,
    start_zygote,
)
from orchestrator.process.trees import (
    Adopted,
    become_subreaper,
    children,
    descendants,
    living,
    marked_leaders,
    marker_of,
    survivors,
)

__all__ = [
    "MARKER",
    "NO_SETUP",
    "Adopted",
    "Begun",
    "Child",
    "Finished",
    "Order",
    "Overdue",
    "Setup",
    "become_subreaper",
    "begin",
    "begin_program",
    "beside",
    "boot_id",
    "children",
    "descendants",
    "end_all",
    "ended",
    "ended_child",
    "failed_step",
    "foreign_exit",
    "fork_order",
    "is_alive",
    "is_child",
    "left_by",
    "living",
    "marked_leaders",
    "marker_of",
    "open_pidfd",
    "parent",
    "peek_child",
    "peek_exit",
    "perform",
    "raise_open_files",
    "reap",
    "reap_child",
    "replace",
    "restore_open_files",
    "run",
    "session",
    "setup_failure",
    "signal_child",
    "signal_group",
    "signal_process",
    "signal_verified",
    "spawn",
    "start_time",
    "start_zygote",
    "survivors",
]
