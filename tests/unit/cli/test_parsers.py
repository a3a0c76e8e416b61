"""Two parsers, one table: what the quick one understands, typer understands alike."""

from __future__ import annotations

import importlib
import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from orchestrator.cli import app, commands, invocation, quick
from orchestrator.cli.commands import Command, Kind, Parameter
from orchestrator.cli.invocation import Invocation
from orchestrator.errors import UsageError

ROOT = Path(__file__).parents[3]

WORDS = st.sampled_from(
    [
        "web",
        "market.engine@2",
        "topology.yaml",
        "a=b",
        "3",
        "all",
        "ready",
        "HUP",
        "-",
        "--",
        "",
        "é",
    ]
)
FLAGS = st.sampled_from(
    sorted(
        {
            flag
            for command in commands.COMMANDS
            for one in commands.options(command)
            for flag in one.flags
        }
    )
)


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    """Draw a command line that is nearly right: options and words of some verb, in any order."""
    command = draw(st.sampled_from([one for one in commands.COMMANDS if one.quick]))
    before = [
        piece
        for one in draw(st.lists(st.sampled_from(commands.SHARED), max_size=2))
        for piece in written(draw, one)
    ]
    after: list[str] = []
    for _ in range(draw(st.integers(0, 4))):
        if draw(st.booleans()):
            after.append(draw(WORDS))
        else:
            after += written(draw, draw(st.sampled_from(commands.options(command))))
    return [*before, command.name, *after]


