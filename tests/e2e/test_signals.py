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


ANSWER = """
def on_ask(args):
    return {{"version": {version}}}


connection_models = {{"in": {{"ask": {{
    "connection_type": "replyer",
    "required_creation_arguments": {{"on_new_request": on_ask}},
    "required_return_arguments": {{"version": int}},
}}}}}}
"""

ASKER = """
connection_models = {"out": {"ask": {
    "connection_type": "requester",
    "required_return_arguments": {"version": int},
}}}
"""

TOLD = """
    import signal
    signal.signal(signal.SIGHUP, lambda *_: print("told", flush=True))
    print("ready", flush=True)
    while True:
        signal.pause()
"""


def test_a_signal_reloads_what_declares_it(scenario: Scenario) -> None:
    """A program that reads its files anew at HUP gets the HUP itself, and once."""
    scenario.write(ANSWER.format(version=1), "web.py")
    scenario.write(ASKER, "asker.py")
    scenario.write(TOLD, "told.py")
    scenario.services(
        {
            "web": {
                "handler": "web.py",
                "connections": {"in": {"ask": "ask"}},
                "watch": False,
                "replicas": 2,
                "signals": {"HUP": "reload"},
            },
            "asker": {"handler": "asker.py", "connections": {"out": {"ask": "ask"}}},
            "told": {
                "command": ["python3", "told.py"],
                "reload": "signal",
                "signals": {"HUP": "reload"},
            },
        },
        addresses={"ask": "auto"},
    )
    scenario.step("they come up", orch("up", "-d", "--wait"), exits(0))
    scenario.until_logged("told.told")
    before = scenario.ps()
    scenario.write(ANSWER.format(version=2), "web.py")
    scenario.step(
        "a signal by the command",
        orch("kill", "-s", "HUP", "web", "told"),
        exits(0),
        says("HUP to web.web@1: reload", "HUP to told.told: reload"),
    )
    for name in ("web.web@1", "web.web@2"):
        scenario.until_row(name, code=2, reload="ok", pid=before[name]["pid"])
    scenario.until_logged("told.told", "told")

    scenario.write(ANSWER.format(version=3), "web.py")
    os.kill(int(scenario.daemon()["pid"]), signal.SIGHUP)
    for name in ("web.web@1", "web.web@2"):
        scenario.until_row(name, code=3, pid=before[name]["pid"])
    scenario.until_logged("told.told", "told", times=2)
    scenario.step("the reply is the new code's", orch("call", "web", "ask"), says('"version": 3'))

    scenario.write(ANSWER.format(version=4), "web.py")
    scenario.step(
        "nobody waits",
        orch("reload", "--no-wait", "web", "told"),
        exits(0),
        says("web.web@1: begins to reload"),
    )
    scenario.until_row("web.web@2", code=4)
    scenario.until_logged("told.told", "told", times=3)
    assert scenario.log("told.told").count(b"told") == 3
    assert scenario.row("told.told")["pid"] == before["told.told"]["pid"]
