"""`orch up`: make the system what its file says, and stay with it or not.

Read and lock the topology, write its files, make sure that a daemon runs, apply the lock.
Nothing is changed before the topology is known to be good, and a daemon that this command
started does not outlive a refusal.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from msgspec import Struct, structs

from orchestrator import client, files, keeping
from orchestrator.cli import commands, progress, topology
from orchestrator.cli.session import Session
from orchestrator.cli.topology import Wanted
from orchestrator.config import Locked
from orchestrator.errors import (
    DaemonRunning,
    DaemonUnreachable,
    ExitCode,
    OrchestratorError,
    RequestFailed,
    UsageError,
    WaitTimeout,
)
from orchestrator.model import names as naming
from orchestrator.model import plain, units
from orchestrator.model.topology import Lock
from orchestrator.model.units import Seconds

if TYPE_CHECKING:
    from orchestrator.cli import foreground
    from orchestrator.client import Client, Step

_GIVE_UP: Seconds = 60.0
_PLACES = 5
"""How many places a cause shows."""
_LOCK = "orch.lock"
"""Holds the keeper's pid for as long as a system has its directory, and after a kill."""


class _Request(Struct, frozen=True):
    """What to apply, and to whom."""

    wanted: Wanted
    names: tuple[str, ...]
    no_deps: bool
    remove_orphans: bool
    early: keeping.KeeperStart | None = None
    init: bool = False


class _Gone(DaemonUnreachable):
    """A daemon that was there ended before it heard what to apply."""


class _Started(Struct, frozen=True):
    """A daemon that answers, whether this command started it, and what writes the rest, once."""

    daemon: Client
    is_ours: bool
    write: Callable[[], None]


def up(
    session: Session,
    *,
    words: tuple[str, ...],
    detach: bool,
    wait: bool,
    wait_timeout: Seconds | None,
    exit_code_from: str | None,
    abort_on_failure: bool,
    abort_on_exit: bool,
    plan: bool,
    no_deps: bool,
    scale: Mapping[str, int],
    remove_orphans: bool,
    settings: Mapping[str, str],
    settings_files: tuple[str, ...],
    no_import: bool,
    profiles: tuple[str, ...] = (),
    mock: tuple[str, ...] = (),
    init: bool = False,
    early: keeping.KeeperStart | None = None,
) -> int:
    """Bring the system up; see the table of commands for the options.

    `early` is a keeper that has been started in advance, by somebody who closes it.
    """
    if moved_from := session.place.moved_from:
        raise OrchestratorError(
            f"cannot bring the system up here: it runs since this folder was that of "
            f"{moved_from!r}; stop it first: {session.starter.removesuffix('up -d')}down"
        )
    if (detach or wait) and (exit_code_from or abort_on_failure or abort_on_exit):
        raise UsageError(
            "--exit-code-from, --abort-on-failure and --abort-on-exit need the foreground"
        )
    wanted = topology.read(
        session,
        settings=settings,
        settings_files=settings_files,
        scale=scale,
        mock=mock,
        imports=not no_import,
    )
    lock = wanted.locked.lock
    known = tuple(lock.components)
    naming.select(words, known)
    watched = naming.select((exit_code_from,), known) if exit_code_from else ()
    topology.warn(session, wanted.locked.warnings)
    names = words or _with_profiles(session, lock, profiles)
    request = _Request(wanted, names, no_deps, remove_orphans, early, init=init)
    if plan:
        return _plan(session, request)
    default = commands.WAIT_TIMEOUT if wait else commands.UP_TIMEOUT
    timeout = units.parse_duration(default) if wait_timeout is None else wait_timeout
    if detach or wait:
        way = functools.partial(_detached, session, is_readied=wait, stays=detach)
        return _behind_a_down(session, request, timeout, way)
    from orchestrator.cli import foreground  # noqa: PLC0415 - `up -d` starts sooner without

    policy = foreground.Policy(
        names,
        watched,
        abort_on_failure=abort_on_failure,
        abort_on_exit=abort_on_exit,
        awaits_runs=bool(lock.jobs) and not words,
    )
    with foreground.Foreground(session, lock, policy) as attached:
        way = functools.partial(_attached, session, attached=attached)
        return _behind_a_down(session, request, timeout, way, attached)


def _with_profiles(session: Session, lock: Lock, asked: tuple[str, ...]) -> tuple[str, ...]:
    """Return whom to start when nobody is named; nobody means all: there are no profiles.

    Raises:
        UsageError: A profile is asked for that nothing has, or everything has one and none is.
    """
    known = {profile for one in lock.components.values() for profile in one.profiles}
    text = session.environment.get("ORCH_PROFILES", "")
    active = {*asked, *(word.strip() for word in text.split(",") if word.strip())}
    for profile in sorted(active - known):
        near = naming.did_you_mean(profile, known) or "nothing in the topology has it"
        raise UsageError(f"unknown profile {profile!r}; {near}")
    if not known:
        return ()
    chosen = [
        name
        for name, one in lock.components.items()
        if not one.profiles or not active.isdisjoint(one.profiles)
    ]
    if not chosen:
        there = ", ".join(sorted(known))
        raise UsageError(f"nothing is to be started without a profile: --profile ({there})")
    return tuple(chosen)


