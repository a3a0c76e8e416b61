"""The program of a run: its directory, its words, its output, its end."""

from __future__ import annotations

import os
import signal
import socket
import stat

from tests.integration.runs.conftest import PATIENCE, Jobs, eventually, living


def test_a_program_runs_in_its_directory_with_its_words(jobs: Jobs) -> None:
    run = jobs.finish(
        """
        import os, sys
        print(os.getcwd(), sys.argv[1:], sys.stdin.read(), os.environ["ORCH_RUN_ID"])
        print("and that", file=sys.stderr)
        """,
        template={"s_service_args": {"step": 5, "text": "it's $HOME; *", "on": True, "at": None}},
    )
    words = ["step=5", "text=it's $HOME; *", "on=true", "at=null"]
    assert run.wait() == 0
    assert run.output == f"{run.dir} {words}  r1\nand that\n\n0"
    assert run.result["state"] == "succeeded"
    assert (run.result["exit_code"], run.result["signal"]) == (0, None)
    assert stat.S_IMODE((run.place / "record" / "result.json").stat().st_mode) == 0o600


def test_the_exit_code_is_that_of_the_program(jobs: Jobs) -> None:
    run = jobs.finish("raise SystemExit(7)")
    assert run.wait() == 1
    assert run.output == "\n7"
    assert run.result["message"] == "exit code 7"
    assert (run.result["state"], run.result["result"]) == ("failed", "exit-code")


def test_a_signal_is_told_by_its_name(jobs: Jobs) -> None:
    run = jobs.finish("import os; print('x', flush=True); os.kill(os.getpid(), 9)")
    assert run.output == "x\n\n-9"
    assert run.result["message"] == "killed by SIGKILL"
    assert (run.result["exit_code"], run.result["signal"]) == (None, 9)


def test_output_can_be_read_while_it_is_written(jobs: Jobs) -> None:
    run = jobs.start("import signal; print('half', flush=True); signal.pause()")
    assert run.said("half") == "half\n"
    os.kill(run.pid(), signal.SIGKILL)
    run.wait()


def test_any_file_that_can_be_executed_is_a_program(jobs: Jobs) -> None:
    program = jobs.write("count", "#!/bin/sh\necho $0 $1\n", 0o755)
    run = jobs.finish(program, template={"s_service_args": {"to": 3}})
    assert run.output == f"{run.dir}/count to=3\n\n0"


def test_a_command_is_started_as_it_is(jobs: Jobs) -> None:
    run = jobs.finish(argv=["/bin/sh", "-c", "echo $0 $#", "one"], template={})
    assert run.output == "one 0\n\n0"
    assert run.files == ["output"]


def test_what_cannot_be_executed_is_told(jobs: Jobs) -> None:
    program = jobs.write("tool", "binary", 0o644)
    run = jobs.finish(program)
    assert run.wait() == 1
    assert "is it executable? chmod +x" in run.result["message"]
    assert run.result["result"] == "spawn-error"
    missing = jobs.finish(jobs.place / "nothing")
    assert "nothing: no such file" in missing.result["message"]


def test_what_a_program_leaves_behind_ends_before_the_exit_code_is_written(jobs: Jobs) -> None:
    """A child in the background, one in a session of its own, both with the output open."""
    run = jobs.finish(
        """
        import os, signal, subprocess, sys
        endless = "while True: print('more', flush=True)"
        one = subprocess.Popen([sys.executable, "-c", endless])
        other = subprocess.Popen([sys.executable, "-c", endless], start_new_session=True)
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                open("deep", "w").write(str(os.getpid()))
                signal.pause()
            os._exit(0)
        while not (os.path.exists("deep") and open("deep").read()):
            pass
        open("pids", "w").write(f"{one.pid} {other.pid}")
        os._exit(4)
        """
    )
    assert run.output.endswith("\n4")
    size = len(run.output)
    pids = [*map(int, (run.dir / "pids").read_text().split()), int((run.dir / "deep").read_text())]
    assert not any(map(living, pids))
    assert len(run.output) == size


