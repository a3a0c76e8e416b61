"""A verified fake of the operating system, in virtual time.

`FakeHost` is to `daemon.host.Host` what a flight simulator is to an aeroplane: it keeps
processes, sessions, groups, parents, zombies and pids that are used again, and has a heap
of what will happen instead of a clock. `tests/contract` runs one suite on it and on the real
thing. What a supervisor must never ask for fails at once.
"""

from __future__ import annotations

import datetime as dt
import functools
import heapq
import itertools
import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from msgspec import structs

from orchestrator.daemon import journal as journals
from orchestrator.daemon.children import Ended
from orchestrator.daemon.host import Spawned
from orchestrator.errors import SpawnError
from orchestrator.model.phase import Exit, Process
from orchestrator.model.topology import Component
from orchestrator.process import MARKER, Order

KILL, STOP, CONT = int(signal.SIGKILL), int(signal.SIGSTOP), int(signal.SIGCONT)

WELL = Exit(code=0)

UNKNOWN_AFTER = 2.0
"""How long it takes to find out that nobody knows how a process ended."""

HARMLESS = frozenset({0, signal.SIGCHLD, signal.SIGWINCH, signal.SIGURG})


class DaemonKilled(BaseException):
    """The daemon is killed within this call; whoever drives the host catches it."""


@dataclass(frozen=True, slots=True)
class Fork:
    """A child that a program makes `after` its start; `orphan`: by a double fork."""

    program: Program
    after: float = 0.0
    setsid: bool = False
    orphan: bool = False
    unmarked: bool = False


@dataclass(frozen=True, slots=True)
class Program:
    """What a program does when nobody disturbs it, and when signals come.

    `lives` None: until a signal. `handles`: after how long, and how, it ends on a signal.
    `fails`: it cannot be started; with `slow`, which is known only after so many seconds.
    """

    lives: float | None = None
    exit: Exit = WELL
    ignores: frozenset[int] = frozenset()
    handles: Mapping[int, tuple[float, Exit]] = field(default_factory=dict)
    forks: tuple[Fork, ...] = ()
    fails: SpawnError | None = None
    slow: float = 0.0


@dataclass(slots=True, eq=False)
class Living:
    """A process of the fake world, until it is reaped."""

    process: Process
    program: Program
    marker: str
    session: int
    group: int
    parent: Living | None
    ours: bool
    alive: bool = True
    exit: Exit | None = None
    stopped: bool = False
    pending: list[int] = field(default_factory=list)
    overdue: Exit | None = None
    life: int = -1
    watcher: Ended | None = None


@dataclass(frozen=True, slots=True)
class Sent:
    """A signal that the daemon sent."""

    at: float
    process: Process
    number: int
    group: bool


