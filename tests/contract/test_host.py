"""What every `Host` does: one suite on the fake and on the operating system."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest
from msgspec import structs

from orchestrator import process as processes
from orchestrator.daemon.host import Host, PosixHost
from orchestrator.errors import SpawnError
from orchestrator.model.phase import Exit, Process
from orchestrator.process import MARKER, Order, Setup
from tests.fakes import FakeHost, Fork, Program

LIMIT = 10.0
KEY = f"contract-{os.getpid()}"

IGNORES_TERM = Program(ignores=frozenset({signal.SIGTERM}))
ENDS_WELL_ON_TERM = Program(handles={signal.SIGTERM: (0.0, Exit(code=3))})
LEAVES_A_CHILD = Program(0.05, Exit(code=4), forks=(Fork(Program()),))
LEAVES_A_DAEMON = Program(0.05, Exit(code=4), forks=(Fork(Program(), setsid=True, orphan=True),))
LEAVES_A_STRANGER = Program(
    0.05,
    Exit(code=4),
    forks=(Fork(Program(), setsid=True, orphan=True), Fork(Program())),
)
HAS_A_CHILD = Program(forks=(Fork(Program()),))

FORK = """
import os, signal, sys, time
def child(setsid=False, double=False):
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        if setsid: os.setsid()
        if double and os.fork(): os._exit(0)
        os.write(writing, b"x"); os.close(writing)
        time.sleep(60); os._exit(0)
    os.close(writing); os.read(reading, 1)
    if double: os.waitpid(pid, 0)
"""
READY = "\nprint('ready', flush=True)\n"

SCRIPTS: dict[str, tuple[str, Program]] = {
    "exits 0": ("", Program(0.05, Exit(code=0))),
    "exits 7": ("raise SystemExit(7)", Program(0.05, Exit(code=7))),
    "exits 255": ("raise SystemExit(255)", Program(0.05, Exit(code=255))),
    "kills itself": (
        "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
        Program(0.05, Exit(signal=signal.SIGKILL)),
    ),
    "sleeps": ("import time" + READY + "time.sleep(60)", Program()),
    "ignores TERM": (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
        + READY
        + "time.sleep(60)",
        IGNORES_TERM,
    ),
    "ends well on TERM": (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))" + READY + "time.sleep(60)",
        ENDS_WELL_ON_TERM,
    ),
    "leaves a child": (FORK + "child(); sys.exit(4)", LEAVES_A_CHILD),
    "leaves a session": (FORK + "child(setsid=True, double=True); sys.exit(4)", LEAVES_A_DAEMON),
    "leaves two": (
        FORK + "child(setsid=True, double=True); child(); sys.exit(4)",
        LEAVES_A_STRANGER,
    ),
    "has a child": (FORK + "child()" + READY + "time.sleep(60)", HAS_A_CHILD),
}


class Bench(Protocol):
    """A host, and the few things that differ between the two."""

    host: Host

    def order(self, what: str, marker: str = "a/1") -> Order: ...

    def missing(self) -> Order: ...

    def until(self, condition: Callable[[], bool]) -> None: ...

    def settled(self, order: Order) -> None: ...

    def gone(self, process: Process) -> bool: ...

    def close(self) -> None: ...


class FakeBench:
    def __init__(self, _directory: Path) -> None:
        self.fake = FakeHost({(what,): program for what, (_, program) in SCRIPTS.items()})
        self.host: Host = self.fake
        missing = SpawnError("execute '/nowhere/program'", errno.ENOENT, "No such file")
        self.fake.programs["missing",] = Program(fails=missing)

    def order(self, what: str, marker: str = "a/1") -> Order:
        return Order((what,), {MARKER: f"{KEY}/{marker}"}, "")

    def missing(self) -> Order:
        return Order(("missing",), {MARKER: f"{KEY}/missing"}, "")

    def until(self, condition: Callable[[], bool]) -> None:
        self.fake.run_until(condition, limit=LIMIT)

    def settled(self, order: Order) -> None:
        del order
        self.fake.advance(0.01)

    def gone(self, process: Process) -> bool:
        return process not in self.fake.world

    def close(self) -> None:
        pass


class PosixBench:
    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._loop = asyncio.new_event_loop()
        self.posix = PosixHost(self._loop, os.getpid(), lambda _number: None)
        self._loop.add_signal_handler(signal.SIGCHLD, self.posix.child_ended)
        self.host: Host = self.posix
        self._logs = 0

    def order(self, what: str, marker: str = "a/1") -> Order:
        self._logs += 1
        argv = (sys.executable, "-I", "-S", "-u", "-c", SCRIPTS[what][0])
        log = str(self._directory / f"{self._logs}.out")
        return Order(argv, {MARKER: f"{KEY}/{marker}"}, "", stdout=log)

    def missing(self) -> Order:
        return Order(("/nowhere/program",), {MARKER: f"{KEY}/missing"}, "")

    def until(self, condition: Callable[[], bool]) -> None:
        async def poll() -> None:
            async with asyncio.timeout(LIMIT):
                while not condition():  # noqa: ASYNC110 - a condition of the world
                    await asyncio.sleep(0.005)

        self._loop.run_until_complete(poll())

    def settled(self, order: Order) -> None:
        assert order.stdout is not None
        self.until(lambda: b"ready" in Path(order.stdout or "").read_bytes())

    def gone(self, process: Process) -> bool:
        return processes.start_time(process.pid) != process.started

    def close(self) -> None:
        """Kill what a test left on purpose, reap it, and be no subreaper any more."""

        def empty() -> bool:
            left = processes.children(os.getpid())
            for pid in left:
                if (processes.marker_of(pid) or KEY).startswith(KEY):
                    os.kill(pid, signal.SIGKILL)
                    processes.reap_child(pid)
            return not left

        try:
            self.until(empty)
        finally:
            self._loop.close()
            ctypes.CDLL(None).prctl(36, 0, 0, 0, 0)


HANDLER = """
import signal
def main(to_send, config):
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # as a program has it, not a component
    exec({script!r}, {{"__name__": "__main__"}})
