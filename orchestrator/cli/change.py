"""The verbs that change what runs: start, stop, restart, reset, kill, wait, down.

Each waits until it is done, follows the watch stream while it waits, and says on standard
error what happened; with nothing to do it says so and is done.
"""

from __future__ import annotations

import select
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from orchestrator import client
from orchestrator.cli import progress
from orchestrator.cli.session import Session
from orchestrator.client import Client, Condition, Outcome, Row, Watch
from orchestrator.errors import DaemonUnreachable, ExitCode, UsageError, WaitTimeout
from orchestrator.model import units
from orchestrator.model.units import Seconds

if TYPE_CHECKING:
    from orchestrator.cli.reader import Pollable

_BY_SIGNAL = 128
_LEAVING: Seconds = 2.0
"""How long a daemon that was told to end, and broke off, is looked for."""


def start(
    session: Session,
    *,
    names: tuple[str, ...],
    everything: bool,
    no_wait: bool,
    wait_timeout: Seconds,
) -> int:
    """Start instances and wait until they are ready or have ended well."""
    words = _chosen(names, everything=everything)
    daemon = session.connect()
    _changed(session, daemon, "start", words)
    if no_wait:
        return ExitCode.DONE
    return _follow(session, daemon, words, until=client.ready, what="ready", timeout=wait_timeout)


def stop(
    session: Session,
    *,
    names: tuple[str, ...],
    everything: bool,
    no_wait: bool,
    wait_timeout: Seconds,
) -> int:
    """Stop instances and wait until their process trees are gone."""
    words = _chosen(names, everything=everything)
    daemon = session.connect()
    affected = _changed(session, daemon, "stop", words)
    if no_wait:
        return ExitCode.DONE
    transitions = progress.Transitions(session.screen)
    outcome = daemon.wait_until(
        client.stopped,
        wait_timeout,
        what="stopped",
        names=words,
        at_first_failure=False,
        seen=transitions.see,
    )
    for row in outcome.failed:
        session.screen.say(
            f"orch: {row['name']} was started again meanwhile: it is {row['phase']}"
        )
    # What went wrong with a stop, such as its command, has been told as a warning.
    unclean = any(outcome.rows[name]["warning"] for name in affected if name in outcome.rows)
    return ExitCode.FAILED if outcome.failed or unclean else ExitCode.DONE


def restart(
    session: Session,
    *,
    names: tuple[str, ...],
    everything: bool,
    no_wait: bool,
    wait_timeout: Seconds,
) -> int:
    """Restart instances and wait until a newer process of each is ready."""
    words = _chosen(names, everything=everything)
    daemon = session.connect()
    before = {row["name"]: row["generation"] for row in daemon.ps(words)}
    _changed(session, daemon, "restart", words)
    if no_wait:
        return ExitCode.DONE
    condition = client.regenerated(before)
    return _follow(session, daemon, words, until=condition, what="restarted", timeout=wait_timeout)


def reload(
    session: Session,
    *,
    names: tuple[str, ...],
    everything: bool,
    no_wait: bool,
    wait_timeout: Seconds,
) -> int:
    """Let instances take on changed code; 1 when one could not, and it goes on with the old."""
    words = _chosen(names, everything=everything)
    reloads = session.connect().reload(words, wait_timeout, no_wait=no_wait)
    if session.options.json:
        session.screen.json(reloads)
    else:
        for each in reloads:
            _tell_reload(session, each)
    outcomes = {each["outcome"] for each in reloads}
    if "failed" in outcomes or (names and outcomes == {"skipped"}):
        return ExitCode.FAILED
    return ExitCode.DONE


_RELOADED = {
    "swapped": "reloaded in place",
    "unchanged": "its code is the same",
    "restarted": "restarted: {message}",
    "signalled": "{message}",
    "skipped": "not reloaded: {message}",
    "failed": "cannot reload: {message}",
    "begun": "begins to reload",
}


def _tell_reload(session: Session, each: dict[str, str]) -> None:
    says = _RELOADED[each["outcome"]].format(message=each["message"])
    tell = session.screen.say if each["outcome"] == "failed" else session.screen.note
    tell(f"orch: {each['name']}: {says}")


