"""Options of a component to the values of the model: texts to seconds, bytes and enums."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Collection
from typing import Any

from orchestrator.config import addresses, commands, listening, report, surroundings
from orchestrator.config.document import Declared
from orchestrator.config.interpolate import Template
from orchestrator.config.report import Place, Report
from orchestrator.model import cron, units
from orchestrator.model.topology import (
    KINDS,
    PROBES,
    AtEnd,
    Backoff,
    Capture,
    KeepAlive,
    Kill,
    Limit,
    Logs,
    OnSignal,
    Probe,
    Ready,
    Reload,
    Restart,
    Rung,
    Stop,
)

UNLIMITED = -1
"""How a limit without end is written in a lock; the value of RLIM_INFINITY."""

_SIGNALS = tuple(one.name.removeprefix("SIG") for one in signal.Signals)
_ALMIGHTY = {"KILL", "STOP", "CONT"}
_PROBE_OPTIONS = ("every", "failures", "start_period", "successes", "timeout")


def options(declared: Declared, *, is_server: bool, found: Report) -> dict[str, Any]:
    """Return the fields of the model's Component that are given, by name.

    `is_server` components (handlers that serve) are always restarted unless they say otherwise.
    """
    made = some(_EVERY, declared, found)
    made.setdefault("restart", Restart.ALWAYS if is_server else Restart.ON_FAILURE)
    return made


def some(wanted: Collection[str], declared: Declared, found: Report) -> dict[str, Any]:
    """Return those of the wanted fields that are given, by name, as the model has them."""
    made: dict[str, Any] = {}
    for layer in declared.layers:
        for name in layer.fields:
            if name not in wanted or name in made or (value := declared.get(name)) is None:
                continue
            convert = _CONVERTED.get(name)
            made[name] = convert(value) if convert else _LOWERED[name](declared, value, found)
    return made


def _restart(declared: Declared, value: str, found: Report) -> Restart:
    if value == "no":
        place = declared.at("restart")
        found.warn("ORC238", "`restart: no` is an old spelling", place, hint="write never")
        return Restart.NEVER
    return Restart(value)


def _umask(declared: Declared, value: str | int, found: Report) -> int:
    """Return the mask; its digits are octal however they are written."""
    layer = declared.layer("umask")
    written = layer.source.spelling(layer.fields, "umask") if layer else None
    digits = written if written and re.fullmatch(r"(0o?)?[0-7]+", written) else str(value)
    try:
        mask = int(digits.removeprefix("0o"), 8)
    except ValueError:
        mask = -1
    if not 0 <= mask <= 0o777:
        place = declared.at("umask")
        found.error("ORC240", f"{digits} is no umask", place, hint="write 022 or 0o22")
    return mask


def _stop(declared: Declared, value: Any, found: Report) -> Stop:
    if isinstance(value, list):
        rungs = tuple(
            Rung(
                _signal(rung["signal"], declared.at("stop", number, "signal"), found),
                units.parse_duration(rung["wait"]),
            )
            for number, rung in enumerate(value)
        )
        return Stop(rungs)
    (rung,) = Stop().ladder
    name = _signal(value.get("signal", rung.signal), declared.at("stop", "signal"), found)
    wait = units.parse_duration(value["timeout"]) if "timeout" in value else rung.wait
    words: tuple[str, ...] = ()
    if command := value.get("command"):
        words = commands.words(command, declared.at("stop", "command"), found)
    ladder = (Rung(name, wait),)
    return Stop(
        ladder, Kill(value.get("kill", "tree")), commands.located(words, declared.directory)
    )


def _signal(word: str, place: Place, found: Report) -> str:
    name = word.removeprefix("SIG")
    if name not in _SIGNALS:
        hint = report.did_you_mean(name, _SIGNALS)
        found.error("ORC236", f"there is no signal {word!r}", place, hint=hint)
    return name


def _signals(declared: Declared, value: dict[str, str], found: Report) -> dict[str, OnSignal]:
    """Return what signals do, by their names without SIG."""
    made = {}
    for word, action in value.items():
        if word.startswith("x-"):
            continue
        place = declared.at("signals", word).of_key()
        name = _signal(word, place, found)
        if name in _ALMIGHTY:
            message = f"{word} cannot do anything else than it does"
            found.error("ORC263", message, place)
        made[name] = OnSignal(action)
    return made


def schedule(value: str, place: Place, found: Report) -> str:
    """Return a cron expression; one that cannot be read is reported."""
    try:
        cron.parse(value)
    except ValueError as error:
        hint = "minute hour day month weekday, as in '*/5 8-18 * * mon-fri'"
        found.error("ORC265", f"`schedule`: {error}", place, hint=hint)
        return "@yearly"
    return value


def _schedule(declared: Declared, value: str, found: Report) -> str:
    place = declared.at("schedule")
    before = len(found.found)
    value = schedule(value, place, found)
    if len(found.found) > before:
        return value
    if declared.get("restart") == "always":
        message = "`restart: always` leaves nothing to a schedule"
        found.error("ORC264", message, place, hint="write on-failure, or never")
    elif "handler" in declared.own and declared.get("mode", "service") == "service":
        message = "a handler that serves for ever has no schedule"
        found.error("ORC264", message, place, hint="mode: main runs `main` and ends")
    return value


def _ready(declared: Declared, value: dict[str, Any], found: Report) -> Ready | None:
    made = _looks(declared, "ready", value, found)
    if made is None:
        return None
    if "log" in value:
        _check_expression(value["log"], declared.at("ready", "log"), found)
    ready = Ready(**made)
    if ready.kind not in PROBES:
        what = f"{ready.kind} is no probe"
        _idle(declared, "ready", value, _PROBE_OPTIONS, what=what, found=found)
    return ready


def _live(declared: Declared, value: dict[str, Any], found: Report) -> Probe | None:
    made = _looks(declared, "live", value, found)
    return None if made is None else Probe(**made)


def _startup(declared: Declared, value: dict[str, Any], found: Report) -> Probe | None:
    made = _looks(declared, "startup", value, found)
    what = "`start_timeout` bounds a start"
    _idle(declared, "startup", value, ("failures", "start_period"), what=what, found=found)
    return None if made is None else Probe(**made)


def _looks(
    declared: Declared, name: str, value: dict[str, Any], found: Report
) -> dict[str, Any] | None:
    """Return the fields of a probe; None when its only kind was at fault, which is said."""
    if not any(kind in value for kind in KINDS):
        return None
    made: dict[str, Any] = {}
    for option, convert in _PROBE.items():
        if option in value:
            made[option] = convert(value[option])
    if "exec" in value:
        words = commands.words(value["exec"], declared.at(name, "exec"), found)
        made["exec"] = commands.located(words, declared.directory)
    if "tcp" in value and not isinstance(value["tcp"], Template):
        try:
            addresses.parse_host_port(made["tcp"])
        except ValueError as error:
            found.error("ORC239", f"`{name}.tcp`: {error}", declared.at(name, "tcp"))
    return made


def _idle(
    declared: Declared,
    name: str,
    value: dict[str, Any],
    options: tuple[str, ...],
    *,
    what: str,
    found: Report,
) -> None:
    for option in options:
        if option in value:
            place = declared.at(name, option)
            found.warn("ORC109", f"`{option}` has no effect: {what}", place)


def _check_expression(text: str, place: Place, found: Report) -> None:
    try:
        re.compile(text)
    except re.error as error:
        found.error("ORC237", f"{text!r} is no regular expression: {error}", place)


def _same(value: Any) -> Any:
    return value


def _endpoint(text: str) -> str:
    return text if isinstance(text, Template) else text.removeprefix("tcp://")


def _status(value: str | int) -> tuple[int, int]:
    low, _, high = str(value).partition("-")
    return int(low), int(high or low)


def backoff(value: dict[str, Any]) -> Backoff:
    """Return the delays that a map of texts and numbers gives."""
    made: dict[str, float] = {}
    for name in ("factor", "jitter"):
        if name in value:
            made[name] = float(value[name])
    for name in ("initial", "max", "reset_after"):
        if name in value:
            made[name] = units.parse_duration(value[name])
    return Backoff(**made)


def _logs(value: dict[str, Any]) -> Logs:
    as_written = ("capture", "keep", "compress")
    made: dict[str, Any] = {name: value[name] for name in as_written if name in value}
    if "mode" in value:
        made["mode"] = Capture(value["mode"])
    if "size" in value:
        made["size"] = units.parse_size(str(value["size"]))
    return Logs(**made)


def _limit(value: dict[str, Any]) -> Limit:
    return Limit(value["failures"]) if "failures" in value else Limit()


def _keep_alive(value: dict[str, Any]) -> KeepAlive:
    return KeepAlive(**{name: units.parse_duration(each) for name, each in value.items()})


def _codes(value: list[int]) -> tuple[int, ...]:
    return tuple(sorted({0, *value}))


def _rlimits(value: dict[str, Any]) -> dict[str, tuple[int, int]]:
    made = {}
    for name, limit in value.items():
        if not name.startswith("x-"):
            soft, hard = limit if isinstance(limit, list) else (limit, limit)
            made[name] = (_amount(soft), _amount(hard))
    return made


def _amount(value: str | int) -> int:
    return UNLIMITED if value == "unlimited" else units.parse_size(str(value))


_PROBE: dict[str, Callable[[Any], Any]] = {
    "notify": _same,
    "http": _same,
    "tcp": _endpoint,
    "log": _same,
    "fd": _same,
    "delay": units.parse_duration,
    "status": _status,
    "every": units.parse_duration,
    "timeout": units.parse_duration,
    "failures": _same,
    "successes": _same,
    "start_period": units.parse_duration,
}


def _named_signal(declared: Declared, value: str, found: Report) -> str:
    return _signal(value, declared.at("reload_signal"), found)


_CONVERTED: dict[str, Callable[[Any], Any]] = {
    "profiles": tuple,
    "user": str,
    "group": str,
    "rlimits": _rlimits,
    "nice": _same,
    "oom_score_adj": _same,
    "no_new_privileges": _same,
    "zygote": _same,
    "concurrency": _same,
    "memory": _amount,
    "cpu": float,
    "pids": _same,
    "success_codes": _codes,
    "backoff": backoff,
    "limit": _limit,
    "start_timeout": units.parse_duration,
    "settle": units.parse_duration,
    "keep_alive": _keep_alive,
    "watchdog": units.parse_duration,
    "logs": _logs,
    "on_failure": AtEnd,
    "on_exit": AtEnd,
    "reload": Reload,
}

_LOWERED: dict[str, Callable[[Declared, Any, Report], Any]] = {
    "umask": _umask,
    "manifests": surroundings.manifests,
    "sockets": listening.sockets,
    "restart": _restart,
    "ready": _ready,
    "live": _live,
    "startup": _startup,
    "stop": _stop,
    "signals": _signals,
    "schedule": _schedule,
    "reload_signal": _named_signal,
}

_EVERY = frozenset((*_CONVERTED, *_LOWERED))
