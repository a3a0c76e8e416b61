"""What supervision costs: start, restart, idling and `orch ps`, beside the bare minimum.

    python benchmarks/supervision.py [--components 1000] [--idle 20] [--kills 50]

Each figure stands beside what the same machine does in the same run with nothing in
between: a `subprocess.Popen` loop, a Popen loop that waits and starts again, an empty Python.
Machines differ and are noisy; the ratios are what to compare. Limits: up at most 2.5 times
the loop, restart p50 at most 5 ms, idle under 0.2 s CPU a minute and 60 MB PSS at 1,000
components, `orch ps` under 90 ms at 100.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestrator import client, files

ORCH = (sys.executable, "-m", "orchestrator")
PROGRAM = [shutil.which("sleep") or "/bin/sleep", "100000"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--components", type=int, default=1000)
    parser.add_argument("--idle", type=float, default=20.0, help="seconds to watch idling")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    count = options.components
    bare = min(popen_loop(count) for _ in range(options.rounds))
    show("Popen loop", f"{bare:.3f} s", f"{count} x {PROGRAM[0]}")
    ups, downs = [], []
    for _ in range(options.rounds):
        with system(count) as place:
            begin = time.perf_counter()
            orch(place, "up", "-d", "-q")
            ups.append(time.perf_counter() - begin)
            begin = time.perf_counter()
            orch(place, "down", "-q")
            downs.append(time.perf_counter() - begin)
    show("orch up -d", f"{min(ups):.3f} s", f"{min(ups) / bare:.2f} times the loop")
    show("orch down", f"{min(downs):.3f} s", "command to prompt")
    bare_restart = popen_restart(options.kills)
    with system(count) as place:
        orch(place, "up", "-d", "-q")
        restarts = restart_times(place, options.kills)
        show("restart, Popen", f"{statistics.median(bare_restart) * 1e3:.2f} ms p50", "")
        show(
            "restart, orch",
            f"{statistics.median(restarts) * 1e3:.2f} ms p50",
            f"{max(restarts) * 1e3:.2f} ms worst, at {count} components, as a client sees it",
        )
        idle(place, options.idle)
        orch(place, "down", "-q")
    with system(100) as place:
        orch(place, "up", "-d", "-q")
        floor = min(timed([sys.executable, "-c", "pass"], place) for _ in range(10))
        takes = statistics.median(timed([*ORCH, "ps"], place) for _ in range(10))
        show("python -c pass", f"{floor * 1e3:.1f} ms", "")
        show("orch ps, 100", f"{takes * 1e3:.1f} ms", f"{takes / floor:.2f} times empty Python")
        orch(place, "down", "-q")


def show(what: str, figure: str, beside: str) -> None:
    print(f"{what:<16} {figure:>14}   {beside}", flush=True)


@contextmanager
def system(count: int) -> Iterator[Path]:
    place = Path(tempfile.mkdtemp(prefix="orch-bench-"))
    (place / "run").mkdir(mode=0o700)
    options = {
        "command": PROGRAM,
        "settle": "0s",
        "restart": "always",
        "backoff": {"initial": "0s", "max": "0s"},
        "limit": {"failures": 0},
    }
    services = {f"s{number:04d}": options for number in range(count)}
    topology = {"version": 1, "name": "bench", "services": services}
    (place / "topology.yaml").write_text(json.dumps(topology), encoding="utf-8")
    try:
        yield place
    finally:
        orch(place, "down", "--kill", "-q")
        shutil.rmtree(place, ignore_errors=True)


def environment(place: Path) -> dict[str, str]:
    return {**os.environ, "XDG_RUNTIME_DIR": str(place / "run"), "NO_COLOR": "1"}


def orch(place: Path, *words: str) -> None:
    subprocess.run([*ORCH, *words], cwd=place, env=environment(place), check=True)


def timed(argv: list[str], place: Path) -> float:
    begin = time.perf_counter()
    subprocess.run(argv, cwd=place, env=environment(place), check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def popen_loop(count: int) -> float:
    begin = time.perf_counter()
    children = [subprocess.Popen(PROGRAM, stdin=subprocess.DEVNULL) for _ in range(count)]
    took = time.perf_counter() - begin
    for child in children:
        child.kill()
    for child in children:
        child.wait()
    return took


def popen_restart(kills: int) -> list[float]:
    child = subprocess.Popen(PROGRAM, stdin=subprocess.DEVNULL)
    times = []
    for _ in range(kills):
        begin = time.perf_counter()
        child.send_signal(signal.SIGKILL)
        child.wait()
        child = subprocess.Popen(PROGRAM, stdin=subprocess.DEVNULL)
        times.append(time.perf_counter() - begin)
    child.kill()
    child.wait()
    return times


def runtime_dir(place: Path) -> Path:
    return files.runtime_dir(place / "topology.yaml", None, environment(place))


def restart_times(place: Path, kills: int) -> list[float]:
    times = []
    with client.connect(runtime_dir(place)) as asked, client.connect(runtime_dir(place)) as told:
        rows = asked.ps()
        watch = told.watch()
        for number in range(kills):
            row = rows[number * len(rows) // kills]
            begin = time.perf_counter()
            os.kill(row["pid"], signal.SIGKILL)
            for event in watch:
                now = event.get("row") or {}
                if now.get("name") == row["name"] and now["pid"] not in (None, row["pid"]):
                    break
            times.append(time.perf_counter() - begin)
    return times


def idle(place: Path, seconds: float) -> None:
    with client.connect(runtime_dir(place)) as asked:
        daemon, _ = asked.status()
    pids = (daemon["pid"], daemon["keeper_pid"])
    time.sleep(10)  # the last looks at logs that were just written to
    before = sum(cpu(pid) for pid in pids)
    time.sleep(seconds)
    spent = (sum(cpu(pid) for pid in pids) - before) * 60 / seconds
    memory = sum(pss(pid) for pid in pids)
    show("idle", f"{spent:.3f} s/min", f"CPU of keeper and daemon; {memory:.1f} MB PSS")


def cpu(pid: int) -> float:
    return int(Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()[0]) / 1e9


def pss(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


if __name__ == "__main__":
    main()
