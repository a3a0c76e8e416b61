"""The full parser: a typer application made from the table of commands.

It parses and explains, and runs nothing: a line that it accepts becomes the same
`Invocation` that the quick parser makes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import typer

from orchestrator.cli import commands
from orchestrator.cli.commands import Command, Kind, Parameter
from orchestrator.cli.invocation import SET, Invocation, Text

_WIDTH = 99
"""Of help pages: the same on every terminal, for golden files and for documents."""


def parse(argv: Sequence[str]) -> Invocation | int:
    """Return what `argv` says, or the exit code after help or a mistake was printed."""
    parsed: list[Invocation] = []
    application = _application(parsed)
    try:
        application(args=list(argv) or ["--help"], prog_name="orch")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
        return parsed[0] if parsed and code == 0 else code
    return parsed[0]


def _application(parsed: list[Invocation]) -> typer.Typer:
    """Return the application; what it parses goes into `parsed`."""
    given: dict[str, Text] = {}
    application = typer.Typer(
        name="orch",
        help="Run systems of wired components from one topology file.",
        add_completion=False,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"], "terminal_width": _WIDTH},
    )

    def globally(**values: object) -> None:
        given.update(_texts(commands.SHARED, values))

    application.callback()(_signed(globally, commands.SHARED))
    for command in commands.COMMANDS:
        _add(application, command, given, parsed)
    return application


def _add(
    application: typer.Typer,
    command: Command,
    given: dict[str, Text],
    parsed: list[Invocation],
) -> None:
    parameters = (*commands.arguments(command), *commands.options(command))

    def accept(**values: object) -> None:
        parsed.append(Invocation(command.name, {**given, **_texts(parameters, values)}))

    settings: dict[str, Any] = {"terminal_width": _WIDTH}
    if command.rest:
        settings["ignore_unknown_options"] = True
    if command.literal:
        settings["allow_interspersed_args"] = False
    application.command(command.name, help=command.help, context_settings=settings)(
        _signed(accept, parameters)
    )


def _signed(function: Callable[..., None], parameters: Sequence[Parameter]) -> Callable[..., None]:
    """Give `function` the signature that typer reads the parameters from."""
    signature = [
        inspect.Parameter(
            parameter.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if _is_required(parameter) else _absent(parameter),
            annotation=_annotation(parameter),
        )
        for parameter in parameters
    ]
    function.__signature__ = inspect.Signature(signature)  # type: ignore[attr-defined]
    function.__annotations__ = {parameter.name: parameter.annotation for parameter in signature}
    return function


def _is_required(parameter: Parameter) -> bool:
    return parameter.required and not parameter.flags


def _absent(parameter: Parameter) -> bool | None:
    return False if parameter.kind is Kind.FLAG else None


def _annotation(parameter: Parameter) -> object:
    text = parameter.help
    if parameter.default is not None:
        text = f"{text[:-1]} (default: {parameter.default})."
    if parameter.flags:
        if any(parameter.help is shared.help for shared in commands.SHARED):
            text += f" [ORCH_{parameter.name.upper()}]"
        about = typer.Option(
            *parameter.flags, help=text, metavar=parameter.metavar or None, show_default=False
        )
    else:
        about = typer.Argument(help=text, metavar=parameter.metavar, show_default=False)
    if parameter.kind is Kind.FLAG:
        return Annotated[bool, about]
    if _is_required(parameter):
        return Annotated[list[str], about] if parameter.multiple else Annotated[str, about]
    if parameter.multiple:
        return Annotated[list[str] | None, about]
    return Annotated[str | None, about]


def _texts(parameters: Sequence[Parameter], values: Mapping[str, object]) -> dict[str, Text]:
    texts: dict[str, Text] = {}
    for parameter in parameters:
        value = values.get(parameter.name)
        if isinstance(value, str):
            texts[parameter.name] = value
        elif isinstance(value, (list, tuple)) and value:
            texts[parameter.name] = tuple(value)
        elif value is True:
            texts[parameter.name] = SET
    return texts
