"""Why an instance is as it is: a chain of sentences from it to the one to look at."""

from __future__ import annotations

from typing import Any

from orchestrator.daemon import rows
from orchestrator.daemon.supervisor import Supervisor
from orchestrator.model.phase import Phase, Result
from orchestrator.supervision import reconcile


def explain(supervisor: Supervisor, slot: str) -> dict[str, Any]:
    """Return the causal chain of a slot.

    Returns:
        `name`; `because`, a list of `{name, says}`, each the cause of the one before; and
        `culprit`, the row of the last of them when it is in trouble, else None.
    """
    chain: list[str] = [slot]
    while (cause := _cause(supervisor, chain[-1])) is not None and cause not in chain:
        chain.append(cause)
    last = chain[-1]
    phase = supervisor.slots[last].instance.phase
    in_trouble = phase not in (Phase.RUNNING, Phase.EXITED) or len(chain) > 1
    return {
        "name": supervisor.slots[slot].instance.component.name,
        "because": [_link(supervisor, one) for one in chain],
        "culprit": rows.row(supervisor, last) if in_trouble else None,
    }


def _cause(supervisor: Supervisor, slot: str) -> str | None:
    """Who keeps a slot from running: one of its group, or a dependency, hopeless ones first."""
    instance = supervisor.slots[slot].instance
    end = instance.end
    if supervisor.schedules.holds(slot):
        return None
    if instance.phase is Phase.FAILED and supervisor.groups.gave_up(slot):
        return supervisor.groups.culprit(slot)
    by_dependency = end is not None and end.result is Result.DEPENDENCY
    if instance.phase is not Phase.WAITING and not (
        instance.phase is Phase.FAILED and by_dependency
    ):
        return None
    unmet = list(reconcile.unmet(slot, supervisor.slots, supervisor.relations.members))
    for other, dependency, verdict in unmet:
        if isinstance(verdict, reconcile.Never) and dependency.required:
            return other
    waited = (other for other, _, verdict in unmet if isinstance(verdict, reconcile.Wait))
    return next(waited, None) or supervisor.groups.holder(slot)


def _link(supervisor: Supervisor, slot: str) -> dict[str, str]:
    there = supervisor.slots[slot]
    row = rows.row(supervisor, slot)
    if row["phase"] == "failed" and supervisor.groups.culprit(slot) not in (None, slot):
        return {"name": row["name"], "says": "was stopped with its group, which gave up"}
    if row["phase"] == "running" and not there.up:
        return {"name": row["name"], "says": _lingering(supervisor, slot)}
    says = _says(row, wanted=there.up)
    profiles = there.instance.component.profiles
    if profiles and not there.up and row["phase"] == "stopped":
        says = f"{says}: it is started by name, or with its profile ({', '.join(profiles)})"
    return {"name": row["name"], "says": says}


def _lingering(supervisor: Supervisor, slot: str) -> str:
    """Who is in the way of a stop that is asked for."""
    users = [
        other.instance.component.name
        for dependent in supervisor.relations.dependents.get(slot, ())
        if (other := supervisor.slots[dependent]).instance.phase
        in (Phase.STARTING, Phase.RUNNING, Phase.STOPPING)
    ]
    return f"is running until {', '.join(users) or 'its turn'} has stopped"


def _says(row: rows.Row, *, wanted: bool) -> str:
    why = row["why"]
    match row["phase"]:
        case "running":
            state = "is running and ready" if row["ready"] else "is running"
        case "waiting":
            return f"is {why}"
        case "failed":
            state = "was not started" if row["result"] == "dependency" else "has failed"
        case "backoff":
            state = "is in backoff"
        case "stopped":
            state = "is stopped" if wanted or row["generation"] else "was never started"
        case "exited":
            return f"has ended well (exit {row['exit_code']})"
        case "stopping":
            return f"is stopping {why}"
        case "disabled":
            return "is disabled (enabled: false)"
        case phase:
            state = f"is {phase}"
    return f"{state}: {why}" if why else state
