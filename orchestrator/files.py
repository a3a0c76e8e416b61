"""Files and directories: written whole or not at all, private where they must be.

The errors of the kernel become ours here: they name the path and what would help. The quick
path of the command line imports this module, so that it imports nothing heavy.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from msgspec import Struct

from orchestrator.errors import OrchestratorError

MANIFEST = ".orch-build.json"
"""Lists what `write_tree` wrote, so that it can remove what is no longer wanted."""

DIRECTORY_MODE = 0o750

_PIECE = 1 << 18

_HELP = {
    errno.ENOSPC: "free some space and try again; the file that was there is unchanged",
    errno.EDQUOT: "the quota is used up; the file that was there is unchanged",
    errno.EACCES: "is it owned by another user?",
    errno.EPERM: "is it owned by another user?",
    errno.EROFS: "choose another base_dir",
    errno.ENOTDIR: "a file stands where a directory must be",
    errno.EISDIR: "a directory stands where the file must be",
    errno.EEXIST: "a file stands where a directory must be",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
}


class File(Protocol):
    """A file to write: its path within a root, its text and its mode."""

    @property
    def path(self) -> str:
        """Where it goes, below the root."""

    @property
    def text(self) -> str:
        """What it holds."""

    @property
    def mode(self) -> int:
        """Who may do what."""


class FileError(OrchestratorError):
    """A file or a directory could not be used. `path` is which, `errno` the kernel's reason."""

    def __init__(self, action: str, path: Path, error: OSError) -> None:
        reason = (error.strerror or str(error)).lower()
        help_ = _HELP.get(error.errno or 0, "")
        super().__init__(f"cannot {action} {path}: {reason}" + (f"; {help_}" if help_ else ""))
        self.path = path
        self.errno = error.errno


class Changes(Struct, frozen=True):
    """What `write_tree` did, as paths within the root."""

    written: tuple[str, ...]
    unchanged: tuple[str, ...]
    removed: tuple[str, ...]


class Difference(Struct, frozen=True):
    """How a file differs from what a build would write: missing, changed or stale."""

    path: str
    kind: str
    diff: str


def private_dir(path: Path) -> Path:
    """Make a directory that only its owner can enter, its parents too where they are missing.

    Raises:
        OrchestratorError: It cannot be made, or it is another's, or others can enter it.
    """
    missing = [one for one in (path, *path.parents) if not _exists(one)]
    try:
        for one in reversed(missing):
            with suppress(FileExistsError):
                one.mkdir(mode=0o700)
        found = path.lstat()
    except OSError as error:
        raise FileError("make the directory", path, error) from error
    if not stat.S_ISDIR(found.st_mode):
        raise OrchestratorError(f"cannot use {path}: it is no directory; remove it")
    # The owner of a directory can put another in the place of any that lies in it.
    for one in (path, path.parent, path.parent.parent):
        owner = one.stat().st_uid
        if owner != os.getuid() and (one is path or owner != 0):
            raise OrchestratorError(
                f"cannot use {path}: {one} belongs to user {owner}, not to {os.getuid()}; "
                "set XDG_RUNTIME_DIR to a directory of your own"
            )
    if stat.S_IMODE(found.st_mode) & 0o077:
        raise OrchestratorError(
            f"cannot use {path}: others can enter it (mode {stat.S_IMODE(found.st_mode):04o}); "
            f"chmod 700 it"
        )
    return path


def make_dir(path: Path, mode: int = DIRECTORY_MODE) -> Path:
    """Make a directory and its missing parents, all with this mode.

    Raises:
        OrchestratorError: It cannot be made.
    """
    try:
        if not path.is_dir():
            # Its own `parents` would make them as the umask has it.
            for one in reversed([one for one in (path, *path.parents) if not _exists(one)]):
                one.mkdir(mode=mode, exist_ok=True)
            path.mkdir(mode=mode, exist_ok=True)
    except OSError as error:
        raise FileError("make the directory", path, error) from error
    return path


