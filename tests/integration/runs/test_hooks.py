"""What users wrote around a program: when it is called, with what, and what it may do wrong."""

from __future__ import annotations

import json
import os
import signal

import pytest

from tests.integration.runs.conftest import PATIENCE, Jobs

LOGGING = """
    import os
    from orchestrator.component import ServiceProgramTemplate, WatcherHandler

    def note(*words):
        with open("calls", "a") as file:
            print(*words, file=file)

    class SIMService(ServiceProgramTemplate):
        def build(self):
            note("build", self.param_template.custom, sorted(os.listdir()))
        def prepare_input_file(self):
            note("prepare", os.getcwd() == str(self.work_dir))
            open(self.param_template.g_input_file, "w").write("from the hook")

    class SIMHandler(WatcherHandler):
        def before_watch_callback(self, instance):
            note("before", instance.param_template.custom, instance.exit_code)
        def file_change_callback(self, file_list, instance):
            pass
        def after_watch_callback(self, file_list, instance):
            note("after", file_list, instance.exit_code)
    """


def test_hooks_are_called_in_their_order(jobs: Jobs) -> None:
    jobs.write("sim.py", LOGGING)
    run = jobs.finish(
        "print(open('calls').read().count('before'), open('in.dat').read())",
        service="sim.py:SIMService",
        handler="sim.py:SIMHandler",
        template={"custom": "mine", "g_input_file": "in.dat"},
    )
    assert run.output == "1 from the hook\n\n0", run.log
    assert (run.dir / "calls").read_text().splitlines() == [
        "build mine ['prog1.py']",
        "prepare True",
        "before mine None",
        "after ['calls', 'in.dat', 'output', 'prog1.py'] 0",
    ]
    assert set(run.result["hooks"]) >= {"build", "prepare_input_file", "after_watch_callback"}


def test_plain_classes_are_found_by_their_names(jobs: Jobs) -> None:
    jobs.write(
        "services/sim.py",
        """
        class Other:
            pass

        class SIMService:
            def build(self):
                open("built", "w").write(self.param_template.g_service_id)
        """,
    )
    jobs.write(
        "handlers/sim_handler.py",
        """
        class SIMHandler:
            def after_watch_callback(self, file_list, service_instance):
                service_instance.set_state(files=file_list)
        """,
    )
    run = jobs.finish(
        "print(open('built').read())",
        service="services/sim.py",
        handler="handlers/sim_handler.py",
        template={"g_service_id": "r1"},
    )
    assert run.output == "r1\n\n0", run.log
    assert run.result["custom"] == {"files": ["built", "output", "prog1.py"]}


def test_functions_of_a_module_are_hooks_too(jobs: Jobs) -> None:
    jobs.write(
        "watch.py",
        """
        async def before_watch_callback(instance):
            instance.set_progress(1, 2)
        """,
    )
    run = jobs.finish("print('x')", handler="watch.py")
    assert (run.result["progress"], run.result["text"]) == (0.5, "1 of 2"), run.log


def test_a_change_is_told_long_before_the_interval(jobs: Jobs) -> None:
    jobs.write(
        "watch.py",
        """
        class WatchHandler:
            def file_change_callback(self, file_list, instance):
                if "sub/part.dat" in file_list:
                    open("seen", "w").close()
        """,
    )
    run = jobs.finish(
        f"""
        import os, time
        os.mkdir("sub")
        open("sub/part.dat", "w").write("x")
        for _ in range({int(PATIENCE * 100)}):
            if os.path.exists("seen"):
                break
            time.sleep(0.01)
            open("more", "a").write("x")
        """,
        handler="watch.py",
        watcher={"enabled": True, "interval": 3600},
    )
    assert "seen" in run.files, run.log


def test_a_quiet_program_is_looked_at_at_each_interval_until_told_otherwise(jobs: Jobs) -> None:
    """A callback that writes a file is not told of its own writing; -1 ends it."""
    jobs.write(
        "watch.py",
        """
        class WatchHandler:
            calls = 0
            def file_change_callback(self, file_list, instance):
                self.calls += 1
                open("calls", "a").write("x")
                if self.calls == 3:
                    open("enough", "w").close()
                    return -1
            def after_watch_callback(self, file_list, instance):
                instance.set_state(calls=self.calls)
        """,
    )
    run = jobs.finish(
        """
        import os, time
        while not os.path.exists("enough"):
            time.sleep(0.01)
        for number in range(30):
            open(f"f{number}", "w").close()
            time.sleep(0.01)
        """,
        handler="watch.py",
        watcher={"interval": 0.05},
    )
    assert run.result["custom"] == {"calls": 3}, run.log
    assert run.result["watch_stopped"] is True


