"""Who waits for whom, who starts in spite of it, and that nobody waits for ever."""

from typing import Any

from tests.e2e.scenario import Scenario, bad, exits, orch, row, says, silent_about


def ready_when(scenario: Scenario, name: str = "go") -> dict[str, Any]:
    """Return a readiness that holds once a file is there."""
    return {"exec": ["test", "-e", str(scenario.root / name)], "every": "50ms"}


def test_what_waits_for_one_that_never_gets_ready_is_not_started(scenario: Scenario) -> None:
    db = {
        "command": bad(),
        "ready": ready_when(scenario),
        "start_timeout": "1s",
        "restart": "never",
    }
    scenario.services({"db": db, "web": {"command": bad(), "depends_on": ["db"]}})
    scenario.step(
        "up fails and names it",
        orch("up", "-d", "--wait"),
        exits(1),
        says("db.db", "not ready within 1s"),
        row("web.web", phase="failed", result="dependency", generation=0),
    )


def test_an_optional_dependency_that_fails_is_a_warning(scenario: Scenario) -> None:
    scenario.services(
        {
            "cache": {"command": ["false"], "restart": "never"},
            "web": {
                "command": bad(),
                "depends_on": {
                    "cache": {"condition": "completed_successfully", "required": False}
                },
            },
        }
    )
    scenario.run("up", "-d", "--wait")
    found = scenario.until_row("web.web", phase="running")
    assert "optional dependency" in found["warning"]
    assert "cache.cache" in found["warning"]


def test_what_waits_for_a_success_does_not_start_after_a_failure(scenario: Scenario) -> None:
    """And `up --wait` ends."""
    wish = {"migrate": {"condition": "completed_successfully"}}
    scenario.services(
        {
            "migrate": {"command": ["sh", "-c", "exit 3"], "restart": "never"},
            "web": {"command": bad(), "depends_on": wish},
        }
    )
    scenario.step(
        "up fails",
        orch("up", "-d", "--wait").within(20),
        exits(1),
        says("cannot start 'web.web': 'migrate.migrate' failed .exit 3"),
        row("web.web", generation=0),
    )


def test_a_declared_success_code_is_a_success_for_dependents(scenario: Scenario) -> None:
    wish = {"migrate": {"condition": "completed_successfully"}}
    scenario.services(
        {
            "migrate": {"command": ["sh", "-c", "exit 3"], "success_codes": [0, 3]},
            "web": {"command": bad(), "depends_on": wish},
        }
    )
    scenario.step(
        "all comes up",
        orch("up", "-d", "--wait"),
        exits(0),
        row("migrate.migrate", phase="exited", exit_code=3, result="success", restarts=0),
        row("web.web", phase="running"),
    )


def test_a_word_in_the_log_may_come_in_pieces_in_colour_and_without_its_newline(
    scenario: Scenario,
) -> None:
    script = "printf '\\033[32mlist'; sleep 0.3; printf 'en\\033[1ming\\033[0m'; exec sleep 1000"
    scenario.services({"web": {"command": ["sh", "-c", script], "ready": {"log": "^listening"}}})
    scenario.step("it becomes ready", orch("up", "-d", "--wait").within(20), exits(0))
    assert scenario.row("web.web")["generation"] == 1


def waiting_web(scenario: Scenario) -> None:
    scenario.services(
        {
            "db": {"command": bad(), "ready": ready_when(scenario)},
            "web": {
                "command": bad("--name", "web", "--record", scenario.record_file),
                "depends_on": ["db"],
            },
        }
    )
    scenario.start("up", "-d")
    scenario.until_row("web.web", phase="waiting")


def test_one_that_waits_can_be_stopped_for_good(scenario: Scenario) -> None:
    waiting_web(scenario)
    scenario.step(
        "a stop is a stop", orch("stop", "web"), exits(0), row("web.web", phase="stopped")
    )
    (scenario.root / "go").touch()
    scenario.until_row("db.db", ready=True)
    assert scenario.row("web.web")["phase"] == "stopped"
    assert scenario.recorded("start") == []


