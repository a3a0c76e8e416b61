"""MetaService: contexts, services and the common builders, as its document uses them."""

# ruff: noqa: ARG002 - services as users write them

from __future__ import annotations

import threading
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from orchestrator.component import (
    CommonService,
    Hook,
    MemoryHook,
    MetaService,
    ServiceState,
    SetupError,
    hooks,
    registry,
)
from orchestrator.component.registry import AlreadyThere, Declared, UnknownEntry


class RedisHook(Hook):
    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__()
        self.args, self.kwargs = args, kwargs


class OrmHook(RedisHook):
    pass


class Master:
    def __init__(self, *args: object, **kwargs: object) -> None:
        self.args, self.kwargs = args, kwargs
        self._h: Any = None


class SuperMaster(Master):
    pass


class Named(CommonService):
    """A service that a default one stands for."""

    def __init__(self, hook: Any = None, label: str = "") -> None:
        self.label = label
        super().__init__(hook)

    def build_config(self, hook: Any) -> dict[str, Any]:
        found: dict[str, Any] = hook.service_glob(
            f"{type(self).__name__}_CONFIG", {"enabled": True}
        )
        return found

    def run(self, hook: Any = None) -> None:
        self.app = {"ran with": hook}


class RedisService(Named):
    pass


class TaskService(Named):
    pass


class Broken(Named):
    def run(self, hook: Any = None) -> None:
        raise ConnectionRefusedError("nobody there")


