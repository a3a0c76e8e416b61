"""Messages a second of components, beside raw pyzmq with msgpack over the same transport.

    python benchmarks/messaging.py [SECONDS] [ROUNDS]

Two processes each: request/reply against blocking REQ/REP, publish/subscribe against PUB/SUB whose
publisher loses nothing either (XPUB_NODROP, the same high-water mark), and service_framework where
it is installed. Both ends of components check every message; the raw ends pack and unpack the same
maps and check nothing. A publisher's rate is that at which its subscriber takes them, from the
first to the last. Rounds go through all cases in turn, so that noise meets them alike. The best of
each counts; the ratios within each round are told too, their median and their range. The limits:
0.8 of REQ/REP, 0.5 of PUB/SUB, 50 times service_framework.

In request/reply all three do the same: one requester sends, waits for the reply and sends again.
"awaited" is no part of that comparison: an async main with 16 requests under way at a time.

On a loaded machine rates tell little: a process that waits for its turn looks slow. So the
processor time of a message is told too, that of all threads of both processes from the first
message on; its share compares by the work done, whoever else works there.
"""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgpack
import zmq

MESSAGE = {
    "args": {"order_id": "ORD-0000001"},
    "workflow_id": "6f1c2a34-5b6d-4e7f-8a9b-0c1d2e3f4a5b",
}
MANY = 100_000
ASKED = "request/reply"

MEASURE = """
import json, time

def measured(call, seconds):
    for _ in range(20):
        call()
    print("begun", flush=True)
    count, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        for _ in range(10):
            call()
        count += 10
    print(json.dumps([count / (time.perf_counter() - began), count]), flush=True)
    time.sleep(60)
"""
REPLYER = """
def on_new_request(args, to_send, states, config):
    return {"order_id": args["order_id"]}

connection_models = {"in": {"x": {
    "connection_type": "replyer",
    "required_creation_arguments": {"on_new_request": on_new_request},
    "required_arguments": {"order_id": str},
    "required_return_arguments": {"order_id": str},
}}, "out": {}}
"""
REQUESTER = (
    MEASURE
    + """
connection_models = {"in": {}, "out": {"x": {
    "connection_type": "requester",
    "required_arguments": {"order_id": str},
    "required_return_arguments": {"order_id": str},
}}}

def main(to_send, config):
    measured(lambda: to_send("connection", "x", {"order_id": "ORD-0000001"}), SECONDS)
"""
)
AWAITING = (
    REQUESTER[len(MEASURE) : REQUESTER.index("def main")]
    + """
import asyncio, json, time

async def main(to_send, config):
    async def asks(until):
        count = 0
        while time.perf_counter() < until:
            await to_send("connection", "x", {"order_id": "ORD-0000001"})
            count += 1
        return count

    await to_send("connection", "x", {"order_id": "ORD-0000001"})
    print("begun", flush=True)
    began = time.perf_counter()
    count = sum(await asyncio.gather(*(asks(began + SECONDS) for _ in range(16))))
    print(json.dumps([count / (time.perf_counter() - began), count]), flush=True)
    await asyncio.sleep(60)
"""
)
PUBLISHER = """
import time

connection_models = {"in": {}, "out": {"x": {
    "connection_type": "publisher",
    "optional_creation_arguments": {"min_subscribers": 1},
    "required_arguments": {"order_id": str},
}}}

def main(to_send, config):
    for number in range(MANY):
        to_send("connection", "x", {"order_id": "ORD-0000001"})
    time.sleep(60)
"""
SUBSCRIBER = """
import json, time
seen = []

def begin():
    print("begun", flush=True)
    return time.perf_counter()

def on_new_message(args, to_send, states, config):
    seen.append(None if seen else begin())
    if len(seen) == MANY:
        print(json.dumps([MANY / (time.perf_counter() - seen[0]), MANY]), flush=True)

connection_models = {"in": {"x": {
    "connection_type": "subscriber",
    "required_creation_arguments": {"on_new_message": on_new_message},
    "required_arguments": {"order_id": str},
}}, "out": {}}
"""


def raw(role: str, endpoint: str, seconds: float) -> None:
    """Be one end in plain pyzmq."""
    kinds = {"rep": zmq.REP, "req": zmq.REQ, "pub": zmq.XPUB, "sub": zmq.SUB}
    peer = zmq.Context().socket(kinds[role])
    peer.set(zmq.SNDHWM, 10_000)
    peer.set(zmq.RCVHWM, 10_000)
    pack, unpack = msgpack.packb, msgpack.unpackb
    if role == "rep":
        peer.bind(endpoint)
        while True:
            message = unpack(peer.recv())
            answer = {"return_args": message["args"], "workflow_id": message["workflow_id"]}
            peer.send(pack(answer))
    if role == "pub":
        peer.set(zmq.XPUB_NODROP, 1)
        peer.bind(endpoint)
        peer.recv()
        for _ in range(MANY):
            peer.send(pack(MESSAGE))
        time.sleep(60)
        return
    peer.connect(endpoint)
    if role == "req":
        space: dict[str, Any] = {}
        exec(MEASURE, space)

        def call() -> None:
            peer.send(pack(MESSAGE))
            unpack(peer.recv())

        space["measured"](call, seconds)
        return
    peer.subscribe(b"")
    unpack(peer.recv())
    sys.stdout.write("begun\n")
    sys.stdout.flush()
    began = time.perf_counter()
    for _ in range(MANY - 1):
        unpack(peer.recv())
    sys.stdout.write(json.dumps([MANY / (time.perf_counter() - began), MANY]) + "\n")
    sys.stdout.flush()
    time.sleep(60)


