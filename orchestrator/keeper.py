"""The keeper: parent and subreaper of everything, restarter of the daemon.

Run as `python -I -S keeper.py CHANNEL PID LINK RUNTIME_DIR DAEMON…`, standard library only, small
enough to be read in one sitting and to need no release of its own: its protocol is frozen.

Its life begins in a copy of whoever starts the system, by `begin`: an interpreter of its own would
take time from the daemon's, for which everybody waits. The copy takes the system, gives it to the
daemon, and once that is at rest, or somebody needs us, it becomes what is run as above.

PID is our child, the daemon's process, which loads while whoever started us still reads the
topology, and LINK our end of a socket pair with it; both are 0 to replace a dead keeper of a
living daemon. RUNTIME_DIR is for whoever lists processes. DAEMON is the command line for the next
daemon, but for its own end of such a pair and RUNTIME_DIR, which are appended. One JSON object
comes over CHANNEL, a socket, with descriptors: the system's log, and what `begin` has made or the
dead keeper held. The answer is one JSON object too. When the channel of `begin` ends before,
nothing has been touched, and both processes end.

What it holds for the daemon, so that the daemon's death loses nothing:
- the lock of the base directory (one daemon per system),
- the listening control socket: clients that connect while no daemon lives wait, not fail,
- the notify socket: readiness that is announced meanwhile stays in its queue,
- the sockets that components listen on: what connects meanwhile waits too,
- the exits of orphans: when the daemon dies its children become ours; we read how each ends
  and keep it until a daemon has written it down.

When a keeper is killed the daemon starts another and hands all of this over (`held`). The new
one is not the daemon's parent: it sees its end through a pidfd, and restarts it likewise.

Protocol on the link (a socket pair, JSON lines), frozen:
    keeper → daemon   {"runtime_dir", "base_dir", "name", "topology", "code", "keeper"}
                      once, first, with the descriptors: control, notify, lock, log
                      {"hello": {"pid": …}}                                 once, second
                      {"exit": {"seq", "pid", "started", "code", "signal", "core"}}
                      {"term": true}                                        SIGTERM came
    daemon → keeper   {"ready": true}   {"ack": [SEQ, …]}   {"bye": true}

Protocol of the store (`store.sock`, one request a connection, one JSON object a packet), frozen:
    {"put": NAME} with a descriptor, {"drop": NAME}     answered by {} or {"error": …}
    {"get": true}      answered by {"name": NAME} with the descriptor, for each, and {} at last
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import select
import signal
import socket
import sys
import time

TYPE_CHECKING = False  # typing itself takes as long to import as half of the others
if TYPE_CHECKING:
    from typing import Any, NoReturn

STARTS_WITHOUT_READY = 3
"""How often a daemon may end before it was ever ready, with nothing to look after."""

CALM = 1.0
"""How long in seconds after the start of a system its keeper takes no processor's time."""

TAKEN = (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)
"""The signals that we act upon, or bear; until we can, they are blocked."""

STORE_TIMEOUT = 1.0
"""How long in seconds somebody who asks for descriptors is waited for."""

STORE_SIZE = 256
"""How many descriptors are held at most: select(2) sees no number above 1023."""

SUN_PATH = 107
"""The longest path of a unix socket, unix(7)."""


class Refused(Exception):
    """The system cannot be kept; the arguments are the answer to whoever started us."""

    def __init__(self, error: str, message: str, **data: Any) -> None:
        super().__init__(message)
        self.answer = {"error": error, "message": message, **data}


