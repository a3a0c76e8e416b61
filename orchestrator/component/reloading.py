"""Hot reload: new code takes the place of the old between two messages, in the living process.

What belongs to the runtime stays: sockets, configuration, states, `to_send`. What belongs to the
handler's files is exchanged: functions, models and hooks. The steps, each of which leaves the old
code serving when it fails:

1. compile all files, import them as a new generation beside the old one;
2. read what it declares, run `setup_connection_models` and `setup_connections`, and compare with
   the sockets there are;
3. call its `init_function`, then its `on_load` with the old module;
4. exchange what every connection calls and checks, all at once;
5. call `on_unload` of the old code, and let it be collected.

No message is handled from step 1 to 5, and none is lost: they wait in the sockets. Where several
async functions may be under way, those that are go on in the old code, new messages are for the
new one, and step 5 is done when the last of the old has ended.
"""

from __future__ import annotations

import gc
import importlib
import inspect
import logging
import os
import time
import weakref
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from orchestrator.component import assembly, calls, configuration, handlers, loader
from orchestrator.component.assembly import Assembly
from orchestrator.component.connections import End
from orchestrator.component.control import Call
from orchestrator.component.errors import CannotSwap, SetupError
from orchestrator.component.handlers import Handler
from orchestrator.component.inbound import ENDS, go_on_after
from orchestrator.component.loader import Renewal
from orchestrator.component.states import State
from orchestrator.wire import shapes

logger = logging.getLogger(__name__)

Outcome = Mapping[str, Any]
"""How a reload ended.

`outcome` is swapped, unchanged, failed or restart (needs a new process), `message` says why,
`generation` counts the codes, `error` is set while the last code that was tried is not the one
that serves, and `held` is how many older codes something still refers to.
"""


