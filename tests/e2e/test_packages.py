"""Components that are packages: run by the daemon, without one, and in their caller's process."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import pytest

from tests.e2e.scenario import Scenario, eventually, exits, no_traceback, orch, says
from tests.e2e.test_output import fits

CONF = """
from orchestrator.component import ConfField, ConfigurationManager, FileConfField


class _Manager(ConfigurationManager):
    greeting = ConfField("hello")
    raises = ConfField(False)
    journal = FileConfField("journal.txt", "data")


CONFIGURATION = _Manager("component")
CONF = CONFIGURATION.to_conf()
"""

INIT = """
from shop.api.conf import CONF, CONFIGURATION

__all__ = ["CONF", "CONFIGURATION"]
"""

COMPONENT = """
import threading
from pathlib import Path

from orchestrator.component import Component
from shop.api.conf import CONF


class _Api(Component):
    def initialize(self):
        print("initialized", self.full_name)

    def run(self):
        print(CONF.greeting, self.full_name, flush=True)
        if CONF.raises:
            raise ValueError("as told")
        Path(CONF.journal + ".begun").touch()
        try:
            threading.Event().wait()
        finally:
            Path(CONF.journal).write_text("ended in order")


COMPONENT = _Api("shop", "api", [CONF])
"""


def package(scenario: Scenario, marker: str = "__component__", code: str = COMPONENT) -> Path:
    """Write the package shop.api and return its directory."""
    scenario.write("", "shop/__init__.py")
    scenario.write(CONF, "shop/api/conf.py")
    scenario.write(INIT, "shop/api/__init__.py")
    return scenario.write(code, f"shop/api/{marker}.py").parent


def api(**fields: object) -> dict[str, object]:
    return {"shop": {"components": {"api": {"package": "shop.api", **fields}}}}


def test_a_package_runs_with_its_configuration_and_ends_in_order(scenario: Scenario) -> None:
    package(scenario)
    scenario.services(api(config={"greeting": "good day"}))
    scenario.step("up", orch("up", "-d", "--wait"), exits(0))
    scenario.until_logged("shop.api", "good day shop.api")
    scenario.step("stopped", orch("stop", "shop.api"), exits(0))
    assert scenario.row("shop.api")["exit_code"] == 0
    journal = scenario.root / ".orch" / "data" / "shop-api-journal.txt"
    assert journal.read_text(encoding="utf-8") == "ended in order"


def test_replicas_have_names_and_files_of_their_own(scenario: Scenario) -> None:
    package(scenario)
    scenario.services(api(replicas=2))
    scenario.step("up", orch("up", "-d", "--wait"), exits(0))
    scenario.until_logged("shop.api@2", "hello shop.api@2")
    scenario.step("stopped", orch("stop", "--all"), exits(0))
    data = scenario.root / ".orch" / "data"
    assert {one.name for one in data.glob("*journal.txt")} == {
        "shop-api-journal.txt",
        "shop-api@2-journal.txt",
    }


def test_what_ended_a_component_is_in_its_status(scenario: Scenario) -> None:
    directory = package(scenario)
    scenario.services(api(config={"raises": True}, restart="never"))
    scenario.step("up", orch("up", "-d"))
    row = scenario.until_row("shop.api", phase="failed")
    place = f"{directory}/__component__.py:16: ValueError: as told"
    assert row["why"] == f"exit 1: Error caught in component shop.api: {place}"
    assert "Error caught in component 'shop.api':" in scenario.log("shop.api", "err").decode()


def test_a_component_may_be_a_function_or_a_class(scenario: Scenario) -> None:
    package(scenario, "component")
    codes = {
        "function": "def COMPONENT(conf={}):\n    print('function')\n",
        "klass": "class COMPONENT:\n    def run(self):\n        print('class')\n",
        "awaits": "async def COMPONENT():\n    print('awaited')\n",
    }
    for name, code in codes.items():
        scenario.write(code, f"{name}.py")
    more = {name: {"package": name, "restart": "never"} for name in codes}
    scenario.services({"shop": {"components": {"api": {"package": "shop.api"}, **more}}})
    scenario.step("up", orch("up", "-d", "--wait"), exits(0))
    scenario.until_logged("shop.api", "hello")
    scenario.until_logged("shop.function", "function")
    scenario.until_logged("shop.klass", "class")
    scenario.until_logged("shop.awaits", "awaited")


def test_a_reload_restarts_and_code_with_mistakes_does_not(scenario: Scenario) -> None:
    directory = package(scenario)
    scenario.services(api())
    scenario.step("up", orch("up", "-d", "--wait"), exits(0))
    pid = scenario.row("shop.api")["pid"]
    marker = directory / "__component__.py"
    marker.write_text("def broken(:\n", encoding="utf-8")
    scenario.step(
        "refused",
        orch("reload", "shop.api"),
        exits(1),
        says(r"__component__\.py:1: .*SyntaxError"),
    )
    assert scenario.row("shop.api")["pid"] == pid
    marker.write_text(COMPONENT.replace("CONF.greeting", "'changed'"), encoding="utf-8")
    scenario.step("restarted", orch("reload", "shop.api"), exits(0))
    scenario.until_logged("shop.api", "changed shop.api")
    assert scenario.row("shop.api")["pid"] != pid


def test_a_change_of_a_watched_package_restarts_it(scenario: Scenario) -> None:
    directory = package(scenario)
    scenario.services(api(watch=True))
    scenario.step("up", orch("up", "-d", "--wait"), exits(0))
    code = (directory / "conf.py").read_text(encoding="utf-8")
    (directory / "conf.py").write_text(code.replace('"hello"', '"anew"'), encoding="utf-8")
    scenario.until_logged("shop.api", "anew shop.api")


def test_a_built_package_runs_without_a_daemon_and_handles_signals(scenario: Scenario) -> None:
    package(scenario)
    scenario.services(api(config={"greeting": "built"}))
    scenario.step("built", orch("build"), exits(0))
    running = scenario.start("run", str(scenario.root / ".orch" / "conf" / "shop-api"))
    eventually(lambda: running.out_has("built shop.api"))
    running.interrupt()
    assert running.wait().code == 0
    assert (scenario.root / ".orch" / "data" / "shop-api-journal.txt").exists()


CALLER = """
import signal, sys
sys.path.insert(0, ".")
from shop.api.__component__ import COMPONENT
from shop.api.conf import CONF
"""


def call(scenario: Scenario, code: str, *, limit: float = 30.0) -> tuple[int, str]:
    """Run Python code in the scenario's directory; return the exit code and all output."""
    done = scenario.command([sys.executable, "-c", CALLER + code], limit=limit)
    scenario.transcript.append(str(done))
    return done.code, done.text


