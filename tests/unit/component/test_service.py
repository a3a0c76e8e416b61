"""The life cycle of services: order, states and background threads."""

# ruff: noqa: ARG001, ARG002 - services as users write them

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from orchestrator.component import CommonService, Hook, ServiceState, hooks, threads
from orchestrator.component.threads import Threads

CONFIG = {"enabled": True, "quiet": False, "host": "localhost"}
KUBE = {"ServiceAccount": [{"kind": "ServiceAccount", "metadata": {"name": "redis"}}]}


class Mailer(CommonService):
    """As the document has it, and tells what is called in which state."""

    def __init__(self, hook: Any = None) -> None:
        self.told: list[tuple[str, str]] = getattr(self, "told", [])
        super().__init__(hook)

    def tell(self, what: str) -> None:
        self.told.append((what, self.state.name))

    def build_kube(self, hook: Any) -> Any:
        self.tell("build_kube")
        return hook.service_glob("MAIL_KUBE", KUBE)

    def build_config(self, hook: Any) -> dict[str, Any]:
        self.tell("build_config")
        found: dict[str, Any] = hook.service_glob("MAIL_CONFIG", CONFIG)
        return found

    def run(self, hook: Any = None) -> None:
        self.tell("run")
        if self.config.get("broken"):
            raise ConnectionRefusedError("nobody listens")
        self.app = object()

    def post_run(self, hook: Any = None) -> None:
        self.tell("post_run")
        if self.config.get("breaks_later"):
            raise RuntimeError("no worker")

    def failed(self) -> None:
        self.tell("failed")
        super().failed()


class Disabled(Mailer):
    def build_config(self, hook: Any) -> dict[str, Any]:
        return {**CONFIG, "enabled": False}


class Broken(Mailer):
    def build_config(self, hook: Any) -> dict[str, Any]:
        return {**CONFIG, "broken": True}


class BreaksLater(Mailer):
    def build_config(self, hook: Any) -> dict[str, Any]:
        return {**CONFIG, "breaks_later": True}


@pytest.fixture
def hook() -> Hook:
    return Hook()


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = threading.active_count()
    yield
    assert threading.active_count() == before


def test_the_attributes_before_the_start(hook: Hook) -> None:
    service = Mailer(hook)
    assert service.app is None
    assert service.enabled is True
    assert service.quiet is False
    assert service.state is ServiceState.NOT_STARTED
    assert service.config == {"host": "localhost"}
    assert service.kube == KUBE
    assert service.told == [("build_kube", "NOT_STARTED"), ("build_config", "NOT_STARTED")]


def test_states_have_the_numbers_of_old() -> None:
    assert {one.name: one.value for one in ServiceState} == {
        "FAILED": -1,
        "NOT_STARTED": 0,
        "STARTED": 1,
        "RUNNING": 2,
    }
    assert ServiceState.NOT_STARTED.is_ready()
    assert ServiceState.RUNNING.is_running()
    assert ServiceState.FAILED.has_failed()


def test_a_start_goes_through_the_states_in_order(hook: Hook) -> None:
    service = Mailer(hook)
    assert service.is_ready()
    assert service.start(hook) is service
    assert service.told[2:] == [("run", "STARTED"), ("post_run", "RUNNING")]
    assert service.is_running()
    assert not service.is_ready()
    assert not service.has_failed()


def test_run_is_ignored_when_it_is_not_enabled(hook: Hook) -> None:
    service = Disabled(hook).start(hook)
    assert ("run", "STARTED") not in service.told
    assert service.state is ServiceState.NOT_STARTED


def test_a_second_start_is_ignored(hook: Hook) -> None:
    service = Mailer(hook).start(hook)
    app = service.app
    service.start(hook)
    assert [what for what, _ in service.told].count("run") == 1
    assert service.app is app


def test_it_is_failed_before_failed_is_called(
    hook: Hook, caplog: pytest.LogCaptureFixture
) -> None:
    service = Broken(hook)
    with caplog.at_level(logging.ERROR):
        service.start(hook)
    assert service.told[-1] == ("failed", "FAILED")
    assert service.has_failed()
    assert service.app is None
    assert isinstance(service.error, ConnectionRefusedError)
    assert "Broken: the start failed" in caplog.text


