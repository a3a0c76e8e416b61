"""Bringing a run's input file: a copy of a local one, or what a server has.

    results/in.dat               below the directory of the topology
    file:///data/in.dat          absolute, as /data/in.dat
    http://…  https://…          the last part of the path is its name in the run's directory
    ftp://[user:password@]…      likewise

A file is there whole or not at all. Whatever else there is to fetch from is for a hook.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any
from urllib.parse import SplitResult, unquote, urlsplit

from orchestrator import files
from orchestrator.component.errors import SetupError
from orchestrator.model.units import Seconds

TIMEOUT: Seconds = 30.0
"""For how long a server may be silent."""

_SCHEMES = ("http", "https", "ftp")
_CHUNK = 1 << 16


def bring(source: str, base: Path, run_dir: Path) -> Path:
    """Bring a file into a run's directory, and return where it is.

    One that is there already, because a hook or an earlier attempt has brought it, stays.

    Raises:
        SetupError: It cannot be brought; says from where, never with a password.
    """
    url = urlsplit(source)
    if "://" not in source or url.scheme == "file":
        path = Path(unquote(url.path)) if url.scheme == "file" else Path(source)
        return _copied(path, base, run_dir)
    target = run_dir / Path(unquote(url.path)).name
    if not url.path.strip("/"):
        raise SetupError(f"cannot bring the input file {_shown(url)}: it names no file")
    return target if target.exists() else fetch(source, target)


def fetch(source: str, target: str | os.PathLike[str], timeout: Seconds = TIMEOUT) -> Path:
    """Download a file by http, https or ftp.

    Args:
        source: Its URL.
        target: Where to put it; whole or not at all.
        timeout: How long the server may be silent, in seconds.

    Raises:
        SetupError: It cannot be brought; says from where, never with a password.
    """
    url = urlsplit(source)
    path = Path(target)
    partial = path.with_name(f".{path.name}.part")
    if url.scheme not in _SCHEMES:
        raise SetupError(
            f"cannot bring {_shown(url)}: nothing is known of {url.scheme}://; there are "
            f"{', '.join(_SCHEMES)} and local paths, and prepare_input_file for all others"
        )
    try:
        with partial.open("wb") as file:
            (_by_ftp if url.scheme == "ftp" else _by_http)(url, source, file, timeout)
        partial.rename(path)
    except _failures() as error:
        said = str(error) or type(error).__name__
        raise SetupError(f"cannot bring {_shown(url)}: {said}") from None
    finally:
        partial.unlink(missing_ok=True)
    return path


def _copied(path: Path, base: Path, run_dir: Path) -> Path:
    source, target = base / path, run_dir / path.name
    if not source.exists() and target.exists():
        return target
    if source.resolve() == target.resolve():
        return target
    partial = target.with_name(f".{target.name}.part")
    try:
        if source.is_dir():
            importlib.import_module("shutil").copytree(
                source, target, symlinks=True, dirs_exist_ok=True
            )
        else:
            files.copy(source, partial)
            partial.rename(target)
    except FileNotFoundError:
        raise SetupError(
            f"cannot bring the input file {path}: there is no {source}; name another, "
            "or make it in prepare_input_file"
        ) from None
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise SetupError(f"cannot bring the input file {source}: {error}") from error
    return target


def _by_http(url: SplitResult, source: str, file: IO[bytes], timeout: Seconds) -> None:
    # Imported when something is fetched: they take longer than all the rest of a run's start.
    request = importlib.import_module("urllib.request")
    headers = {}
    if url.username is not None:
        encode = importlib.import_module("base64").b64encode
        given = f"{unquote(url.username)}:{unquote(url.password or '')}"
        headers["Authorization"] = f"Basic {encode(given.encode()).decode()}"
        source = _anonymous(url).geturl()
    asked = request.Request(source, headers=headers)
    try:
        answer = request.urlopen(asked, timeout=timeout)
    except importlib.import_module("urllib.error").HTTPError as error:
        with error:  # It holds the connection.
            raise OSError(str(error)) from None
    with answer:
        length = answer.headers.get("Content-Length")
        while piece := answer.read(_CHUNK):
            file.write(piece)
    if length is not None and int(length) != file.tell():
        raise OSError(f"only {file.tell()} of {length} bytes have come")


def _by_ftp(url: SplitResult, source: str, file: IO[bytes], timeout: Seconds) -> None:
    del source
    ftplib = importlib.import_module("ftplib")
    with ftplib.FTP(timeout=timeout) as server:
        server.connect(url.hostname or "", url.port or 21)
        server.login(unquote(url.username or "anonymous"), unquote(url.password or ""))
        write: Callable[[bytes], Any] = file.write
        server.retrbinary(f"RETR {unquote(url.path).lstrip('/')}", write, _CHUNK)


def _failures() -> tuple[type[Exception], ...]:
    """Return what a download may raise; asked for when something was raised."""
    http, ftp = importlib.import_module("http.client"), importlib.import_module("ftplib")
    return (OSError, EOFError, ValueError, http.HTTPException, ftp.Error)


def _anonymous(url: SplitResult) -> SplitResult:
    return url._replace(netloc=url.netloc.rpartition("@")[2])


def _shown(url: SplitResult) -> str:
    """Return a URL without what may be secret in it."""
    return _anonymous(url)._replace(query="", fragment="").geturl()
