"""What crash loops cost: every component ends at once, again and again.

    python benchmarks/crash_loops.py [--components 1000] [--seconds 20] [--rate 20]

The restarts of all crash loops together have a rate (`restart_rate`), so a thousand of them must
cost no more than a few: the daemon's CPU, the restarts it did, and how long `orch ps` takes
meanwhile. `--rate 0` lifts the limit and shows what the daemon can do at most.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ORCH = (sys.executable, "-m", "orchestrator")
TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--components", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rate", type=float, default=20.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="orch-b") as name:
        place = Path(name)
        write(place, options.components, options.rate)
        try:
            orch(place, "up", "-d", "-q")
            measure(place, options.seconds)
        finally:
            begin = time.perf_counter()
            orch(place, "down", "-q")
        print(f"down                {time.perf_counter() - begin:8.3f} s")


def write(place: Path, count: int, rate: float) -> None:
    loop = {
        "command": ["/bin/false"],
        "replicas": count,
        "restart": "always",
        "backoff": {"initial": "0s"},
        "limit": {"failures": 0},
    }
    system = {"version": 1, "restart_rate": rate, "services": {"loop": loop}}
    (place / "topology.yaml").write_text(json.dumps(system), encoding="utf-8")
    (place / "run").mkdir(mode=0o700)


def measure(place: Path, seconds: float) -> None:
    daemon = json.loads(orch(place, "status", "--json"))["daemon"]["pid"]
    # The first start of each is no restart; on a busy machine they take a while.
    while not all(row["restarts"] for row in json.loads(orch(place, "ps", "--json"))):
        time.sleep(0.2)
    cpu, done, begin = cpu_of(daemon), starts(place), time.perf_counter()
    asked = []
    while time.perf_counter() - begin < seconds:
        before = time.perf_counter()
        orch(place, "ps", "-q")
        asked.append(time.perf_counter() - before)
        time.sleep(0.2)
    lasted = time.perf_counter() - begin
    print(f"restarts            {(starts(place) - done) / lasted:8.1f} a second")
    print(f"daemon's CPU        {(cpu_of(daemon) - cpu) / lasted:8.3f} s a second")
    print(f"orch ps, p50        {statistics.median(asked) * 1e3:8.1f} ms")
    print(f"orch ps, the worst  {max(asked) * 1e3:8.1f} ms")


def starts(place: Path) -> int:
    return sum(row["generation"] for row in json.loads(orch(place, "ps", "--json")))


def cpu_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def orch(place: Path, *argv: str) -> bytes:
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(place / "run")}
    done = subprocess.run(
        [*ORCH, *argv], cwd=place, env=environment, capture_output=True, check=True
    )
    return done.stdout


if __name__ == "__main__":
    main()
