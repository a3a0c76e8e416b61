"""From a component to its program: exactly the declared environment, and no more."""

from __future__ import annotations

import os
import sys

import pytest

from orchestrator.cgroups import Limits
from orchestrator.daemon import programs
from orchestrator.daemon.programs import Place
from orchestrator.model import topology
from orchestrator.model.topology import Component, Logs, Ready, Stop
from orchestrator.process import MARKER, Setup
from orchestrator.supervision.lifecycle import Instance
from tests import fakes

PLACE = Place("k1", "shop", "/run/k1", "/base")
SECRETS = {"API_KEY": "s3cret", "EMPTY": ""}


def environment(component: Component, generation: int = 3) -> dict[str, str]:
    order = programs.order(component, generation, PLACE, SECRETS, {})
    return dict(order.environment)


def test_a_command_gets_its_declared_environment_and_a_marker() -> None:
    os.environ["ORCH_TEST_LEAK"] = "1"
    try:
        found = environment(fakes.component("shop.web@2", environment={"A": "1", "B": ""}))
    finally:
        del os.environ["ORCH_TEST_LEAK"]
    assert found == {"A": "1", "B": "", MARKER: "k1/shop.web@2/3"}


def test_what_is_declared_wins_over_what_the_caller_had() -> None:
    component = fakes.component(
        "shop.web",
        inherited={"PATH": "/caller", "TZ": "UTC", "LANG": "${settings.API_KEY}"},
        environment={"PATH": "/declared", "KEY": "${settings.API_KEY}"},
        secrets=("API_KEY",),
        stop=Stop(command=("stop",)),
    )
    wanted = {
        "PATH": "/declared",
        "TZ": "UTC",
        "KEY": "s3cret",
        "LANG": "${settings.API_KEY}",  # the caller's words are not ours to read
    }
    orders = (
        programs.order(component, 3, PLACE, SECRETS, {}),
        programs.stop_order(component, 3, PLACE, SECRETS),
        programs.probe_order(component, ("look",), "probe", PLACE, SECRETS),
    )
    for order in orders:
        found = {name: order.environment[name] for name in order.environment if name != MARKER}
        assert found == wanted


def test_the_marker_names_system_slot_and_generation() -> None:
    instance = Instance(fakes.component("shop.web"), generation=12)
    assert programs.marker(instance, PLACE) == "k1/shop.web@1/12"
    assert environment(instance.component, 12)[MARKER] == "k1/shop.web@1/12"


def test_a_declared_marker_does_not_win() -> None:
    component = fakes.component("shop.web", environment={MARKER: "forged"})
    assert environment(component)[MARKER] == "k1/shop.web@1/3"


@pytest.mark.parametrize(
    ("fields", "speaks"),
    [
        ({}, False),
        ({"ready": Ready(tcp="h:1")}, False),
        ({"ready": Ready(notify=True)}, True),
        ({"handler": "/h.py", "command": ()}, True),
    ],
)
def test_who_may_say_that_it_is_ready_is_told_where(
    fields: dict[str, object], speaks: bool
) -> None:
    found = environment(fakes.component("shop.web", **fields))
    assert found.get("NOTIFY_SOCKET") == ("/run/k1/notify.sock" if speaks else None)
    handler = fields.get("handler") is not None
    assert found.get("ORCH_CONTROL") == ("/run/k1/link/shop-web" if handler else None)


def test_secrets_are_filled_in_where_they_stand() -> None:
    component = fakes.component(
        "shop.web",
        environment={"URL": "https://${settings.API_KEY}@h/${settings.EMPTY}", "PLAIN": "$HOME"},
        secrets=("API_KEY", "EMPTY"),
    )
    found = environment(component)
    assert found["URL"] == "https://s3cret@h/"
    assert found["PLAIN"] == "$HOME"
    assert not any(name.startswith("ORCH_SETTING_") for name in found)


