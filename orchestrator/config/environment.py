"""The environment of a component: what it inherits, and the lines of its env files."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping

from msgspec import Struct

from orchestrator.config.source import Span

INHERITED = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TZ", "TMPDIR")
"""What a component inherits when it does not say."""

RESERVED = (
    "LISTEN_FDNAMES",
    "LISTEN_FDS",
    "LISTEN_PID",
    "NOTIFY_SOCKET",
    "ORCH_CONTROL",
    "ORCH_INSTANCE",
    "ORCH_LOG_LEVEL",
)
"""What orch itself tells a component."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}


class BadLine(Struct, frozen=True):
    """A line of an env file that says nothing."""

    message: str
    span: Span


def inherited(caller: Mapping[str, str], which: bool | Iterable[str]) -> dict[str, str]:
    """Return what is passed on of the caller's environment: all, nothing, or these names."""
    if which is True:
        return {name: value for name, value in caller.items() if name not in RESERVED}
    if which is False:
        return {}
    return {name: caller[name] for name in which if name in caller}


def is_own_user(user: str) -> bool:
    """Tell whether a name or number means the user that we are; an unknown one may."""
    import pwd  # noqa: PLC0415 - only for components that name a user

    if user.isdecimal():
        return int(user) == os.geteuid()
    try:
        return pwd.getpwnam(user).pw_uid == os.geteuid()
    except KeyError:
        return True


def parse_file(text: str) -> tuple[dict[str, str], tuple[BadLine, ...]]:
    r"""Return the variables of an env file, and the lines that are none.

    Lines are `NAME=value`, with `export ` allowed before. Single quotes keep everything as
    it is, double quotes know \n, \t, \" and \\; both may span lines. Unquoted values end
    at ` #`.
    """
    variables: dict[str, str] = {}
    bad: list[BadLine] = []
    at = 0
    while at < len(text):
        end = text.find("\n", at)
        end = len(text) if end < 0 else end
        line = text[at:end].rstrip("\r")
        content = line.strip()
        start = at
        at = end + 1
        if not content or content.startswith("#"):
            continue
        begin = start + len(line) - len(line.lstrip())
        declared = content.removeprefix("export ").lstrip()
        name, equals, value = declared.partition("=")
        name = name.rstrip()
        span = Span(begin, begin + len(content))
        if not equals:
            bad.append(BadLine(f"{content!r} is no NAME=value", span))
            continue
        if not _NAME.fullmatch(name):
            bad.append(BadLine(f"{name!r} cannot name a variable", span))
            continue
        value = value.lstrip()
        if value[:1] not in {"'", '"'}:
            variables[name] = re.split(r"\s#", value, maxsplit=1)[0].rstrip()
            continue
        first = text.index(value[0], begin + content.index("="))
        quoted = _quoted(text, first)
        if quoted is None:
            bad.append(
                BadLine(f"the value of {name} begins with {value[0]} and does not end", span)
            )
            continue
        variables[name], after = quoted
        rest = text.find("\n", after)
        at = len(text) if rest < 0 else rest + 1
        trailing = text[after:at].strip()
        if trailing and not trailing.startswith("#"):
            bad.append(BadLine(f"{trailing!r} stands after the value of {name}", span))
    return variables, tuple(bad)


def _quoted(text: str, start: int) -> tuple[str, int] | None:
    """Return the value that begins with the quote at `start`, and where it ends."""
    quote = text[start]
    if quote == "'":
        end = text.find("'", start + 1)
        return (text[start + 1 : end], end + 1) if end >= 0 else None
    value: list[str] = []
    at = start + 1
    while at < len(text):
        character = text[at]
        if character == '"':
            return "".join(value), at + 1
        if character == "\\" and at + 1 < len(text):
            escaped = text[at + 1]
            known = escaped in _ESCAPES or escaped in {'"', "\\", "$"}
            value.append(_ESCAPES.get(escaped, escaped) if known else "\\" + escaped)
            at += 2
            continue
        value.append(character)
        at += 1
    return None
