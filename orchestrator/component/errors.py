"""What a component can meet, below `orchestrator.errors.OrchestratorError`.

ComponentError
├── SetupError             the component cannot start; one line per mistake
│   └── ConfigurationError … its configuration is declared, written or filled in wrongly
│       └── UnknownField   … a name is none of its fields (also AttributeError, KeyError)
├── CannotSwap             new code is good, but needs a new process
├── ModelMismatch          a value breaks its model (also ValueError)
├── UnknownOutput          `to_send` names no declared output (also KeyError, ValueError)
├── SendError              a message could not be sent
│   └── SendTimeout        … within its time: a subscriber is too slow (also TimeoutError)
└── RequestError           a request was not answered as its model promises
    ├── RequestTimeout     … within its time (also TimeoutError)
    └── RemoteError        the peer answered with an error
        ├── RemoteRefusal  … it could not read the request or its model forbids the arguments
        └── RemoteFailure  … its handler raised, or returned what its model forbids
"""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.errors import OrchestratorError


class ComponentError(OrchestratorError):
    """Base of the errors of a component."""


class SetupError(ComponentError):
    """The component cannot start. `mistakes` is never empty."""

    def __init__(self, mistakes: str | Sequence[str]) -> None:
        self.mistakes = (mistakes,) if isinstance(mistakes, str) else tuple(mistakes)
        super().__init__("; ".join(self.mistakes))


class ConfigurationError(SetupError):
    """A configuration is declared, written or filled in wrongly. `mistakes` is never empty."""


class UnknownField(ConfigurationError, AttributeError, KeyError):
    """A configuration has no such field."""

    def __str__(self) -> str:
        # KeyError would show the message in quotes.
        return "; ".join(self.mistakes)


class CannotSwap(ComponentError):
    """New code cannot take the place of the old in this process; the message says why."""


class ModelMismatch(ComponentError, ValueError):
    """A value breaks its model. `mistakes` names each key, what was expected, what was found."""

    def __init__(self, subject: str, mistakes: Sequence[str]) -> None:
        super().__init__(f"{subject}: {'; '.join(mistakes)}")
        self.subject = subject
        self.mistakes = tuple(mistakes)


class UnknownOutput(ComponentError, KeyError, ValueError):
    """`to_send` names an output that no model declares."""

    def __str__(self) -> str:
        # KeyError would show the message in quotes.
        return str(self.args[0])


class SendError(ComponentError):
    """A message could not be sent."""


class SendTimeout(SendError, TimeoutError):
    """A message could not be sent in its time: a subscriber does not read fast enough."""


class RequestError(ComponentError):
    """A request was not answered as its model promises."""


class RequestTimeout(RequestError, TimeoutError):
    """No reply came in time. The request may have been carried out."""


class RemoteError(RequestError):
    """The peer answered with an error; carries its message, not its traceback.

    `kind` is one of `malformed`, `arguments`, `handler`, `return`; `type` names the exception of
    the peer's handler, if there was one.
    """

    def __init__(self, connection: str, kind: str, type_name: str, message: str) -> None:
        said = f"{type_name}: {message}" if type_name else message
        super().__init__(
            f"cannot complete the request {connection!r}: the peer answered with an error: {said}"
        )
        self.connection = connection
        self.kind = kind
        self.type = type_name
        self.message = message


class RemoteRefusal(RemoteError):
    """The peer could not read the request, or its model forbids it: nothing was done."""


class RemoteFailure(RemoteError):
    """The peer's handler raised, or returned what its model forbids."""


def remote(connection: str, kind: str, type_name: str, message: str) -> RemoteError:
    """Return the error for what a peer answered; kinds that are not known are plain ones."""
    classes = {
        "malformed": RemoteRefusal,
        "arguments": RemoteRefusal,
        "handler": RemoteFailure,
        "return": RemoteFailure,
    }
    return classes.get(kind, RemoteError)(connection, kind, type_name, message)
