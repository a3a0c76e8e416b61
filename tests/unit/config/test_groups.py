"""Groups in a topology: what they come to, and what is wrong with them."""

from __future__ import annotations

from orchestrator.model.topology import Group, Strategy, Then
from tests.unit.config.conftest import Workshop, marked

SERVICES = """
services:
  lab:
    components:
      a: {command: sleep 1}
      b: {command: sleep 1, depends_on: [a]}
  web: {command: sleep 1}
"""


def test_members_are_components_in_the_order_of_the_list(workshop: Workshop) -> None:
    group = """
groups:
  core:
    components: [web, lab]
    strategy: rest_for_one
    intensity: 5
    period: 1m
    then: shutdown
  empty: {components: []}
"""
    lock = workshop.lock(SERVICES + group.replace("  empty: {components: []}\n", "")).lock
    assert lock.groups == {
        "core": Group(("web.web", "lab.a", "lab.b"), Strategy.REST_FOR_ONE, 5, 60.0, Then.SHUTDOWN)
    }
    assert "ORC108" in workshop.codes(SERVICES + group)


def test_an_unknown_member_is_named_with_its_neighbour(workshop: Workshop) -> None:
    found = workshop.only(SERVICES + "groups: {core: {components: [lab.a, wbe]}}\n")
    assert (found.code, marked(found)) == ("ORC260", "wbe")
    assert "'web'" in found.hint


def test_a_member_of_two_groups_is_shown_at_both(workshop: Workshop) -> None:
    groups = "groups: {one: {components: [lab]}, two: {components: [web, lab.b]}}\n"
    found = workshop.only(SERVICES + groups)
    assert (found.code, marked(found)) == ("ORC261", "lab.b")
    assert found.related


def test_a_member_named_twice_in_one_group(workshop: Workshop) -> None:
    assert workshop.codes(SERVICES + "groups: {one: {components: [lab, lab.b]}}\n") == ["ORC261"]


def test_an_order_against_the_dependencies(workshop: Workshop) -> None:
    text = "groups: {{core: {{components: [lab.b, lab.a], strategy: {}}}}}\n"
    found = workshop.only(SERVICES + text.format("one_for_all"))
    assert (found.code, marked(found)) == ("ORC262", "lab.b")
    assert found.related
    assert workshop.codes(SERVICES + text.format("one_for_one")) == [], "nobody starts in order"


def test_a_group_declared_in_two_files(workshop: Workshop) -> None:
    workshop.write("more.yaml", "groups: {core: {components: [web]}}\n")
    text = "include: more.yaml\n" + SERVICES + "groups: {core: {components: [lab]}}\n"
    assert workshop.codes(text) == ["ORC011"]
