"""Each rule of how packages are laid out: kept by a good service, and broken one at a time."""

from __future__ import annotations

import pytest

from orchestrator.component import inspect
from orchestrator.config import layout
from orchestrator.errors import Diagnostic
from tests.unit.config.conftest import Workshop

TOPOLOGY = """
version: 1
services:
  shop:
    components:
      api: {package: shop.api}
      feed: {package: shop.feed}
"""
GOOD = {
    "shop/__init__.py": "",
    "shop/__service__.md": "The public api is `api`; `feed` feeds it.\n",
    "shop/tools.py": "import shop\nLIMIT = 3\n",
    "shop/admin/__init__.py": "",
    "shop/admin/commands.py": "from shop.api.__component__ import COMPONENT\n",
    "shop/api/__init__.py": "import os\nfrom shop.api.conf import CONF, CONFIGURATION\n",
    "shop/api/conf.py": """\
        from orchestrator.component import ConfField, ConfigurationManager

        class _Manager(ConfigurationManager):
            size = ConfField(1)

        CONFIGURATION = _Manager("component")
        CONF = CONFIGURATION.to_conf()
        """,
    "shop/api/__component__.py": """\
        from shop.feed import CONF
        from shop.tools import LIMIT

        def COMPONENT():
            from shop.feed import Client
        """,
    "shop/feed/__init__.py": """\
        from __future__ import annotations
        CONF = CONFIGURATION = None
        class Client: pass
        class Mock: pass
        def _private(): pass
        """,
    "shop/feed/__component__.py": "def COMPONENT():\n    pass\n",
    "common/__init__.py": "from common.inner import VALUE\n__all__ = ['VALUE']\n",
    "common/inner.py": "VALUE = 1\n",
}


def judged(workshop: Workshop, files: dict[str, str | None]) -> list[Diagnostic]:
    """Return what is wrong with the good service once some files are others, or not there."""
    for name, text in {**GOOD, **files}.items():
        if text is not None:
            workshop.write(name, text)
    draft = workshop.read(TOPOLOGY)
    models = {one["name"]: inspect.inspect({**one, "layout": True}) for one in draft.handlers}
    assert not [one["error"] for one in models.values() if one["error"]]
    return layout.check(draft.lowered, models)


def test_a_good_service_breaks_no_rule(workshop: Workshop) -> None:
    assert judged(workshop, {}) == []
    assert judged(workshop, {"shop/__service__.md": None, "shop/service.md": "api, feed\n"}) == []


@pytest.mark.parametrize(
    ("files", "expected", "place", "said"),
    [
        ({"shop/__service__.md": None}, "ORC460 error", "topology.yaml:5", "__service__.md"),
        (
            {"shop/__service__.md": "The feeder feeds the api.\n"},
            "ORC461 warning", "__service__.md:1", "does not mention the component 'feed'",
        ),
        (
            {"shop/feed/__init__.py": "CONF = None\n\ndef helper():\n    pass\n"},
            "ORC462 warning", "feed/__init__.py:3", "shop.feed exposes 'helper'",
        ),
        (
            {"shop/feed/__init__.py": "CONF = None\nOTHER = 2\n__all__ = ['CONF', 'OTHER']\n"},
            "ORC462 warning", "feed/__init__.py:2", "'OTHER'",
        ),
        ({"shop/admin/command.py": ""}, "ORC463 warning", "command.py:1", "command.py is no"),
        ({"shop/admin/__init__.py": None}, "ORC463 error", "topology.yaml:5", "is no package"),
        ({"shop/conf.py": ""}, "ORC464 warning", "shop/conf.py:1", "belongs into its admin"),
        ({"shop/config.py": ""}, "ORC464 warning", "shop/config.py:1", "its admin"),
        ({"shop/api/settings.py": ""}, "ORC464 warning", "api/settings.py:1", "its admin"),
        (
            {
                "shop/feed/inner.py": "V = 1\n",
                "shop/tools.py": "LIMIT=1\nfrom shop.feed.inner import V\n",
            },
            "ORC465 warning", "tools.py:2", "inner is not exposed by the package shop.feed",
        ),
        (
            {"shop/tools.py": "LIMIT = 1\nfrom .feed import _private\n"},
            "ORC465 warning", "tools.py:2", "shop.feed._private is not exposed",
        ),
        (
            {"shop/tools.py": "LIMIT = 1\nfrom common.inner import VALUE\n"},
            "ORC465 warning", "tools.py:2", "common.inner is not exposed by the package common",
        ),
        (
            {"shop/feed/component.py": "COMPONENT = 1\n"},
            "ORC467 warning", "feed/component.py:1", "the first one counts",
        ),
        (
            {"shop/more/__init__.py": "", "shop/more/__component__.py": "COMPONENT = 1\n"},
            "ORC467 warning", "more/__component__.py:1",
            "no component of the topology is shop.more",
        ),
    ],
)  # fmt: skip
def test_a_broken_rule_is_shown_where_it_is(
    workshop: Workshop,
    files: dict[str, str | None],
    expected: str,
    place: str,
    said: str,
) -> None:
    (found,) = judged(workshop, files)
    assert f"{found.code} {found.severity}" == expected
    assert f"{found.position.file}:{found.position.line}".endswith(place)
    assert said in found.message


@pytest.mark.parametrize(
    ("code", "line", "said"),
    [
        ("x = 1\nopen('written', 'w').close()\n", 2, "writes 'written'"),
        ("import os\nos.environ['SHOP'] = '1'\n", 2, "sets the environment variable 'SHOP'"),
        (
            "import socket\nwith socket.socket() as one:\n    one.bind(('127.0.0.1', 0))\n",
            3,
            "binds a socket",
        ),
        ("import subprocess\n\nsubprocess.run(['true'])\n", 3, "starts the program 'true'"),
        (
            "import threading\none = threading.Thread(target=int)\none.start()\none.join()\n",
            3,
            "starts a thread",
        ),
        ("import logging\nlogging.basicConfig(force=True)\n", 1, "sets up logging"),
        ("import pathlib\npathlib.Path('made').mkdir()\n", 2, "makes the directory 'made'"),
    ],
)
def test_an_import_with_effects_is_shown_where_it_has_them(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, code: str, line: int, said: str
) -> None:
    monkeypatch.chdir(workshop.directory)
    monkeypatch.setenv("SHOP", "0")
    name = "shop/feed/__component__.py"
    found = judged(workshop, {name: code + "\ndef COMPONENT():\n    pass\n"})
    assert {one.code for one in found} == {"ORC466"}
    assert any(said in one.message for one in found)
    if said != "sets up logging":
        assert (found[0].position.file.rpartition("/")[2], found[0].position.line) == (
            "__component__.py",
            line,
        )


def test_a_component_that_is_no_package_of_a_service_is_shown(workshop: Workshop) -> None:
    workshop.write("single.py", "def COMPONENT():\n    pass\n")
    text = "version: 1\nservices:\n  single: {package: single}\n"
    draft = workshop.read(text)
    models = {one["name"]: inspect.inspect(one) for one in draft.handlers}
    (found,) = layout.check(draft.lowered, models)
    assert (found.code, found.position.line) == ("ORC467", 3)
