"""Configuration and settings on a real system: built, run, changed, and refused with places."""

from __future__ import annotations

import json
import os
import shutil
import stat
from pathlib import Path

from tests.e2e.scenario import (
    Scenario,
    eventually,
    exits,
    no_traceback,
    nothing_runs,
    orch,
    says,
    silent_about,
)

CONF = """
from decimal import Decimal
from orchestrator.component import ConfField, ConfigurationManager, DirConfField

class _Manager(ConfigurationManager):
    symbol = ConfField("BTC")
    limit = ConfField(Decimal("1.10"))
    port = ConfField(type=int)
    token = ConfField("")
    cache = DirConfField("cache", "data")

CONF = _Manager("component").to_conf()
"""
SETTINGS = """
from orchestrator.component import SettingsField, SettingsManager
from shop.api.conf import CONF

class Settings(SettingsManager):
    PORT = SettingsField(type=int)
    TOKEN = SettingsField(optional=True, default_value="")

    def propagate_settings(self, component=None, component_arg=None):
        CONF.port = self.settings.PORT
        CONF.token = self.settings.TOKEN
"""
COMPONENT = """
import threading
from orchestrator.component import Component
from shop.api.conf import CONF

class _Api(Component):
    def tell(self, why):
        said = f"{CONF.symbol} {CONF.limit!r} {CONF.port} {CONF.token}"
        print(why, self.full_name, said, flush=True)
    def run(self):
        self.tell("began")
        threading.Event().wait()
"""
HOOK = """
    def on_settings(self, values):
        if values["PORT"] == 13:
            raise ValueError("unlucky")
        self.tell("took")
"""
MADE = """
COMPONENT = _Api("shop", "api", [CONF])
"""
HANDLER = """
import threading
config_model = {"required": {"port": int}}
def on_settings(values, config):
    print("took", values["PORT"], config["port"], flush=True)
def main(to_send, config):
    print("began", config["port"], flush=True)
    threading.Event().wait()
"""
TOPOLOGY = """\
settings:
  PORT: {type: integer, required: true}
  TOKEN: {secret: true, required: true}
services:
  shop:
    components:
      api: {package: shop.api, config: {limit: 2.5}}
"""
WITH_HANDLER = (
    TOPOLOGY
    + """\
      web: {package: shop.web}
      feed: {handler: feed.py, mode: main, config: {port: "${settings.PORT}"}}
      clock: {command: sleep 1000}
"""
)


def shop(scenario: Scenario, topology: str = TOPOLOGY) -> Path:
    """Write the service, and settings with a port; return the file of these."""
    for directory in ("shop", "shop/admin", "shop/web"):
        scenario.write("", f"{directory}/__init__.py")
    scenario.write("from shop.api.conf import CONF\n", "shop/api/__init__.py")
    scenario.write(CONF, "shop/api/conf.py")
    scenario.write(COMPONENT + HOOK + MADE, "shop/api/__component__.py")
    scenario.write(COMPONENT + MADE.replace("api", "web"), "shop/web/__component__.py")
    scenario.write(SETTINGS, "shop/admin/settings.py")
    scenario.write(HANDLER, "feed.py")
    scenario.write(topology)
    return scenario.write("PORT: 80\nTOKEN: t0psecret\n", "settings.yaml")


def test_changed_settings_reach_who_can_take_them_and_restart_the_others(
    scenario: Scenario,
) -> None:
    settings = shop(scenario, WITH_HANDLER)
    scenario.step("up", orch("up", "-d", "--wait"), exits(0))
    scenario.until_logged("shop.api", "began shop.api BTC Decimal('2.5') 80 t0psecret")
    scenario.until_logged("shop.feed", "began 80")
    before = {name: row["pid"] for name, row in scenario.ps().items()}
    scenario.step("again", orch("up", "-d", "--wait"), exits(0))
    assert {name: row["pid"] for name, row in scenario.ps().items()} == before
    settings.write_text("PORT: 81\nTOKEN: t0psecret\n", encoding="utf-8")
    scenario.step(
        "planned",
        orch("up", "--plan"),
        exits(0),
        says(
            r"shop\.api +update .*told to it", r"shop\.feed +update ", r"shop\.web +restart .*PORT"
        ),
    )
    scenario.step("changed", orch("up", "-d", "--wait"), exits(0))
    scenario.until_logged("shop.api", "took shop.api BTC Decimal('2.5') 81 t0psecret")
    scenario.until_logged("shop.feed", "took 81 81")
    scenario.until_logged("shop.web", "began shop.web", times=2)
    after = {name: row["pid"] for name, row in scenario.ps().items()}
    assert {name for name in before if after[name] != before[name]} == {"shop.web"}


