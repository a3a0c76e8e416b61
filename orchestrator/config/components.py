"""A declared component to model values: texts to seconds, bytes, words and paths.

What is the same for all instances is settled here, and every mistake in it reported. Texts
that name addresses, `self` or secrets are left for `resolve`, which knows the instance.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.config import addresses, document, environment, report
from orchestrator.config.document import Declared
from orchestrator.config.interpolate import Template
from orchestrator.config.report import Place, Report
from orchestrator.config.source import Source
from orchestrator.model import units
from orchestrator.model.topology import (
    AtEnd,
    Backoff,
    Dependency,
    Kill,
    Limit,
    Logs,
    Mode,
    Ready,
    Restart,
    Rung,
    Stop,
)

UNLIMITED = -1
"""How a limit without end is written in a lock; the value of RLIM_INFINITY."""

_SHELL_WORDS = frozenset({"|", "||", "&&", ";", ">", "<", ">>", "&", "2>&1"})
_SIGNALS = tuple(one.name.removeprefix("SIG") for one in signal.Signals)


@dataclass(slots=True)
class Lowered:
    """A component with everything settled that its instances share.

    `command`, `working_dir`, `environment` and `config` may hold templates, as may the ones
    in `ready` and `stop`; `options` are further fields of the model's Component.
    """

    declared: Declared
    replicas: int
    handler: str | None
    command: tuple[str, ...]
    mode: Mode
    working_dir: str
    python_path: tuple[str, ...]
    config: dict[str, Any]
    environment: dict[str, str]
    options: dict[str, Any]
    depends_on: dict[str, Dependency]
    enabled: bool = True

    @property
    def base(self) -> str:
        """The name of the component, `service.component`."""
        return self.declared.base


class Lowering:
    """Lowers components; holds what they share: the caller's environment and what was looked up."""

    def __init__(self, caller: Mapping[str, str], found: Report) -> None:
        self.caller = caller
        self.inherited = environment.inherited(caller, environment.INHERITED)
        self.found = found
        self.env_files: dict[Path, dict[str, str] | None] = {}
        self.programs: dict[tuple[str, str], bool] = {}

    def lower(self, declared: Declared, replicas: int | None) -> Lowered:
        """Return the component's values; `replicas` overrides the file's."""
        handler = self.handler(declared)
        has_command = "command" in declared.own
        mode = Mode(declared.get("mode", "service"))
        variables = self.environment(declared)
        working_dir = self.working_dir(declared)
        return Lowered(
            declared=declared,
            replicas=replicas if replicas is not None else declared.get("replicas", 1),
            handler=handler,
            command=self.command(declared, variables) if has_command else (),
            mode=mode,
            working_dir=working_dir,
            python_path=_python_path(handler, declared.directory) if handler else (),
            config=_config(declared),
            environment=variables,
            options=self.options(declared, is_server=handler is not None and mode is Mode.SERVICE),
            depends_on={},
            enabled=declared.get("enabled", True),
        )

    def handler(self, declared: Declared) -> str | None:
        """Return the absolute path of the handler's file or package, or its dotted module."""
        word = declared.own.get("handler")
        if not isinstance(word, str):
            return None
        place = declared.at("handler")
        path = Path(os.path.normpath(declared.directory / word))
        if "/" not in word and not word.endswith(".py") and not path.is_dir():
            if not all(part.isidentifier() for part in word.split(".")):
                self.found.error("ORC230", f"{word!r} is neither a file nor a module", place)
            return word
        if path.is_dir():
            if not (path / "__init__.py").is_file() and not any(path.glob("*.py")):
                message = f"the handler {word!r} is a directory without Python files"
                self.found.error("ORC230", message, place, hint=f"looked at {path}")
        elif not path.is_file():
            siblings = [other.name for other in path.parent.glob("*")] if path.parent.is_dir() else []
            near = report.did_you_mean(path.name, siblings)
            self.found.error("ORC230", f"there is no handler file {word!r}", place, hint=near or f"looked for {path}")
        return str(path)

    def command(self, declared: Declared, variables: Mapping[str, str]) -> tuple[str, ...]:
        """Return the words of the command; the program's path is absolute when it has a slash."""
        shell = declared.get("shell") is True
        place = declared.at("command")
        raw = declared.own["command"]
        if shell:
            if isinstance(raw, list):
                hint = "write the command as one text, or leave `shell` out"
                self.found.error("ORC234", "`shell: true` needs a text, not a list", place, hint=hint)
                return ()
            return ("/bin/sh", "-c", raw)
        words = self.words(raw, place)
        if not words:
            return ()
        if not isinstance(raw, list):
            self.warn_of_shell(words, place)
        program = words[0]
        if isinstance(program, Template):
            return words
        if "/" in program:
            program = os.path.normpath(declared.directory / program)
        self.look_for(program, variables.get("PATH", os.defpath), place)
        return (program, *words[1:])

    def words(self, raw: Any, place: Place) -> tuple[str, ...]:
        """Return the words of a text, split as a shell does, or of a list; templates stay."""
        if isinstance(raw, list):
            words = tuple(raw)
        elif not any(mark in raw for mark in "'\"\\"):
            words = tuple(_as_template(word, raw) for word in raw.split())
        else:
            try:
                words = tuple(_as_template(word, raw) for word in shlex.split(raw))
            except ValueError as error:
                message = f"cannot split the command: {str(error).lower()}"
                self.found.error("ORC234", message, place, hint="close the quotes, or write a list of words")
                return ()
        if not words or not words[0].strip():
            self.found.error("ORC234", "the command has no program", place)
            return ()
        if any("\0" in word for word in words):
            self.found.error("ORC234", "a word of a command cannot hold a NUL", place)
            return ()
        return words

    def warn_of_shell(self, words: tuple[str, ...], place: Place) -> None:
        for word in words:
            if word in _SHELL_WORDS or re.fullmatch(r"\$[A-Za-z_]\w*", word):
                message = f"{word!r} is passed to the program as it is: no shell reads the command"
                self.found.warn("ORC235", message, place.of(word), hint="add `shell: true`")
                return

    def look_for(self, program: str, path: str, place: Place) -> None:
        key = (program, path)
        if key not in self.programs:
            self.programs[key] = shutil.which(program, path=path) is not None
        if not self.programs[key]:
            if "/" in program:
                said = "is not executable" if os.path.exists(program) else "is not there"
                message = f"the program {program!r} {said}"
            else:
                message = f"the program {program!r} is not on the component's PATH"
            self.found.warn("ORC233", message, place)

    def working_dir(self, declared: Declared) -> str:
        layer = declared.layer("working_dir")
        if layer is None:
            return str(declared.directory)
        word = layer.fields["working_dir"]
        if isinstance(word, Template):
            return word
        path = os.path.normpath(layer.source.path.parent / word)
        if not os.path.isdir(path):
            said = "is no directory" if os.path.exists(path) else "does not exist"
            message = f"the working directory {word!r} {said}"
            self.found.error("ORC230", message, declared.at("working_dir"), hint=f"looked for {path}")
        return path

    def environment(self, declared: Declared) -> dict[str, str]:
        """Return the variables: inherited, from files, from the service, the component's own."""
        which = declared.get("inherit_env")
        variables = dict(self.inherited) if which is None else environment.inherited(self.caller, which)
        layer = declared.layer("env_file")
        if layer is not None:
            named = layer.fields["env_file"]
            items = enumerate(named) if isinstance(named, list) else [("env_file", named)]
            for key, word in items:
                container = named if isinstance(named, list) else layer.fields
                place = Place(layer.source, container, key)
                variables.update(self.env_file(layer.source.path.parent / word, word, place))
        for below in reversed(declared.environments):
            for name, value in below.fields.items():
                if name in environment.RESERVED:
                    place = Place(below.source, below.fields, name, at_key=True)
                    self.found.error("ORC231", f"orch itself sets {name} for components", place)
                variables[name] = _variable(value, below.source, below.fields, name)
        return variables

    def env_file(self, path: Path, word: str, place: Place) -> dict[str, str]:
        if path not in self.env_files:
            self.env_files[path] = None
            try:
                text = path.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
                message = f"cannot read the env file {word!r}: {reason}"
                self.found.error("ORC230", message, place, hint=f"looked for {path}")
                return {}
            file = os.path.normpath(Path(place.source.file).parent / word)
            source = Source(file, path, text)
            variables, bad = environment.parse_file(text)
            for line in bad:
                self.found.found.append(source.diagnostic("ORC232", line.message, line.span))
            self.env_files[path] = variables
        return self.env_files[path] or {}

    def options(self, declared: Declared, *, is_server: bool) -> dict[str, Any]:
        """Return the fields of the model that are plain values, as far as they are declared."""
        made: dict[str, Any] = {}
        get = declared.get
        for name in _PLAIN:
            if (value := get(name)) is not None:
                made[name] = value
        for name in ("user", "group"):
            if (value := get(name)) is not None:
                made[name] = str(value)
        for name, convert in _CONVERTED.items():
            if (value := get(name)) is not None:
                made[name] = convert(value)
        restart = get("restart")
        if restart == "no":
            self.found.warn("ORC238", "`restart: no` is an old spelling", declared.at("restart"), hint="write never")
            restart = "never"
        default = Restart.ALWAYS if is_server else Restart.ON_FAILURE
        made["restart"] = Restart(restart) if restart else default
        if (codes := get("success_codes")) is not None:
            made["success_codes"] = tuple(sorted({0, *codes}))
        if (value := get("umask")) is not None:
            made["umask"] = self.umask(declared, value)
        if (limits := get("rlimits")) is not None:
            made["rlimits"] = {
                name: _limit(value) for name, value in limits.items() if not name.startswith("x-")
            }
        if (value := get("stop")) is not None:
            made["stop"] = self.stop(declared, value)
        if (value := get("ready")) is not None:
            made["ready"] = self.ready(declared, value)
        return made

    def umask(self, declared: Declared, value: str | int) -> int:
        """Return the mask; its digits are octal however they are written."""
        layer = declared.layer("umask")
        written = layer.source.spelling(layer.fields, "umask") if layer else None
        digits = written if written and re.fullmatch(r"(0o?)?[0-7]+", written) else str(value)
        try:
            mask = int(digits.removeprefix("0o"), 8)
        except ValueError:
            mask = 0o10000
        if mask > 0o777:
            self.found.error("ORC240", f"{digits} is no umask", declared.at("umask"), hint="write 022 or 0o22")
        return mask

    def stop(self, declared: Declared, value: Any) -> Stop:
        if isinstance(value, list):
            rungs = tuple(
                Rung(
                    self.signal(rung["signal"], declared.at("stop", number, "signal")),
                    units.parse_duration(rung["wait"]),
                )
                for number, rung in enumerate(value)
            )
            return Stop(rungs)
        default = Stop()
        name = self.signal(value.get("signal", default.ladder[0].signal), declared.at("stop", "signal"))
        wait = units.parse_duration(value["timeout"]) if "timeout" in value else default.ladder[0].wait
        command = value.get("command")
        words = self.words(command, declared.at("stop", "command")) if command else ()
        return Stop((Rung(name, wait),), Kill(value.get("kill", "tree")), _located(words, declared))

    def signal(self, word: str, place: Place) -> str:
        name = word.removeprefix("SIG")
        if name not in _SIGNALS:
            hint = report.did_you_mean(name, _SIGNALS)
            self.found.error("ORC236", f"there is no signal {word!r}", place, hint=hint)
        return name

    def ready(self, declared: Declared, value: dict[str, Any]) -> Ready | None:
        made: dict[str, Any] = {}
        for name in ("notify", "http", "fd", "failures", "successes", "tcp", "log"):
            if name in value:
                made[name] = value[name]
        for name in ("delay", "every", "timeout", "start_period"):
            if name in value:
                made[name] = units.parse_duration(value[name])
        if "exec" in value:
            words = self.words(value["exec"], declared.at("ready", "exec"))
            made["exec"] = _located(words, declared)
        if "status" in value:
            low, _, high = str(value["status"]).partition("-")
            made["status"] = (int(low), int(high or low))
        if "tcp" in value and not isinstance(value["tcp"], Template):
            try:
                addresses.parse_host_port(value["tcp"].removeprefix("tcp://"))
            except ValueError as error:
                self.found.error("ORC239", f"`ready.tcp`: {error}", declared.at("ready", "tcp"))
            made["tcp"] = value["tcp"].removeprefix("tcp://")
        if "log" in value:
            try:
                re.compile(value["log"])
            except re.error as error:
                message = f"{value['log']!r} is no regular expression: {error}"
                self.found.error("ORC237", message, declared.at("ready", "log"))
        known = set(_KINDS) & set(value)
        if not known:
            return None  # its only kind was at fault
        if not known & {"http", "tcp", "exec"}:
            for name in sorted({"every", "timeout", "failures", "successes"} & set(value)):
                message = f"`{name}` has no effect: {min(known)} is no probe"
                self.found.warn("ORC109", message, declared.at("ready", name))
        return Ready(**made)


