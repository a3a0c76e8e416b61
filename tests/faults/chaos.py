"""A real system of badly behaved programs, and somebody who kills at random.

`Chaos` plays a game of so many steps: a client's command, a death, or both at once. What is
wanted of each instance is known at every moment, because a command whose answer was lost is
given again. After some steps and at the end the world must come to rest, and then every promise
is checked. The game follows from its seed, up to the kernel's own mood.

Each program tells in a file of its own what happens to it, and holds a lock that its descendants
inherit: a second life of a slot that begins before the last is gone, children and all, is told
by the program itself.
"""

from __future__ import annotations

import collections
import contextlib
import os
import random
import re
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tests.e2e import processes
from tests.e2e.scenario import BADPROC, Background, Row, Scenario, bad

PATIENCE = 60.0
"""How long the world may take to come to rest; a loaded machine is slow."""

SOON = {"initial": "20ms", "max": "100ms"}
ENDLESS = {"restart": "always", "backoff": SOON, "limit": {"failures": 0}}
QUICK = {"stop": {"timeout": "300ms"}}

HABITS: dict[str, tuple[tuple[object, ...], dict[str, Any]]] = {
    # It has a log of several segments, and says at its end how far it came.
    "writer": (("--rate", 3000, "--life"), {**ENDLESS, "logs": {"size": "64KiB", "keep": 500}}),
    "stubborn": (("--ignore", "TERM"), {**ENDLESS, **QUICK}),
    "family": (("--child", "setsid", "--child", "double-fork"), {**ENDLESS, **QUICK}),
    "orphans": (("--child", "setsid", "--exit-after", 0.6, "--exit-code", 4), ENDLESS),
    "moody": (("--exit-after", 0.15, "--exit-code", 3), ENDLESS),
    "crashing": (("--exit-after", 0.3, "--crash-signal", "SEGV"), ENDLESS),
    "mute": (("--close-stdio",), ENDLESS),
    "slow": (("--slow-stop", 0.2, "--stop-code", 5), ENDLESS),
    "late": (("--notify-after", 0.2), {**ENDLESS, "ready": {"notify": True}}),
    "fading": (("--ping", 0.1, "--pings", 8, "--notify-after", 0.0), {
        **ENDLESS, "ready": {"notify": True}, "watchdog": "500ms", **QUICK,
    }),
    "flood": (("--burst", 300_000, "--exit-after", 0.5), ENDLESS),
    "partial": (("--text", "no end", "--exit-after", 0.4, "--exit-code", 1), ENDLESS),
    # Forked by the zygote, and killed with it.
    "forked": ((), ENDLESS),
    "forkedmoody": (("--exit-after", 0.3, "--exit-code", 6), ENDLESS),
}  # fmt: skip

HANDLERS = frozenset({"forked", "forkedmoody"})
"""Those that are handler components."""

HANDLER = """
import runpy, sys

def main(to_send, config):
    sys.argv[:] = {argv!r}
    runpy.run_path(sys.argv[0], run_name="__main__")
"""

STEADY = frozenset({"writer", "stubborn", "family", "mute", "slow", "late", "forked"})
"""Those that run on when nobody disturbs them."""


PROGRAMS = ("badproc.py", "orchestrator.component")


