"""Changed code reaches what runs, without a restart where that can be."""

from __future__ import annotations

import functools
import json
import os
import re
import signal
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.scenario import Scenario, bad, exits, orch, row, says

pytestmark = pytest.mark.e2e

HANDLER = """
VERSION = 1


def on_ask(args):
    return {"version": VERSION, "n": args["n"]}


connection_models = {"in": {"ask": {
    "connection_type": "replyer",
    "required_creation_arguments": {"on_new_request": on_ask},
    "required_arguments": {"n": int},
    "required_return_arguments": {"version": int, "n": int},
}}}
"""

ASKER = """
import json
import time

connection_models = {"out": {"ask": {
    "connection_type": "requester",
    "required_arguments": {"n": int},
    "required_return_arguments": {"version": int, "n": int},
}}}


def main(to_send, config):
    n = 0
    with open("replies", "w", buffering=1) as replies:
        while True:
            n += 1
            print(json.dumps(to_send("ask", {"n": n})), file=replies)
            time.sleep(0.001)
"""


IDLE = ASKER[: ASKER.index("    n = 0")] + "    time.sleep(3600)\n"


def write(scenario: Scenario, version: int) -> None:
    """Write the replyer's package."""
    scenario.write(HANDLER.replace("VERSION = 1", f"VERSION = {version}"), "web/__init__.py")


def system(scenario: Scenario, version: int = 1, asker: str = IDLE, **more: Any) -> None:
    """Write a replyer with these options, and somebody to ask it."""
    write(scenario, version)
    scenario.write(asker, "asker.py")
    web = {"handler": "web", "connections": {"in": {"ask": "ask"}}, "watch": False, **more}
    asks = {"handler": "asker.py", "mode": "main", "connections": {"out": {"ask": "ask"}}}
    scenario.services(
        {"shop": {"components": {"web": web, "asker": asks}}}, addresses={"ask": "auto"}
    )


def codes(scenario: Scenario, field: str) -> list[object]:
    """Return a field of each replica of the replyer."""
    return [row[field] for name, row in scenario.ps().items() if name.startswith("shop.web")]


def test_no_request_is_lost_while_code_is_exchanged(scenario: Scenario) -> None:
    system(scenario, 0, ASKER)
    scenario.step("both come up", orch("up", "-d", "--wait"), exits(0))
    before = scenario.row("shop.web")
    replies = scenario.root / "replies"

    def is_answered(version: int) -> Callable[[], bool]:
        return lambda: f'"version": {version},' in replies.read_text()

    for version in range(1, 21):
        write(scenario, version)
        scenario.step(
            f"code {version} is taken on", orch("reload", "shop.web"), exits(0), says("in place")
        )
        scenario.until(is_answered(version))
    scenario.step("the asker ends", orch("stop", "shop.asker"), exits(0))
    after = scenario.row("shop.web")
    assert (after["pid"], after["restarts"], after["code"]) == (before["pid"], 0, 21)
    said = [json.loads(line) for line in replies.read_text().splitlines()]
    assert [each["n"] for each in said] == list(range(1, len(said) + 1))
    versions = [each["version"] for each in said]
    assert versions == sorted(versions)
    assert set(versions) == set(range(21))
    assert not scenario.log("shop.asker", "err").count(b"Error")


STEADY = """
import json
import time

config_model = {"required": {"who": str, "rate": int}}
connection_models = {"out": {"ask": {
    "connection_type": "requester",
    "required_arguments": {"n": int},
    "required_return_arguments": {"version": int, "n": int},
}}}


def main(to_send, config):
    begun = time.monotonic()
    with open(f"replies-{config['who']}", "w", buffering=1) as replies:
        for n in range(1, 1_000_000):
            time.sleep(max(0.0, begun + n / config["rate"] - time.monotonic()))
            print(json.dumps(to_send("ask", {"n": n})), file=replies)
"""


def listening(scenario: Scenario) -> set[str]:
    """Return inode and path of each socket between components that something listens at."""
    table = Path("/proc/net/unix").read_text(encoding="utf-8")
    rows = [line.split() for line in table.splitlines()]
    return {
        f"{row[6]} {row[7]}"
        for row in rows
        if len(row) == 8 and row[3] == "00010000" and row[7].startswith(str(scenario.runtime))
        if row[7].endswith(".ipc")
    }