def test_a_stop_reaches_the_program(jobs: Jobs) -> None:
    run = jobs.start(
        """
        import signal, sys
        signal.signal(signal.SIGINT, lambda *_: sys.exit("told"))
        print("here", flush=True)
        signal.pause()
        """,
        stop={"signal": signal.SIGINT, "timeout": PATIENCE},
    )
    run.said("here")
    assert run.stop() == 143
    assert run.output == "here\ntold\n\n1"
    assert (run.result["state"], run.result["result"]) == ("cancelled", "requested")


def test_a_program_that_does_not_heed_a_stop_is_killed_in_time(jobs: Jobs) -> None:
    run = jobs.start(
        """
        import signal
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print("here", flush=True)
        while True:
            signal.pause()
        """,
        stop={"timeout": 0.5},
    )
    run.said("here")
    assert run.stop() == 143
    assert run.output == "here\n\n-9"
    assert run.result["state"] == "cancelled"


def test_a_program_that_ends_well_when_stopped_has_succeeded(jobs: Jobs) -> None:
    run = jobs.start(
        """
        import signal, sys
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        print("here", flush=True)
        signal.pause()
        """
    )
    run.said("here")
    assert run.stop() == 0
    assert run.result["state"] == "succeeded"


def test_another_attempt_finds_what_the_first_has_left(jobs: Jobs) -> None:
    program = "import os; print(sorted(os.listdir())); open('part', 'w')"
    run_dir = str(jobs.place / "runs" / "same")
    jobs.finish(program, run_dir=run_dir)
    run = jobs.finish(jobs.place / "prog1.py", run_dir=run_dir, attempt=2)
    assert run.output == "['output', 'output.1', 'part', 'prog1.py']\n\n0"
    assert (run.dir / "output.1").read_text() == "['output', 'prog1.py']\n\n0"


def test_a_directory_of_somebody_else_is_left_alone(jobs: Jobs) -> None:
    jobs.write("runs/r1/thesis.tex", "dear")
    run = jobs.finish("print('no')")
    assert run.wait() == 1
    assert "is there and not empty" in run.result["message"]
    assert run.files == ["thesis.tex"]


def test_the_input_file_is_copied(jobs: Jobs) -> None:
    jobs.write("data/in.dat", "numbers")
    run = jobs.finish("print(open('in.dat').read())", template={"g_input_file": "data/in.dat"})
    assert run.output == "numbers\n\n0"


def test_an_input_file_that_is_not_there_is_told(jobs: Jobs) -> None:
    run = jobs.finish("print('no')", template={"g_input_file": "in.dat"})
    assert f"there is no {jobs.place}/in.dat" in run.result["message"]
    assert not (run.dir / "output").exists()


def test_output_files_are_measured(jobs: Jobs) -> None:
    run = jobs.finish(
        "open('out.dat', 'w').write('12345')", template={"g_output_file": ["out.dat", "other"]}
    )
    assert run.result["outputs"] == {"out.dat": 5, "other": None}
    assert run.result["state"] == "succeeded"
    assert run.result["message"] == "there is no output file other"


def test_the_supervisor_is_told_that_there_is_news(jobs: Jobs) -> None:
    path = str(jobs.place / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(path)
        notify.settimeout(PATIENCE)
        run = jobs.start("pass", environment={"NOTIFY_SOCKET": path})
        said = {notify.recv(4096)}
        while said != {b"ORCH_RUN=changed", b"READY=1"}:
            said.add(notify.recv(4096))
        assert run.wait() == 0


def test_a_flood_of_output_does_not_keep_the_worker_from_its_work(jobs: Jobs) -> None:
    run = jobs.start("while True: print('x' * 1000)", stop={"timeout": PATIENCE})
    eventually(lambda: (run.dir / "output").exists() and (run.dir / "output").stat().st_size > 1e7)
    assert run.stop() == 143
    with (run.dir / "output").open("rb") as file:
        file.seek(-4, os.SEEK_END)
        assert file.read() == b"\n-15"
    (run.dir / "output").unlink()


def test_an_order_that_is_none_is_refused(jobs: Jobs) -> None:
    run = jobs.finish(program=None)
    assert run.wait() == 1
    assert "names neither a program nor a command" in run.log


def test_a_result_that_cannot_be_written_is_said_last(jobs: Jobs) -> None:
    run = jobs.finish("pass", record_dir=str(jobs.place / "nowhere"))
    assert run.log.splitlines()[-1].startswith("orch: succeeded, but cannot write ")
