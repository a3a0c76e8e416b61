"""What the next daemon makes of a journal's records: pure, a slot and what follows of it.

A process that lives is adopted, one that has ended is judged, what waited waits on. Counters,
wishes and the time left of a backoff are as they were.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct, structs

from orchestrator.daemon import programs
from orchestrator.daemon.host import Host
from orchestrator.daemon.journal import Begun, Record
from orchestrator.daemon.programs import Place
from orchestrator.model.phase import Phase, Process, Result
from orchestrator.model.units import Instant
from orchestrator.supervision import lifecycle
from orchestrator.supervision.lifecycle import Instance
from orchestrator.supervision.reconcile import Slot

_UNWELL = frozenset({Result.TIMEOUT_START, Result.LIVENESS, Result.WATCHDOG})
_BY_REQUEST = frozenset({Result.REQUESTED, Result.TIMEOUT_STOP})


class Recovered(Struct, frozen=True):
    """A slot as it goes on; `events` come before whatever its process is found to do."""

    slot: Slot
    events: tuple[lifecycle.Event, ...] = ()
    process: Process | None = None
    timer: int | None = None
    """The number of the backoff's timer, which is to be armed again."""
    command: Process | None = None
    """Its stop command, if that was at work."""


def unwritten(records: Iterable[Record], host: Host, place: Place) -> dict[str, Process]:
    """Return by slot the processes that were forked and not written down: their marker is theirs.

    Only when there is an intent without a process is the machine searched.
    """
    intents = [r for r in records if r.phase is Phase.STARTING and r.process is None]
    marked = host.marked(f"{place.key}/") if intents else {}
    found = {}
    for record in intents:
        process = marked.get(programs.marker(_restored(record), place))
        if process is not None:
            found[record.slot] = process
    return found


def strays(records: Iterable[Record], host: Host, place: Place) -> dict[str, tuple[int, Process]]:
    """Return by slot what lives of this system and stands in no record: generation and process.

    Its marker says whose it is; only a journal that was lost leaves such.
    """
    known = {record.process for record in records}
    found: dict[str, tuple[int, Process]] = {}
    for marker, process in host.marked(f"{place.key}/").items():
        _, slot, generation = marker.rsplit("/", 2)
        if process in known or not generation.isdecimal() or slot.startswith(("probe/", "run:")):
            continue
        found[slot] = max(found.get(slot, (0, process)), (int(generation), process))
    return found


def take_over(
    record: Record, process: Process | None, begun: Begun | None, now: Instant
) -> Recovered:
    """Return how a slot goes on whose process, if it has one, is `process`.

    `begun` is how far its last stop had come, as far as that was written down.
    """
    instance, timer = _restored(record), None
    events: tuple[lifecycle.Event, ...] = ()
    if begun is not None and not _is_of(begun, record):
        begun = None
    if process is not None and begun is not None:
        events = (*_adoption(record, process), _stop_goes_on(record, begun, now))
    elif process is not None:
        events = (*_adoption(record, process), *_stop(record))
    elif record.phase in (Phase.STARTING, Phase.WAITING):
        instance = structs.replace(instance, state=lifecycle.Waiting())
    elif record.phase is Phase.BACKOFF:
        timer = instance.timers + 1
        state = lifecycle.Backoff(timer, record.due)
        instance = structs.replace(instance, state=state, timers=timer)
    command = begun.command if begun else None
    return Recovered(Slot(instance, record.up, record.alone), events, process, timer, command)


def _adoption(record: Record, process: Process) -> tuple[lifecycle.Event, ...]:
    ready = record.ready or record.phase is Phase.RUNNING
    adopted = lifecycle.Adopted(process, ready, record.spawned_at)
    if record.phase is Phase.RUNNING and not record.ready:
        return (adopted, lifecycle.LostReadiness())
    return (adopted,)


def _is_of(begun: Begun, record: Record) -> bool:
    """Whether it is the stop that the record speaks of; a crash that is cleared up is none."""
    return record.phase is Phase.STOPPING and begun.generation == record.generation


def _stop_goes_on(record: Record, begun: Begun, now: Instant) -> lifecycle.Event:
    left = max(0.0, begun.due - now)
    how = record.end.exit if record.ended and record.end else None
    return lifecycle.StopGoesOn(begun.rung, left, begun.result, record.ended, how, begun.lived)


def _stop(record: Record) -> tuple[lifecycle.Event, ...]:
    """Begin a stop anew for the reason it was begun; a crash that is cleared up has none."""
    end = record.end
    if record.phase is not Phase.STOPPING:
        return ()
    if end is not None and end.result in _UNWELL and (record.ended or end.exit is None):
        return (lifecycle.Unhealthy(end.result, end.message),)
    if not record.ended or end is None or end.result in _BY_REQUEST:
        return (lifecycle.Stop(),)
    return ()


def _restored(record: Record) -> Instance:
    """The instance that a record describes, without its process: that is adopted."""
    phase = record.phase if record.phase.is_terminal else Phase.STOPPED
    return Instance(
        record.component,
        lifecycle.Down(phase),
        generation=record.generation,
        restarts=record.restarts,
        failures=record.failures,
        attempt=record.attempt,
        spawned_at=record.spawned_at,
        end=record.end,
    )
