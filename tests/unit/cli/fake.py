"""A small daemon for tests: a thread that speaks the control protocol over rows a test changes."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from orchestrator.errors import UnknownName
from orchestrator.model import names as naming
from orchestrator.wire import control

Answer = Callable[["FakeDaemon", dict[str, Any]], dict[str, Any]]

TIMEOUT = 10.0
TIME = "2026-11-22T10:00:00.000Z"


class Refusal(Exception):
    """What an answer raises to refuse."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Garbage(Exception):
    """What an answer raises to answer what the protocol does not allow."""


def make_row(name: str, /, **changes: Any) -> dict[str, Any]:
    """Return the row of an instance that runs and is ready, with `changes`."""
    service, component, instance = naming.split(name)
    row: dict[str, Any] = {
        "name": name,
        "service": service,
        "component": component,
        "instance": instance or 1,
        "phase": "running",
        "ready": True,
        "healthy": None,
        "pid": 100,
        "start": None,
        "generation": 1,
        "restarts": 0,
        "reload": None,
        "code": None,
        "result": None,
        "exit_code": None,
        "signal": None,
        "started_at": "2026-11-22T10:00:00.000Z",
        "wanted": "up",
        "why": None,
        "failures": 0,
        "next_start_in": None,
        "stop_in": None,
        "stdout": None,
        "stderr": None,
        "warning": None,
    }
    unknown = changes.keys() - row.keys()
    assert not unknown, unknown
    return row | changes


def make_run(number: str, job: str = "lab.sim", /, **changes: Any) -> dict[str, Any]:
    """Return the row of a run that is queued, with `changes`."""
    row: dict[str, Any] = {
        "id": number,
        "name": f"{job}/{number}",
        "job": job,
        "service": job.partition(".")[0],
        "state": "queued",
        "result": None,
        "exit_code": None,
        "message": None,
        "why": None,
        "progress": None,
        "text": None,
        "custom": {},
        "attempt": 0,
        "attempts": 1,
        "priority": 0,
        "after": [],
        "submitted_at": "2026-11-22T10:00:00.000Z",
        "started_at": None,
        "ended_at": None,
        "run_dir": None,
        "output": None,
        "pid": None,
        "args": {},
        "template": {},
        "position": None,
    }
    unknown = changes.keys() - row.keys()
    assert not unknown, unknown
    return row | changes


def make_job(name: str, /, **changes: Any) -> dict[str, Any]:
    """Return the row of a job, with `changes`."""
    service, _, job = name.partition(".")
    row: dict[str, Any] = {
        "name": name,
        "service": service,
        "job": job,
        "program": f"/somewhere/{job}.py",
        "command": None,
        "handler": None,
        "template": {},
        "required": [],
        "concurrency": None,
        "priority": 0,
        "schedule": None,
        "queued": 0,
        "running": 0,
    }
    return row | changes


SUCCEEDED: dict[str, Any] = {
    "state": "succeeded",
    "result": "success",
    "exit_code": 0,
    "progress": 1.0,
    "ended_at": "2026-11-22T10:01:00.000Z",
}

STOPPED: dict[str, Any] = {
    "phase": "stopped",
    "ready": False,
    "pid": None,
    "result": "requested",
    "wanted": "down",
}
FAILED: dict[str, Any] = {
    "phase": "failed",
    "ready": False,
    "pid": None,
    "result": "exit-code",
    "exit_code": 1,
}