_KINDS = ("notify", "http", "tcp", "exec", "log", "fd", "delay")
_PLAIN = ("nice", "oom_score_adj", "no_new_privileges")


def _backoff(value: dict[str, Any]) -> Backoff:
    made: dict[str, float] = {}
    for name in ("initial", "max", "reset_after"):
        if name in value:
            made[name] = units.parse_duration(value[name])
    for name in ("factor", "jitter"):
        if name in value:
            made[name] = float(value[name])
    return Backoff(**made)


def _logs(value: dict[str, Any]) -> Logs:
    made = {name: value[name] for name in ("capture", "keep") if name in value}
    if "size" in value:
        made["size"] = units.parse_size(str(value["size"]))
    return Logs(**made)


def _limit_of_failures(value: dict[str, Any]) -> Limit:
    return Limit(value["failures"]) if "failures" in value else Limit()


_CONVERTED: dict[str, Callable[[Any], Any]] = {
    "backoff": _backoff,
    "limit": _limit_of_failures,
    "start_timeout": units.parse_duration,
    "settle": units.parse_duration,
    "logs": _logs,
    "on_failure": AtEnd,
    "on_exit": AtEnd,
}


def _limit(value: Any) -> tuple[int, int]:
    soft, hard = value if isinstance(value, list) else (value, value)
    return _amount(soft), _amount(hard)