def scale(
    session: Session,
    *,
    counts: Mapping[str, int],
    wait_timeout: Seconds,
    settings: Mapping[str, str],
    settings_files: tuple[str, ...],
    no_import: bool,
) -> int:
    """Apply the file to these components with these numbers of instances; others stay."""
    running = collections.Counter(
        f"{row['service']}.{row['component']}" for row in session.connect().ps()
    )
    wanted = topology.read(
        session,
        settings=settings,
        settings_files=settings_files,
        scale=counts,
        running=running,
        imports=not no_import,
    )
    topology.warn(session, wanted.locked.warnings)
    request = _Request(wanted, tuple(counts), no_deps=False, remove_orphans=False)
    return _detached(session, request, wait_timeout, is_readied=True, stays=True)


def _plan(session: Session, request: _Request) -> int:
    """Print what an up would do; without a daemon everything is yet to be made."""
    daemon = session.try_connect()
    if daemon is None:
        chosen = naming.select(request.names, request.wanted.locked.lock.components)
        steps: list[Step] = [
            {"name": name, "action": "create", "cause": "no daemon runs", "changed": []}
            for name in chosen
        ]
    else:
        steps = _apply(daemon, request, plan=True)
    locked = request.wanted.locked
    if session.options.json:
        session.screen.json([{**step, "changed": _changed(locked, step)} for step in steps])
        return ExitCode.DONE
    width = max((len(step["name"]) for step in steps), default=0)
    for step in steps:
        text = f"{step['name']:<{width}}  {step['action']:<8}{_cause(locked, step)}"
        session.screen.data(text.rstrip())
    return ExitCode.DONE


def _changed(locked: Locked, step: Step) -> list[dict[str, Any]]:
    """Return what a step found changed, each with its place in the files if it has one."""
    found = []
    for path in step["changed"]:
        position = locked.origin(step["name"], path)
        place = {} if position is None else position._asdict()
        found.append({"field": ".".join(path), **place})
    return found


def _cause(locked: Locked, step: Step) -> str:
    """Return the cause of a step, and the lines of the files that made it."""
    positions = [locked.origin(step["name"], path) for path in step["changed"][:_PLACES]]
    places = dict.fromkeys(str(position) for position in positions if position is not None)
    return f"{step['cause']} ({', '.join(places)})" if places else step["cause"]


def _behind_a_down(
    session: Session,
    request: _Request,
    timeout: Seconds,
    way: Callable[[_Request, Seconds], int],
    interrupts: foreground.Foreground | None = None,
) -> int:
    """Bring the system up the one `way` or the other, once a stop of it that goes on is over.

    Args:
        session: Whose system it is.
        request: What to bring up.
        timeout: How long all of it may take, in seconds.
        way: Brings up what is asked, in the seconds that are left.
        interrupts: What collects the signals, if they are no exceptions.
    """
    deadline = time.monotonic() + timeout
    has_gone = False
    while True:
        try:
            return way(request, timeout)
        except _Gone:
            # It was at the very end of its stop as we came, or has died and is put back.
            if has_gone:
                raise
            has_gone = True
        except RequestFailed as refusal:
            if refusal.code != "stopping":
                raise
            from orchestrator.cli import change  # noqa: PLC0415 - seldom needed

            change.await_down(session, timeout=timeout, interrupts=interrupts)
        session.disconnect()
        timeout = max(0.0, deadline - time.monotonic())
        request = structs.replace(request, early=None, init=False)  # Both have been used.


def _detached(
    session: Session, request: _Request, timeout: Seconds, *, is_readied: bool, stays: bool
) -> int:
    """Apply, wait until all has started, or is ready, and leave the system to its daemon.

    Unless it `stays`, a system that was started here and does not come up is brought down.
    """
    lock = request.wanted.locked.lock
    with _daemon(session, request, keeps=stays) as started:
        daemon, is_ours = started.daemon, started.is_ours
        steps = _apply_first(started, request)
        _tell(session, request.wanted.locked, steps)
        # Nobody asked for those that the file no longer has, so nobody waits for them.
        has_orphans = any(step["action"] == "orphan" for step in steps)
        transitions = progress.Transitions(session.screen)
        condition, what = (client.ready, "ready") if is_readied else (client.settled, "started")
        try:
            outcome = daemon.wait_until(
                condition,
                timeout,
                what=what,
                names=request.names or (tuple(lock.components) if has_orphans else ()),
                at_first_failure=is_readied,
                seen=transitions.see,
                meanwhile=started.write,
            )
        finally:
            started.write()
        for row in outcome.failed:
            session.screen.say(f"orch: {client.failure(row)}")
        if outcome.failed and is_ours and not stays:
            _abandon(daemon)
    return ExitCode.FAILED if outcome.failed else ExitCode.DONE


