"""The typed, synchronous client of a system's daemon.

It speaks the control protocol over the unix socket in the system's runtime directory and
knows nothing of the daemon's inside. It never polls: every wait follows the watch stream
and has an end. A connection that breaks because the daemon died is opened anew, for the
keeper repairs the daemon and no component notices.
"""

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

__all__ = [
    "CONNECT_TIMEOUT",
    "LAST_LINES",
    "REPAIR_TIMEOUT",
    "REQUEST_TIMEOUT",
    "SOCKET_NAME",
    "Change",
    "Client",
    "Condition",
    "Event",
    "Outcome",
    "Row",
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
