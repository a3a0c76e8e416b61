"""States over the deaths of both sides, under the daemon."""

import pytest

from tests.e2e.scenario import Scenario, exits, no_traceback, orch

SOURCE = """
import time

state_models = {"out": {"count": {
    "state_type": "delta_update_out", "required_arguments": {str: int},
}}}


def main(to_send, states, config):
    life = states["count"].get("life", 0) + 1
    to_send("count", {"life": life, "gone": 1})
    to_send("count", {"gone": None, f"was {life}": life})
    while True:
        time.sleep(1)
"""

COPY = """
state_models = {"in": {"count": {
    "state_type": "delta_update_in", "required_arguments": {str: int},
}}}

def on_look(args, to_send, states, config):
    print("sees", sorted(states["count"].items()))


connection_models = {"in": {"look": {
    "connection_type": "subscriber", "required_creation_arguments": {"on_new_message": on_look},
}}}
"""

ASKER = """
import time

connection_models = {"out": {"look": {"connection_type": "publisher"}}}


def main(to_send, config):
    while True:
        to_send("look", {})
        time.sleep(0.1)
"""


@pytest.mark.parametrize("keeps", [True, False], ids=["kept", "not kept"])
def test_a_copy_follows_its_source_over_kills_of_both(scenario: Scenario, *, keeps: bool) -> None:
    for name, code in (("source", SOURCE), ("reader", COPY), ("asker", ASKER)):
        scenario.write(code, f"{name}.py")
    wired = {"address": "count", **({"persist": "sqlite"} if keeps else {})}
    quick = {"backoff": {"initial": "50ms"}}
    scenario.services(
        {
            "s": {
                "components": {
                    "source": {
                        "handler": "source.py",
                        "mode": "main",
                        "states": {"out": {"count": wired}},
                        **quick,
                    },
                    "copy": {
                        "handler": "reader.py",
                        "states": {"in": {"count": "count"}},
                        "connections": {"in": {"look": "look"}},
                        **quick,
                    },
                    "asker": {
                        "handler": "asker.py",
                        "mode": "main",
                        "connections": {"out": {"look": "look"}},
                    },
                }
            }
        },
        addresses={"count": {"data": "auto", "snapshot": "auto"}, "look": "auto"},
    )
    outcome = scenario.step("up", orch("up", "-d", "--wait"), exits(0))
    no_traceback(scenario, outcome)
    scenario.until_logged("s.copy", "sees [('life', 1), ('was 1', 1)]")
    scenario.step("kill the source", orch("kill", "-s", "KILL", "s.source"), exits(0))
    if keeps:
        scenario.until_logged("s.copy", "sees [('life', 2), ('was 1', 1), ('was 2', 2)]")
    scenario.step("kill the copy", orch("kill", "-s", "KILL", "s.copy"), exits(0))
    scenario.until_row("s.copy", phase="running", restarts=1)
    last = "[('life', 2), ('was 1', 1), ('was 2', 2)]" if keeps else "[('life', 1), ('was 1', 1)]"
    seen = scenario.log("s.copy").count(b"\n")
    scenario.until(
        lambda: any(
            last.encode() in line for line in scenario.log("s.copy").splitlines()[seen + 3 :]
        ),
        saying="the new copy does not see it",
    )
    scenario.step("down", orch("down"), exits(0))
