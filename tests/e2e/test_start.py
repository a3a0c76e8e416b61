"""How things start, or say why they cannot, and what a process finds around itself."""

import json
from pathlib import Path

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


@pytest.mark.parametrize(
    ("component", "hint"),
    [
        ({"command": ["./missing-program"]}, "No such file or directory"),
        ({"command": ["./not-executable"]}, "Permission denied"),
        ({"command": ["./lost-interpreter"]}, "the interpreter .* is missing"),
        ({"command": ["true"], "working_dir": "missing-folder"}, "missing-folder' does not exist"),
        ({"command": ["true"], "user": "nobody-of-this-name"}, "nobody-of-this-name"),
    ],
    ids=[
        "missing program",
        "not executable",
        "missing interpreter",
        "missing folder",
        "unknown user",
    ],
)
def test_what_cannot_be_started_says_why_at_once(
    scenario: Scenario, component: dict[str, object], hint: str
) -> None:
    """A spawn error names stage and reason; there is no storm of restarts."""
    scenario.write("not a program\n", "not-executable")
    scenario.write("#!/no/such/interpreter\n", "lost-interpreter").chmod(0o755)
    scenario.services({"web": component, "other": {"command": bad()}})
    outcome = scenario.step(
        "up fails", orch("up", "-d", "--wait").within(10), exits(1), says(hint)
    )
    no_traceback(scenario, outcome)
    rows = scenario.ps()
    if rows:  # found out by the daemon, not before
        assert rows["web.web"]["phase"] == "failed"
        assert rows["web.web"]["result"] == "spawn-error"
        assert rows["web.web"]["restarts"] == 0
        assert rows["web.web"]["pid"] is None


def test_a_folder_that_went_away_is_a_spawn_error(scenario: Scenario) -> None:
    """What no check before the start can see."""
    work = scenario.root / "work"
    work.mkdir()
    scenario.services({"web": {"command": bad(), "working_dir": "work"}})
    scenario.step("it comes up", orch("up", "-d", "--wait"), exits(0))
    scenario.step("it stops", orch("stop", "web"), exits(0))
    work.rmdir()
    outcome = scenario.step(
        "it cannot start again",
        orch("start", "web").within(10),
        exits(1),
        says(f"{work}.*No such file or directory"),
        row("web.web", phase="failed", result="spawn-error", pid=None),
    )
    no_traceback(scenario, outcome)


def test_a_process_finds_exactly_what_was_declared(scenario: Scenario) -> None:
    """Environment, directory, umask, limits, group and session, descriptors."""
    scenario.write("FROM_FILE=one\n", "variables")
    (scenario.root / "work").mkdir()
    scenario.services(
        {
            "web": {
                "command": bad("--report"),
                "environment": {"DECLARED": "yes"},
                "env_file": "variables",
                "inherit_env": False,
                "working_dir": "work",
                "umask": "027",
                "rlimits": {"nofile": 77},
            }
        }
    )
    scenario.environment["LEAKED_FROM_THE_CALLER"] = "secret"
    scenario.step("it comes up", orch("up", "-d", "--wait"), exits(0))
    scenario.until_logged("web.web")
    found = json.loads(scenario.log("web.web").splitlines()[0])

    environment = found["environment"]
    ours = {name for name in environment if name.startswith("ORCH_")} | {
        "NOTIFY_SOCKET",
        "LC_CTYPE",
        "PWD",
    }
    assert {name: value for name, value in environment.items() if name not in ours} == {
        "DECLARED": "yes",
        "FROM_FILE": "one",
    }
    assert found["cwd"] == str(scenario.root / "work")
    assert found["umask"] == 0o027
    assert found["nofile"] == [77, 77]
    assert found["pid"] == found["pgid"] == found["sid"]
    assert found["blocked"] == []
    assert found["descriptors"] == {
        "0": "/dev/null",
        "1": str(scenario.log_path("web.web", "out")),
        "2": str(scenario.log_path("web.web", "err")),
    }


