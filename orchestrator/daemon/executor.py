"""Doing what the life cycle asks for: starting, signalling, killing, following to the end.

It carries no decision: each effect becomes calls of the host, and each thing that the host
tells becomes an event.
"""

from __future__ import annotations

import functools
import logging
import os
import signal
from collections.abc import Callable, Mapping
from typing import Protocol

from msgspec import structs

from orchestrator.daemon import programs
from orchestrator.daemon.host import Host
from orchestrator.daemon.programs import Place, Reachable
from orchestrator.errors import SpawnError
from orchestrator.model.phase import Exit, Process
from orchestrator.model.topology import Component, Kill
from orchestrator.model.units import Seconds
from orchestrator.process import Order
from orchestrator.supervision import lifecycle
from orchestrator.supervision.lifecycle import Instance

logger = logging.getLogger(__name__)


class Probes(Protocol):
    """Looks for readiness on the executor's behalf."""

    def prepare(self, slot: str, component: Component) -> dict[int, int]:
        """Return descriptors that the program is to be given, by their number there."""

    def watch(self, slot: str, component: Component) -> None:
        """Begin to look for the readiness of the slot's process."""

    def guard(self, slot: str, component: Component) -> None:
        """Begin to look after the slot's process, which is ready."""

    def forget(self, slot: str) -> None:
        """Stop looking."""


class Sockets(Protocol):
    """Opens sockets on the executor's behalf."""

    def prepare(self, component: Component) -> dict[int, int]:
        """Return descriptors that the program is to be given; they stay the owner's."""


class Guests(Protocol):
    """Makes sockets that components of other users can reach, on the executor's behalf."""

    def prepare(self, component: Component) -> Reachable | None:
        """Return their paths; None for a component of the daemon's user."""

    def admit(self, component: Component) -> None:
        """Let another user's handler read its configuration as it is now."""


class Pipes(Protocol):
    """Carries the output of piped components on the executor's behalf."""

    def prepare(self, slot: str, component: Component) -> None:
        """Make what the program writes into."""

    def is_waiting(self, slot: str) -> bool:
        """Tell whether something that was said is not in its file yet."""


OUTPUT_AGAIN, OUTPUT_LOOKS = 0.002, 250
"""How many seconds later, and how often, one looks whether an ended process's output is there."""


def _nothing() -> None:
    """Do nothing."""