def test_a_failed_service_is_started_no_more_until_it_is_reset(hook: Hook) -> None:
    service = Broken(hook).start(hook)
    service.start(hook)
    assert [what for what, _ in service.told].count("run") == 1
    service.reset(hook)
    assert [what for what, _ in service.told].count("run") == 2


def test_failed_may_leave_out_the_base(hook: Hook) -> None:
    class Careless(Broken):
        def failed(self) -> None:
            self.tell("mine")

    assert Careless(hook).start(hook).state is ServiceState.FAILED


def test_failed_may_itself_fail(hook: Hook, caplog: pytest.LogCaptureFixture) -> None:
    class Worse(Broken):
        def failed(self) -> None:
            raise ValueError("worse")

    service = Worse(hook).start(hook)
    assert service.has_failed()
    assert isinstance(service.error, ConnectionRefusedError)
    assert "failed() failed" in caplog.text


def test_what_follows_the_run_may_fail_the_service(hook: Hook) -> None:
    service = BreaksLater(hook).start(hook)
    assert service.told[-2:] == [("post_run", "RUNNING"), ("failed", "FAILED")]
    assert service.has_failed()


def test_a_quiet_service_says_nothing_of_a_failed_start(
    hook: Hook, caplog: pytest.LogCaptureFixture
) -> None:
    class Quiet(Broken):
        def build_config(self, hook: Any) -> dict[str, Any]:
            return {**super().build_config(hook), "quiet": True}

    assert Quiet(hook).start(hook).has_failed()
    assert caplog.text == ""


def test_running_without_an_app_is_not_running(hook: Hook) -> None:
    class Empty(Mailer):
        def run(self, hook: Any = None) -> None:
            pass

    service = Empty(hook).start(hook)
    assert service.state is ServiceState.RUNNING
    assert not service.is_running()


def test_methods_may_leave_out_the_hook() -> None:
    class Stripe(CommonService):
        def build_config(self) -> dict[str, Any]:  # type: ignore[override]
            return {"enabled": True, "key": "sk_test"}

        def run(self) -> None:  # type: ignore[override]
            self.app = [self.config.get("key")]

        def post_run(self) -> None:  # type: ignore[override]
            self.app.append("running")

    assert Stripe().start().app == ["sk_test", "running"]


def test_without_a_hook_it_has_that_of_the_process() -> None:
    service = Mailer().start()
    assert service.is_running()
    assert hooks.default_hook().service_glob("MAIL_CONFIG") == CONFIG


def test_run_must_be_overridden(hook: Hook) -> None:
    class Idle(CommonService):
        def build_config(self, hook: Any) -> dict[str, Any]:
            return {"enabled": True}

    service = Idle(hook).start(hook)
    assert service.has_failed()
    assert "Please override run method" in str(service.error)


def test_without_a_configuration_it_is_not_enabled_and_shares_no_default(hook: Hook) -> None:
    one, other = CommonService(hook), CommonService(hook)
    assert not one.enabled
    one.config["mine"] = 1
    assert other.config == {}
    assert CommonService(hook).build_config(hook) == {"enabled": False}


def test_what_build_config_returns_is_not_changed(hook: Hook) -> None:
    given = {"enabled": True, "deep": {"list": [1]}}

    class Mine(CommonService):
        def build_config(self, hook: Any) -> dict[str, Any]:
            return given

    service = Mine(hook)
    service.config["deep"]["list"].append(2)
    assert given == {"enabled": True, "deep": {"list": [1]}}


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"enabled": "false"}, "'enabled' must be true or false, got 'false'"),
        ({"enabled": True, "quiet": 1}, "'quiet' must be true or false, got 1"),
        ([], "build_config must return a dict, got list"),
        (None, "build_config must return a dict, got NoneType"),
    ],
)
def test_bad_settings_disable_it_and_say_why(
    hook: Hook, caplog: pytest.LogCaptureFixture, config: Any, said: str
) -> None:
    class Bad(CommonService):
        def build_config(self, hook: Any) -> dict[str, Any]:
            result: dict[str, Any] = config
            return result

    service = Bad(hook).start(hook)
    assert not service.enabled
    assert service.state is ServiceState.NOT_STARTED
    assert said in str(service.error)
    assert "cannot build the settings" in caplog.text


