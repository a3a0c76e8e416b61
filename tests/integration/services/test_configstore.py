"""The configuration store: one truth for any number of processes, in SQLite and in Redis."""

# ruff: noqa: ARG002 - services as users write them

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from orchestrator.component import CommonService, Hook, RedisHook, configstore, hooks
from orchestrator.component.configstore import FILE, Store, StoreError
from tests import redis_server

CONFIG = {"enabled": True, "host": "localhost", "smtp": {"port": 25, "tls": False}}
EXACT = {
    "price": Decimal("1.10"),
    "at": datetime(2026, 1, 2, tzinfo=UTC),
    "tags": {"a", "b"},
    "pair": (1, "x"),
    "raw": b"\0\xff",
    "none": None,
}


@pytest.fixture(params=["memory", "sqlite", "redis"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param != "redis":
        yield request.param
        return
    with redis_server.running(tmp_path) as url:
        yield f"{url}#test"


@pytest.fixture
def store(where: str, tmp_path: Path) -> Store:
    return configstore.opened(where, tmp_path)


@pytest.fixture(autouse=True)
def process_of_its_own(monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    monkeypatch.setattr(hooks, "_process", {"store": store})


class Mailer(CommonService):
    def build_config(self, hook: Any) -> dict[str, Any]:
        found: dict[str, Any] = hook.service_glob("MAIL_CONFIG", CONFIG)
        return found

    def run(self, hook: Any = None) -> None:
        self.app = self


def made(given: hooks.Given, hook: Hook) -> Mailer:
    with hooks.giving(given):
        return Mailer(hook)


# ------------------------------------------------------------- what hooks promise


def test_a_default_is_added_when_there_is_none() -> None:
    hook = Hook()
    assert hook.config_get("MAIL_CONFIG") is None
    assert hook.service_glob("MAIL_CONFIG", CONFIG) == CONFIG
    assert Hook().config_get("MAIL_CONFIG") == CONFIG
    assert hook.service_glob("MAIL_CONFIG") == CONFIG


def test_a_default_that_the_code_changes_is_the_new_one() -> None:
    Hook().service_glob("MAIL_CONFIG", CONFIG)
    assert Hook().service_glob("MAIL_CONFIG", {**CONFIG, "port": 2}) == {**CONFIG, "port": 2}
    assert Hook().config_get("MAIL_CONFIG")["port"] == 2


def test_what_is_returned_is_nobody_elses() -> None:
    hook = Hook()
    hook.service_glob("MAIL_CONFIG", CONFIG)["smtp"]["port"] = 1
    assert hook.service_glob("MAIL_CONFIG", CONFIG) == CONFIG
    assert CONFIG["smtp"] == {"port": 25, "tls": False}


def test_what_is_set_is_the_whole_value_for_everybody_at_once() -> None:
    one, other = Hook(), Hook()
    one.service_glob("MAIL_CONFIG", CONFIG)
    one.config_set("MAIL_CONFIG", {"enabled": True, "host": "there"})
    assert other.service_glob("MAIL_CONFIG", CONFIG) == {"enabled": True, "host": "there"}
    assert other.config_get("MAIL_CONFIG") == {"enabled": True, "host": "there"}
    other.config_unset("MAIL_CONFIG")
    assert one.service_glob("MAIL_CONFIG", CONFIG) == CONFIG


def test_types_are_exact() -> None:
    Hook().config_set("EXACT", EXACT)
    assert Hook().config_get("EXACT") == EXACT
    for name, value in EXACT.items():
        assert type(Hook().config_get("EXACT")[name]) is type(value)


def test_what_cannot_be_kept_is_refused_and_nothing_is_changed() -> None:
    hook = Hook()
    hook.config_set("MAIL_CONFIG", CONFIG)
    with pytest.raises(TypeError, match="cannot keep 'MAIL_CONFIG'"):
        hook.config_set("MAIL_CONFIG", {"file": sys.stdout})
    assert hook.config_get("MAIL_CONFIG") == CONFIG


# ------------------------------------------------------------- layers of a component


def test_layers_of_a_component() -> None:
    given = hooks.Given("mail.mailer", {"host": "there", "smtp": {"port": 587}}, link="/nowhere")
    service = made(given, Hook())
    assert service.config == {"host": "there", "smtp": {"port": 587, "tls": False}}
    store = hooks.process_store()
    hooks.change(store, "mail.mailer", {("smtp", "tls"): True, ("host",): "set"})
    assert service.config["host"] == "there"
    service.reset(Hook())
    assert service.config == {"host": "set", "smtp": {"port": 587, "tls": True}}
    layers = hooks.layers(store, "mail.mailer")
    assert layers.name == "MAIL_CONFIG"
    assert layers.default == CONFIG
    assert layers.changes == {("smtp", "tls"): True, ("host",): "set"}
    Hook().config_set("MAIL_CONFIG", {"enabled": True, "host": "whole"})
    service.reset(Hook())
    assert service.config == {"host": "set", "smtp": {"tls": True}}
    hooks.change(store, "mail.mailer", {}, gone=[("host",), ("smtp",)])
    service.reset(Hook())
    assert service.config == {"host": "whole"}


def test_components_of_one_name_have_their_own() -> None:
    one = made(hooks.Given("a.mailer", {"host": "a"}), Hook())
    other = made(hooks.Given("b.mailer", {"host": "b"}), Hook())
    hooks.change(hooks.process_store(), "a.mailer", {("host",): "set"})
    one.reset()
    other.reset()
    assert (one.config["host"], other.config["host"]) == ("set", "b")


def test_a_value_replaces_what_was_set_below_it() -> None:
    store = hooks.process_store()
    hooks.change(store, "a.b", {("smtp", "port"): 1, ("smtp", "tls"): True, ("smtpx",): 1})
    hooks.change(store, "a.b", {("smtp",): {"port": 2}})
    assert hooks.changes(store, "a.b") == {("smtp",): {"port": 2}, ("smtpx",): 1}


def test_secrets_are_not_in_the_store() -> None:
    given = hooks.Given("a.b", {"key": "geheim"}, shown={"key": "${settings.KEY}"})
    assert made(given, Hook()).config["key"] == "geheim"
    store = hooks.process_store()
    assert hooks.layers(store, "a.b").given == {"key": "${settings.KEY}"}
    for space in ("default", "stored", "component", "changes:a.b"):
        assert "geheim" not in str(store.read(space))


# ------------------------------------------------------------- many processes

WRITER = """
import sys
from pathlib import Path
from orchestrator.component import Hook, configstore, hooks

where, base, number, count = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
hooks.use_store(configstore.opened(where, base))
for step in range(count):
    hooks.change(hooks.process_store(), "a.b", {(f"writer{number}", str(step)): step})
    Hook().config_set(f"LAST_{number}", step)
"""


def test_concurrent_writers_lose_nothing(where: str, store: Store, tmp_path: Path) -> None:
    if where == "memory":
        pytest.skip("it is one process's")
    steps, writers = 10, 4
    argv = [sys.executable, "-c", WRITER, where, str(tmp_path)]
    running = [
        subprocess.Popen([*argv, str(number), str(steps)], env=os.environ)
        for number in range(writers)
    ]
    assert [one.wait(120) for one in running] == [0] * writers
    found = hooks.changes(store, "a.b")
    assert found == {
        (f"writer{number}", str(step)): step for number in range(writers) for step in range(steps)
    }
    assert [Hook().config_get(f"LAST_{number}") for number in range(writers)] == [9] * writers


# ------------------------------------------------------------- refresh


def test_a_refresh_resets_the_services_that_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    from orchestrator.component import MetaService, registry

    monkeypatch.setattr(MetaService, "_registry", registry._Registry())
    monkeypatch.setattr(MetaService, "_made", {})
    meta = MetaService()
    meta.add_service_builder("mail", Mailer)
    hook = meta.build_hook()
    hook.config_set("MAIL_CONFIG", {"enabled": True, "host": "new"})
    assert hook.mail.config["host"] == "localhost"
    assert hook.config_refresh("MAIL_CONFIG") == ("mail",)
    assert hook.mail.config == {"host": "new"}
    assert hook.mail.is_running()
    assert hook.config_refresh("OTHER_CONFIG") == ()


def test_who_is_not_there_is_not_refreshed(tmp_path: Path) -> None:
    made(hooks.Given("a.b", link=str(tmp_path / "gone")), Hook())
    assert Hook().config_refresh("MAIL_CONFIG") == ()


# ------------------------------------------------------------- where it is


def test_the_file_is_private_and_made_when_something_is_written(tmp_path: Path) -> None:
    store = configstore.opened("sqlite", tmp_path)
    assert store.read("default") == {}
    assert not (tmp_path / FILE).exists()
    store.write("default", {"A": 1})
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600


def test_a_file_that_is_no_store_is_told(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / FILE).write_text("this is no database, and long enough to be told from one" * 20)
    with pytest.raises(StoreError, match=r"cannot use the configuration store .*config\.sqlite"):
        configstore.opened("sqlite", tmp_path).read("default")


@pytest.mark.parametrize("where", ["redis://127.0.0.1:1/0", "unix:///nowhere/redis.sock"])
def test_a_server_that_is_not_there_is_told(where: str) -> None:
    with pytest.raises(StoreError, match="cannot use the configuration store in Redis"):
        RedisHook(where).service_glob("A", 1)


def test_other_places_are_refused_without_their_passwords(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no configuration store") as told:
        configstore.opened("mysql://me:geheim@here", tmp_path)
    assert "geheim" not in str(told.value)
