"""Handler files: loaded from source, called by arity, with errors that name file and line."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.component import calls, flow, handlers, logs, notify, positions, sending
from orchestrator.component.errors import SendError, SetupError, UnknownOutput


@pytest.fixture(autouse=True)
def imports_forgotten() -> Iterator[None]:
    path, finders, modules = list(sys.path), list(sys.meta_path), set(sys.modules)
    yield
    sys.path[:], sys.meta_path[:] = path, finders
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def write(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def test_a_file_is_loaded_with_its_neighbours(tmp_path: Path) -> None:
    write(tmp_path / "a_neighbour.py", "VALUE = 5\n")
    path = write(
        tmp_path / "engine.py",
        "import a_neighbour\nconfig_model = {'required': {'a': int}}\nVALUE = a_neighbour.VALUE\n",
    )
    loaded = handlers.load(path)
    assert loaded.module.VALUE == 5
    assert loaded.config.plain()["required"] == {"a": "int"}


def test_a_package_and_a_module_are_loaded(tmp_path: Path) -> None:
    write(tmp_path / "shop" / "__init__.py", "from shop.inner import VALUE\n")
    write(tmp_path / "shop" / "inner.py", "VALUE = 5\n")
    assert handlers.load(str(tmp_path / "shop")).module.VALUE == 5
    write(tmp_path / "root" / "market" / "__init__.py", "")
    write(tmp_path / "root" / "market" / "engine.py", "VALUE = 6\n")
    assert handlers.load("market.engine", (str(tmp_path / "root"),)).module.VALUE == 6


def test_a_file_named_like_a_library_hides_it_from_nobody(tmp_path: Path) -> None:
    import statistics

    loaded = handlers.load(write(tmp_path / "statistics.py", "MINE = True\n"))
    assert loaded.module.MINE
    assert sys.modules["statistics"] is statistics


def test_code_is_compiled_from_its_source_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    for value in (1, 2):
        write(tmp_path / "same_size.py", f"VALUE = {value}\n")
        path = write(
            tmp_path / "engine.py", f"import same_size\nVALUE = {value}, same_size.VALUE\n"
        )
        for file in ("same_size.py", "engine.py"):
            os.utime(tmp_path / file, (1, 1))
        assert (value, value) == handlers.load(path).module.VALUE
        del sys.modules["same_size"], sys.modules["engine"]
    assert not list(tmp_path.rglob("*.pyc"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1\nif x\n", r"engine.py:2: cannot load the handler: SyntaxError"),
        (
            "def f():\n    raise KeyError('a')\nf()\n",
            r"engine.py:2: cannot load the handler: KeyError: 'a'",
        ),
        (
            "import a_module_that_is_not_there\n",
            r"engine.py:1: cannot load the handler: ModuleNotFoundError",
        ),
        ("raise SystemExit(3)\n", r"engine.py:1: cannot load the handler: SystemExit: 3"),
        ("config_model = 5\n", r"engine.py:1: config_model: expected a dict"),
        (
            "\nasync def sigint_handler():\n    pass\n",
            r"engine.py:2: sigint_handler: a hook must be a plain function",
        ),
        (
            "def main(a, b, c, d):\n    pass\n",
            r"engine.py:1: main: main\(a, b, c, d\) must take 1 or 2 or 3",
        ),
        ("state_models = []\nstate_models = 5\n", r"engine.py:2: state_models: expected a dict"),
    ],
)
def test_what_is_wrong_with_a_file_is_named_with_its_line(
    tmp_path: Path, text: str, said: str
) -> None:
    with pytest.raises(SetupError, match=said):
        handlers.load(write(tmp_path / "engine.py", text))


def test_a_handler_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="no such file"):
        handlers.load(str(tmp_path / "engine.py"))
    with pytest.raises(SetupError, match=r"a package without __init__\.py"):
        handlers.load(str(tmp_path))
    with pytest.raises(SetupError, match="cannot find the module 'a_module_that_is_not_there'"):
        handlers.load("a_module_that_is_not_there")


# --- Calls, positions


def test_functions_are_called_with_as_many_arguments_as_they_take() -> None:
    assert calls.adapt(lambda to_send, config: (to_send, config), calls.MAIN)(1, 2, 3) == (1, 3)
    assert calls.adapt(lambda _to_send, _states, config: config, calls.MAIN)(1, 2, 3) == 3
    assert calls.adapt(lambda *found: found, calls.MESSAGE)(1, 2, 3, 4) == (1, 2, 3, 4)
    assert calls.adapt(lambda args: args, calls.MESSAGE)(1, 2, 3, 4) == 1


def test_a_function_that_fits_is_not_wrapped() -> None:
    def function(args: Any, to_send: Any, states: Any, config: Any) -> None:
        """Stand for a handler."""

    assert calls.adapt(function, calls.MESSAGE) is function


def test_async_functions_and_objects_are_told() -> None:
    class Call:
        async def __call__(self) -> None:
            """Stand for an async handler."""

    assert calls.is_async(Call())
    assert not calls.is_async(len)


def test_keys_are_found_in_the_file(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.py",
        "def f(): pass\nx: dict = {\n  'in': {\n    'orders': {'a': 1},\n  },\n}\n",
    )
    lines = positions.read(path)
    assert lines["f",] == 1
    assert lines["x", "in", "orders", "a"] == 4
    assert positions.read(write(tmp_path / "b.py", "if")) == {}
    assert positions.read(str(tmp_path / "none.py")) == {}


def test_lines_are_those_of_the_source_that_was_loaded(tmp_path: Path) -> None:
    path = write(tmp_path / "a.py", "first = 1\n")
    found = positions.Lines(path, b"\n\nfirst = 1\n")
    assert dict(found) == {("first",): 3}
    assert len(positions.Lines(path)) == 1
    assert positions.Lines(path)["first",] == 1


# --- Flow, to_send, logs, notify


def test_the_workflow_id_grows_with_each_message_sent() -> None:
    found = flow.Flow()
    found.begin("w")
    assert [found.next() for _ in range(3)] == ["w", "w_1", "w_2"]
    found.begin("v_1")
    assert [found.next() for _ in range(2)] == ["v_1", "v_1_1"]


def test_outside_of_a_message_each_one_sent_begins_a_chain() -> None:
    found, other = flow.Flow(), flow.Flow()
    ids = [found.next() for _ in range(1000)] + [other.next() for _ in range(1000)]
    assert len(set(ids)) == 2000
    assert all(
        re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", i)
        for i in ids
    )
    found.begin(None)
    assert found.current
    assert found.current not in ids


def test_to_send_takes_both_forms() -> None:
    sent: list[Any] = []
    to_send = sending.make({"ticks": sent.append})
    to_send("connection", "ticks", {"a": 1})
    to_send("ticks", {"a": 2})
    to_send(output_type="connection", output_name="ticks", args={"a": 3})
    assert sent == [{"a": 1}, {"a": 2}, {"a": 3}]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("connection", "tocks", {}), "'tocks': no such output; declared are 'ticks'"),
        (("tocks", {}), "'tocks': no such output; declared are 'ticks'"),
        (("state", "book", {}), "no such state"),
        (("port", "ticks", {}), "expected 'connection' or 'state'"),
    ],
)
def test_an_unknown_output_is_a_key_error_and_a_value_error(
    given: tuple[Any, ...], said: str
) -> None:
    with pytest.raises(UnknownOutput, match=said) as caught:
        sending.make({"ticks": print})(*given)
    assert isinstance(caught.value, KeyError)
    assert isinstance(caught.value, ValueError)


def test_sending_from_another_thread_is_refused() -> None:
    from concurrent.futures import ThreadPoolExecutor

    to_send = sending.make({"ticks": print})
    with ThreadPoolExecutor(1) as other, pytest.raises(SendError, match="belong to the thread"):
        other.submit(to_send, "ticks", {}).result()


def test_log_lines_carry_the_workflow(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    handlers_before, level = list(root.handlers), root.level
    found = flow.Flow()
    try:
        logs.configure("market.engine", "info", found)
        logger = logs.get_logger()
        logger.info("Between messages")
        found.begin("w_1")
        logger.warning("In a message of %d", 5)
        logger.debug("Not shown")
        logging.getLogger("orchestrator.component.inbound").info("From the runtime")
    finally:
        root.handlers[:] = handlers_before
        root.setLevel(level)
        logs._name = "component"
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(" ")[2] for line in lines] == [
        "INFO market.engine - Between messages",
        "WARNING market.engine w_1 In a message of 5",
        "INFO market.engine w_1 From the runtime",
    ]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", lines[0].split()[0])


@pytest.mark.parametrize("abstract", [False, True])
def test_the_supervisor_is_notified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, abstract: bool
) -> None:
    import socket

    name = f"{tmp_path}/notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"\0{name}" if abstract else name)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}" if abstract else name)
        assert notify.send("READY=1", "STATUS=up")
        assert listener.recv(100) == b"READY=1\nSTATUS=up"


@pytest.mark.parametrize("value", ["", "relative", "/nowhere/at/all"])
def test_a_supervisor_that_does_not_listen_is_no_error(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", value)
    assert not notify.send("READY=1")


@pytest.mark.parametrize("keyword", ["def", "async def"])
@pytest.mark.parametrize("name", ["main", "init_function", "on_tick"])
def test_a_generator_is_refused_for_nothing_would_run_it(
    tmp_path: Path, name: str, keyword: str
) -> None:
    path = write(
        tmp_path / "engine.py",
        f"{keyword} {name}(one):\n    yield one\n"
        "connection_models = {'in': {'tick': {'connection_type': 'subscriber',\n"
        "    'required_creation_arguments': {'on_tick': globals().get('on_tick', print)}}}}\n",
    )
    with pytest.raises(SetupError, match=rf"engine\.py:\d+: .*{name} is a generator"):
        handlers.load(path).ends({})
