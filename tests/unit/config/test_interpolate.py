"""References in texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.config import interpolate
from orchestrator.config.interpolate import BadReference, Reference, Template
from orchestrator.config.source import Source
from tests.unit.config.conftest import Workshop, marked

VALUES = {"A": "1", "EMPTY": "", "DOLLAR": "$$x ${A}", "settings.N": 3, "settings.B": True}


def lookup(reference: Reference) -> Any:
    if reference.namespace in {"addresses", "self"}:
        return interpolate.LATER
    return VALUES.get(reference.name.removeprefix("env."))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("plain", "plain"),
        ("${A}", "1"),
        ("x${A}y${A}", "x1y1"),
        ("${env.A}", "1"),
        ("$$", "$"),
        ("$${A}", "${A}"),
        ("$$${A}", "$1"),
        ("$A $5 100%", "$A $5 100%"),
        ("a$", "a$"),
        ("${NO:-d}", "d"),
        ("${EMPTY:-d}", "d"),
        ("${EMPTY}", ""),
        ("${NO:-}", ""),
        ("${NO:-${NO2:-${A}}}", "1"),
        ("${NO:-a}b}", "ab}"),
        ("${A:?why}", "1"),
        ("${A:-x}", "1"),
        ("${settings.N}", 3),
        ("n=${settings.N} ${settings.B}", "n=3 true"),
        ("${DOLLAR}", "$$x ${A}"),
        ("x${DOLLAR}", "x$$x ${A}"),
    ],
)
def test_references_are_replaced(text: str, value: object) -> None:
    assert interpolate.expand(text, lookup) == value


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("${A", "ORC020"),
        ("${}", "ORC020"),
        ("${A B}", "ORC020"),
        ("${A-x}", "ORC020"),
        ("${1}", "ORC020"),
        ("${NO}", "ORC021"),
        ("${NO:?needed}", "ORC024"),
        ("${EMPTY:?needed}", "ORC024"),
    ],
)
def test_bad_references_say_what_is_wrong(text: str, code: str) -> None:
    with pytest.raises(BadReference) as caught:
        interpolate.expand(text, lookup)
    assert caught.value.code == code
    assert caught.value.fragment in text


def test_what_is_known_later_stays_and_expands_to_the_same_in_the_end() -> None:
    text = "$$a ${A} ${addresses.x} ${NO:-${addresses.y}} ${DOLLAR}"
    kept = interpolate.expand(text, lookup)
    assert isinstance(kept, Template)
    done = interpolate.expand(kept, lambda reference: f"<{reference.rest}>")
    assert done == "$a 1 <x> <y> $$x ${A}"


def test_an_undefined_name_is_marked_inside_its_text(workshop: Workshop) -> None:
    one = workshop.only('services:\n  a:\n    command: ["echo", "one ${NO} two ${NO2:-x}"]\n')
    assert (one.code, marked(one), one.position.column) == ("ORC021", "${NO}", 28)


def test_every_undefined_name_of_a_text_is_reported(workshop: Workshop) -> None:
    found = workshop.mistakes("services: {a: {command: 'sh ${X} ${Y} ${X}'}}\n")
    assert [(one.code, one.position.column) for one in found] == [
        ("ORC021", 29),
        ("ORC021", 34),
        ("ORC021", 39),
    ]


def test_a_block_text_is_marked_on_its_own_line(workshop: Workshop) -> None:
    text = "services:\n  a:\n    shell: true\n    command: |\n      echo one\n      echo ${NO}\n"
    one = workshop.only(text)
    assert (one.position.line, one.position.column) == (6, 12)


def test_a_plain_name_that_is_a_setting_gets_its_namespace_as_hint(workshop: Workshop) -> None:
    text = "settings: {PORT: 1}\nservices: {a: {command: 'sh ${PORT}'}}\n"
    assert workshop.only(text).hint == "did you mean ${settings.PORT}?"


@pytest.mark.parametrize(
    ("reference", "code", "hint"),
    [
        ("settings.PROT", "ORC022", "did you mean 'PORT'?"),
        ("settingz.PORT", "ORC028", "did you mean 'settings'?"),
        ("self.nme", "ORC028", "self has"),
        ("addresses.web", "ORC023", ""),
        ("settings.NONE", "ORC022", "give it a default"),
    ],
)
def test_each_namespace_knows_its_names(
    workshop: Workshop, reference: str, code: str, hint: str
) -> None:
    text = (
        f"settings: {{PORT: 1, NONE: {{}}}}\nservices: {{a: {{command: 'sh ${{{reference}}}'}}}}\n"
    )
    one = workshop.only(text)
    assert (one.code, marked(one)) == (code, f"${{{reference}}}")
    assert hint in one.hint


def test_replaced_texts_take_the_type_that_the_schema_wants(workshop: Workshop) -> None:
    workshop.environment.update(N="2", OFF="false")
    text = "services: {a: {command: sh, replicas: '${N}', enabled: '${OFF}'}}\n"
    components = workshop.lock(text).lock.components
    assert list(components) == ["a.a@1", "a.a@2"]
    assert not components["a.a@1"].enabled


def test_what_a_reference_gives_is_judged_like_any_value(workshop: Workshop) -> None:
    workshop.environment["T"] = "soon"
    one = workshop.only("services: {a: {command: sh, start_timeout: '${T}'}}\n")
    assert (one.code, marked(one)) == ("ORC106", "'${T}'")


def test_later_references_cannot_stand_everywhere(workshop: Workshop) -> None:
    one = workshop.only("services: {a: {command: sh, env_file: '${self.name}.env'}}\n")
    assert (one.code, marked(one)) == ("ORC028", "${self.name}")


def test_a_source_without_marks_still_has_places() -> None:
    assert Source("t", Path("t"), "text").key_span({}, "x").start == 0
