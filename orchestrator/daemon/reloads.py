"""Reloading instances: how each takes on changed code, one replica after the other.

The first replica of a component is the canary: when it cannot take the code on, the others are
left alone. What a component answers is kept in its facts, so that its row tells of it.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections import deque
from collections.abc import Collection, Coroutine, Iterable, Iterator, Mapping
from typing import Any

from orchestrator.daemon import asking
from orchestrator.daemon.reasons import reason
from orchestrator.daemon.supervisor import Supervisor
from orchestrator.errors import RequestFailed
from orchestrator.model import units
from orchestrator.model.phase import Phase
from orchestrator.model.topology import Component, Reload
from orchestrator.model.units import Seconds

logger = logging.getLogger(__name__)

PATIENCE: Seconds = 60.0
"""How long a component may take to finish its message in hand and take on the code."""

PEER_PATIENCE: Seconds = 0.5
"""How long a peer may take to tell its models; one that is busy is not compared with."""

BESIDE: Seconds = 5.0
"""What a restart may take beyond the limits for stopping and starting."""

MINUTE: Seconds = 60.0
RESTARTS = 10
SWAPS = 60
"""So many restarts, or exchanges in place, may a minute's changed files cause in an instance."""

Outcome = dict[str, Any]
"""`name`, `message` and `outcome`.

The last is swapped, unchanged, restarted, signalled, skipped, failed, or begun when nobody waits.
"""