def test_an_async_method_is_refused_and_never_silently_left_out(hook: Hook) -> None:
    class Modern(Mailer):
        async def run(self, hook: Any = None) -> None:  # type: ignore[override]
            self.app = object()

    service = Modern(hook).start(hook)
    assert service.has_failed()
    assert "run must be a plain method" in str(service.error)


# ------------------------------------------------------------- reset


def test_a_reset_builds_anew_and_starts(hook: Hook) -> None:
    service = Mailer(hook).start(hook)
    app = service.app
    service.told.clear()
    service.reset(hook)
    assert [what for what, _ in service.told] == ["build_kube", "build_config", "run", "post_run"]
    assert service.is_running()
    assert service.app is not app


def test_a_reset_may_leave_out_the_start(hook: Hook) -> None:
    service = Mailer(hook).start(hook)
    service.reset(hook, start=False)
    assert service.is_ready()


def test_a_reset_as_the_document_has_it(hook: Hook) -> None:
    ended: list[object] = []

    class Task(Mailer):
        def reset(self, hook: Any) -> None:  # type: ignore[override]
            if self.is_running():
                ended.append(self.app)
            super().reset(hook)

    service = Task(hook).start(hook)
    app = service.app
    service.reset(hook)
    assert ended == [app]
    assert service.is_running()


def test_a_reset_keeps_the_other_arguments(hook: Hook) -> None:
    class Named(Mailer):
        def __init__(self, hook: Any = None, *, name: str = "nobody") -> None:
            self.name = name
            super().__init__(hook)

    service = Named(hook, name="post").start(hook)
    other = Hook()
    service.reset(other)
    assert service.name == "post"
    assert service.is_running()


def test_fields_that_settings_need_are_set_before_the_base(hook: Hook) -> None:
    class Early(CommonService):
        def __init__(self, hook: Any = None) -> None:
            self.key = "EARLY"
            super().__init__(hook)
            self.late = True

        def build_config(self, hook: Any) -> dict[str, Any]:
            found: dict[str, Any] = hook.service_glob(self.key, CONFIG)
            return found

    service = Early(hook)
    assert service.enabled
    assert service.late


def test_a_reset_ends_the_threads_of_before(hook: Hook) -> None:
    runs: list[threading.Event] = []

    class Worker(Mailer):
        def post_run(self, hook: Any = None) -> None:
            self.spawn_daemon(worker=self.work)

        def work(self, stop: threading.Event) -> None:
            runs.append(stop)
            stop.wait()

    service = Worker(hook).start(hook)
    service.reset(hook)
    assert list(service.daemons) == ["worker"]
    service.stop()
    assert len(runs) == 2
    assert list(service.daemons) == []


# ------------------------------------------------------------- background threads


def test_a_name_that_lives_is_left_alone(hook: Hook) -> None:
    service, begun = Mailer(hook), []

    def work(stop: threading.Event) -> None:
        begun.append(1)
        stop.wait()

    service.spawn_daemon(worker=work, scheduler=work)
    service.spawn_daemon(worker=work)
    assert list(service.daemons) == ["worker", "scheduler"]
    assert service.terminate_daemon("worker", "never spawned") == ()
    assert list(service.daemons) == ["scheduler"]
    service.spawn_daemon(worker=work)
    assert set(service.daemons) == {"worker", "scheduler"}
    service.terminate_daemon()
    assert len(begun) == 3


def test_services_do_not_share_threads(hook: Hook) -> None:
    one, other = Mailer(hook), Mailer(hook)
    one.spawn_daemon(worker=lambda stop: stop.wait())
    other.spawn_daemon(worker=lambda stop: stop.wait())
    other.terminate_daemon("worker")
    assert one.daemons == ("worker",)
    one.terminate_daemon("worker")


def test_a_thread_that_does_not_know_stop_is_interrupted(hook: Hook) -> None:
    begun, ended = threading.Event(), threading.Event()

    def forever() -> None:
        try:
            while True:
                begun.set()
                time.sleep(0.001)
        finally:
            ended.set()

    service = Mailer(hook)
    service.spawn_daemon(old=forever)
    assert begun.wait(30)
    assert service.terminate_daemon("old") == ()
    assert ended.is_set()


