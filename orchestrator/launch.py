"""Become a program: apply what a plain exec cannot, then execute it.

The steps are those of a forked component too, see `zygote.py`. Run as `python -I -S launch.py
SETUP PROGRAM [ARGUMENT…]` in the new process, standard library only. What fails is reported on a
pipe that the exec closes, as the stage in words and the kernel's reason; nothing is executed with
a set-up that is not complete.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys

TYPE_CHECKING = False  # typing itself takes longer to import than all that is done here
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any


def main() -> None:
    """Apply the set-up in `sys.argv[1]` and execute the rest of the command line."""
    setup = json.loads(sys.argv[1])
    argv = sys.argv[2:]
    errors = setup["errors"]
    stage = "pass file descriptors"
    try:
        # First: a limit may lie below the numbers at which they are now.
        errors = arrange(errors, {int(n): fd for n, fd in setup["fds"].items()})
        for stage in prepare(setup):  # noqa: B007 - told when its step fails
            pass
        stage = "execute"
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)  # the interpreter ignores them
        os.execvpe(argv[0], argv, os.environ)  # noqa: S606
    except FAILURES as error:
        os.write(errors, json.dumps(failure(stage, error)).encode())
    os._exit(127)


FAILURES = (OSError, KeyError, ValueError, OverflowError, ImportError)
"""What a step of the set-up may raise."""


def prepare(setup: dict[str, Any]) -> Iterator[str]:
    """Apply a set-up to this process; before each step, yield in words what it does."""
    for path in setup["joins"]:
        yield f"join the control group {os.path.dirname(path)!r}"
        with open(path, "w", encoding="ascii") as file:
            file.write("0")
    for name, (soft, hard) in setup["rlimits"].items():
        yield f"set the limit {name}={_limit(soft)}:{_limit(hard)}"
        _set_limit(name, soft, hard)
    if setup["nice"] is not None:
        yield f"set nice {setup['nice']}"
        os.setpriority(os.PRIO_PROCESS, 0, setup["nice"])
    if setup["oom_score_adj"] is not None:
        yield f"set oom_score_adj {setup['oom_score_adj']}"
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write(str(setup["oom_score_adj"]))
    if setup["user"] is not None or setup["group"] is not None:
        yield f"become user {setup['user'] or 'unchanged'}, group {setup['group'] or 'its own'}"
        # The user may not be able to read our library: what comes after is loaded before.
        if setup["no_new_privileges"]:
            import ctypes  # noqa: F401, PLC0415
        _become(setup["user"], setup["group"])
    if setup["no_new_privileges"]:
        yield "set no_new_privileges"
        _no_new_privileges()
    for name in setup["pid_variables"]:
        os.environ[name] = str(os.getpid())


def failure(stage: str, error: BaseException) -> dict[str, Any]:
    """Return what is told of a step that failed: its stage, the errno and the reason."""
    if isinstance(error, OSError):
        return {
            "stage": stage,
            "errno": error.errno or 0,
            "reason": error.strerror or str(error),
        }
    reason = str(error.args[0]) if error.args else repr(error)
    return {"stage": stage, "errno": 22, "reason": reason}


def _set_limit(name: str, soft: int, hard: int) -> None:
    number = getattr(resource, "RLIMIT_" + name.upper())
    try:
        resource.setrlimit(number, (soft, hard))
    except ValueError as error:
        if "not allowed" not in str(error):
            raise
        most = _limit(resource.getrlimit(number)[1])
        reason = f"the hard limit is {most}, and raising it needs CAP_SYS_RESOURCE"
        raise PermissionError(1, reason) from error


def _limit(value: int) -> str:
    return "unlimited" if value == resource.RLIM_INFINITY else str(value)


def _become(user: str | None, group: str | None) -> None:
    import grp  # noqa: PLC0415 - only when asked for
    import pwd  # noqa: PLC0415
    import warnings  # noqa: F401, PLC0415 - `os.execvpe` asks for it as the user, see `prepare`

    entry = None
    if user is not None:
        entry = pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
    gid = entry.pw_gid if entry else os.getgid()
    if group is not None:
        gid = int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
    if entry and (entry.pw_uid, gid) == (os.getuid(), os.getgid()):
        return  # Already so: an unprivileged daemon may name its own user.
    if entry:
        os.initgroups(entry.pw_name, gid)
    os.setgid(gid)
    if entry:
        os.setuid(entry.pw_uid)


def _no_new_privileges() -> None:
    import ctypes  # noqa: PLC0415 - only when asked for

    pr_set_no_new_privs = 38
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(pr_set_no_new_privs, 1, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def arrange(errors: int, fds: dict[int, int]) -> int:
    """Move descriptors to the numbers that the program expects, and close the pipe on exec."""
    top = max((errors, *fds, *fds.values())) + 1
    moved = os.dup2(errors, top, inheritable=False)
    os.close(errors)
    spare = {
        number: os.dup2(fd, top + 1 + i, inheritable=False)
        for i, (number, fd) in enumerate(fds.items())
    }
    for fd in fds.values():
        os.close(fd)
    for number, fd in spare.items():
        os.dup2(fd, number, inheritable=True)
    return moved


if __name__ == "__main__":
    main()