"""


class ZygoteBench(PosixBench):
    """The same programs, as the main functions of handlers that the zygote forks."""

    def order(self, what: str, marker: str = "a/1") -> Order:
        plain = super().order(what, marker)
        conf = self._directory / f"conf{self._logs}"
        conf.mkdir()
        handler = conf / "handler.py"
        handler.write_text(HANDLER.format(script=SCRIPTS[what][0]))
        info = {"format": 1, "name": "a", "handler": str(handler), "mode": "main"}
        (conf / "__info__.json").write_text(json.dumps(info))
        for name in ("addresses.json", "config.json"):
            (conf / name).write_text("{}")
        argv = (sys.executable, "-P", "-m", "orchestrator.component", str(conf))
        return structs.replace(plain, argv=argv, no_zygote="")

    def close(self) -> None:
        self.posix.zygotes.close()
        super().close()


@pytest.fixture(
    params=[FakeBench, PosixBench, ZygoteBench], ids=["fake", "posix", "posix by zygote"]
)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    made: Bench = request.param(tmp_path)
    yield made
    made.close()


def started(bench: Bench, what: str, marker: str = "a/1") -> Process:
    """Start a program; return its process when it has come to its point."""
    order = bench.order(what, marker)
    process = spawned(bench, order)
    if SCRIPTS[what][1].lives is None:
        bench.settled(order)
    return process


def spawned(bench: Bench, order: Order) -> Process:
    outcomes = outcome(bench, order)
    (process,) = outcomes
    assert isinstance(process, Process), process
    return process


def outcome(bench: Bench, order: Order) -> list[Process | SpawnError]:
    outcomes: list[Process | SpawnError] = []
    bench.host.spawn(order, outcomes.append)
    bench.until(lambda: bool(outcomes))
    return outcomes


def end_of(bench: Bench, process: Process) -> list[Exit]:
    ends: list[Exit] = []
    bench.host.watch(process, ends.append)
    bench.until(lambda: bool(ends))
    return ends


def dead(bench: Bench, what: str, marker: str = "a/1") -> Process:
    """Start a program and return when it has ended; it is not reaped."""
    process = started(bench, what, marker)
    ends = end_of(bench, process)
    assert len(ends) == 1
    return process


def finish(bench: Bench, *found: Process) -> None:
    """Kill and release processes."""
    for process in found:
        bench.host.signal(process, signal.SIGKILL, group=False)
    bench.until(lambda: all(bench.gone(p) or not alive(bench, p) for p in found))
    for process in found:
        bench.host.release(process)


def alive(bench: Bench, process: Process) -> bool:
    if isinstance(bench, FakeBench):
        return process in bench.fake.world and bench.fake.world[process].alive
    return processes.is_alive(process)


# ------------------------------------------------------------------ time


def test_time_never_runs_backwards_and_passes_with_timers(bench: Bench) -> None:
    before = bench.host.now()
    fired: list[float] = []
    bench.host.call_later(0.05, lambda: fired.append(bench.host.now()))
    bench.until(lambda: bool(fired))
    assert fired[0] >= before + 0.05


def test_timers_fire_in_the_order_of_their_time_and_never_at_once(bench: Bench) -> None:
    fired: list[str] = []
    bench.host.call_later(0.04, lambda: fired.append("second"))
    bench.host.call_later(0.02, lambda: fired.append("first"))
    bench.host.call_later(0.0, lambda: fired.append("now"))
    assert fired == []
    bench.until(lambda: len(fired) == 3)
    assert fired == ["now", "first", "second"]


def test_a_chance_is_from_0_to_below_1(bench: Bench) -> None:
    assert all(0.0 <= bench.host.chance() < 1.0 for _ in range(100))


# ------------------------------------------------------------------ spawning and ends


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("exits 0", Exit(code=0)),
        ("exits 7", Exit(code=7)),
        ("exits 255", Exit(code=255)),
        ("kills itself", Exit(signal=signal.SIGKILL)),
    ],
)
def test_an_end_is_told_once_and_exactly(bench: Bench, what: str, expected: Exit) -> None:
    process = started(bench, what)
    ends = end_of(bench, process)
    bench.host.release(process)
    fired: list[bool] = []
    bench.host.call_later(0.05, lambda: fired.append(True))
    bench.until(lambda: bool(fired))
    assert ends == [expected]


def test_watch_never_calls_back_at_once(bench: Bench) -> None:
    process = dead(bench, "exits 7")
    bench.host.release(process)
    other = started(bench, "exits 7", "b/1")
    bench.until(lambda: not alive(bench, other))
    ends: list[Exit] = []
    bench.host.watch(other, ends.append)
    assert ends == []
    bench.until(lambda: bool(ends))
    assert ends == [Exit(code=7)]
    bench.host.release(other)


def test_an_end_that_nobody_can_tell_is_unknown(bench: Bench) -> None:
    process = dead(bench, "exits 7")
    bench.host.release(process)
    assert end_of(bench, process) == [Exit()]


def test_release_reaps(bench: Bench) -> None:
    process = dead(bench, "exits 0")
    assert not bench.gone(process), "reaped before anybody wrote its end down"
    bench.host.release(process)
    assert bench.gone(process)


def test_two_processes_are_two_identities(bench: Bench) -> None:
    first, second = started(bench, "sleeps"), started(bench, "sleeps", "b/1")
    assert first != second
    assert first.pid != second.pid
    finish(bench, first, second)


def test_a_program_that_is_not_there_is_an_error_with_stage_and_errno(bench: Bench) -> None:
    outcomes = outcome(bench, bench.missing())
    assert len(outcomes) == 1
    error = outcomes[0]
    assert isinstance(error, SpawnError)
    assert error.errno == errno.ENOENT
    assert error.stage == "execute '/nowhere/program'"
    assert not error.transient
    assert str(error).startswith("cannot execute '/nowhere/program': ")
    assert not bench.host.marked(f"{KEY}/missing")


# ------------------------------------------------------------------ signals


def test_a_signal_ends_what_does_not_handle_it(bench: Bench) -> None:
    process = started(bench, "sleeps")
    assert bench.host.signal(process, signal.SIGTERM, group=False)
    assert end_of(bench, process) == [Exit(signal=signal.SIGTERM)]
    bench.host.release(process)


def test_a_handler_decides_the_exit(bench: Bench) -> None:
    process = started(bench, "ends well on TERM")
    bench.host.signal(process, signal.SIGTERM, group=True)
    assert end_of(bench, process) == [Exit(code=3)]
    bench.host.release(process)


def test_an_ignored_signal_changes_nothing_and_kill_ends_it(bench: Bench) -> None:
    process = started(bench, "ignores TERM")
    ends: list[Exit] = []
    bench.host.watch(process, ends.append)
    assert bench.host.signal(process, signal.SIGTERM, group=True)
    fired: list[bool] = []
    bench.host.call_later(0.1, lambda: fired.append(True))
    bench.until(lambda: bool(fired))
    assert ends == []
    assert bench.host.signal(process, signal.SIGKILL, group=False)
    bench.until(lambda: bool(ends))
    assert ends == [Exit(signal=signal.SIGKILL)]
    bench.host.release(process)


def test_a_suspended_process_handles_term_only_when_it_goes_on(bench: Bench) -> None:
    process = started(bench, "ends well on TERM")
    ends: list[Exit] = []
    bench.host.watch(process, ends.append)
    bench.host.signal(process, signal.SIGSTOP, group=False)
    bench.host.signal(process, signal.SIGTERM, group=False)
    fired: list[bool] = []
    bench.host.call_later(0.1, lambda: fired.append(True))
    bench.until(lambda: bool(fired))
    assert ends == []
    bench.host.signal(process, signal.SIGCONT, group=False)
    bench.until(lambda: bool(ends))
    assert ends == [Exit(code=3)]
    bench.host.release(process)


def test_a_signal_to_the_group_reaches_the_children(bench: Bench) -> None:
    process = started(bench, "has a child")
    (child,) = bench.host.survivors(process, f"{KEY}/a/1")
    bench.host.signal(process, signal.SIGTERM, group=True)
    end_of(bench, process)
    bench.until(lambda: not alive(bench, child))
    bench.host.release(process)


def test_a_signal_to_the_process_spares_the_children(bench: Bench) -> None:
    process = started(bench, "has a child")
    (child,) = bench.host.survivors(process, f"{KEY}/a/1")
    bench.host.signal(process, signal.SIGTERM, group=False)
    end_of(bench, process)
    assert alive(bench, child)
    bench.host.release(process)
    bench.host.signal(child, signal.SIGKILL, group=False)
    bench.until(lambda: not alive(bench, child))


def test_a_signal_to_what_is_gone_reaches_nobody(bench: Bench) -> None:
    process = dead(bench, "exits 0")
    bench.host.release(process)
    assert not bench.host.signal(process, signal.SIGKILL, group=False)
    assert not bench.host.signal(process, signal.SIGKILL, group=True)


def test_a_pid_with_another_start_time_is_another_process(bench: Bench) -> None:
    """A pid may be used again at any time: what was meant is gone."""
    process = started(bench, "sleeps")
    if isinstance(bench, FakeBench):
        bench.fake.signal(process, signal.SIGKILL, group=False)
        bench.fake.turn()
        bench.host.release(process)
        reused = started(bench, "sleeps")
        assert reused.pid == process.pid, "the fake uses pids again at once"
        meant, there = process, reused
    else:
        meant, there = Process(process.pid, process.started - 1), process
    assert not bench.host.signal(meant, signal.SIGKILL, group=False)
    assert not bench.host.signal(meant, signal.SIGKILL, group=True)
    assert end_of(bench, meant) == [Exit()]
    assert alive(bench, there)
    finish(bench, there)


# ------------------------------------------------------------------ trees


def test_who_left_nothing_has_no_survivors(bench: Bench) -> None:
    process = dead(bench, "exits 0")
    assert bench.host.survivors(process, f"{KEY}/a/1") == ()
    bench.host.release(process)


@pytest.mark.parametrize(
    ("what", "count"), [("leaves a child", 1), ("leaves a session", 1), ("leaves two", 2)]
)
@pytest.mark.parametrize("reaped", [False, True])
def test_survivors_are_found_after_the_leader_died(
    bench: Bench, what: str, count: int, reaped: bool
) -> None:
    process = dead(bench, what)
    if reaped:
        bench.host.release(process)
    found = bench.host.survivors(process, f"{KEY}/a/1")
    assert len(found) == count
    assert process not in found
    finish(bench, *found)
    if not reaped:
        bench.host.release(process)
    bench.until(lambda: bench.host.survivors(process, f"{KEY}/a/1") == ())


@pytest.mark.parametrize("what", ["leaves a child", "leaves a session"])
def test_a_survivor_that_is_watched_is_still_a_survivor(bench: Bench, what: str) -> None:
    """Otherwise a tree would look empty as soon as somebody waits for its end."""
    process = dead(bench, what)
    marker = f"{KEY}/a/1"
    (child,) = bench.host.survivors(process, marker)
    ends: list[Exit] = []
    bench.host.watch(child, ends.append)
    bench.host.release(process)
    turned: list[bool] = []
    bench.host.call_later(0.02, lambda: turned.append(True))
    bench.until(lambda: bool(turned))
    assert bench.host.survivors(process, marker) == (child,)
    assert bench.host.signal(child, signal.SIGKILL, group=False)
    bench.until(lambda: bool(ends))
    bench.host.release(child)
    assert bench.gone(child)
    bench.until(lambda: bench.host.survivors(process, marker) == ())


def test_survivors_of_one_tree_are_not_those_of_another(bench: Bench) -> None:
    first = dead(bench, "leaves a session", "a/1")
    second = dead(bench, "leaves a session", "b/1")
    of_first = bench.host.survivors(first, f"{KEY}/a/1")
    of_second = bench.host.survivors(second, f"{KEY}/b/1")
    assert len(of_first) == len(of_second) == 1
    assert set(of_first).isdisjoint(of_second)
    finish(bench, *of_first, *of_second)
    bench.host.release(first)
    bench.host.release(second)


def test_marked_finds_leaders_by_their_whole_marker(bench: Bench) -> None:
    first = started(bench, "has a child", "a/1")
    second = started(bench, "sleeps", "b/2")
    found = dict(bench.host.marked(f"{KEY}/"))
    found.pop(f"{KEY}/zygote", None)  # marked too, and no instance of anything
    assert found == {f"{KEY}/a/1": first, f"{KEY}/b/2": second}
    assert bench.host.marked(f"{KEY}/b") == {f"{KEY}/b/2": second}
    assert bench.host.marked(f"{KEY}/c") == {}
    children = bench.host.survivors(first, f"{KEY}/a/1")
    bench.host.signal(first, signal.SIGKILL, group=True)
    finish(bench, second)
    bench.until(lambda: not any(alive(bench, p) for p in (first, *children)))
    bench.host.release(first)


def test_marked_does_not_find_the_dead(bench: Bench) -> None:
    process = dead(bench, "exits 0")
    assert bench.host.marked(f"{KEY}/a") == {}
    bench.host.release(process)


# ------------------------------------------------------------------ the real one only


@pytest.fixture
def posix(tmp_path: Path) -> Iterator[PosixBench]:
    made = PosixBench(tmp_path)
    yield made
    made.close()


@pytest.mark.parametrize(
    ("setup", "stage", "number"),
    [
        (Setup(user="no-such-user-here"), "become user no-such-user-here", errno.EINVAL),
        (Setup(group="no-such-group-here"), "become user unchanged, group", errno.EINVAL),
        (Setup(rlimits={"nofile": (100, 50)}), "set the limit nofile=100:50", errno.EINVAL),
        (Setup(oom_score_adj=5000), "set oom_score_adj 5000", errno.EINVAL),
    ],
)
def test_a_setup_that_fails_names_its_stage_and_leaves_nothing(
    posix: PosixBench, setup: Setup, stage: str, number: int
) -> None:
    order = posix.order("sleeps")
    order = Order(order.argv, order.environment, "", setup=setup)
    (error,) = outcome(posix, order)
    assert isinstance(error, SpawnError)
    assert error.stage.startswith(stage)
    assert error.errno == number
    assert not error.transient
    posix.until(lambda: not processes.children(os.getpid()))


def test_with_a_setup_a_missing_program_is_told_as_without(posix: PosixBench) -> None:
    plain = outcome(posix, posix.missing())
    set_up = outcome(posix, Order(("/nowhere/program",), {}, "", setup=Setup(nice=os.nice(0) + 1)))
    assert [str(e) for e in plain] == [str(e) for e in set_up]
    posix.until(lambda: not processes.children(os.getpid()))


def test_with_a_setup_the_end_is_told_as_without(posix: PosixBench) -> None:
    order = posix.order("exits 7")
    process = spawned(
        posix, Order(order.argv, order.environment, "", setup=Setup(nice=os.nice(0) + 1))
    )
    assert end_of(posix, process) == [Exit(code=7)]
    posix.host.release(process)


def test_a_hundred_ends_at_once_are_all_told(posix: PosixBench) -> None:
    ends: list[Exit] = []
    found = [
        spawned(posix, Order(("/bin/sh", "-c", f"exit {number}"), {}, ""))
        for number in range(1, 101)
    ]
    for process in found:
        posix.host.watch(process, ends.append)
    posix.until(lambda: len(ends) == 100)
    assert sorted(end.code or 0 for end in ends) == list(range(1, 101))
    for process in found:
        posix.host.release(process)


def test_the_keepers_word_is_the_exit_of_an_orphan(posix: PosixBench) -> None:
    """It may come before or after the orphan is asked for."""
    acknowledged: list[int] = []
    posix.posix.acknowledge = acknowledged.append
    early, late = Process(1 << 22, 1), Process((1 << 22) - 1, 2)
    posix.posix.keeper_told(1, early, Exit(code=7))
    ends: list[Exit] = []
    posix.host.watch(early, ends.append)
    posix.host.watch(late, ends.append)
    posix.until(lambda: len(ends) == 1)
    posix.posix.keeper_told(2, late, Exit(signal=11))
    posix.until(lambda: len(ends) == 2)
    assert ends == [Exit(code=7), Exit(signal=11)]
    assert acknowledged == []
    posix.host.release(early)
    posix.host.release(late)
    assert acknowledged == [1, 2]


def test_words_of_the_keeper_that_recovery_does_not_want_are_acknowledged(
    posix: PosixBench,
) -> None:
    acknowledged: list[int] = []
    posix.posix.acknowledge = acknowledged.append
    posix.posix.keeper_told(1, Process(1 << 22, 1), Exit(code=7))
    posix.posix.recovered()
    posix.until(lambda: acknowledged == [1])
    posix.posix.keeper_told(2, Process((1 << 22) - 1, 1), Exit(code=7))
    assert acknowledged == [1, 2]


def test_an_orphan_of_nobody_is_reaped(posix: PosixBench) -> None:
    process = dead(posix, "leaves a session")
    (child,) = posix.host.survivors(process, f"{KEY}/a/1")
    posix.host.release(process)
    os.kill(child.pid, signal.SIGKILL)
    posix.until(lambda: not processes.is_alive(child))
    posix.posix.child_ended()
    posix.until(lambda: posix.gone(child))
