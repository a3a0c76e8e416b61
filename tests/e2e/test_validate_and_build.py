"""Mistakes are said at once, all of them, each with its place; the rest is built to the byte."""

import json
import re
from pathlib import Path

from tests.e2e.scenario import Scenario, bad, exits, no_traceback, orch, says


def test_a_cycle_is_shown_as_a_path(scenario: Scenario) -> None:
    scenario.write(
        """\
        version: 1
        name: world
        services:
          alpha:
            command: "true"
            depends_on: [beta]
          beta:
            command: "true"
            depends_on: [gamma]
          gamma:
            command: "true"
            depends_on: [alpha]
        """
    )
    names = ["alpha", "beta", "gamma"]
    turns = [names[start:] + names[:start] for start in range(3)]
    path = "|".join(r"\S* → ".join([*turn, turn[0]]) for turn in turns)
    outcome = scenario.step("refused", orch("validate"), exits(1), says(path))
    no_traceback(scenario, outcome)
    places = set(re.findall(r"topology\.yaml:(\d+):\d+", outcome.text))
    assert places == {"6", "9", "12"}, outcome


def test_a_component_cannot_wait_for_itself(scenario: Scenario) -> None:
    scenario.services({"alpha": {"command": "true", "depends_on": ["alpha"]}})
    scenario.step(
        "refused",
        orch("validate"),
        exits(1),
        says("alpha", r"topology\.yaml:\d+:\d+: error ORC\d+"),
    )


def test_a_wrong_key_is_shown_with_its_place_and_the_right_one(scenario: Scenario) -> None:
    scenario.write(
        """\
        version: 1
        name: world
        services:
          alpha:
            command: "true"
            restrat: always
        """
    )
    scenario.step(
        "refused",
        orch("validate"),
        exits(1),
        says(
            r"topology\.yaml:6:5: error ORC\d+:",
            "restrat: always",
            r"\^",
            r"did you mean '?restart",
        ),
    )


def test_all_mistakes_of_all_files_are_shown_at_once(scenario: Scenario) -> None:
    """Five mistakes in two included files; the JSON form says the same."""
    scenario.write("version: 1\nname: world\ninclude: [one.yaml, two.yaml]\nservices: {}\n")
    scenario.write(
        """\
        services:
          alpha:
            command: "true"
            restrat: always
            depends_on: [nobody]
          beta:
            command: "true"
            stop: {timeout: soon}
        """,
        "one.yaml",
    )
    scenario.write(
        """\
        services:
          gamma:
            command: "true"
            restart: sometimes
          delta:
            command: "true"
            replicas: many
        """,
        "two.yaml",
    )
    wanted = {("one.yaml", 4), ("one.yaml", 5), ("one.yaml", 8), ("two.yaml", 4), ("two.yaml", 7)}
    shown = scenario.step("as text", orch("validate"), exits(1))
    found = {
        (Path(file).name, int(line))
        for file, line in re.findall(r"^(\S+?):(\d+):\d+: error", shown.text, re.MULTILINE)
    }
    assert found == wanted
    plain = scenario.step("as JSON", orch("validate", "--format", "json"), exits(1)).json()
    entries = plain["diagnostics"] if isinstance(plain, dict) else plain
    assert len(entries) == len(wanted)
    assert {(Path(place(each)[0]).name, place(each)[1]) for each in entries} == wanted


def place(entry: dict[str, object]) -> tuple[str, int]:
    """Return file and line of a diagnostic."""
    position = entry.get("position", entry)
    assert isinstance(position, dict)
    return position["file"], position["line"]


def test_a_right_topology_is_valid(scenario: Scenario) -> None:
    scenario.services({"alpha": {"command": "true"}})
    scenario.step("accepted", orch("validate"), exits(0))


def test_a_second_build_changes_nothing_and_an_edit_is_noticed(scenario: Scenario) -> None:
    scenario.services(
        {"web": {"command": bad(), "config": {"size": 1}, "environment": {"A": "b"}}}
    )
    scenario.step("build", orch("build"), exits(0))

    def tree() -> dict[str, tuple[bytes, int]]:
        return {
            str(path.relative_to(scenario.base)): (path.read_bytes(), path.stat().st_mtime_ns)
            for path in scenario.base.rglob("*")
            if path.is_file()
        }

    first = tree()
    assert "topology.lock.json" in first
    assert json.loads(first["conf/web-web/config.json"][0]) == {"size": 1}
    scenario.step("build again", orch("build"), exits(0))
    assert tree() == first
    scenario.step("it is fresh", orch("build", "--check"), exits(0))

    scenario.services(
        {"web": {"command": bad(), "config": {"size": 2}, "environment": {"A": "b"}}}
    )
    scenario.step("it is stale", orch("build", "--check"), exits(1), says("config.json"))
    assert tree() == first
    scenario.services({"other": {"command": bad(), "config": {"size": 2}}})
    scenario.step("build anew", orch("build"), exits(0))
    assert not [name for name in tree() if "web-web" in name], (
        "files nobody owns any more are gone"
    )


def test_build_writes_the_same_wherever_it_writes(scenario: Scenario) -> None:
    scenario.services({"web": {"command": bad(), "config": {"size": 1}}})
    contents = []
    for folder in ("one", "two"):
        scenario.step("build", orch("build", "-o", folder), exits(0))
        base = scenario.root / folder
        contents.append((base / "conf/web-web/config.json").read_bytes())
    assert contents[0] == contents[1]


def test_two_topologies_of_one_folder_do_not_meet(scenario: Scenario) -> None:
    for name in ("one", "two"):
        command = f"services: {{{name}: {{command: sleep 1000}}}}\n"
        scenario.write(command, f"{name}.yaml")
        scenario.step("build", orch("-f", f"{name}.yaml", "build"), exits(0))
    scenario.step("the first is fresh", orch("-f", "one.yaml", "build", "--check"), exits(0))
    for name in ("one", "two"):
        assert (scenario.root / f".orch-{name}/conf/{name}-{name}/config.json").is_file()


def test_another_shell_restarts_nothing_and_makes_no_build_stale(scenario: Scenario) -> None:
    scenario.services({"web": {"command": bad()}})
    scenario.step("start", orch("up", "-d"), exits(0))
    scenario.environment["PATH"] += ":/nowhere"
    scenario.step("nothing is stale", orch("build", "--check"), exits(0))
    scenario.step("a plan", orch("up", "--plan"), exits(0), says(r"web\.web +update +inherited"))
    scenario.step("again", orch("up", "-d"), exits(0), says("update web.web: inherited"))
    scenario.step("it is taken", orch("up", "--plan"), exits(0), says("keep +unchanged"))
    scenario.step("take down", orch("down"), exits(0))
