"""What runs of jobs cost: in a long queue, in a quick row, and beside both.

    python benchmarks/jobs.py [--queued 10000] [--short 500] [--rounds 5] [--strict]

So many runs are submitted by the client while one of them is at work; they are listed, looked at
and cancelled by the command, and found again by the next daemon. Then so many short ones (`true`)
are run to their ends, each with a worker, a directory and records. The table tells each limit and
whether it was kept; `--strict` makes a missed one the exit code.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from orchestrator import client
from orchestrator.client import AsyncJobs, Jobs, place

ORCH = (sys.executable, "-m", "orchestrator")
AT_ONCE = 64
"""How many submissions are under way at a time."""

missed: list[str] = []


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queued", type=int, default=10_000)
    parser.add_argument("--short", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--strict", action="store_true", help="a missed limit is an error")
    options = parser.parse_args()
    with system({"busy": job("sleep", "100000", concurrency=1)}, 1) as here:
        long_queue(here, options.queued, options.rounds)
    with system({"short": job("true")}, 2 * (os.cpu_count() or 1)) as here:
        short_runs(here, options.short)
    return 1 if missed and options.strict else 0


def tell(
    what: str, figure: str, beside: str, limit: str = "", *, is_kept: bool | None = None
) -> None:
    """Print a row of the table."""
    verdict = "" if is_kept is None else "kept" if is_kept else "MISSED"
    if is_kept is False:
        missed.append(what)
    print(f"{what:<34}{figure:>12}  {beside:<40}{limit:<18}{verdict}", flush=True)


# ------------------------------------------------------------------ what is measured


def long_queue(here: Path, count: int, rounds: int) -> None:
    """Submit many runs of which one may begin; list them, look at one, cancel some, lose none."""
    begin = time.perf_counter()
    ids = asyncio.run(submit(here, "lab.busy", count))
    took = time.perf_counter() - begin
    tell(f"submit of {count}", f"{took:.1f} s", f"{count / took:.0f} a second, each written down")
    floor = min(timed([sys.executable, "-c", "pass"], here) for _ in range(5))
    beside = f"an empty Python takes {floor * 1e3:.0f} ms"
    for words in (
        ("runs",), ("runs", "lab.busy", "--state", "running"), ("runs", "show", ids[-1]),
    ):  # fmt: skip
        takes = min(timed([*ORCH, *words], here) for _ in range(rounds))
        shown = " ".join("ID" if word in ids else word for word in words)
        tell(f"orch {shown}", f"{takes * 1e3:.0f} ms", beside, "150 ms", is_kept=takes < 0.15)
    takes = min(timed([*ORCH, "cancel", "-q", one], here) for one in ids[-rounds:])
    tell("orch cancel ID", f"{takes * 1e3:.0f} ms", beside, "150 ms", is_kept=takes < 0.15)
    takes = min(timed([*ORCH, "runs", "-q", "-n", "all"], here) for _ in range(rounds))
    tell("orch runs -q -n all", f"{takes * 1e3:.0f} ms", f"all {count} of them")
    with Jobs(here / "topology.yaml", environment=environment(here), patience=60) as jobs:
        before = {row["id"]: row["state"] for row in jobs.rows()}
        pid = facts(here)["pid"]
        tell("the daemon's memory", f"{pss(pid):.0f} MB", f"PSS with {count} in its queue")
        begin = time.perf_counter()
        os.kill(pid, signal.SIGKILL)
        after = {row["id"]: row["state"] for row in jobs.rows()}
        took = time.perf_counter() - begin
        is_kept = took < max(2.0, 2.0 * count / 10_000) and after == before
        beside = "until the next one lists all"
        tell("kill -9 of the daemon", f"{took:.2f} s", beside, "2 s, all there", is_kept=is_kept)
        begin = time.perf_counter()
        orch(here, "cancel", "--all", "-q", "--no-wait")
        took = time.perf_counter() - begin
        tell("orch cancel --all", f"{took:.2f} s", f"{count} runs, each written down")


def short_runs(here: Path, count: int) -> None:
    """Run many short programs to their ends, as they are submitted."""
    asyncio.run(submit(here, "lab.short", 4, is_awaited=True))  # the zygote is there now
    begin = time.perf_counter()
    asyncio.run(submit(here, "lab.short", count, is_awaited=True))
    took = time.perf_counter() - begin
    rate = 60 * count / took
    bare = popen_rate(count)
    beside = f"{bare / rate:.1f} times a Popen loop's time"
    tell(f"{count} short runs", f"{rate:.0f}/min", beside, "1000/min", is_kept=rate >= 1000)
    with Jobs(here / "topology.yaml", environment=environment(here)) as jobs:
        states = {run.state for run in jobs.runs()}
    is_kept = states == {"succeeded"}
    tell("how they ended", ", ".join(sorted(states)), "", "succeeded", is_kept=is_kept)


async def submit(here: Path, name: str, count: int, *, is_awaited: bool = False) -> list[str]:
    """Submit runs, and await them when asked; return their ids."""
    room = asyncio.Semaphore(AT_ONCE)

    async def one(jobs: AsyncJobs) -> str:
        async with room:
            run = await jobs.submit(name)
        if is_awaited:
            await run.wait()
        return run.id

    async with AsyncJobs(here / "topology.yaml", environment=environment(here)) as jobs:
        return list(await asyncio.gather(*(one(jobs) for _ in range(count))))


def popen_rate(count: int) -> float:
    """Return how many programs a minute a loop runs that does nothing else."""
    program = shutil.which("true") or "/bin/true"
    begin = time.perf_counter()
    for _ in range(count):
        subprocess.run([program], stdin=subprocess.DEVNULL, check=True)
    return 60 * count / (time.perf_counter() - begin)


# ------------------------------------------------------------------ systems


def job(*argv: str, **options: Any) -> dict[str, Any]:
    return {"command": list(argv), "watcher": {"enabled": False}, **options}


@contextmanager
def system(jobs: dict[str, Any], concurrency: int) -> Iterator[Path]:
    """Give the directory of a running system with these jobs, which is gone afterwards."""
    here = Path(tempfile.mkdtemp(prefix="orch-bench-"))
    (here / "run").mkdir(mode=0o700)
    topology = {
        "version": 1,
        "name": "bench",
        "job_concurrency": concurrency,
        "services": {"lab": {"jobs": jobs}},
    }
    (here / "topology.yaml").write_text(json.dumps(topology), encoding="utf-8")
    try:
        orch(here, "up", "-d", "-q")
        yield here
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            orch(here, "down", "--kill", "-q")
        shutil.rmtree(here, ignore_errors=True)


def environment(here: Path) -> dict[str, str]:
    return {**os.environ, "XDG_RUNTIME_DIR": str(here / "run"), "NO_COLOR": "1"}


def orch(here: Path, *words: str) -> None:
    subprocess.run([*ORCH, *words], cwd=here, env=environment(here), check=True)


def timed(argv: list[str], here: Path) -> float:
    begin = time.perf_counter()
    nothing = subprocess.DEVNULL
    subprocess.run(
        argv, cwd=here, env=environment(here), check=True, stdout=nothing, stderr=nothing
    )
    return time.perf_counter() - begin


def facts(here: Path) -> dict[str, Any]:
    """Return what the daemon says of itself."""
    where = place.find(here / "topology.yaml", environment=environment(here))
    with client.connect(where.runtime_dir) as asked:
        return asked.status()[0]


def pss(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


if __name__ == "__main__":
    sys.exit(main())
