"""A whole system against a random world, its daemon killed anywhere, and what always holds.

Rules are what users do, what programs do and what time does. After each of them:

- a slot has at most one living first process,
- the journal says what the supervisor knows,
- nothing that ended is left unreaped;

at each spawn, whatever the new process depends on is as it must be, and nothing of the slot's
earlier lives is alive; at each stop of a shutdown, the dependents are gone. The daemon may be
killed between any two of its steps, within a call of the host or a write of the journal; the
next one takes over the same processes. In the end, what nobody wants does not run, and a
shutdown leaves nothing.
"""

from __future__ import annotations

import functools
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from orchestrator.daemon import grouping
from orchestrator.errors import SpawnError
from orchestrator.model import topology
from orchestrator.model.phase import Exit, Phase
from orchestrator.model.topology import (
    Component,
    Condition,
    Dependency,
    Group,
    Limit,
    Ready,
    Restart,
    Rung,
    Strategy,
)
from orchestrator.process import MARKER, Order
from orchestrator.supervision import lifecycle
from tests import fakes
from tests.fakes import DaemonKilled, Fork, Program, Sent
from tests.unit.daemon.system import KEY, System, slot_of

TERM = signal.SIGTERM
STUBBORN = Program(ignores=frozenset({TERM}))
BUSY = SpawnError("start 'it'", 11, "Resource temporarily unavailable", transient=True)
MISSING = SpawnError("execute 'it'", 2, "No such file or directory")

PROGRAMS = {
    "calm": Program(),
    "slow to end": Program(handles={TERM: (1.5, Exit(code=0))}),
    "stubborn": STUBBORN,
    "succeeds": Program(0.7, Exit(code=0)),
    "crashes": Program(0.3, Exit(code=1)),
    "crashes late": Program(31.0, Exit(code=1)),
    "crashes and leaves": Program(
        0.5, Exit(code=7), forks=(Fork(STUBBORN, setsid=True, orphan=True), Fork(Program()))
    ),
    "has a family": Program(forks=(Fork(STUBBORN, setsid=True), Fork(STUBBORN, unmarked=True))),
    "forks late": Program(1.0, Exit(code=1), forks=(Fork(STUBBORN, 0.9, setsid=True),)),
    "slow to start": Program(slow=0.4),
    "slow and crashes": Program(0.2, Exit(code=3), slow=0.4),
    "busy": Program(fails=BUSY),
    "missing": Program(fails=MISSING),
    "missing, and slow": Program(fails=MISSING, slow=0.3),
}

LADDER = topology.Stop(ladder=(Rung("TERM", 2.0),))
READY = Ready(tcp="h:1")

COMPONENTS = {
    c.slot: c
    for c in (
        fakes.component("shop.db", ready=READY, stop=LADDER, start_timeout=9.0),
        fakes.component("shop.cache", settle=0.5, stop=LADDER, restart=Restart.ALWAYS),
        fakes.component(
            "shop.web",
            settle=0.0,
            stop=LADDER,
            limit=Limit(3),
            depends_on={
                "shop.db": Dependency(),
                "shop.cache": Dependency(Condition.STARTED),
            },
        ),
        fakes.component(
            "shop.job",
            settle=0.0,
            stop=LADDER,
            restart=Restart.NEVER,
            depends_on={"shop.web": Dependency(required=False)},
        ),
        fakes.component(
            "shop.after",
            ready=READY,
            stop=topology.Stop(ladder=(Rung("INT", 1.0), Rung("TERM", 1.0))),
            depends_on={"shop.job": Dependency(Condition.COMPLETED)},
        ),
    )
}

slots = st.sampled_from(sorted(COMPONENTS))
some = st.lists(slots, min_size=1, max_size=3, unique=True)


