"""The shipped examples run as the README says; the exchange's result is right to the byte."""

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.e2e import exchange_oracle
from tests.e2e.scenario import Scenario, exits, no_traceback, nothing_runs, orch, says

TOPOLOGIES = Path(__file__).parents[2] / "topologies"


def test_hello_talks_and_ends(scenario: Scenario) -> None:
    scenario.copy(TOPOLOGIES / "hello.yaml")
    scenario.copy(TOPOLOGIES / "hello")
    outcome = scenario.step(
        "up shows the talk and ends by itself",
        orch("-f", "hello.yaml", "up"),
        exits(0),
        says("Ada is at the door", "Hello, Ada!", "Hello, Grace!", "Hello, Barbara!"),
        nothing_runs,
    )
    no_traceback(scenario, outcome)
    assert re.search(r"talk\.guest\S*\s.*Hello, Ada!", outcome.out), "each line tells whose it is"


def test_the_house_shows_what_it_measures_and_remembers_it(scenario: Scenario) -> None:
    scenario.copy(TOPOLOGIES / "house.yaml")
    scenario.copy(TOPOLOGIES / "house")
    first = scenario.step(
        "up shows the temperatures and ends by itself",
        orch("-f", "house.yaml", "up"),
        exits(0),
        says("attic 24.1, kitchen 21.6", "the panel is up to date"),
        nothing_runs,
    )
    no_traceback(scenario, first)
    assert "remembered" not in first.out
    scenario.step(
        "the second time it begins with them",
        orch("-f", "house.yaml", "up"),
        exits(0),
        says("remembered 2 rooms", "the panel is up to date"),
        nothing_runs,
    )


@pytest.mark.skipif(
    shutil.which("gnuplot") is None, reason="gnuplot is not installed (Debian: gnuplot-nox)"
)
def test_the_lab_fits_its_curves_and_draws_them(scenario: Scenario) -> None:
    scenario.copy(TOPOLOGIES / "lab.yaml")
    folder = scenario.copy(TOPOLOGIES / "lab")
    for name in ("result.json", "decay.svg"):
        (folder / name).unlink(missing_ok=True)
    outcome = scenario.step(
        "up shows what the fits have found and ends by itself",
        orch("-f", "lab.yaml", "up").within(120),
        exits(0),
        says("indium: not explained by 1", r"indium: 0\.8 s and 7\.\d s", "Wrote result.json"),
        nothing_runs,
    )
    no_traceback(scenario, outcome)
    found = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    true = {"copper": [2.0], "indium": [0.8, 7.0], "silver": [5.0]}
    assert found == {name: pytest.approx(lives, rel=0.1) for name, lives in true.items()}
    drawn = (folder / "decay.svg").read_text(encoding="utf-8")
    assert drawn.rstrip().endswith("</svg>")
    assert all(f">{name}<" in drawn for name in true)
    directories = sorted(path.parent.name for path in (folder / ".orch" / "runs").glob("*/*"))
    assert directories == ["lab-fit"] * 4 + ["lab-plot"], "three simple fits, and one again"


def test_the_decays_are_what_their_generator_writes(scenario: Scenario) -> None:
    data = TOPOLOGIES / "lab" / "data"
    done = scenario.command(["python3", str(data / "generate.py"), str(scenario.root)])
    assert done.code == 0, str(done)
    for path in data.glob("*.dat"):
        assert (scenario.root / path.name).read_bytes() == path.read_bytes()


def test_the_exchange_ends_with_the_right_result(scenario: Scenario) -> None:
    scenario.copy(TOPOLOGIES / "exchange.yaml")
    scenario.copy(TOPOLOGIES / "exchange")
    folder = scenario.root / "exchange"
    (folder / "result.json").unlink(missing_ok=True)
    outcome = scenario.step(
        "up runs to the end",
        orch("-f", "exchange.yaml", "up"),
        exits(0),
        says("Replayed 4000 ticks", "Wrote result.json", "GET /instruments.json"),
        nothing_runs,
    )
    no_traceback(scenario, outcome)
    assert (folder / "result.json").read_bytes() == exchange_oracle.result(folder)


def test_the_exchange_can_run_again_and_elsewhere(scenario: Scenario) -> None:
    """A setting names another result file; what the first run left does not disturb the second."""
    scenario.copy(TOPOLOGIES / "exchange.yaml")
    scenario.copy(TOPOLOGIES / "exchange")
    folder = scenario.root / "exchange"
    for name in ("first.json", "second.json"):
        up = orch("-f", "exchange.yaml", "up", "--set", f"RESULT={name}")
        scenario.step(name, up, exits(0), nothing_runs)
    assert (folder / "first.json").read_bytes() == (folder / "second.json").read_bytes()


def test_the_market_is_what_its_generator_writes(scenario: Scenario) -> None:
    market = TOPOLOGIES / "exchange" / "market"
    target = scenario.root / "market.csv"
    done = scenario.command(["python3", str(market / "generate.py"), str(target)])
    assert done.code == 0, str(done)
    assert target.read_bytes() == (market / "market.csv").read_bytes()


def test_every_shipped_topology_is_valid(scenario: Scenario) -> None:
    files = sorted(TOPOLOGIES.glob("*.yaml"))
    assert len(files) >= 2
    scenario.step("valid", orch("validate", *map(str, files)), exits(0))
