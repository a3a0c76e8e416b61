"""What orch says of itself: its version, and scripts that complete its commands."""

from __future__ import annotations

import platform

import orchestrator
from orchestrator.cli import commands
from orchestrator.cli.commands import Command, Kind, Parameter
from orchestrator.cli.session import Session
from orchestrator.errors import ExitCode


def version(session: Session) -> int:
    """Print the version."""
    if session.options.json:
        session.screen.json(
            {"version": orchestrator.__version__, "python": platform.python_version()}
        )
    else:
        session.screen.data(f"orch {orchestrator.__version__}")
    return ExitCode.DONE


def completion(session: Session, *, shell: str) -> int:
    """Print the completion script for a shell."""
    session.screen.data({"bash": _bash, "zsh": _zsh, "fish": _fish}[shell]())
    return ExitCode.DONE


def _flags(command: Command) -> list[str]:
    return [flag for parameter in commands.options(command) for flag in parameter.flags]


def _takes_names(command: Command) -> bool:
    return any(one.name in ("names", "words") for one in commands.arguments(command))


def _bash() -> str:
    verbs = " ".join(command.name for command in commands.COMMANDS)
    shared = " ".join(flag for parameter in commands.SHARED for flag in parameter.flags)
    cases = "\n".join(
        f"    {command.name}) options='{' '.join(_flags(command))}' ;;"
        for command in commands.COMMANDS
    )
    named = "|".join(command.name for command in commands.COMMANDS if _takes_names(command))
    return f"""# bash completion of orch; use it with: eval "$(orch completion bash)"
_orch() {{
  local word=${{COMP_WORDS[COMP_CWORD]}} verb= options= words= one
  for one in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
    case " {verbs} " in *" $one "*) verb=$one; break ;; esac
  done
  case $verb in
    '') options='{shared}'; words='{verbs}' ;;
{cases}
  esac
  case $verb in {named}) words=$(orch ps -q 2>/dev/null) ;; esac
  case $word in -*) words=$options ;; esac
  COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o default -F _orch orch"""


def _zsh() -> str:
    return f"""#compdef orch
# zsh completion of orch; use it with: eval "$(orch completion zsh)"
autoload -U +X bashcompinit && bashcompinit
{_bash()}"""


def _fish() -> str:
    lines = [
        "# fish completion of orch; use it with: orch completion fish | source",
        "complete -c orch -n __fish_use_subcommand -f",
    ]
    for command in commands.COMMANDS:
        text = _quoted(command.help)
        lines.append(f"complete -c orch -n __fish_use_subcommand -a {command.name} -d {text}")
        seen = f"'__fish_seen_subcommand_from {command.name}'"
        if _takes_names(command):
            lines.append(f"complete -c orch -n {seen} -a '(orch ps -q 2>/dev/null)'")
        lines.extend(
            f"complete -c orch -n {seen} {_fish_option(parameter)}"
            for parameter in commands.options(command)
        )
    return "\n".join(lines)


def _fish_option(parameter: Parameter) -> str:
    parts = []
    for flag in parameter.flags:
        if flag.startswith("--"):
            parts.append(f"-l {flag[2:]}")
        else:
            parts.append(f"-s {flag[1:]}" if len(flag) == 2 else f"-o {flag[1:]}")
    if parameter.kind is not Kind.FLAG:
        parts.append("-r")
    if parameter.choices:
        parts.append(f"-f -a '{' '.join(parameter.choices)}'")
    return " ".join((*parts, "-d", _quoted(parameter.help)))


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