def reset(
    session: Session,
    *,
    names: tuple[str, ...],
    everything: bool,
    no_wait: bool,
    wait_timeout: Seconds,
) -> int:
    """Forget the failures of instances; done when none of them counts as failed."""
    words = _chosen(names, everything=everything)
    daemon = session.connect()
    _changed(session, daemon, "reset", words)
    if no_wait:
        return ExitCode.DONE
    return _follow(session, daemon, words, until=_unfailed, what="reset", timeout=wait_timeout)


def kill(session: Session, *, names: tuple[str, ...], everything: bool, signal: str) -> int:
    """Send a signal to instances; what it does to them is theirs."""
    words = _chosen(names, everything=everything)
    done = session.connect().kill(words, signal)
    reached = [name for name, action in done.items() if action == "pass"]
    if reached or not done:
        session.screen.note(f"orch: sent {signal} to {', '.join(reached) or 'nobody'}")
    for name, action in done.items():
        if action != "pass":
            session.screen.note(f"orch: {signal} to {name}: {action} (signals)")
    return ExitCode.DONE


def wait(session: Session, *, names: tuple[str, ...], goal: str, timeout: Seconds) -> int:
    """Wait until instances are ready or have ended, or runs have; then the exit code is theirs."""
    from orchestrator.cli import runs  # noqa: PLC0415 - the other verbs know of no runs

    daemon = session.connect()
    names, found = runs.among(daemon, names)
    if found and names:
        raise UsageError("wait for instances and for runs one after the other")
    if found:
        return runs.await_end(session, found, timeout, tells_code=goal == "exit")
    if goal == "ready":
        return _follow(session, daemon, names, until=client.serving, what="ready", timeout=timeout)
    outcome = daemon.wait_until(
        client.ended, timeout, what="ended", names=names, at_first_failure=False
    )
    rows = list(outcome.rows.values())
    if session.options.json:
        session.screen.json(rows)
    else:
        for row in rows:
            session.screen.data(f"{row['name']} {exit_code(row)}")
    return next((code for code in map(exit_code, rows) if code), ExitCode.DONE)


def down(session: Session, *, kill: bool, wait_timeout: Seconds) -> int:
    """Stop the system and its daemon; done at once when none runs."""
    daemon = session.try_connect() or _revived(session)
    if daemon is None:
        session.screen.note(f"orch: nothing runs for {session.topology}")
        return ExitCode.DONE
    bring_down(session, daemon, kill=kill, timeout=wait_timeout)
    return ExitCode.DONE


def _revived(session: Session) -> Client | None:
    """Return the daemon of a system that lost daemon and keeper: its components may live."""
    from orchestrator import keeping  # noqa: PLC0415 - seldom needed

    if not keeping.revive_keeper(session.runtime_dir):
        return None
    session.screen.note("orch: the daemon had been killed; started again, to stop what runs")
    return session.connect()


def bring_down(session: Session, daemon: Client, *, kill: bool, timeout: Seconds) -> None:
    """Ask the daemon to stop everything, and wait until it has ended.

    Each second the names still awaited are told, with pid and the time until the kill.

    Raises:
        WaitTimeout: It took longer than `timeout`; the stop goes on.
    """
    report = progress.Stopping(session.screen)
    transitions = progress.Transitions(session.screen)
    deadline = time.monotonic() + timeout
    try:
        watch = daemon.watch()
        now = time.monotonic()
        for row in watch.rows:
            report.see(row, now)
            transitions.begin(row)
        daemon.down(kill=kill)
    except DaemonUnreachable:
        # It was about to end when we came, or it has died, and is put back by the keeper.
        again = _asked_again(daemon, kill=kill)
        if again is None:
            session.screen.note("orch: stopped")
            return
        watch = again
    is_over = False
    while not is_over:
        now = time.monotonic()
        if now >= deadline:
            limit = units.format_duration(timeout)
            raise WaitTimeout(f"not stopped after {limit}: {report.describe(now)}")
        for event in watch.wait(min(report.due(now), deadline - now)):
            if event["kind"] == "instance":
                transitions.see(event["row"])
                report.see(event["row"], time.monotonic())
            is_over |= event["kind"] == "system" and event["state"] == "stopped"
        report.tell(time.monotonic())
        if watch.at_end and not is_over:
            again = _asked_again(daemon, kill=kill)
            if again is None:
                break
            watch = again
    daemon.wait_closed(max(0.0, deadline - time.monotonic()))
    session.screen.note("orch: stopped")


