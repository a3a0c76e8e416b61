"""The platform example: service classes over a real Redis and a real SMTP server."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import sys
from pathlib import Path

import pytest

from tests.e2e.scenario import Scenario, exits, no_traceback, nothing_runs, orch

TOPOLOGIES = Path(__file__).parents[2] / "topologies"
NEEDED = ("redis", "aiosmtpd", "django")

NEEDS = (
    pytest.mark.skipif(
        shutil.which("redis-server") is None,
        reason="redis-server is not installed; on Debian: apt-get install redis-server",
    ),
    pytest.mark.skipif(
        not all(map(importlib.util.find_spec, NEEDED)),
        reason="needs the Python packages redis, aiosmtpd and django",
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
    """Wait for letters of so many orders; one whose server went away may come twice."""

    def there() -> bool:
        return len(set(re.findall(r"your order of (.*)\.", "".join(letters(scenario))))) == count

    scenario.until(there, within=30, saying=f"letters of {count} orders are there")
    return letters(scenario)


def ordered(what: str) -> tuple[str, ...]:
    return ("call", "orders.desk", "order", f'{{"customer": "bob@example.org", "what": "{what}"}}')


def test_each_order_has_its_letter_whoever_dies_meanwhile(platform: Scenario) -> None:
    first = until_letters(platform, 3)
    assert [text for text in first if "Thank you for your order of tea." in text]
    assert all("From: bazaar@example.org" in text for text in first)

    platform.step("another post office", orch("restart", "post.office"), exits(0))
    platform.step("an order", orch(*ordered("milk")), exits(0))
    until_letters(platform, 4)
    assert b"Mailer does not run" in platform.log("post.mailer", "err")

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


def test_the_shop_is_a_package_that_is_administered_and_has_a_page(platform: Scenario) -> None:
    platform.step(
        "laid out well", orch("validate", "--layout", "--strict"), exits(0), no_traceback
    )
    up = platform.step("tables are made", orch("up", "-d", "--wait", "--init"), exits(0))
    assert "Applying site.0001_initial... OK" in up.err
    page = [sys.executable, "-c", PAGE]
    assert platform.command(page).out == PAGE_SHOWN.format(tea="3.20 EUR", visits=1)
    platform.step("tea is dearer", orch("admin", "shop.api", "price", "tea", "3.40"), exits(0))
    assert platform.command(page).out == PAGE_SHOWN.format(tea="3.40 EUR", visits=2)
    platform.step("all is free", orch("up", "-d", "--wait", "--mock", "shop.api"), exits(0))
    shown = platform.until(lambda: platform.command(page).out, within=30, saying="no page")
    assert "everything: 0.00" in shown, shown


PAGE = """
import json
import urllib.request

conf = json.load(open("bazaar/.orch/conf/shop-site/config.json"))
print(urllib.request.urlopen(f"http://127.0.0.1:{conf['port']}/").read().decode(), end="")
"""

PAGE_SHOWN = """\
figs: 2.10 EUR
tea: {tea}
visits: {visits}
contact: bazaar@example.org
"""
