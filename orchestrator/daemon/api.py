"""The control API: one table of methods over the supervisor, and the streams of changes.

A reply is sent after the change it speaks of is in the supervisor's state; slow readers of
a stream are cut off rather than kept in memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import os
import signal
import socket
import struct
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from orchestrator.daemon import explain as causes
from orchestrator.daemon import grouping, rows, runrows
from orchestrator.daemon.mirroring import Mirroring
from orchestrator.daemon.reloads import Reloads
from orchestrator.daemon.runcalls import RunCalls
from orchestrator.daemon.runner import Runner
from orchestrator.daemon.supervisor import TELL_WITHIN, Supervisor
from orchestrator.daemon.upgrade import Handed
from orchestrator.errors import OrchestratorError, ProtocolError, RequestFailed, UnknownName
from orchestrator.model import graph, names, plain, topology
from orchestrator.model.phase import Phase
from orchestrator.model.topology import Lock
from orchestrator.supervision import changes
from orchestrator.supervision.runs import Run
from orchestrator.wire import control

logger = logging.getLogger(__name__)

SLOW_READER = 64 << 20
"""How many bytes may wait for the reader of a stream before it is cut off."""

_BEGUN = frozenset({Phase.WAITING, Phase.STARTING, Phase.RUNNING})
"""Where a start has nothing to do; a backoff it ends, a stop it follows."""

Params = Mapping[str, Any]

Answer = dict[str, Any] | Coroutine[Any, Any, dict[str, Any]]
"""What a method returns: its result, or the work that leads to it."""


class Api:
    """What all sessions of clients share."""

    def __init__(self, supervisor: Supervisor, runner: Runner, about: Mapping[str, Any]) -> None:
        self.supervisor = supervisor
        self.runner = runner
        self.run_calls = RunCalls(runner, lambda: self.sequence, self.later)
        self.reloads = Reloads(supervisor)
        supervisor.reload = self.reloads.begin
        self.about = about
        self.sessions: set[Session] = set()
        self.sequence = 0
        self.idle: Callable[[], None] = lambda: None
        self.is_new = True
        """Whether nobody has applied anything yet: who started this daemon is about to."""
        self.needs_descriptors: Callable[[int], None] = lambda _count: None
        self.retention: Callable[[Iterable[str]], None] = lambda _jobs: None
        self.mirroring = Mirroring(runner)
        self.upgrade: Callable[[Session, int], None] = lambda _session, _number: None
        self.told = asyncio.Event()
        """Set for a moment, when the streams have been told the news of a turn."""
        self._names: dict[str, str] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    # ------------------------------------------------------------- streams

    def publish(self, slots: Iterable[str]) -> None:
        """Send the rows of changed slots to every stream."""
        watching = [s for s in self.sessions if s.stream is not None]
        for slot in slots:
            if slot in self.supervisor.slots:
                name = self.supervisor.slots[slot].instance.component.name
                before = self._names.get(slot, name)
                self._names[slot] = name
                if not watching:
                    continue
                if before != name:
                    # Scaling gives `web` the name `web@1`, and takes it again.
                    self._send(watching, {"kind": "removed", "name": before}, slot)
                value: dict[str, Any] = {
                    "kind": "instance",
                    "row": rows.row(self.supervisor, slot),
                }
            else:
                name = self._names.pop(slot, slot)
                value = {"kind": "removed", "name": name}
            self._send(watching, value, slot)
        self.told.set()
        self.told.clear()

    def publish_runs(self, runs: Iterable[Run]) -> None:
        """Send the rows of changed runs to the streams that asked for them, and to the mirror."""
        runs = tuple(runs)
        self.mirroring.put(runs)
        watching = [s for s in self.sessions if s.stream is not None and s.wants_runs]
        for run in runs:
            self.sequence += 1
            wanting = [session for session in watching if session.wants(run.id)]
            if wanting:
                value = {"kind": "run", "run": runrows.row(self.runner, run)}
                self._tell(wanting, value, None)

    def publish_removed_runs(self, run_ids: Iterable[str]) -> None:
        """Tell the streams, and the mirror, that runs are kept no longer."""
        self.mirroring.forget(run_ids)
        watching = [s for s in self.sessions if s.stream is not None and s.wants_runs]
        for run_id in run_ids:
            self.sequence += 1
            wanting = [session for session in watching if session.wants(run_id)]
            self._tell(wanting, {"kind": "run-removed", "id": run_id}, None)

    def catch_up(self, session: Session) -> None:
        """Send a stream every row, whatever it knows."""
        for run in self.runner.runs.unfinished.values():
            if session.wants(run.id):
                self.sequence += 1
                value = {"kind": "run", "run": runrows.row(self.runner, run)}
                self._tell([session], value, None)
        for slot in self.supervisor.slots:
            value = {"kind": "instance", "row": rows.row(self.supervisor, slot)}
            self._send([session], value, slot)

    def publish_system(self, state: str) -> None:
        """Tell every stream where the system as a whole is."""
        supervisor = self.supervisor
        value = {
            "kind": "system",
            "state": state,
            "exit_code": supervisor.exit_code,
            "why": supervisor.exit_why,
        }
        self._send([s for s in self.sessions if s.stream is not None], value, None)

    def _send(self, watching: list[Session], value: dict[str, Any], slot: str | None) -> None:
        self.sequence += 1
        if watching:
            self._tell(watching, value, slot)

    def _tell(self, watching: list[Session], value: dict[str, Any], slot: str | None) -> None:
        time_of_day = time.time()  # noqa: TID251 - shown to people
        value = {"seq": self.sequence, "time": rows.timestamp(time_of_day), **value}
        for session in watching:
            session.stream_item(value, slot)

    # ------------------------------------------------------------- methods

    def status(self, params: Params) -> dict[str, Any]:
        """Return the daemon's facts and the rows."""
        state = "stopping" if self.supervisor.stopping else "running"
        return {"daemon": {**self.about, "state": state}, **self.ps(params)}

    def ps(self, params: Params) -> dict[str, Any]:
        """Return the rows of the named instances."""
        return {"instances": [rows.row(self.supervisor, s) for s in self._slots(params)]}

    def explain(self, params: Params) -> dict[str, Any]:
        """Return why the named instances are as they are."""
        return {"explanations": [causes.explain(self.supervisor, s) for s in self._slots(params)]}

    def apply(self, params: Params) -> dict[str, Any]:
        """Make the system be what a lock says."""
        self.is_new = False
        try:
            lock = params["lock"]
            if not isinstance(lock, Lock):
                lock = plain.decode(Lock, lock)
        except (KeyError, ValueError) as error:
            raise RequestFailed("bad-lock", f"cannot read the lock: {error}") from error
        place = self.supervisor.place
        if lock.key != place.key:
            message = (
                f"this daemon runs {place.name!r} ({place.key}), not {lock.name!r} ({lock.key})"
            )
            raise RequestFailed("other-system", message)
        if lock.base_dir != place.base_dir:
            message = (
                f"cannot move a running system from {place.base_dir!r} to {lock.base_dir!r}; "
                "stop it first: orch down"
            )
            raise RequestFailed("other-system", message)
        alone = bool(params.get("no_deps"))
        chosen = frozenset(names.select(params.get("names") or (), lock.components))
        if params.get("names") and not alone:
            chosen = graph.closure(topology.dependencies(lock), chosen)
        components = {c.slot: c for c in lock.components.values()}
        slots = frozenset(lock.components[name].slot for name in chosen)
        dry = bool(params.get("plan"))
        if not dry:
            self.refuse_when_stopping()
            runs = self.runner.most(lock.job_concurrency) if lock.jobs else 0
            self.needs_descriptors(runs + sum(each.descriptors for each in components.values()))
            secrets = _secrets(params.get("secrets") or {})
            self.mirroring.use(lock.job_mirror, secrets)
            self._remember(lock, secrets)
            # A large lock stays, and to walk it for garbage amid its starts takes as long as many.
            gc.freeze()
        plan = self.supervisor.apply(
            components,
            slots,
            alone=alone,
            remove_orphans=bool(params.get("remove_orphans")),
            dry=dry,
        )
        plan += changes.plan_jobs(self.runner.jobs, lock.jobs)
        if not dry:
            self.runner.apply(lock.jobs, lock.job_concurrency)
            self.retention(lock.jobs)
            self.reloads.tell_settings(
                [
                    one.slot
                    for one in plan
                    if one.action is changes.Action.UPDATE
                    and any(path[0] in changes.TOLD for path in one.changed)
                ]
            )
        return {"plan": [_operation(o) for o in plan]}

    def start(self, params: Params) -> dict[str, Any]:
        """Run the named instances and what they depend on."""
        self.refuse_when_stopping()
        slots = self._to_start(params)
        disabled = [s for s in slots if not self.supervisor.slots[s].instance.component.enabled]
        if disabled and params.get("names"):
            name = self._name(disabled[0])
            raise RequestFailed(
                "disabled", f"cannot start {name!r}: it is disabled (enabled: false)"
            )
        there = self.supervisor.slots
        begun = [s for s in slots if there[s].up and there[s].instance.phase in _BEGUN]
        self.supervisor.start(slots, alone=bool(params.get("no_deps")))
        return self._affected(slots, begun)

    def stop(self, params: Params) -> dict[str, Any]:
        """Bring the named instances down."""
        slots = self._slots(params)
        down = [s for s in slots if self.supervisor.slots[s].instance.phase.is_terminal]
        users = self.supervisor.users(slots)
        self.supervisor.stop(slots)
        needed = {self._name(slot): [self._name(user) for user in users[slot]] for slot in users}
        return {**self._affected(slots, down), "needed": needed}

    def restart(self, params: Params) -> dict[str, Any]:
        """Stop and run the named instances."""
        self.refuse_when_stopping()
        slots = self._to_start(params)
        self.reloads.resume(slots)
        self.supervisor.restart(slots)
        return self._affected(slots, [])

    def reset(self, params: Params) -> dict[str, Any]:
        """Forget the failures of the named instances."""
        slots = self._slots(params)
        self.supervisor.reset(slots)
        return self._affected(slots, [])

    def kill(self, params: Params) -> dict[str, Any]:
        """Signal the first process of the named instances, or do what they do instead."""
        name = str(params.get("signal", "KILL")).upper().removeprefix("SIG")
        number = getattr(signal, f"SIG{name}", None)
        if not isinstance(number, signal.Signals):
            raise RequestFailed("unknown-signal", f"unknown signal {name!r}")
        done = self.supervisor.send(self._slots(params), number)
        return {"done": {self._name(slot): action.value for slot, action in done.items()}}

    def down(self, params: Params) -> dict[str, Any]:
        """Bring everything down and end."""
        running = [s for s, t in self.supervisor.slots.items() if not t.instance.phase.is_terminal]
        names = [self._name(slot) for slot in running]
        result = {"names": names, "keeper_pid": self.about["keeper_pid"]}
        kill = bool(params.get("kill"))
        asyncio.get_running_loop().call_soon(lambda: self.begin_shutdown(kill=kill))
        return result

    def begin_shutdown(self, *, kill: bool = False, exit_code: int = 0, why: str = "") -> None:
        """Begin the end of the system and say so to the streams."""
        fresh = not self.supervisor.stopping
        self.runner.shutdown(kill=kill)
        self.supervisor.shutdown(kill=kill, exit_code=exit_code, why=why)
        if fresh:
            self.publish_system("stopping")

    # ------------------------------------------------------------- small parts

    def later(self, work: Coroutine[Any, Any, None]) -> None:
        """Do what takes its time beside everything else."""
        task = asyncio.get_running_loop().create_task(work, name="answer")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _slots(self, params: Params) -> tuple[str, ...]:
        slots = self.supervisor.slots
        words = params.get("names") or ()
        if not words:
            return tuple(slots)
        by_name = {there.instance.component.name: slot for slot, there in slots.items()}
        return tuple(by_name[name] for name in names.select(words, by_name))

    def _to_start(self, params: Params) -> tuple[str, ...]:
        """Return the named slots; of all, those that wait for no profile."""
        slots = self._slots(params)
        if params.get("names"):
            return slots
        there = self.supervisor.slots
        return tuple(s for s in slots if there[s].up or not there[s].instance.component.profiles)

    def _name(self, slot: str) -> str:
        return self.supervisor.slots[slot].instance.component.name

    def _affected(self, slots: Iterable[str], unchanged: list[str]) -> dict[str, Any]:
        same = set(unchanged)
        return {
            "names": [self._name(s) for s in slots if s not in same],
            "unchanged": [self._name(s) for s in unchanged],
        }

    def refuse_when_stopping(self) -> None:
        """Raise `RequestFailed` while the system is being brought down."""
        if self.supervisor.stopping:
            raise RequestFailed(
                "stopping", "the system is being stopped; try again when it is down"
            )

    def use_secrets(self, secrets: Mapping[str, str]) -> None:
        """Give these to what is started from now on."""
        self.supervisor.executor.secrets = dict(secrets)
        self.runner.executor.secrets = dict(secrets)

    def _remember(self, lock: Lock, secrets: Mapping[str, str]) -> None:
        self.use_secrets(secrets)
        self.supervisor.admission.concurrency = lock.start_concurrency
        self.supervisor.admission.turnstile.set_rate(lock.restart_rate)
        self.supervisor.groups.declared = lock.groups
        self.supervisor.journal.remember(
            start_concurrency=str(lock.start_concurrency),
            restart_rate=str(lock.restart_rate),
            groups=grouping.declared_text(lock.groups),
        )
        keep_secrets(Path(self.supervisor.place.runtime_dir), secrets)

    def reload(self, params: Params) -> Answer:
        """Have the named instances take on changed code; answered when they have."""
        self.refuse_when_stopping()
        slots = self._slots(params)
        if params.get("no_wait"):
            return {"reloads": self.reloads.begin(slots, "by request")}
        self.reloads.resume(slots)
        return self._reloaded(slots)

    def submit(self, params: Params) -> Answer:
        """Accept a run of a job."""
        self.refuse_when_stopping()
        return self.run_calls.submit(params)

    def jobs(self, params: Params) -> Answer:
        """Return the jobs that there are."""
        return self.run_calls.jobs(params)

    def runs(self, params: Params) -> Answer:
        """Return the rows of runs, the newest first."""
        return self.run_calls.runs(params)

    def run(self, params: Params) -> Answer:
        """Return all that is known of one run."""
        return self.run_calls.run(params)

    def cancel(self, params: Params) -> Answer:
        """Cancel runs."""
        return self.run_calls.cancel(params)

    async def _reloaded(self, slots: tuple[str, ...]) -> dict[str, Any]:
        return {"reloads": await self.reloads.reload(slots)}