def worked(pid: int) -> float:
    """Return the processor time of all threads of a process so far, in seconds."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((one / "schedstat").read_text().split()[0]) for one in threads) / 1e9


def both(server: list[str], client: list[str], directory: Path) -> tuple[float, float]:
    """Run two programs; return the client's messages a second and their processor time each."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    ends = [
        subprocess.Popen(
            argv, cwd=directory, env=environment, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True,
        )
        for argv in (server, client)
    ]  # fmt: skip
    try:
        out = ends[1].stdout
        assert out is not None
        before = 0.0
        for line in out:
            if line == "begun\n":
                before = sum(worked(end.pid) for end in ends)
            elif line.startswith("["):
                rate, count = json.loads(line)
                return rate, (sum(worked(end.pid) for end in ends) - before) / count
        raise SystemExit(f"no rate from {server} and {client}")
    finally:
        for end in ends:
            end.kill()
            end.wait()


def component(module: str, name: str, code: str, endpoint: str, directory: Path) -> list[str]:
    """Write a handler file with its addresses; return the command that runs it."""
    (directory / f"{name}.py").write_text(code)
    side, kind = ("in" if '"in": {"x"' in code else "out"), code.split('connection_type": "')[1]
    kind = kind.split('"')[0]
    wired = {"connections": {"in": {}, "out": {}}, "states": {"in": {}, "out": {}}}
    wired["connections"][side] = {"x": {kind: endpoint}}
    (directory / f"{name}.json").write_text(json.dumps(wired))
    (directory / "config.json").write_text("{}")
    main = ["-m"] if "def main" in code else []
    run = [sys.executable, "-m", module, *(["run"] if module == "orchestrator" else [])]
    return [*run, "-s", f"./{name}.py", "-a", f"./{name}.json", "-c", "./config.json", *main]


def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def case(who: str, what: str, seconds: float) -> tuple[float, float]:
    """Return the messages a second of one case, and the processor time of each in seconds."""
    with tempfile.TemporaryDirectory() as made:
        directory = Path(made)
        endpoint = f"127.0.0.1:{port()}"
        roles = ("rep", "req") if what == ASKED else ("pub", "sub")
        if who == "raw":
            ends = [
                [sys.executable, __file__, role, f"tcp://{endpoint}", str(seconds)]
                for role in roles
            ]
        else:
            module = "service_framework" if who == "service_framework" else "orchestrator"
            requester = AWAITING if who == "awaited" else REQUESTER
            codes = (REPLYER, requester) if roles[0] == "rep" else (PUBLISHER, SUBSCRIBER)
            texts = [
                one.replace("SECONDS", str(seconds)).replace("MANY", str(MANY)) for one in codes
            ]
            ends = [
                component(module, role, text, endpoint, directory)
                for role, text in zip(roles, texts, strict=True)
            ]
        return both(ends[0], ends[1], directory)


def ratios(ours: list[tuple[float, float]], theirs: list[tuple[float, float]]) -> str:
    """Return the ratios of rates within each round in words."""
    all_ = sorted(one / other for (one, _), (other, _) in zip(ours, theirs, strict=True))
    return f"rounds {statistics.median(all_):.2f} ({all_[0]:.2f} to {all_[-1]:.2f})"


def main() -> int:
    if len(sys.argv) == 4:
        raw(sys.argv[1], sys.argv[2], float(sys.argv[3]))
        return 0
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    cases = [(who, what) for what in (ASKED, "publish") for who in ("raw", "orch")]
    cases.append(("awaited", ASKED))
    if importlib.util.find_spec("service_framework"):
        cases.append(("service_framework", ASKED))
    found: dict[tuple[str, str], list[tuple[float, float]]] = {one: [] for one in cases}
    for _ in range(rounds):
        for one in cases:
            found[one].append(case(*one, seconds))
    for (who, what), each in found.items():
        rate, work = max(rate for rate, _ in each), min(work for _, work in each)
        print(f"{what:14} {who:18} {rate:10.0f}/s {work * 1e6:8.2f} us", end="")
        beside = found["raw", what]
        if who in ("orch", "awaited"):
            share, by_work = rate / max(beside)[0], min(one for _, one in beside) / work
            print(
                f"   {share:.2f} of raw, {by_work:.2f} by its work; {ratios(each, beside)}", end=""
            )
        print()
    if theirs := found.get(("service_framework", ASKED)):
        for who in ("orch", "raw"):
            times = max(found[who, ASKED])[0] / max(theirs)[0]
            rounds_of_it = ratios(found[who, ASKED], theirs)
            print(f"{who} is {times:.0f} times service_framework; {rounds_of_it}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