def write_atomic(path: Path | str, data: bytes, mode: int = 0o640) -> None:
    """Write a file so that readers see the old bytes or the new, never a part.

    Not synced to the disk: after a power failure a build is repeated, it is not repaired.

    Raises:
        OrchestratorError: It cannot be written; what was there is unchanged.
    """
    temporary = f"{path}.{os.getpid()}.new"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
        try:
            os.fchmod(descriptor, mode)
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
        finally:
            os.close(descriptor)
        os.rename(temporary, path)  # noqa: PTH104 - hot path
    except OSError as error:
        with suppress(OSError):
            Path(temporary).unlink()
        raise FileError("write", Path(path), error) from error


def write_tree(root: Path, files: Iterable[File]) -> Changes:
    """Make the files under `root` be these: write what differs, remove what it wrote before.

    Files that are as wanted are not touched, so that their times tell of real changes. Files
    that an earlier call did not write are never removed.

    Raises:
        OrchestratorError: Something cannot be written or removed.
    """
    wanted = {file.path: file for file in files}
    make_dir(root)
    base = str(root)
    before = _manifest(root)
    made: set[str] = set()
    written: list[str] = []
    unchanged: list[str] = []
    for path, file in wanted.items():
        data = file.text.encode()
        target = f"{base}/{path}"
        if _read(target, file.mode) == data:
            unchanged.append(path)
            continue
        parent = path.rpartition("/")[0]
        if parent and parent not in made:
            make_dir(root / parent)
            made.add(parent)
        write_atomic(target, data, file.mode)
        written.append(path)
    removed = [path for path in before if path not in wanted and _remove(root, path)]
    listing = json.dumps({"format": 1, "files": sorted(wanted)}, indent=0).encode() + b"\n"
    if _read(f"{root}/{MANIFEST}", 0o640) != listing:
        write_atomic(root / MANIFEST, listing)
    return Changes(tuple(written), tuple(unchanged), tuple(removed))


def write_files(root: Path, files: Iterable[File]) -> None:
    """Write some of the files of a tree ahead of `write_tree`, which must follow.

    Raises:
        OrchestratorError: Something cannot be written.
    """
    made: set[str] = set()
    for file in files:
        parent = file.path.rpartition("/")[0]
        if parent not in made:
            make_dir(root / parent)
            made.add(parent)
        data = file.text.encode()
        if _read(f"{root}/{file.path}", file.mode) != data:
            write_atomic(f"{root}/{file.path}", data, file.mode)


def compare_tree(root: Path, files: Iterable[File]) -> tuple[Difference, ...]:
    """Return how the tree under `root` differs from these files; changes nothing.

    Raises:
        OrchestratorError: A file is there and cannot be read.
    """
    found: list[Difference] = []
    wanted = {file.path: file.text for file in files}
    for path, text in wanted.items():
        data = _read(f"{root}/{path}")
        if data is None:
            found.append(Difference(path, "missing", _diff(path, "", text)))
        elif data != text.encode():
            found.append(
                Difference(path, "changed", _diff(path, data.decode(errors="replace"), text))
            )
    for path in _manifest(root):
        data = _read(f"{root}/{path}") if path not in wanted else None
        if data is not None:
            found.append(Difference(path, "stale", _diff(path, data.decode(errors="replace"), "")))
    return tuple(found)


def read_note(path: Path) -> str:
    """Return what the owner of a lock wrote into it; nothing when there is no such file."""
    return (_read(str(path)) or b"").decode(errors="replace")


def _exists(path: Path) -> bool:
    try:
        os.lstat(path)
    except OSError:
        return False
    return True


