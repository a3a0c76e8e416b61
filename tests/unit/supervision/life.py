"""One instance, stepped by hand in virtual time: what a test says happens, happens."""

from __future__ import annotations

import heapq
from typing import Any, TypeVar

from orchestrator.model.phase import Exit, Process
from orchestrator.supervision import lifecycle
from orchestrator.supervision.lifecycle import Effect, Event, Instance
from tests import fakes

E = TypeVar("E")

FIRST = Process(101, 1)
SECOND = Process(102, 2)


class Life:
    """An instance, its clock, its armed timers and everything it asked for."""

    def __init__(self, **fields: Any) -> None:
        self.now = 100.0
        self.instance = Instance(fakes.component(**fields))
        self.effects: list[Effect] = []
        self.at: list[float] = []
        self._timers: list[tuple[float, int]] = []
        self._pids = 100

    def post(self, *events: Event) -> Life:
        """Let events happen now."""
        for event in events:
            self.instance, effects = lifecycle.step(self.instance, event, self.now)
            for effect in effects:
                self.effects.append(effect)
                self.at.append(self.now)
                if isinstance(effect, lifecycle.Arm):
                    heapq.heappush(self._timers, (self.now + effect.after, effect.timer))
        return self

    def advance(self, seconds: float) -> Life:
        """Let time pass, and the timers that run out fire."""
        end = self.now + seconds
        while self._timers and self._timers[0][0] <= end:
            self.now, timer = heapq.heappop(self._timers)
            self.post(lifecycle.Fired(timer))
        self.now = end
        return self

    def up(self) -> Life:
        """Start it; the process is spawned, and no more."""
        self._pids += 1
        spawned = lifecycle.Spawned(Process(self._pids, self._pids))
        return self.post(lifecycle.Start(), lifecycle.Go(), spawned)

    def running(self) -> Life:
        """Start it and let it become ready."""
        return self.up().post(lifecycle.BecameReady())

    def respawned(self) -> Life:
        """Let the start that is waited for go ahead, and the process run."""
        self._pids += 1
        spawned = lifecycle.Spawned(Process(self._pids, self._pids))
        return self.post(lifecycle.Go(), spawned, lifecycle.BecameReady())

    def exited(self, code: int = 1, *, alone: bool = True) -> Life:
        """Let the process end."""
        return self.post(lifecycle.Exited(Exit(code=code), alone))

    def asked(self, kind: type[E]) -> list[E]:
        """Return the effects of a kind, from the beginning."""
        return [effect for effect in self.effects if isinstance(effect, kind)]

    def take(self) -> list[Effect]:
        """Return the effects since last asked, timers left out."""
        taken, self.effects = self.effects, []
        self.at = []
        return [effect for effect in taken if not isinstance(effect, lifecycle.Arm)]

    @property
    def phase(self) -> str:
        return self.instance.phase.value

    @property
    def result(self) -> str | None:
        return self.instance.end.result.value if self.instance.end else None

    @property
    def message(self) -> str:
        return self.instance.end.message if self.instance.end else ""

    @property
    def pause(self) -> float:
        """How long it still waits in backoff."""
        state = self.instance.state
        assert isinstance(state, lifecycle.Backoff)
        return state.due - self.now
