"""From arguments to exit code: parse, call the verb, and turn every end into one line.

An error of ours is `orch: …` on standard error with its own exit code. A reader that went
away (`orch logs | head`) ends the command as SIGPIPE would, silently.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

from orchestrator.cli import commands, invocation, quick
from orchestrator.cli.invocation import Invocation
from orchestrator.cli.session import Session
from orchestrator.errors import ExitCode, OrchestratorError, TopologyError, UsageError

_BROKEN_PIPE = 128 + 13
"""As a program ends that SIGPIPE kills; the `signal` module is dear for one number."""


def run(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    words = sys.argv[1:] if argv is None else list(argv)
    try:
        parsed = _parse(words)
        code = parsed if isinstance(parsed, int) else _call(parsed)
        sys.stdout.flush()
    except BrokenPipeError:
        _forget_output()
        return _BROKEN_PIPE
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    return code


def _parse(words: list[str]) -> Invocation | int:
    if words == ["--version"]:
        words = ["version"]  # What hands type at a program they do not know.
    parsed = quick.parse(words)
    if parsed is not None:
        return parsed
    from orchestrator.cli import app  # noqa: PLC0415 - typer costs a hundred milliseconds

    return app.parse(words)


def _call(parsed: Invocation) -> int:
    try:
        options, values = invocation.read(parsed, os.environ)
        command = commands.find(parsed.command)
        assert command is not None, "internal error: parsed what the table does not hold"
        module, _, name = command.handler.partition(":")
        with Session(options, os.environ) as session:
            code: int = getattr(importlib.import_module(module), name)(session, **values)
    except TopologyError as error:
        return _refuse_topology(error)
    except UsageError as error:
        print(f"orch: {error}\nTry 'orch {parsed.command} --help'.", file=sys.stderr)
        return error.exit_code
    except OrchestratorError as error:
        print(f"orch: {error}", file=sys.stderr)
        return error.exit_code
    return code


def _refuse_topology(error: TopologyError) -> int:
    from orchestrator.cli import diagnostics, screen  # noqa: PLC0415 - only mistakes need them

    coloured = screen.wants_colour(sys.stderr, "auto", os.environ)
    print(diagnostics.text(error.diagnostics, coloured=coloured), file=sys.stderr)
    return error.exit_code


def _forget_output() -> None:
    """Keep the interpreter from flushing into the closed pipe, and complaining, at its end."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, sys.stdout.fileno())
    os.close(nothing)
