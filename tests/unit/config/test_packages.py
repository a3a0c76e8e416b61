"""What is wrong with a component's package is said at validate, with its place."""

from __future__ import annotations

import pytest

from orchestrator.component import inspect
from orchestrator.errors import Diagnostic
from tests.unit.config.conftest import Workshop

TOPOLOGY = """
version: 1
services:
  shop:
    components:
      api: {package: shop.api}
"""
GOOD = "def COMPONENT():\n    pass\n"


def judged(workshop: Workshop, text: str = TOPOLOGY) -> tuple[Diagnostic, ...]:
    """Return what is wrong with a topology once its packages have been asked."""
    draft = workshop.read(text)
    return workshop.mistakes(text, {one["name"]: inspect.inspect(one) for one in draft.handlers})


def write(workshop: Workshop, marker: str = GOOD, init: str = "") -> None:
    workshop.write("shop/__init__.py", "")
    workshop.write("shop/api/__init__.py", init)
    workshop.write("shop/api/__component__.py", marker)


def test_a_good_package_is_valid(workshop: Workshop) -> None:
    write(workshop)
    assert judged(workshop) == ()


@pytest.mark.parametrize(
    ("marker", "code", "line", "said"),
    [
        ("", "ORC451", 1, "it has no COMPONENT"),
        ("x = 1\nCOMPONENT = 5\n", "ORC452", 2, "is 5 (int)"),
        (
            "x = 1\nclass COMPONENT:\n    pass\n",
            "ORC452",
            2,
            "the class COMPONENT, which has no run()",
        ),
        (
            "from orchestrator.component import Component\nCOMPONENT = Component('shop', 'api')\n",
            "ORC452",
            2,
            "a Component, which has no run()",
        ),
        ("def COMPONENT(:\n", "ORC450", 1, "SyntaxError"),
        ("import nowhere\n", "ORC450", 1, "No module named"),
        ("x = 1\n1 / 0\n", "ORC450", 2, "ZeroDivisionError"),
        ("raise SystemExit(3)\n", "ORC450", 1, "SystemExit: 3"),
    ],
)
def test_a_marker_at_fault_is_shown_where_it_is(
    workshop: Workshop, marker: str, code: str, line: int, said: str
) -> None:
    write(workshop, marker)
    (found,) = judged(workshop)
    assert (found.code, found.position.line) == (code, line)
    assert found.position.file.endswith("shop/api/__component__.py")
    assert said in found.message
    assert found.related[0].message == "'shop.api' names this package"


def test_a_failure_in_a_package_that_is_imported_is_shown_there(workshop: Workshop) -> None:
    workshop.write("common.py", "VALUE = 1\nVALUE.missing\n")
    write(workshop, "import common\n" + GOOD)
    (found,) = judged(workshop)
    assert str(found.position).endswith("common.py:2:1")
    assert found.excerpt == "VALUE.missing"


def test_a_package_that_is_not_there_is_said_at_its_name(workshop: Workshop) -> None:
    (found,) = judged(workshop)
    assert (found.code, found.position.line) == ("ORC450", 5)
    assert found.message.endswith("there is no such module")


def test_a_package_without_a_marker_is_no_component(workshop: Workshop) -> None:
    workshop.write("shop/__init__.py", "")
    workshop.write("shop/api/__init__.py", "")
    (found,) = judged(workshop)
    assert found.code == "ORC450"
    assert "has neither __component__.py nor component.py" in found.message


def test_two_components_of_one_name_are_shown_both(workshop: Workshop) -> None:
    code = """\
    from orchestrator.component import Component
    class _Api(Component):
        def run(self): pass
    COMPONENT = _Api("shop", "api")
    """
    for name in ("api", "other"):
        workshop.write(f"shop/{name}/__init__.py", "")
        workshop.write(f"shop/{name}/__component__.py", code)
    workshop.write("shop/__init__.py", "")
    (found,) = judged(workshop, TOPOLOGY + "      other: {package: shop.other}\n")
    assert (found.code, found.position.line) == ("ORC453", 6)
    assert found.message == "shop.other and shop.api both hold a component 'shop.api'"
    assert found.related[0].position.line == 5


def test_one_package_may_be_several_components(workshop: Workshop) -> None:
    write(workshop)
    assert judged(workshop, TOPOLOGY + "      other: {package: shop.api}\n") == ()


def test_a_mock_is_judged_as_a_component(workshop: Workshop) -> None:
    write(workshop)
    request = workshop.read(TOPOLOGY).handlers[0]
    answer = inspect.inspect({**request, "package": "shop.api:Mock"})
    assert answer["error"]["fault"] == "Mock"
    write(workshop, init="class Mock:\n    def run(self):\n        pass\n")
    answer = inspect.inspect({**request, "package": "shop.api:Mock"})
    assert (answer["error"], answer["exposed"]) == (None, ["Mock"])


@pytest.mark.parametrize(
    ("commands", "line", "said"),
    [
        ("import nowhere\n", 1, "No module named 'nowhere'"),
        ("x = 1\ndef cmd_x(:\n", 2, "SyntaxError"),
        (
            "from orchestrator.component import Command\nCOMMANDS = [Command('gone')]\n",
            None,
            "the command 'gone' has no function cmd_gone",
        ),
        (
            (
                "from orchestrator.component import Administrator, Component\n"
                "A = Administrator('shop', [Component('shop', 'api'), Component('shop', 'api')])\n"
            ),
            2,
            "two components are called shop.api",
        ),
    ],
)
def test_an_administration_at_fault_is_shown_where_it_is(
    workshop: Workshop, commands: str, line: int | None, said: str
) -> None:
    write(workshop)
    workshop.write("shop/admin/__init__.py", "")
    workshop.write("shop/admin/commands.py", commands)
    (found,) = judged(workshop)
    assert found.code == "ORC455"
    assert said in found.message
    if line is not None:
        assert found.position.file.endswith("shop/admin/commands.py")
        assert found.position.line == line