class FakeDaemon:
    """Listens in `runtime_dir`; `answers` replaces what a method does.

    Every change of a row goes to whoever watches. `requests` remembers what was asked.
    """

    def __init__(self, runtime_dir: Path) -> None:
        self.path = runtime_dir / "control.sock"
        self.rows: dict[str, dict[str, Any]] = {}
        self.runs: dict[str, dict[str, Any]] = {}
        self.jobs: dict[str, dict[str, Any]] = {}
        self.signals: dict[str, str] = {}
        self.taken_back = False
        self.answers: dict[str, Answer] = {}
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self._lock = threading.RLock()
        self._arrived = threading.Condition(self._lock)
        self._watchers: list[tuple[socket.socket, int, dict[str, Any]]] = []
        self._connections: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.seq = 0
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen()
        self._spawn(self._accept)

    def add(self, name: str, **changes: Any) -> None:
        """Add an instance."""
        self.rows[name] = make_row(name, **changes)

    def change(self, name: str, /, **changes: Any) -> None:
        """Change an instance and tell the watchers."""
        with self._lock:
            self.rows[name] = self.rows.get(name, make_row(name)) | changes
            self.publish({"kind": "instance", "row": self.rows[name]})

    def add_job(self, name: str, **changes: Any) -> None:
        """Add a job."""
        self.jobs[name] = make_job(name, **changes)

    def change_run(self, number: str, /, **changes: Any) -> None:
        """Add or change a run and tell the watchers."""
        with self._lock:
            self.runs[number] = self.runs.get(number, make_run(number)) | changes
            self.publish({"kind": "run", "run": self.runs[number]})

    def publish(self, event: dict[str, Any]) -> None:
        """Send an event to the watchers."""
        with self._lock:
            self.seq += 1
            for stream, number, params in self._watchers:
                if not _concerns(event, params):
                    continue
                with contextlib.suppress(OSError):
                    stream.sendall(control.event(number, {"seq": self.seq, "time": TIME, **event}))

    def stop(self, exit_code: int = 0) -> None:
        """End as a daemon that has stopped its system does."""
        self.publish(
            {"kind": "system", "state": "stopped", "exit_code": exit_code, "why": "told to"}
        )
        self.hang_up()

    def hang_up(self) -> None:
        """Close every connection, as a death does; new ones are accepted as before."""
        with self._lock:
            self._watchers.clear()
            for stream in self._connections:
                with contextlib.suppress(OSError):
                    stream.shutdown(socket.SHUT_RDWR)

    def until_asked(self, method: str, times: int = 1) -> dict[str, Any]:
        """Wait until `method` was asked for so many times; return its last parameters."""

        def asked() -> list[dict[str, Any]]:
            return [params for asked, params in self.requests if asked == method]

        with self._arrived:
            assert self._arrived.wait_for(lambda: len(asked()) >= times, TIMEOUT), self.requests
            return asked()[-1]

    def until_watched(self, times: int = 1) -> None:
        """Wait until somebody watches."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self._watchers) >= times, TIMEOUT)

    def close(self) -> None:
        """Stop listening and end every thread."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.path.unlink(missing_ok=True)
        self.hang_up()
        for thread in self._threads:
            thread.join(TIMEOUT)

    def _spawn(self, target: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=target, args=args)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                stream, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._connections.append(stream)
            self._spawn(self._serve, stream)

    def _serve(self, stream: socket.socket) -> None:
        decoder = control.Decoder()
        with stream, contextlib.suppress(OSError):
            while data := stream.recv(1 << 16):
                for message in decoder.feed(data):
                    self._answer(stream, message)
        with self._lock:
            self._watchers = [one for one in self._watchers if one[0] is not stream]
            self._connections.remove(stream)

    def _answer(self, stream: socket.socket, message: dict[str, Any]) -> None:
        number, method, params = message["id"], message["method"], message["params"]
        with self._arrived:
            try:
                result = (self.answers.get(method) or _ANSWERS[method])(self, params)
            except UnknownName as error:
                line = control.error(number, "unknown-name", str(error), near=list(error.near))
            except Garbage:
                line = b"{}\n"
            except Refusal as refusal:
                line = control.error(number, refusal.code, str(refusal))
            else:
                line = control.result(number, result)
            if method == "watch":
                self._watchers = [one for one in self._watchers if one[0] is not stream]
                self._watchers.append((stream, number, params))
            # What was asked shows only when its effect does: a test that waits sees both.
            self.requests.append((method, params))
            with contextlib.suppress(OSError):
                stream.sendall(line)
            self._arrived.notify_all()
        later = self.answers.get(f"after {method}", end if method == "down" else None)
        if later is not None:
            later(self, params)

    def select(self, params: dict[str, Any]) -> tuple[str, ...]:
        """Return the names that a request means."""
        return naming.select(params.get("names") or (), self.rows)