def _read(path: str, mode: int | None = None) -> bytes | None:
    """Return a file's bytes; None when it is not there, or when it has not the mode."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise FileError("read", Path(path), error) from error
    try:
        found = os.fstat(descriptor)
        if mode is not None and stat.S_IMODE(found.st_mode) != mode:
            return None
        data = os.read(descriptor, found.st_size + 1)
        while len(data) < found.st_size and (more := os.read(descriptor, found.st_size)):
            data += more
    except OSError as error:
        raise FileError("read", Path(path), error) from error
    finally:
        os.close(descriptor)
    return data


def _manifest(root: Path) -> tuple[str, ...]:
    """Return what an earlier build wrote; a manifest that cannot be read lists nothing."""
    data = _read(f"{root}/{MANIFEST}")
    try:
        listing: Any = json.loads(data or b"{}")
        names = [name for name in listing.get("files", ()) if isinstance(name, str)]
    except (ValueError, AttributeError, TypeError):
        return ()
    return tuple(name for name in names if _is_inside(name))


def _is_inside(name: str) -> bool:
    return bool(name) and not name.startswith("/") and ".." not in name.split("/")


def _remove(root: Path, name: str) -> bool:
    """Remove a file and the directories that it leaves empty; tell whether it was there."""
    path = root / name
    try:
        path.unlink()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise FileError("remove", path, error) from error
    for parent in path.parents:
        if parent == root:
            break
        try:
            parent.rmdir()
        except OSError:
            break
    return True


def _diff(path: str, before: str, after: str) -> str:
    import difflib  # noqa: PLC0415  # only where there is a difference

    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(), f"built/{path}", f"wanted/{path}", lineterm=""
    )
    return "\n".join(lines)


class HolesUnsupported(OrchestratorError):
    """The file system cannot give back the middle of a file."""


def copy(source: Path, target: Path) -> None:
    """Copy a file, or what a link leads to, with its mode and times, as `shutil.copy2` does.

    That imports the libraries of all archives first. Extended attributes are not copied.

    Raises:
        OSError: It cannot be copied; what was written of it stays.
    """
    status = source.stat()
    if stat.S_ISFIFO(status.st_mode):
        raise OSError(errno.EINVAL, "it is a named pipe", str(source))
    with source.open("rb") as given, target.open("wb") as new:
        while piece := given.read(_PIECE):
            new.write(piece)
        new.flush()
        os.fchmod(new.fileno(), stat.S_IMODE(status.st_mode))
        os.utime(new.fileno(), ns=(status.st_atime_ns, status.st_mtime_ns))


def copy_range(source: int, begin: int, end: int, target: Path) -> None:
    """Copy the bytes `begin` to `end` of an open file into a new one, whole or not at all.

    Raises:
        OSError: It cannot be written; nothing of it is left.
    """
    temporary = target.with_name(f".{target.name}.new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    fd = os.open(temporary, flags, 0o640)
    try:
        # Whatever the process's umask is at this moment: a start may have lent it out.
        os.fchmod(fd, 0o640)
        offset = begin
        while offset < end:
            sent = os.sendfile(fd, source, offset, end - offset)
            if sent == 0:
                break  # Somebody cut the source off meanwhile; what there was is copied.
            offset += sent
        temporary.replace(target)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    finally:
        os.close(fd)


def punch_hole(fd: int, offset: int, length: int) -> None:
    """Give a range of a file back to the file system; size and offsets stay (fallocate(2)).

    Raises:
        HolesUnsupported: The file system, or the system, cannot do it.
        OSError: It could, and failed.
    """
    import ctypes  # noqa: PLC0415 - only rotation needs it

    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "fallocate"):
        raise HolesUnsupported("this system has no fallocate")
    fallocate = libc.fallocate
    fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    keep_size, punch = 0x01, 0x02
    if fallocate(fd, keep_size | punch, offset, length) == 0:
        return
    number = ctypes.get_errno()
    if number in (errno.EOPNOTSUPP, errno.ENOSYS):
        raise HolesUnsupported("the file system cannot make holes")
    raise OSError(number, os.strerror(number))
