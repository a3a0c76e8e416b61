"""What it costs to have many handler components: forked by the zygote, beside started by exec.

    python benchmarks/handlers.py [--components 1000] [--executed 50] [--idle 10]

The ratio of the two within one run is what to compare; the machine's noise is in both. Limits:
1,000 ready in less than 4 s and 1.2 GB of PSS in all; an idle component uses no CPU.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

ORCH = (sys.executable, "-m", "orchestrator")
HANDLER = "def init_function(to_send, states, config):\n    pass\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--components", type=int, default=1000)
    parser.add_argument("--executed", type=int, default=50, help="how many to start by exec")
    parser.add_argument("--idle", type=float, default=10.0, help="seconds to watch idling")
    options = parser.parse_args()
    executed = measure("exec", options.executed, options.idle, zygote=False)
    forked = measure("zygote", options.components, options.idle, zygote=True)
    print(f"a fork is ready {executed / forked:.1f} times as fast as an exec")


def measure(what: str, count: int, idle: float, *, zygote: bool) -> float:
    """Bring up so many handlers, and show what they cost; return the seconds for each."""
    with system(count, zygote=zygote) as place:
        begin = time.perf_counter()
        orch(place, "up", "-d", "--wait", "-q")
        took = time.perf_counter() - begin
        pids = list(ours(place))
        memory = sum(pss(pid) for pid in pids)
        spent = sum(cpu(pid) for pid in pids)
        time.sleep(idle)
        idled = (sum(cpu(pid) for pid in pids) - spent) * 60 / idle
        print(
            f"{what:<7} {count:>5} ready in {took:6.2f} s, {took / count * 1e3:6.2f} ms each; "
            f"{spent / count * 1e3:5.1f} ms CPU and {memory / count:5.2f} MB PSS each, "
            f"{memory:.0f} MB in all; idle {idled:.3f} s CPU a minute in all",
            flush=True,
        )
    return took / count


@contextmanager
def system(count: int, *, zygote: bool) -> Iterator[Path]:
    place = Path(tempfile.mkdtemp(prefix="orch-bench-"))
    (place / "run").mkdir(mode=0o700)
    (place / "handler.py").write_text(HANDLER, encoding="utf-8")
    component = {"handler": "handler.py", "zygote": zygote, "watch": False}
    services = {"s": {"components": {f"c{number:04d}": component for number in range(count)}}}
    topology = {"version": 1, "name": "bench", "services": services}
    (place / "topology.yaml").write_text(json.dumps(topology), encoding="utf-8")
    try:
        yield place
    finally:
        orch(place, "down", "--kill", "-q")
        shutil.rmtree(place, ignore_errors=True)


def orch(place: Path, *words: str) -> None:
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(place / "run"), "NO_COLOR": "1"}
    subprocess.run([*ORCH, *words], cwd=place, env=environment, check=True)


def ours(place: Path) -> Iterable[int]:
    """Yield the components of the system, and its zygote."""
    key = next((place / "run" / "orch").iterdir()).name
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                command = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if f"{place}/.orch/conf/" in command or command.startswith(f"orch zygote of {key}"):
                yield int(entry.name)


def cpu(pid: int) -> float:
    """Return the seconds of CPU that all threads of a process have used."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(path.read_text(encoding="ascii").split()[0]) for path in tasks) / 1e9


def pss(pid: int) -> float:
    """Return the proportional share of memory of a process, in MB."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


if __name__ == "__main__":
    main()
