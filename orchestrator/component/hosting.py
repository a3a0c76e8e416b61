"""A service class at work in a process of its own: `class: module:Class`.

The service is made with the process's hook and started. RUNNING is ready; a service that its
configuration does not enable is ready too, and idles until it is. FAILED ends the process with
exit code 1 and its message, so that the restart policy has its say. Then the main thread waits for
signals and for what is asked on the control link; whatever takes time is done beside it.
"""

from __future__ import annotations

import contextlib
import faulthandler
import inspect
import itertools
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from types import FrameType, ModuleType
from typing import Any, NoReturn

from orchestrator.component import (
    calls,
    configuration,
    control,
    hooks,
    loader,
    notify,
    positions,
    serving,
    signals,
    surroundings,
)
from orchestrator.component import service as services
from orchestrator.component.control import Call, Link
from orchestrator.component.errors import SetupError
from orchestrator.component.instance import Instance
from orchestrator.component.loader import Code
from orchestrator.component.loop import Loop
from orchestrator.component.registry import MetaService
from orchestrator.component.service import CommonService
from orchestrator.component.threads import Threads
from orchestrator.errors import ExitCode

logger = logging.getLogger(__name__)


def run(instance: Instance) -> int:
    """Run the service until a signal, or until it fails; return the exit code.

    Raises:
        SetupError: It cannot be made, or its start failed.
    """
    link = control.open_link()
    try:
        instance.enter()
        module, _, name = instance.handler.partition(":")
        code = Code(module, instance.python_path)
        return _Host(instance, code, service_class(code.module, name), link).serve()
    finally:
        if link is not None:
            link.close()


def service_class(module: ModuleType, name: str) -> type[CommonService]:
    """Return the service class of that name.

    Raises:
        SetupError: There is none, or it is no service.
    """
    found = getattr(module, name, None)
    if isinstance(found, type) and issubclass(found, CommonService):
        return found
    there = [
        key
        for key, value in vars(module).items()
        if isinstance(value, type)
        and issubclass(value, CommonService)
        and value.__module__ == module.__name__
    ]
    hint = f"its services are {', '.join(there)}" if there else "it has no service"
    if found is None:
        raise SetupError(f"{module.__name__} has no class {name!r}; {hint}")
    what = "a class, but no CommonService" if isinstance(found, type) else "no class"
    file = getattr(module, "__file__", None)
    line = positions.Lines(file).get((name,))
    place = f"{file}:{line}: " if line else ""
    raise SetupError(f"{place}{name!r} is {what}; {hint}")


def check(cls: type[CommonService]) -> None:
    """Raise `SetupError` for what can be seen of a service class without making one."""
    mistakes = []
    if cls.run is CommonService.run:
        mistakes.append(f"{_defined(cls)}{cls.__name__} has no method `run`")
    for name, forms in services.METHODS.items():
        method = getattr(cls, name)
        try:
            if calls.is_async(method):
                raise TypeError(f"{name} must be a plain method, not async")  # noqa: TRY301
            calls.adapt(method, forms)
        except TypeError as error:
            mistakes.append(f"{_defined(method)}{cls.__name__}: {error}")
    if mistakes:
        raise SetupError(mistakes)


def _defined(what: object) -> str:
    """Return where a class or method is defined, as the beginning of a message."""
    try:
        file, line = inspect.getsourcefile(what), inspect.getsourcelines(what)[1]  # type: ignore[arg-type]
    except (TypeError, OSError):
        return ""
    return f"{file}:{line}: "


