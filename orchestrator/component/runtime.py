"""Running one component in this process, for the daemon's children and for `orch run`.

0    main returned, or a signal stopped the component
1    it could not start (one clear message on stderr), or main raised (with its traceback)
"""

from __future__ import annotations

import faulthandler
import importlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from orchestrator.component import (
    assembly,
    background,
    configuration,
    confobjects,
    control,
    instance,
    loader,
    logs,
    notify,
    observing,
    reloading,
    serving,
    signals,
    telling,
)
from orchestrator.component.assembly import Assembly
from orchestrator.component.errors import SetupError
from orchestrator.component.flow import Flow
from orchestrator.component.instance import Instance
from orchestrator.errors import ExitCode

logger = logging.getLogger(__name__)

LINGER_AFTER_MAIN = 30.0
"""How long what main sent may take to leave, in seconds: nobody is in a hurry."""

LINGER_AFTER_STOP = 2.0
"""How long it may take after a signal, in seconds: a supervisor waits."""


_LEVELS = frozenset({"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"})

_HOSTS = {"package": "packages", "class": "hosting"}
"""The modules that run what is no handler, by kind."""


def run_directory(conf_dir: Path) -> int:
    """Run the built instance in `conf_dir` until it ends or is stopped; return the exit code."""
    instance.made_for(conf_dir)
    return _run(str(conf_dir).rpartition("/")[2], lambda: instance.from_directory(conf_dir))


def run_file(
    path: Path,
    *,
    addresses: Path | None,
    config: Path | None,
    main_mode: bool,
    log_level: str,
    extra: Mapping[str, str],
) -> int:
    """Run a handler file until it ends or is stopped; return the exit code.

    Args:
        path: The file, or the directory of a handler package.
        addresses: JSON file of the addresses.
        config: JSON file of the configuration.
        main_mode: Whether to run its main function.
        log_level: Level name of log lines on stderr.
        extra: More configuration, as text by name.
    """

    def described() -> Instance:
        return instance.from_file(
            path,
            addresses=addresses,
            config=config,
            main_mode=main_mode,
            log_level=log_level,
            extra=extra,
        )

    return _run(path.stem, described)


def rehearse(conf_dir: Path) -> None:
    """Start the built instance in `conf_dir` and end it at once, leaving out what others see.

    The process is not the same afterwards: see `component.rehearsal`.
    """
    logs.line_buffered()
    for known in serving.SIGNALS:
        signals.handle(known, _leave)
    described = instance.from_directory(conf_dir)
    flow = _flow(described)
    logs.configure(described.name, _level(described.log_level), flow)
    ready = assembly.assemble(described, flow)
    ready.has_async()
    _stop_by_exit(ready)
    notify.sign_every()
    notify.ready()
    ready.wait_for_subscribers(described.expected)
    loop = serving.watching(ready)
    loop.call_soon(lambda: signal.raise_signal(signal.SIGTERM))
    loop.run(serving.SIGNALS)
    ready.close(0.0)


def _run(name: str, describe: Callable[[], Instance]) -> int:
    logs.line_buffered()
    for known in serving.SIGNALS:
        signals.handle(known, _leave)
    try:
        described = describe()
        name, flow = described.name, _flow(described)
        logs.configure(name, _level(described.log_level), flow)
        if described.kind != "package":
            _fill_in(described)
        if described.kind in _HOSTS:
            host = importlib.import_module(f"{__package__}.{_HOSTS[described.kind]}")
            return int(host.run(described))
        link = control.open_link()
        ready = assembly.assemble(described, flow)
        ready.link = link
        if link is not None and described.directory is not None:
            telling.offer(link, described.directory, _taking(ready, described.directory))
    except SetupError as error:
        sys.stderr.write(_told(name, error))
        return ExitCode.FAILED
    return _work(described, ready)


def _work(described: Instance, ready: Assembly) -> int:
    linger = LINGER_AFTER_STOP
    try:
        main = ready.handler.main if described.main_mode else None
        is_async = main.is_async if main else ready.has_async()
        # Only what awaits pays for importing asyncio, and does so before it is called ready.
        concurrent = importlib.import_module(f"{__package__}.concurrent") if is_async else None
        # From here on a signal finds a component that works, with its hook.
        _stop_by_exit(ready)
        if notify.sign_every():
            faulthandler.enable()  # The watchdog's ABRT shows where it hangs.
        notify.ready()
        ready.wait_for_subscribers(described.expected)
        if main is None:
            (concurrent or serving).serve(ready)
        elif concurrent is not None:
            concurrent.run_main(ready)
        else:
            if ready.link is not None:
                reloading.offer(ready)
                observing.offer(ready, (), lambda _: None)
                ready.link.serve_in_thread()
            with background.serving(ready.parts):
                main.call(ready.to_send, ready.states, ready.config)
        if main is not None:
            linger = LINGER_AFTER_MAIN
    except Exception as error:  # main is user code
        logger.critical("The component failed", exc_info=loader.cause(error))
        return ExitCode.FAILED
    finally:
        if ready.link is not None:
            ready.link.close()
        ready.close(linger)
    return ExitCode.DONE


def _flow(described: Instance) -> Flow:
    if described.concurrency == 1:
        return Flow()
    made: Flow = importlib.import_module(f"{__package__}.interleaving").Flow()
    return made


def _fill_in(described: Instance) -> None:
    """Give the configurations of packages that the topology names their values.

    Raises:
        SetupError: One cannot be imported, or its file does not fit.
    """
    directory = described.directory
    if directory is None or not confobjects.files_in(directory):
        return
    sys.path[:0] = [entry for entry in described.python_path if entry not in sys.path]
    configuring = importlib.import_module("orchestrator.component.configuring")
    configuring.configure(
        (), directory, base_dir=described.base_dir, service="", component="", values={}
    )


def _taking(ready: Assembly, directory: Path) -> telling.Take:
    """Return what gives a handler its configuration anew, and then calls its hook."""

    def take(values: Mapping[str, Any]) -> None:
        again = instance.from_directory(directory)
        config = configuration.resolve(ready.handler, again.config, os.environ, again.arguments)
        # The same dict: handlers may have kept it.
        ready.config.clear()
        ready.config.update(config)
        if ready.handler.on_settings is not None:
            ready.handler.on_settings(values, ready.config)

    return take


def _stop_by_exit(ready: Assembly) -> None:
    """Let a signal call the hook, then end the component: in main, or before it serves."""

    def stop(signum: int, frame: FrameType | None) -> NoReturn:
        for known in serving.SIGNALS:
            signal.signal(known, signal.SIG_DFL)
        serving.stopping(ready, signum, frame)
        sys.exit(ExitCode.DONE)

    for known in serving.SIGNALS:
        signals.handle(known, stop)


def _leave(signum: int, frame: FrameType | None) -> NoReturn:
    """End before the component has begun its work: there is nothing to finish."""
    del signum, frame
    sys.exit(ExitCode.DONE)


def _level(text: str) -> str:
    if text in _LEVELS:
        return text
    known = logging.getLevelNamesMapping()
    if text.isdecimal() or text.upper() in known:
        return text
    raise SetupError(f"unknown log level {text!r}; there are {', '.join(known)}")


def _told(name: str, error: SetupError) -> str:
    if len(error.mistakes) == 1:
        return f"orch: cannot start {name}: {error.mistakes[0]}\n"
    lines = "".join(f"  {mistake}\n" for mistake in error.mistakes)
    return f"orch: cannot start {name}: {len(error.mistakes)} mistakes\n{lines}"