def test_a_thousand_requests_a_second_from_four_see_twenty_reloads_and_nothing_else(
    scenario: Scenario,
) -> None:
    """As many as the machine can: nothing here asks for how many it was in the end."""
    write(scenario, 0)
    scenario.write(STEADY, "steady.py")
    web = {"handler": "web", "connections": {"in": {"ask": "ask"}}, "watch": False}
    askers = {
        f"asker-{number}": {
            "handler": "steady.py",
            "mode": "main",
            "config": {"who": f"{number}", "rate": 250},
            "connections": {"out": {"ask": "ask"}},
        }
        for number in range(4)
    }
    scenario.services({"shop": {"components": {"web": web, **askers}}}, addresses={"ask": "auto"})
    scenario.step("all come up", orch("up", "-d", "--wait").within(60), exits(0))
    before, sockets = scenario.row("shop.web"), listening(scenario)
    files = [scenario.root / f"replies-{number}" for number in range(4)]

    def all_see(version: int) -> bool:
        return all(f'"version": {version},' in file.read_text() for file in files)

    for version in range(1, 21):
        write(scenario, version)
        scenario.step("taken on", orch("reload", "shop.web"), exits(0), says("in place"))
        scenario.until(functools.partial(all_see, version))
    after = scenario.row("shop.web")
    assert (after["pid"], after["restarts"], after["code"]) == (before["pid"], 0, 21)
    assert len(sockets) == 1
    assert listening(scenario) == sockets, "the very socket, not one in its place"
    scenario.step("the askers end", orch("stop", *(f"shop.{name}" for name in askers)), exits(0))
    for number, file in enumerate(files):
        replies = [json.loads(line) for line in file.read_text().splitlines()]
        assert [reply["n"] for reply in replies] == list(range(1, len(replies) + 1))
        versions = [reply["version"] for reply in replies]
        assert versions == sorted(versions)
        assert set(versions) == set(range(21))
        assert b"Error" not in scenario.log(f"shop.asker-{number}", "err")
    assert b"Error" not in scenario.log("shop.web", "err")


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ("VERSION = 1", "VERSION = = 1", r"web/__init__\.py:2: .*SyntaxError"),
        ("VERSION = 1", "import nothing_there", r"web/__init__\.py:2: .*ModuleNotFoundError"),
        ('"ask"', '"asked"', r"asked.*not wired"),
        (
            "VERSION = 1",
            "VERSION = 1\ndef init_function(to_send):\n    raise OSError('no luck')",
            r"init_function failed: .*web/__init__\.py:4: OSError: no luck",
        ),
    ],
)
def test_broken_code_leaves_the_old_serving_and_says_where(
    scenario: Scenario, old: str, new: str, where: str
) -> None:
    system(scenario)
    scenario.step("it comes up", orch("up", "-d", "--wait"), exits(0))
    pid = scenario.row("shop.web")["pid"]
    scenario.write(HANDLER.replace(old, new), "web/__init__.py")
    outcome = scenario.step(
        "the reload fails",
        orch("reload", "shop.web"),
        exits(1),
        row("shop.web", phase="running", ready=True, reload="failed", pid=pid, code=1),
    )
    assert re.search(where, outcome.err, re.DOTALL), outcome.err
    explained = scenario.run("explain", "shop.web").out
    assert re.search(where, explained, re.DOTALL), explained
    write(scenario, 2)
    scenario.step(
        "mended code is taken on",
        orch("reload", "shop.web"),
        exits(0),
        row("shop.web", reload="ok", pid=pid, code=2),
    )


def test_a_model_that_the_other_end_does_not_share_is_refused(scenario: Scenario) -> None:
    system(scenario)
    scenario.step("it runs", orch("up", "-d", "--wait"), exits(0))
    before = scenario.row("shop.web")["pid"]
    scenario.write(HANDLER.replace('"n": int}', '"n": str}'), "web/__init__.py")
    scenario.step(
        "the other end, and the place in the new code, are named",
        orch("reload", "shop.web"),
        exits(1),
        says(r"web/__init__.py:\d+", r"args.n is sent as int, and expected as str at shop.asker"),
        says(r"return_args.n is sent as str, and expected as int at shop.asker out.ask"),
        row("shop.web", reload="failed", pid=before),
    )
    scenario.step(
        "the old code answers", orch("call", "shop.web", "ask", '{"n": 1}'), exits(0), says("1")
    )
    scenario.write(IDLE.replace('"n": int}', '"n": str}'), "asker.py")
    scenario.step(
        "both ends are changed together",
        orch("reload", "shop"),
        exits(0),
        row("shop.web", reload="ok", pid=before, code=2),
    )
    scenario.step("new code answers", orch("call", "shop.web", "ask", '{"n": "a"}'), exits(0))


