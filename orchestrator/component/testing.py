"""Testing handlers: one component in memory, without sockets, processes or waiting.

    from orchestrator.component.testing import Component

    engine = Component("exchange/engine.py")
    engine.send("ticks", {"sequence": 1, "kind": "order", …})
    assert engine.send("depth", {"symbol": "ACME", "levels": 1})["bids"] == {…}

What goes in and comes out is checked against the models and travels as bytes in between, so that
a test sees what a peer would: tuples stay tuples, and what cannot be sent fails. States that come
in are set by the test; those that go out are recorded like messages. Functions see both, read-only
as they always are, and may be async: `send` runs one to its end, `send_together` several at once.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import itertools
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.component import calls, configuration, handlers, sending
from orchestrator.component.connections import End
from orchestrator.component.errors import SendError, UnknownOutput
from orchestrator.component.frozen import freeze
from orchestrator.component.models import Arguments
from orchestrator.component.states import Content, State
from orchestrator.wire import messages, values
from orchestrator.wire.states import merge

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
    _declared: Mapping[tuple[str, str], State] = field(init=False)
    _outward: dict[str, Any] = field(init=False)
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
        states = self._loaded.states(self._config)
        self._declared = {(state.type.side, state.name): state for state in states}
        self._outward = {name: {} for side, name in self._declared if side == "out"}
        if self._loaded.init_function is not None:
            to_send = self._to_send(is_async=False)
            self._loaded.init_function(to_send, _Seen(self), self._config)

    def send(self, name: str, arguments: Mapping[str, Any] | None = None) -> Any:
        """Send the component a message; return its reply, None when it was a publication.

        Raises:
            UnknownOutput: It has no such inward connection.
            ModelMismatch: Arguments or reply break their model.
        """
        end, called = self._called(name, arguments)
        return _replied(end, _finished(called()))

    def send_together(self, *messages: tuple[str, Mapping[str, Any]]) -> list[Any]:
        """Send several messages, and return their replies in the same order.

        Their functions begin in this order, and async ones are under way together, however many
        there are: no `concurrency` is asked. What `send` raises, this raises when all have ended.
        """
        sent = [self._called(name, arguments) for name, arguments in messages]

        async def handled(end: End, called: Callable[[], Any]) -> Any:
            result = called()
            return _replied(end, await result if inspect.iscoroutine(result) else result)

        async def together() -> list[Any]:
            under_way = (handled(end, called) for end, called in sent)
            return await asyncio.gather(*under_way, return_exceptions=True)

        replies = asyncio.run(together())
        for reply in replies:
            if isinstance(reply, BaseException):
                raise reply
        return replies

    def _called(
        self, name: str, arguments: Mapping[str, Any] | None
    ) -> tuple[End, Callable[[], Any]]:
        """Return a connection, and what calls its function with arguments as they arrive."""
        end = self._ends.get(("in", name))
        if end is None or end.function is None:
            known = ", ".join(repr(n) for side, n in self._ends if side == "in") or "none"
            raise UnknownOutput(f"cannot send to {name!r}: inward connections are {known}")
        came = _travelled(end.arguments, dict(arguments or {}), f"cannot send {name!r}")
        function = calls.adapt(end.function, calls.MESSAGE)
        to_send = self._to_send(is_async=calls.is_async(end.function))
        return end, functools.partial(function, came, to_send, _Seen(self), self._config)

    def main(self) -> Any:
        """Run the main function to its end and return what it returns."""
        main = self._loaded.main
        if main is None:
            raise SendError(f"cannot run {self.handler}: it has no main function")
        to_send = self._to_send(is_async=main.is_async)
        return _finished(main.call(to_send, _Seen(self), self._config))

    def state(self, name: str) -> Any:
        """Return a state as functions see it now, whether it comes in or goes out."""
        return _Seen(self)[name]

    def sent_to(self, name: str) -> list[Mapping[str, Any]]:
        """Return the arguments of all messages sent to an outward connection or state."""
        return [one.arguments for one in self.sent if one.name == name]

    def _to_send(self, *, is_async: bool) -> sending.ToSend:
        def output(take: Callable[[str, Any], Any], name: str) -> Callable[..., Any]:
            def send(arguments: Any, timeout: float | None = None) -> Any:
                del timeout
                end = self._ends.get(("out", name))
                if end is not None and end.function is not None and calls.is_async(end.function):
                    raise SendError(f"cannot call {name!r} from a plain function: it is async")
                return take(name, arguments)

            async def send_later(arguments: Any, *_: float | None) -> Any:
                result = take(name, arguments)
                return await result if inspect.iscoroutine(result) else result

            return send_later if is_async else send

        outputs = {name: output(self._take, name) for side, name in self._ends if side == "out"}
        return sending.make(outputs, {name: output(self._change, name) for name in self._outward})

    def _take(self, name: str, arguments: Any) -> Any:
        end = self._ends["out", name]
        if end.type.name == "external_request":
            return _called(end, arguments)
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

    def _change(self, name: str, arguments: Any) -> Any:
        """Change an outward state, and remember what was sent."""
        state = self._declared["out", name]
        subject = f"cannot send the state {name!r}"
        if not state.is_delta:
            self._outward[name] = came = _travelled(state.content, arguments, subject)
        else:
            changes, whole, _ = state.parts(arguments, subject)
            state.content.check_changes(changes, subject)
            dumped = state.content.dump_changes(changes)
            came = state.content.load_changes(_carried(values.mapping(dumped), subject))
            value = {} if whole else dict(self._outward[name])
            merge(value, came)
            self._outward[name] = value
            came = {**arguments, "state": came} if state.nested else {**arguments, **came}
        self.sent.append(Sent(name, came))
        return {}


class _Seen(Mapping[str, Any]):
    """The states as functions see them: each as it is now, and read-only."""

    def __init__(self, component: Component) -> None:
        self._component = component

    def __getitem__(self, name: str) -> Any:
        there = self._component
        if name in there._outward:  # noqa: SLF001 - the two are one
            return freeze(there._outward[name])  # noqa: SLF001
        state = there._declared.get(("in", name))  # noqa: SLF001
        if state is None or name not in there.states:
            return freeze(there.states[name] if state is None else {})
        given, subject = there.states[name], f"cannot have the state {name!r}"
        if not state.is_delta:
            return freeze(_travelled(state.content, given, subject))
        state.content.check_changes(given, subject)
        dumped = values.mapping(state.content.dump_changes(given))
        return freeze(state.content.load_changes(_carried(dumped, subject)))

    def __iter__(self) -> Iterator[str]:
        there = self._component
        inward = [name for side, name in there._declared if side == "in"]  # noqa: SLF001
        return iter(dict.fromkeys((*inward, *there._outward, *there.states)))  # noqa: SLF001

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __repr__(self) -> str:
        return repr(dict(self))


def _called(end: End, arguments: Any) -> Any:
    """Call the function of an external request, under its model; to be awaited if it is async."""
    assert end.function is not None
    end.arguments.check(arguments, f"cannot call {end.name!r}")
    result = end.function(**arguments)
    return _awaited(end, result) if inspect.iscoroutine(result) else _returned(end, result)


async def _awaited(end: End, result: Coroutine[Any, Any, Any]) -> Any:
    return _returned(end, await result)


def _returned(end: End, result: Any) -> Any:
    returned = {} if result is None else result
    if end.returns is not None:
        end.returns.check(returned, f"cannot use the reply to {end.name!r}")
    return returned


def _travelled(model: Arguments | Content, arguments: Any, subject: str) -> Any:
    """Return arguments as they arrive: checked, made bytes, read and checked again."""
    model.check(arguments, subject)
    try:
        dumped = arguments if model.dump is None else model.dump(arguments)
    except values.CannotEncode as error:
        raise SendError(f"{subject}: {error}") from error
    came = _carried(dumped, subject)
    came = came if model.load is None else model.load(came)
    model.check(came, subject)
    return came


def _carried(dumped: Any, subject: str) -> Any:
    try:
        frame = messages.encode_request(dumped, f"test-{next(_flow)}")
    except values.CannotEncode as error:
        raise SendError(f"{subject}: {error}") from error
    return messages.decode_request(frame)[0]


def _replied(end: End, result: Any) -> Any:
    """Return the reply as it arrives at who asked; None when nobody did."""
    if end.type.name != "replyer":
        return None
    assert end.returns is not None
    returned = {} if result is None else result
    return _travelled(end.returns, returned, f"cannot return from {end.name!r}")


def _finished(result: Any) -> Any:
    """Return the result of a function, having awaited that of an async one."""
    return asyncio.run(result) if inspect.iscoroutine(result) else result
