"""Testing handlers: one component in memory, without sockets, processes or waiting.

    from orchestrator.component.testing import Component

    engine = Component("exchange/engine.py")
    engine.send("ticks", {"sequence": 1, "kind": "order", …})
    assert engine.send("depth", {"symbol": "ACME", "levels": 1})["bids"] == {…}

What goes in and comes out is checked against the models and travels as bytes in between, so that
a test sees what a peer would: tuples stay tuples, and what cannot be sent fails. States that come
in are set by the test; those that go out are recorded like messages. Functions may be async.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.component import calls, configuration, handlers, sending
from orchestrator.component.connections import End
from orchestrator.component.errors import SendError, UnknownOutput
from orchestrator.component.models import Arguments
from orchestrator.wire import messages

_flow = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Sent:
    """A message that the component has sent, as its receiver sees it."""

    name: str
    arguments: Mapping[str, Any]


@dataclass(slots=True)
class Component:
    """A loaded handler and its surroundings.

    Args:
        handler: Its file, package directory or module name.
        config: Its configuration by name.
        answers: By requester what its peer answers: the arguments of the reply, or a function of
            those of the request, which may raise.
        states: The states that come in, by name.
        python_path: Directories to import from.
    """

    handler: str
    config: Mapping[str, Any] = field(default_factory=dict)
    answers: dict[str, Any] = field(default_factory=dict)
    states: dict[str, Any] = field(default_factory=dict)
    python_path: tuple[str, ...] = ()
    sent: list[Sent] = field(default_factory=list, init=False)
    _ends: Mapping[tuple[str, str], End] = field(init=False)
    _outward: frozenset[str] = field(init=False)
    _loaded: handlers.Handler = field(init=False)
    _config: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        """Load the handler and call its `init_function`.

        Raises:
            SetupError: It cannot be loaded; names file and line.
        """
        path = Path(self.handler)
        where = str(path.resolve()) if path.exists() else self.handler
        self._loaded = handlers.load(where, self.python_path)
        self._config = configuration.resolve(self._loaded, self.config, {}, {})
        ends = self._loaded.ends(self._config)
        self._ends = {(end.type.side, end.name): end for end in ends}
        declared = self._loaded.states(self._config)
        self._outward = frozenset(state.name for state in declared if state.type.side == "out")
        if self._loaded.init_function is not None:
            self._loaded.init_function(self._to_send(is_async=False), self.states, self._config)

    def send(self, name: str, arguments: Mapping[str, Any] | None = None) -> Any:
        """Send the component a message; return its reply, None when it was a publication.

        Raises:
            UnknownOutput: It has no such inward connection.
            ModelMismatch: Arguments or reply break their model.
        """
        end = self._ends.get(("in", name))
        if end is None or end.function is None:
            known = ", ".join(repr(n) for side, n in self._ends if side == "in") or "none"
            raise UnknownOutput(f"cannot send to {name!r}: inward connections are {known}")
        came = _travelled(end.arguments, dict(arguments or {}), f"cannot send {name!r}")
        function = calls.adapt(end.function, calls.MESSAGE)
        to_send = self._to_send(is_async=calls.is_async(end.function))
        result = _finished(function(came, to_send, self.states, self._config))
        if end.type.name != "replyer":
            return None
        assert end.returns is not None
        return _travelled(end.returns, result or {}, f"cannot return from {name!r}")

    def main(self) -> Any:
        """Run the main function to its end and return what it returns."""
        main = self._loaded.main
        if main is None:
            raise SendError(f"cannot run {self.handler}: it has no main function")
        to_send = self._to_send(is_async=main.is_async)
        return _finished(main.call(to_send, self.states, self._config))

    def sent_to(self, name: str) -> list[Mapping[str, Any]]:
        """Return the arguments of all messages sent to an outward connection or state."""
        return [one.arguments for one in self.sent if one.name == name]

    def _to_send(self, *, is_async: bool) -> sending.ToSend:
        def output(name: str) -> Callable[..., Any]:
            def send(arguments: Any, timeout: float | None = None) -> Any:
                del timeout
                return self._take(name, arguments)

            async def send_later(arguments: Any, *_: float | None) -> Any:
                return send(arguments)

            return send_later if is_async else send

        names = [name for side, name in self._ends if side == "out"]
        outputs = {name: output(name) for name in names}
        states = {name: output(name) for name in self._outward}
        connections = sending.make(outputs)

        def to_send(kind: str, *rest: Any, **more: Any) -> Any:
            if kind == "state" and len(rest) == 2 and rest[0] in states:
                return states[rest[0]](rest[1])
            return connections(kind, *rest, **more)

        return to_send

    def _take(self, name: str, arguments: Any) -> Any:
        end = self._ends.get(("out", name))
        if end is None:
            self.sent.append(Sent(name, arguments))
            return {}
        if end.type.name == "external_request":
            assert end.function is not None
            return _finished(end.function(**arguments))
        came = _travelled(end.arguments, arguments, f"cannot send {name!r}")
        self.sent.append(Sent(name, came))
        if end.type.name != "requester":
            return {}
        if name not in self.answers:
            raise SendError(f"cannot answer {name!r}: give the test's component answers={{…}}")
        answer = self.answers[name]
        reply = answer(came) if callable(answer) else answer
        assert end.returns is not None
        return _travelled(end.returns, reply, f"cannot use the answer to {name!r}")


def _travelled(model: Arguments, arguments: Any, subject: str) -> Any:
    """Return arguments as they arrive: checked, made bytes, read and checked again."""
    model.check(arguments, subject)
    frame = messages.encode_request(
        arguments if model.dump is None else model.dump(arguments), f"test-{next(_flow)}"
    )
    came, _ = messages.decode_request(frame)
    came = came if model.load is None else model.load(came)
    model.check(came, subject)
    return came


def _finished(result: Any) -> Any:
    """Return the result of a function, having awaited that of an async one."""
    return asyncio.run(result) if inspect.iscoroutine(result) else result