METHODS: Mapping[str, Callable[[Api, Params], Answer]] = {
    "status": Api.status,
    "ps": Api.ps,
    "explain": Api.explain,
    "apply": Api.apply,
    "start": Api.start,
    "stop": Api.stop,
    "restart": Api.restart,
    "reset": Api.reset,
    "reload": Api.reload,
    "kill": Api.kill,
    "submit": Api.submit,
    "jobs": Api.jobs,
    "runs": Api.runs,
    "run": Api.run,
    "cancel": Api.cancel,
    "down": Api.down,
}


class Session(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.stream: int | None = None
        self.only: frozenset[str] = frozenset()
        self.runs: tuple[str, ...] | None = None
        """The runs that its stream is about, all when empty; None when it is about none."""
        self._answering = 0
        self._decoder = control.Decoder(read=_read)
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Accept our own user and root only; the socket's mode says the same."""
        assert isinstance(transport, asyncio.Transport)
        peer = transport.get_extra_info("socket")
        credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        _, uid, _ = struct.unpack("iII", credentials)
        if uid not in (0, os.geteuid()):
            logger.warning("Refused a client of uid %d", uid)
            transport.abort()
            return
        self._transport = transport
        self.api.sessions.add(self)

    def connection_lost(self, _error: Exception | None) -> None:
        """Forget the client; the system goes on without it."""
        self.api.sessions.discard(self)
        self._transport = None
        self.api.idle()

    def data_received(self, data: bytes) -> None:
        """Answer every request that the bytes complete."""
        try:
            messages = self._decoder.feed(data)
        except ProtocolError as error:
            self._write(control.error(0, "protocol", str(error)))
            self._close()
            return
        for message in messages:
            if self._transport is None or self._transport.is_closing():
                return  # What follows a malformed request is not to be trusted.
            self._answer(message)

    def _answer(self, message: dict[str, Any]) -> None:
        number, method = message.get("id"), message.get("method")
        params = message.get("params") or {}
        if (
            not isinstance(number, int)
            or not isinstance(method, str)
            or not isinstance(params, dict)
        ):
            self._write(control.error(0, "protocol", "a request needs id, method and params"))
            self._close()
            return
        try:
            if method == "upgrade":
                self.api.refuse_when_stopping()
                self.api.upgrade(self, number)  # It answers later.
                return
            answer: Answer
            if method != "watch":
                answer = _method(method)(self.api, params)
            elif self.api.supervisor.admission.has_room:
                answer = self._watch_later(number, params)
            else:
                answer = self._watch(number, params)
        except Exception as error:  # noqa: BLE001 - see `_refuse`
            self._refuse(number, method, error)
            return
        if isinstance(answer, dict):
            self._write(control.result(number, answer))
        else:
            self._answering += 1
            self.api.later(self._answer_later(number, method, answer))

    async def _answer_later(
        self, number: int, method: str, work: Coroutine[Any, Any, dict[str, Any]]
    ) -> None:
        """Answer a request when what it asked for is done; others are answered meanwhile."""
        try:
            self._write(control.result(number, await work))
        except Exception as error:  # noqa: BLE001 - see `_refuse`
            self._refuse(number, method, error)
        finally:
            self._answering -= 1

    def _refuse(self, number: int, method: str, error: Exception) -> None:
        match error:
            case UnknownName():
                self._write(control.error(number, "unknown-name", str(error), near=error.near))
            case RequestFailed():
                self._write(control.error(number, error.code, str(error)))
            case OrchestratorError():
                self._write(control.error(number, "failed", str(error)))
            case _:
                # A defect of ours must not take the daemon down, nor leave the client waiting.
                logger.error("Internal error in %s", method, exc_info=error)
                self._write(control.error(number, "internal", f"internal error: {error!r}"))

    async def _watch_later(self, number: int, params: Params) -> dict[str, Any]:
        """Begin a stream amid many starts: with the news of all, or of `TELL_WITHIN`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TELL_WITHIN):
                await self.api.told.wait()
        return self._watch(number, params)

    def _watch(self, number: int, params: Params) -> dict[str, Any]:
        slots: tuple[str, ...] = ()
        wanted = params.get("runs")
        if wanted and params.get("instances") is False:
            self.only = _NOBODY
        else:
            slots = self.api._slots(params)  # noqa: SLF001 - a session is a part of the API
            self.only = frozenset(slots if params.get("names") else ())
        if wanted:
            ids = wanted if isinstance(wanted, list) else ()
            self.runs = tuple(str(word).rpartition("/")[2] for word in ids)
        self.stream = number
        instances = [rows.row(self.api.supervisor, slot) for slot in slots]
        return {"instances": instances, "seq": self.api.sequence}

    @property
    def wants_runs(self) -> bool:
        """Whether its stream is about runs at all."""
        return self.runs is not None

    def wants(self, run_id: str) -> bool:
        """Tell whether its stream is about a run."""
        return self.runs is not None and (not self.runs or run_id in self.runs)

    def stream_item(self, value: Mapping[str, Any], slot: str | None) -> None:
        """Send an item of the stream, unless it is about what the client did not ask for."""
        if self._transport is None or self.stream is None:
            return
        if self.only and slot is not None and slot not in self.only:
            return
        if self._transport.get_write_buffer_size() > SLOW_READER:
            logger.warning("Cut off a client that does not read its stream")
            self._transport.abort()
            return
        self._write(control.event(self.stream, value))

    def answer(self, number: int, result: Mapping[str, Any]) -> None:
        """Send the result of a request that took its time."""
        self._write(control.result(number, result))

    def refuse(self, number: int, problem: RequestFailed) -> None:
        """Refuse a request that took its time."""
        self._write(control.error(number, problem.code, str(problem)))

    @property
    def has_unsent(self) -> bool:
        """Whether the client has not got yet all that it asked for."""
        if self._transport is None:
            return False
        return self._answering > 0 or self._transport.get_write_buffer_size() > 0

    def hand_over(self, asked: int | None) -> Handed | None:
        """Return the connection for other code to go on with; None when it has to begin anew."""
        if self._transport is None or self._transport.is_closing() or self.has_unsent:
            return None
        fd = self._transport.get_extra_info("socket").fileno()
        received = self._decoder.rest.decode("latin-1")
        return Handed(fd, self.stream, tuple(self.only), received, asked, self.runs)

    def go_on(self, handed: Handed) -> None:
        """Go on with a connection, once it is made; a stream gets every row as it is now."""
        self.stream, self.only, self.runs = handed.stream, frozenset(handed.only), handed.runs
        if handed.stream is not None:
            self.api.catch_up(self)
        self.data_received(handed.received.encode("latin-1"))

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def finish(self) -> None:
        """Send what is still to be sent, and end."""
        self._close()

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class _Head(Struct):
    """What a request asks for."""

    method: str


class _Apply(Struct):
    """A request of a method that is given a lock."""

    id: int
    params: dict[str, msgspec.Raw]


def _read(line: bytes) -> dict[str, Any]:
    """Return a request; of one that has a lock, that as the structure.

    Raises:
        ProtocolError: It is no JSON object.
    """
    try:
        if msgspec.json.decode(line, type=_Head).method == "apply":
            asked = msgspec.json.decode(line, type=_Apply)
            params = {
                name: msgspec.json.decode(text)
                for name, text in asked.params.items()
                if name != "lock"
            }
            params["lock"] = plain.loads(Lock, bytes(asked.params["lock"]))
            return {"id": asked.id, "method": "apply", "params": params}
    except (KeyError, ValueError, RecursionError):
        pass  # What is wrong with it is told by whom it is for.
    return control.message(line)


_NOBODY = frozenset({""})
"""The slots of a stream that is about no instance."""


def _method(name: str) -> Callable[[Api, Params], Answer]:
    method = METHODS.get(name)
    if method is None:
        near = names.did_you_mean(name, METHODS)
        raise RequestFailed("unknown-method", f"unknown method {name!r}; {near}".rstrip("; "))
    return method


def keep_secrets(runtime_dir: Path, secrets: Mapping[str, str]) -> None:
    """Keep the values of secret settings for the next daemon: mode 0600, never on disk proper."""
    path = runtime_dir / "secrets.json"
    if not secrets:
        path.unlink(missing_ok=True)
        return
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(fd, "w", encoding="utf-8") as file:  # noqa: PTH123 - a descriptor
        json.dump(dict(secrets), file)


def kept_secrets(runtime_dir: Path) -> dict[str, str]:
    """Return what `keep_secrets` kept."""
    try:
        return _secrets(json.loads((runtime_dir / "secrets.json").read_text("utf-8")))
    except (OSError, ValueError, RequestFailed):
        return {}


def _secrets(given: Any) -> dict[str, str]:
    if not isinstance(given, dict) or not all(isinstance(v, str) for v in given.values()):
        raise RequestFailed("bad-secrets", "cannot use the secrets: they must map names to texts")
    return given


def _operation(operation: changes.Operation) -> dict[str, Any]:
    return {
        "name": operation.name,
        "action": operation.action.value,
        "cause": operation.cause,
        "changed": operation.changed,
    }