def written(draw: st.DrawFn, parameter: Parameter) -> list[str]:
    """Draw one of the ways to write an option."""
    flag = draw(st.sampled_from(parameter.flags))
    if parameter.kind is Kind.FLAG:
        return [flag]
    value = draw(WORDS)
    return [f"{flag}={value}"] if draw(st.booleans()) else [flag, value]


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(argv=command_lines())
@example(argv=["-f", "a.yaml", "logs", "-f", "web", "--file", "b.yaml"])
@example(argv=["up", "-d", "--scale", "a=2", "--scale=b=3", "x.yaml", "web"])
@example(argv=["kill", "-s", "HUP", "web"])
@example(argv=["logs", "-n", "100"])
def test_what_the_quick_parser_takes_typer_takes_alike(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    parsed = quick.parse(argv)
    if parsed is not None:
        assert app.parse(argv) == parsed
    capsys.readouterr()


@given(
    argv=st.lists(
        st.one_of(WORDS, FLAGS, st.sampled_from([c.name for c in commands.COMMANDS])), max_size=5
    )
)
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_the_quick_parser_takes_no_nonsense(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    parsed = quick.parse(argv)
    if parsed is not None:
        assert app.parse(argv) == parsed
    capsys.readouterr()


@pytest.mark.parametrize(
    "line",
    ["ps", "ps -q", "status web", "logs -f", "logs -n all web", "up -d", "up topology.yaml",
     "down", "-f x.yaml ps", "stop web --no-wait", "kill -s TERM web",
     "wait web --for exit",
     "validate a.yaml b.yaml --format json", "version --json", "restart --wait-timeout=5s web"],
)  # fmt: skip
def test_common_lines_take_the_quick_path(line: str) -> None:
    assert quick.parse(line.split()) is not None


@pytest.mark.parametrize(
    "line",
    ["", "--help", "ps --help", "-q", "upp", "ps --wat", "logs -n", "logs -n100", "logs -fq",
     "-f", "logs -n -1", "ps -- web", "wait", "explain", "version now", "ps --json=1",
     "-f a -f b ps", "run x.py"],
)  # fmt: skip
def test_unusual_lines_are_left_to_typer(line: str) -> None:
    assert quick.parse(line.split()) is None


def test_the_quick_path_imports_nothing_heavy() -> None:
    heavy = [
        "typer",
        "click",
        "rich",
        "zmq",
        "ruamel",
        "asyncio",
        "jsonschema",
        "subprocess",
        "psutil",
        "dataclasses",
        "inspect",
        "ssl",
        "_hashlib",
    ]
    code = (
        "import sys\n"
        "from orchestrator.cli import quick, entry, observe, change\n"
        "assert quick.parse(['ps']) is not None\n"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    # What measures coverage loads some of these itself.
    bare = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=bare,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("command", commands.COMMANDS, ids=lambda command: command.name)
def test_every_verb_has_a_function_that_takes_its_parameters(command: Command) -> None:
    module, _, name = command.handler.partition(":")
    function = getattr(importlib.import_module(module), name)
    taken = inspect.signature(function).parameters
    wanted = [parameter.name for parameter in command.parameters]
    if "options" in taken:  # It passes the others on.
        wanted = [*(name for name in wanted if name in taken), "options"]
    assert list(taken)[1:] == wanted


@pytest.mark.parametrize("command", commands.COMMANDS, ids=lambda command: command.name)
def test_no_two_options_of_a_verb_share_a_flag_or_a_name(command: Command) -> None:
    parameters = (*commands.arguments(command), *commands.options(command))
    flags = [flag for parameter in parameters for flag in parameter.flags]
    assert len(flags) == len(set(flags))
    names = [parameter.name for parameter in parameters]
    assert len(names) == len(set(names))


def test_run_hands_unknown_options_to_the_component() -> None:
    line = "run x.py -a addresses.json --symbol BTC --depth=-4 -m -cl DEBUG"
    parsed = app.parse(line.split())
    assert isinstance(parsed, Invocation)
    _, values = invocation.read(parsed, {})
    assert values["path"] == "x.py"
    assert values["main_mode"] is True
    assert values["log_level"] == "DEBUG"
    assert invocation.rest_pairs(values["extra"]) == {"symbol": "BTC", "depth": "-4"}


@pytest.mark.parametrize("extra", [("value",), ("--name",), ("-x", "1"), ("--", "1")])
def test_what_is_no_pair_cannot_be_handed_on(extra: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="cannot use"):
        invocation.rest_pairs(extra)


def test_values_are_converted_and_defaults_filled_in() -> None:
    given_: dict[str, invocation.Text] = {"names": ("web",), "lines": "all", "grep": "a+"}
    options, values = invocation.read(Invocation("logs", given_), {})
    assert options == invocation.Options()
    assert values["lines"] == invocation.ALL_LINES
    assert values["grep"].pattern == b"a+"
    assert values["follow"] is False
    _, values = invocation.read(Invocation("stop", {"names": ("web",)}), {})
    assert values["wait_timeout"] == 60.0


@pytest.mark.parametrize(
    ("command", "given_", "message"),
    [
        ("logs", {"lines": "many"}, "cannot use 'many' for --lines"),
        ("logs", {"grep": "("}, "no regular expression"),
        ("wait", {"names": ("a",), "goal": "readi"}, "did you mean ready"),
        ("wait", {"names": ("a",), "timeout": "5"}, "is no duration"),
        ("kill", {"signal": "TREM"}, "did you mean TERM"),
        ("kill", {"signal": "999"}, "no signal has this number"),
        ("up", {"scale": ("a=b",)}, "write NAME=COUNT"),
        ("up", {"settings": ("a",)}, "write NAME=VALUE"),
    ],
)
def test_a_wrong_value_is_a_usage_error_that_names_it(
    command: str, given_: dict[str, invocation.Text], message: str
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        invocation.read(Invocation(command, given_), {})
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("text", ["HUP", "SIGHUP", "hup", "1"])
def test_a_signal_has_many_spellings(text: str) -> None:
    _, values = invocation.read(Invocation("kill", {"signal": text}), {})
    assert values["signal"] == "HUP"


def test_the_environment_has_a_twin_of_each_global_option() -> None:
    environment = {
        "ORCH_FILE": "x.yaml", "ORCH_PROJECT": "p", "ORCH_JSON": "1", "ORCH_QUIET": "yes",
        "ORCH_VERBOSE": "0", "ORCH_COLOR": "never",
    }  # fmt: skip
    options, _ = invocation.read(Invocation("ps", {}), environment)
    assert options == invocation.Options("x.yaml", "p", json=True, quiet=True, color="never")
    options, _ = invocation.read(Invocation("ps", {"file": "y.yaml"}), environment)
    assert options.file == "y.yaml", "what is typed wins"


@pytest.mark.parametrize(("name", "value"), [("ORCH_COLOR", "blue"), ("ORCH_JSON", "maybe")])
def test_a_wrong_twin_is_a_usage_error(name: str, value: str) -> None:
    with pytest.raises(UsageError, match=value):
        invocation.read(Invocation("ps", {}), {name: value})