class Keeper:
    """One system's keeper. `serve` returns when the daemon has said goodbye or cannot start."""

    def __init__(
        self,
        arguments: dict[str, Any],
        argv: list[str],
        held: list[int],
        begun: tuple[int, int] | None,
    ) -> None:
        self.arguments = arguments
        self.argv = argv
        self.runtime_dir = arguments["runtime_dir"]
        control, notify, self.lock, last = held
        self.control = socket.socket(fileno=control)
        self.notify = socket.socket(fileno=notify)
        self.daemon: int
        self.daemon, link = begun or (arguments["daemon"], last)
        self.link: socket.socket | None = socket.socket(fileno=link)
        self.link.setblocking(False)
        self.received = b""
        self.unsent = b""
        self.ready = False
        self.ever_ready = False
        self.farewell = False
        self.starts = 1 if begun else 0
        self.exits: dict[int, dict[str, Any]] = {}
        self.sequence = 0
        self.restart_at: float | None = None
        self.started_at = time.monotonic()
        self.quick_deaths = 0
        self.pidfd = -1
        self.stored: dict[str, int] = {}
        self.store = socket.socket(fileno=last) if begun else bind_store(arguments)
        self.wakeup, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        for number in TAKEN:
            signal.signal(number, lambda *_: None)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        become_subreaper()
        if not begun:
            self.take_over()

    def take_over(self) -> None:
        """Stand in for a keeper before us."""
        self.pidfd = os.pidfd_open(self.daemon)
        write_note(self.lock, self.arguments)
        self.ready = self.ever_ready = True
        self.send({"hello": {"pid": os.getpid()}})

    def path(self, name: str) -> str:
        """Return the path of a file in the runtime directory."""
        return os.path.join(self.runtime_dir, name)

    def start_daemon(self) -> None:
        """Start another daemon, and give it the system."""
        self.daemon, fd = begin_daemon(self.argv, self.runtime_dir)
        link = socket.socket(fileno=fd)
        give(link, self.arguments, [self.control.fileno(), self.notify.fileno(), self.lock])
        link.setblocking(False)
        self.link, self.received, self.unsent = link, b"", b""
        self.ready, self.restart_at = False, None
        self.starts += 1
        self.started_at = time.monotonic()
        for end in self.exits.values():
            self.send({"exit": end})

    def serve(self) -> int:
        """Keep the system until its end; return our exit code."""
        code = self.reap()  # A daemon that was begun may have died before we listened.
        while code is None:
            ready = self.wait()
            if self.link in ready:
                self.receive()
            if self.store in ready:
                self.serve_store()
            if self.wakeup in ready:
                if signal.SIGTERM in os.read(self.wakeup, 4096):
                    self.send({"term": True})
                code = self.reap()
            if self.pidfd in ready:
                code = self.adopted_daemon_ended()
            if self.restart_at is not None and time.monotonic() >= self.restart_at:
                self.start_daemon()
        return code

    def wait(self) -> list[Any]:
        """Wait for something to happen; send what the link takes meanwhile."""
        wait = None
        if self.restart_at is not None:
            wait = max(0.0, self.restart_at - time.monotonic())
        sources: list[Any] = [self.wakeup, self.store]
        if self.link is not None:
            sources.append(self.link)
        if self.pidfd >= 0:
            sources.append(self.pidfd)
        full = [self.link] if self.link is not None and self.unsent else []
        ready, writable, _ = select.select(sources, full, [], wait)
        if writable:
            self.flush()
        return ready

    def serve_store(self) -> None:
        """Take, give or drop descriptors, for one who asks."""
        connection, _ = self.store.accept()
        with connection, contextlib.suppress(OSError, ValueError):
            connection.settimeout(STORE_TIMEOUT)
            data, fds, _, _ = socket.recv_fds(connection, 65536, 1)
            for fd in fds:
                os.set_inheritable(fd, False)
            connection.sendall(json.dumps(self.answer(json.loads(data), fds, connection)).encode())

    def answer(self, request: dict[str, Any], fds: list[int], connection: Any) -> dict[str, Any]:
        """Do what is asked of the store; return the last packet of the answer."""
        if "get" in request:
            for name, fd in self.stored.items():
                socket.send_fds(connection, [json.dumps({"name": name}).encode()], [fd])
            return {}
        name = str(request.get("put", request.get("drop")))
        if name in self.stored:
            os.close(self.stored.pop(name))
        if "put" in request and fds:
            if len(self.stored) >= STORE_SIZE:
                os.close(fds[0])
                return {"error": f"{STORE_SIZE} descriptors are held already"}
            self.stored[name] = fds[0]
        return {}

    def adopted_daemon_ended(self) -> int | None:
        """The daemon that was there before us has ended; nobody could tell us how."""
        os.close(self.pidfd)
        self.pidfd = -1
        self.drain_link()
        return self.daemon_ended("end unknown")

    def receive(self) -> None:
        """Take what the daemon says."""
        assert self.link is not None
        try:
            data = self.link.recv(65536)
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        if not data:
            # The daemon is dying; its exit follows and decides.
            self.link = None
            return
        *lines, self.received = (self.received + data).split(b"\n")
        for line in lines:
            message = json.loads(line)
            for number in message.get("ack", ()):
                self.exits.pop(number, None)
            self.farewell = self.farewell or "bye" in message
            self.ready = self.ready or "ready" in message
            self.ever_ready = self.ever_ready or self.ready

    def send(self, message: dict[str, Any]) -> None:
        """Tell the daemon; what it does not get now it gets again after its restart.

        Never waits: the daemon may itself be waiting for us to read.
        """
        if self.link is not None:
            self.unsent += json.dumps(message).encode() + b"\n"
            self.flush()

    def flush(self) -> None:
        """Send what the link takes now."""
        if self.link is None:
            return
        try:
            sent = self.link.send(self.unsent)
            self.unsent = self.unsent[sent:]
        except BlockingIOError:
            pass
        except OSError:
            self.link = None

    def reap(self) -> int | None:
        """Read the end of every child that has one; return our exit code when it is time."""
        code = None
        while True:
            try:
                info = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return code
            if info is None:
                return code
            if info.si_pid == self.daemon:
                self.drain_link()
                os.waitpid(info.si_pid, 0)
                exited = info.si_code == os.CLD_EXITED
                code = self.daemon_ended(f"{'exit' if exited else 'signal'} {info.si_status}")
                continue
            started = start_time(info.si_pid)
            os.waitpid(info.si_pid, 0)
            self.sequence += 1
            exited = info.si_code == os.CLD_EXITED
            end = {
                "seq": self.sequence,
                "pid": info.si_pid,
                "started": started,
                "code": info.si_status if exited else None,
                "signal": None if exited else info.si_status,
                "core": info.si_code == os.CLD_DUMPED,
            }
            self.exits[self.sequence] = end
            self.send({"exit": end})

    def drain_link(self) -> None:
        """Read the daemon's last words before its end is judged."""
        while self.link is not None and select.select([self.link], [], [], 0)[0]:
            self.receive()

    def daemon_ended(self, how: str) -> int | None:
        """Restart the daemon, or return our exit code when all is over."""
        self.link = None
        self.daemon = 0
        if self.farewell:
            return 0
        has_children = bool(children())
        if not self.ever_ready and not has_children and self.starts >= STARTS_WITHOUT_READY:
            log(f"the daemon cannot start ({how}, {self.starts} times); giving up")
            return 1
        lived = time.monotonic() - self.started_at
        self.quick_deaths = self.quick_deaths + 1 if lived < 10 else 0
        pause = 0.0 if self.quick_deaths <= 3 else min(30.0, 0.5 * 2 ** (self.quick_deaths - 4))
        log(f"the daemon ended ({how}); starting it again in {pause:g}s")
        self.restart_at = time.monotonic() + pause
        return None

    def close(self) -> None:
        """Remove what only a living system has."""
        for name in ("control.sock", "notify.sock", "store.sock", "system.json"):
            with contextlib.suppress(OSError):
                os.unlink(self.path(name))
        with contextlib.suppress(OSError):
            os.ftruncate(self.lock, 0)
        with contextlib.suppress(OSError):
            os.rmdir(self.runtime_dir)


