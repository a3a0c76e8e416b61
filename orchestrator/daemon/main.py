"""The daemon's process: it takes what the keeper holds, recovers, serves, and says goodbye."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import json
import logging
import os
import resource
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from orchestrator import __version__, cgroups, keeping
from orchestrator import process as processes
from orchestrator.daemon import api as apis
from orchestrator.daemon import guests, programs, rows
from orchestrator.daemon import journal as journals
from orchestrator.daemon import upgrade as upgrades
from orchestrator.daemon.clients import Clients
from orchestrator.daemon.codecheck import CodeChecks
from orchestrator.daemon.guests import Guests
from orchestrator.daemon.host import PosixHost
from orchestrator.daemon.link import Link
from orchestrator.daemon.logpipes import LogPipes
from orchestrator.daemon.logwatch import LogWatch
from orchestrator.daemon.notifications import Notifications
from orchestrator.daemon.probes import Probes
from orchestrator.daemon.programs import Place
from orchestrator.daemon.retaining import Retention
from orchestrator.daemon.runner import Runner
from orchestrator.daemon.signals import Signals
from orchestrator.daemon.sockets import Sockets
from orchestrator.daemon.store import Store
from orchestrator.daemon.supervisor import Supervisor
from orchestrator.daemon.upgrade import Handover
from orchestrator.daemon.watching import Watcher
from orchestrator.errors import JournalError, OrchestratorError, RequestFailed
from orchestrator.model.phase import Exit, Phase, Process
from orchestrator.model.topology import Kill
from orchestrator.supervision.runs import Run

logger = logging.getLogger(__name__)

RELAYED = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
"""Signals that are not for the daemon, but for the components that declare them."""

TAKEN = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, *RELAYED)
"""All signals that are taken on the loop."""

UNUSED = 15.0
"""After so many seconds a daemon that was never given a system ends."""

KILLINGS, KILL_TIMEOUT = 5, 1.0
"""How often what has escaped is killed, since it may be forking, and how long that may take."""

DESCRIPTORS_BESIDE = 128
"""File descriptors that the daemon needs beside the pidfds of those that another has started."""


class Daemon:
    """Everything of one daemon, wired."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        link: socket.socket,
        given: dict[str, Any],
        before: Handover,
        signals: Signals,
    ) -> None:
        self._loop = loop
        self._signals = signals
        self._given = given
        self._before = before
        self._is_upgrading = False
        self._started = time.time()  # noqa: TID251 - shown to people
        runtime_dir = Path(given["runtime_dir"])
        self.link = Link(loop, link, before.link.encode())
        place = Place(runtime_dir.name, given["name"], str(runtime_dir), given["base_dir"])
        journal = journals.Journal.open(
            Path(given["base_dir"]) / "journal.db", processes.boot_id()
        )
        groups = cgroups.Groups(cgroups.find(), place.key)
        self.host = PosixHost(loop, given["keeper"], self.link.acknowledge, groups)
        self.supervisor = Supervisor(self.host, journal, place, self._publish, self._finished)
        self.runner = Runner(self.host, journal, place, self._publish_runs, self._finished)
        self._store = Store(runtime_dir / "store.sock")
        self.sockets = Sockets(self._store)
        self.supervisor.executor.sockets = self.sockets
        self.pipes = LogPipes(loop, place)
        self.supervisor.executor.pipes = self.pipes
        self.probes = Probes(loop, self.supervisor)
        self.supervisor.executor.probes = self.probes
        self._notifications = Notifications(loop, self.supervisor, self.probes, self.runner)
        listen, leave = self._notifications.listen, self._notifications.leave
        self.guests = Guests(place, self._store, listen, leave)
        self.supervisor.executor.guests = self.guests
        self.probes.take(before.pipes, before.offsets)
        self.runner.executor.guests = self.guests
        self.api = apis.Api(self.supervisor, self.runner, self._about())
        self.api.use_secrets(apis.kept_secrets(runtime_dir))
        self.api.idle = self._end_if_unused
        self.api.upgrade = self._upgrade
        self.api.sequence = before.sequence
        self.api.needs_descriptors = need_descriptors
        self.api.run_calls.codes = CodeChecks(loop, self.runner)
        self.retention = Retention(loop, self.runner, self.api.publish_removed_runs)
        self.api.retention = self.retention.look
        self._journal = journal
        self._watcher = Watcher(loop, given["base_dir"], self.api.reloads.changed)
        self._logs = LogWatch(loop, room=self._on_room)
        self._done = asyncio.Event()
        self._clients: Clients

    def _about(self) -> dict[str, Any]:
        ladder = self.host.groups.ladder
        return {
            "pid": os.getpid(),
            "keeper_pid": self._given["keeper"],
            "started_at": rows.timestamp(self._started),
            "version": __version__,
            "topology": self._given["topology"],
            "base_dir": self._given["base_dir"],
            "name": self._given["name"],
            "logs_lost": 0,
            "bounds": {word: ladder.way(word) for word in cgroups.CONTROLLERS},
        }

    def recover(self) -> None:
        """Take the keeper's words, then what the journal says is there."""
        remembered = self._journal.meta()  # Before the keeper's first word changes it.
        for told in self._before.exits:
            self.link.exits[told["seq"]] = dict(told)
            self._take_exit(told)
        self.on_link()
        self.supervisor.admission.concurrency = int(remembered.get("start_concurrency", "64"))
        self.supervisor.admission.turnstile.set_rate(float(remembered.get("restart_rate", "20")))
        self.supervisor.schedules.restore(remembered.get("schedules", "{}"))
        self.supervisor.groups.restore(
            remembered.get("groups", "{}"), remembered.get("standings", "{}")
        )
        records = list(self._journal.records())
        self.runner.recall(remembered)
        runs = self.runner.most(self.runner.concurrency) if self.runner.jobs else 0
        need_descriptors(runs + sum(record.component.descriptors for record in records))
        users = (record.run.job.user for record in self._journal.runs.unfinished())
        if any(record.component.sockets or record.component.user for record in records) or any(
            users
        ):
            self._take_held()
        keeper = str(self._given["keeper"])
        live = any(r.process is not None or r.phase is Phase.STARTING for r in records)
        if live and (remembered.get("outside") or remembered.get("keeper") != keeper):
            self._look_outside()
        elif remembered.get("outside"):
            self._remember(outside="")
        for record in records:
            self.pipes.recover(record.slot, record.component)
        if self._before.version:
            self.pipes.replace_reader()
        self.supervisor.recover(records, complete=not self._journal.is_new)
        if self.supervisor.strays:
            self._look_outside()
        self.runner.recover(complete=not self._journal.is_new)
        secrets = apis.kept_secrets(Path(self._given["runtime_dir"]))
        self.api.mirroring.recover(secrets)
        self.host.groups.keep_only(
            (
                *(
                    programs.marker(there.instance, self.supervisor.place)
                    for there in self.supervisor.slots.values()
                ),
                *self.runner.markers(),
            )
        )
        self.host.recovered()
        if remembered.get("stopping") and remembered.get("keeper") == keeper:
            # The daemon before us died while it brought the system down.
            code = int(remembered.get("exit_code", "0"))
            self.api.begin_shutdown(exit_code=code, why=remembered["stopping"])
        else:
            self._remember_keeper(keeper)

    def _take_held(self) -> None:
        """Take back the sockets that the keeper has held while there was no daemon."""
        held = self._store.take()
        ours = {name: opened for name, opened in held.items() if name.startswith(guests.PREFIX)}
        self.guests.recover(ours)
        self.sockets.recover({name: held[name] for name in held.keys() - ours.keys()})

    def _remember_keeper(self, keeper: str) -> None:
        self._remember(keeper=keeper, stopping="")

    def _look_outside(self) -> None:
        self.host.look_outside()
        self._remember(outside="yes")

    def _remember(self, **words: str) -> None:
        try:
            self._journal.remember(**words)
        except JournalError as error:
            logger.warning("%s", error)

    async def serve(self) -> None:
        """Serve clients until the system has been brought down."""
        loop = self._loop
        handlers: Mapping[int, Callable[[], None]] = {
            signal.SIGCHLD: self.host.child_ended,
            signal.SIGTERM: functools.partial(self._on_term, "by SIGTERM"),
            signal.SIGINT: functools.partial(self._on_term, "by SIGINT"),
            **{number: functools.partial(self.supervisor.relay, number) for number in RELAYED},
        }
        self._signals.listen(loop, handlers)
        self._notifications.listen(socket.socket(fileno=self._given["notify"]))
        loop.add_reader(self.link.fileno(), self.on_link)
        control = socket.socket(fileno=self._given["control"])
        self._clients = Clients(loop, control, lambda: apis.Session(self.api))
        self._watch_logs(self.supervisor.slots)
        for slot, there in self.supervisor.slots.items():
            self._watcher.follow(slot, there.instance.component.watch)
        await self._go_on()
        self.host.child_ended()  # Orphans may have ended while nobody was told of it.
        self.api.reloads.recover_soon()
        self.retention.look(self.runner.jobs)
        self.link.send(ready=True)
        loop.call_later(UNUSED, self._wait_no_more)
        logger.info("Ready: %d instances", len(self.supervisor.slots))
        await self._done.wait()
        await self.retention.close()
        await asyncio.to_thread(self.api.mirroring.close)
        await self.pipes.close()
        self.api.publish_system("stopped")
        self.probes.close()
        self.api.reloads.close()
        self._watcher.close()
        self._logs.close()
        apis.keep_secrets(Path(self._given["runtime_dir"]), {})
        self._clients.close()
        for session in tuple(self.api.sessions):
            session.finish()
        self._journal.close()
        self.host.zygotes.close()
        self._end_unclaimed()
        self.host.groups.close()
        self.sockets.close()
        self.guests.close()
        self._sweep()
        self.link.say_goodbye()

    def _end_unclaimed(self) -> None:
        """Kill what escaped the stop of its component: with the system nobody would know of it.

        What a component with `kill: leader` has left is not ours to end.
        """
        slots = self.supervisor.slots.values()
        if any(there.instance.component.stop.kill is Kill.LEADER for there in slots):
            return
        before: tuple[Process, ...] = ()
        for _ in range(KILLINGS):
            found = self.host.unclaimed()
            if found == before:
                return  # There is none, or none that we could kill.
            before = found
            pids = ", ".join(str(process.pid) for process in found)
            logger.warning("Killing what has escaped from its component: pid %s", pids)
            processes.end_all(found, KILL_TIMEOUT)

    def _sweep(self) -> None:
        """Remove the sockets that components left in the runtime directory: nobody is there."""
        runtime_dir = Path(self._given["runtime_dir"])
        links = runtime_dir / "link"
        for path in (*runtime_dir.glob("*.ipc"), *links.glob("*")):
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            links.rmdir()

    def on_link(self) -> None:
        """Take what the keeper says."""
        for message in self.link.receive():
            if "exit" in message:
                self._take_exit(message["exit"])
            elif "term" in message:
                self._on_term("by SIGTERM to the keeper")
            elif "hello" in message:
                self._greet(message["hello"]["pid"])
        if self.link.lost:
            self._loop.remove_reader(self.link.fileno())
            self._replace_keeper()

    def _take_exit(self, told: Mapping[str, Any]) -> None:
        end = Exit(told["code"], told["signal"], told["core"])
        self.host.keeper_told(told["seq"], Process(told["pid"], told["started"]), end)

    def _greet(self, keeper: int) -> None:
        self._given["keeper"] = keeper
        self.api.about = {**self._about(), "logs_lost": self.api.about["logs_lost"]}
        if keeper != self.host.keeper:
            self.host.keeper = keeper
            self._look_outside()
        if not self.supervisor.stopping:
            self._remember_keeper(str(keeper))

    def _replace_keeper(self) -> None:
        """Start another keeper in place of a dead one, and hand over what it held."""
        logger.warning("The keeper is gone: starting another")
        self.link.close()
        ours, theirs = socket.socketpair()
        self.link = Link(self._loop, ours)
        self.host.acknowledge = self.link.acknowledge
        self._given["code"] = keeping.keeper_code()
        held = {word: self._given[word] for word in ("control", "notify", "lock")}
        try:
            with theirs:
                keeping.begin_keeper(
                    runtime_dir=Path(self._given["runtime_dir"]),
                    base_dir=Path(self._given["base_dir"]),
                    name=self._given["name"],
                    topology=Path(self._given["topology"]),
                    held={**held, "link": theirs.fileno(), "daemon": os.getpid()},
                ).finish()
        except OrchestratorError as error:
            logger.error("Nobody restarts this daemon if it dies: %s", error)  # noqa: TRY400
            return
        self.sockets.keep_again()
        self.guests.keep_again()
        self.link.send(ready=True)
        self._loop.add_reader(self.link.fileno(), self.on_link)

    # ------------------------------------------------------------- upgrade

    def _upgrade(self, session: apis.Session, number: int) -> None:
        """Become the code on disk, which then answers the request; or refuse it."""
        if self._is_upgrading:
            raise RequestFailed("upgrade", "cannot upgrade: another upgrade is under way")
        self._is_upgrading = True

        def tried(outcome: Mapping[str, Any] | RequestFailed) -> None:
            if isinstance(outcome, RequestFailed):
                self._is_upgrading = False
                session.refuse(number, outcome)
                return
            logger.info("Upgrading from %s to %s", __version__, outcome["version"])
            give_up = self._loop.time() + upgrades.SETTLE_TIMEOUT
            self._replace_code(session, number, give_up)

        upgrades.try_out(self.host, self.supervisor.place, tried)

    def _replace_code(self, session: apis.Session, number: int, give_up: float) -> None:
        is_written = self.supervisor.settle()
        unsent = any(each.has_unsent for each in self.api.sessions)
        is_busy = self.host.is_launching or self._clients.are_arriving or unsent
        if self._loop.time() < give_up and (is_busy or not is_written):
            again = functools.partial(self._replace_code, session, number, give_up)
            self._loop.call_later(upgrades.LOOK_AGAIN, again)
            return
        if self.supervisor.stopping:
            why = "the system is being stopped"
        elif not is_written:
            why = "the journal cannot be written; free some space"
        else:
            why = self._execute(session, number)
        self._is_upgrading = False
        session.refuse(number, RequestFailed("upgrade", f"cannot upgrade: {why}"))

    def _execute(self, session: apis.Session, number: int) -> str:
        """Become the code on disk; return why that could not be."""
        handed = [e.hand_over(number if e is session else None) for e in self.api.sessions]
        pipes, offsets = self.probes.handed()
        handover = Handover(
            given={**self._given, "link": self.link.fileno()},
            version=__version__,
            sequence=self.api.sequence,
            sessions=tuple(each for each in handed if each is not None),
            link=self.link.hand_over().decode(),
            exits=tuple(self.link.exits.values()),
            pipes=pipes,
            offsets=offsets,
        )
        try:
            upgrades.execute(handover)
        except OSError as error:
            return f"cannot execute the interpreter: {error.strerror}"

    async def _go_on(self) -> None:
        """Go on with the clients of the code before us."""
        for handed in self._before.sessions:
            connection = socket.socket(fileno=handed.fd)
            _, session = await self._loop.connect_accepted_socket(
                functools.partial(apis.Session, self.api), connection
            )
            session.go_on(handed)
            if handed.asked is not None:
                session.answer(handed.asked, self._upgraded())

    def _upgraded(self) -> dict[str, Any]:
        return {
            "before": self._before.version,
            "now": __version__,
            "pid": os.getpid(),
            "instances": len(self.supervisor.slots),
            "keeper_pid": self._given["keeper"],
            "keeper_is_current": self._given.get("code") == keeping.keeper_code(),
        }

    def _on_term(self, why: str) -> None:
        self.api.begin_shutdown(why=why)

    def _publish(self, slots: Iterable[str]) -> None:
        changed = tuple(slots)
        self.api.publish(changed)
        self._watch_logs(changed)
        self.sockets.keep_only(self.supervisor.slots.values())
        self.api.reloads.seen(changed)
        for slot in changed:
            there = self.supervisor.slots.get(slot)
            self._watcher.follow(slot, there.instance.component.watch if there else ())
            self.pipes.keep(slot, there.instance.component if there else None)

    def _watch_logs(self, slots: Iterable[str]) -> None:
        """Follow the files that living instances write to, and no others."""
        for slot in slots:
            there = self.supervisor.slots.get(slot)
            if there is None or there.instance.process is None:
                self._logs.leave(slot)
                continue
            component, generation = there.instance.component, there.instance.generation
            if not self._logs.follows(slot, generation, component.logs):
                paths = programs.outputs(component, self.supervisor.place)
                self._logs.follow(slot, generation, component.logs, paths)

    def _on_room(self, times: int) -> None:
        """Show in every row that logs are being lost, or no more; count it in the status."""
        if times:
            self.api.about = {**self.api.about, "logs_lost": times}
        self.supervisor.lose_logs(times)

    def _publish_runs(self, runs: Iterable[Run]) -> None:
        self.api.publish_runs(runs)

    def _finished(self) -> None:
        if self.supervisor.is_over and self.runner.is_down:
            self._loop.call_soon(self._done.set)

    def _wait_no_more(self) -> None:
        self.api.is_new = False
        self._end_if_unused()

    def _end_if_unused(self) -> None:
        # Another client may come and go before the `up` that has started us applies.
        is_wanted = (
            self.supervisor.slots or self.runner.is_wanted or self.api.sessions or self.api.is_new
        )
        if not is_wanted and not self.supervisor.stopping:
            self.api.begin_shutdown(why="there is nothing to supervise")


