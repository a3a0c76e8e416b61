"""Service classes under the daemon: their life is the component's."""

from __future__ import annotations

import re

from tests.e2e.scenario import Scenario, exits, no_traceback, orch, row, says

SHOP = """
import os
import threading
from pathlib import Path

from orchestrator.component import CommonService

CONFIG = {"enabled": True, "quiet": True, "host": "localhost", "port": 1}


class Cache(CommonService):
    def build_config(self, hook):
        return hook.service_glob("CACHE_CONFIG", CONFIG)

    def run(self):
        print("run", sorted(self.config.items()), self.state.name, flush=True)
        if Path("broken").exists():
            raise ConnectionRefusedError("no cache there")
        self.app = object()

    def post_run(self, hook=None):
        self.spawn_daemon(worker=self.work, scheduler=self.work)

    def work(self, stop):
        stop.wait()
        print("thread ended", flush=True)

    def is_running(self):
        return super().is_running() and not Path("gone").exists()

    def reset(self, hook):
        print("reset", flush=True)
        Path("gone").unlink(missing_ok=True)
        super().reset(hook)


class Plain:
    pass


class Hasty(CommonService):
    async def run(self, hook):
        pass
"""


def test_a_service_is_ready_when_it_runs_and_ends_its_threads(scenario: Scenario) -> None:
    scenario.write(SHOP, "shop.py")
    scenario.services({"cache": {"class": "shop:Cache", "config": {"port": 6379}}})
    scenario.step("it becomes ready", orch("up", "-d", "--wait"), exits(0), no_traceback)
    scenario.until_logged("cache.cache", "run [('host', 'localhost'), ('port', 6379)] STARTED")
    scenario.until_row("cache.cache", why="threads: worker, scheduler")
    scenario.step("its threads end with it", orch("stop", "cache"), exits(0))
    assert scenario.log("cache.cache").count(b"thread ended") == 2
    assert scenario.row("cache.cache")["exit_code"] == 0


def test_a_failed_start_obeys_the_restart_policy_and_says_why(scenario: Scenario) -> None:
    scenario.write(SHOP, "shop.py")
    scenario.write("", "broken")
    limits = {"limit": {"failures": 2}, "backoff": {"initial": "1ms"}}
    scenario.services({"cache": {"class": "shop:Cache", **limits}})
    scenario.step("it gives up", orch("up", "-d", "--wait"), exits(1))
    scenario.until_row("cache.cache", phase="failed", exit_code=1, result="start-limit")
    why = r"Cache failed to start: .*shop\.py:18: ConnectionRefusedError: no cache there"
    scenario.step("the reason is told", orch("explain", "cache"), says(why), no_traceback)
    scenario.step("the status too", orch("status", "cache"), says(why))
    (scenario.root / "broken").unlink()
    scenario.step("a reset clears it", orch("reset", "cache"), exits(0))
    scenario.step("it can start", orch("start", "cache"), row("cache.cache", ready=True))


def test_a_reload_resets_it_in_place(scenario: Scenario) -> None:
    scenario.write(SHOP, "shop.py")
    scenario.services({"cache": {"class": "shop:Cache"}})
    scenario.step("it runs", orch("up", "-d", "--wait"), exits(0))
    pid = scenario.row("cache.cache")["pid"]
    scenario.step("it is reset", orch("reload", "cache"), exits(0), says("reloaded in place"))
    assert scenario.log("cache.cache").count(b"reset\n") == 1
    assert scenario.row("cache.cache")["pid"] == pid
    scenario.until_row("cache.cache", why="threads: worker, scheduler")
    scenario.write(SHOP + "\n\nprint('newer')\n", "shop.py")
    changed = orch("reload", "cache")
    scenario.step("new code has a new process", changed, exits(0), says("its code has changed"))
    scenario.until_row("cache.cache", ready=True)
    assert scenario.row("cache.cache")["pid"] != pid
    scenario.write("def broken(:\n", "shop.py")
    scenario.step("what does not compile changes nothing", orch("reload", "cache"), exits(1))
    assert scenario.row("cache.cache")["ready"]
    scenario.write(SHOP, "shop.py")
    scenario.write("", "broken")
    scenario.step("new code may fail to start", orch("reload", "cache"), exits(1))


def test_a_reset_that_fails_ends_the_process(scenario: Scenario) -> None:
    scenario.write(SHOP, "shop.py")
    scenario.services({"cache": {"class": "shop:Cache", "restart": "never"}})
    scenario.step("it runs", orch("up", "-d", "--wait"), exits(0))
    scenario.write("", "broken")
    scenario.step("it fails", orch("reload", "cache"), exits(1), says("no cache there"))
    scenario.until_row("cache.cache", phase="failed", exit_code=1)


def test_keep_alive_resets_what_does_not_run(scenario: Scenario) -> None:
    scenario.write(SHOP, "shop.py")
    keep = {"keep_alive": {"interval": "100ms"}, "restart": "never"}
    scenario.services({"cache": {"class": "shop:Cache", **keep}})
    scenario.step("it runs", orch("up", "-d", "--wait"), exits(0))
    pid = scenario.row("cache.cache")["pid"]
    scenario.write("", "gone")
    scenario.until_logged("cache.cache", "reset\n")
    assert scenario.until_row("cache.cache", ready=True)["pid"] == pid
    assert b"Cache does not run: it is RUNNING; it is reset" in scenario.log("cache.cache", "err")
    scenario.write("", "broken")
    scenario.write("", "gone")
    scenario.until_row("cache.cache", phase="failed", exit_code=1)


def test_a_service_that_is_not_enabled_idles(scenario: Scenario) -> None:
    scenario.write(SHOP, "shop.py")
    scenario.services({"cache": {"class": "shop:Cache", "config": {"enabled": False}}})
    scenario.step("it is there", orch("up", "-d", "--wait"), exits(0))
    scenario.until_row("cache.cache", ready=True, why="not enabled by its configuration")
    assert scenario.log("cache.cache") == b""


def test_a_class_that_is_no_service_is_told_at_its_place(scenario: Scenario) -> None:
    scenario.write(SHOP, "shop.py")
    cases = {
        "plain": (
            "shop:Plain",
            r"shop\.py:\d+:1: error ORC222: .*'Plain' is a class, but no Comm",
        ),
        "number": ("shop:CONFIG", r"shop\.py:\d+:1: error ORC222: .*'CONFIG' is no class"),
        "absent": ("shop:Cash", r"topology\.yaml:\d+:\d+: error ORC222: .*no class 'Cash'"),
        "async": ("shop:Hasty", r"shop\.py:\d+:5: error ORC222: .*run must be a plain method"),
        "module": ("shoq:Cache", r"topology\.yaml:\d+:\d+: error ORC222: .*shoq"),
        "word": ("shop", r"ORC230: `class: shop` is not module:Class"),
    }
    scenario.services({name: {"class": word} for name, (word, _) in cases.items()})
    told = scenario.step("all is told", orch("validate"), exits(1), no_traceback).text
    for name, (_, pattern) in cases.items():
        assert re.search(pattern, told), f"{name}: {told}"


def test_a_class_whose_module_raises_is_told_at_its_line(scenario: Scenario) -> None:
    scenario.write("import orchestrator\n\n1 / 0\n", "shop.py")
    scenario.services({"cache": {"class": "shop:Cache"}})
    where = r"shop\.py:3:1: error ORC222: .*ZeroDivisionError"
    scenario.step("it is told", orch("validate"), exits(1), says(where), no_traceback)
