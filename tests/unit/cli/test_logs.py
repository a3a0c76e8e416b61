"""orch logs: whose, how many, how; followed across restarts and the daemon's death."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator.cli import follow as follow_module
from orchestrator.daemon.logindex import Index
from orchestrator.errors import OrchestratorError
from orchestrator.inotify import Notices
from orchestrator.wire.loglayout import Sample
from tests.unit.cli.conftest import Orch
from tests.unit.cli.fake import STOPPED, FakeDaemon, eventually

ROOT = Path(__file__).parents[3]
LAST = b"web.web  | line 200\nweb.web  | oops\n"


@pytest.fixture
def logging_dir(world: Path) -> Path:
    directory = world / ".orch" / "logging"
    directory.mkdir(parents=True)
    return directory


@pytest.fixture
def web(daemon: FakeDaemon, logging_dir: Path) -> Path:
    """Give the daemon an instance with logs; return the file of its standard output."""
    out, err = logging_dir / "web-web.out", logging_dir / "web-web.err"
    out.write_text("".join(f"line {number}\n" for number in range(1, 201)))
    err.write_text("oops\n")
    daemon.add("web.web", stdout=str(out), stderr=str(err))
    return out


class Following:
    """A running `orch logs -f` whose output can be looked at."""

    def __init__(self, world: Path, *argv: str) -> None:
        self.out = world / "followed"
        with self.out.open("wb") as out, (world / "errors").open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "orchestrator", "logs", *argv],
                env={"PYTHONPATH": str(ROOT), "XDG_RUNTIME_DIR": str(world / "run")},
                cwd=world, stdout=out, stderr=err, stdin=subprocess.DEVNULL,
            )  # fmt: skip

    def until(self, text: bytes) -> None:
        """Wait until exactly `text` is shown."""
        eventually(lambda: self.out.read_bytes() == text)

    def is_watching(self) -> bool:
        """Tell whether it has a watch, so that what happens now is news to it."""
        infos = Path(f"/proc/{self.process.pid}/fdinfo").iterdir()
        for info in infos:
            with contextlib.suppress(FileNotFoundError):
                if "inotify wd" in info.read_text():
                    return True
        return False

    def end(self) -> int:
        """Press Ctrl-C; return the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(10)


Follow = Callable[..., Following]


@pytest.fixture
def follow(world: Path) -> Iterator[Follow]:
    """Return a function that starts `orch logs -f …`."""
    started: list[Following] = []

    def start(*argv: str) -> Following:
        started.append(Following(world, "-f", *argv))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.wait(10)