def test_who_cannot_take_its_settings_is_restarted(scenario: Scenario) -> None:
    settings = shop(scenario)
    scenario.step("up", orch("up", "-d", "--wait"), exits(0))
    scenario.until_logged("shop.api", "began shop.api")
    settings.write_text("PORT: 13\nTOKEN: t0psecret\n", encoding="utf-8")
    scenario.step("changed", orch("up", "-d", "--wait"), exits(0))
    scenario.until_logged("shop.api", "began shop.api BTC Decimal('2.5') 13 t0psecret")
    assert "on_settings failed" in scenario.log("shop.api", "err").decode()


def test_a_build_is_private_complete_and_runs_elsewhere_under_its_name(
    scenario: Scenario,
) -> None:
    shop(scenario, TOPOLOGY.replace("api: {", "other: {"))
    mask = os.umask(0o022)
    try:
        scenario.step("built", orch("build", "-o", "out/built"), exits(0))
    finally:
        os.umask(mask)
    built = scenario.root / "out/built"
    tree = [built.parent, built, *(one for one in built.rglob("*") if one.is_dir())]
    assert {stat.S_IMODE(one.stat().st_mode) for one in tree} == {0o750}
    names = {str(one.relative_to(built)) for one in built.rglob("*")}
    assert {"logging", "static", "data", "conf/shop-other/shop.api.conf.CONF"} <= names
    assert (scenario.root / ".orch/data/shop-other-cache").is_dir()
    for path in built.rglob("*"):
        assert path.is_dir() or b"t0psecret" not in path.read_bytes(), path
    moved = scenario.root / "moved/conf/shop-other"
    shutil.copytree(built / "conf/shop-other", moved)
    scenario.environment["ORCH_SETTING_TOKEN"] = "given"
    running = scenario.start("run", str(moved))
    eventually(lambda: running.out_has("began shop.other BTC Decimal('2.5') 80 given"))
    running.interrupt()
    assert running.wait().code == 0


def test_builds_are_compared_and_what_is_gone_is_removed(scenario: Scenario) -> None:
    shop(scenario)
    scenario.step("built", orch("build"), exits(0))
    scenario.step("fresh", orch("build", "--check"), exits(0))
    set_ = ("--set", "shop.api.symbol=ETH")
    scenario.step("stale", orch("build", "--check", *set_), exits(1), says("CONF is changed"))
    scenario.step("shown", orch("build", "--diff", *set_), exits(0), says(r'\+ +"symbol": "ETH"'))
    scenario.step("anew", orch("build", *set_), exits(0), says("3 written"))
    scenario.write("def COMPONENT(): pass\n", "shop/api/__component__.py")
    scenario.write("", "shop/api/__init__.py")
    scenario.step("without", orch("build"), exits(0), says("1 removed"))
    conf = scenario.root / ".orch/conf/shop-api"
    assert not (conf / "shop.api.conf.CONF").exists()


def test_values_are_shown_with_the_layers_of_code_and_files(scenario: Scenario) -> None:
    shop(scenario)
    outcome = scenario.step(
        "shown",
        orch("config"),
        exits(0),
        says(
            r"settings +PORT +80 +file +settings\.yaml:1",
            r"settings +TOKEN +\*\*\* +file +settings\.yaml:2",
            r"shop\.api +symbol +BTC +default +shop/api/conf\.py:6",
            r"shop\.api +limit +2\.5 +component +topology\.yaml:7",
            r"shop\.api +port +80 +settings +shop/admin/settings\.py:9 \(propagate_settings\)",
            r"shop\.api +token +\*\*\*",
            r"shop\.api +cache +\S+/data/shop-api-cache +default +standard path",
        ),
        silent_about("t0psecret"),
    )
    assert outcome.code == 0
    shown = scenario.run("config", "shop.api", "--json").json()
    rows = {row["key"]: row for row in shown["components"][0]["values"]}
    assert rows["limit"]["overrides"][0]["value"] == {"__decimal__": "1.10"}
    assert json.dumps(shown).count("t0psecret") == 0