def need_descriptors(instances: int) -> None:
    """Raise the soft limit of open files to what so many instances need, one for each.

    One whose output is piped counts as three.

    Raises:
        RequestFailed: The hard limit does not allow it; the message says the figure.
    """
    needed = instances + DESCRIPTORS_BESIDE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        message = (
            f"cannot supervise {instances} instances: {needed} file descriptors are needed and "
            f"the hard limit is {hard}; raise it (ulimit -Hn {needed})"
        )
        raise RequestFailed("limit", message)
    processes.raise_open_files(needed)


class Lines(logging.Formatter):
    """Time in UTC, process and level before each line, also of records of many lines."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's lines."""
        stamp = rows.timestamp(record.created)
        prefix = f"{stamp} daemon[{record.process}] {record.levelname} "
        return "\n".join(prefix + line for line in super().format(record).splitlines())


def main(number: int) -> int:
    """Run the daemon; return its exit code.

    `number` is the link's descriptor, on which the keeper gives us our system.
    """
    link = socket.socket(fileno=number)
    link.set_inheritable(False)  # ours, not our children's
    given, received = _await_system(link)
    return 0 if given is None else _serve(link, given, Handover(link=received.decode()))


def resume(number: int) -> int:
    """Go on as the daemon that other code was in this process; return the exit code.

    `number` is the descriptor of what it handed over.
    """
    before = Handover.load(number)
    return _serve(socket.socket(fileno=before.given["link"]), dict(before.given), before)


