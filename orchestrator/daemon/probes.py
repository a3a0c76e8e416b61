"""Probes: looking for the end of a start, for readiness, and for liveness.

Up to two tasks a process, ended with it: one waits for the end of its start and then follows
its readiness, the other follows its liveness from its first readiness on. What they find are
events of the life cycle and facts for its row; they decide nothing.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import signal
from collections.abc import Coroutine, Mapping
from typing import Any

from msgspec import structs

from orchestrator.daemon import looking, programs
from orchestrator.daemon.health import Health
from orchestrator.daemon.supervisor import Supervisor
from orchestrator.daemon.watchdog import Watchdogs
from orchestrator.errors import JournalError
from orchestrator.model import units
from orchestrator.model.phase import Phase, Result
from orchestrator.model.topology import PROBES, Component, Probe, Ready
from orchestrator.model.units import Seconds
from orchestrator.supervision import lifecycle, looks
from orchestrator.supervision.looks import Tally

logger = logging.getLogger(__name__)

_CURSOR = "log cursor of "

LOG_LOOKS: Seconds = 0.05
"""Pause between looks into a log that is to become ready; it costs one fstat."""

PIECE = 1 << 20
"""How much of a log is read at once."""


class Probes:
    """All probes and watchdogs of a system."""

    def __init__(self, loop: asyncio.AbstractEventLoop, supervisor: Supervisor) -> None:
        self.watchdogs = Watchdogs(supervisor.host, self._missed)
        self._loop = loop
        self._supervisor = supervisor
        self._tasks: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._ours: set[str] = set()
        self._started: set[str] = set()
        self._spoken: set[str] = set()
        self._pipes: dict[str, int] = {}
        self._offsets: dict[str, tuple[int, int]] = {}
        self._numbers = itertools.count(1)
        self._swept = False

    # ------------------------------------------------------------- what the executor asks

    def prepare(self, slot: str, component: Component) -> dict[int, int]:
        """Make what must be there before the process is: a pipe, the logs' present ends."""
        self.forget(slot)
        self._ours.add(slot)
        ready = component.ready
        if ready is None:
            return {}
        if ready.kind == "log":
            stdout, stderr = programs.outputs(component, self._supervisor.place)
            self._offsets[slot] = (_size(stdout), _size(stderr))
            self._keep_offsets(slot)
        if ready.fd is None:
            return {}
        reading, writing = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(reading, False)
        self._pipes[slot] = reading
        return {ready.fd: writing}

    def watch(self, slot: str, component: Component) -> None:
        """Begin to look for the end of a process's start, and for its readiness."""
        adopted = slot not in self._ours
        was_ready = adopted and self._phase(slot) is Phase.RUNNING
        if was_ready or component.startup is None:
            self._started.add(slot)
        if was_ready and (component.ready is None or component.ready.kind not in PROBES):
            return
        if adopted and not was_ready and component.startup is not None:
            # Its word was perhaps heard, and held back, by the daemon that started it.
            self._spoken.add(slot)
        self._begin(slot, "ready", self._follow_start(slot, component, was_ready=was_ready))

    def guard(self, slot: str, component: Component) -> None:
        """Begin to look after a process that is ready."""
        if component.live is not None:
            self._begin(slot, "live", self._follow_liveness(slot, component, component.live))
        if component.watchdog > 0:
            self.watchdogs.begin(slot, component.watchdog)

    def forget(self, slot: str) -> None:
        """Stop looking; the process is gone."""
        self.watchdogs.end(slot)
        for what in ("ready", "live"):
            task = self._tasks.pop((slot, what), None)
            if task is not None:
                task.cancel()
        reading = self._pipes.pop(slot, None)
        if reading is not None:
            self._loop.remove_reader(reading)
            os.close(reading)
        self._offsets.pop(slot, None)
        for slots in (self._ours, self._started, self._spoken):
            slots.discard(slot)

    def handed(self) -> tuple[dict[str, int], dict[str, tuple[int, int]]]:
        """Return what is needed to go on with awaiting readiness: pipes, and offsets in logs."""
        return dict(self._pipes), dict(self._offsets)

    def take(self, pipes: Mapping[str, int], offsets: Mapping[str, tuple[int, int]]) -> None:
        """Take what the code before us had `handed`, before processes are adopted."""
        self._pipes.update(pipes)
        self._offsets.update(offsets)

    def close(self) -> None:
        """Stop all looking."""
        for slot in {slot for slot, _ in self._tasks} | set(self._pipes) | self._ours:
            self.forget(slot)

    # ------------------------------------------------------------- what processes say

    def spoke(self, slot: str) -> None:
        """Take a process's own word that it is ready; before the end of its start it waits."""
        component = self._component(slot)
        speaks = component.ready.notify if component.ready else component.has_runtime
        if not speaks:
            return
        self._spoken.add(slot)
        if component.startup is None or slot in self._started:
            self._supervisor.post(slot, lifecycle.BecameReady())

    def found(self, slot: str, **facts: Any) -> None:
        """Take what was found out of a process for its row."""
        health = self._supervisor.facts[slot].health
        self._supervisor.tell(slot, structs.replace(health, **facts))

    def abort(self, slot: str, why: str) -> None:
        """Have a process that hangs, or says that it is broken, aborted and restarted."""
        status = self._health(slot).status
        message = f"{why} ({status})" if status else why
        self._supervisor.post(slot, lifecycle.Unhealthy(Result.WATCHDOG, message))

    def _missed(self, slot: str, period: Seconds) -> None:
        self.abort(slot, f"no WATCHDOG=1 within {units.format_duration(period)}")

    # ------------------------------------------------------------- following

    def _begin(self, slot: str, what: str, following: Coroutine[Any, Any, None]) -> None:
        before = self._tasks.pop((slot, what), None)
        if before is not None:
            before.cancel()
        task = self._loop.create_task(following, name=f"{what} probe of {slot}")
        self._tasks[slot, what] = task
        task.add_done_callback(_report_failure)

    async def _follow_start(self, slot: str, component: Component, *, was_ready: bool) -> None:
        if slot not in self._started and component.startup is not None:
            await self._until_good(slot, component, component.startup)
            self._started.add(slot)
            self.found(slot, started=True)
        ready = component.ready
        if ready is not None and ready.kind in PROBES:
            await self._follow_readiness(slot, component, ready, was_ready=was_ready)
            return
        match ready.kind if ready else None:
            case "delay":
                left = (ready.delay or 0.0) - self._age(slot) if ready else 0.0
                await asyncio.sleep(max(0.0, left))
            case "fd":
                await self._newline(slot)
            case "log":
                await self._line(slot, component, ready.log or "" if ready else "")
            case _:
                speaks = component.has_runtime or ready is not None
                if speaks and slot not in self._spoken:
                    return  # It will: see `spoke`.
        self._supervisor.post(slot, lifecycle.BecameReady())

    async def _follow_readiness(
        self, slot: str, component: Component, ready: Ready, *, was_ready: bool
    ) -> None:
        is_ready = self._supervisor.slots[slot].instance.ready
        tally = looks.adopted(ready) if was_ready and is_ready else Tally()
        if was_ready:
            await self._spread(ready)
        seen = 0
        while self._is_up(slot):
            trouble = await self._look(slot, component, ready)
            excused = self._age(slot) < ready.start_period
            before, tally = tally, looks.count(tally, ready, good=not trouble, excused=excused)
            seen += 1
            self.found(slot, trouble="" if tally.good else trouble)
            if tally.good and not before.good:
                self._supervisor.post(slot, lifecycle.BecameReady())
            elif before.good and not tally.good:
                logger.warning("%s is not ready any more: %s", component.name, trouble)
                self._supervisor.post(slot, lifecycle.LostReadiness())
            await asyncio.sleep(ready.every if tally.good else looks.eager_pause(ready, seen))

    async def _until_good(self, slot: str, component: Component, probe: Probe) -> None:
        tally = Tally()
        for seen in itertools.count(1):
            trouble = await self._look(slot, component, probe)
            tally = looks.count(tally, probe, good=not trouble)
            self.found(slot, trouble=trouble)
            if tally.successes >= probe.successes:
                return
            await asyncio.sleep(looks.eager_pause(probe, seen))

    async def _follow_liveness(self, slot: str, component: Component, probe: Probe) -> None:
        tally = Tally()
        if slot not in self._ours:
            await self._spread(probe)
        while self._is_up(slot):
            trouble = await self._look(slot, component, probe)
            excused = self._age(slot) < probe.start_period
            tally = looks.count(tally, probe, good=not trouble, excused=excused)
            self.found(slot, healthy=tally.good)
            if tally.good is False:
                times = f"{tally.failures} times" if tally.failures > 1 else "once"
                message = f"its liveness probe ({probe.kind}) failed {times}: {trouble}"
                self._supervisor.post(slot, lifecycle.Unhealthy(Result.LIVENESS, message))
                return
            await asyncio.sleep(probe.every)

    async def _spread(self, probe: Probe) -> None:
        """Wait for some part of a period: a new daemon finds everything at once."""
        await asyncio.sleep(probe.every * self._supervisor.host.chance())

    async def _look(self, slot: str, component: Component, probe: Probe) -> str:
        supervisor = self._supervisor
        prefix = f"{supervisor.place.key}/probe/"
        if probe.exec and not self._swept:
            # What an earlier daemon's probes ran and could not end any more.
            self._swept = True
            for process in supervisor.host.marked(prefix).values():
                supervisor.host.signal(process, signal.SIGKILL, group=True)
        marked = f"{prefix}{slot}/{next(self._numbers)}"
        secrets = supervisor.executor.secrets
        order = programs.probe_order(component, probe.exec, marked, supervisor.place, secrets)
        return await looking.look(probe, supervisor.host, order, secrets.values())

    async def _newline(self, slot: str) -> None:
        reading = self._pipes.get(slot)
        done = asyncio.Event()
        if reading is None:
            # Adopted: the pipe died with the daemon that made it; its start timeout decides.
            await done.wait()
            return

        def on_readable() -> None:
            try:
                data = os.read(reading, 4096)
            except BlockingIOError:
                return
            if b"\n" in data:
                done.set()
            if b"\n" in data or not data:
                self._loop.remove_reader(reading)

        self._loop.add_reader(reading, on_readable)
        await done.wait()

    async def _line(self, slot: str, component: Component, pattern: str) -> None:
        """Wait for a match in what the process has written since it was started."""
        paths = programs.outputs(component, self._supervisor.place)
        offsets = list(self._offsets.get(slot) or self._kept_offsets(slot))
        outputs = [looks.Output(pattern) for _ in paths]
        while True:
            more = False
            for number, path in enumerate(paths):
                if path is None or _size(path) <= offsets[number]:
                    continue
                with open(path, "rb") as file:  # noqa: ASYNC230, PTH123 - a local page cache
                    file.seek(offsets[number])
                    data = file.read(PIECE)
                offsets[number] += len(data)
                more = more or len(data) == PIECE
                if outputs[number].feed(data):
                    return
            await asyncio.sleep(0.0 if more else LOG_LOOKS)

    def _keep_offsets(self, slot: str) -> None:
        """Write down where the process's own output begins, for a daemon that adopts it."""
        out, err = self._offsets[slot]
        try:
            self._supervisor.journal.remember(**{_CURSOR + slot: f"{out} {err}"})
        except JournalError as error:
            logger.warning("%s; if this daemon dies %s may be seen ready too soon", error, slot)

    def _kept_offsets(self, slot: str) -> tuple[int, ...]:
        kept = self._supervisor.journal.meta().get(_CURSOR + slot, "0 0")
        return tuple(int(offset) for offset in kept.split())

    # ------------------------------------------------------------- small parts

    def _component(self, slot: str) -> Component:
        return self._supervisor.slots[slot].instance.component

    def _phase(self, slot: str) -> Phase:
        return self._supervisor.slots[slot].instance.phase

    def _health(self, slot: str) -> Health:
        return self._supervisor.facts[slot].health

    def _is_up(self, slot: str) -> bool:
        """Whether it still matters how the process is; while it stops it does not."""
        return self._phase(slot) in (Phase.STARTING, Phase.RUNNING)

    def _age(self, slot: str) -> Seconds:
        return self._supervisor.host.now() - self._supervisor.slots[slot].instance.spawned_at


def _size(path: str | None) -> int:
    if path is None:
        return 0
    try:
        return os.stat(path).st_size  # noqa: PTH116
    except OSError:
        return 0


def _report_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        logger.error("The %s failed", task.get_name(), exc_info=task.exception())
