"""What `orch init` writes validates, runs, answers, and its test passes."""

from __future__ import annotations

import socket
import sys

import pytest

from tests.e2e.scenario import Scenario, exits, orch, says


def test_a_service_and_a_component_to_begin_with(scenario: Scenario) -> None:
    scenario.step("service", orch("init", "service", "my-shop"), exits(0))
    scenario.step("component", orch("init", "component", "my-shop.price-feed"), exits(0))
    scenario.step("valid", orch("validate", "--layout", "--strict"), exits(0))
    ports = {}
    for name in ("api", "price_feed"):
        conf = scenario.root / "my_shop" / name / "conf.py"
        text = conf.read_text(encoding="utf-8")
        # Another system on this machine may have the ports that are written.
        with socket.create_server(("127.0.0.1", 0)) as free:
            ports[name] = free.getsockname()[1]
        written = "8000" if name == "api" else "8001"
        conf.write_text(text.replace(f"ConfField({written})", f"ConfField({ports[name]})"))
    scenario.step("up", orch("up", "-d", "--wait"), exits(0))
    code = "from orchestrator.component import client; print(client('my-shop.price-feed').ask())"
    asked = scenario.command([sys.executable, "-c", code])
    assert asked.out == "hello from my-shop.price-feed\n", str(asked)
    greeted = scenario.step("greeted", orch("admin", "my-shop.api", "greet", "Ada"), exits(0))
    assert greeted.out == "my-shop.api greets Ada\n"
    tested = scenario.command(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly"]
    )
    assert "2 passed" in tested.out, str(tested)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["service", "Shop"], 2, "cannot call a service 'Shop'"),
        (["service", "a.b"], 2, "a service's name has no dot"),
        (["component", "alone"], 2, "say SERVICE.alone"),
        (["component", "no.api"], 1, "there is no service package no; orch init service no"),
        (["thing", "x"], 2, "say service NAME, component SERVICE.NAME, or --keys"),
        ([], 2, "say service NAME, component NAME or --keys"),
    ],
)
def test_what_cannot_be_made_is_said(
    scenario: Scenario, words: list[str], code: int, said: str
) -> None:
    scenario.step("refused", orch("init", *words), exits(code), says(said))


def test_nothing_is_written_over_and_a_topology_of_another_style_is_left(
    scenario: Scenario,
) -> None:
    text = 'version: 1\nservices: {other: {command: "true"}}\n'
    scenario.write(text)
    made = scenario.step("made", orch("init", "service", "shop"), exits(0), says("add this to"))
    assert "      api:\n        package: shop.api" in made.out
    assert scenario.topology.read_text(encoding="utf-8") == text
    scenario.step(
        "refused",
        orch("init", "service", "shop"),
        exits(1),
        says(r"shop/__init__\.py and \d+ more is there already"),
    )


def test_the_topology_that_is_named_gets_the_component(scenario: Scenario) -> None:
    scenario.step("made", orch("-f", "sub/mine.yaml", "init", "service", "shop"), exits(0))
    scenario.step("more", orch("-f", "sub/mine.yaml", "init", "component", "shop.feed"), exits(0))
    assert not scenario.topology.exists()
    assert (scenario.root / "sub" / "shop" / "feed" / "conf.py").is_file()
    valid = orch("-f", "sub/mine.yaml", "validate", "--layout", "--strict")
    scenario.step("valid", valid, exits(0))
    text = (scenario.root / "sub" / "mine.yaml").read_text(encoding="utf-8")
    assert "package: shop.api" in text
    assert "package: shop.feed" in text
