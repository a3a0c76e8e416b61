"""A badly behaved program, for tests: each switch is one bad habit.

Run as `python -I -S -u badproc.py [switches]`. It prints `ready` when its habits are in force,
then does what is asked and waits to be stopped. With `--record FILE` it appends one JSON line
per event, so that a test can see what happened in which order even when the program's own output
is gone.
"""

import argparse
import fcntl
import json
import os
import resource
import signal
import socket
import sys
import time
from pathlib import Path

LINE = "line {:08d}\n"
LIFE = os.environ.get("ORCH_INSTANCE", "").rpartition("/")[2]
"""Which process of its slot this is: its generation."""


class Numbered:
    """How many numbered lines were written, for whoever is asked to end."""

    lines = 0


def main() -> None:
    """Do what the switches say."""
    options = read_options()
    if options.lock:
        claim(options)
    record(options, "start")
    take_habits(options)
    speak(options)
    if options.notify_after is not None or options.ping:
        notify(options)
    if options.rate:
        number_lines(options)
    eaten = b"x" * options.eat
    if options.until:
        while not Path(options.until).exists():
            time.sleep(0.01)
    if options.exit_after is not None:
        time.sleep(options.exit_after)
    if options.crash_signal:
        crash(options.crash_signal)
    if options.exit_after is not None or options.until:
        record(options, "exit", code=options.exit_code)
        os._exit(options.exit_code)
    assert len(eaten) == options.eat
    while True:
        signal.pause()


def take_habits(options: argparse.Namespace) -> None:
    """Set up how signals are met, and start the descendants."""
    for name in options.ignore:
        signal.signal(number(name), signal.SIG_IGN)
    if "TERM" not in options.ignore:
        signal.signal(signal.SIGTERM, lambda *_: end(options))
    for name in options.note:
        signal.signal(number(name), lambda got, _: record(options, signal.Signals(got).name))
    for kind in options.child:
        start_child(options, kind)