Hook = Callable[[], Coroutine[Any, Any, None]]
"""Something to be done later."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """Code that may take over."""

    handler: Handler
    ends: tuple[End, ...]
    renewal: Renewal


class Reloader:
    """Exchanges the code of one component.

    Args:
        there: The component.
        later: Calls a function when nothing else is to be done; None where no loop runs.
        is_concurrent: Whether functions may be async.
        postpone: Takes what is to be done when no function of the code that served until now is
            under way any more, and tells whether one is; if not, it takes nothing.
    """

    def __init__(
        self,
        there: Assembly,
        later: Callable[[Callable[[], object]], object] | None = None,
        *,
        is_concurrent: bool = False,
        postpone: Callable[[Hook], bool] | None = None,
    ) -> None:
        self._there = there
        self._later = later
        self._is_concurrent = is_concurrent
        self._postpone = postpone
        self._leaving = 0
        self._gone: list[weakref.ref[ModuleType]] = []
        self._error = ""

    def models(self, _call: Call | None = None) -> Outcome:
        """Return the models of the connections as plain data, by `side.name`."""
        return {_label(end): _plain_models(end) for end in self._there.ends}

    def state(self, _call: Call | None = None) -> Outcome:
        """Return which code serves."""
        return self._outcome("")

    def reload(self, call: Call) -> Outcome:
        """Exchange the code where no loop awaits; async hooks get a loop for themselves."""
        try:
            self.exchanged(call.params).send(None)
        except StopIteration as end:
            outcome: Outcome = end.value
            return outcome
        raise AssertionError("internal error: an exchange awaits where nothing can")

    async def exchanged(self, params: Mapping[str, Any]) -> Outcome:
        """Exchange the code and return what became of it; raises nothing.

        Args:
            params: `changed`, the files because of which: when they make no other code, nothing
                is done. `check` asks for no more than that all files compile. `peers` is what is
            known of the other ends: a new model that does not agree with theirs is refused.
        """
        begun = time.monotonic()
        code = self._there.handler.code
        changed = params.get("changed")
        if changed is not None and code and not self._error and not code.is_touched(changed):
            return self._outcome("unchanged")
        try:
            await self._take_over(self._prepare(params))
        except CannotSwap as why:
            self._error = ""
            logger.info("The new code needs a new process: %s", why)
            return self._outcome("restart", str(why))
        except SetupError as error:
            self._error = str(error)
            logger.error("The reload failed, the old code goes on: %s", error)  # noqa: TRY400
            return self._outcome("failed", self._error)
        except Exception as error:
            # A defect of ours must not take the component down.
            logger.exception("Internal error in a reload")
            self._error = f"internal error: {error!r}"
            return self._outcome("failed", self._error)
        finally:
            if self._later is not None:
                self._later(self._collect)
        self._error = ""
        outcome = self._outcome("swapped")
        took = (time.monotonic() - begun) * 1000
        logger.info("Reloaded in %.0f ms: generation %d of the code", took, outcome["generation"])
        return outcome

    def _outcome(self, outcome: str, message: str = "") -> Outcome:
        code = self._there.handler.code
        return {
            "outcome": outcome,
            "message": message,
            "generation": code.generation if code else 1,
            "error": self._error,
            "held": sum(ref() is not None for ref in self._gone),
        }

    # ------------------------------------------------------------- the steps

    def _prepare(self, params: Mapping[str, Any]) -> Candidate:
        there = self._there
        only_check = bool(params.get("check"))
        code = there.handler.code
        if code is None:
            raise CannotSwap("it was not loaded from files")
        if only_check or there.instance.main_mode:
            code.check()
            raise CannotSwap(
                "its topology says `reload: restart`"
                if only_check
                else "main() runs, and would go on in the old code"
            )
        renewal = code.renew()
        try:
            handler = handlers.read(renewal.module, code)
            ends = self._checked(handler)
            _agree(handler, ends, params.get("peers") or ())
        except BaseException:
            renewal.undo()
            raise
        return Candidate(handler, ends, renewal)

    def _checked(self, handler: Handler) -> tuple[End, ...]:
        """Return the ends of new code, or raise what stands against it.

        Mistakes are raised before what needs a new process.
        """
        there = self._there
        ends = handler.ends(there.config)
        assembly.check_mode(there.instance, handler, ends)
        ends = there.wired(ends)
        new = {_key(end): end for end in ends}
        old = {_key(end): end for end in there.ends}
        gone = [end for key, end in old.items() if key not in new and end.type.sockets]
        if gone:
            file = handler.origin.file
            raise SetupError(
                [
                    f"{file}: {end.type.side}.{end.name} is wired in the topology, and the new "
                    "code does not declare it"
                    for end in gone
                ]
            )
        same_config = handler.config.plain() == there.handler.config.plain()
        if not same_config:
            given = there.instance
            configuration.resolve(handler, given.config, os.environ, given.arguments)
        for key in new.keys() ^ old.keys():
            raise CannotSwap(f"the connection {'.'.join(key)} {_fate(key, old)}")
        for key, end in new.items():
            self._compare(old[key], end)
        if _plain(handler.states(there.config)) != _plain(there.replicated):
            raise CannotSwap("state_models have changed, and states outlive the code")
        if not same_config:
            raise CannotSwap("config_model has changed, and configuration is read at start")
        return ends

    def _compare(self, old: End, new: End) -> None:
        name = f"{new.type.side}.{new.name}"
        if new.type is not old.type:
            raise CannotSwap(f"the connection {name} is a {new.type.name} now")
        if dict(new.options) != dict(old.options):
            raise CannotSwap(f"the creation arguments of the connection {name} have changed")
        if new.type.side == "in" and calls.is_async(new.function) and not self._is_concurrent:
            raise CannotSwap(f"the function of {name} is async now, and the loop is not")

    async def _take_over(self, candidate: Candidate) -> None:
        there, new = self._there, candidate.handler
        old = there.handler
        rest = (there.states, there.config)
        try:
            if new.init_function is not None:
                _hook("init_function", new, new.init_function, there.to_send, *rest)
            if new.on_load is not None:
                send = there.to_send_of(new.module.on_load)
                await self._call("on_load", new, new.on_load, old.module, send, *rest)
        except BaseException:
            candidate.renewal.undo()
            raise
        there.exchange(new, candidate.ends)
        candidate.renewal.commit()
        self._gone = [ref for ref in self._gone if ref() is not None]
        self._gone.append(weakref.ref(old.module))
        if self._postpone is not None and self._postpone(lambda: self._left(old)):
            self._leaving += 1
        else:
            await self._unload(old)

    async def _left(self, old: Handler) -> None:
        """Let old code go whose last function has ended."""
        self._leaving -= 1
        try:
            await self._unload(old)
        finally:
            if self._later is not None:
                self._later(self._collect)

    async def _unload(self, old: Handler) -> None:
        if old.on_unload is None:
            return
        there = self._there
        send = there.to_send_of(old.module.on_unload)
        try:
            await self._call("on_unload", old, old.on_unload, send, there.states, there.config)
        except SetupError as error:
            logger.error("%s", error)  # noqa: TRY400 - it names the place

    async def _call(
        self, name: str, handler: Handler, function: Callable[..., Any], *arguments: object
    ) -> None:
        """Call a hook; an async one is awaited, in a loop for itself where none runs."""
        result = _hook(name, handler, function, *arguments)
        if not inspect.iscoroutine(result):
            return
        try:
            if self._is_concurrent:
                await result
            else:
                importlib.import_module("asyncio").run(result)
        except ENDS:
            raise
        except BaseException as error:
            if self._is_concurrent:
                go_on_after(error)
            raise _failed(name, handler, error) from error

    def _collect(self) -> None:
        """Let the old code go, and tell when something keeps it."""
        gc.collect()
        held = sum(ref() is not None for ref in self._gone) - self._leaving
        if held > 1:
            logger.warning(
                "%d older generations of the code are still in use; a thread, a task or something "
                "registered elsewhere refers to them: end it in on_unload",
                held,
            )


def offer(there: Assembly, later: Callable[[Callable[[], object]], object] | None = None) -> None:
    """Serve `reload` on the control link of a component whose functions are all plain."""
    if there.link is not None:
        reloader = Reloader(there, later)
        there.link.methods.update(
            {"reload": reloader.reload, "code": reloader.state, "models": reloader.models}
        )


def _hook(name: str, handler: Handler, function: Callable[..., Any], *arguments: object) -> Any:
    try:
        return function(*arguments)
    except ENDS:
        raise
    except BaseException as error:
        raise _failed(name, handler, error) from error


def _failed(name: str, handler: Handler, error: BaseException) -> SetupError:
    root = handler.code.place.root if handler.code else None
    where = loader.place(error, str(root) if root else None)
    return SetupError(f"{name} failed: {where}")


def _key(end: End) -> tuple[str, str]:
    return end.type.side, end.name


def _agree(handler: Handler, ends: Sequence[End], peers: Sequence[Mapping[str, Any]]) -> None:
    """Raise `SetupError` unless the models agree with those at the other ends.

    Args:
        handler: The new code.
        ends: Its connections.
        peers: Each with `end`, one of ours as `side.name`; `peer`, who that is; and the other
            end's models as `Reloader.models` tells them.
    """
    by_label = {_label(end): end for end in ends}
    mistakes = [
        f"{handler.origin.place('connection_models', end.type.side, end.name)}: "
        f"{disagreement} at {peer['peer']}; change both ends and reload them together"
        for peer in peers
        if (end := by_label.get(str(peer["end"]))) is not None
        for disagreement in _disagreements(end, peer)
    ]
    if mistakes:
        raise SetupError(mistakes)


def _disagreements(end: End, peer: Mapping[str, Any]) -> Iterator[shapes.Disagreement]:
    here = _plain_models(end)
    sender, receiver = (here, peer) if end.type.side == "out" else (peer, here)
    yield from shapes.disagreements(sender["arguments"], receiver["arguments"], "args")
    if sender["returns"] is not None and receiver["returns"] is not None:
        yield from shapes.disagreements(receiver["returns"], sender["returns"], "return_args")


def _label(end: End) -> str:
    return f"{end.type.side}.{end.name}"


def _plain_models(end: End) -> dict[str, Any]:
    return {
        "arguments": end.arguments.plain(),
        "returns": None if end.returns is None else end.returns.plain(),
    }


def _plain(states: Sequence[State]) -> list[tuple[str, Any]]:
    """Return what matters of states: not where they stand, nor which end binds at a bus."""
    left_out = {"line", "binds", "connects"}
    return [
        (state.name, {key: value for key, value in state.plain().items() if key not in left_out})
        for state in states
    ]


def _fate(key: tuple[str, str], old: Mapping[tuple[str, str], End]) -> str:
    return "is gone" if key in old else "is new"