COMMON = """
from orchestrator.component import ConfField, ConfigurationManager

class _Manager(ConfigurationManager):
    timeout = ConfField(5.0)
    retries = ConfField(3)

CONF = _Manager("package").to_conf()
"""
USER = """
import threading
import common.conf
CONF = common.conf.CONF
def main(to_send, config):
    print("began", CONF.timeout, CONF.retries, flush=True)
    threading.Event().wait()
"""
SHARED = """\
packages: {common: {path: lib, config: {timeout: 7}}}
services:
  shop:
    components:
      one: {handler: user.py, mode: main}
      two:
        handler: user.py
        mode: main
        config: {retries: 4, other: 1}
        environment: {ORCH_CONFIG__TIMEOUT: "9"}
"""


def test_packages_that_handlers_share_have_their_configuration(scenario: Scenario) -> None:
    (scenario.root / "lib").mkdir()
    scenario.write("", "lib/common/__init__.py")
    scenario.write(COMMON, "lib/common/conf.py")
    scenario.write(USER, "user.py")
    scenario.write(SHARED)
    scenario.step("up", orch("up", "-d", "--wait"), exits(0))
    scenario.until_logged("shop.one", "began 7.0 3")
    scenario.until_logged("shop.two", "began 9.0 4")
    scenario.write("CONF = 1\n", "lib/common/conf.py")
    scenario.step(
        "refused",
        orch("validate"),
        exits(1),
        says(r"topology\.yaml:1:\d+: error ORC437: .*common\.conf\.CONF is no configuration"),
        no_traceback,
    )


BAD = {
    "topology": (
        "topology.yaml",
        TOPOLOGY.replace("limit: 2.5", "limit: much, smybol: x"),
        (r"topology\.yaml:7:\d+: error ORC435: .*'limit'", r"topology\.yaml:7:\d+: error ORC434"),
    ),
    "raises": (
        "settings.py",
        "PORT = 80\n1 / 0\n",
        (r"settings\.py:2:1: error ORC431: cannot load settings\.py: ZeroDivision",),
    ),
    "type": ("settings.yaml", "PORT: x\nTOKEN: t\n", (r"settings\.yaml:1:\d+: error ORC433",)),
    "missing": (
        "settings.yaml", "TOKEN: t\n", (r"topology\.yaml:2:\d+: error ORC025",),
    ),
    "manager": (
        "shop/admin/settings.py",
        SETTINGS.replace("    PORT", "    MORE = SettingsField()\n    PORT"),
        (r"topology\.yaml:7:\d+: error ORC437: .*'MORE' is required",),
    ),
    "hook": (
        "shop/admin/settings.py",
        SETTINGS.replace("CONF.port = ", "CONF.prot = "),
        (r"error ORC437: .*no field 'prot'; did you mean 'port'",),
    ),
    "declared": (
        "shop/api/conf.py",
        CONF.replace("symbol =", "build ="),
        (r"shop/api/conf\.py:5:\d+: error ORC450: .*'build' cannot be a field",),
    ),
}  # fmt: skip


def test_bad_configuration_is_refused_at_its_place_and_never_started(scenario: Scenario) -> None:
    for name, (file, text, patterns) in BAD.items():
        shop(scenario)
        if file == "settings.py":
            (scenario.root / "settings.yaml").unlink()
        scenario.write(text, file)
        command = orch("up", "-d") if name in ("topology", "raises") else orch("validate")
        scenario.step(name, command, exits(1), says(*patterns), no_traceback)
        (scenario.root / "settings.py").unlink(missing_ok=True)
    shop(scenario)
    (scenario.root / ".orch").write_text("in the way", encoding="utf-8")
    scenario.step(
        "a file in the way",
        orch("validate"),
        exits(1),
        says(r"topology\.yaml:1:\d+: error ORC438: .*it is no directory"),
        nothing_runs,
    )