def test_a_thread_that_ignores_its_stop_is_interrupted_after_a_while(hook: Hook) -> None:
    begun = threading.Event()

    def deaf(stop: threading.Event) -> None:
        begun.set()
        while True:
            time.sleep(0.001)

    service = Mailer(hook)
    service.spawn_daemon(deaf=deaf)
    assert begun.wait(30)
    assert service.terminate_daemon(within=0.01) == ()


def test_what_nothing_interrupts_is_left_behind_and_said(
    hook: Hook, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "_AFTER_INTERRUPT", 0.05)
    free, begun = threading.Event(), threading.Event()

    def stuck() -> None:
        begun.set()
        free.wait()

    service = Mailer(hook)
    service.spawn_daemon(stuck=stuck)
    assert begun.wait(30)
    mine = next(one for one in threading.enumerate() if one.name == "stuck")
    assert service.terminate_daemon("stuck", within=0.05) == ("stuck",)
    assert "left behind" in caplog.text
    free.set()
    mine.join(30)


def test_a_thread_that_fails_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    changes = threading.Semaphore(0)
    mine = Threads("post", changes.release)

    def fail() -> None:
        raise ValueError("no letters")

    mine.spawn("clerk", fail)
    assert changes.acquire(timeout=30)
    assert changes.acquire(timeout=30)
    mine.terminate()
    assert "post: the thread 'clerk' failed" in caplog.text
    assert "no letters" in caplog.text


def test_who_is_told_of_an_end_does_not_find_the_thread_any_more() -> None:
    seen: list[tuple[str, ...]] = []
    ended, go = threading.Event(), threading.Event()

    def look() -> None:
        seen.append(mine.living())
        if len(seen) == 2:
            ended.set()

    mine = Threads("post", look)
    mine.spawn("clerk", lambda: go.wait(30))
    go.set()
    assert ended.wait(30)
    assert seen == [("clerk",), ()]
    for one in threading.enumerate():
        if one.name == "clerk":
            one.join(30)


def test_a_thread_may_end_its_own_service(hook: Hook) -> None:
    service, done = Mailer(hook), threading.Event()

    def last() -> None:
        service.terminate_daemon()
        done.set()

    service.spawn_daemon(last=last)
    assert done.wait(30)
    for one in threading.enumerate():
        if one.name == "last":
            one.join(30)


def test_what_is_no_function_is_refused(hook: Hook) -> None:
    with pytest.raises(TypeError, match="cannot spawn 'worker': 3 is no function"):
        Mailer(hook).spawn_daemon(worker=3)  # type: ignore[arg-type]


# ------------------------------------------------------------- what the topology says


def test_the_topology_is_laid_over_the_default(hook: Hook) -> None:
    given = hooks.Given("mail.mailer", {"host": "mail.example", "quiet": True}, {"Pod": [{}]})
    with hooks.giving(given):
        service = Mailer(hook)
    assert service.config == {"host": "mail.example"}
    assert service.quiet
    assert service.kube == {"Pod": [{}]}
    service.reset(hook)
    assert service.config == {"host": "mail.example"}


def test_a_service_that_asks_for_nothing_is_given_it_too(hook: Hook) -> None:
    class Plain(CommonService):
        def build_config(self, hook: Any) -> dict[str, Any]:
            return {"host": "here", "port": 25}

        def run(self, hook: Any = None) -> None:
            self.app = self

    with hooks.giving(hooks.Given("a.b", {"enabled": True, "host": "there"})):
        service = Plain(hook)
    assert service.enabled
    assert service.config == {"host": "there", "port": 25}


def test_services_made_meanwhile_are_others(hook: Hook) -> None:
    made: list[CommonService] = []

    class Outer(Mailer):
        def build_config(self, hook: Any) -> dict[str, Any]:
            made.append(Mailer(hook))
            return super().build_config(hook)

    with hooks.giving(hooks.Given("a.b", {"host": "there"})):
        service = Outer(hook)
    assert made[0].config == {"host": "localhost"}
    assert service.config == {"host": "there"}
