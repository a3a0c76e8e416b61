"""The typed client of a system's daemon.

`Client` asks and changes what runs. `Jobs` and `AsyncJobs` submit runs of jobs and wait for
their results; both are loaded when they are first named.

It speaks the control protocol over the unix socket in the system's runtime directory and
knows nothing of the daemon's inside. It never polls: every wait follows the watch stream
and has an end. A connection that breaks because the daemon died is opened anew, for the
keeper repairs the daemon and no component notices.
"""

from typing import TYPE_CHECKING, Any

from orchestrator.client.components import ask_components, connect_component
from orchestrator.client.connection import (
    REPAIR_TIMEOUT,
    REQUEST_TIMEOUT,
    Change,
    Client,
    Watch,
    connect,
)
from orchestrator.client.endpoint import CONNECT_TIMEOUT, SOCKET_NAME
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

if TYPE_CHECKING:
    from orchestrator.client.aio import AsyncJobs, AsyncRun
    from orchestrator.client.jobs import Jobs, Run


def __getattr__(name: str) -> Any:
    module = {"AsyncJobs": "aio", "AsyncRun": "aio", "Jobs": "jobs", "Run": "jobs"}.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib  # noqa: PLC0415 - most commands have no use for it

    return getattr(importlib.import_module(f"{__name__}.{module}"), name)


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