class FakeHost:
    """The operating system that a supervisor sees, and levers for the test.

    Attributes:
        programs: What each argv does; what is not listed cannot be started by the test's will.
        world: All processes that are not reaped yet.
        sent: Every signal that the daemon sent.
        orders: Every order given to `spawn`.
        on_spawn: Called with each order before anything is done for it.
        on_signal: Called with each signal before it is delivered.
        starved: The markers of what the kernel has killed in for want of memory.
        killed_groups: The markers of the groups that were killed, in order.
        dismissed: The markers of what nothing was left of, in order.
        midnight: The wall clock's time at the beginning; setting it steps the clock.
        fuse: After so many steps of the daemon in the world it is killed; None: never.
    """

    def __init__(self, programs: Mapping[tuple[str, ...], Program] | None = None) -> None:
        self.programs: dict[tuple[str, ...], Program] = dict(programs or {})
        self.world: dict[Process, Living] = {}
        self.sent: list[Sent] = []
        self.orders: list[Order] = []
        self.on_spawn: Callable[[Order], None] = lambda _order: None
        self.on_signal: Callable[[Sent], None] = lambda _sent: None
        self.chances: Callable[[], float] = lambda: 0.5
        self.fuse: int | None = None
        self.midnight = dt.datetime(2026, 11, 22, tzinfo=dt.UTC)
        self.starved: set[str] = set()
        self.killed_groups: list[str] = []
        self.dismissed: list[str] = []
        self._clock = 1000.0
        self._heap: list[tuple[float, int, int, Callable[[], None]]] = []
        self._numbers = itertools.count(1)
        self._starts = itertools.count(1)
        self._known: set[Process] = set()
        self._life = 0

    # ------------------------------------------------------------- the protocol

    def now(self) -> float:
        return self._clock

    def wall(self) -> dt.datetime:
        return self.midnight + dt.timedelta(seconds=self._clock - 1000.0)

    def chance(self) -> float:
        return self.chances()

    def call_later(self, after: float, callback: Callable[[], None]) -> None:
        self._at(self._clock + max(0.0, after), callback, life=self._life)

    def spawn(self, order: Order, done: Spawned) -> None:
        assert order.argv in self.programs, f"nobody expected {order.argv} to be started"
        self.burn()
        self.on_spawn(order)
        self.orders.append(order)
        program = self.programs[order.argv]
        if program.fails is not None and program.slow == 0:
            done(program.fails)
            return
        if program.fails is not None:
            # The launcher lives for a while, and then says what it could not do.
            launcher = Program(program.slow, Exit(code=127))
            living = self._begin(launcher, order.environment.get(MARKER, ""), ours=True)
            self._at(
                self._clock + program.slow,
                lambda: self._fail(living, done, program.fails),
                life=self._life,
            )
            self.burn()
            return
        living = self._begin(program, order.environment.get(MARKER, ""), ours=True)
        self.burn()
        if program.slow:
            self._at(self._clock + program.slow, lambda: done(living.process), life=self._life)
        else:
            done(living.process)

    def way(self, process: Process) -> str | None:
        del process
        return None

    def watch(self, process: Process, ended: Ended) -> None:
        living = self.world.get(process)
        if living is None:
            self._at(self._clock + UNKNOWN_AFTER, lambda: ended(Exit()), life=self._life)
            return
        assert living.watcher is None or living.life != self._life, f"{process} watched twice"
        living.watcher, living.life = ended, self._life
        if not living.alive:
            self._tell(living)

    def release(self, process: Process) -> None:
        self.burn()
        living = self.world.get(process)
        if living is not None:
            assert not living.alive, f"{process} released while it lives"
            del self.world[process]
        self.burn()

    def signal(self, process: Process, number: int, *, group: bool) -> bool:
        assert process in self._known, f"a signal to a process that never was: {process}"
        self.burn()
        living = self.world.get(process)
        if living is None:
            return False
        sent = Sent(self._clock, process, int(number), group)
        self.on_signal(sent)
        self.sent.append(sent)
        targets = [living]
        if group:
            targets = [other for other in self.world.values() if other.group == process.pid]
        for target in targets:
            self._deliver(target, int(number))
        self.burn()
        return True

    def survivors(self, leader: Process, marker: str) -> tuple[Process, ...]:
        roots = [
            living
            for living in self.world.values()
            if living.process == leader
            or (
                living.parent is None
                and not living.ours
                and (leader.pid in (living.group, living.session) or living.marker == marker)
            )
        ]
        found: dict[Process, None] = {}
        while roots:
            living = roots.pop(0)
            if living.alive and living.process != leader:
                found[living.process] = None
            roots += [other for other in self.world.values() if other.parent is living]
        return tuple(found)

    def marked(self, prefix: str) -> Mapping[str, Process]:
        return {
            living.marker: living.process
            for living in self.world.values()
            if living.alive
            and living.session == living.process.pid
            and living.marker.startswith(prefix)
        }

    def kill_group(self, marker: str) -> None:
        self.killed_groups.append(marker)

    def out_of_memory(self, marker: str) -> bool:
        return marker in self.starved

    def dismiss(self, marker: str) -> None:
        self.dismissed.append(marker)

    # ------------------------------------------------------------- levers

    def burn(self) -> None:
        """Kill the daemon here, when the fuse has burnt down."""
        if self.fuse is None:
            return
        self.fuse -= 1
        if self.fuse < 0:
            self.fuse = None
            self.daemon_died()
            raise DaemonKilled

    def daemon_died(self) -> None:
        """Forget every callback that the dead daemon waits for; the world goes on."""
        self._life += 1

    def run_until(
        self, condition: Callable[[], bool] | float | None = None, *, limit: float = 3600.0
    ) -> None:
        """Let things happen until `condition` holds or the time comes.

        Nothing given: until nothing more happens by itself.
        """
        if isinstance(condition, int | float):
            assert condition >= self._clock, "time does not run backwards"
            self._run(lambda: False, float(condition))
            self._clock = float(condition)
            return
        end = self._clock + limit
        wanted = condition or (lambda: not self._heap)
        self._run(wanted, end)
        assert wanted(), f"not so within {limit:g}s"

    def advance(self, seconds: float) -> None:
        """Let so much time pass."""
        self.run_until(self._clock + seconds)

    def turn(self) -> None:
        """Let everything happen that is due now."""
        self.advance(0.0)

    def end(self, process: Process, end: Exit) -> None:
        """Let a process end, as if it did so by itself."""
        self._end(self.world[process], end)

    def foreign(self) -> Living:
        """Start a process that has nothing to do with us."""
        init = Living(Process(1, 0), Program(), "", 1, 1, None, ours=False)
        return self._begin(Program(), "", ours=False, parent=init)

    def living(self, prefix: str = "") -> tuple[Living, ...]:
        """Return what lives and is marked with a marker that begins so."""
        return tuple(p for p in self.world.values() if p.alive and p.marker.startswith(prefix))

    def leaders(self, prefix: str) -> tuple[Living, ...]:
        """Return the living processes that were spawned with a marker that begins so."""
        return tuple(living for living in self.living(prefix) if living.ours)

    def zombies(self) -> tuple[Process, ...]:
        """Return what this daemon's life should have reaped."""
        return tuple(
            living.process
            for living in self.world.values()
            if not living.alive and living.life == self._life
        )

    def names(self, since: int = 0) -> list[str]:
        """Return the names of the signals sent, CONT left out."""
        return [
            signal.Signals(sent.number).name.removeprefix("SIG")
            for sent in self.sent[since:]
            if sent.number != CONT
        ]

    # ------------------------------------------------------------- the world

    def _at(self, when: float, callback: Callable[[], None], life: int = -1) -> None:
        heapq.heappush(self._heap, (when, next(self._numbers), life, callback))

    def _run(self, wanted: Callable[[], bool], end: float) -> None:
        while not wanted() and self._heap and self._heap[0][0] <= end:
            when, _, life, callback = heapq.heappop(self._heap)
            self._clock = max(self._clock, when)
            if life in (-1, self._life):
                callback()

    def _pid(self) -> int:
        """The smallest pid that is free; one that still names a group or session is not."""
        used: set[int] = set()
        for living in self.world.values():
            used |= {living.process.pid, living.group, living.session}
        return next(pid for pid in itertools.count(100) if pid not in used)

    def _begin(
        self,
        program: Program,
        marker: str,
        *,
        ours: bool,
        parent: Living | None = None,
        setsid: bool = True,
    ) -> Living:
        process = Process(self._pid(), next(self._starts))
        session = process.pid if setsid or parent is None else parent.session
        group = process.pid if setsid or parent is None else parent.group
        living = Living(process, program, marker, session, group, parent, ours)
        self.world[process] = living
        self._known.add(process)
        if program.lives is not None:
            self._at(self._clock + program.lives, lambda: self._end(living, program.exit))
        for fork in program.forks:
            if fork.after:
                later = functools.partial(self._fork, living, fork)
                self._at(self._clock + fork.after, later)
            else:
                self._fork(living, fork)
        return living

    def _fork(self, parent: Living, fork: Fork) -> None:
        if not parent.alive:
            return
        marker = "" if fork.unmarked else parent.marker
        child = self._begin(fork.program, marker, ours=False, parent=parent, setsid=fork.setsid)
        if fork.orphan:
            child.parent = None

    def _fail(self, living: Living, done: Spawned, error: SpawnError | None) -> None:
        assert error is not None
        self._end(living, Exit(code=127))
        self.world.pop(living.process, None)
        done(error)

    def _deliver(self, living: Living, number: int) -> None:
        if not living.alive or number in HARMLESS:
            return
        if number == KILL:
            self._end(living, Exit(signal=KILL), even_stopped=True)
        elif number == STOP:
            living.stopped = True
        elif number == CONT:
            self._continue(living)
        elif living.stopped and number in living.program.handles:
            living.pending.append(number)  # a signal without a handler kills all the same
        elif number in living.program.handles:
            after, how = living.program.handles[number]
            self._at(self._clock + after, lambda: self._end(living, how))
        elif number not in living.program.ignores:
            self._end(living, Exit(signal=number), even_stopped=True)

    def _continue(self, living: Living) -> None:
        living.stopped = False
        pending, living.pending = living.pending, []
        for number in pending:
            self._deliver(living, number)
        if living.overdue is not None:
            self._end(living, living.overdue)

    def _end(self, living: Living, how: Exit, *, even_stopped: bool = False) -> None:
        if not living.alive or self.world.get(living.process) is not living:
            return
        if living.stopped and not even_stopped:
            living.overdue = how
            return
        living.alive, living.exit = False, how
        for other in self.world.values():
            if other.parent is living:
                other.parent = None
        if living.watcher is not None and living.life == self._life:
            self._tell(living)
        elif not living.ours:
            del self.world[living.process]  # its new parent reaps it

    def _tell(self, living: Living) -> None:
        watcher, how = living.watcher, living.exit
        assert watcher is not None
        assert how is not None
        self._at(self._clock, lambda: watcher(how), life=self._life)