def begin_daemon(argv: list[str], runtime_dir: str) -> tuple[int, int]:
    """Start the daemon's process; return its pid, and our end of the link.

    It loads, and waits on the other end for its system.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        number = theirs.fileno()
        os.set_inheritable(number, True)
        given = [*argv, str(number), runtime_dir]
        return os.posix_spawn(argv[0], given, os.environ, setsid=True), ours.detach()


def end_unused(daemon: int) -> None:
    """End a daemon that was begun for nothing; it has touched nothing."""
    os.kill(daemon, signal.SIGKILL)
    os.waitpid(daemon, 0)


def give(link: socket.socket, arguments: dict[str, Any], fds: list[int]) -> None:
    """Give a daemon its system, and greet it."""
    words = ("runtime_dir", "base_dir", "name", "topology", "code")
    given = {word: arguments[word] for word in words} | {"keeper": os.getpid()}
    hello = {"hello": {"pid": os.getpid()}}
    lines = b"".join(json.dumps(one).encode() + b"\n" for one in (given, hello))
    with contextlib.suppress(OSError):  # It is dead already, and `reap` sees how.
        socket.send_fds(link, [lines], [*fds, 2])


def receive_arguments(channel: socket.socket) -> tuple[dict[str, Any] | None, list[int]]:
    """Return what comes over the channel: one JSON line, None when it ends, and descriptors."""
    line, fds = b"", list[int]()
    while not line.endswith(b"\n"):
        data, more, _, _ = socket.recv_fds(channel, 65536, 8)
        if not data:
            return None, fds
        line, fds = line + data, fds + list(more)
    for fd in fds:
        os.set_inheritable(fd, False)
    return json.loads(line), fds


def claim(arguments: dict[str, Any]) -> list[int]:
    """Make what a system has; return the control and notify sockets, the lock and the store.

    Raises:
        Refused: It cannot be made, or another keeper has it.
    """
    runtime_dir = arguments["runtime_dir"]
    make_runtime_dir(runtime_dir)
    lock = take_lock(os.path.join(arguments["base_dir"], "orch.lock"))
    try:
        write_note(lock, arguments)
    except OSError as error:
        where = os.path.join(arguments["base_dir"], "orch.lock")
        why = str(error.strerror).lower()
        raise Refused("directory", f"cannot write the lock {where!r}: {why}") from error
    control = bind_stream(os.path.join(runtime_dir, "control.sock"))
    notify = bind_datagram(os.path.join(runtime_dir, "notify.sock"))
    introduce(arguments)
    store = bind_store(arguments)
    return [control.detach(), notify.detach(), lock, store.detach()]


def introduce(arguments: dict[str, Any]) -> None:
    """Write down whose system it is, for whoever finds us and the daemon both killed."""
    known = {word: arguments[word] for word in ("base_dir", "name", "topology")}
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    fd = os.open(os.path.join(arguments["runtime_dir"], "system.json"), flags, 0o600)
    with open(fd, "w", encoding="utf-8") as file:
        json.dump(known, file)


def make_runtime_dir(path: str) -> None:
    """Make the private directory of the sockets, or check that it is private."""
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)
        status = os.stat(path)
    except OSError as error:
        raise Refused(
            "directory", f"cannot use the runtime directory {path!r}: {error.strerror}"
        ) from error
    if status.st_uid != os.geteuid():
        raise Refused(
            "directory",
            f"cannot use the runtime directory {path!r}: it belongs to uid {status.st_uid}",
        )
    if status.st_mode & 0o077:
        os.chmod(path, 0o700)


def take_lock(path: str) -> int:
    """Lock the base directory for this system, for as long as we or the daemon live."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Refused("directory", f"cannot open the lock {path!r}: {error.strerror}") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        pid = os.pread(fd, 32, 0).split(b"\n")[0].decode(errors="replace")
        os.close(fd)
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            raise Refused("directory", f"cannot lock {path!r}: {error.strerror}") from error
        where = os.path.dirname(path)
        message = (
            f"another daemon (pid {pid or 'unknown'}) already runs the system in {where!r}; "
            "give another topology a base_dir of its own"
        )
        raise Refused("locked", message, pid=pid if pid.isdecimal() else "0") from error
    return fd