def _attached(
    session: Session, request: _Request, _timeout: Seconds, *, attached: foreground.Foreground
) -> int:
    with _daemon(session, request) as started:
        if attached.was_interrupted:
            raise KeyboardInterrupt
        steps = _apply_first(started, request)
        started.write()
    _tell(session, request.wanted.locked, steps)
    return attached.follow(started.daemon, is_ours=started.is_ours)


@contextlib.contextmanager
def _daemon(session: Session, request: _Request, *, keeps: bool = False) -> Iterator[_Started]:
    """Give the client of the daemon, started if need be, and what is still to be written.

    A daemon that was started here is brought down again when the block fails; with `keeps`
    only a refusal does that, not a wait that ended without what it waited for.
    """
    lock = request.wanted.locked.lock
    daemon = session.try_connect()
    # Its files are another system's when a daemon that we do not reach has the directory.
    is_claimed = daemon is None and bool(files.read_note(topology.base_dir_of(lock) / _LOCK))
    start = _begin(session, request) if daemon is None else None
    is_ours = False
    try:
        if start is not None and is_claimed:
            is_ours = _finish(session, start)
        try:
            # The keeper and the daemon come up while the files are written.
            topology.write_first(lock)
        finally:
            if start is not None and not is_claimed:
                is_ours = _finish(session, start)
            if daemon is None:
                daemon = session.connect()
        write = functools.cache(lambda: topology.write(session, lock))
        yield _Started(daemon, is_ours, write)
    except BaseException as problem:
        if (
            daemon is not None
            and is_ours
            and not (keeps and isinstance(problem, (WaitTimeout, KeyboardInterrupt)))
        ):
            _abandon(daemon)
        raise


def _abandon(daemon: Client) -> None:
    """Stop everything at once: what was started here does not stay half-started."""
    with contextlib.suppress(OrchestratorError):
        daemon.down(kill=True)
        daemon.wait_closed(_GIVE_UP)


def _begin(session: Session, request: _Request) -> keeping.KeeperStart:
    lock = request.wanted.locked.lock
    files.private_dir(session.runtime_dir)
    start = request.early or keeping.KeeperStart(session.runtime_dir)
    start.give(base_dir=topology.base_dir_of(lock), name=lock.name, topology=session.topology)
    return start


def _finish(session: Session, start: keeping.KeeperStart) -> bool:
    """Wait for the keeper's word; tell whether this command's daemon owns the system."""
    try:
        start.finish()
    except DaemonRunning:
        # Somebody else's `up` was faster. A daemon that owns the system but does not
        # answer is another matter, and the refusal says whose it is.
        if session.try_connect() is None:
            raise
        return False
    return True


def _apply(daemon: Client, request: _Request, *, plan: bool = False) -> list[Step]:
    return daemon.apply(
        plain.dumps(request.wanted.locked.lock),
        request.wanted.locked.secrets,
        plan=plan,
        names=request.names,
        no_deps=request.no_deps,
        remove_orphans=request.remove_orphans,
    )


def _apply_first(started: _Started, request: _Request) -> list[Step]:
    """Apply to a daemon that may have just been started; tell why when it could not start."""
    is_ours = started.is_ours
    if request.init:
        from orchestrator.cli import admin  # noqa: PLC0415 - few ask for it

        admin.initialize(request.wanted, request.names)
    try:
        return _apply(started.daemon, request)
    except DaemonUnreachable as problem:
        if not is_ours:
            raise _Gone(str(problem)) from problem
        log = topology.base_dir_of(request.wanted.locked.lock) / "logging" / "orch.log"
        # What the keeper makes of it, that it gives up, says nothing of the reason.
        lines = [line for line in client.last_lines(log, 5) if " keeper[" not in line]
        if not lines:
            raise
        raise DaemonUnreachable(f"cannot start the daemon: {lines[-1]} (see {log})") from problem


def _tell(session: Session, locked: Locked, steps: list[Step]) -> None:
    """Tell what the apply does to what was there before; what is new tells itself."""
    for step in steps:
        if step["action"] == "orphan":
            session.screen.say(
                f"orch: {step['name']} is not in the topology any more; --remove-orphans stops it"
            )
        elif step["action"] in ("restart", "update", "remove"):
            cause = _cause(locked, step)
            session.screen.note(f"orch: {step['action']} {step['name']}: {cause}")
