"""Single values of a service class, set from the command line."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli import configstore as verb
from orchestrator.cli.invocation import Options
from orchestrator.cli.session import Session
from orchestrator.component import configstore, hooks
from orchestrator.errors import UsageError
from tests.unit.cli.fake import FakeDaemon

Verb = Callable[..., int]


@pytest.fixture(autouse=True)
def shop(world: Path) -> None:
    (world / "topology.yaml").write_text(
        "version: 1\nname: world\nservices:\n"
        "  mail: {class: 'shop:Mailer', config: {host: here}, replicas: 2}\n"
        "  two: {components: {a: {class: 'shop:A'}, b: {class: 'shop:B'}}}\n"
        "  web: {command: sleep 1000}\n"
    )


@pytest.fixture
def config() -> Verb:
    def run(*words: str, no_refresh: bool = False) -> int:
        with Session(Options(), os.environ) as session:
            return verb.run(session, words, no_refresh=no_refresh, settings={})

    return run


def stored(world: Path, component: str = "mail.mail") -> dict[Any, Any]:
    return hooks.changes(configstore.opened("sqlite", world / ".orch"), component)


def test_values_are_what_yaml_says(config: Verb, world: Path) -> None:
    words = [
        "host=there", "port=587", "tls=true", "limits.size=1.5", "name=", "list=[1, {a: b}]",
        'text="587"', "url=http://a/?b=c",
    ]  # fmt: skip
    assert config("set", "mail", *words, no_refresh=True) == 0
    assert stored(world) == {
        ("host",): "there",
        ("port",): 587,
        ("tls",): True,
        ("limits", "size"): 1.5,
        ("name",): None,
        ("list",): [1, {"a": "b"}],
        ("text",): "587",
        ("url",): "http://a/?b=c",
    }
    assert config("unset", "mail.mail", "port", "limits", no_refresh=True) == 0
    assert not {("port",), ("limits", "size")} & stored(world).keys()


def test_without_a_daemon_it_waits_for_the_start(
    config: Verb, world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert config("set", "mail", "password=geheim") == 0
    said = capsys.readouterr().err
    assert "orch: mail.mail: password is set" in said
    assert "its start heeds what is set" in said
    assert "geheim" not in said
    assert stored(world) == {("password",): "geheim"}


def test_a_key_that_never_was_there_is_told(
    config: Verb, world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = configstore.opened("sqlite", world / ".orch")
    store.write("default", {"MAIL_CONFIG": {"timeout": 1}})
    store.write("component", {"mail.mail@2": {"name": "MAIL_CONFIG"}})
    config("set", "mail", "timeuot=2", "timeout=2", "host=x", "enabled=false", no_refresh=True)
    said = capsys.readouterr().err
    assert said.count("has no") == 1
    assert "has no 'timeuot' in its configuration so far; did you mean 'timeout'?" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("set",), "orch config set needs a NAME"),
        (("set", "mail"), "orch config set mail needs a KEY=VALUE"),
        (("unset", "mail"), "orch config unset mail needs a KEY"),
        (("set", "mail", "host"), "cannot set 'host': write KEY=VALUE"),
        (("set", "mail", "=x"), "'' is no key"),
        (("set", "mail", "a..b=x"), "'a..b' is no key"),
        (("set", "mail", "a=[1"), r"cannot set 'a=\[1': "),
        (("set", "mail", "a=.nan"), "cannot set 'a=.nan': .nan is no number"),
        (("set", "mailx", "a=1"), "there is no component 'mailx'"),
        (("set", "two", "a=1"), "'two' may be two.a and two.b; name one"),
        (("set", "web", "a=1"), "web.web is no service class"),
        (("refresh", "web"), "web.web is no service class"),
    ],
)
def test_what_cannot_be_set_is_a_usage_error(
    config: Verb, world: Path, words: tuple[str, ...], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        config(*words)
    assert not (world / ".orch" / configstore.FILE).exists()


def test_a_service_that_runs_is_reset(config: Verb, daemon: FakeDaemon) -> None:
    daemon.add("mail.mail", pid=7)
    swapped = {"name": "mail.mail", "outcome": "swapped", "message": ""}
    daemon.answers["reload"] = lambda _daemon, _params: {"reloads": [swapped]}
    assert config("set", "mail", "host=there") == 0
    assert daemon.until_asked("reload")["names"] == ["mail.mail"]
