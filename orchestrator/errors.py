"""The exception tree, the exit codes and the diagnostic of orch.

    OrchestratorError          1   anything of ours that a caller may meet
    ├── UsageError             2   the command line asks for something that cannot be
    ├── TopologyError          1   the topology cannot be used; carries every diagnostic
    ├── UnknownName            1   a name that no instance has; carries what is near it
    ├── SpawnError             1   a program could not be started; carries stage and errno
    ├── DaemonUnreachable     69   no daemon answers
    ├── DaemonRunning          1   another daemon owns the system; carries its pid
    ├── ProtocolError          1   a peer sent what the protocol does not allow
    ├── RequestFailed          1   the daemon refused or failed a request
    ├── JournalError           1   what must outlive the daemon cannot be written
    └── WaitTimeout            1   a wait ended without what it waited for

Errors are raised with data and formatted at the edge. This module imports nothing of ours.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import NamedTuple


class ExitCode(enum.IntEnum):
    """What scripts may rely on, see `docs/reference/exit-codes.md`."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NOT_RUNNING = 3
    UNKNOWN = 4
    COMPONENT_FAILURE = 10
    LIVENESS_FAILURE = 11
    UNREACHABLE = 69
    INTERRUPTED = 130
    TERMINATED = 143


class Severity(enum.StrEnum):
    """How bad a diagnostic is: errors make a topology unusable, warnings do not."""

    ERROR = "error"
    WARNING = "warning"


class Position(NamedTuple):
    """A place in a source file; line and column count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class Related(NamedTuple):
    """A second place that a diagnostic speaks of, and what stands there."""

    position: Position
    message: str


class Diagnostic(NamedTuple):
    """One mistake in a user's file.

    `length` is the number of columns to underline, `excerpt` the source line, `hint` a
    sentence that helps ("did you mean 'restart'?").
    """

    code: str
    message: str
    position: Position
    severity: Severity = Severity.ERROR
    length: int = 1
    excerpt: str = ""
    hint: str = ""
    related: tuple[Related, ...] = ()

    def __str__(self) -> str:
        return f"{self.position}: {self.severity} {self.code}: {self.message}"


class OrchestratorError(Exception):
    """Base of every error that orch raises on purpose."""

    exit_code: int = ExitCode.FAILED


class UsageError(OrchestratorError):
    """The command line asks for something that cannot be."""

    exit_code = ExitCode.USAGE


class TopologyError(OrchestratorError):
    """The topology cannot be used. `diagnostics` is never empty."""

    def __init__(self, diagnostics: Sequence[Diagnostic]) -> None:
        super().__init__("\n".join(map(str, diagnostics)))
        self.diagnostics = tuple(diagnostics)


class UnknownName(OrchestratorError):
    """No instance answers to `name`; `near` are the names it may have meant.

    `others` are more such names of the same command, with what is near them.
    """

    def __init__(
        self,
        name: str,
        near: Sequence[str] = (),
        others: Sequence[tuple[str, Sequence[str]]] = (),
    ) -> None:
        texts = []
        for unknown, like in ((name, near), *others):
            hint = f"; did you mean {' or '.join(map(repr, like))}?" if like else ""
            texts.append(f"unknown name {unknown!r}{hint}")
        super().__init__("; ".join(texts))
        self.name = name
        self.near = tuple(near)


class SpawnError(OrchestratorError):
    """A program could not be started.

    `stage` names what was being done in words ("execute './gateway'"); `errno` is the
    kernel's reason; `transient` tells that trying again may help (EAGAIN, EMFILE, ENOMEM).
    """

    def __init__(self, stage: str, errno: int, reason: str, *, transient: bool = False) -> None:
        super().__init__(f"cannot {stage}: {reason}")
        self.stage = stage
        self.errno = errno
        self.transient = transient


class DaemonUnreachable(OrchestratorError):
    """No daemon answers for this system."""

    exit_code = ExitCode.UNREACHABLE


class DaemonRunning(OrchestratorError):
    """Another daemon owns the system; `pid` is its keeper's, 0 when unknown."""

    def __init__(self, message: str, pid: int = 0) -> None:
        super().__init__(message)
        self.pid = pid


class ProtocolError(OrchestratorError):
    """A peer sent what the protocol does not allow."""


class RequestFailed(OrchestratorError):
    """The daemon refused or failed a request; `code` is stable, the message is for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class JournalError(OrchestratorError):
    """What must outlive the daemon cannot be written."""


class WaitTimeout(OrchestratorError):
    """A wait ended without what it waited for; the message says what that was."""
