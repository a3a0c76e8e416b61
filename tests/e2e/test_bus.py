"""Many publish, many subscribe: a bus between them, supervised like any component."""

from tests.e2e.scenario import Scenario, exits, orch

PUBLISHER = """\
connection_models = {
    "out": {
        "ticks": {
            "connection_type": "publisher",
            "required_creation_arguments": {"topic": "tick"},
            "required_arguments": {"n": int},
        }
    }
}
config_model = {"required": {"first": int}}


def main(to_send, config):
    for n in range(config["first"], config["first"] + 100):
        to_send("ticks", {"n": n})
"""

SUBSCRIBER = """\
seen = []


def on_tick(args):
    seen.append(args["n"])
    if len(seen) == 200:
        print("complete", sorted(seen) == [*range(100), *range(1000, 1100)])
        seen.clear()


connection_models = {
    "in": {
        "ticks": {
            "connection_type": "subscriber",
            "required_creation_arguments": {"on_new_message": on_tick},
            "optional_creation_arguments": {"topic": "tick", "is_x_sub": True},
            "required_arguments": {"n": int},
        }
    }
}
"""

WIRED = """\
version: 1
name: world
addresses: {ticks: {bus: true}}
services:
  low:
    {handler: feed.py, mode: main, config: {first: 0}, depends_on: [north, south],
     connections: {out: {ticks: ticks}}}
  high:
    {handler: feed.py, mode: main, config: {first: 1000}, depends_on: [north, south],
     connections: {out: {ticks: ticks}}}
  north: {handler: seen.py, depends_on: [bus.ticks], connections: {in: {ticks: ticks}}}
  south: {handler: seen.py, depends_on: [bus.ticks], connections: {in: {ticks: ticks}}}
"""


def test_all_subscribers_get_what_all_publish_and_the_bus_comes_back(scenario: Scenario) -> None:
    scenario.write(WIRED)
    scenario.write(PUBLISHER, "feed.py")
    scenario.write(SUBSCRIBER, "seen.py")
    scenario.step("it fits", orch("validate"), exits(0))
    scenario.step("it comes up", orch("up", "-d", "--wait").within(60), exits(0))
    scenario.until_row("bus.ticks", ready=True)
    for name in ("north.north", "south.south"):
        scenario.until_logged(name, "complete True")
    pid = scenario.row("bus.ticks")["pid"]
    scenario.step("the bus is killed", orch("kill", "-s", "KILL", "bus.ticks"), exits(0))
    scenario.until(
        lambda: (
            scenario.row("bus.ticks")["pid"] not in (None, pid)
            and scenario.row("bus.ticks")["ready"]
        ),
        saying="the bus is not back",
    )
    again = orch("restart", "low", "high").within(60)
    scenario.step("others publish through the new one", again, exits(0))
    for name in ("north.north", "south.south"):
        scenario.until_logged(name, "complete True", times=2)