class Executor:
    """The hands of the supervisor.

    Args:
        host: The operating system, or its fake.
        place: The system's name and directories.
        post: Takes an event for a slot.
        settle: Asks for a turn, after which `release` is called.
        instance: Gives a slot's instance as it is now, None when the slot is gone.
        order: Makes the order to start a process, as `programs.order`.
    """

    def __init__(  # noqa: PLR0917
        self,
        host: Host,
        place: Place,
        post: Callable[[str, lifecycle.Event], None],
        settle: Callable[[], None],
        instance: Callable[[str], Instance | None],
        order: Callable[..., Order] = programs.order,
    ) -> None:
        self.host = host
        self.place = place
        self.probes: Probes | None = None
        self.sockets: Sockets | None = None
        self.guests: Guests | None = None
        self.pipes: Pipes | None = None
        self.secrets: Mapping[str, str] = {}
        self.by_pid: dict[int, str] = {}
        self.commanded: Callable[[str], None] = lambda _slot: None
        """Told of a slot whose stop command has begun to run."""
        self.hear: Callable[[], None] = _nothing
        """Takes the notifications that have come; those of a process that ended too."""
        self._post = post
        self._settle = settle
        self._instance = instance
        self._order = order
        self._ended: dict[str, Process] = {}
        self._leftovers: dict[str, int] = {}
        self._warnings: dict[str, str] = {}
        self._commands: dict[str, Process] = {}
        self._release: list[Process] = []

    def do(self, slot: str, instance: Instance, effect: lifecycle.Effect) -> None:
        """Carry out one effect."""
        match effect:
            case lifecycle.Spawn(generation):
                self._spawn(slot, instance, generation)
            case lifecycle.Watch():
                if self.probes and instance.process is not None:
                    self.probes.watch(slot, instance.component)
            case lifecycle.Guard():
                if self.probes and instance.process is not None:
                    self.probes.guard(slot, instance.component)
            case lifecycle.Signal(name):
                self._signal(slot, instance, getattr(signal, f"SIG{name}"))
            case lifecycle.Kill():
                self._kill(slot, instance)
            case lifecycle.RunStopCommand():
                self._run_stop_command(slot, instance)
            case lifecycle.Arm(timer, after):
                self.arm(slot, timer, after)

    def arm(self, slot: str, timer: int, after: float) -> None:
        """Post `Fired(timer)` after so many seconds."""

        def fire() -> None:
            self._post(slot, lifecycle.Fired(timer, self.host.chance()))

        self.host.call_later(after, fire)

    def follow(self, slot: str, process: Process) -> None:
        """Post `Exited` when the slot's first process has ended."""

        def ended(exit: Exit, looks: int = OUTPUT_LOOKS) -> None:  # noqa: A002
            if looks and self.pipes is not None and self.pipes.is_waiting(slot):
                # Whoever hears of its end finds all that it said.
                later = functools.partial(ended, exit, looks - 1)
                self.host.call_later(OUTPUT_AGAIN, later)
                return
            self._on_exit(slot, process, exit)

        self.by_pid[process.pid] = slot
        self.host.watch(process, ended)

    def resume(self, slot: str, process: Process, exit: Exit) -> None:  # noqa: A002
        """Go on where the slot's first process has ended and an earlier daemon wrote it down."""
        self._on_exit(slot, process, exit)

    def ended(self, slot: str) -> Process | None:
        """Return the slot's last process once it has ended, until the next is started."""
        return self._ended.get(slot)

    def leftovers(self, slot: str) -> int:
        """Return how many processes of a tree live whose leader has ended."""
        return self._leftovers.get(slot, 0)

    def warning(self, slot: str) -> str:
        """Return what went wrong with the last stop without preventing it."""
        return self._warnings.get(slot, "")

    def command(self, slot: str) -> Process | None:
        """Return the slot's stop command while it runs."""
        return self._commands.get(slot)

    def release(self) -> None:
        """Let the kernel forget what ended: the journal knows it now."""
        for process in self._release:
            self.host.release(process)
        self._release.clear()

    def forget(self, slot: str) -> None:
        """Drop what is known of a slot that is gone."""
        self._ended.pop(slot, None)
        self._leftovers.pop(slot, None)
        self._warnings.pop(slot, None)

    # ------------------------------------------------------------- starting

    def _spawn(self, slot: str, instance: Instance, generation: int) -> None:
        self.forget(slot)

        def done(outcome: Process | SpawnError) -> None:
            if isinstance(outcome, SpawnError):
                failed = lifecycle.SpawnFailed(
                    str(outcome), transient=outcome.transient, chance=self.host.chance()
                )
                self._post(slot, failed)
                return
            self.follow(slot, outcome)
            self._post(slot, lifecycle.Spawned(outcome))

        try:
            fds = self.probes.prepare(slot, instance.component) if self.probes else {}
        except OSError as error:
            reason = error.strerror or str(error)
            done(SpawnError("make a pipe", error.errno or 0, reason, transient=True))
            return
        try:
            if self.pipes is not None:
                self.pipes.prepare(slot, instance.component)
            given = dict(fds)
            if self.sockets is not None and instance.component.sockets:
                given |= self.sockets.prepare(instance.component)
            paths = self.guests.prepare(instance.component) if self.guests else None
            component = instance.component
            order = self._order(
                component, generation, self.place, self.secrets, given, reachable=paths
            )
            self.host.spawn(order, done)
        except SpawnError as error:
            done(error)
        finally:
            # The child has its copies; while ours are open, the end of a pipe is not seen.
            for fd in fds.values():
                os.close(fd)

    def _run_stop_command(self, slot: str, instance: Instance) -> None:
        def started(outcome: Process | SpawnError) -> None:
            if isinstance(outcome, SpawnError):
                self._stop_command_failed(slot, outcome)
                self._post(slot, lifecycle.StopCommandDone())
                return
            self.follow_command(slot, outcome, lifecycle.COMMAND_TIMEOUT)
            self.commanded(slot)

        self._commands.pop(slot, None)
        component, generation = instance.component, instance.generation
        order = programs.stop_order(component, generation, self.place, self.secrets)
        self.host.spawn(order, started)

    def follow_command(self, slot: str, command: Process, left: Seconds) -> None:
        """Post `StopCommandDone` when the slot's stop command has ended; kill it after `left`."""

        def ended(exit: Exit) -> None:  # noqa: A002
            self._release.append(command)
            if exit not in (Exit(code=0), Exit()):
                self._stop_command_failed(slot, exit)
            if self._commands.get(slot) == command:
                del self._commands[slot]
                self._post(slot, lifecycle.StopCommandDone())
            else:
                self._settle()

        def kill() -> None:
            self.host.signal(command, signal.SIGKILL, group=False)

        self._commands[slot] = command
        self.host.watch(command, ended)
        self.host.call_later(left, kill)

    def _stop_command_failed(self, slot: str, why: Exit | SpawnError) -> None:
        instance = self._instance(slot)
        name = instance.component.name if instance else slot
        self._warnings[slot] = f"the stop command failed: {why}"
        logger.warning("%s: %s", name, self._warnings[slot])

    # ------------------------------------------------------------- ends

    def _on_exit(self, slot: str, process: Process, exit: Exit) -> None:  # noqa: A002
        self._release.append(process)
        self.hear()
        self.by_pid.pop(process.pid, None)
        instance = self._instance(slot)
        if instance is None:
            self._settle()
            return
        self._ended[slot] = process
        if _may_be_oom(exit) and self.host.out_of_memory(self._marker(instance)):
            exit = structs.replace(exit, oom=True)  # noqa: A001
        left = self._watch_leftovers(slot, instance, process)
        if not left:
            self.host.dismiss(self._marker(instance))
        self._post(slot, lifecycle.Exited(exit, not left, self.host.chance()))

    def _watch_leftovers(self, slot: str, instance: Instance, leader: Process) -> int:
        """Follow what is left of a tree whose leader is gone; return how many they are."""
        left = self._survivors(instance, leader)
        self._leftovers[slot] = len(left)
        for process in left:

            def ended(_exit: Exit, process: Process = process) -> None:
                self._release.append(process)
                self._leftover_ended(slot, leader)

            self.host.watch(process, ended)
        return len(left)

    def _leftover_ended(self, slot: str, leader: Process) -> None:
        self._settle()
        instance = self._instance(slot)
        if instance is None or self._ended.get(slot) != leader:
            return
        self._leftovers[slot] -= 1
        if self._leftovers[slot] <= 0 and not self._watch_leftovers(slot, instance, leader):
            self.host.dismiss(self._marker(instance))
            self._post(slot, lifecycle.Emptied())

    # ------------------------------------------------------------- signals

    def _signal(self, slot: str, instance: Instance, number: int) -> None:
        process = instance.process
        if process is None:
            for leftover in self._of_ended(slot, instance):
                self.host.signal(leftover, number, group=False)
                self.host.signal(leftover, signal.SIGCONT, group=False)
            return
        group = instance.component.stop.kill is Kill.TREE
        self.host.signal(process, number, group=group)
        # A suspended process gets its stop signal only when it goes on.
        self.host.signal(process, signal.SIGCONT, group=group)

    def _kill(self, slot: str, instance: Instance) -> None:
        process = instance.process
        left = self._survivors(instance, process) if process else self._of_ended(slot, instance)
        if instance.component.stop.kill is not Kill.LEADER:
            self.host.kill_group(self._marker(instance))
        for leftover in left:
            self.host.signal(leftover, signal.SIGKILL, group=False)
        if process is not None:
            self.host.signal(process, signal.SIGKILL, group=False)

    def _of_ended(self, slot: str, instance: Instance) -> tuple[Process, ...]:
        leader = self._ended.get(slot)
        return self._survivors(instance, leader) if leader else ()

    def _survivors(self, instance: Instance, leader: Process) -> tuple[Process, ...]:
        if instance.component.stop.kill is Kill.LEADER:
            return ()  # Whatever else it started is not ours to end.
        return self.host.survivors(leader, self._marker(instance))

    def _marker(self, instance: Instance) -> str:
        return programs.marker(instance, self.place)


def _may_be_oom(exit: Exit) -> bool:  # noqa: A002
    """Whether it ended by KILL; a shell says so of its child by a code."""
    return exit.signal == signal.SIGKILL or exit.code == 128 + signal.SIGKILL
