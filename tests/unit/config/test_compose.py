"""YAML in, values and positions out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.config import compose
from orchestrator.config.source import Source


def parse(text: str | bytes) -> Source:
    raw = text.encode() if isinstance(text, str) else text
    return compose.parse(raw, Path("t.yaml"), "t.yaml")


def good(text: str | bytes) -> Any:
    source = parse(text)
    assert not source.diagnostics
    return source.value


def said(text: str | bytes) -> list[str]:
    return [str(one) for one in parse(text).diagnostics]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("12", 12),
        ("-3", -3),
        ("+4", 4),
        ("0o17", 15),
        ("0x1F", 31),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("yes", "yes"),
        ("on", "on"),
        ("22:22", "22:22"),
        ("0644", "0644"),
        ("1_000", "1_000"),
        ("2024-01-01", "2024-01-01"),
        ("1.2.3", "1.2.3"),
        ("-", "-"),
        ("'12'", "12"),
        ('"a\\tb"', "a\tb"),
        ("!!str 12", "12"),
        ("!!int '12'", 12),
        ("!!float 1", 1.0),
        ("=", "="),
    ],
)
def test_plain_words_have_the_types_of_yaml_1_2(text: str, value: object) -> None:
    if text == "-":
        assert compose.scalar("-") == "-"
        return
    read = good(f"a: {text}\n")["a"]
    assert (read, type(read)) == (value, type(value))


def test_a_byte_order_mark_is_no_part_of_the_first_key() -> None:
    assert good(b"\xef\xbb\xbfa: 1\n") == {"a": 1}


def test_positions_count_characters_and_survive_wide_text() -> None:
    source = parse("é: ü\nb: {ключ: [значение, x]}\n")
    inner = source.value["b"]
    assert str(source.position(source.key_span(inner, "ключ").start)) == "t.yaml:2:5"
    assert str(source.position(source.value_span(inner["ключ"], 1).start)) == "t.yaml:2:22"


def test_a_duplicate_key_names_both_places() -> None:
    (one,) = parse("a: 1\nb: 2\na: 3\n").diagnostics
    assert (one.code, str(one.position)) == ("ORC004", "t.yaml:3:1")
    assert str(one.related[0].position) == "t.yaml:1:1"


def test_the_value_of_a_duplicate_key_is_not_used() -> None:
    assert parse("a: 1\na: 3\n").value == {"a": 1}


def test_aliases_share_the_value_and_keep_its_position() -> None:
    source = parse("a: &x {k: 1}\nb: *x\nc: &t text\nd: *t\n*t : 5\n")
    assert source.value == {"a": {"k": 1}, "b": {"k": 1}, "c": "text", "d": "text", "text": 5}
    assert str(source.position(source.value_span(source.value["b"], "k").start)) == "t.yaml:1:11"


def test_merge_keys_give_way_to_own_keys_and_to_earlier_sources() -> None:
    text = (
        "x: &x {a: 1, b: 1}\ny: &y {b: 2, c: 2}\nz: {<<: [*x, *y], c: 3}\nw:\n  <<: *y\n  b: 9\n"
    )
    value = good(text)
    assert value["z"] == {"a": 1, "b": 1, "c": 3}
    assert value["w"] == {"b": 9, "c": 2}


def test_a_quoted_merge_sign_is_a_key() -> None:
    assert good("'<<': 1\n") == {"<<": 1}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: *x\n", "t.yaml:1:4: error ORC005: no anchor &x stands before *x"),
        ("a: &x [*x]\n", "t.yaml:1:8: error ORC005: *x contains itself"),
        ("a: {<<: 1}\n", "t.yaml:1:9: error ORC005: `<<` merges maps, and this is none"),
        ("? [a]\n: 1\n", "t.yaml:1:3: error ORC007: a key must be text, not a list or a map"),
        ("a: !local x\n", "t.yaml:1:4: error ORC007: the tag !local means nothing here"),
        ("a: !!int x\n", "t.yaml:1:4: error ORC007: 'x' is no int"),
        ("a: 1\n---\nb: 2\n", "t.yaml:2:1: error ORC008: a second document in one file"),
        ("a:\n\tb: 1\n", "t.yaml:2:1: error ORC003: a tab cannot indent; use spaces"),
        ("a: 'x\n", "t.yaml:1:4: error ORC003: the text that begins with ' is not closed"),
        ("a: \x01\n", "t.yaml:1:4: error ORC003: the control character U+0001 is not allowed"),
        ("a: @x\n", "t.yaml:1:4: error ORC003: no plain text can start with '@'"),
        (b"a: \xe9\n", "t.yaml:1:4: error ORC002: byte 0xe9 is not valid UTF-8"),
        (
            b"\xff\xfea\0",
            "t.yaml:1:1: error ORC002: the file is UTF-16, but topology files are UTF-8",
        ),
    ],
)
def test_what_is_no_yaml_for_us_is_said_at_its_place(text: str | bytes, expected: str) -> None:
    assert said(text) == [expected]


def test_numbers_that_json_lacks_are_refused() -> None:
    assert [one.code for one in parse("a: .nan\nb: -.inf\nc: 1e999\n").diagnostics] == [
        "ORC007"
    ] * 3


def test_several_syntax_errors_are_found_in_one_reading() -> None:
    text = "a: b: c\nok: 1\nd: [1, 2\nmore: 1\n\te: 1\nlast: @\n"
    lines = [one.position.line for one in parse(text).diagnostics]
    assert lines == [1, 3, 5, 6]


def test_a_line_at_fault_takes_its_block_with_it() -> None:
    assert len(said("a: b: c\n  d:\n    e: 1\n  f: 2\ng: 1\n")) == 1


def test_an_unquoted_reference_in_flow_style_gets_a_hint() -> None:
    (one,) = parse("a: {b: ${X}}\n").diagnostics
    assert "quotes" in one.hint


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: {tcp: 127.0.0.1:9100}", {"a": {"tcp": "127.0.0.1:9100"}}),
        ("a: [http://x:1/y, b:c:d]", {"a": ["http://x:1/y", "b:c:d"]}),
        ('{"a":1,"b":"x:y","c":[1,2]}', {"a": 1, "b": "x:y", "c": [1, 2]}),
        ("a: x:y\nb: 'c:d'\nk:v: 1", {"a": "x:y", "b": "c:d", "k:v": 1}),
    ],
)
def test_inner_colons_are_text_in_flow_style_too(text: str, value: object) -> None:
    assert good(text) == value


def test_aliases_cannot_be_made_to_expand_without_end() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    (one,) = parse("\n".join(lines)).diagnostics
    assert one.code == "ORC005"
    assert "1,000,000" in one.message


def test_nesting_has_an_end() -> None:
    (one,) = parse("[" * 300 + "]" * 300).diagnostics
    assert (one.code, one.position.line) == ("ORC005", 1)


def test_json_is_yaml() -> None:
    assert good('{"a": [1, "\\u00e9", null], "b": {}}') == {"a": [1, "é", None], "b": {}}


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    (one,) = compose.read(tmp_path / "no.yaml", "no.yaml").diagnostics
    assert str(one) == "no.yaml:1:1: error ORC001: cannot read no.yaml: No such file or directory"


def test_the_pure_parser_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "a: &x {k: [1, 'two', 0644]}\nb: {<<: *x, m: 1}\nc: |\n  text\n"
    quick = parse(text)
    monkeypatch.setitem(__import__("sys").modules, "_ruamel_yaml", None)
    slow = parse(text)
    assert slow.value == quick.value
    for key in "abc":
        assert slow.value_span(slow.value, key) == quick.value_span(quick.value, key)
