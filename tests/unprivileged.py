"""Run the tests as a user without privileges: `unshare -m python tests/unprivileged.py [pytest…]`.

Started by root in a mount namespace of its own, so that what is done here is seen by nobody else.
An interpreter or a checkout below a directory that others may not enter (`/root`) is made
reachable at the same path: the directory is covered, and only what is needed is bound into it.
"""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
import tempfile
from pathlib import Path

USER = os.environ.get("ORCH_TEST_USER", "nobody")
HERE = Path(__file__).resolve().parent.parent


def mount(*arguments: str) -> None:
    """Call mount(8)."""
    subprocess.run(["mount", *arguments], check=True)


def closed(path: Path) -> Path | None:
    """Return the topmost directory above a path that others may not enter."""
    for directory in reversed(path.parents):
        if not directory.stat().st_mode & 0o001:
            return directory
    return None


def open_up(needed: set[Path]) -> None:
    """Make what is needed reachable, at the paths where it is."""
    covered: dict[Path, list[Path]] = {}
    for path in sorted(needed):
        directory = closed(path)
        if directory is not None:
            covered.setdefault(directory, []).append(path)
    mount("--make-rprivate", "/")
    for directory, paths in covered.items():
        aside = Path(tempfile.mkdtemp(prefix="orch-aside-"))
        kept = [(path, aside / str(number)) for number, path in enumerate(paths)]
        for path, place in kept:
            place.mkdir()
            mount("--bind", str(path), str(place))
        mount("-t", "tmpfs", "-o", "mode=0755", "none", str(directory))
        for path, place in kept:
            path.mkdir(mode=0o755, parents=True, exist_ok=True)
            mount("--bind", str(place), str(path))
            if closed(path) is not None:
                sys.exit(f"cannot run the tests as {USER}: {path} stays closed to others")


def main() -> None:
    """Become the user, and run the tests."""
    if os.geteuid() != 0:
        sys.exit("cannot become another user: only root can; run pytest instead")
    user = pwd.getpwnam(USER)
    interpreter = Path(sys.executable).resolve()
    open_up({HERE, Path(sys.base_prefix).resolve(), interpreter.parent.parent})
    home = Path(tempfile.mkdtemp(prefix="orch-user-", dir="/tmp"))
    os.chown(home, user.pw_uid, user.pw_gid)
    environment = {
        "PATH": os.environ["PATH"],
        "LANG": "C.UTF-8",
        "HOME": str(home),
        "USER": USER,
        "LOGNAME": USER,
        "TMPDIR": str(home),
        "HYPOTHESIS_STORAGE_DIRECTORY": str(home / "hypothesis"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "COVERAGE_FILE": os.environ.get("COVERAGE_FILE", str(home / "coverage")),
    }
    os.initgroups(USER, user.pw_gid)
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *sys.argv[1:]]
    os.chdir(HERE)
    try:
        subprocess.run([sys.executable, "-c", "import orchestrator"], check=True, env=environment)
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"cannot run the tests as {USER}: {error}")
    os.execve(sys.executable, argv, environment)


if __name__ == "__main__":
    main()