def claim(options: argparse.Namespace) -> None:
    """Hold a lock, with all our descendants; tell when an earlier life still holds it."""
    descriptor = os.open(options.lock, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        record(options, "overlap")


def notify(options: argparse.Namespace) -> None:
    """Say that we are ready, late; then sign of life after sign of life, until no more."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.connect(os.environ["NOTIFY_SOCKET"])
        if options.notify_after is not None:
            time.sleep(options.notify_after)
            supervisor.send(b"READY=1")
        for _ in range(options.pings if options.ping else 0):
            supervisor.send(b"WATCHDOG=1")
            time.sleep(options.ping)


def speak(options: argparse.Namespace) -> None:
    """Write what was asked for, then that all habits are in force."""
    if options.report:
        write((json.dumps(report()) + "\n").encode())
    if options.burst:
        write(burst_bytes(options.burst))
    if options.text:
        write(options.text.encode().decode("unicode_escape").encode("latin-1"))
    if options.close_stdio:
        for descriptor in (0, 1, 2):
            os.close(descriptor)
    elif not options.silent:
        write(b"ready\n")


def crash(name: str) -> None:
    """Die of a signal, without leaving a core file."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if number(name) != signal.SIGKILL:
        signal.signal(number(name), signal.SIG_DFL)
    os.kill(os.getpid(), number(name))


def number(name: str) -> signal.Signals:
    """Return the signal of a name without its SIG."""
    return signal.Signals["SIG" + name]


def read_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", default="badproc", help="who is recorded")
    parser.add_argument("--record", help="append events to this file")
    parser.add_argument("--ignore", action="append", default=[], metavar="SIGNAL")
    parser.add_argument(
        "--note", action="append", default=[], metavar="SIGNAL", help="record this signal, live on"
    )
    parser.add_argument("--slow-stop", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--stop-code", type=int, default=0)
    parser.add_argument(
        "--child",
        action="append",
        default=[],
        choices=["fork", "setsid", "double-fork", "hidden"],
        help="hidden: by a double fork, in a session of its own, without an environment",
    )
    parser.add_argument(
        "--eat", type=int, default=0, metavar="BYTES", help="use so much memory once it is ready"
    )
    parser.add_argument(
        "--report", action="store_true", help="print the surroundings as one JSON line"
    )
    parser.add_argument(
        "--burst",
        type=int,
        default=0,
        metavar="BYTES",
        help="write so many bytes of numbered lines",
    )
    parser.add_argument("--text", default="", help="write this, escapes allowed, no newline added")
    parser.add_argument("--close-stdio", action="store_true")
    parser.add_argument("--silent", action="store_true", help="do not print ready")
    parser.add_argument(
        "--rate", type=int, default=0, metavar="LINES", help="numbered lines per second"
    )
    parser.add_argument("--life", action="store_true", help="numbered lines tell the life too")
    parser.add_argument("--lock", metavar="FILE", help="record when another life holds this")
    parser.add_argument("--notify-after", type=float, metavar="SECONDS", help="then READY=1")
    parser.add_argument("--ping", type=float, default=0.0, metavar="SECONDS", help="WATCHDOG=1")
    parser.add_argument("--pings", type=int, default=0, help="how many times, then no more")
    parser.add_argument(
        "--until", metavar="FILE", help="go on, to the exit, when this file exists"
    )
    parser.add_argument("--exit-after", type=float, metavar="SECONDS")
    parser.add_argument("--exit-code", type=int, default=0)
    parser.add_argument("--crash-signal", metavar="SIGNAL")
    return parser.parse_args()


def record(options: argparse.Namespace, event: str, **more: object) -> None:
    """Append one event; the line is one write, so that writers do not mix."""
    if options.record:
        told = {"name": options.name, "event": event, "pid": os.getpid(), "life": LIFE}
        line = json.dumps({**told, "time": time.monotonic(), **more}) + "\n"
        descriptor = os.open(options.record, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.write(descriptor, line.encode())
        os.close(descriptor)


def end(options: argparse.Namespace) -> None:
    """Stop as asked: perhaps slowly, perhaps with a code of its own."""
    record(options, "stopping")
    time.sleep(options.slow_stop)
    if options.rate and options.life:
        write(f"life {LIFE} last {Numbered.lines - 1:08d}\n".encode())
    record(options, "exit", code=options.stop_code)
    os._exit(options.stop_code)


def start_child(options: argparse.Namespace, kind: str) -> None:
    """Start a descendant that ignores TERM and holds our output open."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.close(reading)
        if kind != "fork":
            os.setsid()
        if kind in ("double-fork", "hidden") and os.fork() != 0:
            os._exit(0)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        record(options, f"child {kind}")
        if kind == "hidden":
            # The end of the pipe that is seen is that of the exec.
            again = [sys.executable, "-I", "-S", __file__, "--ignore", "TERM"]
            os.execve(sys.executable, again, {})
        os.close(writing)
        while True:
            signal.pause()
    os.close(writing)
    os.read(reading, 1)
    os.close(reading)


def report() -> dict[str, object]:
    """Return what this process finds around itself."""
    umask = os.umask(0)
    os.umask(umask)
    descriptors = {}
    for entry in sorted(Path("/proc/self/fd").iterdir(), key=lambda each: int(each.name)):
        try:
            descriptors[entry.name] = str(entry.readlink())
        except FileNotFoundError:  # the descriptor of the listing itself
            continue
    return {
        "environment": dict(os.environ),
        "cwd": str(Path.cwd()),
        "umask": umask,
        "nofile": resource.getrlimit(resource.RLIMIT_NOFILE),
        "uid": os.getuid(),
        "gid": os.getgid(),
        "groups": os.getgroups(),
        "pgid": os.getpgid(0),
        "sid": os.getsid(0),
        "pid": os.getpid(),
        "descriptors": descriptors,
        "blocked": sorted(int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, [])),
        "ignored": [
            number for number in range(1, 32) if signal.getsignal(number) is signal.SIG_IGN
        ],
    }


def burst_bytes(size: int) -> bytes:
    """Return what `burst` writes."""
    line = len(LINE.format(0))
    return "".join(LINE.format(each) for each in range(size // line + 1)).encode()[:size]


def write(data: bytes) -> None:
    """Write all of it to standard output, unbuffered."""
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]


def number_lines(options: argparse.Namespace) -> None:
    """Write numbered lines at a steady rate, for ever or until told; a hundred writes a second."""
    line = f"life {LIFE} {LINE}" if options.life else LINE
    begin = time.monotonic()
    while not (options.until and Path(options.until).exists()):
        due = int((time.monotonic() - begin) * options.rate)
        if due > Numbered.lines:
            # A signal that ends us must not come between the writing and the counting.
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
            write("".join(line.format(each) for each in range(Numbered.lines, due)).encode())
            Numbered.lines = due
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        time.sleep(0.01)
    write(f"last {Numbered.lines - 1:08d}\n".encode())


if __name__ == "__main__":
    main()
