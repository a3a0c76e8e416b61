"""The supervisor: one queue of events, pure steps, and the effects they ask for.

One owner of all supervision state. Everything that happens is posted as an event; a turn
takes all that is queued, steps the instances, reconciles what changed with what is wanted
until nothing follows, writes the journal, and only then acts. So an effect is never taken
that the next daemon could not find written down, and the work is proportional to what
changed.
"""

from __future__ import annotations

import logging
import signal
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct, structs

from orchestrator.daemon import journal as journals
from orchestrator.daemon import reasons, recovery
from orchestrator.daemon.admission import Admission
from orchestrator.daemon.executor import Executor
from orchestrator.daemon.grouping import Grouping
from orchestrator.daemon.health import Health
from orchestrator.daemon.host import Host
from orchestrator.daemon.programs import Place
from orchestrator.daemon.schedules import Schedules
from orchestrator.daemon.stops import Stops
from orchestrator.errors import ExitCode, JournalError
from orchestrator.model.phase import Exit, Phase, Process, Result
from orchestrator.model.topology import AtEnd, Component, OnSignal
from orchestrator.model.units import Seconds
from orchestrator.supervision import changes, lifecycle, pace, reconcile
from orchestrator.supervision.lifecycle import Instance
from orchestrator.supervision.reconcile import Slot
from orchestrator.supervision.relations import Relations

logger = logging.getLogger(__name__)

TELL_WITHIN: Seconds = 1.0
"""How long clients may wait for the news of many starts while there are more to make."""


class Facts(Struct):
    """What is known of a slot beside its life cycle."""

    started_wall: float = 0.0
    due: float = 0.0
    waits: str = ""
    since: float = 0.0
    outdated: bool = False
    warning: str = ""
    health: Health = msgspec.field(default_factory=Health)
    code: int = 1
    reload_error: str = ""
    unwatched: str = ""
    last_words: str = ""


