"""How long a topology of 1,000 components takes to validate, cold: the whole process.

    python benchmarks/validate_1000.py [COMPONENTS] [RUNS]

Prints the best and the median of RUNS fresh processes, the share of the starting interpreter,
the peak of memory, and the ratio to a plain read of the same text by ruamel's safe loader.
The limit to reach is 0.6 s for 1,000 components of about ten lines.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LIMIT = 0.6

SAFE_LOAD = "import sys, ruamel.yaml; ruamel.yaml.YAML(typ='safe').load(open(sys.argv[1]))"


def topology(components: int) -> str:
    """Return a topology of that many commands, ten to a service, ten lines each."""
    lines = ["version: 1", "name: big", "services:"]
    for number in range(components):
        service, place = divmod(number, 10)
        if place == 0:
            lines += [f"  s{service}:", "    components:"]
        lines += [
            f"      c{place}:",
            f"        command: [/bin/sleep, '1000{place}']",
            "        restart: on-failure",
            "        environment:",
            f'          INDEX: "{place}"',
            "          MODE: test",
            "        backoff: {initial: 500ms, max: 10s}",
            "        stop: {signal: TERM, timeout: 5s}",
            "        ready: {delay: 100ms}",
            f"        depends_on: [c{place - 1}]" if place else "        nice: 1",
        ]
    return "\n".join(lines) + "\n"


def timed(argv: list[str], runs: int) -> list[float]:
    """Return the wall time of each run of a command, which must succeed."""
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        subprocess.run(argv, check=True, capture_output=True)
        times.append(time.perf_counter() - began)
    return times


def main() -> int:
    components = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    runs = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "topology.yaml"
        path.write_text(topology(components))
        validate = [sys.executable, "-m", "orchestrator", "-f", str(path), "validate"]
        timed(validate, 1)  # the byte code is written once
        ours = timed(validate, runs)
        memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        empty = timed([sys.executable, "-c", "pass"], runs)
        loader = timed([sys.executable, "-c", SAFE_LOAD, str(path)], max(1, runs // 2))
    best, median = min(ours), statistics.median(ours)
    print(f"{components} components, {runs} runs on {os.cpu_count()} cores")
    print(f"orch validate     best {best:.3f} s   median {median:.3f} s   peak {memory:.0f} MB")
    print(f"empty python      best {min(empty):.3f} s")
    print(f"ruamel safe load  best {min(loader):.3f} s")
    print(f"ratio to the load {best / min(loader):.2f}")
    print(f"share of the {LIMIT} s limit: {best / LIMIT:.0%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