def test_what_is_not_watched_has_no_callbacks(jobs: Jobs) -> None:
    jobs.write("sim.py", LOGGING)
    run = jobs.finish("pass", handler="sim.py:SIMHandler", watcher={"enabled": False})
    assert run.files == ["output", "prog1.py"]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("raise ValueError('bad mesh')", "build: ValueError: bad mesh ({place}:4)"),
        ("import sys; sys.exit(3)", "build: SystemExit: it called sys.exit(3) ({place}:4)"),
        ("raise KeyboardInterrupt", "build: KeyboardInterrupt:  ({place}:4)"),
        ("open('no/such')", "No such file or directory: 'no/such' ({place}:4)"),
    ],
)
def test_a_hook_that_fails_keeps_the_program_from_running(
    jobs: Jobs, code: str, message: str
) -> None:
    text = f"class SIMService:\n  def build(self):\n    print('in it')\n    {code}\n"
    place = jobs.write("sim.py", text)
    run = jobs.finish("print('no')", service="sim.py")
    assert run.wait() == 1
    assert run.files == ["prog1.py"]
    assert message.format(place=place) in run.result["message"]
    assert (run.result["state"], run.result["result"]) == ("failed", "hook")
    [error] = run.result["errors"]
    assert (error["hook"], error["where"]) == ("build", f"{place}:4")
    assert "in it" in run.log
    assert "Traceback" in run.log


def test_after_is_called_when_before_has_failed(jobs: Jobs) -> None:
    jobs.write(
        "watch.py",
        """
        class WatchHandler:
            def before_watch_callback(self, instance):
                1 / 0
            def after_watch_callback(self, file_list, instance):
                instance.set_state(exit_code=instance.exit_code)
        """,
    )
    run = jobs.finish("print('no')", handler="watch.py")
    assert run.result["custom"] == {"exit_code": None}
    assert "ZeroDivisionError" in run.result["message"]


def test_a_callback_that_fails_changes_nothing_for_the_program(jobs: Jobs) -> None:
    jobs.write(
        "watch.py",
        """
        class WatchHandler:
            def file_change_callback(self, file_list, instance):
                open("called", "a").write("x")
                raise RuntimeError(len(open("called").read()))
            def after_watch_callback(self, file_list, instance):
                raise SystemExit("enough")
        """,
    )
    run = jobs.finish(
        """
        import os, time
        while not os.path.exists("called") or os.path.getsize("called") < 3:
            time.sleep(0.01)
        """,
        handler="watch.py",
        watcher={"interval": 0.02},
    )
    assert run.wait() == 0
    assert run.result["state"] == "succeeded"
    first, second = run.result["errors"]
    assert (first["hook"], first["message"]) == ("file_change_callback", "1")
    assert first["count"] >= 3
    assert second["message"] == "it called sys.exit('enough')"


def test_a_hook_that_hangs_does_not_hide_the_end_of_the_program(jobs: Jobs) -> None:
    jobs.write(
        "watch.py",
        """
        import time
        class WatchHandler:
            def file_change_callback(self, file_list, instance):
                open("hangs", "w").close()
                time.sleep(3600)
            def after_watch_callback(self, file_list, instance):
                instance.set_state(after=instance.exit_code, cancelled=instance.cancelled)
        """,
    )
    run = jobs.start(
        """
        import os, time
        while not os.path.exists("hangs"):
            time.sleep(0.01)
        """,
        handler="watch.py",
        watcher={"interval": 0.02},
        stop={"timeout": PATIENCE},
    )
    run.said("\n0")
    run.until(lambda: run.progress["hook"] == "file_change_callback")
    assert run.stop() == 0
    assert run.result["custom"] == {"after": 0, "cancelled": True}


def test_a_stop_interrupts_what_comes_before_the_program(jobs: Jobs) -> None:
    jobs.write(
        "sim.py",
        """
        import time
        class SIMService:
            def build(self):
                time.sleep(3600)
            def prepare_input_file(self):
                open("never", "w").close()
        """,
    )
    run = jobs.start("print('no')", service="sim.py")
    run.until(lambda: run.progress.get("hook") == "build")
    assert run.stop() == 143
    assert run.files == ["prog1.py"]
    assert run.result["state"] == "cancelled"


def test_a_stopped_run_calls_after_with_the_complete_list(jobs: Jobs) -> None:
    jobs.write("sim.py", LOGGING)
    run = jobs.start(
        """
        import signal, sys
        signal.signal(signal.SIGTERM, lambda *_: open("last", "w") and sys.exit(1))
        print("here", flush=True)
        signal.pause()
        """,
        handler="sim.py:SIMHandler",
        template={"custom": 1},
    )
    run.said("here")
    assert run.stop() == 143
    files = ["calls", "last", "output", "prog1.py"]
    assert (run.dir / "calls").read_text().splitlines()[-1] == f"after {files} 1"