class _Host:
    def __init__(
        self, instance: Instance, code: Code, cls: type[CommonService], link: Link | None
    ) -> None:
        self._instance = instance
        self._code = code
        self._class = cls
        self._link = link
        self._loop = Loop()
        self._generation = 1
        self._error = ""
        """Why the last reset did not help; the service is that of before, or the end is near."""
        self._turn = threading.Lock()
        self._is_ending = False
        # Never closed: a thread may still write to it when everything else has ended.
        self._ended = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._own = Threads(instance.name)
        self._resets = itertools.count(1)
        self._service: CommonService | None = None
        self._told = ""
        self._said = threading.Lock()

    def serve(self) -> int:
        """Make and start the service, then wait; return the exit code."""
        try:
            self._hook = surroundings.provide(self._instance, self._path)
            hooks.when_refreshed(self._refresh)
            self._start()
            if notify.sign_every():
                faulthandler.enable()  # The watchdog's ABRT shows where it hangs.
            for known in serving.SIGNALS:
                signal.signal(known, self._leave)
            notify.ready()
            self._listen()
            if self._instance.keep_alive:
                self._own.spawn("keep-alive", self._keep_alive)
            signum = self._loop.run(serving.SIGNALS)
            if signum:
                self._stopping(signum)
        finally:
            self._end()
        if self._error:
            raise SetupError(self._error)
        return ExitCode.DONE

    # ------------------------------------------------------------- the service's life

    def _start(self) -> None:
        instance = self._instance
        mistakes: list[str] = []
        config = configuration.overlaid(instance.config, os.environ, mistakes)
        if mistakes:
            raise SetupError([f"configuration: {mistake}" for mistake in mistakes])
        on = {"enabled": True}
        shown = {**on, **instance.config}
        given = hooks.Given(instance.name, {**on, **config}, instance.manifests, shown, self._path)
        try:
            with hooks.giving(given):
                service = self._class(self._hook)
        except Exception as error:  # user code may raise anything
            raise SetupError(f"{self._name} cannot be made: {self._place(error)}") from error
        self._service = service
        services.watch(service, self._tell)
        if service.error is not None:
            raise SetupError(self._why(service, "cannot build its settings"))
        service.start(self._hook)
        if trouble := self._trouble(service):
            raise SetupError(trouble)
        self._tell()

    def _reset(self) -> str:
        """Reset the service; return why it does not run then, empty when it does."""
        service = self._service
        assert service is not None
        try:
            services.restart(service, self._hook)
        except Exception as error:
            logger.exception("%s: reset failed", self._name)
            return f"{self._name}.reset failed: {self._place(error)}"
        self._tell()
        return self._trouble(service)

    def _trouble(self, service: CommonService) -> str:
        """Return why a service does not run although it should."""
        if service.error is not None or service.has_failed():
            return self._why(service, "failed to start")
        if service.enabled and not service.state.is_running():
            return f"{self._name} was started and is {service.state.name}"
        return ""

    def _why(self, service: CommonService, what: str) -> str:
        said = f": {self._place(service.error)}" if service.error is not None else ""
        return f"{self._name} {what}{said}"

    def _keep_alive(self, stop: threading.Event) -> None:
        """Look after the service: reset it when it does not run, give up when that is in vain."""
        while not stop.wait(self._instance.keep_alive):
            service = self._service
            assert service is not None
            with self._turn:
                if stop.is_set() or not service.enabled:
                    continue
                said = self._looked(service)
                if not said:
                    continue
                logger.warning("%s; it is reset", said)
                trouble = self._reset()
                if not trouble and service.enabled:
                    trouble = self._looked(service)
                if trouble:
                    self._fail(trouble)
                    return
                self._generation += 1

    def _refresh(self, name: str, _hook: hooks.Hook) -> tuple[str, ...]:
        """Have the service reset, beside who asks, when its configuration has that name."""
        if self._service is None or services.config_name(self._service) != name:
            return ()
        self._beside(self._reset_beside)
        return (self._instance.name,)

    def _looked(self, service: CommonService) -> str:
        """Return what is wrong when a service does not run."""
        try:
            if service.is_running():
                return ""
        except Exception as error:  # noqa: BLE001 - user code may raise anything
            return f"{self._name}.is_running failed: {self._place(error)}"
        why = "it has no app" if service.app is None else f"it is {service.state.name}"
        return f"{self._name} does not run: {why}"

    # ------------------------------------------------------------- what is asked

    def _listen(self) -> None:
        self._loop.add_reader(self._ended, self._loop.stop)
        if every := notify.sign_every():
            self._loop.repeat(every, notify.sign)
        if self._link is not None:
            self._link.methods.update({"reload": self._reload, "code": self._state})
            self._loop.add_reader(self._link.fileno(), self._link.turn)

    def _state(self, _call: Call | None = None) -> Mapping[str, Any]:
        return self._outcome("")

    def _reload(self, call: Call) -> Mapping[str, Any] | None:
        """Reset the service, beside the loop; new code needs a new process."""
        changed = call.params.get("changed")
        if changed is not None and not self._code.is_touched(changed):
            return self._outcome("unchanged")
        try:
            self._code.check()
        except SetupError as error:
            return self._outcome("failed", str(error))
        if changed is not None or self._code.is_touched(map(str, self._code.place.sources())):
            return self._outcome("restart", "its code has changed")
        self._beside(lambda: self._reload_beside(call))
        return None

    def _beside(self, reset: Callable[[], object]) -> None:
        """Reset in a thread of its own, after those that are under way: they read before."""
        self._own.spawn(f"reset {next(self._resets)}", reset)

    def _reset_beside(self) -> str:
        """Reset the service in a thread of its own; return what went wrong."""
        with self._turn:
            trouble = self._reset()
            if not trouble:
                self._generation += 1
        if trouble:
            self._fail(trouble)
        return trouble

    def _reload_beside(self, call: Call) -> None:
        with self._turn:
            trouble = self._reset()
            if not trouble:
                self._generation += 1
        answer = self._outcome("failed" if trouble else "swapped", trouble)
        assert self._link is not None
        with self._link.lock:
            call.answer(answer)
        if trouble:
            self._fail(trouble)

    def _outcome(self, outcome: str, message: str = "") -> Mapping[str, Any]:
        return {
            "outcome": outcome,
            "message": message,
            "generation": self._generation,
            "error": self._error,
            "held": 0,
        }

    # ------------------------------------------------------------- its end

    def _fail(self, message: str) -> None:
        """End the process because the service does not run; from any thread."""
        self._error = message
        os.eventfd_write(self._ended, 1)

    def _leave(self, signum: int, frame: FrameType | None) -> NoReturn:
        """End by a signal that comes before the loop runs."""
        self._stopping(signum, frame)
        sys.exit(ExitCode.DONE)

    def _stopping(self, signum: int, frame: FrameType | None = None) -> None:
        notify.send("STOPPING=1")
        logger.info("Stopping on %s", signal.Signals(signum).name)
        signals.tell(signum, frame)

    def _end(self) -> None:
        self._is_ending = True
        self._own.terminate("keep-alive")
        service = self._service
        if service is not None:
            try:
                service.stop()
            except Exception:
                logger.exception("%s.stop failed", self._name)
            with contextlib.suppress(Exception):
                service.terminate_daemon()
        with contextlib.suppress(Exception):  # What could not be made has been told.
            MetaService().stop()

    # ------------------------------------------------------------- words

    @property
    def _path(self) -> str:
        return self._link.path if self._link is not None else ""

    @property
    def _name(self) -> str:
        return self._class.__name__

    def _tell(self) -> None:
        """Say in the status what is to be known of the service beside its running."""
        service = self._service
        if service is None or self._is_ending:
            return
        parts = [] if service.state.is_running() else [service.state.name]
        if service.state.is_ready() and not service.enabled:
            parts = ["not enabled by its configuration"]
        if names := service.daemons:
            parts.append(f"threads: {', '.join(names)}")
        with self._said:
            text = "; ".join(parts)
            if text != self._told:
                self._told = text
                notify.send(f"STATUS={text}")

    def _place(self, error: BaseException) -> str:
        root = self._code.place.root
        return loader.place(error, str(root) if root else None)
