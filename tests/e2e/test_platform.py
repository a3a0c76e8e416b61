"""The platform example: service classes over a real Redis and a real SMTP server."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
from pathlib import Path

import pytest

from tests.e2e.scenario import Scenario, exits, no_traceback, nothing_runs, orch

TOPOLOGIES = Path(__file__).parents[2] / "topologies"
NEEDED = ("redis", "aiosmtpd")

NEEDS = (
    pytest.mark.skipif(
        shutil.which("redis-server") is None,
        reason="redis-server is not installed; on Debian: apt-get install redis-server",
    ),
    pytest.mark.skipif(
        not all(map(importlib.util.find_spec, NEEDED)),
        reason="needs the Python packages redis and aiosmtpd",
    ),
)
pytestmark = list(NEEDS)


@pytest.fixture
def platform(scenario: Scenario) -> Scenario:
    scenario.copy(TOPOLOGIES / "platform.yaml").rename(scenario.topology)
    scenario.copy(TOPOLOGIES / "bazaar")
    scenario.base = scenario.root / "bazaar" / ".orch"
    scenario.step("it comes up", orch("up", "-d", "--wait"), exits(0), no_traceback)
    return scenario


def letters(scenario: Scenario) -> list[str]:
    return sorted(path.read_text() for path in (scenario.base / "letters" / "new").glob("*"))


def until_letters(scenario: Scenario, count: int) -> list[str]:
    def there() -> bool:
        return len(letters(scenario)) == count

    scenario.until(there, within=30, saying=f"there are {len(letters(scenario))} letters")
    return letters(scenario)


def ordered(what: str) -> tuple[str, ...]:
    return ("call", "orders.desk", "order", f'{{"customer": "bob@example.org", "what": "{what}"}}')


def test_each_order_has_its_letter_whoever_dies_meanwhile(platform: Scenario) -> None:
    first = until_letters(platform, 3)
    assert [text for text in first if "Thank you for your order of tea." in text]
    assert all("From: bazaar@example.org" in text for text in first)
    pid = platform.row("post.mailer")["pid"]

    platform.step("another post office", orch("restart", "post.office"), exits(0))
    platform.step("an order", orch(*ordered("milk")), exits(0))
    until_letters(platform, 4)
    assert platform.row("post.mailer")["pid"] == pid, "keep_alive has reset it in place"

    os.kill(platform.row("post.mailer")["pid"], signal.SIGKILL)
    platform.step("nobody sends now", orch(*ordered("honey")), exits(0))
    until_letters(platform, 5)

    platform.step("all end", orch("down"), exits(0), nothing_runs)


def test_the_store_may_die_and_its_clients_come_back(platform: Scenario) -> None:
    until_letters(platform, 3)
    os.kill(platform.row("store.store")["pid"], signal.SIGKILL)
    platform.until_row("store.store", ready=True, restarts=1, within=30)
    for name in ("cache.cache", "post.mailer"):
        platform.until_row(name, ready=True, within=30)
    platform.step("an order", orch(*ordered("salt")), exits(0))
    until_letters(platform, 4)