def test_a_process_of_another_user_is_wholly_theirs(scenario: Scenario) -> None:
    """User, group and further groups; only the superuser can change them."""
    if not is_superuser():
        pytest.skip("needs the superuser")
    scenario.root.chmod(0o755)
    command = ["/bin/sh", "-c", "echo $(id -u) $(id -g) $(id -G); exec sleep 1000"]
    scenario.services({"web": {"command": command, "user": "daemon", "group": "daemon"}})
    scenario.step("it comes up", orch("up", "-d", "--wait"), exits(0))
    assert scenario.until_logged("web.web", "\n") == b"1 1 1\n"


def is_superuser() -> bool:
    """Tell whether we may become somebody else."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return "\nUid:\t0\t0\t" in status


def test_a_dependent_of_what_failed_does_not_start_and_says_so(scenario: Scenario) -> None:
    scenario.services(
        {
            "database": {
                "command": bad("--silent", "--exit-after", 0, "--exit-code", 3),
                "restart": "never",
                "settle": "1s",
            },
            "web": {
                "command": bad("--name", "web", "--record", scenario.record_file),
                "depends_on": ["database"],
            },
        }
    )
    scenario.step(
        "up fails",
        orch("up", "-d", "--wait").within(10),
        exits(1),
        says("cannot start 'web", "database"),
    )
    assert scenario.recorded("start") == []


def test_a_failing_program_is_given_up_after_its_limit(scenario: Scenario) -> None:
    argv = bad(
        "--silent",
        "--exit-after",
        0,
        "--exit-code",
        7,
        "--name",
        "web",
        "--record",
        scenario.record_file,
    )
    scenario.services(
        {
            "web": {
                "command": argv,
                "backoff": {"initial": "10ms", "max": "20ms"},
                "limit": {"failures": 3},
            }
        }
    )
    scenario.step("it is started", orch("up", "-d"))
    found = scenario.until_row("web.web", phase="failed")
    assert found["result"] == "start-limit"
    assert found["exit_code"] == 7
    assert len(scenario.recorded("start")) == 3


def test_the_end_of_a_component_can_end_the_system(scenario: Scenario) -> None:
    """By failure with exit code 10, by success with 0."""
    for code, expected in ((1, 10), (0, 0)):
        work = bad("--exit-after", 0.2, "--exit-code", code)
        more = {"on_failure": "shutdown"} if code else {"on_exit": "shutdown"}
        scenario.services(
            {"work": {"command": work, "restart": "never", **more}, "web": {"command": bad()}}
        )
        scenario.step("up ends by itself", orch("up").within(10), exits(expected), says("ready"))


def test_the_exit_code_can_be_that_of_a_component(scenario: Scenario) -> None:
    scenario.services(
        {
            "work": {"command": bad("--exit-after", 0.2, "--exit-code", 42), "restart": "never"},
            "web": {"command": bad()},
        }
    )
    scenario.step("up ends with it", orch("up", "--exit-code-from", "work"), exits(42))


def test_the_first_failure_can_end_all(scenario: Scenario) -> None:
    """With its exit code, or with that of one which the abort ended."""
    work = {"command": bad("--exit-after", 0.2, "--exit-code", 111), "restart": "never"}
    scenario.services({"work": work, "web": {"command": ["sleep", "1000"]}})
    scenario.step("its code", orch("up", "--abort-on-failure"), exits(111), nothing_runs)
    scenario.step(
        "killed by the abort",
        orch("up", "--abort-on-failure", "--exit-code-from", "web"),
        exits(143),
        says("work.work failed: exit 111"),
        nothing_runs,
    )
    scenario.step(
        "the one asked for is the one that failed",
        orch("up", "--abort-on-failure", "--exit-code-from", "work"),
        exits(111),
        nothing_runs,
    )


def test_the_first_end_can_end_all(scenario: Scenario) -> None:
    work = {"command": bad("--exit-after", 0.2), "restart": "never"}
    scenario.services({"work": work, "web": {"command": ["sleep", "1000"]}})
    scenario.step("it ended well", orch("up", "--abort-on-exit"), exits(0), nothing_runs)
    scenario.step(
        "killed by the abort",
        orch("up", "--abort-on-exit", "--exit-code-from", "web"),
        exits(143),
        nothing_runs,
    )


def test_a_profile_is_started_by_name_with_what_it_needs_alone(scenario: Scenario) -> None:
    scenario.services(
        {
            "web": {"command": bad()},
            "db": {"command": bad(), "profiles": ["tools"]},
            "console": {"command": bad(), "profiles": ["tools"], "depends_on": ["db"]},
            "load": {"command": bad(), "profiles": ["load"]},
        }
    )
    scenario.step("by name", orch("up", "-d", "--wait", "console"), exits(0))
    assert {name: row["phase"] for name, row in scenario.ps().items()} == {
        "web.web": "stopped",
        "db.db": "running",
        "console.console": "running",
        "load.load": "stopped",
    }
    scenario.step("down", orch("down"), exits(0), nothing_runs)
    scenario.step("by profile", orch("up", "-d", "--wait", "--profile", "load"), exits(0))
    assert {name: row["phase"] for name, row in scenario.ps().items()} == {
        "web.web": "running",
        "db.db": "stopped",
        "console.console": "stopped",
        "load.load": "running",
    }
    before = scenario.row("load.load")["pid"]
    scenario.step("another up leaves it", orch("up", "-d", "--wait"), exits(0))
    assert scenario.row("load.load")["pid"] == before
    scenario.step("why not", orch("explain", "console"), says(r"with its profile \(tools\)"))


def test_what_ends_well_is_as_good_as_ready(scenario: Scenario) -> None:
    """A wait is over when one has done its work and the others are ready."""
    scenario.services(
        {
            "once": {"command": bad("--exit-after", 0.3, "--silent"), "restart": "on-failure"},
            "web": {
                "command": bad(),
                "ready": {"log": "ready"},
                "depends_on": {"once": {"condition": "completed_successfully"}},
            },
        }
    )
    scenario.step("all is well", orch("up", "-d", "--wait"), exits(0))
    rows = scenario.ps()
    assert (rows["once.once"]["phase"], rows["once.once"]["exit_code"]) == ("exited", 0)
    assert rows["web.web"]["ready"]


def test_a_wait_has_an_end(scenario: Scenario) -> None:
    scenario.services({"web": {"command": bad(), "ready": {"tcp": "127.0.0.1:9"}}})
    scenario.step(
        "never ready",
        orch("up", "-d", "--wait", "--wait-timeout", "1s"),
        exits(1),
        says("not ready after 1s: web"),
    )


def test_replicas_are_instances_of_their_own(scenario: Scenario) -> None:
    scenario.services({"web": {"command": bad("--report"), "replicas": 3}})
    scenario.step("they come up", orch("up", "-d", "--wait"), exits(0))
    rows = scenario.ps()
    assert sorted(rows) == ["web.web@1", "web.web@2", "web.web@3"]
    assert len({each["pid"] for each in rows.values()}) == 3


def test_explain_follows_the_causes_to_the_last_words_of_the_culprit(scenario: Scenario) -> None:
    broken = ["sh", "-c", "echo cannot open the disk >&2; exit 3"]
    scenario.services(
        {
            "web": {"command": bad(), "depends_on": ["db"]},
            "db": {"command": broken, "ready": {"delay": "5s"}, "restart": "never"},
        }
    )
    scenario.step("it does not come up", orch("up", "-d"), exits(1))
    scenario.step(
        "the reason is told",
        orch("explain", "web"),
        exits(0),
        says(r"web\.web was not started: .*, because db\.db has failed: exit 3"),
        says("    cannot open the disk"),
    )
    outcome = scenario.run("explain", "--json", "web")
    (explanation,) = outcome.json()
    assert [link["name"] for link in explanation["because"]] == ["web.web", "db.db"]
    scenario.step("an unknown name is none", orch("explain", "wob"), exits(1), says("web"))
