"""`orch logs`: the files that components write, read by the command itself.

The daemon only tells where the files are. When it is down, the lock that was built says
who has which, and the files are as good as ever.
"""

from __future__ import annotations

import dataclasses
import json
import re
import select
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from orchestrator.cli import history, invocation
from orchestrator.cli.follow import Follower
from orchestrator.cli.history import Choice
from orchestrator.cli.logfiles import LogFile
from orchestrator.cli.loglines import Style
from orchestrator.cli.session import Session
from orchestrator.client import Client, Row, Watch
from orchestrator.errors import ExitCode, OrchestratorError, UsageError
from orchestrator.model import names as naming

LINES = 100
"""How many last lines of each are shown when nothing else limits them."""

_LOCK = "topology.lock.json"
_ALIVE = frozenset({"starting", "running", "stopping"})


def logs(
    session: Session,
    *,
    names: tuple[str, ...],
    follow: bool,
    lines: int | None,
    since: str | None,
    until: str | None,
    timestamps: bool,
    stderr: bool,
    no_prefix: bool,
    grep: re.Pattern[bytes] | None,
) -> int:
    """Print what instances wrote, merged by time, and with `follow` go on with what comes."""
    choice = _choice(lines, since, until, grep)
    if follow and choice.until is not None:
        raise UsageError("cannot use --until with --follow: what comes has no end")
    style = style_of(session, prefix=not no_prefix, coloured=session.screen.out_coloured)
    style = dataclasses.replace(style, times=timestamps and not style.json, pattern=grep)
    streams = ("stderr",) if stderr else ("stdout", "stderr")
    styles = {"stdout": style, "stderr": style}

    def start(file: LogFile) -> tuple[int, int]:
        return history.choose(file, choice)

    with Follower(styles, start=start, streams=streams, stays=follow) as follower:
        daemon = session.try_connect()
        if daemon is None:
            _offline(session, follower, names, streams)
            follower.show_history()
            while follow:
                _wait(follower)
        elif follow:
            _live(daemon, follower, names)
        else:
            _begin(follower, daemon.ps(names))
        follower.flush()
        problems = follower.problems()
    for problem in problems:
        session.screen.say(f"orch: {problem}")
    return ExitCode.FAILED if problems else ExitCode.DONE


def _choice(
    lines: int | None, since: str | None, until: str | None, grep: re.Pattern[bytes] | None
) -> Choice:
    now = time.time_ns() / 1e9
    if lines is None and since is None and until is None:
        lines = LINES
    return Choice(
        None if lines == invocation.ALL_LINES else lines,
        grep,
        None if since is None else history.parse_time(since, "--since", now),
        None if until is None else history.parse_time(until, "--until", now),
    )


def style_of(session: Session, *, prefix: bool, coloured: bool) -> Style:
    """Return how the user wants lines on standard output to look."""
    return Style(
        prefix=prefix and not session.options.json,
        coloured=coloured,
        terminal=sys.stdout.isatty(),
        json=session.options.json,
    )


def _live(daemon: Client, follower: Follower, names: Sequence[str]) -> None:
    """Follow until the system has stopped; a daemon that dies is awaited, its logs go on."""
    watch = daemon.watch(names)
    _see(follower, watch.rows)
    # Before the history is shown, which takes its time: what comes meanwhile is new.
    follower.from_now()
    follower.show_history()
    is_over = False
    while True:
        _wait(follower, daemon, watch)
        for event in watch.wait(0.0):
            if event["kind"] == "instance":
                row = event["row"]
                follower.see(row)
                if row["phase"] not in _ALIVE:
                    follower.finish(row["name"])
            elif event["kind"] == "system":
                is_over = event["state"] == "stopped"
        if watch.at_end:
            follower.drain()
            if is_over:
                return
            daemon.reopen()
            watch = daemon.watch(names)
            for row in watch.rows:
                follower.see(row)


def _begin(follower: Follower, rows: Sequence[Row]) -> None:
    _see(follower, rows)
    follower.show_history()


def _see(follower: Follower, rows: Sequence[Row]) -> None:
    # Before the first line, so that all prefixes are as wide as the widest.
    follower.width = max((len(row["name"]) for row in rows), default=0)
    for row in rows:
        follower.see(row)


def _wait(follower: Follower, daemon: Client | None = None, watch: Watch | None = None) -> None:
    """Show what there is, then sleep until a file grows or the daemon speaks."""
    more = follower.pump() or (watch is not None and watch.has_events)
    awaited = [follower.fileno()] if daemon is None else [follower.fileno(), daemon.fileno()]
    select.select(awaited, [], [], 0.0 if more else None)


def _offline(
    session: Session, follower: Follower, words: Sequence[str], streams: Sequence[str]
) -> None:
    """Take in the log files that the last built lock speaks of."""
    base_dir = _base_dir(session)
    path = base_dir / _LOCK
    try:
        document = json.loads(path.read_bytes())
        components = document["lock"]["components"]
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise OrchestratorError(
            f"cannot find the logs of {session.topology}: no daemon runs and {path} "
            f"cannot be read ({problem}); start the system with: {session.starter}"
        ) from problem
    chosen = naming.select(words, components)
    follower.width = max(map(len, chosen), default=0)
    for name in chosen:
        plain = components[name]
        stem = naming.file_stem(plain["service"], plain["component"], plain.get("instance", 1))
        for stream in streams:
            suffix = "out" if stream == "stdout" else "err"
            follower.add(name, stream, base_dir / "logging" / f"{stem}.{suffix}")


def _base_dir(session: Session) -> Path:
    """Return where the system's files are; its topology is read only when it moved them."""
    if (session.base_dir / _LOCK).is_file() or not session.topology.is_file():
        return session.base_dir
    from orchestrator import config  # noqa: PLC0415 - reading YAML is slow, and seldom needed
    from orchestrator.cli import topology  # noqa: PLC0415 - likewise

    draft = config.read(
        session.topology,
        project=session.options.project,
        environment=session.environment,
        modules=topology.module_values,
    )
    return draft.base_dir