class Machine(RuleBasedStateMachine):
    """One system and its random life."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory(prefix="orch-machine")
        self.system = System(Path(self.directory.name))
        self.host = self.system.host
        self.components = dict(COMPONENTS)
        self.killing = False
        for component in COMPONENTS.values():
            self.host.programs[component.command] = Program()
        self.host.on_spawn = self._check_spawn
        self.host.on_signal = self._check_signal

    # ------------------------------------------------------------- what is checked on the way

    def _check_spawn(self, order: Order) -> None:
        slot = slot_of(order.environment[MARKER])
        supervisor = self.system.supervisor
        there = supervisor.slots[slot]
        assert not self.host.living(f"{KEY}/{slot}/"), f"{slot} is started beside an earlier life"
        assert not supervisor.stopping, f"{slot} is started while the system stops"
        for target, dependency in there.instance.component.depends_on.items():
            other = supervisor.slots[f"{target}@1"]
            instance = other.instance
            if there.alone and not other.up:
                continue
            holds = {
                Condition.READY: instance.ready,
                Condition.STARTED: instance.process is not None or instance.phase is Phase.EXITED,
                Condition.COMPLETED: instance.phase in (Phase.EXITED, Phase.FAILED),
                Condition.COMPLETED_SUCCESSFULLY: instance.phase is Phase.EXITED,
            }[dependency.condition]
            over = not dependency.required and instance.phase.is_terminal
            assert holds or over, f"{slot} starts while {target} is {instance.phase}"

    def _check_signal(self, sent: Sent) -> None:
        supervisor = self.system.supervisor
        if not supervisor.stopping or self.killing or sent.number != TERM:
            return
        for slot, there in supervisor.slots.items():
            state = there.instance.state
            if (
                isinstance(state, lifecycle.Stopping)
                and state.is_requested
                and state.leader == sent.process
            ):
                for other, user in supervisor.slots.items():
                    if f"{slot[:-2]}" in user.instance.component.depends_on:
                        left = self.host.leaders(f"{KEY}/{other}/")
                        assert not left, f"{slot} is stopped while {other} lives"

    def _guard(self, action: Callable[[], object]) -> None:
        """Do something; when the daemon is killed within, start another."""
        try:
            action()
            self.host.turn()
        except DaemonKilled:
            self._reborn()
        self.host.fuse = None

    def _reborn(self) -> None:
        self.system.reborn()
        self.host.turn()

    # ------------------------------------------------------------- users

    @initialize(strategy=st.sampled_from(Strategy), intensity=st.sampled_from([0, 2, 50]))
    def up(self, strategy: Strategy, intensity: int) -> None:
        group = Group(("shop.db", "shop.cache", "shop.web"), strategy, intensity)
        self.system.supervisor.groups.declared = {"core": group}
        self.system.journal.remember(groups=grouping.declared_text({"core": group}))
        self.system.apply(*self.components.values())
        self.host.turn()

    @rule(names=some, alone=st.booleans())
    def start(self, names: list[str], alone: bool) -> None:
        self._guard(lambda: self.system.supervisor.start(names, alone=alone))

    @rule(names=some)
    def stop(self, names: list[str]) -> None:
        self._guard(lambda: self.system.supervisor.stop(names))

    @rule(names=some)
    def restart(self, names: list[str]) -> None:
        self._guard(lambda: self.system.supervisor.restart(names))

    @rule(names=some)
    def reset(self, names: list[str]) -> None:
        self._guard(lambda: self.system.supervisor.reset(names))

    @rule()
    def apply(self) -> None:
        self._guard(lambda: self.system.apply(*self.components.values()))

    @rule(slot=slots, version=st.integers(1, 3))
    def change(self, slot: str, version: int) -> None:
        changed: Component = fakes.with_fields(
            self.components[slot], command=(COMPONENTS[slot].name, f"v{version}")
        )
        self.components[slot] = changed
        self.host.programs.setdefault(changed.command, Program())
        self._guard(lambda: self.system.apply(*self.components.values()))

    # ------------------------------------------------------------- programs

    @rule(slot=slots, what=st.sampled_from(sorted(PROGRAMS)))
    def becomes(self, slot: str, what: str) -> None:
        """From its next start on, the program behaves so."""
        self.host.programs[self.components[slot].command] = PROGRAMS[what]

    @rule(slot=slots, how=st.sampled_from([Exit(code=0), Exit(code=7), Exit(signal=9)]))
    def ends(self, slot: str, how: Exit) -> None:
        leaders = self.host.leaders(f"{KEY}/{slot}/")
        for leader in leaders:
            self.host.end(leader.process, how)
        self._guard(lambda: None)

    @rule(slot=slots)
    def becomes_ready(self, slot: str) -> None:
        self._guard(lambda: self.system.ready(slot))

    @rule()
    def all_become_ready(self) -> None:
        """What can be is ready, and what waits for it starts."""
        for slot in sorted(COMPONENTS):
            if slot in self.system.probes.watched:
                self._guard(functools.partial(self.system.ready, slot))

    @rule(slot=slots)
    def loses_readiness(self, slot: str) -> None:
        supervisor = self.system.supervisor
        self._guard(lambda: supervisor.post(slot, lifecycle.LostReadiness()))

    # ------------------------------------------------------------- time and death

    @rule(seconds=st.sampled_from([0.1, 0.5, 1.0, 5.0, 40.0]))
    def time_passes(self, seconds: float) -> None:
        self._guard(lambda: self.host.advance(seconds))

    @rule(seconds=st.sampled_from([0.0, 1.0, 10.0]))
    def daemon_dies(self, seconds: float) -> None:
        before = {
            slot: there.instance.process
            for slot, there in self.system.supervisor.slots.items()
            if there.up and there.instance.phase is Phase.RUNNING
        }
        self.system.kill_daemon()
        self.host.advance(seconds)
        alive = {p.process for p in self.host.world.values() if p.alive}
        self.system.new_daemon()
        self.host.turn()
        for slot, process in before.items():
            if process in alive:
                assert self.system.instance(slot).process == process, f"{slot} was not adopted"

    @rule(steps=st.integers(0, 25))
    def daemon_will_die(self, steps: int) -> None:
        """Somewhere within what comes next."""
        self.host.fuse = steps

    # ------------------------------------------------------------- what always holds

    @invariant()
    def one_process_at_most(self) -> None:
        for slot in COMPONENTS:
            leaders = self.host.leaders(f"{KEY}/{slot}/")
            assert len(leaders) <= 1, f"{slot} has {len(leaders)} processes"

    @invariant()
    def the_supervisor_knows_every_process(self) -> None:
        for slot, there in self.system.supervisor.slots.items():
            state = there.instance.state
            leaders = [living.process for living in self.host.leaders(f"{KEY}/{slot}/")]
            if not isinstance(state, lifecycle.Spawning):
                assert leaders == [p for p in [there.instance.process] if p is not None]

    @invariant()
    def the_journal_agrees(self) -> None:
        if self.host.fuse is None:
            assert self.system.mismatches() == []

    @invariant()
    def nothing_is_left_unreaped(self) -> None:
        if self.host.fuse is None:
            assert self.host.zombies() == ()

    # ------------------------------------------------------------- the end

    def teardown(self) -> None:
        try:
            self._end()
        finally:
            self.system.close()
            self.directory.cleanup()

    def _end(self) -> None:
        self.host.fuse = None
        for command in self.host.programs:
            self.host.programs[command] = Program()
        for _ in range(5):
            self.host.advance(60)
            for slot in self.system.probes.watched.copy():
                self.system.ready(slot)
        for slot, there in self.system.supervisor.slots.items():
            living = self.host.living(f"{KEY}/{slot}/")
            if not there.up:
                assert there.instance.phase.is_terminal, f"{slot} is {there.instance.phase}"
                assert not living, f"nobody wants {slot}, and {len(living)} of it live"
            else:
                assert there.instance.phase in (
                    Phase.RUNNING, Phase.WAITING, Phase.EXITED, Phase.FAILED
                ), f"{slot} is still {there.instance.phase}"  # fmt: skip
        if self.system.supervisor.slots:
            self.system.supervisor.shutdown()
            self.host.advance(120)
            assert self.system.finished == 1
            assert not self.host.living(f"{KEY}/")
            assert self.host.zombies() == ()
            assert self.system.mismatches() == []


TestSystem = Machine.TestCase
TestSystem.settings = settings(stateful_step_count=40)
