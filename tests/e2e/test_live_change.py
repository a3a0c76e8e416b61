"""What an apply does to a system that runs: no more than the change needs, and it says why."""

from __future__ import annotations

import json
from typing import Any

from orchestrator import cgroups
from tests import field_changes
from tests.e2e.scenario import (
    Scenario,
    exits,
    no_traceback,
    orch,
    row,
    says,
    silent_about,
)

SLEEP = {"command": ["sleep", "1000"]}

NOT_GRANTED = frozenset(word for word in ("cpu", "pids") if not cgroups.find().way(word))


def pids(scenario: Scenario) -> dict[str, int]:
    return {name: row["pid"] for name, row in scenario.ps().items()}


def test_the_change_of_each_field_does_what_the_schema_says(scenario: Scenario) -> None:
    field_changes.write(scenario.root)
    scenario.write(json.dumps(field_changes.topology(0, without=NOT_GRANTED), indent=1))
    up = orch("up", "-d", "--wait", "--no-import").within(60)
    scenario.step("the system runs", up, exits(0))
    before = pids(scenario)
    scenario.write(json.dumps(field_changes.topology(1, without=NOT_GRANTED), indent=1))
    outcome = scenario.step(
        "a plan tells what would be done",
        orch("up", "--plan", "--json", "--no-import", "--profile", "debug"),
        exits(0),
        no_traceback,
    )
    actions = {step["name"].partition(".")[0]: step for step in outcome.json()}
    wanted = {"live": "update", "restart": "restart"}
    for field, apply in field_changes.APPLY.items():
        name = field.replace("_", "-")
        if name == "replicas" or field in NOT_GRANTED:
            continue
        assert actions[name]["action"] == wanted[apply], actions[name]
        if field != "inherit_env":
            assert all(one["line"] > 0 for one in actions[name]["changed"]), actions[name]
    assert actions["other"]["action"] == "keep"
    assert pids(scenario) == before

    again = orch("up", "-d", "--wait", "--no-import", "--profile", "debug").within(60)
    scenario.step("the apply does the same", again, exits(0))
    after = pids(scenario)
    for field, apply in field_changes.APPLY.items():
        name = field.replace("_", "-")
        if name in ("replicas", "enabled") or field in NOT_GRANTED:
            continue
        same = after[f"{name}.{name}"] == before[f"{name}.{name}"]
        assert same is (apply == "live"), field
    assert after["other.other"] == before["other.other"]
    assert after["replicas.replicas@1"] == before["replicas.replicas"]
    assert after["enabled.enabled"] is None


def test_scaling_keeps_the_lower_instances(scenario: Scenario) -> None:
    scenario.services({"web": SLEEP, "db": {**SLEEP, "replicas": 2}})
    scenario.step("it runs", orch("up", "-d", "--wait"), exits(0))
    first = scenario.row("web.web")["pid"]
    others = scenario.row("db.db@1")["pid"], scenario.row("db.db@2")["pid"]
    scenario.step("more are started", orch("scale", "web=3", "db=4"), exits(0))
    scenario.step("the others stay as scaled", orch("scale", "web=2"), exits(0))
    rows = scenario.ps()
    assert sorted(rows) == ["db.db@1", "db.db@2", "db.db@3", "db.db@4", "web.web@1", "web.web@2"]
    assert rows["web.web@1"]["pid"] == first
    assert (rows["db.db@1"]["pid"], rows["db.db@2"]["pid"]) == others
    scenario.step("the highest numbers go first", orch("scale", "web=1", "db=2"), exits(0))
    assert pids(scenario) == {
        "web.web": first,
        "db.db@1": others[0],
        "db.db@2": others[1],
    }


def test_scaling_one_leaves_the_others_as_they_are(scenario: Scenario) -> None:
    scenario.services({"web": SLEEP, "idle": SLEEP})
    scenario.step("it runs", orch("up", "-d", "--wait"), exits(0))
    scenario.step("one is stopped by hand", orch("stop", "idle"), exits(0))
    scenario.step("another is scaled", orch("scale", "web=2"), exits(0))
    scenario.step("and back", orch("scale", "web=1"), exits(0), row("web.web", phase="running"))
    assert scenario.row("idle.idle")["phase"] == "stopped"


def test_a_wrong_scale_changes_nothing(scenario: Scenario) -> None:
    scenario.services({"web": SLEEP})
    scenario.step("it runs", orch("up", "-d"), exits(0))
    before = pids(scenario)
    scenario.step("an unknown name", orch("scale", "wob=2"), exits(2), says("wob", "web"))
    scenario.step("no instance at all", orch("scale", "web=0"), exits(2), says("at least 1"))
    scenario.step("no number", orch("scale", "web"), exits(2), says("NAME=COUNT"))
    assert pids(scenario) == before


def test_what_the_file_no_longer_has_is_told_and_stopped_on_request(scenario: Scenario) -> None:
    scenario.services({"web": SLEEP, "old": SLEEP})
    scenario.step("it runs", orch("up", "-d"), exits(0))
    before = pids(scenario)
    scenario.services({"web": SLEEP})
    scenario.step(
        "an orphan is told", orch("up", "-d"), exits(0), says("old.old", "--remove-orphans")
    )
    assert pids(scenario) == before
    scenario.step("it goes on request", orch("up", "-d", "--remove-orphans"), exits(0))
    scenario.until(lambda: pids(scenario) == {"web.web": before["web.web"]})


