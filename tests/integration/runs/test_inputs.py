"""Bringing input files: from a directory, a web server, an FTP server, and what goes wrong."""

from __future__ import annotations

import base64
import contextlib
import http.server
import socket
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.component import SetupError, fetch
from orchestrator.component.runs import inputs
from tests.integration.runs.conftest import Jobs

DATA = bytes(range(256)) * 1000


class Web(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path.startswith("/private/"):
            given = self.headers.get("Authorization", "")
            if given != f"Basic {base64.b64encode(b'me:p@ss').decode()}":
                self.send_error(401)
                return
        if "missing" in self.path:
            self.send_error(404)
            return
        if "broken" in self.path:
            self.wfile.write(b"nonsense\r\n")
            return
        self.send_response(200)
        short = "short" in self.path
        self.send_header("Content-Length", str(len(DATA) + (5 if short else 0)))
        self.end_headers()
        self.wfile.write(DATA)

    def log_message(self, *_: object) -> None:
        pass


class Ftp(socketserver.StreamRequestHandler):
    """As much of RFC 959 as a download needs."""

    def say(self, text: str) -> None:
        self.wfile.write(f"{text}\r\n".encode())

    def handle(self) -> None:
        self.say("220 here")
        with socket.socket() as passive:
            user = ""
            for line in self.rfile:
                verb, _, word = line.decode().strip().partition(" ")
                match verb:
                    case "USER":
                        user = word
                        self.say("331 password")
                    case "PASS":
                        known = user == "anonymous" or (user, word) == ("me", "p@ss")
                        self.say("230 in" if known else "530 who are you")
                    case "EPSV":
                        self.say("500 no")
                    case "PASV":
                        with contextlib.suppress(OSError):
                            passive.bind(("127.0.0.1", 0))
                            passive.listen()
                        high, low = divmod(passive.getsockname()[1], 256)
                        self.say(f"227 at (127,0,0,1,{high},{low})")
                    case "RETR" if word == "data/in.dat":
                        self.say("150 coming")
                        stream, _ = passive.accept()
                        with stream:
                            stream.sendall(DATA)
                        self.say("226 done")
                    case "RETR":
                        self.say("550 no such file")
                    case "QUIT":
                        self.say("221 bye")
                        return
                    case _:
                        self.say("200 so be it")


@contextlib.contextmanager
def serving(server: socketserver.BaseServer) -> Iterator[str]:
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"  # type: ignore[index]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def web() -> Iterator[str]:
    with serving(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Web)) as host:
        yield host


@pytest.fixture
def ftp() -> Iterator[str]:
    with serving(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Ftp)) as host:
        yield host


def test_a_run_has_its_input_from_a_web_server(jobs: Jobs, web: str) -> None:
    run = jobs.finish(
        "print(len(open('in file.dat', 'rb').read()))",
        template={"g_input_file": f"http://{web}/data/in%20file.dat?token=x"},
    )
    assert run.output == f"{len(DATA)}\n\n0", run.log


def test_a_run_has_its_input_from_an_ftp_server(jobs: Jobs, ftp: str) -> None:
    run = jobs.finish(
        "print(len(open('in.dat', 'rb').read()))",
        template={"g_input_file": f"ftp://me:p%40ss@{ftp}/data/in.dat"},
    )
    assert run.output == f"{len(DATA)}\n\n0", run.log


def test_a_hook_may_add_to_what_the_base_does(jobs: Jobs, ftp: str) -> None:
    jobs.write("b.dat", "b")
    jobs.write(
        "sim.py",
        """
        from orchestrator.component import ServiceProgramTemplate, fetch
        class SIMService(ServiceProgramTemplate):
            def prepare_input_file(self):
                super().prepare_input_file()
                fetch(self.param_template.more, self.work_dir / "a.dat")
        """,
    )
    run = jobs.finish(
        "print(len(open('a.dat', 'rb').read()), open('b.dat').read())",
        service="sim.py",
        template={"g_input_file": ["b.dat"], "more": f"ftp://{ftp}/data/in.dat"},
    )
    assert run.output == f"{len(DATA)} b\n\n0", run.log


def test_names_and_passwords_in_a_url_are_used(tmp_path: Path, web: str) -> None:
    fetch(f"http://me:p%40ss@{web}/private/x", tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == DATA


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("missing", "404"),
        ("private/x", "401"),
        ("broken", "nonsense"),
        ("short", f"only {len(DATA)} of {len(DATA) + 5} bytes"),
    ],
)
def test_what_a_web_server_refuses_is_told_without_secrets(
    tmp_path: Path, web: str, path: str, reason: str
) -> None:
    with pytest.raises(SetupError) as failure:
        fetch(f"http://me:secret@{web}/{path}?key=secret", tmp_path / "x")
    assert reason in str(failure.value)
    assert f"cannot bring http://{web}/{path}: " in str(failure.value)
    assert "secret" not in str(failure.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ftp://me:secret@{}/data/in.dat", "530 who are you"),
        ("ftp://{}/no", "550 no such file"),
        ("ftp://{}/a%0d%0aDELE b", "newline"),
    ],
)
def test_what_an_ftp_server_refuses_is_told(
    tmp_path: Path, ftp: str, url: str, reason: str
) -> None:
    with pytest.raises(SetupError, match=reason) as failure:
        fetch(url.format(ftp), tmp_path / "x")
    assert "secret" not in str(failure.value)
    assert list(tmp_path.iterdir()) == []


def test_a_silent_server_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/x"
        with pytest.raises(SetupError, match="timed out"):
            fetch(url, tmp_path / "x", timeout=0.05)


def test_unknown_sources_are_for_a_hook(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="nothing is known of s3://"):
        inputs.bring("s3://bucket/in.dat", tmp_path, tmp_path)
    with pytest.raises(SetupError, match="it names no file"):
        inputs.bring("http://host/", tmp_path, tmp_path)


def test_local_files_are_copied(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    (tmp_path / "a b.dat").write_text("x")
    (tmp_path / "tree" / "deep").mkdir(parents=True)
    (tmp_path / "tree" / "deep" / "f").write_text("y")
    assert inputs.bring(f"file://{tmp_path}/a%20b.dat", Path("/"), run_dir).name == "a b.dat"
    assert inputs.bring("tree", tmp_path, run_dir) == run_dir / "tree"
    assert (run_dir / "tree" / "deep" / "f").read_text() == "y"
    # What is there already stays.
    (run_dir / "made.dat").write_text("by build")
    assert inputs.bring("made.dat", tmp_path, run_dir).read_text() == "by build"
    with pytest.raises(SetupError, match="name another, or make it in prepare_input_file"):
        inputs.bring("nothing.dat", tmp_path, run_dir)
