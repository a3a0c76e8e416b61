"""What a program's process is given before the program begins, and what cannot be had."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pwd
import resource
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from orchestrator import machine
from orchestrator import process as processes
from orchestrator.errors import SpawnError
from orchestrator.model.phase import Exit
from orchestrator.process import Order, Setup
from tests.integration.processes.system import eventually

MAY_RAISE = 24 in machine._capabilities()
NICE = os.nice(0) + 1  # only root may be less nice than it is

TELL = """
import json, os, resource, signal
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines()
              if ":\\t" in line)
mask = os.umask(0)
print(json.dumps({
    "uid": os.getuid(), "gid": os.getgid(), "groups": os.getgroups(),
    "nice": os.nice(0), "umask": mask, "nnp": status["NoNewPrivs"].strip(),
    "nofile": resource.getrlimit(resource.RLIMIT_NOFILE),
    "core": resource.getrlimit(resource.RLIMIT_CORE),
    "oom": int(open("/proc/self/oom_score_adj").read()),
    "fds": sorted(int(n) for n in os.listdir("/proc/self/fd")),
    "sid": os.getsid(0) == os.getpid(), "cwd": os.getcwd(), "ppid": os.getppid(),
    "blocked": status["SigBlk"].strip(), "ignored": status["SigIgn"].strip(),
    "argv0": open("/proc/self/cmdline").read().split("\\0")[0],
    "environment": dict(os.environ),
}), flush=True)
"""


NOTHING = Setup()


class Runner:
    """Runs programs to their end, and reads what they said."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.count = 0

    def run(self, code: str, setup: Setup = NOTHING, **fields: Any) -> tuple[Exit, str]:
        self.count += 1
        log = self.directory / f"{self.count}.out"
        order = Order(
            (sys.executable, "-I", "-S", "-c", code),
            fields.pop("environment", {}),
            fields.pop("working_dir", str(self.directory)),
            stdout=str(log),
            setup=setup,
            **fields,
        )
        return self.start(order), log.read_text()

    def tell(self, setup: Setup = NOTHING, **fields: Any) -> dict[str, Any]:
        end, text = self.run(TELL, setup, **fields)
        assert end == Exit(code=0), text
        told: dict[str, Any] = json.loads(text)
        return told

    def start(self, order: Order) -> Exit:
        """Run a program; a set-up that fails is raised."""
        child = processes.spawn(order)
        pidfd = os.pidfd_open(child.process.pid)
        try:
            if child.errors is not None:
                failure = processes.setup_failure(child.errors, order)
                if failure is not None:
                    eventually(lambda: processes.peek_exit(pidfd))
                    raise failure
            end: Exit = eventually(lambda: processes.peek_exit(pidfd))
            return end
        finally:
            processes.reap(pidfd)
            os.close(pidfd)


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runner:
    """A runner in a process as the daemon's is: everything close-on-exec, any directory."""
    monkeypatch.chdir(tmp_path)
    for entry in os.listdir("/proc/self/fd"):  # noqa: PTH208 - names are enough
        if int(entry) > 2:
            with contextlib.suppress(OSError):
                os.set_inheritable(int(entry), False)
    return Runner(tmp_path)


# ------------------------------------------------------------------ plain


@pytest.mark.parametrize(
    "setup", [Setup(), Setup(no_new_privileges=True)], ids=["exec", "launcher"]
)
def test_a_program_has_three_descriptors_a_session_and_clean_signals(
    runner: Runner, setup: Setup
) -> None:
    told = runner.tell(setup)
    # The fourth is the directory that is being listed.
    assert told["fds"] == [0, 1, 2, 3]
    assert told["sid"] is True
    assert told["ppid"] == os.getpid()
    assert int(told["blocked"], 16) == 0


@pytest.mark.parametrize("setup", [Setup(), Setup(nice=NICE)], ids=["exec", "launcher"])
def test_a_program_that_is_no_python_ignores_no_signal(runner: Runner, setup: Setup) -> None:
    """Not even those that nohup, or a shell's `&`, made us ignore."""
    log = runner.directory / "sh.out"
    code = "while read -r line; do echo $line; done < /proc/self/status"
    order = Order(("/bin/sh", "-c", code), {}, "", stdout=str(log), setup=setup)
    numbers = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        assert runner.start(order) == Exit(code=0)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    (line,) = [x for x in log.read_text().splitlines() if x.startswith("SigIgn")]
    # 32 and 33 are the C library's own, which its posix_spawn ignores in each child.
    assert int(line.split()[1], 16) & ~(3 << 31) == 0


