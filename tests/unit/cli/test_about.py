"""version, completion, run, and the ways in."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import orchestrator
from orchestrator.cli import commands
from tests.unit.cli.conftest import Orch

ROOT = Path(__file__).parents[3]


def test_the_version_is_that_of_the_package(
    orch: Orch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert orch("version") == 0
    assert capsys.readouterr().out == f"orch {orchestrator.__version__}\n"
    assert orch("--version") == 0
    assert capsys.readouterr().out == f"orch {orchestrator.__version__}\n"
    assert orch("version", "--json") == 0
    assert json.loads(capsys.readouterr().out)["version"] == orchestrator.__version__


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_verb_and_option_is_completed(
    shell: str, orch: Orch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert orch("completion", shell) == 0
    script = capsys.readouterr().out
    for command in commands.COMMANDS:
        assert command.name in script
        for parameter in commands.options(command):
            assert parameter.flags[-1].lstrip("-") in script


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_is_one_of_its_shell(
    shell: str, orch: Orch, world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"no {shell} here")
    assert orch("completion", shell) == 0
    script = world / "script"
    script.write_text(capsys.readouterr().out)
    done = subprocess.run([program, "-n", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_bash_completes_verbs_and_options(orch: Orch, capsys: pytest.CaptureFixture[str]) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash here")
    assert orch("completion", "bash") == 0
    script = capsys.readouterr().out

    def complete(*words: str) -> list[str]:
        typed = " ".join(f"'{word}'" for word in words)
        code = (
            f"{script}\nCOMP_WORDS=({typed}); COMP_CWORD={len(words) - 1}; _orch\n"
            'printf "%s\\n" "${COMPREPLY[@]}"'
        )
        done = subprocess.run([bash, "-c", code], capture_output=True, text=True, check=True)
        return done.stdout.split()

    assert complete("orch", "sta") == ["status", "start"]
    assert complete("orch", "-q", "logs", "--f") == ["--follow", "--file"]


def test_an_unknown_shell_is_a_usage_error(orch: Orch, capsys: pytest.CaptureFixture[str]) -> None:
    assert orch("completion", "bsh") == 2
    assert "did you mean bash?" in capsys.readouterr().err


def test_without_arguments_the_help_is_shown(
    orch: Orch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert orch() == 0
    assert "Commands:" in capsys.readouterr().out


def test_a_wrong_command_line_is_a_usage_error(
    orch: Orch, capsys: pytest.CaptureFixture[str]
) -> None:
    for argv in (["upp"], ["up", "--wiat"], ["-f"], ["wait"], ["logs", "-n", "many"]):
        assert orch(*argv) == 2
        shown = capsys.readouterr()
        assert shown.out == ""
        assert shown.err


def test_the_package_is_a_command_too() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator", "version"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == f"orch {orchestrator.__version__}\n"


HANDLER = """\
config_model = {"required": {"symbol": str}, "optional": {"depth": int}}


def main(to_send, config):
    print(config["symbol"], config["depth"])
"""


def run(world: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    """Run `orch run …`: the component has the process, so it gets one of its own."""
    return subprocess.run(
        [sys.executable, "-m", "orchestrator", "run", *argv],
        cwd=world, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
        timeout=20,
    )  # fmt: skip


def test_run_gives_a_handler_its_configuration(world: Path) -> None:
    (world / "main.py").write_text(HANDLER)
    (world / "config.json").write_text('{"symbol": "ETH", "depth": 3}')
    done = run(world, "main.py", "-c", "config.json", "-m", "--symbol", "BTC")
    assert (done.returncode, done.stdout) == (0, "BTC 3\n"), done.stderr


def test_run_takes_the_file_as_an_option_too(world: Path) -> None:
    (world / "main.py").write_text(HANDLER)
    done = run(world, "-s", "main.py", "-m", "--symbol=BTC", "--depth", "4")
    assert (done.returncode, done.stdout) == (0, "BTC 4\n"), done.stderr


def test_run_with_an_unknown_level_is_a_usage_error(world: Path) -> None:
    (world / "main.py").write_text(HANDLER)
    done = run(world, "main.py", "-m", "-cl", "LOUD")
    assert done.returncode == 2
    assert done.stderr.startswith(
        "orch: cannot use 'LOUD' for --console-loglevel: "
        "choose one of DEBUG, INFO, WARNING, ERROR, CRITICAL, or a number\n"
    )


@pytest.mark.parametrize("level", ["debug", "WARN", "15"])
def test_run_takes_a_level_by_name_or_number(world: Path, level: str) -> None:
    (world / "main.py").write_text(HANDLER)
    done = run(world, "main.py", "-m", "-cl", level, "--symbol=BTC", "--depth=4")
    assert (done.returncode, done.stdout) == (0, "BTC 4\n"), done.stderr


def test_run_of_nothing_is_a_usage_error(world: Path) -> None:
    done = run(world, "none.py")
    assert done.returncode == 2
    assert done.stderr.startswith("orch: cannot run 'none.py'")
    done = run(world, "--symbol", "BTC")
    assert done.returncode == 2
    assert "name a handler file" in done.stderr


def test_run_starts_a_built_instance(world: Path, orch: Orch) -> None:
    (world / "main.py").write_text(HANDLER)
    (world / "topology.yaml").write_text(
        "version: 1\nname: world\nservices:\n"
        "  work: {handler: main.py, mode: main, config: {symbol: LTC, depth: 5}}\n"
    )
    assert orch("build", "-q") == 0
    done = run(world, ".orch/conf/work-work")
    assert (done.returncode, done.stdout) == (0, "LTC 5\n"), done.stderr
