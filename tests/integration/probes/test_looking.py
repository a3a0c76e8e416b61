"""Single looks over real sockets and with real programs: right, in time, and leaving nothing."""

from __future__ import annotations

import asyncio
import os
import shutil
import ssl
import subprocess
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from orchestrator import process as processes
from orchestrator.daemon import looking
from orchestrator.daemon.host import PosixHost
from orchestrator.model.topology import Probe
from tests.integration.probes.conftest import Server, eventually, marked, order

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
NOTHING = order("")

LEAVE = """
import os, time
for setsid in (False, True):
    if os.fork() == 0:
        if setsid: os.setsid()
        time.sleep(60)
"""


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server(OK)
    yield await made.start()
    await made.stop()


async def look(
    host: PosixHost, probe: Probe, code: str = "", secrets: tuple[str, ...] = ()
) -> str:
    """Look once; no descriptor may be left by it, but for those that the first start opens."""
    if probe.exec:
        await looking.look(Probe(exec=("x",)), host, order(""))
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    answer = await looking.look(probe, host, order(code), secrets)
    await eventually(lambda: len(os.listdir("/proc/self/fd")) <= before + 1)  # noqa: PTH208
    return answer


async def test_http_is_well_within_its_statuses(host: PosixHost, server: Server) -> None:
    url = f"http://127.0.0.1:{server.port}/health?deep=1"
    assert await look(host, Probe(http=url)) == looking.GOOD
    assert server.asked[0].startswith(b"GET /health?deep=1 HTTP/1.0\r\n")
    assert f"Host: 127.0.0.1:{server.port}\r\n".encode() in server.asked[0]
    server.answer = b"HTTP/1.1 503 Busy\r\n\r\n"
    assert await look(host, Probe(http=url)) == "HTTP 503"
    assert await look(host, Probe(http=url, status=(503, 503))) == looking.GOOD


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-x\r\n", b"\n", b"HTTP/1.1 what\r\n"])
async def test_what_speaks_no_http_is_ill(host: PosixHost, server: Server, answer: bytes) -> None:
    server.answer = answer
    url = f"http://127.0.0.1:{server.port}/"
    assert await look(host, Probe(http=url)) == "no HTTP answer"


async def test_an_endless_first_line_is_ill(host: PosixHost, server: Server) -> None:
    server.answer = b"x" * 200_000
    assert await look(host, Probe(http=f"http://127.0.0.1:{server.port}/")) not in ("", None)


async def test_a_server_that_keeps_its_connection_open_is_not_waited_for(
    host: PosixHost, server: Server
) -> None:
    server.keeps_open = True
    probe = Probe(http=f"http://127.0.0.1:{server.port}/", timeout=60.0)
    begin = time.monotonic()
    assert await look(host, probe) == looking.GOOD
    assert time.monotonic() - begin < 30.0


async def test_a_large_answer_is_taken_so_that_its_sender_sees_no_reset(
    host: PosixHost, server: Server
) -> None:
    server.answer = OK + b"x" * 60_000
    assert await look(host, Probe(http=f"http://127.0.0.1:{server.port}/")) == looking.GOOD
    assert server.resets == 0


async def test_what_is_silent_is_ill_in_time(host: PosixHost, server: Server) -> None:
    server.answer, server.keeps_open = b"", True
    probe = Probe(http=f"http://127.0.0.1:{server.port}/", timeout=0.1)
    assert await look(host, probe) == "no answer within 100ms"


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
async def test_tcp_is_well_while_connections_are_accepted(
    host: PosixHost, server: Server, name: str
) -> None:
    threads = threading.active_count()
    probe = Probe(tcp=f"{name}:{server.port}")
    assert await look(host, probe) == looking.GOOD
    await server.stop()
    assert await look(host, probe) == "Connection refused"
    assert threading.active_count() == threads