def _concerns(event: dict[str, Any], params: dict[str, Any]) -> bool:
    """Tell whether who watches with `params` gets an event."""
    if event["kind"] in ("instance", "removed"):
        return bool(params.get("instances", True))
    if event["kind"] != "run":
        return True  # Of the system; no test removes runs that somebody did not ask for.
    wanted = params.get("runs")
    return wanted is True or (isinstance(wanted, list) and event["run"]["id"] in wanted)


def _ps(daemon: FakeDaemon, params: dict[str, Any]) -> dict[str, Any]:
    return {"instances": [daemon.rows[name] for name in daemon.select(params)]}


def _watch(daemon: FakeDaemon, params: dict[str, Any]) -> dict[str, Any]:
    rows = _ps(daemon, params)["instances"] if params.get("instances", True) else []
    return {"instances": rows, "seq": daemon.seq}


def _status(daemon: FakeDaemon, params: dict[str, Any]) -> dict[str, Any]:
    about = {
        "pid": 11,
        "keeper_pid": 10,
        "started_at": "2026-11-22T09:59:00.000Z",
        "version": "0.1.0",
        "topology": "/somewhere/topology.yaml",
        "base_dir": "/somewhere/.orch",
        "name": "somewhere",
        "state": "running",
    }
    return {"daemon": about, **_ps(daemon, params)}


def _start(daemon: FakeDaemon, params: dict[str, Any]) -> dict[str, Any]:
    names = daemon.select(params)
    affected = [name for name in names if daemon.rows[name]["pid"] is None]
    for name in affected:
        row = daemon.rows[name]
        fresh = make_row(name, generation=row["generation"] + 1, pid=200)
        daemon.change(name, **{**fresh, "stdout": row["stdout"], "stderr": row["stderr"]})
    return {"names": affected, "unchanged": [name for name in names if name not in affected]}


def _stop(daemon: FakeDaemon, params: dict[str, Any]) -> dict[str, Any]:
    names = daemon.select(params)
    affected = [name for name in names if daemon.rows[name]["pid"] is not None]
    for name in affected:
        if daemon.taken_back:
            daemon.change(name, phase="stopping", ready=False, wanted="up")
        else:
            daemon.change(name, **STOPPED)
    return {"names": affected, "unchanged": [name for name in names if name not in affected]}


def _restart(daemon: FakeDaemon, params: dict[str, Any]) -> dict[str, Any]:
    names = list(daemon.select(params))
    for name in names:
        generation = daemon.rows[name]["generation"]
        daemon.change(name, phase="stopping", ready=False, stop_in=10.0)
        daemon.change(name, **make_row(name, generation=generation + 1, pid=300))
    return {"names": names, "unchanged": []}


def _kill(daemon: FakeDaemon, params: dict[str, Any]) -> dict[str, Any]:
    return {"done": {name: daemon.signals.get(name, "pass") for name in daemon.select(params)}}


def _apply(daemon: FakeDaemon, params: dict[str, Any]) -> dict[str, Any]:
    steps = []
    for name in params["lock"]["components"]:
        steps.append({"name": name, "action": "create", "cause": "it is not there", "changed": []})
        if not params["plan"]:
            daemon.change(name, **make_row(name))
    return {"plan": steps, "digest": "sha256:0"}


def _chosen_job(daemon: FakeDaemon, word: str) -> str:
    found = [name for name, row in daemon.jobs.items() if word in (name, row["job"])]
    if not found:
        hint = "".join(f"; did you mean {near!r}?" for near in naming.near(word, daemon.jobs)[:1])
        raise Refusal("unknown-job", f"there is no job {word!r}{hint}")
    return found[0]


