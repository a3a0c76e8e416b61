"""The schema's verdict: the same as the reference's, and in words for people."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from orchestrator.config import compose, report, schema, validate
from orchestrator.errors import Diagnostic
from tests.unit.config.conftest import Workshop, marked

BAD: dict[str, str] = {
    "unknown top key": "servicez: {}\n",
    "unknown keys": "services: {a: {comand: x, foo: 1}}\n",
    "wrong version": "version: 2\nservices: {a: {command: x}}\n",
    "names": "services: {A: {command: x}, -b: {command: x}, c_d: {command: x}}\n",
    "long name": f"services: {{{'x' * 49}: {{command: x}}}}\n",
    "null service": "services: {a: }\n",
    "list service": "services: {a: [1]}\n",
    "null sections": "services:\naddresses:\nsettings:\n",
    "types": "services: {a: {command: 1, nice: '3', enabled: yes, success_codes: 1, stop: x}}\n",
    "neither": "services: {a: {restart: always}}\n",
    "both": "services: {a: {command: x, handler: y}}\n",
    "beside components": "services: {a: {command: x, components: {b: {command: y}}}}\n",
    "empty components": "services: {a: {components: {}}}\n",
    "half": "services: {a: {command: x, mode: main, connections: {}, states: {}}}\n",
    "shell of a handler": "services: {a: {handler: x.py, shell: true, settle: 1s}}\n",
    "durations": (
        "services: {a: {command: x, start_timeout: 5, backoff: {initial: 1, max: 5 s}}}\n"
    ),
    "sizes": "services: {a: {command: x, logs: {size: big, keep: -1}}}\n",
    "enums": "services: {a: {command: x, restart: alwaysy, on_exit: stop, stop: {kill: all}}}\n",
    "ranges": "services: {a: {command: x, nice: 99, replicas: 0, oom_score_adj: 5000}}\n",
    "ready": "services: {a: {command: x, ready: {tcp: 'a:1', log: x, status: 9000, fd: 1}}}\n",
    "ready without a kind": "services: {a: {command: x, ready: {every: 1s}}}\n",
    "notify false": "services: {a: {command: x, ready: {notify: false}}}\n",
    "ladder": "services: {a: {command: x, stop: [{signal: INT}, {wait: 5s}, 3]}}\n",
    "empty lists": "services: {a: {command: [], stop: [], env_file: ''}}\n",
    "depends": (
        "services: {a: {command: x, depends_on: [b, b]}, b: "
        "{command: x, depends_on: {a: {condition: up}}}}\n"
    ),
    "wiring": (
        "services: {a: {handler: x.py, connections: "
        "{inn: {}, in: {a b: x, c: {pusher: x}, d: 5}}}}\n"
    ),
    "settings": "settings: {1a: x, B: {defaultt: 1}, C: [1]}\nservices: {a: {command: x}}\n",
    "addresses": (
        "addresses: {a: 5, b: {}, c: {address: auto, extern: 1}, d: {port: auto, e: 5}}\n"
    ),
    "environment": "services: {a: {command: x, environment: {a b: 1, C: [1], D: }}}\n",
    "defaults": "defaults: {command: x, restart: sometimes, logs: {keeep: 1}}\n",
    "rlimits": (
        "services: {a: {command: x, rlimits: "
        "{nofil: 1, core: lots, cpu: [1], nofile: [1, many]}}}\n"
    ),
    "umask": "services: {a: {command: x, umask: 888, user: -1}}\n",
    "include": "include: [1, '']\nname: 5\nbase_dir: ''\nstart_concurrency: 0\n",
    "deep": (
        "services: {a: {components: {b: {command: x, ready: {http: ftp://x}}, c: 1, D: {}}}}\n"
    ),
    "config": "config: 5\nservices: {a: {command: x, config: [1]}}\n",
}


def value_of(text: str) -> Any:
    source = compose.parse(text.encode(), Path("t.yaml"), "t.yaml")
    assert not source.diagnostics
    return source.value


def verdicts(found: list[validate.Violation], value: Any) -> set[validate.Verdict]:
    return {verdict for one in found for verdict in validate.explain(one, value)}


@pytest.mark.parametrize("text", BAD.values(), ids=BAD.keys())
def test_the_quick_validator_agrees_with_the_reference(text: str) -> None:
    """Equal paths, and equal words: the words come from the schema, not from the validator."""
    value = value_of(text)
    quick = list(validate.violations(value))
    reference = [
        validate.Violation(tuple(error.absolute_path), str(error.validator), error.schema)
        for error in jsonschema.Draft202012Validator(schema.topology()).iter_errors(value)
    ]
    assert quick
    assert {one.path for one in quick} == {one.path for one in reference}
    assert verdicts(quick, value) == verdicts(reference, value)


@pytest.mark.parametrize("text", BAD.values(), ids=BAD.keys())
def test_every_bad_file_is_explained_with_a_code_and_a_place(text: str) -> None:
    source = compose.parse(text.encode(), Path("t.yaml"), "t.yaml")
    found = report.Report()
    broken = validate.check(source, found)
    assert broken
    assert found.found
    for one in found.found:
        assert "does not fit" not in one.message
        assert one.position.line >= 1


@pytest.mark.parametrize("text", BAD.values(), ids=BAD.keys())
def test_what_is_left_after_pruning_fits(text: str) -> None:
    source = compose.parse(text.encode(), Path("t.yaml"), "t.yaml")
    validate.prune(source.value, validate.check(source, report.Report()))
    left = {one.keyword for one in validate.violations(source.value)}
    # Names stay known, as None or without what they need, and only these still fail.
    assert left <= {
        "type",
        "oneOf",
        "pattern",
        "maxLength",
        "minProperties",
        "propertyNames",
        "not",
    }


def test_the_schema_is_a_valid_schema() -> None:
    for name in ("topology", "lock"):
        jsonschema.Draft202012Validator.check_schema(json.loads(schema.text(name)))


def only(workshop: Workshop, text: str) -> Diagnostic:
    return workshop.only(text)


@pytest.mark.parametrize(
    ("line", "code", "underlined", "words", "hint"),
    [
        (
            "restrat: always",
            "ORC100",
            "restrat",
            "unknown key `restrat` in service 'a'",
            "did you mean 'restart'?",
        ),
        (
            "restart: alwaysy",
            "ORC102",
            "alwaysy",
            "never or on-failure or always",
            "did you mean 'always'?",
        ),
        ("start_timeout: 5", "ORC106", "5", "needs a unit", "write 5s or 5ms"),
        ("start_timeout: 5 s", "ORC106", "5 s", "no duration", "500ms"),
        ("enabled: yes", "ORC101", "yes", "true or false, not the text 'yes'", "write true"),
        ("enabled: off", "ORC101", "off", "true or false, not the text 'off'", "write false"),
        ("nice: '3'", "ORC101", "'3'", "a whole number", "take the quotes away"),
        ("nice: 010", "ORC101", "010", "a whole number", "write 10, or 0o010 for octal"),
        ("nice: 40", "ORC108", "40", "between -20 and 19", ""),
        ("env_file:", "ORC101", "env_file", "not nothing", "give it a value"),
        ("success_codes: 3", "ORC101", "3", "a list, not the number 3", ""),
        ("mode: main", "ORC105", "mode", "only with `handler`", ""),
        ("handler: x.py", "ORC104", "handler", "exactly one", ""),
        ("ready: {tcp: 'h:1', log: x}", "ORC104", "log", "`tcp` and `log`", ""),
        ("ready: {every: 1s}", "ORC103", "ready", "needs one of `notify`", ""),
        ("ready: {tcp: 'h:1', status: 200}", "ORC105", "status", "only with `http`", ""),
        ("live: {tcp: 'h:1', exec: x}", "ORC104", "exec", "`tcp` and `exec`", ""),
        ("startup: {every: 1s}", "ORC103", "startup", "needs one of `http`", ""),
        ("live: {exec: x, status: 200}", "ORC105", "status", "only with `http`", ""),
        ("stop: [{signal: INT}]", "ORC103", "{", "item 1 of `stop` lacks `wait`", ""),
        ("stop: {signal: term}", "ORC102", "term", "cannot be 'term'", "did you mean 'TERM'?"),
        ("environment: {a b: 1}", "ORC107", "a b", "no valid name", "letters"),
        (
            "components: {b: {command: sh}}",
            "ORC104",
            "command",
            "beside `components`",
            "move `command`",
        ),
    ],
)
def test_each_mistake_is_said_once_at_its_place(
    workshop: Workshop, line: str, *, code: str, underlined: str, words: str, hint: str
) -> None:
    workshop.write("x.py", "")
    one = workshop.only(f"services:\n  a:\n    command: sh\n    {line}\n")
    assert (one.code, marked(one)) == (code, underlined)
    assert words in one.message
    assert hint in one.hint


def test_a_misspelt_command_is_no_missing_command(workshop: Workshop) -> None:
    one = workshop.only("services: {a: {comand: sh}}\n")
    assert (one.code, one.hint) == ("ORC100", "did you mean 'command'?")


def test_a_misspelt_components_is_no_missing_command(workshop: Workshop) -> None:
    one = workshop.only("services: {a: {component: {b: {command: sh}}}}\n")
    assert (one.code, one.hint) == ("ORC100", "did you mean 'components'?")


def test_keys_of_ones_own_begin_with_x(workshop: Workshop) -> None:
    text = """
        x-top: 1
        defaults: {x-d: 1}
        services:
          a: {command: sh, x-a: {b: 1}, stop: {x-s: 1}, logs: {x-l: 1}}
    """
    assert workshop.mistakes(text) == ()


def test_a_bad_name_is_mended_in_the_hint(workshop: Workshop) -> None:
    one = workshop.only("services: {Web_Server: {command: sh}}\n")
    assert (one.code, marked(one)) == ("ORC107", "Web_Server")
    assert "'web-server'" in one.hint


@pytest.mark.parametrize("name", ["wéb", "a/b", "a b", "a.b", "-a", "a-", "a@1", "A", "x" * 49])
@pytest.mark.parametrize(
    "place", ["{'%s': {command: sh}}", "{s: {components: {'%s': {command: sh}}}}"]
)
def test_a_name_that_could_not_be_addressed_is_refused_where_it_stands(
    workshop: Workshop, place: str, name: str
) -> None:
    one = workshop.only(f"services: {place % name}\n")
    assert (one.code, marked(one).strip("'")) == ("ORC107", name)


def test_a_file_must_be_a_map(workshop: Workshop) -> None:
    assert workshop.codes("- a\n") == ["ORC101"]
    assert workshop.codes("# nothing\n") == ["ORC008"]


def test_references_to_what_is_at_fault_are_no_further_mistakes(workshop: Workshop) -> None:
    text = """
        addresses: {x: 5}
        services:
          a: {command: sh, depends_on: [b]}
          b: {restart: never}
          c: {handler: c.py, connections: {in: {m: x}}}
    """
    workshop.write("c.py", "")
    assert workshop.codes(text) == ["ORC101", "ORC103"]