class FakeProbes:
    """Readiness as the test decides it."""

    def __init__(self) -> None:
        self.watched: set[str] = set()
        self.guarded: set[str] = set()

    def prepare(self, slot: str, component: Component) -> dict[int, int]:
        del slot, component
        return {}

    def watch(self, slot: str, component: Component) -> None:
        del component
        self.watched.add(slot)

    def guard(self, slot: str, component: Component) -> None:
        del component
        self.guarded.add(slot)

    def forget(self, slot: str) -> None:
        self.watched.discard(slot)
        self.guarded.discard(slot)


class FusedJournal(journals.Journal):
    """A journal within which the daemon may be killed: before or after it is written."""

    host: FakeHost | None = None
    """None while it is being opened: whoever is killed then is so before the first event."""

    def _burn(self) -> None:
        if self.host is not None:
            self.host.burn()

    def write(self, rows: Iterable[tuple[Any, ...]]) -> bool:
        rows = list(rows)
        self._burn()
        written = super().write(rows)
        self._burn()
        return written

    def intend(self, rows: Sequence[tuple[Any, ...]]) -> bool:
        self._burn()
        written = super().intend(rows)
        self._burn()
        return written

    def components(
        self, components: Iterable[Component], removed: Iterable[str] = (), **received: Any
    ) -> None:
        components = list(components)
        self._burn()
        super().components(components, removed, **received)
        self._burn()


def component(name: str = "shop.web", **fields: Any) -> Component:
    """Return a command component whose argv is its own name."""
    service, _, rest = name.partition(".")
    base, _, instance = rest.partition("@")
    replicas = {"replicas": 2} if instance else {}
    return Component(
        service=service,
        component=base,
        instance=int(instance or 1),
        **{"command": (name,), **replicas, **fields},
    )


def with_fields(original: Component, **fields: Any) -> Component:
    """Return the component with other fields."""
    return structs.replace(original, **fields)