def await_down(session: Session, *, timeout: Seconds, interrupts: Pollable | None = None) -> None:
    """Wait until a stop that somebody else has asked for is over; tell who is still awaited.

    Args:
        session: Whose daemon is being stopped.
        timeout: How long to wait, in seconds.
        interrupts: What becomes readable when the user wants to wait no longer.

    Raises:
        WaitTimeout: It took longer than `timeout`; the stop goes on.
        KeyboardInterrupt: The user does not want to wait.
    """
    report = progress.Stopping(session.screen)
    begin = time.monotonic()
    daemon = session.connect()
    awaited = [daemon.fileno()] if interrupts is None else [daemon.fileno(), interrupts.fileno()]
    try:
        watch = daemon.join_down()
        for row in watch.rows:
            report.see(row, begin)
        names = report.describe(begin) or "the daemon"
        session.screen.note(
            f"orch: the system is being stopped; waiting until it is down: {names}"
        )
        while not watch.at_end:
            now = time.monotonic()
            if now - begin >= timeout:
                limit = units.format_duration(timeout)
                raise WaitTimeout(
                    f"not down after {limit}: {report.describe(now) or 'the daemon'}"
                )
            pause = 0.0 if watch.has_events else min(report.due(now), begin + timeout - now)
            readable, _, _ = select.select(awaited, [], [], pause)
            if interrupts is not None and interrupts.fileno() in readable:
                raise KeyboardInterrupt
            for event in watch.wait(0.0):
                if event["kind"] == "instance":
                    report.see(event["row"], time.monotonic())
            report.tell(time.monotonic())
    except DaemonUnreachable:
        pass  # It has ended while we asked.
    daemon.wait_closed(0.0)


def _asked_again(daemon: Client, *, kill: bool) -> Watch | None:
    """Tell a daemon that the keeper put back to end; None when there is none any more."""
    try:
        daemon.reopen(_LEAVING)
        watch = daemon.watch()
        daemon.down(kill=kill)
    except DaemonUnreachable:
        return None
    return watch


def exit_code(row: Row) -> int:
    """Return how the instance's last process ended, as a shell would tell it."""
    if row["signal"] is not None:
        return _BY_SIGNAL + row["signal"]
    if row["exit_code"] is not None:
        return row["exit_code"]
    return ExitCode.FAILED if row["phase"] == "failed" else ExitCode.DONE


def _unfailed(row: Row) -> client.Verdict:
    return client.Verdict.PENDING if row["phase"] == "failed" else client.Verdict.DONE


def _chosen(names: tuple[str, ...], *, everything: bool) -> tuple[str, ...]:
    if names and everything:
        raise UsageError("cannot take names and --all together")
    if not names and not everything:
        raise UsageError("name a service, a component or an instance, or say --all")
    return names


def _changed(session: Session, daemon: Client, verb: str, names: Sequence[str]) -> tuple[str, ...]:
    """Ask for the change, and tell who is as wished already; return the others."""
    change = daemon.change(verb, names)
    for name in change.unchanged:
        session.screen.note(f"orch: {name}: nothing to {verb}")
    for name, users in change.needed.items():
        session.screen.say(
            f"orch: warning: {name} is stopped, and these depend on it and run: {', '.join(users)}"
        )
    return change.affected


def _follow(
    session: Session,
    daemon: Client,
    names: Sequence[str],
    *,
    until: Condition,
    what: str,
    timeout: Seconds,
) -> int:
    """Wait until the condition holds for the instances; tell what happens and who failed."""
    transitions = progress.Transitions(session.screen)
    outcome = daemon.wait_until(until, timeout, what=what, names=names, seen=transitions.see)
    for row in outcome.failed:
        session.screen.say(f"orch: {client.failure(row)}")
    for row in _culprits(daemon, outcome):
        session.screen.say(f"orch: {client.failure(row)}")
    return ExitCode.FAILED if outcome.failed else ExitCode.DONE


def _culprits(daemon: Client, outcome: Outcome) -> list[Row]:
    """Return those that nobody named here and because of which somebody could not start."""
    reasons = "\n".join(
        row["why"] or "" for row in outcome.failed if row["result"] == "dependency"
    )
    if not reasons:
        return []
    return [
        row
        for row in daemon.ps()
        if row["name"] not in outcome.rows
        and row["phase"] in ("failed", "exited")
        and row["result"] != "dependency"
        and repr(row["name"]) in reasons
    ]