@pytest.mark.usefixtures("web")
def test_the_last_hundred_lines_of_each_are_shown(
    orch: Orch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert orch("logs") == 0
    lines = capfdbinary.readouterr().out.decode().splitlines()
    assert lines[0] == "web.web  | line 101"
    assert lines[-2:] == ["web.web  | line 200", "web.web  | oops"]
    assert len(lines) == 101


@pytest.mark.usefixtures("web")
def test_how_many_and_which_can_be_chosen(
    orch: Orch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert orch("logs", "-n", "1", "web") == 0
    assert capfdbinary.readouterr().out == b"web.web  | line 200\nweb.web  | oops\n"
    assert orch("logs", "--stderr", "web") == 0
    assert capfdbinary.readouterr().out == b"web.web  | oops\n"
    assert orch("logs", "-n", "2", "--grep", "line .*9$", "web") == 0
    assert capfdbinary.readouterr().out == b"web.web  | line 189\nweb.web  | line 199\n"


def test_without_prefix_the_bytes_are_those_of_the_files(
    orch: Orch, web: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    web.write_bytes(b"\xff\x00\r\nno end")
    os.utime(web, (1, 1))
    assert orch("logs", "--no-prefix", "-n", "all", "web") == 0
    assert capfdbinary.readouterr().out == b"\xff\x00\r\nno endoops\n"


@pytest.mark.usefixtures("web")
def test_as_json_each_line_is_an_object(
    orch: Orch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert orch("logs", "--json", "-n", "1") == 0
    found = [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()]
    assert [one.pop("time")[-1] for one in found] == ["Z", "Z"]
    assert found == [
        {"name": "web.web", "stream": "stdout", "line": "line 200"},
        {"name": "web.web", "stream": "stderr", "line": "oops"},
    ]


def test_several_files_are_merged_in_the_order_of_time(
    orch: Orch,
    web: Path,
    daemon: FakeDaemon,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    other = web.with_name("db-db.out")
    daemon.add("db.db", stdout=str(other))
    for path, parts in ((web, (1, 3)), (other, (2, 4))):
        path.write_bytes(b"")
        for second in parts:
            with path.open("ab") as file:
                file.write(b"second %d\n" % second)
            Index(path).add(Sample(path.stat().st_size, float(second)))
        os.utime(path, (9, 9))
    os.utime(web.with_name("web-web.err"), (5, 5))
    assert orch("logs", "-t") == 0
    assert capfdbinary.readouterr().out.decode().splitlines() == [
        "web.web  | 1970-01-01T00:00:01.000Z second 1",
        "db.db    | 1970-01-01T00:00:02.000Z second 2",
        "web.web  | 1970-01-01T00:00:03.000Z second 3",
        "db.db    | 1970-01-01T00:00:04.000Z second 4",
        "web.web  | 1970-01-01T00:00:05.000Z oops",
    ]
    window = ("--since", "1970-01-01T00:00:02Z", "--until", "1970-01-01T00:00:03Z")
    assert orch("logs", *window) == 0
    assert capfdbinary.readouterr().out == b"db.db    | second 2\nweb.web  | second 3\n"
    assert orch("logs", "--no-prefix", *window, "web") == 0
    assert capfdbinary.readouterr().out == b"second 3\n"
    assert orch("logs", "--since", "1970-01-01T00:00:03.5Z", "-n", "1", "db", "web") == 0
    assert capfdbinary.readouterr().out == b"db.db    | second 4\nweb.web  | oops\n"


@pytest.mark.usefixtures("web")
def test_since_shows_all_that_is_so_new_unless_a_count_limits_it(
    orch: Orch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert orch("logs", "--since", "10m") == 0
    assert capfdbinary.readouterr().out.count(b"\n") == 201
    assert orch("logs", "--since", "10m", "-n", "3") == 0
    assert capfdbinary.readouterr().out.count(b"\n") == 4
    assert orch("logs", "--until", "10m") == 0
    assert capfdbinary.readouterr().out == b""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--since", "soon"], "cannot use 'soon' for --since: write how long ago"),
        (["--until", "25:00"], "cannot use '25:00' for --until"),
        (["-f", "--until", "1m"], "cannot use --until with --follow"),
    ],
)
def test_times_that_mean_nothing_are_refused(
    orch: Orch, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert orch("logs", *words) == 2
    assert said in capsys.readouterr().err


def test_what_cannot_be_read_is_said_beside_what_can(
    orch: Orch, web: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    web.unlink()
    web.mkdir()
    assert orch("logs") == 1
    shown = capfdbinary.readouterr()
    assert shown.out == b"web.web  | oops\n"
    assert shown.err.decode() == f"orch: cannot read {web}: it is no regular file\n"


def test_without_watches_what_is_there_is_shown_but_not_followed(
    orch: Orch,
    web: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def none_left() -> Notices:
        raise OrchestratorError("cannot watch log files: Too many open files")

    web.write_text("here\n")
    os.utime(web.with_name("web-web.err"), (1, 1))
    monkeypatch.setattr(follow_module, "Notices", none_left)
    assert orch("logs", "--no-prefix") == 0
    assert capfd.readouterr().out == "oops\nhere\n"
    assert orch("logs", "-f") == 1
    assert "cannot watch log files" in capfd.readouterr().err


def test_a_five_megabyte_line_is_shown_in_marked_pieces(
    orch: Orch, web: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    web.write_bytes("€".encode() * 1_700_000 + b"\r\n\0nul \xff\n")
    os.utime(web, (1, 1))
    assert orch("logs") == 0
    first, *rest, nul, oops = capfdbinary.readouterr().out.split(b"\n")[:-1]
    assert first.startswith("web.web  | €".encode())
    assert all(piece.startswith("web.web  |+ €".encode()) for piece in rest)
    pieces = [first.removeprefix(b"web.web  | "), *(p.removeprefix(b"web.web  |+ ") for p in rest)]
    assert b"".join(pieces) == "€".encode() * 1_700_000 + b"\r"
    assert [p.decode() for p in pieces]
    assert len(pieces) == 5
    assert (nul, oops) == (b"web.web  | \0nul \xff", b"web.web  | oops")


def test_a_directory_that_comes_later_is_followed_without_a_daemon(
    world: Path, follow: Follow
) -> None:
    base = world / ".orch"
    base.mkdir()
    lock = {"lock": {"name": "world", "components": {"a.b": {"service": "a", "component": "b"}}}}
    (base / "topology.lock.json").write_text(json.dumps(lock))
    following = follow()
    eventually(following.is_watching)
    (base / "logging").mkdir()
    (base / "logging" / "a-b.out").write_text("here\n")
    following.until(b"a.b  | here\n")
    assert following.end() == 130


@pytest.mark.usefixtures("web")
def test_an_unknown_name_shows_nothing(orch: Orch, capsys: pytest.CaptureFixture[str]) -> None:
    assert orch("logs", "wbe") == 1
    assert "did you mean 'web" in capsys.readouterr().err


def test_without_a_daemon_the_files_are_found_by_the_lock(
    orch: Orch,
    logging_dir: Path,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    (logging_dir / "web-api@2.out").write_text("second\n")
    (logging_dir / "web-api.out").write_text("first\n")
    os.utime(logging_dir / "web-api.out", (1, 1))
    components = {
        "web.api@1": {"service": "web", "component": "api"},
        "web.api@2": {"service": "web", "component": "api", "instance": 2},
    }
    lock = logging_dir.parent / "topology.lock.json"
    lock.write_text(
        json.dumps({"digest": "", "lock": {"name": "world", "components": components}})
    )
    assert orch("logs") == 0
    assert capfdbinary.readouterr().out == b"web.api@1  | first\nweb.api@2  | second\n"
    assert orch("logs", "web.api@2", "--no-prefix") == 0
    assert capfdbinary.readouterr().out == b"second\n"
    assert orch("logs", "wbe") == 1


def test_without_anything_the_error_says_how_to_start(
    orch: Orch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert orch("logs") == 1
    assert "cannot find the logs of" in capsys.readouterr().err


def test_followed_logs_go_on_across_restarts(
    daemon: FakeDaemon, web: Path, follow: Follow
) -> None:
    following = follow("-n", "1", "web")
    shown = LAST
    following.until(shown)
    daemon.until_watched()  # What changes before that is told in the answer, not as an event.
    with web.open("ab") as log:
        log.write(b"an unfinished ")
        log.flush()
        daemon.change("web.web", phase="backoff", ready=False, pid=None)
        shown += b"web.web  | an unfinished \n"
        following.until(shown)
        daemon.change("web.web", phase="running", ready=True, pid=101, generation=2)
        log.write(b"second life\n")
        log.flush()
    shown += b"web.web  | second life\n"
    following.until(shown)
    assert following.end() == 130


def test_followed_logs_go_on_after_rotation_and_the_death_of_the_daemon(
    daemon: FakeDaemon, web: Path, follow: Follow
) -> None:
    following = follow("-n", "1", "web")
    following.until(LAST)
    web.rename(web.with_suffix(".1"))
    web.write_text("a new file\n")
    shown = LAST + b"web.web  | a new file\n"
    following.until(shown)
    # The other file has not changed, and is not shown again.
    daemon.hang_up()
    daemon.until_asked("watch", times=2)
    with web.open("a") as log:
        log.write("still here\n")
    following.until(shown + b"web.web  | still here\n")
    assert following.end() == 130


def test_an_instance_that_comes_later_is_followed_too(
    daemon: FakeDaemon, web: Path, follow: Follow
) -> None:
    following = follow("-n", "1")
    following.until(LAST)
    late = web.with_name("late-late.out")
    late.write_text("hello\n")
    daemon.add("late.late", stdout=str(late), generation=2)
    daemon.change("late.late", ready=False)
    with late.open("a") as log:
        log.write("again\n")
    eventually(lambda: b"late.late  | again\n" in following.out.read_bytes())
    assert following.end() == 130


def test_following_ends_with_the_system(daemon: FakeDaemon, web: Path, follow: Follow) -> None:
    following = follow("-n", "1")
    following.until(LAST)
    with web.open("a") as log:
        log.write("last words")
    daemon.change("web.web", **STOPPED)
    daemon.stop()
    assert following.process.wait(10) == 0
    assert following.out.read_bytes() == LAST + b"web.web  | last words\n"


def test_a_reader_that_goes_away_is_no_error(web: Path, world: Path) -> None:
    web.write_bytes(b"x" * 10_000_000)
    with subprocess.Popen(
        [sys.executable, "-m", "orchestrator", "logs", "-n", "all"],
        env={"PYTHONPATH": str(ROOT), "XDG_RUNTIME_DIR": str(world / "run")},
        cwd=world, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(10) == 141
