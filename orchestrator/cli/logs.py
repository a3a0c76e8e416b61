"""`orch logs`: the files that components write, read by the command itself.

The daemon only tells where the files are. When it is down, the lock that was built says
who has which, and the files are as good as ever.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from orchestrator.cli import history, invocation
from orchestrator.cli.follow import Follower
from orchestrator.cli.history import Choice
from orchestrator.cli.logfiles import LogFile
from orchestrator.cli.loglines import Style
from orchestrator.cli.reader import Reader
from orchestrator.cli.runs import among
from orchestrator.cli.session import Session
from orchestrator.client import Client, Event, Row, RunRow, Watch, runs
from orchestrator.client.runs import Following
from orchestrator.errors import DaemonUnreachable, ExitCode, OrchestratorError, UsageError
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
    style = style._replace(times=timestamps and not style.json, pattern=grep)
    streams = ("stderr",) if stderr else ("stdout", "stderr")
    styles = {"stdout": style, "stderr": style}

    def start(file: LogFile) -> tuple[int, int]:
        return history.choose(file, choice)

    with (
        Follower(styles, start=start, streams=streams, stays=follow) as follower,
        Reader() as reader,
    ):
        chosen = _choose(session.try_connect(), names, follow=follow)
        if chosen is None:
            _offline(session, follower, names, streams)
            follower.show_history()
            while follow:
                _wait(reader, follower)
        elif follow:
            _live(chosen, follower, reader)
        else:
            chosen.see(follower)
            follower.show_history()
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


def _choose(daemon: Client | None, words: Sequence[str], *, follow: bool) -> _Chosen | None:
    """Return what the daemon says of `words`; None when there is none, or it is going away."""
    if daemon is not None:
        with contextlib.suppress(DaemonUnreachable):
            return _Chosen(daemon, words, follow=follow)
    return None


class _Chosen:
    """Whose output is shown: instances, and runs of jobs.

    `watch` is the stream of what becomes of them, when they are followed.
    """

    def __init__(self, daemon: Client, words: Sequence[str], *, follow: bool) -> None:
        self.daemon = daemon
        self.is_over = False
        self._names, found = among(daemon, words)
        self._following = Following(row["id"] for row in found)
        self._following.begin(found, 0)
        self._only_runs = bool(found) and not self._names
        self._rows: Sequence[Row] = ()
        if follow:
            self.watch = self._watched()
        elif not self._only_runs:
            self._rows = daemon.ps(self._names)

    @property
    def is_finished(self) -> bool:
        """Whether nothing more is written: the system has stopped, or all runs have ended."""
        return self.is_over or (self._only_runs and not self._following.pending)

    def reopen(self) -> None:
        """Go on with the next daemon."""
        self.daemon.reopen()
        self.watch = self._watched()

    def _watched(self) -> Watch:
        ids = list(self._following.rows)
        if self._only_runs:
            watch = self.daemon.watch_runs(ids)
        else:
            watch = self.daemon.watch(self._names, runs=bool(ids))
        if ids:
            found = self.daemon.request("runs", **runs.selection(ids))
            self._following.begin(found["runs"], found["seq"])
        self._rows = watch.rows
        return watch

    def see(self, follower: Follower) -> None:
        """Take in all files there are."""
        # Before the first line, so that all prefixes are as wide as the widest.
        known = [*self._rows, *self._following.rows.values()]
        follower.width = max((len(row["name"]) for row in known), default=0)
        for row in self._rows:
            follower.see(row)
        for run in self._following.rows.values():
            _see_run(follower, run)

    def take(self, follower: Follower, event: Event) -> None:
        """Take in what became of a writer; all that one has written which is at its end."""
        if event["kind"] == "instance":
            row = event["row"]
            follower.see(row)
            if row["phase"] not in _ALIVE:
                follower.finish(row["name"])
        elif event["kind"] == "system":
            self.is_over = event["state"] == "stopped"
        elif (run := self._following.take(event)) is not None:
            _see_run(follower, run)
            if runs.is_finished(run):
                follower.finish(run["name"])


def _see_run(follower: Follower, run: RunRow) -> None:
    if run["output"] is not None:
        follower.add(run["name"], "stdout", Path(run["output"]))


def _live(chosen: _Chosen, follower: Follower, reader: Reader) -> None:
    """Follow until nothing more comes; a daemon that dies is awaited, its logs go on."""
    chosen.see(follower)
    # Before the history is shown, which takes its time: what comes meanwhile is new.
    follower.from_now()
    follower.show_history()
    while not chosen.is_finished:
        _wait(reader, follower, chosen.daemon, chosen.watch)
        for event in chosen.watch.wait(0.0):
            chosen.take(follower, event)
        if chosen.watch.at_end:
            follower.drain()
            if chosen.is_over:
                return
            chosen.reopen()
            chosen.see(follower)
    follower.drain()


def _wait(
    reader: Reader,
    follower: Follower,
    daemon: Client | None = None,
    watch: Watch | None = None,
) -> None:
    """Show what there is, then sleep until a file grows or the daemon speaks."""
    more = follower.pump() or (watch is not None and watch.has_events)
    awaited = [follower] if daemon is None else [follower, daemon]
    reader.await_news(*awaited, timeout=0.0 if more else None)


def _offline(
    session: Session, follower: Follower, words: Sequence[str], streams: Sequence[str]
) -> None:
    """Take in the files that the last built lock and the records of runs speak of."""
    base_dir = _base_dir(session)
    outputs = {word: output for word in words if (output := _output(base_dir, word)) is not None}
    files = [(word, "stdout", output) for word, output in outputs.items()]
    rest = [word for word in words if word not in outputs]
    if rest or not words:
        files.extend(_built(session, base_dir, rest, streams))
    follower.width = max((len(name) for name, _, _ in files), default=0)
    for name, stream, path in files:
        follower.add(name, stream, path)


def _output(base_dir: Path, word: str) -> Path | None:
    """Return the file with the output of a run, when there is one of this name."""
    record = base_dir / "data" / "runs" / runs.id_of(word) / "order.json"
    try:
        return Path(json.loads(record.read_bytes())["run_dir"], "output")
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _built(
    session: Session, base_dir: Path, words: Sequence[str], streams: Sequence[str]
) -> Iterator[tuple[str, str, Path]]:
    """Yield name, stream and path of what the components of the last built lock write."""
    path = base_dir / _LOCK
    try:
        document = json.loads(path.read_bytes())
        components = document["lock"]["components"]
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise OrchestratorError(
            f"cannot find the logs of {session.topology}: no daemon runs and {path} "
            f"cannot be read ({problem}); start the system with: {session.starter}"
        ) from problem
    for name in naming.select(words, components):
        plain = components[name]
        stem = naming.file_stem(plain["service"], plain["component"], plain.get("instance", 1))
        for stream in streams:
            suffix = "out" if stream == "stdout" else "err"
            yield name, stream, base_dir / "logging" / f"{stem}.{suffix}"


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
