"""Why an instance is as it is, in words."""

from __future__ import annotations

from msgspec import structs

from orchestrator.daemon import health as healths
from orchestrator.daemon.health import Health
from orchestrator.model.phase import Phase, Result
from orchestrator.supervision import lifecycle
from orchestrator.supervision.lifecycle import Instance


def told(before: Phase, after: Instance, event: type[lifecycle.Event]) -> str:
    """Return a change of phase in words."""
    why = f": {reason(after)}" if after.phase in (Phase.FAILED, Phase.BACKOFF) else ""
    return (
        f"{after.component.name}#{after.generation} {before.value} → "
        f"{after.phase.value} ({event.__name__}){why}"
    )


def explained(instance: Instance, health: Health) -> Instance:
    """The instance whose start took too long, with what the last look at it found."""
    end = instance.end
    if end is None or end.result is not Result.TIMEOUT_START or instance.ready:
        return instance
    found = healths.last_look(instance.component, health)
    if not found:
        return instance
    end = structs.replace(end, message=f"{end.message}: {found}")
    return structs.replace(instance, end=end)


def with_last_words(instance: Instance, words: str) -> Instance:
    """The instance whose process has ended, with what that said of its end."""
    end = instance.end
    if not words or end is None or instance.process or end.result is Result.REQUESTED:
        return instance
    end = structs.replace(end, message=f"{end.message or end.exit}: {words}")
    return structs.replace(instance, end=end)


def reason(instance: Instance) -> str:
    """Return in words why the last process ended."""
    end = instance.end
    if end is None:
        return ""
    return end.message or str(end.exit or end.result)
