"""Includes, references, dependencies, files: what is wrong without looking at handlers' code."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator import config
from orchestrator.errors import Severity, TopologyError, UsageError
from tests.unit.config.conftest import Workshop, marked


def test_all_mistakes_of_all_files_come_in_one_run(workshop: Workshop) -> None:
    workshop.write("one.yaml", "services: {b: {command: sh, restrat: never}, c: {command: ''}}\n")
    workshop.write(
        "two.yaml", "addresses: {x: inproc://y}\nservices: {d: {command: sh, nice: 90}}\n"
    )
    text = "include: [one.yaml, two.yaml]\nservices: {a: {command: sh, depends_on: [q]}}\n"
    found = [(Path(one.position.file).name, one.code) for one in workshop.mistakes(text)]
    assert found == [
        ("topology.yaml", "ORC200"),
        ("one.yaml", "ORC100"),
        ("one.yaml", "ORC108"),
        ("two.yaml", "ORC211"),
        ("two.yaml", "ORC108"),
    ]


def test_files_are_shown_relative_to_where_the_topology_is_named(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workshop.directory)
    workshop.write("sub/topology.yaml", "include: ../other.yaml\nservices: {}\n")
    workshop.write("other.yaml", "services: {a: {}}\n")
    with pytest.raises(TopologyError) as caught:
        config.read(Path("sub/topology.yaml"), environment={})
    assert str(caught.value.diagnostics[0].position) == "other.yaml:1:12"


def test_circular_includes_show_the_way_round(workshop: Workshop) -> None:
    workshop.write("a.yaml", "include: b.yaml\n")
    workshop.write("b.yaml", "include: topology.yaml\n")
    one = workshop.only("include: a.yaml\nservices: {a: {command: sh}}\n")
    assert (one.code, Path(one.position.file).name) == ("ORC010", "b.yaml")
    assert "topology.yaml → a.yaml → b.yaml → topology.yaml" in one.message


def test_a_file_that_two_others_include_is_read_once(workshop: Workshop) -> None:
    workshop.write("a.yaml", "include: c.yaml\n")
    workshop.write("b.yaml", "include: c.yaml\n")
    workshop.write("c.yaml", "services: {c: {command: sh}}\n")
    lock = workshop.lock("include: [a.yaml, b.yaml]\nservices: {a: {command: sh}}\n").lock
    assert list(lock.components) == ["a.a", "c.c"]


def test_what_two_files_declare_names_both_places(workshop: Workshop) -> None:
    workshop.write(
        "a.yaml", "settings: {S: 1}\naddresses: {x: auto}\nservices: {w: {command: sh}}\n"
    )
    text = """
        include: a.yaml
        settings: {S: 2}
        addresses: {x: auto}
        services: {w: {command: sh}}
    """
    found = [one for one in workshop.mistakes(text) if one.code == "ORC011"]
    assert [marked(one) for one in found] == ["S", "x", "w"]
    assert all(Path(one.related[0].position.file).name == "topology.yaml" for one in found)


def test_a_missing_include_is_marked(workshop: Workshop) -> None:
    one = workshop.only("include: [no.yaml]\nservices: {a: {command: sh}}\n")
    assert (one.code, marked(one)) == ("ORC001", "no.yaml")


def test_paths_and_defaults_belong_to_the_file_that_has_them(workshop: Workshop) -> None:
    workshop.write("sub/run.sh", "").chmod(0o755)
    workshop.write(
        "sub/part.yaml",
        "defaults: {nice: 2}\nconfig: {k: part}\nservices: {b: {command: ./run.sh}}\n",
    )
    text = """
        include: sub/part.yaml
        defaults: {nice: 1, umask: 027}
        config: {k: root, r: 1}
        services: {a: {command: sh}}
    """
    components = workshop.lock(text).lock.components
    assert components["b.b"].command == (str(workshop.directory / "sub/run.sh"),)
    assert components["b.b"].working_dir == str(workshop.directory / "sub")
    assert [components[name].nice for name in ("a.a", "b.b")] == [1, 2]
    assert components["b.b"].umask == 0o027
    assert dict(components["b.b"].config) == {"k": "part", "r": 1}


def test_a_name_in_an_included_file_is_only_a_warning(workshop: Workshop) -> None:
    workshop.write("a.yaml", "name: other\n")
    one = workshop.only("name: mine\ninclude: a.yaml\nservices: {a: {command: sh}}\n")
    assert (one.code, one.severity) == ("ORC012", Severity.WARNING)


@pytest.mark.parametrize(
    ("needs", "code", "hint"),
    [
        ("[b]", None, ""),
        ("[s.b]", None, ""),
        ("[t]", None, ""),
        ("{t.c: {condition: started}}", None, ""),
        ("[bb]", "ORC200", "did you mean 'b'?"),
        ("[s.cc]", "ORC200", ""),
        ("[tt]", "ORC200", "did you mean 't'?"),
        ("[a]", "ORC201", ""),
    ],
)
def test_dependencies_are_found_near_then_far(
    workshop: Workshop, needs: str, code: str | None, hint: str
) -> None:
    text = f"""
        services:
          s: {{components: {{a: {{command: sh, depends_on: {needs}}}, b: {{command: sh}}}}}}
          t: {{components: {{c: {{command: sh}}, d: {{command: sh}}}}}}
    """
    found = workshop.mistakes(text)
    assert [one.code for one in found] == ([code] if code else [])
    assert not found or hint in found[0].hint


def test_a_service_as_dependency_means_all_its_components(workshop: Workshop) -> None:
    text = """
        services:
          s: {components: {a: {command: sh, depends_on: {t: {condition: started}}}}}
          t: {components: {c: {command: sh}, d: {command: sh}}}
    """
    assert sorted(workshop.lock(text).lock.components["s.a"].depends_on) == ["t.c", "t.d"]


def test_circular_dependencies_show_every_step(workshop: Workshop) -> None:
    text = """
        services:
          s:
            components:
              a: {command: sh, depends_on: [b]}
              b: {command: sh, depends_on: {c: {condition: started}}}
              c: {command: sh, depends_on: [s.a]}
              d: {command: sh, depends_on: [a]}
    """
    one = workshop.only(text)
    assert one.code == "ORC201"
    assert one.message == "dependencies go in a circle: s.a → s.b → s.c → s.a"
    assert [one.position.line, *(step.position.line for step in one.related)] == [4, 5, 6]


def test_depending_on_itself_is_said_so(workshop: Workshop) -> None:
    assert workshop.only("services: {a: {command: sh, depends_on: [a]}}\n").message == (
        "'a.a' depends on itself"
    )


def test_waiting_for_what_never_comes_is_a_warning(workshop: Workshop) -> None:
    text = """
        services:
          a: {command: sh, depends_on: [b]}
          b: {command: sh, enabled: false}
          c: {command: sh, depends_on: {d: {condition: completed}}}
          d: {command: sh, restart: always}
    """
    assert workshop.codes(text) == ["ORC202", "ORC202"]


@pytest.mark.parametrize(
    ("fields", "code", "underlined"),
    [
        ("handler: no.py", "ORC230", "no.py"),
        ("handler: empty", "ORC230", "empty"),
        ("handler: not-a-module", "ORC230", "not-a-module"),
        ("command: sh, env_file: no.env", "ORC230", "no.env"),
        ("command: sh, env_file: [bad.env]", "ORC232", "2 = x"),
        ("command: sh, working_dir: no", "ORC230", "no"),
        ("command: no-such-program", "ORC233", "no-such-program"),
        ("command: ./no", "ORC233", "./no"),
        ("command: ./data", "ORC233", "./data"),
        ("command: 'sh \"x'", "ORC234", "'sh \"x'"),
        ("command: ' '", "ORC234", "' '"),
        ('command: [sh, "a\\0b"]', "ORC234", "["),
        ("command: [sh], shell: true", "ORC234", "["),
        ("command: sh x | cat", "ORC235", "|"),
        ("command: sh $HOME", "ORC235", "$HOME"),
        ("command: sh, stop: {signal: TREM}", "ORC236", "TREM"),
        ("command: sh, stop: [{signal: INT, wait: 1s}, {signal: FOO, wait: 1s}]", "ORC236", "FOO"),
        ("command: sh, ready: {log: '('}", "ORC237", "'('"),
        ("command: sh, restart: no", "ORC238", "no"),
        ("command: sh, ready: {tcp: nowhere}", "ORC239", "nowhere"),
        ("command: sh, ready: {tcp: 'h:99999'}", "ORC239", "'h:99999'"),
        ("command: sh, umask: 1777", "ORC240", "1777"),
        ("command: sh, environment: {NOTIFY_SOCKET: x}", "ORC231", "NOTIFY_SOCKET"),
        ("command: sh, restart: never, backoff: {max: 1s}", "ORC109", "{"),
        ("command: sh, ready: {delay: 1s, every: 1s}", "ORC109", "1s"),
        ("command: sh, ready: {log: x}, logs: {capture: false}", "ORC241", "x"),
        ("command: sh, sockets: {web: auto}", "ORC250", "auto"),
        (
            "command: sh, sockets: {web: 'tcp://example.org:80'}",
            "ORC250",
            "'tcp://example.org:80'",
        ),
        ("command: sh, sockets: {web: 'tcp://*:80'}", "ORC251", "'tcp://*:80'"),
        ("command: sh, sockets: {web: {address: '10.0.0.1:80'}}", "ORC251", "'10.0.0.1:80'"),
        ("command: sh, sockets: {a: 'unix:///a', b: 'unix:///a'}", "ORC252", "'unix:///a'"),
        (
            "command: sh, sockets: {a: 'localhost:81', b: '127.0.0.1:81'}",
            "ORC252",
            "'127.0.0.1:81'",
        ),
        ("command: sh, sockets: {web: '127.0.0.1:80'}, ready: {fd: 3}", "ORC253", "3"),
        ("command: sh, environment: {LISTEN_FDS: x}", "ORC231", "LISTEN_FDS"),
        ("command: sh, live: {tcp: nowhere}", "ORC239", "nowhere"),
        ("command: sh, startup: {tcp: 'h:99999'}", "ORC239", "'h:99999'"),
        ("command: sh, startup: {tcp: 'h:1', failures: 3}", "ORC109", "3"),
        ("command: sh, startup: {tcp: 'h:1', start_period: 3s}", "ORC109", "3s"),
        ("command: sh, reload: hot", "ORC330", "hot"),
        ("handler: a.py, mode: main, reload: hot", "ORC331", "hot"),
        ("command: sh, reload: none, watch: ['*.x']", "ORC109", "["),
        ("command: sh, reload_signal: USR1", "ORC109", "USR1"),
        ("command: sh, reload: signal, reload_signal: USR3", "ORC236", "USR3"),
    ],
)
def test_components_are_checked_against_the_machine_and_themselves(
    workshop: Workshop, fields: str, code: str, underlined: str
) -> None:
    (workshop.directory / "empty").mkdir()
    workshop.write("data", "")
    workshop.write("a.py", "")
    workshop.write("bad.env", "A=1\n2 = x\n")
    one = workshop.only(f"services: {{a: {{{fields}}}}}\n")
    assert (one.code, marked(one)) == (code, underlined)


def test_what_a_switch_turns_off_may_stay_written(workshop: Workshop) -> None:
    assert workshop.codes("services: {a: {command: sh, logs: {capture: false, keep: 1}}}") == []


def test_a_topology_without_services_has_nothing_to_run(workshop: Workshop) -> None:
    assert workshop.codes("version: 1\n") == ["ORC103"]


def test_settings_come_from_the_command_line_the_environment_or_the_file(
    workshop: Workshop,
) -> None:
    workshop.environment["ORCH_SETTING_B"] = "env-b"
    workshop.environment["ORCH_SETTING_C"] = "env-c"
    text = """
        settings: {A: file-a, B: file-b, C: {required: true}, N: 1, F: 1.5, T: true}
        config:
          all: ${settings.A} ${settings.B} ${settings.C}
          n: ${settings.N}
          t: ${settings.T}
        services: {a: {command: sh}}
    """
    lock = workshop.lock(text, settings={"C": "cli-c", "N": "7", "T": "false"}).lock
    assert dict(lock.components["a.a"].config) == {"all": "file-a env-b cli-c", "n": 7, "t": False}


def test_a_required_setting_says_how_to_give_it(workshop: Workshop) -> None:
    one = workshop.only("settings: {KEY: {required: true}}\nservices: {a: {command: sh}}\n")
    assert (one.code, marked(one)) == ("ORC025", "KEY")
    assert "--set KEY=" in one.hint
    assert "ORCH_SETTING_KEY" in one.hint


def test_a_setting_keeps_its_type(workshop: Workshop) -> None:
    text = "settings: {N: 1, T: true, F: 1.5}\nservices: {a: {command: sh}}\n"
    given = {"N": "many", "T": "yes", "F": "x"}
    assert workshop.codes(text, settings=given) == ["ORC026", "ORC026", "ORC026"]


def test_an_unknown_setting_on_the_command_line_is_a_usage_error(workshop: Workshop) -> None:
    with pytest.raises(UsageError, match="did you mean 'SYMBOL'"):
        workshop.read(
            "settings: {SYMBOL: x}\nservices: {a: {command: sh}}\n", settings={"SYMBOLY": "y"}
        )


@pytest.mark.parametrize(
    ("scale", "message"),
    [
        ({"x": 2}, "no such component"),
        ({"c": 2}, "it may be a.c and b.c"),
        ({"a.c": 0}, "at least 1"),
    ],
)
def test_scaling_what_cannot_be_is_a_usage_error(
    workshop: Workshop, scale: dict[str, int], message: str
) -> None:
    text = "services: {a: {components: {c: {command: sh}}}, b: {components: {c: {command: sh}}}}\n"
    with pytest.raises(UsageError, match=message):
        workshop.read(text, scale=scale)


def test_a_bad_project_is_a_usage_error(workshop: Workshop) -> None:
    with pytest.raises(UsageError, match="project"):
        workshop.read("services: {a: {command: sh}}\n", project="My Project")


@pytest.mark.parametrize(
    "fields",
    [
        "command: 'sh ${settings.K}'",
        "command: sh, ready: {exec: 'sh ${settings.K}'}",
        "command: sh, stop: {command: 'sh ${settings.K}'}",
        "command: sh, working_dir: '${settings.K}'",
    ],
)
def test_a_secret_cannot_stand_where_others_can_read_it(workshop: Workshop, fields: str) -> None:
    text = f"settings: {{K: {{required: true, secret: true}}}}\nservices: {{a: {{{fields}}}}}\n"
    one = workshop.only(text, settings={"K": "s3cret"})
    assert (one.code, marked(one)) == ("ORC027", "${settings.K}")
    assert "s3cret" not in str(one)


def test_a_secret_in_the_file_is_a_warning(workshop: Workshop) -> None:
    text = "settings: {K: {default: x, secret: true}}\nservices: {a: {command: sh}}\n"
    assert workshop.codes(text) == ["ORC110"]


def test_words_that_read_otherwise_elsewhere_are_warned_of_in_config(workshop: Workshop) -> None:
    text = """
        services:
          a:
            command: sh
            config: {debug: on, mode: 0644, list: [no], quoted: "on", time: 22:22}
            environment: {DEBUG: on, MODE: 0644}
    """
    found = workshop.mistakes(text)
    assert [(one.code, marked(one)) for one in found] == [
        ("ORC006", "on"),
        ("ORC006", "0644"),
        ("ORC006", "no"),
    ]


def test_handlers_ask_to_be_inspected(workshop: Workshop) -> None:
    workshop.write("handlers/feed.py", "")
    workshop.write("handlers/engine/__init__.py", "")
    text = """
        services:
          m:
            components:
              feed: {handler: handlers/feed.py, mode: main}
              engine: {handler: handlers/engine}
              mod: {handler: shop.cache}
              cmd: {command: sh}
    """
    here = str(workshop.directory)
    assert workshop.read(text).handlers == (
        {
            "name": "m.feed",
            "handler": f"{here}/handlers/feed.py",
            "python_path": [f"{here}/handlers", here],
            "mode": "main",
        },
        {
            "name": "m.engine",
            "handler": f"{here}/handlers/engine",
            "python_path": [f"{here}/handlers", here],
            "mode": "service",
        },
        {"name": "m.mod", "handler": "shop.cache", "python_path": [here], "mode": "service"},
    )


def test_an_unreadable_topology_is_said_with_its_name(workshop: Workshop) -> None:
    with pytest.raises(TopologyError) as caught:
        config.read(workshop.directory / "no.yaml", environment={})
    assert [one.code for one in caught.value.diagnostics] == ["ORC001"]
    assert Path(caught.value.diagnostics[0].position.file).name == "no.yaml"


def test_signals_are_named_without_sig_and_some_mean_only_themselves(workshop: Workshop) -> None:
    text = "services: {a: {command: sleep 1, signals: {SIGHUP: restart, USR1: pass}}}\n"
    component = workshop.lock(text).lock.components["a.a"]
    assert component.signals == {"HUP": "restart", "USR1": "pass"}
    found = workshop.mistakes(text.replace("SIGHUP", "HPU").replace("USR1", "KILL"))
    assert [(one.code, marked(one)) for one in found] == [("ORC236", "HPU"), ("ORC263", "KILL")]
    assert workshop.codes(text.replace("pass", "reboot")) == ["ORC102"]


def test_a_schedule_is_a_cron_expression_of_what_ends(workshop: Workshop) -> None:
    text = "services: {a: {command: sleep 1, schedule: '*/5 * * * *'}}\n"
    assert workshop.lock(text).lock.components["a.a"].schedule == "*/5 * * * *"
    found = workshop.only(text.replace("*/5", "*/5 99"))
    assert (found.code, marked(found)) == ("ORC265", "'*/5 99 * * * *'")
    assert "6 fields" in found.message
    assert workshop.only(text.replace("schedule", "restart: always, schedule")).code == "ORC264"
    workshop.write("h.py", "")
    handler = text.replace("command: sleep 1", "handler: h.py")
    assert workshop.only(handler).code == "ORC264"
    assert workshop.codes(handler.replace("h.py", "h.py, mode: main")) == []
