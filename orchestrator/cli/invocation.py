"""What a command line says: the value that both parsers make, and its conversion.

Parsers collect texts only. `read` turns them into typed values, lays the environment's
twins and the defaults under them, and is the one place that refuses a value, so that a
refusal reads the same whichever parser came first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, cast

from orchestrator.cli import commands
from orchestrator.cli.commands import Command, Kind, Parameter
from orchestrator.errors import UsageError
from orchestrator.model import units

Text = str | tuple[str, ...]
"""What was written for a parameter; a flag that is set has the text `1`."""

ALL_LINES = -1
"""What `all` means where lines are counted; None is left to mean that nothing was said."""

SET = "1"
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"", "0", "false", "no", "off"})


class Invocation(NamedTuple):
    """A parsed command line: the verb, and by name what was written for its parameters."""

    command: str
    given: Mapping[str, Text]


class Options(NamedTuple):
    """The global options."""

    file: str | None = None
    project: str | None = None
    json: bool = False
    quiet: bool = False
    verbose: bool = False
    color: str = "auto"


def read(invocation: Invocation, environment: Mapping[str, str]) -> tuple[Options, dict[str, Any]]:
    """Return the global options and the typed values of the command's own parameters.

    Raises:
        UsageError: A value is not what its parameter takes.
    """
    command = commands.find(invocation.command)
    if command is None:
        raise UsageError(f"unknown command {invocation.command!r}")
    given = invocation.given
    shared: dict[str, Any] = {
        parameter.name: _value(parameter, given.get(parameter.name, _twin(parameter, environment)))
        for parameter in commands.SHARED
    }
    own = {
        parameter.name: _value(parameter, given.get(parameter.name))
        for parameter in command.parameters
    }
    return Options(**shared), own


def _twin(parameter: Parameter, environment: Mapping[str, str]) -> str | None:
    name = f"ORCH_{parameter.name.upper()}"
    text = environment.get(name)
    if text is None or parameter.kind is not Kind.FLAG:
        return text or None
    if text.lower() in _TRUE:
        return SET
    if text.lower() in _FALSE:
        return None
    raise UsageError(f"cannot use {name}={text!r}: write 1 or 0")


def _value(parameter: Parameter, text: Text | None) -> object:
    if parameter.kind is Kind.FLAG:
        return text == SET
    if parameter.multiple:
        texts = text if isinstance(text, tuple) else ()
        if parameter.kind in (Kind.PAIR, Kind.COUNT):
            pairs = (_convert(parameter, one) for one in texts)
            return dict(cast("Iterator[tuple[str, object]]", pairs))
        return tuple(_convert(parameter, one) for one in texts)
    if text is None:
        text = parameter.default
    return None if text is None else _convert(parameter, str(text))


def _convert(parameter: Parameter, text: str) -> object:
    convert = _CONVERSIONS.get(parameter.kind)
    try:
        return text if convert is None else convert(parameter, text)
    except ValueError as problem:
        label = parameter.flags[-1] if parameter.flags else parameter.metavar
        raise UsageError(f"cannot use {text!r} for {label}: {problem}") from problem


def _choice(parameter: Parameter, text: str) -> str:
    if text in parameter.choices:
        return text
    raise ValueError(
        f"choose one of {', '.join(parameter.choices)}{_near(text, parameter.choices)}"
    )


def _duration(_: Parameter, text: str) -> units.Seconds:
    return units.parse_duration(text)


def _lines(_: Parameter, text: str) -> int:
    if text == "all":
        return ALL_LINES
    if text.isdecimal():
        return int(text)
    raise ValueError("write a number, or all")


def _number(_: Parameter, text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise ValueError("write a number from 1 on")
    return int(text)


def _integer(_: Parameter, text: str) -> int:
    try:
        return int(text)
    except ValueError as problem:
        raise ValueError("write a whole number") from problem


def _signal(_: Parameter, text: str) -> str:
    import signal  # noqa: PLC0415 - only `kill` names signals

    known = {member.name[3:]: member.value for member in signal.Signals}
    name = text.upper().removeprefix("SIG")
    if name in known:
        return name
    if text.isdecimal():
        numbered = next((name for name, number in known.items() if number == int(text)), None)
        if numbered is not None:
            return numbered
        raise ValueError("no signal has this number")
    raise ValueError(f"no signal has this name{_near(name, known)}")


def _level(_: Parameter, text: str) -> str:
    import logging  # noqa: PLC0415 - only `run` names levels

    if text.isdecimal() or text.upper() in logging.getLevelNamesMapping():
        return text
    raise ValueError(f"choose one of {', '.join(_LEVELS)}, or a number")


def _pattern(_: Parameter, text: str) -> re.Pattern[bytes]:
    try:
        return re.compile(text.encode("utf-8", "surrogateescape"))
    except re.error as problem:
        raise ValueError(f"it is no regular expression: {problem}") from problem


def _pair(_: Parameter, text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise ValueError("write NAME=VALUE")
    return name, value


def _count(_: Parameter, text: str) -> tuple[str, int]:
    name, _equals, number = text.partition("=")
    if not name or not number.isdecimal():
        raise ValueError("write NAME=COUNT, as market.engine=3")
    return name, int(number)


_CONVERSIONS: Mapping[Kind, Callable[[Parameter, str], object]] = {
    Kind.CHOICE: _choice,
    Kind.DURATION: _duration,
    Kind.LINES: _lines,
    Kind.SIGNAL: _signal,
    Kind.LEVEL: _level,
    Kind.PATTERN: _pattern,
    Kind.PAIR: _pair,
    Kind.COUNT: _count,
    Kind.NUMBER: _number,
    Kind.INTEGER: _integer,
}


def _near(text: str, known: Mapping[str, object] | tuple[str, ...]) -> str:
    import difflib  # noqa: PLC0415 - only a mistake needs it

    near = difflib.get_close_matches(text, known, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def rest_pairs(texts: tuple[str, ...]) -> dict[str, str]:
    """Return what `--name value` and `--name=value` say; `run` hands these to the component.

    Raises:
        UsageError: A name has no value, or a value no name.
    """
    pairs: dict[str, str] = {}
    queue = iter(texts)
    for text in queue:
        if not text.startswith("--") or len(text) == 2:
            raise UsageError(f"cannot use {text!r}: write configuration as --name value")
        name, equals, value = text[2:].partition("=")
        if not equals:
            following = next(queue, None)
            if following is None:
                raise UsageError(f"cannot use {text!r}: it has no value")
            value = following
        pairs[name.replace("-", "_")] = value
    return pairs


__all__ = ["SET", "Command", "Invocation", "Options", "Text", "read", "rest_pairs"]
