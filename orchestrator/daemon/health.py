"""What is found out of a living process beside its life cycle; forgotten when it ends."""

from __future__ import annotations

from msgspec import Struct

from orchestrator.model.topology import Component, Probe, Ready

LONGEST = 200
"""How many characters of a status text are shown."""


class Health(Struct, frozen=True):
    """What probes found and what the process says of itself.

    Attributes:
        started: Whether its start-up probe has succeeded.
        healthy: What its liveness probe found last; None as long as nothing, or without one.
        trouble: Why it is not ready, as the last look found it.
        status: The text of its last `STATUS=`.
    """

    started: bool = False
    healthy: bool | None = None
    trouble: str = ""
    status: str = ""


def last_look(component: Component, health: Health) -> str:
    """Return what was looked at in vain, and what was found; empty when nothing was."""
    has_begun = component.startup is None or health.started
    probe = component.ready if has_begun else component.startup
    if probe is None:
        return ""
    if not health.trouble:
        return _unheard(probe)
    target = probe.http or probe.tcp or " ".join(probe.exec)
    return ": ".join((f"{probe.kind} {target}".rstrip(), health.trouble))


def _unheard(probe: Probe) -> str:
    """Return what a process should have said; empty when it is looked at."""
    match probe:
        case Ready(kind="notify"):
            return "READY=1 did not come on NOTIFY_SOCKET"
        case Ready(kind="log", log=pattern):
            return f"nothing that it wrote matches {pattern!r}"
        case Ready(kind="fd", fd=number):
            return f"no newline came on file descriptor {number}"
        case _:
            return ""


def shown(text: str) -> str:
    """Return a text from a component as one line that is safe to print."""
    line = "".join(letter if letter.isprintable() else " " for letter in text).strip()
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"