def test_progress_and_state_can_be_read_by_everybody(jobs: Jobs) -> None:
    jobs.write(
        "watch.py",
        """
        class WatchHandler:
            def before_watch_callback(self, instance):
                instance.set_progress(0.25, text="meshing")
                instance.set_state(step=1, nested={"a": [1, None]})
                instance.set_state(step=2)
                for wrong in (lambda: instance.set_progress(-1),
                              lambda: instance.set_state(what=object()),
                              lambda: instance.set_state(large="x" * 100000),
                              lambda: instance.custom.update(a=1)):
                    try:
                        wrong()
                    except (ValueError, AttributeError):
                        pass
                    else:
                        raise AssertionError(wrong)
        """,
    )
    run = jobs.start("import signal; signal.pause()", handler="watch.py")
    run.pid()
    run.until(lambda: run.progress["state"] == "running")
    found = run.progress
    assert (found["progress"], found["text"]) == (0.25, "meshing"), run.log
    assert found["custom"] == {"step": 2, "nested": {"a": [1, None]}}
    run.stop(signal.SIGINT)


def test_a_run_has_its_own_kind_of_template(jobs: Jobs) -> None:
    jobs.write(
        "sim.py",
        """
        from orchestrator.component import ServiceParamTemplate
        class SIMTemplate(ServiceParamTemplate):
            def doubled(self):
                return self.mesh * 2
        class SIMService:
            def __init__(self, param_template):
                self.given = param_template
            def build(self):
                self.given.set_service_param({"mesh": self.given.doubled()})
        """,
    )
    run = jobs.finish(
        "import sys; print(sys.argv[1:])",
        service="sim.py",
        template={"mesh": {"__decimal__": True, "as_str": "1.10"}},
    )
    assert run.output == "['mesh=2.20']\n\n0", run.log


def test_a_hook_may_leave_a_variable_for_the_program(jobs: Jobs) -> None:
    jobs.write(
        "sim.py",
        """
        import os
        def build():
            os.environ["LICENCE"] = "mine"
        """,
    )
    run = jobs.finish("import os; print(os.environ['LICENCE'])", service="sim.py")
    assert run.output == "mine\n\n0", run.log


def test_code_that_cannot_be_loaded_is_told_with_its_place(jobs: Jobs) -> None:
    place = jobs.write("sim.py", "import os\nimport no_such_module\n")
    run = jobs.finish("print('no')", service="sim.py")
    assert f"No module named 'no_such_module' ({place}:2)" in run.result["message"]
    assert run.result["errors"][0]["where"] == f"{place}:2"


def test_the_run_ends_with_a_worker_that_a_hook_has_ended(jobs: Jobs) -> None:
    """Nothing is left for a daemon to wait for; that there is no result says it all."""
    jobs.write("sim.py", "import os\ndef build():\n    os._exit(5)\n")
    run = jobs.finish("print('no')", service="sim.py")
    assert run.wait() == 5
    assert not (run.place / "record" / "result.json").exists()


def test_the_result_is_plain_data(jobs: Jobs) -> None:
    run = jobs.finish("pass", template={"g_output_file": "out"})
    assert json.loads(json.dumps(run.result)) == run.result
    assert os.listdir(run.place / "record") != []  # noqa: PTH208


def test_what_the_program_does_last_is_told_as_a_change(jobs: Jobs) -> None:
    jobs.write(
        "watch.py",
        """
        class WatchHandler:
            def file_change_callback(self, file_list, instance):
                instance.set_progress("out.dat" in file_list and instance.exit_code == 0)
        """,
    )
    run = jobs.finish("open('out.dat', 'w')", handler="watch.py", watcher={"interval": 3600})
    assert run.result["progress"] == 1.0, run.log


def test_a_hook_that_waits_for_all_children_is_told_of(jobs: Jobs) -> None:
    """It takes the exit code away: nobody can have it then, and the run says so."""
    jobs.write(
        "watch.py",
        """
        import os, signal
        def before_watch_callback(instance):
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        """,
    )
    run = jobs.finish("print('x')", handler="watch.py")
    assert run.wait() == 1
    assert run.output == "x\n\n?"
    assert (run.result["result"], run.result["exit_code"]) == ("lost", None)
    assert "a hook has waited for the program" in run.result["message"]


def test_one_class_for_all_hooks_is_one_object(jobs: Jobs) -> None:
    jobs.write(
        "both.py",
        """
        from orchestrator.component import ServiceProgramTemplate, WatcherHandler
        class Both(ServiceProgramTemplate, WatcherHandler):
            def build(self):
                self.built = sorted(self.param_template.to_plain())
            def after_watch_callback(self, file_list, instance):
                instance.set_state(built=self.built, same=instance.service is self)
        """,
    )
    run = jobs.finish("pass", service="both.py", handler="both.py", template={"mesh": 1})
    assert run.result["custom"] == {"built": ["mesh"], "same": True}, run.log
