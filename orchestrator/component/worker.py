"""The process of one run: `python -m orchestrator.component.worker ORDER`.

A run, in this order:

    its directory is made, the program copied into it, and it is the working directory
    build(), prepare_input_file()        of the service, if there is one
    before_watch_callback(instance)      of the handler, if it is watched
    the program runs; file_change_callback(files, instance) at each interval and change, and
                                         once more when it has ended
    after_watch_callback(files, instance), whatever has happened since before_watch_callback
    result.json

0     the program has ended with exit code 0
1     it has not, or was never started: a hook failed, or the directory could not be made
137   it was killed
143   the run was told to stop

The hooks run in the main thread, as users expect; all else in the attendant's. The process is
light: what it does not need, as the libraries of URLs, it does not import.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from orchestrator import files
from orchestrator.component import logs, notify
from orchestrator.component.errors import SetupError
from orchestrator.component.flow import Flow
from orchestrator.component.runs import code, directory, progress
from orchestrator.component.runs import order as orders
from orchestrator.component.runs.attendant import Attendant, Event
from orchestrator.component.runs.hooks import Calls, HookFailed, Interrupted
from orchestrator.component.runs.instance import RunInstance
from orchestrator.component.runs.order import RunOrder
from orchestrator.component.runs.progress import Progress
from orchestrator.component.runs.templates import ServiceParamTemplate
from orchestrator.errors import ExitCode, OrchestratorError, SpawnError

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT)
STOP_WATCHING = -1
"""What a `file_change_callback` returns that wants no more calls."""

AFTER = "after_watch_callback"


def main(arguments: list[str]) -> int:
    """Carry out the order in the given file; return the exit code."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m orchestrator.component.worker ORDER\n")
        return ExitCode.USAGE
    logs.line_buffered()
    try:
        order = orders.read(Path(arguments[0]))
    except SetupError as error:
        sys.stderr.write(f"orch: {error}\n")
        return ExitCode.FAILED
    logs.configure(order.name, "INFO", Flow())
    return Worker(order).run()


