"""Commands in the surroundings of a component, and built commands, without a daemon."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.e2e.scenario import Scenario

NICE = os.nice(0) + 3  # only root may be less nice than it is
SHOW = "echo $A $B $(pwd) $(nice) $(umask); exit 7"


def shop(scenario: Scenario) -> None:
    (scenario.root / "shop").mkdir()
    scenario.services(
        {
            "web": {
                "command": ["sh", "-c", SHOW],
                "environment": {"A": "one", "B": "${settings.KEY}"},
                "working_dir": "shop",
                "umask": "027",
                "nice": NICE,
                "replicas": 2,
            }
        },
        settings={"KEY": {"required": True, "secret": True}},
    )
    scenario.environment["ORCH_SETTING_KEY"] = "s3cret"


def test_a_command_runs_in_the_surroundings_of_a_component(scenario: Scenario) -> None:
    shop(scenario)
    ran = scenario.run("exec", "web.web@2", "--", "sh", "-c", SHOW)
    assert ran.out.split() == ["one", "s3cret", str(scenario.root / "shop"), str(NICE), "0027"]
    assert ran.code == 7
    assert not scenario.base.exists()


def test_what_cannot_be_run_is_said(scenario: Scenario) -> None:
    shop(scenario)
    several = scenario.run("exec", "web", "true")
    assert (several.code, "name one of web.web@1, web.web@2" in several.err) == (2, True)
    unknown = scenario.run("exec", "web.wob", "true")
    assert unknown.code == 1
    assert "did you mean" in unknown.err
    nothing = scenario.run("exec", "web.web@1")
    assert (nothing.code, "say what to run" in nothing.err) == (2, True)
    missing = scenario.run("exec", "web.web@1", "no-such-program", "--flag")
    assert missing.code == 1
    assert "cannot execute 'no-such-program': not found in PATH=" in missing.err


def test_a_built_command_runs_without_a_daemon(scenario: Scenario) -> None:
    shop(scenario)
    assert scenario.run("build").code == 0
    (built,) = sorted(scenario.base.glob("conf/*"))[:1]
    ran = scenario.run("run", str(built))
    assert (ran.code, ran.out.split()[:3]) == (7, ["one", "s3cret", str(scenario.root / "shop")])
    del scenario.environment["ORCH_SETTING_KEY"]
    bare = scenario.run("run", str(built))
    assert bare.code == 1
    assert "the setting 'KEY' has no value; give it as ORCH_SETTING_KEY" in bare.err
    assert "s3cret" not in Path(built, "environment.json").read_text()


@pytest.mark.root
def test_a_command_runs_as_the_components_user(scenario: Scenario) -> None:
    scenario.services(
        {"web": {"command": "true", "user": "nobody", "rlimits": {"nofile": 77}}},
    )
    scenario.root.chmod(0o755)
    ran = scenario.run("exec", "web", "sh", "-c", "id -un; ulimit -n")
    assert (ran.code, ran.out.split()) == (0, ["nobody", "77"])