@pytest.mark.parametrize(
    ("added", "why"),
    [
        (
            """
import threading
threading.Thread(target=threading.Event().wait, daemon=True, name="poller").start()
""",
            "thread 'poller'",
        ),
        ("import _ruamel_yaml\n", "C extension"),
    ],
)
def test_what_cannot_be_exchanged_is_restarted_with_the_reason(
    scenario: Scenario, added: str, why: str
) -> None:
    system(scenario)
    scenario.step("it comes up", orch("up", "-d", "--wait"), exits(0))
    before = scenario.row("shop.web")
    scenario.write(added + HANDLER, "web/__init__.py")
    scenario.step(
        "it is restarted",
        orch("reload", "shop.web"),
        exits(0),
        says(why),
        row("shop.web", phase="running", ready=True, reload="ok"),
    )
    after = scenario.row("shop.web")
    assert after["pid"] != before["pid"]
    assert after["generation"] == before["generation"] + 1


def test_a_canary_that_fails_leaves_the_other_replicas_alone(scenario: Scenario) -> None:
    system(scenario, replicas=3)
    scenario.step("three come up", orch("up", "-d", "--wait"), exits(0))
    write(scenario, 2)
    scenario.step("all take it on", orch("reload", "shop.web"), exits(0))
    assert codes(scenario, "code") == [2, 2, 2]
    scenario.write("VERSION = = 3", "web/__init__.py")
    scenario.step(
        "the first fails, and no other is asked",
        orch("reload", "shop.web"),
        exits(1),
        says("left as it is, because shop.web@1 could not be reloaded"),
    )
    assert codes(scenario, "reload") == ["failed", "ok", "ok"]
    write(scenario, 4)
    scenario.step("mended code goes to all", orch("reload", "shop.web"), exits(0))
    assert codes(scenario, "reload") == ["ok", "ok", "ok"]


def test_commands_are_told_by_a_signal_restarted_or_left_alone(scenario: Scenario) -> None:
    told = textwrap.dedent("""
        import signal
        signal.signal(signal.SIGUSR1, lambda *_: print("told", flush=True))
        print("ready", flush=True)
        while True:
            signal.pause()
    """)
    scenario.write(told, "told.py")
    scenario.services(
        {
            "told": {
                "command": ["python3", "told.py"],
                "reload": "signal",
                "reload_signal": "USR1",
            },
            "again": {"command": bad(), "reload": "restart"},
            "alone": {"command": bad()},
        }
    )
    scenario.step("they come up", orch("up", "-d", "--wait"), exits(0))
    scenario.until_logged("told.told", "ready")
    before = scenario.ps()
    scenario.step("all are asked", orch("reload", "--all"), exits(0), says("`reload: none`"))
    scenario.until_logged("told.told", "told")
    after = scenario.ps()
    for name in ("told.told", "alone.alone"):
        assert after[name]["pid"] == before[name]["pid"]
    assert after["again.again"]["pid"] != before["again.again"]["pid"]
    scenario.step("one that has no way fails", orch("reload", "alone"), exits(1))


def test_what_the_daemon_knows_of_the_code_outlives_it(scenario: Scenario) -> None:
    system(scenario)
    scenario.step("it comes up", orch("up", "-d", "--wait"), exits(0))
    write(scenario, 2)
    scenario.step("new code", orch("reload", "shop.web"), exits(0))
    scenario.write("VERSION =", "web/__init__.py")
    scenario.step("broken code", orch("reload", "shop.web"), exits(1))
    os.kill(scenario.daemon()["pid"], signal.SIGKILL)
    scenario.until_row("shop.web", code=2, reload="failed")


SELF_WRITER = """
import itertools
import pathlib
import time

path = pathlib.Path("watched.txt")
path.write_text(str(time.time_ns()))
for _ in itertools.count():
    time.sleep(1)
"""


def test_a_saved_file_is_taken_on_once_for_each_burst(scenario: Scenario) -> None:
    system(scenario, watch=True)
    scenario.step("it comes up", orch("up", "-d", "--wait"), exits(0))
    pid = scenario.row("shop.web")["pid"]
    for number in range(50):
        write(scenario, 100 + number)
    scenario.until_row("shop.web", code=2, reload="ok", pid=pid)
    write(scenario, 1)
    scenario.until_row("shop.web", code=3, pid=pid)
    scenario.step("the log is the witness", orch("status", "shop.web"), exits(0))
    assert scenario.row("shop.web")["code"] == 3