class Worker:
    """One run, from its directory to its result."""

    def __init__(self, order: RunOrder) -> None:
        self._order = order
        self._attendant = Attendant(order.id, order.run_dir, order.stop_signal, order.stop_timeout)
        path = order.record_dir / "progress.json"
        self._is_known = path.exists()
        fixed = {"id": order.id, "attempt": order.attempt}
        self._progress = Progress(path, fixed, self._attendant.wake)
        self._calls = Calls(self._enter)
        self._began = progress.now()
        self._watch_began = False
        self._watch_stopped = False
        self._instance: RunInstance | None = None
        self._handler: Any = None

    def run(self) -> int:
        """Do it all, and write the result; return the exit code."""
        order, attendant = self._order, self._attendant
        for known in SIGNALS:
            signal.signal(known, self._on_signal)
        attendant.begin(self._progress)
        failure: dict[str, Any] | None = None
        try:
            failure = self._carry_out()
        finally:
            result = self._result(failure)
            self._progress.set(state="ending", hook=None)
            attendant.close()
            data = json.dumps(result, indent=1).encode() + b"\n"
            try:
                files.write_atomic(order.record_dir / "result.json", data, 0o600)
            except OrchestratorError as error:
                # Without a result the daemon calls the run lost; the last line says why.
                sys.stderr.write(f"orch: {result['state']}, but {error}\n")
        if result["state"] == "cancelled":
            return ExitCode.TERMINATED
        if result["signal"] == signal.SIGKILL:
            # As a shell says it: whoever supervises us asks the kernel whether memory was short.
            return 128 + signal.SIGKILL
        return ExitCode.DONE if result["state"] == "succeeded" else ExitCode.FAILED

    def _carry_out(self) -> dict[str, Any] | None:
        """Run hooks and program; return what kept the program from running, if anything did."""
        failure = None
        try:
            argv = self._prepare()
            if not self._attendant.is_stopping:
                self._start(argv)
                self._follow()
        except Interrupted:
            pass
        except HookFailed as error:
            failure = {"result": "hook", "message": str(error)}
        except OrchestratorError as error:
            logger.warning("%s", error)
            kind = "spawn-error" if isinstance(error, SpawnError) else "hook"
            failure = {"result": kind, "message": str(error)}
        self._await_program()
        self._conclude()
        return failure

    # ------------------------------------------------------------- the steps

    def _prepare(self) -> tuple[str, ...]:
        """Make the directory, bring the program, call the hooks before it; return its words."""
        order = self._order
        directory.make(order.run_dir, order.attempt, again=self._is_known or order.attempt > 1)
        os.chdir(order.run_dir)
        argv = directory.bring(order.program, order.run_dir) if order.program else order.argv
        template, found = self._load(order.template)
        self._instance = RunInstance(order, template, self._progress, self._attendant)
        if found is not None:
            service = self._instance.service = self._make(found.service, template)
            # One class for all hooks has one object, which remembers from one to the next.
            self._handler = service if found.is_one else self._make(found.handler, template)
        service = self._instance.service
        for name in ("build", "prepare_input_file"):
            if self._attendant.is_stopping:
                raise Interrupted
            hook = getattr(service, name, None)
            if hook is not None:
                self._calls.call(name, hook)
        if not hasattr(service, "prepare_input_file"):
            self._calls.call("prepare_input_file", self._instance.bring_input)
        if self._handler is not None and order.is_watched:
            self._watch_began = True
            self._call_back("before_watch_callback", self._instance)
        # As the hooks have left them.
        order = dataclasses.replace(order, template={"s_service_args": template.s_service_args})
        return (*argv, *order.words)

    def _load(self, given: Mapping[str, Any]) -> tuple[ServiceParamTemplate, code.Code | None]:
        """Load what users wrote for this job; return the run's template, and the hooks."""
        order = self._order
        if not (order.service or order.handler):
            return ServiceParamTemplate.from_plain(given), None
        with self._calls.guarded("import"):
            found, _ = code.load(
                order.directory, order.python_path, order.service, order.handler, order.snapshot
            )
        return found.template.from_plain(given), found

    def _make(self, kind: code.Hooks | None, template: ServiceParamTemplate) -> Any:
        """Return the object with the hooks; None when there is none."""
        if kind is None:
            return None
        with self._calls.guarded(kind.kind.name):
            made = kind.made(template)
        if kind.kind is code.SERVICE:
            given = {"param_template": template, "work_dir": self._order.run_dir}
            for name, value in (*given.items(), ("run", self._instance)):
                with contextlib.suppress(AttributeError):  # It has slots, or its own.
                    setattr(made, name, value)
        return made

    def _start(self, argv: tuple[str, ...]) -> None:
        environment = dict(os.environ)
        pid = self._attendant.start(argv, environment)
        self._progress.set(state="running", pid=pid)
        notify.ready()

    def _follow(self) -> None:
        """Wait for the end of the program, or of our time; call back meanwhile."""
        attendant = self._attendant
        if not (self._watch_began and hasattr(self._handler, "file_change_callback")):
            return
        event: Event | None = None
        while event is not Event.ENDED and not self._watch_stopped:
            attendant.listen()
            due = time.monotonic() + self._order.interval
            event = attendant.next(self._order.interval)
            # A notice that came before we listened again tells nothing new.
            while event is Event.CHANGED and not attendant.has_changed:
                event = attendant.next(max(0.0, due - time.monotonic()))
            if event is Event.STOP:
                return
            # Once more at the end: what the program did last is a change, too.
            with contextlib.suppress(HookFailed):
                found = directory.listing(self._order.run_dir)
                returned = self._call_back("file_change_callback", found, self._instance)
                self._watch_stopped = returned == STOP_WATCHING

    def _await_program(self) -> None:
        """Wait for the end of the program, however we came here."""
        while self._attendant.has_program and self._attendant.exit is None:
            self._attendant.next(None)

    def _conclude(self) -> None:
        """Call what is called whatever has happened."""
        self._progress.set(state="ending")
        if not self._watch_began:
            return
        found = directory.listing(self._order.run_dir)
        with contextlib.suppress(HookFailed):
            self._call_back(AFTER, found, self._instance)

    def _call_back(self, name: str, *arguments: Any) -> Any:
        hook = getattr(self._handler, name, None)
        return None if hook is None else self._calls.call(name, hook, *arguments)

    # ------------------------------------------------------------ the result

    def _result(self, failure: Mapping[str, Any] | None) -> dict[str, Any]:
        ended, attendant = self._attendant.exit, self._attendant
        state, result, message = "succeeded", "success", attendant.problem
        if attendant.was_stopped and (ended is None or ended.code != 0):
            state, result, message = "cancelled", "requested", "it was told to stop"
        elif failure is not None:
            state, result, message = "failed", failure["result"], failure["message"]
        elif ended is None:
            state, result = "failed", "hook"
            message = message or "the program was not started"
        elif ended.signal is not None:
            core = " (core dumped)" if ended.core_dumped else ""
            result = "core-dump" if ended.core_dumped else "signal"
            state, message = "failed", f"killed by {_signal_name(ended.signal)}{core}"
        elif ended.code is None:
            state, result = "failed", "lost"
            message = "nobody knows the exit code: a hook has waited for the program"
        elif ended.code != 0:
            state, result, message = "failed", "exit-code", f"exit code {ended.code}"
        outputs = self._outputs()
        missing = [name for name, size in outputs.items() if size is None]
        if state == "succeeded" and missing and not message:
            message = f"there is no output file {', '.join(missing)}"
        return {
            "format": 1,
            "id": self._order.id,
            "attempt": self._order.attempt,
            "state": state,
            "result": result,
            "message": message,
            "exit_code": ended.code if ended else None,
            "signal": ended.signal if ended else None,
            "errors": self._calls.errors,
            "outputs": outputs,
            "hooks": self._calls.seconds,
            "watch_stopped": self._watch_stopped,
            "progress": self._progress["progress"],
            "text": self._progress["text"],
            "custom": self._progress["custom"],
            "code": str(self._order.snapshot.name) if self._order.snapshot else None,
            "started_at": self._began,
            "ended_at": progress.now(),
        }

    def _outputs(self) -> dict[str, int | None]:
        """Return the sizes of the output files that the template names; None: not there."""
        given = self._order.template.get("g_output_file")
        sizes: dict[str, int | None] = {}
        for name in [given] if isinstance(given, str) else given or ():
            try:
                sizes[str(name)] = (self._order.run_dir / str(name)).stat().st_size
            except OSError:
                sizes[str(name)] = None
        return sizes

    # -------------------------------------------------------------- signals

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        """Stop the program; a hook is let go on for a moment, then it is interrupted."""
        del signum, frame
        if not self._attendant.is_stopping:
            self._attendant.stop()
        elif self._calls.in_hand not in (None, AFTER):
            raise Interrupted

    def _enter(self, hook: str | None) -> None:
        self._progress.set(hook=hook)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def run() -> NoReturn:
    """Carry out the order that the command line names, and end the process."""
    sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    run()
