"""What supervision costs, beside what the same machine does with nothing in between.

    python benchmarks/supervision.py [--components 1000] [--rounds 5] [--idle 20] [--kills 50]
                                     [--megabytes 200] [--strict]

Each figure stands beside the bare minimum of the same run (a `subprocess.Popen` loop, a Popen
loop that waits and starts again, the writer on its own file), in turns with it, so that what
else the machine does hits both. The loops are also run with a session for each child, which a
supervisor that ends whole trees needs: where the kernel groups the sessions for its scheduler
(`/proc/sys/kernel/sched_autogroup_enabled`) that alone costs a third of a start. Machines
differ and are noisy: compare ratios, of the best rounds. The table tells each limit and whether
it was kept; `--strict` makes a missed one the exit code. `--components 5000` needs as many
processes (`ulimit -u`, pid_max).
"""

from __future__ import annotations

import argparse
import json
import os
import select
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from orchestrator import client
from orchestrator.client import Row
from orchestrator.config import paths

ORCH = (sys.executable, "-m", "orchestrator")
PROGRAM = [shutil.which("sleep") or "/bin/sleep", "100000"]
STUBBORN = ["/bin/sh", "-c", "trap '' TERM; while :; do sleep 1; done"]
TICK = 1 / os.sysconf("SC_CLK_TCK")

GAP = 0.1
"""Seconds between two kills: what follows one is over before the next."""

WRITER = """
import os, sys, time
block = b"".join(b"%099d\\n" % number for number in range(640))
open(sys.argv[3], "rb").read()
left, begin = int(sys.argv[1]) * 1_000_000, time.monotonic()
while left > 0:
    left -= os.write(1, block)
with open(sys.argv[2], "w") as file:
    file.write(str(time.monotonic() - begin))
"""

missed: list[str] = []


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--components", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--idle", type=float, default=20.0, help="seconds to watch idling")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--megabytes", type=int, default=200, help="to log in each round")
    parser.add_argument("--strict", action="store_true", help="a missed limit is an error")
    options = parser.parse_args()
    count = options.components
    up_and_down(count, options.rounds)
    for some in (10, 500):
        restarts(some, options.kills)
    log_capture(options.megabytes, options.rounds)
    with system(count, stubborn=True) as place:
        orch(place, "up", "-d", "-q")
        commands_beside_a_stop(place, count)
    with system(count) as place:
        orch(place, "up", "-d", "-q")
        idle(place, count, options.idle)
        adoption(place, count)
    return 1 if missed and options.strict else 0


def tell(
    what: str, figure: str, beside: str, limit: str = "", *, is_kept: bool | None = None
) -> None:
    """Print a row of the table."""
    verdict = "" if is_kept is None else "kept" if is_kept else "MISSED"
    if is_kept is False:
        missed.append(what)
    print(f"{what:<30}{figure:>12}  {beside:<38}{limit:<22}{verdict}", flush=True)


# ------------------------------------------------------------------ what is measured


def up_and_down(count: int, rounds: int) -> None:
    """From the command to the last process started; from the command to the last one gone."""
    bare, apart, ups, prompts, downs = [], [], [], [], []
    for _ in range(rounds):
        bare.append(popen_loop(count))
        apart.append(popen_loop(count, is_apart=True))
        with system(count) as place:
            boot, begin = time.clock_gettime(time.CLOCK_BOOTTIME), time.perf_counter()
            orch(place, "up", "-d", "-q")
            prompts.append(time.perf_counter() - begin)
            pids = [row["pid"] for row in rows(place) if row["pid"] is not None]
            ups.append(max(map(started, pids)) + TICK - boot)
            begin = time.perf_counter()
            down = subprocess.Popen([*ORCH, "down", "-q"], cwd=place, env=environment(place))
            await_gone(pids)
            downs.append(time.perf_counter() - begin)
            down.wait()
    up = min(ups)
    tell("Popen loop", f"{min(bare):.3f} s", f"{count} x {PROGRAM[0]}")
    tell("Popen loop, own sessions", f"{min(apart):.3f} s", "as a supervisor starts them")
    beside = f"{up / min(bare):.2f} times the loop; prompt {min(prompts):.3f} s"
    tell(f"up of {count}", f"{up:.3f} s", beside, "1.5 times", is_kept=up <= 1.5 * min(bare))
    limit = 0.3 * max(1.0, count / 1000)
    kept = min(downs) < limit
    tell(
        f"down of {count}",
        f"{min(downs):.3f} s",
        "until all are gone",
        f"{limit:g} s",
        is_kept=kept,
    )


