"""Components that are restarted together, as OTP's supervisors do it."""

from tests.e2e.scenario import Scenario, bad, exits, orch, row, says

QUICK = {"settle": "0s", "backoff": {"initial": "50ms", "factor": 1}, "limit": {"failures": 0}}


def world(scenario: Scenario, **group: object) -> None:
    """Three members that record their lives, and one beside them."""
    record = ("--record", scenario.record_file)
    scenario.services(
        {
            "core": {
                "components": {
                    name: {"command": bad("--name", name, *record)} for name in ("a", "b", "c")
                }
            },
            "beside": {"command": bad("--name", "beside", *record)},
        },
        defaults=QUICK,
        groups={"trio": {"components": ["core"], **group}},
    )
    scenario.step("all come up", orch("up", "-d", "--wait"), exits(0))
    for name in ("core.a", "core.b", "core.c", "beside.beside"):
        scenario.until_logged(name)


def crash(scenario: Scenario, name: str, *, then: int) -> None:
    """Kill a member, and wait until all have lived so many lives."""
    scenario.step("a member dies", orch("kill", "-s", "KILL", name), exits(0))
    for member in ("core.a", "core.b", "core.c"):
        scenario.until_logged(member, times=then)


def test_all_members_go_down_backwards_and_start_forwards(scenario: Scenario) -> None:
    world(scenario, strategy="one_for_all")
    before = scenario.row("beside.beside")["pid"]
    crash(scenario, "core.b", then=2)
    lives = [event for event in scenario.recorded("start", "exit") if "beside" not in event]
    assert sorted(lives[:3]) == ["a start", "b start", "c start"]
    assert lives[3:5] == ["c exit", "a exit"]
    assert sorted(lives[5:]) == ["a start", "b start", "c start"]
    assert scenario.row("beside.beside")["pid"] == before


def test_one_restart_too_many_stops_the_whole_group(scenario: Scenario) -> None:
    """The reason names the group's intensity, and a reset clears it."""
    world(scenario, strategy="one_for_all", intensity=3, period="1h")
    for lives in (2, 3, 4):
        crash(scenario, "core.b", then=lives)
    for name in ("core.a", "core.b", "core.c"):
        scenario.until_row(name, phase="running")
    scenario.step("it dies once more", orch("kill", "-s", "KILL", "core.b"), exits(0))
    for name in ("core.a", "core.b", "core.c"):
        found = scenario.until_row(name, phase="failed", result="start-limit", pid=None)
        assert "group intensity" in found["why"]
    scenario.step(
        "what stopped a is told",
        orch("explain", "core.a"),
        says("group, which gave up, because core.b has failed", "group intensity: 'trio'"),
        row("beside.beside", phase="running"),
    )
    scenario.step("a reset forgets", orch("reset", "core"), exits(0), row("core.a", why=None))
    scenario.step("they start again", orch("up", "-d", "--wait"), exits(0))
    for name in ("core.a", "core.b", "core.c"):
        scenario.until_logged(name, times=5)
    crash(scenario, "core.b", then=6)
    scenario.until_row("core.b", phase="running")


def test_a_group_that_gives_up_may_end_the_system(scenario: Scenario) -> None:
    """The exit code is that of a component's failure, 10."""
    scenario.services(
        {"core": {"command": bad("--until", "now", "--exit-code", 1)}},
        defaults=QUICK,
        groups={"one": {"components": ["core"], "intensity": 0, "then": "shutdown"}},
    )
    up = scenario.start("up")
    scenario.until_row("core.core", phase="running")
    (scenario.root / "now").touch()
    outcome = up.wait()
    assert outcome.code == 10, str(outcome)
    assert "group intensity" in outcome.text


def test_what_a_group_has_counted_survives_the_daemon(scenario: Scenario) -> None:
    world(scenario, strategy="rest_for_one", intensity=1, period="1h")
    crash_first = scenario.row("core.a")["pid"]
    scenario.step("a member dies", orch("kill", "-s", "KILL", "core.c"), exits(0))
    scenario.until_logged("core.c", times=2)
    daemon = scenario.daemon()["pid"]
    scenario.command(["kill", "-9", str(daemon)])
    scenario.until(lambda: scenario.ps() and scenario.daemon()["pid"] != daemon)
    assert scenario.row("core.a")["pid"] == crash_first
    scenario.step("it dies again", orch("kill", "-s", "KILL", "core.c"), exits(0))
    scenario.until_row("core.a", phase="failed", result="start-limit")