@pytest.fixture(autouse=True)
def registry_of_its_own(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(MetaService, "_registry", registry._Registry())
    monkeypatch.setattr(MetaService, "_made", {})
    monkeypatch.setattr(MetaService, "declared", Declared())
    monkeypatch.setattr(hooks, "_process", {})
    yield
    MetaService().stop()


# ------------------------------------------------------------- the samples of the document


def test_add_context() -> None:
    args, kwargs = (1, 2), {"key": "value"}
    ms1 = MetaService()
    ms1.add_context("hook", RedisHook, *args, **kwargs)
    ms2 = MetaService()
    assert ms2.get_context("hook")["class"] == RedisHook
    assert ms2.get_context("hook")["args"] == args
    assert ms2.get_context("hook")["kwargs"] == kwargs
    MetaService().add_context("hook2", RedisHook, *args, **kwargs)
    assert ms2.get_context("hook2") == ms2.get_context("hook")
    ms3 = MetaService()
    ms3.add_context("hook", OrmHook, *args, **kwargs)
    assert ms1.get_context("hook")["class"] == OrmHook
    assert ms1.get_context_class("hook") == OrmHook


def test_get_context_makes_nothing_and_gives_its_own_away() -> None:
    ms1 = MetaService()
    ms1.add_context("boom", _boom, depth=1)
    ms1.get_context("boom")["kwargs"]["depth"] = 2
    assert ms1.get_context("boom") == {"class": _boom, "args": (), "kwargs": {"depth": 1}}


def _boom(**_: object) -> None:
    raise AssertionError("nobody asked for one")


def test_build_context() -> None:
    ms1 = MetaService()
    ms1.add_context("hook", RedisHook, 1, 2, key="value", other="kept")
    hook = ms1.build_context("hook")
    assert isinstance(hook, RedisHook)
    assert (hook.args, hook.kwargs) == ((1, 2), {"key": "value", "other": "kept"})
    again = ms1.build_context("hook", 0, key="mine")
    assert again is not hook
    assert (again.args, again.kwargs) == ((0, 1, 2), {"key": "mine", "other": "kept"})


def test_add_service_builder_and_build_service() -> None:
    ms1 = MetaService()
    ms1.add_service_builder("redis", RedisService)
    background = False
    redis = ms1.build_service("redis", background, None, label="other args")
    assert isinstance(redis, RedisService)
    assert redis.label == "other args"
    assert redis.state is ServiceState.NOT_STARTED
    assert ms1.build_service("redis", background) is not redis
    kept = ms1.build_service("redis", True, None, "first")
    assert ms1.build_service("redis", True, None, "second") is kept
    assert kept.label == "first"
    assert MetaService().get_service("redis") is kept
    assert ms1.build_service("redis", False) is not kept


def test_get_service_makes_what_is_not_there() -> None:
    ms1 = MetaService()
    ms1.add_service_builder("redis", RedisService)
    redis = ms1.get_service("redis", None, label="made")
    assert redis.label == "made"
    assert ms1.get_service("redis") is redis


def test_build_hook() -> None:
    ms1 = MetaService()
    ms1.add_context("hook", RedisHook)
    names = ("kube", "jsorc", "promon", "redis", "task", "mail")
    for name in names:
        ms1.add_service_builder(name, type(name.title(), (Named,), {}))
    hook: Any = ms1.build_hook()
    assert type(hook).__name__ == "RedisHook"
    for name in names:
        assert getattr(hook, name) is ms1.get_service(name)
        assert getattr(hook, name).is_running()
        assert getattr(hook, name).app == {"ran with": hook}
    assert hook.meta is ms1
    assert ms1.build_hook() is not hook
    assert ms1.build_hook().redis is hook.redis


@pytest.mark.parametrize("which", ["master", "super_master"])
def test_build_master_and_build_super_master(which: str) -> None:
    ms1 = MetaService()
    ms1.add_context("hook", RedisHook)
    ms1.add_context("master", Master, "m")
    ms1.add_context("super_master", SuperMaster, "s")
    ms1.add_service_builder("redis", RedisService)
    build = ms1.build_master if which == "master" else ms1.build_super_master
    master = build(name="jac")
    assert type(master) is (Master if which == "master" else SuperMaster)
    assert (master.args, master.kwargs) == ((which[0],), {"name": "jac"})
    assert type(master._h).__name__ == "RedisHook"
    assert master._h.redis.is_running()
    assert master._h.meta is ms1
    own = MemoryHook()
    assert build(h=own)._h is own


def test_the_stripe_example() -> None:
    stripe = ModuleType("stripe")
    stripe.call_any_stripe_methods = lambda: stripe.api_key  # type: ignore[attr-defined]
    config = {"enabled": True, "key": "sk_test_4eC39HqLyjWDarjtT1zdp7dc"}

    class StripeService(CommonService):
        def run(self) -> None:  # type: ignore[override]
            self.app = stripe
            self.app.api_key = self.config.get("key")

        def build_config(self, hook: Any) -> dict[str, Any]:
            found: dict[str, Any] = hook.service_glob("STRIPE_CONFIG", config)
            return found

        def other_method_for_automation2(self) -> str:
            return "run_add_user"

    hook = MemoryHook()
    meta = MetaService()
    meta.add_service_build("stripe", StripeService)

    stripe_service = meta.build_service("stripe", False, hook).start(hook)
    assert stripe_service.app.call_any_stripe_methods() == config["key"]

    stripe_service1 = meta.get_service("stripe", hook, start=True)
    stripe_service2 = meta.get_service("stripe", hook)
    stripe_service3 = meta.get_service("stripe", hook)
    assert stripe_service1 == stripe_service2 == stripe_service3
    assert stripe_service1 != stripe_service
    assert stripe_service3.app.call_any_stripe_methods() == config["key"]
    assert stripe_service2.other_method_for_automation2() == "run_add_user"


# ------------------------------------------------------------- one for the process


def test_it_is_one_object_and_starts_itself() -> None:
    meta = MetaService()
    assert meta is MetaService()
    assert meta.is_running()
    assert meta.get_context_class("hook") is Hook
    assert isinstance(hooks.default_hook(), Hook)


def test_a_subclass_fills_the_same_registry() -> None:
    class Mine(MetaService):
        def populate_context(self) -> None:
            super().populate_context()
            self.add_context("hook", OrmHook)

        def populate_services(self) -> None:
            super().populate_services()
            self.add_service_builder("redis", RedisService)

    MetaService().add_context("other", Master)
    assert Mine() is Mine()
    assert MetaService().get_context_class("hook") is OrmHook
    assert MetaService().get_context_class("other") is Master
    assert MetaService().build_hook().redis.is_running()
    assert isinstance(hooks.default_hook(), OrmHook)


def test_services_without_a_hook_have_that_of_the_context() -> None:
    MetaService().add_context("hook", OrmHook)
    service = RedisService().start()
    assert isinstance(service.app["ran with"], OrmHook)


def test_a_reset_begins_anew() -> None:
    meta = MetaService()
    meta.add_context("hook", OrmHook)
    meta.add_service_builder("redis", RedisService)
    redis = meta.get_service("redis")
    redis.spawn_daemon(worker=lambda stop: stop.wait())
    meta.reset()
    assert redis.daemons == ()
    assert meta.get_context_class("hook") is Hook
    with pytest.raises(UnknownEntry):
        meta.get_service("redis")
    assert meta.is_running()


def test_a_service_is_made_once_whoever_comes_first() -> None:
    made: list[object] = []

    class Slow(RedisService):
        def __init__(self, hook: Any = None) -> None:
            made.append(self)
            super().__init__(hook)

    meta = MetaService()
    meta.add_service_builder("slow", Slow)
    barrier = threading.Barrier(8)
    got: list[object] = []

    def ask() -> None:
        barrier.wait(30)
        got.append(meta.get_service("slow", start=True))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(30)
    assert len(made) == 1
    assert set(map(id, got)) == {id(made[0])}


# ------------------------------------------------------------- what may go wrong


def test_a_name_has_one_service_class() -> None:
    meta = MetaService()
    meta.add_service_builder("redis", RedisService)
    meta.add_service_builder("redis", RedisService)
    with pytest.raises(AlreadyThere, match="redis already exists!"):
        meta.add_service_builder("redis", TaskService)


@pytest.mark.parametrize("cls", [Master, "RedisService", None, RedisService(MemoryHook())])
def test_what_is_no_service_is_not_added(cls: Any) -> None:
    with pytest.raises(TypeError, match="is no CommonService"):
        MetaService().add_service_builder("odd", cls)


def test_what_is_not_there_is_told_with_what_is_near() -> None:
    meta = MetaService()
    meta.add_service_builder("redis", RedisService)
    with pytest.raises(UnknownEntry, match="no service builder 'reddis'; did you mean 'redis'"):
        meta.build_service("reddis", True)
    with pytest.raises(UnknownEntry, match="there is no context 'master'; there are hook"):
        meta.build_master()
    with pytest.raises(KeyError):
        meta.get_context("nothing")
    with pytest.raises(TypeError, match="cannot add the context 'odd': 3 is no class"):
        meta.add_context("odd", 3)  # type: ignore[arg-type]


def test_a_default_service_that_fails_is_there_and_failed() -> None:
    meta = MetaService()
    meta.add_service_builder("mail", Broken)
    hook = meta.build_hook()
    assert hook.mail.has_failed()


def test_a_default_service_hides_nothing_of_the_hook(monkeypatch: pytest.MonkeyPatch) -> None:
    services = {"config_set": {"class": f"{__name__}:RedisService"}}
    monkeypatch.setattr(MetaService, "declared", Declared({}, services))
    with pytest.raises(AlreadyThere, match="a hook has a 'config_set' already"):
        MetaService().build_hook()


def test_a_kept_service_can_be_replaced() -> None:
    meta = MetaService()
    meta.add_service_builder("redis", RedisService)
    first = meta.get_service("redis")
    first.spawn_daemon(worker=lambda stop: stop.wait())
    second = meta.build_service("redis", True, replace=True)
    assert second is not first
    assert first.daemons == ()
    assert meta.get_service("redis") is second


# ------------------------------------------------------------- what a topology declares


def test_contexts_and_default_services_of_a_topology(monkeypatch: pytest.MonkeyPatch) -> None:
    here = __name__
    contexts: dict[str, dict[str, Any]] = {
        "hook": {"class": f"{here}:OrmHook", "args": [1], "kwargs": {"a": 2}},
        "master": {"class": f"{here}:Master"},
    }
    services = {"cache": {"class": f"{here}:RedisService", "config": {"url": "there"}}}
    monkeypatch.setattr(MetaService, "declared", Declared(contexts, services))
    hook = MetaService().build_hook()
    assert (hook.args, hook.kwargs) == ((1,), {"a": 2})
    assert hook.cache.config == {"url": "there"}
    assert MetaService().build_master()._h.cache is hook.cache
    MetaService().reset()
    assert MetaService().build_hook().cache.config == {"url": "there"}


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        (Declared({"hook": {"class": "nowhere:Hook"}}), "cannot load the context 'hook': nowhere"),
        (Declared({"hook": {"class": "json:Hook"}}), "json has no class 'Hook'"),
        (
            Declared({}, {"mail": {"class": "json:JSONDecoder"}}),
            "cannot add the service 'mail': .* is no CommonService",
        ),
    ],
)
def test_a_class_that_cannot_be_loaded_is_named(
    monkeypatch: pytest.MonkeyPatch, declared: Declared, said: str
) -> None:
    monkeypatch.setattr(MetaService, "declared", declared)
    with pytest.raises((SetupError, TypeError), match=said):
        MetaService()
    monkeypatch.setattr(MetaService, "declared", Declared())
    assert MetaService().is_running()