def test_editors_renames_new_directories_and_half_written_files_are_understood(
    scenario: Scenario,
) -> None:
    system(scenario, watch=True)
    scenario.step("it comes up", orch("up", "-d", "--wait"), exits(0))
    package = scenario.root / "web"
    temporary = package / ".__init__.py.swp"
    temporary.write_text(HANDLER.replace("VERSION = 1", "VERSION = 2"))
    temporary.rename(package / "__init__.py")
    scenario.until_row("shop.web", code=2)
    (package / "deep" / "er").mkdir(parents=True)
    (package / "deep" / "er" / "part.py").write_text("VALUE = 1\n")
    scenario.until_row("shop.web", code=3)
    (package / "deep" / "er" / "part.py").write_text("VALUE = 2\n")
    scenario.until_row("shop.web", code=4)
    (package / "__init__.py").write_text("VERSION = (")
    scenario.until_row("shop.web", code=4, reload="failed")
    write(scenario, 5)
    scenario.until_row("shop.web", code=5, reload="ok")
    # The whole package goes and comes back, as a deployment does it.
    package.rename(scenario.root / "old")
    scenario.until_row("shop.web", reload="failed")
    write(scenario, 6)
    scenario.until_row("shop.web", code=6, reload="ok")
    write(scenario, 7)
    scenario.until_row("shop.web", code=7, reload="ok")


def test_what_is_not_source_reloads_nothing(scenario: Scenario) -> None:
    (scenario.root / ".git").mkdir()
    (scenario.root / ".gitignore").write_text("*.gen.py\n")
    system(scenario, watch=True)
    scenario.step("it comes up", orch("up", "-d", "--wait"), exits(0))
    package = scenario.root / "web"
    (package / "__pycache__").mkdir(exist_ok=True)
    (package / "__pycache__" / "x.pyc").write_bytes(b"x")
    (package / "made.gen.py").write_text("X = 1\n")
    (package / "__init__.py.swp").write_text("x")
    (package / "__init__.py").touch()
    write(scenario, 9)
    scenario.until_row("shop.web", code=2)


def test_a_stopped_component_is_not_started_by_a_saved_file(scenario: Scenario) -> None:
    system(scenario, watch=True)
    scenario.step("it comes up", orch("up", "-d", "--wait"), exits(0))
    scenario.step("it is stopped", orch("stop", "shop.web"), exits(0))
    write(scenario, 2)
    scenario.step("and stays so", orch("ps"), exits(0), row("shop.web", phase="stopped", pid=None))
    scenario.step("started again", orch("start", "shop.web"), exits(0))
    write(scenario, 3)
    scenario.until_row("shop.web", code=2, phase="running")


def test_one_that_writes_its_own_watched_file_is_suspended(scenario: Scenario) -> None:
    scenario.write(SELF_WRITER, "writer.py")
    scenario.services({"writer": {"command": ["python3", "writer.py"], "watch": ["watched.txt"]}})
    scenario.step("it comes up", orch("up", "-d", "--wait"), exits(0))
    (scenario.root / "watched.txt").write_text("go")
    scenario.until(
        lambda: "suspended" in (scenario.row("writer.writer")["warning"] or ""), within=60
    )
    assert scenario.row("writer.writer")["phase"] == "running"
    scenario.step("a person resumes it", orch("reload", "writer"), exits(0))
    assert not scenario.row("writer.writer")["warning"]


def test_a_watched_command_takes_its_dependents_along(scenario: Scenario) -> None:
    scenario.write("1", "db.conf")
    scenario.services(
        {
            "db": {"command": bad(), "watch": ["*.conf"]},
            "web": {"command": bad(), "depends_on": {"db": {"restart": True}}},
            "other": {"command": bad(), "depends_on": ["db"]},
        }
    )
    scenario.step("all come up", orch("up", "-d", "--wait"), exits(0))
    before = scenario.ps()
    scenario.write("2", "db.conf")
    scenario.until_row("db.db", generation=2, phase="running")
    scenario.until_row("web.web", generation=2, phase="running")
    assert scenario.row("other.other")["pid"] == before["other.other"]["pid"]