def test_a_handler_gets_its_secrets_and_no_others() -> None:
    component = fakes.component("shop.web", handler="/h.py", command=(), secrets=("API_KEY",))
    found = environment(component)
    assert {n: v for n, v in found.items() if n.startswith("ORCH_SETTING_")} == {
        "ORCH_SETTING_API_KEY": "s3cret"
    }


def test_what_looks_like_a_secret_but_is_none_stays_as_it_is() -> None:
    component = fakes.component("shop.web", environment={"A": "${settings.API_KEY}"})
    assert environment(component)["A"] == "${settings.API_KEY}"


def test_a_secret_in_a_value_of_a_secret_is_not_filled_in_again() -> None:
    component = fakes.component(
        "shop.web", environment={"A": "${settings.X}"}, secrets=("X", "API_KEY")
    )
    order = programs.order(component, 1, PLACE, {"X": "${settings.API_KEY}", "API_KEY": "k"}, {})
    assert order.environment["A"] == "${settings.API_KEY}"


def test_a_secret_whose_value_is_lost_leaves_the_word() -> None:
    """The program must fail loudly rather than run with an empty key."""
    component = fakes.component(
        "shop.web", environment={"A": "${settings.GONE}"}, secrets=("GONE",)
    )
    assert environment(component)["A"] == "${settings.GONE}"


def test_a_command_is_its_argv_and_a_handler_our_runtime() -> None:
    command = programs.order(fakes.component("shop.web"), 1, PLACE, {}, {})
    assert command.argv == ("shop.web",)
    handler = fakes.component("shop.web@2", handler="/h.py", command=())
    order = programs.order(handler, 1, PLACE, {}, {})
    assert order.argv[0] == sys.executable
    assert order.argv[-3:] == ("-m", "orchestrator.component", "/base/conf/shop-web@2")


def test_output_goes_into_two_files_or_nowhere() -> None:
    order = programs.order(fakes.component("shop.web@2"), 1, PLACE, {}, {})
    assert order.stdout == "/base/logging/shop-web@2.out"
    assert order.stderr == "/base/logging/shop-web@2.err"
    quiet = fakes.component("shop.web", logs=Logs(capture=False))
    order = programs.order(quiet, 1, PLACE, {}, {})
    assert (order.stdout, order.stderr) == (None, None)


def test_limits_reach_the_set_up() -> None:
    component = fakes.component(
        "shop.web",
        user="u",
        group="g",
        nice=3,
        oom_score_adj=10,
        no_new_privileges=True,
        rlimits={"nofile": (1, 2)},
        umask=0o27,
        working_dir="/w",
    )
    order = programs.order(component, 1, PLACE, {}, {5: 9})
    assert order.setup == Setup(
        user="u",
        group="g",
        nice=3,
        oom_score_adj=10,
        no_new_privileges=True,
        rlimits={"nofile": (1, 2)},
        fds={5: 9},
    )
    assert (order.umask, order.working_dir) == (0o27, "/w")


def test_a_plain_command_needs_no_set_up() -> None:
    assert not programs.order(fakes.component("shop.web"), 1, PLACE, {}, {}).setup
    assert not programs.order(fakes.component("shop.web"), 1, PLACE, {}, {}).limits


def test_bounds_are_ordered_for_whoever_places_the_process() -> None:
    component = fakes.component("shop.web", memory=1 << 20, cpu=0.5, pids=3)
    order = programs.order(component, 1, PLACE, {}, {})
    assert order.limits == Limits(1 << 20, 0.5, 3)
    assert not order.setup


def test_a_stop_command_is_no_part_of_the_tree_it_stops() -> None:
    component = fakes.component(
        "shop.web",
        stop=topology.Stop(command=("bye", "now")),
        environment={"K": "${settings.API_KEY}"},
        secrets=("API_KEY",),
        user="u",
        working_dir="/w",
    )
    order = programs.stop_order(component, 3, PLACE, SECRETS)
    assert order.argv == ("bye", "now")
    assert order.environment["K"] == "s3cret"
    assert order.environment[MARKER] == "k1/stop"
    assert (order.setup.user, order.working_dir) == ("u", "/w")