def test_in_a_process_of_its_own_it_is_ended_in_order(scenario: Scenario) -> None:
    package(scenario)
    code, text = call(
        scenario,
        """
COMPONENT.change_name("other")
COMPONENT.standard_configure("app")
started = COMPONENT.start_in_process()
from pathlib import Path
import time
said = Path("app/data/shop-other-journal.txt.begun")
while not said.exists():
    assert started.is_alive()
    time.sleep(0.01)
started.terminate()
print("ended", started.wait())
""",
    )
    assert code == 0, text
    assert "ended" in text
    info = json.loads((scenario.root / "app/conf/shop-other/__info__.json").read_bytes())
    assert (info["name"], info["package"]) == ("shop.other", "shop.api")


def test_an_error_in_a_process_of_its_own_is_raised_again(scenario: Scenario) -> None:
    package(scenario)
    code, text = call(
        scenario,
        """
CONF.raises = True
try:
    COMPONENT.start_in_subprocess("app")
except ValueError as error:
    print("caught", str(error).splitlines()[0], str(error).splitlines()[-1])
""",
    )
    assert code == 0, text
    assert "caught Error caught in component 'shop.api': ValueError: as told" in text


def test_in_the_callers_process_signals_are_the_callers(scenario: Scenario) -> None:
    package(scenario)
    code, text = call(
        scenario,
        """
before = [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)]
COMPONENT.standard_configure("app")
CONF.raises = True
try:
    COMPONENT.start()
except ValueError:
    print("raised as it is", flush=True)
assert before == [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)]
import os
os.kill(os.getpid(), signal.SIGTERM)
""",
    )
    assert code == -signal.SIGTERM, text
    assert "raised as it is" in text