class Reloads:
    """Reloads of one system's instances; those of one component follow each other."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._turns: dict[str, asyncio.Lock] = {}
        self._news: dict[str, asyncio.Event] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._caused: dict[str, deque[tuple[float, bool]]] = {}

    def begin(self, slots: Iterable[str], why: str) -> list[Outcome]:
        """Reload without anybody waiting for it; the log and the rows tell how it went."""
        chosen = tuple(slots)
        self.resume(chosen)
        names = [self._name(slot) for slot in chosen]
        logger.info("Reloading %s: %s", ", ".join(names), why)
        self._spawn(self.reload(chosen))
        return [{"name": name, "outcome": "begun", "message": ""} for name in names]

    async def reload(
        self, slots: Collection[str], changed: Mapping[str, Collection[str]] | None = None
    ) -> list[Outcome]:
        """Reload the slots, components side by side and the replicas of each in turn.

        Args:
            slots: Which.
            changed: By slot the files because of which; then a component whose code holds the
                same as before does nothing.
        """
        by_base: dict[str, list[str]] = {}
        for slot in slots:
            base = self._supervisor.slots[slot].instance.component.base
            by_base.setdefault(base, []).append(slot)
        # The first replica is the canary, in whatever order the files that changed were found.
        together = frozenset(by_base)
        groups = [
            self._replicas(base, sorted(each, key=self._number), changed, together)
            for base, each in by_base.items()
        ]
        found = {each["name"]: each for group in await asyncio.gather(*groups) for each in group}
        return [found[name] for name in map(self._name, slots) if name in found]

    def changed(self, files: Mapping[str, frozenset[str]]) -> None:
        """Reload the slots that run and whose watched files, given for each, have changed."""
        there = self._supervisor.slots
        slots = [
            slot
            for slot in files
            if slot in there
            and there[slot].up
            and there[slot].instance.process is not None
            and there[slot].instance.component.reload is not Reload.NONE
            and not self._supervisor.facts[slot].unwatched
        ]
        if slots:
            paths = sorted(set().union(*(files[slot] for slot in slots)))
            more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
            logger.info("Changed: %s%s", ", ".join(paths[:3]), more)
            self._spawn(self._follow_change(slots, files))

    def tell_settings(self, slots: Iterable[str]) -> None:
        """Let components read their settings and configuration anew; restart who cannot."""
        for slot in slots:
            self._spawn(self._tell_settings(slot))

    async def _tell_settings(self, slot: str) -> None:
        there = self._supervisor.slots.get(slot)
        if there is None or there.instance.process is None:
            return  # Its start reads what is there.
        component = there.instance.component
        async with self._turns.setdefault(component.base, asyncio.Lock()):
            try:
                answer = await self._ask(component, "settings", within=PATIENCE)
            except RequestFailed as error:
                answer = {"outcome": "failed", "message": str(error)}
            if answer.get("outcome") == "failed" and slot in self._supervisor.slots:
                await self._restart(slot, f"changed settings: {answer.get('message')}")

    def resume(self, slots: Iterable[str]) -> None:
        """Heed changed files again: somebody looks after the slots."""
        for slot in slots:
            self._caused.pop(slot, None)
            self._supervisor.unwatched(slot, "")

    async def _follow_change(self, slots: list[str], files: Mapping[str, frozenset[str]]) -> None:
        now = self._supervisor.host.now()
        by_name = {self._name(slot): slot for slot in slots}
        for outcome in await self.reload(slots, files):
            slot = by_name[outcome["name"]]
            is_restart = outcome["outcome"] in ("restarted", "signalled")
            if is_restart or outcome["outcome"] in ("swapped", "failed"):
                self._count(slot, now, is_restart=is_restart)

    def _count(self, slot: str, now: float, *, is_restart: bool) -> None:
        """Suspend the watching of a slot that changes its own files, or fails again and again."""
        caused = self._caused.setdefault(slot, deque(maxlen=SWAPS + 1))
        caused.append((now, is_restart))
        recent = [again for when, again in caused if now - when < MINUTE]
        if sum(recent) > RESTARTS or len(recent) > SWAPS:
            name = self._name(slot)
            message = (
                f"watching is suspended after {len(recent)} reloads within a minute (does it "
                f"write its own files?); orch reload {name} resumes it"
            )
            logger.warning("%s: %s", name, message)
            self._supervisor.unwatched(slot, message)

    async def recover(self) -> None:
        """Ask adopted handlers which code they run: the daemon before us knew.

        Whoever takes settings is told of them: we do not know whether the one before us did.
        """
        self.tell_settings(
            slot
            for slot, there in self._supervisor.slots.items()
            if there.instance.component.takes_settings
        )
        for slot, there in tuple(self._supervisor.slots.items()):
            component = there.instance.component
            if component.handler is None or there.instance.process is None:
                continue
            try:
                answer = await self._ask(component, "code", within=1.0)
            except RequestFailed:
                continue
            self._tell(slot, answer)

    def recover_soon(self) -> None:
        """Begin to ask, while everything else goes on."""
        self._spawn(self.recover())

    def seen(self, slots: Iterable[str]) -> None:
        """Take notice that the rows of slots changed."""
        for slot in slots:
            if slot in self._news:
                self._news[slot].set()

    def close(self) -> None:
        """Stop what is under way."""
        for task in self._tasks:
            task.cancel()

    # ------------------------------------------------------------- one after the other

    async def _replicas(
        self,
        base: str,
        slots: list[str],
        changed: Mapping[str, Collection[str]] | None,
        together: frozenset[str],
    ) -> list[Outcome]:
        outcomes: list[Outcome] = []
        failed = ""
        async with self._turns.setdefault(base, asyncio.Lock()):
            for slot in slots:
                if slot not in self._supervisor.slots:
                    continue
                if failed:
                    message = f"left as it is, because {failed} could not be reloaded"
                    outcomes.append(self._outcome(slot, "skipped", message))
                    continue
                files = None if changed is None else changed.get(slot, ())
                outcomes.append(await self._one(slot, files, together))
                if outcomes[-1]["outcome"] == "failed":
                    failed = self._name(slot)
        return outcomes

    async def _one(
        self, slot: str, changed: Collection[str] | None, together: frozenset[str]
    ) -> Outcome:
        there = self._supervisor.slots[slot]
        component = there.instance.component
        if there.instance.process is None or not there.up or self._supervisor.stopping:
            # A restart would bring back what somebody has just stopped.
            return self._outcome(slot, "skipped", "it does not run; its start loads what is there")
        match component.reload:
            case Reload.NONE:
                return self._outcome(slot, "skipped", "its topology says `reload: none`")
            case Reload.SIGNAL:
                number = signal.Signals[f"SIG{component.reload_signal}"]
                # The process itself: what `signals` makes of it is for those that others send.
                self._supervisor.host.signal(there.instance.process, number, group=False)
                return self._outcome(slot, "signalled", f"sent {component.reload_signal}")
            case Reload.RESTART if not component.has_runtime:
                return await self._restart(slot, "its topology says `reload: restart`")
            case Reload.RESTART | Reload.HOT:
                return await self._exchange(slot, component, changed, together)

    async def _exchange(
        self,
        slot: str,
        component: Component,
        changed: Collection[str] | None,
        together: frozenset[str],
    ) -> Outcome:
        """Have a handler exchange its code; replace the process where that cannot be.

        The new code must agree with those at the other ends, as they are now; not with those
        of `together`, which are given new code too.
        """
        params: dict[str, object] = {} if changed is None else {"changed": sorted(changed)}
        if component.reload is Reload.RESTART:
            params["check"] = True
        elif peers := await self._peers(component, together):
            params["peers"] = peers
        try:
            answer = await self._ask(component, "reload", within=PATIENCE, **params)
        except RequestFailed as error:
            if error.code in ("unreachable", "unknown-method"):
                return await self._restart(slot, str(error))
            self._supervisor.reloaded(slot, error=str(error))
            return self._outcome(slot, "failed", str(error))
        self._tell(slot, answer)
        match answer.get("outcome"):
            case "restart":
                return await self._restart(slot, str(answer.get("message")))
            case "failed":
                return self._outcome(slot, "failed", str(answer.get("message")))
            case "unchanged":
                return self._outcome(slot, "unchanged", "its code is the same")
            case _:
                return self._outcome(slot, "swapped", "")

    async def _peers(
        self, component: Component, together: frozenset[str]
    ) -> list[dict[str, object]]:
        """Return what those at the other ends say of their models; who is silent is left out."""
        living = {
            there.instance.component.base: there.instance.component
            for there in self._supervisor.slots.values()
            if there.instance.process is not None
        }
        found = []
        for base, peer in living.items():
            met = [] if base in together or peer.handler is None else list(_met(component, peer))
            if not met:
                continue
            try:
                models = await self._ask(peer, "models", within=PEER_PATIENCE)
            except RequestFailed:
                continue
            for mine, theirs in met:
                if theirs in models:
                    found.append({"end": mine, "peer": f"{base} {theirs}", **models[theirs]})
        return found

    async def _restart(self, slot: str, why: str) -> Outcome:
        """Replace the process and wait until the next one is ready."""
        supervisor = self._supervisor
        before = supervisor.slots[slot].instance
        logger.info("Restarting %s: %s", before.component.name, why)
        supervisor.restart((slot,))
        component = before.component
        stopping = sum(rung.wait for rung in component.stop.ladder)
        limit = stopping + component.start_timeout + component.settle + BESIDE
        try:
            async with asyncio.timeout(limit):
                trouble = await self._until_ready(slot, before.generation)
        except TimeoutError:
            trouble = f"not ready after {units.format_duration(limit)}"
        if trouble:
            supervisor.reloaded(slot, error=f"restarted ({why}), and then: {trouble}")
            return self._outcome(slot, "failed", f"restarted ({why}), and then: {trouble}")
        return self._outcome(slot, "restarted", why)

    async def _until_ready(self, slot: str, generation: int) -> str:
        """Wait for a newer process to be ready; return what is wrong with it, if anything is."""
        news = self._news.setdefault(slot, asyncio.Event())
        try:
            while (there := self._supervisor.slots.get(slot)) is not None:
                instance = there.instance
                if instance.phase in (Phase.FAILED, Phase.STOPPED, Phase.DISABLED):
                    return reason(instance) or f"it is {instance.phase.value}"
                if instance.generation > generation:
                    if instance.ready or instance.phase is Phase.EXITED:
                        return ""
                    if instance.phase is Phase.BACKOFF:
                        return reason(instance)
                news.clear()
                await news.wait()
            return "it is gone from the topology"
        finally:
            self._news.pop(slot, None)

    # ------------------------------------------------------------- small parts

    async def _ask(
        self, component: Component, method: str, *, within: Seconds, **params: object
    ) -> dict[str, Any]:
        runtime_dir = self._supervisor.place.runtime_dir
        if self._supervisor.executor.guests is not None:
            self._supervisor.executor.guests.admit(component)
        return await asking.ask(runtime_dir, component, method, within=within, **params)

    def _tell(self, slot: str, answer: Mapping[str, Any]) -> None:
        if slot in self._supervisor.slots:
            code, error = answer.get("generation"), answer.get("error")
            self._supervisor.reloaded(slot, code=int(code or 1), error=str(error or ""))

    def _outcome(self, slot: str, outcome: str, message: str) -> Outcome:
        name = self._name(slot)
        if outcome == "failed":
            logger.error("Cannot reload %s: %s", name, message)
        elif outcome in ("swapped", "signalled"):
            logger.info("Reloaded %s: %s", name, message or "exchanged in place")
        return {"name": name, "outcome": outcome, "message": message}

    def _name(self, slot: str) -> str:
        return self._supervisor.slots[slot].instance.component.name

    def _number(self, slot: str) -> int:
        return self._supervisor.slots[slot].instance.component.instance

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.get_running_loop().create_task(work, name="reload")
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("Internal error in a reload", exc_info=task.exception())


def _met(one: Component, other: Component) -> Iterator[tuple[str, str]]:
    """Yield the ends of connections at which two components meet, as each calls its own."""
    sides = (
        ("in", one.connections.inward, "out", other.connections.outward),
        ("out", one.connections.outward, "in", other.connections.inward),
    )
    for mine, ends, theirs, others in sides:
        for name, value in ends.items():
            endpoints = frozenset(_endpoints(value))
            for peer, other_value in others.items():
                if not endpoints.isdisjoint(_endpoints(other_value)):
                    yield f"{mine}.{name}", f"{theirs}.{peer}"


def _endpoints(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, Mapping)):
        for one in value.values() if isinstance(value, Mapping) else value:
            yield from _endpoints(one)