def _submit(daemon: FakeDaemon, params: dict[str, Any]) -> dict[str, Any]:
    job, number = _chosen_job(daemon, params["job"]), params["id"]
    if number not in daemon.runs:
        told = {"args": params["args"], "template": params["template"]}
        daemon.runs[number] = make_run(number, job, priority=params.get("priority", 0), **told)
        daemon.publish({"kind": "run", "run": daemon.runs[number]})
    return {"run": daemon.runs[number]}


def _known(daemon: FakeDaemon, numbers: list[str]) -> list[str]:
    for number in numbers:
        if number not in daemon.runs:
            hint = "".join(
                f"; did you mean {near!r}?" for near in naming.near(number, daemon.runs)
            )
            raise Refusal("unknown-run", f"there is no run {number!r}{hint}")
    return numbers


def _runs(daemon: FakeDaemon, params: dict[str, Any]) -> dict[str, Any]:
    ids = _known(daemon, params.get("ids") or list(daemon.runs))
    jobs = [_chosen_job(daemon, word) for word in params.get("jobs") or daemon.jobs]
    states = params.get("states") or ()
    found = [
        row
        for number in reversed(ids)
        if (row := daemon.runs[number])["job"] in jobs or not daemon.jobs
        if row["state"] in states or not states
    ]
    return {"runs": found[: params.get("limit")], "seq": daemon.seq}


def _run(daemon: FakeDaemon, params: dict[str, Any]) -> dict[str, Any]:
    (number,) = _known(daemon, [params["id"]])
    return {
        "run": daemon.runs[number],
        "result": None,
        "errors": [],
        "record_dir": f"/somewhere/.orch/data/runs/{number}",
    }


def _cancel(daemon: FakeDaemon, params: dict[str, Any]) -> dict[str, Any]:
    ended = ("succeeded", "failed", "cancelled")
    cancelled, unchanged = [], []
    for row in _runs(daemon, params)["runs"]:
        if row["state"] in ended:
            unchanged.append(row["id"])
        else:
            cancelled.append(row["id"])
            daemon.change_run(row["id"], state="cancelled", result="requested")
    return {"cancelled": cancelled, "unchanged": unchanged}


def _jobs(daemon: FakeDaemon, params: dict[str, Any]) -> dict[str, Any]:
    del params
    return {"jobs": list(daemon.jobs.values())}


def _down(daemon: FakeDaemon, params: dict[str, Any]) -> dict[str, Any]:
    del params
    return {"names": [name for name, row in daemon.rows.items() if row["pid"] is not None]}


def end(daemon: FakeDaemon, params: dict[str, Any]) -> dict[str, Any]:
    """Stop everything and end: what follows `down`."""
    del params
    for name, row in list(daemon.rows.items()):
        if row["pid"] is not None:
            daemon.change(name, **STOPPED)
    daemon.stop()
    return {}


_ANSWERS: dict[str, Answer] = {
    "ps": _ps,
    "watch": _watch,
    "status": _status,
    "start": _start,
    "stop": _stop,
    "restart": _restart,
    "reset": _start,
    "kill": _kill,
    "apply": _apply,
    "down": _down,
    "submit": _submit,
    "runs": _runs,
    "run": _run,
    "cancel": _cancel,
    "jobs": _jobs,
}


def answer(method: str) -> Answer:
    """Return what answers a method, for an answer that does more."""
    return _ANSWERS[method]


@contextlib.contextmanager
def running(runtime_dir: Path) -> Iterator[FakeDaemon]:
    """Give a daemon that listens in `runtime_dir`."""
    daemon = FakeDaemon(runtime_dir)
    try:
        yield daemon
    finally:
        daemon.close()


def eventually(check: Callable[[], object], timeout: float = TIMEOUT) -> None:
    """Wait until `check` is true."""
    deadline = time.monotonic() + timeout
    event = threading.Event()
    while not check():
        assert time.monotonic() < deadline, "it never came true"
        event.wait(0.005)