def test_registered_children_end_with_the_component(scenario: Scenario) -> None:
    code = COMPONENT.replace(
        "        try:\n",
        "        import subprocess\n"
        "        child = subprocess.Popen(['sleep', '1000'])\n"
        "        self.register_child_for_cleanup(child)\n"
        "        print('child', child.pid, flush=True)\n"
        "        try:\n",
    )
    package(scenario, code=code)
    scenario.services(api())
    scenario.step("built", orch("build"), exits(0))
    running = scenario.start("run", str(scenario.root / ".orch" / "conf" / "shop-api"))
    eventually(lambda: running.out_has("child "))
    child = int(running.out.split("child ")[1].split()[0])
    os.kill(child, 0)
    running.interrupt()
    assert running.wait().code == 0
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


def test_a_package_that_cannot_start_says_so_in_one_line(scenario: Scenario) -> None:
    package(scenario, code="COMPONENT = 5\n")
    scenario.services(api(restart="never"))
    outcome = scenario.step(
        "up",
        orch("up", "-d", "--wait", "--no-import"),
        exits(1),
    )
    no_traceback(scenario, outcome)
    said = scenario.log("shop.api", "err").decode()
    assert "__component__.py:1: COMPONENT is 5 (int)" in said
    assert "Traceback" not in said


COMMANDS = """
from orchestrator.component import Command, CommandArg

COMMANDS = [Command("greet", args=[CommandArg("--loudly", action="store_true")])]


def cmd_greet(component, parsed_args):
    "Greet by the configuration."
    greeting = component.conf.greeting
    print(greeting.upper() if parsed_args.loudly else greeting, component.full_name)
"""


def test_a_service_administers_its_components(scenario: Scenario) -> None:
    package(scenario)
    scenario.write("", "shop/admin/__init__.py")
    scenario.write(COMMANDS, "shop/admin/commands.py")
    scenario.services(api(config={"greeting": "configured"}))
    listed = scenario.step("listed", orch("admin", "--json"), exits(0)).json()
    fits(listed, "admin")
    assert {"component": "shop.api", "name": "greet", "help": "Greet by the configuration.",
            "usage": "greet [--loudly]"} in listed  # fmt: skip
    outcome = scenario.step("greets", orch("admin", "shop.api", "greet", "--loudly"), exits(0))
    assert outcome.out == "CONFIGURED shop.api\n"
    scenario.step("unknown", orch("admin", "shop.api", "gret"), exits(2), says("mean 'greet'"))
    scenario.step("up", orch("up", "-d", "--wait"), exits(0))
    scenario.step(
        "refused",
        orch("admin", "shop.api", "start"),
        exits(1),
        says(r"shop.api here: it runs already \(pid \d+\); orch restart shop.api"),
    )


def test_what_is_wrong_with_an_administration_is_said_at_validate(scenario: Scenario) -> None:
    package(scenario)
    scenario.write("", "shop/admin/__init__.py")
    scenario.write("import nowhere\n", "shop/admin/commands.py")
    scenario.services(api())
    outcome = scenario.step(
        "refused", orch("validate"), exits(1), says(r"commands\.py:1:1: error ORC455: .*nowhere")
    )
    no_traceback(scenario, outcome)


def test_the_contexts_of_the_topology_are_there(scenario: Scenario) -> None:
    code = """
    from orchestrator.component import MetaService


    class Greeter:
        def __init__(self, whom):
            self.whom = whom


    def COMPONENT():
        print("greets", MetaService().build_context("greeter").whom, flush=True)
    """
    scenario.write(code, "greets.py")
    greeter = {"class": "greets:Greeter", "args": ["Ada"]}
    scenario.services(
        {"greets": {"package": "greets", "restart": "never"}}, contexts={"greeter": greeter}
    )
    scenario.step("up", orch("up", "-d", "--wait"), exits(0))
    scenario.until_logged("greets.greets", "greets Ada")
