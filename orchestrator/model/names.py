"""Names of systems, services, components and instances, and what a user's word selects.

service.component        a component, or its only instance
service.component@2      one instance; instances count from 1
service                  all components of a service
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from orchestrator.errors import UnknownName
from orchestrator.model import digests

NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
"""What systems, services and components may be called; at most `LONGEST` characters."""

LONGEST = 48

RUN_ID = re.compile(r"[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?")
"""What the run of a job may be called."""

SECRET = re.compile(r"\$\{settings\.([A-Za-z_][A-Za-z0-9_]*)\}")
"""How a lock and built files name a secret, whose value they do not hold."""

SALTS = 36**4
"""How many runs may be named in one millisecond and still be told apart."""

_SOCKET_PATH = 107
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def is_name(text: str) -> bool:
    """Tell whether `text` may name a system, a service or a component."""
    return len(text) <= LONGEST and NAME.fullmatch(text) is not None


def instance_name(service: str, component: str, instance: int, replicas: int) -> str:
    """Return the name of an instance; `@1` is left out when it is the only one."""
    base = f"{service}.{component}"
    return base if replicas == 1 else f"{base}@{instance}"


def run_id(milliseconds: int, salt: int) -> str:
    """Return the name of a run that is submitted now: twelve characters, in the order of time.

    Args:
        milliseconds: The time of day, since 1970; until 2059 the names sort by it.
        salt: A random number below `SALTS`.
    """
    return f"{_base36(milliseconds):0>8}{_base36(salt):0>4}"


def _base36(number: int) -> str:
    digits = ""
    while number:
        number, digit = divmod(number, len(_DIGITS))
        digits = _DIGITS[digit] + digits
    return digits


def file_stem(service: str, component: str, instance: int) -> str:
    """Return the stem of an instance's files and directories.

    The first instance never has a suffix, so that scaling from one to two moves no file.
    """
    return f"{service}-{component}" if instance == 1 else f"{service}-{component}@{instance}"


def link_path(runtime_dir: str, stem: str) -> str:
    """Return the path of an instance's control link, given the stem of its files.

    The path of a Unix socket has at most 107 bytes: a stem that is too long becomes its digest.
    """
    path = f"{runtime_dir}/link/{stem}"
    if len(path.encode()) <= _SOCKET_PATH:
        return path
    return f"{runtime_dir}/link/{digests.sha256(stem.encode()).hex()[:16]}"


def split(name: str) -> tuple[str, str, int]:
    """Return service, component ("" for all) and instance (0 for all) of a user's word."""
    base, _, number = name.partition("@")
    service, _, component = base.partition(".")
    return service, component, int(number) if number.isdecimal() else 0


def select(words: Sequence[str], known: Iterable[str]) -> tuple[str, ...]:
    """Return the instance names among `known` that `words` mean, in the order of `known`.

    No words mean all of them.

    Raises:
        UnknownName: Words select nothing, all of which are named; nothing is done for the others.
    """
    names = tuple(known)
    if not words:
        return names
    wanted: set[str] = set()
    unknown: dict[str, tuple[str, ...]] = {}
    for word in words:
        chosen = matching(word, names)
        if not chosen:
            unknown[word] = near(word, names)
        wanted.update(chosen)
    if unknown:
        (word, like), *others = unknown.items()
        raise UnknownName(word, like, others)
    return tuple(name for name in names if name in wanted)


def matching(word: str, names: Iterable[str]) -> tuple[str, ...]:
    """Return those of `names` that `word` means; none is no error."""
    return tuple(name for name in names if _matches(word, name))


def near(word: str, names: Iterable[str]) -> tuple[str, ...]:
    """Return up to three of `names`, or of their services, that look like `word`."""
    candidates: dict[str, None] = {}
    for name in names:
        candidates[name] = None
        candidates[name.partition("@")[0]] = None
        candidates[name.partition(".")[0]] = None
    return _alike(word, candidates, 3)


def did_you_mean(word: str, names: Iterable[object]) -> str:
    """Return `did you mean 'x'?` for the nearest of `names`, or nothing when none is near."""
    found = _alike(word, map(str, names), 1)
    return f"did you mean {found[0]!r}?" if found else ""


def _alike(word: str, names: Iterable[str], most: int) -> tuple[str, ...]:
    import difflib  # noqa: PLC0415 - dear for a short command, and only mistakes need it

    return tuple(difflib.get_close_matches(word, list(names), n=most, cutoff=0.6))


def _matches(word: str, name: str) -> bool:
    if word == name:
        return True
    base = name.partition("@")[0]
    if word == base or word == base.partition(".")[0]:
        return True
    # `web.api@1` also means the only instance, which is written without its number.
    return word == f"{name}@1" and "@" not in name
