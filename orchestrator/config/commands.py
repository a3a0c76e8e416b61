"""Commands as the words they are run with: split as a shell splits, without a shell."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path
from typing import Any

from msgspec import Struct, field

from orchestrator.config.interpolate import Template
from orchestrator.config.report import Place, Report

_SHELL_WORDS = frozenset({"|", "||", "&&", ";", ">", "<", ">>", "&", "2>&1"})


class Programs(Struct):
    """Remembers which programs were found: a thousand components look for few."""

    found: Report
    known: dict[tuple[str, str], bool] = field(default_factory=dict)

    def look_for(self, program: str, path: str, place: Place) -> None:
        """Warn of a program that is not there now; it may appear before the start."""
        key = (program, path)
        if key not in self.known:
            self.known[key] = _is_there(program, path)
        if self.known[key]:
            return
        message = f"the program {program!r} is not on the component's PATH"
        if "/" in program:
            said = "is not executable" if Path(program).exists() else "is not there"
            message = f"the program {program!r} {said}"
        self.found.warn("ORC233", message, place)


def _is_there(program: str, path: str) -> bool:
    if "/" in program:
        return os.access(program, os.X_OK) and not os.path.isdir(program)  # noqa: PTH112 - of each
    import shutil  # noqa: PLC0415 - a third of what the other imports of a reading take

    return shutil.which(program, path=path) is not None


def words(raw: Any, place: Place, found: Report) -> tuple[str, ...]:
    """Return the words of a text, split as a shell does, or of a list; templates stay.

    What has no words is reported, and gives none.
    """
    if isinstance(raw, list):
        split = tuple(raw)
    elif not any(mark in raw for mark in "'\"\\"):
        split = tuple(_as_template(word, raw) for word in raw.split())
    else:
        try:
            split = tuple(_as_template(word, raw) for word in shlex.split(raw))
        except ValueError as error:
            message = f"cannot split the command: {str(error).lower()}"
            hint = "close the quotes, or write a list of words"
            found.error("ORC234", message, place, hint=hint)
            return ()
    if not split or not split[0].strip():
        found.error("ORC234", "the command has no program", place)
        return ()
    if any("\0" in word for word in split):
        found.error("ORC234", "a word of a command cannot hold a NUL", place)
        return ()
    return split


def warn_of_shell(split: tuple[str, ...], place: Place, found: Report) -> None:
    """Warn of words that only a shell would understand."""
    for word in split:
        if word in _SHELL_WORDS or re.fullmatch(r"\$[A-Za-z_]\w*", word):
            message = f"{word!r} is passed to the program as it is: no shell reads the command"
            found.warn("ORC235", message, place.of(word), hint="add `shell: true`")
            return


def located(split: tuple[str, ...], directory: Path) -> tuple[str, ...]:
    """Return the words with the program's path made absolute, when it has a slash."""
    if split and "/" in split[0] and not isinstance(split[0], Template):
        # Of each command, and most paths are absolute.
        is_absolute = split[0].startswith("/")
        path = split[0] if is_absolute else os.path.join(directory, split[0])  # noqa: PTH118
        return (os.path.normpath(path), *split[1:])
    return split


def _as_template(word: str, whole: str) -> str:
    return Template(word) if isinstance(whole, Template) and "$" in word else word