class Chaos:
    """One game in one world."""

    def __init__(self, scenario: Scenario, seed: int) -> None:
        self.scenario = scenario
        self.dice = random.Random(seed)
        self.wanted = dict.fromkeys(HABITS, True)
        self.seen: dict[str, tuple[int, int]] = {}
        self.story: list[str] = []
        self._stamp = 0
        self._write_topology()
        self._must("up", "-d", "--wait-timeout", "60s")

    # ------------------------------------------------------------- the game

    def play(self, steps: int, *, rest_every: int = 8) -> None:
        """Play so many steps, look whether all is well now and then, and bring it down."""
        for number in range(1, steps + 1):
            move = self.dice.choice(self._moves())
            self._tell(f"{number}. {move.__name__.strip('_')}")
            move()
            if number % rest_every == 0:
                self.rest()
        self.rest()
        self.finish()

    def _moves(self) -> list[Callable[[], None]]:
        return [
            self._kill_daemon,
            self._kill_daemon_in_command,
            self._kill_daemon_in_command,
            self._kill_keeper,
            self._kill_both,
            self._kill_component,
            self._kill_component,
            self._kill_zygote,
            self._kill_zygote_in_command,
            self._command,
            self._command,
            self._apply,
            self._upgrade,
            self._crowd,
        ]

    def _kill_daemon(self) -> None:
        self._kill(self._role("orchestrator.daemon"))

    def _kill_daemon_in_command(self) -> None:
        """Kill the daemon while it does what a client asked for."""
        argv, change = self._any_command()
        running = self.scenario.start(*argv)
        self._pause(0.25)
        self._kill(self._role("orchestrator.daemon"))
        self._finish(running, argv)
        change()

    def _kill_keeper(self) -> None:
        self._kill(self._role("keeper.py"))

    def _kill_both(self) -> None:
        """Kill both, in either order; an `up` later takes over."""
        both = [self._role("keeper.py"), self._role("orchestrator.daemon")]
        self.dice.shuffle(both)
        # A keeper that stands cannot repair what is killed first.
        for pid in both:
            self._kill(pid, signal.SIGSTOP)
        for pid in both:
            self._kill(pid)
            self._pause(0.05)
        self.scenario.until(lambda: not any(pid and processes.is_alive(pid) for pid in both))
        self._pause(0.3)
        self._apply()

    def _kill_component(self) -> None:
        """Kill any process of a component: a leader or a child."""
        victims = [p.pid for p in self._marked() if any(map(p.command.__contains__, PROGRAMS))]
        if victims:
            number = self.dice.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGSEGV])
            self._kill(self.dice.choice(victims), number)

    def _kill_zygote(self) -> None:
        self._kill(self._zygote())

    def _kill_zygote_in_command(self) -> None:
        """Kill the zygote while it is asked for a component, or soon will be."""
        name = self.dice.choice(sorted(HANDLERS))
        running = self.scenario.start("restart", name, "--no-wait")
        self._pause(0.4)
        self._kill(self._zygote())
        self._finish(running, ("restart", name, "--no-wait"))
        self.wanted[name] = True

    def _command(self) -> None:
        argv, change = self._any_command()
        self._finish(self.scenario.start(*argv), argv)
        change()

    def _crowd(self) -> None:
        """Several clients at once want the same, and a death comes between."""
        name = self.dice.choice(sorted(HABITS))
        crowd = [self.scenario.start("restart", name, "--no-wait") for _ in range(4)]
        if self.dice.random() < 0.5:
            self._pause(0.1)
            self._kill(self._role("orchestrator.daemon"))
        for each in crowd:
            each.wait(PATIENCE)
        self._must("start", name, "--no-wait")
        self.wanted[name] = True

    def _apply(self) -> None:
        """Change what one of them is declared as, and say so; all that is declared shall run."""
        self._stamp += 1
        self._write_topology(self.dice.choice(sorted(HABITS)))
        self._must("up", "-d", "--wait-timeout", "60s")
        self.wanted = dict.fromkeys(HABITS, True)

    def _upgrade(self) -> None:
        running = self.scenario.start("upgrade")
        if self.dice.random() < 0.4:
            self._pause(0.4)
            self._kill(self._role("orchestrator.daemon"))
        running.wait(PATIENCE)

    def _any_command(self) -> tuple[tuple[str, ...], Callable[[], None]]:
        name = self.dice.choice(sorted(HABITS))
        verb = self.dice.choice(["start", "stop", "restart", "stop"])
        return (verb, name, "--no-wait"), lambda: self.wanted.update({name: verb != "stop"})

    # ------------------------------------------------------------- the promises

    def rest(self) -> None:
        """Wait until everything is as wanted, and check what must hold then."""
        self.scenario.until(self._is_at_rest, within=PATIENCE, saying="all is as wanted")
        self._check_lives()

    def finish(self) -> None:
        """Bring the system down, and check what it leaves behind."""
        self._must("stop", "--all", "--no-wait")
        self.wanted = dict.fromkeys(HABITS, False)
        self.rest()
        rows = self.scenario.ps()
        self._must("down")
        self.scenario.until(lambda: not self._marked(), within=PATIENCE, saying="all is gone")
        self._check_lives()
        self._check_ends()
        self._check_generations(rows)
        self._check_lines()

    def _is_at_rest(self) -> bool:
        rows = self.scenario.ps()
        if not rows:
            if self._role("orchestrator.daemon") is None and self._role("keeper.py") is None:
                self._apply()
            return False
        for name, is_wanted in self.wanted.items():
            row = rows[f"{name}.{name}"]
            self._look(name, row)
            if not is_wanted and row["phase"] != "stopped":
                return False
            if is_wanted and name in STEADY and not (row["phase"] == "running" and row["ready"]):
                return False
            if is_wanted and row["phase"] in ("stopped", "failed", "exited"):
                return False
        down = {f"{name}.{name}" for name, is_wanted in self.wanted.items() if not is_wanted}
        return not [p for p in self._marked() if marked_name(p.pid) in down]

    def _look(self, name: str, row: Row) -> None:
        """Counters never go back, whoever dies."""
        now = (row["generation"], row["restarts"])
        before = self.seen.get(name, (0, 0))
        assert now >= before, f"{name} went from {before} to {now} (generation, restarts)"
        self.seen[name] = now

    def _check_lives(self) -> None:
        """No two lives of a slot were there at once, told by themselves and by the kernel."""
        events = self.scenario.events()
        overlaps = [each for each in events if each["event"] == "overlap"]
        assert not overlaps, f"two lives of one slot at once: {overlaps}"
        starts = [(e["name"], e["life"]) for e in events if e["event"] == "start"]
        twice = [one for one, times in collections.Counter(starts).items() if times > 1]
        assert not twice, f"one generation was started twice: {twice}"

    def _check_ends(self) -> None:
        """What the daemons say of an end is what the program says."""
        told = {(e["name"], e["life"]): e["code"] for e in self.scenario.events() if "code" in e}
        said = re.findall(
            r"INFO (\w+)\.\w+#(\d+) (?:starting|running|stopping) → (?:backoff|waiting|failed) "
            r"\(\w+\): exit (\d+)",
            self._journal_of_daemons(),
        )
        assert said, "no daemon has told of any end"
        wrong = [
            (name, life, int(code), told.get((name, life)))
            for name, life, code in said
            # One that could not speak to its supervisor has ended without a word of its own.
            if told.get((name, life), int(code)) != int(code)
        ]
        assert not wrong, f"(name, generation, told, true exit code): {wrong}"

    def _check_generations(self, rows: dict[str, Row]) -> None:
        """No daemon forgot a generation that another one had begun."""
        for name in HABITS:
            lives = [int(e["life"]) for e in self.scenario.events() if e["name"] == name]
            counted = rows[f"{name}.{name}"]["generation"]
            assert max(lives, default=0) <= counted, f"{name}: {max(lives)} lives, {counted} known"

    def _check_lines(self) -> None:
        """Each numbered line is there once, through rotations, deaths and stops."""
        text = self.scenario.run("logs", "-n", "all", "--no-prefix", "writer", limit=60).out
        lives: dict[str, list[int]] = collections.defaultdict(list)
        for life, number in re.findall(r"^life (\d+) line (\d{8})$", text, re.MULTILINE):
            lives[life].append(int(number))
        assert lives
        for life, numbers in lives.items():
            assert numbers == list(range(len(numbers))), f"life {life}: {first_gap(numbers)}"
        for life, last in re.findall(r"^life (\d+) last (\d{8})$", text, re.MULTILINE):
            assert lives[life][-1] == int(last), f"life {life} lost its last lines"

    # ------------------------------------------------------------- small parts

    def _write_topology(self, changed: str = "") -> None:
        services: dict[str, Any] = {}
        for name, (switches, fields) in HABITS.items():
            own = ("--name", name, "--record", self.scenario.record_file)
            lock = ("--lock", self.scenario.root / f"{name}.lock")
            argv = bad(*own, *lock, *switches)
            if name in HANDLERS:
                words = argv[argv.index(str(BADPROC)) :]
                file = self.scenario.write(HANDLER.format(argv=words), f"{name}.py")
                services[name] = {"handler": str(file), "mode": "main", **fields}
            else:
                services[name] = {"command": argv, **fields}
            if name == changed:
                services[name]["environment"] = {"STAMP": str(self._stamp)}
        self.scenario.services(services)

    def _must(self, *argv: str) -> None:
        """Give a command until it is obeyed: an answer may be lost with the daemon."""
        self._finish(self.scenario.start(*argv), argv)

    def _finish(self, running: Background, argv: tuple[str, ...]) -> None:
        deadline = time.monotonic() + PATIENCE
        outcome = running.wait(PATIENCE)
        while outcome.code != 0:
            assert time.monotonic() < deadline, f"never obeyed\n{outcome}"
            assert "Traceback" not in outcome.text, str(outcome)
            if outcome.code == 69 and self._role("keeper.py") is None and argv[0] != "up":
                self.scenario.start("up", "-d", "--wait-timeout", "60s").wait(PATIENCE)
                self.wanted = dict.fromkeys(HABITS, True)  # What is declared shall run again.
            outcome = self.scenario.start(*argv).wait(PATIENCE)

    def _role(self, word: str) -> int | None:
        """Return the pid of our daemon or keeper, if it lives."""
        marks = (word, str(self.scenario.runtime))
        for pid in processes.pids():
            process = processes.read(pid)
            if process and process.alive and all(mark in process.command for mark in marks):
                return pid
        return None

    def _zygote(self) -> int | None:
        """Return the pid of our zygote, if it lives."""
        mine = [p.pid for p in self.scenario.processes() if p.command.startswith("orch zygote")]
        return mine[0] if mine else None

    def _marked(self) -> list[processes.Process]:
        """Return the living processes that carry the marker of our components."""
        return [p for p in self.scenario.processes() if p.alive and marked_name(p.pid)]

    def _kill(self, pid: int | None, number: int = signal.SIGKILL) -> None:
        if pid is not None:
            self._tell(f"   signal {number} to {pid}")
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _pause(self, most: float) -> None:
        """Let a random moment pass: which one is what the game is about."""
        time.sleep(self.dice.random() * most)

    def _tell(self, line: str) -> None:
        self.story.append(line)
        self.scenario.transcript.append(f"# {line}")

    def _journal_of_daemons(self) -> str:
        return (self.scenario.base / "logging" / "orch.log").read_text(errors="replace")


def marked_name(pid: int) -> str:
    """Return the component whose marker a process carries; empty when it has none."""
    try:
        data = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return ""
    for each in data.decode(errors="replace").split("\0"):
        if each.startswith("ORCH_INSTANCE="):
            return each.split("/")[1].partition("@")[0]
    return ""


def first_gap(numbers: Iterable[int]) -> str:
    """Say where numbers cease to count up from 0."""
    for wanted, number in enumerate(numbers):
        if wanted != number:
            return f"{number} where {wanted} should be"
    return "nothing is missing"