@pytest.mark.parametrize("setup", [Setup(), Setup(nice=NICE)], ids=["exec", "launcher"])
def test_the_environment_is_exactly_what_is_declared(
    runner: Runner, setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORCH_TEST_LEAK", "1")
    declared = {"A": "1", "EMPTY": "", "SPACE": "a b\nc", "LC_ALL": "C.UTF-8"}
    assert runner.tell(setup, environment=declared)["environment"] == declared


@pytest.mark.parametrize("setup", [Setup(), Setup(nice=NICE)], ids=["exec", "launcher"])
def test_a_program_is_found_in_the_path_that_it_is_given(
    runner: Runner, setup: Setup, tmp_path: Path
) -> None:
    script = tmp_path / "greet"
    script.write_text("#!/bin/sh\nexit 9\n")
    script.chmod(0o755)
    order = Order(("greet",), {"PATH": str(tmp_path)}, "", setup=setup)
    assert runner.start(order) == Exit(code=9)
    with pytest.raises(SpawnError, match="not found in PATH"):
        runner.start(Order(("greet",), {"PATH": "/usr/bin:/bin"}, "", setup=setup))


@pytest.mark.parametrize("setup", [Setup(), Setup(nice=NICE)], ids=["exec", "launcher"])
def test_umask_and_directory(runner: Runner, setup: Setup, tmp_path: Path) -> None:
    inside = tmp_path / "in side"
    inside.mkdir()
    told = runner.tell(setup, umask=0o027, working_dir=str(inside))
    assert told["umask"] == 0o027
    assert told["cwd"] == str(inside)


def test_output_is_appended_and_the_file_is_private(runner: Runner, tmp_path: Path) -> None:
    log = tmp_path / "log.out"
    for word in ("one", "two"):
        order = Order(("/bin/echo", word), {}, "", stdout=str(log))
        runner.start(order)
    assert log.read_text() == "one\ntwo\n"
    assert log.stat().st_mode & 0o777 & 0o027 == 0


# ------------------------------------------------------------------ set-up


@pytest.mark.parametrize("setup", [Setup(), Setup(nice=NICE)], ids=["exec", "launcher"])
def test_a_limit_that_we_raised_for_ourselves_is_not_passed_on(
    runner: Runner, setup: Setup
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        processes.raise_open_files(1000)
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (1000, hard)
        # Descriptors beyond the child's limit, among them those of the launcher.
        opened = [os.open("/dev/null", os.O_RDONLY) for _ in range(300)]
        told = runner.tell(setup)
        for fd in opened:
            os.close(fd)
        assert told["nofile"] == [256, hard]
        assert told["fds"] == [0, 1, 2, 3]
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (1000, hard)
        assert processes.restore_open_files() == 1000
        assert processes.restore_open_files() is None
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (256, hard)
    finally:
        processes.restore_open_files()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_nice_limits_and_oom_score(runner: Runner) -> None:
    setup = Setup(nice=NICE, oom_score_adj=500, rlimits={"nofile": (64, 128), "core": (0, 0)})
    told = runner.tell(setup)
    assert told["nice"] == NICE
    assert told["oom"] == 500
    assert told["nofile"] == [64, 128]
    assert told["core"] == [0, 0]


def test_a_limit_can_be_unlimited(runner: Runner) -> None:
    if resource.getrlimit(resource.RLIMIT_CORE)[1] != resource.RLIM_INFINITY:
        pytest.skip("the hard limit here is not unlimited")
    told = runner.tell(Setup(rlimits={"core": (-1, -1)}))
    assert told["core"] == [-1, -1]


def test_no_new_privileges(runner: Runner) -> None:
    assert runner.tell(Setup(no_new_privileges=True))["nnp"] == "1"
    assert runner.tell(Setup(nice=NICE))["nnp"] == "0"


@pytest.mark.root
def test_a_user_brings_its_groups_and_cannot_come_back(runner: Runner) -> None:
    runner.directory.chmod(0o755)
    log = runner.directory / "id.out"
    code = "id -u; id -g; id -G; cat /proc/self/status | grep -E '^[UG]id'"
    environment = {"PATH": os.environ["PATH"]}
    order = Order(
        ("/bin/sh", "-c", code), environment, "/", stdout=str(log), setup=Setup(user="nobody")
    )
    assert runner.start(order) == Exit(code=0)
    entry = pwd.getpwnam("nobody")
    uid, gid, _, *status = log.read_text().splitlines()
    assert (int(uid), int(gid)) == (entry.pw_uid, entry.pw_gid)
    # Real, effective, saved and file system ids: all of them.
    for line in status:
        assert len(set(line.split()[1:])) == 1
        assert line.split()[1] != "0"


@pytest.mark.root
def test_a_user_need_not_be_able_to_read_our_library(runner: Runner) -> None:
    """A program is looked for, and privileges are given up, by what was loaded before.

    It can only fail where the interpreter is in a folder that is closed to others.
    """
    log = runner.directory / "id.out"
    setup = Setup(user="nobody", no_new_privileges=True)
    order = Order(
        ("sh", "-c", "id -un"), {"PATH": "/usr/bin:/bin"}, "/", stdout=str(log), setup=setup
    )
    assert runner.start(order) == Exit(code=0)
    assert log.read_text() == "nobody\n"


@pytest.mark.root
@pytest.mark.parametrize("word", ["65534", "nobody"])
def test_a_user_is_a_name_or_a_number(runner: Runner, word: str) -> None:
    log = runner.directory / "id.out"
    order = Order(
        ("/bin/sh", "-c", "id -u"),
        {"PATH": os.environ["PATH"]},
        "/",
        stdout=str(log),
        setup=Setup(user=word),
    )
    assert runner.start(order) == Exit(code=0)
    assert int(log.read_text()) > 0


@pytest.mark.root
def test_a_group_alone_drops_the_others(runner: Runner) -> None:
    """Only the group asked for: root's supplementary groups are not the program's."""
    log = runner.directory / "id.out"
    order = Order(
        ("/bin/sh", "-c", "id -u; id -g"),
        {"PATH": os.environ["PATH"]},
        "/",
        stdout=str(log),
        setup=Setup(group="12345"),
    )
    assert runner.start(order) == Exit(code=0)
    assert log.read_text().split() == ["0", "12345"]


def test_descriptors_come_at_the_numbers_asked_for(runner: Runner) -> None:
    """Also when the numbers cross each other and the launcher's own pipe."""
    code = "import os, sys\nfor n in (3, 4, 5, 9): os.write(n, b'%d' % n)\n"
    pipes = {number: os.pipe() for number in (3, 4, 5, 9)}
    try:
        setup = Setup(fds={number: writing for number, (_, writing) in pipes.items()})
        end, text = runner.run(code, setup)
        assert end == Exit(code=0), text
        for number, (reading, _) in pipes.items():
            assert os.read(reading, 10) == str(number).encode()
    finally:
        for pair in pipes.values():
            for fd in pair:
                os.close(fd)


def test_the_descriptor_that_is_passed_is_the_only_other_one(runner: Runner) -> None:
    reading, writing = os.pipe()
    try:
        told = runner.tell(Setup(fds={7: writing}))
    finally:
        os.close(reading)
        os.close(writing)
    assert told["fds"] == [0, 1, 2, 3, 7]


# ------------------------------------------------------------------ what cannot be had


@pytest.mark.parametrize(
    ("setup", "message"),
    [
        (Setup(user="no-such-user"), "cannot become user no-such-user, group its own: "),
        (Setup(group="no-such-group"), "cannot become user unchanged, group no-such-group: "),
        (Setup(rlimits={"nofile": (10, 5)}), "cannot set the limit nofile=10:5: "),
        pytest.param(
            Setup(rlimits={"nofile": (1 << 40, 1 << 40)}),
            f"cannot set the limit nofile={1 << 40}:{1 << 40}: the hard limit is ",
            marks=pytest.mark.skipif(MAY_RAISE, reason="this user may raise hard limits"),
        ),
        (Setup(oom_score_adj=2000), "cannot set oom_score_adj 2000: "),
    ],
)
def test_what_is_asked_and_cannot_be_had_is_an_error(
    runner: Runner, setup: Setup, message: str
) -> None:
    with pytest.raises(SpawnError) as caught:
        runner.run("raise SystemExit(0)", setup)
    assert str(caught.value).startswith(message)


@pytest.mark.root
def test_a_limit_above_the_hard_one_is_an_error_for_who_may_not(runner: Runner) -> None:
    setup = Setup(user="nobody", nice=-5)
    # nice is set before the user changes: root may, and what was asked is there.
    log = runner.directory / "nice.out"
    order = Order(
        ("/bin/sh", "-c", "nice"),
        {"PATH": os.environ["PATH"]},
        "/",
        stdout=str(log),
        setup=setup,
    )
    assert runner.start(order) == Exit(code=0)
    assert log.read_text().strip() == "-5"


@pytest.mark.parametrize("setup", [Setup(), Setup(nice=NICE)], ids=["exec", "launcher"])
@pytest.mark.parametrize(
    ("kind", "number", "words"),
    [
        ("missing", errno.ENOENT, "No such file or directory"),
        ("not executable", errno.EACCES, "chmod +x"),
        ("no interpreter", errno.ENOENT, "interpreter"),
        ("no format", errno.ENOEXEC, "#!"),
        ("a directory", errno.EACCES, "Permission denied"),
    ],
)
def test_a_program_that_cannot_be_executed_says_why(
    runner: Runner, kind: str, number: int, words: str, setup: Setup
) -> None:
    tmp_path = runner.directory
    program = tmp_path / "program"
    if kind == "not executable":
        program.write_text("#!/bin/sh\n")
    elif kind == "no interpreter":
        program.write_text("#!/nowhere/interpreter\n")
        program.chmod(0o755)
    elif kind == "no format":
        program.write_text("echo\n")
        program.chmod(0o755)
    elif kind == "a directory":
        program.mkdir()
    with pytest.raises(SpawnError) as caught:
        runner.start(Order((str(program),), {}, str(tmp_path), setup=setup))
    assert caught.value.errno == number
    assert caught.value.stage == f"execute {str(program)!r}"
    assert words in str(caught.value)
    assert not caught.value.transient


@pytest.mark.parametrize("setup", [Setup(), Setup(nice=NICE)], ids=["exec", "launcher"])
def test_a_directory_that_is_missing_is_named(runner: Runner, setup: Setup) -> None:
    with pytest.raises(SpawnError, match="cannot enter the directory '/nowhere/else'") as caught:
        runner.start(Order(("/bin/true",), {}, "/nowhere/else", setup=setup))
    assert caught.value.errno == errno.ENOENT


def test_a_log_that_cannot_be_opened_is_named(runner: Runner, tmp_path: Path) -> None:
    with pytest.raises(SpawnError, match="cannot open the log file"):
        runner.start(Order(("/bin/true",), {}, "", stdout=str(tmp_path)))


def test_a_log_that_is_a_link_is_refused(runner: Runner, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("mine")
    link = tmp_path / "log.out"
    link.symlink_to(target)
    with pytest.raises(SpawnError):
        runner.start(Order(("/bin/echo", "x"), {}, "", stdout=str(link)))
    assert target.read_text() == "mine"


@pytest.mark.parametrize("setup", [Setup(), Setup(nice=NICE)], ids=["exec", "launcher"])
@pytest.mark.parametrize(
    "order",
    [
        Order(("/bin/echo", "a\0b"), {}, ""),
        Order(("/bin/true",), {"A=B": "1"}, ""),
        Order(("/bin/true",), {"A": "\0"}, ""),
    ],
    ids=["NUL in a word", "= in a name", "NUL in a value"],
)
def test_words_that_the_kernel_cannot_take_are_an_error(
    runner: Runner, order: Order, setup: Setup
) -> None:
    order = Order(order.argv, order.environment, "", setup=setup)
    with pytest.raises(SpawnError):
        runner.start(order)


@pytest.mark.parametrize("setup", [Setup(), Setup(nice=NICE)], ids=["exec", "launcher"])
def test_no_descriptors_left_is_transient(runner: Runner, setup: Setup) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(list(Path("/proc/self/fd").iterdir()))
    log, opened = str(runner.directory / "log.out"), list[int]()
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 16, hard))
    try:
        while True:
            try:
                opened.append(os.open("/dev/null", os.O_RDONLY))
            except OSError:
                break
        with pytest.raises(SpawnError) as caught:
            processes.spawn(Order(("/bin/true",), {}, "", stdout=log, setup=setup))
    finally:
        for fd in opened:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert caught.value.transient


def test_nothing_is_left_of_what_could_not_be_started(runner: Runner) -> None:
    def fail() -> None:
        for setup in (Setup(), Setup(nice=NICE), Setup(user="no-such-user")):
            with pytest.raises(SpawnError):
                runner.start(Order(("/nowhere/program",), {}, "", stdout="/dev/null", setup=setup))

    fail()  # The first start of a process opens /dev/null for all to come.
    before = set(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names are enough
    fail()
    assert set(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
    assert processes.children(os.getpid()) == ()


def test_a_core_dump_is_told_from_a_signal(runner: Runner) -> None:
    end, _ = runner.run("import os, signal; os.kill(os.getpid(), signal.SIGABRT)")
    assert end.signal == signal.SIGABRT
    end, _ = runner.run(
        "import os, signal; os.kill(os.getpid(), signal.SIGABRT)", Setup(rlimits={"core": (0, 0)})
    )
    assert end == Exit(signal=signal.SIGABRT)
