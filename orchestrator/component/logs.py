"""Log lines of a component: `time level name workflow_id message` on stderr."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime

from orchestrator.component.flow import Flow

PACKAGE = "orchestrator.component"
_name = "component"


def get_logger(name: str | None = None) -> logging.Logger:
    """Return a logger for handler code; without a name it has the component's own."""
    return logging.getLogger(name or _name)


def configure(component: str, level: str, flow: Flow) -> None:
    """Send log records of this process to stderr, each with the workflow in hand.

    Args:
        component: The name of the component.
        level: Name or number of the lowest level that is shown.
        flow: Where the workflow id of each moment stands.

    Raises:
        ValueError: There is no such level.
    """
    global _name  # noqa: PLW0603 - one component per process; `get_logger` is called by code that knows no runtime
    _name = component
    _formatter.component, _formatter.flow = component, flow
    root = logging.getLogger()
    wanted = int(level) if level.isdecimal() else logging.getLevelName(level.upper())
    if root.level != wanted:  # Setting it goes through all loggers.
        root.setLevel(wanted)
    if root.handlers != [_handler] or _handler.stream is not sys.stderr:
        _handler.stream = sys.stderr
        root.handlers[:] = [_handler]


def line_buffered() -> None:
    """Let lines of user code reach a log file when they are printed, not when a buffer is full."""
    for stream in (sys.stdout, sys.stderr):
        if not stream.line_buffering:
            stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]


class _Formatter(logging.Formatter):
    component = "component"
    flow = Flow()

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        # What the runtime itself says is said in the component's name.
        name = self.component if record.name.startswith(PACKAGE) else record.name
        workflow = self.flow.current or "-"
        record.message = record.getMessage()
        line = (
            f"{time.removesuffix('+00:00')}Z {record.levelname} {name} {workflow} {record.message}"
        )
        if record.exc_info and not record.exc_text:
            record.exc_text = self.formatException(record.exc_info)
        if record.exc_text:
            line = f"{line}\n{record.exc_text}"
        return line


# Made here, once: a forked component takes them as they are.
_formatter = _Formatter()
_handler = logging.StreamHandler(sys.stderr)
_handler.setFormatter(_formatter)