def test_a_restart_of_one_that_waits_is_one_start(scenario: Scenario) -> None:
    waiting_web(scenario)
    restart = scenario.start("restart", "web")
    scenario.until(lambda: scenario.row("web.web")["phase"] == "waiting")
    (scenario.root / "go").touch()
    assert restart.wait().code == 0
    scenario.until_row("web.web", phase="running", generation=1)
    assert scenario.recorded("start") == ["web start"]


def test_up_of_one_brings_what_it_needs_and_no_more(scenario: Scenario) -> None:
    """And nothing at all of it with --no-deps."""
    scenario.services(
        {
            "db": {"command": bad()},
            "web": {"command": bad(), "depends_on": ["db"]},
            "other": {"command": bad()},
        }
    )
    scenario.step(
        "alone", orch("up", "-d", "--no-deps", "web"), exits(0), row("web.web", phase="running")
    )
    assert {name: each["phase"] for name, each in scenario.ps().items()} == {
        "db.db": "stopped",
        "web.web": "running",
        "other.other": "stopped",
    }
    scenario.step("it goes down", orch("down"), exits(0))
    scenario.step(
        "with what it needs",
        orch("up", "-d", "--wait", "web"),
        exits(0),
        silent_about("other.other"),
        row("db.db", phase="running"),
        row("web.web", phase="running"),
        row("other.other", phase="stopped", generation=0),
    )


def test_an_end_within_the_settling_time_is_shown_with_its_last_words(scenario: Scenario) -> None:
    script = "seq -f 'word %g' 30; exit 7"
    scenario.services(
        {"web": {"command": ["sh", "-c", script], "restart": "never"}},
        defaults={"settle": "5s"},
    )
    scenario.step(
        "up tells",
        orch("up", "-d", "--wait").within(20),
        exits(1),
        says("web.web", "exit 7", "word 30"),
    )
    scenario.step(
        "so does explain", orch("explain", "web"), says("exit 7", "word 11\n", "word 30")
    )


def test_a_stop_warns_of_those_that_go_on_needing_it(scenario: Scenario) -> None:
    scenario.services(
        {
            "db": {"command": bad()},
            "web": {"command": bad(), "depends_on": ["db"]},
            "job": {"command": bad(), "depends_on": ["db"]},
            "other": {"command": bad()},
        }
    )
    scenario.step("all come up", orch("up", "-d", "--wait"), exits(0))
    pid = scenario.row("web.web")["pid"]
    scenario.step("one of them is stopped", orch("stop", "job"), exits(0), silent_about("warning"))
    scenario.step(
        "the other is warned of",
        orch("stop", "db", "other"),
        exits(0),
        says("warning: db.db is stopped, and these depend on it and run: web.web\n"),
        silent_about("run: .*job", "other.other is"),
        row("db.db", phase="stopped"),
        row("web.web", phase="running", pid=pid),
    )


def test_an_interrupted_up_stops_what_it_named_and_nothing_else(scenario: Scenario) -> None:
    scenario.services(
        {
            "db": {"command": bad()},
            "app": {"command": bad(), "depends_on": ["db", "cache"]},
            "cache": {"command": bad()},
            "other": {"command": bad()},
        }
    )
    scenario.step("two run already", orch("up", "-d", "--wait", "cache", "other"), exits(0))
    before = scenario.ps()
    assert before["db.db"]["phase"] == "stopped"
    up = scenario.start("up", "app")
    scenario.until_row("app.app", phase="running")
    db = scenario.row("db.db")["pid"]
    up.interrupt()
    exits(130)(scenario, up.wait())
    after = scenario.ps()
    assert after["app.app"]["phase"] == "stopped"
    for name in ("cache.cache", "other.other"):
        assert after[name]["phase"] == "running"
        assert after[name]["pid"] == before[name]["pid"]
    assert after["db.db"]["pid"] == db