class Supervisor:
    """All instances of one system.

    Args:
        host: The operating system, or its fake.
        journal: Where slots are written before effects.
        place: The system's name and directories.
        report: Called with each slot whose row may have changed, once a turn.
        finished: Called once when a shutdown has brought everything down.
    """

    def __init__(
        self,
        host: Host,
        journal: journals.Journal,
        place: Place,
        report: Callable[[Iterable[str]], None],
        finished: Callable[[], None],
    ) -> None:
        self.host = host
        self.journal = journal
        self.place = place
        self.executor = Executor(host, place, self.post, self._soon, self._instance)
        self.slots: dict[str, Slot] = {}
        self.facts: dict[str, Facts] = {}
        self.stops = Stops(host, journal, self.slots, self.executor.command)
        self.executor.commanded = self.stops.changed
        self.groups = Grouping(self.slots, self._enqueue, self._touch, self._shutdown_after)
        self.schedules = Schedules(host, self.slots, self._on_schedule)
        self.admission = Admission(host, self._let_through)
        self.strays: dict[str, tuple[int, Process]] = {}
        self.stopping = False
        self.exit_code = 0
        self.exit_why = ""
        self.logs_lost = 0
        self.reload: Callable[[Sequence[str], str], object] = lambda _slots, _why: None
        self._report = report
        self._finished = finished
        self.relations = Relations()
        self._queue: deque[tuple[str, lifecycle.Event]] = deque()
        self._effects: list[tuple[str, lifecycle.Effect]] = []
        self._dirty: dict[str, None] = {}
        self._changed: dict[str, None] = {}
        self._leaving: dict[str, None] = {}
        self._leaving_written = ""
        self._transitions: list[tuple[Phase, Instance, type[lifecycle.Event]]] = []
        self._reported: dict[str, None] = {}
        self._tell_at = 0.0
        self._turning = False
        self._scheduled = False
        self._over = False

    # ------------------------------------------------------------- what clients ask

    def apply(
        self,
        components: Mapping[str, Component],
        chosen: frozenset[str],
        *,
        alone: bool = False,
        remove_orphans: bool = False,
        dry: bool = False,
    ) -> tuple[changes.Operation, ...]:
        """Make the slots be `components`, run the chosen ones; return the plan.

        Both are keyed by slot. With `dry` nothing is changed.

        Raises:
            JournalError: The journal cannot take it; nothing is changed.
        """
        present = {
            slot: changes.Present(
                there.instance.component,
                there.up,
                there.instance.process is not None or _is_spawning(there.instance),
                failed=there.instance.phase is Phase.FAILED,
                ended=there.instance.phase.is_terminal,
            )
            for slot, there in self.slots.items()
        }
        plan = changes.plan(present, components, chosen, remove_orphans=remove_orphans)
        if dry:
            return plan
        # First, so that a full disk refuses the whole of it.
        taken = [c for slot, c in components.items() if slot in chosen or slot not in self.slots]
        self.journal.components(taken)
        for slot, component in components.items():
            self._leaving.pop(slot, None)
            if slot in chosen or slot not in self.slots:
                self._set_component(slot, component)
        for slot in (*components, *(gone for gone in present if gone not in components)):
            self.slots[slot] = self.slots.pop(slot)  # People see them in the topology's order.
        self._remember(order=" ".join(self.slots))
        self._index()
        for operation in plan:
            slot = operation.slot
            match operation.action:
                case changes.Action.CREATE | changes.Action.START | changes.Action.RESTART:
                    if slot in chosen:
                        again = operation.action is changes.Action.RESTART
                        self._want(slot, up=True, alone=alone)
                        self._begin(slot, again=again)
                        self.facts[slot].outdated = again and _is_spawning(
                            self.slots[slot].instance
                        )
                case changes.Action.REMOVE:
                    self._want(slot, up=False)
                    self._leaving[slot] = None
                case _:
                    if not self.slots[slot].instance.component.enabled:
                        self._want(slot, up=False)
            self._touch(slot)
        self._turn()
        return plan

    def start(self, names: Sequence[str], *, alone: bool = False) -> None:
        """Run the named slots and, unless `alone`, all they depend on."""
        named = frozenset(names)
        for slot in names if alone else self.closure(names):
            self._want(slot, up=True, alone=alone)
            phase = self.slots[slot].instance.phase
            if slot in named or phase is not Phase.EXITED:
                self._begin(slot)
            if slot in named:
                self.schedules.release(slot)
        self._turn()

    def stop(self, names: Sequence[str]) -> None:
        """Bring the named slots down; those they depend on stay."""
        for slot in names:
            self._want(slot, up=False)
        self._turn()

    def restart(self, names: Sequence[str]) -> None:
        """Stop the named slots if they run, and run them."""
        for slot in names:
            self._want(slot, up=True)
            self._begin(slot, again=True)
            self.schedules.release(slot)
        self._turn()

    def reset(self, names: Sequence[str]) -> None:
        """Forget the failures of the named slots; those that gave up count as stopped."""
        for slot in names:
            self.groups.forget(slot)
            if self.slots[slot].instance.phase is Phase.FAILED:
                self._want(slot, up=False)
            self.post(slot, lifecycle.Reset())
        self._turn()

    def send(self, names: Iterable[str], number: int) -> dict[str, OnSignal]:
        """Let a signal do to the named slots what they declare; else it goes to their process.

        Returns:
            What was done, by slot; those without a process are left out.
        """
        name = signal.Signals(number).name.removeprefix("SIG")
        done: dict[str, OnSignal] = {}
        reloading: list[str] = []
        for slot in names:
            instance = self.slots[slot].instance
            if instance.process is None:
                continue
            action = instance.component.signals.get(name, OnSignal.PASS)
            match action:
                case OnSignal.PASS if not self.host.signal(instance.process, number, group=False):
                    continue
                case OnSignal.RELOAD:
                    reloading.append(slot)
                case OnSignal.RESTART:
                    self.restart([slot])
                case OnSignal.STOP:
                    self.stop([slot])
                case _:
                    pass
            done[slot] = action
        if reloading:
            self.reload(reloading, f"by {name}")
        return done

    def relay(self, number: int) -> None:
        """Let a signal that the daemon got reach the components that declare it."""
        name = signal.Signals(number).name.removeprefix("SIG")
        slots = [s for s, t in self.slots.items() if name in t.instance.component.signals]
        done = {} if self.stopping else self.send(slots, number)
        said = [f"{self.slots[slot].instance.component.name} {done[slot]}" for slot in done]
        logger.info("Got %s: %s", name, ", ".join(said) or "nobody takes it")

    def shutdown(self, *, kill: bool = False, exit_code: int = 0, why: str = "") -> None:
        """Bring everything down, in order or (`kill`) at once, then report `finished`.

        The first reason keeps the exit code; a later `kill` only hurries.
        """
        if not self.stopping:
            self.stopping = True
            self.exit_code = exit_code
            self.exit_why = why
            logger.info("Stopping the system: %s", why or "by request")
            # A daemon that takes over in the middle of it goes on with it.
            self._remember(stopping=why or "by request", exit_code=str(exit_code))
        self._end_strays()
        for slot in self.slots:
            self._want(slot, up=False)
            if kill:
                self.post(slot, lifecycle.KillNow())
        self._turn()

    @property
    def is_over(self) -> bool:
        """Whether a shutdown has brought everything down."""
        return self._over

    def settle(self) -> bool:
        """Have a turn now; tell whether all that must outlive us is written down."""
        self._turn()
        self.stops.write()
        return not self._dirty

    # ------------------------------------------------------------- events

    def post(self, slot: str, event: lifecycle.Event) -> None:
        """Queue an event. Outside of a turn, a turn follows at once-later."""
        self._queue.append((slot, event))
        self._soon()

    def _enqueue(self, slot: str, event: lifecycle.Event) -> None:
        """Queue an event within a turn."""
        self._queue.append((slot, event))

    def tell(self, slot: str, health: Health) -> None:
        """Take what was found out of a living process; its row shows it."""
        facts = self.facts[slot]
        if facts.health != health:
            facts.health = health
            self._reported[slot] = None
            self._soon()

    def lose_logs(self, times: int) -> None:
        """Take note that the disk of the logs is full, for the so many-th time; 0: no more."""
        self.logs_lost = times
        self._reported.update(dict.fromkeys(self.slots))
        self._soon()

    def unwatched(self, slot: str, message: str) -> None:
        """Take why changed files of a slot are not heeded; empty when they are."""
        if slot in self.facts and self.facts[slot].unwatched != message:
            self.facts[slot].unwatched = message
            self._reported[slot] = None
            self._soon()

    def reloaded(self, slot: str, *, code: int | None = None, error: str = "") -> None:
        """Take how a reload of a living process ended; its row shows it until the next one."""
        facts = self.facts[slot]
        facts.code = facts.code if code is None else code
        facts.reload_error = error
        self._reported[slot] = None
        self._soon()

    def _soon(self) -> None:
        """Have a turn after what the loop has in hand: many ends at once make one turn."""
        if not self._turning and not self._scheduled:
            self._scheduled = True
            self.host.call_later(0.0, self._scheduled_turn)

    def _scheduled_turn(self) -> None:
        self._scheduled = False
        self._turn()

    def _turn(self) -> None:
        """Step, reconcile, write, act: until nothing follows."""
        if self._turning:
            return
        self._turning = True
        self.admission.begin_turn()
        try:
            while self._queue or self._changed or self.admission.is_due:
                while self._queue:
                    slot, event = self._queue.popleft()
                    self._step(slot, event)
                changed, self._changed = self._changed, {}
                for slot in changed:
                    self._reconcile(slot)
                if not self._queue:
                    # Only when nothing is on its way that could take back what a start needs.
                    self._admit()
                if not self._queue:
                    self._act()
            self._write()
            self._drop_left()
        finally:
            self._turning = False
        # What is written down is told at once; what nobody waits for comes last.
        self._tell()
        self.executor.release()
        if self._transitions:
            # One record for the turn: a thousand components start in one.
            logger.info("%s", "\n".join(reasons.told(*each) for each in self._transitions))
            self._transitions.clear()
        if self.stopping and not self._over and self._is_down():
            self._over = True
            self._remember(stopping="")
            self._finished()

    def _tell(self) -> None:
        """Report the slots whose rows may have changed; not yet while there are starts to make."""
        if self.admission.has_room:
            self._soon()
            # What can still be started goes first; who watches is told of all of them together.
            now = self.host.now()
            self._tell_at = self._tell_at or now + TELL_WITHIN
            if now < self._tell_at:
                return
        self._tell_at = 0.0
        reported, self._reported = self._reported, {}
        if reported:
            self._report(reported)

    def _instance(self, slot: str) -> Instance | None:
        there = self.slots.get(slot)
        return there.instance if there else None

    def _ended(self, slot: str, instance: Instance) -> Process | None:
        """The dead leader of a tree that is being brought down."""
        if instance.process is None and instance.phase is Phase.STOPPING:
            return self.executor.ended(slot)
        return None

    def _is_down(self) -> bool:
        return all(isinstance(s.instance.state, lifecycle.Down) for s in self.slots.values())

    def _step(self, slot: str, event: lifecycle.Event) -> None:
        there = self.slots.get(slot)
        if there is None:
            return
        before = there.instance
        after, effects = lifecycle.step(before, event, self.host.now())
        if after is before and not effects:
            return
        if isinstance(before.state, lifecycle.Starting) and isinstance(event, lifecycle.Fired):
            after = reasons.explained(after, self.facts[slot].health)
        if isinstance(event, (lifecycle.Exited, lifecycle.Emptied)):
            after = reasons.with_last_words(after, self.facts[slot].last_words)
        self.slots[slot] = Slot(after, there.up, there.alone)
        self._effects.extend((slot, effect) for effect in effects)
        self._touch(slot)
        if type(after.state) is not type(before.state) or after.phase is not before.phase:
            if after.phase is not before.phase:
                # Put into words when what follows of it has been done.
                self._transitions.append((before.phase, after, type(event)))
            self._left(slot, before, after)
            if self.facts[slot].outdated and not _is_spawning(after):
                # What was being started when its declaration changed is started anew.
                self.facts[slot].outdated = False
                self._queue.append((slot, lifecycle.Stop()))

    def _left(self, slot: str, before: Instance, after: Instance) -> None:
        """What follows a change of state, besides the effects."""
        facts, state = self.facts[slot], after.state
        if after.phase is not before.phase:
            facts.since = self.host.now()
        facts.due = state.due if isinstance(state, lifecycle.Backoff) else 0.0
        if not isinstance(state, lifecycle.Waiting):
            self.admission.hold(slot)
            facts.waits = ""
        if isinstance(state, lifecycle.Spawning):
            self.schedules.started(slot)
            if after.generation > 1:
                self._restart_dependents(slot, after.component)
        else:
            loading = isinstance(state, lifecycle.Starting) and _is_loading(after)
            self.admission.load(slot, loading=loading)
        had, has = before.process is not None, state.process is not None
        if has and not had:
            facts.code, facts.reload_error, facts.last_words = 1, "", ""
        if had and not has:
            facts.health = Health()
            if self.executor.probes:
                self.executor.probes.forget(slot)
        if not self.stopping and self.groups.has(slot):
            self.groups.stepped(slot, before, after, self.host.now(), reasons.reason(after))
        if isinstance(state, lifecycle.Down) and not self.stopping:
            self._final(after)

    def _restart_dependents(self, slot: str, component: Component) -> None:
        """Restart those that asked to be restarted with `component`."""
        for dependent in self.relations.dependents.get(slot, ()):
            wishes = self.slots[dependent].instance.component.depends_on
            wish = wishes.get(component.base) or wishes.get(component.service)
            if wish is not None and wish.restart and self.slots[dependent].instance.process:
                self._queue.append((dependent, lifecycle.Stop()))

    def _final(self, instance: Instance) -> None:
        """An end that takes the system down."""
        component = instance.component
        end = instance.end
        if instance.phase is Phase.FAILED and component.on_failure is AtEnd.SHUTDOWN:
            unhealthy = end is not None and end.result in (Result.LIVENESS, Result.WATCHDOG)
            code = ExitCode.LIVENESS_FAILURE if unhealthy else ExitCode.COMPONENT_FAILURE
            self._shutdown_after(code, f"{component.name} failed ({reasons.reason(instance)})")
        elif instance.phase is Phase.EXITED and component.on_exit is AtEnd.SHUTDOWN:
            self._shutdown_after(
                ExitCode.DONE, f"{component.name} has ended ({reasons.reason(instance)})"
            )
        elif instance.phase is Phase.FAILED and component.on_exit is AtEnd.SHUTDOWN:
            why = f"{component.name} failed ({reasons.reason(instance)})"
            self._shutdown_after(ExitCode.COMPONENT_FAILURE, why)

    def _shutdown_after(self, code: int, why: str) -> None:
        self.host.call_later(0.0, lambda: self.shutdown(exit_code=code, why=why))

    # ------------------------------------------------------------- reconciliation

    def _reconcile(self, slot: str) -> None:
        """Post what the slot and its neighbours need now."""
        restarted = self.groups.advance(slot)
        self._settle(slot)
        for member in restarted:
            self._settle(member)
        for dependent in self.relations.dependents.get(slot, ()):
            self._settle(dependent)
        for need in self.relations.needs.get(slot, ()):
            self._settle(need)

    def _settle(self, slot: str) -> None:
        there = self.slots.get(slot)
        if there is None:
            return
        instance = there.instance
        if there.up:
            if (given_up := self.groups.gave_up(slot)) and _may_give_up(instance):
                self._queue.append((slot, lifecycle.GiveUp(given_up)))
            elif isinstance(instance.state, lifecycle.Down):
                if instance.phase is Phase.STOPPED and instance.component.enabled:
                    self._queue.append((slot, lifecycle.Start()))
            elif isinstance(instance.state, lifecycle.Waiting):
                self._consider(slot)
            elif isinstance(instance.state, lifecycle.Spawning) and instance.state.unwanted:
                self._queue.append((slot, lifecycle.Start()))
            return
        match instance.state:
            case lifecycle.Down() if not instance.component.enabled:
                self._disable(slot)
                return
            case lifecycle.Down() | lifecycle.Spawning(unwanted=True):
                return
            case lifecycle.Stopping() as state if state.is_requested:
                return
            case _:
                pass
        if instance.process is None or reconcile.may_stop(
            slot, self.slots, self.relations.dependents
        ):
            self._queue.append((slot, lifecycle.Stop()))

    def _disable(self, slot: str) -> None:
        there = self.slots[slot]
        if there.instance.phase is not Phase.DISABLED:
            disabled = structs.replace(there.instance, state=lifecycle.Down(Phase.DISABLED))
            self.slots[slot] = structs.replace(there, instance=disabled)
            self._touch(slot)

    def _consider(self, slot: str) -> None:
        """Look whether a waiting slot may start."""
        there, facts = self.slots[slot], self.facts[slot]
        verdict = reconcile.may_start(slot, self.slots, self.relations.members)
        if isinstance(verdict, reconcile.Clear) and (waits := self.groups.waits(slot)):
            verdict = reconcile.Wait(waits)
        if self.schedules.holds(slot):
            verdict = reconcile.Wait("")
        match verdict:
            case reconcile.Clear(warnings):
                facts.waits = ""
                warning = "; ".join(warnings)
                if warning and warning != facts.warning:
                    logger.warning("%s: %s", there.instance.component.name, warning)
                facts.warning = warning
                self.admission.allow(slot, paced=pace.needs_token(there.instance))
            case reconcile.Wait(message):
                self.admission.hold(slot)
                if facts.waits != message:
                    facts.waits = message
                    self._reported[slot] = None
            case reconcile.Never(message):
                self.admission.hold(slot)
                self._queue.append((slot, lifecycle.DependencyFailed(message)))

    def _on_schedule(self, slot: str) -> None:
        """A slot's time has come; what still runs, or waits to be tried again, is left alone."""
        there = self.slots[slot]
        if not there.up or self.stopping:
            return
        if not isinstance(there.instance.state, lifecycle.Down | lifecycle.Waiting):
            logger.info("%s: not run again, it is not over", there.instance.component.name)
            return
        self.schedules.release(slot)
        self._touch(slot)
        self.post(slot, lifecycle.Start())

    def _let_through(self) -> None:
        """Somebody's turn has come."""
        self.admission.let_through()
        self._turn()

    def _admit(self) -> None:
        """Let slots go that may start, while there is room."""
        for slot in self.admission.admitted():
            if _is_loading(self.slots[slot].instance):
                self.admission.load(slot, loading=True)
            self._queue.append((slot, lifecycle.Go()))

    # ------------------------------------------------------------- effects

    def _act(self) -> None:
        """Write, then do what the steps asked for."""
        if not self._effects:
            return
        if not self._intend():
            self._write()
        effects, self._effects = self._effects, []
        for slot, effect in effects:
            there = self.slots.get(slot)
            if there is None:
                continue
            if isinstance(effect, lifecycle.Spawn):
                # Shown to people, never reckoned with.
                self.facts[slot].started_wall = time.time()  # noqa: TID251
            try:
                self.executor.do(slot, there.instance, effect)
            except Exception as error:
                # A defect of ours in one effect must not cost the others theirs.
                logger.exception("Internal error: %s of %s", effect, slot)
                if isinstance(effect, lifecycle.Spawn):
                    failed = lifecycle.SpawnFailed(f"internal error: {error!r}")
                    self._queue.append((slot, failed))
            if isinstance(effect, lifecycle.Arm):
                self.stops.armed(slot, there.instance, effect)

    def _intend(self) -> bool:
        """Write down what is to be started; tell whether that is all that must be for now.

        The rest of what changed is written when the turn is over, and until then nobody is told.
        """
        if self.groups.unwritten or self.schedules.unwritten:
            return False
        rows = [
            self._row(slot, self.slots[slot], self.facts[slot])
            for slot, effect in self._effects
            if isinstance(effect, lifecycle.Spawn) and slot in self.slots
        ]
        return len(rows) == len(self._effects) and self.journal.intend(rows)

    # ------------------------------------------------------------- recovery

    def recover(self, records: Iterable[journals.Record], *, complete: bool = True) -> None:
        """Take over what an earlier daemon left: adopt what lives, judge what ended.

        Unless the records are `complete`, what lives and is in none of them is looked for too;
        it is adopted when a topology names it.
        """
        remembered = self.journal.meta()
        place = {slot: n for n, slot in enumerate(remembered.get("order", "").split())}
        found = sorted(records, key=lambda record: place.get(record.slot, len(place)))
        self._leaving_written = remembered.get("leaving", "")
        known = {record.slot for record in found}
        self._leaving = {s: None for s in self._leaving_written.split() if s in known}
        if not complete:
            self.strays = recovery.strays(found, self.host, self.place)
        unwritten = recovery.unwritten(found, self.host, self.place)
        begun, now = self.journal.begun(), self.host.now()
        taken = []
        for record in found:
            process = record.process or unwritten.get(record.slot)
            recovered = recovery.take_over(record, process, begun.get(record.slot), now)
            taken.append((record, recovered))
        for record, recovered in taken:
            self.slots[record.slot] = recovered.slot
            self.facts[record.slot] = Facts(record.started_wall)
        self._index()
        for record, recovered in taken:
            for event in recovered.events:
                self.post(record.slot, event)
            if recovered.command is not None:
                left = max(0.0, begun[record.slot].due - now)
                self.executor.follow_command(record.slot, recovered.command, left)
            if recovered.process is not None:
                self._follow(record, recovered.process)
            elif recovered.timer is not None:
                self.facts[record.slot].due = record.due
                left = max(0.0, record.due - self.host.now())
                self.executor.arm(record.slot, recovered.timer, left)
            self._touch(record.slot)
        self._turn()

    def _follow(self, record: journals.Record, process: Process) -> None:
        if record.ended:
            how = record.end.exit if record.end else None
            self.executor.resume(record.slot, process, how or Exit())
            return
        self.executor.follow(record.slot, process)
        logger.info("Adopted %s, pid %d", record.component.name, process.pid)

    # ------------------------------------------------------------- small parts

    def _set_component(self, slot: str, component: Component) -> None:
        there = self.slots.get(slot)
        if there is None:
            phase = Phase.STOPPED if component.enabled else Phase.DISABLED
            self.slots[slot] = Slot(Instance(component, lifecycle.Down(phase)))
            self.facts[slot] = Facts()
            self._claim(slot)
            return
        instance = structs.replace(there.instance, component=component)
        if instance.phase is Phase.DISABLED and component.enabled:
            instance = structs.replace(instance, state=lifecycle.Down())
        elif not component.enabled and isinstance(instance.state, lifecycle.Down):
            instance = structs.replace(instance, state=lifecycle.Down(Phase.DISABLED))
        self.slots[slot] = structs.replace(there, instance=instance)

    def _claim(self, slot: str) -> None:
        """Adopt what lives as a new slot's process although no journal knows it."""
        if slot not in self.strays:
            return
        generation, process = self.strays.pop(slot)
        there = self.slots[slot]
        instance = structs.replace(there.instance, generation=generation)
        self.slots[slot] = Slot(instance, up=instance.component.enabled)
        self.post(slot, lifecycle.Adopted(process, True, self.host.now()))
        self.executor.follow(slot, process)
        logger.info("Adopted %s, pid %d, of a lost journal", slot, process.pid)

    def _end_strays(self) -> None:
        """Kill what runs as ours when everything ends, and no topology has named it."""
        for slot, (generation, process) in self.strays.items():
            logger.warning("Killed pid %d, which ran as %s of a lost journal", process.pid, slot)
            marker = f"{self.place.key}/{slot}/{generation}"
            for each in (*self.host.survivors(process, marker), process):
                self.host.signal(each, signal.SIGKILL, group=False)
        self.strays.clear()

    def _drop_left(self) -> None:
        """Forget removed slots of which nothing lives any more."""
        gone = [
            s for s in self._leaving if isinstance(self.slots[s].instance.state, lifecycle.Down)
        ]
        if not gone:
            return
        for slot in gone:
            del self.slots[slot], self.facts[slot], self._leaving[slot]
            self.executor.forget(slot)
            self._reported[slot] = None
        try:
            self.journal.components((), gone)
        except JournalError as error:
            logger.warning("Removed instances may come back as orphans: %s", error)
        self._write_leaving()
        self._index()

    def _write_leaving(self) -> None:
        """Write down who is being removed: a daemon that takes over goes on with it."""
        leaving = " ".join(self._leaving)
        if leaving != self._leaving_written:
            self._remember(leaving=leaving)
            self._leaving_written = leaving

    def _remember(self, **values: str) -> None:
        try:
            self.journal.remember(**values)
        except JournalError as error:
            logger.warning("A daemon that takes over will not know all: %s", error)

    def _want(self, slot: str, *, up: bool, alone: bool = False) -> None:
        there = self.slots[slot]
        up = up and there.instance.component.enabled
        if up and not there.up:
            self.schedules.begin(slot)
        if there.up != up or there.alone != alone:
            self.slots[slot] = structs.replace(there, up=up, alone=alone)
        self._touch(slot)

    def _begin(self, slot: str, *, again: bool = False) -> None:
        """Start what is down; with `again`, stop what is not, and reconciliation starts it."""
        instance = self.slots[slot].instance
        if not instance.component.enabled:
            return
        self.groups.forgive(slot)
        if isinstance(instance.state, lifecycle.Down):
            self.post(slot, lifecycle.Start())
        elif again and not isinstance(instance.state, lifecycle.Waiting | lifecycle.Spawning):
            self.post(slot, lifecycle.Stop())
        elif isinstance(instance.state, lifecycle.Backoff | lifecycle.Waiting):
            self.post(slot, lifecycle.Start())
        elif isinstance(instance.state, lifecycle.Clearing) or (
            isinstance(instance.state, lifecycle.Stopping) and not instance.state.is_requested
        ):
            # The policy has no more say in what follows: it is wanted.
            self.post(slot, lifecycle.Stop())

    def _touch(self, slot: str) -> None:
        self.stops.changed(slot)
        self._dirty[slot] = None
        self._changed[slot] = None
        self._reported[slot] = None

    def _write(self) -> None:
        if self.groups.unwritten:
            self._remember(standings=self.groups.text())
        if self.schedules.unwritten:
            self._remember(schedules=self.schedules.text())
        self._write_leaving()
        if not self._dirty:
            return
        rows = []
        for slot in self._dirty:
            there, facts = self.slots.get(slot), self.facts.get(slot)
            if there is not None and facts is not None:
                rows.append(self._row(slot, there, facts))
        if self.journal.write(rows):
            self._dirty.clear()

    def _row(self, slot: str, there: Slot, facts: Facts) -> tuple[Any, ...]:
        return journals.row(
            slot,
            there.instance,
            up=there.up,
            alone=there.alone,
            due=facts.due,
            started_wall=facts.started_wall,
            ended=self._ended(slot, there.instance),
        )

    def _index(self) -> None:
        """Rebuild what follows from the declarations; only when the slots change."""
        self.relations = Relations.of(self.slots)
        self.groups.index(self.relations.members)
        self.schedules.index()

    def closure(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return the named slots and all they depend on."""
        seen = self.relations.closure(names)
        return tuple(slot for slot in self.slots if slot in seen)

    def users(self, names: Collection[str]) -> dict[str, tuple[str, ...]]:
        """Return by slot, of those named that run, who else runs and depends on it."""
        return self.relations.users(names, self.slots)


def _is_loading(instance: Instance) -> bool:
    """Whether its start is work that should not all be done at once.

    A command without readiness is up with its exec; there is nothing to spread.
    """
    return instance.component.is_awaited


def _is_spawning(instance: Instance) -> bool:
    return isinstance(instance.state, lifecycle.Spawning)


def _may_give_up(instance: Instance) -> bool:
    return instance.phase in (Phase.STOPPED, Phase.WAITING, Phase.BACKOFF)
