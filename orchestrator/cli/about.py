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


_INSTANCES = "orch ps -q"
_JOBS = "orch submit --list -q"
_RUNS = "orch runs -q"
_UNFINISHED = f"{_RUNS} --state queued --state building --state running"
_WORDS = {
    "submit": _JOBS,
    "runs": f"{_JOBS}; {_RUNS}; echo show",
    "cancel": _UNFINISHED,
    **dict.fromkeys(("logs", "status", "events", "explain", "wait"), f"{_INSTANCES}; {_RUNS}"),
}


def _words(command: Command) -> str:
    """Return the shell's commands that print what may stand after a verb; empty for none."""
    takes_names = any(one.name in ("names", "words") for one in commands.arguments(command))
    return _WORDS.get(command.name, _INSTANCES if takes_names else "")


def _bash() -> str:
    names = " ".join(command.name for command in commands.COMMANDS)
    shared = " ".join(flag for parameter in commands.SHARED for flag in parameter.flags)
    cases = "\n".join(
        f"    {command.name}) options='{' '.join(_flags(command))}' ;;"
        for command in commands.COMMANDS
    )
    sources: dict[str, list[str]] = {}
    for command in commands.COMMANDS:
        if _words(command):
            sources.setdefault(_words(command), []).append(command.name)
    named = "\n".join(
        f"    {'|'.join(verbs)}) words=$({{ {source}; }} 2>/dev/null) ;;"
        for source, verbs in sources.items()
    )
    return f"""# bash completion of orch; use it with: eval "$(orch completion bash)"
_orch() {{
  local word=${{COMP_WORDS[COMP_CWORD]}} verb= options= words= one
  for one in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
    case " {names} " in *" $one "*) verb=$one; break ;; esac
  done
  case $verb in
    '') options='{shared}'; words='{names}' ;;
{cases}
  esac
  case $verb in
{named}
  esac
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
        if _words(command):
            source = _words(command).replace(";", " 2>/dev/null;")
            lines.append(f"complete -c orch -n {seen} -a '({source} 2>/dev/null)'")
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
