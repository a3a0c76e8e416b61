"""Service classes under the daemon: their life is the component's."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import redis_server
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


# ------------------------------------------------------------- the configuration store

REFRESHER = """
import sys
from pathlib import Path

from orchestrator.component import Hook, configstore, hooks

hooks.use_store(configstore.opened(sys.argv[1], Path(sys.argv[2])))
hook = Hook()
hook.config_set("CACHE_CONFIG", {"enabled": True, "host": "whole"})
print(hook.config_refresh("CACHE_CONFIG"))
"""


@pytest.fixture(params=["sqlite", "redis"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield "sqlite"
        return
    with redis_server.running(tmp_path) as url:
        yield f"{url}#world"


def test_a_value_that_is_set_reaches_the_service_that_runs(scenario: Scenario, where: str) -> None:
    scenario.write(SHOP, "shop.py")
    one = {"class": "shop:Cache", "config": {"port": 7}}
    scenario.services({"cache": {**one, "replicas": 2}, "other": one}, config_store=where)
    scenario.step("all run", orch("up", "-d", "--wait"), exits(0))
    pids = {name: each["pid"] for name, each in scenario.ps().items()}
    words = ("config", "set", "cache", "host=there", "deep.depth=[1, 2]")
    scenario.step("both replicas are reset", orch(*words), exits(0), says("@1: reloaded in place"))
    for name in ("cache.cache@1", "cache.cache@2"):
        scenario.until_logged(name, "('deep', {'depth': [1, 2]}), ('host', 'there'), ('port', 7)")
    assert {name: each["pid"] for name, each in scenario.ps().items()} == pids
    assert b"there" not in scenario.log("other.other")
    scenario.step("it outlives the processes", orch("restart", "cache"), exits(0))
    scenario.until_logged("cache.cache@1", "('host', 'there'), ('port', 7)", times=2)
    scenario.step("taken back", orch("config", "unset", "cache", "host", "deep"), exits(0))
    scenario.until_logged("cache.cache@1", "[('host', 'localhost'), ('port', 7)]", times=2)

    silent = orch("config", "set", "other", "host=later", "--no-refresh")
    scenario.step("nothing is reset", silent, exits(0))
    assert b"later" not in scenario.log("other.other")
    scenario.step("until it is asked for", orch("config", "refresh", "other"), exits(0))
    scenario.until_logged("other.other", "('host', 'later')")

    scenario.write(REFRESHER, "refresher.py")
    python = [sys.executable, str(scenario.root / "refresher.py"), where, str(scenario.base)]
    done = scenario.command(python)
    assert done.code == 0, str(done)
    assert set(ast.literal_eval(done.out)) == {"cache.cache@1", "cache.cache@2", "other.other"}
    scenario.until_logged("cache.cache@2", "[('host', 'whole')]")
    scenario.until_logged("other.other", "[('host', 'later')]")


def test_a_service_that_is_switched_off_and_on(scenario: Scenario) -> None:
    scenario.write(SHOP, "shop.py")
    scenario.services({"cache": {"class": "shop:Cache"}})
    scenario.step("it runs", orch("up", "-d", "--wait"), exits(0))
    scenario.step("off", orch("config", "set", "cache", "enabled=false"), exits(0))
    scenario.until_row("cache.cache", ready=True, why="not enabled by its configuration")
    assert scenario.log("cache.cache").count(b"thread ended") == 2
    scenario.step("on", orch("config", "set", "cache", "enabled=true"), exits(0))
    scenario.until_row("cache.cache", why="threads: worker, scheduler")


def test_a_value_that_a_service_cannot_start_with(scenario: Scenario) -> None:
    scenario.write(SHOP, "shop.py")
    scenario.services({"cache": {"class": "shop:Cache", "restart": "never"}})
    scenario.step("it runs", orch("up", "-d", "--wait"), exits(0))
    bad = orch("config", "set", "cache", "enabled=perhaps")
    why = "'enabled' must be true or false, got 'perhaps'"
    scenario.step("it is told", bad, exits(1), says(why), no_traceback)
    scenario.until_row("cache.cache", phase="failed", exit_code=1)


def test_operators_who_set_at_once_lose_nothing(scenario: Scenario) -> None:
    scenario.write(SHOP, "shop.py")
    scenario.services({"cache": {"class": "shop:Cache"}})
    started = [
        scenario.start("config", "set", "cache", f"key{number}={number}") for number in range(6)
    ]
    assert [one.wait(60).code for one in started] == [0] * 6
    scenario.step("it runs", orch("up", "-d", "--wait"), exits(0))
    expected = ", ".join(f"('key{number}', {number})" for number in range(6))
    scenario.until_logged("cache.cache", expected)
    started = [
        scenario.start("config", "set", "cache", f"key{number}=again") for number in range(6)
    ]
    assert [one.wait(60).code for one in started] == [0] * 6
    expected = ", ".join(f"('key{number}', 'again')" for number in range(6))
    assert expected.encode() in scenario.log("cache.cache"), "who was answered is heeded"


def test_a_store_that_is_not_there_is_told(scenario: Scenario) -> None:
    scenario.write(SHOP, "shop.py")
    store = "redis://127.0.0.1:1/0"
    scenario.services({"cache": {"class": "shop:Cache", "restart": "never"}}, config_store=store)
    scenario.step("it cannot start", orch("up", "-d", "--wait"), exits(1))
    why = "cannot use the configuration store in Redis"
    scenario.step("why", orch("explain", "cache"), says(why), no_traceback)
    scenario.step(
        "nor set", orch("config", "set", "cache", "a=1"), exits(1), says(why), no_traceback
    )


# ------------------------------------------------------------- contexts and default services

REGISTRY = """
from orchestrator.component import CommonService, Hook, MetaService


