"""The small parser of common command lines: no typer, no surprise.

It understands the plain forms only (`--flag`, `--option value`, `--option=value`, `-o value`,
words) and gives up, with None, on whatever is unusual: help, an unknown or repeated option,
joined short flags, a value that looks like an option, too few or too many words. Then typer
parses the same line by the same table, so that errors and help come from one place.
"""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.cli import commands
from orchestrator.cli.commands import Command, Kind, Parameter
from orchestrator.cli.invocation import SET, Invocation, Text


def parse(argv: Sequence[str]) -> Invocation | None:
    """Return what `argv` says, or None when the full parser must look at it."""
    given: dict[str, Text] = {}
    start = _options(argv, 0, commands.SHARED, given, words=None)
    if start is None or start >= len(argv):
        return None
    command = commands.find(argv[start])
    if command is None or not command.quick:
        return None
    words: list[str] = []
    own: dict[str, Text] = {}
    end = _options(argv, start + 1, commands.options(command), own, words)
    if end is None or not _place(command, words, own):
        return None
    return Invocation(command.name, {**given, **own})


def _options(
    argv: Sequence[str],
    index: int,
    options: Sequence[Parameter],
    given: dict[str, Text],
    words: list[str] | None,
) -> int | None:
    """Collect options from `index` on, and words into `words`; stop at a word without it."""
    by_flag = {flag: parameter for parameter in options for flag in parameter.flags}
    while index < len(argv):
        text = argv[index]
        if not text:
            return None
        if text[0] != "-":
            if words is None:
                return index
            words.append(text)
            index += 1
            continue
        flag, equals, value = text.partition("=")
        parameter = by_flag.get(flag)
        if parameter is None or (equals and not flag.startswith("--")):
            return None
        index += 1
        if parameter.kind is Kind.FLAG:
            if equals:
                return None
            value = SET
        elif not equals:
            if index >= len(argv) or argv[index][:1] in ("", "-"):
                return None
            value = argv[index]
            index += 1
        if not _collect(parameter, value, given):
            return None
    return index


def _collect(parameter: Parameter, value: str, given: dict[str, Text]) -> bool:
    if parameter.multiple:
        before = given.get(parameter.name, ())
        given[parameter.name] = (*before, value)
        return True
    if parameter.name in given:
        return False
    given[parameter.name] = value
    return True


def _place(command: Command, words: list[str], given: dict[str, Text]) -> bool:
    """Give the words to the positional arguments; tell whether they fit."""
    for parameter in commands.arguments(command):
        if parameter.required and not words:
            return False
        if parameter.multiple:
            if words:
                given[parameter.name] = tuple(words)
            words = []
        elif words:
            given[parameter.name] = words.pop(0)
    return not words
