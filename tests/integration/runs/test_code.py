"""The code of hooks: checked at the submit, kept by its content, and run as it was."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.integration.runs.conftest import PATIENCE, Jobs


def examine(jobs: Jobs, **request: Any) -> dict[str, Any]:
    """Ask the child, as the daemon does at a submit."""
    asked = {"directory": str(jobs.place), "snapshots": str(jobs.place / "code"), **request}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "orchestrator.component.jobcode"],
        input=json.dumps(asked) + "\n",
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    [line] = done.stdout.splitlines()
    return dict(json.loads(line))


def test_classes_are_found_by_the_name_of_the_job(jobs: Jobs) -> None:
    service = jobs.write("services/sim.py", "class SIMService:\n    def build(self): pass\n")
    handler = jobs.write(
        "handlers/sim_handler.py", "print('noise')\nclass Sim_Handler:\n    pass\n"
    )
    found = examine(jobs, names=["other", "sim"])
    assert found["service"] == f"{service}:SIMService"
    assert found["handler"] == f"{handler}:Sim_Handler"
    assert found["error"] is None
    assert set(found["files"]) == {str(service), str(handler)}


def test_a_job_without_code_has_none(jobs: Jobs) -> None:
    found = examine(jobs, names=["sim"])
    assert (found["service"], found["handler"], found["snapshot"]) == (None, None, None)
    assert found["error"] is None


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("import os\nclass X(:\n", 2, "SyntaxError: invalid syntax"),
        ("import os\nimport nothing_such\n", 2, "No module named 'nothing_such'"),
        ("def f():\n    1 / 0\nf()\n", 2, "ZeroDivisionError"),
        ("import sys\nsys.exit(1)\n", 2, "it called sys.exit(1)"),
        ("x = 1\n", None, "expected a class SIMHandler, or one with before_watch_callback"),
        (
            "class A:\n    def after_watch_callback(self): 0\nclass B(A): pass\n",
            None,
            "cannot tell which class is the handler in {path}: A, B; name it as {path}:A",
        ),
        (
            "class SIMHandler:\n    def before_watch_callback(self, one, two): 0\n",
            2,
            "before_watch_callback asks for (one, two), but is given (instance)",
        ),
        (
            "class SIMHandler:\n    x = 1\n    def before_watch_callback(): 0\n",
            3,
            "before_watch_callback of SIMHandler takes no self",
        ),
        ("class SIMHandler:\n    before_watch_callback = 1\n", None, "is no function"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(
    jobs: Jobs, text: str, line: int | None, message: str
) -> None:
    path = jobs.write("handlers/sim_handler.py", text)
    found = examine(jobs, handler=str(path))
    assert found["error"] is not None
    assert message.format(path=path) in found["error"]["message"]
    assert (found["error"]["file"], found["error"]["line"]) == (line and str(path), line)
    assert found["snapshot"] is None


def test_a_class_that_is_named_is_taken_or_missed(jobs: Jobs) -> None:
    path = jobs.write("h.py", "class A:\n    pass\nclass B:\n    pass\n")
    assert examine(jobs, handler="h.py:B")["handler"] == "h.py:B"
    error = examine(jobs, handler="h.py:C")["error"]
    assert "no class 'C'; there are: A, B" in error["message"]
    assert "there is no such file" in examine(jobs, handler="i.py")["error"]["message"]
    assert path.exists()


def test_modules_are_found_on_the_python_path(jobs: Jobs) -> None:
    jobs.write("lib/lab/__init__.py", "")
    jobs.write("lib/lab/watch.py", "class WatchHandler: pass\n")
    found = examine(jobs, handler="lab.watch", python_path=[str(jobs.place / "lib")])
    assert found["handler"] == "lab.watch:WatchHandler"
    run = jobs.finish(
        "pass",
        handler=found["handler"],
        python_path=[str(jobs.place / "lib")],
        code={"snapshot": found["snapshot"]},
    )
    assert run.wait() == 0, run.log


def test_a_template_of_the_jobs_own_says_what_it_requires(jobs: Jobs) -> None:
    jobs.write(
        "services/sim.py",
        """
        from orchestrator.component import ServiceParamTemplate, ServiceProgramTemplate
        class Parameters(ServiceParamTemplate):
            not_null_attr = (*ServiceParamTemplate.not_null_attr, "mesh")
        class SIMService(ServiceProgramTemplate):
            pass
        """,
    )
    assert examine(jobs, names=["sim"])["required"][-1] == "mesh"


HANDLER = """
    import textwrap
    from part import WORD
    class SIMHandler:
        def before_watch_callback(self, instance):
            from later import MORE
            from {package}.deep import DEEP
            instance.set_state(said=[WORD, MORE, DEEP], file=__file__)
        def after_watch_callback(self, file_list, instance):
            raise ValueError("{word}")
    """


def write(jobs: Jobs, word: str) -> Path:
    jobs.write("handlers/part.py", f"WORD = '{word}'\n")
    jobs.write("handlers/later.py", f"MORE = 'later {word}'\n")
    jobs.write("handlers/pack/__init__.py", "")
    jobs.write("handlers/pack/deep.py", f"DEEP = 'deep {word}'\n")
    text = HANDLER.format(package="pack", word=word).replace("import textwrap", "import pack")
    return jobs.write("handlers/sim_handler.py", text)


def test_a_run_has_the_code_of_its_submit(jobs: Jobs) -> None:
    """What has been edited since, or removed, or would be imported later, is as it was."""
    path = write(jobs, "old")
    old = examine(jobs, handler=str(path))
    write(jobs, "new")
    new = examine(jobs, handler=str(path))
    assert old["digest"] != new["digest"]
    runs = [
        jobs.finish("pass", handler=one["handler"], code={"snapshot": one["snapshot"]})
        for one in (old, new)
    ]
    for name in ("sim_handler.py", "part.py", "later.py", "pack/deep.py"):
        (jobs.place / "handlers" / name).unlink()
    runs.append(jobs.finish("pass", handler=old["handler"], code={"snapshot": old["snapshot"]}))
    for run, word in zip(runs, ("old", "new", "old"), strict=True):
        said = {"said": [word, f"later {word}", f"deep {word}"], "file": str(path)}
        assert run.result["custom"] == said, run.log
        # The traceback shows the line that ran.
        assert f'raise ValueError("{word}")' in run.result["errors"][0]["traceback"]
        assert run.result["errors"][0]["where"].startswith(f"{path}:")
    assert runs[0].result["code"] == old["digest"]


def test_the_same_code_is_kept_once(jobs: Jobs) -> None:
    path = write(jobs, "same")
    first, second = (examine(jobs, handler=str(path)) for _ in range(2))
    assert first == second
    write(jobs, "other")
    write(jobs, "same")
    assert examine(jobs, handler=str(path))["digest"] == first["digest"]
    assert [one.name for one in (jobs.place / "code").iterdir()] == [first["digest"]]


def test_a_snapshot_that_cannot_be_written_is_told(jobs: Jobs) -> None:
    path = write(jobs, "x")
    jobs.write("file", "")
    found = examine(jobs, handler=str(path), snapshots=str(jobs.place / "file"))
    assert "cannot keep the code of the job" in found["error"]["message"]


def test_installed_libraries_are_not_kept(jobs: Jobs) -> None:
    jobs.write("venv/site-packages/lib.py", "class SIMHandler: pass\n")
    path = jobs.write("sim_handler.py", "from lib import SIMHandler\n")
    found = examine(
        jobs, handler=str(path), python_path=[str(jobs.place / "venv" / "site-packages")]
    )
    assert found["handler"] == f"{path}:SIMHandler"
    assert set(found["files"]) == {str(path)}
