"""What a topology says of service classes: manifests, contexts, default services, the store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.config import build
from orchestrator.model.topology import KeepAlive, Surroundings
from tests.unit.config.conftest import Workshop, marked

TOPOLOGY = "name: w\nservices:\n  mail: {class: 'shop:Mailer'}\n"
KUBE = "kind: A\nname: '${x}'\n---\n# nothing\n---\nkind: B\n...\n---\n{kind: A, on: yes}\n"


def mail(workshop: Workshop, text: str) -> Any:
    return workshop.lock(text).lock.components["mail.mail"]


def test_a_service_class_finds_what_the_topology_declares(workshop: Workshop) -> None:
    text = TOPOLOGY + (
        "settings: {WHO: {default: me}, KEY: {secret: true, default: k}}\n"
        "config_store: 'redis://:${settings.KEY}@h/0'\n"
        "contexts:\n"
        "  hook: a.b:C\n"
        "  master: {class: 'a:M', args: [1], kwargs: {x: '${settings.WHO}'}}\n"
        "default_services: {redis: 'a:R', mail: {class: 'a:S', config: {k: '${settings.KEY}'}}}\n"
    )
    component = mail(workshop, text)
    assert component.surroundings == Surroundings(
        "redis://:${settings.KEY}@h/0#w",
        {
            "hook": {"class": "a.b:C"},
            "master": {"class": "a:M", "args": [1], "kwargs": {"x": "me"}},
        },
        {"redis": {"class": "a:R"}, "mail": {"class": "a:S", "config": {"k": "${settings.KEY}"}}},
    )
    assert component.secrets == ("KEY",)


def test_others_are_not_concerned_by_it(workshop: Workshop) -> None:
    text = "contexts: {hook: 'a:B'}\nservices: {web: {command: sleep 1}}\n"
    assert workshop.lock(text).lock.components["web.web"].surroundings == Surroundings()


def test_manifests_are_grouped_by_kind_and_left_as_they_are(workshop: Workshop) -> None:
    workshop.write("kube/mail.yaml", KUBE)
    workshop.write("kube/more.yaml", "kind: B\n")
    text = TOPOLOGY.replace("}\n", ", manifests: [kube/mail.yaml, kube/more.yaml]}\n")
    component = mail(workshop, text)
    assert component.manifests == {
        "A": [{"kind": "A", "name": "${x}"}, {"kind": "A", "on": "yes"}],
        "B": [{"kind": "B"}, {"kind": "B"}],
    }
    lock = workshop.lock(text).lock
    (info,) = [one for one in build.files_of(lock) if one.path.endswith("__info__.json")]
    assert '"manifests": {"A": [' in info.text


@pytest.mark.parametrize(
    ("manifest", "code", "line"),
    [
        ("kind: A\n---\n- a\n", "ORC472", 3),
        ("kind: A\n---\nname: b\n", "ORC472", 3),
        ("kind: A\n---\nname: b\nkind: 3\n", "ORC472", 4),
        ("kind: A\n--- text\n", "ORC472", 2),
        ("kind: A\n---\nkind: A\nkind: B\n", "ORC004", 4),
        ("kind: A\n---\nkind: [\n", "ORC003", 4),
    ],
)
def test_what_is_no_manifest_is_told_at_its_line(
    workshop: Workshop, manifest: str, code: str, line: int
) -> None:
    workshop.write("kube.yaml", manifest)
    one = workshop.only(TOPOLOGY.replace("}\n", ", manifests: [kube.yaml]}\n"))
    assert (one.code, one.position.line) == (code, line)
    assert Path(one.position.file).name == "kube.yaml"


def test_a_manifest_that_is_not_there_is_told(workshop: Workshop) -> None:
    one = workshop.only(TOPOLOGY.replace("}\n", ", manifests: [kube.yaml]}\n"))
    assert (one.code, marked(one)) == ("ORC471", "kube.yaml")


def test_keep_alive_has_an_interval(workshop: Workshop) -> None:
    every = TOPOLOGY.replace("}\n", ", keep_alive: {}}\n")
    assert mail(workshop, every).keep_alive == KeepAlive(10.0)
    every = TOPOLOGY.replace("}\n", ", keep_alive: {interval: 500ms}}\n")
    assert mail(workshop, every).keep_alive == KeepAlive(0.5)
    assert mail(workshop, TOPOLOGY).keep_alive is None


@pytest.mark.parametrize(
    ("more", "code", "at"),
    [
        ("config_store: mysql://h\n", "ORC470", "mysql://h"),
        ("contexts: {hook: shop}\n", "ORC102", "shop"),
        ("contexts: {_hook: 'a:B'}\n", "ORC107", "_hook"),
        ("contexts: {hook: {args: []}}\n", "ORC103", "{"),
        ("contexts: {hook: {class: 'a:B', arg: []}}\n", "ORC100", "arg"),
        ("default_services: {redis: {class: a}}\n", "ORC102", "a"),
        ("default_services: {redis: {class: 'a:B', config: {quiet: 1}}}\n", "ORC474", "1"),
    ],
)
def test_what_cannot_be_is_told_at_its_place(
    workshop: Workshop, more: str, code: str, at: str
) -> None:
    one = workshop.only(TOPOLOGY + more)
    assert (one.code, marked(one)) == (code, at)


@pytest.mark.parametrize("value", ["no", "1", "[]"])
def test_switches_are_true_or_false(workshop: Workshop, value: str) -> None:
    text = TOPOLOGY.replace("}\n", f", config: {{enabled: {value}, other: {value}}}}}\n")
    (one,) = (one for one in workshop.mistakes(text) if one.code == "ORC474")
    assert one.message.startswith("`enabled` of a service is true or false, not ")


def test_options_of_service_classes_have_no_effect_on_others(workshop: Workshop) -> None:
    workshop.write("kube.yaml", "kind: A\n")
    text = "services: {web: {command: sleep 1, keep_alive: {}, manifests: [kube.yaml]}}\n"
    warnings = workshop.lock(text).warnings
    assert [(one.code, one.message) for one in warnings] == [
        ("ORC109", "`keep_alive` has no effect without `class`"),
        ("ORC109", "`manifests` has no effect without `class`"),
    ]


def test_what_cannot_be_loaded_is_told_where_it_is_named(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workshop.directory)
    text = TOPOLOGY + "contexts: {hook: 'a:B'}\ndefault_services: {redis: {class: 'a:C'}}\n"
    broken = {"error": {"file": None, "line": None, "message": "no module"}}
    located = {"error": {"file": "/x/a.py", "line": 3, "message": "it raises"}}
    models = {"contexts.hook": broken, "default_services.redis": located}
    told = workshop.mistakes(text, models)
    assert [(one.code, marked(one)) for one in told] == [("ORC473", "'a:B'"), ("ORC473", "'a:C'")]
    assert told[1].message == "cannot load the default service 'redis': it raises (/x/a.py:3)"