def write_note(lock: int, arguments: dict[str, Any]) -> None:
    """Write into a lock: our pid, our directory, the topology, and which file this is.

    Who looks with another runtime directory, or after the folder was moved, finds us by it.
    """
    os.ftruncate(lock, 0)
    own = str(os.fstat(lock).st_ino)
    lines = (str(os.getpid()), arguments["runtime_dir"], arguments["topology"], own, "")
    os.pwrite(lock, os.fsencode("\n".join(lines)), 0)


def bind_stream(path: str) -> socket.socket:
    """Listen on the control socket; only its owner may connect."""
    bound = bind(path, socket.SOCK_STREAM)
    bound.listen(1024)
    return bound


def bind_datagram(path: str) -> socket.socket:
    """Bind the notify socket; senders are told apart by the credentials the kernel adds."""
    bound = bind(path, socket.SOCK_DGRAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    return bound


def bind_store(arguments: dict[str, Any]) -> socket.socket:
    """Listen on the socket of the store."""
    bound = bind(os.path.join(arguments["runtime_dir"], "store.sock"), socket.SOCK_SEQPACKET)
    bound.listen(16)
    return bound


def bind(path: str, kind: int) -> socket.socket:
    """Bind a unix socket with mode 0600, in place of one that nobody serves any more."""
    if len(os.fsencode(path)) > SUN_PATH:
        raise Refused(
            "directory",
            f"cannot bind {path!r}: longer than {SUN_PATH} bytes; "
            "set XDG_RUNTIME_DIR to a shorter directory",
        )
    with socket.socket(socket.AF_UNIX, kind) as probe:
        if probe.connect_ex(path) == 0:
            raise Refused("locked", f"another daemon already serves {path!r}", pid="0")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    bound = socket.socket(socket.AF_UNIX, kind | socket.SOCK_CLOEXEC)
    before = os.umask(0o177)
    try:
        bound.bind(path)
    except OSError as error:
        raise Refused("directory", f"cannot bind {path!r}: {error.strerror}") from error
    finally:
        os.umask(before)
    return bound


def become_subreaper() -> None:
    """Get the orphans of all our descendants as children, prctl(2)."""
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)


