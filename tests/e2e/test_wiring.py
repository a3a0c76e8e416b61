"""Both ends of an edge are compared before anything starts."""

from tests.e2e.scenario import Scenario, exits, no_traceback, orch, says, silent_about

REPLYER = """\
from decimal import Decimal


def on_levels(args):
    return {}


connection_models = {
    "in": {
        "levels": {
            "connection_type": "replyer",
            "required_creation_arguments": {"on_new_request": on_levels},
            "required_arguments": {"levels": {str: Decimal}},
        }
    }
}
"""

REQUESTER = """\
connection_models = {
    "out": {
        "levels": {
            "connection_type": "requester",
            "required_arguments": {
                "levels": {str: int},
            },
        }
    }
}


def main(to_send, config):
    to_send("levels", {"levels": {}})
"""

WIRED = """\
version: 1
name: world
addresses: {levels: auto}
services:
  book: {handler: book.py, connections: {in: {levels: levels}}}
  feed: {handler: feed.py, mode: main, connections: {out: {levels: levels}}}
"""


def test_models_that_disagree_are_shown_at_both_ends_and_in_both_handlers(
    scenario: Scenario,
) -> None:
    scenario.write(WIRED)
    scenario.write(REPLYER, "book.py")
    scenario.write(REQUESTER, "feed.py")
    outcome = scenario.step(
        "the type of a value deep within is refused",
        orch("validate"),
        exits(1),
        says(
            r"topology\.yaml:6:\d+: error ORC310: .*args\.levels\{\} is sent as int",
            r"topology\.yaml:5:\d+: book\.book",
            r"feed\.py:6:1: feed\.feed declares int",
            r"book\.py:13:1: book\.book declares Decimal",
        ),
    )
    no_traceback(scenario, outcome)
    scenario.step("up refuses too", orch("up", "-d"), exits(1), says("ORC310"))
    scenario.step("--no-import leaves it out", orch("validate", "--no-import"), exits(0))
    scenario.write(REQUESTER.replace("int", "object"), "feed.py")
    scenario.step("a type that fits", orch("validate"), exits(0), silent_about("ORC"))


def test_a_handler_that_does_not_import_is_shown_at_its_line(scenario: Scenario) -> None:
    scenario.write(WIRED)
    scenario.write(REPLYER, "book.py")
    scenario.write("import orders_of_nobody\n" + REQUESTER, "feed.py")
    scenario.step(
        "told at the import",
        orch("validate"),
        exits(1),
        says(r"feed\.py:1:1: error ORC222: .*orders_of_nobody", r"topology\.yaml:6:\d+"),
    )


def test_all_that_is_wrong_with_handlers_is_told_at_once(scenario: Scenario) -> None:
    scenario.write(
        """\
        version: 1
        services:
          first: {handler: first.py}
          ends: {handler: ends.py}
          raises: {handler: raises.py}
          bytes: {handler: bytes.py}
          latin: {handler: latin.py}
        """
    )
    scenario.write(
        """\
        def f(args):
            pass

        config_model = {"required": {
            "count": 5,
        }}
        connection_models = {"in": {
            "a": {"connection_type": "replier"},
            "b": {
                "connection_type": "replyer",
                "required_creation_arguments": {"on_b", f},
                "required_arguments": {
                    "x": [int, str],
                    "y": "str",
                },
            },
        }}
        state_models = {"in": {
            "s": {"state_type": "full_update_in", "required_arguments": {
                "z": None,
            }},
        }}
        """,
        "first.py",
    )
    scenario.write("import os\nos._exit(3)\n", "ends.py")
    scenario.write("raise KeyboardInterrupt\n", "raises.py")
    scenario.write("a = 1\nb = '\0'\n", "bytes.py")
    (scenario.root / "latin.py").write_bytes(b"a = 1\nb = '\xe9'\n")
    outcome = scenario.step(
        "each at its place",
        orch("validate"),
        exits(1),
        says(
            r"first\.py:5:5: error ORC222: .*5 describes no type",
            r"first\.py:8:5: error ORC222: .*'replier' is no connection type",
            r"first\.py:11:9: error ORC222: .*expected a dict of values by name, got set",
            r"first\.py:13:13: error ORC222: .*'x': list \[.*\] describes no type",
            r"first\.py:14:13: error ORC222: .*'y': str 'str' describes no type",
            r"first\.py:20:9: error ORC222: .*'z': NoneType None describes no type",
            r"topology\.yaml:4:\d+: error ORC222: .*'ends\.ends': its import ends .*: exit 3",
            r"topology\.yaml:5:\d+: error ORC222: .*import ends the process: .*KeyboardInterrupt",
            r"topology\.yaml:7:\d+: error ORC222: .*can't decode byte 0xe9 .*\(latin\.py:2\)",
            r"bytes\.py:2:1: error ORC222: .*SyntaxError: .*null bytes",
        ),
    )
    no_traceback(scenario, outcome)