def restarts(count: int, kills: int) -> None:
    """From the kill to the news, on the watch stream, that another process runs."""
    bare, apart = sorted(popen_restart(kills)), sorted(popen_restart(kills, is_apart=True))
    with system(count) as place:
        orch(place, "up", "-d", "-q")
        taken = sorted(restart_times(place, kills))
        orch(place, "down", "-q")
    middle, floor = statistics.median(taken), statistics.median(bare)
    worst = taken[min(len(taken) - 1, int(0.99 * len(taken)))]
    own = middle / statistics.median(apart)
    beside = f"{middle / floor:.2f} times Popen and wait, {own:.2f} own sessions"
    tell(
        f"restart at {count}, p50", f"{middle * 1e3:.2f} ms", beside, "2 times",
        is_kept=middle <= 2 * floor,
    )  # fmt: skip
    tell(
        f"restart at {count}, p99", f"{worst * 1e3:.2f} ms", f"of {kills}", "10 ms",
        is_kept=worst < 0.01,
    )  # fmt: skip


def log_capture(megabytes: int, rounds: int) -> None:
    """How long a program takes to write its log, by its own clock, once all else has started."""
    own, captured = [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(prefix="orch-bench-") as directory:
            place = Path(directory)
            argv = writer(megabytes, place)
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
            log = os.open(place / "log", flags, 0o640)
            writing = subprocess.Popen(argv, stdout=log)
            os.close(log)
            (place / "go").write_bytes(b"")
            assert writing.wait() == 0
            own.append(float((place / "took").read_text(encoding="ascii")))
        with system(1, log=megabytes) as place:
            orch(place, "up", "-d", "-q")
            time.sleep(GAP)
            (place / "go").write_bytes(b"")
            while not (took := read(place / "took")):
                time.sleep(0.05)
            captured.append(float(took))
    ratio = min(captured) / min(own)
    beside = f"{ratio:.3f} times its own file, {megabytes} MB"
    speed = f"{megabytes / min(captured):.0f} MB/s"
    tell("log capture", speed, beside, "1.05 times", is_kept=ratio <= 1.05)


def commands_beside_a_stop(place: Path, count: int) -> None:
    """Commands of a system in which one component takes its time to stop."""
    stop = subprocess.Popen([*ORCH, "stop", "s0000", "-q"], cwd=place, env=environment(place))
    while (
        next(row for row in rows(place) if row["name"].startswith("s0000"))["phase"] != "stopping"
    ):
        time.sleep(0.01)
    floor = min(timed([sys.executable, "-c", "pass"], place) for _ in range(5))
    for verb in (("ps",), ("status", "s0001"), ("logs", "s0001"), ("restart", "s0002")):
        takes = min(timed([*ORCH, *verb], place) for _ in range(5))
        what = f"orch {verb[0]} at {count}, in a stop"
        beside = f"an empty Python takes {floor * 1e3:.0f} ms"
        tell(what, f"{takes * 1e3:.0f} ms", beside, "150 ms", is_kept=takes < 0.15)
    assert stop.poll() is None, "the stop ended too soon to be measured beside"
    orch(place, "down", "--kill", "-q")
    stop.wait()


def idle(place: Path, count: int, seconds: float) -> None:
    """What keeper and daemon spend when nothing happens."""
    pids = supervisors(place)
    time.sleep(15)  # the last looks at logs that were just opened
    before = sum(cpu(pid) for pid in pids)
    time.sleep(seconds)
    spent = (sum(cpu(pid) for pid in pids) - before) * 60 / seconds
    beside = f"keeper and daemon; {sum(pss(pid) for pid in pids):.0f} MB PSS"
    tell(f"idle at {count}", f"{spent:.3f} s/min", beside, "0.05 s/min", is_kept=spent < 0.05)


def adoption(place: Path, count: int) -> None:
    """From SIGKILL of the daemon until the next one answers for all, their pids unchanged."""
    before = {row["name"]: row["pid"] for row in rows(place)}
    daemon = supervisors(place)[0]
    begin = time.perf_counter()
    os.kill(daemon, signal.SIGKILL)
    with client.connect(runtime_dir(place)) as asked:
        after = {row["name"]: row["pid"] for row in asked.ps()}
    takes = time.perf_counter() - begin
    limit = 2.0 * max(1.0, count / 1000)
    tell(
        f"adoption of {count}", f"{takes:.3f} s", "kill -9 of the daemon to its answer",
        f"{limit:g} s, same pids", is_kept=takes < limit and after == before,
    )  # fmt: skip


# ------------------------------------------------------------------ the bare minimum


def popen_loop(count: int, *, is_apart: bool = False) -> float:
    begin = time.perf_counter()
    word = "apart" if is_apart else "together"
    argv = [sys.executable, "-S", "-E", "-c", LOOP, str(count), word, *PROGRAM]
    loop = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert loop.stdout is not None
    loop.stdout.readline()
    took = time.perf_counter() - begin
    loop.communicate(b"\n")
    return took


LOOP = """
import subprocess, sys
count, word, *argv = sys.argv[1:]
given = {"stdin": subprocess.DEVNULL, "start_new_session": word == "apart"}
children = [subprocess.Popen(argv, **given) for _ in range(int(count))]
print(flush=True)
sys.stdin.readline()
for child in children: child.kill()
for child in children: child.wait()
"""


def popen_restart(kills: int, *, is_apart: bool = False) -> list[float]:
    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(PROGRAM, stdin=subprocess.DEVNULL, start_new_session=is_apart)

    child = start()
    times = []
    for _ in range(kills):
        time.sleep(GAP)
        begin = time.perf_counter()
        child.send_signal(signal.SIGKILL)
        child.wait()
        child = start()
        times.append(time.perf_counter() - begin)
    child.kill()
    child.wait()
    return times


# ------------------------------------------------------------------ systems


@contextmanager
def system(count: int, *, stubborn: bool = False, log: int = 0) -> Iterator[Path]:
    """Give the directory of a system of so many sleepers, which is gone afterwards."""
    place = Path(tempfile.mkdtemp(prefix="orch-bench-"))
    (place / "run").mkdir(mode=0o700)
    options: dict[str, Any] = {
        "command": PROGRAM,
        "settle": "0s",
        "restart": "always",
        "backoff": {"initial": "0s", "max": "0s"},
        "limit": {"failures": 0},
    }
    services = {f"s{number:04d}": options for number in range(count)}
    if stubborn:
        services["s0000"] = {**options, "command": STUBBORN, "stop": {"timeout": "30s"}}
    if log:
        services["s0000"] = {
            "command": writer(log, place),
            "settle": "0s",
            "logs": {"size": "100GB"},
        }
    topology = {"version": 1, "name": "bench", "services": services}
    (place / "topology.yaml").write_text(json.dumps(topology), encoding="utf-8")
    try:
        yield place
    finally:
        orch(place, "down", "--kill", "-q")
        shutil.rmtree(place, ignore_errors=True)


def writer(megabytes: int, place: Path) -> list[str]:
    """Return a program that writes so much when somebody has written to `go`."""
    os.mkfifo(place / "go")
    took, go = str(place / "took"), str(place / "go")
    return [sys.executable, "-I", "-S", "-c", WRITER, str(megabytes), took, go]


def environment(place: Path) -> dict[str, str]:
    return {**os.environ, "XDG_RUNTIME_DIR": str(place / "run"), "NO_COLOR": "1"}


def orch(place: Path, *words: str) -> None:
    subprocess.run([*ORCH, *words], cwd=place, env=environment(place), check=True)


def timed(argv: list[str], place: Path) -> float:
    begin = time.perf_counter()
    nothing = subprocess.DEVNULL
    subprocess.run(
        argv, cwd=place, env=environment(place), check=True, stdout=nothing, stderr=nothing
    )
    return time.perf_counter() - begin


def runtime_dir(place: Path) -> Path:
    return paths.runtime_dir(place / "topology.yaml", None, environment(place))


def rows(place: Path) -> list[Row]:
    with client.connect(runtime_dir(place)) as asked:
        return asked.ps()


def supervisors(place: Path) -> tuple[int, int]:
    """Return the pids of the daemon and of the keeper."""
    with client.connect(runtime_dir(place)) as asked:
        about, _ = asked.status()
    return about["pid"], about["keeper_pid"]


def restart_times(place: Path, kills: int) -> list[float]:
    times = []
    with client.connect(runtime_dir(place)) as asked, client.connect(runtime_dir(place)) as told:
        known = asked.ps()
        watch = told.watch()
        for number in range(kills):
            row = known[number % len(known)]
            pid = next(now["pid"] for now in asked.ps() if now["name"] == row["name"])
            assert pid is not None, f"{row['name']} has no process"
            time.sleep(GAP)
            begin = time.perf_counter()
            os.kill(pid, signal.SIGKILL)
            for event in watch:
                now = event.get("row")
                if now and now["name"] == row["name"] and now["pid"] not in (None, pid):
                    break
            times.append(time.perf_counter() - begin)
    return times


# ------------------------------------------------------------------ processes


def started(pid: int) -> float:
    """Return when a process was started, in seconds since boot, to a hundredth."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return int(fields[19]) * TICK


def await_gone(pids: Iterable[int]) -> None:
    poll = select.poll()
    waited = set()
    for pid in pids:
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        waited.add(fd)
        poll.register(fd, select.POLLIN)
    while waited:
        for fd, _ in poll.poll():
            poll.unregister(fd)
            os.close(fd)
            waited.remove(fd)


def read(path: Path) -> str:
    return path.read_text(encoding="ascii") if path.exists() else ""


def cpu(pid: int) -> float:
    """Return the processor time of all threads of a process."""
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(each.read_text(encoding="ascii").split()[0]) for each in threads) / 1e9


def pss(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


if __name__ == "__main__":
    sys.exit(main())
