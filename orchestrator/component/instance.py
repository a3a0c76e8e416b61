"""What a component is told at its start: a built directory, or the arguments of `orch run`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.component import configuration
from orchestrator.component.errors import SetupError

FORMAT = 1

KINDS = ("handler", "package", "class")
"""What our runtime runs, by the key that names it."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What services of the process find: the configuration store, contexts and other services."""

    store: str = "sqlite"
    contexts: Mapping[str, Any] = field(default_factory=dict)
    services: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Instance:
    """A component process.

    `handler` is what runs: a handler, or by `kind` the module of a package or `module:Class`.

    `expected` says how many subscribers a publisher awaits, and who; `endpoints` the terms of the
    endpoints that have their own. `data` is the file for states that are kept. A service is
    looked after every `keep_alive` seconds; 0 is never. Of its async functions `concurrency` may
    be under way at once.
    """

    name: str
    handler: str
    main_mode: bool
    addresses: Mapping[str, Any]
    config: Mapping[str, Any]
    number: int = 1
    python_path: tuple[str, ...] = ()
    working_dir: str | None = None
    arguments: Mapping[str, str] = field(default_factory=dict)
    log_level: str = "INFO"
    expected: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    endpoints: Mapping[str, Any] = field(default_factory=dict)
    data: Path = Path("states.sqlite")
    kind: str = "handler"
    keep_alive: float = 0.0
    concurrency: int = 1
    directory: Path | None = None
    manifests: Mapping[str, Any] = field(default_factory=dict)
    surroundings: Surroundings = Surroundings()

    @property
    def base_dir(self) -> Path:
        """The directory of the system."""
        return self.data.parent.parent

    def enter(self) -> None:
        """Enter the working directory, if there is one.

        Raises:
            SetupError: It cannot be entered.
        """
        if self.working_dir:
            try:
                os.chdir(self.working_dir)
            except OSError as error:
                raise SetupError(f"cannot enter {self.working_dir}: {error.strerror}") from error


_running: str | None = None


def made_for(directory: Path) -> None:
    """Remember the built directory of the component that this process is made for."""
    global _running  # noqa: PLW0603 - a process is made for one component
    _running = os.path.abspath(directory)  # noqa: PTH100 - in every start


def running() -> tuple[Path, str] | None:
    """Return base directory and stem of the component that this process is made for, if any."""
    return (Path(_running).parent.parent, Path(_running).name) if _running else None


def from_directory(directory: Path) -> Instance:
    """Read the directory of a built instance.

    Raises:
        SetupError: A file is missing or wrong.
    """
    place = os.path.abspath(directory)  # noqa: PTH100 - paths are dear in every start
    info = configuration.read_json(f"{place}/__info__.json", "description of the component")
    if info.get("format") != FORMAT:
        raise SetupError(
            f"cannot use {directory}: its format is {info.get('format')!r}, "
            f"this version reads {FORMAT}; build it again"
        )
    kind = next((one for one in KINDS if isinstance(info.get(one), str)), None)
    missing = [] if isinstance(info.get("name"), str) else ["name"]
    if kind is None:
        missing.append(" or ".join(KINDS))
    if kind is None or missing:
        raise SetupError(
            f"cannot use {directory}: __info__.json has no {' and no '.join(missing)}"
        )
    conf, _, name = place.rpartition("/")
    base = conf.rpartition("/")[0]
    return Instance(
        name=info["name"],
        kind=kind,
        handler=info[kind],
        main_mode=info.get("mode") == "main",
        addresses=configuration.read_json(f"{place}/addresses.json", "addresses"),
        config=configuration.read(f"{place}/config.json"),
        number=int(info.get("instance", 1)),
        python_path=tuple(info.get("python_path") or ()),
        working_dir=info.get("working_dir"),
        log_level=os.environ.get("ORCH_LOG_LEVEL", "INFO"),
        expected=dict(map(_expectation, (info.get("expect_subscribers") or {}).items())),
        endpoints=dict(info.get("endpoints") or {}),
        keep_alive=float(info.get("keep_alive", 0.0)),
        concurrency=int(info.get("concurrency", 1)),
        manifests=dict(info.get("manifests") or {}),
        surroundings=Surroundings(**(info.get("surroundings") or {})),
        # Beside `conf`, which is built anew, and is not.
        directory=Path(place),
        data=Path(f"{base}/data/{name}.sqlite"),
    )


def from_file(
    path: Path,
    *,
    addresses: Path | None,
    config: Path | None,
    main_mode: bool,
    log_level: str,
    extra: Mapping[str, str],
) -> Instance:
    """Describe the component of a handler file given on the command line.

    Raises:
        SetupError: A file is missing or wrong.
    """
    return Instance(
        name=path.stem,
        handler=str(path.resolve()),
        main_mode=main_mode,
        addresses=configuration.read_json(addresses, "addresses") if addresses else {},
        config=configuration.read(config) if config else {},
        python_path=(str(Path.cwd()),),
        arguments=extra,
        log_level=log_level,
        data=Path.cwd() / f"{path.stem}.sqlite",
    )


def _expectation(entry: tuple[str, int | Sequence[str]]) -> tuple[str, tuple[int, str]]:
    name, given = entry
    if isinstance(given, int):
        return name, (given, "")
    return name, (len(given), ", ".join(given))
