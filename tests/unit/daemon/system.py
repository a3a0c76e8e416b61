"""A whole supervisor on a fake host, its journal on a real file, its daemon mortal."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from msgspec import structs

from orchestrator.daemon import grouping, programs
from orchestrator.daemon.programs import Place
from orchestrator.daemon.runner import Runner
from orchestrator.daemon.supervisor import Supervisor
from orchestrator.model.phase import Exit, Phase, Process
from orchestrator.model.topology import Component, Group
from orchestrator.process import MARKER
from orchestrator.supervision import lifecycle
from orchestrator.supervision.lifecycle import End, Instance
from orchestrator.supervision.runs import Run
from tests.fakes import FakeHost, FakeProbes, FusedJournal, Program

KEY = "k1"


class System:
    """A supervisor, its world, and what every test wants to know about the two."""

    def __init__(self, directory: Path, host: FakeHost | None = None) -> None:
        self.host = host or FakeHost()
        self.place = Place(KEY, "shop", str(directory / "run"), str(directory))
        self.path = directory / "journal.db"
        self.reported: list[str] = []
        self.finished = 0
        self.runs_reported: list[Run] = []
        self._attach()

    def _attach(self) -> None:
        self.journal = FusedJournal.open(self.path, "boot")
        assert isinstance(self.journal, FusedJournal)
        self.journal.host = self.host
        self.probes = FakeProbes()
        self.supervisor = Supervisor(
            self.host, self.journal, self.place, self._report, self._on_finished
        )
        self.supervisor.executor.probes = self.probes
        self.runner = Runner(self.host, self.journal, self.place, self.runs_reported.extend)

    def _report(self, slots: Iterable[str]) -> None:
        self.reported.extend(slots)

    def _on_finished(self) -> None:
        self.finished += 1

    def close(self) -> None:
        self.journal.close()

    # ------------------------------------------------------------- what users do

    def apply(
        self,
        *components: Component,
        program: Program | None = None,
        names: Iterable[str] | None = None,
        alone: bool = False,
        remove_orphans: bool = False,
    ) -> list[str]:
        """Apply components; commands nobody scripted run until they are told to end."""
        for component in components:
            self.host.programs.setdefault(component.command, program or Program())
        by_slot = {component.slot: component for component in components}
        chosen = frozenset(by_slot if names is None else names)
        plan = self.supervisor.apply(by_slot, chosen, alone=alone, remove_orphans=remove_orphans)
        return [str(operation) for operation in plan]

    def group(self, name: str, *components: Component, **fields: Any) -> None:
        """Declare a group, and apply its components."""
        group = Group(tuple(dict.fromkeys(c.base for c in components)), **fields)
        self.supervisor.groups.declared = {name: group}
        self.journal.remember(groups=grouping.declared_text({name: group}))
        self.apply(*components)

    def ready(self, slot: str) -> None:
        """Let the process of a slot say that it is ready."""
        self.supervisor.post(slot, lifecycle.BecameReady())
        self.host.turn()

    def crash(self, slot: str, code: int = 1) -> None:
        """Let the process of a slot end by itself."""
        self.host.end(self.process(slot), Exit(code=code))
        self.host.turn()

    # ------------------------------------------------------------- the daemon's death

    def kill_daemon(self) -> None:
        """Kill -9: what was in its memory is gone, the world goes on."""
        self.host.fuse = None
        self.host.daemon_died()
        self.journal.close()

    def new_daemon(self) -> None:
        """Start a daemon on the same journal and the same world, and let it recover."""
        self._attach()
        kept = self.journal.meta()
        self.supervisor.groups.restore(kept.get("groups", "{}"), kept.get("standings", "{}"))
        self.supervisor.schedules.restore(kept.get("schedules", "{}"))
        self.supervisor.recover(self.journal.records())

    def reborn(self) -> None:
        """Kill the daemon and start another."""
        self.kill_daemon()
        self.new_daemon()

    # ------------------------------------------------------------- what is there

    def instance(self, slot: str) -> Instance:
        return self.supervisor.slots[slot].instance

    def phase(self, slot: str) -> str:
        return self.instance(slot).phase.value

    def phases(self) -> dict[str, str]:
        return {slot: there.instance.phase.value for slot, there in self.supervisor.slots.items()}

    def process(self, slot: str) -> Process:
        process = self.instance(slot).process
        assert process is not None, f"{slot} has no process"
        return process

    def result(self, slot: str) -> str | None:
        end = self.instance(slot).end
        return end.result.value if end else None

    def living(self, slot: str = "") -> int:
        """Return how many processes of a slot live."""
        return len(self.host.living(f"{KEY}/{slot}/" if slot else f"{KEY}/"))

    def started(self) -> list[str]:
        """Return the slots in the order of their spawns."""
        return [slot_of(order.environment[MARKER]) for order in self.host.orders]

    def mismatches(self) -> list[str]:
        """Return where the journal and the supervisor disagree."""
        records = {record.slot: record for record in self.journal.records()}
        found = [f"{slot} is not a slot" for slot in records if slot not in self.supervisor.slots]
        for slot, there in self.supervisor.slots.items():
            instance, record = there.instance, records.get(slot)
            if record is None:
                found.append(f"{slot} is not in the journal")
                continue
            pairs = {
                "component": (instance.component, record.component),
                "up": (there.up, record.up),
                "alone": (there.alone, record.alone),
                "phase": (instance.phase, record.phase),
                "ready": (instance.ready, record.ready),
                "process": (instance.process, None if record.ended else record.process),
                "generation": (instance.generation, record.generation),
                "restarts": (instance.restarts, record.restarts),
                "failures": (instance.failures, record.failures),
                "attempt": (instance.attempt, record.attempt),
                "end": (_written(instance.end), record.end),
            }
            found += [
                f"{slot}: {name} is {ours!r}, the journal says {theirs!r}"
                for name, (ours, theirs) in pairs.items()
                if ours != theirs
            ]
        return found

    def marker(self, slot: str) -> str:
        return programs.marker(self.instance(slot), self.place)


def _written(end: End | None) -> End | None:
    """An end as the journal keeps it: an exit that nobody knows is none."""
    if end is None or end.exit is None or end.exit != Exit():
        return end
    return structs.replace(end, exit=None)


def slot_of(marker: str) -> str:
    """Return the slot that a marker names."""
    return marker.split("/")[1]


DOWN = {Phase.STOPPED, Phase.EXITED, Phase.FAILED, Phase.DISABLED}