def _serve(link: socket.socket, given: dict[str, Any], before: Handover) -> int:
    """Serve in a thread of its own; return the exit code.

    The kernel gives orphans to the main thread, and a list of children is that of one thread.
    So what is left of a component's tree is seen without reading through all components.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(Lines())
    logging.basicConfig(level=os.environ.get("ORCH_LOG_LEVEL", "INFO"), handlers=[handler])
    signals = Signals(TAKEN)
    codes: list[int] = []

    def serve() -> None:
        signals.accept()
        with asyncio.Runner() as runner:
            try:
                daemon = Daemon(runner.get_loop(), link, given, before, signals)
            except JournalError as error:
                logger.error("%s", error)  # noqa: TRY400 - where it was found helps nobody
                return
            runner.run(_run(daemon))
            codes.append(daemon.supervisor.exit_code)

    thread = threading.Thread(target=serve, name="daemon")
    thread.start()
    thread.join()
    return codes[0] if codes else 1


def _await_system(link: socket.socket) -> tuple[dict[str, Any] | None, bytes]:
    """Wait for the keeper's first message; return it, and what came after it.

    None when the link ends: whoever was to start a system has thought better of it.
    """
    received, fds = b"", list[int]()
    while b"\n" not in received:
        data, more, _, _ = socket.recv_fds(link, 1 << 16, 4)
        if not data:
            return None, b""
        received, fds = received + data, fds + list(more)
    for fd in fds:
        os.set_inheritable(fd, False)
    control, notify, lock, log = fds
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    line, _, rest = received.partition(b"\n")
    return {**json.loads(line), "control": control, "notify": notify, "lock": lock}, rest


async def _run(daemon: Daemon) -> None:
    daemon.recover()
    # What is there now stays: the collector need not walk it again and again.
    gc.freeze()
    await daemon.serve()