def test_a_file_with_a_mistake_changes_nothing(scenario: Scenario) -> None:
    scenario.services({"web": SLEEP, "db": SLEEP})
    scenario.step("it runs", orch("up", "-d"), exits(0))
    before = pids(scenario)
    scenario.services({"web": {"command": ["sleep", "2000"]}, "db": {"comand": "x"}, "new": SLEEP})
    scenario.step("a mistake is refused", orch("up", "-d"), exits(1), says("comand", "command"))
    scenario.step("by a plan too", orch("up", "--plan"), exits(1), says("comand"))
    assert pids(scenario) == before
    scenario.step("the old one goes on", orch("status", "web", "db"), exits(0))


def test_the_content_of_an_env_file_counts(scenario: Scenario) -> None:
    scenario.write("A=1\n", "a.env")
    scenario.write("B=1\n", "b.env")
    scenario.services(
        {"a": {**SLEEP, "env_file": "a.env"}, "b": {**SLEEP, "env_file": "b.env"}, "c": SLEEP}
    )
    scenario.step("it runs", orch("up", "-d"), exits(0))
    before = pids(scenario)
    scenario.write("# said anew\nA=1\n", "a.env")
    scenario.step("a comment changes nothing", orch("up", "-d"), exits(0), silent_about("restart"))
    assert pids(scenario) == before
    scenario.write("A=2\n", "a.env")
    scenario.step(
        "the plan names the variable and where the file is named",
        orch("up", "--plan"),
        exits(0),
        says(r"a\.a +restart field environment\.A changed \(topology\.yaml:\d+:\d+\)"),
        says(r"b\.b +keep"),
    )
    scenario.step("only its user restarts", orch("up", "-d", "--wait"), exits(0))
    after = pids(scenario)
    assert [name for name in after if after[name] != before[name]] == ["a.a"]


def test_a_plan_without_a_system_starts_nothing(scenario: Scenario) -> None:
    scenario.services({"web": SLEEP})
    scenario.step("a plan is printed", orch("up", "--plan"), exits(0), says(r"web\.web +create"))
    assert not scenario.processes()
    assert not scenario.base.exists()


def rebuilt(lines: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the rows that a reader of the events knows; fail at a gap or a repetition."""
    rows: dict[str, dict[str, Any]] = {}
    seq = -1
    for line in lines:
        if line["kind"] == "snapshot":
            rows, seq = {one["name"]: one for one in line["instances"]}, line["seq"]
            continue
        assert line["seq"] == seq + 1, (line, seq)
        seq = line["seq"]
        if line["kind"] == "instance":
            rows[line["row"]["name"]] = line["row"]
        elif line["kind"] == "removed":
            rows.pop(line["name"])
    return rows


def test_events_follow_their_snapshot_without_gap(scenario: Scenario) -> None:
    services = {f"s{n}": {**SLEEP, "backoff": {"initial": "10ms"}} for n in range(8)}
    scenario.services(services)
    scenario.step("it runs", orch("up", "-d"), exits(0))
    readers = []
    for n in range(4):
        readers.append(scenario.start("events", "--json"))
        scenario.step("there is a change", orch("restart", f"s{n}", "--no-wait"), exits(0))
        scenario.step("and another", orch("kill", f"s{n + 4}"), exits(0))
    scenario.step("a slot is renamed", orch("scale", "s0=2"), exits(0))
    scenario.step("and gets its name back", orch("scale", "s0=1"), exits(0))
    scenario.step("the end", orch("down"), exits(0))
    for reader in readers:
        outcome = reader.wait()
        assert outcome.code == 0
        lines = [json.loads(line) for line in outcome.out.splitlines()]
        assert lines[0]["kind"] == "snapshot"
        assert lines[-1] == {**lines[-1], "kind": "system", "state": "stopped"}
        rows = rebuilt(lines)
        assert sorted(rows) == sorted(f"{name}.{name}" for name in services)
        assert {row["phase"] for row in rows.values()} == {"stopped"}


def test_events_are_lines_for_people(scenario: Scenario) -> None:
    scenario.services({"web": SLEEP, "db": SLEEP})
    scenario.step("it runs", orch("up", "-d"), exits(0))
    reader = scenario.start("events", "web")

    def is_told(outcome: str) -> bool:
        return "web.web" in outcome and "stopped" in outcome

    def look() -> bool:
        scenario.run("restart", "web")
        return "stopping" in reader.out

    scenario.until(look)
    scenario.step("one is stopped", orch("stop", "web", "db"), exits(0), row("db.db", pid=None))
    scenario.until(lambda: is_told(reader.out), saying="no line about the stop")
    scenario.step("the end", orch("down"), exits(0))
    assert reader.wait().code == 0
    assert "db.db" not in reader.out
    assert "T" in reader.out.split()[0]