def _amount(value: str | int) -> int:
    return UNLIMITED if value == "unlimited" else units.parse_size(str(value))


def _variable(value: Any, source: Source, container: dict[str, Any], name: str) -> str:
    """Return a variable as it was written: `1.10` stays `1.10`, `true` stays `true`."""
    if isinstance(value, str):
        return value
    written = source.spelling(container, name)
    if written is not None and "$" not in written:
        return written
    return {True: "true", False: "false"}.get(value, str(value)) if isinstance(value, bool) else str(value)


def _config(declared: Declared) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for layer in reversed(declared.configs):
        merged = document.merge(merged, layer.fields)
    return merged


def _located(words: tuple[str, ...], declared: Declared) -> tuple[str, ...]:
    """Return the words with the program's path made absolute when it has a slash."""
    if words and "/" in words[0] and not isinstance(words[0], Template):
        return (os.path.normpath(declared.directory / words[0]), *words[1:])
    return words


def _as_template(word: str, whole: str) -> str:
    return Template(word) if isinstance(whole, Template) and "$" in word else word


def _python_path(handler: str, directory: Path) -> tuple[str, ...]:
    """Return where a handler's imports are looked up: beside it, then beside the topology."""
    here = str(directory)
    if not handler.startswith("/"):
        return (here,)
    return tuple(dict.fromkeys((os.path.dirname(handler), here)))
