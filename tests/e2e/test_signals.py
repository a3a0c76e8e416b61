"""What signals do, by way of `orch kill` and of the daemon."""

import os
import signal

from tests.e2e.scenario import Scenario, bad, exits, orch, says


def test_signals_do_what_components_declare(scenario: Scenario) -> None:
    record = ("--record", scenario.record_file)
    note = ("--note", "HUP", "--note", "USR1", "--note", "USR2")
    scenario.services(
        {
            "plain": {"command": bad("--name", "plain", *record, *note)},
            "web": {
                "command": bad("--name", "web", *record, *note),
                "signals": {"HUP": "restart", "SIGUSR1": "pass", "USR2": "ignore"},
            },
        }
    )
    scenario.step("they come up", orch("up", "-d", "--wait"), exits(0))
    for name in ("plain.plain", "web.web"):
        scenario.until_logged(name)
    scenario.step(
        "one ignores what the other gets",
        orch("kill", "-s", "USR2", "plain", "web"),
        exits(0),
        says("sent USR2 to plain.plain", "USR2 to web.web: ignore"),
    )
    scenario.until(lambda: "plain SIGUSR2" in scenario.recorded("SIGUSR2"))
    daemon = int(scenario.daemon()["pid"])

    for number in (signal.SIGUSR2, signal.SIGUSR1):
        os.kill(daemon, number)
    scenario.until(lambda: "web SIGUSR1" in scenario.recorded("SIGUSR1"))
    assert scenario.recorded("SIGUSR1", "SIGUSR2") == ["plain SIGUSR2", "web SIGUSR1"]

    before = scenario.row("plain.plain")["pid"]
    os.kill(daemon, signal.SIGHUP)
    scenario.until_logged("web.web", times=2)
    scenario.until_row("web.web", phase="running", generation=2, restarts=0)
    assert scenario.row("plain.plain")["pid"] == before
    assert scenario.daemon()["pid"] == daemon
    assert not scenario.recorded("SIGHUP")
