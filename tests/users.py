"""Run the tests as those who run orch: root, and a user without privileges.

`python tests/users.py all|root|user [pytest…]`; pytest's own summary is the last line.

- `user`, as root: run the tests as that user (`ORCH_TEST_USER`, nobody).
- `root`, as root: run them as root, with the other users let in.
- `all`, as root: first what depends on who runs it (the marks `privileged` and `root`), then
  every test as that user; their coverage is that of both. Not as root: every test, once.

An interpreter or a checkout below a directory that others may not enter (`/root`) is made
reachable at the same path, in a mount namespace of our own that nobody else sees: the directory
is covered, and only what is needed is bound into it.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

USER = os.environ.get("ORCH_TEST_USER", "nobody")
HERE = Path(__file__).resolve().parent.parent
COVERED = ("--cov", "--cov-report=term") if os.environ.get("ORCH_COVERAGE") else ()

AGAIN = ("--reruns", "1") if os.environ.get("CI") else ()
"""Where nobody can look at once, a failure is played again, and the summary counts it."""

_CLONE_NEWNS = 0x00020000


class NotReachable(Exception):
    """The user cannot reach what the tests need; the message says why."""


def mount(*arguments: str) -> None:
    """Call mount(8)."""
    try:
        subprocess.run(["mount", *arguments], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise NotReachable(f"the mounts cannot be made: {error}") from error


def known(name: str) -> pwd.struct_passwd:
    """Return the entry of a user."""
    try:
        return pwd.getpwnam(name)
    except KeyError:
        raise NotReachable("there is no such user") from None


def closed(path: Path) -> Path | None:
    """Return the topmost directory above a path that others may not enter."""
    for directory in reversed(path.parents):
        if not directory.stat().st_mode & 0o001:
            return directory
    return None


def open_up(needed: set[Path], aside: Path) -> None:
    """Make what is needed reachable, at the paths where it is; `aside` is an empty directory."""
    covered: dict[Path, list[Path]] = {}
    for path in sorted(needed):
        directory = closed(path)
        if directory is not None:
            covered.setdefault(directory, []).append(path)
    if not covered:
        return
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNS) != 0:
        why = os.strerror(ctypes.get_errno())
        raise NotReachable(
            f"{next(iter(covered))} is closed to others, and unshare(2) says: {why}"
        )
    mount("--make-rprivate", "/")
    for directory, paths in covered.items():
        kept = [(path, aside / str(number)) for number, path in enumerate(paths)]
        for path, place in kept:
            place.mkdir()
            mount("--bind", str(path), str(place))
        mount("-t", "tmpfs", "-o", "mode=0755", "none", str(directory))
        for path, place in kept:
            path.mkdir(mode=0o755, parents=True, exist_ok=True)
            mount("--bind", str(place), str(path))
            subprocess.run(["umount", str(place)], check=True)
            place.rmdir()
            if closed(path) is not None:
                raise NotReachable(f"{path} stays closed to others")


def pytest(*arguments: str, more: Mapping[str, str], user: pwd.struct_passwd | None = None) -> int:
    """Run pytest, perhaps as somebody else; return its exit code."""
    argv = [sys.executable, "-m", "pytest", "-q", *AGAIN, *arguments]
    if user is None:
        return subprocess.run(argv, cwd=HERE, env={**os.environ, **more}, check=False).returncode
    environment = {
        "PATH": os.environ["PATH"],
        "LANG": "C.UTF-8",
        "USER": user.pw_name,
        "LOGNAME": user.pw_name,
        "PYTHONDONTWRITEBYTECODE": "1",
        **more,
    }
    return subprocess.run(
        [*argv, "-p", "no:cacheprovider"],
        cwd=HERE,
        env=environment,
        user=user.pw_uid,
        group=user.pw_gid,
        extra_groups=os.getgrouplist(user.pw_name, user.pw_gid),
        check=False,
    ).returncode


def as_user(user: pwd.struct_passwd, home: Path, *arguments: str) -> int:
    """Run pytest as the user, in a home of his; return its exit code."""
    os.chown(home, user.pw_uid, user.pw_gid)
    more = {
        "HOME": str(home),
        "TMPDIR": str(home),
        "HYPOTHESIS_STORAGE_DIRECTORY": str(home / "hypothesis"),
        "COVERAGE_FILE": str(home / "coverage"),
    }
    return pytest(*arguments, more=more, user=user)


def as_all(user: pwd.struct_passwd, home: Path, *arguments: str) -> int:
    """Run what depends on it as root, then all as the user; return the exit code."""
    print("as root, what depends on who runs it:", flush=True)
    # Components of another user write their coverage beside it.
    home.chmod(0o1777)
    data = home / "coverage"
    chosen = ("-m", "(privileged or root) and not nightly")
    covered = ("--cov", "--cov-report=", "--cov-fail-under=0") if COVERED else ()
    appended = ("--cov-append",) if COVERED else ()
    code = pytest(*chosen, *covered, *arguments, more={"COVERAGE_FILE": str(data)})
    if code:
        return code
    if COVERED:
        os.chown(data, user.pw_uid, user.pw_gid)
    print(f"as {user.pw_name}, every test:", flush=True)
    return as_user(user, home, *COVERED, *appended, *arguments)


def main(word: str, *arguments: str) -> int:
    """Run the tests as who is asked for; return the exit code."""
    if os.geteuid() != 0:
        if word != "all":
            sys.exit("cannot become another user: only root can; run pytest instead")
        return pytest(*COVERED, *arguments, more={})
    interpreter = Path(sys.executable).resolve()
    home = Path(tempfile.mkdtemp(prefix="orch-user-", dir="/tmp"))
    try:
        user = known(USER)
        aside = home / "aside"
        aside.mkdir()
        open_up({HERE, Path(sys.base_prefix).resolve(), interpreter.parent.parent}, aside)
        aside.rmdir()
        if word == "root":
            return pytest(*arguments, more={})
        return (as_all if word == "all" else as_user)(user, home, *arguments)
    except NotReachable as problem:
        print(f"cannot run the tests as {USER}: {problem}", file=sys.stderr)
        if word != "all":
            return 1
        print("they run as root only", file=sys.stderr, flush=True)
        return pytest(*COVERED, *arguments, more={})
    finally:
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
