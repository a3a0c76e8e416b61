"""Scenarios: the real command in a world of its own, told as steps and checks.

A scenario has one intent, phrased as an obligation. It owns a short temporary directory (the
path of a Unix socket has at most 107 bytes) with a runtime directory and a topology in it. Steps
run the real `orch`; checks look at the world until it is as it should be, or the step's time is
over. Nothing sleeps for a guessed time. See `README.md` beside this file.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e import processes

ORCH = Path(sys.executable).parent / "orch"
BADPROC = Path(__file__).parent / "badproc.py"
MARKER = "ORCH_TEST_RUN"
PATIENCE = 15.0

Row = dict[str, Any]


def bad(*switches: object) -> list[str]:
    """Return the argv of the badly behaved program."""
    return [sys.executable, "-I", "-S", "-u", str(BADPROC), *map(str, switches)]


@dataclass(frozen=True)
class Outcome:
    """What one run of the command gave."""

    argv: tuple[str, ...]
    code: int
    out: str
    err: str
    seconds: float

    @property
    def text(self) -> str:
        """Both outputs, as a person sees them."""
        return self.out + self.err

    def json(self) -> Any:
        """Return standard output as JSON."""
        return json.loads(self.out)

    def __str__(self) -> str:
        parts = [f"$ {' '.join(self.argv)}"]
        parts += [
            textwrap.indent(text.rstrip(), mark)
            for mark, text in (("  ", self.out), ("! ", self.err))
            if text
        ]
        return "\n".join([*parts, f"[exit {self.code}, {self.seconds:.2f} s]"])


@dataclass(frozen=True)
class Command:
    """A command line to run, with the time it may take."""

    argv: tuple[str, ...]
    limit: float = 60.0

    def within(self, seconds: float) -> Command:
        """Return the same command with another limit."""
        return dataclasses.replace(self, limit=seconds)


Check = Callable[["Scenario", Outcome], None]


def orch(*argv: str) -> Command:
    """Name a command line of `orch`."""
    return Command(argv)


class Scenario:
    """One world with one system in it."""

    def __init__(self, intent: str) -> None:
        """Make the world."""
        self.intent = intent
        self.root = Path(tempfile.mkdtemp(prefix="o", dir="/tmp"))
        self.runtime = self.root / "run"
        self.runtime.mkdir(mode=0o700)
        self.base = self.root / ".orch"  # where the system's files go
        self.marker = uuid.uuid4().hex
        self.record_file = self.root / "events"
        self.transcript: list[str] = []
        self.running: list[Background] = []
        self.environment = {
            "PATH": f"{ORCH.parent}:{os.environ['PATH']}",
            "HOME": str(self.root),
            "LANG": "C.UTF-8",
            "XDG_RUNTIME_DIR": str(self.runtime),
            "NO_COLOR": "1",
            MARKER: self.marker,
        }

    # The world before

    @property
    def topology(self) -> Path:
        """The topology file."""
        return self.root / "topology.yaml"

    def write(self, text: str, name: str = "topology.yaml") -> Path:
        """Write a file of the world, the topology unless named."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return path

    def services(self, services: Mapping[str, Any], **more: Any) -> Path:
        """Write a topology of these services. A command counts as ready at once."""
        more.setdefault("defaults", {"settle": "0s"})
        return self.write(
            json.dumps({"version": 1, "name": "world", **more, "services": services}, indent=2)
        )

    def copy(self, source: Path) -> Path:
        """Copy a file or folder into the world."""
        target = self.root / source.name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
        return target

    # Steps

    def step(self, name: str, command: Command, *checks: Check) -> Outcome:
        """Run one command, then make all checks. The name says what it proves."""
        self.transcript.append(f"# {name}")
        outcome = self.run(*command.argv, limit=command.limit)
        for check in checks:
            check(self, outcome)
        return outcome

    def run(self, *argv: str, limit: float = 60.0) -> Outcome:
        """Run `orch` to its end."""
        outcome = self.command([str(ORCH), *argv], limit=limit)
        if "ps" not in argv and "status" not in argv:
            self.transcript.append(str(outcome))
        return outcome

    def command(self, argv: Sequence[str], *, limit: float = 60.0) -> Outcome:
        """Run any program of this world to its end."""
        shown = (Path(argv[0]).name, *argv[1:])
        begin = time.monotonic()
        try:
            done = subprocess.run(
                argv,
                cwd=self.root,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=limit,
                check=False,
            )
        except subprocess.TimeoutExpired as late:
            self.transcript.append(
                f"$ {' '.join(shown)}\n{decode(late.stdout)}{decode(late.stderr)}"
            )
            raise AssertionError(f"'{' '.join(shown)}' did not end within {limit} s") from late
        return Outcome(
            shown,
            done.returncode,
            decode(done.stdout),
            decode(done.stderr),
            time.monotonic() - begin,
        )

    def start(self, *argv: str, command: Sequence[str] = ()) -> Background:
        """Start a command of `orch`, or any other, that goes on while the scenario does."""
        started = Background(self, command or (str(ORCH), *argv))
        self.running.append(started)
        return started

    # What there is

    def ps(self) -> dict[str, Row]:
        """Return the rows of `orch ps --json` by name; none when no daemon answers."""
        outcome = self.run("ps", "--json")
        return {row["name"]: row for row in outcome.json()} if outcome.code == 0 else {}

    def row(self, name: str) -> Row:
        """Return one row; fail when there is none."""
        rows = self.ps()
        assert name in rows, f"'{name}' is not in {sorted(rows)}"
        return rows[name]

    def daemon(self) -> Row:
        """Return the daemon's own facts."""
        outcome = self.run("status", "--json")
        facts: Row = outcome.json()["daemon"]
        return facts

    def until(
        self, what: Callable[[], object], *, within: float = PATIENCE, saying: str = ""
    ) -> Any:
        """Look again and again until `what` gives something true; return it."""
        return eventually(what, within=within, saying=saying)

    def until_row(self, name: str, *, within: float = PATIENCE, **wanted: object) -> Row:
        """Wait until the row has these values."""
        last: Row = {}

        def look() -> Row | None:
            nonlocal last
            last = self.ps().get(name, {})
            return (
                last if last and all(last[key] == value for key, value in wanted.items()) else None
            )

        try:
            found: Row = eventually(look, within=within)
        except AssertionError:
            raise AssertionError(
                f"'{name}' did not become {wanted} within {within} s; it is {last}"
            ) from None
        return found

    def log_path(self, name: str, kind: str = "out") -> Path:
        """Return the log file of `service.component[@i]`."""
        return self.base / "logging" / f"{name.removesuffix('@1').replace('.', '-', 1)}.{kind}"

    def log(self, name: str, kind: str = "out") -> bytes:
        """Return what an instance has written, nothing yet when the file is not there."""
        path = self.log_path(name, kind)
        return path.read_bytes() if path.exists() else b""

    def until_logged(
        self, name: str, text: str = "ready", *, times: int = 1, within: float = PATIENCE
    ) -> bytes:
        """Wait until an instance has written the text so many times."""
        eventually(
            lambda: self.log(name).count(text.encode()) >= times,
            within=within,
            saying=f"'{name}' has not written {text!r} {times} times",
        )
        return self.log(name)

    def events(self) -> list[Row]:
        """Return what the badly behaved programs have recorded, in order."""
        if not self.record_file.exists():
            return []
        return [
            json.loads(line) for line in self.record_file.read_text(encoding="utf-8").splitlines()
        ]

    def recorded(self, *kinds: str) -> list[str]:
        """Return the events of these kinds as `name event`."""
        return [
            f"{each['name']} {each['event']}" for each in self.events() if each["event"] in kinds
        ]

    def processes(self) -> list[processes.Process]:
        """Return every process of this world, however it hides."""
        return processes.of_world(self.root, f"{MARKER}={self.marker}", self.keys())

    def keys(self) -> list[str]:
        """Return the keys of this world's systems, from their locks and directories."""
        found = {
            str(json.loads(path.read_text())["lock"].get("key", ""))
            for path in self.root.rglob("topology.lock.json")
        }
        found |= {path.name for path in self.runtime.glob("orch/*")}
        return sorted(found - {""})

    # The end

    def leave(self, *, patience: float = PATIENCE) -> list[str]:
        """Take everything down; return what should not have been left."""
        for each in self.running:
            each.end()
        left = []
        for topology in self.systems():
            self.run("-f", str(topology), "down", limit=60)
        try:
            eventually(lambda: not self.processes(), within=patience)
        except AssertionError:
            left = [f"process left: {process}" for process in self.processes()]
            for process in self.processes():
                os.kill(process.pid, signal.SIGKILL)
        left += [f"socket left: {path}" for path in self.runtime.rglob("*") if path.is_socket()]
        return left

    def systems(self) -> list[Path]:
        """Return the topology files for which something may run."""
        found = []
        for path in self.root.rglob("topology.lock.json"):
            topology = json.loads(path.read_text())["lock"].get("topology")
            if topology and Path(topology).exists():
                found.append(Path(topology))
        return found or ([self.topology] if self.topology.exists() and self.processes() else [])

    def remove(self) -> None:
        """Remove the world from the disk."""
        shutil.rmtree(self.root, ignore_errors=True)

    def story(self) -> list[tuple[str, str]]:
        """Return what one needs to understand a failure, as titled texts."""
        texts = [("intent", self.intent), ("transcript", "\n".join(self.transcript))]
        texts += [
            (str(path.relative_to(self.root)), path.read_text(errors="replace"))
            for path in [*self.root.glob("*.y*ml"), *self.root.glob("*/*.y*ml")]
            if path.is_file()
        ]
        texts.append(("processes", "\n".join(map(str, self.processes()))))
        texts += [
            (str(path.relative_to(self.root)), path.read_text(errors="replace")[-4000:])
            for path in sorted(self.root.rglob("*"))
            if path.is_file()
            and (path.suffix in (".out", ".err", ".log") or path == self.record_file)
        ]
        return texts


