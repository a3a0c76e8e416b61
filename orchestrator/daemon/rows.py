"""What clients see of an instance: one flat row, stable field by field."""

from __future__ import annotations

import datetime as dt
from typing import Any

from orchestrator.daemon import programs
from orchestrator.daemon.health import Health
from orchestrator.daemon.reasons import reason
from orchestrator.daemon.supervisor import Facts, Supervisor
from orchestrator.model import units
from orchestrator.model.phase import Phase, Result
from orchestrator.model.topology import Component
from orchestrator.model.units import Seconds
from orchestrator.supervision import lifecycle

Row = dict[str, Any]


def row(supervisor: Supervisor, slot: str) -> Row:
    """Return the row of a slot as `ps --json` shows it."""
    there, facts = supervisor.slots[slot], supervisor.facts[slot]
    instance = there.instance
    component = instance.component
    process, end, phase = instance.process, instance.end, instance.phase
    stdout, stderr = programs.outputs(component, supervisor.place)
    now = supervisor.host.now()
    exit = end.exit if end else None  # noqa: A001
    return {
        "name": component.name,
        "service": component.service,
        "component": component.component,
        "instance": component.instance,
        "phase": phase.value,
        "ready": instance.ready,
        "healthy": facts.health.healthy,
        "pid": process.pid if process else None,
        "start": supervisor.host.way(process) if process else None,
        "generation": instance.generation,
        "restarts": instance.restarts,
        "reload": "failed" if facts.reload_error else "ok",
        "code": facts.code if process and component.handler else None,
        "result": end.result.value if end else None,
        "exit_code": exit.code if exit else None,
        "signal": exit.signal if exit else None,
        "started_at": timestamp(facts.started_wall) if process else None,
        "wanted": "up" if there.up else "down",
        "why": _why(supervisor, slot, now),
        "failures": instance.failures_at(now),
        "next_start_in": _next_start_in(supervisor, slot, now),
        "stop_in": _rounded(supervisor.stops.ends_in(slot)),
        "stdout": stdout,
        "stderr": stderr,
        "warning": _warning(supervisor, slot),
    }


def timestamp(wall: float) -> str:
    """Return an RFC 3339 time in UTC with milliseconds."""
    when = dt.datetime.fromtimestamp(wall, dt.UTC)
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _why(supervisor: Supervisor, slot: str, now: float) -> str | None:
    there, facts = supervisor.slots[slot], supervisor.facts[slot]
    instance = there.instance
    match instance.phase:
        case Phase.WAITING:
            if supervisor.schedules.holds(slot):
                return supervisor.schedules.says(slot)
            waited = units.format_duration(now - facts.since)
            if turn := supervisor.admission.turnstile.says(slot):
                return _joined(f"{turn} {waited}", reason(instance))
            return f"{facts.waits or 'waiting for room to start'} {waited}"
        case Phase.BACKOFF:
            limit = instance.component.limit.failures
            count = f"{instance.failures}/{limit}" if limit else f"{instance.failures}"
            pause = units.format_duration(max(0.0, facts.due - now))
            return f"{reason(instance)}; restart {count}, next in {pause}"
        case Phase.FAILED:
            return reason(instance)
        case Phase.EXITED if there.up:
            return supervisor.schedules.says(slot) or None
        case Phase.STARTING:
            return _starting(instance.component, facts.health, now - facts.since)
        case Phase.RUNNING if not instance.ready:
            trouble = facts.health.trouble or "its readiness is lost"
            return _joined(f"not ready: {trouble}", facts.health.status, _reload(facts))
        case Phase.RUNNING:
            return _joined(_reload(facts), facts.health.status) or None
        case Phase.STOPPING:
            return _stopping(supervisor, slot)
        case _:
            return None


def _stopping(supervisor: Supervisor, slot: str) -> str:
    """Why it is being stopped, what it was told, and what comes next."""
    there = supervisor.slots[slot]
    instance, state = there.instance, there.instance.state
    left = supervisor.executor.leftovers(slot)
    if not isinstance(state, lifecycle.Stopping):
        return f"after its end ({reason(instance)}): {left} of its processes still live"
    if not state.is_requested:
        why = f"after a failure ({reason(instance)})"
    else:
        why = "to be started again" if there.up else "by request"
    if state.killed:
        parts = ["KILL was sent"]
    elif state.rung >= 0:
        parts = [f"{instance.component.stop.ladder[state.rung].signal} was sent"]
    else:
        watched = state.result is Result.WATCHDOG
        parts = ["ABRT was sent" if watched else "its stop command runs"]
    if state.leader is None:
        parts.append(f"it has ended, and {left} of its processes still live")
    ends_in = supervisor.stops.ends_in(slot)
    if ends_in is not None:
        parts.append(f"KILL follows in {units.format_duration(ends_in)}")
    return f"{why}: {'; '.join(parts)}"


def _next_start_in(supervisor: Supervisor, slot: str, now: float) -> float | None:
    """In how many seconds it is started by itself: at the end of a backoff, or by schedule."""
    there = supervisor.slots[slot]
    phase = there.instance.phase
    if phase is Phase.BACKOFF:
        return round(max(0.0, supervisor.facts[slot].due - now), 3)
    idle = phase in (Phase.EXITED, Phase.FAILED) or supervisor.schedules.holds(slot)
    if there.up and idle and there.instance.component.schedule and not supervisor.stopping:
        return round(supervisor.schedules.next_in(slot), 3)
    return None


def _warning(supervisor: Supervisor, slot: str) -> str | None:
    """What went wrong with its start or its log while it lives, with its stop from then on."""
    instance = supervisor.slots[slot].instance
    if instance.phase in (Phase.STARTING, Phase.RUNNING):
        parts = [supervisor.facts[slot].warning, supervisor.facts[slot].unwatched]
        if supervisor.logs_lost and instance.component.logs.capture:
            times = f" ({supervisor.logs_lost} times by now)" if supervisor.logs_lost > 1 else ""
            piped = instance.component.is_piped
            what = "it waits to write its log" if piped else "its log is being lost"
            parts.append(f"{what}: the disk is full{times}")
        return _joined(*parts) or None
    return supervisor.executor.warning(slot) or None


def _reload(facts: Facts) -> str:
    return f"its reload failed: {facts.reload_error}" if facts.reload_error else ""


def _starting(component: Component, health: Health, waited: Seconds) -> str | None:
    if component.startup is not None and not health.started:
        what = f"waiting for the end of its start ({component.startup.kind})"
    elif component.ready is not None:
        what = f"waiting for its readiness ({component.ready.kind})"
    else:
        return health.status or None
    return _joined(f"{what} {units.format_duration(waited)}", health.trouble, health.status)


def _joined(*parts: str) -> str:
    return "; ".join(part for part in parts if part)


def _rounded(seconds: Seconds | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