def start_time(pid: int) -> int:
    """Return the start time of a child, a zombie or not, in clock ticks since boot."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        data = file.read()
    return int(data[data.rindex(b")") + 2 :].split()[19])


def children() -> list[int]:
    """Return our children."""
    with (
        contextlib.suppress(OSError),
        open(f"/proc/self/task/{os.getpid()}/children", "rb") as file,
    ):
        return [int(pid) for pid in file.read().split()]
    return []


def log(message: str) -> None:
    """Write a line to the system's log, which is our stderr."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    with contextlib.suppress(OSError):  # A full disk must not end what looks after everybody.
        os.write(2, f"{stamp} keeper[{os.getpid()}] {message}\n".encode())


def tell(channel: socket.socket, answer: dict[str, Any]) -> None:
    """Answer whoever started us; one that went away does not hear it, and we go on."""
    with contextlib.suppress(OSError):
        channel.sendall(json.dumps(answer).encode() + b"\n")


def use_log(fd: int) -> None:
    """Let what we say go to the system's log."""
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    os.close(fd)


def begin(channel: socket.socket, daemon: tuple[int, int], argv: list[str]) -> int:
    """Take a system for a daemon that was begun, then become its keeper.

    It must be in a process of its own, the daemon's parent. Returns an exit code when there
    is no system to keep.
    """
    pid, link = daemon
    signal.pthread_sigmask(signal.SIG_BLOCK, TAKEN)
    become_subreaper()
    arguments, fds = receive_arguments(channel)
    if arguments is None:
        end_unused(pid)
        return 0
    use_log(*fds)
    try:
        held = claim(arguments)
    except (Refused, OSError) as problem:
        end_unused(pid)
        with contextlib.suppress(OSError):
            os.rmdir(arguments["runtime_dir"])  # Unless somebody else's sockets lie there.
        message = f"cannot start the keeper: {problem}"
        failed = {"error": "failed", "message": message}
        tell(channel, problem.answer if isinstance(problem, Refused) else failed)
        return 1
    with socket.socket(fileno=link) as ours:
        give(ours, arguments, held[:3])
        ours.detach()
    tell(channel, {"pid": os.getpid()})
    channel.close()
    await_calm(pid, held[3])
    try:
        become_interpreter(arguments, daemon, argv, held)
    except OSError as problem:
        log(f"staying what it was copied from: {problem}")
        os.set_inheritable(link, False)
    return keep(Keeper(arguments, argv, held, daemon))


def become_interpreter(
    arguments: dict[str, Any], daemon: tuple[int, int], argv: list[str], held: list[int]
) -> NoReturn:
    """Become an interpreter of our own, which finds all of it on a channel.

    Raises:
        OSError: There is none to become.
    """
    pid, link = daemon
    near, far = socket.socketpair()
    with near, far:
        socket.send_fds(near, [json.dumps(arguments).encode() + b"\n"], [2, *held])
        for fd in (far.fileno(), link):
            os.set_inheritable(fd, True)
        numbers = (str(far.fileno()), str(pid), str(link))
        ours = [sys.executable, "-I", "-S", __file__, *numbers, arguments["runtime_dir"], *argv]
        os.execv(ours[0], ours)  # noqa: S606


def await_calm(daemon: int, store: int) -> None:
    """Wait until everything has started, or the daemon has died or wants something stored."""
    try:
        pidfd = os.pidfd_open(daemon)
    except OSError:
        return  # Out of descriptors; it is seen otherwise.
    poll = select.poll()
    for fd in (pidfd, store):
        poll.register(fd, select.POLLIN)
    poll.poll(CALM * 1000)
    os.close(pidfd)


def main() -> int:
    """Keep a system."""
    channel_fd, pid, link, _runtime_dir, *argv = sys.argv[1:]
    begun = (int(pid), int(link)) if int(pid) else None
    if begun is None and os.fork():
        os._exit(0)  # Whoever started us waits for this one only.
    channel = socket.socket(fileno=int(channel_fd))
    for fd in (channel.fileno(), *(begun or ())[1:]):
        os.set_inheritable(fd, False)
    arguments, fds = receive_arguments(channel)
    if arguments is None:
        return 0
    log, *held = fds
    use_log(log)
    try:
        keeper = Keeper(arguments, argv, held, begun)
    except (Refused, OSError) as problem:
        tell(channel, {"error": "failed", "message": f"cannot start the keeper: {problem}"})
        return 1
    tell(channel, {"pid": os.getpid()})
    channel.close()
    return keep(keeper)


def keep(keeper: Keeper) -> int:
    """Keep a system until its end; return our exit code."""
    try:
        return keeper.serve()
    finally:
        keeper.close()


if __name__ == "__main__":
    sys.exit(main())