class Background:
    """A command that runs beside the scenario; its outputs are files."""

    def __init__(self, scenario: Scenario, argv: Sequence[str]) -> None:
        """Start it in a group of its own, as a shell does, so that Ctrl-C reaches it alone."""
        self.scenario = scenario
        self.argv = (Path(argv[0]).name, *argv[1:])
        number = len(scenario.running)
        self.paths = [
            scenario.root / f"background-{number}.{kind}" for kind in ("stdout", "stderr")
        ]
        files = [path.open("wb") for path in self.paths]
        self.process = subprocess.Popen(
            argv,
            cwd=scenario.root,
            env=scenario.environment,
            stdin=subprocess.DEVNULL,
            stdout=files[0],
            stderr=files[1],
            process_group=0,
        )
        for file in files:
            file.close()
        self.begin = time.monotonic()

    @property
    def out(self) -> str:
        """What it has written to standard output so far."""
        return decode(self.paths[0].read_bytes())

    @property
    def err(self) -> str:
        """What it has written to standard error so far."""
        return decode(self.paths[1].read_bytes())

    def out_has(self, text: str, *, times: int = 1) -> bool:
        """Tell whether standard output holds the text so many times."""
        return self.out.count(text) >= times

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        os.killpg(self.process.pid, signal.SIGINT)

    def wait(self, within: float = 30.0) -> Outcome:
        """Wait for its end."""
        try:
            code = self.process.wait(within)
        except subprocess.TimeoutExpired:
            self.end()
            raise AssertionError(
                f"'{' '.join(self.argv)}' did not end within {within} s"
            ) from None
        outcome = Outcome(self.argv, code, self.out, self.err, time.monotonic() - self.begin)
        self.scenario.transcript.append(str(outcome))
        return outcome

    def end(self) -> None:
        """End it now, if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
            self.scenario.transcript.append(
                f"$ {' '.join(self.argv)}\n{self.out}{self.err}[killed by the test]"
            )


def eventually(what: Callable[[], object], *, within: float = PATIENCE, saying: str = "") -> Any:
    """Call `what` until it gives something true and return that; fail after `within` seconds."""
    deadline = time.monotonic() + within
    while True:
        if found := what():
            return found
        if time.monotonic() > deadline:
            raise AssertionError(
                f"not so within {within} s: {saying or getattr(what, '__name__', what)}"
            )
        time.sleep(0.02)


def decode(data: bytes | None) -> str:
    """Return output as text, whatever is in it."""
    return (data or b"").decode(errors="replace")


# Checks


def exits(code: int) -> Check:
    """The command gave this exit code."""

    def check(_: Scenario, outcome: Outcome) -> None:
        assert outcome.code == code, f"exit {outcome.code} instead of {code}\n{outcome}"

    return check


def says(*patterns: str) -> Check:
    """Both outputs together hold each of these regular expressions, in any order."""

    def check(_: Scenario, outcome: Outcome) -> None:
        for pattern in patterns:
            assert re.search(pattern, outcome.text, re.DOTALL), (
                f"nothing like {pattern!r} in\n{outcome}"
            )

    return check


def silent_about(*patterns: str) -> Check:
    """Neither output holds any of these regular expressions."""

    def check(_: Scenario, outcome: Outcome) -> None:
        for pattern in patterns:
            assert not re.search(pattern, outcome.text), f"{pattern!r} is in\n{outcome}"

    return check


def no_traceback(_: Scenario, outcome: Outcome) -> None:
    """No Python traceback reached the user."""
    assert "Traceback (most recent call last)" not in outcome.text, str(outcome)


def takes(*, at_least: float = 0.0, at_most: float) -> Check:
    """The command took so long, in seconds."""

    def check(_: Scenario, outcome: Outcome) -> None:
        assert at_least <= outcome.seconds <= at_most, (
            f"not in {at_least} to {at_most} s\n{outcome}"
        )

    return check


def row(name: str, **wanted: Any) -> Check:
    """The instance's row comes to have these values."""

    def check(scenario: Scenario, _: Outcome) -> None:
        scenario.until_row(name, **wanted)

    return check


def nothing_runs(scenario: Scenario, _: Outcome) -> None:
    """No process of this world is left, none half started."""
    eventually(lambda: not scenario.processes(), saying=f"left: {scenario.processes()}")
