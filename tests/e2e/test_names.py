"""What things may be called: what is not a name is refused, and what is works everywhere."""

import json

import pytest

from tests.e2e.scenario import (
    Scenario,
    bad,
    exits,
    no_traceback,
    nothing_runs,
    orch,
    row,
    says,
)

SLEEP = {"command": ["sleep", "1000"]}


@pytest.mark.parametrize("name", ["wéb", "a/b", "../up", "a b", "", "a\nb", "a\0b"])
def test_what_is_not_a_name_is_refused_wherever_it_stands(scenario: Scenario, name: str) -> None:
    """Each of them at its own line; nothing is started."""
    web = {
        **SLEEP,
        "depends_on": [name],
        "connections": {"in": {name: "auto"}},
        "states": {"out": {name: "auto"}},
        "environment": {name: "1"},
        "sockets": {name: "tcp://127.0.0.1:0"},
    }
    topology = {
        "version": 1,
        "name": name,
        "addresses": {name: "auto"},
        "settings": {name: 1},
        "groups": {name: {"components": ["web"]}},
        "services": {
            "web": web,
            "lab": {"components": {name: SLEEP}, "jobs": {name: {"program": "true"}}},
            name: SLEEP,
        },
    }
    text = json.dumps(topology, indent=1)
    scenario.topology.write_text(text, encoding="utf-8")
    word = json.dumps(name)
    wrong = [number for number, line in enumerate(text.split("\n"), 1) if word in line]
    assert len(wrong) == 12
    found = scenario.step("all are told", orch("validate", "--json"), exits(1)).json()
    # What refers to a name may be left out: it is no further mistake.
    assert {one["line"] for one in found} >= set(wrong) - {line_of(text, '"depends_on"') + 1}
    refused = scenario.step("nothing comes up", orch("up", "-d"), exits(1), nothing_runs)
    no_traceback(scenario, refused)


def line_of(text: str, part: str) -> int:
    """Return the number of the line that holds a text."""
    return text[: text.index(part)].count("\n") + 1


def test_a_word_that_names_nothing_does_nothing(scenario: Scenario) -> None:
    scenario.services({"web": {"command": bad()}})
    scenario.step("it comes up", orch("up", "-d", "--wait"), exits(0))
    before = scenario.ps()
    words = ("wéb", "a/b", "../web", "web web", "", ".", "web.", "web@x", "web@2", "*")
    for verb in ("stop", "kill", "reload", "logs", "config"):
        for word in words:
            outcome = scenario.step(verb, orch(verb, "--", word), exits(1), says("unknown|no run"))
            no_traceback(scenario, outcome)
    for word in words:
        assert scenario.run("status", "--", word).code == 4
    assert scenario.ps() == before


def test_files_and_folders_may_be_called_anything(scenario: Scenario) -> None:
    """Spaces, dots and letters of all languages: in the files that a topology names, too."""
    folder = "größe und.weite/日本 1"
    topology = scenario.write(
        """\
        version: 1
        base_dir: "ablage nr. 1/ü"
        services:
          web: {command: "./skript\\\\ nr.\\\\ 1.sh", environment: {GRUSS: "schön: a b"}}
          host: {handler: "häuser und.höfe/größe 1.py"}
          lab: {jobs: {sim: {program: "skript nr. 1.sh"}}}
        """,
        f"{folder}/Größe 1.v2.yaml",
    )
    program = scenario.write(
        '#!/bin/sh\necho "fertig $GRUSS" >&1\ntest -z "$GRUSS" || exec sleep 1000\n',
        f"{folder}/skript nr. 1.sh",
    )
    program.chmod(0o755)
    handler = "def init_function(to_send, states, config):\n    print('grün', flush=True)\n"
    source = scenario.write(handler, f"{folder}/häuser und.höfe/größe 1.py")
    scenario.base = topology.parent / "ablage nr. 1" / "ü"
    scenario.environment["ORCH_FILE"] = str(topology)

    hint = scenario.step("the hint is a command", orch("ps"), exits(69)).err
    command = hint.rpartition("start it with: ")[2].strip()
    exits(0)(scenario, scenario.command(["sh", "-c", f"{command} --wait"]))
    pid = scenario.row("host.host")["pid"]
    scenario.until_logged("web.web", "fertig")
    scenario.step("logs", orch("logs"), exits(0), says("web.web .* fertig schön: a b", "grün"))
    scenario.step("a job runs", orch("submit", "lab.sim", "--wait"), exits(0))
    source.write_text(handler.replace("grün", "blau"), encoding="utf-8")
    scenario.step("code is exchanged", orch("reload", "host"), exits(0))
    scenario.step("an up keeps all", orch("up", "--plan"), exits(0), says(r"host\.host +keep"))
    scenario.step("the build is up to date", orch("build", "--check"), exits(0))
    scenario.step("the daemon is upgraded", orch("upgrade"), exits(0))
    assert scenario.row("host.host")["pid"] == pid
    scenario.step("all restart", orch("restart", "--all"), exits(0), row("web.web", generation=2))
    scenario.step("it goes down", orch("down"), exits(0), nothing_runs)
