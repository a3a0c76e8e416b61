"""What the daemon wants of one run: `order.json`, read once and checked whole."""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.component.errors import SetupError
from orchestrator.model.units import Seconds

FORMAT = 1

STOP_TIMEOUT: Seconds = 10.0
"""How long a stop may take when the order does not say."""


@dataclass(frozen=True, slots=True)
class RunOrder:
    """One run.

    Attributes:
        name: `SERVICE.JOB/ID`, for people.
        run_dir: Where the program runs; made by the worker.
        record_dir: Where progress and result are written; made by the daemon.
        directory: Where relative paths count from: that of the topology.
        program: A file that is copied into the run directory and started there, or
        argv: A command that is started as it is.
        service, handler: Where the hooks are: `FILE`, `FILE:CLASS`, `MODULE:CLASS`.
        template: The attributes of the run's template, as plain data.
        snapshot: The directory with the code of the hooks as it was at the submit.
        stop_timeout: Seconds between the daemon's wish to stop and its KILL.
    """

    id: str
    name: str
    job: str
    run_dir: Path
    record_dir: Path
    attempt: int = 1
    directory: Path = Path("/")
    program: Path | None = None
    argv: tuple[str, ...] = ()
    service: str | None = None
    handler: str | None = None
    python_path: tuple[str, ...] = ()
    template: Mapping[str, Any] = field(default_factory=dict)
    is_watched: bool = True
    interval: Seconds = 3.0
    snapshot: Path | None = None
    stop_signal: int = signal.SIGTERM
    stop_timeout: Seconds = STOP_TIMEOUT

    @property
    def words(self) -> tuple[str, ...]:
        """The arguments of the program: one word `k=v` for each of the template's."""
        given = self.template.get("s_service_args") or {}
        return tuple(f"{key}={_word(value)}" for key, value in given.items())


def read(path: Path) -> RunOrder:
    """Read an order.

    Raises:
        SetupError: It cannot be read, or is none; the message says what is wrong.
    """
    try:
        plain = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise SetupError(f"cannot read the order {path}: {error}") from error
    try:
        return _order(plain)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise SetupError(f"cannot use the order {path}: {reason}") from error


def _order(plain: Mapping[str, Any]) -> RunOrder:
    if plain["format"] != FORMAT:
        raise ValueError(f"format {plain['format']!r} is not {FORMAT}")
    watcher, stop = plain.get("watcher") or {}, plain.get("stop") or {}
    template = plain.get("template") or {}
    program, argv = plain.get("program"), plain.get("argv")
    if not (program or argv):
        raise ValueError("it names neither a program nor a command")
    snapshot = (plain.get("code") or {}).get("snapshot")
    return RunOrder(
        id=str(plain["id"]),
        name=str(plain["name"]),
        job=str(plain["job"]),
        run_dir=Path(plain["run_dir"]),
        record_dir=Path(plain["record_dir"]),
        attempt=int(plain.get("attempt") or 1),
        directory=Path(plain.get("directory") or "/"),
        program=Path(program) if program else None,
        argv=tuple(map(str, argv or ())),
        service=plain.get("service"),
        handler=plain.get("handler"),
        python_path=tuple(plain.get("python_path") or ()),
        template=dict(template),
        is_watched=bool(watcher.get("enabled", True)),
        interval=float(watcher.get("interval") or 3.0),
        snapshot=Path(snapshot) if snapshot else None,
        stop_signal=int(stop.get("signal") or signal.SIGTERM),
        stop_timeout=float(stop.get("timeout") or STOP_TIMEOUT),
    )


def _word(value: Any) -> str:
    """Return an argument's value as a word: booleans and null as YAML writes them."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, (dict, list)):
        return json.dumps(value, default=str)
    return str(value)
