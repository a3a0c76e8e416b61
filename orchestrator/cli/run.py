"""`orch run`: one component in this process, without a daemon, its signals the caller's."""

from __future__ import annotations

from pathlib import Path

from orchestrator.cli import execute, invocation
from orchestrator.cli.session import Session
from orchestrator.component import configuration, runtime
from orchestrator.errors import UsageError


def run(
    session: Session,
    *,
    path: str | None,
    extra: tuple[str, ...],
    addresses: str | None,
    config: str | None,
    main_mode: bool,
    log_level: str,
    service: str | None,
) -> int:
    """Run a handler file with its addresses and configuration, or a built instance."""
    del session  # `run` speaks to no daemon and searches no topology
    words = extra if path is None else (path, *extra)
    if service is None:
        if path is None or path.startswith("-"):
            raise UsageError("name a handler file, or the directory of a built instance, first")
        service, words = path, extra
    target = Path(service)
    if not target.exists():
        raise UsageError(f"cannot run {service!r}: there is no such file")
    if (target / "__info__.json").is_file():
        if words or addresses or config or main_mode:
            raise UsageError(f"cannot give options to {service}: a built instance has its own")
        info = configuration.read_json(target / "__info__.json", "description of the component")
        return execute.built(target, info) if "command" in info else runtime.run_directory(target)
    return runtime.run_file(
        target,
        addresses=None if addresses is None else Path(addresses),
        config=None if config is None else Path(config),
        main_mode=main_mode,
        log_level=log_level,
        extra=invocation.rest_pairs(words),
    )
