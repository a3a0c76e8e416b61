"""Env files, and the environment they make with the rest."""

from __future__ import annotations

import pytest

from orchestrator.config import environment
from tests.unit.config.conftest import Workshop


@pytest.mark.parametrize(
    ("text", "variables"),
    [
        ("A=1\nB = two words # comment\n", {"A": "1", "B": "two words"}),
        ("# c\n\nexport A=1\r\nB=\n", {"A": "1", "B": ""}),
        ("A='x # $y \\n'\n", {"A": "x # $y \\n"}),
        ('A="x\\n\\"y\\" \\\\ \\d" # c\n', {"A": 'x\n"y" \\ \\d'}),
        ('A="two\nlines"\nB=1\n', {"A": "two\nlines", "B": "1"}),
        ("A=a#b=c\n", {"A": "a#b=c"}),
        ("A=1\nA=2", {"A": "2"}),
    ],
)
def test_env_files_are_read(text: str, variables: dict[str, str]) -> None:
    assert environment.parse_file(text) == (variables, ())


@pytest.mark.parametrize("text", ["nothing\n", "1A=x\n", "A='x\n", 'A="x\n', "A='x' y\n", "=x\n"])
def test_bad_lines_are_told(text: str) -> None:
    _, bad = environment.parse_file("OK=1\n" + text)
    assert [line.span.start for line in bad] == [5]


def test_later_layers_win(workshop: Workshop) -> None:
    workshop.environment.update(TZ="UTC", OTHER="x", LANG="C")
    workshop.write("one.env", "A=file1\nB=file1\nC=file1\nD=file1\n")
    workshop.write("two.env", "B=file2\nC=file2\nD=file2\n")
    text = """
        defaults: {environment: {LANG: default, C: default, D: default}}
        services:
          s:
            environment: {C: service, D: service}
            components:
              a:
                command: sh
                env_file: [one.env, two.env]
                environment: {D: component, V: 1.10, T: true, O: 0644, N: null-ish}
    """
    component = workshop.lock(text).lock.components["s.a"]
    assert component.inherited == {"PATH": "/usr/bin:/bin", "HOME": "/home/test", "TZ": "UTC"}
    assert component.environment == {
        "LANG": "default",
        "A": "file1",
        "B": "file2",
        "C": "service",
        "D": "component",
        "V": "1.10",
        "T": "true",
        "O": "0644",
        "N": "null-ish",
    }


@pytest.mark.parametrize(
    ("which", "names"),
    [("true", {"PATH", "HOME", "OTHER"}), ("false", set()), ("[OTHER, NO]", {"OTHER"})],
)
def test_inheritance_can_be_chosen(workshop: Workshop, which: str, names: set[str]) -> None:
    workshop.environment = {"PATH": "/bin", "HOME": "/", "OTHER": "x", "NOTIFY_SOCKET": "/no"}
    text = f"services: {{a: {{command: /bin/sh, inherit_env: {which}}}}}\n"
    assert set(workshop.lock(text).lock.components["a.a"].inherited) == names


def test_what_is_declared_wins_over_what_is_inherited(workshop: Workshop) -> None:
    workshop.environment = {"PATH": "/bin", "HOME": "/h", "TZ": "UTC", "LANG": "C"}
    workshop.write("vars.env", "HOME=/from/file\n")
    text = """
        services:
          a:
            environment: {TZ: CET}
            components: {a: {command: /bin/sh, env_file: vars.env, environment: {X: 1}}}
    """
    component = workshop.lock(text).lock.components["a.a"]
    assert component.environment == {"HOME": "/from/file", "TZ": "CET", "X": "1"}
    assert component.inherited == {"PATH": "/bin", "LANG": "C"}


def test_a_declared_path_is_where_programs_are_looked_for(workshop: Workshop) -> None:
    text = "services: {a: {command: ls, environment: {PATH: /nowhere}}}\n"
    assert workshop.codes(text) == ["ORC233"]
    assert workshop.codes(text.replace("PATH", "OTHER")) == []
