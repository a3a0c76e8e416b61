"""The typed client of a system's daemon.

`Client` asks and changes what runs. `Jobs` and `AsyncJobs` submit runs of jobs and wait for
their results; what nobody names is not loaded.

It speaks the control protocol over the unix socket in the system's runtime directory and
knows nothing of the daemon's inside. It never polls: every wait follows the watch stream
and has an end. A connection that breaks because the daemon died is opened anew, for the
keeper repairs the daemon and no component notices.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.client.aio import AsyncJobs, AsyncRun
    from orchestrator.client.components import ask_components, connect_component
    from orchestrator.client.connection import (
        REPAIR_TIMEOUT,
        REQUEST_TIMEOUT,
        Change,
        Client,
        Watch,
        connect,
    )
    from orchestrator.client.endpoint import CONNECT_TIMEOUT
    from orchestrator.client.jobs import Jobs, Run
    from orchestrator.client.place import SOCKET_NAME
    from orchestrator.client.rows import (
        LAST_LINES,
        Condition,
        Event,
        Outcome,
        Row,
        RunRow,
        Step,
        Verdict,
        describe,
        ended,
        failure,
        is_scheduled,
        is_terminal,
        last_lines,
        ready,
        reason,
        regenerated,
        serving,
        settled,
        stopped,
    )

_NAMES = {
    "aio": "AsyncJobs AsyncRun",
    "components": "ask_components connect_component",
    "connection": "REPAIR_TIMEOUT REQUEST_TIMEOUT Change Client Watch connect",
    "endpoint": "CONNECT_TIMEOUT",
    "place": "SOCKET_NAME",
    "jobs": "Jobs Run",
    "rows": "LAST_LINES Condition Event Outcome Row RunRow Step Verdict describe ended failure "
    "is_scheduled is_terminal last_lines ready reason regenerated serving settled stopped",
}
"""What each module of ours has for others."""

_HOMES = {name: module for module, names in _NAMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib  # noqa: PLC0415 - it is loaded with the first command that asks a daemon

    found = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = found
    return found


__all__ = [
    "CONNECT_TIMEOUT",
    "LAST_LINES",
    "REPAIR_TIMEOUT",
    "REQUEST_TIMEOUT",
    "SOCKET_NAME",
    "AsyncJobs",
    "AsyncRun",
    "Change",
    "Client",
    "Condition",
    "Event",
    "Jobs",
    "Outcome",
    "Row",
    "Run",
    "RunRow",
    "Step",
    "Verdict",
    "Watch",
    "ask_components",
    "connect",
    "connect_component",
    "describe",
    "ended",
    "failure",
    "is_scheduled",
    "is_terminal",
    "last_lines",
    "ready",
    "reason",
    "regenerated",
    "serving",
    "settled",
    "stopped",
]