class ShopHook(Hook):
    def __init__(self, label, **more):
        super().__init__()
        self.label, self.more = label, more


class Redis(CommonService):
    def build_config(self, hook):
        return hook.service_glob("REDIS_CONFIG", {"enabled": False, "url": "here"})

    def run(self):
        self.app = self.config["url"]


class Master:
    pass


class Shop(CommonService):
    def build_config(self, hook):
        return hook.service_glob("SHOP_CONFIG", {})

    def run(self, hook):
        master = MetaService().build_master()
        print(type(hook).__name__, hook.label, hook.more, hook.redis.app, self.kube, flush=True)
        print(master._h.redis is hook.redis, hook.meta is MetaService(), flush=True)
        self.app = hook
"""


def test_contexts_default_services_and_manifests_of_the_topology(scenario: Scenario) -> None:
    scenario.write(REGISTRY, "shop.py")
    scenario.write("kind: A\nname: a\n---\nkind: B\n---\nkind: A\nname: b\n", "kube/shop.yaml")
    scenario.services(
        {"shop": {"class": "shop:Shop", "manifests": ["kube/shop.yaml"]}},
        settings={"KEY": {"secret": True, "required": True}},
        contexts={
            "hook": {"class": "shop:ShopHook", "args": ["x"], "kwargs": {"k": "${settings.KEY}"}},
            "master": "shop:Master",
        },
        default_services={"redis": {"class": "shop:Redis", "config": {"url": "there"}}},
    )
    scenario.environment["ORCH_SETTING_KEY"] = "geheim"
    scenario.step("it runs", orch("up", "-d", "--wait"), exits(0))
    kube = "{'A': [{'kind': 'A', 'name': 'a'}, {'kind': 'A', 'name': 'b'}], 'B': [{'kind': 'B'}]}"
    scenario.until_logged("shop.shop", f"ShopHook x {{'k': 'geheim'}} there {kube}")
    scenario.until_logged("shop.shop", "True True")
    for path in scenario.base.rglob("*"):
        if path.is_file() and path.suffix not in (".out", ".err"):
            assert b"geheim" not in path.read_bytes(), path