@pytest.fixture
def secure(tmp_path: Path) -> ssl.SSLContext:
    """A context with a certificate that nobody has reason to trust."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs openssl to make a certificate")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-subj", "/CN=somebody", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


async def test_https_is_asked_without_trusting_anybody(
    host: PosixHost, secure: ssl.SSLContext
) -> None:
    server = await Server(OK).start(secure)
    assert await look(host, Probe(http=f"https://127.0.0.1:{server.port}/")) == looking.GOOD
    await server.stop()


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-x\r\n", b"\x15\x03\x01\x00\x02\x02\x28"])
async def test_what_speaks_no_tls_is_ill(host: PosixHost, answer: bytes) -> None:
    async def talk(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    found = await look(host, Probe(http=f"https://127.0.0.1:{port}/"))
    assert found.startswith("no TLS: ") or found == "Connection reset by peer"
    server.close()
    await server.wait_closed()


async def test_https_takes_a_large_answer_in_parts(
    host: PosixHost, secure: ssl.SSLContext
) -> None:
    server = await Server(OK + b"x" * 200_000).start(secure)
    url = f"https://127.0.0.1:{server.port}/"
    assert await look(host, Probe(http=url)) == looking.GOOD
    server.answer = b"x" * 200_000
    assert await look(host, Probe(http=url)) == "no HTTP answer"
    server.answer = b""
    assert await look(host, Probe(http=url)) == "no HTTP answer"
    await server.stop()


async def test_exec_is_well_when_its_program_exits_with_0(host: PosixHost) -> None:
    probe = Probe(exec=("x",))
    assert await look(host, probe) == looking.GOOD
    assert await look(host, probe, "raise SystemExit(3)") == "exit 3"
    assert await look(host, probe, "import os; os.kill(os.getpid(), 9)") == "signal 9"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("print('no', flush=True); sys.exit('no route to host')", "exit 1: no route to host"),
        ("print('\\x1b[31mred\\x1b[0m\\a\\n\\n  \\n'); sys.exit(3)", "exit 3: red"),
        ("os.write(1, b'\\xff half'); sys.exit(3)", "exit 3: \ufffd half"),
        ("print('key=s3cret, s3', end=''); sys.exit(3)", "exit 3: key=***, ***"),
        ("sys.exit('x' * 300)", f"exit 1: {'x' * 199}…"),
        ("print('a\\n' + 'x' * 70_000, end=''); sys.exit(3)", "exit 3"),
        ("print('x' * 70_000 + '\\nb'); sys.exit(3)", "exit 3: b"),
        ("sys.stdout.write('a line\\n' * 500_000); sys.exit('over')", "exit 1: over"),
        ("print('all is well')", looking.GOOD),
    ],
)
async def test_what_is_wrong_is_told_with_the_last_words_of_the_program(
    host: PosixHost, code: str, said: str
) -> None:
    """Coloured or not, of any length, and no secret among them."""
    probe = Probe(exec=("x",), timeout=60.0)
    assert await look(host, probe, f"import os, sys; {code}", ("s3", "s3cret", "")) == said


async def test_a_late_exec_probe_tells_how_far_it_has_come(host: PosixHost) -> None:
    code = "import time; print('asking the index', flush=True); time.sleep(60)"
    probe = Probe(exec=("x",), timeout=2.0)
    assert await look(host, probe, code) == "no answer within 2s: asking the index"
    await eventually(lambda: not marked())


async def test_a_program_that_prints_without_end_is_bounded(host: PosixHost) -> None:
    """It is read, so that it is late for its own reasons, and takes the loop no time."""
    before = time.process_time()
    code = "import os\nwhile True: os.write(1, b'y\\n' * 30_000)"
    assert await look(host, Probe(exec=("x",), timeout=1.0), code) == "no answer within 1s: y"
    assert time.process_time() - before < 0.5


async def test_without_descriptors_to_spare_nothing_is_heard(
    host: PosixHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_flags: int) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "pipe2", fail)
    assert await look(host, Probe(exec=("x",)), "raise SystemExit('words')") == "exit 1"


async def test_an_exec_probe_that_cannot_be_started_is_ill(host: PosixHost) -> None:
    missing = processes.Order(("/nowhere/program",), NOTHING.environment, "")
    answer = await looking.look(Probe(exec=("x",)), host, missing)
    assert "cannot execute '/nowhere/program'" in answer


async def test_a_late_exec_probe_is_killed_with_all_it_started(host: PosixHost) -> None:
    probe = Probe(exec=("x",), timeout=0.5)
    assert await look(host, probe, LEAVE + "\ntime.sleep(60)") == "no answer within 500ms"
    await eventually(lambda: not marked())


async def test_what_a_good_exec_probe_leaves_is_killed(host: PosixHost) -> None:
    assert await look(host, Probe(exec=("x",)), LEAVE) == looking.GOOD
    await eventually(lambda: not marked())


async def test_an_exec_probe_that_nobody_waits_for_any_more_is_killed(host: PosixHost) -> None:
    async with asyncio.TaskGroup() as tasks:
        probe = Probe(exec=("x",), timeout=60.0)
        asked = order(LEAVE + "\ntime.sleep(60)")
        task = tasks.create_task(looking.look(probe, host, asked))
        await eventually(lambda: len(marked()) == 3)
        task.cancel()
    await eventually(lambda: not marked())
